//! A client that does not keep to the protocol: it sends garbage, packets out of place, altered
//! packets, or nothing at all. What becomes of it does not matter; that nobody else suffers does.
//!
//! All its payloads are of the letter x, which no other payload contains, and its topics differ
//! from all others by more than one byte.

use crate::chance::Chance;
use crate::checker::Checker;
use crate::link::{Leave, LinkId};
use crate::wire::{Wish, write_packet, write_subscribe, write_unsubscribe};
use crate::world::{Wake, What, World};
use mqtt_v5_codec::{
    AckKind, Connect, ConnectProperties, Outgoing, Packet, PacketId, QoS, ReasonCode,
    SubscriptionOptions, Version, encode_ack, encode_publish,
};

/// One vandal.
#[derive(Debug)]
pub struct Vandal {
    /// Its number among all clients.
    pub index: usize,
    link: Option<LinkId>,
    version: Version,
}

impl Vandal {
    /// A vandal without a connection.
    pub fn new(index: usize) -> Vandal {
        Vandal {
            index,
            link: None,
            version: Version::V5,
        }
    }

    /// Does some harm, and plans more.
    pub fn act(&mut self, world: &mut World, checker: &mut Checker) {
        if world.is_calm {
            if let Some(link) = self.link.take() {
                world.leave(link, Leave::Reset);
            }
            return;
        }
        match self.link {
            None => self.connect(world, checker),
            Some(link) if world.chance.one_in(10) => {
                let leave = world
                    .chance
                    .pick(&[Leave::Finish, Leave::Reset, Leave::Vanish]);
                world.leave(link, leave);
                self.link = None;
            }
            Some(link) => {
                let bytes = self.harm(&mut world.chance);
                world.write(link, &bytes);
            }
        }
        let pace_us = world.plan.pace_us;
        let delay_us = world.chance.delay(3 * pace_us) + 1;
        self.wake(world, delay_us);
    }

    /// Its connection has ended from the other side.
    pub fn on_ended(&mut self, world: &mut World, link: LinkId) {
        if self.link == Some(link) {
            world.leave(link, Leave::Finish);
            self.link = None;
        }
    }

    fn wake(&self, world: &mut World, delay_us: u64) {
        world.schedule(
            delay_us,
            What::Wake {
                client: self.index,
                wake: Wake::Act,
                turn: 0,
            },
        );
    }

    fn connect(&mut self, world: &mut World, checker: &mut Checker) {
        self.version = world
            .chance
            .pick(&[Version::V31, Version::V311, Version::V5]);
        let link = world.connect(self.index, self.version);
        checker.on_connect(link.0, None);
        self.link = Some(link);
        let mut out = Vec::new();
        match world.chance.below(10) {
            0 => out = self.harm(&mut world.chance),
            1 => {}
            _ => {
                self.write_connect(&mut world.chance, &mut out);
                if world.chance.one_in(4) {
                    alter(&mut world.chance, &mut out);
                }
            }
        }
        world.write(link, &out);
    }

    fn write_connect(&self, chance: &mut Chance, out: &mut Vec<u8>) {
        let connect = Connect {
            version: self.version,
            clean_start: chance.percent(50),
            keep_alive_s: chance.pick(&[0, 5, 100]),
            client_id: chance.pick(&["xx one", "xx two", "xx three", ""]),
            will: None,
            user_name: chance.percent(10).then_some("xx"),
            password: None,
            properties: ConnectProperties::default(),
        };
        Packet::Connect(connect).encode(self.version, out);
    }

    /// Bytes that are wrong more often than not.
    fn harm(&self, chance: &mut Chance) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..chance.between(1, 5) {
            self.write_one(chance, &mut out);
        }
        if chance.percent(40) {
            alter(chance, &mut out);
        }
        if chance.one_in(20) {
            out.truncate(chance.index(out.len()));
        }
        out
    }

    fn write_one(&self, chance: &mut Chance, out: &mut Vec<u8>) {
        let packet_id = PacketId::new(chance.between(1, 5) as u16).expect("above 0");
        match chance.below(9) {
            0 => {
                let bytes = chance.between(1, 40);
                out.extend((0..bytes).map(|_| chance.draw() as u8));
            }
            1 => self.write_connect(chance, out),
            2 => {
                let kind = chance.pick(&[
                    AckKind::Puback,
                    AckKind::Pubrec,
                    AckKind::Pubrel,
                    AckKind::Pubcomp,
                ]);
                let reason = chance.pick(&[ReasonCode::Success, ReasonCode::UnspecifiedError]);
                encode_ack(out, self.version, kind, packet_id, reason);
            }
            3 | 4 => {
                let filter = chance
                    .pick(&["#", "xx/+", "+", "xx/#/y", "$share/xx", ""])
                    .to_string();
                let qos = chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
                let options = SubscriptionOptions {
                    qos,
                    ..SubscriptionOptions::default()
                };
                write_subscribe(
                    out,
                    self.version,
                    packet_id,
                    None,
                    &[Wish { filter, options }],
                );
            }
            5 => write_unsubscribe(out, self.version, packet_id, &["xx/+".to_string()]),
            6 => {
                let kind = chance.between(1, 15) as u8;
                write_packet(out, kind << 4, &[]);
            }
            _ => self.write_publish(chance, packet_id, out),
        }
    }

    fn write_publish(&self, chance: &mut Chance, packet_id: PacketId, out: &mut Vec<u8>) {
        let qos = chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let payload = vec![b'x'; chance.pick(&[0, 30, 3_000])];
        let is_v5 = self.version == Version::V5;
        encode_publish(
            out,
            &Outgoing {
                version: self.version,
                dup: qos != QoS::AtMostOnce && chance.one_in(4),
                qos,
                retain: chance.one_in(4),
                topic: chance.pick(&["xx/yy", "xx/+", "$SYS/xx", "xx/zz/yy"]),
                packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
                topic_alias: (is_v5 && chance.one_in(4)).then(|| chance.pick(&[0, 1, 2, 60_000])),
                message_expiry_s: None,
                subscription_ids: if is_v5 && chance.one_in(8) { &[1] } else { &[] },
                forwarded: &[],
                payload: &payload,
            },
        );
    }
}

/// Changes a byte somewhere.
fn alter(chance: &mut Chance, bytes: &mut [u8]) {
    if !bytes.is_empty() {
        let index = chance.index(bytes.len());
        bytes[index] = chance.draw() as u8;
    }
}
