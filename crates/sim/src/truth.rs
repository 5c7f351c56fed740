//! What happened on each connection, as seen at the server's end of it: which packets reached a
//! shard and which packets it sent, in order.
//!
//! From this follow the rules that need no knowledge of messages: each request answered once and
//! in order, packet identifiers, the client's limits, and when a connection may be closed.

use crate::ledger::{MessageId, Moment, number};
use crate::wire::{Framer, Raw};
use anyhow::{Result, bail, ensure};
use mqtt_v5_codec::{Ack, AckKind, Connack, Packet, Publish, QoS, ReasonCode, Version};
use shard::{Span, Time};
use std::collections::{BTreeMap, VecDeque};

/// What a client said when it connected.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Which client.
    pub client: usize,
    /// What it speaks.
    pub version: Version,
    /// Clean Start.
    pub is_clean: bool,
    /// How long its session outlives the connection, in seconds; `None`: for ever.
    pub expiry_s: Option<u32>,
    /// 0: none.
    pub keep_alive_s: u16,
    /// What it takes unacknowledged.
    pub receive_maximum: u16,
    /// The largest packet it takes.
    pub packet_max: Option<u32>,
    /// Aliases that it takes.
    pub alias_max: u16,
    /// The message of its will, and the will's delay in seconds.
    pub will: Option<(MessageId, u32)>,
    /// When it sent its CONNECT.
    pub sent: Moment,
}

/// A message at QoS 1 or 2 that a server has sent and that is not done.
#[derive(Clone, Debug, PartialEq)]
pub struct Flight {
    packet_id: u16,
    qos: QoS,
    message: Option<MessageId>,
    /// The connection on which PUBLISH was last sent.
    link: usize,
    /// PUBREC has come.
    is_received: bool,
    /// The connection on which PUBREL was last sent.
    released: Option<usize>,
}

/// The messages in flight to one session.
#[derive(Debug, Default)]
pub struct Flights {
    list: Vec<Flight>,
    /// Acknowledged, but perhaps too late for the shard to have seen it.
    late: BTreeMap<u16, Flight>,
    /// With stores: all that were ever acknowledged, or forgotten in a crash. They may come back.
    former: BTreeMap<u16, Vec<Flight>>,
    is_durable: bool,
    /// Where in `list` the last repetition of this connection stands.
    repeated: Option<usize>,
    link: usize,
}

/// How a client left with DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Without its will.
    Plain,
    /// With its will.
    WithWill,
}

/// What is owed on a connection.
#[derive(Debug, Default)]
struct Owed {
    pubacks: VecDeque<u16>,
    pubrecs: VecDeque<u16>,
    pubcomps: VecDeque<u16>,
    subacks: VecDeque<u16>,
    unsubacks: VecDeque<u16>,
    pings: u32,
}

/// The truth about one connection.
#[derive(Debug)]
pub struct Truth {
    /// What the client said.
    pub hello: Hello,
    /// The CONNACK has been sent and accepts.
    pub is_accepted: bool,
    /// A CONNACK that refuses, or a DISCONNECT, has been sent.
    pub refusal: Option<ReasonCode>,
    /// DISCONNECT has reached the shard.
    pub farewell: Option<Farewell>,
    /// Its session may not be the one that the client had.
    pub is_blurred: bool,
    /// CONNECT has reached the shard.
    pub is_connect_delivered: bool,
    /// Which of the client's sessions it belongs to, once accepted.
    pub session: u64,
    /// The shard knows it no longer.
    pub gone_at: Option<Time>,
    /// When its CONNECT was accepted, at the latest.
    pub accepted_at: Option<Time>,
    /// When a whole packet last reached a shard.
    pub heard_at: Time,
    /// When bytes last reached a shard: half a packet is a sign of life, too.
    pub touched_at: Time,
    /// The keep-alive in force.
    pub keep_alive_s: u16,
    /// The session expiry in force; see [`Hello::expiry_s`].
    pub expiry_s: Option<u32>,
    /// The session expiry before the client left.
    pub granted_s: Option<u32>,
    /// Publishes, SUBACKs and so on that were sent: for statistics.
    pub packets: u64,
    up: Framer,
    down: Framer,
    owed: Owed,
    aliases: BTreeMap<u16, String>,
    index: usize,
}

