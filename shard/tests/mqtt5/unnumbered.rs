//! What the specification of 5.0 demands without a number, and what follows from several of its
//! statements together. Names say the section.

use super::support::{bytes, prop, *};
use super::*;

#[test]
fn section_3_3_1_3_retained_messages_sent_on_subscribe_have_retain() {
    let w = World::new(2);
    w.connected(V5, "publisher")
        .publish_retained("t", "kept", 1);
    for options in [0x00, 0x08] {
        let a = w.connected(V5, "a");
        a.subscribe_with_id("t", options | 1, 9);
        let message = a.receive();
        assert_eq!((message.retain, message.qos, message.dup), (true, 1, false));
        assert_eq!(message.subscription_ids, [9]);
    }
}

#[test]
fn section_4_8_2_shared_subscription_is_sent_no_retained_messages() {
    let w = World::new(2);
    let publisher = w.connected(V5, "publisher");
    publisher.publish_retained("t", "kept", 1);
    let a = w.connected(V5, "a");
    assert_eq!(a.subscribe("$share/g/t", 1), 1);
    a.expect_nothing();
    publisher.publish_retained("t", "new", 1);
    let message = a.receive();
    assert_eq!((message.text(), message.retain), ("new", false));
}

#[test]
fn section_4_8_2_each_group_gets_its_copy() {
    let w = World::new(3);
    let members: Vec<Client> = (0..6)
        .map(|n| {
            let member = w.connected(V5, &format!("member {n}"));
            let filter = ["$share/one/t", "$share/two/t", "$share/two/+"][n % 3];
            assert_eq!(member.subscribe(filter, 0), 0);
            member
        })
        .collect();
    w.connected(V5, "publisher").publish("t", "x", 0);
    let counts: Vec<usize> = members
        .iter()
        .map(|member| member.drain_messages().len())
        .collect();
    // Members n and n + 3 share a filter and a name.
    for n in 0..3 {
        assert_eq!(counts[n] + counts[n + 3], 1, "{counts:?}");
    }
}

#[test]
fn section_4_8_2_message_waits_in_the_group_while_all_members_are_away() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(100));
    a.subscribe("$share/g/t", 1);
    a.cut();
    let publisher = w.connected(V5, "publisher");
    assert_eq!(publisher.publish("t", "x", 1), ReasonCode::Success);
    a.connect_with(|connect| connect.clean_start(false));
    assert_eq!(a.receive().text(), "x");
    a.expect_nothing();
}

#[test]
fn section_3_8_3_1_no_local_holds_for_retained_messages_too() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.publish_retained("t", "own", 1);
    a.subscribe("t", 0x04 | 1);
    a.expect_nothing();
    w.connected(V5, "b").publish_retained("t", "other's", 1);
    a.receive();
    a.unsubscribe(&["t"]);
    a.subscribe("t", 0x04 | 1);
    assert_eq!(a.receive().text(), "other's");
}

#[test]
fn section_3_8_4_subscription_may_be_replaced_at_the_limit() {
    let w = World::with_limits(2, |limits| limits.subscriptions_max = 2);
    let a = w.connected(V5, "a");
    assert_eq!(a.subscribe("t", 0), 0);
    assert_eq!(a.subscribe("$share/g/t", 0), 0);
    assert_eq!(a.subscribe("u", 0), 0x97);
    assert_eq!(a.subscribe("t", 1), 1);
    assert_eq!(a.subscribe("$share/g/t", 2), 2);
    a.unsubscribe(&["t"]);
    assert_eq!(a.subscribe("u", 0), 0);
}

#[test]
fn section_3_1_2_11_2_longer_session_expiry_is_capped_and_told() {
    let w = World::with_limits(2, |limits| limits.session_expiry_max_s = 60);
    let a = w.client(V5, "a");
    assert_eq!(
        a.connect_with(|c| c.session_expiry(60)).session_expiry_s,
        None
    );
    a.cut();
    assert_eq!(
        a.connect_with(|c| c.session_expiry(u32::MAX))
            .session_expiry_s,
        Some(60)
    );
    a.cut();
    w.advance(58);
    assert!(
        a.connect_with(|c| c.clean_start(false).session_expiry(100))
            .session_present
    );
    // DISCONNECT is no way around it.
    a.send_raw(&bytes::disconnect(0, &prop::session_expiry(1_000)));
    w.advance(62);
    assert!(
        !a.connect_with(|connect| connect.clean_start(false))
            .session_present
    );
}

