//! MQTT 5.0, a test for each normative statement that a server can be held to, named by it:
//! `mqtt5_3_3_4_6_…` tests `[MQTT-3.3.4-6]`. `tests/statements/mqtt5.txt` lists them all.

#[path = "../support/mod.rs"]
mod support;

mod connack;
mod connect;
mod control;
mod deliver;
mod device_topics;
mod encoding;
mod flow;
mod publish;
mod session;
mod subscribe;
mod topics;
mod unnumbered;
mod websocket;

use support::*;

/// A connected client sends `bytes`, is told one of `reasons` and closed. Another client, which
/// hears every topic, is unharmed and hears nothing.
#[track_caller]
fn breach_any(bytes: &[u8], reasons: &[ReasonCode]) {
    let w = World::new(2);
    let other = w.connected(V5, "other");
    other.subscribe("#", 2);
    let a = w.connected(V5, "a");
    a.send_raw(bytes);
    match a.try_next() {
        Some(Got::Disconnect(disconnect)) => {
            assert!(
                reasons.contains(&disconnect.reason),
                "{bytes:02x?}: {disconnect:?}"
            );
        }
        answer => panic!("{bytes:02x?} was answered {answer:?}"),
    }
    a.expect_closed();
    other.expect_alive();
}

/// As [`breach_any`], with one reason.
#[track_caller]
fn breach(bytes: &[u8], reason: ReasonCode) {
    breach_any(bytes, &[reason]);
}

/// A CONNECT is answered by CONNACK with `reason` and a close. Another client is unharmed.
#[track_caller]
fn refuse(connect: &[u8], reason: ReasonCode) -> ConnackGot {
    refuse_in(&World::new(2), connect, &[reason])
}

/// As [`refuse`], with one of several reasons and in a world of one's own.
#[track_caller]
fn refuse_in(w: &World, connect: &[u8], reasons: &[ReasonCode]) -> ConnackGot {
    let other = w.client(V5, "other");
    let other_is_in = other.try_connect(|connect| connect).reason == ReasonCode::Success;
    let a = w.client(V5, "a");
    a.open();
    a.send_raw(connect);
    let connack = match a.try_next() {
        Some(Got::Connack(connack)) => connack,
        answer => panic!("{connect:02x?} was answered {answer:?}"),
    };
    assert!(
        reasons.contains(&connack.reason),
        "{connect:02x?}: {connack:?}"
    );
    assert!(!connack.session_present);
    a.expect_closed();
    if other_is_in {
        other.expect_alive();
    }
    connack
}

/// What the specification leaves open between the two.
const MALFORMED_OR_PROTOCOL_ERROR: [ReasonCode; 2] =
    [ReasonCode::MalformedPacket, ReasonCode::ProtocolError];

/// A plain CONNECT of client `a`.
fn connect() -> ConnectPacket {
    ConnectPacket::new(V5, "a")
}

/// Whatever the client was sent, and it was sent something, fits into `bytes_max`.
#[track_caller]
fn expect_small(client: &Client, bytes_max: u32) -> Vec<Got> {
    let received = client.drain();
    assert!(!received.is_empty(), "nothing was sent");
    for got in &received {
        let raw = match got {
            Got::Connack(connack) => &connack.raw,
            Got::Publish(message) => &message.raw,
            Got::Ack(ack) => &ack.raw,
            Got::Suback(suback) | Got::Unsuback(suback) => &suback.raw,
            Got::Disconnect(disconnect) => &disconnect.raw,
            Got::Pingresp | Got::Auth(_) => continue,
        };
        assert!(
            raw.len() <= bytes_max as usize,
            "{} bytes: {got:?}",
            raw.len()
        );
    }
    received
}

/// Client `a`, connected with each Maximum Packet Size that leaves room for CONNACK: also such as
/// leave no room for a reason string.
fn with_small_packets(script: impl Fn(&World, &Client, u32)) {
    let mut served = 0;
    for bytes_max in 1..100 {
        let w = World::new(1);
        let a = w.client(V5, "a");
        a.open();
        a.send_raw(&a.connect_packet().maximum_packet_size(bytes_max).build());
        if a.is_closed() {
            continue;
        }
        assert_eq!(a.connack().reason, ReasonCode::Success);
        script(&w, &a, bytes_max);
        served += 1;
    }
    assert!(served > 70, "{served} sizes were served");
}
