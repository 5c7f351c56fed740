//! What clients do: who they are, which topics there are, and what each does next.

use crate::chance::Chance;
use crate::checker::Checker;
use crate::client::{Character, Client, Request, State};
use crate::ledger::{Message, MessageId, payload};
use crate::link::Leave;
use crate::plan::Plan;
use crate::truth::Hello;
use crate::wire::{Wish, write_subscribe, write_unsubscribe};
use crate::world::{Wake, World};
use mqtt_v5_codec::{
    Connect, ConnectProperties, Disconnect, DisconnectProperties, Outgoing, Packet, PacketId,
    PublishProperties, QoS, ReasonCode, RetainHandling, SubscriptionOptions, Version, Will,
    encode_publish,
};
use std::num::NonZeroU16;

/// The topics and filters of a run.
#[derive(Clone, Debug)]
pub struct Pool {
    topics: Vec<String>,
    filters: Vec<String>,
}

/// Topics that belong to no device.
const FREE: [&str; 7] = ["t/a", "t/b", "t/a/q", "u/a", "u/b/q", "/lead", "$else/a"];
/// Filters for them and for device topics alike.
const WIDE: [&str; 10] = [
    "#", "+/a", "t/+", "t/#", "+/+/q", "+/m", "+", "/+", "$else/#", "will/#",
];
/// After so many messages a client has had its share of bursts.
const BURSTS_MESSAGES_MAX: u64 = 3_000;
/// Lengths of payloads; the number comes first and is never cut off.
const PAYLOADS: [usize; 5] = [0, 20, 20, 300, 3_000];

impl Pool {
    /// The pool of a run, and the UUIDs of its devices.
    pub fn new(chance: &mut Chance) -> (Pool, Vec<String>) {
        let devices: Vec<String> = (0..4).map(|_| uuid(chance)).collect();
        let mut topics: Vec<String> = FREE.iter().map(|topic| topic.to_string()).collect();
        let mut filters: Vec<String> = WIDE.iter().map(|filter| filter.to_string()).collect();
        for device in &devices {
            topics.push(format!("{device}/m"));
            topics.push(format!("{device}/n/q"));
            filters.push(format!("{device}/#"));
            filters.push(format!("{device}/+"));
        }
        topics.push(devices[0].clone());
        filters.extend(topics.iter().cloned());
        for group in ["g", "h"] {
            for filter in ["t/#", "t/a", "+/m", "u/+/q"] {
                filters.push(format!("$share/{group}/{filter}"));
            }
            filters.push(format!("$share/{group}/{}/m", devices[1]));
        }
        (Pool { topics, filters }, devices)
    }

    /// One of the topics.
    pub fn some_topic(&self, chance: &mut Chance) -> String {
        self.topics[chance.index(self.topics.len())].clone()
    }

    fn some_filter(&self, chance: &mut Chance) -> String {
        self.filters[chance.index(self.filters.len())].clone()
    }
}

/// A random UUID (version 4).
fn uuid(chance: &mut Chance) -> String {
    let (high, low) = (chance.draw(), chance.draw());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xFFFF,
        high & 0xFFF,
        low >> 52,
        low & 0xFFFF_FFFF_FFFF
    )
}

/// Draws the clients of a run.
pub fn characters(
    plan: &Plan,
    pool: &Pool,
    devices: &[String],
    chance: &mut Chance,
) -> Vec<Character> {
    let count = plan.clients;
    (0..count)
        .map(|index| {
            let mut character = character(index, devices, chance);
            let own = |position: &usize| position % count == index;
            let positions = (0..pool.topics.len()).filter(own);
            character.retains = positions
                .map(|position| pool.topics[position].clone())
                .collect();
            character
        })
        .collect()
}

