//! Packets of a client, built from few bytes. The alphabets are tiny, so that clients meet.

use crate::program::{Program, pick};
use mqtt_v5_codec::ReturnCodes;
use mqtt_v5_codec::{
    Ack, AckKind, AckProperties, Auth, AuthProperties, Connack, ConnackProperties, Connect,
    ConnectProperties, Disconnect, DisconnectProperties, Packet, PacketId, Publish,
    PublishProperties, QoS, ReasonCode, Suback, Subscribe, SubscribeFilter, SubscribeProperties,
    SubscriptionOptions, Unsubscribe, UserProperties, Version, Will,
};
use std::num::NonZeroU16;

/// A device, whose topics and session have an owner.
const UUID: &str = "9f1c2ab4-0d52-4b51-8a5e-3d4d0f6a7b8c";
const CLIENT_IDS: [&str; 8] = ["p", "q", "r", "s", UUID, "", "t", "u"];
const TOPICS: [&str; 16] = [
    "a",
    "a/b",
    "b/b",
    "a/b/c",
    "",
    "9f1c2ab4-0d52-4b51-8a5e-3d4d0f6a7b8c/x",
    "9F1C2AB4-0D52-4B51-8A5E-3D4D0F6A7B8C/x",
    "00000000-0000-4000-8000-000000000001/y",
    "$SYS/a",
    "$own/a",
    "/",
    "c",
    "d",
    "e/e",
    "a/",
    "00000000-0000-4000-8000-000000000002",
];
const FILTERS: [&str; 32] = [
    "a",
    "a/b",
    "a/+",
    "#",
    "+/b",
    "+",
    "a/#",
    "+/+/#",
    "$share/g/a/#",
    "$share/g/#",
    "$share/h/a",
    "$share/h/+/b",
    "$share/g/9f1c2ab4-0d52-4b51-8a5e-3d4d0f6a7b8c/#",
    "9f1c2ab4-0d52-4b51-8a5e-3d4d0f6a7b8c/#",
    "9f1c2ab4-0d52-4b51-8a5e-3d4d0f6a7b8c/+",
    "9F1C2AB4-0D52-4B51-8A5E-3D4D0F6A7B8C/x",
    "00000000-0000-4000-8000-000000000001/#",
    "00000000-0000-4000-8000-000000000002",
    "$SYS/#",
    "$SYS/broker/uptime",
    "$own/#",
    "$own/+",
    "c",
    "d",
    "e/+",
    "/",
    "b/b",
    "$share/g/c",
    // Refused:
    "a/#/b",
    "",
    "$share/g",
    "a+",
];
const REASONS: [ReasonCode; 4] = [
    ReasonCode::Success,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::UnspecifiedError,
    ReasonCode::QuotaExceeded,
];
const USER_PROPERTIES: [(&str, &str); 2] = [("k", "v"), ("k", "")];
const QOS: [QoS; 4] = [
    QoS::AtLeastOnce,
    QoS::AtMostOnce,
    QoS::ExactlyOnce,
    QoS::AtLeastOnce,
];

/// A packet identifier from a small range.
fn packet_id(number: u8) -> PacketId {
    PacketId::new(u16::from(number % 12) + 1).expect("not 0")
}

fn user_properties(is_wanted: bool) -> UserProperties<'static> {
    if is_wanted {
        UserProperties::Pairs(&USER_PROPERTIES)
    } else {
        UserProperties::None
    }
}

