//! A message goes to its recipients on this shard.
//!
//! Always: a session gets one copy, at the highest quality of service that its matching
//! subscriptions grant, with all their identifiers; nothing larger than the client takes; no more
//! than its Receive Maximum unacknowledged. Bounded by `output_bytes_max`, `queue_messages_max`
//! and `queue_bytes_max`.

use crate::aliases::apply_alias;
use crate::console::Fate;
use crate::frame::GroupKey;
use crate::message::{LazyMessage, MessageView, Publisher};
use crate::outbound::{Delivery, InFlight, Kept, Step, SubscriptionIds};
use crate::pending::{Outcome, Ticket};
use crate::session::Session;
use crate::shard::{STEPS_PER_TICK, Shard};
use crate::subscriptions::Grant;
use crate::{ConnectionId, DeviceId, Effects, SessionId, Time, topic};
use http::Opcode;
use mqtt_v5_codec::{
    Layout, Outgoing, PacketId, QoS, SubscriptionOptions, Version, encode_publish,
};
use std::sync::Arc;

/// A session and one matching subscription of its.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipient {
    session: u32,
    grant: Grant,
}

/// A session and what it subscribed to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub session: u32,
    pub options: SubscriptionOptions,
    /// A single 0 stands for none.
    pub ids: &'a [u32],
    pub group: Option<&'a Arc<GroupKey>>,
    /// It is a retained message, sent because of a new subscription. [MQTT-3.3.1-8]
    pub is_retained: bool,
}

/// One message encoded once per shape, to be copied to every recipient.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    buffer: Vec<u8>,
    layouts: [Option<Layout>; 12],
}

impl Templates {
    /// Forgets the last message.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.layouts = [None; 12];
    }

    /// The packet in this shape, and where its packet identifier stands.
    fn get(
        &mut self,
        view: &MessageView<'_>,
        version: Version,
        qos: QoS,
        retain: bool,
        expiry_s: Option<u32>,
    ) -> (&[u8], Option<usize>) {
        let is_v5 = version == Version::V5;
        let at = usize::from(is_v5) * 6 + qos as usize * 2 + usize::from(retain);
        let layout = *self.layouts[at].get_or_insert_with(|| {
            let outgoing = outgoing(view, version, qos, retain, expiry_s);
            encode_publish(&mut self.buffer, &outgoing)
        });
        let packet = &self.buffer[layout.start..layout.start + layout.bytes];
        (packet, layout.packet_id_at.map(|at| at - layout.start))
    }
}

/// A PUBLISH as most recipients get it.
fn outgoing<'a>(
    view: &MessageView<'a>,
    version: Version,
    qos: QoS,
    retain: bool,
    message_expiry_s: Option<u32>,
) -> Outgoing<'a> {
    Outgoing {
        version,
        dup: false,
        qos,
        retain,
        topic: view.topic,
        packet_id: (qos > QoS::AtMostOnce).then_some(PLACEHOLDER),
        topic_alias: None,
        message_expiry_s,
        subscription_ids: &[],
        forwarded: view.forwarded,
        payload: view.payload,
    }
}

/// Stands in a template where each recipient's own packet identifier goes.
const PLACEHOLDER: PacketId = PacketId(std::num::NonZeroU16::MIN);

/// What became of an attempt to put a PUBLISH into an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Sent,
    /// Larger than the client takes: it counts as delivered. [MQTT-3.1.2-25]
    TooLarge,
}

