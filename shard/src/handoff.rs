//! A connection on its way to its home shard.

use crate::Listener;
use std::net::SocketAddr;

/// What the accepting shard knew of a connection when it found out whose it is.
#[derive(Debug)]
pub struct Handoff {
    /// Which listener it came by.
    pub listener: Listener,
    /// The other end.
    pub peer: SocketAddr,
    /// Whether MQTT is carried in WebSocket frames; the handshake has been answered.
    pub is_websocket: bool,
    /// All that was received and not yet interpreted: at least the whole CONNECT (unframed, if it
    /// came in WebSocket frames).
    pub received: Vec<u8>,
    /// Raw WebSocket bytes that follow `received` and are not unframed yet.
    pub undecoded: Vec<u8>,
}
