//! Where a simulated shard's commits go: a model of a store that takes its time.

use crate::records::Records;
use anyhow::{Result, ensure};
use shard::{Commit, Event, SessionKey, StoredQueued};
use std::collections::VecDeque;

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
}

impl Keep {
    /// A store with these records in it.
    pub fn new(records: Records) -> Keep {
        Keep {
            latest: records.clone(),
            durable: records,
            ..Keep::default()
        }
    }

    /// What would be found after a crash at this moment.
    pub fn records(&self) -> &Records {
        &self.durable
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
        commit
            .changes
            .iter()
            .for_each(|change| self.latest.apply(change));
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
    pub fn commit(&mut self) -> Option<Event<'static>> {
        let commit = self.under_way.take()?;
        commit
            .changes
            .iter()
            .for_each(|change| self.durable.apply(change));
        self.durable.alive = Some(commit.at);
        let sequence = commit.sequence;
        Some(Event::Committed { sequence })
    }

    /// Answers the oldest wish.
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

    /// The process ends: `is_kept` says whether the commit under way has just got durable.
    pub fn end(mut self, is_kept: bool) -> Records {
        if is_kept {
            self.commit();
        }
        self.durable
    }
}