impl Shard {
    /// Gives a message to every subscriber and group on this shard.
    pub(crate) fn deliver_local(
        &mut self,
        lazy: &mut LazyMessage<'_>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        // Subscriptions that are not allowed any more stay, and are heard again when they are.
        let is_ordinary_denied = !self.config.mesh.has_free_topics;
        if is_ordinary_denied && topic::device_uuid(lazy.view.topic).is_none() {
            return;
        }
        let mut recipients = std::mem::take(&mut self.recipients);
        let mut groups = Vec::new(); // Does not allocate while it is empty.
        let mut filters = 0;
        let me = self.config.shard;
        let publisher = lazy.view.publisher;
        let sessions = &self.sessions;
        let is_private = publisher == Some(Publisher::MESH);
        let device = topic::device_uuid(lazy.view.topic).map(DeviceId);
        // On just a UUID events have another form, for those who have asked for just that.
        let is_bare = is_private && lazy.view.topic.len() == topic::UUID_BYTES;
        let exact = is_bare.then(|| self.subscriptions.find(lazy.view.topic));
        self.subscriptions
            .for_each_match(lazy.view.topic, |filter, entry| {
                if exact.is_some_and(|exact| exact != Some(filter)) {
                    return;
                }
                if is_ordinary_denied && self.subscriptions.begins_wild(filter) {
                    return;
                }
                filters += usize::from(!entry.subscribers.is_empty());
                entry.subscribers.for_each(|session, grant| {
                    let recipient = Recipient { session, grant };
                    if device.is_some() {
                        // A device hears nothing of another one's topics, and what it is told nobody
                        // else.
                        let of = sessions.at(session).device.as_deref();
                        if of != device.as_ref() && (is_private || of.is_some()) {
                            return;
                        }
                    }
                    if !grant.options().no_local || !is_own(sessions, me, publisher, session) {
                        recipients.push(recipient);
                    }
                });
                if let Some(more) = &entry.groups
                    && !is_private
                {
                    groups.extend_from_slice(more);
                }
            });
        self.templates.clear();
        if filters > 1 {
            self.deliver_merged(&mut recipients, lazy, ticket, effects);
        } else {
            for recipient in &recipients {
                let options = recipient.grant.options();
                let ids = [recipient.grant.subscription_id];
                let target = Target {
                    session: recipient.session,
                    options,
                    ids: &ids,
                    group: None,
                    is_retained: false,
                };
                self.deliver_one(target, lazy, ticket, effects);
            }
        }
        recipients.clear();
        self.recipients = recipients;
        for group in groups {
            self.offer(group, lazy, ticket, effects);
        }
    }

    /// Several filters matched: a session that is there more than once gets one copy.
    /// [MQTT-3.3.4-2], [MQTT-3.3.4-3]
    fn deliver_merged(
        &mut self,
        recipients: &mut [Recipient],
        lazy: &mut LazyMessage<'_>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        recipients.sort_by_key(|recipient| recipient.session);
        let mut ids = Vec::new();
        for same in recipients.chunk_by(|a, b| a.session == b.session) {
            ids.clear();
            let mut options = same[0].grant.options();
            for recipient in same {
                let more = recipient.grant.options();
                options.qos = options.qos.max(more.qos);
                options.retain_as_published |= more.retain_as_published;
                if recipient.grant.subscription_id != 0 {
                    ids.push(recipient.grant.subscription_id);
                }
            }
            ids.sort_unstable();
            ids.dedup();
            let target = Target {
                session: same[0].session,
                options,
                ids: &ids,
                group: None,
                is_retained: false,
            };
            self.deliver_one(target, lazy, ticket, effects);
        }
    }