#[test]
fn section_3_1_3_2_will_has_all_its_properties() {
    let w = World::new(2);
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("will", 1);
    let old = w.connected(V311, "old");
    old.subscribe("will", 1);
    let will = WillPacket::new("will", "gone")
        .qos(1)
        .delay(5)
        .property(prop::payload_format(1))
        .property(prop::message_expiry(100))
        .property(prop::content_type("text"))
        .property(prop::response_topic("answer"))
        .property(prop::correlation_data(b"data"))
        .property(prop::user_property("n", "v"));
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.will(will).session_expiry(1_000));
    w.advance(500);
    a.cut();
    w.advance(7);
    let message = watcher.receive();
    // The lifetime begins when the will is published.
    assert!(
        matches!(message.message_expiry_s, Some(98..=100)),
        "{message:?}"
    );
    assert_eq!((message.payload_format, message.text()), (Some(1), "gone"));
    assert_eq!(message.content_type.as_deref(), Some("text"));
    assert_eq!(message.response_topic.as_deref(), Some("answer"));
    assert_eq!(message.correlation_data.as_deref(), Some(&b"data"[..]));
    assert_eq!(message.user_properties, [("n".into(), "v".into())]);
    assert_eq!(old.receive().text(), "gone");
}

#[test]
fn section_3_14_disconnect_with_will_and_no_session_publishes_at_once() {
    let w = World::new(2);
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("will", 0);
    let a = w.client(V5, "a");
    let will = WillPacket::new("will", "gone").delay(1_000);
    a.connect_with(|connect| connect.will(will).session_expiry(1_000));
    a.send_raw(&bytes::disconnect(0x04, &prop::session_expiry(0)));
    assert_eq!(watcher.receive().text(), "gone");
}

#[test]
fn section_4_9_smaller_receive_maximum_holds_for_what_is_sent_again() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(100));
    a.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    for n in 0..10 {
        publisher.publish("t", &n.to_string(), 1 + n % 2);
    }
    assert_eq!(a.drain_messages().len(), 10);
    a.cut();
    a.connect_with(|c| c.clean_start(false).session_expiry(100).receive_maximum(2));
    let first = a.message();
    let second = a.message();
    a.expect_nothing();
    a.puback(first.id());
    let third = a.message();
    a.expect_nothing();
    assert_eq!([first.text(), second.text(), third.text()], ["0", "1", "2"]);
}

#[test]
fn section_4_3_acknowledgements_of_unknown_identifiers_do_no_harm() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    for (kind, reason) in [(4, 0), (4, 0x80), (7, 0), (7, 0x92)] {
        a.send_raw(&bytes::ack(kind, 999, reason));
    }
    a.send_raw(&bytes::ack(5, 999, 0x80));
    a.expect_alive();
}

#[test]
fn section_4_1_session_may_be_resumed_by_another_version() {
    let w = World::new(2);
    let (old, new) = (w.client(V311, "a"), w.client(V5, "a"));
    let publisher = w.connected(V5, "publisher");
    let publish = PublishPacket::new("t", "x")
        .qos(1)
        .property(prop::user_property("n", "v"));
    assert!(
        !old.connect_with(|connect| connect.clean_start(false))
            .session_present
    );
    old.subscribe("t", 1);
    publisher.publish_all(publish.clone());
    let sent = old.message();
    let resume = |c: ConnectPacket| c.clean_start(false).session_expiry(100);
    assert!(new.connect_with(resume).session_present);
    old.expect_closed();
    let again = new.receive();
    assert_eq!(
        (again.id(), again.dup, again.user_properties.len()),
        (sent.id(), true, 1)
    );
    publisher.publish_all(publish.clone());
    let sent = new.message();
    assert!(
        old.connect_with(|connect| connect.clean_start(false))
            .session_present
    );
    assert_eq!(old.receive().id(), sent.id());
    // The session now lasts as 3.1.1 says, for ever; a v5 client can end it.
    old.cut();
    w.advance(100_000);
    assert!(
        new.connect_with(|connect| connect.clean_start(false))
            .session_present
    );
    new.cut();
    assert!(
        !new.connect_with(|connect| connect.clean_start(false))
            .session_present
    );
}

