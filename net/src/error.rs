//! Why a server does not start, or ended badly.

use shard::ShardId;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why a server did not start. Nothing is left running or listening.
#[derive(Debug)]
pub enum StartError {
    /// The configuration contradicts itself; says how.
    Config(String),
    /// io_uring was demanded and this kernel or container refuses it; says what was refused.
    IoUringRefused(String),
    /// An address could not be listened on.
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// A socket that was passed to this process cannot be listened on.
    Passed(io::Error),
    /// The thread of a shard could not be set up: pinning, epoll, or io_uring.
    Shard {
        /// Which.
        shard: ShardId,
        /// What the kernel said.
        error: io::Error,
    },
    /// What a shard keeps could not be opened or recovered, or its store failed at once.
    Store {
        /// Which.
        shard: ShardId,
        /// Why, for people.
        reason: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(why) => write!(f, "cannot start: {why}"),
            StartError::IoUringRefused(why) => write!(f, "io_uring is refused here: {why}"),
            StartError::Listen { address, error } => {
                write!(f, "cannot listen on {address}: {error}")
            }
            StartError::Passed(error) => {
                write!(f, "cannot listen on a socket that was passed: {error}")
            }
            StartError::Shard { shard, error } => {
                write!(f, "cannot set up the thread of shard {}: {error}", shard.0)
            }
            StartError::Store { shard, reason } => {
                write!(f, "cannot recover shard {}: {reason}", shard.0)
            }
        }
    }
}

impl std::error::Error for StartError {}

/// How a server ended badly.
#[derive(Debug)]
pub enum JoinError {
    /// The thread of a shard panicked.
    Panicked(ShardId),
    /// The kernel failed a call that a shard cannot do without.
    Failed {
        /// Which.
        shard: ShardId,
        /// What the kernel said.
        error: io::Error,
    },
    /// A shard had not finished [`crate::Tuning::stop_ms`] after the request to stop.
    Abandoned(ShardId),
    /// The store of a shard does not know any more what is durable: the next start recovers from
    /// what is.
    Store {
        /// Which.
        shard: ShardId,
        /// Why, for people.
        reason: String,
    },
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(shard) => write!(f, "the thread of shard {} panicked", shard.0),
            JoinError::Failed { shard, error } => write!(f, "shard {} failed: {error}", shard.0),
            JoinError::Abandoned(shard) => write!(f, "shard {} did not stop in time", shard.0),
            JoinError::Store { shard, reason } => {
                write!(f, "the store of shard {} failed: {reason}", shard.0)
            }
        }
    }
}

impl std::error::Error for JoinError {}
