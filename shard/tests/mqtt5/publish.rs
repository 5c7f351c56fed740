//! Sections 3.3.1 and 3.3.2: PUBLISH, its flags, topic and properties.

use super::support::{bytes, prop, *};
use super::*;
use std::collections::BTreeMap;

#[test]
fn mqtt5_3_3_1_1_message_that_is_sent_again_has_dup() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(100));
    a.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    for qos in [1, 2] {
        publisher.publish("t", "x", qos);
        assert!(!a.message().dup);
    }
    for _ in 0..2 {
        a.cut();
        a.connect_with(|connect| connect.clean_start(false).session_expiry(100));
        let again = a.drain_messages();
        assert_eq!(
            again.iter().map(|m| (m.qos, m.dup)).collect::<Vec<_>>(),
            [(1, true), (2, true)]
        );
    }
}

#[test]
fn mqtt5_3_3_1_2_qos_0_with_dup_is_malformed() {
    let dup = PublishPacket::new("t", "x").dup().build(V5);
    breach_any(
        &dup,
        &[ReasonCode::MalformedPacket, ReasonCode::ProtocolError],
    );
}

#[test]
fn mqtt5_3_3_1_3_dup_of_the_publisher_is_not_passed_on() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    for qos in [1, 2] {
        publisher.publish_all(PublishPacket::new("t", "x").qos(qos).dup());
        assert!(!a.receive().dup);
    }
}

#[test]
fn mqtt5_3_3_1_4_qos_3_is_malformed() {
    let qos_3 = PublishPacket::new("t", "x").qos(3).id(1).build(V5);
    breach(&qos_3, ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_3_1_5_retained_message_replaces_the_one_before_with_its_qos() {
    let w = World::new(2);
    let publisher = w.connected(V5, "publisher");
    for (text, qos) in [("first", 1), ("second", 0), ("third", 2)] {
        publisher.publish_retained("t", text, qos);
        let a = w.connected(V5, "a");
        a.subscribe("t", 2);
        let message = a.receive();
        assert_eq!(
            (message.text(), message.qos, message.retain),
            (text, qos, true)
        );
        a.expect_nothing();
        a.disconnect();
    }
}

#[test]
fn mqtt5_3_3_1_6_empty_retained_message_is_delivered_and_removes() {
    let w = World::new(2);
    let publisher = w.connected(V5, "publisher");
    publisher.publish_retained("t", "kept", 1);
    publisher.publish_retained("u", "stays", 1);
    let a = w.connected(V5, "a");
    a.subscribe("t", 1);
    assert_eq!(a.receive().text(), "kept");
    publisher.publish_retained("t", "", 1);
    let empty = a.receive();
    assert_eq!((empty.text(), empty.retain), ("", false));
    let late = w.connected(V5, "late");
    late.subscribe("#", 1);
    assert_eq!(late.receive().text(), "stays");
    late.expect_nothing();
}

#[test]
fn mqtt5_3_3_1_7_empty_retained_message_is_not_stored() {
    let w = World::new(2);
    w.connected(V5, "publisher").publish_retained("t", "", 1);
    let a = w.connected(V5, "a");
    a.subscribe("#", 1);
    a.expect_nothing();
}

#[test]
fn mqtt5_3_3_1_8_message_without_retain_leaves_what_is_stored() {
    let w = World::new(2);
    let publisher = w.connected(V5, "publisher");
    publisher.publish("u", "not stored", 1);
    publisher.publish_retained("t", "kept", 1);
    publisher.publish("t", "passing", 1);
    publisher.publish("t", "", 1);
    let a = w.connected(V5, "a");
    a.subscribe("#", 1);
    assert_eq!(a.receive().text(), "kept");
    a.expect_nothing();
}

#[test]
fn mqtt5_3_3_1_9_retain_handling_0_sends_at_each_subscribe() {
    let w = World::new(2);
    let publisher = w.connected(V5, "publisher");
    publisher.publish_retained("a/1", "one", 0);
    publisher.publish_retained("a/2", "two", 0);
    publisher.publish_retained("b/3", "three", 0);
    let a = w.connected(V5, "a");
    for _ in 0..2 {
        a.subscribe("a/+", 0);
        let mut texts: Vec<String> = a.drain_messages().iter().map(|m| m.text().into()).collect();
        texts.sort_unstable();
        assert_eq!(texts, ["one", "two"]);
    }
}

#[test]
fn mqtt5_3_3_1_10_retain_handling_1_sends_if_the_subscription_is_new() {
    let w = World::new(2);
    w.connected(V5, "publisher")
        .publish_retained("t", "kept", 0);
    let a = w.connected(V5, "a");
    a.subscribe("t", 0x10);
    assert_eq!(a.receive().text(), "kept");
    a.subscribe("t", 0x10 | 1);
    a.expect_nothing();
    // Another filter that matches is another subscription.
    a.subscribe("+", 0x10);
    assert_eq!(a.receive().text(), "kept");
    a.unsubscribe(&["t"]);
    a.subscribe("t", 0x10);
    assert_eq!(a.receive().text(), "kept");
}

#[test]
fn mqtt5_3_3_1_11_retain_handling_2_sends_none() {
    let w = World::new(2);
    let publisher = w.connected(V5, "publisher");
    publisher.publish_retained("t", "kept", 0);
    let a = w.connected(V5, "a");
    a.subscribe("t", 0x20);
    a.expect_nothing();
    publisher.publish_retained("t", "new", 0);
    assert_eq!(a.receive().text(), "new");
}

#[test]
fn mqtt5_3_3_1_12_retain_as_published_0_clears_retain() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    for qos in 0..3 {
        publisher.publish_retained("t", "x", qos);
        assert!(!a.receive().retain);
        publisher.publish("t", "x", qos);
        assert!(!a.receive().retain);
    }
}

#[test]
fn mqtt5_3_3_1_13_retain_as_published_1_keeps_retain() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.subscribe("t", 0x08 | 2);
    let publisher = w.connected(V5, "publisher");
    for qos in 0..3 {
        publisher.publish_retained("t", "x", qos);
        assert!(a.receive().retain);
        publisher.publish("t", "x", qos);
        assert!(!a.receive().retain);
    }
}

