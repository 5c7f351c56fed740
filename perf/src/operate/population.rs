//! Who the clients of a run are.
//!
//! * Idle ones: MQTT 5 and 3.1.1 in turn; half of them keep their session and subscribe to a topic of
//!   their own with QoS 1, which *callers* write to.
//! * Active ones: callers; as many publishers as subscribers, of QoS 0, 1 and 2 in turn, each
//!   subscriber with two publishers and each publisher with two subscribers; most sessions kept; each
//!   publisher has a will, of which those of MQTT 5 wait so long that none may come; *watchers* who
//!   get all wills, and *mortals*, whose connections the harness cuts and whose wills must come.
//! * Retained: every fifth publisher's messages, and topics that are written once.

use super::client::{Plan, Sends};
use super::truth::Truth;
use crate::wire::Version;

/// Seconds that the will of a publisher of MQTT 5 waits: longer than anybody is ever away.
pub const PATIENT_S: u32 = 3_000;
/// Seconds that some mortals' wills wait: so long that the broker is stopping or gone by then.
const DELAYED_S: u32 = 2;

/// How many there are to be.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Clients that only ping, and hear something now and then.
    pub idle: usize,
    /// All others.
    pub active: usize,
    /// Retained messages that are written once.
    pub retained: usize,
    /// Messages a second of all publishers; half of them to idle clients.
    pub rate: f64,
}

/// The fewest active clients with which every kind is there.
pub const ACTIVE_MIN: usize = 20;

/// Everybody, in the order of their numbers.
#[derive(Debug)]
pub struct Population {
    /// By number.
    pub plans: Vec<Plan>,
    /// Streams that are written once.
    pub retained: std::ops::Range<u32>,
}

fn version(number: usize) -> Version {
    if number.is_multiple_of(2) {
        Version::V5
    } else {
        Version::V311
    }
}

/// Of a client that does nothing yet.
pub(super) fn plan(version: Version, kept: bool) -> Plan {
    Plan {
        version,
        kept,
        filter: None,
        will_delay_s: None,
        sends: None,
        edges: Vec::new(),
        watches: false,
        is_mortal: false,
    }
}

impl Population {
    /// Makes everybody, with their streams and edges.
    pub fn new(size: Size, run: &str, truth: &mut Truth) -> Population {
        assert!(size.active >= ACTIVE_MIN, "every kind has its clients");
        let mut population = Population {
            plans: Vec::with_capacity(size.idle + size.active),
            retained: 0..0,
        };
        let called = population.add_idle(size.idle, run, truth);
        let first = truth.streams.len() as u32;
        for number in 0..size.retained {
            truth.add_stream(format!("{run}/kept/{number}"), 1, true);
        }
        population.retained = first..truth.streams.len() as u32;
        population.add_observers(size.active, run);
        let callers = (size.active / 20).max(1);
        population.add_callers(callers, size.rate / 2.0, &called);
        let pairs = (size.idle + size.active - population.plans.len()) / 2;
        population.add_pairs(pairs, size.rate / 2.0, run, truth);
        population
    }

    /// Returns the streams to idle clients.
    fn add_idle(&mut self, count: usize, run: &str, truth: &mut Truth) -> Vec<u32> {
        let mut called = Vec::with_capacity(count / 2);
        for number in 0..count {
            // Both protocols among those who keep their sessions.
            let kept = number % 4 < 2;
            let mut plan = plan(version(number), kept);
            if kept {
                let topic = format!("{run}/idle/{number}");
                plan.filter = Some((vec![topic.clone()], 1));
                let stream = truth.add_stream(topic, 1, false);
                plan.edges = vec![truth.add_edge(stream, number as u32)];
                called.push(stream);
            }
            self.plans.push(plan);
        }
        called
    }

