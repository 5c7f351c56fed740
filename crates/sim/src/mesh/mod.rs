//! The Meshblu API under the simulator: devices that are registered, changed, hidden and shown,
//! that subscribe, send, act as others and lose their tokens, over HTTP, WebSockets, event streams
//! and MQTT; and a model that knows who may see what.
//!
//! | file | noun |
//! |---|---|
//! | `model.rs` | what may be true, and since when |
//! | `happening.rs` | who is to hear of what, by how many ways |
//! | `request.rs`, `judge.rs` | requests; whether an answer may be |
//! | `client.rs`, `wire.rs`, `workload.rs` | connections, what comes on them, what is done with them |
//! | `hear.rs` | answers and events as they come |
//! | `run.rs` | a run |

pub mod client;
pub mod happening;
pub mod hear;
pub mod judge;
pub mod model;
pub mod request;
pub mod run;
pub mod wire;
pub mod workload;

pub use run::run;

use crate::chance::Chance;
use crate::plan::{Options, Plan};
use shard::{Limits, MeshConfig};

/// What a shard that draws its numbers from `seed` is told of the Meshblu API. Tokens and UUIDs
/// are others after each start.
pub fn config(seed: u64) -> MeshConfig {
    let mut secret_seed = [0; 32];
    secret_seed[..8].copy_from_slice(&seed.to_le_bytes());
    MeshConfig {
        secret_seed,
        rate_limit: u32::MAX,
        registrations_max: u32::MAX,
        failed_logins_max: 0,
        ..MeshConfig::default()
    }
}

/// The circumstances of a run of this kind.
fn plan(seed: u64, options: &Options, chance: &mut Chance) -> Plan {
    let in_memory = Options {
        is_memory: true,
        ..*options
    };
    let mut plan = Plan::new(seed, &in_memory, chance);
    let steps = chance.pick(&[1_000, 3_000, 3_000, 8_000]);
    plan.steps = options.steps.unwrap_or(steps);
    plan.is_tiny = false;
    plan.has_jumps = false;
    plan.limits = Limits {
        // Nobody is closed for being slow, and nothing is published that no device has sent.
        slow_subscriber_ms: 3_600_000,
        sys_interval_s: 0,
        told_per_turn: chance.pick(&[1, 2, 5, 256]),
        ..Limits::default()
    };
    plan.kernel_bytes = chance.pick(&[300, 5_000, 200_000]);
    plan.chunk_bytes = chance.pick(&[40, 300, 1_000, 65_536]);
    plan.lane_delay_us = chance.pick(&[5, 200, 5_000, 100_000]);
    plan.link_delay_us = chance.pick(&[50, 2_000, 50_000]);
    plan.cuts_per_mille = chance.pick(&[0, 5, 20, 60]);
    plan.pace_us = chance.pick(&[500, 5_000, 50_000, 300_000]);
    if !options.is_memory && chance.one_in(3) {
        plan.make_durable(options, chance);
        plan.stop_steps = None;
        plan.crash_steps = chance.pick(&[Some(500), Some(2_000)]);
    }
    plan
}
