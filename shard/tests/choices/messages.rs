//! Choices about the flow of messages: windows, queues, aliases, shares, order.

use super::support::{bytes, prop, *};

#[test]
fn choices_overlapping_subscriptions_give_one_copy() {
    for shards in [1, 2, 3] {
        let w = World::new(shards);
        let a = w.connected(V5, "a");
        a.subscribe_with_id("a/+", 0, 1);
        a.subscribe_with_id("a/#", 2, 2);
        a.subscribe_with_id("a/b", 1, 3);
        let old = w.connected(V311, "old");
        old.subscribe("a/+", 0);
        old.subscribe("a/b", 1);
        w.connected(V5, "publisher").publish("a/b", "x", 2);
        let message = a.receive();
        let mut ids = message.subscription_ids;
        ids.sort_unstable();
        assert_eq!((message.qos, ids), (2, vec![1, 2, 3]));
        a.expect_nothing();
        assert_eq!(old.receive().qos, 1);
        old.expect_nothing();
    }
}

#[test]
fn choices_receive_maximum_is_1024_and_excess_is_told_0x93() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    assert_eq!(a.connect().receive_maximum, Some(1_024));
    for id in 1..=1_024 {
        a.publish_with(PublishPacket::new("t", "x").qos(2).id(id));
        a.expect_ack(AckKind::Pubrec, id, ReasonCode::NoMatchingSubscribers);
    }
    a.expect_alive();
    a.publish_with(PublishPacket::new("t", "x").qos(2).id(2_000));
    a.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn choices_topic_alias_maximum_is_32_and_others_are_told_0x94() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    for (topic, alias) in [("t", 33), ("t", 0), ("", 1)] {
        assert_eq!(a.connect().topic_alias_maximum, Some(32));
        a.publish_all(PublishPacket::new("t", "x").property(prop::topic_alias(32)));
        a.expect_alive();
        a.publish_all(PublishPacket::new(topic, "x").property(prop::topic_alias(alias)));
        a.expect_disconnect(ReasonCode::TopicAliasInvalid);
    }
}

#[test]
fn choices_aliases_towards_clients_begin_with_the_first_publish_of_a_topic() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.topic_alias_maximum(10));
    a.subscribe("#", 0);
    let publisher = w.connected(V5, "publisher");
    for _ in 0..3 {
        publisher.publish("t", "x", 0);
    }
    let messages = a.drain_messages();
    let first = &messages[0];
    assert_eq!(first.topic, "t");
    assert!(first.topic_alias.is_some());
    for later in &messages[1..] {
        assert_eq!(
            (later.topic.as_str(), later.topic_alias),
            ("", first.topic_alias)
        );
    }
}

#[test]
fn choices_messages_beyond_the_clients_receive_maximum_wait_and_flow() {
    for shards in [1, 2] {
        let w = World::new(shards);
        let a = w.client(V5, "a");
        a.connect_with(|connect| connect.receive_maximum(3));
        a.subscribe("t", 2);
        let publisher = w.connected(V5, "publisher");
        for n in 0..50 {
            assert_eq!(
                publisher.publish("t", &n.to_string(), 1 + n % 2),
                ReasonCode::Success
            );
        }
        for n in 0..50 {
            assert_eq!(a.receive().text(), n.to_string());
        }
        a.expect_nothing();
    }
}

/// Members of one share of `t` at QoS 2, connected to different shards.
fn members(w: &World, count: usize) -> Vec<Client> {
    (0..count)
        .map(|n| {
            let member = w.client(V5, &format!("member {n}"));
            member.connect_with(|connect| connect.session_expiry(100));
            assert_eq!(member.subscribe("$share/group/t", 2), 2);
            member
        })
        .collect()
}

#[test]
fn choices_shares_go_round_robin_over_connected_members() {
    let w = World::new(3);
    let members = members(&w, 4);
    let publisher = w.connected(V5, "publisher");
    for _ in 0..12 {
        publisher.publish("t", "x", 0);
    }
    let counts: Vec<usize> = members
        .iter()
        .map(|member| member.drain_messages().len())
        .collect();
    assert_eq!(counts, [3, 3, 3, 3]);
    // One that is away has no turn.
    members[1].cut();
    for _ in 0..12 {
        publisher.publish("t", "x", 0);
    }
    let others = [&members[0], &members[2], &members[3]];
    let counts: Vec<usize> = others
        .iter()
        .map(|member| member.drain_messages().len())
        .collect();
    assert_eq!(counts, [4, 4, 4]);
}