    fn add_observers(&mut self, active: usize, run: &str) {
        for number in 0..2 {
            let mut watcher = plan(version(number), true);
            watcher.filter = Some((vec![format!("{run}/will/+")], 1));
            watcher.watches = true;
            self.plans.push(watcher);
        }
        for number in 0..(active / 50).max(4) {
            let mut mortal = plan(version(number), true);
            let waits = mortal.version == Version::V5 && number % 4 == 0;
            mortal.will_delay_s = Some(if waits { DELAYED_S } else { 0 });
            mortal.is_mortal = true;
            self.plans.push(mortal);
        }
    }

    fn add_callers(&mut self, callers: usize, rate: f64, called: &[u32]) {
        for caller in 0..callers {
            let mut plan = plan(version(caller), true);
            let of = |streams: &mut dyn Iterator<Item = u32>| {
                streams.skip(caller).step_by(callers).collect::<Vec<u32>>()
            };
            plan.sends = Some(Sends {
                streams: of(&mut called.iter().copied()),
                first: of(&mut self.retained.clone()),
                interval_ns: interval_ns(callers, rate),
                turn: 0,
                late_since_ns: None,
            });
            self.plans.push(plan);
        }
    }

    fn add_pairs(&mut self, pairs: usize, rate: f64, run: &str, truth: &mut Truth) {
        let first = truth.streams.len() as u32;
        for number in 0..pairs {
            let qos = (number % 3) as u8;
            let topic = format!("{run}/active/{number}");
            let stream = truth.add_stream(topic, qos, number % 5 == 0);
            // Three is odd, so each QoS meets both protocols. QoS 2 means nothing without a session.
            let mut plan = plan(version(number), qos == 2 || number % 4 < 2);
            plan.will_delay_s = Some(match plan.version {
                Version::V5 if plan.kept => PATIENT_S,
                _ => 0,
            });
            plan.sends = Some(Sends {
                streams: vec![stream],
                first: Vec::new(),
                interval_ns: interval_ns(pairs, rate),
                turn: 0,
                late_since_ns: None,
            });
            self.plans.push(plan);
        }
        for number in 0..pairs {
            let kept = number % 5 != 4;
            let mut plan = plan(version(number / 2), kept);
            let client = self.plans.len() as u32;
            let mut streams = vec![number, (number + 1) % pairs];
            streams.dedup();
            let filters = streams.iter().map(|at| format!("{run}/active/{at}"));
            plan.filter = Some((filters.collect(), 2));
            let edges = streams
                .iter()
                .map(|&at| truth.add_edge(first + at as u32, client));
            plan.edges = edges.collect();
            self.plans.push(plan);
        }
    }
}

/// The pause between two messages of one of `publishers`.
fn interval_ns(publishers: usize, rate: f64) -> u64 {
    (publishers as f64 * 1e9 / rate) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(idle: usize, active: usize) {
        let mut truth = Truth::default();
        let size = Size {
            idle,
            active,
            retained: 10,
            rate: 100.0,
        };
        let population = Population::new(size, "r", &mut truth);
        let plans = &population.plans;
        // One may be left over from the pairs.
        assert!((idle + active - plans.len()) < 2, "{}", plans.len());
        for version in [Version::V311, Version::V5] {
            let of = |kept| {
                let all = plans.iter().filter(|p| p.version == version);
                all.filter(|p| p.kept == kept).count()
            };
            assert!(of(true) > 0 && of(false) > 0, "{version:?}");
        }
        for (number, edge) in truth.edges.iter().enumerate() {
            let plan = &plans[edge.client as usize];
            assert!(plan.edges.contains(&(number as u32)));
        }
        let kept = truth.streams[population.retained.start as usize]
            .topic
            .as_str();
        assert_eq!(kept, "r/kept/0");
        let first: usize = plans
            .iter()
            .filter_map(|p| p.sends.as_ref())
            .map(|s| s.first.len())
            .sum();
        assert_eq!(first, 10);
        for qos in 0..=2 {
            assert!(truth.streams.iter().any(|s| s.qos == qos));
        }
    }

    #[test]
    fn every_kind_is_there_and_everybody_knows_their_edges() {
        check(200, 50);
        check(20, ACTIVE_MIN);
        check(2_000, 1_000);
    }
}
