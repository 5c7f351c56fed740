//! What the driver is told at start.

use shard::{Listener, ShardId};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// How a server is to run.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Shards, and threads: 1 to [`shard::limits::SHARDS_MAX`].
    pub shards: u16,
    /// The CPU of each shard, in order of shards; empty: threads are not pinned.
    pub cpus: Vec<usize>,
    /// Which kernel interface to use.
    pub driver: DriverChoice,
    /// Where to listen for MQTT. Port 0 picks a free port.
    pub mqtt: Vec<SocketAddr>,
    /// Where to listen for HTTP. Port 0 picks a free port.
    pub http: Vec<SocketAddr>,
    /// Sockets that somebody else has opened: each is listened on by all shards, instead of a
    /// socket per shard. They may listen already; whoever connected meanwhile is accepted.
    pub passed: Vec<Passed>,
    /// Where else to listen, and what for; port 0 picks a free port.
    pub further: Vec<(Listener, SocketAddr)>,
    /// The configuration of every shard; `shard`, `shards` and `seed` are set for each one, the
    /// seed from this one and the number of the shard.
    pub shard: shard::Config,
    /// Sizes; the default suits everybody who has not measured otherwise.
    pub tuning: Tuning,
}

impl ServerConfig {
    /// The configuration of one of the shards.
    pub fn of_shard(&self, shard: ShardId) -> shard::Config {
        let mut config = self.shard.clone();
        config.shard = shard;
        config.shards = self.shards;
        config.seed = seed_of(self.shard.seed, shard);
        config
    }
}

/// A socket that was opened by another program and handed to this one.
#[derive(Clone, Debug)]
pub struct Passed {
    /// What is spoken on it.
    pub kind: Listener,
    /// Bound; listening or not.
    pub socket: Arc<TcpListener>,
}

/// A different seed for each shard, fixed by the one that was configured (splitmix64).
fn seed_of(seed: u64, shard: ShardId) -> u64 {
    let step = 0x9E37_79B9_7F4A_7C15_u64;
    let mut mixed = seed.wrapping_add(step.wrapping_mul(u64::from(shard.0) + 1));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Which kernel interface to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring where the kernel lets us, else epoll.
    Auto,
    /// io_uring, or an error.
    IoUring,
    /// epoll.
    Epoll,
}

/// Sizes of one shard's driver.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Connections that one shard holds at a time; further ones are closed as they arrive.
    pub connections_max: u32,
    /// io_uring: receive buffers, a power of two up to 32,768.
    pub receive_buffers: u16,
    /// Bytes of one receive buffer; with epoll, of the only one.
    pub receive_buffer_bytes: u32,
    /// io_uring: entries of the submission queue. A turn that needs more submits more than once.
    pub submission_entries: u32,
    /// io_uring: entries of the completion queue.
    pub completion_entries: u32,
    /// io_uring: milliseconds of silence after which a connection is polled instead of read, which
    /// holds less kernel memory.
    pub idle_after_ms: u32,
    /// io_uring: microseconds for which receives may gather while messages come in a stream, so
    /// that the thread wakes for several at a time; 0 for not at all. It is the price of one
    /// message in latency, at most, and nothing is held back after a silence.
    pub gather_us: u32,
    /// Milliseconds that the peer may take to accept the rest of the output of a connection that
    /// is being closed.
    pub flush_ms: u32,
    /// Milliseconds for which what the peer still sends is read and discarded after that.
    pub linger_ms: u32,
    /// Milliseconds from [`crate::Server::stop`] until shards that have not finished are abandoned.
    pub stop_ms: u32,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            connections_max: 1_000_000,
            receive_buffers: 256,
            receive_buffer_bytes: 16 * 1_024,
            submission_entries: 4_096,
            completion_entries: 16_384,
            idle_after_ms: 5_000,
            gather_us: 250,
            flush_ms: 10_000,
            linger_ms: 1_000,
            stop_ms: 30_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_its_own_seed() {
        let mut seeds: Vec<u64> = (0..128).map(|shard| seed_of(1, ShardId(shard))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 128);
        assert_ne!(seed_of(1, ShardId(0)), seed_of(2, ShardId(0)));
    }
}
