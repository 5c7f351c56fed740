//! Where a simulated shard's commits go: a model of a store that takes its time, and beside it, in
//! some runs, the real store on a disk that loses power. The two must always agree.

use crate::chance::Chance;
use crate::disk::Disk;
use crate::records::Records;
use anyhow::{Context, Result, bail, ensure};
use shard::{Change, Commit, Event, SessionKey, StoredQueued, Time};
use std::collections::VecDeque;
use storage::{Source, Store, StoreError, StoreOptions};

/// A wish of a shard, as in `shard::Effect::Load`.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Whose queue.
    pub session: SessionKey,
    /// Only positions above this one.
    pub after: u64,
    /// At most so many.
    pub messages_max: u32,
    /// No further once there are so many bytes.
    pub bytes_max: u32,
}

/// What the real store is opened with: checksums are verified after each loss of power.
pub(crate) const OPTIONS: StoreOptions = StoreOptions {
    cache_bytes: 1 << 20,
    verify: true,
    quick_repair: false,
};
/// A commit changes a file in fewer operations than this.
const OPERATIONS_MAX: u64 = 60;

/// The real store and what it stands on.
#[derive(Debug)]
pub struct Real {
    /// It is open.
    pub store: Store,
    /// Its file.
    pub disk: Disk,
}

/// The store of one shard.
#[derive(Debug, Default)]
pub struct Keep {
    /// What no crash takes away.
    durable: Records,
    /// The same with the commit that is under way.
    latest: Records,
    under_way: Option<Commit>,
    /// What is to be told of queues, and of whose.
    loaded: VecDeque<(SessionKey, Vec<StoredQueued>)>,
    last_sequence: u64,
    real: Option<Real>,
    /// Since when the disk is full.
    full_since: Option<Time>,
    /// The shard has been told that the store cannot write.
    is_stalled: bool,
}

/// What comes of a commit.
#[derive(Debug)]
pub enum Written {
    /// There is none.
    Nothing,
    /// It is durable; `was_stalled`: it had to wait for room.
    Durable {
        /// Its number.
        sequence: u64,
        /// The shard had been told so.
        was_stalled: bool,
    },
    /// There is no room; it is to be tried again.
    Full {
        /// The shard has not been told yet.
        is_news: bool,
    },
}

impl Real {
    fn source(disk: &Disk) -> Source {
        let disk = disk.clone();
        Source::backend("simulated".to_string(), None, move || {
            Ok(Box::new(disk.clone()))
        })
    }

    fn open(disk: Disk) -> Result<Real> {
        let store = Store::open_source(Real::source(&disk), OPTIONS)?;
        Ok(Real { store, disk })
    }

    /// Writes a commit, into the file as opened anew if something has failed before.
    fn write(&mut self, commit: &Commit) -> Result<(), StoreError> {
        if self.store.needs_reopening() {
            self.store.reopen()?;
        }
        self.store.apply(std::slice::from_ref(commit))
    }

    fn records(&self) -> Result<Records> {
        records_of(&self.store)
    }
}

/// Everything that a store has.
pub(crate) fn records_of(store: &Store) -> Result<Records> {
    let mut records = Records::default();
    let loaded = store.load(&mut |change| {
        records.apply(&change);
        Ok(())
    })?;
    records.alive = loaded.alive;
    Ok(records)
}

/// Whether a change is one to a session's queue.
fn touches(change: &Change, session: SessionKey) -> bool {
    match change {
        Change::PutQueued(queued) => queued.session == session,
        Change::RemoveQueued { session: one, .. } | Change::RemoveSession { session: one } => {
            *one == session
        }
        _ => false,
    }
}

/// All of it as text, to be compared.
pub(crate) fn text(records: &Records) -> String {
    format!("{:?} {:?}", records.alive, records.changes())
}

impl Keep {
    /// A store with these records in it, and the real one beside it if there is one.
    ///
    /// # Errors
    /// The real store does not have these records.
    pub fn new(records: Records, real: Option<Real>) -> Result<Keep> {
        if let Some(real) = &real {
            let found = real.records()?;
            ensure!(
                text(&found) == text(&records),
                "the store has other records than it should"
            );
        }
        Ok(Keep {
            latest: records.clone(),
            durable: records,
            real,
            ..Keep::default()
        })
    }

    /// The real store and what must be in it, if it can be read now.
    pub fn readable(&self) -> Option<(&Store, &Records)> {
        let store = &self.real.as_ref()?.store;
        (!store.needs_reopening()).then_some((store, &self.durable))
    }

    /// Takes a commit.
    ///
    /// # Errors
    /// The shard must not have given it.
    pub fn submit(&mut self, commit: Commit) -> Result<()> {
        ensure!(self.under_way.is_none(), "two commits at once");
        ensure!(
            commit.sequence > self.last_sequence,
            "commit {} after {}",
            commit.sequence,
            self.last_sequence
        );
        self.last_sequence = commit.sequence;
        let changes = commit.changes.iter();
        changes.for_each(|change| self.latest.apply(change));
        self.latest.alive = Some(commit.at);
        self.under_way = Some(commit);
        Ok(())
    }

