//! MQTT 3.1.1, chapters 1 and 2: strings, fixed headers and packet identifiers.

use super::support::bytes;
use super::*;

/// PUBLISH with QoS 0 and the topic's bytes as they are.
fn publish_to(topic: &[u8]) -> Vec<u8> {
    packet(0x30, &bytes::binary(topic))
}

/// SUBSCRIBE to one filter, its bytes as they are.
fn subscribe_to(filter: &[u8]) -> Vec<u8> {
    packet(0x82, &[&[0, 1][..], &bytes::binary(filter), &[0]].concat())
}

fn unsubscribe_from(filter: &[u8]) -> Vec<u8> {
    packet(0xA2, &[&[0, 1][..], &bytes::binary(filter)].concat())
}

#[test]
fn mqtt311_1_5_3_1_ill_formed_utf8_closes_the_connection() {
    World::each(|w| {
        // A lone continuation, a cut sequence, an overlong form, a surrogate, beyond U+10FFFF.
        for text in [
            &b"\x80"[..],
            b"a\xc3",
            b"\xc0\xaf",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
        ] {
            check_closed(w, &publish_to(text));
            check_closed(w, &subscribe_to(text));
            check_closed(w, &unsubscribe_from(text));
            let client = w.client(V311, "wrong");
            client.open();
            let connect = ConnectPacket {
                client_id: text.into(),
                ..client.connect_packet()
            };
            client.send_raw(&connect.build());
            client.expect_closed();
        }
    });
}

#[test]
fn mqtt311_1_5_3_2_the_null_character_closes_the_connection() {
    World::each(|w| {
        check_closed(w, &publish_to(b"a\0b"));
        check_closed(w, &subscribe_to(b"a/\0"));
        check_closed(w, &unsubscribe_from(b"\0"));
        let client = w.client(V311, "a\0b");
        client.open();
        client.send_raw(&client.connect_packet().build());
        client.expect_closed();
    });
}

#[test]
fn mqtt311_1_5_3_3_a_byte_order_mark_is_a_character_like_others() {
    World::each(|w| {
        let (with, without) = (w.connected(V311, "with"), w.connected(V311, "without"));
        with.subscribe("\u{feff}t", 0);
        without.subscribe("t", 0);
        w.connected(V311, "publisher").publish("\u{feff}t", "x", 0);
        assert_eq!(with.message().topic.as_bytes(), b"\xef\xbb\xbft");
        without.expect_nothing();
    });
}

#[test]
fn mqtt311_2_2_2_1_the_server_sends_reserved_flags_as_listed() {
    World::each(|w| {
        let client = w.client(V311, "c");
        let connack = client.connect();
        assert_eq!(connack.raw[0], 0x20);
        let suback = client.subscribe_all(&[("t", 2)], &[]);
        assert_eq!(suback.raw[0], 0x90);

        let publisher = w.connected(V311, "publisher");
        publisher.publish_with(PublishPacket::new("t", "x").qos(1));
        assert_eq!(publisher.ack().raw[0], 0x40);
        let id = publisher.publish_with(PublishPacket::new("t", "x").qos(2));
        assert_eq!(publisher.ack().raw[0], 0x50);
        publisher.pubrel(id);
        assert_eq!(publisher.ack().raw[0], 0x70);

        let second = client.drain_messages().pop().expect("two messages");
        client.pubrec(second.id());
        assert_eq!(client.ack().raw[0], 0x62);

        client.send_raw(&bytes::unsubscribe(V311, 9, &["t"], &[]));
        assert_eq!(client.unsuback().raw[0], 0xB0);
        client.send_raw(&bytes::PINGREQ);
        assert_eq!(client.take_raw(), [0xD0, 0]);
    });
}

#[test]
fn mqtt311_2_2_2_2_invalid_flags_close_the_connection() {
    World::each(|w| {
        let identified = [0, 1];
        let filter = [&[0, 1][..], &string("t")].concat();
        let subscription = [&filter[..], &[0]].concat();
        for (first, body) in [
            (0x40, &identified[..]),
            (0x50, &identified),
            (0x62, &identified),
            (0x70, &identified),
            (0x82, &subscription),
            (0xA2, &filter),
            (0xC0, &[]),
            (0xE0, &[]),
        ] {
            for flags in (0..16).filter(|flags| *flags != first & 0x0f) {
                check_closed(w, &packet(first & 0xf0 | flags, body));
            }
        }
        for flags in 1..16 {
            let client = w.client(V311, "wrong");
            client.open();
            client.send_raw(&packet(0x10 | flags, &client.connect_packet().body()));
            client.expect_closed();
        }
    });
}

