//! What a data directory needs of a file system.
//!
//! Everything that makes, replaces and removes files of a directory goes through here, so that the
//! simulator can have the power go between any two of these steps.

use crate::StoreError;
use crate::backend::Source;
use crate::open::io_error;
use crate::overlay::Overlay;
use redb::StorageBackend;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// A file system; [`SystemFiles`] is the real one, the simulator has one of its own. Errors are
/// those of the operations of `std::fs` that are named alike.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Whether there is a directory of this name.
    fn is_directory(&self, path: &Path) -> bool;
    /// Makes a directory, and those above it that are not there, for its owner alone.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// What is in a directory, in any order.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Removes a directory and everything in it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes it durable that a directory has the entries it has.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// The contents of a small file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Makes or overwrites a small file; its contents, but not its name, are durable then.
    fn write(&self, path: &Path, contents: &[u8]) -> io::Result<()>;
    /// Gives a file another name, in place of what has that one, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// The file of a store; `is_new`: it must not be there yet, and is made when it is opened.
    fn source(&self, path: &Path, is_new: bool) -> Source;
    /// The same to be looked at only: what is written to it never gets there.
    fn untouched(&self, path: &Path) -> Source;
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemFiles;

impl FileSystem for SystemFiles {
    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn write(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(path)?;
        file.write_all(contents)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn source(&self, path: &Path, is_new: bool) -> Source {
        match is_new {
            true => Source::new_file(path),
            false => Source::file(path),
        }
    }

    fn untouched(&self, path: &Path) -> Source {
        let owned = path.to_owned();
        let make = move || Ok(Box::new(Overlay::open(&owned)?) as Box<dyn StorageBackend>);
        Source::backend(path.display().to_string(), None, make)
    }
}

/// Makes it durable that a directory has the entries it has; an error names it.
pub(crate) fn sync_directory(files: &dyn FileSystem, directory: &Path) -> Result<(), StoreError> {
    files
        .sync_directory(directory)
        .map_err(|error| io_error(&directory.display().to_string(), &error))
}
