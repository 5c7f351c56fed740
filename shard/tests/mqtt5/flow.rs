//! Chapter 4 up to 4.6, and 4.9: quality of service, redelivery, order, flow control.

use super::support::{bytes, prop, *};

/// A publisher, and a subscriber to `t` at QoS 2 whose session lasts.
fn pair(w: &World) -> (Client, Client) {
    let subscriber = w.client(V5, "subscriber");
    subscriber.connect_with(|connect| connect.session_expiry(1_000));
    subscriber.subscribe("t", 2);
    (w.connected(V5, "publisher"), subscriber)
}

/// Cuts the connection and resumes the session.
fn reconnect(client: &Client) {
    client.cut();
    assert!(
        client
            .connect_with(|c| c.clean_start(false).session_expiry(1_000))
            .session_present
    );
}

#[test]
fn mqtt5_4_2_0_1_the_stream_may_be_cut_anywhere() {
    let w = World::new(2);
    let subscriber = w.connected(V5, "subscriber");
    subscriber.subscribe("t", 2);
    let a = w.client(V5, "a");
    let packets = [
        a.connect_packet().build(),
        bytes::subscribe(V5, 9, &[("u", 1)], &[]),
        PublishPacket::new("t", "x".repeat(300))
            .qos(1)
            .id(7)
            .build(V5),
        bytes::PINGREQ.to_vec(),
    ];
    let stream = packets.concat();
    for piece in [1, 2, 3, 7, 50, stream.len()] {
        a.open();
        stream.chunks(piece).for_each(|chunk| a.send_raw(chunk));
        assert_eq!(a.connack().reason, ReasonCode::Success);
        assert_eq!(a.suback().packet_id, 9);
        a.expect_ack(AckKind::Puback, 7, ReasonCode::Success);
        assert_eq!(a.drain(), [Got::Pingresp]);
        assert_eq!(subscriber.receive().payload.len(), 300);
        a.disconnect();
    }
}

#[test]
fn mqtt5_4_3_1_1_qos_0_is_sent_with_qos_0_and_dup_0() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    publisher.publish("t", "x", 0);
    let message = subscriber.receive();
    assert_eq!(
        (message.qos, message.dup, message.packet_id),
        (0, false, None)
    );
    // Once: neither a new connection nor time repeats it.
    reconnect(&subscriber);
    w.advance(100);
    subscriber.expect_nothing();
}

/// New messages of this QoS while others of either are unacknowledged; checks the identifiers.
fn new_messages_have_unused_identifiers(qos: u8) {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    let mut used = Vec::new();
    for round in 0..20 {
        publisher.publish("t", "x", 1 + round % 2);
        publisher.publish("t", "x", qos);
        for message in subscriber.drain_messages() {
            assert!(message.id() > 0);
            assert!(!used.contains(&message.id()), "{} is in use", message.id());
            // Every third is acknowledged; the identifier may then come again.
            if message.qos == 1 && message.id() % 3 == 0 {
                subscriber.puback(message.id());
            } else {
                used.push(message.id());
            }
        }
    }
}

#[test]
fn mqtt5_4_3_2_1_new_qos_1_message_has_an_unused_identifier() {
    new_messages_have_unused_identifiers(1);
}

#[test]
fn mqtt5_4_3_2_2_new_qos_1_message_is_sent_with_qos_1_and_dup_0() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    publisher.publish("t", "x", 1);
    let message = subscriber.message();
    assert_eq!((message.qos, message.dup), (1, false));
}

#[test]
fn mqtt5_4_3_2_3_qos_1_message_is_unacknowledged_until_puback() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    publisher.publish("t", "x", 1);
    let id = subscriber.message().id();
    for _ in 0..3 {
        reconnect(&subscriber);
        let again = subscriber.message();
        assert_eq!((again.id(), again.dup, again.text()), (id, true, "x"));
    }
    subscriber.puback(id);
    reconnect(&subscriber);
    subscriber.expect_nothing();
}

#[test]
fn mqtt5_4_3_2_4_puback_says_that_the_message_is_owned() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    subscriber.cut();
    publisher.publish_with(PublishPacket::new("t", "x").qos(1).id(99));
    publisher.expect_ack(AckKind::Puback, 99, ReasonCode::Success);
    publisher.cut();
    subscriber.connect_with(|connect| connect.clean_start(false));
    assert_eq!(subscriber.receive().text(), "x");
}

