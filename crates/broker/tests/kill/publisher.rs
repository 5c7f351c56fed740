//! A publisher at QoS 1 or 2 with a session of its own: several messages under way, each sent
//! again after a reconnect until it is acknowledged, as 4.4 says.

use crate::chance::Chance;
use crate::history::Micros;
use crate::peer::{Peer, Session, Stage, Surroundings};
use crate::truth::Truth;
use mqtt_v5_codec::{
    Ack, AckKind, Outgoing, Packet, PacketId, QoS, ReasonCode, decode, encode_publish,
};
use std::collections::VecDeque;

/// What a publisher does.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Of all its messages.
    pub qos: QoS,
    /// Its topics, as indices.
    pub topics: Vec<usize>,
    /// Its messages are retained; some delete.
    pub retain: bool,
    /// Messages under way.
    pub window_max: usize,
}

/// A message under way.
struct Flight {
    packet_id: PacketId,
    serial: u32,
    /// PUBREC has been read.
    is_released: bool,
    payload: Vec<u8>,
}

/// A publisher.
pub struct Publisher {
    /// Its connection.
    pub peer: Peer,
    /// Publishes nothing new.
    pub is_resting: bool,
    index: usize,
    manner: Manner,
    chance: Chance,
    /// In the order in which they were first sent.
    window: VecDeque<Flight>,
    /// Messages that may be sent at once.
    burst: u64,
    next_burst: Micros,
}

impl Publisher {
    /// A publisher that has never been connected; `index` names it in payloads.
    pub fn new(index: usize, peer: Peer, manner: Manner, chance: Chance) -> Publisher {
        Publisher {
            peer,
            is_resting: false,
            index,
            manner,
            chance,
            window: VecDeque::new(),
            burst: 0,
            next_burst: 0,
        }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.window.is_empty() && self.peer.stage == Stage::Up
    }

    /// For people: what is under way.
    pub fn remains(&self) -> String {
        let flights = self.window.iter().map(|flight| {
            let what = if flight.is_released {
                "PUBREL"
            } else {
                "PUBLISH"
            };
            format!("{what} {}:{}", self.index, flight.serial)
        });
        flights.collect::<Vec<_>>().join(", ")
    }

    /// The socket has something to say.
    pub fn on_ready(&mut self, truth: &mut Truth) {
        let is_open = self.peer.fill();
        while let Some((first, body)) = self.peer.take() {
            match decode(self.peer.version, first, &body) {
                Ok(Packet::Connack(connack)) => {
                    let session = self.peer.on_connack(&connack, truth);
                    self.on_connected(session, truth);
                }
                Ok(Packet::Ack(ack)) => self.on_ack(&ack, truth),
                Ok(Packet::Disconnect(disconnect)) => self.peer.on_disconnect(&disconnect, truth),
                other => {
                    let what = format!("{}: {other:?}", self.peer.name);
                    truth.violation("unexpected packet to a publisher", what);
                }
            }
        }
        if !is_open {
            self.peer.drop_link(truth, "lost");
        }
        self.peer.flush(truth);
    }

    /// Time passes.
    pub fn tick(&mut self, truth: &mut Truth, surroundings: &Surroundings<'_>) {
        self.peer.check_patience(truth);
        match self.peer.stage {
            Stage::Down => self.peer.connect(truth, surroundings),
            Stage::Connecting => {}
            Stage::Up if self.is_resting => {}
            Stage::Up => {
                if self.chance.one_in(3_000) {
                    self.peer.leave(truth, false);
                    return;
                }
                if truth.now >= self.next_burst {
                    self.burst = self.chance.between(1, 10);
                    self.next_burst = truth.now + self.chance.between(1, 16_000);
                }
                while self.burst > 0 && self.window.len() < self.manner.window_max {
                    self.burst -= 1;
                    self.publish(truth);
                }
                self.peer.flush(truth);
            }
        }
    }

    /// The connection ends.
    pub fn cut(&mut self, truth: &mut Truth) {
        if self.peer.stage != Stage::Down {
            self.peer.drop_link(truth, "cut");
        }
    }

    fn on_connected(&mut self, session: Session, truth: &mut Truth) {
        if session != Session::Resumed {
            // Nothing has been sent before the first CONNACK; a lost session is a violation, and
            // what was under way is given up with it.
            self.window.clear();
        }
        for at in 0..self.window.len() {
            let flight = &self.window[at];
            if flight.is_released {
                let (id, serial) = (flight.packet_id, flight.serial);
                let what = format_args!("PUBREL {id:?} {serial} again");
                truth.history.line(truth.now, &self.peer.name, what);
                let link = self.peer.link().expect("CONNACK came by it");
                link.push_ack(AckKind::Pubrel, id, ReasonCode::Success);
            } else {
                truth.on_repeated(self.index, flight.serial);
                self.push_publish(at, true, truth);
            }
        }
    }

