//! Shared subscriptions: the groups that live on this shard. [MQTT-4.8.2-1] to [MQTT-4.8.2-6]
//!
//! A group lives where its name and filter hash to; its members' sessions may live anywhere. The
//! group picks a member for each message, in turn among those connected, and keeps the message in
//! its own queue while none is. Always: a group has at least one member. Bounded by
//! `queue_messages_max` and `queue_bytes_max` per group.

use crate::deliver::Target;
use crate::frame::{Answer, GroupKey};
use crate::map::{Map, map_with_seed};
use crate::message::{LazyMessage, Message};
use crate::outbound::Kept;
use crate::pending::{Origin, Outcome, Ticket};
use crate::recover::RecoveredQueue;
use crate::shard::{STEPS_PER_TICK, Shard, TimerKey};
use crate::slots::Slots;
use crate::subscribe::ToAnnounce;
use crate::subscriptions::Waiter;
use crate::{Change, Effects, Frame, RequestId, SessionId, SessionKey, ShardId, Span};
use mqtt_v5_codec::{QoS, SubscriptionOptions};
use std::collections::VecDeque;
use std::sync::Arc;

/// How long a group waits before it offers again what no member could take.
const TRY_AGAIN: Span = Span::from_s(1);

/// A session and its home.
pub type MemberId = (ShardId, SessionId);

#[derive(Debug)]
struct Member {
    id: MemberId,
    options: SubscriptionOptions,
    is_connected: bool,
    /// How often its home has told whether it is connected.
    presence: u32,
}

#[derive(Debug)]
struct Group {
    key: Arc<GroupKey>,
    members: Vec<Member>,
    /// The member after the one that was served last.
    cursor: usize,
    queue: VecDeque<(Arc<Message>, Kept)>,
    queue_bytes: usize,
}

/// All groups of a shard.
#[derive(Debug)]
pub struct Groups {
    groups: Slots<Group>,
    by_key: Map<Arc<GroupKey>, u32>,
    /// Groups whose queue has someone to go to again.
    draining: VecDeque<Arc<GroupKey>>,
    /// Groups whose members could not take what they were offered.
    refused: Vec<Arc<GroupKey>>,
    /// Recovered queues of groups that nobody has joined again yet.
    recovered: Map<Arc<GroupKey>, RecoveredQueue>,
}

impl Groups {
    /// None yet.
    pub fn new(seed: u64) -> Groups {
        Groups {
            groups: Slots::default(),
            by_key: map_with_seed(seed),
            draining: VecDeque::new(),
            refused: Vec::new(),
            recovered: map_with_seed(seed.wrapping_add(1)),
        }
    }

    /// A group: its members, how many of them are connected, and the messages in its queue.
    pub fn describe(&self, key: &GroupKey) -> Option<(usize, usize, usize)> {
        let group = self.groups.at(*self.by_key.get(key)?);
        let connected = group.members.iter().filter(|member| member.is_connected);
        Some((group.members.len(), connected.count(), group.queue.len()))
    }

    /// Whether some group's queue should be drained at the next turn.
    pub fn wants_turn(&self) -> bool {
        !self.draining.is_empty()
    }

    /// A message of a former process, in order of its position.
    pub(crate) fn recover_queued(&mut self, key: Arc<GroupKey>, message: Arc<Message>, kept: Kept) {
        let queue = self.recovered.entry(key).or_default();
        queue.push_back((message, kept));
    }

    /// Recovered queues that no group has claimed.
    pub(crate) fn take_leftovers(&mut self) -> Vec<(Arc<GroupKey>, RecoveredQueue)> {
        self.recovered.drain().collect()
    }

    /// The next connected member, in turn, and its [`Member::presence`].
    fn pick(&mut self, group: u32) -> Option<(MemberId, u32)> {
        let group = self.groups.at_mut(group);
        let count = group.members.len();
        for step in 0..count {
            let at = (group.cursor + step) % count;
            if group.members[at].is_connected {
                group.cursor = (at + 1) % count;
                return Some((group.members[at].id, group.members[at].presence));
            }
        }
        None
    }

