//! MQTT 3.1.1, sections 3.1.2.5 to 3.1.2.10: wills and keep-alive.

use super::*;

/// A client that hears of all wills.
fn watcher(w: &World) -> Client {
    let watcher = w.connected(V311, "watcher");
    watcher.subscribe("will/#", 2);
    watcher
}

/// A connected client with this will.
fn mortal(w: &World, will: WillPacket) -> Client {
    let client = w.client(V311, "mortal");
    client.connect_with(|c| c.keep_alive(10).will(will));
    client
}

#[test]
fn mqtt311_3_1_2_8_a_will_is_published_when_the_connection_is_lost() {
    World::each(|w| {
        let watcher = watcher(w);
        let client = mortal(w, WillPacket::new("will/cut", "x").qos(1));
        watcher.expect_nothing();
        client.cut();
        let message = watcher.receive();
        assert_eq!(
            (&message.topic[..], message.text(), message.qos),
            ("will/cut", "x", 1)
        );

        let client = mortal(w, WillPacket::new("will/silent", "x"));
        w.advance(20);
        assert!(client.is_closed());
        assert_eq!(watcher.receive().topic, "will/silent");

        let client = mortal(w, WillPacket::new("will/wrong", "x"));
        client.send_raw(&[0x00, 0x00]);
        assert!(client.is_closed());
        assert_eq!(watcher.receive().topic, "will/wrong");

        let client = mortal(w, WillPacket::new("will/replaced", "x"));
        w.connected(V311, "mortal");
        assert!(client.is_closed());
        assert_eq!(watcher.receive().topic, "will/replaced");
    });
}

#[test]
fn mqtt311_3_1_2_8_a_will_of_a_refused_client_is_not_published() {
    World::each(|w| {
        let watcher = watcher(w);
        let client = w.client(V311, "");
        client.open();
        let will = WillPacket::new("will/refused", "x");
        client.send_raw(&connect("").clean_start(false).will(will).build());
        assert!(client.is_closed());
        watcher.expect_nothing();
    });
}

#[test]
fn mqtt311_3_1_2_9_topic_and_message_must_be_there() {
    World::each(|w| {
        // The flag alone.
        check_no_connack(w, &connect("c").flip_flags(0x04).build());
        let body = connect("c").will(WillPacket::new("t", "x")).body();
        let client = w.client(V311, "c");
        client.open();
        // The topic alone.
        client.send_raw(&packet(0x10, &body[..body.len() - 3]));
        client.expect_closed();
    });
}

#[test]
fn mqtt311_3_1_2_10_a_will_is_published_once() {
    World::each(|w| {
        let watcher = watcher(w);
        let client = w.client(V311, "mortal");
        let will = WillPacket::new("will/once", "x");
        client.connect_with(|c| c.clean_start(false).will(will));
        client.cut();
        assert_eq!(watcher.receive().topic, "will/once");
        client.connect_with(|c| c.clean_start(false));
        client.cut();
        watcher.expect_nothing();
    });
}

#[test]
fn mqtt311_3_1_2_11_will_fields_without_the_flag_close_the_connection() {
    World::each(|w| {
        check_no_connack(
            w,
            &connect("c")
                .will(WillPacket::new("t", "x"))
                .flip_flags(0x04)
                .build(),
        );
    });
}

#[test]
fn mqtt311_3_1_2_12_without_the_flag_nothing_is_published() {
    World::each(|w| {
        let watcher = w.connected(V311, "watcher");
        watcher.subscribe("#", 2);
        let client = w.connected(V311, "c");
        client.cut();
        w.advance(3_600);
        watcher.expect_nothing();
    });
}

#[test]
fn mqtt311_3_1_2_13_will_qos_without_the_flag_closes_the_connection() {
    World::each(|w| {
        for bits in [0x08, 0x10, 0x18] {
            check_no_connack(w, &connect("c").flip_flags(bits).build());
        }
    });
}

#[test]
fn mqtt311_3_1_2_14_will_qos_is_used_and_never_three() {
    World::each(|w| {
        let watcher = watcher(w);
        for qos in 0..3 {
            mortal(w, WillPacket::new("will/t", "x").qos(qos)).cut();
            assert_eq!(watcher.receive().qos, qos);
        }
        check_no_connack(
            w,
            &connect("c")
                .will(WillPacket::new("will/t", "x").qos(3))
                .build(),
        );
    });
}

