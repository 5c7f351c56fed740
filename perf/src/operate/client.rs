//! One MQTT client that behaves well: it keeps its session, resends what was not acknowledged, takes
//! QoS 2 once, pings, and comes back after longer and longer pauses.
//!
//! Bounded: [`WINDOW`] messages in flight; as many QoS 2 identifiers received as the broker sends at
//! once.

use std::net::SocketAddr;

use mio::Registry;

use super::link::Link;
use super::packet::{self, Connect, Incoming, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, Will};
use super::truth::Truth;
use crate::wire::{self, Stamp, Version};

/// Messages that a client has unacknowledged at most.
pub const WINDOW: usize = 8;
/// The first pause before a client comes back; it is doubled each time, up to
/// [`Common::backoff_max_ns`].
const BACKOFF_NS: u64 = 1_000_000_000;
/// PUBCOMP's reason for a PUBREL whose exchange is over already: "Packet Identifier not found".
const NOT_FOUND: u8 = 0x92;

/// What all clients of a run have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// Where the broker is.
    pub target: SocketAddr,
    /// Begins all client identifiers and topics.
    pub run: String,
    /// Seconds.
    pub keep_alive_s: u16,
    /// The longest pause before a client tries again to connect.
    pub backoff_max_ns: u64,
    /// User name and password.
    pub credentials: Option<(String, String)>,
}

/// What a client publishes.
#[derive(Clone, Debug)]
pub struct Sends {
    /// Streams, one after the other in turn.
    pub streams: Vec<u32>,
    /// Streams of which it sends one message each before all else.
    pub first: Vec<u32>,
    /// Nanoseconds between two messages.
    pub interval_ns: u64,
    /// How many it has sent.
    pub turn: usize,
    /// When the message that could not be sent was due.
    pub late_since_ns: Option<u64>,
}

/// Who a client is.
#[derive(Debug)]
pub struct Plan {
    /// The protocol.
    pub version: Version,
    /// Whether its session outlives its connections.
    pub kept: bool,
    /// The filter, and its QoS; one at most.
    pub filter: Option<(Vec<String>, u8)>,
    /// The seconds that its will waits, if it has one.
    pub will_delay_s: Option<u32>,
    /// What it publishes.
    pub sends: Option<Sends>,
    /// Its edges.
    pub edges: Vec<u32>,
    /// Whether wills come to it.
    pub watches: bool,
    /// Whether its connection is cut by the harness, without a goodbye.
    pub is_mortal: bool,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Without a connection.
    Away,
    /// Waits for the kernel.
    Connecting,
    /// Waits for CONNACK.
    Greeting,
    /// Waits for SUBACK.
    Subscribing,
    /// At work.
    Ready,
}

/// A message without its final acknowledgement.
#[derive(Clone, Copy, Debug)]
struct Flight {
    packet_id: u16,
    stream: u32,
    sequence: u32,
    due_ns: u64,
    /// PUBREC has come; PUBCOMP has not.
    is_released: bool,
    /// PUBREL has been sent on more than one connection.
    is_released_again: bool,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Its index.
    pub number: u32,
    /// Who it is.
    pub plan: Plan,
    /// Where it is.
    pub phase: Phase,
    /// Which of its connections this is.
    pub incarnation: u32,
    /// A mortal that has been cut waits until its will has come.
    pub is_held: bool,
    /// A PINGREQ without its answer, and when it went.
    pub pinged_ns: Option<u64>,
    /// When this connection began.
    pub connected_ns: u64,
    link: Option<Link>,
    flights: Vec<Flight>,
    next_packet_id: u16,
    /// QoS 2 identifiers of the broker without their PUBREL.
    received: Vec<u16>,
    /// The broker has promised to know the session.
    has_session: bool,
    /// It has asked for a session and left before the answer: there may be one.
    may_have_session: bool,
    /// Its subscription has been acknowledged in this session.
    has_subscribed: bool,
    /// DISCONNECT has come.
    was_told: bool,
    backoff_ns: u64,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Open,
    /// It is over.
    Closed,
    /// It is over: CONNACK said no.
    Refused,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(number: u32, plan: Plan) -> Client {
        Client {
            number,
            plan,
            phase: Phase::Away,
            incarnation: 0,
            is_held: false,
            pinged_ns: None,
            connected_ns: 0,
            link: None,
            flights: Vec::new(),
            next_packet_id: 1,
            received: Vec::new(),
            has_session: false,
            may_have_session: false,
            has_subscribed: false,
            was_told: false,
            backoff_ns: BACKOFF_NS,
        }
    }