    fn set_connected(&mut self, key: &GroupKey, id: MemberId, is_connected: bool) {
        let Some(index) = self.by_key.get(key) else {
            return;
        };
        let group = self.groups.at_mut(*index);
        let Some(member) = group.members.iter_mut().find(|member| member.id == id) else {
            return;
        };
        member.is_connected = is_connected;
        member.presence = member.presence.wrapping_add(1);
        if is_connected && !group.queue.is_empty() {
            self.draining.push_back(Arc::clone(&group.key));
        }
    }

    /// A member was not connected when an offer reached it. It may have come back since, and its
    /// home may have said so: then that is the newer news, since an answer can be overtaken.
    fn on_declined(&mut self, key: &GroupKey, id: MemberId, presence: u32) {
        let Some(index) = self.by_key.get(key) else {
            return;
        };
        let mut members = self.groups.at_mut(*index).members.iter_mut();
        let member = members.find(|member| member.id == id && member.presence == presence);
        if let Some(member) = member {
            member.is_connected = false;
        }
    }

    /// Asserts what always holds.
    pub fn check(&self) {
        for (_, group) in self.groups.iter() {
            assert!(!group.members.is_empty(), "a group without members");
            let bytes: usize = group.queue.iter().map(|(message, _)| message.bytes()).sum();
            assert_eq!(bytes, group.queue_bytes);
        }
    }
}

impl Shard {
    /// Adds a member to a group here, or changes its options; returns whether the waiter has to
    /// wait until other shards know the filter.
    pub(crate) fn join_group(
        &mut self,
        key: &Arc<GroupKey>,
        member: MemberId,
        options: SubscriptionOptions,
        waiter: Waiter,
        to_announce: &mut ToAnnounce,
    ) -> bool {
        let (filter, is_new_filter) = self.subscriptions.entry(&key.filter);
        let index = match self.groups.by_key.get(key) {
            Some(index) => *index,
            None => {
                let queue = self.groups.recovered.remove(key).unwrap_or_default();
                let queue_bytes: usize = queue.iter().map(|(message, _)| message.bytes()).sum();
                self.counters.stored_messages += queue.len() as u64;
                self.counters.stored_bytes += queue_bytes as u64;
                let (index, _) = self.groups.groups.insert(Group {
                    key: Arc::clone(key),
                    members: Vec::new(),
                    cursor: 0,
                    queue,
                    queue_bytes,
                });
                self.groups.by_key.insert(Arc::clone(key), index);
                self.subscriptions
                    .get_mut(filter)
                    .groups
                    .get_or_insert_default()
                    .push(index);
                index
            }
        };
        let group = self.groups.groups.at_mut(index);
        match group.members.iter_mut().find(|known| known.id == member) {
            Some(known) => known.options = options,
            None => group.members.push(Member {
                id: member,
                options,
                is_connected: false,
                presence: 0,
            }),
        }
        self.groups.set_connected(key, member, true);
        if is_new_filter {
            self.plan_announcement(filter, &key.filter, to_announce);
        }
        self.subscriptions.wait(filter, waiter)
    }

    pub(crate) fn on_group_join(
        &mut self,
        from: ShardId,
        request: RequestId,
        key: &Arc<GroupKey>,
        session: SessionId,
        options: SubscriptionOptions,
        effects: &mut Effects,
    ) {
        let mut to_announce = ToAnnounce::default();
        let waiter = Waiter::Join { to: from, request };
        let must_wait = self.join_group(key, (from, session), options, waiter, &mut to_announce);
        self.announce(to_announce, effects);
        if !must_wait {
            self.reply(from, request, Answer::GroupJoined, effects);
        }
    }

