//! Starting, stopping and joining the threads of all shards.

use crate::{Handler, JoinError, ServerConfig, StartError};
use shard::{Listener, Shard, ShardId, Time};
use std::net::SocketAddr;

/// A running server. Dropping it does not stop it.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(Listener, SocketAddr)>,
    driver: &'static str,
    stopper: Stopper,
}

/// Asks a server to stop, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {}

/// Starts one [`Shard`] per thread. Returns when all listeners are open and all threads run.
pub fn start(config: ServerConfig) -> Result<Server, StartError> {
    let template = config.shard.clone();
    start_with(config, move |shard, now| {
        let mut config = template.clone();
        config.shard = shard;
        Shard::new(config, now)
    })
}

/// Starts a handler of another kind per thread, each made on its own thread. Returns when all
/// listeners are open and all threads run.
pub fn start_with<H, F>(config: ServerConfig, make: F) -> Result<Server, StartError>
where
    H: Handler,
    F: Fn(ShardId, Time) -> H + Clone + Send + 'static,
{
    let _ = (config, make);
    Err(StartError::Config("the driver is not there yet".to_owned()))
}

impl Server {
    /// What is listened on, with the ports that were picked.
    pub fn listeners(&self) -> &[(Listener, SocketAddr)] {
        &self.listeners
    }

    /// `"io_uring"` or `"epoll"`.
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    /// Begins a graceful stop; [`Server::join`] waits for its end.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// Something that can stop the server from another thread, also while one waits in
    /// [`Server::join`].
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until all shards have stopped; returns the first failure of any of them.
    pub fn join(self) -> Result<(), JoinError> {
        Ok(())
    }
}

impl Stopper {
    /// Begins a graceful stop.
    pub fn stop(&self) {}
}
