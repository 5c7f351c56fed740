//! Where a file's bytes are, and a watch over what happens to them.
//!
//! redb reports that an operation failed, and later only that an earlier one did. Whether a
//! failure may pass or must stop the process depends on what exactly failed, so every backend is
//! wrapped in one that remembers.

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Makes a backend anew each time the file is opened.
type Make = dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync;

/// Where a store's bytes are: a file, or what a simulator has for one.
#[derive(Clone)]
pub struct Source {
    name: String,
    path: Option<PathBuf>,
    is_new_file: bool,
    make: Arc<Make>,
}

impl Source {
    /// A file that exists.
    pub fn file(path: &Path) -> Source {
        Source::of_file(path, false)
    }

    /// A file that does not exist yet; readable by its owner alone.
    pub fn new_file(path: &Path) -> Source {
        Source::of_file(path, true)
    }

    fn of_file(path: &Path, is_new: bool) -> Source {
        let owned = path.to_owned();
        let mut source = Source::backend(
            path.display().to_string(),
            Some(path),
            move || -> io::Result<Box<dyn StorageBackend>> {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(is_new)
                    .mode(0o600)
                    .open(&owned)?;
                let backend = FileBackend::new(file).map_err(io::Error::other)?;
                Ok(Box::new(backend))
            },
        );
        source.is_new_file = is_new;
        source
    }

    /// The same file once it has been made.
    pub(crate) fn existing(self) -> Source {
        match &self.path {
            Some(path) if self.is_new_file => Source::file(path),
            _ => self,
        }
    }

    /// Anything that redb can work on. `name` stands for it in messages; `path` is a file in the
    /// file system whose free space counts, if there is one; `make` is called each time the store
    /// is opened, also after a failure.
    pub fn backend(
        name: String,
        path: Option<&Path>,
        make: impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync + 'static,
    ) -> Source {
        Source {
            name,
            path: path.map(Path::to_owned),
            is_new_file: false,
            make: Arc::new(make),
        }
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(crate) fn make(&self) -> io::Result<Box<dyn StorageBackend>> {
        (self.make)()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.name).finish()
    }
}

/// What failed first since the file was opened.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    operation: Operation,
    is_full: bool,
    is_eof: bool,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Length,
    Read,
    SetLength,
    Sync,
    Write,
}

impl Failure {
    fn new(operation: Operation, error: &io::Error) -> Failure {
        Failure {
            operation,
            is_full: is_full(error),
            is_eof: error.kind() == ErrorKind::UnexpectedEof,
            text: error.to_string(),
        }
    }

    /// Whether trying again later is safe. After a failed sync it is not, whatever the reason: the
    /// kernel may have dropped what it could not write, and reads give it back all the same.
    pub(crate) fn may_pass(&self) -> bool {
        self.is_full && self.operation != Operation::Sync
    }

    /// Whether the file ends before what it should hold.
    pub(crate) fn is_truncated(&self) -> bool {
        self.is_eof && self.operation == Operation::Read
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Length => "asking for the length",
            Operation::Read => "reading",
            Operation::SetLength => "changing the length",
            Operation::Sync => "fsync",
            Operation::Write => "writing",
        };
        write!(f, "{operation} failed: {}", self.text)
    }
}

/// Whether there is no room to write, or writing is not allowed at all for now.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem
    )
}

/// What has happened to a file since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    syncs: AtomicU64,
    written_bytes: AtomicU64,
    file_bytes: AtomicU64,
    failure: Mutex<Option<Failure>>,
}

impl Watch {
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// How long the file is, holes included.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone()
    }

    fn note<T>(&self, operation: Operation, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| Failure::new(operation, error));
        }
        result
    }
}

/// A backend under watch.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Box<dyn StorageBackend>,
    watch: Arc<Watch>,
}

impl Watched {
    pub(crate) fn new(inner: Box<dyn StorageBackend>, watch: Arc<Watch>) -> Watched {
        Watched { inner, watch }
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        let result = self.inner.len();
        if let Ok(len) = result {
            self.watch.file_bytes.store(len, Ordering::Relaxed);
        }
        self.watch.note(Operation::Length, result)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.watch
            .note(Operation::Read, self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let result = self.inner.set_len(len);
        if result.is_ok() {
            self.watch.file_bytes.store(len, Ordering::Relaxed);
        }
        self.watch.note(Operation::SetLength, result)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch.syncs.fetch_add(1, Ordering::Relaxed);
        self.watch.note(Operation::Sync, self.inner.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.watch
            .written_bytes
            .fetch_add(data.len() as u64, Ordering::Relaxed);
        self.watch
            .note(Operation::Write, self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
