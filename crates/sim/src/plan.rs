//! What a seed decides before its run begins: how many shards, how unkind the world, which limits.

use crate::chance::Chance;
use shard::{Durability, DurabilityMode, Limits};

/// What the command line may fix for every seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Shards, instead of 1 to 4.
    pub shards: Option<u16>,
    /// Steps of the unkind part, instead of 1,500 to 20,000.
    pub steps: Option<u64>,
    /// Every seed that keeps anything keeps it in the real store, on a disk that loses power.
    pub is_power_loss: bool,
    /// Nothing is kept, whatever the seed says.
    pub is_memory: bool,
    /// In every seed that keeps anything disks fill up now and then.
    pub is_full_disk: bool,
    /// In every seed that keeps anything memory holds only the beginning of a queue.
    pub is_spilling: bool,
    /// In every seed that keeps anything, what is acknowledged is durable only within an interval.
    pub is_interval: bool,
    /// The Meshblu API instead of MQTT's messages.
    pub is_mesh: bool,
}

impl Options {
    /// As they are written on the command line.
    pub fn flags(&self) -> String {
        let shards = self.shards.map(|shards| format!(" --shards {shards}"));
        let steps = self.steps.map(|steps| format!(" --steps {steps}"));
        let mut flags = shards.unwrap_or_default() + &steps.unwrap_or_default();
        for (is_on, flag) in [
            (self.is_mesh, " --mesh"),
            (self.is_memory, " --memory"),
            (self.is_power_loss, " --power-loss"),
            (self.is_full_disk, " --full-disk"),
            (self.is_spilling, " --spill"),
            (self.is_interval, " --interval"),
        ] {
            flags += if is_on { flag } else { "" };
        }
        flags
    }
}

/// The circumstances of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed that they come from.
    pub seed: u64,
    /// How many shards.
    pub shards: u16,
    /// Steps before the world turns kind.
    pub steps: u64,
    /// Clients that keep to the protocol.
    pub clients: usize,
    /// Clients that do not.
    pub vandals: usize,
    /// Request frames that a ring holds.
    pub lane_capacity: usize,
    /// Longest delay of a frame in its ring, in microseconds.
    pub lane_delay_us: u64,
    /// Longest delay of bytes on a connection, in microseconds.
    pub link_delay_us: u64,
    /// Largest piece in which bytes are delivered.
    pub chunk_bytes: usize,
    /// What the kernel buffers of a connection's output.
    pub kernel_bytes: usize,
    /// Out of 1,000 actions of a client, how many cut its connection.
    pub cuts_per_mille: u64,
    /// Whether time jumps now and then.
    pub has_jumps: bool,
    /// Microseconds between two actions of a client, at most, most of the time.
    pub pace_us: u64,
    /// Messages that a client publishes at once, at most; many fill rings and credits.
    pub burst: u64,
    /// Limits so small that they are reached: then loss is allowed, but bounds must hold.
    pub is_tiny: bool,
    /// Of every shard.
    pub limits: Limits,
    /// Of every shard.
    pub placement_seed: u64,
    /// Of every shard.
    pub durability: Durability,
    /// Longest time that a commit takes, in microseconds.
    pub commit_us: u64,
    /// A crash comes once in so many steps; `None`: never.
    pub crash_steps: Option<u64>,
    /// A planned stop and start comes once in so many steps; `None`: never.
    pub stop_steps: Option<u64>,
    /// A disk fills up once in so many steps; `None`: never.
    pub full_steps: Option<u64>,
    /// The number of shards may be another after a restart.
    pub has_reshards: bool,
    /// The real store is there beside its model, on a disk that loses power.
    pub has_disks: bool,
}

