//! The worker's loop.
//!
//! Always: commits are written in their order; a part of a queue is read after all commits
//! submitted before it and before all that were submitted after it; `Committed` is said only after
//! the fsync.

use crate::StoreError;
use crate::batch::Batch;
use crate::load::{QueuePart, load_queue, load_queue_of};
use crate::store::Store;
use crate::tables::QUEUED;
use crate::worker::{Backup, Command, Counters, StoreEvent, WorkerOptions};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use redb::Durability;
use shard::{Change, Commit, SessionKey, StoredQueued};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A transaction takes in no more changes than this, so that the first in a flood are durable
/// before the last have come.
const GROUP_CHANGES_MAX: usize = 50_000;

/// What waits to be done, in order.
#[derive(Debug)]
enum Work {
    Commit(Commit),
    Load(QueuePart),
    Backup(Box<Backup>),
}

/// The state of the worker's thread.
pub(crate) struct WorkerThread {
    store: Store,
    options: WorkerOptions,
    counters: Arc<Counters>,
    events: Sender<StoreEvent>,
    wake: Box<dyn Fn() + Send>,
    waiting: VecDeque<Work>,
    /// When to try again, while there is no room to write.
    stalled_until: Option<Instant>,
    /// While there is no room: the sessions whose queues have changes in `waiting`.
    touched: HashSet<SessionKey>,
    is_closing: bool,
}

impl WorkerThread {
    pub(crate) fn new(
        store: Store,
        options: WorkerOptions,
        counters: Arc<Counters>,
        events: Sender<StoreEvent>,
        wake: Box<dyn Fn() + Send>,
    ) -> WorkerThread {
        WorkerThread {
            store,
            options,
            counters,
            events,
            wake,
            waiting: VecDeque::new(),
            stalled_until: None,
            touched: HashSet::new(),
            is_closing: false,
        }
    }

