//! MQTT 3.1.1, sections 3.1 and 3.2: CONNECT and CONNACK. Wills and keep-alive have their own file.

use super::support::bytes;
use super::*;

/// Sends a CONNECT that is answered with this return code and closed.
#[track_caller]
fn check_return_code(w: &World, connect: &ConnectPacket, code: u8) {
    let client = w.client(V311, "wrong");
    client.open();
    client.send_raw(&connect.build());
    assert!(client.is_closed(), "not closed after {connect:?}");
    assert_eq!(client.take_raw(), [0x20, 2, 0, code], "{connect:?}");
}

#[test]
fn mqtt311_3_1_0_1_another_first_packet_closes_the_connection() {
    World::each(|w| {
        for first in [
            PublishPacket::new("t", "x").build(V311),
            PublishPacket::new("t", "x").qos(1).id(1).build(V311),
            bytes::subscribe(V311, 1, &[("t", 0)], &[]),
            bytes::unsubscribe(V311, 1, &["t"], &[]),
            bytes::ack(4, 1, 0),
            bytes::ack(6, 1, 0),
            bytes::PINGREQ.into(),
            bytes::DISCONNECT.into(),
            packet(0x20, &[0, 0]),
        ] {
            check_no_connack(w, &first);
        }
    });
}

#[test]
fn mqtt311_3_1_0_2_a_second_connect_closes_the_connection() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        client.send_raw(&client.connect_packet().build());
        client.expect_closed();
        let client = w.connected(V311, "c");
        client.send_raw(&connect("other").build());
        client.expect_closed();
    });
}

#[test]
fn mqtt311_3_1_2_1_another_protocol_name_is_not_served() {
    World::each(|w| {
        for name in ["mqtt", "MQTTX", "MQT", "", "HTTP", "MQISDP"] {
            let client = w.client(V311, "c");
            client.open();
            let packet = ConnectPacket {
                protocol_name: name.into(),
                ..client.connect_packet()
            };
            client.send_raw(&packet.build());
            assert!(client.is_closed(), "{name}");
            // A word of refusal is allowed, an acceptance is not.
            let answer = client.take_raw();
            assert!(
                answer.is_empty() || answer == [0x20, 2, 0, 1],
                "{name}: {answer:02x?}"
            );
        }
    });
}

#[test]
fn mqtt311_3_1_2_2_unacceptable_protocol_level_gets_return_code_1() {
    World::each(|w| {
        for level in [0, 1, 2, 3] {
            check_return_code(
                w,
                &ConnectPacket {
                    level,
                    ..connect("c")
                },
                1,
            );
        }
    });
}

#[test]
fn mqtt311_3_1_2_3_the_reserved_connect_flag_closes_the_connection() {
    World::each(|w| check_no_connack(w, &connect("c").flip_flags(0x01).build()));
}

#[test]
fn mqtt311_3_1_2_4_a_session_is_resumed_or_created() {
    World::each(|w| {
        let client = w.client(V311, "c");
        assert!(
            !client
                .connect_with(|c| c.clean_start(false))
                .session_present
        );
        client.subscribe("t", 1);
        client.disconnect();
        w.advance(3_600);
        assert!(
            client
                .connect_with(|c| c.clean_start(false))
                .session_present
        );
        w.connected(V311, "publisher").publish("t", "x", 1);
        assert_eq!(client.receive().text(), "x");
        client.cut();
        assert!(
            client
                .connect_with(|c| c.clean_start(false))
                .session_present
        );
    });
}

#[test]
fn mqtt311_3_1_2_5_messages_are_kept_for_an_absent_client() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.connect_with(|c| c.clean_start(false));
        client.subscribe("t", 2);
        client.cut();
        let publisher = w.connected(V311, "publisher");
        for number in 1..=6 {
            publisher.publish("t", &number.to_string(), 1 + number % 2);
        }
        client.connect_with(|c| c.clean_start(false));
        let got: Vec<Message> = (0..6).map(|_| client.message()).collect();
        let texts: Vec<&str> = got.iter().map(Message::text).collect();
        assert_eq!(texts, ["1", "2", "3", "4", "5", "6"]);
        assert!(got.iter().all(|message| !message.dup && !message.retain));
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_1_2_6_a_clean_session_forgets_the_one_before() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.connect_with(|c| c.clean_start(false));
        client.subscribe("t", 1);
        client.cut();
        let publisher = w.connected(V311, "publisher");
        publisher.publish("t", "while away", 1);
        assert!(!client.connect().session_present);
        publisher.publish("t", "back", 1);
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_1_2_6_a_clean_session_ends_with_its_connection() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        client.subscribe("t", 1);
        client.cut();
        let publisher = w.connected(V311, "publisher");
        publisher.publish("t", "x", 1);
        assert!(
            !client
                .connect_with(|c| c.clean_start(false))
                .session_present
        );
        publisher.publish("t", "x", 1);
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_1_2_7_retained_messages_outlive_the_session() {
    World::each(|w| {
        let publisher = w.connected(V311, "publisher");
        publisher.publish_retained("t", "x", 1);
        publisher.disconnect();
        publisher.connect();
        let client = w.connected(V311, "c");
        client.subscribe("t", 1);
        assert_eq!(client.receive().text(), "x");
    });
}