#[test]
fn choices_unacknowledged_qos_1_of_a_share_goes_on_when_a_session_ends() {
    let w = World::new(2);
    let members = members(&w, 2);
    w.connected(V5, "publisher").publish("t", "x", 1);
    let got: Vec<Vec<Message>> = members.iter().map(Client::drain_messages).collect();
    let chosen = got
        .iter()
        .position(|messages| messages.len() == 1)
        .expect("one got it");
    assert!(got[1 - chosen].is_empty());
    members[chosen].cut();
    // Its session still lasts.
    w.advance(50);
    members[1 - chosen].expect_nothing();
    w.advance(60);
    assert_eq!(members[1 - chosen].receive().text(), "x");
}

#[test]
fn choices_empty_share_and_no_local_on_a_share_are_refused() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    for filter in ["$share//t", "$share/g/", "$share/g"] {
        assert_eq!(a.subscribe(filter, 0), 0x8F, "{filter}");
    }
    a.send_raw(&bytes::subscribe(V5, 9, &[("$share/g/t", 0x04)], &[]));
    a.expect_disconnect(ReasonCode::ProtocolError);
}

#[test]
fn choices_share_is_served_to_3_x_clients() {
    let w = World::new(2);
    let members = [
        w.connected(V311, "a"),
        w.connected(V31, "b"),
        w.connected(V5, "c"),
    ];
    for member in &members {
        assert_eq!(member.subscribe("$share/group/t", 1), 1);
    }
    let publisher = w.connected(V311, "publisher");
    for _ in 0..9 {
        publisher.publish("t", "x", 1);
    }
    for member in &members {
        let messages = member.drain_messages();
        assert_eq!(messages.len(), 3);
        assert!(messages.iter().all(|message| message.topic == "t"));
    }
}

#[test]
fn choices_message_without_a_subscriber_is_told_0x10() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    for qos in [1, 2] {
        assert_eq!(a.publish("t", "x", qos), ReasonCode::NoMatchingSubscribers);
        // Retained or not.
        assert_eq!(
            a.publish_retained("t", "x", qos),
            ReasonCode::NoMatchingSubscribers
        );
    }
    // A session that is away counts as a subscriber.
    let b = w.client(V5, "b");
    b.connect_with(|connect| connect.session_expiry(100));
    b.subscribe("t", 1);
    b.cut();
    assert_eq!(a.publish("t", "x", 1), ReasonCode::Success);
    // A 3.1.1 client has no such code.
    let old = w.connected(V311, "old");
    let id = old.publish_with(PublishPacket::new("u", "x").qos(1));
    assert_eq!(old.ack().raw, [0x40, 2, 0, id as u8]);
}

#[test]
fn choices_message_too_large_for_a_client_counts_as_delivered() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.maximum_packet_size(50).receive_maximum(1));
    a.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    for n in 0..5 {
        assert_eq!(
            publisher.publish("t", &"x".repeat(100), n % 3),
            ReasonCode::Success
        );
    }
    publisher.publish("t", "fits", 2);
    assert_eq!(a.receive().text(), "fits");
    a.expect_nothing();
}

#[test]
fn choices_qos_0_to_a_slow_client_is_dropped_past_its_limit() {
    let limit_bytes = 100_000;
    for shards in [1, 2] {
        let w = World::with_limits(shards, |limits| limits.output_bytes_max = limit_bytes);
        let slow = w.connected(V5, "slow");
        slow.subscribe("t", 0);
        let other = w.connected(V5, "other");
        other.subscribe("t", 0);
        let publisher = w.connected(V5, "publisher");
        slow.stall();
        for _ in 0..1_000 {
            publisher.publish("t", &"x".repeat(1_000), 0);
        }
        assert_eq!(
            other.drain_messages().len(),
            1_000,
            "nobody waits for the slow one"
        );
        slow.unstall();
        let messages = slow.drain_messages();
        let bytes: usize = messages.iter().map(|message| message.raw.len()).sum();
        assert!(bytes <= limit_bytes + 2_000, "{bytes} bytes waited");
        assert!(bytes >= limit_bytes / 2, "the limit is used: {bytes} bytes");
        // It flows again.
        publisher.publish("t", "after", 0);
        assert_eq!(slow.receive().text(), "after");
    }
}

