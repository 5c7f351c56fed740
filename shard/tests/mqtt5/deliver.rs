//! Sections 3.3.4 to 3.7: how PUBLISH is answered and delivered, and its acknowledgements.

use super::support::{bytes, prop, *};
use super::*;

#[test]
fn mqtt5_3_3_4_1_publish_is_answered_as_its_qos_demands() {
    let w = World::new(2);
    let subscriber = w.connected(V5, "subscriber");
    subscriber.subscribe("t", 0);
    let a = w.connected(V5, "a");
    a.publish_with(PublishPacket::new("t", "x"));
    a.expect_nothing();
    a.publish_with(PublishPacket::new("t", "x").qos(1).id(5));
    a.expect_ack(AckKind::Puback, 5, ReasonCode::Success);
    a.expect_nothing();
    a.publish_with(PublishPacket::new("t", "x").qos(2).id(6));
    a.expect_ack(AckKind::Pubrec, 6, ReasonCode::Success);
    a.expect_nothing();
    assert_eq!(subscriber.drain_messages().len(), 3);
}

/// The copies that one client with these subscriptions (filter, options, identifier) is sent of a
/// QoS 2 message to `a/b`.
fn copies(subscriptions: &[(&str, u8, Option<usize>)]) -> Vec<Message> {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    for (filter, options, id) in subscriptions {
        match id {
            Some(id) => a.subscribe_with_id(filter, *options, *id),
            None => a.subscribe(filter, *options),
        };
    }
    w.connected(V5, "publisher").publish("a/b", "x", 2);
    let copies = a.drain_messages();
    copies.iter().for_each(|copy| assert_eq!(copy.text(), "x"));
    copies
}

#[test]
fn mqtt5_3_3_4_2_overlapping_subscriptions_deliver_at_the_highest_qos() {
    for (first, second) in [(0, 2), (2, 0), (1, 2), (0, 1), (1, 1)] {
        let copies = copies(&[("a/+", first, None), ("#", second, None), ("a/b", 0, None)]);
        assert_eq!(
            copies.iter().map(|copy| copy.qos).max(),
            Some(first.max(second))
        );
        assert_eq!(copies.len(), 1, "one copy is our choice");
    }
}

#[test]
fn mqtt5_3_3_4_3_identifier_of_the_subscription_is_in_the_message() {
    for id in [1, 127, 128, 16_384, 268_435_455] {
        let copies = copies(&[("a/+", 1, Some(id)), ("a/b", 1, None), ("c", 1, Some(77))]);
        let ids: Vec<u32> = copies
            .into_iter()
            .flat_map(|copy| copy.subscription_ids)
            .collect();
        assert_eq!(ids, [id as u32]);
    }
}

#[test]
fn mqtt5_3_3_4_4_single_copy_has_all_identifiers() {
    let copies = copies(&[
        ("a/+", 0, Some(1)),
        ("#", 2, Some(200)),
        ("a/b", 1, Some(30_000)),
        ("+/b", 1, Some(200)),
    ]);
    let mut ids = copies[0].subscription_ids.clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((copies.len(), ids), (1, vec![1, 200, 30_000]));
}

#[test]
fn mqtt5_3_3_4_5_several_copies_have_their_own_identifiers() {
    // A shared subscription is served apart from the client's other ones.
    let copies = copies(&[("a/+", 1, Some(1)), ("$share/group/a/b", 1, Some(2))]);
    let mut ids: Vec<u32> = copies
        .into_iter()
        .flat_map(|copy| copy.subscription_ids)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn mqtt5_3_3_4_6_publish_with_a_subscription_identifier_is_a_protocol_error() {
    for qos in [0, 1, 2] {
        let mut publish = PublishPacket::new("t", "x").qos(qos);
        publish.packet_id = (qos > 0).then_some(1);
        let publish = publish.property(prop::subscription_id(1));
        breach(&publish.build(V5), ReasonCode::ProtocolError);
    }
}

#[test]
fn mqtt5_3_3_4_7_more_than_our_receive_maximum_is_told_0x93() {
    let w = World::with_limits(2, |limits| limits.receive_maximum = 3);
    let other = w.connected(V5, "other");
    other.subscribe("t", 0);
    let a = w.client(V5, "a");
    assert_eq!(a.connect().receive_maximum, Some(3));
    // PUBCOMP gives the place back.
    for _ in 0..5 {
        a.publish("t", "x", 2);
    }
    assert_eq!(other.drain_messages().len(), 5);
    for _ in 0..3 {
        a.publish_with(PublishPacket::new("t", "x").qos(2));
        assert_eq!(a.ack().kind, AckKind::Pubrec);
    }
    a.publish_with(PublishPacket::new("t", "x").qos(2));
    a.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);
    assert_eq!(other.drain_messages().len(), 3);
}

