//! The directory in which a broker keeps the files of its shards.
//!
//! ```text
//! DIR/manifest.json             which generation counts; replaced in one step
//! DIR/lock                      held while the directory is in use
//! DIR/3/shard-000.redb          the files of generation 3
//! DIR/shard-000.redb.damaged-…  kept by a repair
//! ```
//!
//! Always: the manifest names one whole generation, or says that there is none yet. What else is
//! there under a number is the rest of something that was interrupted, and goes at the next start.
//! A directory whose manifest is gone is never taken for a new one.

use crate::StoreError;
use crate::files::{FileSystem, SystemFiles, sync_directory};
use crate::load;
use crate::manifest::{MANIFEST_NEW, Manifest, Pepper};
use crate::open::io_error;
use crate::reshard::{Move, MoveStep, OnMove, reshard};
use crate::store::{Store, StoreOptions};
use shard::Time;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Held while the directory is in use.
const LOCK: &str = "lock";
/// What a new file system has in its root.
const LOST_AND_FOUND: &str = "lost+found";

/// What only the caller can give: chance and the time.
#[derive(Clone, Copy, Debug)]
pub struct NewDirectory {
    /// The directory's identity, if it is new.
    pub id: u64,
    /// Its placement seed, if it is new.
    pub placement_seed: u64,
    /// The time, for files that are made.
    pub now: Time,
}

/// A data directory in use: no other process opens it as long as this lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    manifest: Manifest,
    files: Arc<dyn FileSystem>,
    _lock: Option<Lock>,
}

impl DataDirectory {
    /// Opens a directory for so many shards. One that does not exist, or is empty, is set up; if
    /// its files are of another number of shards, their records are moved first. `on_move` hears
    /// of the steps and may stop them with an error; whenever that is, or the process is killed,
    /// the next opening starts over and nothing is lost, also with yet another number.
    pub fn open(
        path: &Path,
        shards: u16,
        new: NewDirectory,
        on_move: &mut OnMove<'_>,
    ) -> Result<DataDirectory, StoreError> {
        make_directory(&SystemFiles, path)?;
        let lock = Lock::take(path)?;
        let directory = DataDirectory::open_on(Arc::new(SystemFiles), path, shards, new, on_move)?;
        Ok(DataDirectory {
            _lock: Some(lock),
            ..directory
        })
    }

    /// The same on any file system, for a caller who knows that nobody else uses the directory.
    pub fn open_on(
        files: Arc<dyn FileSystem>,
        path: &Path,
        shards: u16,
        new: NewDirectory,
        on_move: &mut OnMove<'_>,
    ) -> Result<DataDirectory, StoreError> {
        assert!(
            shards > 0 && usize::from(shards) <= shard::limits::SHARDS_MAX,
            "the configuration is checked before"
        );
        make_directory(&*files, path)?;
        let mut manifest = match Manifest::read_on(&*files, path)? {
            Some(manifest) => manifest,
            None => found(&*files, path, new)?,
        };
        let left_over: Vec<u64> = generations(&*files, path)?
            .into_iter()
            .filter(|&generation| generation != manifest.generation)
            .collect();
        for generation in left_over {
            tell(on_move, MoveStep::Cleaning)?;
            remove_generation(&*files, path, generation)?;
        }
        if manifest.shards != shards {
            manifest = reshard(&*files, path, &manifest, shards, new.now, on_move)?;
        }
        Ok(DataDirectory {
            path: path.to_owned(),
            manifest,
            files,
            _lock: None,
        })
    }