    /// Messages without their final acknowledgement.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Begins to connect. False where that fails at once.
    pub fn connect(&mut self, common: &Common, registry: &Registry, now_ns: u64) -> bool {
        assert_eq!(self.phase, Phase::Away, "one connection at a time");
        self.incarnation += 1;
        self.was_told = false;
        self.pinged_ns = None;
        self.connected_ns = now_ns;
        let link = Link::open(common.target, self.number as usize, registry);
        self.link = link.ok();
        if self.link.is_some() {
            self.phase = Phase::Connecting;
        }
        self.link.is_some()
    }

    /// Ends the connection without a word to the broker. Returns the pause before the next one, of
    /// which `chance`, from 0 to 1, decides a part: all at once would be no good behaviour.
    pub fn leave(&mut self, common: &Common, chance: f64) -> u64 {
        let was_up = matches!(self.phase, Phase::Ready | Phase::Subscribing);
        self.may_have_session |= self.phase == Phase::Greeting && self.plan.kept;
        self.phase = Phase::Away;
        self.link = None;
        if was_up {
            self.backoff_ns = BACKOFF_NS;
            return (BACKOFF_NS as f64 * chance) as u64;
        }
        let pause = self.backoff_ns as f64 * (0.5 + 0.5 * chance);
        self.backoff_ns = (self.backoff_ns * 2).min(common.backoff_max_ns);
        pause as u64
    }

    /// The broker, or the way to it, has ended the connection: notes that in the truth.
    pub fn on_closed(&mut self, now_ns: u64, truth: &mut Truth) {
        match self.phase {
            Phase::Ready | Phase::Subscribing => {
                let was_reset = self.link.as_ref().is_some_and(Link::was_reset);
                let is_owed_a_reason = self.plan.version == Version::V5 && !self.was_told;
                truth.on_closed(now_ns, is_owed_a_reason, was_reset);
            }
            Phase::Connecting | Phase::Greeting => truth.counts.failed += 1,
            Phase::Away => {}
        }
    }

    /// The kernel says that the connection can be written to.
    pub fn on_writable(&mut self, common: &Common) {
        let Some(link) = &mut self.link else { return };
        if self.phase != Phase::Connecting {
            return link.flush();
        }
        if !link.is_connected() {
            return;
        }
        self.phase = Phase::Greeting;
        let client_id = format!("{}-{}", common.run, self.number);
        let topic = format!("{}/will/{}", common.run, self.number);
        let payload = packet::stamp(self.number, self.incarnation, 0);
        let credentials = common.credentials.as_ref();
        let mut bytes = Vec::with_capacity(160);
        Connect {
            version: self.plan.version,
            client_id: &client_id,
            kept: self.plan.kept,
            keep_alive_s: common.keep_alive_s,
            credentials: credentials.map(|(name, password)| (name.as_str(), password.as_str())),
            will: self.plan.will_delay_s.map(|delay_s| Will {
                topic: &topic,
                payload: &payload,
                delay_s,
            }),
        }
        .push(&mut bytes);
        link.send(&bytes);
    }

    /// The kernel says that there is something to read.
    pub fn on_readable(&mut self, buffer: &mut [u8], now_ns: u64, truth: &mut Truth) -> Outcome {
        loop {
            let Some(link) = &mut self.link else {
                return Outcome::Open;
            };
            let count = match link.read(buffer) {
                None => return Outcome::Closed,
                Some(0) => return Outcome::Open,
                Some(count) => count,
            };
            let mut at = 0;
            let mut replies = Vec::new();
            while at < count {
                match packet::take(self.plan.version, &buffer[at..count]) {
                    Ok(Some((incoming, length))) => {
                        at += length;
                        if !self.on_packet(incoming, now_ns, truth, &mut replies) {
                            return Outcome::Refused;
                        }
                    }
                    Ok(None) => break,
                    Err(malformed) => {
                        let number = self.number;
                        truth.fault(|| format!("client {number} was sent {}", malformed.0));
                        return Outcome::Closed;
                    }
                }
            }
            let link = self.link.as_mut().expect("only `leave` takes it away");
            if at < count {
                link.keep(&buffer[at..count]);
            }
            if !replies.is_empty() {
                link.send(&replies);
            }
        }
    }

    /// False where the broker does not let the client in.
    fn on_packet(
        &mut self,
        incoming: Incoming<'_>,
        now_ns: u64,
        truth: &mut Truth,
        replies: &mut Vec<u8>,
    ) -> bool {
        match incoming {
            Incoming::Connack {
                code: 0,
                session_present,
            } => {
                self.on_connack(session_present, truth, replies);
            }
            Incoming::Connack { .. } => {
                truth.counts.refused += 1;
                return false;
            }
            Incoming::Suback { granted } => self.on_suback(granted, truth),
            Incoming::Publish(publish) => self.on_publish(&publish, truth, replies),
            Incoming::Ack {
                kind: PUBREL,
                packet_id,
                ..
            } => {
                self.received.retain(|&id| id != packet_id);
                packet::push_ack(replies, PUBCOMP, packet_id);
            }
            Incoming::Ack {
                kind,
                packet_id,
                reason,
            } => {
                self.on_ack(kind, packet_id, reason, now_ns, truth, replies);
            }
            Incoming::Pingresp => self.pinged_ns = None,
            Incoming::Disconnect(reason) => {
                self.was_told = true;
                *truth.counts.reasons.entry(reason).or_default() += 1;
            }
        }
        true
    }

