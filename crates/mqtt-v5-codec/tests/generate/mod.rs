//! Random packets that are valid in a given version.
//!
//! What they borrow is leaked: a few hundred bytes per case, for a test process that soon ends.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use mqtt_v5_codec::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::num::NonZeroU16;

pub const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Encodes `packet` and takes the fixed header apart.
pub fn encoded(packet: &Packet<'_>, version: Version) -> (u8, Vec<u8>) {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    let header = FixedHeader::parse(&out).unwrap().unwrap();
    assert_eq!(header.packet_bytes(), out.len(), "{packet:?}");
    (header.first, out.split_off(header.header_bytes))
}

/// Any packet that `version` has, in either direction.
pub fn packet(version: Version) -> BoxedStrategy<Packet<'static>> {
    let acks = prop_oneof![
        ack(version, AckKind::Puback),
        ack(version, AckKind::Pubrec),
        ack(version, AckKind::Pubrel),
        ack(version, AckKind::Pubcomp),
    ];
    let common = prop_oneof![
        connect(version).prop_map(Packet::from),
        connack(version).prop_map(Packet::from),
        publish(version).prop_map(Packet::from),
        acks.prop_map(Packet::from),
        subscribe(version),
        suback(version).prop_map(Packet::from),
        unsubscribe(version),
        unsuback(version).prop_map(Packet::from),
        Just(Packet::Pingreq),
        Just(Packet::Pingresp),
        disconnect(version).prop_map(Packet::from),
    ];
    match version {
        Version::V5 => prop_oneof![11 => common, 1 => auth().prop_map(Packet::from)].boxed(),
        _ => common.boxed(),
    }
}

pub fn text() -> impl Strategy<Value = &'static str> {
    let short = "[a-z0-9+#/üß€𝄞 $]{0,12}";
    prop_oneof![20 => short, 1 => "[a-z/ü]{100,300}"].prop_map(|text| &*text.leak())
}

pub fn topic() -> impl Strategy<Value = &'static str> {
    prop_oneof![20 => "[a-z0-9/üß€𝄞 $]{1,20}", 1 => "[a-z/ü]{100,300}"]
        .prop_map(|topic| &*topic.leak())
}

pub fn bytes() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![20 => vec(any::<u8>(), 0..30), 1 => vec(any::<u8>(), 100..300)]
        .prop_map(|bytes| &*bytes.leak())
}

pub fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|number| PacketId::new(number).unwrap())
}

pub fn qos() -> impl Strategy<Value = QoS> {
    (0..3u8).prop_map(|bits| QoS::from_bits(bits).unwrap())
}

fn nonzero() -> impl Strategy<Value = NonZeroU16> {
    (1..=u16::MAX).prop_map(|number| NonZeroU16::new(number).unwrap())
}

fn subscription_id() -> impl Strategy<Value = u32> {
    prop_oneof![1..=127u32, 128..=16_383u32, 1..=268_435_455u32]
}

fn reason(codes: &'static [u8]) -> impl Strategy<Value = ReasonCode> {
    proptest::sample::select(codes).prop_map(|code| ReasonCode::from_byte(code).unwrap())
}

fn reasons(codes: &'static [u8]) -> impl Strategy<Value = ReturnCodes<'static>> {
    vec(reason(codes), 1..5).prop_map(|list| ReturnCodes::List(list.leak()))
}

pub fn user_properties() -> impl Strategy<Value = UserProperties<'static>> {
    vec((text(), text()), 0..3).prop_map(|pairs| UserProperties::Pairs(pairs.leak()))
}

