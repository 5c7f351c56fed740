//! A client that keeps to the protocol: its session, its connection, and how it answers.
//!
//! What it wants (connect, publish, subscribe, leave) is decided in `workload.rs`; here is how it
//! is done. A client keeps its session state over connections as the specification demands:
//! unacknowledged messages are repeated in order with DUP, QoS 2 messages are released once.

use crate::checker::Checker;
use crate::delivery::Delivery;
use crate::history::brief;
use crate::ledger::{MessageId, Moment};
use crate::link::{Leave, LinkId};
use crate::truth::Hello;
use crate::wire::{Framer, Raw};
use crate::world::{Wake, What, World};
use anyhow::{Context, Result, bail, ensure};
use mqtt_v5_codec::{
    Ack, AckKind, AckProperties, Connack, Packet, PacketId, Publish, QoS, ReasonCode, Suback,
    Unsuback, Version, encode_ack,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Without a connection.
    Offline,
    /// CONNECT is sent.
    Connecting,
    /// CONNACK has come.
    Online,
}

/// What a client is like; drawn once.
#[derive(Clone, Debug)]
pub struct Character {
    /// What it speaks.
    pub version: Version,
    /// Its client identifier.
    pub client_id: String,
    /// Seconds that its session outlives a connection; `None`: for ever. 3.x: for ever or 0.
    pub expiry_s: Option<u32>,
    /// Out of 100 connections, how many begin with a clean session.
    pub clean_percent: u64,
    /// Out of 100 connections, how many have a will.
    pub will_percent: u64,
    /// 0: none.
    pub keep_alive_s: u16,
    /// v5.
    pub receive_maximum: Option<u16>,
    /// v5.
    pub packet_max: Option<u32>,
    /// v5.
    pub alias_max: u16,
    /// Microseconds that it waits at most before it answers.
    pub answer_us: u64,
    /// Whether it sometimes refuses a message (v5).
    pub is_picky: bool,
    /// Whether it publishes.
    pub publishes: bool,
    /// Whether it subscribes.
    pub subscribes: bool,
    /// Its topics for retained messages: nobody else retains there.
    pub retains: Vec<String>,
    /// Whether it keeps its connection alive.
    pub pings: bool,
}

/// A message of the client's that is not acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) packet_id: u16,
    pub(crate) message: MessageId,
    /// PUBREC has come.
    is_received: bool,
    /// PUBREL was sent on an earlier connection, too.
    is_release_repeated: bool,
}

/// A request of the client's that is not answered.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Subscribe(Vec<(String, QoS)>),
    Unsubscribe(Vec<String>),
}

/// What the server allows on this connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) receive_maximum: u16,
    pub(crate) alias_max: u16,
}

/// Before CONNACK.
const NOTHING_YET: Allowance = Allowance {
    receive_maximum: 0,
    alias_max: 0,
};

/// What has become of a message at QoS 2 until its identifier is released.
#[derive(Clone, Copy, Debug)]
enum Incoming {
    Accepted,
    /// With the number of the message.
    Refused(Option<MessageId>),
}

/// Whether this is how a request is refused that a full disk does not let be kept.
fn is_for_room(reason: ReasonCode) -> bool {
    use ReasonCode::{QuotaExceeded, ServerUnavailable, UnspecifiedError};
    // Older clients know less of reasons.
    matches!(reason, QuotaExceeded | ServerUnavailable | UnspecifiedError)
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub index: usize,
    /// What it is like.
    pub character: Character,
    /// Where it stands.
    pub state: State,
    /// Its present connection.
    pub link: Option<LinkId>,
    /// Counts its connections.
    pub turn: u64,
    /// A clean session was begun and not confirmed.
    pub(crate) must_clean: bool,
    /// The server keeps a session, as far as the client knows.
    pub(crate) has_session: bool,
    pub(crate) outgoing: VecDeque<Outgoing>,
    pub(crate) requests: BTreeMap<u16, Request>,
    pub(crate) filters: BTreeSet<String>,
    pub(crate) allowance: Allowance,
    /// How many messages it has wanted to publish.
    pub(crate) published: u64,
    pub(crate) aliases: Vec<String>,
    /// Messages that were refused.
    pub(crate) refused: Vec<MessageId>,
    /// Messages received in the present calm: by number, how often.
    pub received: BTreeMap<MessageId, u32>,
    /// QoS 2 identifiers received.
    incoming: BTreeMap<u16, Incoming>,
    answers: VecDeque<(AckKind, u16, ReasonCode)>,
    is_answer_due: bool,
    server_aliases: BTreeMap<u16, String>,
    framer: Framer,
    next_id: u16,
    hello: Option<Hello>,
}