    /// Works until it is closed, or nobody can ask for anything any more, or it has failed.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) -> Result<(), StoreError> {
        self.count();
        loop {
            self.receive(commands);
            let begin = Instant::now();
            let result = self.work();
            let busy_us = begin.elapsed().as_micros() as u64;
            add(&self.counters.busy_us, busy_us);
            self.count();
            if let Err(error) = result {
                self.say(StoreEvent::Failed {
                    reason: error.to_string(),
                });
                return Err(error);
            }
            if self.is_closing && (self.waiting.is_empty() || self.stalled_until.is_some()) {
                return self.close();
            }
        }
    }

    /// Waits until there is something to do, and takes all that has come in.
    fn receive(&mut self, commands: &Receiver<Command>) {
        let first = match self.stalled_until {
            Some(until) => match commands.recv_deadline(until) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Command::Close),
            },
            None if !self.waiting.is_empty() || self.is_closing => None,
            None => Some(commands.recv().unwrap_or(Command::Close)),
        };
        for command in first.into_iter().chain(commands.try_iter()) {
            match command {
                Command::Commit(commit) => {
                    if self.stalled_until.is_some() {
                        touch(&mut self.touched, &commit);
                    }
                    self.waiting.push_back(Work::Commit(commit));
                }
                Command::Load(load) => self.waiting.push_back(Work::Load(load)),
                Command::Backup(backup) => self.waiting.push_back(Work::Backup(backup)),
                Command::Close => self.is_closing = true,
            }
        }
    }

    fn work(&mut self) -> Result<(), StoreError> {
        if let Some(until) = self.stalled_until {
            if Instant::now() < until && !self.is_closing {
                return self.serve_while_stalled();
            }
            if let Some(reason) = self.still_stalled()? {
                return self.stall(reason);
            }
        }
        while !self.waiting.is_empty() {
            if let Some(Work::Backup(_)) = self.waiting.front() {
                if let Some(Work::Backup(backup)) = self.waiting.pop_front() {
                    backup.start(&self.store, &self.options);
                }
                continue;
            }
            let count = self.group();
            match self.work_on(count) {
                Ok(()) => {}
                Err(error) if error.is_full() => return self.stall(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How much of what waits goes into one transaction.
    fn group(&self) -> usize {
        let mut changes = 0;
        let mut count = 0;
        for work in &self.waiting {
            match work {
                Work::Commit(commit) => changes += commit.changes.len(),
                Work::Load(_) => {}
                Work::Backup(_) => break,
            }
            count += 1;
            if changes >= GROUP_CHANGES_MAX {
                break;
            }
        }
        count
    }

    /// Does the first `count` of what waits, all or nothing.
    fn work_on(&mut self, count: usize) -> Result<(), StoreError> {
        let has_commits = self
            .waiting
            .range(..count)
            .any(|w| matches!(w, Work::Commit(_)));
        if !has_commits {
            for work in self.waiting.drain(..count).collect::<Vec<_>>() {
                if let Work::Load(load) = work {
                    self.load(load)?;
                }
            }
            return Ok(());
        }
        if let Some(reason) = self.options.reserve.shortage(self.store.source().path()) {
            return Err(StoreError::Full {
                file: self.store.source().name().to_owned(),
                reason,
            });
        }
        let loaded = self.write(count)?;
        self.finish(count, loaded);
        Ok(())
    }

    /// One transaction: commits are written, and parts of queues read, in their order.
    fn write(&mut self, count: usize) -> Result<Vec<Vec<StoredQueued>>, StoreError> {
        let waiting = &self.waiting;
        let mut loaded = Vec::new();
        self.store.transact(Durability::Immediate, |transaction| {
            let mut batch = Batch::default();
            for work in waiting.range(..count) {
                match work {
                    Work::Commit(commit) => batch.add_commit(commit),
                    Work::Load(load) => {
                        batch.write(transaction)?;
                        batch = Batch::empty(batch.at);
                        let table = transaction.open_table(QUEUED)?;
                        loaded.push(load_queue_of(&table, *load)?);
                    }
                    Work::Backup(_) => unreachable!("a group ends before a backup"),
                }
            }
            batch.write(transaction)?;
            Ok(batch.at)
        })?;
        Ok(loaded)
    }

    /// Says what the first `count` of what waits have come to.
    fn finish(&mut self, count: usize, loaded: Vec<Vec<StoredQueued>>) {
        let mut sequence = None;
        let mut loads = Vec::new();
        let mut loaded = loaded.into_iter();
        let counters = &self.counters;
        for work in self.waiting.drain(..count) {
            match work {
                Work::Commit(commit) => {
                    add(&counters.commits, 1);
                    add(&counters.changes, commit.changes.len() as u64);
                    sequence = Some(commit.sequence);
                }
                Work::Load(load) => {
                    let messages = loaded.next().expect("one was read for each");
                    loads.push((load.session, messages));
                }
                Work::Backup(_) => unreachable!("a group ends before a backup"),
            }
        }
        add(&counters.groups, 1);
        add(&counters.loads, loads.len() as u64);
        if self.stalled_until.take().is_some() {
            self.touched.clear();
            counters.is_stalled.store(false, Ordering::Relaxed);
            self.send(StoreEvent::Resumed);
        }
        if let Some(sequence) = sequence {
            self.send(StoreEvent::Committed { sequence });
        }
        for (session, messages) in loads {
            self.send(StoreEvent::Loaded { session, messages });
        }
        (self.wake)();
    }

    fn load(&mut self, part: QueuePart) -> Result<(), StoreError> {
        let messages = self
            .store
            .read(|transaction| load_queue(transaction, part))?;
        add(&self.counters.loads, 1);
        self.say(StoreEvent::Loaded {
            session: part.session,
            messages,
        });
        Ok(())
    }

    /// Writing waits; nothing that has been given is lost.
    fn stall(&mut self, reason: String) -> Result<(), StoreError> {
        let was_stalled = self.stalled_until.is_some();
        self.stalled_until = Some(Instant::now() + self.options.retry);
        if !was_stalled {
            for work in &self.waiting {
                if let Work::Commit(commit) = work {
                    touch(&mut self.touched, commit);
                }
            }
            self.counters.is_stalled.store(true, Ordering::Relaxed);
            self.say(StoreEvent::Stalled { reason });
        }
        self.serve_while_stalled()
    }

    /// Opens the file again if need be; says why that is not possible for now, if so.
    fn still_stalled(&mut self) -> Result<Option<String>, StoreError> {
        if !self.store.needs_reopening() {
            return Ok(None);
        }
        match self.store.reopen() {
            Ok(()) => Ok(None),
            // A backup that has not noticed yet keeps the file open.
            Err(StoreError::Busy { file }) => Ok(Some(format!("{file} is still being read"))),
            Err(error) if error.is_full() => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Reads queues that nothing which waits would change, and makes backups of what is durable.
    fn serve_while_stalled(&mut self) -> Result<(), StoreError> {
        if self.store.needs_reopening() {
            return Ok(());
        }
        let touched = &self.touched;
        let (now, later) = self.waiting.drain(..).partition(|work| match work {
            Work::Commit(_) => false,
            Work::Load(load) => !touched.contains(&load.session),
            Work::Backup(_) => true,
        });
        self.waiting = later;
        let now: VecDeque<Work> = now;
        for work in now {
            match work {
                Work::Load(load) => self.load(load)?,
                Work::Backup(backup) => backup.start(&self.store, &self.options),
                Work::Commit(_) => unreachable!("commits wait"),
            }
        }
        Ok(())
    }

    fn close(mut self) -> Result<(), StoreError> {
        let file = self.store.source().name().to_owned();
        let is_stalled = self.stalled_until.is_some();
        for work in self.waiting.drain(..) {
            if let Work::Backup(backup) = work {
                backup.refuse(StoreError::Io {
                    file: file.clone(),
                    reason: "the broker stops".to_owned(),
                });
            }
        }
        let closed = self.store.close();
        if is_stalled {
            return Err(StoreError::Full {
                file,
                reason: "there was no room to write the last changes before the stop".to_owned(),
            });
        }
        closed
    }

    fn count(&self) {
        let set = |counter: &AtomicU64, value| counter.store(value, Ordering::Relaxed);
        set(&self.counters.fsyncs, self.store.syncs());
        set(&self.counters.written_bytes, self.store.written_bytes());
        set(&self.counters.file_bytes, self.store.file_bytes());
    }

    fn say(&self, event: StoreEvent) {
        self.send(event);
        (self.wake)();
    }

    fn send(&self, event: StoreEvent) {
        // Fails only if the handle was dropped: then nobody wants to know.
        let _ = self.events.send(event);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Notes the sessions whose queues a commit changes.
fn touch(touched: &mut HashSet<SessionKey>, commit: &Commit) {
    for change in &commit.changes {
        match change {
            Change::PutQueued(queued) => drop(touched.insert(queued.session)),
            Change::RemoveQueued { session, .. } | Change::RemoveSession { session } => {
                touched.insert(*session);
            }
            _ => {}
        }
    }
}