#[test]
fn mqtt5_3_3_2_1_missing_or_ill_formed_topic_is_malformed() {
    for body in [
        &[][..],
        &[0],
        &[0, 2, b't'],
        &[0, 1, 0xFF, 0],
        &[0xFF, 0xFF, b't'],
    ] {
        breach(&packet(0x30, body), ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt5_3_3_2_2_topic_with_a_wildcard_is_told_0x90() {
    for topic in ["#", "+", "a/+/b", "a/#", "a+", "a#b"] {
        for qos in [0, 1, 2] {
            let mut publish = PublishPacket::new(topic, "x").qos(qos);
            publish.packet_id = (qos > 0).then_some(1);
            breach(&publish.build(V5), ReasonCode::TopicNameInvalid);
        }
    }
}

#[test]
fn mqtt5_3_3_2_3_delivered_topic_matches_the_subscription() {
    let w = World::new(3);
    let publisher = w.connected(V5, "publisher");
    let topics = ["a", "a/b", "a/b/c", "b", "/a", "a/", "A/b", "$a/b"];
    for (filter, matching) in [
        ("a", &["a"][..]),
        ("a/+", &["a/b", "a/"]),
        ("a/#", &["a", "a/b", "a/b/c", "a/"]),
        ("+/b", &["a/b", "A/b"]),
        ("/+", &["/a"]),
        ("+", &["a", "b"]),
    ] {
        let a = w.connected(V5, "a");
        a.subscribe(filter, 0);
        for topic in &topics {
            publisher.publish(topic, "x", 0);
        }
        let delivered: Vec<String> = a.drain_messages().into_iter().map(|m| m.topic).collect();
        assert_eq!(delivered, matching, "{filter}");
    }
}

/// What a subscriber on some shard is sent of a message with these properties.
fn forwarded(properties: &[Vec<u8>]) -> Vec<Message> {
    let mut messages = Vec::new();
    for shards in [1, 2, 3] {
        let w = World::new(shards);
        let first = w.connected(V5, "first");
        first.subscribe("t", 1);
        let second = w.connected(V5, "second");
        second.subscribe("+", 0);
        let publish = PublishPacket::new("t", "x")
            .qos(1)
            .property(properties.concat());
        w.connected(V5, "publisher")
            .publish_all(publish.clone().retain());
        let late = w.connected(V5, "late");
        late.subscribe("#", 1);
        messages.extend([first.receive(), second.receive(), late.receive()]);
    }
    messages
}

#[test]
fn mqtt5_3_3_2_4_payload_format_is_passed_on_unaltered() {
    for value in [0, 1] {
        for message in forwarded(&[prop::payload_format(value)]) {
            assert_eq!(message.payload_format, Some(value));
        }
    }
    forwarded(&[])
        .iter()
        .for_each(|message| assert_eq!(message.payload_format, None));
}

#[test]
fn mqtt5_3_3_2_5_expired_copy_is_deleted() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(1_000));
    a.subscribe("t", 1);
    a.cut();
    let publisher = w.connected(V5, "publisher");
    let brief = PublishPacket::new("t", "brief")
        .qos(1)
        .property(prop::message_expiry(5));
    publisher.publish_all(brief.clone().retain());
    publisher.publish_all(brief);
    publisher.publish("t", "lasting", 1);
    w.advance(7);
    a.connect_with(|connect| connect.clean_start(false));
    assert_eq!(a.receive().text(), "lasting");
    a.expect_nothing();
    // The retained copy is gone as well.
    a.subscribe("t", 1);
    a.expect_nothing();
}

#[test]
fn mqtt5_3_3_2_6_expiry_is_counted_down() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(1_000));
    a.subscribe("t", 1);
    let publisher = w.connected(V5, "publisher");
    let publish = PublishPacket::new("t", "x")
        .qos(1)
        .property(prop::message_expiry(100))
        .retain();
    publisher.publish_all(publish.clone());
    assert_eq!(a.receive().message_expiry_s, Some(100));
    a.cut();
    publisher.publish_all(publish);
    w.advance(30);
    a.connect_with(|connect| connect.clean_start(false));
    assert_eq!(a.receive().message_expiry_s, Some(70));
    // The retained copy likewise.
    w.advance(30);
    let late = w.connected(V5, "late");
    late.subscribe("t", 1);
    assert_eq!(late.receive().message_expiry_s, Some(40));
}