#[test]
fn mqtt5_3_3_4_9_at_most_the_clients_receive_maximum_is_unacknowledged() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.receive_maximum(2));
    a.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    for n in 0..6 {
        publisher.publish("t", &n.to_string(), 1 + n % 2);
    }
    // 0 and 1 are in flight; each acknowledgement lets one more through.
    let first = a.drain_messages();
    assert_eq!(
        first.iter().map(Message::text).collect::<Vec<_>>(),
        ["0", "1"]
    );
    a.puback(first[0].id());
    let third = a.message();
    assert_eq!(third.text(), "2");
    a.expect_nothing();
    // PUBREC is not enough, PUBCOMP is.
    a.pubrec(first[1].id());
    a.expect_ack(AckKind::Pubrel, first[1].id(), ReasonCode::Success);
    a.expect_nothing();
    a.pubcomp(first[1].id());
    let fourth = a.message();
    assert_eq!(fourth.text(), "3");
    // A PUBREC that reports a failure ends the exchange.
    a.send_raw(&bytes::ack(5, fourth.id(), 0x80));
    assert_eq!(a.message().text(), "4");
    a.expect_nothing();
    a.puback(third.id());
    assert_eq!(a.message().text(), "5");
    a.expect_alive();
}

#[test]
fn mqtt5_3_3_4_10_other_packets_are_not_delayed_at_the_receive_maximum() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.receive_maximum(1));
    a.subscribe("t", 1);
    let publisher = w.connected(V5, "publisher");
    publisher.publish("t", "x", 1);
    publisher.publish("t", "y", 1);
    a.message();
    a.expect_alive();
    assert_eq!(a.subscribe("u", 2), 2);
    assert_eq!(a.unsubscribe(&["u"]), [0]);
    assert_eq!(
        a.publish("nobody", "x", 1),
        ReasonCode::NoMatchingSubscribers
    );
    assert_eq!(
        a.publish("nobody", "x", 2),
        ReasonCode::NoMatchingSubscribers
    );
    a.expect_nothing();
}

/// Codes that Table 3-4 lists for PUBACK, and 3-5 for PUBREC.
const LISTED: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

/// The codes that messages of this QoS are acknowledged with, good ones and bad.
fn codes_of(qos: u8) -> Vec<u8> {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.subscribe("t", 0);
    let not_text = PublishPacket::new("t", [0xFF]).property(prop::payload_format(1));
    [
        PublishPacket::new("t", "x"),
        PublishPacket::new("nobody", "x"),
        PublishPacket::new("$SYS/x", "x"),
        PublishPacket::new("$share/g/t", "x"),
        not_text,
    ]
    .into_iter()
    .map(|publish| a.publish_all(publish.qos(qos)) as u8)
    .collect()
}

#[test]
fn mqtt5_3_4_2_1_codes_of_puback_are_those_listed_for_it() {
    assert_eq!(codes_of(1), [0x00, 0x10, 0x87, 0x87, 0x99]);
    assert!(codes_of(1).iter().all(|code| LISTED.contains(code)));
    // A client's PUBACK with a code of another packet is malformed or a protocol error.
    let reasons = [ReasonCode::MalformedPacket, ReasonCode::ProtocolError];
    for code in [0x01, 0x11, 0x8E, 0xFF] {
        breach_any(&bytes::ack(4, 1, code), &reasons);
    }
}

#[test]
fn mqtt5_3_5_2_1_codes_of_pubrec_are_those_listed_for_it() {
    assert_eq!(codes_of(2), [0x00, 0x10, 0x87, 0x87, 0x99]);
    let reasons = [ReasonCode::MalformedPacket, ReasonCode::ProtocolError];
    for code in [0x01, 0x92, 0xFF] {
        breach_any(&bytes::ack(5, 1, code), &reasons);
    }
}

