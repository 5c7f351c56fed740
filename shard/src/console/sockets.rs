//! The list of connections that hear what happens to devices and are no MQTT clients: FreshBlu's
//! WebSockets, and streams of events.

use super::{ClientFilter, Collector, Removal, Rows};
use crate::connection::{Connection, Stage, Traffic};
use crate::shard::Shard;
use crate::{ConnectionId, DeviceId, Effects, Listener, ShardId, Time};
use mqtt_v5_codec::ReasonCode;
use std::net::SocketAddr;

/// What such a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// FreshBlu's frames over WebSocket.
    WebSocket,
    /// Server-sent events, the answer to GET /subscribe.
    Events,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketRow {
    /// The shard that holds it.
    pub shard: ShardId,
    /// Its name there, which no other connection will have for a long time.
    pub connection: ConnectionId,
    /// What it speaks.
    pub kind: SocketKind,
    /// The device whose token it has shown; none of a WebSocket that has not shown any yet.
    pub device: Option<DeviceId>,
    /// Which listener it came by.
    pub listener: Listener,
    /// The other end.
    pub peer: SocketAddr,
    /// When it began, in whole seconds.
    pub since: Time,
    /// When something came last.
    pub received: Time,
    /// Bytes of output that the kernel has not taken.
    pub output_bytes: u64,
    /// Whether we do not read what it sends, because something must catch up.
    pub is_paused: bool,
    /// What it has carried: frames and events, and their bytes.
    pub traffic: Traffic,
}

impl Shard {
    pub(super) fn list_sockets(
        &self,
        from: u32,
        limit: u32,
        (kind, filter): (Option<SocketKind>, &ClientFilter),
        effects: &Effects,
    ) -> Rows<SocketRow> {
        let mut collector = Collector::new(limit);
        let end = self.connections.len() as u32;
        let mut index = from;
        while index < end && collector.may_look() {
            let row = self.socket_at(index, effects);
            index += 1;
            let is_wanted = |row: &SocketRow| {
                kind.is_none_or(|kind| row.kind == kind)
                    && (filter.device.is_none() || row.device == filter.device)
                    && filter
                        .peer
                        .is_none_or(|peer| row.peer.ip().to_canonical() == peer.to_canonical())
                    && row.output_bytes >= filter.waiting_bytes_min
            };
            if let Some(row) = row.filter(is_wanted) {
                collector.push(row, 0);
            }
        }
        collector.finish((index < end).then_some(index))
    }

    pub(super) fn describe_socket(&self, id: ConnectionId, effects: &Effects) -> Option<SocketRow> {
        self.connection(id)?;
        self.socket_at(id.index, effects)
    }

    pub(super) fn remove_socket(&mut self, id: ConnectionId, effects: &mut Effects) -> Removal {
        let is_known = self.describe_socket(id, effects).is_some();
        if is_known {
            let reason = ReasonCode::AdministrativeAction;
            self.end_connection(id, reason, "an operator has closed it", effects);
        }
        Removal {
            is_known,
            was_connected: is_known,
            has_ended: is_known,
        }
    }

    fn socket_at(&self, index: u32, effects: &Effects) -> Option<SocketRow> {
        let connection: &Connection = self.connections.get(index as usize)?.as_ref()?;
        let generation = connection.generation;
        let id = ConnectionId { index, generation };
        let identity = self.mesh.identity(id);
        let kind = match connection.stage {
            Stage::Socket => SocketKind::WebSocket,
            Stage::Http if identity.is_some_and(|identity| identity.stream.is_some()) => {
                SocketKind::Events
            }
            _ => return None,
        };
        Some(SocketRow {
            shard: self.config.shard,
            connection: id,
            kind,
            device: identity.map(|identity| identity.device),
            listener: connection.listener,
            peer: connection.peer,
            since: Time(u64::from(connection.opened_s) * 1_000_000),
            received: connection.received_at,
            output_bytes: effects.pending_bytes(id) as u64,
            is_paused: connection.paused_for != 0,
            traffic: connection.traffic,
        })
    }
}
