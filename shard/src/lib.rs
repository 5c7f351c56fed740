//! The core of Meshring: everything that one shard decides. See [`Shard`].
#![forbid(unsafe_code)]

pub mod limits;

mod acks;
mod aliases;
mod change;
mod clients;
mod compact_map;
mod compute;
mod config;
mod connect;
mod connection;
pub mod console;
mod counters;
mod deliver;
mod durable;
mod effects;
mod event;
#[doc(hidden)]
pub mod filter_tree;
mod frame;
mod frames_in;
mod groups;
mod handoff;
mod histogram;
mod ids;
mod inbound;
mod index_table;
mod input;
mod lanes;
mod latency;
mod lifecycle;
mod log;
#[doc(hidden)]
pub mod map;
mod mesh;
mod message;
pub mod metrics;
mod numbering;
mod outbound;
mod pending;
mod placement;
mod publish;
mod queue;
mod random;
mod recover;
#[doc(hidden)]
pub mod retained;
mod retained_read;
mod routes;
mod seen;
mod session;
mod shard;
mod slots;
mod subscribe;
mod subscriptions;
mod sys;
mod table;
mod talkers;
mod time;
#[doc(hidden)]
pub mod timers;
#[doc(hidden)]
pub mod topic;

pub use change::{
    Change, Commit, DeviceSubscription, OVER, SessionKey, StoredQueued, StoredSession,
    StoredSubscription, StoredWill,
};
pub use compute::{Compute, Computed, Task, Webhook};
pub use config::{Anonymous, Config, Dialect, Durability, DurabilityMode, MeshConfig};
pub use counters::{Counters, Traffic};
pub use effects::{Close, Effect, Effects};
pub use event::{Event, Listener};
pub use frame::{Answer, Frame, GroupKey, Lane};
pub use handoff::Handoff;
pub use histogram::Histogram;
pub use ids::{ConnectionId, RequestId, SessionId, ShardId};
pub use limits::Limits;
pub use log::{Cause, LOGGED_BYTES_MAX, Level, Line, printable};
pub use meshblu::Uuid as DeviceId;
pub use message::{Message, MessageView, Publisher};
pub use outbound::{Delivery, Step, SubscriptionIds};
pub use placement::Placement;
pub use shard::Shard;
pub use table::Table;
pub use talkers::{Talker, Talkers};
pub use time::{Span, Time};
