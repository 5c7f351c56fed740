//! What a shard is told about itself when it is made.

use crate::{Limits, ShardId};

/// The configuration of one shard.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are, 1 to [`crate::limits::SHARDS_MAX`].
    pub shards: u16,
    /// The source of all that is random in this shard. Another one at each start on the same
    /// records: names of sessions are drawn from it.
    pub seed: u64,
    /// The same in every shard of a process: places topics and clients.
    pub placement_seed: u64,
    /// Who may connect without credentials.
    pub anonymous: Anonymous,
    /// What is kept, and when it counts as kept.
    pub durability: Durability,
    /// Bounds.
    pub limits: Limits,
}

/// What is kept, and when it counts as kept.
#[derive(Clone, Debug, Default)]
pub struct Durability {
    /// For what no prefix says otherwise for: sessions, subscriptions, and most messages.
    pub mode: DurabilityMode,
    /// Messages whose topic begins with one of these have a mode of their own; the longest prefix
    /// counts. [`DurabilityMode::Memory`] is possible only as `mode`, for everything.
    pub prefixes: Vec<(Box<str>, DurabilityMode)>,
    /// Milliseconds until what need not be durable at once is written.
    pub interval_ms: u64,
}

/// When something counts as kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DurabilityMode {
    /// Nothing is written: for tests, and for brokers that may forget.
    #[default]
    Memory,
    /// Acknowledged means in memory; it is on disk within the interval.
    Interval,
    /// Acknowledged means on disk.
    Commit,
}

/// Who may connect without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Nobody.
    Deny,
    /// Peers on a loopback address (`--dev`).
    Loopback,
    /// Everybody.
    Allow,
}

impl Config {
    /// A lone shard that lets everybody in: for tests and benchmarks.
    pub fn alone() -> Config {
        Config {
            shard: ShardId(0),
            shards: 1,
            seed: 1,
            placement_seed: 1,
            anonymous: Anonymous::Allow,
            durability: Durability::default(),
            limits: Limits::default(),
        }
    }
}
