//! A message enters: PUBLISH from a client, and the way from there to every shard concerned.
//!
//! Always: a QoS 1 or 2 message is acknowledged when every shard that has subscribers to it holds
//! it, and not before.

use crate::aliases::resolve_alias;
use crate::mesh::mqtt::Right;
use crate::message::{LazyMessage, MessageView, Publisher};
use crate::pending::{Origin, Outcome, Ticket};
use crate::shard::{Shard, pause};
use crate::{
    Answer, Change, ConnectionId, DeviceId, Effects, Frame, RequestId, SessionId, ShardId, Span,
    topic,
};
use meshblu::Outgoing;
use mqtt_v5_codec::{
    Ack, AckKind, AckProperties, DecodeError, Packet, PacketId, Publish, QoS, ReasonCode, Version,
    encode_ack,
};

/// Topics that only the broker publishes to.
fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$') && (topic.starts_with("$SYS/") || topic.starts_with("$share/"))
}

impl Shard {
    pub(crate) fn on_publish(
        &mut self,
        id: ConnectionId,
        publish: Publish<'_>,
        effects: &mut Effects,
    ) {
        self.counters.publish_received += 1;
        self.counters.publish_bytes_received += publish.payload.len() as u64;
        self.counters
            .received
            .count(publish.qos, publish.payload.len());
        let alias_max = self.announced.topic_alias_maximum;
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let alias = publish.properties.topic_alias;
        connection.traffic.receive(publish.payload.len());
        // The topic of an alias is taken out of the table while the message is on its way.
        let known = match resolve_alias(connection, publish.topic, alias, alias_max) {
            Ok(known) => known,
            Err(error) => return self.fail(id, error, effects),
        };
        match &known {
            Some(topic) => self.accept_publish(id, &Publish { topic, ..publish }, effects),
            None => self.accept_publish(id, &publish, effects),
        }
        if let (Some(topic), Some(alias)) = (known, alias)
            && let Some(connection) = self.connection_mut(id)
        {
            connection.extra_mut().aliases_in[alias as usize - 1] = Some(topic);
        }
    }

    fn accept_publish(&mut self, id: ConnectionId, publish: &Publish<'_>, effects: &mut Effects) {
        let Some(session) = self.connection(id).and_then(|c| c.session()) else {
            return;
        };
        self.talkers.note(session, publish.payload.len(), self.now);
        self.trace_received(session, publish);
        if let Err(error) = self.check_publish(publish) {
            return self.fail(id, error, effects);
        }
        if let Some(packet_id) = publish.packet_id {
            if publish.qos == QoS::ExactlyOnce && self.is_repeated(id, session, packet_id, effects)
            {
                return;
            }
            if self.exceeds_receive_maximum(id, session) {
                let reason = ReasonCode::ReceiveMaximumExceeded;
                let error = DecodeError {
                    reason,
                    detail: "more messages than Receive Maximum",
                };
                return self.fail(id, error, effects);
            }
        }
        if is_reserved(publish.topic) {
            self.counters.dropped_not_authorized += 1;
            return self.reject(id, session, publish, ReasonCode::NotAuthorized, effects);
        }
        if publish.properties.payload_format == Some(1)
            && std::str::from_utf8(publish.payload).is_err()
        {
            let reason = ReasonCode::PayloadFormatInvalid;
            if publish.packet_id.is_none() {
                let error = DecodeError {
                    reason,
                    detail: "the payload is not UTF-8",
                };
                return self.fail(id, error, effects);
            }
            return self.reject(id, session, publish, reason, effects);
        }
        if self.on_rpc(id, publish.topic, publish.payload, effects) {
            return self.reject(id, session, publish, ReasonCode::Success, effects);
        }
        let sent = match self.right_to_publish(id, publish.topic) {
            Right::Ordinary => None,
            Right::Denied => {
                self.counters.dropped_not_authorized += 1;
                return self.reject(id, session, publish, ReasonCode::NotAuthorized, effects);
            }
            Right::SendAs(device, kind) => {
                let sent = self.publish_as(id, session, publish, (device, kind), effects);
                if let Err(reason) = sent {
                    self.reject(id, session, publish, reason, effects);
                }
                return;
            }
            Right::Send(device, kind) => {
                match self.read_published(id, device, kind, publish.payload) {
                    Ok(outgoing) => Some((device, outgoing)),
                    Err(reason) => return self.reject(id, session, publish, reason, effects),
                }
            }
        };
        let is_kept = self.sessions.at(session.index).kept_key().is_some();
        let must_keep = is_kept && publish.qos == QoS::ExactlyOnce;
        if must_keep && self.durable.is_stalled {
            self.counters.refused_store += 1;
            return self.reject(id, session, publish, ReasonCode::QuotaExceeded, effects);
        }
        self.route_publish(id, session, publish, sent, effects);
    }