/// `strategy` for v5, the default for 3.x.
fn in_v5<T: Default + Clone + std::fmt::Debug + 'static>(
    version: Version,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    match version {
        Version::V5 => prop_oneof![Just(T::default()), strategy].boxed(),
        _ => Just(T::default()).boxed(),
    }
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties<'static>> {
    let numbers = (
        of(any::<u32>()),
        of(nonzero()),
        of(1..=u32::MAX),
        of(any::<u16>()),
    );
    let booleans = (of(any::<bool>()), of(any::<bool>()));
    let method = of((text(), of(bytes())));
    (numbers, booleans, method, user_properties()).prop_map(
        |(numbers, booleans, method, user_properties)| ConnectProperties {
            session_expiry_s: numbers.0,
            receive_maximum: numbers.1,
            maximum_packet_size: numbers.2,
            topic_alias_maximum: numbers.3,
            request_response_information: booleans.0,
            request_problem_information: booleans.1,
            authentication_method: method.map(|method| method.0),
            authentication_data: method.and_then(|method| method.1),
            user_properties,
        },
    )
}

/// Without topic alias and subscription identifiers, as a will has them.
pub fn message_properties() -> impl Strategy<Value = PublishProperties<'static>> {
    let parts = (
        of(0..2u8),
        of(any::<u32>()),
        of(topic()),
        of(bytes()),
        of(text()),
    );
    (parts, user_properties()).prop_map(|(parts, user_properties)| {
        let mut properties = PublishProperties::default();
        properties.payload_format = parts.0;
        properties.message_expiry_s = parts.1;
        properties.response_topic = parts.2;
        properties.correlation_data = parts.3;
        properties.content_type = parts.4;
        properties.user_properties = user_properties;
        properties
    })
}

pub fn connect(version: Version) -> impl Strategy<Value = Connect<'static>> {
    let delay_s = in_v5(version, any::<u32>());
    let properties = in_v5(version, message_properties());
    let will = (qos(), any::<bool>(), topic(), bytes(), delay_s, properties).prop_map(
        |(qos, retain, topic, payload, delay_s, properties)| Will {
            qos,
            retain,
            topic,
            payload,
            delay_s,
            properties,
        },
    );
    let properties = in_v5(version, connect_properties());
    let login = (of(text()), of(bytes()));
    (
        any::<bool>(),
        any::<u16>(),
        text(),
        of(will),
        login,
        properties,
    )
        .prop_map(
            move |(
                clean_start,
                keep_alive_s,
                client_id,
                will,
                (user_name, password),
                properties,
            )| {
                let password = password.filter(|_| user_name.is_some() || version == Version::V5);
                Connect {
                    version,
                    clean_start,
                    keep_alive_s,
                    client_id,
                    will,
                    user_name,
                    password,
                    properties,
                }
            },
        )
}

fn connack_properties() -> impl Strategy<Value = ConnackProperties<'static>> {
    let limits = (
        of(any::<u32>()),
        of(nonzero()),
        of(0..2u8),
        of(1..=u32::MAX),
        of(any::<u16>()),
    );
    let booleans = (
        of(any::<bool>()),
        of(any::<bool>()),
        of(any::<bool>()),
        of(any::<bool>()),
    );
    let texts = (of(text()), of(text()), of(text()), of(text()));
    let method = of((text(), of(bytes())));
    (
        limits,
        booleans,
        texts,
        of(any::<u16>()),
        method,
        user_properties(),
    )
        .prop_map(
            |(limits, booleans, texts, server_keep_alive_s, method, user_properties)| {
                ConnackProperties {
                    session_expiry_s: limits.0,
                    receive_maximum: limits.1,
                    maximum_qos: limits.2.and_then(QoS::from_bits),
                    retain_available: booleans.0,
                    maximum_packet_size: limits.3,
                    assigned_client_id: texts.0,
                    topic_alias_maximum: limits.4,
                    reason_string: texts.1,
                    wildcard_subscription_available: booleans.1,
                    subscription_identifiers_available: booleans.2,
                    shared_subscription_available: booleans.3,
                    server_keep_alive_s,
                    response_information: texts.2,
                    server_reference: texts.3,
                    authentication_method: method.map(|method| method.0),
                    authentication_data: method.and_then(|method| method.1),
                    user_properties,
                }
            },
        )
}

fn connack(version: Version) -> impl Strategy<Value = Connack<'static>> {
    let codes: &[u8] = match version {
        Version::V5 => b"\0\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8A\x8C\x90\x95\x97\x99\x9F",
        _ => b"\0\x84\x85\x86\x87\x88",
    };
    let properties = in_v5(version, connack_properties());
    (any::<bool>(), reason(codes), properties).prop_map(move |(present, reason, properties)| {
        let session_present = present && !reason.is_error() && version > Version::V31;
        Connack {
            session_present,
            reason,
            properties,
        }
    })
}

