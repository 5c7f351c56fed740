//! Choices about what is refused, and how.

use super::support::{bytes, prop, *};
use shard::Close;

#[test]
fn choices_not_authorised_is_told_0x87_or_0x80() {
    let w = World::new(2);
    let owner = w.client(V5, "owner");
    let connack = owner.connect_with(|c| c.property(prop::request_response_information(1)));
    let prefix = connack.response_information.expect("it was asked for");
    let filter = format!("{}/x", prefix.trim_end_matches('/'));
    let a = w.connected(V5, "a");
    assert_eq!(a.subscribe(&filter, 0), 0x87);
    assert_eq!(a.publish("$SYS/x", "x", 1), ReasonCode::NotAuthorized);
    assert_eq!(a.publish("$SYS/x", "x", 2), ReasonCode::NotAuthorized);
    // 3.1.1: SUBACK has a code, PUBLISH has none and is acknowledged and dropped.
    let old = w.connected(V311, "old");
    assert_eq!(old.subscribe(&filter, 0), 0x80);
    old.publish("$SYS/x", "x", 1);
    old.publish("$SYS/x", "x", 2);
    old.expect_alive();
}

#[test]
fn choices_publish_to_sys_and_share_is_refused_and_other_dollar_topics_are_ordinary() {
    let w = World::new(2);
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("$SYS/#", 0);
    watcher.subscribe("$other/#", 0);
    watcher.subscribe("#", 0);
    let a = w.connected(V5, "a");
    let old = w.connected(V311, "old");
    for topic in ["$SYS/broker/uptime", "$SYS/x", "$share/g/t", "$share/g"] {
        for qos in [1, 2] {
            assert_eq!(
                a.publish_retained(topic, "x", qos),
                ReasonCode::NotAuthorized,
                "{topic}"
            );
        }
        a.publish(topic, "x", 0);
        a.expect_alive();
        for qos in 0..3 {
            old.publish(topic, "x", qos);
        }
        old.expect_alive();
    }
    watcher.expect_nothing();
    assert_eq!(a.publish("$other/x", "x", 1), ReasonCode::Success);
    assert_eq!(watcher.receive().topic, "$other/x");
    watcher.expect_nothing();
    assert_eq!(
        a.publish("$SYSx/y", "x", 1),
        ReasonCode::NoMatchingSubscribers
    );
}

#[test]
fn choices_malformed_and_protocol_error_carry_a_reason_string() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.send_raw(&[0, 0]);
    assert!(
        a.expect_disconnect(ReasonCode::MalformedPacket)
            .reason_string
            .is_some()
    );
    a.connect();
    a.send_raw(&packet(0xD0, &[]));
    assert!(
        a.expect_disconnect(ReasonCode::ProtocolError)
            .reason_string
            .is_some()
    );
    // In place of a CONNACK: CONNACK with the code.
    let connack = a.try_connect(|connect| connect.flip_flags(1));
    assert_eq!(connack.reason, ReasonCode::MalformedPacket);
    a.expect_closed();
    let connack = a.try_connect(|connect| connect.property(prop::receive_maximum(0)));
    assert_eq!(connack.reason, ReasonCode::ProtocolError);
    a.expect_closed();
    // 3.x: a close.
    let old = w.connected(V311, "old");
    old.send_raw(&packet(0xD0, &[]));
    old.expect_closed();
}

#[test]
fn choices_close_after_a_reason_code_waits_for_it_to_be_read() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.send_raw(&[0, 0]);
    a.expect_disconnect(ReasonCode::MalformedPacket);
    assert_eq!(a.closed_how(), Some(Close::Flush));
    a.try_connect(|connect| connect.flip_flags(1));
    a.expect_closed();
    assert_eq!(a.closed_how(), Some(Close::Flush));
    let old = w.client(V311, "");
    old.try_connect(|connect| connect.clean_start(false));
    assert_eq!(old.closed_how(), Some(Close::Flush));
}

