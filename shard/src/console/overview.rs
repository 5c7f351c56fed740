//! How a shard is: what it has counted, and how full it is.

use crate::counters::Counters;
use crate::histogram::Histogram;
use crate::shard::Shard;
use crate::talkers::{Talker, Talkers};
use crate::{Effects, ShardId, Span};

/// One shard at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Which shard.
    pub shard: ShardId,
    /// How long it has run, recovery not counted.
    pub uptime: Span,
    /// Everything that is counted, gauges brought up to date.
    pub counters: Counters,
    /// Request frames for other shards that are not in their rings yet.
    pub frames_staged: u64,
    /// Requests that other shards have not answered.
    pub requests_unanswered: u64,
    /// Frames that wait for other shards to answer earlier ones.
    pub requests_waiting: u64,
    /// Filters in this shard's table, those of groups that live here included.
    pub filters: u64,
    /// Filters that other shards do not all know yet.
    pub filters_announcing: u64,
    /// Whether a commit is with the store and not answered.
    pub is_committing: bool,
    /// Bytes of changes that the next commit will take along.
    pub commit_waiting_bytes: u64,
    /// Whether the store cannot write for now.
    pub is_store_stalled: bool,
    /// Connections that are not read, because the store or another shard must catch up.
    pub connections_paused: u64,
    /// Bytes of retained messages.
    pub retained_bytes: u64,
    /// What the driver has counted around the shard.
    pub driver: DriverCounts,
}

/// What the driver counts; it fills this in when the shard's answer passes through its hands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverCounts {
    /// How long turns took, from the end of the wait to the next one.
    pub turns: Histogram,
    /// How long the store took for commits, from handing one over to hearing that it is durable.
    pub commits: Histogram,
    /// Frames taken from other shards.
    pub frames: u64,
    /// How often a sleeping shard was woken for what this one had for it.
    pub wakes: u64,
    /// How often a ring to another shard had no room for all there was.
    pub rings_full: u64,
    /// Frames in the rings to other shards, not taken yet.
    pub ring_frames: u64,
}

impl Shard {
    pub(super) fn overview(&mut self, effects: &Effects) -> Overview {
        let (requests_unanswered, requests_waiting, paused) = self.lanes.load();
        let shards = (0..self.config.shards).map(ShardId);
        let frames_staged = shards
            .map(|shard| effects.staged_requests(shard) as u64)
            .sum();
        Overview {
            shard: self.config.shard,
            uptime: self.now.since(self.started),
            counters: self.counters().clone(),
            frames_staged,
            requests_unanswered,
            requests_waiting,
            filters: self.subscriptions.len() as u64,
            filters_announcing: self.subscriptions.announcing() as u64,
            is_committing: self.durable.is_under_way(),
            commit_waiting_bytes: self.durable.waiting_bytes() as u64,
            is_store_stalled: self.durable.is_stalled,
            connections_paused: paused + self.durable.paused() as u64,
            retained_bytes: self.retained_bytes as u64,
            driver: DriverCounts::default(),
        }
    }

    /// The clients that publish most here.
    pub(super) fn heaviest(&mut self) -> Talkers {
        let (window, heaviest) = self.talkers.heaviest(self.now);
        let sessions = &self.sessions;
        let rows = heaviest.filter_map(|(session, messages, bytes)| {
            let live = sessions.get(session.index, session.generation)?;
            let client_id = live.client_id.clone();
            Some(Talker {
                client_id,
                messages,
                bytes,
            })
        });
        let rows = rows.collect();
        Talkers { window, rows }
    }
}