    fn on_connack(&mut self, session_present: bool, truth: &mut Truth, replies: &mut Vec<u8>) {
        let number = self.number;
        if self.phase != Phase::Greeting {
            return truth.fault(|| format!("client {number} was sent CONNACK twice"));
        }
        if self.has_session && !session_present {
            truth.fault(|| format!("the session of client {number} is lost"));
        }
        if session_present && !self.has_session && !self.may_have_session {
            truth.fault(|| format!("client {number} got a session that it never had"));
        }
        (self.has_session, self.may_have_session) = (self.plan.kept, false);
        if !session_present {
            self.received.clear();
            self.has_subscribed = false;
        }
        for flight in &mut self.flights {
            if flight.is_released && session_present {
                flight.is_released_again = true;
                packet::push_ack(replies, PUBREL, flight.packet_id);
            } else {
                flight.push(self.plan.version, session_present, truth, replies);
            }
        }
        self.phase = Phase::Ready;
        if let Some((filters, qos)) = &self.plan.filter
            && !self.has_subscribed
        {
            self.phase = Phase::Subscribing;
            wire::subscribe(self.plan.version, 1, filters, *qos, replies);
        }
    }

    fn on_suback(&mut self, granted: bool, truth: &mut Truth) {
        let number = self.number;
        if !granted || self.phase != Phase::Subscribing {
            truth.fault(|| format!("client {number} got a wrong SUBACK"));
        }
        self.phase = Phase::Ready;
        self.has_subscribed = true;
        truth.on_subscribed(&self.plan.edges);
    }

    fn on_publish(&mut self, publish: &Publish<'_>, truth: &mut Truth, replies: &mut Vec<u8>) {
        let mut is_first = true;
        match publish.qos {
            0 => {}
            1 => packet::push_ack(replies, PUBACK, publish.packet_id),
            _ => {
                is_first = !self.received.contains(&publish.packet_id);
                if is_first {
                    self.received.push(publish.packet_id);
                }
                packet::push_ack(replies, PUBREC, publish.packet_id);
            }
        }
        let number = self.number;
        let Some(stamp) = Stamp::read(publish.payload) else {
            return truth.fault(|| format!("client {number} was sent a payload cut short"));
        };
        if self.plan.watches {
            let seen = (stamp.publisher, stamp.sequence, number);
            let times = truth.wills.entry(seen).or_default();
            // A watcher whose PUBACK was under way when its connection ended gets it again.
            *times += u32::from(*times == 0 || !publish.dup);
        } else if is_first && !publish.retain {
            // A retained message that comes with a new subscription is no delivery.
            truth.on_arrival(number, publish.qos, stamp);
        }
    }

    fn on_ack(
        &mut self,
        kind: u8,
        packet_id: u16,
        reason: u8,
        now_ns: u64,
        truth: &mut Truth,
        replies: &mut Vec<u8>,
    ) {
        let number = self.number;
        let Some(at) = self.flights.iter().position(|f| f.packet_id == packet_id) else {
            return truth.fault(|| format!("client {number}: {kind:#x} for what is not in flight"));
        };
        let flight = self.flights[at];
        let qos = truth.streams[flight.stream as usize].qos;
        // The first PUBREL has been answered, and the answer went down with its connection.
        let is_over = kind == PUBCOMP && reason == NOT_FOUND && flight.is_released_again;
        if reason >= 0x80 && !is_over {
            self.flights.remove(at);
            return truth
                .fault(|| format!("client {number}: message {flight:?} refused with {reason:#x}"));
        }
        match (kind, qos) {
            (PUBREC, 2) => {
                self.flights[at].is_released = true;
                packet::push_ack(replies, PUBREL, packet_id);
                return;
            }
            (PUBACK, 1) => {}
            (PUBCOMP, 2) if flight.is_released => {}
            _ => return truth.fault(|| format!("client {number}: {kind:#x} for {flight:?}")),
        }
        self.flights.remove(at);
        truth.counts.acknowledged += 1;
        let pause_ns = now_ns.saturating_sub(flight.due_ns);
        truth.counts.pause_max_ns = truth.counts.pause_max_ns.max(pause_ns);
    }

