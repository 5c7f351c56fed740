//! Sections 4.7 and 4.8: topic names, topic filters, shared subscriptions.

use super::support::{bytes, *};
use super::*;

#[test]
fn mqtt5_4_7_0_1_wildcards_are_not_for_topic_names() {
    for topic in ["#", "+", "a/+", "a/#", "$share/g/#"] {
        let publish = PublishPacket::new(topic, "x").build(V5);
        breach(&publish, ReasonCode::TopicNameInvalid);
    }
    // Nor for the will's.
    for topic in ["#", "a/+"] {
        let connect = connect().will(WillPacket::new(topic, "x"));
        refuse(&connect.build(), ReasonCode::TopicNameInvalid);
    }
}

/// Subscribes to each, and compares whether it was granted.
#[track_caller]
fn check_filters(filters: &[(&str, bool)]) {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    for (filter, is_valid) in filters {
        let code = a.subscribe(filter, 0);
        assert_eq!(code, if *is_valid { 0 } else { 0x8F }, "{filter:?}");
        // A share of it is no different.
        let code = a.subscribe(&format!("$share/g/{filter}"), 0);
        assert_eq!(
            code,
            if *is_valid { 0 } else { 0x8F },
            "a share of {filter:?}"
        );
    }
    a.expect_alive();
}

#[test]
fn mqtt5_4_7_1_1_multi_level_wildcard_stands_alone_at_the_end() {
    check_filters(&[
        ("#", true),
        ("a/#", true),
        ("a/b/#", true),
        ("/#", true),
        ("+/#", true),
        ("a#", false),
        ("a/b#", false),
        ("#/a", false),
        ("a/#/b", false),
        ("##", false),
        ("#/", false),
        ("a/+#", false),
    ]);
}

#[test]
fn mqtt5_4_7_1_2_single_level_wildcard_fills_a_level() {
    check_filters(&[
        ("+", true),
        ("+/a", true),
        ("a/+/b", true),
        ("a/+", true),
        ("+/+", true),
        ("/+", true),
        ("+/", true),
        ("a+", false),
        ("+a", false),
        ("a/b+/c", false),
        ("++", false),
        ("a/++", false),
    ]);
}

/// Whether a message to `topic` reaches a subscriber to `filter`, on another shard or not.
fn matches(filter: &str, topic: &str) -> bool {
    let w = World::new(2);
    let subscribers = [
        w.connected(V5, "one"),
        w.connected(V5, "two"),
        w.connected(V5, "three"),
    ];
    for subscriber in &subscribers {
        assert_eq!(subscriber.subscribe(filter, 0), 0, "{filter}");
    }
    w.connected(V5, "publisher").publish(topic, "x", 0);
    let counts: Vec<usize> = subscribers
        .iter()
        .map(|s| s.drain_messages().len())
        .collect();
    assert!(counts == [1, 1, 1] || counts == [0, 0, 0], "{counts:?}");
    counts[0] == 1
}

