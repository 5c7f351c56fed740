//! The queue of one session: what is put into it, what it leaves to the store, what is dropped.
//!
//! Always: messages leave in the order of their positions. Those in memory come before those that
//! are *spilled*, in the store alone; but for a group's, which stay in memory and wait. Bounded by
//! `queue_messages_max` and `queue_bytes_max`, and in memory, for sessions that are kept, by
//! `queue_memory_messages` and `queue_memory_bytes`.

use crate::console::Fate;
use crate::limits::QueuePolicy;
use crate::message::LazyMessage;
use crate::outbound::{Delivery, Kept, Outbound, Queued};
use crate::pending::Ticket;
use crate::seen::Once;
use crate::shard::{Shard, TimerKey};
use crate::{Change, Effect, Effects, SessionId, SessionKey, Span, StoredQueued};
use std::sync::Arc;

/// Messages in memory below which spilled ones are read back.
const FEW: usize = 256;
/// Messages beyond `queue_messages_max` while the oldest are being read from the store.
const OVERFULL: usize = 1_024;

/// Messages of a queue that are in the store alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spilled {
    /// How many; 0 if nothing is spilled.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// They have positions above this one.
    pub after: u64,
    /// Some have been asked for.
    pub is_loading: bool,
}

impl Outbound {
    /// Messages that wait, in memory and spilled.
    pub fn queue_len(&self) -> usize {
        self.queue.len() + self.spilled.messages
    }

    /// Their bytes.
    pub fn all_bytes(&self) -> usize {
        self.queue_bytes + self.spilled.bytes
    }

    /// Leaves a message at this position to the store.
    pub fn spill(&mut self, bytes: usize, position: u64) {
        if self.spilled.messages == 0 {
            self.spilled.after = position - 1;
        }
        self.spilled.messages += 1;
        self.spilled.bytes += bytes;
    }

    /// Whether messages should be read back: `bytes_max` is what memory may hold.
    pub fn wants_more(&self, bytes_max: usize, is_connected: bool) -> bool {
        let is_short = match is_connected {
            true => self.queue.len() < FEW && self.queue_bytes < bytes_max / 2,
            false => self.queue.is_empty(),
        };
        let is_wanting = is_short || (is_connected && self.is_behind_spilled());
        is_wanting && self.spilled.messages > 0 && !self.spilled.is_loading
    }

    /// Whether the front of the queue, a group's message, comes after some that are spilled.
    pub fn is_behind_spilled(&self) -> bool {
        let front = self.queue.front();
        self.spilled.messages > 0
            && front.is_some_and(|front| front.kept.position > self.spilled.after)
    }

    /// Puts back what has been read, in its place.
    fn unspill(&mut self, read: Vec<Queued>) {
        let Some(first) = read.first() else { return };
        let first = first.kept.position;
        let is_before = |queued: &Queued| queued.kept.position < first;
        let mut later = self.queue.split_off(self.queue.partition_point(is_before));
        for queued in read {
            let position = queued.kept.position;
            let is_before = |one: &mut Queued| one.kept.position < position;
            while let Some(before) = later.pop_front_if(is_before) {
                self.queue.push_back(before);
            }
            self.push_queue(queued);
        }
        self.queue.append(&mut later);
    }
}

