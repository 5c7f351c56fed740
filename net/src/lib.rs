//! The driver of Meshring: runs one [`shard::Shard`] per thread over io_uring or epoll, and
//! connects the shards with rings. See [`start`].

mod config;
mod error;
mod handler;
mod server;

pub use config::{DriverChoice, ServerConfig, Tuning};
pub use error::{JoinError, StartError};
pub use handler::Handler;
pub use server::{Server, Stopper, start, start_with};