/// Properties of a message, or of one to be. Two bytes.
fn publish_properties(program: &mut Program<'_>) -> PublishProperties<'static> {
    let [a, b] = [program.byte(), program.byte()];
    // Not a literal: one of its fields is the codec's own.
    let mut properties = PublishProperties::default();
    properties.payload_format = pick(a, 0, &[None, None, Some(0), Some(1)]);
    let expiries = [
        None,
        None,
        None,
        Some(0),
        Some(1),
        Some(60),
        Some(u32::MAX),
        None,
    ];
    properties.message_expiry_s = pick(a, 2, &expiries);
    let aliases = [
        None,
        None,
        None,
        Some(1),
        Some(2),
        Some(1),
        Some(0),
        Some(60_000),
    ];
    properties.topic_alias = pick(a, 5, &aliases);
    properties.response_topic = pick(b, 0, &[None, Some("c")]);
    properties.correlation_data = pick(b, 1, &[None, Some(b"12")]);
    properties.content_type = pick(b, 2, &[None, Some("text")]);
    properties.user_properties = user_properties(b & 8 != 0);
    properties
}

/// CONNECT.
pub fn connect(program: &mut Program<'_>, version: Version) -> Vec<u8> {
    let [a, b, c] = [program.byte(), program.byte(), program.byte()];
    let will = (a & 8 != 0).then(|| {
        let [w, x] = [program.byte(), program.byte()];
        let mut properties = publish_properties(program);
        properties.topic_alias = None;
        Will {
            qos: pick(w, 0, &QOS),
            retain: w & 4 != 0,
            topic: match pick(w, 4, &TOPICS) {
                "" => "a",
                topic => topic,
            },
            payload: pick(x, 0, &[&b"will"[..], b"", b"\xff", &[b'w'; 700]]),
            delay_s: pick(x, 2, &[0, 0, 1, 30, 86_400, u32::MAX]),
            properties,
        }
    });
    let connect = Connect {
        version,
        clean_start: a & 1 != 0,
        keep_alive_s: pick(a, 1, &[0, 1, 10, u16::MAX]),
        client_id: pick(b, 0, &CLIENT_IDS),
        will,
        user_name: pick(b, 3, &[None, None, None, Some("user")]),
        password: pick(b, 3, &[None, None, None, Some(b"secret")]),
        properties: ConnectProperties {
            session_expiry_s: pick(
                a,
                4,
                &[
                    None,
                    Some(0),
                    Some(5),
                    Some(60),
                    Some(3_600),
                    Some(u32::MAX),
                ],
            ),
            receive_maximum: pick(
                b,
                5,
                &[
                    None,
                    NonZeroU16::new(1),
                    NonZeroU16::new(2),
                    NonZeroU16::new(20),
                ],
            ),
            maximum_packet_size: pick(c, 0, &[None, None, Some(40), Some(200)]),
            topic_alias_maximum: pick(c, 2, &[None, Some(0), Some(1), Some(5)]),
            request_response_information: pick(c, 4, &[None, Some(true)]),
            request_problem_information: pick(c, 5, &[None, Some(false)]),
            authentication_method: pick(c, 6, &[None, None, None, Some("m")]),
            authentication_data: None,
            user_properties: user_properties(b & 0x80 != 0),
        },
    };
    encoded(&connect.into(), version)
}

/// A last client's CONNECT, clean and plain.
pub fn plain_connect(client_id: &str) -> Vec<u8> {
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    };
    encoded(&connect.into(), Version::V5)
}

/// PUBLISH.
pub fn publish(program: &mut Program<'_>, version: Version) -> Vec<u8> {
    let [a, b] = [program.byte(), program.byte()];
    let qos = pick(a, 4, &QOS);
    let payload = pick(
        b,
        4,
        &[
            &b"x"[..],
            b"",
            b"0123456789",
            b"\xff",
            &[b'y'; 150],
            &[b'y'; 150],
            &[b'z'; 900],
            &[b'z'; 9_000],
        ],
    );
    let has_properties = version == Version::V5 && b & 0x80 != 0;
    let properties = if has_properties {
        publish_properties(program)
    } else {
        PublishProperties::default()
    };
    let topic = match pick(a, 0, &TOPICS) {
        // Only an alias can stand for it.
        "" if properties.topic_alias.is_none() => "a",
        topic => topic,
    };
    let publish = Publish {
        dup: a & 0x40 != 0 && b & 3 == 0 && qos > QoS::AtMostOnce,
        qos,
        retain: a & 0x80 != 0,
        topic,
        packet_id: (qos > QoS::AtMostOnce).then(|| packet_id(b & 15)),
        properties,
        payload,
    };
    encoded(&publish.into(), version)
}

/// Many messages to one topic, with identifiers that rise. Three bytes.
pub fn burst(program: &mut Program<'_>, version: Version) -> Vec<u8> {
    let [a, count, size] = [program.byte(), program.byte(), program.byte()];
    let qos = pick(a, 4, &QOS);
    let mut all = Vec::new();
    let payload = [b'b'; 256];
    for number in 1..=u16::from(count) * 4 {
        let publish = Publish {
            dup: false,
            qos,
            retain: a & 0x80 != 0,
            topic: match pick(a, 0, &TOPICS) {
                "" => "a",
                topic => topic,
            },
            packet_id: (qos > QoS::AtMostOnce).then(|| PacketId::new(number).expect("not 0")),
            properties: PublishProperties::default(),
            payload: &payload[..usize::from(size)],
        };
        Packet::from(publish).encode(version, &mut all);
    }
    all
}