    /// Removes a member; returns the filter if nobody here wants it any more.
    pub(crate) fn leave_group(&mut self, key: &GroupKey, member: MemberId) -> Option<Box<str>> {
        let index = *self.groups.by_key.get(key)?;
        let group = self.groups.groups.at_mut(index);
        let at = group.members.iter().position(|known| known.id == member)?;
        group.members.remove(at);
        if group.cursor > at {
            group.cursor -= 1;
        }
        if !group.members.is_empty() {
            return None;
        }
        let group = self.groups.groups.remove(index);
        for (_, kept) in &group.queue {
            self.forget_group_queued(&group.key, *kept);
        }
        self.counters.dropped_queue_full += group.queue.len() as u64;
        self.counters.stored_messages -= group.queue.len() as u64;
        self.counters.stored_bytes -= group.queue_bytes as u64;
        self.groups.by_key.remove(key);
        let filter = self
            .subscriptions
            .find(&key.filter)
            .expect("a group's filter is in the tree");
        let entry = self.subscriptions.get_mut(filter);
        if let Some(groups) = &mut entry.groups {
            groups.retain(|known| *known != index);
            if groups.is_empty() {
                entry.groups = None;
            }
        }
        self.subscriptions.remove_if_unused(filter)
    }

    /// Tells the groups of a session's shared subscriptions whether it is connected.
    pub(crate) fn announce_presence(
        &mut self,
        session: SessionId,
        is_connected: bool,
        effects: &mut Effects,
    ) {
        let Some(shared) = &self.sessions.at(session.index).shared else {
            return;
        };
        let me = self.config.shard;
        for shared in shared.iter() {
            if shared.group == me {
                self.groups
                    .set_connected(&shared.key, (me, session), is_connected);
            } else {
                let key = Arc::clone(&shared.key);
                let frame = Frame::GroupPresence {
                    key,
                    session,
                    is_connected,
                };
                self.lanes.send(shared.group, frame, effects);
            }
        }
    }

    pub(crate) fn on_group_presence(
        &mut self,
        from: ShardId,
        key: &GroupKey,
        session: SessionId,
        is_connected: bool,
    ) {
        self.groups
            .set_connected(key, (from, session), is_connected);
    }

    /// Gives a message to one member of a group.
    pub(crate) fn offer(
        &mut self,
        group: u32,
        lazy: &mut LazyMessage<'_>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let key = Arc::clone(&self.groups.groups.at(group).key);
        let Some(((home, session), presence)) = self.groups.pick(group) else {
            if lazy.view.qos > QoS::AtMostOnce {
                ticket.matched = true;
                let may_refuse = ticket.wants_answer && !ticket.is_will;
                if self.durable.is_stalled && may_refuse {
                    self.counters.refused_store += 1;
                    ticket.is_refused = true;
                } else {
                    self.queue_in_group(&key, lazy.share(), ticket);
                }
            }
            return;
        };
        if home == self.config.shard {
            let live = self.sessions.get(session.index, session.generation);
            let shared = live.and_then(|s| s.shared_subscription(&key));
            let shared = shared.expect("a member that is connected here subscribes here");
            let (options, ids) = (shared.options, [shared.subscription_id]);
            let target = Target {
                session: session.index,
                options,
                ids: &ids,
                group: Some(&key),
                is_retained: false,
            };
            self.deliver_one(target, lazy, ticket, effects);
            return;
        }
        ticket.matched = true;
        let message = lazy.share();
        let request = ticket.wants_answer.then(|| {
            let origin = Origin::GroupOffer {
                key: Arc::clone(&key),
                message: Arc::clone(&message),
                parent: ticket.wait(&mut self.pending),
                member: (home, session),
                presence,
            };
            RequestId(self.pending.insert(origin, 1))
        });
        let is_relay_overfull = request.is_none() && self.lanes.is_overfull(home, effects);
        if is_relay_overfull {
            self.counters.dropped_lane_full += 1;
            return;
        }
        self.lanes.send(
            home,
            Frame::GroupDeliver {
                request,
                key,
                session,
                message,
                is_will: ticket.is_will,
            },
            effects,
        );
    }

    /// A member could not take a message: it goes to another one, or into the group's queue.
    pub(crate) fn offer_again(
        &mut self,
        key: &GroupKey,
        message: &Arc<Message>,
        (declined_by, presence): (MemberId, u32),
        parent: u32,
        effects: &mut Effects,
    ) {
        self.groups.on_declined(key, declined_by, presence);
        let ticket = Ticket::awaited(Origin::Forward { parent });
        self.offer_returned(key, message, ticket, effects);
    }

