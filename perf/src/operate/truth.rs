//! What was promised, and what has come of it.
//!
//! A *stream* is what one client publishes on one topic, numbered from 0. An *edge* is one client's
//! subscription to it. What is owed to an edge is each message that was first sent after its SUBACK,
//! for as long as the session lives: a session that ends with its connection is owed nothing of the
//! time before its next SUBACK. When all is settled, edges forget which messages they had.
//!
//! Bounded: an edge remembers [`UNSETTLED_MAX`] messages, faults are counted and the first
//! [`TOLD_MAX`] are told.

use std::collections::BTreeMap;

use crate::wire::Stamp;

/// Messages of one stream between two settlements; then its publisher waits.
pub const UNSETTLED_MAX: u32 = 100_000;
/// Faults that are told in words.
pub const TOLD_MAX: usize = 40;

/// What one client publishes on one topic.
#[derive(Debug)]
pub struct Stream {
    /// Where.
    pub topic: String,
    /// 0 to 2.
    pub qos: u8,
    /// Whether each message replaces the retained one.
    pub retain: bool,
    /// Messages sent, so the number of the next.
    pub sent: u32,
    /// Who subscribes: indexes of edges.
    pub edges: Vec<u32>,
}

/// One client's subscription to a stream.
#[derive(Debug)]
pub struct Edge {
    /// The stream.
    pub stream: u32,
    /// The subscriber.
    pub client: u32,
    /// Messages before this are not owed, or have been settled.
    from: u32,
    /// Messages before this have been settled: one that comes now comes again.
    base: u32,
    /// Bit by bit, from `base`.
    seen: Vec<u64>,
    /// Above the newest that came.
    newest: u32,
}

/// What happened during one step.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Counts {
    /// Messages sent for the first time, any QoS.
    pub published: u64,
    /// Of QoS 1 and 2, taken over by the broker.
    pub acknowledged: u64,
    /// Messages that reached a subscriber for the first time.
    pub delivered: u64,
    /// The same message once more, with QoS 0 and 1.
    pub again: u64,
    /// The same message once more, with QoS 2.
    pub twice: u64,
    /// Messages that came after a later one of their stream.
    pub overtaken: u64,
    /// Owed messages that have not come by the end of the step.
    pub lost: u64,
    /// Copies of QoS 0 that connected subscribers did not get: nothing was promised.
    pub missed_qos0: u64,
    /// Messages that had no final acknowledgement by the end of the step.
    pub unanswered: u64,
    /// Connections that the broker ended.
    pub closed: u64,
    /// Of those, MQTT 5 clients that were not told why.
    pub untold: u64,
    /// Of these, connections that ended with a reset, which throws away what was still under way.
    pub untold_by_reset: u64,
    /// Reasons that were told.
    pub reasons: BTreeMap<u8, u64>,
    /// Most connections ended within one second.
    pub closed_in_1_s_max: u64,
    /// Attempts to connect that the broker refused with a code.
    pub refused: u64,
    /// Attempts that failed otherwise: nobody listened, closed before CONNACK.
    pub failed: u64,
    /// Attempts without an answer in time.
    pub timed_out: u64,
    /// Longest time from when a message was due to its acknowledgement.
    pub pause_max_ns: u64,
    /// Wills that were owed, and wills that came.
    pub wills_owed: u64,
    /// Wills that came, each counted once.
    pub wills_came: u64,
    /// Retained messages that were compared.
    pub retained: u64,
    /// Promises broken in this step, of all kinds.
    pub faults: u64,
}

/// A will that came: whose, of which of its connections, to which watcher.
pub type WillSeen = (u32, u32, u32);

/// All that is known.
#[derive(Debug, Default)]
pub struct Truth {
    /// By index.
    pub streams: Vec<Stream>,
    /// By index.
    pub edges: Vec<Edge>,
    /// Of the current step.
    pub counts: Counts,
    /// Wills of the current step, with how often each came.
    pub wills: BTreeMap<WillSeen, u32>,
    /// Promises broken in the whole run, also before the first step.
    pub faults: u64,
    /// Words about the first of them.
    pub told: Vec<String>,
    /// The second that [`Counts::closed_in_1_s_max`] is at, and how many so far.
    closed_second: (u64, u64),
}

