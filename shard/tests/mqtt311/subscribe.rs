//! MQTT 3.1.1, sections 3.6 and 3.8 to 3.14: subscribing, unsubscribing, ping, and leaving.

use super::support::bytes;
use super::*;

/// Every value of the four flags except the right one closes the connection.
#[track_caller]
fn check_flags(w: &World, first: u8, body: &[u8]) {
    for flags in (0..16).filter(|flags| *flags != first & 0x0f) {
        check_closed(w, &packet(first & 0xf0 | flags, body));
    }
}

#[test]
fn mqtt311_3_6_1_1_pubrel_with_other_flags_closes_the_connection() {
    World::each(|w| check_flags(w, 0x62, &[0, 1]));
}

#[test]
fn mqtt311_3_8_1_1_subscribe_with_other_flags_closes_the_connection() {
    World::each(|w| check_flags(w, 0x82, &[&[0, 1][..], &string("t"), &[0]].concat()));
}

#[test]
fn mqtt311_3_8_3_1_a_filter_is_utf8() {
    World::each(|w| {
        check_closed(w, &packet(0x82, &[0, 1, 0, 1, 0xff, 0]));
        check_closed(w, &packet(0x82, &[0, 1, 0, 2, b't']));
        let (client, publisher) = two(w);
        client.subscribe("żółw/+/日本", 1);
        publisher.publish("żółw/🐢/日本", "x", 1);
        assert_eq!(client.receive().topic, "żółw/🐢/日本");
    });
}

#[test]
fn mqtt311_3_8_3_3_a_subscribe_without_filters_closes_the_connection() {
    World::each(|w| {
        check_closed(w, &packet(0x82, &[0, 1]));
        check_closed(w, &packet(0x82, &[0]));
        check_closed(w, &packet(0x82, &[]));
        // A filter without QoS.
        check_closed(w, &packet(0x82, &[0, 1, 0, 1, b't']));
    });
}

#[test]
fn mqtt311_3_8_3_4_reserved_bits_and_qos_3_close_the_connection() {
    World::each(|w| {
        for options in [3, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
            check_closed(w, &bytes::subscribe(V311, 1, &[("t", options)], &[]));
            check_closed(
                w,
                &bytes::subscribe(V311, 1, &[("t", 1), ("u", options)], &[]),
            );
        }
    });
}

#[test]
fn mqtt311_3_8_4_1_subscribe_is_answered_by_suback() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        client.send_raw(&bytes::subscribe(V311, 0x1234, &[("a/b", 1)], &[]));
        assert_eq!(client.take_raw(), [0x90, 3, 0x12, 0x34, 1]);
    });
}

#[test]
fn mqtt311_3_8_4_3_the_same_filter_replaces_the_subscription() {
    World::each(|w| {
        let (client, publisher) = two(w);
        publisher.publish_retained("t/1", "kept", 1);
        assert_eq!(client.subscribe("t/+", 2), 2);
        assert_eq!(client.receive().text(), "kept");
        assert_eq!(client.subscribe("t/+", 0), 0);
        let again = client.receive();
        assert_eq!((again.text(), again.retain, again.qos), ("kept", true, 0));
        publisher.publish("t/1", "x", 2);
        assert_eq!(client.receive().qos, 0);
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_8_4_3_publications_flow_while_a_subscription_is_replaced() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe("t", 1);
        let mut expected = Vec::new();
        for number in 0..20 {
            publisher.publish("t", &format!("{number}a"), 1);
            client.subscribe("t", 1 + (number % 2));
            publisher.publish("t", &format!("{number}b"), 1);
            expected.extend([format!("{number}a"), format!("{number}b")]);
        }
        assert_eq!(texts(&client.drain_messages()), expected);
    });
}