    /// Offers a message that a member gave back, or that waited.
    pub(crate) fn offer_returned(
        &mut self,
        key: &GroupKey,
        message: &Arc<Message>,
        mut ticket: Ticket,
        effects: &mut Effects,
    ) {
        ticket.matched = true;
        match self.groups.by_key.get(key).copied() {
            Some(group) => {
                let key = Arc::clone(&self.groups.groups.at(group).key);
                let origin = Origin::Returned {
                    key,
                    message: Arc::clone(message),
                    parent: ticket.wait(&mut self.pending),
                };
                let mut offer = Ticket::awaited(origin);
                offer.matched = true;
                self.templates.clear();
                self.offer(group, &mut LazyMessage::of(message), &mut offer, effects);
                self.finish_ticket(offer, effects);
            }
            // The group has no members left.
            None => self.counters.dropped_queue_full += 1,
        }
        self.finish_ticket(ticket, effects);
    }

    /// A message that came back has found a member; or none took it, and the group keeps it.
    pub(crate) fn on_returned_offer(
        &mut self,
        key: &Arc<GroupKey>,
        message: Arc<Message>,
        outcome: Outcome,
    ) -> Outcome {
        if !outcome.is_refused || !self.groups.by_key.contains_key(key) {
            return outcome;
        }
        let mut ticket = Ticket::unawaited();
        self.queue_refused(key, message, &mut ticket);
        Outcome {
            matched: true,
            batch: outcome.batch.max(ticket.batch),
            is_refused: false,
        }
    }

    /// Keeps a message that the members could not take now, and tries again in a while: to offer
    /// it at once would be to ask the same member for ever.
    fn queue_refused(&mut self, key: &Arc<GroupKey>, message: Arc<Message>, ticket: &mut Ticket) {
        self.queue_in_group(key, message, ticket);
        self.groups.draining.retain(|draining| draining != key);
        if self.groups.refused.is_empty() {
            let at = self.now + TRY_AGAIN;
            self.timers.schedule(at, TimerKey::Groups);
        }
        if !self.groups.refused.contains(key) {
            self.groups.refused.push(Arc::clone(key));
        }
    }

    /// Offers again what members could not take.
    pub(crate) fn try_groups_again(&mut self) {
        let refused = std::mem::take(&mut self.groups.refused);
        self.groups.draining.extend(refused);
    }

    /// A message of a group's queue has found a member, or a place in the queue again.
    pub(crate) fn on_queued_offer(
        &mut self,
        key: &Arc<GroupKey>,
        message: Arc<Message>,
        kept: Kept,
        outcome: Outcome,
    ) {
        if outcome.is_refused && self.groups.by_key.contains_key(key) {
            self.queue_refused(key, message, &mut Ticket::unawaited());
        }
        self.forget_group_queued(key, kept);
    }

    pub(crate) fn forget_group_queued(&mut self, key: &Arc<GroupKey>, kept: Kept) {
        let removal = |position| Change::RemoveGroupQueued {
            key: Arc::clone(key),
            position,
        };
        self.durable.forget(kept, removal, self.now);
    }

    fn queue_in_group(&mut self, key: &GroupKey, message: Arc<Message>, ticket: &mut Ticket) {
        let mut kept = Kept::default();
        let mut dropped = Vec::new();
        let limits = &self.config.limits;
        let index = self
            .groups
            .by_key
            .get(key)
            .copied()
            .expect("the caller has its group");
        let group = self.groups.groups.at_mut(index);
        let key = Arc::clone(&group.key);
        if self.durable.is_on() {
            let is_promised = self.durable.promises(message.view().topic);
            kept = self
                .durable
                .put_group_queued(&key, &message, is_promised, self.now);
            if is_promised {
                ticket.batch = self.durable.current();
            }
        }
        group.queue_bytes += message.bytes();
        self.counters.stored_messages += 1;
        self.counters.stored_bytes += message.bytes() as u64;
        group.queue.push_back((message, kept));
        while group.queue.len() > limits.queue_messages_max
            || group.queue_bytes > limits.queue_bytes_max
        {
            let Some((oldest, kept)) = group.queue.pop_front() else {
                break;
            };
            group.queue_bytes -= oldest.bytes();
            self.counters.stored_messages -= 1;
            self.counters.stored_bytes -= oldest.bytes() as u64;
            self.counters.dropped_queue_full += 1;
            dropped.push(kept);
        }
        for kept in dropped {
            self.forget_group_queued(&key, kept);
        }
    }

