//! rumqttc, a client that we did not write, against the program, in 3.1.1 and in version 5.
//!
//! Each test starts a broker of its own. With MESHRING_INTEROP_ADDRESS set, the tests use the
//! broker that listens there instead: the interop suite runs them so with both drivers, and
//! mosquitto can stand in to check the checks.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

#[path = "rumqttc/peer.rs"]
mod peer;
mod support;
#[path = "rumqttc/version_3.rs"]
mod version_3;
#[path = "rumqttc/version_5.rs"]
mod version_5;

use peer::{Message, Options, Peer, Will};
use std::net::SocketAddr;
use support::Broker;

/// The broker to test, for as long as this value lives.
pub enum Target {
    /// Started here.
    Ours(Broker),
    /// Running already.
    Given(SocketAddr),
}

impl Target {
    /// The one given, or a new one with two shards.
    pub fn find() -> Target {
        match std::env::var("MESHRING_INTEROP_ADDRESS") {
            Ok(address) => Target::Given(address.parse().unwrap()),
            Err(_) => Target::Ours(Broker::start(&["--shards", "2", "--log", "warn"])),
        }
    }

    /// Where it listens for MQTT.
    pub fn address(&self) -> SocketAddr {
        match self {
            Target::Ours(broker) => broker.mqtt,
            Target::Given(address) => *address,
        }
    }

    /// A connected client with a clean session.
    pub fn peer<P: Peer>(&self, client_id: &str) -> P {
        P::connect(self.address(), client_id, &Options::default())
    }
}

/// Messages of one test of order.
const MANY: usize = 10_000;

fn publishes_at_every_qos_to_every_qos<P: Peer>(target: &Target, name: &str) {
    let mut publisher: P = target.peer(&format!("{name}-p"));
    let mut subscriber: P = target.peer(&format!("{name}-s"));
    for granted in 0..=2 {
        assert_eq!(subscriber.subscribe(name, granted), [granted]);
        for qos in 0..=2 {
            let payload = format!("{qos} to {granted}").into_bytes();
            publisher.publish(name, qos, false, &payload);
            let qos = qos.min(granted);
            let topic = name.to_owned();
            assert_eq!(
                subscriber.next(),
                Message {
                    topic,
                    qos,
                    retain: false,
                    payload
                }
            );
        }
    }
}

fn keeps_and_deletes_retained_messages<P: Peer>(target: &Target, name: &str) {
    let mut publisher: P = target.peer(&format!("{name}-p"));
    publisher.publish(&format!("{name}/a"), 1, true, b"old");
    publisher.publish(&format!("{name}/a"), 1, true, b"kept");
    publisher.publish(&format!("{name}/b"), 1, true, b"gone");
    publisher.publish(&format!("{name}/b"), 1, true, b"");
    let mut subscriber: P = target.peer(&format!("{name}-s"));
    subscriber.subscribe(&format!("{name}/#"), 1);
    let kept = subscriber.next();
    assert_eq!((kept.payload.as_slice(), kept.retain), (&b"kept"[..], true));
    publisher.publish(&format!("{name}/b"), 1, false, b"live");
    let live = subscriber.next();
    assert_eq!(
        (live.payload.as_slice(), live.retain),
        (&b"live"[..], false)
    );
    publisher.publish(&format!("{name}/a"), 1, true, b"");
}

fn publishes_the_will_of_who_vanishes<P: Peer>(target: &Target, name: &str) {
    let mut subscriber: P = target.peer(&format!("{name}-s"));
    subscriber.subscribe(name, 2);
    for qos in 0..=2 {
        let payload = format!("gone {qos}").into_bytes();
        let will = Will {
            topic: name.to_owned(),
            qos,
            payload: payload.clone(),
        };
        let options = Options {
            will: Some(will),
            ..Options::default()
        };
        P::connect(target.address(), &format!("{name}-w"), &options).vanish();
        let message = subscriber.next();
        assert_eq!((message.payload, message.qos), (payload, qos));
    }
    let will = Will {
        topic: name.to_owned(),
        qos: 1,
        payload: b"gone".to_vec(),
    };
    let options = Options {
        will: Some(will),
        ..Options::default()
    };
    P::connect(target.address(), &format!("{name}-w"), &options).leave();
    let mut again: P = target.peer(&format!("{name}-w"));
    again.publish(name, 1, false, b"still here");
    assert_eq!(subscriber.next().payload, b"still here");
}

fn matches_wildcards<P: Peer>(target: &Target, name: &str) {
    let mut peer: P = target.peer(name);
    for (filter, expected) in [
        ("+/b", vec!["a/b", "c/b"]),
        ("#", vec!["a", "a/b", "c/b", "d/e/f"]),
    ] {
        let filter = format!("{name}/{filter}");
        peer.subscribe(&filter, 1);
        for topic in ["a", "a/b", "c/b", "d/e/f"] {
            peer.publish(&format!("{name}/{topic}"), 1, false, topic.as_bytes());
        }
        let mut found: Vec<Vec<u8>> = expected.iter().map(|_| peer.next().payload).collect();
        found.sort();
        assert_eq!(
            found,
            expected
                .iter()
                .map(|topic| topic.as_bytes())
                .collect::<Vec<_>>()
        );
        peer.unsubscribe(&filter);
    }
}

