//! The list of MQTT clients: their sessions, connected or not.

use super::{Collector, Rows, Traffic};
use crate::session::Session;
use crate::shard::Shard;
use crate::{DeviceId, Effects, Listener, Time};
use mqtt_v5_codec::Version;
use std::net::{IpAddr, SocketAddr};

/// Which clients are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFilter {
    /// The client identifier begins with this.
    pub prefix: Option<Box<str>>,
    /// The session is this device's.
    pub device: Option<DeviceId>,
    /// The connection comes from this address.
    pub peer: Option<IpAddr>,
    /// The connection speaks this version.
    pub version: Option<Version>,
    /// Whether it has a connection.
    pub is_connected: Option<bool>,
    /// So many bytes wait for it at least: [`ClientRow::waiting_bytes`].
    pub waiting_bytes_min: u64,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRow {
    /// Its client identifier.
    pub client_id: Box<str>,
    /// The device whose token it has shown.
    pub device: Option<DeviceId>,
    /// Its connection, if it is connected.
    pub connection: Option<ClientConnection>,
    /// Seconds that the session outlives its connection; 0xFFFF_FFFF for ever.
    pub expiry_s: u32,
    /// When the session expires, while it is not connected.
    pub expires: Option<Time>,
    /// Subscriptions, shared ones included.
    pub subscriptions: u32,
    /// Messages sent to it and not acknowledged.
    pub in_flight: u32,
    /// Messages in its queue, those in the store alone included.
    pub queue_messages: u64,
    /// Bytes of its queue, those in the store alone included.
    pub queue_bytes: u64,
}

impl ClientRow {
    /// Bytes that wait for it: in its queue, and on the way to its socket.
    pub fn waiting_bytes(&self) -> u64 {
        let output = self.connection.as_ref().map_or(0, |c| c.output_bytes);
        self.queue_bytes + output
    }
}

/// The connection of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConnection {
    /// What it speaks.
    pub version: Version,
    /// Which listener it came by: HTTP for MQTT over WebSocket.
    pub listener: Listener,
    /// The other end.
    pub peer: SocketAddr,
    /// When CONNECT was accepted, in whole seconds.
    pub since: Time,
    /// Seconds; 0 for none.
    pub keep_alive_s: u16,
    /// Bytes of output that the kernel has not taken.
    pub output_bytes: u64,
    /// Whether we do not read what it sends, because something must catch up.
    pub is_paused: bool,
    /// What it has carried.
    pub traffic: Traffic,
}

impl Shard {
    pub(super) fn list_clients(
        &self,
        from: u32,
        limit: u32,
        filter: &ClientFilter,
        effects: &Effects,
    ) -> Rows<ClientRow> {
        let mut collector = Collector::new(limit);
        let end = self.sessions.end();
        let mut index = from;
        while index < end && collector.may_look() {
            let session = self.sessions.peek(index);
            index += 1;
            let Some(session) = session.filter(|session| self.is_wanted(session, filter)) else {
                continue;
            };
            let row = self.client_row(session, effects);
            if row.waiting_bytes() >= filter.waiting_bytes_min {
                collector.push(row, session.client_id.len());
            }
        }
        collector.finish((index < end).then_some(index))
    }

    fn is_wanted(&self, session: &Session, filter: &ClientFilter) -> bool {
        let connection = session.connection.and_then(|id| self.connection(id));
        let is = |wanted: bool, holds: bool| !wanted || holds;
        !session.is_ending
            && filter
                .prefix
                .as_deref()
                .is_none_or(|prefix| session.client_id.starts_with(prefix))
            && is(
                filter.device.is_some(),
                session.device.as_deref() == filter.device.as_ref(),
            )
            && filter.peer.is_none_or(|peer| {
                connection.is_some_and(|c| c.peer.ip().to_canonical() == peer.to_canonical())
            })
            && is(
                filter.version.is_some(),
                connection.map(|c| c.version) == filter.version,
            )
            && filter
                .is_connected
                .is_none_or(|is_connected| connection.is_some() == is_connected)
    }

    /// What a list says of a session.
    pub(super) fn client_row(&self, session: &Session, effects: &Effects) -> ClientRow {
        let outbound = session.outbound.as_deref();
        ClientRow {
            client_id: session.client_id.clone(),
            device: session.device.as_deref().copied(),
            connection: session.connection.and_then(|id| {
                let connection = self.connection(id)?;
                Some(ClientConnection {
                    version: connection.version,
                    listener: connection.listener,
                    peer: connection.peer,
                    since: Time(u64::from(connection.opened_s) * 1_000_000),
                    keep_alive_s: connection.keep_alive_s,
                    output_bytes: effects.pending_bytes(id) as u64,
                    is_paused: connection.paused_for != 0,
                    traffic: connection.traffic,
                })
            }),
            expiry_s: session.expiry_s,
            expires: session.expires,
            subscriptions: session.subscription_count() as u32,
            in_flight: outbound.map_or(0, |outbound| outbound.window.len() as u32),
            queue_messages: outbound.map_or(0, |outbound| outbound.queue_len() as u64),
            queue_bytes: outbound.map_or(0, |outbound| outbound.all_bytes() as u64),
        }
    }
}