#[test]
fn choices_qos_1_to_a_slow_client_is_not_lost() {
    let w = World::with_limits(2, |limits| limits.output_bytes_max = 10_000);
    let slow = w.connected(V5, "slow");
    slow.subscribe("t", 1);
    let publisher = w.connected(V5, "publisher");
    slow.stall();
    for n in 0..100 {
        publisher.publish("t", &format!("{n:0>1000}"), 1);
    }
    slow.unstall();
    for n in 0..100 {
        assert_eq!(slow.receive().text().parse(), Ok(n));
    }
}

#[test]
fn choices_qos_0_is_not_queued_for_a_session_that_is_away() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(100));
    a.subscribe("t", 2);
    a.cut();
    let publisher = w.connected(V5, "publisher");
    publisher.publish("t", "zero", 0);
    publisher.publish("t", "one", 1);
    a.connect_with(|connect| connect.clean_start(false));
    assert_eq!(a.receive().text(), "one");
    a.expect_nothing();
}

#[test]
fn choices_order_holds_per_topic_and_publisher_across_shards() {
    let w = World::new(4);
    let subscribers: Vec<Client> = (0..8)
        .map(|n| {
            let client = w.connected([V5, V311][n % 2], &format!("subscriber {n}"));
            client.subscribe(["t/#", "+/1", "#"][n % 3], 2);
            client
        })
        .collect();
    let publishers = [
        w.connected(V5, "one"),
        w.connected(V311, "two"),
        w.connected(V31, "three"),
    ];
    for n in 0..60 {
        for publisher in &publishers {
            publisher.publish("t/1", &n.to_string(), (n % 3) as u8);
        }
    }
    for subscriber in &subscribers {
        // QoS classes may overtake each other; inside one, and per publisher, order holds. All
        // three publishers send the same numbers, so each class rises in steps of three.
        let messages = subscriber.drain_messages();
        assert_eq!(messages.len(), 180);
        for qos in 0..3 {
            let numbers: Vec<usize> = messages
                .iter()
                .filter(|message| message.qos == qos)
                .map(|message| message.text().parse().expect("a number"))
                .collect();
            assert_eq!(numbers.len(), 60);
            assert!(numbers.is_sorted(), "{numbers:?}");
        }
    }
}

#[test]
fn choices_redelivery_is_in_the_original_order_with_dup() {
    let w = World::new(2);
    for version in [V5, V311] {
        let a = w.client(version, "a");
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
        for n in 0..20 {
            publisher.publish("t", &n.to_string(), 1 + n % 2);
        }
        let sent = a.drain_messages();
        // Acknowledged out of order.
        for at in [13, 4, 9, 0] {
            match sent[at].qos {
                1 => a.puback(sent[at].id()),
                _ => a.send_raw(&bytes::ack(5, sent[at].id(), 0)),
            }
        }
        let pubrels = a.drain();
        assert!(
            pubrels.iter().all(|got| matches!(got, Got::Ack(_))),
            "{pubrels:?}"
        );
        a.cut();
        a.connect_with(resume);
        let again: Vec<(u16, bool)> = a
            .drain()
            .into_iter()
            .filter_map(|got| match got {
                Got::Publish(message) => Some((message.id(), message.dup)),
                _ => None,
            })
            .collect();
        let expected: Vec<(u16, bool)> = (0..20)
            .filter(|at| ![13, 4, 9, 0].contains(at))
            .map(|at| (sent[at].id(), true))
            .collect();
        assert_eq!(again, expected);
        a.cut();
        a.connect();
        a.disconnect();
    }
}

/// A subscriber that acknowledges nothing, and a publisher that has sent 30 messages of this QoS
/// to it where 10 may wait without holding anybody back.
fn slow_subscriber(w: &World, qos: u8) -> (Client, Client) {
    let slow = w.client(V5, "slow");
    slow.connect_with(|c| c.receive_maximum(1).session_expiry(1_000));
    slow.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    for n in 1..=30 {
        publisher.publish_with(PublishPacket::new("t", n.to_string()).qos(qos).id(n));
    }
    (slow, publisher)
}

/// Small queues and a deadline of 5 s for slow subscribers.
fn small_queues(limits: &mut shard::Limits) {
    limits.queue_soft_messages = 10;
    limits.slow_subscriber_ms = 5_000;
}

