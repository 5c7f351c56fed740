//! One file, used by one thread.
//!
//! Always: a commit is in the file with all of its changes or with none, and once
//! [`Store::apply`] has returned `Ok`, no crash of the process or of the machine takes it away.

use crate::StoreError;
use crate::backend::{Source, Watch};
use crate::batch::Batch;
use crate::files::{SystemFiles, sync_directory};
use crate::header::FileHeader;
use crate::load::{self, Loaded, QueuePart, Stop, Take};
use crate::open::{
    error_of, open_database, read_alive, read_header, upgrade, write_header, write_transaction,
};
use crate::tables::{META, META_ALIVE};
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, WriteTransaction};
use shard::{Commit, SessionKey, StoredQueued, Time};
use std::path::Path;
use std::sync::Arc;

/// How a file is used.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Memory for pages of the file, at most.
    pub cache_bytes: usize,
    /// Whether the checksums of the whole file are verified when it is opened.
    pub verify: bool,
    /// Whether redb's allocator state goes into each commit.
    pub quick_repair: bool,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            cache_bytes: 32 << 20,
            verify: true,
            quick_repair: false,
        }
    }
}

/// Says what an error of a file means.
pub(crate) type Namer = Box<dyn Fn(Stop) -> StoreError + Send>;

/// An open file.
#[derive(Debug)]
pub struct Store {
    source: Source,
    options: StoreOptions,
    header: FileHeader,
    /// `None` only while a reopening has failed.
    database: Option<Database>,
    watch: Arc<Watch>,
    /// Before the last reopening.
    syncs_before: u64,
    written_bytes_before: u64,
}