fn character(index: usize, devices: &[String], chance: &mut Chance) -> Character {
    let version = chance.pick(&[Version::V31, Version::V311, Version::V5, Version::V5]);
    let is_device = index < devices.len() && chance.percent(40);
    let client_id = if is_device {
        devices[index].clone()
    } else {
        format!("client {index}")
    };
    let is_v5 = version == Version::V5;
    let expiry_s = if is_v5 {
        chance.pick(&[Some(0), Some(4), Some(60), Some(100_000), None, None])
    } else {
        None
    };
    let role = chance.below(5);
    Character {
        version,
        client_id,
        expiry_s,
        // MQTT 3.1 does not say whether a session was present, so a client of that version does
        // not change its mind.
        clean_percent: match version {
            Version::V31 => chance.pick(&[0, 100]),
            _ => chance.pick(&[0, 0, 10, 50, 100]),
        },
        will_percent: chance.pick(&[0, 50, 100]),
        keep_alive_s: chance.pick(&[0, 10, 30, 60]),
        receive_maximum: if is_v5 {
            chance.pick(&[None, Some(1), Some(3), Some(20)])
        } else {
            None
        },
        packet_max: if is_v5 {
            chance.pick(&[None, None, Some(200), Some(2_000)])
        } else {
            None
        },
        alias_max: if is_v5 { chance.pick(&[0, 2, 30]) } else { 0 },
        answer_us: chance.pick(&[10, 1_000, 100_000, 2_000_000]),
        is_picky: chance.percent(15),
        publishes: role != 0,
        subscribes: role != 1,
        retains: Vec::new(),
        pings: chance.percent(90),
    }
}

impl Character {
    /// The CONNECT of such a client, with a will, its payload and its delay.
    fn connect<'a>(
        &'a self,
        clean_start: bool,
        will: Option<&'a (Message, Vec<u8>, u32)>,
    ) -> Packet<'a> {
        let properties = ConnectProperties {
            session_expiry_s: match (self.version, self.expiry_s) {
                (Version::V5, None) => Some(u32::MAX),
                (Version::V5, Some(0)) => None,
                (Version::V5, expiry_s) => expiry_s,
                _ => None,
            },
            receive_maximum: self.receive_maximum.and_then(NonZeroU16::new),
            maximum_packet_size: self.packet_max,
            topic_alias_maximum: (self.alias_max > 0).then_some(self.alias_max),
            ..ConnectProperties::default()
        };
        Packet::Connect(Connect {
            version: self.version,
            clean_start,
            keep_alive_s: self.keep_alive_s,
            client_id: &self.client_id,
            will: will.map(|(message, payload, delay_s)| Will {
                qos: message.qos,
                retain: message.retain,
                topic: &message.topic,
                payload,
                delay_s: *delay_s,
                properties: PublishProperties::default(),
            }),
            user_name: None,
            password: None,
            properties,
        })
    }
}

/// Connecting.
impl Client {
    /// Opens a connection, whether or not there is one already.
    pub fn connect(&mut self, world: &mut World, checker: &mut Checker, pool: &Pool) {
        let character = self.character.clone();
        let now = Client::moment(world);
        let is_calm = world.is_calm;
        let wants_clean = match character.clean_percent {
            100 => true,
            percent => !is_calm && world.chance.percent(percent),
        };
        let is_clean = self.must_clean || wants_clean;
        // A 3.x session with Clean Session ends with its connection.
        let expiry_s = match character.version {
            Version::V5 => character.expiry_s,
            _ => is_clean.then_some(0),
        };
        let will = self.draw_will(world, checker, pool);
        let hello = Hello {
            client: self.index,
            version: character.version,
            is_clean,
            expiry_s,
            // A 3.x client is not told of a cap.
            keep_alive_s: match character.version {
                Version::V5 => character.keep_alive_s,
                _ => world.plan.limits.keep_alive_s(character.keep_alive_s),
            },
            receive_maximum: character.receive_maximum.unwrap_or(u16::MAX),
            packet_max: character.packet_max,
            alias_max: character.alias_max,
            will,
            sent: now,
        };
        let will = will.map(|(number, delay_s)| {
            let message = checker.ledger.messages[number].clone();
            let payload = payload(number, message.payload_bytes);
            (message, payload, delay_s)
        });
        let connect = character.connect(is_clean, will.as_ref());
        let link = self.begin(world, hello.clone(), &connect);
        checker.on_connect(link.0, Some(hello));
        // What follows CONNECT need not wait for CONNACK.
        if !is_calm && character.publishes && world.chance.one_in(5) {
            let topic = pool.some_topic(&mut world.chance);
            self.publish(world, checker, topic, QoS::AtMostOnce);
        }
        // An impatient client tries again.
        if !is_calm && world.chance.one_in(20) {
            let delay_us = world.chance.between(1_000, 5_000_000);
            self.wake(world, delay_us, Wake::Connect);
        }
        self.wake(world, 1_000, Wake::Act);
    }

