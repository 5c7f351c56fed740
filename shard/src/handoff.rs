//! A connection on its way to its home shard.

use crate::Listener;
use crate::connection::Extra;
use std::net::SocketAddr;

/// What the accepting shard knew of a connection when it found out whose it is.
#[derive(Debug)]
pub struct Handoff {
    /// Which listener it came by.
    pub listener: Listener,
    /// The other end.
    pub peer: SocketAddr,
    /// All that was received and not yet interpreted: at least the whole CONNECT (out of its
    /// frames, if it came in WebSocket frames).
    pub(crate) received: Vec<u8>,
    /// The state of its WebSocket, if it has one.
    pub(crate) extra: Option<Box<Extra>>,
}

impl Handoff {
    /// Of a connection that has sent `received` and whose bytes are in no frames.
    pub fn new(listener: Listener, peer: SocketAddr, received: Vec<u8>) -> Handoff {
        Handoff {
            listener,
            peer,
            received,
            extra: None,
        }
    }

    /// All that was received and not yet interpreted.
    pub fn received(&self) -> &[u8] {
        &self.received
    }
}