#[test]
fn mqtt311_3_1_2_15_will_retain_without_the_flag_closes_the_connection() {
    World::each(|w| check_no_connack(w, &connect("c").flip_flags(0x20).build()));
}

#[test]
fn mqtt311_3_1_2_16_a_will_without_retain_is_not_retained() {
    World::each(|w| {
        let watcher = watcher(w);
        mortal(w, WillPacket::new("will/t", "x")).cut();
        assert!(!watcher.receive().retain);
        let late = w.connected(V311, "late");
        late.subscribe("will/t", 0);
        late.expect_nothing();
    });
}

#[test]
fn mqtt311_3_1_2_17_a_will_with_retain_is_retained() {
    World::each(|w| {
        let watcher = watcher(w);
        mortal(w, WillPacket::new("will/t", "x").qos(1).retain()).cut();
        assert!(!watcher.receive().retain);
        let late = w.connected(V311, "late");
        late.subscribe("will/t", 1);
        let message = late.receive();
        assert_eq!(
            (message.retain, message.text(), message.qos),
            (true, "x", 1)
        );
    });
}

#[test]
fn mqtt311_3_1_3_10_the_will_topic_is_a_utf8_topic_name() {
    World::each(|w| {
        for topic in [&b"\xff"[..], b"a\0b", b"a/+", b"#", b""] {
            let will = WillPacket {
                topic: topic.into(),
                ..WillPacket::new("", "x")
            };
            check_no_connack(w, &connect("c").will(will).build());
        }
    });
}

#[test]
fn a_will_may_be_empty_and_may_hold_any_bytes() {
    World::each(|w| {
        let watcher = watcher(w);
        for payload in [&b""[..], b"\0\xff\xfe"] {
            mortal(w, WillPacket::new("will/t", payload)).cut();
            assert_eq!(watcher.receive().payload, payload);
        }
    });
}

#[test]
fn mqtt311_3_14_4_3_disconnect_discards_the_will() {
    World::each(|w| {
        let watcher = watcher(w);
        mortal(w, WillPacket::new("will/t", "x").retain()).disconnect();
        w.advance(3_600);
        watcher.expect_nothing();
        let late = w.connected(V311, "late");
        late.subscribe("will/t", 0);
        late.expect_nothing();
    });
}

#[test]
fn mqtt311_3_1_2_24_a_silent_client_is_closed_after_one_and_a_half_times() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.connect_with(|c| c.keep_alive(10));
        w.advance_ms(14_999);
        assert!(!client.is_closed());
        w.advance_ms(1_002);
        client.expect_closed();
    });
}

#[test]
fn mqtt311_3_1_2_24_any_packet_keeps_the_connection() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.connect_with(|c| c.keep_alive(2));
        for _ in 0..3 {
            w.advance_ms(2_900);
            client.expect_alive();
            w.advance_ms(2_900);
            client.publish("t", "x", 0);
            w.advance_ms(2_900);
            client.subscribe("u", 1);
            w.advance_ms(2_900);
            client.publish("t", "x", 2);
        }
        // Being sent messages does not count.
        let publisher = w.connected(V311, "publisher");
        for _ in 0..5 {
            w.advance(1);
            publisher.publish("u", "x", 0);
        }
        assert!(client.is_closed());
    });
}

#[test]
fn mqtt311_3_1_2_24_part_of_a_packet_does_not_count() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.connect_with(|c| c.keep_alive(2));
        for byte in [0x30, 0x0a, 0x00, 0x01, 0x74] {
            w.advance(1);
            client.send_raw(&[byte]);
        }
        assert!(client.is_closed());
    });
}

#[test]
fn without_keep_alive_a_silent_client_stays() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        w.advance(7 * 86_400);
        client.expect_alive();
    });
}

#[test]
fn a_connection_that_never_sends_connect_is_closed() {
    World::each(|w| {
        let silent = w.client(V311, "silent");
        silent.open();
        let slow = w.client(V311, "slow");
        slow.open();
        slow.send_raw(&connect("slow").build()[..9]);
        w.advance(60);
        silent.expect_closed();
        slow.expect_closed();
    });
}