#[test]
fn mqtt311_3_1_2_18_a_user_name_without_its_flag_closes_the_connection() {
    World::each(|w| {
        check_no_connack(w, &connect("c").user_name("user").flip_flags(0x80).build());
    });
}

#[test]
fn mqtt311_3_1_2_19_a_flag_without_user_name_closes_the_connection() {
    World::each(|w| check_no_connack(w, &connect("c").flip_flags(0x80).build()));
}

#[test]
fn mqtt311_3_1_2_20_a_password_without_its_flag_closes_the_connection() {
    World::each(|w| {
        let packet = connect("c")
            .user_name("user")
            .password(b"secret")
            .flip_flags(0x40);
        check_no_connack(w, &packet.build());
    });
}

#[test]
fn mqtt311_3_1_2_21_a_flag_without_password_closes_the_connection() {
    World::each(|w| {
        check_no_connack(w, &connect("c").user_name("user").flip_flags(0x40).build());
    });
}

#[test]
fn mqtt311_3_1_2_22_a_password_needs_a_user_name() {
    World::each(|w| check_no_connack(w, &connect("c").password(b"secret").build()));
}

#[test]
fn mqtt311_3_1_3_1_the_payload_is_read_in_its_order() {
    World::each(|w| {
        let watcher = w.connected(V311, "watcher");
        watcher.subscribe("#", 0);
        let client = w.client(V311, "c");
        let will = WillPacket::new("will/topic", "will payload");
        client.connect_with(|c| c.will(will).user_name("user").password(b"pass"));
        client.cut();
        let message = watcher.message();
        assert_eq!(
            (&message.topic[..], message.text()),
            ("will/topic", "will payload")
        );
    });
}

#[test]
fn mqtt311_3_1_3_2_the_client_identifier_names_the_session() {
    World::each(|w| {
        for id in ["a", "b"] {
            let client = w.client(V311, id);
            client.connect_with(|c| c.clean_start(false));
            client.subscribe(&format!("for/{id}"), 1);
            client.disconnect();
        }
        let publisher = w.connected(V311, "publisher");
        publisher.publish("for/a", "1", 1);
        publisher.publish("for/b", "2", 1);
        for (id, expected) in [("b", "2"), ("a", "1")] {
            let client = w.client(V311, id);
            client.connect_with(|c| c.clean_start(false));
            assert_eq!(client.receive().text(), expected);
            client.expect_nothing();
        }
        assert!(
            !w.client(V311, "A")
                .connect_with(|c| c.clean_start(false))
                .session_present
        );
    });
}

#[test]
fn mqtt311_3_1_3_3_a_connect_without_client_identifier_closes_the_connection() {
    World::each(|w| {
        let body = connect("").body();
        check_no_connack(w, &packet(0x10, &body[..body.len() - 2]));
        check_no_connack(w, &packet(0x10, &body[..body.len() - 1]));
    });
}

#[test]
fn mqtt311_3_1_3_4_the_client_identifier_is_utf8() {
    World::each(|w| {
        check_no_connack(
            w,
            &ConnectPacket {
                client_id: b"\xff".into(),
                ..connect("")
            }
            .build(),
        );
        w.connected(V311, "zażółć 日本 [x] {y}");
    });
}

#[test]
fn mqtt311_3_1_3_5_the_listed_client_identifiers_are_allowed() {
    World::each(|w| {
        let listed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for start in 0..listed.len() {
            w.connected(V311, &listed[start..listed.len().min(start + 23)]);
        }
    });
}

#[test]
fn mqtt311_3_1_3_6_an_empty_client_identifier_is_replaced_by_a_unique_one() {
    World::each(|w| {
        let clients: Vec<Client> = (0..8).map(|_| w.connected(V311, "")).collect();
        for client in &clients {
            client.subscribe("t", 0);
        }
        w.connected(V311, "publisher").publish("t", "x", 0);
        for client in &clients {
            assert_eq!(client.message().text(), "x");
            client.expect_alive();
        }
    });
}

#[test]
fn mqtt311_3_1_3_8_an_empty_client_identifier_needs_a_clean_session() {
    World::each(|w| check_return_code(w, &connect("").clean_start(false), 2));
}