#[test]
fn mqtt5_4_3_2_5_same_identifier_after_puback_is_a_new_message() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    for dup in [false, true, true] {
        let publish = PublishPacket {
            dup,
            ..PublishPacket::new("t", "x").qos(1).id(5)
        };
        publisher.publish_with(publish);
        publisher.expect_ack(AckKind::Puback, 5, ReasonCode::Success);
        assert_eq!(subscriber.receive().text(), "x");
    }
}

#[test]
fn mqtt5_4_3_3_1_new_qos_2_message_has_an_unused_identifier() {
    new_messages_have_unused_identifiers(2);
}

#[test]
fn mqtt5_4_3_3_2_new_qos_2_message_is_sent_with_qos_2_and_dup_0() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    publisher.publish("t", "x", 2);
    let message = subscriber.message();
    assert_eq!((message.qos, message.dup), (2, false));
}

#[test]
fn mqtt5_4_3_3_3_qos_2_message_is_unacknowledged_until_pubrec() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    publisher.publish("t", "x", 2);
    let id = subscriber.message().id();
    for _ in 0..3 {
        reconnect(&subscriber);
        let again = subscriber.message();
        assert_eq!((again.id(), again.dup, again.qos), (id, true, 2));
    }
}

#[test]
fn mqtt5_4_3_3_4_pubrec_is_answered_by_pubrel() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    for reason in [0x00, 0x10] {
        publisher.publish("t", "x", 2);
        let id = subscriber.message().id();
        subscriber.send_raw(&bytes::ack(5, id, reason));
        subscriber.expect_ack(AckKind::Pubrel, id, ReasonCode::Success);
        subscriber.pubcomp(id);
    }
    // PUBREC of failure ends the exchange: no PUBREL.
    publisher.publish("t", "x", 2);
    subscriber.send_raw(&bytes::ack(5, subscriber.message().id(), 0x83));
    subscriber.expect_nothing();
}

#[test]
fn mqtt5_4_3_3_5_pubrel_is_unacknowledged_until_pubcomp() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    publisher.publish("t", "x", 2);
    let id = subscriber.message().id();
    subscriber.pubrec(id);
    subscriber.expect_ack(AckKind::Pubrel, id, ReasonCode::Success);
    for _ in 0..3 {
        reconnect(&subscriber);
        subscriber.expect_ack(AckKind::Pubrel, id, ReasonCode::Success);
        subscriber.expect_nothing();
    }
    subscriber.pubcomp(id);
    reconnect(&subscriber);
    subscriber.expect_nothing();
}

#[test]
fn mqtt5_4_3_3_6_publish_is_not_sent_again_after_pubrel() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    publisher.publish("t", "x", 2);
    let id = subscriber.message().id();
    subscriber.pubrec(id);
    subscriber.ack();
    reconnect(&subscriber);
    let packets = subscriber.drain();
    let [Got::Ack(pubrel)] = &packets[..] else {
        panic!("not one PUBREL: {packets:?}")
    };
    assert_eq!((pubrel.kind, pubrel.packet_id), (AckKind::Pubrel, id));
    // A second PUBREC is answered in the same way.
    subscriber.pubrec(id);
    subscriber.expect_ack(AckKind::Pubrel, id, ReasonCode::Success);
}

#[test]
fn mqtt5_4_3_3_7_message_that_was_sent_no_longer_expires() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    let brief = PublishPacket::new("t", "x")
        .qos(2)
        .property(prop::message_expiry(5));
    publisher.publish_all(brief);
    let id = subscriber.message().id();
    subscriber.cut();
    w.advance(100);
    subscriber.connect_with(|connect| connect.clean_start(false));
    let again = subscriber.receive();
    assert_eq!((again.id(), again.dup), (id, true));
}

#[test]
fn mqtt5_4_3_3_8_pubrec_says_that_the_message_is_owned() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    subscriber.cut();
    publisher.publish_with(PublishPacket::new("t", "x").qos(2).id(99));
    publisher.expect_ack(AckKind::Pubrec, 99, ReasonCode::Success);
    // The publisher never sends PUBREL.
    publisher.cut();
    subscriber.connect_with(|connect| connect.clean_start(false));
    assert_eq!(subscriber.receive().text(), "x");
}

