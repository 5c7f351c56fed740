//! Sections 3.8 to 3.11: SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK.

use super::support::{bytes, *};
use super::*;

#[test]
fn mqtt5_3_8_1_1_other_flags_of_subscribe_are_malformed() {
    let body = &bytes::subscribe(V5, 1, &[("t", 0)], &[])[2..];
    for flags in (0..16).filter(|flags| *flags != 2) {
        breach(&packet(0x80 | flags, body), ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt5_3_8_3_1_filter_that_is_not_utf8_is_malformed() {
    let body = [&[0, 1, 0][..], &bytes::binary(&[b't', 0xFF]), &[0]].concat();
    breach(&packet(0x82, &body), ReasonCode::MalformedPacket);
    // The good filter beside it is not subscribed to either: the packet is refused whole.
    let good = [&string("u")[..], &[0]].concat();
    let body = [&[0, 1, 0][..], &good, &bytes::binary(&[0xFF]), &[0]].concat();
    breach(&packet(0x82, &body), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_8_3_2_subscribe_without_a_filter_is_a_protocol_error() {
    breach(
        &bytes::subscribe(V5, 1, &[], &[]),
        ReasonCode::ProtocolError,
    );
}

#[test]
fn mqtt5_3_8_3_3_no_local_keeps_a_clients_own_messages_away() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.subscribe("t", 0x04 | 1);
    a.subscribe("u", 1);
    let b = w.connected(V5, "b");
    b.subscribe("t", 1);
    for qos in 0..3 {
        a.publish("t", "own", qos);
        a.expect_nothing();
        assert_eq!(b.receive().text(), "own");
        b.publish("t", "other's", qos);
        assert_eq!(a.receive().text(), "other's");
        assert_eq!(b.receive().text(), "other's");
    }
    a.publish("u", "own", 0);
    assert_eq!(a.receive().text(), "own");
}

#[test]
fn mqtt5_3_8_3_3_no_local_looks_at_the_client_identifier() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(100));
    a.subscribe("t", 0x04 | 1);
    a.cut();
    a.connect_with(|connect| connect.clean_start(false));
    // Another connection of the same identifier is the same client.
    a.publish("t", "own", 1);
    a.expect_nothing();
}

#[test]
fn mqtt5_3_8_3_4_no_local_on_a_share_is_a_protocol_error() {
    let subscribe = bytes::subscribe(V5, 1, &[("$share/g/t", 0x04)], &[]);
    breach(&subscribe, ReasonCode::ProtocolError);
}

#[test]
fn mqtt5_3_8_3_5_reserved_option_bits_are_malformed() {
    for options in [0x40, 0x80, 0xC0, 0x41] {
        let subscribe = bytes::subscribe(V5, 1, &[("t", 0), ("u", options)], &[]);
        breach(&subscribe, ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt5_3_8_3_5_qos_3_and_retain_handling_3_are_protocol_errors() {
    // 3.8.3.1, not numbered.
    for options in [0x03, 0x30] {
        let subscribe = bytes::subscribe(V5, 1, &[("t", options)], &[]);
        breach(&subscribe, ReasonCode::ProtocolError);
    }
}

#[test]
fn mqtt5_3_8_4_1_subscribe_is_answered_by_suback() {
    let w = World::new(3);
    let a = w.connected(V5, "a");
    for (id, filter) in [
        (1, "t"),
        (2, "t/#"),
        (3, "$share/g/t"),
        (4, "$SYS/#"),
        (5, "bad/#/f"),
    ] {
        a.send_raw(&bytes::subscribe(V5, id, &[(filter, 0)], &[]));
        assert_eq!(a.suback().reasons.len(), 1, "{filter}");
        a.expect_nothing();
    }
}

#[test]
fn mqtt5_3_8_4_2_suback_has_the_identifier_of_its_subscribe() {
    let w = World::new(3);
    let a = w.connected(V5, "a");
    // Many at once, of filters that live on different shards: each is answered once.
    let ids: Vec<u16> = (1..=50).map(|n| n * 1_000).collect();
    let packets: Vec<u8> = ids
        .iter()
        .flat_map(|id| bytes::subscribe(V5, *id, &[(&format!("t/{id}"), 0)], &[]))
        .collect();
    a.send_raw(&packets);
    let mut answered: Vec<u16> = ids.iter().map(|_| a.suback().packet_id).collect();
    a.expect_nothing();
    answered.sort_unstable();
    assert_eq!(answered, ids);
}

#[test]
fn mqtt5_3_8_4_3_identical_filter_replaces_the_subscription() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.subscribe_with_id("t/+", 0x08 | 2, 7);
    let publisher = w.connected(V5, "publisher");
    publisher.publish_retained("t/1", "x", 2);
    let first = a.receive();
    assert_eq!(
        (first.qos, first.retain, first.subscription_ids),
        (2, true, vec![7])
    );
    // QoS, options and identifier are all replaced; there is one copy, not two.
    a.subscribe("t/+", 0x20 | 1);
    publisher.publish_retained("t/1", "y", 2);
    let second = a.receive();
    assert_eq!(
        (second.qos, second.retain, second.subscription_ids),
        (1, false, vec![])
    );
    a.expect_nothing();
}

#[test]
fn mqtt5_3_8_4_4_replacing_sends_retained_again_and_loses_nothing() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    let publisher = w.connected(V5, "publisher");
    publisher.publish_retained("t", "kept", 1);
    a.subscribe("t", 1);
    assert_eq!(a.receive().text(), "kept");
    publisher.publish("t", "before", 1);
    a.subscribe("t", 1);
    publisher.publish("t", "after", 1);
    let texts: Vec<String> = a.drain_messages().iter().map(|m| m.text().into()).collect();
    assert_eq!(texts, ["before", "kept", "after"]);
}

#[test]
fn mqtt5_3_8_4_5_several_filters_work_as_several_packets() {
    let w = World::new(3);
    let a = w.connected(V5, "a");
    let filters = [
        ("a", 0),
        ("b/+", 1),
        ("bad/#/filter", 0),
        ("c/#", 2),
        ("a", 1),
    ];
    assert_eq!(a.subscribe_all(&filters, &[]).reasons, [0, 1, 0x8F, 2, 1]);
    a.expect_nothing();
    let publisher = w.connected(V5, "publisher");
    for (topic, qos) in [("a", 1), ("b/1", 1), ("c/1/2", 2)] {
        publisher.publish(topic, topic, 2);
        let message = a.receive();
        assert_eq!((message.text(), message.qos), (topic, qos));
    }
    a.expect_nothing();
}

#[test]
fn mqtt5_3_8_4_6_suback_has_a_code_for_each_filter() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    for count in [1, 2, 100, 1_000] {
        let names: Vec<String> = (0..count).map(|n| format!("t/{n}")).collect();
        let filters: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        assert_eq!(a.subscribe_all(&filters, &[]).reasons, vec![1; count]);
    }
}

#[test]
fn mqtt5_3_8_4_7_code_is_the_qos_granted_or_a_failure() {
    let a = World::new(2).connected(V5, "a");
    for qos in 0..3 {
        assert_eq!(a.subscribe("t", qos), qos);
        assert_eq!(a.subscribe("$share/g/t", qos), qos);
    }
    assert_eq!(a.subscribe("a#", 0), 0x8F);
}

#[test]
fn mqtt5_3_8_4_8_message_is_delivered_at_the_lower_qos() {
    for granted in 0..3 {
        for published in 0..3 {
            let w = World::new(2);
            let publisher = w.connected(V5, "publisher");
            let a = w.connected(V5, "a");
            a.subscribe("t", granted);
            publisher.publish_retained("t", "x", published);
            assert_eq!(a.receive().qos, granted.min(published));
            // Retained messages are no exception.
            let late = w.connected(V5, "late");
            late.subscribe("t", granted);
            assert_eq!(late.receive().qos, granted.min(published));
        }
    }
}

/// SUBACK of refused filters within each Maximum Packet Size.
fn suback_stays_small() {
    with_small_packets(|_, a, bytes_max| {
        a.send_raw(&bytes::subscribe(V5, 1, &[("a#", 0), ("t", 1)], &[]));
        let received = expect_small(a, bytes_max);
        let [Got::Suback(suback)] = &received[..] else {
            panic!("{received:?}")
        };
        assert_eq!(
            (&suback.reasons[..], &suback.user_properties[..]),
            (&[0x8F, 1][..], &[][..])
        );
    });
}

#[test]
fn mqtt5_3_9_2_1_reason_string_never_makes_suback_too_large() {
    suback_stays_small();
}

#[test]
fn mqtt5_3_9_2_2_user_properties_never_make_suback_too_large() {
    suback_stays_small();
}

#[test]
fn mqtt5_3_9_3_1_codes_of_suback_are_in_the_order_of_the_filters() {
    let w = World::new(3);
    let a = w.connected(V5, "a");
    let filters = [
        ("a", 2),
        ("b", 0),
        ("c#", 0),
        ("d", 1),
        ("$share//e", 1),
        ("f", 2),
    ];
    assert_eq!(
        a.subscribe_all(&filters, &[]).reasons,
        [2, 0, 0x8F, 1, 0x8F, 2]
    );
    let backwards: Vec<(&str, u8)> = filters.iter().rev().copied().collect();
    assert_eq!(
        a.subscribe_all(&backwards, &[]).reasons,
        [2, 0x8F, 1, 0x8F, 0, 2]
    );
}

#[test]
fn mqtt5_3_9_3_2_codes_of_suback_are_those_listed_for_it() {
    let listed = [
        0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
    ];
    let w = World::with_limits(1, |limits| limits.subscriptions_max = 3);
    let a = w.connected(V5, "a");
    let deep = "x/".repeat(500);
    let filters = [
        ("", 0),
        ("a#", 0),
        ("$share/g", 0),
        (&deep, 0),
        ("b", 0),
        ("c", 1),
        ("d", 2),
        ("e", 1),
    ];
    let reasons = a.subscribe_all(&filters, &[]).reasons;
    assert!(
        reasons.iter().all(|code| listed.contains(code)),
        "{reasons:02x?}"
    );
    assert_eq!(reasons[..7], [0x8F, 0x8F, 0x8F, 0x8F, 0, 1, 2]);
    assert_eq!(
        reasons[7], 0x97,
        "the subscriptions of one session are limited"
    );
}

#[test]
fn mqtt5_3_10_1_1_other_flags_of_unsubscribe_are_malformed() {
    let body = &bytes::unsubscribe(V5, 1, &["t"], &[])[2..];
    for flags in (0..16).filter(|flags| *flags != 2) {
        breach(&packet(0xA0 | flags, body), ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt5_3_10_3_1_filter_to_unsubscribe_that_is_not_utf8_is_malformed() {
    let body = [&[0, 1, 0][..], &bytes::binary(&[b't', 0xFF])].concat();
    breach(&packet(0xA2, &body), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_10_3_2_unsubscribe_without_a_filter_is_a_protocol_error() {
    breach(
        &bytes::unsubscribe(V5, 1, &[], &[]),
        ReasonCode::ProtocolError,
    );
}

#[test]
fn mqtt5_3_10_4_1_filters_are_compared_character_by_character() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.subscribe_all(&[("a/b", 0), ("a/+", 0), ("$share/g/a/b", 0)], &[]);
    // A wildcard removes no filter that it would match.
    let others = ["a/#", "a/B", "a/b/", "+/b", "$share/h/a/b", "#"];
    assert_eq!(a.unsubscribe(&others), vec![0x11; others.len()]);
    assert_eq!(a.unsubscribe(&["a/+"]), [0]);
    assert_eq!(a.unsubscribe(&["a/+"]), [0x11]);
    let publisher = w.connected(V5, "publisher");
    publisher.publish("a/c", "x", 0);
    a.expect_nothing();
    publisher.publish("a/b", "x", 0);
    assert_eq!(
        a.drain_messages().len(),
        2,
        "one of the subscription, one of the share"
    );
    assert_eq!(a.unsubscribe(&["$share/g/a/b", "a/b"]), [0, 0]);
    publisher.publish("a/b", "x", 0);
    a.expect_nothing();
}

#[test]
fn mqtt5_3_10_4_2_no_new_message_is_added_after_unsubscribe() {
    for shards in [1, 2, 3] {
        let w = World::new(shards);
        let publisher = w.connected(V5, "publisher");
        let a = w.client(V5, "a");
        a.connect_with(|connect| connect.session_expiry(100));
        a.subscribe("t", 1);
        a.unsubscribe(&["t"]);
        assert_eq!(
            publisher.publish("t", "x", 1),
            ReasonCode::NoMatchingSubscribers
        );
        a.cut();
        publisher.publish("t", "x", 1);
        a.connect_with(|connect| connect.clean_start(false));
        a.expect_nothing();
    }
}

#[test]
fn mqtt5_3_10_4_3_deliveries_that_had_begun_are_completed() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(100));
    a.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    publisher.publish("t", "one", 1);
    publisher.publish("t", "two", 2);
    let (one, two) = (a.message(), a.message());
    a.unsubscribe(&["t"]);
    a.pubrec(two.id());
    a.expect_ack(AckKind::Pubrel, two.id(), ReasonCode::Success);
    a.cut();
    a.connect_with(|connect| connect.clean_start(false));
    let again = a.message();
    assert_eq!(
        (again.id(), again.text(), again.dup),
        (one.id(), "one", true)
    );
    a.puback(again.id());
    a.expect_ack(AckKind::Pubrel, two.id(), ReasonCode::Success);
    a.pubcomp(two.id());
    a.expect_nothing();
}

#[test]
fn mqtt5_3_10_4_4_unsubscribe_is_answered_by_unsuback() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    for filter in ["t", "t/#", "$share/g/t", "bad/#/filter", ""] {
        assert_eq!(a.unsubscribe(&[filter]).len(), 1);
        a.expect_nothing();
    }
}

#[test]
fn mqtt5_3_10_4_5_unsuback_has_the_identifier_even_if_nothing_was_removed() {
    let a = World::new(2).connected(V5, "a");
    a.subscribe("t", 0);
    for (id, code) in [(1, 0), (65_535, 0x11)] {
        a.send_raw(&bytes::unsubscribe(V5, id, &["t"], &[]));
        let unsuback = a.unsuback();
        assert_eq!(
            (unsuback.packet_id, &unsuback.reasons[..]),
            (id, &[code][..])
        );
    }
}

#[test]
fn mqtt5_3_10_4_6_several_filters_are_removed_with_one_unsuback() {
    let w = World::new(3);
    let a = w.connected(V5, "a");
    a.subscribe_all(&[("a", 0), ("b/+", 0), ("c/#", 0), ("d", 0)], &[]);
    assert_eq!(a.unsubscribe(&["a", "b/+", "c/#", "a"]), [0, 0, 0, 0x11]);
    a.expect_nothing();
    let publisher = w.connected(V5, "publisher");
    for topic in ["a", "b/1", "c", "d"] {
        publisher.publish(topic, "x", 0);
    }
    assert_eq!(a.receive().topic, "d");
    a.expect_nothing();
}

/// UNSUBACK within each Maximum Packet Size.
fn unsuback_stays_small() {
    with_small_packets(|_, a, bytes_max| {
        a.send_raw(&bytes::unsubscribe(V5, 1, &["a#", "t"], &[]));
        let received = expect_small(a, bytes_max);
        let [Got::Unsuback(unsuback)] = &received[..] else {
            panic!("{received:?}")
        };
        assert_eq!(
            (unsuback.reasons.len(), &unsuback.user_properties[..]),
            (2, &[][..])
        );
    });
}

#[test]
fn mqtt5_3_11_2_1_reason_string_never_makes_unsuback_too_large() {
    unsuback_stays_small();
}

#[test]
fn mqtt5_3_11_2_2_user_properties_never_make_unsuback_too_large() {
    unsuback_stays_small();
}

#[test]
fn mqtt5_3_11_3_1_codes_of_unsuback_are_in_the_order_of_the_filters() {
    let a = World::new(3).connected(V5, "a");
    a.subscribe_all(&[("a", 0), ("c", 0)], &[]);
    assert_eq!(a.unsubscribe(&["a", "b", "c", "d"]), [0, 0x11, 0, 0x11]);
    a.subscribe_all(&[("a", 0), ("c", 0)], &[]);
    assert_eq!(a.unsubscribe(&["d", "c", "b", "a"]), [0x11, 0, 0x11, 0]);
}

#[test]
fn mqtt5_3_11_3_2_codes_of_unsuback_are_those_listed_for_it() {
    let listed = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
    let a = World::new(2).connected(V5, "a");
    a.subscribe("t", 0);
    let reasons = a.unsubscribe(&["t", "u", "a#", "", "$share/g", "$share//t"]);
    assert!(
        reasons.iter().all(|code| listed.contains(code)),
        "{reasons:02x?}"
    );
    assert_eq!(reasons[..2], [0, 0x11]);
}
