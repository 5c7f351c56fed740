//! The thread next to a shard that writes while the shard goes on.
//!
//! The shard's thread submits commits and never waits; the worker takes everything that has come
//! in, writes it in one transaction with one fsync, and says up to which number all is durable. So
//! the busier the shard, the more commits share an fsync. What is submitted and not yet durable is
//! bounded by the shard, which has to ask how much that is and take in no more.
//!
//! Full disk: nothing is lost and nothing gets durable. The worker says so once, keeps what it has
//! been given, and tries again every second. Any other failure, and a failed fsync above all, is
//! final: what the kernel could not write it may have forgotten, so only a new start, which reads
//! what is really there, can tell.

use crate::copy::copy_all;
use crate::header::FileHeader;
use crate::load::{Loaded, QueuePart};
use crate::space::Reserve;
use crate::store::Store;
use crate::worker_thread::WorkerThread;
use crate::{Source, StoreError};
use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use shard::{Commit, SessionKey, StoredQueued};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How a worker works.
#[derive(Clone)]
pub struct WorkerOptions {
    /// The name of its thread.
    pub name: String,
    /// Room to leave on the file system.
    pub reserve: Reserve,
    /// How long it waits before it tries again to write to a full disk.
    pub retry: Duration,
    /// Called first on each thread that the worker starts: the place to keep it off CPUs that
    /// belong to shards.
    pub on_thread_start: Arc<dyn Fn() + Send + Sync>,
}

impl Default for WorkerOptions {
    fn default() -> WorkerOptions {
        WorkerOptions {
            name: "storage".to_owned(),
            reserve: Reserve::default(),
            retry: Duration::from_secs(1),
            on_thread_start: Arc::new(|| {}),
        }
    }
}

impl fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerOptions")
            .field("name", &self.name)
            .field("reserve", &self.reserve)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// What a worker has to say.
#[derive(Debug)]
pub enum StoreEvent {
    /// All commits up to this number are durable.
    Committed {
        /// The highest.
        sequence: u64,
    },
    /// Part of a session's queue.
    Loaded {
        /// Whose.
        session: SessionKey,
        /// In order; empty if there are no more.
        messages: Vec<StoredQueued>,
    },
    /// There is no room to write. Said once, until it is over.
    Stalled {
        /// For people.
        reason: String,
    },
    /// There is room again, and what had waited is written.
    Resumed,
    /// The store is of no use any more; the process has to stop and to recover. Nothing follows.
    Failed {
        /// For people.
        reason: String,
    },
}

/// What a worker has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerCounts {
    /// Commits that are durable.
    pub commits: u64,
    /// Changes in them.
    pub changes: u64,
    /// Transactions that they were written in.
    pub groups: u64,
    /// Calls of fsync.
    pub fsyncs: u64,
    /// Bytes written to the file.
    pub written_bytes: u64,
    /// Parts of queues read.
    pub loads: u64,
    /// Microseconds spent on writing and reading.
    pub busy_us: u64,
    /// How long the file is.
    pub file_bytes: u64,
    /// Whether it waits for room to write.
    pub is_stalled: bool,
}

/// [`WorkerCounts`], shared with the thread that counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) fsyncs: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) loads: AtomicU64,
    pub(crate) busy_us: AtomicU64,
    pub(crate) file_bytes: AtomicU64,
    pub(crate) is_stalled: AtomicBool,
}

impl Counters {
    fn counts(&self) -> WorkerCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkerCounts {
            commits: read(&self.commits),
            changes: read(&self.changes),
            groups: read(&self.groups),
            fsyncs: read(&self.fsyncs),
            written_bytes: read(&self.written_bytes),
            loads: read(&self.loads),
            busy_us: read(&self.busy_us),
            file_bytes: read(&self.file_bytes),
            is_stalled: self.is_stalled.load(Ordering::Relaxed),
        }
    }
}

/// What a worker is asked for.
#[derive(Debug)]
pub(crate) enum Command {
    Commit(Commit),
    Load(QueuePart),
    Backup(Box<Backup>),
    /// No more will come.
    Close,
}

/// A copy of the file, please.
#[derive(Debug)]
pub(crate) struct Backup {
    target: Source,
    header: FileHeader,
    answer: Sender<Result<Loaded, StoreError>>,
}

impl Backup {
    /// Copies what is durable now on a thread of its own, while the worker goes on writing.
    pub(crate) fn start(self, store: &Store, options: &WorkerOptions) {
        let Backup {
            target,
            header,
            answer,
        } = self;
        let transaction = match store.begin_read() {
            Ok(transaction) => transaction,
            Err(error) => return refuse(&answer, error),
        };
        let name_error = store.namer();
        let store_options = store.options();
        let on_thread_start = Arc::clone(&options.on_thread_start);
        let failed = answer.clone();
        let file = target.name().to_owned();
        let started = thread::Builder::new()
            .name(format!("{}-backup", options.name))
            .spawn(move || {
                on_thread_start();
                let result =
                    Store::create_source(target, &header, store_options).and_then(|mut copy| {
                        let loaded = copy_all(&transaction, &mut copy, name_error)?;
                        copy.close()?;
                        Ok(loaded)
                    });
                // Whoever asked may have gone away.
                let _ = answer.send(result);
            });
        if let Err(error) = started {
            let reason = format!("no thread for the backup: {error}");
            refuse(&failed, StoreError::Io { file, reason });
        }
    }