#[test]
fn section_3_3_2_3_4_alias_works_at_every_qos_and_for_retained_messages() {
    let w = World::new(2);
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("#", 2);
    let a = w.connected(V5, "a");
    for qos in 0..3 {
        let alias = prop::topic_alias(u16::from(qos) + 1);
        let topic = format!("t/{qos}");
        a.publish_all(
            PublishPacket::new(&topic, "1")
                .qos(qos)
                .property(alias.clone()),
        );
        a.publish_all(
            PublishPacket::new("", "2")
                .qos(qos)
                .retain()
                .property(alias),
        );
        assert_eq!(
            (watcher.receive().topic, watcher.receive().topic),
            (topic.clone(), topic)
        );
    }
    let late = w.connected(V5, "late");
    late.subscribe("t/+", 2);
    assert_eq!(late.drain_messages().len(), 3);
}

#[test]
fn section_3_3_2_3_4_alias_is_the_senders_own() {
    let w = World::new(2);
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("#", 0);
    let (a, b) = (w.connected(V5, "a"), w.connected(V5, "b"));
    a.publish_all(PublishPacket::new("of/a", "x").property(prop::topic_alias(1)));
    b.publish_all(PublishPacket::new("of/b", "x").property(prop::topic_alias(1)));
    a.publish_all(PublishPacket::new("", "y").property(prop::topic_alias(1)));
    let topics: Vec<String> = watcher
        .drain_messages()
        .into_iter()
        .map(|m| m.topic)
        .collect();
    assert_eq!(topics, ["of/a", "of/b", "of/a"]);
    w.connected(V5, "c")
        .publish_all(PublishPacket::new("", "y").property(prop::topic_alias(1)));
    watcher.expect_nothing();
}

#[test]
fn section_3_3_1_1_identifier_in_use_by_one_side_is_free_for_the_other() {
    // Both directions number their messages apart.
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.subscribe("t", 2);
    a.publish_with(PublishPacket::new("t", "x").qos(2).id(1));
    let ours = a.drain();
    let [Got::Publish(message), Got::Ack(pubrec)] = &ours[..] else {
        panic!("{ours:?}")
    };
    assert_eq!((message.id(), pubrec.packet_id), (1, 1));
    a.pubrec(1);
    a.expect_ack(AckKind::Pubrel, 1, ReasonCode::Success);
    a.pubrel(1);
    a.expect_ack(AckKind::Pubcomp, 1, ReasonCode::Success);
    a.pubcomp(1);
    a.expect_alive();
}

#[test]
fn section_4_3_wrong_acknowledgement_for_the_qos_is_a_protocol_error() {
    for (qos, kind) in [(1, 5), (2, 4), (2, 7)] {
        let w = World::new(2);
        let a = w.connected(V5, "a");
        a.subscribe("t", 2);
        let publisher = w.connected(V5, "publisher");
        publisher.publish("t", "x", qos);
        a.send_raw(&bytes::ack(kind, a.message().id(), 0));
        a.expect_disconnect(ReasonCode::ProtocolError);
        publisher.expect_alive();
    }
}

#[test]
fn section_4_13_1_errors_have_no_consequence_for_other_sessions() {
    let w = World::new(3);
    let others: Vec<Client> = (0..6)
        .map(|n| {
            let client = w.connected([V5, V311][n % 2], &format!("other {n}"));
            client.subscribe("t", 1);
            client
        })
        .collect();
    let a = w.client(V5, "a");
    for broken in [
        vec![0xFF; 50],
        packet(0x30, &[0, 200, 1]),
        packet(0x82, &[0, 1, 0, 0, 1]),
        connect().build(),
        bytes::auth(0x18, &[]),
    ] {
        a.connect_with(|connect| connect.session_expiry(100));
        a.send_raw(&broken);
        assert!(a.is_closed());
        for other in &others {
            other.expect_alive();
        }
    }
    // Nor for the session itself, if it outlives its connection.
    assert!(
        a.connect_with(|connect| connect.clean_start(false))
            .session_present
    );
    assert_eq!(a.publish("t", "x", 1), ReasonCode::Success);
    for other in &others {
        assert_eq!(other.receive().text(), "x");
    }
}
