//! Retained messages: keeping them where their topic lives, and reading them for new
//! subscriptions, page by page.
//!
//! Bounded by `retained_messages_max` and `retained_bytes_max` per shard, and by the rows and
//! steps of a page; a reader that does not take its output is not read for.

use crate::deliver::{Target, is_own};
use crate::frame::Answer;
use crate::message::{LazyMessage, Message};
use crate::pending::{Origin, Ticket};
use crate::placement::Audience;
use crate::session::RetainedRead;
use crate::shard::{STEPS_PER_TICK, Shard};
use crate::{Change, ConnectionId, Effects, Frame, RequestId, SessionId, ShardId};
use mqtt_v5_codec::QoS;
use std::sync::Arc;

/// Messages in a page.
const PAGE_ROWS_MAX: usize = 256;
/// Bytes of messages in a page, beyond which no further one is added.
const PAGE_BYTES_MAX: usize = 256 * 1_024;
/// Steps of the search for a page.
const PAGE_WORK_MAX: usize = 4_096;
/// Pages read for one session in one turn.
const PAGES_PER_TURN: usize = 8;
/// Output beyond which reading on waits, in bytes.
const OUTPUT_BYTES: usize = 256 * 1_024;
/// Topics remembered that overtook one page. With more, a client may be sent an old retained
/// message, marked as such, after a new one.
const OVERTAKEN_MAX: usize = 1_024;
/// Queued messages beyond which reading on waits.
const QUEUE_MESSAGES: usize = 1_024;

impl Shard {
    /// Keeps or forgets a retained message, here or where its topic lives. Returns a shard whose
    /// lane is congested.
    pub(crate) fn retain(
        &mut self,
        lazy: &mut LazyMessage<'_>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) -> Option<ShardId> {
        let to = self.placement.retained(lazy.view.topic);
        if to == self.config.shard {
            self.keep_retained(lazy, ticket);
            return None;
        }
        let pending = if ticket.wants_answer {
            ticket.wait(&mut self.pending)
        } else {
            self.pending.insert(Origin::Nobody, 1)
        };
        let frame = Frame::Retain {
            request: RequestId(pending),
            message: lazy.share(),
            is_will: ticket.is_will,
        };
        self.lanes.send(to, frame, effects);
        self.lanes.is_congested(to, effects).then_some(to)
    }

    /// Keeps a message whose topic lives here; forgets the topic's message if the payload is
    /// empty. [MQTT-3.3.1-5] to [MQTT-3.3.1-7]
    pub(crate) fn keep_retained(&mut self, lazy: &mut LazyMessage<'_>, ticket: &mut Ticket) {
        let topic = lazy.view.topic;
        let is_promised = ticket.wants_answer && self.durable.promises(topic);
        if ticket.wants_answer && self.durable.is_stalled && !ticket.is_will {
            self.counters.refused_store += 1;
            ticket.is_refused = true;
            return;
        }
        self.replace_retained(lazy, is_promised);
        if is_promised {
            ticket.batch = ticket.batch.max(self.durable.gate());
        }
    }

    fn replace_retained(&mut self, lazy: &mut LazyMessage<'_>, is_promised: bool) {
        let topic = lazy.view.topic;
        if lazy.view.payload.is_empty() {
            return self.forget_retained(topic, is_promised);
        }
        let limits = &self.config.limits;
        let message = lazy.share();
        let old = self.retained.get(topic).map(|old| old.bytes());
        let bytes = self.retained_bytes - old.unwrap_or(0) + message.bytes();
        let is_new = old.is_none();
        if bytes > limits.retained_bytes_max
            || (is_new && self.retained.len() >= limits.retained_messages_max)
        {
            self.counters.dropped_retained_full += 1;
            // Rather nothing than a value that is no longer true.
            return self.forget_retained(topic, is_promised);
        }
        if self.keeps_retained(topic) {
            let message = Arc::clone(&message);
            self.durable
                .push(Change::PutRetained { message }, is_promised, self.now);
        }
        self.retained_bytes += message.bytes();
        if let Some(old) = self.retained.insert(topic, message, lazy.view.expires) {
            self.retained_bytes -= old.bytes();
        }
    }

