//! MQTT 3.1.1, section 3.3: PUBLISH, and retained messages.

use super::*;

/// A connected client sends this packet and is closed; nobody receives anything.
#[track_caller]
fn check_closed(w: &World, bytes: &[u8]) {
    let watcher = w.connected(V311, "watcher");
    watcher.subscribe("#", 0);
    let client = w.connected(V311, "wrong");
    client.send_raw(bytes);
    assert!(client.is_closed(), "not closed after {bytes:02x?}");
    client.expect_closed();
    watcher.expect_nothing();
    watcher.disconnect();
}

/// What a new subscriber to this filter is sent: topic, text, QoS, in any order.
fn retained(w: &World, filter: &str) -> Vec<(String, String, u8)> {
    let client = w.connected(V311, "newcomer");
    client.subscribe(filter, 2);
    let mut messages: Vec<_> = client
        .drain_messages()
        .into_iter()
        .inspect(|message| assert!(message.retain && !message.dup, "{message:?}"))
        .map(|message| (message.topic.clone(), message.text().into(), message.qos))
        .collect();
    messages.sort();
    client.disconnect();
    messages
}

fn one(topic: &str, text: &str, qos: u8) -> (String, String, u8) {
    (topic.into(), text.into(), qos)
}

#[test]
fn mqtt311_3_3_1_1_a_redelivered_message_has_dup() {
    World::each(|w| {
        let (client, publisher) = (w.client(V311, "c"), w.connected(V311, "publisher"));
        client.connect_with(|c| c.clean_start(false));
        client.subscribe("t", 2);
        publisher.publish("t", "1", 1);
        publisher.publish("t", "2", 2);
        assert!(client.drain_messages().iter().all(|message| !message.dup));
        for _ in 0..2 {
            client.cut();
            client.connect_with(|c| c.clean_start(false));
            let again = client.drain_messages();
            assert_eq!(again.len(), 2);
            assert!(again.iter().all(|message| message.dup));
        }
    });
}

#[test]
fn mqtt311_3_3_1_2_dup_with_qos_0_closes_the_connection() {
    World::each(|w| check_closed(w, &PublishPacket::new("t", "x").dup().build(V311)));
}

#[test]
fn mqtt311_3_3_1_3_dup_is_not_passed_on() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe("t", 2);
        publisher.publish_all(PublishPacket::new("t", "1").qos(1).dup());
        publisher.publish_all(PublishPacket::new("t", "2").qos(2).dup());
        let messages = client.drain_messages();
        assert_eq!(messages.len(), 2);
        assert!(messages.iter().all(|message| !message.dup));
    });
}

#[test]
fn mqtt311_3_3_1_4_qos_3_closes_the_connection() {
    World::each(|w| {
        check_closed(w, &PublishPacket::new("t", "x").qos(3).id(1).build(V311));
        check_closed(w, &PublishPacket::new("t", "x").qos(3).build(V311));
    });
}

#[test]
fn mqtt311_3_3_1_5_a_retained_message_is_stored_with_its_qos() {
    World::each(|w| {
        let publisher = w.connected(V311, "publisher");
        for qos in 0..3 {
            publisher.publish_retained("t", "x", qos);
            assert_eq!(retained(w, "t"), [one("t", "x", qos)]);
        }
    });
}

#[test]
fn mqtt311_3_3_1_6_the_last_retained_message_of_each_topic_is_sent() {
    World::each(|w| {
        let publisher = w.connected(V311, "publisher");
        let topics = ["a", "a/b", "a/c", "a/c/d", "b"];
        for topic in topics {
            publisher.publish_retained(topic, "old", 1);
            publisher.publish_retained(topic, "new", 1);
        }
        let all = topics.map(|topic| one(topic, "new", 1));
        assert_eq!(retained(w, "a"), all[..1]);
        assert_eq!(retained(w, "a/+"), all[1..3]);
        assert_eq!(retained(w, "a/#"), all[..4]);
        assert_eq!(retained(w, "+"), [all[0].clone(), all[4].clone()]);
        assert_eq!(retained(w, "#"), all);
        assert_eq!(retained(w, "c/#"), []);
    });
}

#[test]
fn mqtt311_3_3_1_7_a_retained_qos_0_message_replaces_the_one_before() {
    World::each(|w| {
        let publisher = w.connected(V311, "publisher");
        publisher.publish_retained("t", "old", 2);
        publisher.publish_retained("t", "new", 0);
        assert_eq!(retained(w, "t"), [one("t", "new", 0)]);
    });
}

#[test]
fn mqtt311_3_3_1_8_retain_is_set_for_a_new_subscription() {
    World::each(|w| {
        let (client, publisher) = two(w);
        publisher.publish_retained("t", "x", 0);
        client.subscribe("t", 0);
        assert_eq!(client.message().raw, [0x31, 4, 0, 1, b't', b'x']);
    });
}

