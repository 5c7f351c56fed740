//! Copies of a data directory: in the same layout, with the manifest written last, so that a copy
//! with a manifest is a whole one.

use crate::StoreError;
use crate::backend::Source;
use crate::copy::copy_all;
use crate::directory::{DataDirectory, Lock, is_empty, make_directory};
use crate::files::{FileSystem, SystemFiles, sync_directory};
use crate::load::Loaded;
use crate::manifest::Manifest;
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
    fill_locked(target, manifest, || {
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
    fill_locked(target, manifest, || {
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

/// The same for whoever holds the stores of all shards itself and keeps others from `target`, on
/// any file system.
pub fn backup_stores(
    files: &dyn FileSystem,
    manifest: &Manifest,
    stores: &[&Store],
    now: Time,
    target: &Path,
) -> Result<Vec<Loaded>, StoreError> {
    assert_eq!(
        stores.len(),
        usize::from(manifest.shards),
        "one store per shard"
    );
    make_empty(files, target)?;
    fill(files, target, manifest, || {
        let paths = manifest.files(target);
        (0..)
            .zip(stores.iter().zip(&paths))
            .map(|(shard, (store, path))| {
                copy_file(
                    store,
                    files.source(path, true),
                    &manifest.header(shard, now),
                )
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

/// Fills an empty directory of the machine's while nobody else can.
fn fill_locked(
    target: &Path,
    manifest: &Manifest,
    write_files: impl FnOnce() -> Result<Vec<Loaded>, StoreError>,
) -> Result<Vec<Loaded>, StoreError> {
    make_empty(&SystemFiles, target)?;
    let _lock = Lock::take(target)?;
    fill(&SystemFiles, target, manifest, write_files)
}

fn make_empty(files: &dyn FileSystem, target: &Path) -> Result<(), StoreError> {
    make_directory(files, target)?;
    if !is_empty(files, target)? {
        return Err(StoreError::NotEmpty {
            directory: target.display().to_string(),
        });
    }
    Ok(())
}

/// Fills an empty directory with the files of a manifest, and writes that last.
fn fill(
    files: &dyn FileSystem,
    target: &Path,
    manifest: &Manifest,
    write_files: impl FnOnce() -> Result<Vec<Loaded>, StoreError>,
) -> Result<Vec<Loaded>, StoreError> {
    let folder = manifest.folder(target);
    make_directory(files, &folder)?;
    let result = write_files().and_then(|loaded| {
        sync_directory(files, &folder)?;
        sync_directory(files, target)?;
        manifest.write(files, target)?;
        Ok(loaded)
    });
    if result.is_err() {
        // Without a manifest it is worth nothing; why it failed says more than what this does.
        let _ = files.remove_directory(&folder);
    }
    result
}
