//! Messages through a broker, counted one by one.
//!
//! **Closed loop**: each publisher keeps a window of messages that are not acknowledged (QoS 1) or
//! not delivered (QoS 0), so the broker gets as much as it can take and never so much that it
//! drops. **Open loop**: messages have a schedule; each is one write, and a late one still carries
//! the time at which it should have been sent, so that waiting is part of its latency.
//!
//! Invariant: what was sent and not delivered is bounded, by the windows or by
//! [`OUTSTANDING_MAX`].

mod state;

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::fleet::{Fleet, Receiver};
use crate::ledger::Order;
use crate::measure::{Interval, Snapshot, Subject};
use crate::wire::{Stamp, Template};
pub(crate) use state::histogram;
use state::{Room, State, faults};

/// Copies that may be on their way; an open-loop run that reaches it ends with a fault.
pub const OUTSTANDING_MAX: u64 = 2_000_000;
/// Messages that an overdue open loop sends before it looks for input again.
const SENDS_PER_TURN: usize = 64;
/// Bytes that one refill of a window may write.
const REFILL_BYTES: usize = 128 * 1_024;
/// After the last message was sent, so much silence means that no more will come.
const QUIET: Duration = Duration::from_secs(2);
/// The longest that is waited for what is on its way.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// How messages are offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As many as windows allow: messages that each publisher may have on their way.
    Closed {
        /// Messages per publisher.
        window: u32,
        /// The shortest time between two looks at the sockets: lets input pile up, so that one
        /// read takes many messages and the broker seldom finds the generator asleep in a poll.
        pause: Duration,
    },
    /// So many messages a second by all publishers together, spread evenly.
    Open {
        /// Messages a second.
        rate: f64,
    },
}

/// To which stream of the ledger a delivery belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// One receiver for each publisher's messages: a stream per publisher.
    ByPublisher,
    /// One publisher and `count` receivers, clients from `first` on: a stream per receiver.
    ByReceiver {
        /// Index of the first receiving client.
        first: usize,
        /// How many.
        count: usize,
    },
}

/// What to send and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Index of the first publishing client; the others follow it.
    pub first_publisher: usize,
    /// One template per publisher.
    pub templates: Vec<Template>,
    /// Numbers that the topics run through; 1 if topics have no number.
    pub topics: u32,
    /// Quality of service of what is published, 0 or 1.
    pub qos: u8,
    /// Deliveries that each message causes.
    pub copies: u64,
    /// How deliveries are told apart.
    pub streams: Streams,
    /// What order they come in.
    pub order: Order,
    /// How they are offered.
    pub pace: Pace,
    /// Before measuring.
    pub warm_up: Duration,
    /// Measured.
    pub measured: Duration,
}

/// What was measured.
#[derive(Debug)]
pub struct Measurement {
    /// CPU and wall time of the measured part.
    pub interval: Interval,
    /// Messages sent in the measured part.
    pub sent: u64,
    /// Copies delivered in the measured part.
    pub delivered: u64,
    /// Totals of the whole run.
    pub totals: Totals,
    /// Nanoseconds from intended send to receipt, of messages intended in the measured part.
    pub latency: Histogram<u64>,
    /// Nanoseconds from intended to actual send, in an open loop.
    pub lateness: Histogram<u64>,
    /// Deliveries per receiving client, by client index.
    pub by_client: Vec<u64>,
    /// What makes the run worthless or worth less.
    pub faults: Vec<String>,
}

/// Counts of a whole run, warm-up included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Messages sent.
    pub sent: u64,
    /// Messages acknowledged to their publishers; 0 with QoS 0.
    pub acknowledged: u64,
    /// Copies that arrived.
    pub delivered: u64,
    /// Copies that never arrived.
    pub lost: u64,
    /// Copies that had arrived before.
    pub duplicated: u64,
    /// Copies that a later one overtook.
    pub reordered: u64,
}

impl Measurement {
    /// Messages in and out, in the measured part.
    pub fn messages(&self) -> u64 {
        self.sent + self.delivered
    }
}