    /// Opens a directory as it is: for backups, checks and repairs.
    pub fn open_as_is(path: &Path) -> Result<DataDirectory, StoreError> {
        if !path.is_dir() {
            return Err(StoreError::Missing {
                file: path.display().to_string(),
            });
        }
        let lock = Lock::take(path)?;
        let manifest = Manifest::read(path)?.ok_or_else(|| StoreError::Missing {
            file: path.join(crate::manifest::MANIFEST).display().to_string(),
        })?;
        Ok(DataDirectory {
            path: path.to_owned(),
            manifest,
            files: Arc::new(SystemFiles),
            _lock: Some(lock),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The file of each shard.
    pub fn files(&self) -> Vec<PathBuf> {
        self.manifest.files(&self.path)
    }

    /// The key of the hashes of all tokens. If there is none yet, it is this one from now on; errs
    /// if there are tokens already, which another must have made.
    pub fn pepper(&mut self, new: Pepper) -> Result<Pepper, StoreError> {
        if let Some(pepper) = self.manifest.pepper {
            return Ok(pepper);
        }
        let options = StoreOptions {
            verify: false,
            ..StoreOptions::default()
        };
        for shard in 0..self.manifest.shards {
            let store = self.open_store(shard, options)?;
            let has_tokens = store.read(load::has_tokens)?;
            store.close()?;
            if has_tokens {
                return Err(StoreError::NoPepper {
                    directory: self.path.display().to_string(),
                });
            }
        }
        let manifest = Manifest {
            pepper: Some(new),
            ..self.manifest
        };
        manifest.write(&*self.files, &self.path)?;
        self.manifest = manifest;
        Ok(new)
    }

    /// Opens the file of a shard, and errs if it is another's. May be called on any thread.
    pub fn open_store(&self, shard: u16, options: StoreOptions) -> Result<Store, StoreError> {
        open_store(&*self.files, &self.path, &self.manifest, shard, options)
    }
}

/// Opens the file of a shard, and errs if it is another's.
pub(crate) fn open_store(
    files: &dyn FileSystem,
    directory: &Path,
    manifest: &Manifest,
    shard: u16,
    options: StoreOptions,
) -> Result<Store, StoreError> {
    let path = &manifest.files(directory)[usize::from(shard)];
    let store = Store::open_source(files.source(path, false), options)?;
    match manifest.check_header(shard, store.header()) {
        Ok(()) => Ok(store),
        Err(found) => Err(StoreError::WrongFile {
            file: path.display().to_string(),
            found,
        }),
    }
}

/// Sets up an empty directory.
fn found(files: &dyn FileSystem, path: &Path, new: NewDirectory) -> Result<Manifest, StoreError> {
    if !is_empty(files, path)? {
        return Err(StoreError::NotEmpty {
            directory: path.display().to_string(),
        });
    }
    let manifest = Manifest {
        id: new.id,
        generation: 0,
        shards: 0,
        placement_seed: new.placement_seed,
        pepper: None,
    };
    manifest.write(files, path)?;
    Ok(manifest)
}

/// Whether nothing of anybody's is in a directory.
pub(crate) fn is_empty(files: &dyn FileSystem, path: &Path) -> Result<bool, StoreError> {
    let ours = [LOCK, LOST_AND_FOUND, MANIFEST_NEW];
    let names = names(files, path)?;
    Ok(names.iter().all(|name| ours.contains(&name.as_str())))
}

/// The generations that a directory has files of.
pub(crate) fn generations(files: &dyn FileSystem, path: &Path) -> Result<Vec<u64>, StoreError> {
    let mut generations: Vec<u64> = names(files, path)?
        .iter()
        // Only names that this program would have given.
        .filter_map(|name| name.parse().ok().filter(|n: &u64| n.to_string() == *name))
        .collect();
    generations.sort_unstable();
    Ok(generations)
}

fn names(files: &dyn FileSystem, path: &Path) -> Result<Vec<String>, StoreError> {
    let named = |error| io_error(&path.display().to_string(), &error);
    files.names(path).map_err(named)
}

/// Removes the files of a generation, durably.
pub(crate) fn remove_generation(
    files: &dyn FileSystem,
    path: &Path,
    generation: u64,
) -> Result<(), StoreError> {
    let folder = path.join(generation.to_string());
    files
        .remove_directory(&folder)
        .map_err(|error| io_error(&folder.display().to_string(), &error))?;
    sync_directory(files, path)
}

/// Makes a directory for its owner alone, and those above it, unless it is there.
pub(crate) fn make_directory(files: &dyn FileSystem, path: &Path) -> Result<(), StoreError> {
    if files.is_directory(path) {
        return Ok(());
    }
    files
        .make_directory(path)
        .map_err(|error| io_error(&path.display().to_string(), &error))?;
    match path.parent() {
        Some(parent) if parent != Path::new("") => sync_directory(files, parent),
        _ => Ok(()),
    }
}

pub(crate) fn tell(on_move: &mut OnMove<'_>, step: MoveStep) -> Result<(), StoreError> {
    let result = on_move(Move {
        step,
        records: 0,
        records_all: 0,
    });
    result.map_err(|reason| StoreError::Stopped { reason })
}

/// The lock of a directory. The system gives it up with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(directory: &Path) -> Result<Lock, StoreError> {
        let path = directory.join(LOCK);
        let named = |error| io_error(&path.display().to_string(), &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let mut file = options.truncate(false).open(&path).map_err(named)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(named(error)),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Whose it is helps people; that it is somebody's is known already.
                let _ = file.read_to_string(&mut text);
                return Err(StoreError::InUse {
                    directory: directory.display().to_string(),
                    process: text.trim().parse().ok(),
                });
            }
        }
        file.set_len(0).map_err(named)?;
        file.rewind().map_err(named)?;
        writeln!(file, "{}", std::process::id()).map_err(named)?;
        Ok(Lock { _file: file })
    }
}
