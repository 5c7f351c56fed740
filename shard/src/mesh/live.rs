//! Connections that hear what happens to a device, as its owner knows them.

use crate::{ConnectionId, ShardId};

/// How a connection is told of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Frames of a WebSocket, as FreshBlu writes them.
    Socket,
    /// Server-sent events of an HTTP response.
    EventStream,
    /// PUBLISH packets, by the subscriptions of its session.
    Mqtt,
}

/// A connection of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Where it is.
    pub shard: ShardId,
    /// Which it is there.
    pub connection: ConnectionId,
    /// The token that it has shown.
    pub token: u64,
    /// When that is worth nothing any more, in seconds since 1970, if it ever is.
    pub expires_s: Option<u32>,
    /// How it is told.
    pub transport: Transport,
}