    /// What the broker says of itself is said anew by the next one.
    fn keeps_retained(&self, topic: &str) -> bool {
        self.durable.is_on() && !topic.starts_with("$SYS/")
    }

    pub(crate) fn forget_retained(&mut self, topic: &str, is_promised: bool) {
        if let Some(old) = self.retained.remove(topic) {
            self.retained_bytes -= old.bytes();
            if self.keeps_retained(topic) {
                let topic = topic.into();
                self.durable
                    .push(Change::RemoveRetained { topic }, is_promised, self.now);
            }
        } else if is_promised {
            // It may be an earlier removal that nobody was promised.
            self.durable.promise();
        }
    }

    /// Forgets retained messages that have expired. [MQTT-3.3.2-5]
    pub(crate) fn expire_retained(&mut self) {
        let (bytes, durable, now) = (&mut self.retained_bytes, &mut self.durable, self.now);
        self.retained.expire(now, STEPS_PER_TICK, |topic, message| {
            *bytes -= message.bytes();
            if durable.is_on() {
                let topic = topic.into();
                durable.push(Change::RemoveRetained { topic }, false, now);
            }
        });
    }

    /// Whether a read for a filter may find something: most find nothing, and that is known at
    /// once where all of them are kept here.
    pub(crate) fn may_have_retained(&self, filter: &str) -> bool {
        let is_here = match self.placement.retained_for_filter(filter) {
            Audience::Owner(owner) => owner == self.config.shard,
            Audience::All => self.config.shards == 1,
        };
        if !is_here {
            return true;
        }
        let mut found = false;
        let next = self
            .retained
            .page(filter, None, 1, 256, |_, _| found = true);
        found || next.is_some()
    }

    /// A page of retained messages that match a filter.
    fn page(&self, filter: &str, after: Option<&str>) -> (Vec<Arc<Message>>, Option<String>) {
        let mut messages = Vec::new();
        let mut bytes = 0;
        let mut cursor = after.map(str::to_owned);
        // A few short pages make one, so that large messages do not make a large page: as many
        // rows as there is room for if they are like those before.
        loop {
            let rows = match messages.len() {
                0 => 1,
                count => (PAGE_BYTES_MAX.saturating_sub(bytes) * count / bytes.max(1))
                    .clamp(1, (PAGE_ROWS_MAX - count).min(32)),
            };
            let next = self.retained.page(
                filter,
                cursor.as_deref(),
                rows,
                PAGE_WORK_MAX,
                |_, message| {
                    bytes += message.bytes();
                    if !message.view().is_expired(self.now) {
                        messages.push(Arc::clone(message));
                    }
                },
            );
            let is_full = messages.len() >= PAGE_ROWS_MAX || bytes > PAGE_BYTES_MAX;
            let is_idle = messages.is_empty();
            if next.is_none() || is_full || is_idle {
                return (messages, next);
            }
            cursor = next;
        }
    }

    pub(crate) fn on_retained_read(
        &mut self,
        from: ShardId,
        request: RequestId,
        filter: &str,
        after: Option<&str>,
        effects: &mut Effects,
    ) {
        let (messages, next) = self.page(filter, after);
        self.reply(
            from,
            request,
            Answer::RetainedPage { messages, next },
            effects,
        );
    }

    /// Goes on reading for sessions that used up their turn.
    pub(crate) fn read_on(&mut self, effects: &mut Effects) {
        for _ in 0..self.reading.len().min(STEPS_PER_TICK / PAGES_PER_TURN) {
            let Some(id) = self.reading.pop_front() else {
                return;
            };
            if self.sessions.get(id.index, id.generation).is_some() {
                self.pump_reads(id.index, effects);
            }
        }
    }