/// Sends what `plan` says through `fleet` and measures the broker meanwhile.
///
/// # Errors
/// When the broker ends or the poller fails; loss and closed connections are faults in the
/// measurement instead.
pub fn run(fleet: &mut Fleet, subject: &Subject, plan: &Plan) -> Result<Measurement> {
    let mut sender = Sender::new(fleet, plan);
    let start = Instant::now() + plan.warm_up;
    sender.send_until(start)?;
    let before = Snapshot::take(subject)?;
    let counted = (sender.state.sent, sender.state.ledger.delivered);
    sender.state.measured_ns = sender.state.now_ns..u64::MAX;
    sender.send_until(before.at() + plan.measured)?;
    let after = Snapshot::take(subject)?;
    let (sent, delivered) = (
        sender.state.sent - counted.0,
        sender.state.ledger.delivered - counted.1,
    );
    sender.state.measured_ns.end = sender.epoch_ns(after.at());
    let behind = sender.outstanding();
    sender.drain()?;
    Ok(sender.finish(after.since(&before), sent, delivered, behind))
}

struct Sender<'a> {
    fleet: &'a mut Fleet,
    state: State<'a>,
    scratch: Vec<u8>,
    still_waiting: Vec<u32>,
    lateness: Histogram<u64>,
    /// Open loop: messages scheduled so far, and the time of the first.
    scheduled: u64,
    schedule_start_ns: u64,
    overrun: bool,
}