    pub(crate) fn refuse(&self, error: StoreError) {
        refuse(&self.answer, error);
    }
}

fn refuse(answer: &Sender<Result<Loaded, StoreError>>, error: StoreError) {
    // Whoever asked may have gone away.
    let _ = answer.send(Err(error));
}

/// Starts workers.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Starts a thread that works on a store. `wake` is called on that thread whenever
    /// [`WorkerHandle::poll`] has something new; it must not wait. Errs if the system has no
    /// thread to give.
    pub fn start(
        store: Store,
        options: WorkerOptions,
        wake: impl Fn() + Send + 'static,
    ) -> Result<WorkerHandle, StoreError> {
        let (commands, commands_in) = unbounded();
        let (events, events_out) = unbounded();
        let counters = Arc::new(Counters::default());
        let file = store.source().name().to_owned();
        let name = options.name.clone();
        let theirs = Arc::clone(&counters);
        let thread = thread::Builder::new().name(name).spawn(move || {
            (options.on_thread_start)();
            WorkerThread::new(store, options, theirs, events, Box::new(wake)).run(&commands_in)
        });
        let thread = thread.map_err(|error| StoreError::Io {
            file: file.clone(),
            reason: format!("no thread for the storage worker: {error}"),
        })?;
        Ok(WorkerHandle {
            control: WorkerControl {
                file,
                commands,
                counters,
            },
            events: events_out,
            thread: Some(thread),
            has_failed: false,
        })
    }
}

/// The shard's end of a worker. Dropped without [`WorkerHandle::close`], the worker finishes in
/// its own time.
#[derive(Debug)]
pub struct WorkerHandle {
    control: WorkerControl,
    events: Receiver<StoreEvent>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
    has_failed: bool,
}

impl WorkerHandle {
    /// Hands over a commit, to be answered with [`StoreEvent::Committed`]. Never waits.
    pub fn submit(&self, commit: Commit) {
        self.control.send(Command::Commit(commit));
    }

    /// Asks for part of a session's queue, as [`Store::load_queue`] does; it sees all commits
    /// submitted before, and is answered with [`StoreEvent::Loaded`]. Never waits.
    pub fn load(&self, session: SessionKey, after: u64, messages_max: u32, bytes_max: u32) {
        self.control.send(Command::Load(QueuePart {
            session,
            after,
            messages_max,
            bytes_max,
        }));
    }

    /// What the worker has to say, in order; `None` if there is nothing new.
    pub fn poll(&mut self) -> Option<StoreEvent> {
        match self.events.try_recv() {
            Ok(event) => {
                self.has_failed |= matches!(event, StoreEvent::Failed { .. });
                Some(event)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                // It ends of itself only after it has failed, or by a panic.
                let is_news = !std::mem::replace(&mut self.has_failed, true);
                is_news.then(|| StoreEvent::Failed {
                    reason: format!("{}: the storage worker has ended", self.control.file),
                })
            }
        }
    }

    /// An end that other threads may have: for counts and backups.
    pub fn control(&self) -> WorkerControl {
        self.control.clone()
    }

    /// Finishes what was submitted and closes the file; waits for it. Errs if something could not
    /// be written: the next start then has what was durable before.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.control.send(Command::Close);
        let thread = self.thread.take().expect("taken only here");
        thread.join().unwrap_or_else(|_| {
            Err(StoreError::Io {
                file: self.control.file.clone(),
                reason: "the storage worker has panicked".to_owned(),
            })
        })
    }
}

/// What other threads than the shard's may ask of a worker.
#[derive(Clone, Debug)]
pub struct WorkerControl {
    file: String,
    commands: Sender<Command>,
    counters: Arc<Counters>,
}

impl WorkerControl {
    /// What it has done so far.
    pub fn counts(&self) -> WorkerCounts {
        self.counters.counts()
    }

    /// Copies the file, as it is once all commits submitted before are durable, into a new one,
    /// while the worker goes on writing. If the disk is full: as it is at once. The answer comes
    /// when the copy is durable; what it cost the file system is an error of that file.
    pub fn backup(
        &self,
        target: Source,
        header: FileHeader,
    ) -> Receiver<Result<Loaded, StoreError>> {
        let (answer, answers) = unbounded();
        let command = Command::Backup(Box::new(Backup {
            target,
            header,
            answer,
        }));
        self.send(command);
        answers
    }

    fn send(&self, command: Command) {
        // Fails only when the worker has ended, which `poll` tells and a backup's channel too.
        let _ = self.commands.send(command);
    }
}