/// With everything that a PUBLISH can have, so that it is encoded and decoded once.
pub fn publish(version: Version) -> impl Strategy<Value = Publish<'static>> {
    let flags = (any::<bool>(), qos(), any::<bool>());
    let ids = in_v5(version, vec(subscription_id(), 0..3));
    let alias = in_v5(version, of(any::<u16>()));
    let properties = in_v5(version, message_properties());
    (flags, topic(), packet_id(), alias, ids, properties, bytes()).prop_map(
        move |((dup, qos, retain), topic, id, topic_alias, ids, properties, payload)| {
            let mut forwarded = Vec::new();
            properties.encode_forwarded(&mut forwarded);
            assert_eq!(properties.forwards_nothing(), forwarded.is_empty());
            let packet_id = (qos != QoS::AtMostOnce).then_some(id);
            let dup = dup && qos != QoS::AtMostOnce;
            let outgoing = Outgoing {
                version,
                dup,
                qos,
                retain,
                topic,
                packet_id,
                topic_alias,
                message_expiry_s: properties.message_expiry_s,
                subscription_ids: &ids,
                forwarded: &forwarded,
                payload,
            };
            let mut out = Vec::new();
            let layout = encode_publish(&mut out, &outgoing);
            assert_eq!(layout.bytes, out.len());
            let publish = decoded_publish(version, out.leak());
            // What came out is what went in.
            let mut expected = properties;
            expected.topic_alias = topic_alias;
            expected.subscription_id_count = publish.properties.subscription_id_count;
            assert_eq!(
                publish.properties.subscription_ids().collect::<Vec<_>>(),
                ids
            );
            if ids.is_empty() {
                assert_eq!(publish.properties, expected);
            }
            assert_eq!(
                (publish.dup, publish.qos, publish.retain),
                (dup, qos, retain)
            );
            assert_eq!((publish.topic, publish.packet_id), (topic, packet_id));
            assert_eq!(publish.payload, payload);
            publish
        },
    )
}

fn decoded_publish(version: Version, bytes: &'static [u8]) -> Publish<'static> {
    let header = FixedHeader::parse(bytes).unwrap().unwrap();
    assert_eq!(header.packet_bytes(), bytes.len());
    Publish::decode(version, header.first, &bytes[header.header_bytes..]).unwrap()
}

fn ack_properties() -> impl Strategy<Value = AckProperties<'static>> {
    (of(text()), user_properties()).prop_map(|(reason_string, user_properties)| AckProperties {
        reason_string,
        user_properties,
    })
}

fn ack(version: Version, kind: AckKind) -> impl Strategy<Value = Ack<'static>> {
    let codes: &[u8] = match (version, kind) {
        (Version::V5, AckKind::Puback | AckKind::Pubrec) => b"\0\x10\x80\x83\x87\x90\x91\x97\x99",
        (Version::V5, _) => b"\0\x92",
        _ => b"\0",
    };
    (packet_id(), reason(codes), in_v5(version, ack_properties())).prop_map(
        move |(packet_id, reason, properties)| Ack {
            kind,
            packet_id,
            reason,
            properties,
        },
    )
}

pub fn filters() -> impl Strategy<Value = Vec<SubscribeFilter<'static>>> {
    let options = (0..3u8, 0..16u8, 0..3u8);
    let filter = (text(), options).prop_map(|(filter, (qos, flags, retain))| {
        let options = SubscriptionOptions::from_bits(qos | flags & 12 | retain << 4).unwrap();
        SubscribeFilter { filter, options }
    });
    vec(filter, 1..5)
}