impl Truth {
    /// Adds a stream; returns its index.
    pub fn add_stream(&mut self, topic: String, qos: u8, retain: bool) -> u32 {
        self.streams.push(Stream {
            topic,
            qos,
            retain,
            sent: 0,
            edges: Vec::new(),
        });
        (self.streams.len() - 1) as u32
    }

    /// Adds a subscription; returns its index.
    pub fn add_edge(&mut self, stream: u32, client: u32) -> u32 {
        let index = self.edges.len() as u32;
        self.edges.push(Edge {
            stream,
            client,
            from: 0,
            base: 0,
            seen: Vec::new(),
            newest: 0,
        });
        self.streams[stream as usize].edges.push(index);
        index
    }

    /// A promise has been broken.
    pub fn fault(&mut self, what: impl FnOnce() -> String) {
        self.counts.faults += 1;
        self.faults += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(what());
        }
    }

    /// A subscription has begun anew: only what is sent from now on is owed.
    pub fn on_subscribed(&mut self, edges: &[u32]) {
        for &index in edges {
            let edge = &mut self.edges[index as usize];
            edge.from = self.streams[edge.stream as usize].sent;
        }
    }

    /// A message has reached a subscriber.
    pub fn on_arrival(&mut self, client: u32, qos: u8, stamp: Stamp) {
        let found = self.streams.get(stamp.publisher as usize);
        let edge = found.and_then(|stream| {
            let mine = |&&index: &&u32| self.edges[index as usize].client == client;
            stream.edges.iter().find(mine).copied()
        });
        let (Some(stream), Some(index)) = (found, edge) else {
            return self
                .fault(|| format!("client {client} got what it did not ask for: {stamp:?}"));
        };
        if stamp.sequence >= stream.sent || qos != stream.qos {
            let what = format!("client {client}: {stamp:?} at QoS {qos} was never sent so");
            return self.fault(|| what);
        }
        let edge = &mut self.edges[index as usize];
        if !edge.note(stamp.sequence) {
            if qos < 2 {
                self.counts.again += 1;
                return;
            }
            self.counts.twice += 1;
            return self.fault(|| format!("twice at QoS 2 to client {client}: {stamp:?}"));
        }
        self.counts.delivered += 1;
        if stamp.sequence < edge.newest {
            self.counts.overtaken += 1;
            return self.fault(|| format!("out of order to client {client}: {stamp:?}"));
        }
        edge.newest = stamp.sequence + 1;
    }

    /// The broker has ended a connection that was up, without the reason that was owed if `is_untold`.
    pub fn on_closed(&mut self, now_ns: u64, is_untold: bool, was_reset: bool) {
        self.counts.closed += 1;
        self.counts.untold += u64::from(is_untold);
        self.counts.untold_by_reset += u64::from(is_untold && was_reset);
        let second = now_ns / 1_000_000_000;
        if self.closed_second.0 != second {
            self.closed_second = (second, 0);
        }
        self.closed_second.1 += 1;
        self.counts.closed_in_1_s_max = self.counts.closed_in_1_s_max.max(self.closed_second.1);
    }

    /// Owed messages above QoS 0 that have not come.
    pub fn missing(&self) -> u64 {
        let missing = |edge: &Edge| {
            let stream = &self.streams[edge.stream as usize];
            if stream.qos == 0 {
                0
            } else {
                edge.missing(stream.sent)
            }
        };
        self.edges.iter().map(missing).sum()
    }

    /// Judges what has not come, and forgets what has. `missed_qos0_counts`: all were connected the
    /// whole time.
    pub fn settle(&mut self, missed_qos0_counts: bool) {
        for index in 0..self.edges.len() {
            let edge = &self.edges[index];
            let stream = &self.streams[edge.stream as usize];
            let (missing, sent) = (edge.missing(stream.sent), stream.sent);
            if stream.qos == 0 {
                self.counts.missed_qos0 += if missed_qos0_counts { missing } else { 0 };
            } else if missing > 0 {
                self.counts.lost += missing;
                let (client, topic, qos) = (edge.client, stream.topic.clone(), stream.qos);
                let first = edge.first_missing(sent);
                self.fault(|| {
                    format!(
                        "lost: {missing} of {topic} (QoS {qos}) to client {client}, \
                         the first is {first:?} of {sent}"
                    )
                });
            }
            self.edges[index].forget(sent);
        }
    }

    /// Whether a stream may have one more message before all is settled.
    pub fn has_room(&self, stream: u32) -> bool {
        let stream = &self.streams[stream as usize];
        let bases = stream.edges.iter().map(|&e| self.edges[e as usize].base);
        bases
            .min()
            .is_none_or(|base| stream.sent - base < UNSETTLED_MAX)
    }
}

