//! What has been promised: every message with what became of it, and what each subscriber has
//! subscribed to. Deliveries are judged when they come, losses when all has been drained.
//!
//! Everything is seen by one thread, so what it has seen first did happen first: a SUBACK that was
//! read before a PUBLISH was written obliges the broker to deliver.

use crate::history::{History, Micros};
use crate::topics::matches;
use mqtt_v5_codec::{QoS, Share, Version, split_share};
use std::collections::BTreeMap;
use std::fmt;

/// Subscribers at most.
pub const SUBSCRIBERS_MAX: usize = 12;
/// Filters of one subscriber at most: a bit each.
pub const FILTERS_MAX: usize = 8;
/// What clocks and busy machines may differ by before an expired message is called one.
pub const EXPIRY_SLACK: Micros = 2_000_000;
/// Violations whose words are kept, of each kind.
const TOLD_MAX: usize = 6;

/// A message as its publisher knows it. Named by publisher and serial.
#[derive(Clone, Debug)]
pub struct Message {
    /// Index into the topics.
    pub topic: usize,
    /// As published.
    pub qos: QoS,
    /// To be retained.
    pub retain: bool,
    /// Its payload is empty: nothing is retained any more.
    pub is_delete: bool,
    /// Seconds.
    pub expiry_s: Option<u32>,
    /// When it was written to a socket first.
    pub first_sent: Micros,
    /// When it was written last.
    pub last_sent: Micros,
    /// How often.
    pub sends: u32,
    /// In which run of the broker it was sent first.
    run: u32,
    /// When the broker took it over: PUBACK, or PUBREC.
    pub acknowledged: Option<Micros>,
    /// For each subscriber the filters for which it must be delivered.
    must: [u8; SUBSCRIBERS_MAX],
    /// In which run of the broker it was last delivered to each; 0 for not at all.
    received: [u32; SUBSCRIBERS_MAX],
}

/// How a message reached a subscriber.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// Whose message.
    pub publisher: usize,
    /// Which.
    pub serial: u32,
    /// As received.
    pub topic: &'a str,
    /// As received.
    pub qos: QoS,
    /// As received.
    pub dup: bool,
    /// As received.
    pub retain: bool,
    /// Seconds left.
    pub expiry_s: Option<u32>,
    /// Subscription identifiers; a filter's is its index and 1.
    pub subscription_ids: Vec<u32>,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not subscribed, for sure.
    Off,
    /// SUBSCRIBE has been written.
    Asked,
    /// SUBACK has been read.
    On,
    /// UNSUBSCRIBE has been written.
    Leaving,
}

/// One filter of one subscriber.
#[derive(Clone, Debug)]
pub struct Interest {
    /// The filter.
    pub filter: String,
    /// Where it stands.
    pub standing: Standing,
    /// When it was last known to be off; 0 if it has never been on.
    off_since: Micros,
    /// When SUBSCRIBE was written first after that.
    asked_at: Micros,
}

/// A durable subscriber.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// For people.
    pub name: String,
    /// Decides whether there are subscription identifiers.
    pub version: Version,
    /// Of all its subscriptions.
    pub qos: QoS,
    /// Several clients stand for this one: the members of a group, of whom one has each message.
    pub is_group: bool,
    /// Its filters.
    pub interests: Vec<Interest>,
    /// It is not awaited when all is drained: its session is about to expire, or not.
    pub is_away: bool,
    /// When its present session began.
    fresh_since: Micros,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Messages published.
    pub published: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// First deliveries.
    pub delivered: u64,
    /// Later ones, at QoS 1, where they are allowed.
    pub delivered_again: u64,
    /// Those of them without DUP: the broker did not know any more that it had sent them.
    pub again_without_dup: u64,
    /// Sessions found again.
    pub sessions_present: u64,
    /// Sessions that had expired, and were gone.
    pub sessions_expired: u64,
    /// SUBACK and UNSUBACK.
    pub subscriptions: u64,
    /// Topics whose retained message was read and compared.
    pub retained_read: u64,
}

