//! Bytes that make no sense cost their sender its connection and nobody else anything.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod support;

use std::net::SocketAddr;
use support::Broker;
use support::raw::{Raw, connect_packet, packet, publish_packet, subscribe_packet};

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// A client that must not notice anything: it hears what it publishes.
struct Bystander(Raw);

impl Bystander {
    fn new(address: SocketAddr) -> Bystander {
        let mut raw = Raw::connected(address, "bystander");
        raw.send(&subscribe_packet("quiet/corner", 0));
        assert_eq!(raw.packet().expect("SUBACK").first, 0x90);
        Bystander(raw)
    }

    fn is_undisturbed(&mut self) {
        self.0.send(&publish_packet("quiet/corner", b"still here"));
        let heard = self.0.packet().expect("PUBLISH");
        assert!(heard.body.ends_with(b"still here"), "{heard:?}");
    }
}

fn on_both_drivers(test: impl Fn(&Broker)) {
    for driver in ["auto", "epoll"] {
        let mut broker = Broker::start(&["--shards", "2", "--driver", driver, "--log", "error"]);
        let mut bystander = Bystander::new(broker.mqtt);
        test(&broker);
        bystander.is_undisturbed();
        assert!(broker.is_running());
    }
}

#[test]
fn random_bytes_close_the_connection() {
    on_both_drivers(|broker| {
        let mut numbers = Numbers(0x6d65_7368);
        for _ in 0..100 {
            let mut raw = Raw::open(broker.mqtt);
            let count = 1 + numbers.next() as usize % 2_000;
            // No first packet of a client begins with these four bits set.
            let mut bytes = numbers.bytes(count);
            bytes[0] |= 0xf0;
            raw.send(&bytes);
            raw.drain();
        }
    });
}

#[test]
fn random_bytes_after_a_good_connect_close_the_connection() {
    on_both_drivers(|broker| {
        let mut numbers = Numbers(0x7269_6e67);
        for round in 0..100 {
            let mut raw = Raw::connected(broker.mqtt, &format!("random-{round}"));
            // A packet of type 0 is malformed, whatever follows.
            raw.send(&[0, 0]);
            raw.send(&numbers.bytes(500));
            let answer = raw.drain();
            assert_eq!(answer.first(), Some(&0xe0), "DISCONNECT says why");
        }
    });
}

#[test]
fn each_malformed_packet_gets_its_reason_code() {
    let long_topic = [&[0, 200][..], &[b'a'; 10]].concat();
    let cases: &[(&str, Vec<u8>, u8)] = &[
        (
            "a length of five bytes",
            vec![0x30, 0xff, 0xff, 0xff, 0xff, 1],
            0x81,
        ),
        (
            "reserved flags of SUBSCRIBE",
            packet(0x80, &[0, 1, 0, 0, 1, b'a', 0]),
            0x81,
        ),
        ("QoS 3", packet(0x36, &[0, 1, b'a', 0, 1, 0]), 0x81),
        (
            "a topic longer than its packet",
            packet(0x30, &long_topic),
            0x81,
        ),
        (
            "a topic that is not UTF-8",
            packet(0x30, &[0, 2, 0xc3, 0x28, 0]),
            0x81,
        ),
        (
            "packet identifier 0",
            packet(0x32, &[0, 1, b'a', 0, 0, 0]),
            0x82,
        ),
        ("SUBSCRIBE without a filter", packet(0x82, &[0, 1, 0]), 0x82),
        (
            "an unknown property",
            packet(0x30, &[0, 1, b'a', 2, 0x7f, 0]),
            0x81,
        ),
        ("a second CONNECT", connect_packet(5, "again"), 0x82),
        (
            "a packet that only servers send",
            packet(0x20, &[0, 0, 0]),
            0x82,
        ),
        (
            "a topic alias of 0",
            packet(0x30, &[0, 1, b'a', 3, 0x23, 0, 0]),
            0x94,
        ),
        (
            "larger than announced",
            vec![0x30, 0xff, 0xff, 0xff, 0x7f],
            0x95,
        ),
    ];
    on_both_drivers(|broker| {
        for (what, bytes, reason) in cases {
            let mut raw = Raw::connected(broker.mqtt, "malformed");
            raw.send(bytes);
            let disconnect = raw
                .packet()
                .unwrap_or_else(|| panic!("{what}: closed in silence"));
            assert_eq!(disconnect.first, 0xe0, "{what}");
            assert_eq!(
                disconnect.body[0], *reason,
                "{what}: {:#x}",
                disconnect.body[0]
            );
            assert_eq!(raw.packet(), None, "{what}: closed");
        }
    });
}

#[test]
fn a_packet_in_single_bytes_is_a_packet() {
    on_both_drivers(|broker| {
        let mut raw = Raw::open(broker.mqtt);
        for byte in connect_packet(5, "drip") {
            raw.send(&[byte]);
        }
        assert_eq!(raw.packet().expect("CONNACK").first, 0x20);
    });
}

#[test]
fn http_survives_nonsense_too() {
    on_both_drivers(|broker| {
        let mut numbers = Numbers(0x6874_7470);
        for request in [
            b"\xff\xfe\xfd\r\n\r\n".to_vec(),
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n".to_vec(),
            b"GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                .to_vec(),
            numbers.bytes(2_000),
        ] {
            let mut raw = Raw::open(broker.http);
            raw.send(&request);
            raw.send(b"\r\n\r\n");
            // It may answer and wait for the next request; it must do either soon.
            assert!(
                raw.answers_or_closes(),
                "no answer to {:?}",
                String::from_utf8_lossy(&request)
            );
        }
    });
}