    /// Gives a message to one session. `templates` must hold nothing of another message.
    pub(crate) fn deliver_one(
        &mut self,
        target: Target<'_>,
        lazy: &mut LazyMessage<'_>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let session = self.sessions.at_mut(target.session);
        if session.is_ending {
            return;
        }
        ticket.matched = true;
        let (topic, sent_qos) = (lazy.view.topic, lazy.view.qos.min(target.options.qos));
        self.trace_matched(target.session, topic, sent_qos, target.group);
        let session = self.sessions.at_mut(target.session);
        let is_overtaking = session.reads.is_some() && lazy.view.retain && !target.is_retained;
        // It may have expired on its way here. [MQTT-3.3.2-5]
        if lazy.view.is_expired(self.now) {
            self.counters.dropped_expired += 1;
            self.trace(
                target.session,
                topic,
                sent_qos,
                Fate::Dropped("it has expired"),
            );
            return;
        }
        let ids = if target.ids == [0] {
            &[][..]
        } else {
            target.ids
        };
        if is_overtaking {
            self.note_overtaking(target.session, lazy.view.topic);
        }
        let session = self.sessions.at_mut(target.session);
        let qos = lazy.view.qos.min(target.options.qos);
        let retain = target.is_retained || (lazy.view.retain && target.options.retain_as_published);
        let key = session.kept_key().filter(|_| qos > QoS::AtMostOnce);
        let once = lazy
            .once
            .filter(|_| key.is_some() && qos == QoS::ExactlyOnce && target.group.is_none());
        if let (Some(once), Some(outbound)) = (&once, &session.outbound)
            && outbound.seen.has(once)
        {
            return;
        }
        let is_promised = key.is_some() && self.durable.promises(lazy.view.topic);
        let may_refuse = ticket.wants_answer && !ticket.is_will;
        if key.is_some() && self.durable.is_stalled && may_refuse {
            self.counters.refused_store += 1;
            ticket.is_refused = true;
            let step = Fate::Dropped("the store cannot write");
            self.trace(target.session, topic, qos, step);
            return;
        }
        let Some(connection) = session.connection else {
            if qos > QoS::AtMostOnce {
                let delivery = delivery(qos, retain, ids, target.group);
                self.enqueue(target.session, lazy, delivery, once, ticket, effects);
            } else {
                let step = Fate::Dropped("QoS 0, and the client is not connected");
                self.trace(target.session, topic, qos, step);
            }
            return;
        };
        if qos == QoS::AtMostOnce {
            // Retained messages are read no faster than they leave, and in bounded pages.
            let is_full = effects.pending_bytes(connection) > self.config.limits.output_bytes_max;
            if is_full && !target.is_retained {
                self.counters.dropped_slow += 1;
                if let Some(connection) = self.connection_mut(connection) {
                    connection.traffic.dropped += 1;
                }
                let step = Fate::Dropped("QoS 0, and the client's output is full");
                self.trace(target.session, topic, qos, step);
            } else {
                let shape = Shape {
                    qos,
                    retain,
                    dup: false,
                    packet_id: None,
                };
                let put = self.put(connection, &lazy.view, shape, ids, effects);
                if put == Put::Sent && !target.is_retained {
                    self.note_delivery(lazy.arrived);
                }
            }
            return;
        }
        let is_kept = session.expiry_s > 0 || target.group.is_some();
        let window = self.connections[connection.index as usize]
            .as_ref()
            .map_or(0, |c| c.send_window) as usize;
        let outbound = session.outbound.get_or_insert_default();
        let has_room = outbound.queue_len() == 0
            && outbound.window_used == outbound.window.len()
            && outbound.window.len() < window
            && effects.pending_bytes(connection) <= self.config.limits.output_bytes_max;
        let delivery = delivery(qos, retain, ids, target.group);
        if !has_room {
            return self.enqueue(target.session, lazy, delivery, once, ticket, effects);
        }
        let packet_id = outbound.take_packet_id();
        let message = is_kept.then(|| lazy.share());
        let shape = Shape {
            qos,
            retain,
            dup: false,
            packet_id: Some(packet_id),
        };
        // Its packet identifier must not mean another message after a restart, in any mode.
        let is_exact = key.is_some() && qos == QoS::ExactlyOnce;
        if is_exact {
            effects.hold(connection, self.durable.promise());
        }
        if self.put(connection, &lazy.view, shape, ids, effects) == Put::Sent {
            if !target.is_retained {
                self.note_delivery(lazy.arrived);
            }
            let step = Step::Published;
            let mut kept = Kept::default();
            if let Some(key) = key {
                let (share, sent) = (Some(lazy.share()), Some((packet_id, step)));
                self.durable.put_queued(
                    (key, share),
                    &delivery,
                    sent,
                    &mut kept,
                    is_promised || is_exact,
                    self.now,
                );
                self.note_kept(target.session, once, is_promised, ticket);
            }
            let entry = InFlight {
                packet_id,
                step,
                is_unsent: false,
                message,
                delivery,
                kept,
            };
            let outbound = self.sessions.at_mut(target.session).outbound_mut();
            outbound.window.push_back(entry);
            outbound.window_used += 1;
            self.counters.in_flight += 1;
        }
    }

