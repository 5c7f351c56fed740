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
    /// The Meshblu API.
    pub mesh: MeshConfig,
    /// Bounds.
    pub limits: Limits,
}

/// What the Meshblu API is told.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// The key of all token hashes. Another one makes all tokens worthless.
    pub pepper: [u8; 32],
    /// The source of tokens and UUIDs: nobody may guess it, and it is another one at each start. All
    /// shards share it and draw different numbers from it.
    pub secret_seed: [u8; 32],
    /// Whether anybody may register a device. Otherwise a device must do it for them.
    pub is_registration_open: bool,
    /// Devices that say nothing of whitelists are private instead of open.
    pub is_private_by_default: bool,
    /// Whether MQTT clients may use topics that belong to no device.
    pub has_free_topics: bool,
    /// Who may read GET /metrics, which asks for no credentials.
    pub metrics: Anonymous,
    /// How results are written where the two families of clients differ.
    pub dialect: Dialect,
    /// Requests that one device may make in a window.
    pub rate_limit: u32,
    /// Seconds of that window.
    pub rate_window_s: u32,
    /// Registrations that one address may make in a window.
    pub registrations_max: u32,
    /// Logins from one address that may fail in a window, at this shard; 0: as many as they like.
    pub failed_logins_max: u32,
    /// Bytes of a message's payload and fields, and of any request's body.
    pub message_bytes_max: usize,
    /// What GET /publickey says, if anything.
    pub public_key: Option<Box<str>>,
}

/// How results are written where the two families of clients differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// As FreshBlu does.
    #[default]
    Freshblu,
    /// As the original does.
    Meshblu,
}

impl Default for MeshConfig {
    /// For tests: the pepper and the seed are known.
    fn default() -> MeshConfig {
        MeshConfig {
            pepper: [0; 32],
            secret_seed: [0; 32],
            is_registration_open: true,
            is_private_by_default: false,
            has_free_topics: true,
            metrics: Anonymous::Loopback,
            dialect: Dialect::Freshblu,
            rate_limit: 1_200,
            rate_window_s: 60,
            registrations_max: 600,
            failed_logins_max: 100,
            message_bytes_max: 1_048_576,
            public_key: None,
        }
    }
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
            mesh: MeshConfig::default(),
            limits: Limits::default(),
        }
    }
}
