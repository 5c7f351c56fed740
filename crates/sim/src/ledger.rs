//! What every client was promised: messages, subscriptions, and which message went to whom.
//!
//! The ledger knows what clients sent and received, and when. Between the sending of a request and
//! its answer it cannot know whether the broker has acted; there it allows both. So a fault that
//! it reports is one, whatever happened inside.

use crate::full::Stalls;
use crate::wire::Wish;
use mqtt_v5_codec::{QoS, RetainHandling, Share, SubscriptionOptions, split_share};
use shard::Time;
use std::collections::{BTreeMap, BTreeSet};

/// A point in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Which step.
    pub step: u64,
    /// Virtual time.
    pub at: Time,
}

/// A message's number in its run; it is in the payload.
pub type MessageId = usize;

/// A message, as its publisher knows it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Which client.
    pub publisher: usize,
    /// Where to.
    pub topic: String,
    /// At which quality.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Clears the retained message: it has no payload, so that no receiver can tell which it is.
    pub is_clearing: bool,
    /// Seconds.
    pub expiry_s: Option<u32>,
    /// Length of the payload.
    pub payload_bytes: usize,
    /// When it was first sent, or the will was lodged.
    pub sent: Moment,
    /// When the publisher saw its acknowledgement: PUBACK, or PUBCOMP.
    pub acked: Option<Moment>,
    /// How often it was sent.
    pub attempts: u32,
    /// A will.
    pub is_will: bool,
    /// The publisher's session ended before the message was acknowledged, or the message was
    /// refused, perhaps without the publisher's knowledge: a repetition is a new message.
    pub is_orphan: bool,
}

/// One SUBSCRIBE for a filter; a repeated one makes another.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) options: SubscriptionOptions,
    pub(crate) id: Option<u32>,
    pub(crate) sent: u64,
    pub(crate) acked: Option<u64>,
    /// When the client knew that it had been replaced or removed.
    pub(crate) gone: Option<u64>,
    /// Whether the filter was certainly not subscribed before.
    pub(crate) is_new: bool,
    /// Whether it was certainly subscribed before.
    pub(crate) is_old: bool,
}

/// A session's filter and what was asked for it.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    /// Without `$share/name/`.
    pub(crate) filter: String,
    pub(crate) group: Option<String>,
    pub(crate) grants: Vec<Grant>,
    /// Since when it certainly exists.
    pub(crate) certain: Option<u64>,
    /// When the client asked to end it.
    pub(crate) ending: Option<u64>,
}

/// How often a session got a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) live: u32,
    /// Of these, at QoS 2.
    pub(crate) exact: u32,
    pub(crate) retained: u32,
    /// Live, or retained: with retain as published they look alike.
    pub(crate) unclear: u32,
}

/// A retained message that a new subscriber must see.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    pub(crate) topic: String,
    pub(crate) filter: String,
    /// Index among the topic's retained messages; a later one will do.
    pub(crate) at_least: usize,
    pub(crate) link: usize,
}

/// What is known of a client's session.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) subscriptions: BTreeMap<String, Subscription>,
    pub(crate) seen: BTreeMap<MessageId, Seen>,
    /// Per publisher, topic and quality: the latest message delivered.
    pub(crate) latest: BTreeMap<(usize, String, u8), MessageId>,
    /// Per topic: retained copies received.
    pub(crate) retained_copies: BTreeMap<String, u32>,
    pub(crate) expectations: Vec<Expectation>,
    pub(crate) packet_max: Option<u32>,
    /// It has no connection, and may expire or have expired.
    pub(crate) is_doubtful: bool,
    /// The step at which it began.
    pub(crate) since: u64,
    /// When its subscriptions last changed, or it began, for all that its client knows.
    pub(crate) changed: Option<Time>,
    /// Subscriptions of the client's former sessions, and when those ended.
    pub(crate) former: Vec<(Time, BTreeMap<String, Subscription>)>,
}

/// What is known of a shared group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Copies that came by no other way.
    pub(crate) copies: BTreeMap<MessageId, u32>,
    /// Messages of which a member has a copy that may have come by this way.
    pub(crate) reached: BTreeSet<MessageId>,
    /// When a member last left or its session ended.
    pub(crate) troubled: u64,
    /// When the process last crashed.
    pub(crate) crashed: u64,
}

