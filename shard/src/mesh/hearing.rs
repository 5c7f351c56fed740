//! Connections of this shard that have shown a device's token, and how they are told of events.
//!
//! Bounded: output of one connection by `Limits::output_bytes_max`. What comes beyond it is dropped
//! and counted, and a connection that stays behind for `Limits::slow_subscriber_ms` is closed.

use super::call::Actor;
use super::emission::{EventKind, MeshEvent};
use super::live::{Live, Transport};
use super::registry::spend;
use super::{Mesh, seconds};
use crate::message::{LazyMessage, MessageView, Publisher};
use crate::pending::Ticket;
use crate::{Close, ConnectionId, DeviceId, Effects, Frame, Shard, ShardId, Span, Time};
use http::{BodyStream, Opcode};
use mqtt_v5_codec::{QoS, ReasonCode};
use std::sync::Arc;

/// What a connection of this shard has shown itself to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Which device.
    pub device: DeviceId,
    /// By which of its tokens.
    pub token: u64,
    /// How it is told of events.
    pub transport: Transport,
    /// The response that events are part of, of an event stream.
    pub stream: Option<BodyStream>,
    /// The window of the connection's own rate limit.
    pub rate: (u32, u32),
    /// Since when events have been dropped because it does not read.
    pub behind_since: Option<Time>,
}

impl Identity {
    /// Of a connection that has just shown a token.
    pub fn new(device: DeviceId, token: u64, transport: Transport) -> Identity {
        Identity {
            device,
            token,
            transport,
            stream: None,
            rate: (0, 0),
            behind_since: None,
        }
    }
}

impl Identity {
    /// Who asks, in a request that comes by the connection.
    pub fn actor(&self) -> Actor {
        Actor::Known {
            device: self.device,
            token: self.token,
        }
    }
}

impl Mesh {
    /// What a connection of this shard has shown itself to be.
    pub fn identity(&self, id: ConnectionId) -> Option<&Identity> {
        self.identities.get(&id.index)
    }
}

impl Shard {
    /// Counts a message of a connection; `Err` with the seconds to wait if there were too many.
    pub(crate) fn spend_message(&mut self, id: ConnectionId) -> Result<(), u32> {
        let (now_s, mesh) = (seconds(self.now), &self.config.mesh);
        match self.mesh.identities.get_mut(&id.index) {
            Some(identity) => spend(
                &mut identity.rate,
                now_s,
                mesh.rate_window_s,
                mesh.rate_limit,
            ),
            None => Ok(()),
        }
    }

    /// A connection of this shard is gone: the owner of its device need not tell it anything.
    pub(crate) fn forget_identity(&mut self, id: ConnectionId, effects: &mut Effects) {
        self.mesh.revoked_early.remove(&id.index);
        if let Some(identity) = self.mesh.identities.remove(&id.index) {
            self.detach_from(identity.device, id, effects);
        }
    }

    /// A connection of a device of this shard is gone.
    pub(crate) fn on_detach(&mut self, from: ShardId, device: DeviceId, connection: ConnectionId) {
        self.mesh.registry.detach(device, |live| {
            live.shard == from && live.connection == connection
        });
    }

    /// Tells all connections of a device of this shard.
    pub(super) fn tell_connections(
        &mut self,
        device: DeviceId,
        event: &Arc<MeshEvent>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let mut at = 0;
        while let Some(live) = self.live_at(device, at) {
            self.tell_live(live, event, effects);
            // One that was too slow has been closed, and another is in its place.
            at += usize::from(self.live_at(device, at) == Some(live));
        }
        self.publish_event(device, event, ticket, effects);
        self.publish_wrapped(device, event, ticket, effects);
    }

    /// One of a device's connections.
    fn live_at(&self, device: DeviceId, at: usize) -> Option<Live> {
        let entry = self.mesh.registry.find(device)?;
        entry.live.get(at).copied()
    }

    fn tell_live(&mut self, live: Live, event: &Arc<MeshEvent>, effects: &mut Effects) {
        if live.transport == Transport::Mqtt {
            return; // By its subscriptions.
        }
        if live.shard == self.config.shard {
            self.tell_connection(live.connection, event, effects);
        } else if self.lanes.is_overfull(live.shard, effects) {
            self.counters.dropped_lane_full += 1;
        } else {
            let tell = Frame::Tell {
                connection: live.connection,
                event: Arc::clone(event),
            };
            self.lanes.send(live.shard, tell, effects);
        }
    }