#[test]
fn mqtt5_4_7_1_1_multi_level_wildcard_matches_parent_and_children() {
    for (filter, topic, expected) in [
        ("sport/tennis/#", "sport/tennis", true),
        ("sport/tennis/#", "sport/tennis/player/ranking", true),
        ("sport/tennis/#", "sport/tenni", false),
        ("sport/#", "sport", true),
        ("#", "any/thing", true),
        ("#", "/", true),
        ("/#", "/any", true),
        ("/#", "any", false),
    ] {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
}

#[test]
fn mqtt5_4_7_1_2_single_level_wildcard_matches_one_level() {
    for (filter, topic, expected) in [
        ("sport/+", "sport/tennis", true),
        ("sport/+", "sport/tennis/player", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+/tennis/#", "sport/tennis/x/y", true),
    ] {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
}

#[test]
fn mqtt5_4_7_2_1_leading_wildcard_does_not_match_dollar_topics() {
    for (filter, topic, expected) in [
        ("#", "$a/b", false),
        ("+/b", "$a/b", false),
        ("+", "$a", false),
        ("+/#", "$a/b", false),
        ("$a/#", "$a/b", true),
        ("$a/+", "$a/b", true),
        ("a/+", "a/$b", true),
        ("a/#", "a/$b", true),
    ] {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
    // Retained messages are hidden likewise.
    let w = World::new(2);
    w.connected(V5, "publisher")
        .publish_retained("$a/b", "x", 0);
    let a = w.connected(V5, "a");
    a.subscribe("#", 0);
    a.subscribe("+/b", 0);
    a.expect_nothing();
    a.subscribe("$a/#", 0);
    assert_eq!(a.receive().text(), "x");
}

#[test]
fn mqtt5_4_7_3_1_empty_topics_and_filters_are_refused() {
    breach(
        &PublishPacket::new("", "x").build(V5),
        ReasonCode::ProtocolError,
    );
    let a = World::new(1).connected(V5, "a");
    assert_eq!(a.subscribe("", 0), 0x8F);
    a.expect_alive();
    // One character is enough, and a level may be empty.
    assert!(matches("/", "/"));
    assert!(matches(" ", " "));
}

#[test]
fn mqtt5_4_7_3_2_null_character_in_a_topic_or_filter_is_malformed() {
    breach(
        &PublishPacket::new("a\0", "x").build(V5),
        ReasonCode::MalformedPacket,
    );
    breach(
        &bytes::subscribe(V5, 1, &[("a\0", 0)], &[]),
        ReasonCode::MalformedPacket,
    );
    breach(
        &bytes::unsubscribe(V5, 1, &["a\0"], &[]),
        ReasonCode::MalformedPacket,
    );
}

#[test]
fn mqtt5_4_7_3_3_topics_of_65_535_bytes_are_served() {
    let topic = "ü".repeat(32_767) + "x";
    assert_eq!(topic.len(), 65_535);
    assert!(matches(&topic, &topic));
    assert!(matches("#", &topic));
}

#[test]
fn mqtt5_4_7_3_4_topics_are_compared_without_normalisation() {
    // The same letter composed and decomposed, case, and a trailing slash or blank.
    let topics = [
        "caf\u{E9}",
        "cafe\u{301}",
        "CAF\u{C9}",
        "caf\u{E9}/",
        "caf\u{E9} ",
        "/caf\u{E9}",
    ];
    for filter in topics {
        for topic in topics {
            assert_eq!(
                matches(filter, topic),
                filter == topic,
                "{filter:?} {topic:?}"
            );
        }
    }
}

#[test]
fn mqtt5_4_8_2_1_share_without_a_name_is_told_0x8f() {
    let a = World::new(2).connected(V5, "a");
    for filter in ["$share//t", "$share/", "$share//"] {
        assert_eq!(a.subscribe(filter, 0), 0x8F, "{filter}");
    }
    assert_eq!(a.subscribe("$share/g/t", 0), 0);
    a.expect_alive();
}

#[test]
fn mqtt5_4_8_2_2_bad_share_name_or_filter_is_told_0x8f() {
    let a = World::new(2).connected(V5, "a");
    for filter in [
        "$share/g",
        "$share/g/",
        "$share/g+/t",
        "$share/#/t",
        "$share/+/t",
        "$share/g#",
    ] {
        assert_eq!(a.subscribe(filter, 0), 0x8F, "{filter}");
    }
    a.expect_alive();
}

/// Members of one share of `t`, with sessions that last.
fn members(w: &World, qos: &[u8]) -> Vec<Client> {
    qos.iter()
        .enumerate()
        .map(|(n, qos)| {
            let member = w.client(V5, &format!("member {n}"));
            member.connect_with(|connect| connect.session_expiry(1_000));
            assert_eq!(member.subscribe("$share/g/t", *qos), *qos);
            member
        })
        .collect()
}

#[test]
fn mqtt5_4_8_2_3_each_member_is_served_at_its_own_qos() {
    let w = World::new(2);
    let members = members(&w, &[0, 1, 2]);
    let publisher = w.connected(V5, "publisher");
    for _ in 0..12 {
        publisher.publish("t", "x", 2);
    }
    let mut total = 0;
    for (qos, member) in members.iter().enumerate() {
        let messages = member.drain_messages();
        total += messages.len();
        assert!(!messages.is_empty(), "every member has its turn");
        assert!(
            messages
                .iter()
                .all(|message| usize::from(message.qos) == qos)
        );
    }
    assert_eq!(total, 12, "each message goes to one member");
}

/// Sends one QoS 2 message to a share of two and returns the member that got it, and the other.
fn deliver_to_one(w: &World) -> (Client, Client, Message) {
    let members = members(w, &[2, 2]);
    w.connected(V5, "publisher").publish("t", "x", 2);
    let mut got: Vec<Vec<Message>> = members.iter().map(Client::drain_messages).collect();
    let chosen = got
        .iter()
        .position(|messages| !messages.is_empty())
        .expect("one got it");
    assert!(got[1 - chosen].is_empty(), "both got it");
    (
        members[chosen].clone(),
        members[1 - chosen].clone(),
        got[chosen].remove(0),
    )
}

#[test]
fn mqtt5_4_8_2_4_delivery_is_completed_with_the_same_member() {
    let w = World::new(2);
    let (chosen, other, message) = deliver_to_one(&w);
    chosen.cut();
    w.advance(100);
    other.expect_nothing();
    chosen.connect_with(|connect| connect.clean_start(false).session_expiry(1_000));
    let again = chosen.receive();
    assert_eq!(
        (again.id(), again.dup, again.text()),
        (message.id(), true, "x")
    );
    other.expect_nothing();
}

#[test]
fn mqtt5_4_8_2_5_qos_2_message_of_an_ended_session_goes_to_no_other_member() {
    let w = World::new(2);
    let (chosen, other, message) = deliver_to_one(&w);
    chosen.pubrec(message.id());
    chosen.cut();
    w.advance(2_000);
    other.expect_nothing();
    // The same if the exchange had got no further than PUBLISH.
    let w = World::new(2);
    let (chosen, other, _) = deliver_to_one(&w);
    chosen.cut();
    chosen.connect();
    chosen.expect_nothing();
    other.expect_nothing();
}

#[test]
fn mqtt5_4_8_2_6_message_that_a_member_refuses_is_dropped() {
    for qos in [1, 2] {
        let w = World::new(2);
        let members = members(&w, &[2, 2]);
        w.connected(V5, "publisher").publish("t", "x", qos);
        for (n, member) in members.iter().enumerate() {
            for message in member.drain_messages() {
                member.send_raw(&bytes::ack(3 + qos, message.id(), 0x83));
                w.advance(100);
                members[1 - n].expect_nothing();
                member.expect_nothing();
                member.cut();
                w.advance(2_000);
                members[1 - n].expect_nothing();
            }
        }
    }
}