fn shares_subscriptions<P: Peer>(target: &Target, name: &str) {
    let filter = format!("$share/group-{name}/{name}");
    let mut members: [P; 2] = [
        target.peer(&format!("{name}-a")),
        target.peer(&format!("{name}-b")),
    ];
    for member in &mut members {
        assert_eq!(member.subscribe(&filter, 1), [1]);
    }
    let mut publisher: P = target.peer(&format!("{name}-p"));
    for number in 0..100_u8 {
        publisher.publish(name, 1, false, &[number]);
    }
    // One message to each member's own topic, after all others, tells that there are no more.
    let mut seen: Vec<u8> = Vec::new();
    for member in &mut members {
        member.subscribe(&format!("{name}/end"), 1);
        member.publish(&format!("{name}/end"), 1, false, b"end");
        let before = seen.len();
        loop {
            let message = member.next();
            if message.topic.ends_with("/end") {
                break;
            }
            seen.extend(message.payload);
        }
        assert!(seen.len() > before, "one member got everything");
        member.unsubscribe(&format!("{name}/end"));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<u8>>());
}

fn resumes_a_session_with_what_was_queued<P: Peer>(target: &Target, name: &str) {
    let lasting = Options {
        is_lasting: true,
        ..Options::default()
    };
    let mut first = P::connect(target.address(), &format!("{name}-s"), &lasting);
    assert!(!first.session_present());
    first.subscribe(name, 2);
    first.leave();
    let mut publisher: P = target.peer(&format!("{name}-p"));
    for number in 0..50_u8 {
        publisher.publish(name, 1 + number / 25, false, &[number]);
    }
    let mut second = P::connect(target.address(), &format!("{name}-s"), &lasting);
    assert!(second.session_present());
    let queued: Vec<u8> = (0..50).flat_map(|_| second.next().payload).collect();
    // Order is promised for each quality of service.
    let of_qos = |range: std::ops::Range<u8>| {
        queued
            .iter()
            .copied()
            .filter(|number| range.contains(number))
            .collect::<Vec<u8>>()
    };
    assert_eq!(of_qos(0..25), (0..25).collect::<Vec<u8>>());
    assert_eq!(of_qos(25..50), (25..50).collect::<Vec<u8>>());
    second.leave();
    let third: P = target.peer(&format!("{name}-s"));
    assert!(!third.session_present());
}

fn carries_large_payloads<P: Peer>(target: &Target, name: &str) {
    let payload: Vec<u8> = (0..200_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    let mut peer: P = target.peer(name);
    peer.subscribe(name, 2);
    for qos in 0..=2 {
        peer.publish(name, qos, false, &payload);
        assert!(
            peer.next().payload == payload,
            "the payload has changed at QoS {qos}"
        );
    }
}

fn keeps_many_messages_in_order<P: Peer>(target: &Target, name: &str) {
    let mut publisher: P = target.peer(&format!("{name}-p"));
    let mut subscriber: P = target.peer(&format!("{name}-s"));
    subscriber.subscribe(name, 2);
    for qos in 1..=2 {
        for number in 0..MANY {
            publisher.send(name, qos, false, number.to_string().as_bytes());
        }
        for number in 0..MANY {
            let payload = String::from_utf8(subscriber.next().payload).unwrap();
            assert_eq!(payload, number.to_string(), "at QoS {qos}");
        }
        publisher.await_acknowledgements(MANY);
    }
}

/// The checks above as tests of one version. Their names are also client identifiers and topics.
macro_rules! common_tests {
    ($module:ident, $peer:ty, [$($check:ident),* $(,)?]) => {
        mod $module {
            $(
                #[test]
                fn $check() {
                    let name = concat!("rumqttc-", stringify!($module), "-", stringify!($check));
                    super::$check::<$peer>(&super::Target::find(), name);
                }
            )*
        }
    };
}

common_tests!(
    common_3,
    crate::version_3::Peer3,
    [
        publishes_at_every_qos_to_every_qos,
        keeps_and_deletes_retained_messages,
        publishes_the_will_of_who_vanishes,
        matches_wildcards,
        shares_subscriptions,
        resumes_a_session_with_what_was_queued,
        carries_large_payloads,
        keeps_many_messages_in_order,
    ]
);

common_tests!(
    common_5,
    crate::version_5::Peer5,
    [
        publishes_at_every_qos_to_every_qos,
        keeps_and_deletes_retained_messages,
        publishes_the_will_of_who_vanishes,
        matches_wildcards,
        shares_subscriptions,
        resumes_a_session_with_what_was_queued,
        carries_large_payloads,
        keeps_many_messages_in_order,
    ]
);
