//! What is known while messages flow: who sent how much, what came back, whose window has room.
//!
//! Invariant: a publisher is in `waiting` exactly if its own `waiting` says so.

use std::time::Instant;

use hdrhistogram::Histogram;

use super::{Plan, Streams, Totals};
use crate::fleet::Receiver;
use crate::ledger::Ledger;
use crate::wire::{self, Packet, Stamp};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Publisher {
    pub(super) sent: u32,
    pub(super) acknowledged: u32,
    pub(super) delivered: u64,
    pub(super) waiting: bool,
    pub(super) closed: bool,
}

/// Everything that changes while messages flow.
pub(super) struct State<'a> {
    pub(super) plan: &'a Plan,
    pub(super) epoch: Instant,
    pub(super) now_ns: u64,
    pub(super) publishers: Vec<Publisher>,
    /// Publishers whose window may have room, each at most once.
    pub(super) waiting: Vec<u32>,
    pub(super) ledger: Ledger,
    pub(super) by_client: Vec<u64>,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) foreign: u64,
    pub(super) measured_ns: std::ops::Range<u64>,
    pub(super) latency: Histogram<u64>,
    pub(super) closed: Vec<String>,
}

/// Three significant digits, up to 100 s.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 100_000_000_000, 3).expect("bounds are constant and valid")
}

impl<'a> State<'a> {
    /// Nothing sent, nobody closed, every publisher waiting to begin; `clients` may receive.
    pub(super) fn new(plan: &'a Plan, clients: usize) -> State<'a> {
        let count = plan.templates.len();
        let streams = match plan.streams {
            Streams::ByPublisher => count,
            Streams::ByReceiver { count, .. } => count,
        };
        State {
            plan,
            epoch: Instant::now(),
            now_ns: 0,
            publishers: vec![
                Publisher {
                    waiting: true,
                    ..Publisher::default()
                };
                count
            ],
            waiting: (0..count as u32).collect(),
            ledger: Ledger::new(streams, plan.order),
            by_client: vec![0; clients],
            sent: 0,
            acknowledged: 0,
            foreign: 0,
            measured_ns: 0..0,
            latency: histogram(),
            closed: Vec::new(),
        }
    }

    #[inline]
    fn on_delivery(&mut self, client: usize, payload: &[u8]) {
        let Some(stamp) = Stamp::read(payload) else {
            self.foreign += 1;
            return;
        };
        let stream = match self.plan.streams {
            Streams::ByPublisher => stamp.publisher as usize,
            Streams::ByReceiver { first, .. } => client.wrapping_sub(first),
        };
        self.ledger.note(stream, stamp.sequence);
        if let Some(count) = self.by_client.get_mut(client) {
            *count += 1;
        }
        if self.measured_ns.contains(&stamp.intended_ns) {
            self.latency
                .saturating_record(self.now_ns.saturating_sub(stamp.intended_ns));
        }
        let Some(publisher) = self.publishers.get_mut(stamp.publisher as usize) else {
            self.foreign += 1;
            return;
        };
        publisher.delivered += 1;
        if self.plan.qos == 0 && !publisher.waiting {
            publisher.waiting = true;
            self.waiting.push(stamp.publisher);
        }
    }

    /// What the publisher's window has room for.
    pub(super) fn room(&self, index: usize, window: u32) -> Room {
        let publisher = &self.publishers[index];
        let answered = match self.plan.qos {
            0 => (publisher.delivered / self.plan.copies) as u32,
            _ => publisher.acknowledged,
        };
        let room = window.saturating_sub(publisher.sent.saturating_sub(answered));
        if room == 0 || publisher.closed {
            return Room::None;
        }
        // Acknowledged is not delivered: the sum of both is bounded by twice the windows.
        let outstanding = (self.sent * self.plan.copies).saturating_sub(self.ledger.delivered);
        let bound = 2 * u64::from(window) * self.publishers.len() as u64 * self.plan.copies;
        if outstanding >= bound {
            Room::HeldBack
        } else {
            Room::For(room)
        }
    }
}

/// What a publisher may send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Nothing before its next answer.
    None,
    /// Nothing before somebody's delivery; no answer of its own will come.
    HeldBack,
    /// So many messages, at least one.
    For(u32),
}

impl Receiver for State<'_> {
    fn on_packet(&mut self, client: usize, packet: Packet<'_>, replies: &mut Vec<u8>) {
        match packet {
            Packet::Publish {
                packet_id, payload, ..
            } => {
                if let Some(packet_id) = packet_id {
                    wire::puback(packet_id, replies);
                }
                self.on_delivery(client, payload);
            }
            Packet::Puback(_) => {
                self.acknowledged += 1;
                let index = client.wrapping_sub(self.plan.first_publisher);
                if let Some(publisher) = self.publishers.get_mut(index) {
                    publisher.acknowledged += 1;
                    if !publisher.waiting {
                        publisher.waiting = true;
                        self.waiting.push(index as u32);
                    }
                }
            }
            _ => self.foreign += 1,
        }
    }

    fn on_writable(&mut self, client: usize) {
        let index = client.wrapping_sub(self.plan.first_publisher);
        if let Some(publisher) = self.publishers.get_mut(index)
            && !publisher.waiting
        {
            publisher.waiting = true;
            self.waiting.push(index as u32);
        }
    }

    fn on_read(&mut self) {
        self.now_ns = self.epoch.elapsed().as_nanos() as u64;
    }

    fn on_closed(&mut self, client: usize, why: &str) {
        let index = client.wrapping_sub(self.plan.first_publisher);
        if let Some(publisher) = self.publishers.get_mut(index) {
            publisher.closed = true;
        }
        self.closed.push(format!("client {client}: {why}"));
    }
}