/// All that is known.
pub struct Truth {
    /// Microseconds since the run began; the same for all that one turn of the loop sees.
    pub now: Micros,
    /// Counts processes of the broker, from 1.
    pub run: u32,
    /// By index.
    pub topics: Vec<String>,
    /// By publisher, then serial.
    pub messages: Vec<Vec<Message>>,
    /// By index.
    pub subscribers: Vec<Subscriber>,
    /// What was counted.
    pub counts: Counts,
    /// Lines.
    pub history: History,
    violations: BTreeMap<&'static str, (u64, Vec<String>)>,
    /// The serials before these have been checked and found delivered.
    settled: Vec<usize>,
    /// Highest serial that must have been delivered and was, by subscriber, publisher and topic.
    latest: BTreeMap<(usize, usize, usize), u32>,
}

impl Truth {
    /// Nothing has happened yet.
    pub fn new(topics: Vec<String>, publishers: usize, history: History) -> Truth {
        Truth {
            now: 0,
            run: 0,
            topics,
            messages: vec![Vec::new(); publishers],
            subscribers: Vec::new(),
            counts: Counts::default(),
            history,
            violations: BTreeMap::new(),
            settled: vec![0; publishers],
            latest: BTreeMap::new(),
        }
    }

    /// A promise has been broken.
    pub fn violation(&mut self, kind: &'static str, what: impl fmt::Display) {
        let line = format_args!("VIOLATION {kind}: {what}");
        self.history.line(self.now, "truth", line);
        let (count, told) = self.violations.entry(kind).or_default();
        *count += 1;
        if told.len() < TOLD_MAX {
            told.push(what.to_string());
        }
    }

    /// Whether all promises have been kept.
    pub fn is_kept(&self) -> bool {
        self.violations.is_empty()
    }

    /// All broken promises, for people.
    pub fn complaint(&self) -> String {
        let mut text = String::new();
        for (kind, (count, told)) in &self.violations {
            text += &format!("{count} x {kind}, such as\n");
            for what in told {
                text += &format!("    {what}\n");
            }
        }
        text
    }

    /// Adds a subscriber; returns its index.
    pub fn add_subscriber(
        &mut self,
        name: &str,
        version: Version,
        qos: QoS,
        filters: Vec<String>,
    ) -> usize {
        assert!(self.subscribers.len() < SUBSCRIBERS_MAX && filters.len() <= FILTERS_MAX);
        let interests = filters.into_iter().map(|filter| Interest {
            filter,
            standing: Standing::Off,
            off_since: 0,
            asked_at: 0,
        });
        self.subscribers.push(Subscriber {
            name: name.to_owned(),
            version,
            qos,
            is_group: false,
            interests: interests.collect(),
            is_away: false,
            fresh_since: 0,
        });
        self.subscribers.len() - 1
    }

    /// A new message is about to be written; returns its serial.
    pub fn on_published(
        &mut self,
        publisher: usize,
        topic: usize,
        qos: QoS,
        kind: (bool, bool),
        expiry_s: Option<u32>,
    ) -> u32 {
        let (retain, is_delete) = kind;
        let mut must = [0; SUBSCRIBERS_MAX];
        // Whether a message that expires soon arrives is left to chance.
        let may_expire = expiry_s.is_some_and(|s| s < 60);
        for (subscriber, must) in self.subscribers.iter().zip(&mut must) {
            for (at, interest) in subscriber.interests.iter().enumerate() {
                let is_on = interest.standing == Standing::On && !may_expire;
                if is_on && interest.matches(&self.topics[topic]) {
                    *must |= 1 << at;
                }
            }
        }
        self.counts.published += 1;
        self.messages[publisher].push(Message {
            topic,
            qos,
            retain,
            is_delete,
            expiry_s,
            first_sent: self.now,
            last_sent: self.now,
            sends: 1,
            run: self.run,
            acknowledged: None,
            must,
            received: [0; SUBSCRIBERS_MAX],
        });
        (self.messages[publisher].len() - 1) as u32
    }

    /// A message is about to be written once more.
    pub fn on_repeated(&mut self, publisher: usize, serial: u32) {
        let message = &mut self.messages[publisher][serial as usize];
        message.sends += 1;
        message.last_sent = self.now;
    }

    /// The broker has taken a message over.
    pub fn on_acknowledged(&mut self, publisher: usize, serial: u32) {
        let message = &mut self.messages[publisher][serial as usize];
        if message.acknowledged.is_none() {
            message.acknowledged = Some(self.now);
            self.counts.acknowledged += 1;
        }
    }

    /// SUBSCRIBE is about to be written.
    pub fn on_subscribe(&mut self, subscriber: usize, at: usize) {
        let now = self.now;
        let interest = &mut self.subscribers[subscriber].interests[at];
        if interest.standing == Standing::Off {
            interest.asked_at = now;
        }
        // Nothing to be gained by asking again for what is there.
        if interest.standing != Standing::On {
            interest.standing = Standing::Asked;
        }
    }