/// Refused PUBLISH packets of this QoS are answered within the client's Maximum Packet Size.
fn refusals_stay_small(qos: u8) {
    with_small_packets(|_, a, bytes_max| {
        a.publish_with(PublishPacket::new("$SYS/x", "x").qos(qos));
        let received = expect_small(a, bytes_max);
        let [Got::Ack(ack)] = &received[..] else {
            panic!("{received:?}")
        };
        assert_eq!(ack.reason, ReasonCode::NotAuthorized);
    });
}

#[test]
fn mqtt5_3_4_2_2_reason_string_never_makes_puback_too_large() {
    refusals_stay_small(1);
}

#[test]
fn mqtt5_3_4_2_3_user_properties_never_make_puback_too_large() {
    refusals_stay_small(1);
    let a = World::new(1).connected(V5, "a");
    a.publish_with(PublishPacket::new("$SYS/x", "x").qos(1));
    assert_eq!(a.ack().user_properties, []);
}

#[test]
fn mqtt5_3_5_2_2_reason_string_never_makes_pubrec_too_large() {
    refusals_stay_small(2);
}

#[test]
fn mqtt5_3_5_2_3_user_properties_never_make_pubrec_too_large() {
    refusals_stay_small(2);
    let a = World::new(1).connected(V5, "a");
    a.publish_with(PublishPacket::new("$SYS/x", "x").qos(2));
    assert_eq!(a.ack().user_properties, []);
}

#[test]
fn mqtt5_3_6_1_1_other_flags_of_pubrel_are_malformed() {
    for flags in (0..16).filter(|flags| *flags != 2) {
        breach(&packet(0x60 | flags, &[0, 1]), ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt5_3_6_2_1_codes_of_pubrel_are_those_listed_for_it() {
    let w = World::new(1);
    let a = w.connected(V5, "a");
    a.subscribe("t", 2);
    a.publish("t", "x", 2);
    let id = a.message().id();
    a.pubrec(id);
    a.expect_ack(AckKind::Pubrel, id, ReasonCode::Success);
    a.pubrec(999);
    a.expect_ack(AckKind::Pubrel, 999, ReasonCode::PacketIdentifierNotFound);
    let reasons = [ReasonCode::MalformedPacket, ReasonCode::ProtocolError];
    for code in [0x10, 0x80, 0xFF] {
        breach_any(&bytes::ack(6, 1, code), &reasons);
    }
}

#[test]
fn mqtt5_3_7_2_1_codes_of_pubcomp_are_those_listed_for_it() {
    let a = World::new(1).connected(V5, "a");
    a.publish_with(PublishPacket::new("t", "x").qos(2).id(7));
    a.ack();
    a.pubrel(7);
    a.expect_ack(AckKind::Pubcomp, 7, ReasonCode::Success);
    a.pubrel(7);
    a.expect_ack(AckKind::Pubcomp, 7, ReasonCode::PacketIdentifierNotFound);
    let reasons = [ReasonCode::MalformedPacket, ReasonCode::ProtocolError];
    for code in [0x10, 0x80, 0xFF] {
        breach_any(&bytes::ack(7, 1, code), &reasons);
    }
}

/// An answer to an identifier that is not in use (PUBREC or PUBREL, by number) stays small.
fn not_found_stays_small(kind: u8) {
    with_small_packets(|_, a, bytes_max| {
        a.send_raw(&bytes::ack(kind, 999, 0));
        let received = expect_small(a, bytes_max);
        let [Got::Ack(ack)] = &received[..] else {
            panic!("{received:?}")
        };
        assert_eq!(ack.reason, ReasonCode::PacketIdentifierNotFound);
        assert_eq!(ack.user_properties, []);
    });
}

#[test]
fn mqtt5_3_6_2_2_reason_string_never_makes_pubrel_too_large() {
    not_found_stays_small(5);
}

#[test]
fn mqtt5_3_6_2_3_user_properties_never_make_pubrel_too_large() {
    not_found_stays_small(5);
}

#[test]
fn mqtt5_3_7_2_2_reason_string_never_makes_pubcomp_too_large() {
    not_found_stays_small(6);
}

#[test]
fn mqtt5_3_7_2_3_user_properties_never_make_pubcomp_too_large() {
    not_found_stays_small(6);
}
