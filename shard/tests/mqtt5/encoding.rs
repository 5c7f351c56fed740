//! Chapters 1 and 2: data types and the parts that packets share.

use super::support::{bytes, *};
use super::*;

/// Byte strings that are not UTF-8: a bad continuation, an encoded surrogate, an overlong form, a
/// cut sequence, a code point above U+10FFFF.
const NOT_UTF8: [&[u8]; 5] = [
    &[b't', 0xC3, 0x28],
    &[b't', 0xED, 0xA0, 0x80],
    &[b't', 0xC1, 0x81],
    &[b't', 0xE2, 0x82],
    &[b't', 0xF4, 0x90, 0x80, 0x80],
];

fn publish_to(topic: &[u8]) -> Vec<u8> {
    PublishPacket {
        topic: topic.into(),
        ..PublishPacket::new("", "x")
    }
    .build(V5)
}

fn subscribe_to(filter: &[u8]) -> Vec<u8> {
    packet(
        0x82,
        &[&[0, 1, 0][..], &bytes::binary(filter), &[0]].concat(),
    )
}

#[test]
fn mqtt5_1_5_4_1_ill_formed_utf8_is_malformed() {
    for text in NOT_UTF8 {
        breach(&publish_to(text), ReasonCode::MalformedPacket);
        breach(&subscribe_to(text), ReasonCode::MalformedPacket);
        let connect = ConnectPacket {
            client_id: text.into(),
            ..connect()
        };
        refuse(&connect.build(), ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt5_1_5_4_2_null_character_is_malformed() {
    breach(&publish_to(b"a\0b"), ReasonCode::MalformedPacket);
    breach(&subscribe_to(b"a\0b"), ReasonCode::MalformedPacket);
    let connect = ConnectPacket {
        client_id: b"a\0b".to_vec(),
        ..connect()
    };
    refuse(&connect.build(), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_1_5_4_3_byte_order_mark_is_kept() {
    let w = World::new(2);
    let marked = w.connected(V5, "marked");
    marked.subscribe("\u{FEFF}t", 0);
    let plain = w.connected(V5, "plain");
    plain.subscribe("t", 0);
    w.connected(V5, "publisher").publish("\u{FEFF}t", "x", 0);
    assert_eq!(marked.receive().topic, "\u{FEFF}t");
    plain.expect_nothing();
}

#[test]
fn mqtt5_1_5_5_1_lengths_are_written_in_their_shortest_form() {
    let w = World::new(1);
    let subscriber = w.connected(V5, "subscriber");
    subscriber.subscribe("t", 0);
    let publisher = w.connected(V5, "publisher");
    // Around every length at which one more byte is needed; the rest of the body is 4 bytes.
    for body_bytes in [127, 128, 16_383, 16_384, 16_385] {
        publisher.publish("t", &"x".repeat(body_bytes - 4), 0);
        let raw = subscriber.receive().raw;
        assert_eq!(
            raw[1..][..bytes::variable(body_bytes).len()],
            bytes::variable(body_bytes)
        );
        assert_eq!(
            raw.len(),
            1 + bytes::variable(body_bytes).len() + body_bytes
        );
    }
}

#[test]
fn mqtt5_1_5_5_1_length_with_too_many_bytes_is_malformed() {
    breach(
        &[0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
        ReasonCode::MalformedPacket,
    );
    breach(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], ReasonCode::MalformedPacket);
    // Longer than need be.
    breach(&[0xC0, 0x80, 0x00], ReasonCode::MalformedPacket);
    // A property length of five bytes.
    let body = [&string("t")[..], &[0x80, 0x80, 0x80, 0x80, 0x01]].concat();
    breach(&packet(0x30, &body), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_1_5_7_1_ill_formed_user_property_is_malformed() {
    for text in NOT_UTF8 {
        let name = [&[0x26][..], &bytes::binary(text), &string("v")].concat();
        let value = [&[0x26][..], &string("n"), &bytes::binary(text)].concat();
        for property in [name, value] {
            let publish = PublishPacket::new("t", "x").property(property);
            breach(&publish.build(V5), ReasonCode::MalformedPacket);
        }
    }
}

#[test]
fn mqtt5_2_1_3_1_reserved_flags_are_malformed() {
    let ack = [0, 1];
    let filter = [&[0, 1, 0][..], &string("t")].concat();
    let subscribe = [&filter[..], &[0]].concat();
    for (first, body) in [
        (0x00, &ack[..]),
        (0x41, &ack),
        (0x48, &ack),
        (0x52, &ack),
        (0x60, &ack),
        (0x63, &ack),
        (0x74, &ack),
        (0x80, &subscribe),
        (0x83, &subscribe),
        (0xA0, &filter),
        (0xAA, &filter),
        (0xC1, &[]),
        (0xE1, &[]),
        (0xF1, &[]),
    ] {
        breach(&packet(first, body), ReasonCode::MalformedPacket);
    }
    // Before the protocol is known there is nothing to say.
    let a = World::new(1).client(V5, "a");
    a.open();
    a.send_raw(&packet(0x11, &connect().body()));
    a.expect_closed();
}

#[test]
fn mqtt5_2_2_1_2_qos0_publish_has_no_packet_identifier() {
    let w = World::new(1);
    let a = w.connected(V5, "a");
    a.subscribe("t", 2);
    a.publish("t", "xy", 0);
    // Kind, length, topic, property length, payload: no room for an identifier.
    assert_eq!(a.receive().raw, [0x30, 6, 0, 1, b't', 0, b'x', b'y']);
}

#[test]
fn mqtt5_2_2_1_3_packet_identifier_zero_is_refused() {
    let refused = [ReasonCode::MalformedPacket, ReasonCode::ProtocolError];
    for qos in [1, 2] {
        let publish = PublishPacket::new("t", "x").qos(qos).id(0);
        breach_any(&publish.build(V5), &refused);
    }
    breach_any(&bytes::subscribe(V5, 0, &[("t", 0)], &[]), &refused);
    breach_any(&bytes::unsubscribe(V5, 0, &["t"], &[]), &refused);
}

#[test]
fn mqtt5_2_2_1_4_unacknowledged_messages_have_different_identifiers() {
    let w = World::new(2);
    let subscriber = w.connected(V5, "subscriber");
    subscriber.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    for round in 0..6 {
        publisher.publish("t", "x", 1 + round % 2);
    }
    let mut ids: Vec<u16> = subscriber
        .drain_messages()
        .iter()
        .map(Message::id)
        .collect();
    assert_eq!(ids.len(), 6);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6, "an identifier was used twice");
    assert!(ids[0] > 0);
}

#[test]
fn mqtt5_2_2_1_5_acknowledgements_repeat_the_packet_identifier() {
    let w = World::new(1);
    let a = w.connected(V5, "a");
    for id in [1, 300, 65_535] {
        a.publish_with(PublishPacket::new("t", "x").qos(1).id(id));
        a.expect_ack(AckKind::Puback, id, ReasonCode::NoMatchingSubscribers);
        a.publish_with(PublishPacket::new("t", "x").qos(2).id(id));
        a.expect_ack(AckKind::Pubrec, id, ReasonCode::NoMatchingSubscribers);
        a.pubrel(id);
        a.expect_ack(AckKind::Pubcomp, id, ReasonCode::Success);
    }
    a.subscribe("t", 2);
    a.publish("t", "x", 2);
    let id = a.message().id();
    a.pubrec(id);
    a.expect_ack(AckKind::Pubrel, id, ReasonCode::Success);
}

#[test]
fn mqtt5_2_2_1_6_suback_and_unsuback_repeat_the_packet_identifier() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    for id in [1, 256, 65_535] {
        a.send_raw(&bytes::subscribe(V5, id, &[("t", 0)], &[]));
        assert_eq!(a.suback().packet_id, id);
        a.send_raw(&bytes::unsubscribe(V5, id, &["t"], &[]));
        assert_eq!(a.unsuback().packet_id, id);
    }
}

#[test]
fn mqtt5_2_2_2_1_absent_properties_are_a_length_of_zero() {
    let w = World::new(1);
    let a = w.connected(V5, "a");
    a.send_raw(&bytes::subscribe(V5, 7, &[("t", 0)], &[]));
    assert_eq!(a.suback().raw, [0x90, 4, 0, 7, 0, 0]);
    a.publish("t", "x", 0);
    assert_eq!(a.receive().raw, [0x30, 5, 0, 1, b't', 0, b'x']);
    a.send_raw(&bytes::unsubscribe(V5, 8, &["t"], &[]));
    assert_eq!(a.unsuback().raw, [0xB0, 4, 0, 8, 0, 0]);
}

#[test]
fn mqtt5_2_2_2_1_missing_property_length_is_malformed() {
    // PUBLISH that ends after its topic; SUBSCRIBE that ends after its identifier.
    breach(&packet(0x30, &string("t")), ReasonCode::MalformedPacket);
    breach(&packet(0x82, &[0, 1]), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_4_13_1_1_malformed_packets_close_with_0x81() {
    let property = |property: &[u8]| PublishPacket::new("t", "x").property(property.into());
    let malformed = [
        // An unknown property, one of another packet, one that is cut, a length beyond the end.
        property(&[0x7F, 0]).build(V5),
        property(&prop::session_expiry(1)).build(V5),
        property(&prop::assigned_client_id("a")).build(V5),
        property(&[0x02, 0, 0]).build(V5),
        packet(0x30, &[&string("t")[..], &[100, 1]].concat()),
        // Strings that run past the end of the packet.
        packet(0x30, &[0, 9, b't']),
        packet(0x82, &[0, 1, 0, 0, 9, b't', 0]),
        // Too short for what they are.
        packet(0x40, &[0]),
        packet(0x62, &[]),
        packet(0x82, &[0]),
        packet(0x32, &string("t")),
        // Bytes where there are none.
        packet(0xC0, &[0]),
        packet(0x40, &[0, 1, 0, 0, 9]),
        // A filter without options.
        packet(0x82, &[&[0, 1, 0][..], &string("t")].concat()),
    ];
    for bytes in malformed {
        breach(&bytes, ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt5_4_13_1_1_protocol_errors_close_with_0x82() {
    let publish = |properties: &[Vec<u8>]| {
        PublishPacket::new("t", "x")
            .property(properties.concat())
            .build(V5)
    };
    let subscription_id = prop::subscription_id;
    let errors = [
        // Twice what may appear once.
        publish(&[prop::payload_format(0), prop::payload_format(0)]),
        publish(&[prop::message_expiry(1), prop::message_expiry(2)]),
        publish(&[prop::content_type("a"), prop::content_type("a")]),
        publish(&[prop::topic_alias(1), prop::topic_alias(1)]),
        bytes::subscribe(
            V5,
            1,
            &[("t", 0)],
            &[subscription_id(1), subscription_id(2)].concat(),
        ),
        // Subscription identifier 0.
        bytes::subscribe(V5, 1, &[("t", 0)], &subscription_id(0)),
        // No topic and no alias.
        PublishPacket::new("", "x").build(V5),
    ];
    for bytes in errors {
        breach(&bytes, ReasonCode::ProtocolError);
    }
}

#[test]
fn mqtt5_4_13_1_1_packets_that_only_servers_send_close_with_0x82() {
    for packet in [
        packet(0x20, &[0, 0, 0]),
        packet(0x90, &[0, 1, 0, 0]),
        packet(0xB0, &[0, 1, 0, 0]),
        packet(0xD0, &[]),
    ] {
        breach(&packet, ReasonCode::ProtocolError);
    }
}

#[test]
fn mqtt5_4_13_2_1_reason_codes_of_failure_close() {
    refuse(
        &connect().flip_flags(1).build(),
        ReasonCode::MalformedPacket,
    );
    breach(&connect().build(), ReasonCode::ProtocolError);
    // A client's own word of failure closes too, without an answer.
    for reason in [0x80, 0x81, 0x82, 0x93, 0x99] {
        let a = World::new(1).connected(V5, "a");
        a.send_raw(&bytes::disconnect(reason, &[]));
        a.expect_closed();
    }
}