/// What the session must learn from a packet that a shard sent.
#[derive(Debug)]
pub enum Sent {
    /// The connection is accepted.
    Accepted {
        /// As the CONNACK says.
        is_session_present: bool,
    },
    /// A message goes out for the first time.
    First {
        /// Which, if it is one of ours.
        message: Option<MessageId>,
    },
    /// Anything else.
    Other,
}

impl Truth {
    /// A new connection.
    pub fn new(index: usize, hello: Hello) -> Truth {
        Truth {
            is_accepted: false,
            refusal: None,
            farewell: None,
            is_blurred: false,
            is_connect_delivered: false,
            session: 0,
            gone_at: None,
            heard_at: hello.sent.at,
            accepted_at: None,
            touched_at: hello.sent.at,
            keep_alive_s: hello.keep_alive_s,
            expiry_s: hello.expiry_s,
            granted_s: hello.expiry_s,
            packets: 0,
            up: Framer::default(),
            down: Framer::default(),
            owed: Owed::default(),
            aliases: BTreeMap::new(),
            index,
            hello,
        }
    }

    /// Bytes of the client reached a shard.
    ///
    /// # Errors
    /// The client model sent nonsense.
    pub fn on_delivered(&mut self, bytes: &[u8], flights: &mut Flights, now: Time) -> Result<()> {
        self.up.push(bytes);
        self.touched_at = now;
        while let Some(raw) = self.up.next_packet()? {
            self.heard_at = now;
            self.on_request(&raw, flights)?;
        }
        Ok(())
    }

