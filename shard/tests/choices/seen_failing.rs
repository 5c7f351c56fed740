//! Mistakes that have been seen in brokers that people run: none of them here.

use super::support::{bytes, prop, *};
use std::collections::BTreeSet;

#[test]
fn choices_non_ascii_topics_are_served() {
    for topic in [
        "température/salle à manger",
        "温度/+x",
        "🌡/🏠",
        "ß/\u{1F3F4}",
        "é",
    ] {
        let topic = topic.replace('+', "");
        let w = World::new(3);
        let subscribers: Vec<Client> = [topic.as_str(), "#", "+/#"]
            .iter()
            .enumerate()
            .map(|(n, filter)| {
                let client = w.connected(V5, &format!("客户 {n}"));
                client.subscribe(filter, 1);
                client
            })
            .collect();
        assert_eq!(
            w.connected(V311, "é").publish_retained(&topic, "ü", 1),
            ReasonCode::Success
        );
        for subscriber in subscribers {
            let message = subscriber.receive();
            assert_eq!(
                (message.topic.as_str(), message.text()),
                (topic.as_str(), "ü")
            );
        }
        let late = w.connected(V5, "late");
        late.subscribe(&topic, 0);
        assert_eq!(late.receive().topic, topic);
    }
}

#[test]
fn choices_packets_that_only_servers_send_harm_nobody() {
    for version in [V5, V311, V31] {
        for bytes in [
            packet(0x20, &[0, 0]),
            packet(0x20, &[0, 0, 0]),
            packet(0x90, &[0, 1, 0]),
            packet(0x90, &[0, 1, 0, 0]),
            packet(0xB0, &[0, 1]),
            packet(0xB0, &[0, 1, 0, 0]),
            packet(0xD0, &[]),
        ] {
            let w = World::new(2);
            let others: Vec<Client> = (0..4)
                .map(|n| w.connected(V5, &format!("other {n}")))
                .collect();
            let a = w.connected(version, "a");
            a.send_raw(&bytes);
            assert!(a.is_closed(), "{bytes:02x?}");
            for other in others {
                other.expect_alive();
                other.subscribe("t", 1);
            }
            a.connect();
            assert_eq!(a.publish("t", "x", 1), ReasonCode::Success);
        }
    }
}

#[test]
fn choices_delivery_goes_on_after_the_receive_maximum_has_filled() {
    let w = World::new(2);
    for (version, name) in [(V5, "new"), (V311, "old")] {
        let a = w.client(version, name);
        a.connect_with(|c| {
            if version == V5 {
                c.receive_maximum(2)
            } else {
                c
            }
        });
        a.subscribe("t", 2);
        let publisher = w.connected(V5, "publisher");
        for round in 0..10 {
            for n in 0..7 {
                publisher.publish("t", &format!("{round} {n}"), 1 + n % 2);
            }
            // Fills, waits, and is emptied.
            w.advance(1);
            for n in 0..7 {
                assert_eq!(a.receive().text(), format!("{round} {n}"));
            }
        }
        a.expect_alive();
        a.disconnect();
    }
}

#[test]
fn choices_unsuback_says_that_no_subscription_existed() {
    let a = World::new(2).connected(V5, "a");
    a.subscribe("b", 0);
    assert_eq!(
        a.unsubscribe(&["a", "b", "b", "$share/g/b"]),
        [0x11, 0, 0x11, 0x11]
    );
}

#[test]
fn choices_redelivered_messages_have_dup() {
    let w = World::new(2);
    for version in [V5, V311] {
        let a = w.client(version, &format!("{version:?}"));
        let resume = |c: ConnectPacket| {
            let c = c.clean_start(false);
            if version == V5 {
                c.session_expiry(100)
            } else {
                c
            }
        };
        a.connect_with(resume);
        a.subscribe("t", 2);
        let publisher = w.connected(V5, "publisher");
        publisher.publish("t", "x", 1);
        publisher.publish("t", "x", 2);
        assert_eq!(a.drain_messages().len(), 2);
        a.cut();
        a.connect_with(resume);
        let again = a.drain_messages();
        assert_eq!(
            again.iter().map(|message| message.dup).collect::<Vec<_>>(),
            [true, true]
        );
        a.cut();
        a.connect();
        a.disconnect();
    }
}

#[test]
fn choices_message_without_expiry_is_given_none() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(1_000));
    a.subscribe("#", 1);
    let publishers = [w.connected(V5, "new"), w.connected(V311, "old")];
    for publisher in &publishers {
        publisher.publish_retained("t", "x", 1);
        let message = a.receive();
        assert_eq!((message.message_expiry_s, message.raw.len()), (None, 9));
    }
    a.cut();
    publishers[0].publish("t", "x", 1);
    w.advance(100);
    a.connect_with(|connect| connect.clean_start(false));
    assert_eq!(a.receive().message_expiry_s, None);
    let late = w.connected(V5, "late");
    late.subscribe("t", 1);
    assert_eq!(late.receive().message_expiry_s, None);
}