impl Edge {
    /// Whether this is the first time.
    fn note(&mut self, sequence: u32) -> bool {
        let Some(at) = sequence.checked_sub(self.base) else {
            return false;
        };
        let (word, bit) = (at as usize / 64, 1u64 << (at % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let is_first = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_first
    }

    fn has(&self, sequence: u32) -> bool {
        let at = (sequence - self.base) as usize;
        self.seen
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn owed(&self, sent: u32) -> std::ops::Range<u32> {
        self.from.max(self.base)..sent
    }

    fn missing(&self, sent: u32) -> u64 {
        self.owed(sent).filter(|&at| !self.has(at)).count() as u64
    }

    fn first_missing(&self, sent: u32) -> Option<u32> {
        self.owed(sent).find(|&at| !self.has(at))
    }

    fn forget(&mut self, sent: u32) {
        (self.base, self.from) = (sent, sent.max(self.from));
        self.seen = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(qos: u8) -> Truth {
        let mut truth = Truth::default();
        let stream = truth.add_stream("a".to_owned(), qos, false);
        truth.add_edge(stream, 5);
        truth.streams[0].sent = 10;
        truth
    }

    fn arrive(truth: &mut Truth, sequences: &[u32], qos: u8) {
        for &sequence in sequences {
            let stamp = Stamp {
                publisher: 0,
                sequence,
                intended_ns: 0,
            };
            truth.on_arrival(5, qos, stamp);
        }
    }

    #[test]
    fn what_does_not_come_is_lost_and_what_comes_twice_is_told() {
        let mut truth = truth(2);
        arrive(&mut truth, &[0, 1, 2, 3, 3, 5, 6, 7, 9], 2);
        assert_eq!((truth.missing(), truth.counts.twice), (2, 1));
        truth.settle(true);
        assert_eq!((truth.counts.lost, truth.counts.faults), (2, 2));
        assert!(truth.told[1].contains("Some(4) of 10"), "{:?}", truth.told);
        assert_eq!(truth.missing(), 0);
        arrive(&mut truth, &[9], 2);
        assert_eq!(truth.counts.twice, 2);
    }

    #[test]
    fn what_is_broken_before_the_first_step_is_not_forgotten() {
        let mut truth = truth(2);
        truth.fault(|| "at once".to_owned());
        truth.counts = Counts::default();
        truth.fault(|| "later".to_owned());
        assert_eq!((truth.counts.faults, truth.faults), (1, 2));
    }

    #[test]
    fn at_qos_1_again_is_allowed_and_overtaking_is_not() {
        let mut truth = truth(1);
        arrive(&mut truth, &[0, 1, 0, 1, 2, 4, 3], 1);
        let counts = &truth.counts;
        assert_eq!((counts.again, counts.overtaken, counts.faults), (2, 1, 1));
    }

    #[test]
    fn nothing_of_before_its_suback_is_owed() {
        let mut truth = truth(1);
        truth.on_subscribed(&[0]);
        assert_eq!(truth.missing(), 0);
        truth.streams[0].sent = 12;
        assert_eq!(truth.missing(), 2);
        arrive(&mut truth, &[10], 1);
        truth.settle(true);
        assert_eq!(truth.counts.lost, 1);
    }

    #[test]
    fn what_nobody_sent_or_asked_for_is_a_fault() {
        let mut truth = truth(1);
        arrive(&mut truth, &[10], 1);
        arrive(&mut truth, &[1], 2);
        let stamp = Stamp {
            publisher: 3,
            sequence: 0,
            intended_ns: 0,
        };
        truth.on_arrival(5, 1, stamp);
        assert_eq!((truth.counts.faults, truth.counts.delivered), (3, 0));
    }
}
