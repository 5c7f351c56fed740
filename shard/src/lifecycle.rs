//! The ends of things: a connection leaves its session, a session expires, a will goes out, time
//! runs out, the broker stops.

use crate::connect::keep_alive_span;
use crate::connection::Stage;
use crate::message::{LazyMessage, MessageView};
use crate::outbound::{Kept, Step};
use crate::pending::{Origin, Ticket};
use crate::shard::{STEPS_PER_TICK, Shard, TimerKey, pause};
use crate::{
    Change, Close, ConnectionId, Effect, Effects, SessionId, SessionKey, Span, StoredSession,
    StoredWill, Time,
};
use mqtt_v5_codec::{DecodeError, Disconnect, QoS, ReasonCode, Version};
use std::sync::Arc;

/// Never expires.
const FOR_EVER: u32 = u32::MAX;

/// How many times `slow_subscriber_ms` a subscriber may hold up others while it does move.
const PATIENCE: u64 = 3;

/// When a session ends whose client left at this time.
pub(crate) fn expires(left: Time, expiry_s: u32) -> Option<Time> {
    (expiry_s != FOR_EVER).then(|| left + Span::from_s(u64::from(expiry_s)))
}

impl Shard {
    pub(crate) fn on_disconnect(
        &mut self,
        id: ConnectionId,
        disconnect: &Disconnect<'_>,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let Some(session) = connection.session() else {
            return;
        };
        let is_v5 = connection.version == Version::V5;
        let live = self.sessions.at_mut(session.index);
        if let Some(expiry_s) = disconnect.properties.session_expiry_s {
            if live.expiry_s == 0 && expiry_s != 0 {
                // [MQTT-3.1.2-11.2]: a session that was to end cannot be kept after all.
                let error = DecodeError::protocol("session expiry was 0 in CONNECT");
                return self.fail(id, error, effects);
            }
            live.expiry_s = expiry_s.min(self.config.limits.session_expiry_max_s);
        }
        self.log_left(id, Some(disconnect.reason), effects);
        // [MQTT-3.14.4-3]; any other reason than a normal one leaves the will in place.
        let with_will = is_v5 && disconnect.reason != ReasonCode::Success;
        self.close(id, Close::Flush, with_will, effects);
    }

    /// A session has lost its connection, which is already forgotten.
    pub(crate) fn detach(&mut self, id: SessionId, with_will: bool, effects: &mut Effects) {
        self.announce_presence(id, false, effects);
        let now = self.now;
        let live = self.sessions.at_mut(id.index);
        live.connection = None;
        live.reads = None;
        if let Some(inbound) = &mut live.inbound {
            inbound.on_disconnect();
        }
        if let Some(outbound) = &mut live.outbound {
            outbound.on_disconnect();
        }
        if !with_will {
            live.will = None;
        }
        // Who waited for room in its queue waits no longer: it is an offline queue now.
        self.settle_deferred(id.index, true, effects);
        let live = self.sessions.at_mut(id.index);
        if live.expiry_s == 0 {
            return self.end_session(id.index, effects);
        }
        live.shrink();
        live.expires = expires(now, live.expiry_s);
        self.store_session(id.index, Some(now), false);
        let live = self.sessions.at_mut(id.index);
        let delay_s = live.will.as_ref().map(|will| will.delay_s);
        if let (Some(will), Some(delay_s)) = (&mut live.will, delay_s) {
            will.due = Some(now + Span::from_s(u64::from(delay_s)));
        }
        self.return_unsent(id.index, effects);
        match delay_s {
            Some(0) if self.stopping.is_none() => self.publish_will(id.index, effects),
            _ => self.schedule_session(id.index),
        }
    }

    /// Shared messages that were never sent to this member go to another one.
    fn return_unsent(&mut self, index: u32, effects: &mut Effects) {
        let Some(outbound) = &mut self.sessions.at_mut(index).outbound else {
            return;
        };
        if outbound
            .queue
            .iter()
            .all(|queued| queued.delivery.group.is_none())
        {
            return;
        }
        let queue = std::mem::take(&mut outbound.queue);
        outbound.queue_bytes = 0;
        let (shared, own): (Vec<_>, Vec<_>) = queue
            .into_iter()
            .partition(|queued| queued.delivery.group.is_some());
        for queued in own {
            outbound.push_queue(queued);
        }
        let session = self.sessions.at(index).kept_key();
        for queued in shared {
            self.counters.stored_messages -= 1;
            self.counters.stored_bytes -= queued.message.bytes() as u64;
            let key = queued.delivery.group.expect("just asked");
            let keeper = (session, queued.kept);
            self.return_to_group(&key, &queued.message, keeper, effects);
        }
    }

    /// Arms the timer of a disconnected session for what comes first: its will or its end.
    pub(crate) fn schedule_session(&mut self, index: u32) {
        let live = self.sessions.at_mut(index);
        let due = live.will.as_ref().and_then(|will| will.due);
        let first = match (due, live.expires) {
            (Some(due), Some(expires)) => Some(due.min(expires)),
            (due, expires) => due.or(expires),
        };
        if let Some(timer) = live.timer.take() {
            self.timers.cancel(timer);
        }
        live.timer = first.map(|at| self.timers.schedule(at, TimerKey::Session(index)));
    }

    pub(crate) fn on_session_timer(&mut self, index: u32, effects: &mut Effects) {
        let now = self.now;
        let live = self.sessions.at_mut(index);
        live.timer = None;
        if self.stopping.is_some() {
            return; // The next process goes on.
        }
        if let Some(connection) = live.connection {
            return self.on_slow_timer(index, connection, effects);
        }
        if live.expires.is_some_and(|at| at <= now) {
            self.counters.sessions_expired += 1;
            return self.end_session(index, effects);
        }
        let due = live.will.as_ref().and_then(|will| will.due);
        if due.is_some_and(|at| at <= now) {
            self.publish_will(index, effects);
        } else {
            self.schedule_session(index);
        }
    }

    /// A subscriber whose queue makes publishers wait is closed once nothing has moved for too
    /// long.
    fn on_slow_timer(&mut self, index: u32, connection: ConnectionId, effects: &mut Effects) {
        let limit = Span::from_ms(self.config.limits.slow_subscriber_ms);
        let live = self.sessions.at_mut(index);
        let Some(since) = live.slow_since else { return };
        // One that moves may take longer, but not for ever: somebody's acknowledgement waits.
        let outbound = live.outbound.as_ref();
        let first = outbound.and_then(|outbound| outbound.deferred_since);
        let last = first.map(|first| first + Span(limit.0 * PATIENCE));
        let end = last.map_or(since + limit, |last| last.min(since + limit));
        if end <= self.now {
            live.slow_since = None;
            self.counters.slow_subscribers_closed += 1;
            let detail = "messages are not acknowledged fast enough";
            return self.disconnect(connection, ReasonCode::QuotaExceeded, detail, effects);
        }
        live.timer = Some(self.timers.schedule(end, TimerKey::Session(index)));
    }

    /// Ends a session: its will goes out if it is still due, what it held for a group goes back,
    /// and its subscriptions are removed in steps. [MQTT-3.1.2-10], [MQTT-4.8.2-6]
    pub(crate) fn end_session(&mut self, index: u32, effects: &mut Effects) {
        let live = self.sessions.at_mut(index);
        assert!(
            live.connection.is_none() && !live.is_ending,
            "ended once, and after its connection"
        );
        live.is_ending = true;
        live.inbound = None;
        live.reads = None;
        let timer = live.timer.take();
        self.clients.remove(index, &self.sessions);
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        self.publish_will(index, effects);
        self.unstore_session(index);
        let Some(outbound) = self.sessions.at_mut(index).outbound.take() else {
            return self.ending.push_back(index);
        };
        // Nothing of it is kept under the session's key any more.
        let keeper = (None, Kept::default());
        assert!(
            outbound.deferred.is_empty(),
            "settled when the connection was lost"
        );
        self.counters.stored_messages -= outbound.queue_len() as u64;
        self.counters.stored_bytes -= outbound.all_bytes() as u64;
        self.counters.in_flight -= outbound.window.len() as u64;
        for entry in outbound.window {
            // QoS 2 must not be sent to anybody else; QoS 1 should.
            let is_returned =
                entry.delivery.qos == QoS::AtLeastOnce && entry.step == Step::Published;
            if let (Some(key), Some(message), true) =
                (entry.delivery.group, entry.message, is_returned)
            {
                self.return_to_group(&key, &message, keeper, effects);
            }
        }
        for queued in outbound.queue {
            if let Some(key) = queued.delivery.group {
                self.return_to_group(&key, &queued.message, keeper, effects);
            }
        }
        self.ending.push_back(index);
    }

    /// Publishes a session's will, if it has one. [MQTT-3.1.2-8]
    fn publish_will(&mut self, index: u32, effects: &mut Effects) {
        let Some(will) = self.sessions.at_mut(index).will.take() else {
            return;
        };
        let expires = will.expiry_s.map(|s| self.now + Span::from_s(u64::from(s)));
        let view = MessageView {
            expires,
            ..will.message.view()
        };
        self.publish_own(view, true, effects);
        let live = self.sessions.at(index);
        if !live.is_ending {
            let left = live
                .expires
                .map_or(self.now, |at| at - Span::from_s(live.expiry_s.into()));
            self.store_session(index, Some(left), false);
            self.schedule_session(index);
        }
    }

    /// Keeps a session as it is now, if it is one that is kept; `left` says since when its client
    /// is away.
    pub(crate) fn store_session(&mut self, index: u32, left: Option<Time>, is_promised: bool) {
        let live = self.sessions.at(index);
        let Some(session) = live.kept_key() else {
            return;
        };
        let stored = StoredSession {
            session,
            client_id: live.client_id.clone(),
            device: live.device.as_deref().copied(),
            // One that was kept, and is now to end with its connection, ends soon after a crash.
            expiry_s: live.expiry_s.max(1),
            left,
            will: live.will.as_ref().map(|will| StoredWill {
                message: Arc::clone(&will.message),
                delay_s: will.delay_s,
                expiry_s: will.expiry_s,
            }),
        };
        let change = Change::PutSession(Box::new(stored));
        self.durable.push(change, is_promised, self.now);
    }

    /// Forgets what is kept of a session, and everything under its key.
    pub(crate) fn unstore_session(&mut self, index: u32) {
        let live = self.sessions.at_mut(index);
        if let Some(session) = live.kept_key() {
            live.key = SessionKey(0);
            let change = Change::RemoveSession { session };
            self.durable.push(change, false, self.now);
        }
    }

    /// Publishes a message of the broker's own.
    pub(crate) fn publish_own(
        &mut self,
        view: MessageView<'_>,
        is_will: bool,
        effects: &mut Effects,
    ) {
        let mut ticket = match view.qos {
            QoS::AtMostOnce => Ticket::unawaited(),
            _ => Ticket::awaited(Origin::Nobody),
        };
        ticket.is_will = is_will;
        self.route(&mut LazyMessage::new(view), &mut ticket, effects);
        self.finish_ticket(ticket, effects);
    }

    /// The connect timeout, or keep-alive. [MQTT-3.1.2-22]
    pub(crate) fn on_connection_timer(&mut self, index: u32, effects: &mut Effects) {
        let now = self.now;
        let connection = self.connections[index as usize].as_mut();
        let connection = connection.expect("a timer is cancelled with its connection");
        let id = ConnectionId {
            index,
            generation: connection.generation,
        };
        connection.timer = None;
        let stage = connection.stage;
        let is_looked_at = connection.paused_for & pause::CALL != 0;
        let Some(session) = connection.session() else {
            match stage {
                Stage::Socket => return self.on_socket_timer(id, effects),
                Stage::Http => return self.on_http_timer(id, effects),
                _ => {}
            }
            self.counters.connect_timeouts += 1;
            if stage == Stage::AwaitConnect && is_looked_at {
                let detail = "too many tokens are being looked at";
                return self.refuse(id, None, ReasonCode::ServerBusy, detail, effects);
            }
            return self.close(id, Close::Abort, false, effects);
        };
        let silent_until = connection.received_at + keep_alive_span(connection.keep_alive_s);
        // A client that does not read its own output is not read, and is silent by its own choice.
        let is_held = connection.paused_for & (pause::LANE | pause::OWED | pause::STORE) != 0;
        if !is_held && silent_until <= now {
            self.counters.keep_alive_timeouts += 1;
            let reason = ReasonCode::KeepAliveTimeout;
            return self.disconnect(id, reason, "nothing came within keep-alive", effects);
        }
        // While others hold it up, silence says nothing.
        let at = silent_until.max(now + Span::from_ms(100));
        connection.timer = Some(self.timers.schedule(at, TimerKey::Connection(index)));
        self.sessions.at_mut(session.index).shrink();
    }

    /// Goes on with a graceful stop: so many connections per turn.
    pub(crate) fn stop_some_connections(&mut self, effects: &mut Effects) {
        let Some(from) = self.stopping.filter(|_| !self.has_stopped) else {
            return;
        };
        let to = (from + STEPS_PER_TICK).min(self.connections.len());
        for index in from..to {
            let Some((id, session)) = self.connection_at(index) else {
                continue;
            };
            if let Some(session) = session {
                // That of a session which is kept waits for the restart, and is published then
                // unless its client comes back in time; others are dropped. [MQTT-3.1.2-10]
                // leaves that to us.
                let live = self.sessions.at_mut(session.index);
                if live.kept_key().is_none() {
                    live.will = None;
                }
            }
            let reason = ReasonCode::ServerShuttingDown;
            self.disconnect(id, reason, "the broker is stopping", effects);
        }
        self.stopping = Some(to);
        if to == self.connections.len() {
            self.durable.hurry(self.now);
            self.commit(effects);
            // What is under way has its share of the room until other shards have it, too.
            if self.durable.is_idle() && self.mesh.tellings.is_idle() && self.mesh.room.is_idle() {
                self.has_stopped = true;
                effects.push(Effect::Stopped);
            }
        }
    }

    /// Whether a stop goes on when the store or another shard has answered, and not before.
    pub(crate) fn waits_for_others(&self) -> bool {
        let is_told = self.stopping == Some(self.connections.len())
            && self.durable.is_idle()
            && self.mesh.tellings.is_idle();
        self.durable.is_under_way() || (is_told && !self.mesh.room.is_idle())
    }
}