/// The ledger of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Every message, by number.
    pub messages: Vec<Message>,
    /// Loss is allowed: limits are tiny.
    pub is_lossy: bool,
    pub(crate) accounts: Vec<Account>,
    pub(crate) groups: BTreeMap<String, Group>,
    /// Per topic, in the order sent by its only retaining publisher.
    pub(crate) retained: BTreeMap<String, Vec<MessageId>>,
    /// The steps at which the process ended.
    pub(crate) crashes: Vec<u64>,
    /// When stores could not write.
    pub stalls: Stalls,
    /// What is acknowledged of sessions is durable later.
    pub(crate) is_late: bool,
}

/// Whether a topic filter matches a topic name; the plain reading of 4.7.
pub fn matches(filter: &str, topic: &str) -> bool {
    let starts_with_wildcard = filter.starts_with('+') || filter.starts_with('#');
    if topic.starts_with('$') && starts_with_wildcard {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// The payload of a message: its number, and padding.
pub fn payload(message: MessageId, bytes: usize) -> Vec<u8> {
    let mut payload = format!("m{message}.").into_bytes();
    while payload.len() < bytes {
        payload.push(b'a' + (payload.len() % 20) as u8);
    }
    payload
}

/// The number in a payload; `None` if it is no message of ours.
pub fn number(payload: &[u8]) -> Option<MessageId> {
    let text = std::str::from_utf8(payload).ok()?;
    text.strip_prefix('m')?.split_once('.')?.0.parse().ok()
}

impl Message {
    /// How many messages its attempts may have made.
    pub(crate) fn attempts_that_count(&self) -> u32 {
        if self.qos == QoS::AtLeastOnce || self.is_orphan {
            self.attempts
        } else {
            1
        }
    }

    /// Whether it was sent twice at QoS 1: then it may replace what came after it the first time.
    pub(crate) fn may_return(&self) -> bool {
        self.attempts_that_count() > 1
    }

    pub(crate) fn is_live_match(
        &self,
        client: usize,
        subscription: &Subscription,
        grant: &Grant,
        since: u64,
    ) -> bool {
        // What it sent in an earlier session of its own may still be on its way.
        let is_own = self.publisher == client && self.sent.step >= since;
        let is_own = grant.options.no_local && is_own;
        let is_over = grant.gone.is_some_and(|gone| gone < self.sent.step);
        // A group may have kept it for whoever joins.
        let is_early =
            subscription.group.is_none() && self.acked.is_some_and(|acked| acked.step < grant.sent);
        !is_own && !is_over && !is_early && matches(&subscription.filter, &self.topic)
    }
}

impl Subscription {
    /// Whether it certainly holds since before `step` and still does.
    pub(crate) fn is_certain_since(&self, step: u64) -> bool {
        self.ending.is_none() && self.certain.is_some_and(|certain| certain < step)
    }

    /// Whether every SUBSCRIBE that may be in force for a message would let it pass.
    pub(crate) fn lets_pass(&self, message: &Message, client: usize) -> bool {
        let is_own = message.publisher == client;
        matches(&self.filter, &message.topic)
            && !(is_own && self.grants.iter().any(|grant| grant.options.no_local))
    }

    pub(crate) fn qos_min(&self) -> QoS {
        self.grants
            .iter()
            .map(|grant| grant.options.qos)
            .min()
            .unwrap_or_default()
    }
}

/// What clients sent.
impl Ledger {
    /// How often the process has ended since a step.
    pub(crate) fn crashes_since(&self, step: u64) -> u32 {
        self.crashes.iter().filter(|crash| **crash >= step).count() as u32
    }

    /// The step at which a client sent the first of its messages that is not acknowledged.
    pub(crate) fn unacked_since(&self, client: usize) -> Option<u64> {
        let own = self.messages.iter().filter(|one| one.publisher == client);
        let unacked = own.filter(|one| one.acked.is_none() && one.qos > QoS::AtMostOnce);
        unacked.map(|one| one.sent.step).min()
    }

    /// For so many clients; `is_lossy`: limits are tiny; `is_late`: what is acknowledged of
    /// sessions is durable later.
    pub fn new(clients: usize, is_lossy: bool, is_late: bool) -> Ledger {
        let accounts = (0..clients).map(|_| Account::default()).collect();
        Ledger {
            is_lossy,
            is_late,
            accounts,
            ..Ledger::default()
        }
    }

    /// A message is about to be sent; returns its number.
    pub fn publish(&mut self, message: Message) -> MessageId {
        let number = self.messages.len();
        let is_unsure = message.is_clearing || message.expiry_s.is_some();
        for account in self.accounts.iter_mut().filter(|_| message.retain) {
            // It may come instead of what was retained, and not be known again, or not come at all.
            if is_unsure || !fits(&message, account.packet_max) {
                let expectations = &mut account.expectations;
                expectations.retain(|expected| expected.topic != message.topic);
            }
        }
        if message.retain && !message.is_will {
            self.retained
                .entry(message.topic.clone())
                .or_default()
                .push(number);
        }
        self.messages.push(message);
        number
    }

    /// The largest packet that a client takes from now on.
    pub fn limit_packets(&mut self, client: usize, packet_max: Option<u32>) {
        self.accounts[client].packet_max = packet_max;
    }

    /// A client asked for a subscription.
    pub fn subscribe(&mut self, client: usize, wish: &Wish, id: Option<u32>, now: Moment) {
        let (group, filter) = match split_share(&wish.filter) {
            Share::Group { filter, .. } => (Some(wish.filter.clone()), filter.to_string()),
            _ => (None, wish.filter.clone()),
        };
        if let Some(group) = &group {
            self.groups.entry(group.clone()).or_default();
        }
        let entry = self.accounts[client]
            .subscriptions
            .entry(wish.filter.clone());
        let subscription = entry.or_insert_with(|| Subscription {
            filter,
            group,
            grants: Vec::new(),
            certain: None,
            ending: None,
        });
        let is_old = subscription.certain.is_some() && subscription.ending.is_none();
        let is_new = subscription.grants.iter().all(|grant| grant.gone.is_some());
        subscription.ending = None;
        if !is_old {
            subscription.certain = None;
        }
        subscription.grants.push(Grant {
            options: wish.options,
            id,
            sent: now.step,
            acked: None,
            gone: None,
            is_new,
            is_old,
        });
    }

    /// A client's SUBACK came for the latest SUBSCRIBE of this filter.
    pub fn subscribed(
        &mut self,
        client: usize,
        filter: &str,
        is_granted: bool,
        link: usize,
        now: Moment,
    ) {
        let (is_late, crash) = (self.is_late, self.crashes.last().copied());
        let account = &mut self.accounts[client];
        account.changed = Some(now.at);
        let Some(subscription) = account.subscriptions.get_mut(filter) else {
            return;
        };
        let count = subscription.grants.len();
        let sent = subscription.grants[count - 1].sent;
        if is_late && crash.is_some_and(|crash| crash >= sent) {
            return; // A crash has overtaken it.
        }
        if !is_granted {
            subscription.grants[count - 1].gone = Some(now.step);
            return;
        }
        subscription.certain = subscription.certain.or(Some(now.step));
        for (index, grant) in subscription.grants.iter_mut().enumerate() {
            if index + 1 < count {
                grant.gone = grant.gone.or(Some(now.step));
            } else {
                grant.acked = Some(now.step);
            }
        }
        let grant = subscription.grants[count - 1].clone();
        let subscription = subscription.clone();
        if subscription.group.is_none() {
            self.expect_retained(client, &subscription.filter, &grant, link);
        }
    }

    /// Notes which retained messages a new subscription must bring.
    fn expect_retained(&mut self, client: usize, filter: &str, grant: &Grant, link: usize) {
        let is_due = match grant.options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => grant.is_new,
            RetainHandling::Never => false,
        };
        if !is_due || self.is_lossy {
            return;
        }
        for (topic, numbers) in &self.retained {
            let is_known = |number: &MessageId| {
                self.messages[*number]
                    .acked
                    .is_some_and(|acked| acked.step < grant.sent)
            };
            let Some(at_least) = numbers.iter().rposition(is_known) else {
                continue;
            };
            let account = &mut self.accounts[client];
            let is_lasting = numbers[at_least..].iter().all(|number| {
                let message = &self.messages[*number];
                let is_own = grant.options.no_local && message.publisher == client;
                let fits = fits(message, account.packet_max);
                !message.is_clearing && message.expiry_s.is_none() && !is_own && fits
            });
            let may_return = numbers
                .iter()
                .any(|number| self.messages[*number].may_return());
            if is_lasting && !may_return && matches(filter, topic) {
                let (topic, filter) = (topic.clone(), filter.to_string());
                account.expectations.push(Expectation {
                    topic,
                    filter,
                    at_least,
                    link,
                });
            }
        }
    }

    /// A client asked to end a subscription.
    pub fn unsubscribe(&mut self, client: usize, filter: &str, now: Moment) {
        let account = &mut self.accounts[client];
        account
            .expectations
            .retain(|expectation| expectation.filter != filter);
        if let Some(subscription) = account.subscriptions.get_mut(filter) {
            subscription.ending = Some(now.step);
        }
    }

    /// A client's UNSUBACK came. Returns whether the filter was certainly subscribed, certainly
    /// not (`Some(false)`), or neither.
    pub fn unsubscribed(&mut self, client: usize, filter: &str, now: Moment) -> Option<bool> {
        let (is_late, crash) = (self.is_late, self.crashes.last().copied());
        self.accounts[client].changed = Some(now.at);
        let subscription = self.accounts[client].subscriptions.get_mut(filter)?;
        if is_late && crash >= subscription.ending && crash.is_some() {
            return None; // A crash has overtaken it.
        }
        let was_certain = subscription.certain.is_some();
        let was_possible = subscription.grants.iter().any(|grant| grant.gone.is_none());
        subscription.certain = None;
        for grant in &mut subscription.grants {
            grant.gone = grant.gone.or(Some(now.step));
        }
        if let Some(group) = &subscription.group {
            self.groups.entry(group.clone()).or_default().troubled = now.step;
        }
        match (was_certain, was_possible) {
            (true, _) => Some(true),
            (false, false) => Some(false),
            (false, true) => None,
        }
    }

    /// The client's session has ended, and another begins.
    pub fn end_session(&mut self, client: usize, now: Moment) {
        let packet_max = self.accounts[client].packet_max;
        let old = std::mem::take(&mut self.accounts[client]);
        self.accounts[client].packet_max = packet_max;
        self.accounts[client].since = now.step;
        if self.is_late {
            let account = &mut self.accounts[client];
            account.changed = Some(now.at);
            account.former = old.former;
            let ended = (now.at, old.subscriptions.clone());
            account.former.push(ended);
        }
        let own = self
            .messages
            .iter_mut()
            .filter(|message| message.publisher == client);
        own.filter(|message| message.acked.is_none())
            .for_each(|message| message.is_orphan = true);
        for subscription in old.subscriptions.into_values() {
            if let Some(group) = subscription.group {
                self.groups.entry(group).or_default().troubled = now.step;
            }
        }
    }

    /// The client's session goes on, or has ended and another begun: nobody can tell.
    pub fn blur_session(&mut self, client: usize, now: Moment) {
        let account = &mut self.accounts[client];
        account.seen.clear();
        account.latest.clear();
        account.retained_copies.clear();
        account.expectations.clear();
        account.since = now.step;
        for subscription in account.subscriptions.values_mut() {
            subscription.certain = None;
            if let Some(group) = &subscription.group {
                self.groups.entry(group.clone()).or_default().troubled = now.step;
            }
        }
        let own = self.messages.iter_mut();
        own.filter(|message| message.publisher == client && message.acked.is_none())
            .for_each(|message| message.is_orphan = true);
    }

    /// A crash: what its session has become since `sure` may be undone; returns whether that is
    /// anything.
    pub(crate) fn undo(&mut self, client: usize, sure: Time, now: Moment) -> bool {
        let account = &mut self.accounts[client];
        account.former.retain(|(ended, _)| *ended >= sure);
        if account.changed.is_none_or(|changed| changed < sure) {
            return false;
        }
        let former = std::mem::take(&mut account.former);
        for (filter, one) in former.into_iter().flat_map(|(_, all)| all) {
            match account.subscriptions.get_mut(&filter) {
                Some(known) => known.grants.extend(one.grants),
                None => {
                    account.subscriptions.insert(filter, one);
                }
            }
        }
        let subscriptions = account.subscriptions.values_mut();
        for grant in subscriptions.flat_map(|subscription| &mut subscription.grants) {
            grant.gone = None;
        }
        self.blur_session(client, now);
        true
    }

    /// A connection that the client opened in this step has been overtaken by a later one: what it
    /// has sent since comes in any order.
    pub(crate) fn blur_order(&mut self, client: usize, step: u64) {
        let own = self.messages.iter_mut();
        let own = own.filter(|one| one.publisher == client && one.sent.step >= step);
        for message in own.filter(|one| one.acked.is_none()) {
            message.attempts += 1;
            message.is_orphan = true;
        }
    }

    /// The client's session has lost its connection; `is_doubtful`: it may end before it has
    /// another.
    pub fn detach(&mut self, client: usize, is_doubtful: bool) {
        self.accounts[client].is_doubtful |= is_doubtful;
    }

    /// The client's session may have ended.
    pub fn doubt(&mut self, client: usize, is_doubtful: bool) {
        self.accounts[client].is_doubtful |= is_doubtful;
    }

    /// The client's session goes on with another connection.
    pub fn resume(&mut self, client: usize, now: Moment) {
        let account = &mut self.accounts[client];
        if std::mem::take(&mut account.is_doubtful) {
            for subscription in account.subscriptions.values() {
                if let Some(group) = &subscription.group {
                    self.groups.entry(group.clone()).or_default().troubled = now.step;
                }
            }
        }
    }

    /// Whether a member of a group has left since a step, or may have.
    pub(crate) fn is_troubled(&self, name: &str, since: u64) -> bool {
        let is_leaving = |account: &Account| {
            account.subscriptions.get(name).is_some_and(|subscription| {
                let is_open = subscription.grants.iter().any(|grant| grant.gone.is_none());
                account.is_doubtful || (subscription.ending.is_some() && is_open)
            })
        };
        let has_left = self
            .groups
            .get(name)
            .is_some_and(|group| group.troubled >= since);
        has_left || self.accounts.iter().any(is_leaving)
    }

    /// The connection is gone: what a SUBSCRIBE on it would still have brought may be lost.
    pub fn lose_link(&mut self, client: usize, link: usize) {
        self.accounts[client]
            .expectations
            .retain(|expectation| expectation.link != link);
    }

    /// A subscriber and its filter, if some subscriber certainly had to get the message, so that
    /// "no matching subscribers" is wrong.
    pub fn certain_subscriber(&self, number: MessageId) -> Option<(usize, &str)> {
        let message = &self.messages[number];
        let accounts = self.accounts.iter().enumerate();
        accounts
            .filter(|(_, account)| !account.is_doubtful)
            .find_map(|(client, account)| {
                let mut subscriptions = account.subscriptions.iter();
                let (filter, _) = subscriptions.find(|(_, subscription)| {
                    subscription.is_certain_since(message.sent.step)
                        && subscription.lets_pass(message, client)
                })?;
                Some((client, filter.as_str()))
            })
    }
}

/// Whether a message is surely small enough for a client.
pub(crate) fn fits(message: &Message, packet_max: Option<u32>) -> bool {
    let bytes = message.payload_bytes + message.topic.len() + 100;
    packet_max.is_none_or(|max| bytes <= max as usize)
}

#[cfg(test)]
mod tests {
    use super::{matches, number, payload};

    #[test]
    fn filters_match_as_the_specification_says() {
        let check = |filter, topic, expected| assert_eq!(matches(filter, topic), expected);
        check("a/b", "a/b", true);
        check("a/+", "a/b", true);
        check("a/+", "a", false);
        check("a/#", "a", true);
        check("a/#", "a/b/c", true);
        check("#", "a", true);
        check("#", "$a", false);
        check("+/b", "$a/b", false);
        check("$a/#", "$a/b", true);
        check("+", "/a", false);
        check("/+", "/a", true);
    }

    #[test]
    fn a_payload_tells_its_number() {
        assert_eq!(number(&payload(42, 2)), Some(42));
        assert_eq!(number(&payload(42, 200)), Some(42));
        assert_eq!(number(b"xm42."), None);
    }
}
