//! Packets written by hand, byte for byte, and what they mean; each is written back as it was.
#![allow(missing_docs, clippy::unwrap_used)]

use mqtt_v5_codec::*;
use std::num::NonZeroU16;

/// `bytes` is `expected`, and `expected` is `bytes`.
fn check(version: Version, bytes: &[u8], expected: &Packet<'_>) {
    let header = FixedHeader::parse(bytes).unwrap().unwrap();
    assert_eq!(header.packet_bytes(), bytes.len());
    let decoded = decode(version, header.first, &bytes[header.header_bytes..]);
    assert_eq!(decoded.as_ref(), Ok(expected));
    let mut out = b"before".to_vec();
    expected.encode(version, &mut out);
    assert_eq!(&out[6..], bytes, "{expected:?}");
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

#[test]
fn connect_of_each_version() {
    let mut connect = Connect {
        version: Version::V31,
        clean_start: true,
        keep_alive_s: 60,
        client_id: "c",
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    };
    check(
        Version::V5,
        b"\x10\x0F\0\x06MQIsdp\x03\x02\0\x3C\0\x01c",
        &connect.clone().into(),
    );
    connect.version = Version::V311;
    connect.will = Some(Will {
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "w",
        payload: b"",
        delay_s: 0,
        properties: PublishProperties::default(),
    });
    connect.user_name = Some("u");
    connect.password = Some(b"\xFF");
    let bytes = b"\x10\x18\0\x04MQTT\x04\xEE\0\x3C\0\x01c\0\x01w\0\0\0\x01u\0\x01\xFF";
    check(Version::V5, bytes, &connect.clone().into());
    connect.version = Version::V5;
    connect.will = None;
    connect.user_name = None;
    connect.properties.session_expiry_s = Some(1);
    connect.properties.user_properties = UserProperties::Pairs(&[("a", "b")]);
    let bytes =
        b"\x10\x1D\0\x04MQTT\x05\x42\0\x3C\x0C\x11\0\0\0\x01\x26\0\x01a\0\x01b\0\x01c\0\x01\xFF";
    check(Version::V311, bytes, &connect.into());
}

#[test]
fn acknowledgements_take_their_shortest_form() {
    for (first, kind) in [
        (0x40, AckKind::Puback),
        (0x50, AckKind::Pubrec),
        (0x62, AckKind::Pubrel),
        (0x70, AckKind::Pubcomp),
    ] {
        let mut ack = Ack {
            kind,
            packet_id: id(258),
            reason: ReasonCode::Success,
            properties: AckProperties::default(),
        };
        for version in [Version::V31, Version::V311, Version::V5] {
            check(version, &[first, 2, 1, 2], &ack.clone().into());
        }
        if matches!(kind, AckKind::Pubrel | AckKind::Pubcomp) {
            ack.reason = ReasonCode::PacketIdentifierNotFound;
        } else {
            ack.reason = ReasonCode::NotAuthorized;
        }
        check(
            Version::V5,
            &[first, 3, 1, 2, ack.reason as u8],
            &ack.clone().into(),
        );
        let mut out = Vec::new();
        encode_ack(&mut out, Version::V5, kind, id(258), ack.reason);
        assert_eq!(out, [first, 3, 1, 2, ack.reason as u8]);
        out.clear();
        encode_ack(&mut out, Version::V311, kind, id(258), ack.reason);
        assert_eq!(out, [first, 2, 1, 2]);
        ack.properties.reason_string = Some("x");
        let bytes = [first, 8, 1, 2, ack.reason as u8, 4, 0x1F, 0, 1, b'x'];
        check(Version::V5, &bytes, &ack.into());
    }
}

#[test]
fn publish_lays_out_what_is_patched_per_recipient() {
    let mut out = b"before".to_vec();
    let mut publish = Outgoing {
        version: Version::V5,
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "a/b",
        packet_id: Some(id(7)),
        topic_alias: Some(3),
        message_expiry_s: Some(9),
        subscription_ids: &[1, 200],
        forwarded: b"\x01\x01",
        payload: b"hi",
    };
    let layout = encode_publish(&mut out, &publish);
    let expected =
        b"\x33\x19\0\x03a/b\0\x07\x0F\x23\0\x03\x02\0\0\0\x09\x0B\x01\x0B\xC8\x01\x01\x01hi";
    assert_eq!(&out[6..], expected);
    assert_eq!(
        layout,
        Layout {
            start: 6,
            packet_id_at: Some(13),
            bytes: 27
        }
    );
    let Ok(Packet::Publish(decoded)) = decode(Version::V5, 0x33, &expected[2..]) else {
        panic!("decodes");
    };
    assert_eq!(
        decoded.properties.subscription_ids().collect::<Vec<_>>(),
        [1, 200]
    );
    assert_eq!(decoded.properties.payload_format, Some(1));
    assert_eq!((decoded.topic, decoded.payload), ("a/b", &b"hi"[..]));
    // 3.x has none of it, and QoS 0 no identifier.
    out.clear();
    publish.version = Version::V311;
    publish.qos = QoS::AtMostOnce;
    publish.packet_id = None;
    let layout = encode_publish(&mut out, &publish);
    assert_eq!(out, b"\x31\x07\0\x03a/bhi");
    assert_eq!(
        layout,
        Layout {
            start: 0,
            packet_id_at: None,
            bytes: 9
        }
    );
}

#[test]
fn subscribe_and_its_answer() {
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::Never,
    };
    let filters = [
        SubscribeFilter {
            filter: "a/#",
            options,
        },
        SubscribeFilter {
            filter: "",
            options: SubscriptionOptions::default(),
        },
    ];
    let properties = SubscribeProperties {
        subscription_id: Some(128),
        user_properties: UserProperties::None,
    };
    let mut out = Vec::new();
    Subscribe::encode(&mut out, Version::V5, id(1), &properties, &filters);
    assert_eq!(out, b"\x82\x0F\0\x01\x03\x0B\x80\x01\0\x03a/#\x2E\0\0\0");
    let Ok(Packet::Subscribe(decoded)) = decode(Version::V5, 0x82, &out[2..]) else {
        panic!("decodes");
    };
    assert_eq!(decoded.filters().collect::<Vec<_>>(), filters);
    assert_eq!(decoded.properties.subscription_id, Some(128));
    out.clear();
    Subscribe::encode(&mut out, Version::V311, id(1), &properties, &filters);
    assert_eq!(out, b"\x82\x0B\0\x01\0\x03a/#\x02\0\0\0");

    let list = [ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized];
    let suback = Suback {
        packet_id: id(1),
        properties: AckProperties::default(),
        reasons: ReturnCodes::List(&list),
    };
    check(
        Version::V5,
        b"\x90\x05\0\x01\0\x01\x87",
        &suback.clone().into(),
    );
    out.clear();
    Packet::Suback(suback).encode(Version::V311, &mut out);
    assert_eq!(out, b"\x90\x04\0\x01\x01\x80");
}

