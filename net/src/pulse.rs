//! Whether the shards still take turns: what a watchdog is fed with.
//!
//! A shard counts its turns, which costs it nothing that can be measured; one that has nothing to do
//! sleeps, so whoever wants to know wakes it first and looks again later.

use crate::server::Stopper;
use crate::wake::Wake;
use shard::ShardId;
use std::sync::Arc;

/// Watches the turns of a server's shards, from any thread; from [`crate::Server::pulse`].
#[derive(Debug)]
pub struct Pulse {
    wakes: Arc<[Wake]>,
    stopper: Stopper,
    /// The turns of each shard when all were last seen to have moved on.
    seen: Vec<u64>,
}

impl Pulse {
    pub(crate) fn new(wakes: Arc<[Wake]>, stopper: Stopper) -> Pulse {
        let seen = wakes.iter().map(Wake::turns).collect();
        let pulse = Pulse {
            wakes,
            stopper,
            seen,
        };
        pulse.provoke();
        pulse
    }

    /// The shards that have taken no turn since the last call that returned none, in order. When
    /// none is left, counting starts again, and all shards are woken so that each that is well has
    /// taken a turn by the next call. Shards that are about to end, because all have stopped, need
    /// not turn.
    pub fn standing_still(&mut self) -> Vec<ShardId> {
        if self.stopper.shared().are_all_finished() {
            return Vec::new();
        }
        let now: Vec<u64> = self.wakes.iter().map(Wake::turns).collect();
        let still: Vec<ShardId> = (0..now.len())
            .filter(|&shard| now[shard] == self.seen[shard])
            .map(|shard| ShardId(shard as u16))
            .collect();
        if still.is_empty() {
            self.seen = now;
        }
        self.provoke();
        still
    }

    fn provoke(&self) {
        for wake in self.wakes.iter() {
            wake.wake();
        }
    }
}
