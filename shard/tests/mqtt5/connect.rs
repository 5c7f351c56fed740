//! Section 3.1: CONNECT, its flags, payload and properties.

use super::support::{bytes, prop, *};
use super::*;

#[test]
fn mqtt5_3_1_0_1_first_packet_must_be_connect() {
    for first in [
        PublishPacket::new("t", "x").build(V5),
        bytes::subscribe(V5, 1, &[("t", 0)], &[]),
        bytes::auth(0x18, &prop::authentication_method("m")),
        bytes::PINGREQ.to_vec(),
        bytes::DISCONNECT.to_vec(),
        packet(0x20, &[0, 0, 0]),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let w = World::new(2);
        let other = w.connected(V5, "other");
        other.subscribe("#", 0);
        let a = w.client(V5, "a");
        a.open();
        a.send_raw(&first);
        a.expect_closed();
        other.expect_alive();
    }
}

#[test]
fn mqtt5_3_1_0_2_second_connect_is_a_protocol_error() {
    breach(&connect().build(), ReasonCode::ProtocolError);
}

#[test]
fn mqtt5_3_1_2_1_other_protocol_name_is_closed() {
    for name in ["MQTX", "mqtt", "", "AMQP"] {
        let w = World::new(1);
        let a = w.client(V5, "a");
        a.open();
        a.send_raw(
            &ConnectPacket {
                protocol_name: name.into(),
                ..connect()
            }
            .build(),
        );
        for got in a.drain() {
            let Got::Connack(connack) = got else {
                panic!("{got:?}")
            };
            assert_eq!(connack.reason, ReasonCode::UnsupportedProtocolVersion);
        }
        assert!(a.is_closed());
    }
}

#[test]
fn mqtt5_3_1_2_2_unknown_version_is_told_0x84() {
    for level in [6, 7, 127] {
        let connect = ConnectPacket { level, ..connect() };
        refuse(&connect.build(), ReasonCode::UnsupportedProtocolVersion);
    }
}

#[test]
fn mqtt5_3_1_2_3_reserved_connect_flag_is_malformed() {
    refuse(
        &connect().flip_flags(0x01).build(),
        ReasonCode::MalformedPacket,
    );
}

#[test]
fn mqtt5_3_1_2_9_will_fields_are_read_in_their_places() {
    let w = World::new(2);
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("will/#", 0x08 | 2);
    let a = w.client(V5, "a");
    let will = WillPacket::new("will/a", "gone").qos(2).retain();
    a.connect_with(|connect| connect.will(will.property(prop::content_type("text"))));
    a.cut();
    let message = watcher.receive();
    assert_eq!((message.topic.as_str(), message.text()), ("will/a", "gone"));
    assert_eq!((message.qos, message.retain), (2, true));
    assert_eq!(message.content_type.as_deref(), Some("text"));
}