impl Client {
    /// A client without a connection.
    pub fn new(index: usize, character: Character) -> Client {
        Client {
            index,
            character,
            state: State::Offline,
            link: None,
            turn: 0,
            must_clean: false,
            has_session: false,
            outgoing: VecDeque::new(),
            requests: BTreeMap::new(),
            filters: BTreeSet::new(),
            allowance: NOTHING_YET,
            published: 0,
            aliases: Vec::new(),
            refused: Vec::new(),
            received: BTreeMap::new(),
            incoming: BTreeMap::new(),
            answers: VecDeque::new(),
            is_answer_due: false,
            server_aliases: BTreeMap::new(),
            framer: Framer::default(),
            next_id: 0,
            hello: None,
        }
    }

    /// A packet identifier that is not in use.
    pub(crate) fn packet_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id % 5_000 + 1;
            let is_used = self
                .outgoing
                .iter()
                .any(|out| out.packet_id == self.next_id)
                || self.requests.contains_key(&self.next_id);
            if let (false, Some(id)) = (is_used, PacketId::new(self.next_id)) {
                return id;
            }
        }
    }

    /// Whether another message may be sent unacknowledged.
    pub(crate) fn has_quota(&self) -> bool {
        self.outgoing.len() < usize::from(self.allowance.receive_maximum).min(2_000)
    }

    /// Now.
    pub(crate) fn moment(world: &World) -> Moment {
        Moment {
            step: world.step,
            at: world.now,
        }
    }

    pub(crate) fn wake(&self, world: &mut World, delay_us: u64, wake: Wake) {
        world.schedule(
            delay_us,
            What::Wake {
                client: self.index,
                wake,
                turn: self.turn,
            },
        );
    }

    pub(crate) fn send(&self, world: &mut World, packet: &Packet<'_>) {
        let mut out = Vec::new();
        packet.encode(self.character.version, &mut out);
        self.send_bytes(world, &out);
    }

    pub(crate) fn send_bytes(&self, world: &mut World, bytes: &[u8]) {
        if let Some(link) = self.link {
            world.write(link, bytes);
        }
    }

    /// Takes up a new connection, on which `connect` is the first packet.
    pub(crate) fn begin(
        &mut self,
        world: &mut World,
        hello: Hello,
        connect: &Packet<'_>,
    ) -> LinkId {
        // At the end of a run nothing is left behind.
        if let (Some(former), true) = (self.link, world.is_calm) {
            world.leave(former, Leave::Reset);
        }
        let link = world.connect(self.index, self.character.version);
        self.link = Some(link);
        self.turn += 1;
        self.state = State::Connecting;
        self.must_clean |= hello.is_clean;
        self.framer = Framer::default();
        self.answers.clear();
        self.is_answer_due = false;
        self.requests.clear();
        self.aliases.clear();
        self.server_aliases.clear();
        self.allowance = NOTHING_YET;
        if world.history.is_recording() {
            world.say(format_args!(
                "client {} sends {}",
                self.index,
                brief(connect, 300)
            ));
        }
        self.send(world, connect);
        self.hello = Some(hello);
        link
    }

    /// Gives up the connection.
    pub(crate) fn leave(&mut self, world: &mut World, leave: Leave) {
        if let Some(link) = self.link.take() {
            world.leave(link, leave);
        }
        self.state = State::Offline;
        self.turn += 1;
    }

    /// The connection has ended from the other side.
    pub fn on_ended(&mut self, world: &mut World, link: LinkId) {
        if self.link == Some(link) {
            world.say(format_args!(
                "client {} sees the end of link {}",
                self.index, link.0
            ));
            self.leave(world, Leave::Finish);
            if !world.is_calm {
                let delay_us = world.chance.delay(3_000_000);
                self.wake(world, delay_us, Wake::Connect);
            } else if !world.plan.is_tiny {
                // With tiny limits it might be turned away for ever; with a full disk, for long.
                let delay_us = match (world.is_up(), world.full_since()) {
                    (true, None) => 10,
                    (false, _) => 2_000,
                    (true, Some(_)) => 100_000,
                };
                self.wake(world, delay_us, Wake::Connect);
            }
        }
    }

    /// Bytes came.
    ///
    /// # Errors
    /// They must not have.
    pub fn on_arrived(
        &mut self,
        world: &mut World,
        checker: &mut Checker,
        link: LinkId,
        bytes: &[u8],
    ) -> Result<()> {
        if self.link != Some(link) {
            return Ok(());
        }
        self.framer.push(bytes);
        while let Some(raw) = self.framer.next_packet()? {
            let result = self.on_packet(world, checker, &raw);
            result.with_context(|| format!("client {} on link {}", self.index, link.0))?;
            if self.link != Some(link) {
                break;
            }
        }
        Ok(())
    }

    fn on_packet(&mut self, world: &mut World, checker: &mut Checker, raw: &Raw) -> Result<()> {
        let packet = raw.decode(self.character.version)?;
        if world.history.is_recording() {
            world.say(format_args!(
                "client {} receives {}",
                self.index,
                brief(&packet, 240)
            ));
        }
        match packet {
            Packet::Connack(connack) => self.on_connack(world, checker, &connack),
            Packet::Publish(publish) => self.on_publish(world, checker, &publish),
            Packet::Ack(ack) => self.on_ack(world, checker, &ack),
            Packet::Suback(suback) => self.on_suback(world, checker, &suback),
            Packet::Unsuback(unsuback) => self.on_unsuback(world, checker, &unsuback),
            _ => Ok(()), // PINGRESP; DISCONNECT, after which the connection ends.
        }
    }

    fn on_connack(
        &mut self,
        world: &mut World,
        checker: &mut Checker,
        connack: &Connack<'_>,
    ) -> Result<()> {
        if connack.reason.is_error() {
            let may_stop = connack.reason == ReasonCode::ServerUnavailable;
            let sent = self.hello.as_ref().map_or(0, |hello| hello.sent.step);
            let is_full = checker.ledger.stalls.is_since(sent) && is_for_room(connack.reason);
            ensure!(
                world.plan.is_tiny || is_full || (may_stop && world.plan.stop_steps.is_some()),
                "CONNECT is refused: {:?}",
                connack.reason
            );
            return Ok(());
        }
        let Some(hello) = &self.hello else {
            bail!("CONNACK without CONNECT")
        };
        let is_kept = match self.character.version {
            Version::V31 => !hello.is_clean && self.has_session,
            _ => connack.session_present,
        };
        self.must_clean = false;
        self.has_session = hello.expiry_s != Some(0);
        self.state = State::Online;
        self.allowance = Allowance {
            receive_maximum: match self.character.version {
                Version::V5 => connack
                    .properties
                    .receive_maximum
                    .map_or(u16::MAX, |max| max.get()),
                _ => world.plan.limits.receive_maximum,
            },
            alias_max: connack.properties.topic_alias_maximum.unwrap_or(0),
        };
        if self.link.is_some_and(|link| checker.begins_anew(link.0)) {
            self.incoming.clear();
        }
        if !is_kept {
            self.outgoing.clear();
            self.incoming.clear();
            self.filters.clear();
        }
        let keep_alive_s = connack.properties.server_keep_alive_s;
        self.character.keep_alive_s = keep_alive_s.unwrap_or(self.character.keep_alive_s);
        if self.character.keep_alive_s > 0 {
            self.wake(
                world,
                u64::from(self.character.keep_alive_s) * 500_000,
                Wake::Ping,
            );
        }
        self.wake(world, 1, Wake::Act);
        self.repeat(world, checker);
        Ok(())
    }

    /// Repeats what was unacknowledged, in the order it was first sent: messages without PUBREC,
    /// and PUBREL for those with one.
    fn repeat(&mut self, world: &mut World, checker: &mut Checker) {
        for out in &mut self.outgoing {
            out.is_release_repeated |= out.is_received;
        }
        for out in self.outgoing.clone() {
            let packet_id = PacketId::new(out.packet_id).expect("packet identifiers are not 0");
            if out.is_received {
                self.send(
                    world,
                    &Packet::Ack(Ack {
                        kind: AckKind::Pubrel,
                        packet_id,
                        reason: ReasonCode::Success,
                        properties: AckProperties::default(),
                    }),
                );
            } else {
                let message = &mut checker.ledger.messages[out.message];
                message.attempts += 1;
                // It may have been refused, and the refusal lost.
                let since = message.sent.step;
                message.is_orphan |= world.plan.is_tiny || checker.ledger.stalls.is_since(since);
                self.send_message(world, checker, out.message, Some(packet_id), true);
            }
        }
    }

    /// Remembers that a message was sent.
    pub(crate) fn hold(&mut self, packet_id: PacketId, message: MessageId) {
        let packet_id = packet_id.number();
        self.outgoing.push_back(Outgoing {
            packet_id,
            message,
            is_received: false,
            is_release_repeated: false,
        });
    }

    fn on_publish(
        &mut self,
        world: &mut World,
        checker: &mut Checker,
        publish: &Publish<'_>,
    ) -> Result<()> {
        let topic = match publish.properties.topic_alias {
            Some(alias) if publish.topic.is_empty() => self.server_aliases[&alias].clone(),
            Some(alias) => {
                self.server_aliases.insert(alias, publish.topic.to_string());
                publish.topic.to_string()
            }
            None => publish.topic.to_string(),
        };
        let packet_id = publish.packet_id.map_or(0, |id| id.number());
        let is_known = match self.incoming.get(&packet_id) {
            _ if publish.qos != QoS::ExactlyOnce => false,
            None => false,
            // The refusal may have been lost. If it was not, the identifier is free for another.
            Some(Incoming::Refused(message)) => {
                publish.dup && *message == crate::ledger::number(publish.payload)
            }
            Some(Incoming::Accepted) => {
                ensure!(publish.dup, "QoS 2 packet {packet_id} again without DUP");
                true
            }
        };
        if !is_known {
            let delivery = Delivery {
                topic,
                qos: publish.qos,
                retain: publish.retain,
                dup: publish.dup,
                subscription_ids: publish.properties.subscription_ids().collect(),
                expiry_s: publish.properties.message_expiry_s,
                payload: publish.payload.to_vec(),
            };
            if let Some(message) = crate::ledger::number(publish.payload) {
                checker.check_will(message, world.now)?;
                *self.received.entry(message).or_default() += 1;
            }
            if self
                .link
                .is_some_and(|link| checker.is_of_latest_session(link.0))
            {
                checker.ledger.deliver(self.index, &delivery)?;
            }
        }
        let may_refuse = self.character.is_picky && self.character.version == Version::V5;
        let is_refused = may_refuse && world.chance.one_in(10);
        let reason = if is_refused {
            ReasonCode::ImplementationSpecificError
        } else {
            ReasonCode::Success
        };
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.answer(world, AckKind::Puback, packet_id, reason),
            QoS::ExactlyOnce => {
                let incoming = match is_refused {
                    true => Incoming::Refused(crate::ledger::number(publish.payload)),
                    false => Incoming::Accepted,
                };
                self.incoming.insert(packet_id, incoming);
                self.answer(world, AckKind::Pubrec, packet_id, reason);
            }
        }
        Ok(())
    }

    fn answer(&mut self, world: &mut World, kind: AckKind, packet_id: u16, reason: ReasonCode) {
        self.answers.push_back((kind, packet_id, reason));
        if !self.is_answer_due {
            self.is_answer_due = true;
            let max = if world.is_calm {
                20
            } else {
                self.character.answer_us
            };
            let delay_us = world.chance.delay(max);
            self.wake(world, delay_us, Wake::Answer);
        }
    }

    /// It is time to answer: some of what is owed goes out, in order.
    pub(crate) fn on_answer_time(&mut self, world: &mut World) {
        self.is_answer_due = false;
        let count = if world.is_calm {
            usize::MAX
        } else {
            world.chance.pick(&[1, 2, 50])
        };
        let count = count.min(self.answers.len());
        let mut out = Vec::new();
        for (kind, number, reason) in self.answers.drain(..count) {
            let packet_id = PacketId::new(number).expect("packet identifiers are not 0");
            encode_ack(&mut out, self.character.version, kind, packet_id, reason);
        }
        if !out.is_empty() {
            self.send_bytes(world, &out);
        }
        if let Some((kind, number, reason)) = self.answers.pop_front() {
            self.answer(world, kind, number, reason);
            self.answers.rotate_right(1);
        }
    }

    fn on_ack(&mut self, world: &mut World, checker: &mut Checker, ack: &Ack<'_>) -> Result<()> {
        let number = ack.packet_id.number();
        if ack.kind == AckKind::Pubrel {
            self.incoming.remove(&number);
            self.answer(world, AckKind::Pubcomp, number, ReasonCode::Success);
            return Ok(());
        }
        let found = self.outgoing.iter().position(|out| out.packet_id == number);
        let Some(index) = found else {
            bail!("{:?} {number} of nothing", ack.kind)
        };
        let out = self.outgoing[index];
        let qos = checker.ledger.messages[out.message].qos;
        let is_fitting = match ack.kind {
            AckKind::Puback => qos == QoS::AtLeastOnce,
            AckKind::Pubrec => qos == QoS::ExactlyOnce,
            _ => qos == QoS::ExactlyOnce && out.is_received,
        };
        ensure!(
            is_fitting,
            "{:?} {number} for a message at {qos:?}",
            ack.kind
        );
        if ack.reason == ReasonCode::NoMatchingSubscribers
            && let Some(subscriber) = checker.ledger.certain_subscriber(out.message)
        {
            bail!("message {} has a subscriber: {subscriber:?}", out.message);
        }
        // The answer to a PUBREL that was repeated because its PUBCOMP was lost.
        let is_released = ack.kind == AckKind::Pubcomp
            && out.is_release_repeated
            && ack.reason == ReasonCode::PacketIdentifierNotFound;
        if ack.reason.is_error() && !is_released {
            let reason = ack.reason;
            let sent = checker.ledger.messages[out.message].sent.step;
            let is_full = checker.ledger.stalls.is_since(sent) && is_for_room(reason);
            ensure!(
                world.plan.is_tiny || is_full,
                "message {} is refused: {reason:?}",
                out.message
            );
            self.outgoing.remove(index);
            self.refused.push(out.message);
        } else if ack.kind == AckKind::Pubrec {
            self.outgoing[index].is_received = true;
            self.answer(world, AckKind::Pubrel, number, ReasonCode::Success);
        } else {
            self.outgoing.remove(index);
            // An acknowledgement that a crash has overtaken, or of a message of which a crash has
            // taken a part, promises only what was durable.
            let message = &checker.ledger.messages[out.message];
            let has_crashed = checker.ledger.crashes_since(message.sent.step) > 0;
            if !has_crashed || world.plan.promises(&message.topic) {
                checker.ledger.messages[out.message].acked = Some(Client::moment(world));
            }
        }
        Ok(())
    }

    fn on_suback(
        &mut self,
        world: &mut World,
        checker: &mut Checker,
        suback: &Suback<'_>,
    ) -> Result<()> {
        let request = self.requests.remove(&suback.packet_id.number());
        let Some(Request::Subscribe(wishes)) = request else {
            bail!("SUBACK of nothing")
        };
        let reasons: Vec<ReasonCode> = suback.reasons.iter().collect();
        ensure!(
            reasons.len() == wishes.len(),
            "SUBACK has {} reasons",
            reasons.len()
        );
        let (link, now) = (self.link.map_or(0, |link| link.0), Client::moment(world));
        for ((filter, qos), reason) in wishes.into_iter().zip(reasons) {
            let is_granted = reason as u8 == qos as u8;
            let sent = self.hello.as_ref().map_or(0, |hello| hello.sent.step);
            let is_full = checker.ledger.stalls.is_since(sent) && is_for_room(reason);
            ensure!(
                is_granted || world.plan.is_tiny || is_full,
                "{filter} gets {reason:?}, not {qos:?}"
            );
            if !is_granted {
                self.filters.remove(&filter);
            }
            checker
                .ledger
                .subscribed(self.index, &filter, is_granted, link, now);
        }
        // The shard may have lost the connection since, and with it what it still had to send.
        if checker.is_gone(link) {
            checker.ledger.lose_link(self.index, link);
        }
        Ok(())
    }

    fn on_unsuback(
        &mut self,
        world: &mut World,
        checker: &mut Checker,
        unsuback: &Unsuback<'_>,
    ) -> Result<()> {
        let request = self.requests.remove(&unsuback.packet_id.number());
        let Some(Request::Unsubscribe(filters)) = request else {
            bail!("UNSUBACK of nothing")
        };
        let mut reasons = unsuback.reasons.iter();
        for filter in filters {
            let existed = checker
                .ledger
                .unsubscribed(self.index, &filter, Client::moment(world));
            if self.character.version != Version::V5 {
                continue;
            }
            let expected = match existed {
                Some(true) => Some(ReasonCode::Success),
                Some(false) => Some(ReasonCode::NoSubscriptionExisted),
                None => None,
            };
            let reason = reasons.next().context("UNSUBACK has too few reasons")?;
            let is_right = expected.is_none_or(|expected| expected == reason);
            ensure!(
                is_right || world.plan.is_tiny,
                "end of {filter}: {reason:?}"
            );
        }
        ensure!(reasons.next().is_none(), "UNSUBACK has too many reasons");
        Ok(())
    }

    /// What it still waits for, or owes; `None` if it is online and all is answered.
    pub fn waits_for(&self) -> Option<String> {
        let is_idle = self.state == State::Online
            && self.outgoing.is_empty()
            && self.requests.is_empty()
            && self.answers.is_empty();
        (!is_idle).then(|| {
            format!(
                "{:?}, {} messages from {:?}, requests {:?}, answers {:?}",
                self.state,
                self.outgoing.len(),
                self.outgoing.front(),
                self.requests,
                self.answers
            )
        })
    }
}