impl Store {
    /// Opens a file that [`Store::create`] has made, also after a crash.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        Store::open_source(Source::file(path), StoreOptions::default())
    }

    /// Makes a file. There must be none yet.
    pub fn create(path: &Path, header: &FileHeader) -> Result<Store, StoreError> {
        Store::create_source(Source::new_file(path), header, StoreOptions::default())
    }

    /// Opens what [`Store::create_source`] has made, also after a crash.
    pub fn open_source(source: Source, options: StoreOptions) -> Result<Store, StoreError> {
        let (database, watch) = open_database(&source, options, false)?;
        let header = database
            .begin_read()
            .map_err(Stop::from)
            .and_then(|transaction| read_header(&transaction))
            .and_then(|header| upgrade(&database).map(|()| header))
            .map_err(|stop| error_of(source.name(), watch.failure(), stop))?;
        Ok(Store {
            source,
            options,
            header,
            database: Some(database),
            watch,
            syncs_before: 0,
            written_bytes_before: 0,
        })
    }

    /// Makes an empty file where there is none yet; it is durable when this returns.
    pub fn create_source(
        source: Source,
        header: &FileHeader,
        options: StoreOptions,
    ) -> Result<Store, StoreError> {
        let (database, watch) = open_database(&source, options, true)?;
        write_header(&database, header)
            .map_err(|stop| error_of(source.name(), watch.failure(), stop))?;
        if let Some(directory) = source.path().and_then(Path::parent) {
            sync_directory(&SystemFiles, directory)?;
        }
        Ok(Store {
            source: source.existing(),
            options,
            header: *header,
            database: Some(database),
            watch,
            syncs_before: 0,
            written_bytes_before: 0,
        })
    }

    /// To whom the file belongs.
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Where the file is.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Makes all changes of these commits durable, or none of them.
    pub fn apply(&mut self, commits: &[Commit]) -> Result<(), StoreError> {
        self.write(&Batch::of(commits), Durability::Immediate)
    }

    /// Writes a batch; with [`Durability::None`] it is durable only with a later one.
    pub(crate) fn write(
        &mut self,
        batch: &Batch<'_>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        self.transact(durability, |transaction| {
            batch.write(transaction)?;
            Ok(batch.at)
        })
    }

    /// All that `write` does, or nothing; `write` says when what it writes was made.
    pub(crate) fn transact(
        &mut self,
        durability: Durability,
        write: impl FnOnce(&WriteTransaction) -> Result<Option<Time>, Stop>,
    ) -> Result<(), StoreError> {
        let quick_repair = self.options.quick_repair;
        write_transaction(self.database()?, durability, quick_repair, |transaction| {
            if let Some(at) = write(transaction)? {
                let mut meta = transaction.open_table(META)?;
                meta.insert(META_ALIVE, at.0.to_be_bytes().as_slice())?;
            }
            Ok(())
        })
        .map_err(|stop| self.error(stop))
    }

    /// Gives back all records as *put* changes: sessions, then floors and received QoS 2 messages
    /// by session, subscriptions, seen QoS 2 messages, queues by session and position, retained
    /// messages, groups' queues by group and position, devices, tokens by device, subscriptions of
    /// devices by emitter.
    pub fn load(&self, take: &mut Take<'_>) -> Result<Loaded, StoreError> {
        self.read(|transaction| {
            let mut loaded = load::load(transaction, take, &mut |table, error| {
                Err(Stop::BadRecord(table.to_owned(), error))
            })?;
            loaded.alive = read_alive(transaction)?;
            Ok(loaded)
        })
    }

    /// Part of a session's queue: the messages after a position, in order, at most so many, and no
    /// further once there are so many bytes, but at least one.
    pub fn load_queue(
        &self,
        session: SessionKey,
        after: u64,
        messages_max: u32,
        bytes_max: u32,
    ) -> Result<Vec<StoredQueued>, StoreError> {
        self.read(|transaction| {
            let part = QueuePart {
                session,
                after,
                messages_max,
                bytes_max,
            };
            load::load_queue(transaction, part)
        })
    }

    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Stop>,
    ) -> Result<T, StoreError> {
        let transaction = self.begin_read()?;
        read(&transaction).map_err(|stop| self.error(stop))
    }

    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        self.database()?
            .begin_read()
            .map_err(|error| self.error(error.into()))
    }

    /// Opens the file anew after a failure, as after a crash: what was committed is there.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        // Two at once would lock each other out.
        self.database = None;
        let (database, watch) = open_database(&self.source, self.options, false)?;
        self.syncs_before += self.watch.syncs();
        self.written_bytes_before += self.watch.written_bytes();
        self.database = Some(database);
        self.watch = watch;
        Ok(())
    }

    /// Whether a failure is known: nothing goes until [`Store::reopen`].
    pub fn needs_reopening(&self) -> bool {
        self.database.is_none() || self.watch.failure().is_some()
    }

    /// How often the file has been synced so far.
    pub fn syncs(&self) -> u64 {
        self.syncs_before + self.watch.syncs()
    }

    /// Bytes written to the file so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes_before + self.watch.written_bytes()
    }

    /// How long the file is. It may take less room on disk, since redb lengthens it ahead of time.
    pub fn file_bytes(&self) -> u64 {
        self.watch.file_bytes()
    }

    /// Closes the file so that the next opening finds everything in order.
    pub fn close(mut self) -> Result<(), StoreError> {
        let Some(database) = self.database.take() else {
            return Ok(());
        };
        database.close().map_err(|error| self.error(error.into()))
    }

    pub(crate) fn options(&self) -> StoreOptions {
        self.options
    }

    /// Says what an error of this file means, wherever it turns up.
    pub(crate) fn namer(&self) -> Namer {
        let name = self.source.name().to_owned();
        let watch = Arc::clone(&self.watch);
        Box::new(move |stop| error_of(&name, watch.failure(), stop))
    }

    pub(crate) fn error(&self, stop: Stop) -> StoreError {
        error_of(self.source.name(), self.watch.failure(), stop)
    }

    fn database(&self) -> Result<&Database, StoreError> {
        self.database.as_ref().ok_or_else(|| StoreError::Io {
            file: self.source.name().to_owned(),
            reason: "it could not be opened again".to_owned(),
        })
    }
}
