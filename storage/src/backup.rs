//! Copies of a data directory: in the same layout, with the manifest written last, so that a copy
//! with a manifest is a whole one.

use crate::StoreError;
use crate::backend::Source;
use crate::copy::copy_all;
use crate::directory::{DataDirectory, Lock, is_empty, make_directory};
use crate::load::Loaded;
use crate::manifest::Manifest;
use crate::open::sync_directory;
use crate::store::{Store, StoreOptions};
use crate::worker::WorkerControl;
use shard::Time;
use std::path::Path;

/// Copies the files of a running broker into `target`, which must be empty or not be there yet.
/// Each shard's copy is of one moment, those of different shards of nearly the same. The shards go
/// on meanwhile; this call waits. `workers` are those of all shards, in order. What each file
/// holds comes back.
pub fn backup_running(
    manifest: &Manifest,
    workers: &[WorkerControl],
    now: Time,
    target: &Path,
) -> Result<Vec<Loaded>, StoreError> {
    assert_eq!(
        workers.len(),
        usize::from(manifest.shards),
        "one worker per shard"
    );
    fill(target, manifest, || {
        let files = manifest.files(target);
        // All are asked first, so that their moments are close.
        let answers: Vec<_> = (0..)
            .zip(workers.iter().zip(&files))
            .map(|(shard, (worker, path))| {
                worker.backup(Source::new_file(path), manifest.header(shard, now))
            })
            .collect();
        let loaded = answers.iter().zip(&files).map(|(answer, path)| {
            answer.recv().unwrap_or_else(|_| {
                Err(StoreError::Io {
                    file: path.display().to_string(),
                    reason: "the storage worker has ended".to_owned(),
                })
            })
        });
        // All are waited for, also after an error, so that nothing writes behind our back.
        let loaded: Vec<Result<Loaded, StoreError>> = loaded.collect();
        loaded.into_iter().collect()
    })
}

/// The same for a directory that no broker uses.
pub fn backup_at_rest(
    directory: &Path,
    now: Time,
    target: &Path,
) -> Result<Vec<Loaded>, StoreError> {
    let directory = DataDirectory::open_as_is(directory)?;
    let manifest = directory.manifest();
    fill(target, manifest, || {
        let files = manifest.files(target);
        (0..)
            .zip(&files)
            .map(|(shard, path)| {
                let store = directory.open_store(shard, StoreOptions::default())?;
                let header = manifest.header(shard, now);
                let loaded = copy_file(&store, Source::new_file(path), &header)?;
                store.close()?;
                Ok(loaded)
            })
            .collect()
    })
}

/// A new file with all records of another; durable and closed.
pub(crate) fn copy_file(
    store: &Store,
    target: Source,
    header: &crate::FileHeader,
) -> Result<Loaded, StoreError> {
    let mut copy = Store::create_source(target, header, store.options())?;
    let loaded = copy_all(&store.begin_read()?, &mut copy, store.namer())?;
    copy.close()?;
    Ok(loaded)
}

/// Fills an empty directory with the files of a manifest, and writes that last.
fn fill(
    target: &Path,
    manifest: &Manifest,
    write_files: impl FnOnce() -> Result<Vec<Loaded>, StoreError>,
) -> Result<Vec<Loaded>, StoreError> {
    make_directory(target)?;
    if !is_empty(target)? {
        return Err(StoreError::NotEmpty {
            directory: target.display().to_string(),
        });
    }
    let _lock = Lock::take(target)?;
    let folder = manifest.folder(target);
    make_directory(&folder)?;
    let result = write_files().and_then(|loaded| {
        sync_directory(&folder)?;
        sync_directory(target)?;
        manifest.write(target)?;
        Ok(loaded)
    });
    if result.is_err() {
        // Without a manifest it is worth nothing; why it failed says more than what this does.
        let _ = std::fs::remove_dir_all(&folder);
    }
    result
}