#[test]
fn unsubscribe_and_its_answer() {
    let mut out = Vec::new();
    let none = UserProperties::None;
    Unsubscribe::encode(&mut out, Version::V5, id(2), &none, &["a", "+/b"]);
    assert_eq!(out, b"\xA2\x0B\0\x02\0\0\x01a\0\x03+/b");
    let Ok(Packet::Unsubscribe(decoded)) = decode(Version::V5, 0xA2, &out[2..]) else {
        panic!("decodes");
    };
    assert_eq!(decoded.filters().collect::<Vec<_>>(), ["a", "+/b"]);
    let mut unsuback = Unsuback {
        packet_id: id(2),
        properties: AckProperties::default(),
        reasons: ReturnCodes::List(&[ReasonCode::Success, ReasonCode::NoSubscriptionExisted]),
    };
    check(
        Version::V5,
        b"\xB0\x05\0\x02\0\0\x11",
        &unsuback.clone().into(),
    );
    unsuback.reasons = ReturnCodes::List(&[]);
    check(Version::V311, b"\xB0\x02\0\x02", &unsuback.into());
}

#[test]
fn a_connack_reason_becomes_a_return_code() {
    for (reason, code) in [
        (ReasonCode::Success, 0),
        (ReasonCode::UnsupportedProtocolVersion, 1),
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerUnavailable, 3),
        (ReasonCode::ServerBusy, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::BadAuthenticationMethod, 4),
        (ReasonCode::NotAuthorized, 5),
        (ReasonCode::Banned, 5),
    ] {
        let connack = Connack {
            session_present: false,
            reason,
            properties: ConnackProperties::default(),
        };
        let mut out = Vec::new();
        Packet::Connack(connack.clone()).encode(Version::V311, &mut out);
        assert_eq!(out, [0x20, 2, 0, code]);
        check(Version::V5, &[0x20, 3, 0, reason as u8, 0], &connack.into());
    }
}