#[test]
fn mqtt311_3_3_1_9_retain_is_clear_for_an_established_subscription() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe("t", 0);
        client.subscribe("+", 0);
        publisher.publish_retained("t", "x", 1);
        assert_eq!(client.message().raw, [0x30, 4, 0, 1, b't', b'x']);
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_3_1_10_an_empty_retained_message_is_delivered_and_removes() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe("t", 1);
        publisher.publish_retained("t", "x", 1);
        assert_eq!(client.receive().text(), "x");
        publisher.publish_retained("t", "", 1);
        let message = client.receive();
        assert_eq!((message.text(), message.retain), ("", false));
        assert_eq!(retained(w, "#"), []);
    });
}

#[test]
fn mqtt311_3_3_1_11_an_empty_message_is_not_retained() {
    World::each(|w| {
        let publisher = w.connected(V311, "publisher");
        for qos in 0..3 {
            publisher.publish_retained("t", "", qos);
        }
        assert_eq!(retained(w, "t"), []);
    });
}

#[test]
fn mqtt311_3_3_1_12_without_retain_nothing_is_stored_or_removed() {
    World::each(|w| {
        let publisher = w.connected(V311, "publisher");
        publisher.publish("t", "x", 1);
        assert_eq!(retained(w, "t"), []);
        publisher.publish_retained("t", "kept", 1);
        publisher.publish("t", "y", 1);
        publisher.publish("t", "", 1);
        assert_eq!(retained(w, "t"), [one("t", "kept", 1)]);
    });
}

#[test]
fn mqtt311_3_3_2_1_a_publish_without_topic_closes_the_connection() {
    World::each(|w| {
        check_closed(w, &packet(0x30, &[]));
        check_closed(w, &packet(0x30, &[0]));
        check_closed(w, &packet(0x30, &[0, 2, b't']));
        check_closed(w, &packet(0x30, &[0, 1, 0xff]));
        // The packet identifier is cut.
        check_closed(w, &packet(0x32, &[0, 1, b't', 0]));
    });
}

#[test]
fn mqtt311_3_3_2_2_a_wildcard_in_a_topic_name_closes_the_connection() {
    World::each(|w| {
        for topic in ["#", "+", "a/#", "a/+/b", "a#", "a+b"] {
            check_closed(w, &PublishPacket::new(topic, "x").build(V311));
            check_closed(w, &PublishPacket::new(topic, "x").qos(1).id(1).build(V311));
        }
    });
}

#[test]
fn mqtt311_3_3_2_3_a_message_arrives_under_its_own_topic() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe("a/+/#", 0);
        for topic in ["a/b", "a/b/c/d", "a//", "a/ b"] {
            publisher.publish(topic, "x", 0);
            assert_eq!(client.message().topic, topic);
        }
        for topic in ["a", "b/a/b", "A/b", "/a/b"] {
            publisher.publish(topic, "x", 0);
        }
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_3_4_1_the_answer_depends_on_the_qos() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        client.publish_with(PublishPacket::new("t", "x"));
        client.expect_nothing();
        client.publish_with(PublishPacket::new("t", "x").qos(1).id(5));
        assert_eq!(client.take_raw(), [0x40, 2, 0, 5]);
        client.publish_with(PublishPacket::new("t", "x").qos(2).id(6));
        assert_eq!(client.take_raw(), [0x50, 2, 0, 6]);
        client.pubrel(6);
        assert_eq!(client.take_raw(), [0x70, 2, 0, 6]);
    });
}

#[test]
fn mqtt311_3_3_5_1_overlapping_subscriptions_deliver_at_the_highest_qos() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe("t/#", 0);
        client.subscribe("t/+", 2);
        client.subscribe("t/1", 1);
        for qos in 0..3 {
            publisher.publish("t/1", "x", qos);
            assert_eq!(client.receive().qos, qos);
            client.expect_nothing();
        }
    });
}

#[test]
fn mqtt311_3_3_5_2_what_is_not_allowed_is_acknowledged_and_dropped() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe("$SYS/#", 0);
        client.drain();
        for qos in 0..3 {
            publisher.publish_retained("$SYS/broker/version", "forged", qos);
        }
        client.expect_nothing();
        publisher.expect_alive();
        let late = w.connected(V311, "late");
        late.subscribe("$SYS/broker/version", 0);
        assert!(
            late.drain_messages()
                .iter()
                .all(|message| message.text() != "forged")
        );
    });
}

#[test]
fn payloads_are_any_bytes_of_any_length() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe("t", 0);
        for length in [0, 1, 127, 128, 16_383, 16_384, 900_000] {
            let payload: Vec<u8> = (0..length).map(|at: u32| (at * 31) as u8).collect();
            publisher.send_raw(&PublishPacket::new("t", &payload).build(V311));
            assert_eq!(client.message().payload, payload);
        }
    });
}
