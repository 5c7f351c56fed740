//! What a shard is told about itself when it is made.

use crate::{Limits, ShardId};

/// The configuration of one shard.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are, 1 to [`crate::limits::SHARDS_MAX`].
    pub shards: u16,
    /// The source of all that is random in this shard.
    pub seed: u64,
    /// The same in every shard of a process: places topics and clients.
    pub placement_seed: u64,
    /// Who may connect without credentials.
    pub anonymous: Anonymous,
    /// Bounds.
    pub limits: Limits,
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
            limits: Limits::default(),
        }
    }
}
