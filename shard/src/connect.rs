//! CONNECT: who may come in, where the session lives, and what the client is told.

use crate::connection::{AliasesOut, Stage};
use crate::map::map_with_seed;
use crate::mesh::mqtt::{Claim, Right, claimed_device};
use crate::mesh::seconds;
use crate::message::{MessageView, Publisher};
use crate::session::{Session, Will};
use crate::shard::{Shard, TimerKey};
use crate::{Close, ConnectionId, DeviceId, Effects, SessionId, SessionKey, ShardId, Span, topic};
use mqtt_v5_codec::{
    Connack, ConnackProperties, Connect, DecodeError, Packet, ReasonCode, Version,
};
use std::num::NonZeroU16;

/// What became of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It was accepted or refused.
    Here,
    /// The session lives on another shard, which will read this packet again.
    Elsewhere,
    /// The client's token is looked at; the packet will be read again.
    Later,
}

/// A client's session.
#[derive(Clone, Copy, Debug)]
struct Taken {
    session: SessionId,
    /// The client had it before.
    is_present: bool,
    /// One that was kept has been ended for it.
    has_ended: bool,
}

/// Never expires.
const FOR_EVER: u32 = u32::MAX;

impl Shard {
    pub(crate) fn on_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        effects: &mut Effects,
    ) -> Admission {
        let Some(connection) = self.connection_mut(id) else {
            return Admission::Here;
        };
        if connection.session().is_some() {
            // [MQTT-3.1.0-2]
            self.fail(id, DecodeError::protocol("a second CONNECT"), effects);
            return Admission::Here;
        }
        connection.version = connect.version;
        connection.packet_bytes_max = connect.properties.maximum_packet_size.unwrap_or(u32::MAX);
        if let Err((reason, detail)) = self.admit(id, connect) {
            self.refuse(id, Some(connect), reason, detail, effects);
            return Admission::Here;
        }
        let assigned = connect.client_id.is_empty().then(|| self.draw_client_id());
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let home = self.placement.client(client_id);
        if home != self.config.shard {
            self.connection_mut(id).expect("alive").stage = Stage::Leaving(home);
            return Admission::Elsewhere;
        }
        let device = match self.claim(id, connect, effects) {
            Claim::Pending => return Admission::Later,
            Claim::Nothing => None,
            Claim::Verified(device) => Some(device),
        };
        // What devices are told comes from the Meshblu API alone, and not when they vanish.
        let has_right = |topic| self.right_to_publish(id, topic) == Right::Ordinary;
        let detail = match &connect.will {
            Some(will) if !has_right(will.topic) => Some("the will's topic is a device's"),
            _ if self.may_have(client_id, device) => None,
            _ => Some("this client identifier is another device's"),
        };
        if let Some(detail) = detail {
            let reason = ReasonCode::NotAuthorized;
            self.refuse(id, Some(connect), reason, detail, effects);
            return Admission::Here;
        }
        let known = self.clients.find(client_id, &self.sessions);
        let key = known.and_then(|index| self.sessions.at(index).kept_key());
        // One that was never promised, since its first CONNACK has not left, may still be lost.
        let is_stalled = self.durable.is_stalled;
        let is_kept = key.is_some_and(|key| !is_stalled || !self.durable.is_fresh(key));
        let known = known.is_some();
        if !known && self.sessions.len() >= self.config.limits.sessions_max {
            self.refuse(
                id,
                Some(connect),
                ReasonCode::QuotaExceeded,
                "too many sessions",
                effects,
            );
            return Admission::Here;
        }
        let asked_s = asked_expiry_s(connect).min(self.config.limits.session_expiry_max_s);
        if asked_s > 0 && self.durable.is_congested() {
            let detail = "too much waits for the store";
            self.refuse(id, Some(connect), ReasonCode::ServerBusy, detail, effects);
            return Admission::Here;
        }
        let is_changed = !is_kept || connect.clean_start || connect.will.is_some();
        let needs_store = (asked_s > 0 && is_changed) || (key.is_some() && connect.clean_start);
        if needs_store && is_stalled {
            let detail = "the store cannot keep a session now";
            self.counters.refused_store += 1;
            self.refuse(
                id,
                Some(connect),
                ReasonCode::QuotaExceeded,
                detail,
                effects,
            );
            return Admission::Here;
        }
        // What nobody in particular had before is not what a device expects to find.
        let had_by = self.had_by(client_id);
        let is_clean = connect.clean_start || (device.is_some() && had_by.is_none());
        let taken = self.take_session(client_id, is_clean, effects);
        let (session, is_present) = (taken.session, taken.is_present);
        self.open(id, session, connect);
        self.log_connected(id, effects);
        self.keep_session(id, taken, effects);
        let is_sent = self.send_connack(
            id,
            session,
            connect,
            assigned.as_deref(),
            is_present,
            effects,
        );
        self.announce_presence(session, true, effects);
        if !is_sent {
            // Not even this fits into what the client allows, and nothing may be sent before it.
            self.close(id, Close::Flush, true, effects);
            return Admission::Here;
        }
        self.pump(session.index, effects);
        Admission::Here
    }

    /// Whether a client may come in; the reason if not.
    fn admit(
        &self,
        id: ConnectionId,
        connect: &Connect<'_>,
    ) -> Result<(), (ReasonCode, &'static str)> {
        use ReasonCode::*;
        if self.stopping.is_some() {
            return Err((ServerUnavailable, "the broker is stopping"));
        }
        if let Some(refusal) = self.turns_away() {
            return Err(refusal);
        }
        if connect.properties.authentication_method.is_some() {
            // [MQTT-4.12.0-1]
            return Err((
                BadAuthenticationMethod,
                "no authentication method is configured",
            ));
        }
        let is_allowed = self.may_be_anonymous(id);
        // A device is let in if its token is right, which is seen later.
        let is_allowed = is_allowed || claimed_device(connect).is_some();
        if !is_allowed && connect.user_name.is_some() {
            return Err((BadUserNameOrPassword, "no such user"));
        }
        if !is_allowed {
            return Err((NotAuthorized, "anonymous clients are not allowed"));
        }
        if connect.client_id.is_empty() && !connect.clean_start && connect.version != Version::V5 {
            // [MQTT-3.1.3-8]
            return Err((
                ClientIdentifierNotValid,
                "an empty client identifier needs clean session",
            ));
        }
        if connect.client_id.is_empty() && connect.version == Version::V31 {
            // 3.1 asks for 1 to 23 characters. More are served; none is not.
            return Err((ClientIdentifierNotValid, "the client identifier is empty"));
        }
        self.admit_will(connect)
    }

    /// Whether a client's will could be published; the reason if not.
    fn admit_will(&self, connect: &Connect<'_>) -> Result<(), (ReasonCode, &'static str)> {
        use ReasonCode::*;
        if let Some(will) = &connect.will {
            if topic::levels(will.topic) > self.config.limits.topic_levels_max {
                return Err((TopicNameInvalid, "the will's topic has too many levels"));
            }
            if will.topic.starts_with("$SYS/") || will.topic.starts_with("$share/") {
                return Err((NotAuthorized, "the will's topic is reserved"));
            }
            if will.properties.payload_format == Some(1)
                && std::str::from_utf8(will.payload).is_err()
            {
                return Err((PayloadFormatInvalid, "the will's payload is not UTF-8"));
            }
        }
        Ok(())
    }

    /// Whether a client that is this device, or none, may have the session of an identifier. What a
    /// device had is its own, and the UUID of a device is nobody else's identifier.
    fn may_have(&self, client_id: &str, device: Option<DeviceId>) -> bool {
        let named = DeviceId::parse(client_id).filter(|_| client_id.len() == 36);
        if device.is_some() && named.is_some() && named != device {
            return false;
        }
        self.had_by(client_id)
            .is_none_or(|had_by| Some(had_by) == device)
    }

    /// The device that has the session of an identifier, if there is a session and it is one's.
    fn had_by(&self, client_id: &str) -> Option<DeviceId> {
        let index = self.clients.find(client_id, &self.sessions)?;
        self.sessions.at(index).device.as_deref().copied()
    }

    /// An identifier that lives on this shard, so that the connection need not move.
    /// [MQTT-3.1.3-6], [MQTT-3.1.3-7]
    fn draw_client_id(&mut self) -> String {
        loop {
            let candidate = format!("auto-{}", self.random.uuid());
            let is_free = self.clients.find(&candidate, &self.sessions).is_none();
            if is_free && self.placement.client(&candidate) == self.config.shard {
                return candidate;
            }
        }
    }

    /// The client's session, old or new; whether it is an old one. [MQTT-3.1.2-4] to
    /// [MQTT-3.1.2-6], [MQTT-3.1.4-3]
    fn take_session(&mut self, client_id: &str, clean_start: bool, effects: &mut Effects) -> Taken {
        if let Some(index) = self.clients.find(client_id, &self.sessions)
            && let Some(old) = self.sessions.at(index).connection
        {
            self.counters.takeovers += 1;
            let detail = "another connection with this client identifier";
            self.disconnect(old, ReasonCode::SessionTakenOver, detail, effects);
        }
        let mut has_ended = false;
        // The takeover may have ended it.
        if let Some(index) = self.clients.find(client_id, &self.sessions) {
            if !clean_start {
                let generation = self.sessions.generation(index);
                return Taken {
                    session: SessionId { index, generation },
                    is_present: true,
                    has_ended: false,
                };
            }
            has_ended = self.sessions.at(index).kept_key().is_some();
            self.end_session(index, effects);
        }
        let (index, generation) = self.sessions.insert(Session::new(client_id));
        self.clients.insert(index, &self.sessions);
        Taken {
            session: SessionId { index, generation },
            is_present: false,
            has_ended,
        }
    }

    /// Joins connection and session, and starts keep-alive.
    fn open(&mut self, id: ConnectionId, session: SessionId, connect: &Connect<'_>) {
        let limits = &self.config.limits;
        let properties = &connect.properties;
        let asked_s = asked_expiry_s(connect);
        let keep_alive_s = limits.keep_alive_s(connect.keep_alive_s);
        let receive_maximum = properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        let device = self.mesh.identity(id).map(|identity| identity.device);
        let live = self.sessions.at_mut(session.index);
        live.connection = Some(id);
        live.device = device.map(Box::new);
        live.expiry_s = asked_s.min(limits.session_expiry_max_s);
        live.expires = None;
        if let Some(timer) = live.timer.take() {
            self.timers.cancel(timer);
        }
        // A will that has not gone out is forgotten: the session goes on. [MQTT-3.1.3-9]
        live.will = will_of(connect, self.config.shard, session);
        let alias_max = properties
            .topic_alias_maximum
            .unwrap_or(0)
            .min(limits.client_alias_max);
        let aliases_out = (alias_max > 0).then(|| AliasesOut {
            aliases: map_with_seed(u64::from(id.index)),
            maximum: alias_max,
        });
        let connection = self.connections[id.index as usize].as_mut().expect("alive");
        connection.stage = Stage::Open(session);
        connection.opened_s = seconds(self.now);
        connection.keep_alive_s = keep_alive_s;
        connection.send_window = receive_maximum.min(limits.in_flight_max);
        let (version, is_websocket) = (connection.version, connection.is_websocket());
        if aliases_out.is_some() {
            connection.extra_mut().aliases_out = aliases_out;
        }
        if let Some(timer) = connection.timer.take() {
            self.timers.cancel(timer);
        }
        if keep_alive_s > 0 {
            let at = self.now + keep_alive_span(keep_alive_s);
            connection.timer = Some(self.timers.schedule(at, TimerKey::Connection(id.index)));
        }
        self.counters.connects_accepted += 1;
        self.counters.clients_connected += 1;
        *self.counters.clients_of(version) += 1;
        self.counters.clients_websocket += u64::from(is_websocket);
        let connected = self.counters.clients_connected;
        self.counters.clients_maximum = self.counters.clients_maximum.max(connected);
    }

    /// Keeps the session from now on, or from now on not. What CONNACK says of it is sent once it
    /// is durable; while the store cannot write, a known session is served as it is.
    fn keep_session(&mut self, id: ConnectionId, taken: Taken, effects: &mut Effects) {
        if !self.durable.is_on() {
            return;
        }
        let index = taken.session.index;
        let live = self.sessions.at_mut(index);
        let is_new = live.key == SessionKey(0);
        let is_promised = self.durable.is_promised() && !self.durable.is_stalled;
        let is_kept = live.expiry_s > 0 || !is_new;
        if is_kept {
            if is_new {
                live.key = SessionKey(self.random.next().max(1));
                self.durable.note_fresh(live.key);
            }
            self.store_session(index, None, is_promised);
        }
        if is_promised && taken.has_ended {
            self.durable.promise();
        }
        if is_promised && (is_kept || taken.has_ended) {
            self.hold(id, effects);
        }
    }

    /// Accepts; whether CONNACK was small enough to be sent.
    fn send_connack(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        connect: &Connect<'_>,
        assigned: Option<&str>,
        session_present: bool,
        effects: &mut Effects,
    ) -> bool {
        let limits = &self.config.limits;
        let granted_s = self.sessions.at(session.index).expiry_s;
        let asked_s = connect.properties.session_expiry_s.unwrap_or(0);
        let keep_alive_s = limits.keep_alive_s(connect.keep_alive_s);
        let wants_response = connect.properties.request_response_information == Some(true);
        let prefix = wants_response
            .then(|| self.response_prefix(&self.sessions.at(session.index).client_id));
        let properties = ConnackProperties {
            session_expiry_s: (granted_s != asked_s).then_some(granted_s),
            receive_maximum: NonZeroU16::new(limits.receive_maximum),
            maximum_packet_size: Some(limits.packet_bytes_max),
            assigned_client_id: assigned,
            topic_alias_maximum: Some(limits.topic_alias_maximum),
            server_keep_alive_s: (keep_alive_s != connect.keep_alive_s).then_some(keep_alive_s),
            response_information: prefix.as_deref(),
            ..Default::default()
        };
        let reason = ReasonCode::Success;
        let connack = Packet::Connack(Connack {
            session_present,
            reason,
            properties,
        });
        self.send(id, &connack, effects)
    }

    /// The prefix of response topics that only this client may subscribe to (MQTT 5.0, 4.10).
    pub(crate) fn response_prefix(&self, client_id: &str) -> String {
        let token = self.placement.token(client_id);
        format!("$reply/{token:016x}/")
    }
}

