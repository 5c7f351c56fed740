//! SUBSCRIBE and UNSUBSCRIBE, and the removal of what an ended session subscribed to.
//!
//! Always: SUBACK is sent only when every shard concerned knows of every filter in it, so that
//! every later publish anywhere reaches the subscriber.

use crate::filter_tree::FilterId;
use crate::frame::GroupKey;
use crate::pending::Origin;
use crate::placement::Audience;
use crate::session::{RetainedRead, SharedSubscription};
use crate::shard::{STEPS_PER_TICK, Shard, pause};
use crate::subscriptions::{Grant, Waiter};
use crate::{
    Change, ConnectionId, Effects, Frame, RequestId, SessionId, ShardId, StoredSubscription, topic,
};
use mqtt_v5_codec::{
    AckProperties, DecodeError, Packet, PacketId, QoS, ReasonCode, RetainHandling, ReturnCodes,
    Share, Suback, Subscribe, SubscribeFilter, SubscriptionOptions, Unsuback, Unsubscribe, Version,
    filter_is_valid, split_share,
};
use std::sync::Arc;

/// A SUBACK that waits for announcements.
#[derive(Debug)]
pub struct SubackWait {
    session: SessionId,
    connection: ConnectionId,
    packet_id: PacketId,
    reasons: Vec<ReasonCode>,
    awaiting: u32,
    reads: Vec<RetainedRead>,
}

/// Filters to announce, gathered so that each shard gets one frame.
#[derive(Debug, Default)]
pub(crate) struct ToAnnounce {
    filters: Vec<(u64, Box<str>, Audience)>,
}