#[test]
fn mqtt5_4_3_3_9_same_identifier_after_a_refusing_pubrec_is_a_new_message() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    publisher.publish_with(PublishPacket::new("$SYS/x", "x").qos(2).id(5));
    publisher.expect_ack(AckKind::Pubrec, 5, ReasonCode::NotAuthorized);
    publisher.publish_with(PublishPacket::new("t", "y").qos(2).id(5));
    publisher.expect_ack(AckKind::Pubrec, 5, ReasonCode::Success);
    assert_eq!(subscriber.receive().text(), "y");
    publisher.pubrel(5);
    publisher.expect_ack(AckKind::Pubcomp, 5, ReasonCode::Success);
}

#[test]
fn mqtt5_4_3_3_10_same_identifier_before_pubrel_delivers_nothing_twice() {
    let w = World::new(2);
    let (_, subscriber) = pair(&w);
    let publisher = w.client(V5, "lasting");
    publisher.connect_with(|connect| connect.session_expiry(1_000));
    let publish = PublishPacket::new("t", "x").qos(2).id(5);
    for publish in [publish.clone(), publish.clone().dup(), publish.clone()] {
        publisher.publish_with(publish);
        publisher.expect_ack(AckKind::Pubrec, 5, ReasonCode::Success);
    }
    // Nor after a reconnection.
    reconnect(&publisher);
    publisher.publish_with(publish.dup());
    publisher.expect_ack(AckKind::Pubrec, 5, ReasonCode::Success);
    publisher.pubrel(5);
    publisher.expect_ack(AckKind::Pubcomp, 5, ReasonCode::Success);
    assert_eq!(subscriber.receive().text(), "x");
    subscriber.expect_nothing();
}

#[test]
fn mqtt5_4_3_3_11_pubrel_is_answered_by_pubcomp() {
    let w = World::new(2);
    let (publisher, _) = pair(&w);
    let ids = [3, 1, 2];
    for id in ids {
        publisher.publish_with(PublishPacket::new("t", "x").qos(2).id(id));
        publisher.expect_ack(AckKind::Pubrec, id, ReasonCode::Success);
    }
    for id in ids {
        publisher.pubrel(id);
        publisher.expect_ack(AckKind::Pubcomp, id, ReasonCode::Success);
    }
}

#[test]
fn mqtt5_4_3_3_12_same_identifier_after_pubcomp_is_a_new_message() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    for dup in [false, true, false] {
        let publish = PublishPacket {
            dup,
            ..PublishPacket::new("t", "x").qos(2).id(5)
        };
        publisher.publish_all(publish);
        assert_eq!(subscriber.receive().text(), "x");
    }
    subscriber.expect_nothing();
}

#[test]
fn mqtt5_4_3_3_13_exchange_is_completed_after_the_message_has_expired() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    let brief = PublishPacket::new("t", "x")
        .qos(2)
        .id(5)
        .property(prop::message_expiry(5));
    publisher.publish_with(brief);
    publisher.expect_ack(AckKind::Pubrec, 5, ReasonCode::Success);
    let id = subscriber.message().id();
    w.advance(100);
    publisher.pubrel(5);
    publisher.expect_ack(AckKind::Pubcomp, 5, ReasonCode::Success);
    subscriber.pubrec(id);
    subscriber.expect_ack(AckKind::Pubrel, id, ReasonCode::Success);
    subscriber.pubcomp(id);
    subscriber.expect_alive();
}

#[test]
fn mqtt5_4_4_0_1_unacknowledged_packets_are_sent_again_on_resuming_only() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    publisher.publish("t", "one", 1);
    publisher.publish("t", "two", 2);
    publisher.publish("t", "three", 2);
    let sent = subscriber.drain_messages();
    subscriber.pubrec(sent[1].id());
    subscriber.expect_ack(AckKind::Pubrel, sent[1].id(), ReasonCode::Success);
    // Not while the connection lasts.
    w.advance(900);
    subscriber.expect_nothing();
    reconnect(&subscriber);
    let mut again = subscriber.drain();
    let pubrel = again
        .iter()
        .position(|got| matches!(got, Got::Ack(_)))
        .expect("PUBREL again");
    let Got::Ack(pubrel) = again.remove(pubrel) else {
        unreachable!()
    };
    assert_eq!(
        (pubrel.kind, pubrel.packet_id),
        (AckKind::Pubrel, sent[1].id())
    );
    let again: Vec<(u16, bool, String)> = again
        .iter()
        .map(|got| match got {
            Got::Publish(message) => (message.id(), message.dup, message.text().into()),
            other => panic!("not a PUBLISH: {other:?}"),
        })
        .collect();
    let expected = [
        (sent[0].id(), true, "one".into()),
        (sent[2].id(), true, "three".into()),
    ];
    assert_eq!(again, expected);
}

