//! MQTT 3.1.1, chapters 4 and 7: sessions, the delivery protocols, order, topics, errors.

use super::support::bytes;
use super::*;

/// A client with a lasting session, and a publisher.
fn lasting(w: &World) -> (Client, Client) {
    let client = w.client(V311, "c");
    client.connect_with(|c| c.clean_start(false));
    (client, w.connected(V311, "publisher"))
}

/// The client loses its connection and takes its session up again.
fn reconnect(client: &Client) {
    client.cut();
    assert!(
        client
            .connect_with(|c| c.clean_start(false))
            .session_present
    );
}

#[test]
fn mqtt311_4_1_0_1_the_session_is_kept_for_its_whole_life() {
    World::each(|w| {
        let (client, publisher) = lasting(w);
        client.subscribe("t", 2);
        // A QoS 2 message of the client that the server has and that is not released.
        client.publish_with(PublishPacket::new("from/c", "x").qos(2).id(40));
        client.expect_ack(AckKind::Pubrec, 40, ReasonCode::Success);
        // One towards the client that it has not acknowledged, one not yet sent.
        publisher.publish("t", "1", 2);
        let first = client.message();
        client.cut();
        publisher.publish("t", "2", 1);
        w.advance(365 * 86_400);

        assert!(
            client
                .connect_with(|c| c.clean_start(false))
                .session_present
        );
        let again = client.receive();
        assert_eq!((again.id(), again.text()), (first.id(), "1"));
        assert_eq!(client.receive().text(), "2");
        client.pubrel(40);
        client.expect_ack(AckKind::Pubcomp, 40, ReasonCode::Success);
    });
}

#[test]
fn mqtt311_4_1_0_2_a_session_lasts_as_long_as_its_connection() {
    World::each(|w| {
        let (client, publisher) = (w.connected(V311, "clean"), w.connected(V311, "publisher"));
        client.subscribe("t", 1);
        w.advance(365 * 86_400);
        publisher.publish("t", "x", 1);
        assert_eq!(client.receive().text(), "x");
    });
}

