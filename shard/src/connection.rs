//! One transport stream, as the shard that holds it sees it.
//!
//! Always: at most one connection per session, and each open one has exactly one timer, for the
//! connect timeout or for keep-alive. `partial` is bounded by one packet plus one receive.

use crate::map::Map;
use crate::mesh::exchange::Exchange;
use crate::mesh::socket::Verb;
use crate::shard::pause;
use crate::timers::TimerId;
use crate::{Listener, SessionId, ShardId, Time};
use http::Decoder;
use mqtt_v5_codec::Version;
use std::net::SocketAddr;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// An HTTP request head is expected.
    Http,
    /// CONNECT is expected.
    AwaitConnect,
    /// A WebSocket of FreshBlu's kind.
    Socket,
    /// CONNECT has come, and belongs to this other shard.
    Leaving(ShardId),
    /// CONNECT has been accepted.
    Open(SessionId),
}

/// What a connection has carried since it was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages that came by it.
    pub received: u64,
    /// Bytes of their payloads.
    pub received_bytes: u64,
    /// Messages that went out by it.
    pub sent: u64,
    /// Bytes of their payloads.
    pub sent_bytes: u64,
    /// Messages for it that were dropped: it did not read, or they were too large for it.
    pub dropped: u64,
}

impl Traffic {
    /// A message came.
    pub fn receive(&mut self, bytes: usize) {
        self.received += 1;
        self.received_bytes += bytes as u64;
    }

    /// A message went out.
    pub fn send(&mut self, bytes: usize) {
        self.sent += 1;
        self.sent_bytes += bytes as u64;
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// The driver's generation for this slot.
    pub generation: u32,
    /// How far it has come.
    pub stage: Stage,
    /// As negotiated; 3.1.1 before that.
    pub version: Version,
    /// Which listener it came by.
    pub listener: Listener,
    /// Why the shard does not want to read (bits of `shard::pause`); what arrives is then kept.
    pub paused_for: u8,
    /// Seconds; 0 for none.
    pub keep_alive_s: u16,
    /// The client's Receive Maximum, at most ours for it.
    pub send_window: u16,
    /// When CONNECT was accepted, or a device's socket or stream of events began, in seconds of the
    /// Unix epoch; 0 before that.
    pub opened_s: u32,
    /// What it has carried.
    pub traffic: Traffic,
    /// Bytes; the client takes no larger packet.
    pub packet_bytes_max: u32,
    /// The pending timer.
    pub timer: Option<TimerId>,
    /// When the last whole packet arrived, or reading was resumed: keep-alive counts packets.
    pub received_at: Time,
    /// Bytes of a packet that is not complete, or that wait while reading is paused.
    pub partial: Vec<u8>,
    /// What few connections have.
    pub extra: Option<Box<Extra>>,
    /// The other end.
    pub peer: SocketAddr,
}

/// What few connections have.
#[derive(Debug, Default)]
pub struct Extra {
    /// MQTT is carried in WebSocket frames.
    pub websocket: Option<WebSocket>,
    /// How far it is with its HTTP requests.
    pub http: Option<Box<Exchange>>,
    /// The frame of a FreshBlu socket that waits for its answer.
    pub socket_call: Option<Verb>,
    /// Topics that the client gave an alias; index is alias minus one. [MQTT-3.3.2-8]
    pub aliases_in: Vec<Option<Box<str>>>,
    /// Aliases that we gave topics.
    pub aliases_out: Option<AliasesOut>,
}

/// The state of a WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    /// Takes frames apart.
    pub decoder: Decoder,
    /// Raw bytes not decoded yet: a cut frame, or what waits while reading is paused.
    pub undecoded: Vec<u8>,
}

/// Aliases that we gave topics: first come, first served, up to the client's maximum.
#[derive(Debug)]
pub struct AliasesOut {
    /// Topic to alias.
    pub aliases: Map<Box<str>, u16>,
    /// The client's Topic Alias Maximum, at most ours.
    pub maximum: u16,
}

impl Connection {
    /// A connection of which nothing is known but where it came from.
    pub fn new(generation: u32, listener: Listener, peer: SocketAddr, now: Time) -> Connection {
        Connection {
            generation,
            stage: match listener {
                Listener::Mqtt => Stage::AwaitConnect,
                Listener::Http | Listener::HttpAs(_) => Stage::Http,
            },
            version: Version::V311,
            listener,
            paused_for: 0,
            keep_alive_s: 0,
            send_window: u16::MAX,
            opened_s: 0,
            traffic: Traffic::default(),
            packet_bytes_max: u32::MAX,
            timer: None,
            received_at: now,
            partial: Vec::new(),
            extra: None,
            peer,
        }
    }

    /// Its session, once CONNECT has been accepted.
    pub fn session(&self) -> Option<SessionId> {
        match self.stage {
            Stage::Open(session) => Some(session),
            Stage::Http | Stage::AwaitConnect | Stage::Socket | Stage::Leaving(_) => None,
        }
    }

    /// Whether we have stopped reading for a reason that is not the client's.
    pub fn is_unread(&self) -> bool {
        self.paused_for & (pause::LANE | pause::OWED | pause::STORE) != 0
    }

    /// Whether output must be wrapped in WebSocket frames.
    pub fn is_websocket(&self) -> bool {
        self.extra
            .as_ref()
            .is_some_and(|extra| extra.websocket.is_some())
    }

    /// What few connections have, made at first use.
    pub fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }
}