#[test]
fn mqtt5_3_1_2_9_missing_will_fields_are_malformed() {
    let whole = connect().will(WillPacket::new("will", "x")).body();
    let without = connect().body().len();
    for length in without..whole.len() {
        let mut cut = whole.clone();
        cut.truncate(length);
        refuse(&packet(0x10, &cut), ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt5_3_1_2_11_will_qos_without_will_is_refused() {
    for bits in [0x08, 0x10, 0x18] {
        let connect = connect().flip_flags(bits).build();
        refuse_in(&World::new(2), &connect, &MALFORMED_OR_PROTOCOL_ERROR);
    }
}

#[test]
fn mqtt5_3_1_2_12_will_qos_3_is_malformed() {
    let connect = connect().will(WillPacket::new("will", "x").qos(3));
    refuse(&connect.build(), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_1_2_12_will_qos_0_1_and_2_are_served() {
    for qos in 0..3 {
        let w = World::new(2);
        let watcher = w.connected(V5, "watcher");
        watcher.subscribe("will", 2);
        let a = w.client(V5, "a");
        a.connect_with(|connect| connect.will(WillPacket::new("will", "x").qos(qos)));
        a.cut();
        assert_eq!(watcher.receive().qos, qos);
    }
}

#[test]
fn mqtt5_3_1_2_13_will_retain_without_will_is_refused() {
    let connect = connect().flip_flags(0x20).build();
    refuse_in(&World::new(2), &connect, &MALFORMED_OR_PROTOCOL_ERROR);
}

#[test]
fn mqtt5_3_1_2_16_user_name_without_its_flag_is_malformed() {
    let connect = connect().user_name("me").flip_flags(0x80);
    refuse(&connect.build(), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_1_2_17_missing_user_name_is_malformed() {
    refuse(
        &connect().flip_flags(0x80).build(),
        ReasonCode::MalformedPacket,
    );
    let a = World::new(1).client(V5, "a");
    a.connect_with(|connect| connect.user_name("me"));
    a.expect_alive();
}

#[test]
fn mqtt5_3_1_2_18_password_without_its_flag_is_malformed() {
    let connect = connect()
        .user_name("me")
        .password(b"secret")
        .flip_flags(0x40);
    refuse(&connect.build(), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_1_2_19_missing_password_is_malformed() {
    refuse(
        &connect().flip_flags(0x40).build(),
        ReasonCode::MalformedPacket,
    );
    // Unlike 3.1.1, version 5 allows a password without a user name.
    let a = World::new(1).client(V5, "a");
    a.connect_with(|connect| connect.password(b"secret"));
    a.expect_alive();
}

#[test]
fn mqtt5_3_1_2_20_pingreq_keeps_a_quiet_client_connected() {
    let w = World::new(1);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.keep_alive(10));
    for _ in 0..10 {
        w.advance(14);
        a.expect_alive();
    }
}

#[test]
fn mqtt5_3_1_2_21_server_keep_alive_is_told_and_enforced() {
    let w = World::with_limits(2, |limits| limits.keep_alive_max_s = Some(10));
    let a = w.client(V5, "a");
    let connack = a.connect_with(|connect| connect.keep_alive(60));
    assert_eq!(connack.server_keep_alive_s, Some(10));
    w.advance_ms(14_900);
    a.expect_nothing();
    w.advance_ms(1_200);
    a.expect_disconnect(ReasonCode::KeepAliveTimeout);
}

#[test]
fn mqtt5_3_1_2_22_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    let w = World::new(2);
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("will", 0);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.keep_alive(10).will(WillPacket::new("will", "gone")));
    w.advance_ms(14_900);
    a.expect_nothing();
    w.advance_ms(1_200);
    a.expect_disconnect(ReasonCode::KeepAliveTimeout);
    assert_eq!(watcher.receive().text(), "gone");
}

#[test]
fn mqtt5_3_1_2_24_no_packet_exceeds_the_maximum_packet_size() {
    let w = World::new(2);
    let small = w.client(V5, "small");
    small.connect_with(|connect| connect.maximum_packet_size(100));
    small.subscribe("t", 2);
    let large = w.connected(V5, "large");
    large.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    for payload_bytes in [10, 89, 90, 91, 95, 96, 97, 200, 5_000] {
        publisher.publish("t", &"x".repeat(payload_bytes), 0);
        assert_eq!(large.receive().payload.len(), payload_bytes);
    }
    let sizes: Vec<usize> = small
        .drain_messages()
        .iter()
        .map(|message| message.raw.len())
        .collect();
    // Fixed header 2, topic 3, property length 1: 94 bytes of payload fit.
    assert_eq!(sizes, [16, 95, 96, 97]);
    small.expect_alive();
}

#[test]
fn mqtt5_3_1_2_25_message_too_large_for_a_client_counts_as_delivered() {
    let w = World::new(2);
    let small = w.client(V5, "small");
    small.connect_with(|connect| {
        connect
            .maximum_packet_size(100)
            .session_expiry(100)
            .receive_maximum(1)
    });
    small.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    for qos in [1, 2] {
        // More than the Receive Maximum: none of them holds a place in the in-flight window.
        for _ in 0..3 {
            assert_eq!(
                publisher.publish("t", &"x".repeat(500), qos),
                ReasonCode::Success
            );
        }
        publisher.publish("t", "fits", qos);
        assert_eq!(small.receive().text(), "fits");
    }
    small.expect_alive();
    // Nothing is left for the next connection.
    small.cut();
    publisher.publish("t", &"x".repeat(500), 1);
    small.connect_with(|connect| connect.clean_start(false).maximum_packet_size(100));
    small.expect_nothing();
}

#[test]
fn mqtt5_3_1_2_28_response_information_is_returned_only_when_asked_for() {
    let w = World::new(1);
    let a = w.client(V5, "a");
    assert_eq!(a.connect().response_information, None);
    a.cut();
    let with =
        |value| move |c: ConnectPacket| c.property(prop::request_response_information(value));
    assert_eq!(a.connect_with(with(0)).response_information, None);
    a.cut();
    assert!(a.connect_with(with(1)).response_information.is_some());
}

#[test]
fn mqtt5_3_1_2_29_no_problem_information_where_it_is_declined() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.property(prop::request_problem_information(0)));
    let suback = a.subscribe_all(&[("a/#/b", 0), ("t", 1), ("$share//t", 0)], &[]);
    assert_eq!(suback.reasons, [0x8F, 1, 0x8F]);
    assert_eq!(
        (suback.reason_string, suback.user_properties),
        (None, vec![])
    );
    for qos in [1, 2] {
        a.publish_with(PublishPacket::new("$SYS/x", "x").qos(qos));
        let ack = a.ack();
        assert_eq!(ack.reason, ReasonCode::NotAuthorized);
        assert_eq!((ack.reason_string, ack.user_properties), (None, vec![]));
    }
    a.send_raw(&bytes::ack(6, 999, 0));
    let pubcomp = a.ack();
    assert_eq!(pubcomp.reason, ReasonCode::PacketIdentifierNotFound);
    assert_eq!(
        (pubcomp.reason_string, pubcomp.user_properties),
        (None, vec![])
    );
    // PUBLISH is exempt: its user properties belong to the message.
    a.publish_all(PublishPacket::new("t", "x").property(prop::user_property("n", "v")));
    assert_eq!(a.receive().user_properties, [("n".into(), "v".into())]);
}

#[test]
fn mqtt5_3_1_2_30_nothing_sent_after_a_refused_method_is_acted_on() {
    let w = World::new(2);
    let other = w.connected(V5, "other");
    other.subscribe("t", 0);
    let a = w.client(V5, "a");
    a.open();
    let connect = a
        .connect_packet()
        .property(prop::authentication_method("SCRAM-SHA-1"));
    a.send_raw(&[connect.build(), PublishPacket::new("t", "x").build(V5)].concat());
    assert_eq!(a.connack().reason, ReasonCode::BadAuthenticationMethod);
    a.expect_closed();
    other.expect_nothing();
}

#[test]
fn mqtt5_3_1_3_1_payload_fields_are_read_in_their_order() {
    let w = World::new(2);
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("#", 0);
    let a = w.client(V5, "client");
    let will = WillPacket::new("topic", "payload").property(prop::user_property("n", "v"));
    a.connect_with(|connect| connect.will(will).user_name("name").password(b"password"));
    a.cut();
    let message = watcher.receive();
    assert_eq!(
        (message.topic.as_str(), message.text()),
        ("topic", "payload")
    );
    assert_eq!(message.user_properties, [("n".into(), "v".into())]);
}

#[test]
fn mqtt5_3_1_3_2_state_belongs_to_the_client_identifier() {
    let w = World::new(3);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(100));
    a.subscribe("t", 1);
    a.cut();
    // Another connection, accepted by another shard, with the same identifier and with another.
    let again = w.client(V5, "a");
    assert!(
        again
            .connect_with(|connect| connect.clean_start(false))
            .session_present
    );
    let other = w.client(V5, "A");
    assert!(
        !other
            .connect_with(|connect| connect.clean_start(false))
            .session_present
    );
    w.connected(V5, "publisher").publish("t", "x", 1);
    assert_eq!(again.receive().text(), "x");
    other.expect_nothing();
}

#[test]
fn mqtt5_3_1_3_3_missing_client_identifier_is_malformed() {
    let mut body = connect().body();
    body.truncate(body.len() - 3);
    refuse(&packet(0x10, &body), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_1_3_4_client_identifier_that_is_not_utf8_is_malformed() {
    let connect = ConnectPacket {
        client_id: vec![b'a', 0xFF],
        ..connect()
    };
    refuse(&connect.build(), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_1_3_5_letters_and_digits_are_good_identifiers() {
    let w = World::new(2);
    let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for start in 0..alphabet.len() {
        let id: String = alphabet
            .chars()
            .cycle()
            .skip(start)
            .take(1 + start % 23)
            .collect();
        let connack = w.client(V5, &id).connect();
        assert_eq!(connack.assigned_client_id, None, "{id}");
    }
}

#[test]
fn mqtt5_3_1_3_6_empty_identifier_is_replaced_by_a_unique_one() {
    let w = World::new(2);
    let clients: Vec<Client> = (0..20).map(|_| w.client(V5, "")).collect();
    let mut ids: Vec<String> = clients
        .iter()
        .map(|client| {
            client
                .connect()
                .assigned_client_id
                .expect("an identifier is assigned")
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    clients.iter().for_each(Client::expect_alive);
}

#[test]
fn mqtt5_3_1_3_7_assigned_identifier_is_used_as_if_sent() {
    let w = World::new(2);
    let a = w.client(V5, "");
    let connack = a.connect_with(|connect| connect.session_expiry(100));
    a.subscribe("t", 1);
    a.cut();
    let again = w.client(
        V5,
        &connack
            .assigned_client_id
            .expect("an identifier is assigned"),
    );
    let connack = again.connect_with(|connect| connect.clean_start(false));
    assert!(connack.session_present);
    assert_eq!(connack.assigned_client_id, None);
    w.connected(V5, "publisher").publish("t", "x", 1);
    assert_eq!(again.receive().text(), "x");
}

#[test]
fn mqtt5_3_1_3_10_user_properties_of_the_will_keep_their_order() {
    let w = World::new(2);
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("will", 0);
    let pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("", ""), ("a", "2")];
    let will = pairs
        .iter()
        .fold(WillPacket::new("will", "x"), |will, (name, value)| {
            will.property(prop::user_property(name, value))
        });
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.will(will));
    a.cut();
    let expected: Vec<(String, String)> = pairs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    assert_eq!(watcher.receive().user_properties, expected);
}

#[test]
fn mqtt5_3_1_3_11_will_topic_that_is_not_utf8_is_malformed() {
    let will = WillPacket {
        topic: vec![b't', 0xFF],
        ..WillPacket::new("", "x")
    };
    refuse(&connect().will(will).build(), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_1_3_12_user_name_that_is_not_utf8_is_malformed() {
    let connect = ConnectPacket {
        user_name: Some(vec![b'u', 0xFF]),
        ..connect()
    };
    refuse(&connect.build(), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_1_4_1_connect_with_a_malformed_part_is_refused() {
    let whole = connect()
        .user_name("u")
        .will(WillPacket::new("will", "x"))
        .body();
    // Cut anywhere after the protocol level, or with a byte too many.
    for length in 8..whole.len() {
        refuse(&packet(0x10, &whole[..length]), ReasonCode::MalformedPacket);
    }
    refuse(
        &packet(0x10, &[&whole[..], &[0]].concat()),
        ReasonCode::MalformedPacket,
    );
    // Properties that are unknown or belong elsewhere.
    for property in [
        vec![0x7F, 0],
        prop::topic_alias(1),
        prop::assigned_client_id("x"),
    ] {
        refuse(
            &connect().property(property).build(),
            ReasonCode::MalformedPacket,
        );
    }
    let will = WillPacket::new("will", "x").property(prop::subscription_id(1));
    refuse(&connect().will(will).build(), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_1_4_1_connect_with_a_protocol_error_is_refused() {
    for property in [
        prop::receive_maximum(0),
        prop::maximum_packet_size(0),
        prop::request_problem_information(2),
        prop::request_response_information(2),
        prop::authentication_data(b"x"),
        [prop::session_expiry(1), prop::session_expiry(1)].concat(),
        [prop::topic_alias_maximum(1), prop::topic_alias_maximum(1)].concat(),
    ] {
        refuse(
            &connect().property(property).build(),
            ReasonCode::ProtocolError,
        );
    }
}

#[test]
fn mqtt5_3_1_4_2_client_that_may_not_connect_is_refused() {
    let w = World::with(2, |config| config.anonymous = shard::Anonymous::Deny);
    refuse_in(&w, &connect().build(), &[ReasonCode::NotAuthorized]);
}

#[test]
fn mqtt5_3_1_4_5_good_connect_is_answered_success() {
    for shards in [1, 2, 3] {
        let a = World::new(shards).client(V5, "a");
        a.open();
        a.send_split(&a.connect_packet().build());
        let connack = a.connack();
        assert_eq!(
            (connack.reason, connack.session_present),
            (ReasonCode::Success, false)
        );
        a.expect_alive();
    }
}

#[test]
fn mqtt5_3_1_4_6_nothing_after_a_refused_connect_is_acted_on() {
    let w = World::new(2);
    let other = w.connected(V5, "other");
    other.subscribe("#", 0);
    let a = w.client(V5, "a");
    a.open();
    let refused = a.connect_packet().flip_flags(1).build();
    let rest = [
        a.connect_packet().build(),
        PublishPacket::new("t", "x").build(V5),
    ]
    .concat();
    a.send_raw(&[refused, rest].concat());
    assert_eq!(a.connack().reason, ReasonCode::MalformedPacket);
    a.expect_closed();
    other.expect_nothing();
}
