//! The core of Meshring: everything that one shard decides. See [`Shard`].
#![forbid(unsafe_code)]

pub mod limits;

#[doc(hidden)]
pub mod filter_tree;
#[doc(hidden)]
pub mod map;
#[doc(hidden)]
pub mod retained;
#[doc(hidden)]
pub mod timers;
#[doc(hidden)]
pub mod topic;

mod config;
mod effects;
mod event;
mod frame;
mod handoff;
mod ids;
mod time;

pub use config::{Anonymous, Config};
pub use effects::{Change, Close, Commit, Effect, Effects, Level};
pub use event::{Event, Listener};
pub use frame::{Frame, Lane};
pub use handoff::Handoff;
pub use ids::{ConnectionId, RequestId, SessionId, ShardId};
pub use limits::Limits;
pub use time::{Span, Time};

/// The state and rules of one core's share of devices: a plain value.
pub struct Shard;

impl Shard {
    /// A shard without sessions.
    pub fn new(config: Config, now: Time) -> Shard {
        let _ = (config, now);
        Shard
    }

    /// The only way in: takes one event, pushes its effects, does bounded work and returns.
    pub fn handle(&mut self, now: Time, event: Event<'_>, effects: &mut Effects) {
        let _ = (now, event, effects);
    }

    /// When to call with [`Event::Tick`]; `None` if there is nothing to wait for.
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// Asserts the invariants that span several tables. Costs time: for tests and the simulator.
    pub fn check(&self) {}
}