#[test]
fn mqtt311_3_1_3_11_the_user_name_is_utf8() {
    World::each(|w| {
        let packet = ConnectPacket {
            user_name: Some(b"\xff".into()),
            ..connect("c")
        };
        check_no_connack(w, &packet.build());
    });
}

#[test]
fn mqtt311_3_1_4_1_a_malformed_connect_closes_without_connack() {
    World::each(|w| {
        let body = connect("c").body();
        for length in 6..body.len() {
            check_no_connack(w, &packet(0x10, &body[..length]));
        }
        check_no_connack(w, &packet(0x10, &[&body[..], b"x"].concat()));
        // The announced length ends within the client identifier.
        let mut longer = body.clone();
        longer[11] = 2;
        check_no_connack(w, &packet(0x10, &longer));
    });
}

#[test]
fn mqtt311_3_1_4_2_a_second_client_of_the_same_name_takes_over() {
    World::each(|w| {
        let (first, second) = (w.connected(V311, "c"), w.client(V311, "c"));
        second.connect();
        first.expect_closed();
        second.expect_alive();
    });
}

#[test]
fn mqtt311_3_1_4_2_a_session_moves_with_a_takeover() {
    World::each(|w| {
        let first = w.client(V311, "c");
        first.connect_with(|c| c.clean_start(false));
        first.subscribe("t", 1);
        let publisher = w.connected(V311, "publisher");
        publisher.publish("t", "1", 1);
        let unacknowledged = first.message();
        let second = w.client(V311, "c");
        assert!(
            second
                .connect_with(|c| c.clean_start(false))
                .session_present
        );
        first.expect_closed();
        publisher.publish("t", "2", 1);
        let resent = second.receive();
        assert_eq!((resent.dup, resent.id()), (true, unacknowledged.id()));
        assert_eq!(second.receive().text(), "2");
    });
}

#[test]
fn mqtt311_3_1_4_4_connack_has_return_code_zero() {
    World::each(|w| assert_eq!(w.client(V311, "c").connect().raw, [0x20, 2, 0, 0]));
}

#[test]
fn mqtt311_3_1_4_5_nothing_after_a_refused_connect_is_processed() {
    World::each(|w| {
        let watcher = w.connected(V311, "watcher");
        watcher.subscribe("#", 0);
        let after = PublishPacket::new("t", "x").retain().build(V311);
        let refused = connect("").clean_start(false).build();
        let client = w.client(V311, "wrong");
        client.open();
        client.send_raw(&[refused, after.clone()].concat());
        assert_eq!(client.take_raw(), [0x20, 2, 0, 2]);
        client.send_raw(&after);
        watcher.expect_nothing();
    });
}

#[test]
fn mqtt311_3_2_0_1_connack_comes_first() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.connect_with(|c| c.clean_start(false));
        client.subscribe("t", 1);
        client.cut();
        w.connected(V311, "publisher").publish("t", "x", 1);
        // What was sent behind CONNECT, without waiting, is answered after CONNACK too.
        client.open();
        let connect = client.connect_packet().clean_start(false).build();
        let subscribe = bytes::subscribe(V311, 9, &[("u", 0)], &[]);
        client.send_raw(&[&connect[..], &subscribe, &bytes::PINGREQ].concat());
        assert!(matches!(client.next(), Got::Connack(_)));
        assert_eq!(client.message().text(), "x");
        assert_eq!(client.suback().packet_id, 9);
        assert_eq!(client.next(), Got::Pingresp);
    });
}

#[test]
fn mqtt311_3_2_2_1_a_clean_session_is_never_present() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.connect_with(|c| c.clean_start(false));
        client.disconnect();
        assert_eq!(client.connect().raw, [0x20, 2, 0, 0]);
    });
}

#[test]
fn mqtt311_3_2_2_2_a_stored_session_is_reported() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.connect_with(|c| c.clean_start(false));
        client.disconnect();
        assert_eq!(
            client.connect_with(|c| c.clean_start(false)).raw,
            [0x20, 2, 1, 0]
        );
    });
}

#[test]
fn mqtt311_3_2_2_3_a_missing_session_is_reported() {
    World::each(|w| {
        let client = w.client(V311, "c");
        assert_eq!(
            client.connect_with(|c| c.clean_start(false)).raw,
            [0x20, 2, 0, 0]
        );
    });
}

#[test]
fn mqtt311_3_2_2_4_a_refusal_reports_no_session_and_closes() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.connect_with(|c| c.clean_start(false));
        client.disconnect();
        let other_level = ConnectPacket {
            level: 2,
            ..connect("c")
        };
        check_return_code(w, &other_level.clean_start(false), 1);
    });
}

#[test]
fn mqtt311_3_2_2_5_clients_who_may_not_connect_are_refused_and_closed() {
    let w = World::with(2, |config| config.anonymous = shard::Anonymous::Deny);
    check_return_code(&w, &connect("c"), 5);
}
