//! MQTT 3.1 (`MQIsdp`, level 3), where it differs from 3.1.1, and the mixtures that clients send.

use super::support::bytes;
use super::*;

fn connect_as(name: &str, level: u8) -> ConnectPacket {
    ConnectPacket {
        protocol_name: name.into(),
        level,
        ..ConnectPacket::new(V31, "c")
    }
}

/// The bytes that this CONNECT is answered with; whether the connection stays.
fn answer(w: &World, connect: &ConnectPacket) -> (Vec<u8>, bool) {
    let client = w.client(V31, "c");
    client.open();
    client.send_raw(&connect.build());
    let answer = (client.take_raw(), !client.is_closed());
    client.cut();
    answer
}

#[test]
fn mqtt31_mqisdp_with_level_3_is_served() {
    World::each(|w| {
        assert_eq!(
            answer(w, &connect_as("MQIsdp", 3)),
            (vec![0x20, 2, 0, 0], true)
        );
    });
}

#[test]
fn mqtt31_mqisdp_with_level_4_is_served_as_3_1_1() {
    World::each(|w| {
        assert_eq!(
            answer(w, &connect_as("MQIsdp", 4)),
            (vec![0x20, 2, 0, 0], true)
        );
        // As in 3.1.1, a stored session is reported and a bad filter is refused alone.
        let client = w.client(V311, "c");
        let odd = |c: ConnectPacket| ConnectPacket {
            protocol_name: "MQIsdp".into(),
            ..c
        };
        client.connect_with(|c| odd(c.clean_start(false)));
        assert_eq!(client.subscribe("a/#/b", 0), 0x80);
        client.cut();
        assert!(
            client
                .connect_with(|c| odd(c.clean_start(false)))
                .session_present
        );
    });
}

#[test]
fn mqtt31_other_names_and_levels_are_refused() {
    World::each(|w| {
        for (name, level) in [("MQIsdp", 2), ("MQIsdp", 0), ("MQIsdp", 6), ("MQTT", 3)] {
            let refused = answer(w, &connect_as(name, level));
            assert_eq!(refused, (vec![0x20, 2, 0, 1], false), "{name} {level}");
        }
    });
}

#[test]
fn mqtt31_connack_has_no_session_present() {
    World::each(|w| {
        let client = w.client(V31, "c");
        client.connect_with(|c| c.clean_start(false));
        client.subscribe("t", 1);
        client.disconnect();
        w.connected(V31, "publisher").publish("t", "x", 1);
        // The byte is reserved in 3.1; the session is resumed all the same.
        assert_eq!(
            client.connect_with(|c| c.clean_start(false)).raw,
            [0x20, 2, 0, 0]
        );
        assert_eq!(client.receive().text(), "x");
    });
}

#[test]
fn mqtt31_an_empty_client_identifier_is_refused() {
    World::each(|w| {
        for clean in [true, false] {
            let empty = ConnectPacket::new(V31, "").clean_start(clean);
            assert_eq!(answer(w, &empty), (vec![0x20, 2, 0, 2], false));
        }
    });
}

#[test]
fn mqtt31_long_client_identifiers_are_served() {
    World::each(|w| {
        w.connected(V31, &"x".repeat(23));
        // 3.1 stops at 23; its clients in the field do not.
        w.connected(V31, &"x".repeat(36));
    });
}

#[test]
fn mqtt31_a_bad_filter_closes_the_connection() {
    World::each(|w| {
        let client = w.connected(V31, "c");
        // 3.1 has no code for a refused subscription.
        client.send_raw(&bytes::subscribe(V31, 1, &[("a/#/b", 0)], &[]));
        client.expect_closed();
    });
}

#[test]
fn mqtt31_messages_flow_between_versions() {
    World::each(|w| {
        let versions = [V31, V311, V5];
        let clients = versions.map(|version| w.connected(version, &format!("{version:?}")));
        for client in &clients {
            client.subscribe("t", 2);
        }
        for sender in &clients {
            for qos in 0..3 {
                let publish = PublishPacket::new("t", "x").qos(qos);
                let id = sender.publish_with(publish);
                if qos == 2 {
                    sender.expect_ack(AckKind::Pubrec, id, ReasonCode::Success);
                    sender.pubrel(id);
                    sender.expect_ack(AckKind::Pubcomp, id, ReasonCode::Success);
                }
                if qos == 1 {
                    sender.expect_ack(AckKind::Puback, id, ReasonCode::Success);
                }
                for client in &clients {
                    let message = client.receive();
                    assert_eq!((message.text(), message.qos), ("x", qos));
                    client.expect_nothing();
                }
            }
        }
    });
}

#[test]
fn mqtt31_retained_messages_wills_and_qos_2_work_as_in_3_1_1() {
    World::each(|w| {
        let client = w.client(V31, "c");
        let will = WillPacket::new("will", "x").qos(1).retain();
        client.connect_with(|c| c.will(will).user_name("user").password(b"pass"));
        client.publish_retained("kept", "y", 2);
        client.cut();
        let late = w.connected(V31, "late");
        late.subscribe("will", 2);
        assert_eq!(late.receive().text(), "x");
        late.subscribe("kept", 2);
        let kept = late.receive();
        assert_eq!((kept.text(), kept.retain, kept.qos), ("y", true, 2));
    });
}

#[test]
fn mqtt31_a_session_may_be_resumed_with_another_version() {
    World::each(|w| {
        let old = w.client(V31, "c");
        old.connect_with(|c| c.clean_start(false));
        old.subscribe("t", 2);
        let publisher = w.connected(V311, "publisher");
        publisher.publish("t", "1", 1);
        publisher.publish("t", "2", 2);
        let sent = old.drain_messages();
        old.cut();
        let new = w.client(V311, "c");
        assert!(new.connect_with(|c| c.clean_start(false)).session_present);
        for expected in sent {
            let message = new.receive();
            assert_eq!(
                (message.id(), message.text()),
                (expected.id(), expected.text())
            );
            assert!(message.dup);
        }
    });
}