    fn on_request(&mut self, raw: &Raw, flights: &mut Flights) -> Result<()> {
        match raw.decode(self.hello.version)? {
            Packet::Connect(_) => self.is_connect_delivered = true,
            Packet::Publish(publish) => {
                let id = publish.packet_id.map_or(0, |id| id.number());
                match publish.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => self.owed.pubacks.push_back(id),
                    QoS::ExactlyOnce => self.owed.pubrecs.push_back(id),
                }
            }
            Packet::Ack(ack) => match ack.kind {
                AckKind::Pubrel => self.owed.pubcomps.push_back(ack.packet_id.number()),
                _ => flights.on_ack(&ack)?,
            },
            Packet::Subscribe(packet) => self.owed.subacks.push_back(packet.packet_id.number()),
            Packet::Unsubscribe(packet) => {
                self.owed.unsubacks.push_back(packet.packet_id.number());
            }
            Packet::Pingreq => self.owed.pings += 1,
            Packet::Disconnect(packet) => {
                let is_plain = packet.reason == ReasonCode::Success;
                self.farewell = Some(if is_plain {
                    Farewell::Plain
                } else {
                    Farewell::WithWill
                });
                if let Some(expiry_s) = packet.properties.session_expiry_s {
                    self.expiry_s = (expiry_s != u32::MAX).then_some(expiry_s);
                }
            }
            other => bail!("the client model sent {other:?}"),
        }
        Ok(())
    }

    /// A shard sent bytes; calls back for each packet, in order.
    ///
    /// # Errors
    /// It must not have sent them.
    pub fn on_emitted(
        &mut self,
        bytes: &[u8],
        flights: &mut Flights,
        mut on_sent: impl FnMut(&mut Truth, &mut Flights, Sent) -> Result<()>,
    ) -> Result<()> {
        self.down.push(bytes);
        while let Some(raw) = self.down.next_packet()? {
            let sent = self.on_packet(&raw, flights)?;
            on_sent(self, flights, sent)?;
        }
        Ok(())
    }

    fn on_packet(&mut self, raw: &Raw, flights: &mut Flights) -> Result<Sent> {
        self.packets += 1;
        let packet = raw.decode(self.hello.version)?;
        if let Some(max) = self.hello.packet_max {
            ensure!(
                raw.packet_bytes <= max as usize,
                "a packet above the client's maximum"
            );
        }
        ensure!(self.refusal.is_none(), "{packet:?} after the last packet");
        let is_connack = matches!(packet, Packet::Connack(_));
        ensure!(
            is_connack != self.is_accepted,
            "{packet:?} before or after CONNACK"
        );
        match packet {
            Packet::Connack(connack) => return self.on_connack(&connack),
            Packet::Publish(publish) => return self.on_publish(&publish, flights),
            Packet::Ack(ack) => self.on_ack(&ack, flights)?,
            Packet::Suback(suback) => {
                answer_any(&mut self.owed.subacks, suback.packet_id.number(), "SUBACK")?;
            }
            Packet::Unsuback(unsuback) => {
                answer(
                    &mut self.owed.unsubacks,
                    unsuback.packet_id.number(),
                    "UNSUBACK",
                )?;
            }
            Packet::Pingresp => {
                ensure!(self.owed.pings > 0, "PINGRESP without PINGREQ");
                self.owed.pings -= 1;
            }
            Packet::Disconnect(disconnect) => {
                ensure!(
                    self.hello.version == Version::V5,
                    "DISCONNECT to a 3.x client"
                );
                self.refusal = Some(disconnect.reason);
            }
            other => bail!("a server does not send {other:?}"),
        }
        Ok(Sent::Other)
    }

    fn on_connack(&mut self, connack: &Connack<'_>) -> Result<Sent> {
        ensure!(self.is_connect_delivered, "CONNACK before CONNECT");
        if connack.reason != ReasonCode::Success {
            ensure!(
                !connack.session_present,
                "session present in a refusal [MQTT-3.2.2-6]"
            );
            self.refusal = Some(connack.reason);
            return Ok(Sent::Other);
        }
        self.is_accepted = true;
        self.keep_alive_s = connack
            .properties
            .server_keep_alive_s
            .unwrap_or(self.hello.keep_alive_s);
        if let (Some(seconds), Version::V5) =
            (connack.properties.session_expiry_s, self.hello.version)
        {
            self.expiry_s = (seconds != u32::MAX).then_some(seconds);
            self.granted_s = self.expiry_s;
        }
        Ok(Sent::Accepted {
            is_session_present: connack.session_present,
        })
    }

    fn on_publish(&mut self, publish: &Publish<'_>, flights: &mut Flights) -> Result<Sent> {
        if let Some(alias) = publish.properties.topic_alias {
            let max = self.hello.alias_max;
            ensure!(alias > 0 && alias <= max, "topic alias {alias} of {max}");
            if publish.topic.is_empty() {
                ensure!(
                    self.aliases.contains_key(&alias),
                    "unknown topic alias {alias}"
                );
            } else {
                self.aliases.insert(alias, publish.topic.to_string());
            }
        } else {
            ensure!(!publish.topic.is_empty(), "neither topic nor alias");
        }
        let message = number(publish.payload);
        if publish.qos == QoS::AtMostOnce {
            ensure!(!publish.dup, "DUP at QoS 0 [MQTT-3.3.1-2]");
            return Ok(Sent::First { message });
        }
        let packet_id = publish.packet_id.map_or(0, |id| id.number());
        let flight = Flight {
            packet_id,
            qos: publish.qos,
            message,
            link: self.index,
            is_received: false,
            released: None,
        };
        if publish.dup {
            flights.repeat(flight)?;
        } else {
            flights.begin(flight)?;
        }
        let open = flights.open(self.index);
        let max = usize::from(self.hello.receive_maximum);
        ensure!(
            open <= max,
            "{open} messages in flight, receive maximum {max}"
        );
        Ok(if publish.dup {
            Sent::Other
        } else {
            Sent::First { message }
        })
    }

    fn on_ack(&mut self, ack: &Ack<'_>, flights: &mut Flights) -> Result<()> {
        let id = ack.packet_id.number();
        match ack.kind {
            AckKind::Puback => answer(&mut self.owed.pubacks, id, "PUBACK"),
            AckKind::Pubrec => answer(&mut self.owed.pubrecs, id, "PUBREC"),
            AckKind::Pubcomp => answer(&mut self.owed.pubcomps, id, "PUBCOMP"),
            AckKind::Pubrel => flights.release(id, self.index),
        }
    }

    /// Whether everything that reached the shard has been answered.
    ///
    /// # Errors
    /// Something has not.
    pub fn check_answered(&self) -> Result<()> {
        let owed = &self.owed;
        let is_done = owed.pubacks.is_empty()
            && owed.pubrecs.is_empty()
            && owed.pubcomps.is_empty()
            && owed.subacks.is_empty()
            && owed.unsubacks.is_empty()
            && owed.pings == 0;
        ensure!(
            is_done && self.is_accepted,
            "link {} is still owed: {owed:?}",
            self.index
        );
        ensure!(
            self.up.rest() == 0 && self.down.rest() == 0,
            "half a packet is left"
        );
        Ok(())
    }

    /// Whether a PUBLISH has reached the shard and has not been acknowledged.
    pub fn is_owed_a_receipt(&self) -> bool {
        !self.owed.pubacks.is_empty() || !self.owed.pubrecs.is_empty()
    }

    /// Whether its keep-alive allows the shard to close the connection now.
    pub fn is_silent(&self, now: Time) -> bool {
        self.keep_alive_s > 0 && now.since(self.heard_at) >= self.patience()
    }

    /// Whether its keep-alive obliges the shard to have closed the connection.
    pub fn is_overdue(&self, now: Time) -> bool {
        let slack = Span::from_s(3);
        self.keep_alive_s > 0 && now.since(self.touched_at) > Span(self.patience().0 + slack.0)
    }

    fn patience(&self) -> Span {
        Span(u64::from(self.keep_alive_s) * 1_500_000)
    }
}