#[test]
fn choices_slow_subscriber_holds_back_its_publisher_until_it_moves() {
    for (shards, qos) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
        let w = World::with_limits(shards, small_queues);
        let (slow, publisher) = slow_subscriber(&w, qos);
        // One in flight and ten in the queue are acknowledged, no more.
        assert_eq!(publisher.drain().len(), 11);
        for n in 1..=30 {
            w.advance_ms(400);
            assert_eq!(slow.receive().text(), n.to_string());
        }
        slow.expect_nothing();
        let acks = publisher.drain();
        let ids: Vec<u16> = acks
            .iter()
            .map(|got| match got {
                Got::Ack(ack) => ack.packet_id,
                other => panic!("not an acknowledgement: {other:?}"),
            })
            .collect();
        assert_eq!(ids, (12..=30).collect::<Vec<u16>>(), "in their order");
    }
}

#[test]
fn choices_slow_subscriber_that_moves_is_given_three_times_as_long() {
    for shards in [1, 2] {
        let w = World::with_limits(shards, small_queues);
        let (slow, publisher) = slow_subscriber(&w, 1);
        assert_eq!(publisher.drain().len(), 11);
        for n in 1..=4 {
            assert_eq!(slow.receive().text(), n.to_string());
            w.advance(4);
        }
        slow.message();
        slow.expect_disconnect(ReasonCode::QuotaExceeded);
        assert_eq!(publisher.drain().len(), 19);
    }
}

#[test]
fn choices_slow_subscriber_does_not_hold_up_what_others_send_each_other() {
    let w = World::with_limits(2, small_queues);
    w.leave_out_checks();
    let slow = w.client(V5, "slow");
    slow.connect_with(|connect| connect.receive_maximum(1));
    slow.subscribe("slow", 1);
    // More than a lane has credits.
    let publishers: Vec<Client> = (0..40)
        .map(|n| w.connected(V5, &format!("publisher {n}")))
        .collect();
    for publisher in &publishers {
        for _ in 0..50 {
            publisher.publish_with(PublishPacket::new("slow", "x").qos(1));
        }
        publisher.drain();
    }
    let others: Vec<Client> = (0..10)
        .map(|n| w.connected(V5, &format!("other {n}")))
        .collect();
    for other in &others {
        other.subscribe("quick", 1);
        assert_eq!(other.publish("quick", "x", 0), ReasonCode::Success);
        let message = other.receive();
        assert_eq!(message.text(), "x");
        assert_eq!(other.unsubscribe(&["quick"]), [0]);
    }
}

#[test]
fn choices_subscriber_that_stays_slow_is_told_0x97_and_loses_nothing() {
    for shards in [1, 2] {
        let w = World::with_limits(shards, small_queues);
        let (slow, publisher) = slow_subscriber(&w, 1);
        assert_eq!(slow.message().text(), "1");
        w.advance_ms(4_900);
        slow.expect_nothing();
        assert_eq!(publisher.drain().len(), 11);
        w.advance_ms(1_100);
        slow.expect_disconnect(ReasonCode::QuotaExceeded);
        // Its queue is an offline queue now, and holds nobody back.
        assert_eq!(publisher.drain().len(), 19);
        slow.connect_with(|connect| connect.clean_start(false));
        for n in 1..=30 {
            assert_eq!(slow.receive().text(), n.to_string());
        }
    }
}

#[test]
fn choices_puback_owed_to_a_former_connection_is_not_sent_on_the_next() {
    for shards in [1, 2] {
        let w = World::with_limits(shards, small_queues);
        let slow = w.client(V5, "slow");
        slow.connect_with(|connect| connect.receive_maximum(1));
        slow.subscribe("t", 1);
        let publisher = w.client(V5, "publisher");
        publisher.connect_with(|connect| connect.session_expiry(100));
        for n in 1..=20 {
            publisher.publish_with(PublishPacket::new("t", n.to_string()).qos(1).id(n));
        }
        assert_eq!(publisher.drain().len(), 11);
        publisher.cut();
        publisher.connect_with(|connect| connect.clean_start(false));
        // The subscriber moves, and the old messages are taken; the client must send them again
        // to hear of it, and may mean something else by their identifiers.
        for n in 1..=20 {
            assert_eq!(slow.receive().text(), n.to_string());
        }
        publisher.expect_nothing();
        publisher.publish_with(PublishPacket::new("t", "20").qos(1).id(20).dup());
        publisher.expect_ack(AckKind::Puback, 20, ReasonCode::Success);
        assert_eq!(slow.receive().text(), "20");
        publisher.expect_nothing();
    }
}