#[test]
fn mqtt5_3_3_2_7_aliases_of_a_client_end_with_its_connection() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(100));
    a.subscribe("t", 0);
    a.publish_all(PublishPacket::new("t", "x").property(prop::topic_alias(1)));
    a.publish_all(PublishPacket::new("", "y").property(prop::topic_alias(1)));
    assert_eq!(
        (a.receive().topic, a.receive().topic),
        ("t".into(), "t".into())
    );
    a.cut();
    a.connect_with(|connect| connect.clean_start(false));
    a.publish_all(PublishPacket::new("", "z").property(prop::topic_alias(1)));
    a.expect_disconnect(ReasonCode::TopicAliasInvalid);
}

#[test]
fn mqtt5_3_3_2_7_our_aliases_end_with_their_connection() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    let resume = |c: ConnectPacket| {
        c.clean_start(false)
            .session_expiry(100)
            .topic_alias_maximum(9)
    };
    a.connect_with(resume);
    a.subscribe("t", 1);
    let publisher = w.connected(V5, "publisher");
    for _ in 0..3 {
        publisher.publish("t", "x", 1);
        a.receive();
    }
    a.cut();
    publisher.publish("t", "queued", 1);
    a.connect_with(resume);
    assert_eq!(a.receive().topic, "t");
}

#[test]
fn mqtt5_3_3_2_8_alias_0_is_told_0x94() {
    let publish = PublishPacket::new("t", "x").property(prop::topic_alias(0));
    breach(&publish.build(V5), ReasonCode::TopicAliasInvalid);
}

#[test]
fn mqtt5_3_3_2_9_alias_above_the_announced_maximum_is_told_0x94() {
    let w = World::new(1);
    let a = w.client(V5, "a");
    let maximum = a
        .connect()
        .topic_alias_maximum
        .expect("aliases are announced");
    a.publish_all(PublishPacket::new("t", "x").property(prop::topic_alias(maximum + 1)));
    a.expect_disconnect(ReasonCode::TopicAliasInvalid);
}

/// Gives each message its topic, as its receiver knows it, and checks its alias.
fn resolve(
    messages: Vec<Message>,
    aliases: &mut BTreeMap<u16, String>,
    maximum: u16,
) -> Vec<String> {
    let topic = |message: Message| {
        if let Some(alias) = message.topic_alias {
            assert!((1..=maximum).contains(&alias), "alias {alias}");
            if !message.topic.is_empty() {
                aliases.insert(alias, message.topic.clone());
            }
            return aliases[&alias].clone();
        }
        message.topic
    };
    messages.into_iter().map(topic).collect()
}

/// Many messages of many topics to a client with this Topic Alias Maximum; all packets sent.
fn aliases_for(maximum: Option<u16>) -> Vec<Message> {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|c| {
        maximum
            .into_iter()
            .fold(c, ConnectPacket::topic_alias_maximum)
    });
    a.subscribe("#", 1);
    let publisher = w.connected(V5, "publisher");
    let topics: Vec<String> = (0..60).map(|n| format!("t/{}", n % 6)).collect();
    for topic in &topics {
        publisher.publish(topic, "x", 0);
    }
    let messages = a.drain_messages();
    let resolved = resolve(messages.clone(), &mut BTreeMap::new(), maximum.unwrap_or(0));
    assert_eq!(resolved, topics);
    messages
}

#[test]
fn mqtt5_3_1_2_26_no_alias_is_above_the_clients_maximum() {
    for maximum in [1, 2, 5, 6, 100] {
        let messages = aliases_for(Some(maximum));
        assert!(
            messages.iter().any(|m| m.topic.is_empty()),
            "aliases are used"
        );
    }
}

#[test]
fn mqtt5_3_1_2_27_client_that_allows_no_aliases_is_sent_none() {
    for maximum in [None, Some(0)] {
        for message in aliases_for(maximum) {
            assert_eq!(message.topic_alias, None);
        }
    }
}