    fn check_publish(&self, publish: &Publish<'_>) -> Result<(), DecodeError> {
        if publish.properties.subscription_id_count > 0 {
            // [MQTT-3.3.4-6]
            return Err(DecodeError::protocol(
                "a client sends no subscription identifiers",
            ));
        }
        if topic::levels(publish.topic) > self.config.limits.topic_levels_max {
            let reason = ReasonCode::TopicNameInvalid;
            return Err(DecodeError {
                reason,
                detail: "too many topic levels",
            });
        }
        Ok(())
    }

    /// A QoS 2 PUBLISH whose identifier is not released yet is the same message once more: it is
    /// answered and not published. [MQTT-4.3.3-10]
    fn is_repeated(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        packet_id: PacketId,
        effects: &mut Effects,
    ) -> bool {
        let Some(inbound) = &mut self.sessions.at_mut(session.index).inbound else {
            return false;
        };
        if !inbound.is_received(packet_id) {
            return false;
        }
        inbound.came_again(packet_id);
        if !inbound.owes_pubrec(packet_id) && !inbound.revive_pubrec(packet_id) {
            let sequence = inbound.owe(packet_id, QoS::ExactlyOnce, 0);
            inbound.settle(sequence, ReasonCode::Success, self.durable.gate());
            self.flush_owed(id, session, effects);
        }
        self.pause_if_owing(id, session, effects);
        true
    }

    fn exceeds_receive_maximum(&self, id: ConnectionId, session: SessionId) -> bool {
        let is_v5 = self
            .connection(id)
            .is_some_and(|c| c.version == Version::V5);
        let inbound = &self.sessions.at(session.index).inbound;
        let maximum = self.announced.receive_maximum as usize;
        is_v5
            && inbound
                .as_ref()
                .is_some_and(|inbound| inbound.is_full(maximum))
    }

