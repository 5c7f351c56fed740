//! One shard, its effects and its connections, as its driver has them.

use super::store::ModelStore;
use shard::console::Report;
use shard::{Commit, Config, ConnectionId, DurabilityMode, Effects, Frame, Shard, Time};
use std::collections::VecDeque;

/// One connection, as its driver sees it.
pub struct Slot {
    pub generation: u32,
    /// Index of the client; `None` while the slot is free.
    pub client: Option<usize>,
    pub is_paused: bool,
    /// Bytes that arrived while reading was paused.
    pub inbox: Vec<u8>,
}

/// One shard and its driver.
pub struct Core {
    pub shard: Shard,
    pub effects: Effects,
    pub slots: Vec<Slot>,
    /// Frames in the rings towards other shards: request lane, then reply lane.
    pub rings: Vec<[VecDeque<Frame>; 2]>,
    /// Staged frames once did not fit.
    pub was_full: Vec<bool>,
    pub config: Config,
    pub store: ModelStore,
    /// Commits to make durable and to confirm.
    pub commits: Vec<Commit>,
    /// Slow work, to be done and answered.
    pub computes: Vec<shard::Compute>,
    /// What has been said to an operator.
    pub answers: Vec<(u64, Box<Report>)>,
    pub is_ready: bool,
    pub is_stopped: bool,
}

impl Core {
    pub fn new(config: Config, now: Time, store: ModelStore) -> Core {
        let shards = config.shards as usize;
        let mut shard = Shard::new(config.clone(), now);
        for record in store.records() {
            shard.recover(record).expect("what was committed is sound");
        }
        let is_durable = config.durability.mode != DurabilityMode::Memory;
        if is_durable {
            shard.begin(store.alive);
        }
        Core {
            config,
            store,
            shard,
            effects: Effects::new(shards),
            slots: Vec::new(),
            rings: (0..shards).map(|_| Default::default()).collect(),
            was_full: vec![false; shards],
            commits: Vec::new(),
            answers: Vec::new(),
            computes: Vec::new(),
            is_ready: !is_durable,
            is_stopped: false,
        }
    }

    pub fn open(&mut self, client: usize) -> ConnectionId {
        let free = self.slots.iter().position(|slot| slot.client.is_none());
        let index = free.unwrap_or_else(|| {
            let slot = Slot {
                generation: 0,
                client: None,
                is_paused: false,
                inbox: Vec::new(),
            };
            self.slots.push(slot);
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.generation += 1;
        slot.client = Some(client);
        slot.is_paused = false;
        slot.inbox.clear();
        let connection = ConnectionId {
            index: index as u32,
            generation: slot.generation,
        };
        self.effects.open(connection);
        connection
    }

    /// The slot, unless the connection is gone.
    pub fn slot(&mut self, connection: ConnectionId) -> Option<&mut Slot> {
        let slot = &mut self.slots[connection.index as usize];
        (slot.generation == connection.generation && slot.client.is_some()).then_some(slot)
    }

    pub fn close(&mut self, connection: ConnectionId) {
        self.effects.close(connection);
        self.slots[connection.index as usize].client = None;
    }
}