#[test]
fn mqtt311_3_8_4_4_several_filters_are_as_several_subscribes() {
    World::each(|w| {
        let (client, publisher) = two(w);
        publisher.publish_retained("kept", "0", 0);
        let filters = [("a", 0), ("b/+", 1), ("kept", 0), ("c/#", 2)];
        let suback = client.subscribe_all(&filters, &[]);
        assert_eq!(suback.reasons, [0, 1, 0, 2]);
        assert_eq!(client.receive().text(), "0");
        for topic in ["a", "b/1", "c", "c/d/e", "b"] {
            publisher.publish(topic, topic, 2);
        }
        let messages: Vec<(String, u8)> = (0..4)
            .map(|_| client.receive())
            .map(|got| (got.topic, got.qos))
            .collect();
        let expected = [("a", 0), ("b/1", 1), ("c", 2), ("c/d/e", 2)];
        assert_eq!(
            messages,
            expected.map(|(topic, qos)| (topic.to_string(), qos))
        );
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_8_4_5_every_filter_gets_its_code() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        let filters = [
            ("a", 2),
            ("a/#/b", 1),
            ("b", 1),
            ("b+", 0),
            ("c", 0),
            ("c", 1),
        ];
        let suback = client.subscribe_all(&filters, &[]);
        assert_eq!(suback.reasons, [2, 0x80, 1, 0x80, 0, 1]);
        client.expect_alive();
    });
}

#[test]
fn mqtt311_3_8_4_6_delivery_is_at_the_lower_qos() {
    World::each(|w| {
        let (client, publisher) = two(w);
        for granted in 0..3 {
            assert_eq!(client.subscribe("t", granted), granted);
            for published in 0..3 {
                publisher.publish("t", "x", published);
                assert_eq!(client.receive().qos, granted.min(published));
            }
            publisher.publish_retained(&format!("kept/{granted}"), "x", 2);
            client.subscribe(&format!("kept/{granted}"), granted);
            assert_eq!(client.receive().qos, granted);
        }
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_9_3_1_codes_stand_in_the_order_of_the_filters() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        let names: Vec<String> = (0..50).map(|number| format!("t/{number}")).collect();
        let filters: Vec<(&str, u8)> = names
            .iter()
            .enumerate()
            .map(|(at, name)| (&name[..], (at % 3) as u8))
            .collect();
        let suback = client.subscribe_all(&filters, &[]);
        let expected: Vec<u8> = filters.iter().map(|(_, qos)| *qos).collect();
        assert_eq!(suback.reasons, expected);
    });
}

#[test]
fn mqtt311_3_9_3_2_no_other_code_is_used() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        let filters = [
            "",
            "#/a",
            "a/#b",
            "+a",
            "a/b+/c",
            "##",
            "$share/g",
            "$share//a",
            "$share/+/a",
        ];
        for filter in filters {
            assert_eq!(client.subscribe(filter, 1), 0x80, "{filter:?}");
        }
        client.expect_alive();
    });
}

#[test]
fn mqtt311_3_10_1_1_unsubscribe_with_other_flags_closes_the_connection() {
    World::each(|w| check_flags(w, 0xA2, &[&[0, 1][..], &string("t")].concat()));
}

#[test]
fn mqtt311_3_10_3_1_filters_to_remove_are_utf8_one_after_another() {
    World::each(|w| {
        check_closed(w, &packet(0xA2, &[0, 1, 0, 1, 0xff]));
        check_closed(w, &packet(0xA2, &[0, 1, 0, 1, b't', 0]));
        check_closed(w, &packet(0xA2, &[0, 1, 0, 2, b't']));
    });
}

#[test]
fn mqtt311_3_10_3_2_an_unsubscribe_without_filters_closes_the_connection() {
    World::each(|w| {
        check_closed(w, &packet(0xA2, &[0, 1]));
        check_closed(w, &packet(0xA2, &[]));
    });
}