/// Takes an answer off what is owed; answers come in the order of the requests.
fn answer(owed: &mut VecDeque<u16>, packet_id: u16, what: &str) -> Result<()> {
    match owed.pop_front() {
        Some(expected) if expected == packet_id => Ok(()),
        Some(expected) => bail!("{what} {packet_id} before {what} {expected}"),
        None => bail!("{what} {packet_id} answers nothing"),
    }
}

/// The same for SUBACK and UNSUBACK, whose order is free: some have to ask other shards.
fn answer_any(owed: &mut VecDeque<u16>, packet_id: u16, what: &str) -> Result<()> {
    let found = owed.iter().position(|expected| *expected == packet_id);
    let Some(index) = found else {
        bail!("{what} {packet_id} answers nothing")
    };
    owed.remove(index);
    Ok(())
}

impl Flights {
    /// Nothing in flight; `is_durable`: in a world with stores.
    pub fn new(is_durable: bool) -> Flights {
        Flights {
            is_durable,
            ..Flights::default()
        }
    }

    /// Those of the session that comes after this one; what was in flight may come back if the end
    /// of this one is not durable.
    pub fn succeeded(mut self) -> Flights {
        let list = std::mem::take(&mut self.list);
        for flight in list {
            self.former
                .entry(flight.packet_id)
                .or_default()
                .push(flight);
        }
        Flights {
            former: self.former,
            is_durable: self.is_durable,
            ..Flights::default()
        }
    }

    /// A new connection of the session; everything unacknowledged is to be repeated.
    pub fn resume(&mut self, link: usize) {
        self.link = link;
        self.repeated = None;
    }

    fn open(&self, link: usize) -> usize {
        self.list
            .iter()
            .filter(|flight| flight.link == link)
            .count()
    }