    fn route_publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        sent: Option<(DeviceId, Outgoing)>,
        effects: &mut Effects,
    ) {
        let mut forwarded = std::mem::take(&mut self.forwarded);
        forwarded.clear();
        publish.properties.encode_forwarded(&mut forwarded);
        let expiry = publish.properties.message_expiry_s;
        let mut lazy = LazyMessage::new(MessageView {
            topic: publish.topic,
            forwarded: &forwarded,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            expires: expiry.map(|s| self.now + Span::from_s(u64::from(s))),
            publisher: Some(Publisher {
                shard: self.config.shard,
                session,
            }),
        });
        lazy.arrived = self.now;
        let mut ticket = Ticket::unawaited();
        let mut counted = None;
        if let Some(packet_id) = publish.packet_id {
            let live = self.sessions.at_mut(session.index);
            let key = live.kept_key();
            if publish.qos == QoS::ExactlyOnce {
                let recovered = live.is_recovered.then_some(self.started);
                let inbound = live.inbound_mut();
                inbound.remember(packet_id);
                let durable = &self.durable;
                counted = key.map(|publisher| {
                    let is_committed = |batch| durable.is_committed(batch);
                    let numbering = inbound.numbering_mut(recovered);
                    numbering.count(publisher, packet_id, publish.dup, is_committed)
                });
            }
            lazy.once = counted.map(|counted| counted.once);
            let inbound = live.inbound.as_ref();
            let sequence = inbound.map_or(0, |inbound| inbound.next_sequence());
            ticket = Ticket::awaited(Origin::Publisher { session, sequence });
        }
        let congested = match sent {
            None => self.route(&mut lazy, &mut ticket, effects),
            Some((device, outgoing)) => {
                self.send_published(device, &outgoing, &mut ticket, effects)
            }
        };
        self.forwarded = forwarded;
        let (outcome, pending) = (ticket.outcome(), ticket.pending);
        let ordinal = counted.map_or(0, |counted| counted.receipt);
        match (publish.packet_id, pending) {
            (None, _) => self.finish_ticket(ticket, effects),
            (Some(packet_id), None) => {
                let receipt = Receipt {
                    packet_id,
                    qos: publish.qos,
                    reason: accepted(outcome),
                    batch: outcome.batch,
                    ordinal,
                };
                self.acknowledge(id, session, receipt, effects);
            }
            (Some(packet_id), Some(pending)) => {
                let inbound = self.sessions.at_mut(session.index).inbound_mut();
                inbound.owe(packet_id, publish.qos, ordinal);
                self.pause_if_owing(id, session, effects);
                self.answer_pending(pending, outcome, effects);
            }
        }
        self.pause_if_store_is_behind(id, effects);
        if let Some(to) = congested
            && self.connection(id).is_some()
        {
            self.lanes.pause(to, id);
            self.pause(id, pause::LANE, effects);
        }
    }

    /// Reads no more from a client that is owed very many acknowledgements.
    pub(crate) fn pause_if_owing(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        effects: &mut Effects,
    ) {
        if let Some(inbound) = &mut self.sessions.at_mut(session.index).inbound
            && inbound.owed() >= self.announced.receive_maximum as usize
        {
            inbound.is_paused = true;
            self.pause(id, pause::OWED, effects);
        }
    }

    /// Answers a PUBLISH that goes no further.
    fn reject(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        reason: ReasonCode,
        effects: &mut Effects,
    ) {
        self.trace_refused(session, publish, reason);
        let Some(packet_id) = publish.packet_id else {
            return;
        };
        let receipt = Receipt {
            packet_id,
            qos: publish.qos,
            reason,
            batch: 0,
            ordinal: 0,
        };
        self.acknowledge(id, session, receipt, effects);
    }

    /// Answers a PUBLISH that needs no waiting, after those that came before it.
    fn acknowledge(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        receipt: Receipt,
        effects: &mut Effects,
    ) {
        let inbound = &mut self.sessions.at_mut(session.index).inbound;
        match inbound {
            Some(inbound) if !inbound.owes_nothing() => {
                let sequence = inbound.owe(receipt.packet_id, receipt.qos, receipt.ordinal);
                inbound.settle(sequence, receipt.reason, receipt.batch);
                self.pause_if_owing(id, session, effects);
            }
            _ => self.send_acknowledgement(id, session, receipt, effects),
        }
    }

    /// Sends an acknowledgement, once what it promises is durable.
    fn send_acknowledgement(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        receipt: Receipt,
        effects: &mut Effects,
    ) {
        let mut batch = receipt.batch;
        let kind = if receipt.qos == QoS::ExactlyOnce {
            let is_v5 = self
                .connection(id)
                .is_some_and(|connection| connection.version == Version::V5);
            batch = batch.max(self.close_exchange(session, receipt, is_v5));
            AckKind::Pubrec
        } else {
            AckKind::Puback
        };
        let Some(connection) = self.connection(id) else {
            return;
        };
        let is_to_come_again = matches!(
            receipt.reason,
            ReasonCode::QuotaExceeded | ReasonCode::MessageRateTooHigh
        );
        if is_to_come_again && connection.version != Version::V5 {
            // 3.x cannot say no: the client must send it again. What is not acknowledged is.
            let detail = "a message cannot be kept for its subscribers";
            return self.disconnect(id, receipt.reason, detail, effects);
        }
        if !self.durable.is_committed(batch) {
            effects.hold(id, batch);
        }
        self.send_ack(id, kind, receipt.packet_id, receipt.reason, effects);
    }

    /// The first half of a QoS 2 exchange ends: with an error it is the whole, else the identifier
    /// is kept until PUBREL; unless the client is not told of the error, and so will send the
    /// message again. Returns the batch that must be durable before PUBREC is sent.
    fn close_exchange(&mut self, session: SessionId, receipt: Receipt, is_told: bool) -> u64 {
        let live = self.sessions.at_mut(session.index);
        let key = live.kept_key();
        let recovered = live.is_recovered.then_some(self.started);
        let Some(inbound) = &mut live.inbound else {
            return 0;
        };
        let packet_id = receipt.packet_id;
        if receipt.reason.is_error() {
            inbound.release(packet_id); // [MQTT-4.3.3-4]
            if key.is_some() && receipt.ordinal > 0 {
                let numbering = inbound.numbering_mut(recovered);
                match is_told {
                    true => numbering.settle(packet_id),
                    false => numbering.on_refused(packet_id, receipt.ordinal),
                }
            }
            return 0;
        }
        let (Some(session), true) = (key, receipt.ordinal > 0) else {
            return 0;
        };
        let batch = self.durable.current();
        inbound
            .numbering_mut(recovered)
            .on_receipt(packet_id, receipt.ordinal, batch);
        let change = Change::PutReceived {
            session,
            packet_id,
            ordinal: receipt.ordinal,
        };
        self.durable.push(change, true, self.now);
        batch
    }

    /// Sends an acknowledgement without properties.
    pub(crate) fn send_ack(
        &mut self,
        id: ConnectionId,
        kind: AckKind,
        packet_id: PacketId,
        reason: ReasonCode,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        if connection.is_websocket() {
            let properties = AckProperties::default();
            let packet = Packet::Ack(Ack {
                kind,
                packet_id,
                reason,
                properties,
            });
            self.send(id, &packet, effects);
            return;
        }
        let version = connection.version;
        let out = effects.outbox(id);
        let before = out.len();
        encode_ack(out, version, kind, packet_id, reason);
        self.counters.packets_sent += 1;
        self.counters.bytes_sent += (out.len() - before) as u64;
    }

    /// Sends the acknowledgements that are owed and ready, in order.
    pub(crate) fn flush_owed(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        effects: &mut Effects,
    ) {
        loop {
            let Some(inbound) = &mut self.sessions.at_mut(session.index).inbound else {
                return;
            };
            let Some(owed) = inbound.pop_settled() else {
                break;
            };
            let receipt = Receipt {
                packet_id: owed.packet_id,
                qos: owed.qos,
                reason: owed.reason.expect("settled"),
                batch: owed.batch,
                ordinal: owed.ordinal,
            };
            if !owed.is_void {
                self.send_acknowledgement(id, session, receipt, effects);
            } else if owed.qos == QoS::ExactlyOnce {
                // One that was turned away at once, without an ordinal, has begun no exchange:
                // the identifier may be that of another by now.
                let is_open = owed.repeated_as.is_none() && owed.ordinal != 0;
                if is_open || !receipt.reason.is_error() {
                    // Receipts come in the order of their ordinals, whoever is sent them.
                    self.close_exchange(session, receipt, false);
                }
            }
        }
        let maximum = self.announced.receive_maximum as usize;
        if let Some(inbound) = &mut self.sessions.at_mut(session.index).inbound
            && inbound.is_paused
            && inbound.owed() <= maximum / 2
        {
            inbound.is_paused = false;
            self.resume(id, pause::OWED, effects);
        }
    }

    /// Sends a message to all who want it. Returns a shard whose lane is congested: whoever feeds
    /// it is to be paused.
    pub(crate) fn route(
        &mut self,
        lazy: &mut LazyMessage<'_>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) -> Option<ShardId> {
        match self.placement.topic_owner(lazy.view.topic) {
            Some(owner) if owner != self.config.shard => {
                let request = ticket.wants_answer.then(|| ticket.wait(&mut self.pending));
                let request = request.map(RequestId);
                let frame = Frame::Publish {
                    request,
                    message: lazy.share(),
                    once: lazy.once.map(Box::new),
                    is_will: ticket.is_will,
                };
                self.lanes.send(owner, frame, effects);
                self.lanes.is_congested(owner, effects).then_some(owner)
            }
            _ => self.route_here(lazy, ticket, effects),
        }
    }

    /// Like [`Shard::route`], on the owner of a device topic or the publisher's own shard.
    pub(crate) fn route_here(
        &mut self,
        lazy: &mut LazyMessage<'_>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) -> Option<ShardId> {
        let mut congested = None;
        if lazy.view.retain {
            congested = self.retain(lazy, ticket, effects);
        }
        if self.config.shards > 1 {
            for to in self.routes.matching(lazy.view.topic).iter() {
                // A relay cannot pause whom it relays for.
                if !ticket.wants_answer && self.lanes.is_overfull(to, effects) {
                    self.counters.dropped_lane_full += 1;
                    continue;
                }
                ticket.matched |= !ticket.wants_answer;
                let request = ticket.wants_answer.then(|| ticket.wait(&mut self.pending));
                let request = request.map(RequestId);
                let frame = Frame::Deliver {
                    request,
                    message: lazy.share(),
                    once: lazy.once.map(Box::new),
                    is_will: ticket.is_will,
                };
                self.lanes.send(to, frame, effects);
                if self.lanes.is_congested(to, effects) {
                    congested = Some(to);
                }
            }
        }
        self.deliver_local(lazy, ticket, effects);
        congested
    }

    /// The end of a publish's first pass: settles it, or leaves it to the answers it awaits.
    pub(crate) fn finish_ticket(&mut self, ticket: Ticket, effects: &mut Effects) {
        let outcome = ticket.outcome();
        match ticket.finish() {
            Ok(Some(origin)) => self.settle(origin, outcome, effects),
            Ok(None) => {}
            Err(pending) => self.answer_pending(pending, outcome, effects),
        }
    }

    /// One awaited answer has come.
    pub(crate) fn answer_pending(&mut self, id: u32, answer: Outcome, effects: &mut Effects) {
        let Some(pending) = self.pending.answer(id, answer) else {
            let awaiting = self.pending.awaiting(id);
            return self.mesh.tellings.on_answer(id, awaiting);
        };
        self.mesh.room.give_back(id);
        let outcome = pending.outcome;
        match pending.origin {
            Origin::Shard { to, request } if pending.is_late => {
                let settled = Frame::Settled {
                    request,
                    matched: outcome.matched,
                    is_refused: outcome.is_refused,
                };
                self.tell_when_durable(outcome.batch, to, settled, effects);
            }
            origin => self.settle(origin, outcome, effects),
        }
    }

    /// An entry waits for a slow subscriber: a shard that asked gets its credit back meanwhile.
    pub(crate) fn mark_late(&mut self, id: u32, effects: &mut Effects) {
        match self.pending.mark_late(id) {
            Some(&Origin::Shard { to, request }) => {
                self.reply(to, request, Answer::Later, effects);
            }
            Some(&Origin::GroupOffer { parent, .. } | &Origin::Forward { parent }) => {
                self.mark_late(parent, effects);
            }
            _ => {}
        }
    }

    /// It is known what came of a publisher's message.
    pub(crate) fn settle_publish(
        &mut self,
        session: SessionId,
        sequence: u32,
        reason: ReasonCode,
        batch: u64,
        effects: &mut Effects,
    ) {
        let live = self.sessions.get_mut(session.index, session.generation);
        // A session that is ending owes nothing any more.
        let Some(live) = live.filter(|live| !live.is_ending) else {
            return;
        };
        let connection = live.connection;
        live.inbound_mut().settle(sequence, reason, batch);
        // Without a connection all that is owed is void, or waits to be asked for again.
        let nobody = ConnectionId {
            index: u32::MAX,
            generation: 0,
        };
        self.flush_owed(connection.unwrap_or(nobody), session, effects);
    }

    /// The last awaited answer has come.
    pub(crate) fn settle(&mut self, origin: Origin, outcome: Outcome, effects: &mut Effects) {
        match origin {
            Origin::Nobody | Origin::RetainedRead { .. } => {}
            Origin::Beginning => self.beginning.joining -= 1,
            Origin::Job { id } => {
                self.on_message_taken(id, outcome.batch, outcome.is_refused, effects);
            }
            Origin::Publisher { session, sequence } => {
                let reason = accepted(outcome);
                self.settle_publish(session, sequence, reason, outcome.batch, effects);
            }
            Origin::Shard { to, request } => {
                let answer = Answer::Accepted {
                    matched: outcome.matched,
                    is_refused: outcome.is_refused,
                };
                let reply = Frame::Reply { request, answer };
                self.tell_when_durable(outcome.batch, to, reply, effects);
            }
            Origin::Announcement { filters } => self.on_announced(&filters, effects),
            Origin::GroupJoin { wait } => self.suback_step(wait, effects),
            Origin::GroupOffer { parent, .. } | Origin::Forward { parent } => {
                self.answer_pending(parent, outcome, effects);
            }
            Origin::GroupQueued { key, message, kept } => {
                self.on_queued_offer(&key, message, kept, outcome);
            }
            Origin::Returned {
                key,
                message,
                parent,
            } => {
                let outcome = self.on_returned_offer(&key, message, outcome);
                self.answer_pending(parent, outcome, effects);
            }
            Origin::GroupReturn { session, kept } => {
                self.durable.forget_queued(session, kept, self.now);
            }
        }
    }
}

/// What a publisher is told when its message has been taken. [MQTT-3.4.2-1]
fn accepted(outcome: Outcome) -> ReasonCode {
    if outcome.is_refused {
        ReasonCode::QuotaExceeded
    } else if outcome.matched {
        ReasonCode::Success
    } else {
        ReasonCode::NoMatchingSubscribers
    }
}

/// An acknowledgement of a PUBLISH.
#[derive(Clone, Copy, Debug)]
struct Receipt {
    packet_id: PacketId,
    qos: QoS,
    reason: ReasonCode,
    /// The batch that must be durable first; 0 for none.
    batch: u64,
    /// The session's count of QoS 2 messages; 0 if it is not kept.
    ordinal: u64,
}