#[test]
fn mqtt5_3_3_2_11_alias_is_never_0_and_never_too_high() {
    // `resolve` asserts it of every message, sent again ones included.
    let w = World::new(2);
    let a = w.client(V5, "a");
    let resume = |c: ConnectPacket| {
        c.clean_start(false)
            .session_expiry(100)
            .topic_alias_maximum(2)
    };
    a.connect_with(resume);
    a.subscribe("#", 1);
    let publisher = w.connected(V5, "publisher");
    let topics = ["a", "b", "c", "a", "b", "c"];
    for topic in &topics {
        publisher.publish(topic, "x", 1);
    }
    assert_eq!(resolve(a.drain_messages(), &mut BTreeMap::new(), 2), topics);
    a.cut();
    a.connect_with(resume);
    let again = a.drain_messages();
    assert!(again.iter().all(|message| message.dup));
    assert_eq!(resolve(again, &mut BTreeMap::new(), 2), topics);
}

#[test]
fn mqtt5_3_3_2_12_every_announced_alias_is_accepted() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    let maximum = a
        .connect()
        .topic_alias_maximum
        .expect("aliases are announced");
    a.subscribe("#", 0);
    for alias in 1..=maximum {
        let topic = format!("t/{alias}");
        a.publish_all(PublishPacket::new(&topic, "x").property(prop::topic_alias(alias)));
        assert_eq!(a.receive().topic, topic);
    }
    for alias in (1..=maximum).rev() {
        a.publish_all(PublishPacket::new("", "x").property(prop::topic_alias(alias)));
        let message = a.receive();
        assert_eq!(
            (message.topic, message.topic_alias),
            (format!("t/{alias}"), None)
        );
    }
    // An alias may be given to another topic.
    a.publish_all(PublishPacket::new("u", "x").property(prop::topic_alias(1)));
    a.publish_all(PublishPacket::new("", "x").property(prop::topic_alias(1)));
    assert_eq!(
        (a.receive().topic, a.receive().topic),
        ("u".into(), "u".into())
    );
}

#[test]
fn mqtt5_3_3_2_13_ill_formed_response_topic_is_malformed() {
    let property = [&[0x08][..], &bytes::binary(&[b't', 0xFF])].concat();
    let publish = PublishPacket::new("t", "x").property(property);
    breach(&publish.build(V5), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_3_2_14_response_topic_with_a_wildcard_is_refused() {
    let reasons = [
        ReasonCode::MalformedPacket,
        ReasonCode::ProtocolError,
        ReasonCode::TopicNameInvalid,
    ];
    for topic in ["#", "a/+", "a+b"] {
        let publish = PublishPacket::new("t", "x").property(prop::response_topic(topic));
        breach_any(&publish.build(V5), &reasons);
    }
}

#[test]
fn mqtt5_3_3_2_15_response_topic_is_passed_on_unaltered() {
    for message in forwarded(&[prop::response_topic("réponse/à/moi")]) {
        assert_eq!(message.response_topic.as_deref(), Some("réponse/à/moi"));
    }
}

#[test]
fn mqtt5_3_3_2_16_correlation_data_is_passed_on_unaltered() {
    for data in [&[][..], &[0, 255, 0, 128]] {
        for message in forwarded(&[prop::correlation_data(data)]) {
            assert_eq!(message.correlation_data.as_deref(), Some(data));
        }
    }
}

#[test]
fn mqtt5_3_3_2_17_user_properties_are_passed_on_unaltered() {
    for message in forwarded(&[prop::user_property("n", "v"), prop::user_property("", "ü")]) {
        let expected = [("n".into(), "v".into()), (String::new(), "ü".into())];
        assert_eq!(message.user_properties, expected);
    }
}

#[test]
fn mqtt5_3_3_2_18_user_properties_keep_their_order() {
    let pairs: Vec<(String, String)> = (0..50)
        .map(|n| (format!("n{}", n * 7 % 5), format!("v{}", n * 3 % 50)))
        .collect();
    let properties: Vec<Vec<u8>> = pairs
        .iter()
        .map(|(name, value)| prop::user_property(name, value))
        .collect();
    for message in forwarded(&properties) {
        assert_eq!(message.user_properties, pairs);
    }
}

#[test]
fn mqtt5_3_3_2_19_ill_formed_content_type_is_malformed() {
    let property = [&[0x03][..], &bytes::binary(&[b't', 0xFF])].concat();
    let publish = PublishPacket::new("t", "x").property(property);
    breach(&publish.build(V5), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_3_2_20_content_type_is_passed_on_unaltered() {
    for message in forwarded(&[prop::content_type("text/plain; charset=utf-8")]) {
        assert_eq!(
            message.content_type.as_deref(),
            Some("text/plain; charset=utf-8")
        );
    }
}