#[test]
fn mqtt5_4_4_0_2_refused_message_counts_as_acknowledged() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    for (qos, kind) in [(1, 4), (2, 5)] {
        for reason in [0x80, 0x83, 0x97] {
            publisher.publish("t", "x", qos);
            subscriber.send_raw(&bytes::ack(kind, subscriber.message().id(), reason));
            reconnect(&subscriber);
            subscriber.expect_nothing();
        }
    }
}

#[test]
fn mqtt5_4_5_0_1_message_is_added_to_every_matching_session() {
    let w = World::new(3);
    let away: Vec<Client> = (0..9)
        .map(|n| {
            let client = w.client(V5, &format!("away {n}"));
            client.connect_with(|connect| connect.session_expiry(1_000));
            client.subscribe(["t", "+", "#"][n % 3], 1);
            client.disconnect();
            client
        })
        .collect();
    let publisher = w.connected(V5, "publisher");
    assert_eq!(publisher.publish("t", "x", 1), ReasonCode::Success);
    assert_eq!(publisher.publish("t", "y", 2), ReasonCode::Success);
    for client in away {
        client.connect_with(|connect| connect.clean_start(false));
        assert_eq!(client.receive().text(), "x");
        assert_eq!(client.receive().text(), "y");
        client.expect_nothing();
    }
}

/// Three messages of this QoS in flight to a subscriber.
fn three_in_flight(w: &World, qos: u8) -> (Client, Vec<u16>) {
    let (publisher, subscriber) = pair(w);
    for _ in 0..3 {
        publisher.publish("t", "x", qos);
    }
    let ids = subscriber
        .drain_messages()
        .iter()
        .map(Message::id)
        .collect();
    (subscriber, ids)
}

#[test]
fn mqtt5_4_6_0_2_puback_is_accepted_in_any_order() {
    let w = World::new(2);
    let (subscriber, ids) = three_in_flight(&w, 1);
    ids.iter().rev().for_each(|id| subscriber.puback(*id));
    reconnect(&subscriber);
    subscriber.expect_nothing();
}

#[test]
fn mqtt5_4_6_0_3_pubrec_is_accepted_in_any_order() {
    let w = World::new(2);
    let (subscriber, ids) = three_in_flight(&w, 2);
    for id in ids.iter().rev() {
        subscriber.pubrec(*id);
        subscriber.expect_ack(AckKind::Pubrel, *id, ReasonCode::Success);
        subscriber.pubcomp(*id);
    }
    reconnect(&subscriber);
    subscriber.expect_nothing();
}

#[test]
fn mqtt5_4_6_0_4_pubrel_is_accepted_in_any_order() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    for id in [1, 2, 3] {
        publisher.publish_with(PublishPacket::new("t", "x").qos(2).id(id));
        publisher.expect_ack(AckKind::Pubrec, id, ReasonCode::Success);
    }
    for id in [2, 3, 1] {
        publisher.pubrel(id);
        publisher.expect_ack(AckKind::Pubcomp, id, ReasonCode::Success);
    }
    assert_eq!(subscriber.drain_messages().len(), 3);
}

/// The number in each message's payload.
fn numbers(messages: &[Message]) -> Vec<usize> {
    messages
        .iter()
        .map(|message| message.text().parse().expect("a number"))
        .collect()
}