/// SUBSCRIBE with one to four filters.
pub fn subscribe(program: &mut Program<'_>, version: Version) -> Vec<u8> {
    let a = program.byte();
    let filters: Vec<SubscribeFilter<'_>> = (0..=a & 3)
        .map(|_| {
            let [b, c] = [program.byte(), program.byte()];
            SubscribeFilter {
                filter: pick(b, 0, &FILTERS),
                options: SubscriptionOptions::from_bits(c & 0x3F)
                    .filter(|_| version == Version::V5)
                    .unwrap_or(SubscriptionOptions {
                        qos: pick(c, 0, &QOS),
                        ..Default::default()
                    }),
            }
        })
        .collect();
    let properties = SubscribeProperties {
        subscription_id: pick(a, 6, &[None, Some(1), Some(2), Some(268_435_455)]),
        user_properties: UserProperties::None,
    };
    let mut bytes = Vec::new();
    Subscribe::encode(
        &mut bytes,
        version,
        packet_id(a >> 2),
        &properties,
        &filters,
    );
    bytes
}

/// SUBSCRIBE to one filter at QoS 1.
pub fn plain_subscribe(filter: &str) -> Vec<u8> {
    let options = SubscriptionOptions {
        qos: QoS::AtLeastOnce,
        ..Default::default()
    };
    let mut bytes = Vec::new();
    Subscribe::encode(
        &mut bytes,
        Version::V5,
        packet_id(0),
        &SubscribeProperties::default(),
        &[SubscribeFilter { filter, options }],
    );
    bytes
}

/// PUBLISH at QoS 1.
pub fn plain_publish(topic: &str) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        packet_id: Some(packet_id(1)),
        properties: PublishProperties::default(),
        payload: b"last",
    };
    encoded(&publish.into(), Version::V5)
}

/// UNSUBSCRIBE with one or two filters.
pub fn unsubscribe(program: &mut Program<'_>, version: Version) -> Vec<u8> {
    let a = program.byte();
    let filters: Vec<&str> = (0..=a & 1)
        .map(|_| pick(program.byte(), 0, &FILTERS))
        .collect();
    let mut bytes = Vec::new();
    Unsubscribe::encode(
        &mut bytes,
        version,
        packet_id(a >> 1),
        &UserProperties::None,
        &filters,
    );
    bytes
}

/// An acknowledgement of whatever comes to mind.
pub fn stray_ack(program: &mut Program<'_>, version: Version) -> Vec<u8> {
    let a = program.byte();
    let kinds = [
        AckKind::Puback,
        AckKind::Pubrec,
        AckKind::Pubrel,
        AckKind::Pubcomp,
    ];
    ack(
        version,
        pick(a, 0, &kinds),
        packet_id(a >> 4),
        pick(a, 2, &REASONS),
    )
}

/// An acknowledgement. A reason that the kind does not have is left out.
pub fn ack(version: Version, kind: AckKind, packet_id: PacketId, reason: ReasonCode) -> Vec<u8> {
    let has_reason = matches!(kind, AckKind::Puback | AckKind::Pubrec);
    let ack = Ack {
        kind,
        packet_id,
        reason: if has_reason {
            reason
        } else {
            ReasonCode::Success
        },
        properties: AckProperties::default(),
    };
    encoded(&ack.into(), version)
}

/// A packet of one of the other kinds, those of servers included.
pub fn other(program: &mut Program<'_>, version: Version) -> Vec<u8> {
    let a = program.byte();
    let disconnect = |reason, session_expiry_s| {
        Packet::from(Disconnect {
            reason,
            properties: DisconnectProperties {
                session_expiry_s,
                ..Default::default()
            },
        })
    };
    let packet = match a % 16 {
        0..=5 => Packet::Pingreq,
        6 => Packet::Pingresp,
        7 => disconnect(ReasonCode::Success, None),
        8 => disconnect(ReasonCode::DisconnectWithWill, None),
        9..=11 => disconnect(
            pick(a, 4, &[ReasonCode::Success, ReasonCode::DisconnectWithWill]),
            pick(a, 5, &[Some(0), Some(5), Some(u32::MAX), None]),
        ),
        12 => Auth {
            reason: ReasonCode::Reauthenticate,
            properties: AuthProperties {
                authentication_method: Some("m"),
                ..Default::default()
            },
        }
        .into(),
        13 => Connack {
            session_present: false,
            reason: ReasonCode::Success,
            properties: ConnackProperties::default(),
        }
        .into(),
        14 => Suback {
            packet_id: packet_id(a >> 4),
            properties: AckProperties::default(),
            reasons: ReturnCodes::List(&[ReasonCode::Success]),
        }
        .into(),
        _ => return connect(program, version),
    };
    encoded(&packet, version)
}

fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}