/// Seconds that the client wants its session to outlive the connection.
fn asked_expiry_s(connect: &Connect<'_>) -> u32 {
    match (connect.version == Version::V5, connect.clean_start) {
        (true, _) => connect.properties.session_expiry_s.unwrap_or(0),
        (false, true) => 0,
        (false, false) => FOR_EVER,
    }
}

/// How long a client may be silent: one and a half times its keep-alive. [MQTT-3.1.2-22]
pub(crate) fn keep_alive_span(keep_alive_s: u16) -> Span {
    Span::from_ms(u64::from(keep_alive_s) * 1_500)
}

fn will_of(connect: &Connect<'_>, shard: ShardId, session: SessionId) -> Option<Box<Will>> {
    let will = connect.will.as_ref()?;
    let mut forwarded = Vec::new();
    will.properties.encode_forwarded(&mut forwarded);
    let view = MessageView {
        topic: will.topic,
        forwarded: &forwarded,
        payload: will.payload,
        qos: will.qos,
        retain: will.retain,
        expires: None,
        // No local holds for wills, too. [MQTT-3.8.3-3]
        publisher: Some(Publisher { shard, session }),
    };
    Some(Box::new(Will {
        message: view.to_message(),
        delay_s: will.delay_s,
        expiry_s: will.properties.message_expiry_s,
        due: None,
    }))
}