    /// Goes on emptying the queues of groups that have a connected member again.
    pub(crate) fn drain_groups(&mut self, effects: &mut Effects) {
        for _ in 0..STEPS_PER_TICK {
            let Some(key) = self.groups.draining.front().cloned() else {
                return;
            };
            let index = self.groups.by_key.get(&*key).copied();
            let message = index.and_then(|index| {
                let group = self.groups.groups.at_mut(index);
                let has_member = group.members.iter().any(|member| member.is_connected);
                let message = if has_member {
                    group.queue.pop_front()
                } else {
                    None
                }?;
                group.queue_bytes -= message.0.bytes();
                Some(message)
            });
            match message {
                Some((message, kept)) => {
                    self.counters.stored_messages -= 1;
                    self.counters.stored_bytes -= message.bytes() as u64;
                    if message.view().is_expired(self.now) {
                        self.forget_group_queued(&key, kept);
                        continue;
                    }
                    let ticket = Ticket::awaited(Origin::GroupQueued {
                        key: Arc::clone(&key),
                        message: Arc::clone(&message),
                        kept,
                    });
                    self.offer_returned(&key, &message, ticket, effects);
                }
                None => {
                    self.groups.draining.pop_front();
                }
            }
        }
    }

    /// To a member's home: deliver this to the member.
    pub(crate) fn on_group_deliver(
        &mut self,
        (from, request, is_will): (ShardId, Option<RequestId>, bool),
        key: &Arc<GroupKey>,
        session: SessionId,
        message: &Arc<Message>,
        effects: &mut Effects,
    ) {
        let live = self.sessions.get(session.index, session.generation);
        let subscription = live
            .filter(|live| live.connection.is_some() && !live.is_ending)
            .and_then(|live| live.shared_subscription(key))
            .map(|shared| (shared.options, [shared.subscription_id]));
        let Some((options, ids)) = subscription else {
            if let Some(request) = request {
                self.reply(from, request, Answer::Declined, effects);
            }
            return;
        };
        let mut ticket = match request {
            Some(request) => Ticket::awaited(Origin::Shard { to: from, request }),
            None => Ticket::unawaited(),
        };
        ticket.is_will = is_will;
        let target = Target {
            session: session.index,
            options,
            ids: &ids,
            group: Some(key),
            is_retained: false,
        };
        self.templates.clear();
        self.deliver_one(target, &mut LazyMessage::of(message), &mut ticket, effects);
        self.finish_ticket(ticket, effects);
    }

    /// Gives a message of a session that is gone back to its group; the session keeps it until
    /// the group does.
    pub(crate) fn return_to_group(
        &mut self,
        key: &Arc<GroupKey>,
        message: &Arc<Message>,
        (session, kept): (Option<SessionKey>, Kept),
        effects: &mut Effects,
    ) {
        let origin = match session {
            Some(session) => Origin::GroupReturn { session, kept },
            None => Origin::Nobody,
        };
        let group = self.placement.group(&key.name, &key.filter);
        if group == self.config.shard {
            return self.offer_returned(key, message, Ticket::awaited(origin), effects);
        }
        let is_kept = session.is_some();
        let request = is_kept.then(|| RequestId(self.pending.insert(origin, 1)));
        let frame = Frame::GroupReturn {
            request,
            key: Arc::clone(key),
            message: Arc::clone(message),
        };
        self.lanes.send(group, frame, effects);
    }
}
