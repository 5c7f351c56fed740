//! A durable subscriber: it comes and goes, subscribes and unsubscribes, takes its time to
//! acknowledge, and keeps the receiver's half of QoS 2 across connections, as 4.3.3 says.

use crate::chance::Chance;
use crate::history::Micros;
use crate::peer::{NEVER, Peer, Session, Stage, Surroundings};
use crate::truth::{Arrival, Standing, Truth};
use mqtt_v5_codec::{
    Ack, AckKind, Packet, PacketId, Publish, QoS, ReasonCode, RetainHandling, Subscribe,
    SubscribeFilter, SubscribeProperties, SubscriptionOptions, Unsubscribe, UserProperties,
    Version, decode,
};
use std::collections::{BTreeMap, VecDeque};

/// When a subscriber whose session expires stays away for long, for how long at least: until it
/// must have expired.
const BRIEF_AWAY_US: Micros = 5_300_000;

/// What a subscriber does.
#[derive(Clone, Debug)]
pub struct Manner {
    /// The longest time that an acknowledgement waits; 0 for one that never hesitates.
    pub hesitates_us: Micros,
    /// The longest time connected.
    pub stays_us: Micros,
    /// The longest time away.
    pub away_us: Micros,
}

/// A SUBSCRIBE or UNSUBSCRIBE without answer.
struct Question {
    packet_id: PacketId,
    /// Index of the filter.
    at: usize,
    is_subscribe: bool,
    /// The first time that this has been asked.
    is_first: bool,
}

/// A durable subscriber.
pub struct Subscriber {
    /// Its connection.
    pub peer: Peer,
    /// Stays connected and asks for nothing new.
    pub is_resting: bool,
    index: usize,
    qos: QoS,
    manner: Manner,
    chance: Chance,
    /// Leaves or comes back then.
    next_move: Micros,
    next_question: Micros,
    next_packet_id: u16,
    question: Option<Question>,
    /// Filters of a new session that have not been asked for.
    wanted: Vec<usize>,
    /// Asked on the last connection, and to be asked again: filter, and whether to subscribe.
    unanswered: Option<(usize, bool)>,
    /// QoS 2 messages taken and not released: what each identifier stands for.
    held: BTreeMap<PacketId, (usize, u32)>,
    /// What is still to be acknowledged, in order, each from a time on.
    owed: VecDeque<(Micros, AckKind, PacketId, ReasonCode)>,
}

impl Subscriber {
    /// A subscriber that has never been connected; `index` is its index in the truth.
    pub fn new(index: usize, peer: Peer, qos: QoS, manner: Manner, chance: Chance) -> Subscriber {
        Subscriber {
            peer,
            is_resting: false,
            index,
            qos,
            manner,
            chance,
            next_move: 0,
            next_question: 0,
            next_packet_id: 1,
            question: None,
            wanted: Vec::new(),
            unanswered: None,
            held: BTreeMap::new(),
            owed: VecDeque::new(),
        }
    }

    /// Whether it is connected, has all answers, and owes none.
    pub fn is_idle(&self) -> bool {
        let has_answers =
            self.question.is_none() && self.unanswered.is_none() && self.wanted.is_empty();
        let is_quits = self.owed.is_empty() && self.held.is_empty();
        self.peer.stage == Stage::Up && has_answers && is_quits
    }

