//! A fresh client reads all retained messages: each must be the last that was acknowledged, or
//! one that was sent later.

use crate::history::Micros;
use crate::link::Link;
use crate::topics::{KEEP_FILTERS, keep_topics};
use crate::truth::{EXPIRY_SLACK, Message, Truth};
use mio::{Events, Poll, Token};
use mqtt_v5_codec::{
    Connect, ConnectProperties, Packet, PacketId, QoS, RetainHandling, Subscribe, SubscribeFilter,
    SubscribeProperties, SubscriptionOptions, Version, decode,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The longest wait for a message that must come.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing must have come before there is nothing more.
const QUIET: Duration = Duration::from_millis(40);

/// Reads all retained messages and compares. Tells the truth what time it is: reading takes a while.
pub fn check(truth: &mut Truth, publishers: &[usize], address: SocketAddr, clock: Instant) {
    let mut expected = BTreeMap::new();
    for &publisher in publishers {
        for topic in keep_topics(publisher) {
            let candidates = candidates(truth, publisher, &topic);
            expected.insert(topic, candidates);
        }
    }
    let awaited = expected
        .iter()
        .filter(|(_, values)| !values.contains(&None));
    let awaited: Vec<&str> = awaited.map(|(topic, _)| topic.as_str()).collect();
    let found = read(address, &awaited);
    truth.now = clock.elapsed().as_micros() as Micros;
    truth
        .history
        .line(truth.now, "reader", format_args!("{found:?}"));
    for (topic, candidates) in &expected {
        truth.counts.retained_read += 1;
        let value = found.get(topic).copied();
        if !candidates.contains(&value) {
            let what = format!("{topic} has {value:?}, expected one of {candidates:?}");
            truth.violation("retained is wrong", what);
        }
        let message = value.map(|(publisher, serial)| &truth.messages[publisher][serial as usize]);
        let is_late = message.is_some_and(|message| is_expired(message, truth.now, EXPIRY_SLACK));
        if is_late {
            truth.violation("retained though expired", format!("{topic} has {value:?}"));
        }
    }
    for topic in found.keys() {
        if !expected.contains_key(topic.as_str()) {
            truth.violation("retained on an unknown topic", topic);
        }
    }
}

/// A message by publisher and serial.
type Name = (usize, u32);

/// What a topic may have: the last acknowledged or a later one, as names; `None` for nothing.
fn candidates(truth: &Truth, publisher: usize, topic: &str) -> Vec<Option<Name>> {
    let mut candidates = Vec::new();
    for (serial, message) in truth.messages[publisher].iter().enumerate().rev() {
        if truth.topics[message.topic] != topic {
            continue;
        }
        candidates.push((!message.is_delete).then_some((publisher, serial as u32)));
        // It may have gone already, or go while we read.
        if message.expiry_s.is_some_and(|s| s < 60) {
            candidates.push(None);
        }
        if message.acknowledged.is_some() {
            return candidates;
        }
    }
    candidates.push(None);
    candidates
}

fn is_expired(message: &Message, now: Micros, slack: Micros) -> bool {
    let expiry = message.expiry_s.map(|s| Micros::from(s) * 1_000_000);
    expiry.is_some_and(|expiry| message.last_sent + expiry + slack < now)
}

/// Reads until all awaited topics have come and then nothing more does.
fn read(address: SocketAddr, awaited: &[&str]) -> BTreeMap<String, Name> {
    let mut poll = Poll::new().unwrap();
    let mut link = Link::open(address, Version::V5, poll.registry(), Token(0)).unwrap();
    link.push(&connect());
    subscribe(link.outgoing());
    let mut found = BTreeMap::new();
    let (begun, mut last) = (Instant::now(), Instant::now());
    let mut is_subscribed = false;
    let mut events = Events::with_capacity(8);
    while begun.elapsed() < PATIENCE {
        let is_whole = awaited.iter().all(|topic| found.contains_key(*topic));
        if is_subscribed && is_whole && last.elapsed() > QUIET {
            break;
        }
        let _ = poll.poll(&mut events, Some(QUIET));
        if !link.flush() || !link.fill() {
            break;
        }
        while let Some((first, body)) = link.take() {
            last = Instant::now();
            match decode(Version::V5, first, &body).unwrap() {
                Packet::Suback(_) => is_subscribed = true,
                // Without the flag it is published just now.
                Packet::Publish(publish) if publish.retain => {
                    let text = String::from_utf8_lossy(publish.payload);
                    let mut words = text.split(' ').map_while(|word| word.parse::<u32>().ok());
                    let name = words.next().zip(words.next());
                    let (publisher, serial) = name.expect("publishers write numbers");
                    found.insert(publish.topic.to_owned(), (publisher as usize, serial));
                }
                _ => {}
            }
        }
    }
    found
}

fn connect() -> Packet<'static> {
    Packet::Connect(Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 0,
        client_id: "reader",
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    })
}

fn subscribe(out: &mut Vec<u8>) {
    // At QoS 0 nothing has to be acknowledged.
    let options = SubscriptionOptions {
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    };
    let filters = KEEP_FILTERS.map(|filter| SubscribeFilter { filter, options });
    let packet_id = PacketId::new(1).expect("above 0");
    let properties = SubscribeProperties::default();
    Subscribe::encode(out, Version::V5, packet_id, &properties, &filters);
}
