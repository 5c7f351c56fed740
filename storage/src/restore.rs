//! A data directory is made of a backup.

use crate::StoreError;
use crate::backup::copy_file;
use crate::check::{check_open, open_untouched};
use crate::directory::{Lock, generations, is_empty, make_directory, remove_generation};
use crate::files::{FileSystem, SystemFiles, sync_directory};
use crate::load::Loaded;
use crate::manifest::Manifest;
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
    let manifest = whole_backup(&SystemFiles, backup)?;
    make_directory(&SystemFiles, directory)?;
    let _lock = Lock::take(directory)?;
    fill(&SystemFiles, backup, &manifest, directory, replace, now)
}

/// The same on any file system, for a caller who knows that nobody else uses the directory.
pub fn restore_on(
    files: &dyn FileSystem,
    backup: &Path,
    directory: &Path,
    replace: bool,
    now: Time,
) -> Result<Vec<Loaded>, StoreError> {
    let manifest = whole_backup(files, backup)?;
    make_directory(files, directory)?;
    fill(files, backup, &manifest, directory, replace, now)
}

/// The manifest of a backup with which nothing is wrong.
fn whole_backup(files: &dyn FileSystem, backup: &Path) -> Result<Manifest, StoreError> {
    let manifest = Manifest::read_on(files, backup)?.ok_or_else(|| StoreError::Missing {
        file: backup.join(crate::manifest::MANIFEST).display().to_string(),
    })?;
    check_backup(files, backup, &manifest)?;
    Ok(manifest)
}

fn fill(
    files: &dyn FileSystem,
    backup: &Path,
    manifest: &Manifest,
    directory: &Path,
    replace: bool,
    now: Time,
) -> Result<Vec<Loaded>, StoreError> {
    if !replace && !is_empty(files, directory)? {
        return Err(StoreError::NotEmpty {
            directory: directory.display().to_string(),
        });
    }
    let old = generations(files, directory)?;
    let restored = Manifest {
        generation: old.iter().copied().max().unwrap_or(0) + 1,
        ..*manifest
    };
    make_directory(files, &restored.folder(directory))?;
    let pairs = manifest
        .files(backup)
        .into_iter()
        .zip(restored.files(directory));
    let loaded: Vec<Loaded> = (0..)
        .zip(pairs)
        .map(|(shard, (from, to))| {
            let store = open_untouched(files, &from)?;
            let target = files.source(&to, true);
            copy_file(&store, target, &restored.header(shard, now))
        })
        .collect::<Result<_, StoreError>>()?;
    sync_directory(files, &restored.folder(directory))?;
    sync_directory(files, directory)?;
    restored.write(files, directory)?;
    for generation in old {
        remove_generation(files, directory, generation)?;
    }
    Ok(loaded)
}

fn check_backup(
    files: &dyn FileSystem,
    backup: &Path,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    let report = check_open(files, backup, manifest)?;
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