    /// Sends what the window has room for: first what must be sent again, then the queue.
    pub(crate) fn pump(&mut self, index: u32, effects: &mut Effects) {
        self.templates.clear();
        let mut expired = 0;
        loop {
            let session = self.sessions.at_mut(index);
            let Some(connection) = session.connection else {
                return;
            };
            let (key, is_kept) = (session.kept_key(), session.expiry_s > 0);
            let Some(outbound) = &mut session.outbound else {
                return;
            };
            let window = self.connections[connection.index as usize]
                .as_ref()
                .map_or(0, |c| c.send_window) as usize;
            if outbound.window_used >= window {
                break;
            }
            if effects.pending_bytes(connection) > self.config.limits.output_bytes_max {
                outbound.waits_for_output = true;
                effects.want_writable(connection);
                break;
            }
            outbound.waits_for_output = false;
            if outbound.window_used < outbound.window.len() {
                self.send_again(index, connection, effects);
                continue;
            }
            if expired >= STEPS_PER_TICK {
                let generation = self.sessions.generation(index);
                self.pumping.push_back(SessionId { index, generation });
                return;
            }
            let is_in_turn = !outbound.is_behind_spilled();
            let popped = is_in_turn.then(|| outbound.pop_queue()).flatten();
            if outbound.wants_more(self.config.limits.queue_memory_bytes, true) {
                self.durable.want_load(index);
            }
            let Some(mut queued) = popped else { break };
            self.counters.stored_messages -= 1;
            self.counters.stored_bytes -= queued.message.bytes() as u64;
            if queued.message.view().is_expired(self.now) {
                self.counters.dropped_expired += 1;
                expired += 1;
                if let Some(key) = key {
                    self.durable.forget_queued(key, queued.kept, self.now);
                }
                continue;
            }
            let packet_id = outbound.take_packet_id();
            let Delivery {
                qos,
                retain,
                ref subscription_ids,
                ref group,
            } = queued.delivery;
            let shape = Shape {
                qos,
                retain,
                dup: false,
                packet_id: Some(packet_id),
            };
            let ids = subscription_ids.clone();
            let is_kept = is_kept || group.is_some();
            self.templates.clear();
            let view = queued.message.view();
            let is_promised = key.is_some() && qos == QoS::ExactlyOnce;
            if is_promised {
                effects.hold(connection, self.durable.promise());
            }
            let put = self.put(connection, &view, shape, ids.as_slice(), effects);
            if let Some(key) = key {
                let (message, sent) = (&queued.message, Some((packet_id, Step::Published)));
                let (share, kept) = (Some(Arc::clone(message)), &mut queued.kept);
                match put {
                    Put::Sent => self.durable.put_queued(
                        (key, share),
                        &queued.delivery,
                        sent,
                        kept,
                        is_promised,
                        self.now,
                    ),
                    Put::TooLarge => self.durable.forget_queued(key, *kept, self.now),
                }
            }
            if put == Put::Sent {
                self.note_queued_delivery(queued.message.arrived(), retain);
                let outbound = self.sessions.at_mut(index).outbound_mut();
                outbound.window.push_back(InFlight {
                    packet_id,
                    step: Step::Published,
                    is_unsent: false,
                    message: is_kept.then_some(queued.message),
                    delivery: queued.delivery,
                    kept: queued.kept,
                });
                outbound.window_used += 1;
                self.counters.in_flight += 1;
            }
        }
        self.settle_deferred(index, false, effects);
    }

    /// Sends the first window entry that the present connection has not seen: PUBLISH with DUP, or
    /// PUBREL. [MQTT-4.4.0-1], [MQTT-4.6.0-1]
    fn send_again(&mut self, index: u32, connection: ConnectionId, effects: &mut Effects) {
        let outbound = self.sessions.at_mut(index).outbound_mut();
        let at = outbound.window.iter().position(|entry| entry.is_unsent);
        let at = at.expect("window_used counts the others");
        let entry = &mut outbound.window[at];
        entry.is_unsent = false;
        let (packet_id, step) = (entry.packet_id, entry.step);
        let (message, delivery) = (entry.message.clone(), entry.delivery.clone());
        outbound.window_used += 1;
        if delivery.qos == QoS::ExactlyOnce {
            self.hold(connection, effects);
        }
        if step == Step::Released {
            let (kind, reason) = (
                mqtt_v5_codec::AckKind::Pubrel,
                mqtt_v5_codec::ReasonCode::Success,
            );
            return self.send_ack(connection, kind, packet_id, reason, effects);
        }
        let message = message.expect("kept because the session outlives its connection");
        self.templates.clear();
        let Delivery {
            qos,
            retain,
            subscription_ids,
            ..
        } = &delivery;
        let shape = Shape {
            qos: *qos,
            retain: *retain,
            dup: true,
            packet_id: Some(packet_id),
        };
        let put = self.put(
            connection,
            &message.view(),
            shape,
            subscription_ids.as_slice(),
            effects,
        );
        if put == Put::TooLarge {
            let outbound = self.sessions.at_mut(index).outbound_mut();
            let at = outbound.find(packet_id).expect("just seen");
            let kept = outbound.remove(at).kept;
            self.counters.in_flight -= 1;
            let key = self.sessions.at(index).key;
            self.durable.forget_queued(key, kept, self.now);
        }
    }

    /// Lets publishers go on that waited for room in a session's queue, once there is some.
    pub(crate) fn settle_deferred(&mut self, index: u32, force: bool, effects: &mut Effects) {
        let limits = &self.config.limits;
        let session = self.sessions.at_mut(index);
        let Some(outbound) = &mut session.outbound else {
            return;
        };
        let has_room = outbound.queue_len() <= limits.queue_soft_messages / 2
            && outbound.all_bytes() <= limits.queue_soft_bytes / 2;
        if outbound.deferred.is_empty() || !(has_room || force) {
            return;
        }
        session.slow_since = None;
        outbound.deferred_since = None;
        let timer = session.timer.take();
        let deferred = std::mem::take(&mut outbound.deferred);
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        for pending in deferred {
            let outcome = Outcome {
                matched: true,
                ..Outcome::default()
            };
            self.answer_pending(pending, outcome, effects);
        }
    }

