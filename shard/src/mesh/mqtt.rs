//! Devices that speak MQTT: CONNECT with a UUID and a token, and who may use which topics.
//!
//! A device publishes to `{uuid}/message` (or just `{uuid}`) and `{uuid}/broadcast`, where `{uuid}`
//! is its own, and hears on `{uuid}/message`, `/broadcast`, `/config` and `/unregistered`. What it
//! publishes there is not passed on as it is: it is a request like any other, so nothing is echoed.
//!
//! On another device's `message` and `broadcast` topic it publishes on behalf of that device, if it has
//! its leave (`message.as`, `broadcast.as`).
//!
//! Always: nobody but the device itself subscribes to its topics with these names, and a device names
//! no other topic of another one, nor hears what is published or retained there by a wildcard. What it
//! shares with others says its first level, since a group is told as one. A session that a device had
//! is for that device alone.

use super::call::{Actor, Call, CallOrigin, Done, Op, Outcome};
use super::emission::EventKind;
use super::hearing::Identity;
use super::live::Transport;
use crate::pending::Ticket;
use crate::shard::{TimerKey, pause};
use crate::{ConnectionId, DeviceId, Effects, Frame, SessionId, Shard, ShardId, Span, topic};
use meshblu::{Outgoing, Refusal};
use mqtt_v5_codec::{Connect, Publish, QoS, ReasonCode};

/// How long a client may wait until its token has been looked at. Hashes that are slow on purpose wait
/// for each other when many devices come at once.
const VERIFICATION: Span = Span::from_s(60);

/// What becomes of a PUBLISH to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// It goes to whoever has subscribed.
    Ordinary,
    /// It is a message of the device.
    Send(DeviceId, EventKind),
    /// It is a message on behalf of another device, if that allows it.
    SendAs(DeviceId, EventKind),
    /// The client may not.
    Denied,
}

/// What a CONNECT says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing that we know: no UUID as user name.
    Nothing,
    /// It is this device, which has been verified.
    Verified(DeviceId),
    /// It is looked at; the packet is to be read again afterwards.
    Pending,
}

/// The device that a CONNECT names.
pub(crate) fn claimed_device(connect: &Connect<'_>) -> Option<(DeviceId, Box<str>)> {
    let device = DeviceId::parse(connect.user_name?)?;
    let token = std::str::from_utf8(connect.password?).ok()?;
    Some((device, token.into()))
}

impl Shard {
    /// Has the token of a CONNECT verified, if it shows one, and reads no further meanwhile.
    pub(crate) fn claim(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        effects: &mut Effects,
    ) -> Claim {
        let Some((device, token)) = claimed_device(connect) else {
            return Claim::Nothing;
        };
        if let Some(identity) = self.mesh.identity(id) {
            assert_eq!(identity.device, device, "the same packet once more");
            return Claim::Verified(device);
        }
        self.pause(id, pause::CALL, effects);
        let timer = self
            .timers
            .schedule(self.now + VERIFICATION, TimerKey::Connection(id.index));
        let connection = self.connection_mut(id).expect("just paused");
        if let Some(old) = connection.timer.replace(timer) {
            self.timers.cancel(old);
        }
        let call = Call {
            actor: Actor::Claimed { device, token },
            acting_as: None,
            op: Op::Listen {
                connection: id,
                transport: Transport::Mqtt,
            },
        };
        // If the answer is known at once, the packet is not among what was received.
        self.mesh.claiming = Some((id, connect.client_id.into(), device));
        self.start_call(CallOrigin::Connect(id), call, effects);
        self.mesh.claiming = None;
        Claim::Pending
    }

    /// It is known whether a client is the device that it says.
    pub(crate) fn on_connect_verified(
        &mut self,
        id: ConnectionId,
        outcome: Outcome,
        effects: &mut Effects,
    ) {
        let is_alive = self.connection(id).is_some();
        match outcome {
            Ok(Done::Listening { device, .. }) if !is_alive => {
                self.detach_from(device, id, effects);
            }
            _ if !is_alive => {}
            Ok(Done::Listening { device, token, .. }) => {
                let identity = Identity::new(device, token, Transport::Mqtt);
                match self.identify(id, identity) {
                    true => self.resume(id, pause::CALL, effects),
                    false => {
                        let outcome = Err(Refusal::Unauthorized);
                        self.on_connect_verified(id, outcome, effects);
                    }
                }
            }
            Ok(other) => unreachable!("no outcome of CONNECT: {other:?}"),
            Err(refusal) => {
                let (reason, why) = match refusal {
                    Refusal::Busy => (ReasonCode::ServerBusy, "too much is under way"),
                    Refusal::RateLimited { .. } => (
                        ReasonCode::ConnectionRateExceeded,
                        "too many requests of the device, or failed logins from its address",
                    ),
                    _ => (
                        ReasonCode::BadUserNameOrPassword,
                        "no such device, or not its token",
                    ),
                };
                self.refuse(id, None, reason, why, effects);
            }
        }
    }

    /// The owner of a device was told of a connection that is gone.
    pub(super) fn detach_from(
        &mut self,
        device: DeviceId,
        connection: ConnectionId,
        effects: &mut Effects,
    ) {
        let owner = self.placement.device(device);
        match owner == self.config.shard {
            true => self.on_detach(owner, device, connection),
            false => {
                let detach = Frame::Detach { device, connection };
                self.lanes.send(owner, detach, effects);
            }
        }
    }