#[test]
fn choices_reconnecting_works_after_failed_exchanges() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    let resume = |c: ConnectPacket| c.clean_start(false).session_expiry(100);
    let half = |c: ConnectPacket| c.build()[..9].to_vec();
    for round in 0..50 {
        // Half a CONNECT, a malformed one, a refused one, a cut in the middle of every exchange.
        a.open();
        a.send_raw(&half(a.connect_packet()));
        a.cut();
        a.try_connect(|connect| connect.flip_flags(1));
        a.try_connect(|connect| connect.property(prop::authentication_method("m")));
        a.connect_with(resume);
        a.subscribe("t", 2);
        a.publish_with(
            PublishPacket::new("t", round.to_string())
                .qos(2)
                .id(round + 1),
        );
        a.cut();
        a.connect_with(resume);
        a.send_raw(&bytes::ack(7, 60_000, 0));
        a.send_raw(&[0, 0]);
        assert!(a.is_closed());
    }
    assert!(a.connect_with(resume).session_present);
    a.expect_session_works();
}

impl Client {
    /// Whatever was pending is read; then a message makes its way round.
    fn expect_session_works(&self) {
        self.drain();
        assert_eq!(self.subscribe("works", 0), 0);
        assert_eq!(self.publish("works", "x", 1), ReasonCode::Success);
        let mut texts = self.drain().into_iter().filter_map(|got| match got {
            Got::Publish(message) if message.topic == "works" => Some(message.text().to_string()),
            _ => None,
        });
        assert_eq!(texts.next().as_deref(), Some("x"));
    }
}

#[test]
fn choices_will_delay_does_not_outlast_a_session_that_ended_at_once() {
    let w = World::new(2);
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("will", 0);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.will(WillPacket::new("will", "gone").delay(1_000)));
    a.cut();
    assert_eq!(watcher.receive().text(), "gone");
}

#[test]
fn choices_subscription_identifier_of_a_client_is_refused() {
    let w = World::new(2);
    let other = w.connected(V5, "other");
    other.subscribe("t", 0);
    let a = w.connected(V5, "a");
    a.publish_with(PublishPacket::new("t", "x").property(prop::subscription_id(5)));
    a.expect_disconnect(ReasonCode::ProtocolError);
    other.expect_nothing();
}

#[test]
fn choices_keep_alive_is_not_late_among_many_connections() {
    let w = World::new(2);
    let clients: Vec<Client> = (0..300)
        .map(|n| {
            let client = w.client(V5, &n.to_string());
            client.connect_with(|connect| connect.keep_alive(10 + n % 50));
            client
        })
        .collect();
    // One ping in mid-time puts each off by exactly that much.
    w.advance(5);
    clients.iter().for_each(Client::expect_alive);
    for second in 0..100 {
        for (n, client) in clients.iter().enumerate() {
            let allowed_ms = (10 + n as u64 % 50) * 1_500;
            assert!(
                second * 1_000 >= allowed_ms || !client.is_closed(),
                "{n} too early"
            );
            assert!(
                second * 1_000 <= allowed_ms + 1_000 || client.is_closed(),
                "{n} too late"
            );
        }
        w.advance(1);
    }
}

#[test]
fn choices_100_000_filters_are_subscribed_quickly_and_lose_nothing() {
    let w = World::new(2);
    w.leave_out_checks();
    let a = w.connected(V5, "a");
    let names: Vec<String> = (0..100_000)
        .map(|n| match n % 4 {
            0 => format!("fleet/{n}/+"),
            1 => format!("+/{n}/state"),
            2 => format!("site/{}/device/{n}", n % 97),
            _ => format!("deep/{n}/#"),
        })
        .collect();
    for chunk in names.chunks(1_000) {
        let filters: Vec<(&str, u8)> = chunk.iter().map(|name| (name.as_str(), 0)).collect();
        assert_eq!(a.subscribe_all(&filters, &[]).reasons, vec![0; chunk.len()]);
    }
    let publisher = w.connected(V5, "publisher");
    let mut expected = BTreeSet::new();
    for n in (0..100_000).step_by(997) {
        let topic = match n % 4 {
            0 => format!("fleet/{n}/x"),
            1 => format!("fleet/{n}/state"),
            2 => format!("site/{}/device/{n}", n % 97),
            _ => format!("deep/{n}/a/b/c"),
        };
        publisher.publish(&topic, "x", 0);
        expected.insert(topic);
    }
    let delivered: Vec<String> = a.drain_messages().into_iter().map(|m| m.topic).collect();
    assert_eq!(delivered.len(), expected.len(), "once each");
    assert_eq!(delivered.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn choices_half_of_a_large_packet_reserves_nothing() {
    // What is above our maximum is refused by its length alone; what is not waits for its bytes.
    let w = World::new(1);
    let a = w.connected(V5, "a");
    a.send_raw(&[0x30, 0x80, 0xC2, 0xD7, 0x2F]);
    a.expect_disconnect(ReasonCode::PacketTooLarge);
    a.connect();
    let whole = PublishPacket::new("t", "x".repeat(1_000_000)).build(V5);
    a.subscribe("t", 0);
    let (first, second) = whole.split_at(500_000);
    a.send_raw(first);
    a.expect_nothing();
    a.send_raw(second);
    assert_eq!(a.receive().payload.len(), 1_000_000);
}

#[test]
fn choices_all_versions_are_served_on_one_port() {
    let w = World::new(2);
    let clients = [
        w.connected(V5, "5"),
        w.connected(V311, "311"),
        w.connected(V31, "31"),
    ];
    for client in &clients {
        assert_eq!(client.subscribe("t", 2), 2);
    }
    for publisher in &clients {
        for qos in 0..3 {
            publisher.publish("t", "x", qos);
            for client in &clients {
                let message = client.receive();
                assert_eq!((message.text(), message.qos), ("x", qos));
            }
        }
    }
}