    /// Sends the next message of its turn, if it may; returns whether.
    pub fn publish(&mut self, due_ns: u64, truth: &mut Truth) -> bool {
        let (Some(sends), Some(link)) = (&mut self.plan.sends, &mut self.link) else {
            return false;
        };
        if self.phase != Phase::Ready || self.flights.len() >= WINDOW {
            return false;
        }
        let index = match sends.first.last() {
            Some(&stream) => stream,
            None if sends.streams.is_empty() => return false,
            None => sends.streams[sends.turn % sends.streams.len()],
        };
        if !truth.has_room(index) {
            return false;
        }
        if sends.first.pop().is_none() {
            sends.turn += 1;
        }
        let stream = &mut truth.streams[index as usize];
        let mut flight = Flight {
            packet_id: 0,
            stream: index,
            sequence: stream.sent,
            due_ns,
            is_released: false,
            is_released_again: false,
        };
        stream.sent += 1;
        truth.counts.published += 1;
        let mut bytes = Vec::with_capacity(96);
        if stream.qos > 0 {
            // Identifier 1 is that of SUBSCRIBE.
            self.next_packet_id = self.next_packet_id.checked_add(1).unwrap_or(2);
            flight.packet_id = self.next_packet_id;
            self.flights.push(flight);
        }
        flight.push(self.plan.version, false, truth, &mut bytes);
        link.send(&bytes);
        true
    }

    /// Sends PINGREQ. False if the one before was never answered.
    pub fn ping(&mut self, now_ns: u64) -> bool {
        let Some(link) = &mut self.link else {
            return true;
        };
        if self.pinged_ns.is_some() {
            return false;
        }
        self.pinged_ns = Some(now_ns);
        link.send(&packet::PINGREQ);
        true
    }
}

impl Flight {
    fn push(&self, version: Version, dup: bool, truth: &Truth, out: &mut Vec<u8>) {
        let stream = &truth.streams[self.stream as usize];
        let publish = Publish {
            dup,
            qos: stream.qos,
            retain: stream.retain,
            packet_id: self.packet_id,
            topic: stream.topic.as_bytes(),
            payload: &packet::stamp(self.stream, self.sequence, self.due_ns),
        };
        packet::push_publish(out, version, &publish);
    }
}

#[cfg(test)]
mod tests {
    use super::super::population::plan;
    use super::*;

    fn client(kept: bool) -> Client {
        Client::new(0, plan(Version::V5, kept))
    }

    /// A client with a QoS 2 message that has been released.
    fn releasing(truth: &mut Truth) -> Client {
        let stream = truth.add_stream("a".to_owned(), 2, false);
        let mut client = client(true);
        client.has_session = true;
        client.flights.push(Flight {
            packet_id: 7,
            stream,
            sequence: 0,
            due_ns: 0,
            is_released: true,
            is_released_again: false,
        });
        client
    }

    #[test]
    fn an_exchange_that_the_broker_has_finished_is_over_when_it_is_asked_again() {
        let mut truth = Truth::default();
        let mut client = releasing(&mut truth);
        client.phase = Phase::Greeting;
        let mut replies = Vec::new();
        client.on_connack(true, &mut truth, &mut replies);
        assert_eq!(replies, [PUBREL, 2, 0, 7]);
        client.on_ack(PUBCOMP, 7, NOT_FOUND, 0, &mut truth, &mut replies);
        assert_eq!((truth.counts.acknowledged, truth.counts.faults), (1, 0));
        assert_eq!(client.in_flight(), 0);
    }

    #[test]
    fn an_exchange_that_the_broker_has_forgotten_is_a_fault() {
        let mut truth = Truth::default();
        let mut client = releasing(&mut truth);
        client.on_ack(PUBCOMP, 7, NOT_FOUND, 0, &mut truth, &mut Vec::new());
        assert_eq!((truth.counts.acknowledged, truth.counts.faults), (0, 1));
    }

    #[test]
    fn who_left_before_the_answer_may_find_a_session() {
        let common = Common {
            target: SocketAddr::from(([127, 0, 0, 1], 1)),
            run: "r".to_owned(),
            keep_alive_s: 60,
            backoff_max_ns: BACKOFF_NS,
            credentials: None,
        };
        // Whether it keeps its session, where it was when it left, and the faults.
        for (kept, phase, faults) in [
            (true, Phase::Greeting, 0),
            (true, Phase::Connecting, 1),
            (false, Phase::Greeting, 1),
        ] {
            let (mut truth, mut client) = (Truth::default(), client(kept));
            client.phase = phase;
            client.leave(&common, 0.0);
            client.phase = Phase::Greeting;
            client.on_connack(true, &mut truth, &mut Vec::new());
            assert_eq!(truth.faults, faults, "{kept} {phase:?}");
        }
    }
}