    fn publish(&mut self, truth: &mut Truth) {
        let topic = self.manner.topics[self.chance.index(self.manner.topics.len())];
        let is_delete = self.manner.retain && self.chance.percent(25);
        let expiry_s = match self.chance.below(10) {
            // 3.1.1 cannot say so.
            _ if self.peer.version < mqtt_v5_codec::Version::V5 => None,
            0 => Some(2),
            1 => Some(1_000),
            _ => None,
        };
        let kind = (self.manner.retain, is_delete);
        let serial = truth.on_published(self.index, topic, self.manner.qos, kind, expiry_s);
        let mut payload = Vec::new();
        if !is_delete {
            payload = format!("{} {serial} ", self.index).into_bytes();
            let padding = match self.chance.below(40) {
                0 => 5_000,
                _ => self.chance.below(120),
            };
            payload.resize(payload.len() + padding as usize, b'.');
        }
        // The lowest that is free, so that identifiers are used again soon.
        let is_free = |number: &u16| !self.window.iter().any(|f| f.packet_id.number() == *number);
        let number = (1..).find(is_free).expect("the window is small");
        self.window.push_back(Flight {
            packet_id: PacketId::new(number).expect("above 0"),
            serial,
            is_released: false,
            payload,
        });
        self.push_publish(self.window.len() - 1, false, truth);
    }

    fn push_publish(&mut self, at: usize, dup: bool, truth: &mut Truth) {
        let flight = &self.window[at];
        let message = &truth.messages[self.index][flight.serial as usize];
        let outgoing = Outgoing {
            version: self.peer.version,
            dup,
            qos: message.qos,
            retain: message.retain,
            topic: &truth.topics[message.topic],
            packet_id: Some(flight.packet_id),
            topic_alias: None,
            message_expiry_s: message.expiry_s,
            subscription_ids: &[],
            forwarded: &[],
            payload: &flight.payload,
        };
        let link = self.peer.link().expect("publishes while connected");
        encode_publish(link.outgoing(), &outgoing);
        let (id, serial) = (flight.packet_id.number(), flight.serial);
        let (topic, expiry) = (outgoing.topic, message.expiry_s);
        let delete = if message.is_delete { " delete" } else { "" };
        let what = format_args!("PUBLISH id {id} {serial} dup={dup} {topic} {expiry:?}{delete}");
        truth.history.line(truth.now, &self.peer.name, what);
    }

    fn on_ack(&mut self, ack: &Ack<'_>, truth: &mut Truth) {
        let id = ack.packet_id;
        let at = self.window.iter().position(|flight| flight.packet_id == id);
        let Some(at) = at else {
            let what = format!("{}: {ack:?}", self.peer.name);
            return truth.violation("acknowledges what is not under way", what);
        };
        let (serial, is_released) = (self.window[at].serial, self.window[at].is_released);
        let (kind, reason) = (ack.kind, ack.reason);
        let what = format_args!("{kind:?} id {} {serial} {reason:?}", id.number());
        truth.history.line(truth.now, &self.peer.name, what);
        match (self.manner.qos, kind) {
            (QoS::AtLeastOnce, AckKind::Puback) | (QoS::ExactlyOnce, AckKind::Pubrec)
                if reason.is_error() =>
            {
                self.window.remove(at);
                let what = format!("{}: {serial} {reason:?}", self.peer.name);
                truth.violation("refused", what);
            }
            (QoS::AtLeastOnce, AckKind::Puback) => {
                truth.on_acknowledged(self.index, serial);
                self.window.remove(at);
            }
            (QoS::ExactlyOnce, AckKind::Pubrec) => {
                truth.on_acknowledged(self.index, serial);
                self.window[at].is_released = true;
                let link = self.peer.link().expect("it has just been read from");
                link.push_ack(AckKind::Pubrel, id, ReasonCode::Success);
            }
            (QoS::ExactlyOnce, AckKind::Pubcomp) if is_released => {
                self.window.remove(at);
            }
            _ => {
                let what = format!("{}: {ack:?} of {serial}", self.peer.name);
                truth.violation("wrong acknowledgement", what);
            }
        }
    }
}