/// Slow subscribers are never closed within a run whose limits are roomy.
const PATIENCE_MS: u64 = 36_000_000;

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, options: &Options, chance: &mut Chance) -> Plan {
        let shards = chance.pick(&[1, 2, 2, 2, 3, 3, 4]);
        let is_tiny = chance.percent(12);
        let steps = chance.pick(&[1_500, 5_000, 5_000, 20_000]);
        let mut plan = Plan {
            seed,
            shards: options.shards.unwrap_or(shards),
            steps: options.steps.unwrap_or(steps),
            clients: chance.between(2, 9) as usize,
            vandals: if chance.percent(40) {
                chance.between(1, 2) as usize
            } else {
                0
            },
            lane_capacity: chance.pick(&[1, 2, 3, 8, 64, 4_096]),
            lane_delay_us: chance.pick(&[5, 200, 5_000, 100_000, 2_000_000]),
            link_delay_us: chance.pick(&[50, 2_000, 50_000, 1_000_000]),
            chunk_bytes: chance.pick(&[5, 60, 1_000, 1_000, 65_536]),
            kernel_bytes: chance.pick(&[16, 500, 5_000, 200_000]),
            cuts_per_mille: chance.pick(&[0, 5, 20, 60]),
            has_jumps: chance.percent(25),
            pace_us: chance.pick(&[500, 10_000, 100_000, 1_000_000]),
            burst: chance.pick(&[10, 10, 10, 700]),
            is_tiny,
            limits: limits(is_tiny, chance),
            placement_seed: chance.draw(),
            durability: Durability::default(),
            commit_us: 0,
            crash_steps: None,
            stop_steps: None,
            full_steps: None,
            has_reshards: false,
            has_disks: false,
        };
        // From numbers of its own, so that the rest of a seed is the same without it.
        let mut own = Chance::new(seed ^ 0x6475_7261_626C_6521);
        if !options.is_memory && !own.one_in(3) {
            plan.make_durable(options, &mut own);
            // The same again, so that what was there before stays as it was.
            plan.make_harder(options, &mut Chance::new(seed ^ 0x6861_7264_6572_2121));
        }
        plan
    }

    /// Whether anything is kept.
    pub fn is_durable(&self) -> bool {
        self.durability.mode != DurabilityMode::Memory
    }

    /// Whether a message to this topic is promised to be durable when it is acknowledged.
    pub fn promises(&self, topic: &str) -> bool {
        let mut prefixes = self.durability.prefixes.iter();
        let prefix = prefixes.find(|(prefix, _)| topic.starts_with(&**prefix));
        let mode = prefix.map_or(self.durability.mode, |(_, mode)| *mode);
        mode == DurabilityMode::Commit
    }

    /// Whether sessions and subscriptions are promised to be durable when they are acknowledged.
    pub fn promises_sessions(&self) -> bool {
        self.durability.mode == DurabilityMode::Commit
    }

    pub(crate) fn make_durable(&mut self, options: &Options, chance: &mut Chance) {
        self.durability = Durability {
            mode: DurabilityMode::Commit,
            prefixes: Vec::new(),
            interval_ms: chance.pick(&[5, 200, 2_000]),
        };
        if chance.percent(20) {
            let prefix = ("u/".into(), DurabilityMode::Interval);
            self.durability.prefixes.push(prefix);
        }
        self.commit_us = chance.pick(&[20, 2_000, 50_000, 500_000]);
        self.crash_steps = chance.pick(&[None, Some(500), Some(2_000), Some(5_000)]);
        self.stop_steps = chance.pick(&[None, None, Some(4_000)]);
        self.has_reshards = options.shards.is_none() && chance.percent(40);
        self.has_disks = chance.one_in(12) || options.is_power_loss;
    }

    fn make_harder(&mut self, options: &Options, chance: &mut Chance) {
        let steps = chance.pick(&[300, 1_000, 4_000]);
        let is_full = chance.one_in(5) || options.is_full_disk;
        self.full_steps = is_full.then_some(steps);
        let (messages, bytes) = (chance.pick(&[1, 2, 6]), chance.pick(&[150, 1_000, 20_000]));
        if chance.one_in(5) || options.is_spilling {
            self.limits.queue_memory_messages = messages;
            self.limits.queue_memory_bytes = bytes;
        }
        if chance.one_in(6) || options.is_interval {
            self.durability.mode = DurabilityMode::Interval;
            // The other way round: what begins so is promised at once.
            for (_, mode) in &mut self.durability.prefixes {
                *mode = DurabilityMode::Commit;
            }
        }
    }
}

fn limits(is_tiny: bool, chance: &mut Chance) -> Limits {
    let mut limits = Limits {
        slow_subscriber_ms: PATIENCE_MS,
        receive_maximum: chance.pick(&[2, 10, 1_024]),
        topic_alias_maximum: chance.pick(&[0, 3, 32]),
        client_alias_max: chance.pick(&[0, 2, 32]),
        in_flight_max: chance.pick(&[1, 5, 1_024]),
        sys_interval_s: chance.pick(&[0, 0, 0, 10]),
        keep_alive_max_s: chance.pick(&[None, None, Some(30)]),
        ..Limits::default()
    };
    if is_tiny {
        limits.packet_bytes_max = 2_000;
        limits.subscriptions_max = 3;
        limits.output_bytes_max = chance.pick(&[200, 4_000]);
        limits.queue_messages_max = chance.pick(&[2, 10]);
        limits.queue_bytes_max = chance.pick(&[300, 10_000]);
        limits.retained_messages_max = 2;
        limits.retained_bytes_max = 500;
        limits.sessions_max = chance.pick(&[2, 100]);
        limits.slow_subscriber_ms = chance.pick(&[50, 2_000]);
    }
    limits
}