#[test]
fn mqtt5_4_6_0_5_messages_arrive_in_the_order_they_were_sent() {
    for qos in 0..3 {
        let w = World::new(3);
        let subscribers: Vec<Client> = (0..6)
            .map(|n| {
                let client = w.connected(V5, &format!("subscriber {n}"));
                client.subscribe(["t", "#"][n % 2], 2);
                client
            })
            .collect();
        let publisher = w.connected(V5, "publisher");
        for burst in 0..10 {
            let burst: Vec<u8> = (burst * 20..burst * 20 + 20)
                .flat_map(|n: u16| {
                    let mut publish = PublishPacket::new("t", n.to_string()).qos(qos);
                    publish.packet_id = (qos > 0).then_some(n + 1);
                    publish.build(V5)
                })
                .collect();
            publisher.send_raw(&burst);
        }
        for subscriber in subscribers {
            assert_eq!(
                numbers(&subscriber.drain_messages()),
                (0..200).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn mqtt5_4_6_0_5_messages_that_waited_arrive_in_order() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    for n in 0..10 {
        publisher.publish("t", &n.to_string(), 1);
    }
    assert_eq!(
        numbers(&subscriber.drain_messages()),
        (0..10).collect::<Vec<_>>()
    );
    subscriber.cut();
    for n in 10..20 {
        publisher.publish("t", &n.to_string(), 1);
    }
    let resume = |c: ConnectPacket| c.clean_start(false).receive_maximum(3);
    subscriber.connect_with(resume);
    // Those in flight again, then those that waited, through a narrow window.
    let received: Vec<Message> = (0..20).map(|_| subscriber.receive()).collect();
    assert_eq!(numbers(&received), (0..20).collect::<Vec<_>>());
    assert!(received[..10].iter().all(|message| message.dup));
    assert!(received[10..].iter().all(|message| !message.dup));
}

#[test]
fn mqtt5_4_6_0_6_every_topic_is_ordered() {
    let w = World::new(4);
    let subscriber = w.connected(V5, "subscriber");
    subscriber.subscribe("#", 1);
    let publishers: Vec<Client> = (0..4)
        .map(|n| w.connected(V5, &format!("publisher {n}")))
        .collect();
    let device = "1f3b5c7d-0000-4000-8000-00000000000a/received";
    let topics = ["t", "a/b/c", device, "/"];
    for n in 0..50 {
        for (publisher, topic) in publishers.iter().zip(topics) {
            publisher.publish(topic, &n.to_string(), 1);
        }
    }
    let messages = subscriber.drain_messages();
    for topic in topics {
        let of_topic: Vec<Message> = messages
            .iter()
            .filter(|message| message.topic == topic)
            .cloned()
            .collect();
        assert_eq!(numbers(&of_topic), (0..50).collect::<Vec<_>>(), "{topic}");
    }
}

#[test]
fn mqtt5_4_9_0_1_quota_begins_at_the_receive_maximum_or_below() {
    for maximum in [1, 2, 5] {
        let w = World::new(2);
        let (publisher, subscriber) = pair(&w);
        subscriber.cut();
        subscriber.connect_with(|c| c.clean_start(false).receive_maximum(maximum));
        for _ in 0..10 {
            publisher.publish("t", "x", 1);
        }
        let in_flight = subscriber.drain_messages().len();
        assert!(
            (1..=usize::from(maximum)).contains(&in_flight),
            "{in_flight} of {maximum}"
        );
    }
}

#[test]
fn mqtt5_4_9_0_2_nothing_above_qos_0_is_sent_at_quota_0() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    subscriber.cut();
    subscriber.connect_with(|c| c.clean_start(false).receive_maximum(1));
    publisher.publish("t", "one", 2);
    publisher.publish("t", "two", 1);
    let one = subscriber.message();
    subscriber.expect_nothing();
    w.advance(5);
    subscriber.expect_nothing();
    subscriber.pubrec(one.id());
    subscriber.expect_ack(AckKind::Pubrel, one.id(), ReasonCode::Success);
    subscriber.expect_nothing();
    subscriber.pubcomp(one.id());
    assert_eq!(subscriber.message().text(), "two");
}

#[test]
fn mqtt5_4_9_0_3_other_packets_are_processed_at_quota_0() {
    let w = World::new(2);
    let (publisher, subscriber) = pair(&w);
    subscriber.cut();
    subscriber.connect_with(|c| c.clean_start(false).receive_maximum(1));
    publisher.publish("t", "one", 1);
    publisher.publish("t", "two", 1);
    subscriber.message();
    subscriber.expect_alive();
    assert_eq!(subscriber.subscribe("u", 0), 0);
    subscriber.publish("u", "own", 2);
    assert_eq!(subscriber.message().text(), "own", "QoS 0 needs no quota");
    subscriber.disconnect();
}
