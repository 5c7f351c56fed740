//! A shard starts again: it takes in what was kept, tells the others, and is ready.
//!
//! Always: no timer of a recovered session runs out before every shard knows what all others
//! have, so that a will that is due reaches all its subscribers.

use crate::filter_tree::FilterId;
use crate::lifecycle::expires;
use crate::map::{Map, map_with_seed};
use crate::outbound::{InFlight, Kept, Queued, Step};
use crate::pending::Origin;
use crate::placement::Audience;
use crate::seen::Once;
use crate::session::{Session, SharedSubscription, Will};
use crate::shard::TimerKey;
use crate::subscribe::ToAnnounce;
use crate::subscriptions::{Grant, Waiter};
use crate::{
    Change, Effect, Effects, Frame, GroupKey, Message, MessageView, OVER, Publisher, RequestId,
    SessionId, SessionKey, Shard, ShardId, Span, StoredQueued, StoredSession, StoredSubscription,
    Time,
};
use mqtt_v5_codec::{Share, filter_is_valid, split_share};
use std::collections::VecDeque;
use std::sync::Arc;

/// Filters announced in one turn: one frame to each shard.
const FILTERS_PER_TURN: usize = 1_000;
/// Members that join groups in one turn.
const JOINS_PER_TURN: usize = 256;
/// Announcements that may be unanswered before the next is made.
const ANNOUNCEMENTS_MAX: usize = 16 * FILTERS_PER_TURN;
/// How long the queue of a recovered group waits for a member.
const LEFTOVERS: Span = Span::from_s(60);

/// What is known while a shard recovers and begins.
#[derive(Default)]
pub(crate) struct Beginning {
    by_key: Option<Map<SessionKey, u32>>,
    /// Sessions whose client was connected when the last process ended.
    were_connected: Vec<u32>,
    /// Filters that others do not know yet.
    filters: Vec<FilterId>,
    /// Shared subscriptions whose groups do not know of them yet.
    joins: Vec<(u32, Arc<GroupKey>)>,
    /// Joins that have not been answered.
    pub(crate) joining: usize,
    is_begun: bool,
    is_ready: bool,
    /// Other shards that are ready.
    pub(crate) others_ready: u16,
}

impl Shard {
    /// Takes in one kept record: a *put* change. Sessions come first, then the rest; messages of a
    /// queue in the order of their positions. Errs, saying why, if the record contradicts the
    /// others.
    pub fn recover(&mut self, change: Change) -> Result<(), String> {
        let started = self.started;
        match change {
            Change::PutSession(session) => self.recover_session(*session),
            Change::PutSubscription(subscription) => self.recover_subscription(&subscription),
            Change::PutFloor { session, ordinal } => {
                self.recovering(session)?
                    .inbound_mut()
                    .numbering_mut(Some(started))
                    .recover(ordinal, started);
                Ok(())
            }
            Change::PutReceived {
                session,
                packet_id,
                ordinal,
            } => {
                let inbound = self.recovering(session)?.inbound_mut();
                if inbound.is_received(packet_id) {
                    return Err(format!("{packet_id:?} of {session:?} received twice"));
                }
                inbound
                    .numbering_mut(Some(started))
                    .recover_received(packet_id, ordinal);
                if ordinal & OVER == 0 {
                    inbound.remember(packet_id);
                    inbound.end_connection();
                }
                Ok(())
            }
            Change::PutQueued(queued) => self.recover_queued(*queued),
            Change::PutSeen {
                session,
                publisher,
                packet_id,
                ordinal,
            } => {
                let once = Once {
                    publisher,
                    packet_id,
                    ordinal,
                    repeats_above: None,
                    floor: 0,
                    recovered_floor: 0,
                    base: 0,
                };
                let outbound = self.recovering(session)?.outbound_mut();
                outbound.seen.insert(&once, |_, _| {});
                Ok(())
            }
            Change::PutRetained { message } => self.recover_retained(message),
            Change::PutGroupQueued {
                key,
                position,
                message,
            } => {
                self.durable.saw_position(position);
                self.groups
                    .recover_queued(key, message, Kept::stored(position));
                Ok(())
            }
            other => self.recover_mesh(other),
        }
    }

    fn recovering(&mut self, key: SessionKey) -> Result<&mut Session, String> {
        let index = self.recovering_index(key)?;
        Ok(self.sessions.at_mut(index))
    }

    fn recovering_index(&self, key: SessionKey) -> Result<u32, String> {
        let by_key = self.beginning.by_key.as_ref();
        let index = by_key.and_then(|by_key| by_key.get(&key));
        index
            .copied()
            .ok_or_else(|| format!("a record of {key:?}, which is not there"))
    }