/// What makes a run worthless, in words that nobody overlooks.
pub(super) fn faults(plan: &Plan, totals: &Totals, foreign: u64, closed: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |count: u64, what: &str| {
        if count > 0 {
            faults.push(format!("{what}: {count} of {}", totals.sent * plan.copies));
        }
    };
    check(totals.lost, "LOST");
    check(totals.duplicated, "DUPLICATED");
    check(totals.reordered, "REORDERED");
    check(foreign, "NOT OURS");
    if plan.qos > 0 {
        check(
            totals.sent.saturating_sub(totals.acknowledged),
            "UNACKNOWLEDGED",
        );
        check(
            totals.acknowledged.saturating_sub(totals.sent),
            "ACKNOWLEDGED TWICE",
        );
    }
    if let Some(first) = closed.first() {
        faults.push(format!(
            "CLOSED: {} clients; the first: {first}",
            closed.len()
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Order;
    use crate::traffic::Pace;
    use crate::wire::{Template, Version};
    use std::time::Duration;

    fn plan(qos: u8, copies: u64) -> Plan {
        Plan {
            first_publisher: 10,
            templates: vec![Template::new(Version::V311, "t", qos, false, 64); 2],
            topics: 1,
            qos,
            copies,
            streams: Streams::ByPublisher,
            order: Order::Strict,
            pace: Pace::Closed {
                window: 4,
                pause: Duration::ZERO,
            },
            warm_up: Duration::ZERO,
            measured: Duration::ZERO,
        }
    }

    #[test]
    fn loss_is_said_loudly() {
        let mut totals = Totals {
            sent: 5,
            acknowledged: 5,
            delivered: 10,
            ..Totals::default()
        };
        assert!(faults(&plan(1, 2), &totals, 0, &[]).is_empty());
        totals.lost = 3;
        totals.acknowledged = 4;
        let said = faults(&plan(1, 2), &totals, 0, &["client 3: gone".to_owned()]).join("; ");
        assert!(said.contains("LOST: 3 of 10"), "{said}");
        assert!(said.contains("UNACKNOWLEDGED: 1"), "{said}");
        assert!(said.contains("client 3: gone"), "{said}");
    }

    fn state(plan: &Plan) -> State<'_> {
        let mut state = State::new(plan, 12);
        state.measured_ns = 0..u64::MAX;
        state.publishers.fill(Publisher::default());
        state.waiting.clear();
        state
    }

    fn payload(publisher: u32, sequence: u32, intended_ns: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let stamp = Stamp {
            publisher,
            sequence,
            intended_ns,
        };
        Template::new(Version::V311, "t", 0, false, 64).push(&mut bytes, 0, 0, stamp);
        bytes.split_off(bytes.len() - 64)
    }

    #[test]
    fn latency_counts_from_the_intended_time() {
        let plan = plan(0, 1);
        let mut state = state(&plan);
        // Sent late or not: what counts is that it should have left at 1 ms.
        state.now_ns = 5_000_000;
        state.on_delivery(3, &payload(1, 0, 1_000_000));
        let latency = state.latency.max();
        assert!((3_996_000..=4_004_000).contains(&latency), "{latency}");
        assert_eq!(state.by_client[3], 1);
    }

    #[test]
    fn messages_of_the_warm_up_have_no_latency() {
        let plan = plan(0, 1);
        let mut state = state(&plan);
        state.measured_ns = 2_000_000..u64::MAX;
        state.now_ns = 5_000_000;
        state.on_delivery(3, &payload(1, 0, 1_000_000));
        assert_eq!((state.latency.len(), state.ledger.delivered), (0, 1));
    }

    #[test]
    fn a_window_opens_with_answers() {
        let acknowledged = plan(1, 1);
        let mut with_acks = state(&acknowledged);
        with_acks.publishers[0].sent = 4;
        assert_eq!(with_acks.room(0, 4), Room::None);
        with_acks.on_packet(10, Packet::Puback(1), &mut Vec::new());
        assert_eq!(with_acks.room(0, 4), Room::For(1));
        assert_eq!(with_acks.waiting, [0]);
        // All acknowledged and nothing delivered: twice the windows of both are the bound.
        with_acks.sent = 16;
        assert_eq!(with_acks.room(0, 4), Room::HeldBack);

        let fanned_out = plan(0, 3);
        let mut without = state(&fanned_out);
        without.publishers[0].sent = 4;
        without.on_delivery(0, &payload(0, 0, 0));
        without.on_delivery(0, &payload(0, 1, 0));
        assert_eq!(without.room(0, 4), Room::None);
        without.on_delivery(0, &payload(0, 2, 0));
        assert_eq!(without.room(0, 4), Room::For(1));
    }

    #[test]
    fn what_nobody_sent_is_not_ours() {
        let plan = plan(0, 1);
        let mut state = state(&plan);
        state.on_delivery(0, b"short");
        state.on_delivery(0, &payload(9, 0, 0));
        assert_eq!(state.foreign, 2);
    }
}
