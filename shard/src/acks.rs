//! Acknowledgements from a client: PUBACK, PUBREC, PUBCOMP for what it was sent, PUBREL for what
//! it sent.

use crate::outbound::{InFlight, Step};
use crate::shard::Shard;
use crate::{Change, ConnectionId, Effects, OVER, SessionId};
use mqtt_v5_codec::{Ack, AckKind, DecodeError, PacketId, QoS, ReasonCode};

impl Shard {
    pub(crate) fn on_ack(&mut self, id: ConnectionId, ack: Ack<'_>, effects: &mut Effects) {
        let Some(session) = self.connection(id).and_then(|c| c.session()) else {
            return;
        };
        let packet_id = ack.packet_id;
        match ack.kind {
            AckKind::Puback => self.on_puback(id, session, packet_id, effects),
            AckKind::Pubrec => self.on_pubrec(id, session, packet_id, ack.reason, effects),
            AckKind::Pubrel => self.on_pubrel(id, session, packet_id, effects),
            AckKind::Pubcomp => self.on_pubcomp(id, session, packet_id, effects),
        }
    }

    fn in_flight(&mut self, session: SessionId, packet_id: PacketId) -> Option<(usize, &InFlight)> {
        let outbound = self.sessions.at(session.index).outbound.as_ref()?;
        let at = outbound.find(packet_id)?;
        Some((at, &outbound.window[at]))
    }

    fn on_puback(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        packet_id: PacketId,
        effects: &mut Effects,
    ) {
        match self.in_flight(session, packet_id) {
            Some((at, entry)) if entry.delivery.qos == QoS::AtLeastOnce => {
                self.finish_in_flight(session, at, effects);
            }
            Some(_) => self.fail(
                id,
                DecodeError::protocol("PUBACK for a QoS 2 message"),
                effects,
            ),
            // A late answer to what is no longer known does no harm.
            None => {}
        }
    }

    fn on_pubrec(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        packet_id: PacketId,
        reason: ReasonCode,
        effects: &mut Effects,
    ) {
        let answer = match self.in_flight(session, packet_id) {
            Some((_, entry)) if entry.delivery.qos != QoS::ExactlyOnce => {
                let error = DecodeError::protocol("PUBREC for a QoS 1 message");
                return self.fail(id, error, effects);
            }
            // The client does not want it: the exchange ends here. [MQTT-4.3.3-4]
            Some((at, _)) if reason.is_error() => {
                return self.finish_in_flight(session, at, effects);
            }
            Some((at, _)) => {
                let live = self.sessions.at_mut(session.index);
                let key = live.kept_key();
                let entry = &mut live.outbound_mut().window[at];
                entry.step = Step::Released;
                entry.message = None;
                if let Some(key) = key {
                    let sent = Some((packet_id, Step::Released));
                    self.durable.put_queued(
                        (key, None),
                        &entry.delivery,
                        sent,
                        &mut entry.kept,
                        true,
                        self.now,
                    );
                    // After PUBREL the client takes the identifier for a new message.
                    self.hold(id, effects);
                }
                ReasonCode::Success
            }
            None if reason.is_error() => return,
            None => ReasonCode::PacketIdentifierNotFound,
        };
        self.send_ack(id, AckKind::Pubrel, packet_id, answer, effects);
    }

    fn on_pubrel(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        packet_id: PacketId,
        effects: &mut Effects,
    ) {
        let inbound = &mut self.sessions.at_mut(session.index).inbound;
        let is_known = inbound
            .as_mut()
            .is_some_and(|inbound| inbound.release(packet_id));
        let live = self.sessions.at_mut(session.index);
        let key = live.kept_key();
        let recovered = live.is_recovered.then_some(self.started);
        if let (Some(session), true) = (key, is_known) {
            let inbound = live.inbound_mut();
            let change = match inbound.numbering_mut(recovered).on_over(packet_id) {
                Some(ordinal) => Change::PutReceived {
                    session,
                    packet_id,
                    ordinal: ordinal | OVER,
                },
                None => Change::RemoveReceived { session, packet_id },
            };
            for packet_id in inbound.forget_over() {
                let change = Change::RemoveReceived { session, packet_id };
                self.durable.push(change, false, self.now);
            }
            self.durable.push(change, true, self.now);
        }
        if key.is_some() {
            // After PUBCOMP the client uses the identifier for a new message. The release may have
            // come on an earlier connection, and not be durable.
            self.hold(id, effects);
        }
        let reason = match is_known {
            true => ReasonCode::Success,
            false => ReasonCode::PacketIdentifierNotFound,
        };
        self.send_ack(id, AckKind::Pubcomp, packet_id, reason, effects);
    }

    fn on_pubcomp(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        packet_id: PacketId,
        effects: &mut Effects,
    ) {
        match self.in_flight(session, packet_id) {
            Some((at, entry)) if entry.step == Step::Released => {
                self.finish_in_flight(session, at, effects);
            }
            Some(_) => {
                let error = DecodeError::protocol("PUBCOMP for a message that was not released");
                self.fail(id, error, effects);
            }
            None => {}
        }
    }

    /// A message is done with: the window has room for another.
    fn finish_in_flight(&mut self, session: SessionId, at: usize, effects: &mut Effects) {
        self.trace_acknowledged(session, at);
        let now = self.now;
        let live = self.sessions.at_mut(session.index);
        if live.slow_since.is_some() {
            live.slow_since = Some(now); // It moves, however slowly.
        }
        let outbound = live.outbound_mut();
        let kept = outbound.remove(at).kept;
        self.counters.in_flight -= 1;
        let is_waiting = outbound.queue_len() > 0
            || !outbound.deferred.is_empty()
            || outbound.window_used < outbound.window.len();
        self.durable.forget_queued(live.key, kept, now);
        if is_waiting {
            self.pump(session.index, effects);
        }
        if self.sessions.at(session.index).reads.is_some() {
            self.pump_reads(session.index, effects);
        }
    }
}