#[test]
fn mqtt311_2_2_2_2_reserved_packet_types_close_the_connection() {
    World::each(|w| {
        check_closed(w, &packet(0x00, &[]));
        check_closed(w, &packet(0xF0, &[]));
        // Types that only a server sends.
        check_closed(w, &packet(0x20, &[0, 0]));
        check_closed(w, &packet(0x90, &[0, 1, 0]));
        check_closed(w, &packet(0xB0, &[0, 1]));
        check_closed(w, &packet(0xD0, &[]));
    });
}

#[test]
fn a_remaining_length_of_five_bytes_closes_the_connection() {
    World::each(|w| check_closed(w, &[0x30, 0x80, 0x80, 0x80, 0x80]));
}

#[test]
fn mqtt311_2_3_1_1_packet_identifier_zero_closes_the_connection() {
    World::each(|w| {
        check_closed(w, &PublishPacket::new("t", "x").qos(1).id(0).build(V311));
        check_closed(w, &PublishPacket::new("t", "x").qos(2).id(0).build(V311));
        check_closed(w, &bytes::subscribe(V311, 0, &[("t", 0)], &[]));
        check_closed(w, &bytes::unsubscribe(V311, 0, &["t"], &[]));
    });
}

#[test]
fn mqtt311_2_3_1_4_the_servers_identifiers_are_unused_ones() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        client.subscribe("t", 2);
        let publisher = w.connected(V311, "publisher");
        for number in 0..200 {
            publisher.publish("t", &number.to_string(), 1 + number % 2);
        }
        let messages = client.drain_messages();
        let mut ids: Vec<u16> = messages.iter().map(Message::id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), ids.contains(&0)), (200, false));

        // An identifier in use is skipped even after the numbers have gone round.
        let (held, others) = messages.split_first().expect("200 messages");
        for message in others {
            match message.qos {
                1 => client.puback(message.id()),
                _ => {
                    client.pubrec(message.id());
                    client.expect_ack(AckKind::Pubrel, message.id(), ReasonCode::Success);
                    client.pubcomp(message.id());
                }
            }
        }
        let mut unacknowledged = std::collections::VecDeque::new();
        for _ in 0..66_000 {
            publisher.publish_with(PublishPacket::new("t", "x").qos(1).id(7));
            let id = client.message().id();
            assert!(id != held.id() && !unacknowledged.contains(&id));
            unacknowledged.push_back(id);
            if unacknowledged.len() == 5 {
                client.puback(unacknowledged.pop_front().expect("five"));
            }
        }
        publisher.drain();
    });
}

#[test]
fn mqtt311_2_3_1_4_a_resent_packet_keeps_its_identifier() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.connect_with(|c| c.clean_start(false));
        client.subscribe("t", 1);
        w.connected(V311, "publisher").publish("t", "x", 1);
        let first = client.message();
        client.cut();
        client.connect_with(|c| c.clean_start(false));
        assert_eq!(client.message().id(), first.id());
    });
}

#[test]
fn mqtt311_2_3_1_5_qos_0_carries_no_identifier() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        client.subscribe("t", 2);
        w.connected(V311, "publisher").publish("t", "x", 0);
        assert_eq!(client.message().raw, [0x30, 4, 0, 1, b't', b'x']);
    });
}

#[test]
fn mqtt311_2_3_1_6_acknowledgements_repeat_the_identifier() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        for id in [1, 0x0100, 0x1234, 0xffff] {
            client.publish_with(PublishPacket::new("t", "x").qos(1).id(id));
            let [high, low] = id.to_be_bytes();
            assert_eq!(client.ack().raw, [0x40, 2, high, low]);
            client.publish_with(PublishPacket::new("t", "x").qos(2).id(id));
            assert_eq!(client.ack().raw, [0x50, 2, high, low]);
            client.pubrel(id);
            assert_eq!(client.ack().raw, [0x70, 2, high, low]);
        }
        client.subscribe("t", 2);
        client.publish("t", "x", 2);
        let id = client.message().id();
        client.pubrec(id);
        client.expect_ack(AckKind::Pubrel, id, ReasonCode::Success);
    });
}

#[test]
fn mqtt311_2_3_1_7_suback_and_unsuback_repeat_the_identifier() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        for id in [1, 0x0100, 0xffff] {
            let [high, low] = u16::to_be_bytes(id);
            client.send_raw(&bytes::subscribe(V311, id, &[("t", 1)], &[]));
            assert_eq!(client.take_raw(), [0x90, 3, high, low, 1]);
            client.send_raw(&bytes::unsubscribe(V311, id, &["t"], &[]));
            assert_eq!(client.take_raw(), [0xB0, 2, high, low]);
        }
    });
}