    /// Takes a wish: what is asked for is as it is now, since no commit is under way.
    ///
    /// # Errors
    /// The shard must not ask now, or the real store has something else.
    pub fn ask(&mut self, load: Load) -> Result<()> {
        ensure!(self.under_way.is_none(), "a queue is read behind a commit");
        let Load {
            session,
            after,
            messages_max,
            bytes_max,
        } = load;
        let messages = self.latest.load(session.0, after, messages_max, bytes_max);
        if let Some(real) = &self.real {
            let found = real
                .store
                .load_queue(session, after, messages_max, bytes_max)?;
            ensure!(
                format!("{found:?}") == format!("{messages:?}"),
                "the store reads another part of a queue than it should"
            );
        }
        self.loaded.push_back((session, messages));
        Ok(())
    }

    /// Whether a commit is under way.
    pub fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Since when the disk is full, if it is.
    pub fn full_since(&self) -> Option<Time> {
        self.full_since
    }

    /// Whether the shard has been told that the store cannot write.
    pub fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// The disk is full from now on: after a few more writes, if the real store is on it.
    pub fn fill(&mut self, now: Time, writes: u64) {
        if self.full_since.is_none() {
            self.full_since = Some(now);
            if let Some(real) = &self.real {
                real.disk.fill_after(Some(writes));
            }
        }
    }

    /// There is room again.
    pub fn make_room(&mut self) {
        self.full_since = None;
        if let Some(real) = &self.real {
            real.disk.fill_after(None);
        }
    }

    /// The commit under way gets durable, or finds no room: as the worker of the storage crate
    /// does it.
    ///
    /// # Errors
    /// The real store does not take it.
    pub fn commit(&mut self) -> Result<Written> {
        let Some(commit) = self.under_way.take() else {
            return Ok(Written::Nothing);
        };
        let is_full = match &mut self.real {
            None => self.full_since.is_some(),
            Some(real) => match real.write(&commit) {
                Ok(()) => false,
                Err(error) if error.is_full() => true,
                Err(error) => return Err(error.into()),
            },
        };
        if is_full {
            ensure!(self.full_since.is_some(), "the store found no room");
            self.under_way = Some(commit);
            let is_news = !std::mem::replace(&mut self.is_stalled, true);
            return Ok(Written::Full { is_news });
        }
        self.note(&commit);
        Ok(Written::Durable {
            sequence: commit.sequence,
            was_stalled: std::mem::take(&mut self.is_stalled),
        })
    }

    fn note(&mut self, commit: &Commit) {
        let changes = commit.changes.iter();
        changes.for_each(|change| self.durable.apply(change));
        self.durable.alive = Some(commit.at);
    }

    /// Whether the oldest wish has to wait for room: what is to be written would change its
    /// answer, or the file has to be opened anew.
    pub fn is_load_delayed(&self) -> bool {
        let Some((session, _)) = self.loaded.front() else {
            return false;
        };
        let is_failed = |real: &Real| real.store.needs_reopening();
        let waiting = self.under_way.iter().flat_map(|commit| &commit.changes);
        self.is_stalled
            && (self.real.as_ref().is_some_and(is_failed)
                || waiting.into_iter().any(|change| touches(change, *session)))
    }

    /// Answers the oldest wish.
    pub fn load(&mut self) -> Option<Event<'static>> {
        let (session, messages) = self.loaded.pop_front()?;
        Some(Event::Loaded { session, messages })
    }

    /// The process ends, perhaps while the commit under way is being written. What is left has all
    /// of that commit or nothing.
    ///
    /// # Errors
    /// The real store cannot be opened again, or has something else.
    pub fn end(mut self, chance: &mut Chance) -> Result<Records> {
        let commit = self.under_way.take();
        let Some(real) = self.real.take() else {
            if let Some(commit) = commit.filter(|_| chance.percent(50)) {
                self.note(&commit);
            }
            return Ok(self.durable);
        };
        let Real { store, disk } = real;
        let mut store = Some(store);
        if commit.is_none() && chance.percent(50) {
            let closed = store.take().map_or(Ok(()), Store::close);
            match closed {
                Ok(()) => {
                    disk.fill_after(None);
                    return Ok(self.durable);
                }
                Err(error) if error.is_full() => {}
                Err(error) => return Err(error.into()),
            }
        }
        disk.fail_after(chance.below(OPERATIONS_MAX));
        let is_done = match (&commit, &mut store) {
            (Some(commit), Some(store)) => store.apply(std::slice::from_ref(commit)).is_ok(),
            _ => false,
        };
        disk.fail_after(chance.pick(&[0, 0, 0, 3, 20]));
        drop(store);
        disk.lose_power(chance);
        // Opening it again may fail half-way, too: the power goes once more.
        if chance.one_in(4) {
            disk.fail_after(chance.below(20));
            drop(Real::open(disk.clone()));
            disk.lose_power(chance);
        }
        let found = Real::open(disk.clone())
            .context("opened after a loss of power")?
            .records()?;
        if text(&found) != text(&self.durable) {
            let Some(commit) = &commit else {
                bail!("after a loss of power the store has something else")
            };
            self.note(commit);
            ensure!(
                text(&found) == text(&self.durable),
                "after a loss of power the store has neither all of the last commit nor nothing"
            );
        } else {
            ensure!(
                !is_done || commit.is_some_and(|commit| commit.changes.is_empty()),
                "a commit that was reported durable is lost"
            );
        }
        Ok(self.durable)
    }
}