#[test]
fn mqtt311_4_3_1_1_qos_0_is_sent_once_without_dup() {
    World::each(|w| {
        let (client, publisher) = lasting(w);
        client.subscribe("t", 0);
        publisher.publish("t", "x", 2);
        assert_eq!(client.message().raw, [0x30, 4, 0, 1, b't', b'x']);
        reconnect(&client);
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_4_3_2_1_qos_1_is_unacknowledged_until_puback() {
    World::each(|w| {
        let (client, publisher) = lasting(w);
        client.subscribe("t", 1);
        publisher.publish("t", "x", 1);
        let message = client.message();
        assert_eq!((message.qos, message.dup), (1, false));
        reconnect(&client);
        assert_eq!(client.message().id(), message.id());
        client.puback(message.id());
        reconnect(&client);
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_4_3_2_2_an_acknowledged_identifier_may_be_used_again() {
    World::each(|w| {
        let (client, publisher) = lasting(w);
        client.subscribe("t", 1);
        for (text, dup) in [("1", false), ("2", false), ("3", true)] {
            let publish = PublishPacket {
                dup,
                ..PublishPacket::new("t", text)
            };
            publisher.publish_with(publish.qos(1).id(77));
            publisher.expect_ack(AckKind::Puback, 77, ReasonCode::Success);
            assert_eq!(client.receive().text(), text);
        }
    });
}

#[test]
fn mqtt311_4_3_3_1_qos_2_towards_a_client() {
    World::each(|w| {
        let (client, publisher) = lasting(w);
        client.subscribe("t", 2);
        publisher.publish("t", "x", 2);
        let message = client.message();
        let id = message.id();
        assert_eq!((message.qos, message.dup), (2, false));
        // Unacknowledged until PUBREC ...
        reconnect(&client);
        assert_eq!((client.message().id(), client.try_next()), (id, None));
        client.pubrec(id);
        client.expect_ack(AckKind::Pubrel, id, ReasonCode::Success);
        // ... then PUBREL is, and PUBLISH is never sent again ...
        for _ in 0..2 {
            reconnect(&client);
            client.expect_ack(AckKind::Pubrel, id, ReasonCode::Success);
            client.expect_nothing();
        }
        // ... until PUBCOMP.
        client.pubcomp(id);
        reconnect(&client);
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_4_3_3_2_qos_2_from_a_client() {
    World::each(|w| {
        let (client, publisher) = lasting(w);
        client.subscribe("t", 0);
        let publish = PublishPacket::new("t", "1").qos(2).id(77);
        publisher.publish_with(publish.clone());
        publisher.expect_ack(AckKind::Pubrec, 77, ReasonCode::Success);
        // Every repetition is acknowledged, and none is delivered.
        for _ in 0..3 {
            publisher.publish_with(publish.clone().dup());
            publisher.expect_ack(AckKind::Pubrec, 77, ReasonCode::Success);
        }
        publisher.pubrel(77);
        publisher.expect_ack(AckKind::Pubcomp, 77, ReasonCode::Success);
        assert_eq!(client.message().text(), "1");
        client.expect_nothing();
        // A repeated PUBREL is answered.
        publisher.pubrel(77);
        publisher.expect_ack(AckKind::Pubcomp, 77, ReasonCode::Success);
        // From then on the identifier stands for a new message.
        publisher.publish_all(PublishPacket::new("t", "2").qos(2).id(77).dup());
        assert_eq!(client.message().text(), "2");
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_4_3_3_2_repetitions_are_known_after_a_reconnect() {
    World::each(|w| {
        let listener = w.connected(V311, "listener");
        listener.subscribe("t", 2);
        let (client, _) = lasting(w);
        let publish = PublishPacket::new("t", "x").qos(2).id(9);
        client.publish_with(publish.clone());
        client.expect_ack(AckKind::Pubrec, 9, ReasonCode::Success);
        reconnect(&client);
        client.publish_with(publish.dup());
        client.expect_ack(AckKind::Pubrec, 9, ReasonCode::Success);
        client.pubrel(9);
        client.expect_ack(AckKind::Pubcomp, 9, ReasonCode::Success);
        assert_eq!(listener.receive().text(), "x");
        listener.expect_nothing();
    });
}

#[test]
fn mqtt311_4_4_0_1_a_reconnect_resends_what_is_unacknowledged() {
    World::each(|w| {
        let (client, publisher) = lasting(w);
        client.subscribe("t", 2);
        for (text, qos) in [("released", 2), ("1", 1), ("acknowledged", 1), ("2", 2)] {
            publisher.publish("t", text, qos);
        }
        let sent = client.drain_messages();
        client.pubrec(sent[0].id());
        client.expect_ack(AckKind::Pubrel, sent[0].id(), ReasonCode::Success);
        client.puback(sent[2].id());
        reconnect(&client);
        client.expect_ack(AckKind::Pubrel, sent[0].id(), ReasonCode::Success);
        let again = client.drain_messages();
        assert_eq!(texts(&again), ["1", "2"]);
        assert_eq!((again[0].id(), again[1].id()), (sent[1].id(), sent[3].id()));
        assert!(again.iter().all(|message| message.dup));
    });
}

#[test]
fn mqtt311_4_4_0_1_nothing_is_resent_without_a_reconnect() {
    World::each(|w| {
        let (client, publisher) = lasting(w);
        client.subscribe("t", 2);
        publisher.publish("t", "1", 1);
        publisher.publish("t", "2", 2);
        assert_eq!(client.drain_messages().len(), 2);
        w.advance(3_600);
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_4_5_0_1_a_message_joins_every_matching_session() {
    World::each(|w| {
        let clients: Vec<Client> = (0..12)
            .map(|number| {
                let client = w.client(V311, &format!("client {number}"));
                client.connect_with(|c| c.clean_start(false));
                client.subscribe(["t/1", "t/+", "t/#", "#"][number % 4], 1);
                client
            })
            .collect();
        clients.iter().skip(6).for_each(Client::cut);
        w.connected(V311, "publisher").publish("t/1", "x", 1);
        for client in clients.iter().skip(6) {
            client.connect_with(|c| c.clean_start(false));
        }
        for client in &clients {
            assert_eq!(client.receive().text(), "x");
            client.expect_nothing();
        }
    });
}

#[test]
fn mqtt311_4_6_0_1_messages_are_resent_in_their_order() {
    World::each(|w| {
        let (client, publisher) = lasting(w);
        client.subscribe("#", 2);
        for number in 0..100 {
            publisher.publish(
                &format!("t/{}", number % 7),
                &number.to_string(),
                1 + number % 2,
            );
        }
        let sent = client.drain_messages();
        // Some in the middle are acknowledged.
        for message in sent
            .iter()
            .filter(|message| message.qos == 1)
            .skip(3)
            .step_by(4)
        {
            client.puback(message.id());
        }
        let left: Vec<(u16, &str)> = sent
            .iter()
            .filter(|message| {
                let of_qos_1 = sent.iter().filter(|other| other.qos == 1);
                !of_qos_1
                    .skip(3)
                    .step_by(4)
                    .any(|other| other.id() == message.id())
            })
            .map(|message| (message.id(), message.text()))
            .collect();
        reconnect(&client);
        let again = client.drain_messages();
        let again: Vec<(u16, &str)> = again
            .iter()
            .map(|message| (message.id(), message.text()))
            .collect();
        assert_eq!(again, left);
    });
}

#[test]
fn mqtt311_4_6_0_4_pubrel_follows_the_order_of_pubrec() {
    World::each(|w| {
        let (client, publisher) = lasting(w);
        client.subscribe("t", 2);
        for number in 0..10 {
            publisher.publish("t", &number.to_string(), 2);
        }
        let mut ids: Vec<u16> = client.drain_messages().iter().map(Message::id).collect();
        ids.rotate_left(3);
        client.send_raw(
            &ids.iter()
                .flat_map(|id| bytes::ack(5, *id, 0))
                .collect::<Vec<u8>>(),
        );
        for id in &ids {
            client.expect_ack(AckKind::Pubrel, *id, ReasonCode::Success);
        }
    });
}

#[test]
fn mqtt311_4_6_0_6_each_topic_keeps_its_order() {
    World::each(|w| {
        for qos in 0..3 {
            let subscribers: Vec<Client> = (0..5)
                .map(|number| w.connected(V311, &format!("s{number}")))
                .collect();
            for subscriber in &subscribers {
                subscriber.subscribe("t/#", 2);
            }
            let publisher = w.connected(V311, "publisher");
            let all: Vec<u8> = (0..120_u16)
                .flat_map(|number| {
                    let topic = format!("t/{}", number % 3);
                    let publish = PublishPacket::new(&topic, number.to_string()).qos(qos);
                    let publish = if qos > 0 {
                        publish.id(number + 1)
                    } else {
                        publish
                    };
                    publish.build(V311)
                })
                .collect();
            publisher.send_raw(&all);
            for subscriber in &subscribers {
                let messages = subscriber.drain_messages();
                assert_eq!(messages.len(), 120);
                for topic in ["t/0", "t/1", "t/2"] {
                    let numbers: Vec<u32> = messages
                        .iter()
                        .filter(|message| message.topic == topic)
                        .map(|message| message.text().parse().expect("a number"))
                        .collect();
                    assert!(numbers.is_sorted(), "QoS {qos}, {topic}: {numbers:?}");
                }
            }
        }
    });
}

#[test]
fn mqtt311_4_7_1_1_wildcards_are_for_filters_only() {
    World::each(|w| {
        for topic in ["#", "t/+", "t#"] {
            let client = w.connected(V311, "wrong");
            client.send_raw(&PublishPacket::new(topic, "x").build(V311));
            client.expect_closed();
        }
    });
}

/// Which of the topics does a subscription to the filter receive?
#[track_caller]
fn check_matches(w: &World, filter: &str, matching: &[&str], others: &[&str]) {
    let client = w.connected(V311, "matching");
    assert_eq!(client.subscribe(filter, 0), 0, "{filter}");
    let publisher = w.connected(V311, "publisher");
    for topic in matching.iter().chain(others) {
        publisher.publish(topic, "x", 0);
    }
    let messages = client.drain_messages();
    let topics: Vec<&str> = messages.iter().map(|message| &message.topic[..]).collect();
    assert_eq!(topics, matching, "{filter}");
    client.disconnect();
    publisher.disconnect();
}

#[track_caller]
fn check_refused(w: &World, filters: &[&str]) {
    let client = w.connected(V311, "refused");
    for filter in filters {
        assert_eq!(client.subscribe(filter, 0), 0x80, "{filter:?}");
    }
    client.disconnect();
}

#[test]
fn mqtt311_4_7_1_2_the_multi_level_wildcard() {
    World::each(|w| {
        let below = ["s/t/p", "s/t/p/ranking", "s/t/p/score/w", "s/t/p/"];
        check_matches(w, "s/t/p/#", &below, &["s/t", "s/t/pp", "s/t/q", "S/t/p"]);
        check_matches(w, "#", &["a", "/", "/a", "a/b/c", "//"], &[]);
        check_matches(w, "a/#", &["a", "a/", "a/b/c"], &["aa", "/a", "b/a"]);
        check_refused(w, &["a#", "a/#/b", "#/a", "##", "a/b#", "#a"]);
    });
}

#[test]
fn mqtt311_4_7_1_3_the_single_level_wildcard() {
    World::each(|w| {
        check_matches(
            w,
            "s/t/+",
            &["s/t/a", "s/t/b", "s/t/"],
            &["s/t", "s/t/a/r", "s/u/a"],
        );
        check_matches(w, "s/+", &["s/", "s/a"], &["s", "s/a/b"]);
        check_matches(w, "+", &["a", "abc"], &["/a", "a/", "a/b"]);
        check_matches(w, "+/+", &["/a", "a/b", "a/"], &["a", "a/b/c"]);
        check_matches(w, "/+", &["/a", "/"], &["a", "a/b"]);
        check_matches(w, "+/t/#", &["s/t", "s/t/p", "/t"], &["t", "s/s/t"]);
        check_matches(w, "s/+/p", &["s/t/p", "s//p"], &["s/p", "s/t/u/p"]);
        check_refused(w, &["s+", "a/+b", "a/b+/c", "++", "+#"]);
    });
}

#[test]
fn mqtt311_4_7_2_1_leading_wildcards_skip_dollar_topics() {
    World::each(|w| {
        check_matches(w, "#", &[], &["$own/t", "$own", "$"]);
        check_matches(w, "+/t", &["a/t"], &["$own/t"]);
        check_matches(w, "+", &["own$"], &["$own"]);
        check_matches(w, "$own/#", &["$own/t", "$own"], &["own/t", "$other/t"]);
        check_matches(w, "$own/+", &["$own/t"], &["$own"]);
        // Retained messages are hidden in the same way.
        let publisher = w.connected(V311, "publisher");
        publisher.publish_retained("$own/t", "x", 0);
        let client = w.connected(V311, "c");
        client.subscribe("#", 0);
        client.subscribe("+/t", 0);
        client.expect_nothing();
        client.subscribe("$own/+", 0);
        assert_eq!(client.message().topic, "$own/t");
    });
}

#[test]
fn mqtt311_4_7_3_1_topics_and_filters_are_not_empty() {
    World::each(|w| {
        let client = w.connected(V311, "wrong");
        client.send_raw(&PublishPacket::new("", "x").build(V311));
        client.expect_closed();
        check_refused(w, &[""]);
        check_matches(w, "/", &["/"], &["//", "a"]);
        check_matches(w, " ", &[" "], &["  "]);
    });
}

#[test]
fn mqtt311_4_7_3_3_topics_may_be_as_long_as_strings() {
    World::each(|w| {
        let topic = "t".repeat(65_535);
        let client = w.connected(V311, "c");
        client.subscribe(&topic, 0);
        w.connected(V311, "publisher").publish(&topic, "x", 0);
        assert_eq!(client.message().topic, topic);
    });
}

#[test]
fn mqtt311_4_7_3_4_topics_are_compared_as_they_are() {
    World::each(|w| {
        check_matches(w, "ACCOUNTS", &["ACCOUNTS"], &["Accounts", "accounts"]);
        check_matches(
            w,
            "a/b",
            &["a/b"],
            &["a//b", "/a/b", "a/b/", "a/./b", " a/b"],
        );
        // One letter, in one code point and in two.
        check_matches(w, "caf\u{e9}", &["caf\u{e9}"], &["cafe\u{301}"]);
        check_matches(w, "\u{212b}", &["\u{212b}"], &["\u{c5}"]);
    });
}

#[test]
fn mqtt311_4_8_0_1_a_violation_closes_only_its_own_connection() {
    World::each(|w| {
        let (client, publisher) = lasting(w);
        client.subscribe("t", 1);
        let violations = [
            packet(0x00, &[]),
            bytes::subscribe(V311, 1, &[], &[]),
            PublishPacket::new("t/#", "x").build(V311),
            client.connect_packet().build(),
        ];
        for violation in violations {
            let wrong = w.connected(V311, "wrong");
            wrong.subscribe("t", 1);
            wrong.send_raw(
                &[
                    &violation[..],
                    &PublishPacket::new("t", "after").build(V311),
                ]
                .concat(),
            );
            wrong.expect_closed();
            publisher.publish("t", "x", 1);
            assert_eq!(client.receive().text(), "x");
            client.expect_nothing();
        }
    });
}

#[test]
fn mqtt311_4_8_0_2_a_packet_above_the_limit_closes_the_connection() {
    let w = World::with_limits(2, |limits| limits.packet_bytes_max = 1_000);
    let client = w.connected(V311, "c");
    client.subscribe("t", 0);
    let wrong = w.connected(V311, "wrong");
    wrong.send_raw(&PublishPacket::new("t", [b'x'; 1_000 - 6]).build(V311));
    assert_eq!(client.message().raw.len(), 1_000);
    // The fixed header is enough to know.
    wrong.send_raw(&PublishPacket::new("t", [b'x'; 1_001 - 6]).build(V311)[..3]);
    wrong.expect_closed();
    client.expect_nothing();
}

#[test]
fn mqtt311_7_1_1_1_the_stream_may_be_cut_anywhere() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.open();
        client.send_split(&client.connect_packet().build());
        assert!(matches!(client.next(), Got::Connack(_)));
        client.send_split(&bytes::subscribe(V311, 1, &[("t/+", 2)], &[]));
        assert_eq!(client.suback().reasons, [2]);
        for qos in 0..3 {
            let publish = PublishPacket::new("t/1", "x".repeat(200)).qos(qos);
            let publish = if qos > 0 { publish.id(5) } else { publish };
            client.send_split(&publish.build(V311));
            client.send_split(&bytes::PINGREQ);
        }
        let got = client.drain();
        let messages = got
            .iter()
            .filter(|got| matches!(got, Got::Publish(_)))
            .count();
        let pongs = got
            .iter()
            .filter(|got| matches!(got, Got::Pingresp))
            .count();
        assert_eq!((messages, pongs), (3, 3));
    });
}