    /// SUBACK has been read.
    pub fn on_subscribed(&mut self, subscriber: usize, at: usize) {
        self.subscribers[subscriber].interests[at].standing = Standing::On;
        self.counts.subscriptions += 1;
    }

    /// UNSUBSCRIBE is about to be written: what has not arrived need not any more.
    pub fn on_unsubscribe(&mut self, subscriber: usize, at: usize) {
        self.subscribers[subscriber].interests[at].standing = Standing::Leaving;
        self.excuse(subscriber, 1 << at);
    }

    /// UNSUBACK has been read.
    pub fn on_unsubscribed(&mut self, subscriber: usize, at: usize) {
        let now = self.now;
        let interest = &mut self.subscribers[subscriber].interests[at];
        (interest.standing, interest.off_since) = (Standing::Off, now);
        self.counts.subscriptions += 1;
    }

    /// A subscriber has a new session. If the one before has ended as it should, what has not
    /// arrived by then need not any more.
    pub fn on_new_session(&mut self, subscriber: usize, is_excused: bool) {
        let now = self.now;
        if self.subscribers[subscriber].is_group {
            // It has other members.
            return;
        }
        if is_excused {
            self.excuse(subscriber, u8::MAX);
            self.forget_received(subscriber);
        }
        let subscriber = &mut self.subscribers[subscriber];
        subscriber.fresh_since = now;
        for interest in &mut subscriber.interests {
            (interest.standing, interest.off_since) = (Standing::Off, now);
        }
    }

    /// What the ended session had may come to the new one, if its publisher sends it again: that
    /// it had it ended with it.
    fn forget_received(&mut self, subscriber: usize) {
        for (messages, settled) in self.messages.iter_mut().zip(&self.settled) {
            for message in &mut messages[*settled..] {
                message.received[subscriber] = 0;
                message.must[subscriber] = 0;
            }
        }
    }

    fn excuse(&mut self, subscriber: usize, filters: u8) {
        for (messages, settled) in self.messages.iter_mut().zip(&self.settled) {
            for message in &mut messages[*settled..] {
                if message.received[subscriber] == 0 {
                    message.must[subscriber] &= !filters;
                }
            }
        }
    }

    /// A message has reached the application of a subscriber.
    pub fn on_arrival(&mut self, subscriber: usize, arrival: &Arrival<'_>) {
        let (publisher, serial) = (arrival.publisher, arrival.serial);
        let found = self.messages.get(publisher);
        let Some(message) = found.and_then(|messages| messages.get(serial as usize)) else {
            let what = format!("{arrival:?}");
            return self.violation("delivered what was never published", what);
        };
        let (topic, is_obliged) = (message.topic, message.must[subscriber] != 0);
        let before = message.received[subscriber];
        let is_repeated = message.sends > 1;
        for kind in self.faults(subscriber, message, arrival) {
            let name = &self.subscribers[subscriber].name;
            let message = &self.messages[publisher][serial as usize];
            let what = format!("to {name} at {}: {arrival:?} of {message:?}", self.now);
            self.violation(kind, what);
        }
        self.messages[publisher][serial as usize].received[subscriber] = self.run;
        if before != 0 {
            self.counts.delivered_again += 1;
            self.counts.again_without_dup += u64::from(!arrival.dup && !is_repeated);
            return;
        }
        self.counts.delivered += 1;
        if !is_obliged || self.subscribers[subscriber].is_group {
            return;
        }
        // A message from before the subscription may come late, when its publisher repeats it.
        let latest = self
            .latest
            .entry((subscriber, publisher, topic))
            .or_insert(serial);
        if *latest > serial {
            let (name, latest) = (&self.subscribers[subscriber].name, *latest);
            let what = format!("{publisher}:{serial} reached {name} after {publisher}:{latest}");
            self.violation("out of order", what);
        } else {
            *latest = serial;
        }
    }