    fn draw_will(
        &self,
        world: &mut World,
        checker: &mut Checker,
        pool: &Pool,
    ) -> Option<(MessageId, u32)> {
        if world.is_calm || !world.chance.percent(self.character.will_percent) {
            return None;
        }
        let is_own = world.chance.percent(50);
        let topic = if is_own {
            format!("will/{}", self.index)
        } else {
            pool.some_topic(&mut world.chance)
        };
        let delay_s = match self.character.version {
            Version::V5 => world.chance.pick(&[0, 0, 2, 15]),
            _ => 0,
        };
        let number = checker.ledger.publish(Message {
            publisher: self.index,
            topic,
            qos: qos(&mut world.chance),
            retain: is_own && world.chance.percent(30),
            is_clearing: false,
            expiry_s: None,
            payload_bytes: 20,
            sent: Client::moment(world),
            acked: None,
            attempts: 1,
            is_will: true,
            is_orphan: false,
        });
        Some((number, delay_s))
    }
}

fn qos(chance: &mut Chance) -> QoS {
    chance.pick(&[
        QoS::AtMostOnce,
        QoS::AtLeastOnce,
        QoS::AtLeastOnce,
        QoS::ExactlyOnce,
    ])
}

/// Acting.
impl Client {
    /// Does one thing, and plans the next.
    pub fn act(&mut self, world: &mut World, checker: &mut Checker, pool: &Pool) {
        if self.state == State::Online && !world.is_calm {
            self.act_once(world, checker, pool);
        }
        if self.state != State::Offline && !world.is_calm {
            let pace_us = world.plan.pace_us;
            let mut delay_us = world.chance.delay(pace_us) + 1;
            if world.chance.one_in(100) {
                delay_us += world.chance.below(20_000_000);
            }
            self.wake(world, delay_us, Wake::Act);
        }
    }

    fn act_once(&mut self, world: &mut World, checker: &mut Checker, pool: &Pool) {
        if world.chance.below(1_000) < world.plan.cuts_per_mille {
            self.break_off(world, checker, pool);
            return;
        }
        match world.chance.below(100) {
            0..70 if self.character.publishes => {
                let burst = world.plan.burst;
                let count = match world.chance.below(20) {
                    0 if self.published < BURSTS_MESSAGES_MAX => world.chance.below(burst),
                    1..5 => 10,
                    _ => 1,
                };
                self.published += count;
                for _ in 0..count {
                    self.publish_something(world, checker, pool);
                }
            }
            70..90 if self.character.subscribes && self.filters.len() < 8 => {
                self.subscribe_something(world, checker, pool);
            }
            90..94 => self.unsubscribe_something(world, checker),
            94..97 => self.send(world, &Packet::Pingreq),
            97 => self.disconnect(world),
            _ => {}
        }
    }

    /// Loses the connection, one way or the other, or opens a second one.
    fn break_off(&mut self, world: &mut World, checker: &mut Checker, pool: &Pool) {
        match world.chance.below(5) {
            0 => self.leave(world, Leave::Finish),
            1 => self.leave(world, Leave::Reset),
            2 | 3 => self.leave(world, Leave::Vanish),
            // Taken over: the old connection stays open, but nobody listens to it.
            _ => {
                self.connect(world, checker, pool);
                return;
            }
        }
        let delay_us = world.chance.delay(10_000_000);
        self.wake(world, delay_us, Wake::Connect);
    }

    fn disconnect(&mut self, world: &mut World) {
        let is_v5 = self.character.version == Version::V5;
        let is_with_will = is_v5 && world.chance.percent(30);
        let has_session = self.character.expiry_s != Some(0);
        let new_expiry = (is_v5 && has_session && world.chance.percent(30))
            .then(|| world.chance.pick(&[0, 3, 1_000]));
        let reason = if is_with_will {
            ReasonCode::DisconnectWithWill
        } else {
            ReasonCode::Success
        };
        let properties = DisconnectProperties {
            session_expiry_s: new_expiry,
            ..DisconnectProperties::default()
        };
        self.send(
            world,
            &Packet::Disconnect(Disconnect { reason, properties }),
        );
        self.leave(world, Leave::Finish);
        let delay_us = world.chance.delay(10_000_000);
        self.wake(world, delay_us, Wake::Connect);
    }