#[test]
fn mqtt311_3_10_4_1_only_the_very_same_filter_is_removed() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe("a/+", 0);
        for filter in ["a/b", "a/#", "A/+", "a/+/", "#", "+/+"] {
            client.unsubscribe(&[filter]);
        }
        publisher.publish("a/b", "1", 0);
        assert_eq!(client.message().text(), "1");
        client.unsubscribe(&["a/+"]);
        publisher.publish("a/b", "2", 0);
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_10_4_2_nothing_is_added_after_unsuback() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe("t/#", 1);
        client.subscribe("t/1", 1);
        client.unsubscribe(&["t/#"]);
        publisher.publish("t/2", "x", 1);
        client.expect_nothing();
        publisher.publish("t/1", "y", 1);
        assert_eq!(client.receive().text(), "y");
        client.unsubscribe(&["t/1"]);
        publisher.publish("t/1", "z", 1);
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_10_4_3_deliveries_under_way_are_completed() {
    World::each(|w| {
        let (client, publisher) = (w.client(V311, "c"), w.connected(V311, "publisher"));
        client.connect_with(|c| c.clean_start(false));
        client.subscribe("t", 2);
        publisher.publish("t", "1", 1);
        publisher.publish("t", "2", 2);
        let sent = client.drain_messages();
        client.unsubscribe(&["t"]);
        client.cut();
        client.connect_with(|c| c.clean_start(false));
        let (first, second) = (client.message(), client.message());
        assert_eq!((first.id(), second.id()), (sent[0].id(), sent[1].id()));
        client.puback(first.id());
        client.pubrec(second.id());
        client.expect_ack(AckKind::Pubrel, second.id(), ReasonCode::Success);
        client.pubcomp(second.id());
        client.expect_nothing();
    });
}

#[test]
fn mqtt311_3_10_4_4_unsubscribe_is_answered_by_unsuback() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        client.subscribe("t", 0);
        client.send_raw(&bytes::unsubscribe(V311, 0x4321, &["t"], &[]));
        assert_eq!(client.take_raw(), [0xB0, 2, 0x43, 0x21]);
    });
}

#[test]
fn mqtt311_3_10_4_5_unsuback_is_sent_even_if_nothing_was_removed() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        client.send_raw(&bytes::unsubscribe(V311, 7, &["never", "a/#/b"], &[]));
        assert_eq!(client.take_raw(), [0xB0, 2, 0, 7]);
    });
}

#[test]
fn mqtt311_3_10_4_6_several_filters_get_one_unsuback() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe_all(&[("a", 0), ("b", 0), ("c", 0), ("d", 0)], &[]);
        client.send_raw(&bytes::unsubscribe(V311, 7, &["a", "never", "c", "a"], &[]));
        assert_eq!(client.take_raw(), [0xB0, 2, 0, 7]);
        for topic in ["a", "b", "c", "d"] {
            publisher.publish(topic, topic, 0);
        }
        assert_eq!(texts(&client.drain_messages()), ["b", "d"]);
    });
}

#[test]
fn mqtt311_3_12_4_1_pingreq_is_answered_by_pingresp() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        client.send_raw(&[&bytes::PINGREQ[..], &bytes::PINGREQ].concat());
        assert_eq!(client.take_raw(), [0xD0, 0, 0xD0, 0]);
        // With a body it is malformed.
        check_closed(w, &packet(0xC0, &[0]));
    });
}

#[test]
fn mqtt311_3_14_1_1_disconnect_with_reserved_bits_closes_with_the_will() {
    World::each(|w| {
        check_flags(w, 0xE0, &[]);
        let watcher = w.connected(V311, "watcher");
        watcher.subscribe("will", 0);
        for wrong in [&[0xE1, 0][..], &[0xE0, 1, 0]] {
            let client = w.client(V311, "c");
            client.connect_with(|c| c.will(WillPacket::new("will", "x")));
            client.send_raw(wrong);
            client.expect_closed();
            // It was no DISCONNECT, so the will is published.
            assert_eq!(watcher.message().topic, "will");
        }
    });
}

#[test]
fn after_disconnect_the_server_closes_and_reads_no_more() {
    World::each(|w| {
        let watcher = w.connected(V311, "watcher");
        watcher.subscribe("#", 0);
        let client = w.connected(V311, "c");
        let publish = PublishPacket::new("t", "x").build(V311);
        client.send_raw(&[&bytes::DISCONNECT[..], &publish].concat());
        client.expect_closed();
        watcher.expect_nothing();
    });
}
