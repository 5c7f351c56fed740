//! A data directory is made of a backup.

use crate::StoreError;
use crate::backend::Source;
use crate::backup::copy_file;
use crate::check::{check_open, open_untouched};
use crate::directory::{Lock, generations, is_empty, make_directory, remove_generation};
use crate::load::Loaded;
use crate::manifest::Manifest;
use crate::open::sync_directory;
use shard::Time;
use std::path::Path;

/// Brings a backup into a data directory, which must be empty or not be there yet, unless
/// `replace`: then what is in it goes, once the backup is in place. The backup is checked first;
/// errs with what is wrong with it, and has then changed nothing. If it is interrupted, the
/// directory has what it had before. What each file holds comes back.
pub fn restore(
    backup: &Path,
    directory: &Path,
    replace: bool,
    now: Time,
) -> Result<Vec<Loaded>, StoreError> {
    let manifest = Manifest::read(backup)?.ok_or_else(|| StoreError::Missing {
        file: backup.join(crate::manifest::MANIFEST).display().to_string(),
    })?;
    check_backup(backup, &manifest)?;
    make_directory(directory)?;
    let _lock = Lock::take(directory)?;
    if !replace && !is_empty(directory)? {
        return Err(StoreError::NotEmpty {
            directory: directory.display().to_string(),
        });
    }
    let old = generations(directory)?;
    let restored = Manifest {
        generation: old.iter().copied().max().unwrap_or(0) + 1,
        ..manifest
    };
    make_directory(&restored.folder(directory))?;
    let files = manifest
        .files(backup)
        .into_iter()
        .zip(restored.files(directory));
    let loaded: Vec<Loaded> = (0..)
        .zip(files)
        .map(|(shard, (from, to))| {
            let store = open_untouched(&from)?;
            copy_file(&store, Source::new_file(&to), &restored.header(shard, now))
        })
        .collect::<Result<_, StoreError>>()?;
    sync_directory(&restored.folder(directory))?;
    sync_directory(directory)?;
    restored.write(directory)?;
    for generation in old {
        remove_generation(directory, generation)?;
    }
    Ok(loaded)
}

fn check_backup(backup: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let report = check_open(backup, manifest)?;
    for file in report.files {
        if let Some(found) = file.findings.into_iter().next() {
            return Err(StoreError::Damaged {
                file: file.path.display().to_string(),
                found,
            });
        }
    }
    Ok(())
}
