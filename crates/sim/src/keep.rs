//! Where a simulated shard's commits go: a model of a store that takes its time, and beside it, in
//! some runs, the real store on a disk that loses power. The two must always agree.

use crate::chance::Chance;
use crate::disk::Disk;
use crate::records::Records;
use anyhow::{Context, Result, bail, ensure};
use shard::{Commit, Event, SessionKey, StoredQueued, Time};
use std::collections::VecDeque;
use storage::{FileHeader, Source, Store, StoreOptions};

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
const OPTIONS: StoreOptions = StoreOptions {
    cache_bytes: 1 << 20,
    verify: true,
    quick_repair: false,
};
/// A commit changes a file in fewer operations than this.
const OPERATIONS_MAX: u64 = 60;

/// The real store and what it stands on.
#[derive(Debug)]
struct Real {
    store: Store,
    disk: Disk,
}

/// What a shard leaves behind when its process ends.
#[derive(Debug)]
pub struct Rest {
    /// What is in its store.
    pub records: Records,
    /// The real store's disk, if there is one.
    pub disk: Option<Disk>,
}

/// The store of one shard.
#[derive(Debug, Default)]
pub struct Keep {
    /// What no crash takes away.
    durable: Records,
    /// The same with the commit that is under way.
    latest: Records,
    under_way: Option<Commit>,
    loads: VecDeque<Load>,
    last_sequence: u64,
    real: Option<Real>,
}

impl Real {
    fn source(disk: &Disk) -> Source {
        let disk = disk.clone();
        Source::backend("simulated".to_string(), None, move || {
            Ok(Box::new(disk.clone()))
        })
    }

    /// A new file with these records in it.
    fn create(records: &Records) -> Result<Real> {
        let disk = Disk::default();
        let header = FileHeader {
            directory: 1,
            generation: 1,
            shard: 0,
            shards: 1,
            placement_seed: 1,
            created: Time(1),
        };
        let mut store = Store::create_source(Real::source(&disk), &header, OPTIONS)?;
        let at = records.alive.unwrap_or(Time(0));
        let changes = records.changes();
        if records.alive.is_some() {
            store.apply(&[Commit {
                sequence: 1,
                at,
                changes,
            }])?;
        }
        Ok(Real { store, disk })
    }

    fn open(disk: Disk) -> Result<Real> {
        let store = Store::open_source(Real::source(&disk), OPTIONS)?;
        Ok(Real { store, disk })
    }

    fn records(&self) -> Result<Records> {
        let mut records = Records::default();
        let loaded = self.store.load(&mut |change| {
            records.apply(&change);
            Ok(())
        })?;
        records.alive = loaded.alive;
        Ok(records)
    }
}

/// All of it as text, to be compared.
fn text(records: &Records) -> String {
    format!("{:?} {:?}", records.alive, records.changes())
}

impl Keep {
    /// A store with these records in it. `is_real`: with the real one beside it, on the disk that
    /// is left if there is one.
    ///
    /// # Errors
    /// The real store does not have these records.
    pub fn new(records: Records, disk: Option<Disk>, is_real: bool) -> Result<Keep> {
        let real = match disk {
            Some(disk) => Some(Real::open(disk).context("opened after a restart")?),
            None if is_real => Some(Real::create(&records)?),
            None => None,
        };
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

    /// Takes a wish.
    pub fn ask(&mut self, load: Load) {
        self.loads.push_back(load);
    }

    /// Whether a commit is under way.
    pub fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// The commit under way gets durable.
    ///
    /// # Errors
    /// The real store does not take it.
    pub fn commit(&mut self) -> Result<Option<Event<'static>>> {
        let Some(commit) = self.under_way.take() else {
            return Ok(None);
        };
        if let Some(real) = &mut self.real {
            real.store.apply(std::slice::from_ref(&commit))?;
        }
        self.note(&commit);
        let sequence = commit.sequence;
        Ok(Some(Event::Committed { sequence }))
    }

    fn note(&mut self, commit: &Commit) {
        let changes = commit.changes.iter();
        changes.for_each(|change| self.durable.apply(change));
        self.durable.alive = Some(commit.at);
    }

    /// Answers the oldest wish. The commit under way is in the answer.
    pub fn load(&mut self) -> Option<Event<'static>> {
        let load = self.loads.pop_front()?;
        let messages: Vec<StoredQueued> = self.latest.load(
            load.session.0,
            load.after,
            load.messages_max,
            load.bytes_max,
        );
        let session = load.session;
        Some(Event::Loaded { session, messages })
    }

    /// The process ends, perhaps while the commit under way is being written. What is left has all
    /// of that commit or nothing.
    ///
    /// # Errors
    /// The real store cannot be opened again, or has something else.
    pub fn end(mut self, chance: &mut Chance) -> Result<Rest> {
        let commit = self.under_way.take();
        let Some(mut real) = self.real.take() else {
            if let Some(commit) = commit.filter(|_| chance.percent(50)) {
                self.note(&commit);
            }
            return Ok(Rest {
                records: self.durable,
                disk: None,
            });
        };
        if commit.is_none() && chance.percent(50) {
            real.store.close()?;
            return Ok(Rest {
                records: self.durable,
                disk: Some(real.disk),
            });
        }
        real.disk.fail_after(chance.below(OPERATIONS_MAX));
        let is_done = match &commit {
            Some(commit) => real.store.apply(std::slice::from_ref(commit)).is_ok(),
            None => false,
        };
        let Real { store, disk } = real;
        disk.fail_after(chance.pick(&[0, 0, 0, 3, 20]));
        drop(store);
        let disk = disk.after_power_loss(chance);
        // Opening it again may fail half-way, too: the power goes once more.
        let disk = match chance.one_in(4) {
            true => {
                disk.fail_after(chance.below(20));
                drop(Real::open(disk.clone()));
                disk.after_power_loss(chance)
            }
            false => disk,
        };
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
        Ok(Rest {
            records: self.durable,
            disk: Some(disk),
        })
    }
}