impl Shard {
    /// Puts a message into a session's queue; where the queue is long and the client connected,
    /// the publisher's acknowledgement waits until there is room.
    pub(crate) fn enqueue(
        &mut self,
        index: u32,
        lazy: &mut LazyMessage<'_>,
        delivery: Delivery,
        once: Option<Once>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let session = self.sessions.at_mut(index);
        if session.connection.is_none() && session.expiry_s == 0 {
            return;
        }
        let message = lazy.share();
        if !self.make_room(index, message.bytes(), ticket) {
            let step = Fate::Dropped("the client's queue is full");
            self.trace(index, lazy.view.topic, delivery.qos, step);
            return;
        }
        self.trace(index, lazy.view.topic, delivery.qos, Fate::Queued);
        self.counters.stored_messages += 1;
        self.counters.stored_bytes += message.bytes() as u64;
        let session = self.sessions.at_mut(index);
        let mut kept = Kept::default();
        if let Some(key) = session.kept_key() {
            let is_promised = self.durable.promises(lazy.view.topic);
            let share = Some(Arc::clone(&message));
            self.durable.put_queued(
                (key, share),
                &delivery,
                None,
                &mut kept,
                is_promised,
                self.now,
            );
            self.note_kept(index, once, is_promised, ticket);
        }
        let limits = &self.config.limits;
        let session = self.sessions.at_mut(index);
        let outbound = session.outbound.get_or_insert_default();
        // What goes back to its group when the client leaves stays at hand.
        let may_spill = kept.position != 0 && delivery.group.is_none();
        let is_full = outbound.queue.len() >= limits.queue_memory_messages
            || outbound.queue_bytes >= limits.queue_memory_bytes;
        if may_spill && (is_full || outbound.spilled.messages > 0) {
            outbound.spill(message.bytes(), kept.position);
        } else {
            outbound.push_queue(Queued {
                message,
                delivery,
                kept,
            });
        }
        let is_long = outbound.queue_len() > limits.queue_soft_messages
            || outbound.all_bytes() > limits.queue_soft_bytes;
        if let Some(connection) = session.connection
            && effects.pending_bytes(connection) > limits.output_bytes_max
        {
            outbound.waits_for_output = true;
            effects.want_writable(connection);
        }
        let is_read = session.connection.is_some_and(|connection| {
            let connection = self.connections[connection.index as usize].as_ref();
            connection.is_some_and(|connection| !connection.is_unread())
        });
        if is_read && is_long && ticket.wants_answer {
            let pending = ticket.wait(&mut self.pending);
            outbound.deferred.push(pending);
            if session.slow_since.is_none() {
                session.slow_since = Some(self.now);
                outbound.deferred_since = Some(self.now);
                let at = self.now + Span::from_ms(limits.slow_subscriber_ms);
                debug_assert!(
                    session.timer.is_none(),
                    "a connected session has no other timer"
                );
                session.timer = Some(self.timers.schedule(at, TimerKey::Session(index)));
            }
            self.mark_late(pending, effects);
        }
    }

    /// Whether a session's queue takes so many bytes more. If it is full, its policy says what is
    /// dropped or refused; a connected subscriber's queue is never cut, since what is in it has
    /// been acknowledged and will be sent.
    fn make_room(&mut self, index: u32, bytes: usize, ticket: &mut Ticket) -> bool {
        let limits = &self.config.limits;
        let session = self.sessions.at_mut(index);
        let (key, is_connected) = (session.kept_key(), session.connection.is_some());
        let Some(outbound) = &mut session.outbound else {
            return true;
        };
        let policy = match (is_connected, limits.queue_policy) {
            (true, QueuePolicy::DropOldest) => QueuePolicy::Reject,
            (_, policy) => policy,
        };
        while outbound.queue_len() >= limits.queue_messages_max
            || outbound.all_bytes() + bytes > limits.queue_bytes_max
        {
            // Where the oldest are spilled, they are dropped once they have been read.
            let is_overfull = outbound.queue_len() >= limits.queue_messages_max + OVERFULL
                || outbound.all_bytes() + bytes
                    > limits.queue_bytes_max + limits.queue_memory_bytes;
            if policy != QueuePolicy::DropOldest || is_overfull {
                self.counters.dropped_queue_full += 1;
                ticket.is_refused |= policy == QueuePolicy::Reject;
                return false;
            }
            let Some(oldest) = outbound.pop_queue() else {
                break;
            };
            self.counters.stored_messages -= 1;
            self.counters.stored_bytes -= oldest.message.bytes() as u64;
            self.counters.dropped_queue_full += 1;
            if let Some(key) = key {
                self.durable.forget_queued(key, oldest.kept, self.now);
            }
        }
        if outbound.wants_more(limits.queue_memory_bytes, is_connected) {
            self.durable.want_load(index);
        }
        true
    }