impl<'a> Sender<'a> {
    fn new(fleet: &'a mut Fleet, plan: &'a Plan) -> Sender<'a> {
        let state = State::new(plan, fleet.len());
        Sender {
            fleet,
            state,
            scratch: Vec::with_capacity(REFILL_BYTES),
            still_waiting: Vec::new(),
            lateness: histogram(),
            scheduled: 0,
            schedule_start_ns: 0,
            overrun: false,
        }
    }

    fn epoch_ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.state.epoch).as_nanos() as u64
    }

    fn outstanding(&self) -> u64 {
        // What comes twice does not stand for what has not come.
        let expected = self.state.sent * self.state.plan.copies;
        self.state.ledger.lost(expected)
    }

    fn send_until(&mut self, end: Instant) -> Result<()> {
        let mut last_turn = self.state.epoch.elapsed();
        while Instant::now() < end {
            self.state.on_read();
            // An open loop spins: a sleep in between would be latency of ours.
            let wait = match self.state.plan.pace {
                Pace::Closed { window, pause } => {
                    self.refill(window);
                    let turn_took = self.state.epoch.elapsed() - last_turn;
                    std::thread::sleep(pause.saturating_sub(turn_took));
                    last_turn = self.state.epoch.elapsed();
                    Duration::from_millis(10)
                }
                Pace::Open { rate } => {
                    self.send_scheduled(rate);
                    Duration::ZERO
                }
            };
            self.fleet.turn(Some(wait), &mut self.state)?;
        }
        self.state.on_read();
        Ok(())
    }

    /// Fills the windows that have room.
    fn refill(&mut self, window: u32) {
        self.still_waiting.clear();
        let mut waiting = std::mem::take(&mut self.state.waiting);
        for &index in &waiting {
            let publisher = index as usize;
            let client = self.state.plan.first_publisher + publisher;
            if self.fleet.is_blocked(client) {
                // `on_writable` will call it again.
                self.state.publishers[publisher].waiting = false;
                continue;
            }
            let room = match self.state.room(publisher, window) {
                Room::For(room) => room,
                Room::HeldBack => {
                    self.still_waiting.push(index);
                    continue;
                }
                Room::None => {
                    self.state.publishers[publisher].waiting = false;
                    continue;
                }
            };
            let message_bytes = self.state.plan.templates[publisher].len();
            let most = (REFILL_BYTES / message_bytes).max(1) as u32;
            self.scratch.clear();
            for _ in 0..room.min(most) {
                self.push_message(publisher, self.state.now_ns);
            }
            self.fleet.send(client, &self.scratch);
            if room > most {
                self.still_waiting.push(index);
            } else {
                self.state.publishers[publisher].waiting = false;
            }
        }
        waiting.clear();
        // Nobody was added meanwhile: `fleet.send` calls nothing back.
        std::mem::swap(&mut self.still_waiting, &mut waiting);
        self.state.waiting = waiting;
    }

    /// Sends what is due, each message with a write of its own.
    fn send_scheduled(&mut self, rate: f64) {
        if self.scheduled == 0 {
            self.schedule_start_ns = self.state.now_ns;
        }
        if self.outstanding() >= OUTSTANDING_MAX {
            self.overrun = true;
            return;
        }
        for _ in 0..SENDS_PER_TURN {
            let intended_ns = intended_ns(self.schedule_start_ns, self.scheduled, rate);
            self.state.on_read();
            if intended_ns > self.state.now_ns {
                return;
            }
            let publisher = (self.scheduled % self.state.plan.templates.len() as u64) as usize;
            self.scheduled += 1;
            if self.state.publishers[publisher].closed {
                continue;
            }
            self.scratch.clear();
            self.push_message(publisher, intended_ns);
            self.fleet
                .send(self.state.plan.first_publisher + publisher, &self.scratch);
            if self.state.measured_ns.contains(&intended_ns) {
                self.lateness
                    .saturating_record(self.state.now_ns - intended_ns);
            }
        }
    }

    #[inline]
    fn push_message(&mut self, publisher: usize, intended_ns: u64) {
        let state = &mut self.state.publishers[publisher];
        let stamp = Stamp {
            publisher: publisher as u32,
            sequence: state.sent,
            intended_ns,
        };
        // 1 to 65,535; a window is far smaller, so none is in use twice.
        let packet_id = (state.sent % 65_535 + 1) as u16;
        state.sent += 1;
        let number = topic_number(self.state.sent, self.state.plan.topics);
        self.state.sent += 1;
        self.state.plan.templates[publisher].push(&mut self.scratch, packet_id, number, stamp);
    }

    /// Waits for what is on its way, until all is there or nothing moves any more.
    fn drain(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut moved = (self.state.ledger.delivered, started);
        let all_acknowledged =
            |state: &State<'_>| state.plan.qos == 0 || state.acknowledged >= state.sent;
        while self.outstanding() > 0 || !all_acknowledged(&self.state) {
            self.fleet
                .turn(Some(Duration::from_millis(20)), &mut self.state)?;
            let progress = self.state.ledger.delivered + self.state.acknowledged;
            if progress != moved.0 {
                moved = (progress, Instant::now());
            }
            if moved.1.elapsed() > QUIET || started.elapsed() > DRAIN_MAX {
                break;
            }
        }
        // A copy too many may still be on its way.
        self.fleet
            .turn(Some(Duration::from_millis(20)), &mut self.state)
    }

    fn finish(self, interval: Interval, sent: u64, delivered: u64, behind: u64) -> Measurement {
        let Sender {
            state,
            lateness,
            overrun,
            ..
        } = self;
        let totals = Totals {
            sent: state.sent,
            acknowledged: state.acknowledged,
            delivered: state.ledger.delivered,
            lost: state.ledger.lost(state.sent * state.plan.copies),
            duplicated: state.ledger.duplicated,
            reordered: state.ledger.reordered,
        };
        let mut faults = faults(state.plan, &totals, state.foreign, &state.closed);
        if overrun {
            faults.push(format!(
                "BEHIND: {OUTSTANDING_MAX} copies on their way, sending stopped"
            ));
        } else if let Pace::Open { rate } = state.plan.pace
            && behind as f64 > rate * state.plan.copies as f64
        {
            faults.push(format!(
                "BEHIND: {behind} copies, above a second's worth, not delivered"
            ));
        }
        let (latency, by_client) = (state.latency, state.by_client);
        Measurement {
            interval,
            sent,
            delivered,
            totals,
            latency,
            lateness,
            by_client,
            faults,
        }
    }
}

/// When message `index` of an open loop should be sent.
fn intended_ns(start_ns: u64, index: u64, rate: f64) -> u64 {
    start_ns + (index as f64 * 1e9 / rate) as u64
}

/// The topic of message `index`: visits all, neighbours far apart.
#[inline]
fn topic_number(index: u64, topics: u32) -> u32 {
    // A prime, so coprime to every number of topics that is not its multiple.
    (index.wrapping_mul(7_368_787) % u64::from(topics)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_even_and_does_not_drift() {
        assert_eq!(intended_ns(500, 0, 10_000.0), 500);
        assert_eq!(intended_ns(500, 1, 10_000.0), 100_500);
        assert_eq!(intended_ns(0, 30_000, 3_000.0), 10_000_000_000);
    }

    #[test]
    fn topics_are_all_visited() {
        let mut seen = vec![false; 1_000];
        for index in 0..1_000 {
            seen[topic_number(index, 1_000) as usize] = true;
        }
        assert!(seen.iter().all(|&visited| visited));
        assert_eq!(topic_number(u64::MAX, 1), 0);
    }
}