    /// For people: what keeps it from being idle.
    pub fn remains(&self) -> String {
        let question = self.question.as_ref().map(|question| question.at);
        format!(
            "{:?}, question {question:?}, held {:?}, owes {}",
            self.peer.stage,
            self.held,
            self.owed.len()
        )
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
                Ok(Packet::Publish(publish)) => self.on_publish(&publish, truth),
                Ok(Packet::Ack(ack)) if ack.kind == AckKind::Pubrel => self.on_pubrel(&ack, truth),
                Ok(Packet::Suback(suback)) => {
                    let reason = suback.reasons.iter().next();
                    self.on_answer(suback.packet_id, reason, true, truth);
                }
                Ok(Packet::Unsuback(unsuback)) => {
                    let reason = unsuback.reasons.iter().next();
                    self.on_answer(unsuback.packet_id, reason, false, truth);
                }
                Ok(Packet::Disconnect(disconnect)) => self.peer.on_disconnect(&disconnect, truth),
                other => {
                    let what = format!("{}: {other:?}", self.peer.name);
                    truth.violation("unexpected packet to a subscriber", what);
                }
            }
        }
        if !is_open {
            self.peer.drop_link(truth, "lost");
            self.on_down(truth);
        } else {
            self.pay(truth);
        }
    }

    /// Its index in the truth.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether its session may expire before it comes back.
    pub fn is_away(&self) -> bool {
        self.is_brief() && self.peer.stage == Stage::Down
    }

    /// Time passes.
    pub fn tick(&mut self, truth: &mut Truth, surroundings: &Surroundings<'_>) {
        self.peer.check_patience(truth);
        match self.peer.stage {
            Stage::Down => {
                if truth.now >= self.next_move || (self.is_resting && !self.is_brief()) {
                    self.peer.connect(truth, surroundings);
                }
            }
            Stage::Connecting => {}
            Stage::Up => {
                if truth.now >= self.next_move && !self.is_resting {
                    let is_polite = self.chance.percent(50);
                    self.peer.leave(truth, is_polite);
                    self.on_down(truth);
                    return;
                }
                self.ask(truth);
                self.pay(truth);
            }
        }
    }

    /// The connection ends.
    pub fn cut(&mut self, truth: &mut Truth) {
        if self.peer.stage != Stage::Down {
            self.peer.drop_link(truth, "cut");
            self.on_down(truth);
        }
    }

    fn is_brief(&self) -> bool {
        self.peer.expiry_s != NEVER
    }

    fn on_connected(&mut self, session: Session, truth: &mut Truth) {
        self.next_move = truth.now + self.chance.between(1, self.manner.stays_us);
        if session != Session::Resumed {
            truth.on_new_session(self.index, session == Session::Fresh);
            self.held.clear();
            self.unanswered = None;
            self.wanted = (0..truth.subscribers[self.index].interests.len()).collect();
        }
        self.next_question = 0;
    }

    /// The connection is gone: what was owed on it is owed no more, what was asked is unanswered.
    fn on_down(&mut self, truth: &Truth) {
        self.owed.clear();
        if let Some(question) = self.question.take() {
            self.unanswered = Some((question.at, question.is_subscribe));
        }
        let away_us = match self.chance.below(3) {
            // At once: the broker may not have noticed yet.
            0 => 1,
            1 if self.is_brief() => BRIEF_AWAY_US + self.chance.below(1_500_000),
            _ => self.chance.between(1, self.manner.away_us),
        };
        self.next_move = truth.now + away_us;
    }

    fn ask(&mut self, truth: &mut Truth) {
        if self.question.is_some() || truth.now < self.next_question {
            return;
        }
        let interests = &truth.subscribers[self.index].interests;
        let (at, is_subscribe, is_first) = if let Some((at, is_subscribe)) = self.unanswered.take()
        {
            (at, is_subscribe, false)
        } else if let Some(at) = self.wanted.pop() {
            (at, true, true)
        } else if self.is_resting || truth.subscribers[self.index].is_group {
            return;
        } else {
            let at = self.chance.index(interests.len());
            // More is subscribed to than not; to ask once more for what is there changes nothing.
            let is_on = interests[at].standing == Standing::On;
            (at, !is_on || self.chance.percent(40), true)
        };
        // A new session gets its filters at once.
        let pause_us = if self.wanted.is_empty() { 80_000 } else { 1 };
        self.next_question = truth.now + self.chance.between(1, pause_us);
        let packet_id = PacketId::new(self.next_packet_id).expect("never 0");
        self.next_packet_id = self.next_packet_id % u16::MAX + 1;
        self.question = Some(Question {
            packet_id,
            at,
            is_subscribe,
            is_first,
        });
        if is_subscribe {
            truth.on_subscribe(self.index, at);
        } else {
            truth.on_unsubscribe(self.index, at);
        }
        let filter = &truth.subscribers[self.index].interests[at].filter;
        let what = if is_subscribe {
            "SUBSCRIBE"
        } else {
            "UNSUBSCRIBE"
        };
        let what = format_args!("{what} {filter}");
        truth.history.line(truth.now, &self.peer.name, what);
        self.push_question(packet_id, at, is_subscribe, filter);
    }

    fn push_question(&mut self, packet_id: PacketId, at: usize, is_subscribe: bool, filter: &str) {
        let (version, qos) = (self.peer.version, self.qos);
        let out = self.peer.link().expect("asks while connected").outgoing();
        if !is_subscribe {
            return Unsubscribe::encode(out, version, packet_id, &UserProperties::None, &[filter]);
        }
        let properties = SubscribeProperties {
            subscription_id: (version == Version::V5).then_some(at as u32 + 1),
            user_properties: UserProperties::None,
        };
        let options = SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
        };
        let filter = SubscribeFilter { filter, options };
        Subscribe::encode(out, version, packet_id, &properties, &[filter]);
    }

    fn on_answer(
        &mut self,
        packet_id: PacketId,
        reason: Option<ReasonCode>,
        is_suback: bool,
        truth: &mut Truth,
    ) {
        let line = format_args!("answer suback={is_suback} {reason:?}");
        truth.history.line(truth.now, &self.peer.name, line);
        let asked = self.question.take();
        let fits = |question: &Question| {
            question.packet_id == packet_id && question.is_subscribe == is_suback
        };
        let Some(question) = asked.filter(fits) else {
            let what = format!("{}: {packet_id:?}", self.peer.name);
            return truth.violation("answer without question", what);
        };
        let granted = match self.qos {
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
            _ => ReasonCode::GrantedQoS1,
        };
        let is_well = match (is_suback, self.peer.version) {
            (true, _) => reason == Some(granted),
            (false, Version::V5) if question.is_first => reason == Some(ReasonCode::Success),
            // The first UNSUBSCRIBE may have come through; 3.x gives no reason.
            (false, _) => true,
        };
        if !is_well {
            let filter = &truth.subscribers[self.index].interests[question.at].filter;
            let what = format!("{}: {filter}: {reason:?}", self.peer.name);
            truth.violation("wrong answer to SUBSCRIBE or UNSUBSCRIBE", what);
        }
        if is_suback {
            truth.on_subscribed(self.index, question.at);
        } else {
            truth.on_unsubscribed(self.index, question.at);
        }
    }

    fn on_publish(&mut self, publish: &Publish<'_>, truth: &mut Truth) {
        let text = String::from_utf8_lossy(publish.payload);
        let mut words = text.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
        let (Some(publisher), Some(serial)) = (number(), number()) else {
            let what = format!("{}: {publish:?}", self.peer.name);
            return truth.violation("an unknown payload", what);
        };
        let name = (publisher as usize, serial);
        let what = format_args!(
            "has {publisher}:{serial} {:?} id {:?} dup={}",
            publish.qos,
            publish.packet_id.map(PacketId::number),
            publish.dup
        );
        truth.history.line(truth.now, &self.peer.name, what);
        let Some(packet_id) = publish.packet_id else {
            return truth.violation("QoS 0", format!("{}: {name:?}", self.peer.name));
        };
        let kind = match publish.qos {
            QoS::ExactlyOnce => AckKind::Pubrec,
            _ => AckKind::Puback,
        };
        self.owe(kind, packet_id, ReasonCode::Success, truth);
        if publish.qos == QoS::ExactlyOnce {
            match self.held.insert(packet_id, name) {
                None => {}
                Some(before) if before == name && publish.dup => return,
                Some(before) => {
                    let (who, id) = (&self.peer.name, packet_id.number());
                    let what = format!("{who}: id {id} was {before:?}, now {name:?}");
                    return truth.violation("an identifier not released, or no DUP", what);
                }
            }
        }
        let arrival = Arrival {
            publisher: name.0,
            serial,
            topic: publish.topic,
            qos: publish.qos,
            dup: publish.dup,
            retain: publish.retain,
            expiry_s: publish.properties.message_expiry_s,
            subscription_ids: publish.properties.subscription_ids().collect(),
        };
        truth.on_arrival(self.index, &arrival);
    }

    fn on_pubrel(&mut self, ack: &Ack<'_>, truth: &mut Truth) {
        let what = format_args!("PUBREL id {}", ack.packet_id.number());
        truth.history.line(truth.now, &self.peer.name, what);
        let is_known = self.held.remove(&ack.packet_id).is_some();
        let reason = match self.peer.version {
            // PUBCOMP got lost before.
            Version::V5 if !is_known => ReasonCode::PacketIdentifierNotFound,
            _ => ReasonCode::Success,
        };
        self.owe(AckKind::Pubcomp, ack.packet_id, reason, truth);
    }

    fn owe(&mut self, kind: AckKind, packet_id: PacketId, reason: ReasonCode, truth: &Truth) {
        let mut due = truth.now;
        if self.manner.hesitates_us > 0 && self.chance.percent(20) {
            due += self.chance.between(1, self.manner.hesitates_us);
        }
        self.owed.push_back((due, kind, packet_id, reason));
    }

    /// Sends the acknowledgements whose time has come; none overtakes another. [MQTT-4.6.0-2]
    fn pay(&mut self, truth: &mut Truth) {
        while let Some(&(due, kind, packet_id, reason)) = self.owed.front() {
            if due > truth.now {
                break;
            }
            self.owed.pop_front();
            let what = format_args!("sends {kind:?} id {}", packet_id.number());
            truth.history.line(truth.now, &self.peer.name, what);
            let link = self.peer.link().expect("debts end with the connection");
            link.push_ack(kind, packet_id, reason);
        }
        self.peer.flush(truth);
        if self.peer.stage == Stage::Down {
            self.on_down(truth);
        }
    }
}