    /// Reads for a session's new subscriptions as long as it takes what it gets.
    pub(crate) fn pump_reads(&mut self, index: u32, effects: &mut Effects) {
        for _ in 0..PAGES_PER_TURN {
            let session = self.sessions.at_mut(index);
            let Some(connection) = session.connection else {
                return;
            };
            let Some(reads) = &mut session.reads else {
                return;
            };
            let Some(read) = reads.front_mut() else {
                session.reads = None;
                return;
            };
            if read.is_waiting {
                return;
            }
            let queued = session
                .outbound
                .as_ref()
                .map_or(0, |outbound| outbound.queue_len());
            if effects.pending_bytes(connection) > OUTPUT_BYTES {
                return effects.want_writable(connection);
            }
            if queued > QUEUE_MESSAGES {
                return; // The next acknowledgement goes on.
            }
            let (filter, after, shard) = (Arc::clone(&read.filter), read.after.clone(), read.shard);
            if shard == self.config.shard {
                let (messages, next) = self.page(&filter, after.as_deref());
                self.on_page(index, messages, next, effects);
                continue;
            }
            read.is_waiting = true;
            let generation = self.sessions.generation(index);
            let session = SessionId { index, generation };
            let origin = Origin::RetainedRead {
                session,
                connection,
            };
            let request = RequestId(self.pending.insert(origin, 1));
            self.lanes.send(
                shard,
                Frame::RetainedRead {
                    request,
                    filter,
                    after,
                },
                effects,
            );
            return;
        }
        let generation = self.sessions.generation(index);
        self.reading.push_back(SessionId { index, generation });
    }

    /// A retained message is delivered as it comes, while a page that may hold an older one of its
    /// topic is on its way.
    pub(crate) fn note_overtaking(&mut self, index: u32, topic: &str) {
        let reads = self.sessions.at_mut(index).reads.as_mut();
        let read = reads.and_then(|reads| reads.front_mut());
        if let Some(read) = read.filter(|read| read.is_waiting)
            && read.overtaken.len() < OVERTAKEN_MAX
        {
            read.overtaken.push(topic.into());
        }
    }

    /// A page has come from another shard.
    pub(crate) fn on_retained_page(
        &mut self,
        session: SessionId,
        connection: ConnectionId,
        messages: Vec<Arc<Message>>,
        next: Option<String>,
        effects: &mut Effects,
    ) {
        let live = self.sessions.get_mut(session.index, session.generation);
        let live = live.filter(|live| live.connection == Some(connection));
        let read = live.and_then(|live| live.reads.as_mut()?.front_mut());
        let Some(read) = read.filter(|read| read.is_waiting) else {
            return;
        };
        read.is_waiting = false;
        self.on_page(session.index, messages, next, effects);
        self.pump_reads(session.index, effects);
    }

    /// Delivers a page and notes where to go on.
    fn on_page(
        &mut self,
        index: u32,
        messages: Vec<Arc<Message>>,
        next: Option<String>,
        effects: &mut Effects,
    ) {
        let reads = self.sessions.at_mut(index).reads.as_mut();
        let read = reads
            .and_then(|reads| reads.front_mut())
            .expect("a page is read for someone");
        let (options, ids) = (read.options, [read.subscription_id]);
        let overtaken = std::mem::take(&mut read.overtaken);
        let filter = Arc::clone(&read.filter);
        let is_done = advance(read, next);
        if is_done {
            self.sessions
                .at_mut(index)
                .reads
                .as_mut()
                .expect("just seen")
                .pop_front();
        }
        if self
            .subscriptions
            .find(&filter)
            .is_none_or(|id| !self.subscriptions.has(id, index))
        {
            return; // Unsubscribed meanwhile.
        }
        let mut ticket = Ticket::unawaited();
        let me = self.config.shard;
        for message in &messages {
            let topic = message.view().topic;
            if overtaken.iter().any(|newer| **newer == *topic) {
                continue;
            }
            if self.is_of_another(index, topic) {
                continue;
            }
            // [MQTT-3.8.3-3]
            if options.no_local && is_own(&self.sessions, me, message.publisher, index) {
                continue;
            }
            self.templates.clear();
            let target = Target {
                session: index,
                options,
                ids: &ids,
                group: None,
                is_retained: true,
            };
            debug_assert!(message.qos <= QoS::ExactlyOnce);
            self.deliver_one(target, &mut LazyMessage::of(message), &mut ticket, effects);
        }
    }
}

/// Moves a read on; returns whether it is done.
fn advance(read: &mut RetainedRead, next: Option<String>) -> bool {
    read.after = next;
    if read.after.is_some() {
        return false;
    }
    if read.shard == read.last {
        return true;
    }
    read.shard = ShardId(read.shard.0 + 1);
    false
}