    fn recover_session(&mut self, stored: StoredSession) -> Result<(), String> {
        if self
            .clients
            .find(&stored.client_id, &self.sessions)
            .is_some()
        {
            return Err(format!("two sessions of client {:?}", stored.client_id));
        }
        let mut session = Session::new(&stored.client_id);
        session.key = stored.session;
        session.is_recovered = true;
        session.device = stored.device.map(Box::new);
        session.expiry_s = stored.expiry_s;
        session.expires = stored.left.and_then(|left| expires(left, stored.expiry_s));
        session.will = stored.will.map(|will| {
            Box::new(Will {
                message: will.message,
                delay_s: will.delay_s,
                expiry_s: will.expiry_s,
                due: stored
                    .left
                    .map(|left| left + Span::from_s(u64::from(will.delay_s))),
            })
        });
        let (index, generation) = self.sessions.insert(session);
        self.clients.insert(index, &self.sessions);
        // No Local holds for wills, too. [MQTT-3.8.3-3]
        let publisher = Some(Publisher {
            shard: self.config.shard,
            session: SessionId { index, generation },
        });
        if let Some(will) = &mut self.sessions.at_mut(index).will {
            let view = will.message.view();
            will.message = MessageView { publisher, ..view }.to_message();
        }
        let seed = self.config.seed;
        let by_key = self
            .beginning
            .by_key
            .get_or_insert_with(|| map_with_seed(seed));
        if by_key.insert(stored.session, index).is_some() {
            return Err(format!("{:?} twice", stored.session));
        }
        if stored.left.is_none() {
            self.beginning.were_connected.push(index);
        }
        Ok(())
    }

    fn recover_subscription(&mut self, stored: &StoredSubscription) -> Result<(), String> {
        let index = self.recovering_index(stored.session)?;
        let invalid = || format!("an invalid filter {:?}", stored.filter);
        let (name, filter) = match split_share(&stored.filter) {
            Share::None => (None, &*stored.filter),
            Share::Group { name, filter } => (Some(name), filter),
            Share::Invalid => return Err(invalid()),
        };
        if !filter_is_valid(filter) {
            return Err(invalid());
        }
        self.counters.subscriptions += 1;
        if let Some(name) = name {
            self.counters.subscriptions_shared += 1;
            let key = Arc::new(GroupKey {
                name: name.into(),
                filter: filter.into(),
            });
            let shared = SharedSubscription {
                key: Arc::clone(&key),
                group: self.placement.group(name, filter),
                options: stored.options,
                subscription_id: stored.subscription_id,
            };
            let session = self.sessions.at_mut(index);
            session.shared.get_or_insert_default().push(shared);
            self.beginning.joins.push((index, key));
            return Ok(());
        }
        let (id, is_new) = self.subscriptions.entry(filter);
        let grant = Grant::new(stored.options, stored.subscription_id);
        let subscribers = &mut self.subscriptions.get_mut(id).subscribers;
        if subscribers.insert(index, grant).is_some() {
            return Err(format!("two subscriptions to {filter:?} of one session"));
        }
        self.sessions.at_mut(index).subscriptions.insert(id, ());
        let is_alone = self.placement.audience(filter) == Audience::Owner(self.config.shard);
        if is_new && self.config.shards > 1 && !is_alone {
            self.beginning.filters.push(id);
        }
        Ok(())
    }

    fn recover_queued(&mut self, stored_queued: StoredQueued) -> Result<(), String> {
        let StoredQueued {
            session,
            position,
            message,
            delivery,
            sent,
        } = stored_queued;
        self.durable.saw_position(position);
        let kept = Kept::stored(position);
        let limits = &self.config.limits;
        let (messages_max, bytes_max) = (limits.queue_memory_messages, limits.queue_memory_bytes);
        let bytes = message.as_ref().map_or(0, |message| message.bytes());
        let outbound = self.recovering(session)?.outbound_mut();
        let Some((packet_id, step)) = sent else {
            let Some(message) = message else {
                return Err(format!(
                    "a queued message of {session:?} without its content"
                ));
            };
            let is_full = outbound.queue.len() >= messages_max || outbound.queue_bytes >= bytes_max;
            let may_spill = delivery.group.is_none();
            if may_spill && (is_full || outbound.spilled.messages > 0) {
                outbound.spill(bytes, position);
            } else {
                outbound.push_queue(Queued {
                    message,
                    delivery,
                    kept,
                });
            }
            self.counters.stored_messages += 1;
            self.counters.stored_bytes += bytes as u64;
            return Ok(());
        };
        if step == Step::Published && message.is_none() {
            return Err(format!("a sent message of {session:?} without its content"));
        }
        outbound.restore(InFlight {
            packet_id,
            step,
            is_unsent: true,
            message,
            delivery,
            kept,
        })?;
        self.counters.in_flight += 1;
        Ok(())
    }

    fn recover_retained(&mut self, message: Arc<Message>) -> Result<(), String> {
        let view = message.view();
        self.retained_bytes += message.bytes();
        let (topic, expires) = (view.topic, view.expires);
        match self.retained.insert(topic, Arc::clone(&message), expires) {
            Some(_) => Err(format!("two retained messages of {topic:?}")),
            None => Ok(()),
        }
    }