fn subscribe(version: Version) -> impl Strategy<Value = Packet<'static>> {
    let properties =
        (of(subscription_id()), user_properties()).prop_map(|(id, user_properties)| {
            SubscribeProperties {
                subscription_id: id,
                user_properties,
            }
        });
    (packet_id(), in_v5(version, properties), filters()).prop_map(
        move |(packet_id, properties, mut filters)| {
            let mut out = Vec::new();
            Subscribe::encode(&mut out, version, packet_id, &properties, &filters);
            let packet = decoded(version, out.leak());
            let Packet::Subscribe(subscribe) = &packet else {
                panic!("{packet:?}")
            };
            if version < Version::V5 {
                for filter in &mut filters {
                    let qos = filter.options.qos;
                    filter.options = SubscriptionOptions {
                        qos,
                        ..Default::default()
                    };
                }
            }
            assert_eq!(subscribe.packet_id, packet_id);
            assert_eq!(subscribe.properties, properties);
            assert_eq!(subscribe.filters().collect::<Vec<_>>(), filters);
            packet
        },
    )
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Packet<'static>> {
    (
        packet_id(),
        in_v5(version, user_properties()),
        vec(text(), 1..5),
    )
        .prop_map(move |(packet_id, user_properties, filters)| {
            let mut out = Vec::new();
            Unsubscribe::encode(&mut out, version, packet_id, &user_properties, &filters);
            let packet = decoded(version, out.leak());
            let Packet::Unsubscribe(unsubscribe) = &packet else {
                panic!("{packet:?}")
            };
            assert_eq!(unsubscribe.packet_id, packet_id);
            assert_eq!(unsubscribe.user_properties, user_properties);
            assert_eq!(unsubscribe.filters().collect::<Vec<_>>(), filters);
            packet
        })
}

fn decoded(version: Version, bytes: &'static [u8]) -> Packet<'static> {
    let header = FixedHeader::parse(bytes).unwrap().unwrap();
    assert_eq!(header.packet_bytes(), bytes.len());
    decode(version, header.first, &bytes[header.header_bytes..]).unwrap()
}

fn suback(version: Version) -> impl Strategy<Value = Suback<'static>> {
    let codes: &[u8] = match version {
        Version::V5 => b"\0\x01\x02\x80\x83\x87\x8F\x91\x97\x9E\xA1\xA2",
        _ => b"\0\x01\x02\x80",
    };
    (
        packet_id(),
        in_v5(version, ack_properties()),
        reasons(codes),
    )
        .prop_map(|(packet_id, properties, reasons)| Suback {
            packet_id,
            properties,
            reasons,
        })
}

fn unsuback(version: Version) -> impl Strategy<Value = Unsuback<'static>> {
    let reasons = match version {
        Version::V5 => reasons(b"\0\x11\x80\x83\x87\x8F\x91").boxed(),
        _ => Just(ReturnCodes::List(&[])).boxed(),
    };
    (packet_id(), in_v5(version, ack_properties()), reasons).prop_map(
        |(packet_id, properties, reasons)| Unsuback {
            packet_id,
            properties,
            reasons,
        },
    )
}

fn disconnect(version: Version) -> impl Strategy<Value = Disconnect<'static>> {
    let codes: &[u8] = match version {
        Version::V5 => b"\0\x04\x80\x81\x82\x83\x87\x89\x8B\x8D\x8E\x8F\x90\x93\x94\x95\x98\xA2",
        _ => b"\0",
    };
    let properties = (of(any::<u32>()), of(text()), of(text()), user_properties()).prop_map(
        |(session_expiry_s, reason_string, server_reference, user_properties)| {
            DisconnectProperties {
                session_expiry_s,
                reason_string,
                server_reference,
                user_properties,
            }
        },
    );
    (reason(codes), in_v5(version, properties))
        .prop_map(|(reason, properties)| Disconnect { reason, properties })
}

fn auth() -> impl Strategy<Value = Auth<'static>> {
    (
        reason(b"\0\x18\x19"),
        text(),
        of(bytes()),
        of(text()),
        user_properties(),
    )
        .prop_map(
            |(reason, method, authentication_data, reason_string, user_properties)| Auth {
                reason,
                properties: AuthProperties {
                    authentication_method: Some(method),
                    authentication_data,
                    reason_string,
                    user_properties,
                },
            },
        )
}