    /// Shows that it is alive, in time.
    pub fn ping(&mut self, world: &mut World) {
        let keep_alive_s = u64::from(self.character.keep_alive_s);
        if self.state == State::Online && keep_alive_s > 0 {
            if self.character.pings || world.is_calm {
                self.send(world, &Packet::Pingreq);
            }
            self.wake(world, keep_alive_s * 500_000, Wake::Ping);
        }
    }

    fn publish_something(&mut self, world: &mut World, checker: &mut Checker, pool: &Pool) {
        let qos = qos(&mut world.chance);
        let topic = pool.some_topic(&mut world.chance);
        self.publish(world, checker, topic, qos);
    }

    /// Publishes a new message, if there is quota; returns its number.
    pub fn publish(
        &mut self,
        world: &mut World,
        checker: &mut Checker,
        topic: String,
        qos: QoS,
    ) -> Option<MessageId> {
        if qos != QoS::AtMostOnce && !self.has_quota() {
            return None;
        }
        let may_retain = !world.is_calm && self.character.retains.contains(&topic);
        let retain = may_retain && world.chance.percent(60);
        let is_clearing = retain && world.chance.percent(15);
        let is_v5 = self.character.version == Version::V5;
        let expiry_s = (is_v5 && !world.is_calm && world.chance.percent(10))
            .then(|| world.chance.pick(&[1, 5, 1_000]));
        let is_small = world.is_calm || world.plan.is_tiny || world.plan.burst > 100;
        let most = if is_small { 3 } else { PAYLOADS.len() };
        let padded = PAYLOADS[world.chance.index(most)];
        let number = checker.ledger.messages.len();
        let payload_bytes = if is_clearing {
            0
        } else {
            payload(number, padded).len()
        };
        checker.ledger.publish(Message {
            publisher: self.index,
            topic,
            qos,
            retain,
            is_clearing,
            expiry_s,
            payload_bytes,
            sent: Client::moment(world),
            acked: None,
            attempts: 1,
            is_will: false,
            is_orphan: false,
        });
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.packet_id());
        if let Some(packet_id) = packet_id {
            self.hold(packet_id, number);
        }
        self.send_message(world, checker, number, packet_id, false);
        Some(number)
    }

    pub(crate) fn send_message(
        &mut self,
        world: &mut World,
        checker: &Checker,
        number: MessageId,
        packet_id: Option<PacketId>,
        dup: bool,
    ) {
        let message = &checker.ledger.messages[number];
        let alias = self.alias(&mut world.chance, &message.topic);
        let is_alias_known = alias.is_some_and(|(_, is_known)| is_known);
        let payload = if message.is_clearing {
            Vec::new()
        } else {
            payload(number, message.payload_bytes)
        };
        let mut out = Vec::new();
        encode_publish(
            &mut out,
            &Outgoing {
                version: self.character.version,
                dup,
                qos: message.qos,
                retain: message.retain,
                topic: if is_alias_known { "" } else { &message.topic },
                packet_id,
                topic_alias: alias.map(|(alias, _)| alias),
                message_expiry_s: message.expiry_s,
                subscription_ids: &[],
                forwarded: &[],
                payload: &payload,
            },
        );
        world.say(format_args!(
            "client {} publishes message {number} to {} at {:?}{}{}",
            self.index,
            message.topic,
            message.qos,
            if message.retain { ", retained" } else { "" },
            if dup { ", again" } else { "" },
        ));
        self.send_bytes(world, &out);
    }

    /// Perhaps an alias for the topic, and whether the server knows it already.
    fn alias(&mut self, chance: &mut Chance, topic: &str) -> Option<(u16, bool)> {
        if self.allowance.alias_max == 0 || chance.percent(50) {
            return None;
        }
        if let Some(position) = self.aliases.iter().position(|known| known == topic) {
            return Some((position as u16 + 1, true));
        }
        if self.aliases.len() < usize::from(self.allowance.alias_max) {
            self.aliases.push(topic.to_string());
        } else {
            let position = chance.index(self.aliases.len());
            self.aliases[position] = topic.to_string();
            return Some((position as u16 + 1, false));
        }
        Some((self.aliases.len() as u16, false))
    }

    fn subscribe_something(&mut self, world: &mut World, checker: &mut Checker, pool: &Pool) {
        let mut wishes: Vec<Wish> = Vec::new();
        for _ in 0..world.chance.pick(&[1, 1, 2, 4]) {
            let filter = pool.some_filter(&mut world.chance);
            let is_twice = wishes.iter().any(|wish| wish.filter == filter);
            if !is_twice && !self.is_requested(&filter) {
                let options = self.options(&mut world.chance, &filter);
                wishes.push(Wish { filter, options });
            }
        }
        if !wishes.is_empty() {
            self.subscribe(world, checker, &wishes);
        }
    }

    fn is_requested(&self, filter: &str) -> bool {
        self.requests.values().any(|request| match request {
            Request::Subscribe(wishes) => wishes.iter().any(|(wish, _)| wish == filter),
            Request::Unsubscribe(filters) => filters.iter().any(|other| other == filter),
        })
    }

    fn options(&self, chance: &mut Chance, filter: &str) -> SubscriptionOptions {
        let qos = chance.pick(&[
            QoS::AtMostOnce,
            QoS::AtLeastOnce,
            QoS::ExactlyOnce,
            QoS::ExactlyOnce,
        ]);
        if self.character.version != Version::V5 {
            return SubscriptionOptions {
                qos,
                ..SubscriptionOptions::default()
            };
        }
        SubscriptionOptions {
            qos,
            no_local: !filter.starts_with("$share/") && chance.percent(15),
            retain_as_published: chance.percent(20),
            retain_handling: chance.pick(&[
                RetainHandling::Always,
                RetainHandling::Always,
                RetainHandling::IfNew,
                RetainHandling::Never,
            ]),
        }
    }

    /// Sends a SUBSCRIBE.
    pub fn subscribe(&mut self, world: &mut World, checker: &mut Checker, wishes: &[Wish]) {
        let version = self.character.version;
        let id = (version == Version::V5 && world.chance.percent(40))
            .then(|| world.chance.pick(&[1, 2, 300, 268_435_455]));
        let packet_id = self.packet_id();
        let now = Client::moment(world);
        for wish in wishes {
            checker.ledger.subscribe(self.index, wish, id, now);
            self.filters.insert(wish.filter.clone());
        }
        let asked = wishes
            .iter()
            .map(|wish| (wish.filter.clone(), wish.options.qos))
            .collect();
        self.requests
            .insert(packet_id.number(), Request::Subscribe(asked));
        let mut out = Vec::new();
        write_subscribe(&mut out, version, packet_id, id, wishes);
        world.say(format_args!(
            "client {} subscribes {id:?} {wishes:?}",
            self.index
        ));
        self.send_bytes(world, &out);
    }

    fn unsubscribe_something(&mut self, world: &mut World, checker: &mut Checker) {
        if self.filters.is_empty() {
            return;
        }
        let position = world.chance.index(self.filters.len());
        let chosen = self.filters.iter().nth(position).cloned();
        let mut filters: Vec<String> = chosen.into_iter().collect();
        if world.chance.one_in(4) {
            filters.push("never/subscribed".to_string());
        }
        if filters.iter().any(|filter| self.is_requested(filter)) {
            return;
        }
        let packet_id = self.packet_id();
        let now = Client::moment(world);
        for filter in &filters {
            checker.ledger.unsubscribe(self.index, filter, now);
            self.filters.remove(filter);
        }
        let mut out = Vec::new();
        write_unsubscribe(&mut out, self.character.version, packet_id, &filters);
        world.say(format_args!(
            "client {} unsubscribes {filters:?}",
            self.index
        ));
        self.requests
            .insert(packet_id.number(), Request::Unsubscribe(filters));
        self.send_bytes(world, &out);
    }
}