    /// All records are in; `alive` is when the shard was last known to be alive. From the next
    /// [`crate::Event::Tick`] on, which is due at once, the shard tells the others what it has,
    /// and says [`Effect::Ready`] when they know. Also for a shard that has recovered nothing.
    pub fn begin(&mut self, alive: Time) {
        self.beginning.by_key = None;
        let alive = alive.min(self.now);
        for index in std::mem::take(&mut self.beginning.were_connected) {
            let session = self.sessions.at_mut(index);
            session.expires = expires(alive, session.expiry_s);
            if let Some(will) = &mut session.will {
                will.due = Some(alive + Span::from_s(u64::from(will.delay_s)));
            }
            // A second crash must not count from the second.
            self.store_session(index, Some(alive), false);
        }
        let recovered: Vec<u32> = self.sessions.iter().map(|(index, _)| index).collect();
        for index in recovered {
            self.schedule_session(index);
        }
        self.timers
            .schedule(self.now + LEFTOVERS, TimerKey::Leftovers);
        self.beginning.is_begun = true;
        self.durable.beat(self.now);
    }

    /// Whether there is still something to tell the others.
    pub(crate) fn wants_to_begin(&self) -> bool {
        let beginning = &self.beginning;
        let may_announce = self.subscriptions.announcing() < ANNOUNCEMENTS_MAX;
        let has_more = !beginning.filters.is_empty() || !beginning.joins.is_empty();
        beginning.is_begun
            && !beginning.is_ready
            && (!has_more || may_announce)
            && (has_more || self.is_announced())
    }

    fn is_announced(&self) -> bool {
        self.subscriptions.announcing() == 0 && self.beginning.joining == 0
    }

    /// Whether timers wait, because not all shards know of each other yet.
    pub(crate) fn is_beginning(&self) -> bool {
        let beginning = &self.beginning;
        let is_ready = beginning.is_ready && beginning.others_ready + 1 >= self.config.shards;
        beginning.is_begun && !is_ready
    }

    /// Tells the others some more of what was recovered.
    pub(crate) fn go_on_beginning(&mut self, effects: &mut Effects) {
        if !self.wants_to_begin() {
            return;
        }
        let mut to_announce = ToAnnounce::default();
        for _ in 0..FILTERS_PER_TURN {
            let Some(id) = self.beginning.filters.pop() else {
                break;
            };
            let filter = self.subscriptions.filter(id);
            self.plan_announcement(id, &filter, &mut to_announce);
        }
        for _ in 0..JOINS_PER_TURN {
            let Some((index, key)) = self.beginning.joins.pop() else {
                break;
            };
            self.join_again(index, key, &mut to_announce, effects);
        }
        self.announce(to_announce, effects);
        let has_more = !self.beginning.filters.is_empty() || !self.beginning.joins.is_empty();
        if !has_more && self.is_announced() {
            self.beginning.is_ready = true;
            self.beginning.filters = Vec::new();
            self.beginning.joins = Vec::new();
            let others = (0..self.config.shards).map(ShardId);
            for to in others.filter(|to| *to != self.config.shard) {
                self.lanes.send(to, Frame::Begun, effects);
            }
            effects.push(Effect::Ready);
        }
    }

    /// A recovered session is a member of its group again, and not connected.
    fn join_again(
        &mut self,
        index: u32,
        key: Arc<GroupKey>,
        to_announce: &mut ToAnnounce,
        effects: &mut Effects,
    ) {
        let live = self.sessions.at(index);
        let shared = live.shared_subscription(&key).expect("recovered with it");
        let (group, options) = (shared.group, shared.options);
        let generation = self.sessions.generation(index);
        let session = SessionId { index, generation };
        if group == self.config.shard {
            let member = (group, session);
            self.join_group(&key, member, options, Waiter::Nobody, to_announce);
            return self.on_group_presence(group, &key, session, false);
        }
        self.beginning.joining += 1;
        let request = RequestId(self.pending.insert(Origin::Beginning, 1));
        let join = Frame::GroupJoin {
            request,
            key: Arc::clone(&key),
            session,
            options,
        };
        self.lanes.send(group, join, effects);
        let presence = Frame::GroupPresence {
            key,
            session,
            is_connected: false,
        };
        self.lanes.send(group, presence, effects);
    }

    /// Queues of recovered groups that nobody has joined again are given up.
    pub(crate) fn drop_leftovers(&mut self) {
        for (key, queue) in self.groups.take_leftovers() {
            self.counters.dropped_queue_full += queue.len() as u64;
            for (_, kept) in queue {
                self.forget_group_queued(&key, kept);
            }
        }
    }
}

/// The queue of a group that was recovered before its first member.
pub(crate) type RecoveredQueue = VecDeque<(Arc<Message>, Kept)>;