#[test]
fn packets_that_are_nearly_empty() {
    let disconnect = |reason| Disconnect {
        reason,
        properties: DisconnectProperties::default(),
    };
    for version in [Version::V31, Version::V311, Version::V5] {
        check(version, &[0xC0, 0], &Packet::Pingreq);
        check(version, &[0xD0, 0], &Packet::Pingresp);
        check(version, &[0xE0, 0], &disconnect(ReasonCode::Success).into());
    }
    check(
        Version::V5,
        &[0xE0, 1, 4],
        &disconnect(ReasonCode::DisconnectWithWill).into(),
    );
    let mut auth = Auth {
        reason: ReasonCode::Success,
        properties: AuthProperties::default(),
    };
    check(Version::V5, &[0xF0, 0], &auth.clone().into());
    auth.properties.authentication_method = Some("m");
    check(
        Version::V5,
        &[0xF0, 6, 0, 4, 0x15, 0, 1, b'm'],
        &auth.into(),
    );
}

/// Every property of 2.2.2.2 at its number, in the packets where most of them stand.
#[test]
fn properties_have_their_numbers() {
    let connack = Connack {
        session_present: true,
        reason: ReasonCode::Success,
        properties: ConnackProperties {
            session_expiry_s: Some(1),
            receive_maximum: NonZeroU16::new(2),
            maximum_qos: Some(QoS::AtLeastOnce),
            retain_available: Some(false),
            maximum_packet_size: Some(3),
            assigned_client_id: Some("i"),
            topic_alias_maximum: Some(4),
            reason_string: Some("r"),
            wildcard_subscription_available: Some(true),
            subscription_identifiers_available: Some(false),
            shared_subscription_available: Some(true),
            server_keep_alive_s: Some(5),
            response_information: Some("n"),
            server_reference: Some("s"),
            authentication_method: Some("m"),
            authentication_data: Some(b"d"),
            user_properties: UserProperties::Pairs(&[("u", "v"), ("u", "w")]),
        },
    };
    let bytes = b"\x20\x46\x01\0\x43\
        \x11\0\0\0\x01\x21\0\x02\x24\x01\x25\0\x27\0\0\0\x03\x12\0\x01i\x22\0\x04\x1F\0\x01r\
        \x28\x01\x29\0\x2A\x01\x13\0\x05\x1A\0\x01n\x1C\0\x01s\x15\0\x01m\x16\0\x01d\
        \x26\0\x01u\0\x01v\x26\0\x01u\0\x01w";
    check(Version::V5, bytes, &connack.into());

    let mut properties = PublishProperties::default();
    properties.payload_format = Some(1);
    properties.message_expiry_s = Some(2);
    properties.response_topic = Some("r");
    properties.correlation_data = Some(b"d");
    properties.content_type = Some("c");
    let connect = Connect {
        version: Version::V5,
        clean_start: false,
        keep_alive_s: 0,
        client_id: "",
        will: Some(Will {
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: "w",
            payload: b"p",
            delay_s: 3,
            properties,
        }),
        user_name: None,
        password: None,
        properties: ConnectProperties {
            topic_alias_maximum: Some(4),
            request_response_information: Some(true),
            request_problem_information: Some(false),
            ..ConnectProperties::default()
        },
    };
    let bytes = b"\x10\x33\0\x04MQTT\x05\x14\0\0\x07\x22\0\x04\x19\x01\x17\0\0\0\
        \x18\x18\0\0\0\x03\x02\0\0\0\x02\x01\x01\x08\0\x01r\x09\0\x01d\x03\0\x01c\0\x01w\0\x01p";
    check(Version::V5, bytes, &connect.into());
}

#[test]
fn lists_differ_when_one_of_their_entries_does() {
    let read = |first, body| decode(Version::V311, first, body).unwrap();
    assert_ne!(
        read(0x82, b"\0\x01\0\x01a\0"),
        read(0x82, b"\0\x01\0\x01a\x01")
    );
    assert_ne!(
        read(0x82, b"\0\x01\0\x01a\0"),
        read(0x82, b"\0\x01\0\x01a\0\0\0\0")
    );
    assert_ne!(read(0xA2, b"\0\x01\0\x01a"), read(0xA2, b"\0\x01\0\x01b"));
    assert_ne!(read(0x90, b"\0\x01\0"), read(0x90, b"\0\x01\x01"));
    let publish = |body| decode(Version::V5, 0x30, body).unwrap();
    let pair = publish(b"\0\x01t\x07\x26\0\x01a\0\x01b");
    assert_ne!(pair, publish(b"\0\x01t\x07\x26\0\x01a\0\x01c"));
    assert_ne!(pair, publish(b"\0\x01t\0"));
    assert_ne!(
        publish(b"\0\x01t\x02\x0B\x01"),
        publish(b"\0\x01t\x02\x0B\x02")
    );
}