impl Shard {
    pub(crate) fn on_subscribe(
        &mut self,
        id: ConnectionId,
        subscribe: &Subscribe<'_>,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let Some(session) = connection.session() else {
            return;
        };
        let version = connection.version;
        for asked in subscribe.filters() {
            let is_share = matches!(split_share(asked.filter), Share::Group { .. });
            if is_share && asked.options.no_local {
                // [MQTT-3.8.3-4]
                let error = DecodeError::protocol("No Local on a shared subscription");
                return self.fail(id, error, effects);
            }
            if version == Version::V31 && !filter_is_valid(asked.filter) {
                // SUBACK of 3.1 has no way to refuse one filter.
                let error = DecodeError::malformed("invalid topic filter");
                return self.fail(id, error, effects);
            }
        }
        let wait = self.suback_waits.insert(SubackWait {
            session,
            connection: id,
            packet_id: subscribe.packet_id,
            reasons: Vec::new(),
            awaiting: 1,
            reads: Vec::new(),
        });
        let subscription_id = subscribe.properties.subscription_id.unwrap_or(0);
        let mut to_announce = ToAnnounce::default();
        for asked in subscribe.filters() {
            let reason = self.subscribe_one(
                session,
                asked,
                subscription_id,
                wait.0,
                &mut to_announce,
                effects,
            );
            self.suback_waits.at_mut(wait.0).reasons.push(reason);
        }
        self.announce(to_announce, effects);
        self.suback_step(wait.0, effects);
        self.pause_if_congested(id, effects);
        self.pause_if_store_is_behind(id, effects);
    }

    /// Reads no more from a client while too much waits for the store.
    pub(crate) fn pause_if_store_is_behind(&mut self, id: ConnectionId, effects: &mut Effects) {
        if self.durable.is_congested() && self.connection(id).is_some() {
            self.durable.pause(id);
            self.pause(id, pause::STORE, effects);
        }
    }

    /// Subscriptions travel on the same lanes as messages: whoever fills one waits.
    fn pause_if_congested(&mut self, id: ConnectionId, effects: &mut Effects) {
        let congested = (0..self.config.shards)
            .map(ShardId)
            .find(|to| self.lanes.is_congested(*to, effects));
        if let Some(to) = congested
            && self.connection(id).is_some()
        {
            self.lanes.pause(to, id);
            self.pause(id, pause::LANE, effects);
        }
    }

    fn subscribe_one(
        &mut self,
        session: SessionId,
        asked: SubscribeFilter<'_>,
        subscription_id: u32,
        wait: u32,
        to_announce: &mut ToAnnounce,
        effects: &mut Effects,
    ) -> ReasonCode {
        let (group, filter) = match split_share(asked.filter) {
            Share::None => (None, asked.filter),
            Share::Group { name, filter } => (Some(name), filter),
            Share::Invalid => return ReasonCode::TopicFilterInvalid,
        };
        let limits = &self.config.limits;
        if !filter_is_valid(filter) || topic::levels(filter) > limits.topic_levels_max {
            return ReasonCode::TopicFilterInvalid;
        }
        if !self.may_subscribe(session, filter)
            || (group.is_some() && !self.may_share(session, filter))
        {
            return ReasonCode::NotAuthorized;
        }
        let group = group.map(|name| {
            Arc::new(GroupKey {
                name: name.into(),
                filter: filter.into(),
            })
        });
        let live = self.sessions.at(session.index);
        if live.kept_key().is_some() && self.durable.is_stalled {
            self.counters.refused_store += 1;
            return ReasonCode::QuotaExceeded;
        }
        // One that is there already may be replaced. [MQTT-3.8.4-3]
        let is_new = || match &group {
            Some(key) => live.shared_subscription(key).is_none(),
            None => self
                .subscriptions
                .find(filter)
                .is_none_or(|id| !self.subscriptions.has(id, session.index)),
        };
        if live.subscription_count() >= limits.subscriptions_max && is_new() {
            return ReasonCode::QuotaExceeded;
        }
        match group {
            Some(key) => {
                self.subscribe_shared(
                    session,
                    key,
                    asked,
                    subscription_id,
                    wait,
                    to_announce,
                    effects,
                );
            }
            None => {
                self.subscribe_plain(session, filter, asked, subscription_id, wait, to_announce)
            }
        }
        match asked.options.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// Response topics belong to the client that asked for them.
    fn may_subscribe(&self, session: SessionId, filter: &str) -> bool {
        let prefix = self.response_prefix(&self.sessions.at(session.index).client_id);
        let is_theirs = !filter.starts_with("$reply/") || filter.starts_with(&*prefix);
        is_theirs && self.may_hear(session, filter)
    }

    fn subscribe_plain(
        &mut self,
        session: SessionId,
        filter: &str,
        asked: SubscribeFilter<'_>,
        subscription_id: u32,
        wait: u32,
        to_announce: &mut ToAnnounce,
    ) {
        let (id, is_new_filter) = self.subscriptions.entry(filter);
        let grant = Grant::new(asked.options, subscription_id);
        let replaced = self
            .subscriptions
            .get_mut(id)
            .subscribers
            .insert(session.index, grant);
        if replaced != Some(grant) {
            self.store_subscription(session.index, filter, asked.options, subscription_id);
        }
        if replaced.is_none() {
            self.sessions
                .at_mut(session.index)
                .subscriptions
                .insert(id, ());
            self.counters.subscriptions += 1;
        }
        if is_new_filter {
            self.plan_announcement(id, filter, to_announce);
        }
        if self.subscriptions.wait(id, Waiter::Suback(wait)) {
            self.suback_waits.at_mut(wait).awaiting += 1;
        }
        let is_read = match asked.options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => replaced.is_none(),
            RetainHandling::Never => false,
        };
        // A retained message that arrives later is delivered as it comes.
        if is_read && self.may_have_retained(filter) {
            let (first, last) = match self.placement.retained_for_filter(filter) {
                Audience::Owner(owner) => (owner, owner),
                Audience::All => (ShardId(0), ShardId(self.config.shards - 1)),
            };
            self.suback_waits.at_mut(wait).reads.push(RetainedRead {
                filter: filter.into(),
                options: asked.options,
                subscription_id,
                shard: first,
                last,
                after: None,
                is_waiting: false,
                overtaken: Vec::new(),
            });
        }
    }

    #[allow(clippy::too_many_arguments)] // One step of subscribe_one, with all that it knows.
    fn subscribe_shared(
        &mut self,
        session: SessionId,
        key: Arc<GroupKey>,
        asked: SubscribeFilter<'_>,
        subscription_id: u32,
        wait: u32,
        to_announce: &mut ToAnnounce,
        effects: &mut Effects,
    ) {
        let group = self.placement.group(&key.name, &key.filter);
        let options = asked.options;
        let shared = SharedSubscription {
            key: Arc::clone(&key),
            group,
            options,
            subscription_id,
        };
        self.store_subscription(session.index, asked.filter, options, subscription_id);
        let list = self
            .sessions
            .at_mut(session.index)
            .shared
            .get_or_insert_default();
        match list.iter_mut().find(|known| *known.key == *key) {
            Some(known) => *known = shared,
            None => {
                list.push(shared);
                self.counters.subscriptions += 1;
                self.counters.subscriptions_shared += 1;
            }
        }
        self.suback_waits.at_mut(wait).awaiting += 1;
        if group == self.config.shard {
            let waiter = Waiter::Suback(wait);
            if !self.join_group(&key, (group, session), options, waiter, to_announce) {
                self.suback_waits.at_mut(wait).awaiting -= 1;
            }
        } else {
            let request = RequestId(self.pending.insert(Origin::GroupJoin { wait }, 1));
            self.lanes.send(
                group,
                Frame::GroupJoin {
                    request,
                    key,
                    session,
                    options,
                },
                effects,
            );
        }
    }

    /// Notes that a filter is new here, so that [`Shard::announce`] tells whom it concerns.
    pub(crate) fn plan_announcement(
        &mut self,
        id: FilterId,
        filter: &str,
        to_announce: &mut ToAnnounce,
    ) {
        let audience = self.placement.audience(filter);
        let shards = match audience {
            Audience::Owner(owner) => u32::from(owner != self.config.shard),
            Audience::All => u32::from(self.config.shards) - 1,
        };
        if shards > 0 {
            let number = self.subscriptions.announce(id, shards);
            to_announce.filters.push((number, filter.into(), audience));
        }
    }

    /// Tells other shards of new filters.
    pub(crate) fn announce(&mut self, to_announce: ToAnnounce, effects: &mut Effects) {
        if to_announce.filters.is_empty() {
            return;
        }
        for to in (0..self.config.shards)
            .map(ShardId)
            .filter(|to| *to != self.config.shard)
        {
            let concerned = |audience: &Audience| match audience {
                Audience::Owner(owner) => *owner == to,
                Audience::All => true,
            };
            let (numbers, filters): (Vec<u64>, Vec<Box<str>>) = to_announce
                .filters
                .iter()
                .filter(|(_, _, audience)| concerned(audience))
                .map(|(number, filter, _)| (*number, filter.clone()))
                .unzip();
            if !numbers.is_empty() {
                let origin = Origin::Announcement { filters: numbers };
                let request = RequestId(self.pending.insert(origin, 1));
                self.lanes
                    .send(to, Frame::RouteAdd { request, filters }, effects);
            }
        }
    }

    /// A shard knows these filters now.
    pub(crate) fn on_announced(&mut self, numbers: &[u64], effects: &mut Effects) {
        for number in numbers {
            for waiter in self.subscriptions.on_announced(*number) {
                match waiter {
                    Waiter::Nobody => {}
                    Waiter::Suback(wait) => self.suback_step(wait, effects),
                    Waiter::Join { to, request } => {
                        self.reply(to, request, crate::frame::Answer::GroupJoined, effects);
                    }
                }
            }
        }
    }

    /// One thing that a SUBACK waited for has come; sends it after the last.
    pub(crate) fn suback_step(&mut self, wait: u32, effects: &mut Effects) {
        let waiting = self.suback_waits.at_mut(wait);
        assert!(waiting.awaiting > 0, "a SUBACK that awaits nothing is gone");
        waiting.awaiting -= 1;
        if waiting.awaiting > 0 {
            return;
        }
        let done = self.suback_waits.remove(wait);
        let session = self
            .sessions
            .get_mut(done.session.index, done.session.generation);
        let Some(session) = session else { return };
        let is_kept = session.kept_key().is_some();
        if session.connection != Some(done.connection) {
            return;
        }
        if !done.reads.is_empty() {
            session.reads.get_or_insert_default().extend(done.reads);
        }
        let suback = Packet::Suback(Suback {
            packet_id: done.packet_id,
            properties: AckProperties::default(),
            reasons: ReturnCodes::List(&done.reasons),
        });
        if is_kept {
            self.hold(done.connection, effects);
        }
        self.send(done.connection, &suback, effects);
        self.pump_reads(done.session.index, effects);
    }

    pub(crate) fn on_unsubscribe(
        &mut self,
        id: ConnectionId,
        unsubscribe: &Unsubscribe<'_>,
        effects: &mut Effects,
    ) {
        let Some(session) = self.connection(id).and_then(|c| c.session()) else {
            return;
        };
        let mut reasons = Vec::new();
        let mut removed = Vec::new();
        for filter in unsubscribe.filters() {
            let is_known = match split_share(filter) {
                Share::None => self.unsubscribe_plain(session, filter, &mut removed),
                Share::Group { name, filter } => {
                    let key = GroupKey {
                        name: name.into(),
                        filter: filter.into(),
                    };
                    self.unsubscribe_shared(session, &key, &mut removed, effects)
                }
                Share::Invalid => false,
            };
            reasons.push(match is_known {
                true => ReasonCode::Success,
                false if !filter_is_valid(filter) => ReasonCode::TopicFilterInvalid,
                false => ReasonCode::NoSubscriptionExisted,
            });
        }
        self.withdraw(removed, effects);
        if self.sessions.at(session.index).kept_key().is_some() {
            self.hold(id, effects);
        }
        let unsuback = Packet::Unsuback(Unsuback {
            packet_id: unsubscribe.packet_id,
            properties: AckProperties::default(),
            reasons: ReturnCodes::List(&reasons),
        });
        self.send(id, &unsuback, effects);
        self.pause_if_congested(id, effects);
    }

    fn unsubscribe_plain(
        &mut self,
        session: SessionId,
        filter: &str,
        removed: &mut Vec<Box<str>>,
    ) -> bool {
        let Some(id) = self.subscriptions.find(filter) else {
            return false;
        };
        let subscriptions = &mut self.sessions.at_mut(session.index).subscriptions;
        if subscriptions.remove(id).is_none() {
            return false;
        }
        self.drop_subscription(session.index, id, removed);
        self.unstore_subscription(session.index, filter.into());
        true
    }

    /// Keeps a subscription of a session that is kept; `filter` is as the client wrote it.
    fn store_subscription(
        &mut self,
        index: u32,
        filter: &str,
        options: SubscriptionOptions,
        subscription_id: u32,
    ) {
        let Some(session) = self.sessions.at(index).kept_key() else {
            return;
        };
        let change = Change::PutSubscription(Box::new(StoredSubscription {
            session,
            filter: filter.into(),
            options,
            subscription_id,
        }));
        let is_promised = self.durable.is_promised();
        self.durable.push(change, is_promised, self.now);
    }

    fn unstore_subscription(&mut self, index: u32, filter: Box<str>) {
        let Some(session) = self.sessions.at(index).kept_key() else {
            return;
        };
        let change = Change::RemoveSubscription { session, filter };
        let is_promised = self.durable.is_promised();
        self.durable.push(change, is_promised, self.now);
    }

    /// Removes a subscription that its session has already forgotten.
    fn drop_subscription(&mut self, session: u32, id: FilterId, removed: &mut Vec<Box<str>>) {
        let subscribers = &mut self.subscriptions.get_mut(id).subscribers;
        subscribers
            .remove(session)
            .expect("both sides of a subscription");
        self.counters.subscriptions -= 1;
        removed.extend(self.subscriptions.remove_if_unused(id));
    }

    fn unsubscribe_shared(
        &mut self,
        session: SessionId,
        key: &GroupKey,
        removed: &mut Vec<Box<str>>,
        effects: &mut Effects,
    ) -> bool {
        let Some(list) = &mut self.sessions.at_mut(session.index).shared else {
            return false;
        };
        let Some(at) = list.iter().position(|shared| *shared.key == *key) else {
            return false;
        };
        let shared = list.swap_remove(at);
        if list.is_empty() {
            self.sessions.at_mut(session.index).shared = None;
        }
        self.leave_shared(session, &shared, removed, effects);
        let filter = format!("$share/{}/{}", key.name, key.filter);
        self.unstore_subscription(session.index, filter.into());
        true
    }

    fn leave_shared(
        &mut self,
        session: SessionId,
        shared: &SharedSubscription,
        removed: &mut Vec<Box<str>>,
        effects: &mut Effects,
    ) {
        self.counters.subscriptions -= 1;
        self.counters.subscriptions_shared -= 1;
        if shared.group == self.config.shard {
            removed.extend(self.leave_group(&shared.key, (shared.group, session)));
        } else {
            let key = Arc::clone(&shared.key);
            self.lanes
                .send(shared.group, Frame::GroupLeave { key, session }, effects);
        }
    }

    /// Tells other shards of filters that nobody here wants any more.
    pub(crate) fn withdraw(&mut self, removed: Vec<Box<str>>, effects: &mut Effects) {
        if removed.is_empty() || self.config.shards == 1 {
            return;
        }
        for to in (0..self.config.shards)
            .map(ShardId)
            .filter(|to| *to != self.config.shard)
        {
            let filters: Vec<Box<str>> = removed
                .iter()
                .filter(|filter| match self.placement.audience(filter) {
                    Audience::Owner(owner) => owner == to,
                    Audience::All => true,
                })
                .cloned()
                .collect();
            if !filters.is_empty() {
                self.lanes.send(to, Frame::RouteRemove { filters }, effects);
            }
        }
    }

    /// Goes on removing what ended sessions subscribed to, so many subscriptions per turn.
    pub(crate) fn end_some_sessions(&mut self, effects: &mut Effects) {
        let mut steps = STEPS_PER_TICK;
        let mut removed = Vec::new();
        while let Some(index) = self.ending.front().copied() {
            let generation = self.sessions.generation(index);
            if let Some(shared) = self.sessions.at_mut(index).shared.take() {
                for shared in *shared {
                    let session = SessionId { index, generation };
                    self.leave_shared(session, &shared, &mut removed, effects);
                }
            }
            while steps > 0 {
                let popped = self.sessions.at_mut(index).subscriptions.pop();
                let Some((filter, ())) = popped else { break };
                self.drop_subscription(index, filter, &mut removed);
                steps -= 1;
            }
            if !self.sessions.at(index).subscriptions.is_empty() {
                break;
            }
            self.ending.pop_front();
            self.sessions.remove(index);
        }
        self.withdraw(removed, effects);
    }
}