    /// What is wrong with an arrival, but for its order.
    fn faults(
        &self,
        subscriber: usize,
        message: &Message,
        arrival: &Arrival<'_>,
    ) -> Vec<&'static str> {
        let who = &self.subscribers[subscriber];
        let mut faults = Vec::new();
        let mut check = |is_well: bool, kind| {
            if !is_well {
                faults.push(kind);
            }
        };
        let topic = self.topics[message.topic].as_str();
        check(arrival.topic == topic, "wrong topic");
        check(arrival.qos == who.qos.min(message.qos), "wrong QoS");
        check(!arrival.retain, "live, yet flagged as retained");
        let may_come = who
            .interests
            .iter()
            .map(|interest| interest.may_bring(message, topic));
        let may_come: Vec<bool> = may_come.collect();
        check(may_come.contains(&true), "not subscribed to");
        let is_stale = message.acknowledged.is_some_and(|at| at < who.fresh_since);
        check(!is_stale, "of an expired session");
        if who.version == Version::V5 {
            let ids = &arrival.subscription_ids;
            let is_known = |id: &u32| may_come.get(*id as usize - 1) == Some(&true);
            check(!ids.is_empty(), "without subscription identifier");
            check(
                ids.iter().all(is_known),
                "with a wrong subscription identifier",
            );
        }
        let is_first = message.received[subscriber] == 0;
        if let Some(expiry_s) = message.expiry_s {
            let expires = message.last_sent + Micros::from(expiry_s) * 1_000_000;
            let is_late = is_first && !arrival.dup && self.now > expires + EXPIRY_SLACK;
            check(!is_late, "delivered though expired");
            if who.version == Version::V5 && !arrival.dup {
                let left = Micros::from(arrival.expiry_s.unwrap_or(u32::MAX)) * 1_000_000;
                let is_less = self.now + left <= expires + EXPIRY_SLACK;
                check(is_less, "expiry not counted down");
            }
        }
        let is_repeated = message.sends > 1;
        if !is_first && arrival.qos == QoS::ExactlyOnce {
            check(false, "delivered twice at QoS 2");
        } else if !is_first && !is_repeated && !arrival.dup {
            // A group and its member may both have it after a crash between the two commits.
            let is_moved = who.is_group && message.run < self.run;
            let is_same_run = message.received[subscriber] == self.run;
            check(is_moved || !is_same_run, "delivered twice without reason");
        }
        faults
    }

    /// How many acknowledged messages have not reached a subscriber that must have them and is not
    /// away.
    pub fn missing(&self) -> usize {
        let all = self.all_missing();
        all.iter()
            .filter(|(_, _, at)| !self.subscribers[*at].is_away)
            .count()
    }

    /// Publisher, serial and subscriber of what has been acknowledged and has not arrived.
    fn all_missing(&self) -> Vec<(usize, usize, usize)> {
        let mut missing = Vec::new();
        for (publisher, messages) in self.messages.iter().enumerate() {
            let unsettled = messages.iter().enumerate().skip(self.settled[publisher]);
            for (serial, message) in unsettled.filter(|(_, m)| m.acknowledged.is_some()) {
                let late = |at: &usize| message.must[*at] != 0 && message.received[*at] == 0;
                let late = (0..self.subscribers.len()).filter(late);
                missing.extend(late.map(|at| (publisher, serial, at)));
            }
        }
        missing
    }

    /// All has been drained: what has not arrived is lost, unless its subscriber is away.
    pub fn settle(&mut self) {
        let mut settled: Vec<usize> = self.messages.iter().map(Vec::len).collect();
        for (publisher, serial, subscriber) in self.all_missing() {
            let Subscriber { name, is_away, .. } = &self.subscribers[subscriber];
            if *is_away {
                settled[publisher] = settled[publisher].min(serial);
                continue;
            }
            let message = &self.messages[publisher][serial];
            let topic = &self.topics[message.topic];
            let what = format!("{publisher}:{serial} on {topic} to {name}: {message:?}");
            self.violation("acknowledged and lost", what);
        }
        self.settled = settled;
    }
}

impl Interest {
    fn matches(&self, topic: &str) -> bool {
        let filter = match split_share(&self.filter) {
            Share::Group { filter, .. } => filter,
            _ => &self.filter,
        };
        matches(filter, topic)
    }

    /// Whether this subscription may be why a message is delivered now.
    fn may_bring(&self, message: &Message, topic: &str) -> bool {
        if !self.matches(topic) {
            return false;
        }
        let is_of_before = message.first_sent <= self.off_since;
        let may_be_on = self.standing != Standing::Off;
        let is_past = message.acknowledged.is_some_and(|at| at < self.asked_at);
        is_of_before || (may_be_on && !is_past)
    }
}
