//! What can go wrong with a file, as far as a caller can act on it.

use std::fmt;

/// Why the store could not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no room to write: full disk, exhausted quota, or a read-only file system. What was
    /// to be written is not in the file; the same call may succeed later.
    Full {
        /// The file.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// Any other failure of the system below. What is in the file is unknown until it has been
    /// opened anew by another process.
    Io {
        /// The file.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// The file is not what was written.
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        found: String,
    },
    /// There is no such file.
    Missing {
        /// The file.
        file: String,
    },
    /// A newer program has written the file.
    NewerFormat {
        /// The file.
        file: String,
        /// Its format.
        format: u32,
    },
    /// Somebody else has the file open.
    Busy {
        /// The file.
        file: String,
    },
    /// The file is sound, but belongs to another shard, number of shards, or directory.
    WrongFile {
        /// The file.
        file: String,
        /// What does not fit.
        found: String,
    },
    /// Another process uses the directory.
    InUse {
        /// The directory.
        directory: String,
        /// The process, if it says.
        process: Option<u32>,
    },
    /// A directory that was to be filled has something in it already.
    NotEmpty {
        /// The directory.
        directory: String,
    },
    /// A directory has tokens, and not the key that their hashes were made with.
    NoPepper {
        /// The directory.
        directory: String,
    },
    /// Whoever watches wanted it to stop.
    Stopped {
        /// Why.
        reason: String,
    },
    /// Whoever took in the records did not want one of them.
    Refused {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
}

impl StoreError {
    /// Whether it may pass by itself when there is room again.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Full { .. })
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Full { file, reason } => write!(f, "cannot write to {file}: {reason}"),
            StoreError::Io { file, reason } => write!(f, "{file}: {reason}"),
            StoreError::Damaged { file, found } => write!(
                f,
                "{file} is damaged: {found}. `meshring check` shows what can still be read; \
                 `meshring repair` keeps the file aside and writes a new one of it"
            ),
            StoreError::Missing { file } => write!(
                f,
                "{file} is missing. `meshring restore` brings back a backup; `meshring repair` \
                 starts an empty file in its place"
            ),
            StoreError::NewerFormat { file, format } => write!(
                f,
                "{file} has format {format}, which is newer than this program ({} is the newest \
                 that it knows): use the version of meshring that has written it",
                crate::header::FORMAT
            ),
            StoreError::Busy { file } => write!(f, "{file} is in use by another process"),
            StoreError::WrongFile { file, found } => write!(f, "{file} does not fit: {found}"),
            StoreError::InUse { directory, process } => {
                write!(f, "another broker uses {directory}")?;
                process.map_or(Ok(()), |process| write!(f, " (process {process})"))
            }
            StoreError::NotEmpty { directory } => write!(
                f,
                "{directory} is not empty, and what is in it is none of meshring's or not whole"
            ),
            StoreError::NoPepper { directory } => write!(
                f,
                "{directory}/manifest.json has no pepper, and there are tokens already, which fit \
                 only with the one that they were made with: set MESHRING_PEPPER if it was given \
                 like this before, or bring the manifest back from a backup"
            ),
            StoreError::Stopped { reason } => f.write_str(reason),
            StoreError::Refused { file, reason } => {
                write!(f, "{file} has a record that contradicts others: {reason}")
            }
        }
    }
}

impl std::error::Error for StoreError {}