    fn begin(&mut self, flight: Flight) -> Result<()> {
        let id = flight.packet_id;
        let is_used = self.list.iter().any(|other| other.packet_id == id);
        ensure!(!is_used, "packet identifier {id} is in use [MQTT-2.2.1-3]");
        self.late.remove(&id);
        self.list.push(flight);
        Ok(())
    }

    fn repeat(&mut self, flight: Flight) -> Result<()> {
        let id = flight.packet_id;
        let found = self.list.iter().position(|other| other.packet_id == id);
        let Some(index) = found else {
            let is_same = |known: &Flight| {
                known.qos == flight.qos
                    && known.message == flight.message
                    && known.link != flight.link
            };
            // What waited for its commit when the connection was lost may have been sent, for all
            // that the shard knows afterwards; and what a crash took back may come again.
            match self.late.remove(&id) {
                _ if self.is_durable => {}
                Some(known) => ensure!(is_same(&known), "DUP of {id} is another message"),
                None => bail!("DUP of packet identifier {id}, which is not in flight"),
            }
            self.list
                .insert(self.repeated.map_or(0, |index| index + 1), flight);
            self.repeated = Some(self.repeated.map_or(0, |index| index + 1));
            return Ok(());
        };
        let known = &mut self.list[index];
        let is_same = known.qos == flight.qos && known.message == flight.message;
        ensure!(is_same, "DUP of {id} is another message");
        ensure!(
            known.link != flight.link,
            "packet {id} is repeated on its own connection"
        );
        ensure!(
            !known.is_received || known.released.is_none(),
            "PUBLISH {id} after its PUBREL"
        );
        known.link = flight.link;
        ensure!(
            self.repeated.is_none_or(|last| last < index),
            "packet {id} is repeated out of order"
        );
        self.repeated = Some(index);
        Ok(())
    }

    fn release(&mut self, packet_id: u16, link: usize) -> Result<()> {
        let found = self
            .list
            .iter_mut()
            .find(|flight| flight.packet_id == packet_id);
        let Some(flight) = found else {
            // PUBCOMP may have been too late for the shard to see.
            let is_former = self.is_durable && self.former.contains_key(&packet_id);
            let is_late = self.late.contains_key(&packet_id) || is_former;
            ensure!(is_late, "PUBREL {packet_id} of nothing in flight");
            return Ok(());
        };
        ensure!(flight.is_received, "PUBREL {packet_id} before PUBREC");
        ensure!(flight.released != Some(link), "PUBREL {packet_id} twice");
        flight.released = Some(link);
        Ok(())
    }

    fn on_ack(&mut self, ack: &Ack<'_>) -> Result<()> {
        let id = ack.packet_id.number();
        let Some(index) = self.list.iter().position(|flight| flight.packet_id == id) else {
            // The answer to a PUBREL that was repeated needlessly.
            ensure!(
                ack.kind == AckKind::Pubcomp,
                "the client model answers {id} twice"
            );
            return Ok(());
        };
        if ack.kind == AckKind::Pubrec && !ack.reason.is_error() {
            self.list[index].is_received = true;
            return Ok(());
        }
        let flight = self.list.remove(index);
        self.repeated = match self.repeated {
            Some(last) if last >= index => last.checked_sub(1),
            other => other,
        };
        self.former.entry(id).or_default().push(flight.clone());
        self.late.insert(id, flight);
        Ok(())
    }

    /// A crash: what is in flight at QoS 2 stays so if its packet identifier was durable when it
    /// was sent, as `is_durable` says of its message; all else may come back in another form.
    pub fn on_crash(&mut self, is_durable: impl Fn(Option<MessageId>) -> bool) {
        let list = std::mem::take(&mut self.list);
        let (kept, unsure) = list
            .into_iter()
            .partition(|flight| flight.qos == QoS::ExactlyOnce && is_durable(flight.message));
        self.list = kept;
        for flight in unsure {
            let former = self.former.entry(flight.packet_id).or_default();
            former.push(flight);
        }
        self.repeated = None;
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