#[test]
fn choices_topics_have_at_most_128_levels() {
    for (limit, w) in [
        (128, World::new(2)),
        (
            3,
            World::with_limits(2, |limits| limits.topic_levels_max = 3),
        ),
    ] {
        let allowed = vec!["x"; limit].join("/");
        let deeper = format!("{allowed}/x");
        let a = w.connected(V5, "a");
        assert_eq!(a.subscribe(&allowed, 1), 1);
        assert_eq!(a.subscribe(&deeper, 1), 0x8F);
        assert_eq!(a.publish(&allowed, "x", 1), ReasonCode::Success);
        assert_eq!(a.receive().topic, allowed);
        let refusals = [ReasonCode::TopicNameInvalid, ReasonCode::QuotaExceeded];
        a.publish_with(PublishPacket::new(&deeper, "x").qos(1));
        match a.next() {
            Got::Ack(ack) => assert!(refusals.contains(&ack.reason), "{ack:?}"),
            Got::Disconnect(got) => assert!(refusals.contains(&got.reason), "{got:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn choices_control_and_non_characters_are_refused() {
    for text in [
        "a\u{1}",
        "\u{1F}",
        "\u{7F}",
        "\u{85}",
        "\u{FDD0}",
        "\u{FFFE}",
        "\u{10FFFF}",
    ] {
        let w = World::new(1);
        let a = w.connected(V5, "a");
        for packet in [
            PublishPacket::new(text, "x").build(V5),
            PublishPacket::new("t", "x")
                .property(prop::user_property(text, "v"))
                .build(V5),
            bytes::subscribe(V5, 1, &[(text, 0)], &[]),
        ] {
            a.send_raw(&packet);
            a.expect_disconnect(ReasonCode::MalformedPacket);
            a.connect();
        }
        let b = w.client(V5, text);
        assert_eq!(
            b.try_connect(|connect| connect).reason,
            ReasonCode::MalformedPacket
        );
        let old = w.connected(V311, "old");
        old.send_raw(&PublishPacket::new(text, "x").build(V311));
        old.expect_closed();
        // A payload may hold anything.
        a.subscribe("t", 0);
        a.publish("t", text, 0);
        assert_eq!(a.receive().text(), text);
    }
}

#[test]
fn choices_payload_that_claims_to_be_utf8_is_checked() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.subscribe("t", 0);
    let claim = |payload: &[u8]| {
        PublishPacket::new("t", payload)
            .property(prop::payload_format(1))
            .clone()
    };
    for qos in [1, 2] {
        let good = claim("ü".as_bytes()).qos(qos);
        assert_eq!(a.publish_all(good), ReasonCode::Success);
        assert_eq!(a.receive().text(), "ü");
        let bad = claim(&[0xC3, 0x28]).qos(qos);
        assert_eq!(a.publish_all(bad), ReasonCode::PayloadFormatInvalid);
        a.expect_nothing();
    }
    // QoS 0 has no answer but DISCONNECT.
    a.publish_with(claim(&[0xFF]));
    a.expect_disconnect(ReasonCode::PayloadFormatInvalid);
    // A will is checked in CONNECT.
    let will = WillPacket::new("will", [0xFF]).property(prop::payload_format(1));
    let connack = a.try_connect(|connect| connect.will(will));
    assert_eq!(connack.reason, ReasonCode::PayloadFormatInvalid);
    a.expect_closed();
}

#[test]
fn choices_maximum_packet_size_is_1_mib_and_excess_is_told_0x95() {
    let w = World::new(1);
    let a = w.client(V5, "a");
    assert_eq!(a.connect().maximum_packet_size, Some(1_048_576));
    a.subscribe("t", 0);
    let overhead = 1 + 3 + 3 + 1;
    let fits = "x".repeat(1_048_576 - overhead);
    a.publish("t", &fits, 0);
    assert_eq!(a.receive().raw.len(), 1_048_576);
    // Told by its header, before the rest has come.
    a.send_raw(&[0x30, 0x80, 0x80, 0x40]);
    a.expect_disconnect(ReasonCode::PacketTooLarge);
    // In CONNECT's place: CONNACK.
    a.open();
    a.send_raw(&[0x10, 0x80, 0x80, 0x40, 0, 4, b'M', b'Q', b'T', b'T', 5]);
    for got in a.drain() {
        let Got::Connack(connack) = got else {
            panic!("{got:?}")
        };
        assert_eq!(connack.reason, ReasonCode::PacketTooLarge);
    }
    assert!(a.is_closed());
}