    /// What becomes of a PUBLISH of this connection to a topic.
    pub(crate) fn right_to_publish(&self, id: ConnectionId, topic: &str) -> Right {
        let me = self.mesh.identity(id).map(|identity| identity.device);
        let Some(uuid) = topic::device_uuid(topic) else {
            return match self.config.mesh.has_free_topics {
                true => Right::Ordinary,
                false => Right::Denied,
            };
        };
        let device = DeviceId(uuid);
        let kind = match topic.get(37..) {
            Some(name) => EventKind::of_topic(name),
            // For others than devices it is a topic like any other.
            None => me.map(|_| EventKind::Message),
        };
        match (kind, me) {
            (Some(kind @ (EventKind::Message | EventKind::Broadcast)), Some(me))
                if me == device =>
            {
                Right::Send(device, kind)
            }
            (Some(kind @ (EventKind::Message | EventKind::Broadcast)), Some(_)) => {
                Right::SendAs(device, kind)
            }
            (Some(_), _) => Right::Denied,
            (None, Some(me)) if me != device => Right::Denied,
            (None, _) => Right::Ordinary,
        }
    }

    /// Whether a session may subscribe to a filter, as far as devices are concerned.
    pub(crate) fn may_hear(&self, session: SessionId, filter: &str) -> bool {
        let me = self.sessions.at(session.index).device.as_deref();
        let Some(uuid) = topic::device_uuid(filter) else {
            return self.config.mesh.has_free_topics;
        };
        match me {
            // Events have it in small letters.
            Some(me) => me.0 == uuid && filter[..36] == *me.to_string(),
            // Ordinary topics below a UUID; what devices hear is not given to others anyway.
            None => filter
                .get(37..)
                .is_none_or(|name| EventKind::of_topic(name).is_none()),
        }
    }

    /// Whether a session may share a subscription: that of a device names no topics of others.
    pub(crate) fn may_share(&self, session: SessionId, filter: &str) -> bool {
        let is_device = self.sessions.at(session.index).device.is_some();
        !(is_device && filter.starts_with(['#', '+']))
    }

    /// Whether a topic belongs to a device, and the session to another one.
    pub(crate) fn is_of_another(&self, session: u32, topic: &str) -> bool {
        let me = self.sessions.at(session).device.as_deref();
        me.is_some_and(|me| topic::device_uuid(topic).is_some_and(|of| of != me.0))
    }

    /// What a device has published is its message; errs if it makes no sense.
    pub(crate) fn read_published(
        &mut self,
        id: ConnectionId,
        device: DeviceId,
        kind: EventKind,
        payload: &[u8],
    ) -> Result<Outgoing, ReasonCode> {
        if self.spend_message(id).is_err() {
            self.counters.mesh_rate_limited += 1;
            return Err(ReasonCode::MessageRateTooHigh);
        }
        let limit = self.config.mesh.message_bytes_max;
        let outgoing = match kind {
            EventKind::Broadcast => Outgoing::broadcast_payload(payload, device, limit),
            _ => Outgoing::parse(payload, device, limit),
        };
        outgoing.map_err(|refusal| {
            self.counters.mesh_refused += 1;
            match refusal {
                Refusal::TooLarge => ReasonCode::PacketTooLarge,
                _ => ReasonCode::PayloadFormatInvalid,
            }
        })
    }

    /// Sends what a device has published on behalf of another; it is acknowledged when it is known
    /// what came of that.
    pub(crate) fn publish_as(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        (subject, kind): (DeviceId, EventKind),
        effects: &mut Effects,
    ) -> Result<(), ReasonCode> {
        let identity = *self.mesh.identity(id).expect("only devices act as others");
        serde_json::from_slice::<serde::de::IgnoredAny>(publish.payload)
            .map_err(|_| ReasonCode::PayloadFormatInvalid)?;
        let op = match kind {
            EventKind::Broadcast => {
                let body = [b"{\"payload\":", publish.payload, b"}"].concat();
                Op::Broadcast { body: body.into() }
            }
            _ => Op::Message {
                body: publish.payload.into(),
            },
        };
        let sequence = publish.packet_id.map(|packet_id| {
            let inbound = self.sessions.at_mut(session.index).inbound_mut();
            if publish.qos == QoS::ExactlyOnce {
                inbound.remember(packet_id);
            }
            inbound.owe(packet_id, publish.qos, 0)
        });
        let call = Call {
            actor: identity.actor(),
            acting_as: Some(subject),
            op,
        };
        let origin = CallOrigin::Published {
            connection: id,
            session,
            sequence,
        };
        self.start_call(origin, call, effects);
        self.pause_if_owing(id, session, effects);
        Ok(())
    }

    /// What came of a message on behalf of another device.
    pub(super) fn on_published_as(
        &mut self,
        session: SessionId,
        sequence: Option<u32>,
        outcome: Outcome,
        batch: u64,
        effects: &mut Effects,
    ) {
        let Some(sequence) = sequence else { return };
        let reason = match outcome {
            Ok(_) => ReasonCode::Success,
            Err(Refusal::TooLarge) => ReasonCode::PacketTooLarge,
            Err(Refusal::RateLimited { .. }) => ReasonCode::MessageRateTooHigh,
            Err(Refusal::Busy) => ReasonCode::QuotaExceeded,
            Err(Refusal::Malformed(_) | Refusal::Invalid(_)) => ReasonCode::PayloadFormatInvalid,
            Err(_) => ReasonCode::NotAuthorized,
        };
        self.settle_publish(session, sequence, reason, batch, effects);
    }

    /// Sends what a device has published. Returns a shard that the sender had better wait for.
    pub(crate) fn send_published(
        &mut self,
        device: DeviceId,
        outgoing: &Outgoing,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) -> Option<ShardId> {
        ticket.matched = true;
        self.emit_message(device, outgoing, ticket, effects);
        // Those who subscribed live anywhere.
        let mut shards = (0..self.config.shards).map(ShardId);
        shards.find(|to| self.lanes.is_congested(*to, effects))
    }
}