    /// Goes on where very many messages had expired.
    pub(crate) fn pump_on(&mut self, effects: &mut Effects) {
        if let Some(id) = self.pumping.pop_front()
            && self.sessions.get(id.index, id.generation).is_some()
        {
            self.pump(id.index, effects);
        }
    }

    /// Asks the store for more of the queues that ran short of messages in memory.
    pub(crate) fn load_spilled(&mut self, effects: &mut Effects) {
        for index in self.durable.take_wanted_loads() {
            let limits = &self.config.limits;
            let generation = self.sessions.generation(index);
            let Some(session) = self.sessions.get_mut(index, generation) else {
                continue;
            };
            let (key, outbound) = (session.key, &mut session.outbound);
            let is_connected = session.connection.is_some();
            let memory = limits.queue_memory_bytes;
            let wanting = outbound.as_mut();
            let Some(outbound) = wanting.filter(|one| one.wants_more(memory, is_connected)) else {
                continue;
            };
            outbound.spilled.is_loading = true;
            self.loading.insert(key, SessionId { index, generation });
            effects.push(Effect::Load {
                session: key,
                after: outbound.spilled.after,
                messages_max: (limits.queue_memory_messages / 2).max(1) as u32,
                bytes_max: (limits.queue_memory_bytes / 2) as u32,
            });
        }
    }

    /// More of a queue has come from the store.
    pub(crate) fn on_loaded(
        &mut self,
        key: SessionKey,
        messages: Vec<StoredQueued>,
        effects: &mut Effects,
    ) {
        let Some(id) = self.loading.remove(&key) else {
            return;
        };
        let session = self.sessions.get_mut(id.index, id.generation);
        let Some(session) = session.filter(|session| session.key == key) else {
            return;
        };
        let is_connected = session.connection.is_some();
        let Some(outbound) = &mut session.outbound else {
            return;
        };
        outbound.spilled.is_loading = false;
        if messages.is_empty() {
            // They are in the batch.
            self.durable.hurry(self.now);
        }
        let mut read = Vec::new();
        for stored in messages {
            outbound.spilled.after = outbound.spilled.after.max(stored.position);
            let Some(message) = stored.message else {
                continue;
            };
            // What is kept for a group, or has been sent, is in memory already.
            if stored.delivery.group.is_some() || stored.sent.is_some() {
                continue;
            }
            outbound.spilled.messages -= 1;
            outbound.spilled.bytes -= message.bytes();
            read.push(Queued {
                message,
                delivery: stored.delivery,
                kept: Kept::stored(stored.position),
            });
        }
        outbound.unspill(read);
        // What is in a batch that has not been written can be read after it has.
        if outbound.wants_more(self.config.limits.queue_memory_bytes, is_connected) {
            self.durable.want_load(id.index);
        }
        self.pump(id.index, effects);
    }

    /// A message is in a batch for a session that is kept: whoever acknowledges it waits for the
    /// batch, and if it comes a second time the session knows it again.
    pub(crate) fn note_kept(
        &mut self,
        index: u32,
        once: Option<Once>,
        is_promised: bool,
        ticket: &mut Ticket,
    ) {
        if is_promised {
            ticket.batch = self.durable.current();
        }
        let Some(once) = once else { return };
        let live = self.sessions.at_mut(index);
        let (session, now) = (live.key, self.now);
        let Once {
            publisher,
            packet_id,
            ordinal,
            ..
        } = once;
        let durable = &mut self.durable;
        live.outbound_mut()
            .seen
            .insert(&once, |publisher, packet_id| {
                let over = Change::RemoveSeen {
                    session,
                    publisher,
                    packet_id,
                };
                durable.push(over, false, now);
            });
        let seen = Change::PutSeen {
            session,
            publisher,
            packet_id,
            ordinal,
        };
        self.durable.push(seen, false, now);
    }
}