    /// Publishes an event on a device's own topic, to sessions of that device alone.
    fn publish_event(
        &mut self,
        device: DeviceId,
        event: &Arc<MeshEvent>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let topic = format!("{device}/{}", event.kind.topic());
        let mut lazy = LazyMessage::new(MessageView {
            topic: &topic,
            forwarded: &[],
            payload: &event.body,
            qos: QoS::AtLeastOnce,
            retain: false,
            expires: None,
            publisher: Some(Publisher::MESH),
        });
        self.route_here(&mut lazy, ticket, effects);
    }

    /// Tells a socket of this shard, if it still is there.
    pub(crate) fn tell_connection(
        &mut self,
        id: ConnectionId,
        event: &MeshEvent,
        effects: &mut Effects,
    ) {
        if self.connection(id).is_none() {
            return;
        }
        let Some(identity) = self.mesh.identities.get_mut(&id.index) else {
            return;
        };
        if effects.pending_bytes(id) > self.config.limits.output_bytes_max {
            self.counters.dropped_output_full += 1;
            let limit = Span::from_ms(self.config.limits.slow_subscriber_ms);
            let since = *identity.behind_since.get_or_insert(self.now);
            let connection = self.connection_mut(id).expect("just seen");
            connection.traffic.dropped += 1;
            if since + limit <= self.now {
                self.counters.slow_subscribers_closed += 1;
                let why = "events are not read fast enough";
                self.end_connection(id, ReasonCode::QuotaExceeded, why, effects);
            }
            return;
        }
        identity.behind_since = None;
        self.counters.mesh_delivered += 1;
        let out = effects.outbox(id);
        match identity.transport {
            Transport::Socket => {
                http::write_frame_header(out, Opcode::Text, event.frame.len());
                out.extend_from_slice(&event.frame);
            }
            Transport::EventStream => {
                let stream = identity.stream.expect("a stream has begun");
                stream.write_event(out, &event.frame);
            }
            Transport::Mqtt => unreachable!("told by its subscriptions"),
        }
        self.counters.bytes_sent += event.frame.len() as u64;
        let connection = self.connection_mut(id).expect("just seen");
        connection.traffic.send(event.frame.len());
    }

    /// Ends a connection of a device, wherever it is: its token or its device is no more.
    pub(super) fn end_live(&mut self, live: Live, device: DeviceId, effects: &mut Effects) {
        self.mesh.registry.detach(device, |known| *known == live);
        match live.shard == self.config.shard {
            true => self.on_revoked(live.connection, effects),
            false => {
                let connection = live.connection;
                self.lanes
                    .send(live.shard, Frame::Revoked { connection }, effects);
            }
        }
    }

    /// The token that a connection of this shard has shown is worth nothing any more.
    pub(crate) fn on_revoked(&mut self, id: ConnectionId, effects: &mut Effects) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        if let Some(session) = connection.session() {
            // Nobody speaks for the device any more.
            self.sessions.at_mut(session.index).will = None;
        }
        if self.mesh.identities.remove(&id.index).is_none() {
            // The owner's yes is still on its way.
            self.mesh.revoked_early.insert(id.index);
            return;
        }
        let why = "the token has been revoked or has expired";
        self.end_connection(id, ReasonCode::NotAuthorized, why, effects);
    }

    /// Notes what a connection has shown itself to be. Returns whether that still holds: its token
    /// may have been revoked since the owner has seen it.
    pub(super) fn identify(&mut self, id: ConnectionId, identity: Identity) -> bool {
        if self.mesh.revoked_early.remove(&id.index) {
            return false;
        }
        self.mesh.identities.insert(id.index, identity);
        true
    }

    /// Closes a connection of a device with a reason that its protocol can carry.
    pub(crate) fn end_connection(
        &mut self,
        id: ConnectionId,
        reason: ReasonCode,
        why: &str,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        if connection.session().is_some() {
            return self.disconnect(id, reason, why, effects);
        }
        let is_websocket = connection.is_websocket();
        self.log_close(id, reason, why, effects);
        if is_websocket {
            return self.end_websocket(id, 1008, why, effects);
        }
        self.close(id, Close::Flush, false, effects);
    }
}

impl EventKind {
    /// Whether clients of MQTT may publish to the topic of this kind: to be sent, not to be heard.
    pub(crate) fn of_topic(name: &str) -> Option<EventKind> {
        [
            EventKind::Message,
            EventKind::Broadcast,
            EventKind::Config,
            EventKind::Unregistered,
        ]
        .into_iter()
        .find(|kind| kind.topic() == name)
    }
}