    /// Puts one PUBLISH into a connection's outbox.
    fn put(
        &mut self,
        id: ConnectionId,
        view: &MessageView<'_>,
        shape: Shape,
        ids: &[u32],
        effects: &mut Effects,
    ) -> Put {
        let put = self.put_untraced(id, view, shape, ids, effects);
        if self.is_traced()
            && let Some(session) = self.connection(id).and_then(|c| c.session())
        {
            let step = match put {
                Put::Sent => Fate::Delivered,
                Put::TooLarge => Fate::Dropped("it is larger than the client takes"),
            };
            self.trace(session.index, view.topic, shape.qos, step);
        }
        put
    }

    fn put_untraced(
        &mut self,
        id: ConnectionId,
        view: &MessageView<'_>,
        shape: Shape,
        ids: &[u32],
        effects: &mut Effects,
    ) -> Put {
        let connection = self.connections[id.index as usize].as_mut();
        let connection = connection.expect("a session's connection is alive");
        let expiry_s = view
            .expires
            .map(|at| at.since(self.now).0.div_ceil(1_000_000))
            .map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
        let version = connection.version;
        let has_aliases = connection
            .extra
            .as_ref()
            .is_some_and(|extra| extra.aliases_out.is_some());
        let is_websocket = connection.is_websocket();
        let is_plain = !shape.dup && !has_aliases && (ids.is_empty() || version != Version::V5);
        let room = connection.packet_bytes_max as usize;
        let (packet, packet_id_at) = if is_plain {
            self.templates
                .get(view, version, shape.qos, shape.retain, expiry_s)
        } else {
            let mut special = outgoing(view, version, shape.qos, shape.retain, expiry_s);
            special.dup = shape.dup;
            special.subscription_ids = ids;
            if has_aliases {
                let is_short = apply_alias(connection, &mut special, room);
                if !is_short {
                    connection.traffic.dropped += 1;
                    self.counters.dropped_too_large += 1;
                    return Put::TooLarge;
                }
            }
            self.scratch.clear();
            let layout = encode_publish(&mut self.scratch, &special);
            (&self.scratch[..], layout.packet_id_at)
        };
        if packet.len() > room {
            connection.traffic.dropped += 1;
            self.counters.dropped_too_large += 1;
            return Put::TooLarge;
        }
        let out = effects.outbox(id);
        if is_websocket {
            http::write_frame_header(out, Opcode::Binary, packet.len());
        }
        let start = out.len();
        out.extend_from_slice(packet);
        if let (Some(at), Some(packet_id)) = (packet_id_at, shape.packet_id) {
            let at = start + at;
            out[at..at + 2].copy_from_slice(&packet_id.number().to_be_bytes());
        }
        connection.traffic.send(view.payload.len());
        self.counters.packets_sent += 1;
        self.counters.publish_sent += 1;
        self.counters.bytes_sent += packet.len() as u64;
        self.counters.publish_bytes_sent += view.payload.len() as u64;
        self.counters.sent.count(shape.qos, view.payload.len());
        Put::Sent
    }

    /// A message that arrived then has gone to a subscriber's output.
    fn note_delivery(&mut self, arrived: Time) {
        let histogram = &mut self.counters.delivery;
        self.deliveries.note(arrived, self.now, histogram);
    }

    /// The same of one out of a queue. One that is marked as retained may have been asked for late.
    fn note_queued_delivery(&mut self, arrived: Time, is_retained: bool) {
        if arrived != Time::default() && !is_retained {
            let length = self.now.since(arrived);
            self.counters.queued_delivery.record(length, 1);
        }
    }
}

/// The parts of a PUBLISH that differ between recipients.
#[derive(Clone, Copy, Debug)]
struct Shape {
    qos: QoS,
    retain: bool,
    dup: bool,
    packet_id: Option<PacketId>,
}

fn delivery(qos: QoS, retain: bool, ids: &[u32], group: Option<&Arc<GroupKey>>) -> Delivery {
    let mut subscription_ids = SubscriptionIds::None;
    ids.iter().for_each(|id| subscription_ids.push(*id));
    Delivery {
        qos,
        retain,
        subscription_ids,
        group: group.cloned(),
    }
}

/// Whether a session is the one that published: No Local. [MQTT-3.8.3-3]
pub(crate) fn is_own(
    sessions: &crate::slots::Slots<Session>,
    me: crate::ShardId,
    publisher: Option<Publisher>,
    session: u32,
) -> bool {
    let own = SessionId {
        index: session,
        generation: sessions.generation(session),
    };
    publisher
        == Some(Publisher {
            shard: me,
            session: own,
        })
}
