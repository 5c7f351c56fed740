//! The driver of Meshring: runs one [`shard::Shard`] per thread over io_uring or epoll, and
//! connects the shards with rings. See [`start`] and, for shards that are kept, [`start_stored`].

/// Where `flags.rs` finds its atomics; the model checker gives it others.
mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};
}
mod backend;
mod clock;
mod config;
mod console;
mod doors;
mod driver;
mod epoll;
mod error;
mod flags;
mod handler;
mod helpers;
mod host;
mod journal;
mod links;
mod listen;
mod pulse;
mod seat;
mod server;
mod slots;
mod store;
mod sys;
mod token;
mod turn;
mod uring;
mod wake;

/// The target of tracing's spans that are about the control plane: not of lines in the log.
pub const CONTROL: &str = "meshring::control";

pub use config::{DriverChoice, Passed, ServerConfig, Tuning};
pub use console::Console;
pub use doors::{Door, Doors};
pub use error::{JoinError, StartError};
pub use handler::Handler;
pub use helpers::Helpers;
pub use host::{prefer_exact_timers, prefer_small_pages, reserve_descriptors};
pub use journal::{LINES_MAX, LOG_FIELDS};
pub use pulse::Pulse;
pub use server::{Server, Stopper, probe_io_uring, start, start_stored, start_with};
pub use store::{Made, Store, StoreEvent, Waker, Workplace};
pub use wake::Wake;

#[cfg(test)]
mod flags_model;
