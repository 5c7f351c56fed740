//! Where MQTT 3.1.1 leaves a choice: what we do, and mistakes that other brokers have made.

use super::support::bytes;
use super::*;

#[test]
fn control_characters_and_non_characters_close_the_connection() {
    World::each(|w| {
        for text in [
            "a\u{1}",
            "\u{1f}",
            "\u{7f}",
            "\u{9f}",
            "\u{fdd0}",
            "\u{ffff}",
            "\u{1fffe}",
        ] {
            check_closed(w, &PublishPacket::new(text, "x").build(V311));
            check_closed(w, &bytes::subscribe(V311, 1, &[(text, 0)], &[]));
            check_no_connack(w, &connect(text).build());
        }
    });
}

#[test]
fn topics_may_have_128_levels() {
    World::each(|w| {
        let (client, publisher) = two(w);
        let deepest = ["l"; 128].join("/");
        assert_eq!(client.subscribe(&deepest, 1), 1);
        publisher.publish(&deepest, "x", 1);
        assert_eq!(client.receive().topic, deepest);
        let deeper = ["l"; 129].join("/");
        assert_eq!(client.subscribe(&deeper, 1), 0x80);
        check_closed(w, &PublishPacket::new(&deeper, "x").build(V311));
        check_closed(w, &PublishPacket::new(&"/".repeat(60_000), "x").build(V311));
    });
}

#[test]
fn a_keep_alive_cap_is_no_reason_to_refuse() {
    let w = World::with_limits(2, |limits| limits.keep_alive_max_s = Some(60));
    for keep_alive_s in [0, 60, 61, 65_535] {
        let client = w.client(V311, "c");
        client.connect_with(|c| c.keep_alive(keep_alive_s));
        client.expect_alive();
        client.disconnect();
    }
}

#[test]
fn messages_beyond_the_window_wait_and_flow_with_each_acknowledgement() {
    for shards in [1, 2, 5] {
        let w = World::with_limits(shards, |limits| limits.in_flight_max = 3);
        let (client, publisher) = two(&w);
        client.subscribe("t", 2);
        for number in 0..20 {
            publisher.publish("t", &number.to_string(), 1 + number % 2);
        }
        let mut under_way: std::collections::VecDeque<Message> = client.drain_messages().into();
        for number in 0..20 {
            assert_eq!(under_way.len(), 3.min(20 - number));
            let first = under_way.pop_front().expect("a message");
            assert_eq!(first.text(), number.to_string());
            match first.qos {
                1 => client.puback(first.id()),
                _ => {
                    client.pubrec(first.id());
                    client.expect_ack(AckKind::Pubrel, first.id(), ReasonCode::Success);
                    client.expect_nothing(); // The exchange is not over yet.
                    client.pubcomp(first.id());
                }
            }
            under_way.extend(client.drain_messages());
        }
        client.expect_nothing();
    }
}

#[test]
fn a_client_that_cannot_know_our_receive_maximum_may_exceed_it() {
    for shards in [1, 2, 5] {
        let w = World::with_limits(shards, |limits| limits.receive_maximum = 10);
        let (client, publisher) = two(&w);
        client.subscribe("t", 0);
        for id in 1..=50 {
            publisher.publish_with(PublishPacket::new("t", "x").qos(2).id(id));
        }
        for id in 1..=50 {
            publisher.expect_ack(AckKind::Pubrec, id, ReasonCode::Success);
        }
        for id in 1..=50 {
            publisher.pubrel(id);
            publisher.expect_ack(AckKind::Pubcomp, id, ReasonCode::Success);
        }
        assert_eq!(client.drain_messages().len(), 50);
    }
}

#[test]
fn shared_subscriptions_are_served() {
    World::each(|w| {
        let members: Vec<Client> = (0..3)
            .map(|at| w.connected(V311, &format!("m{at}")))
            .collect();
        for member in &members {
            assert_eq!(member.subscribe("$share/group/t/+", 1), 1);
        }
        let publisher = w.connected(V311, "publisher");
        for number in 0..30 {
            publisher.publish("t/1", &number.to_string(), 1);
        }
        let mut numbers = Vec::new();
        for member in &members {
            let messages = member.drain_messages();
            assert_eq!(messages.len(), 10);
            numbers.extend(
                texts(&messages)
                    .iter()
                    .map(|text| text.parse::<u32>().unwrap()),
            );
        }
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..30));
        members[0].unsubscribe(&["$share/group/t/+"]);
        publisher.publish("t/1", "x", 1);
        members[0].expect_nothing();
    });
}

#[test]
fn qos_0_is_not_kept_for_an_absent_client() {
    World::each(|w| {
        let (client, publisher) = (w.client(V311, "c"), w.connected(V311, "publisher"));
        client.connect_with(|c| c.clean_start(false));
        client.subscribe("t", 1);
        client.cut();
        publisher.publish("t", "0", 0);
        publisher.publish("t", "1", 1);
        client.connect_with(|c| c.clean_start(false));
        assert_eq!(client.receive().text(), "1");
        client.expect_nothing();
    });
}

#[test]
fn the_queue_of_an_absent_client_is_bounded() {
    let w = World::with_limits(2, |limits| limits.queue_messages_max = 5);
    let (client, publisher) = (w.client(V311, "c"), w.connected(V311, "publisher"));
    client.connect_with(|c| c.clean_start(false));
    client.subscribe("t", 1);
    client.cut();
    for number in 0..20 {
        publisher.publish("t", &number.to_string(), 1);
    }
    client.connect_with(|c| c.clean_start(false));
    let messages = client.drain_messages();
    assert_eq!(messages.len(), 5);
    let numbers: Vec<u32> = texts(&messages)
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    assert!(numbers.is_sorted());
}

#[test]
fn a_client_that_does_not_read_loses_qos_0_and_harms_nobody() {
    for shards in [1, 2, 5] {
        let w = World::with_limits(shards, |limits| limits.output_bytes_max = 10_000);
        let (client, publisher) = two(&w);
        let other = w.connected(V311, "other");
        client.subscribe("t", 0);
        other.subscribe("t", 0);
        client.stall();
        let text = "x".repeat(1_000);
        for _ in 0..100 {
            publisher.publish("t", &text, 0);
            assert_eq!(other.message().payload.len(), 1_000);
        }
        client.unstall();
        let arrived = client.drain_messages().len();
        assert!((9..=12).contains(&arrived), "{arrived} messages");
        publisher.publish("t", "after", 0);
        assert_eq!(client.message().text(), "after");
    }
}

#[test]
fn half_of_a_huge_packet_is_refused_at_its_header() {
    World::each(|w| {
        // 100 MB announced, and little sent.
        check_closed(w, &[0x30, 0x80, 0xc2, 0xd7, 0x2f, 0x00, 0x01]);
    });
}

#[test]
fn many_failed_exchanges_leave_room_for_others() {
    World::each(|w| {
        for _ in 0..300 {
            check_no_connack(w, &packet(0x10, b"nonsense"));
            let client = w.connected(V311, "wrong");
            client.send_raw(&[0xff, 0xff, 0xff, 0xff, 0xff]);
            client.expect_closed();
        }
        let (client, publisher) = two(w);
        client.subscribe("t", 2);
        publisher.publish("t", "x", 2);
        assert_eq!(client.receive().text(), "x");
    });
}

#[test]
fn acknowledgements_nobody_waits_for_are_ignored() {
    World::each(|w| {
        let client = w.connected(V311, "c");
        client.puback(1);
        client.pubcomp(2);
        client.expect_nothing();
        client.pubrel(3);
        client.expect_ack(AckKind::Pubcomp, 3, ReasonCode::Success);
        client.expect_alive();
    });
}

#[test]
fn a_graceful_stop_closes_every_connection() {
    World::each(|w| {
        let watcher = w.connected(V311, "watcher");
        let silent = w.client(V311, "silent");
        silent.open();
        assert!(w.stop());
        watcher.expect_closed();
        silent.expect_closed();
    });
}

#[test]
fn a_lasting_session_ends_after_the_operators_longest_expiry() {
    for shards in [1, 2, 5] {
        let w = World::with_limits(shards, |limits| limits.session_expiry_max_s = 60);
        let client = w.client(V311, "c");
        client.connect_with(|c| c.clean_start(false));
        w.advance(600); // Connected, it lasts.
        client.subscribe("t", 1);
        client.cut();
        w.advance(59);
        assert!(
            client
                .connect_with(|c| c.clean_start(false))
                .session_present
        );
        client.cut();
        w.advance(61);
        assert!(
            !client
                .connect_with(|c| c.clean_start(false))
                .session_present
        );
        w.connected(V311, "publisher").publish("t", "x", 1);
        client.expect_nothing();
    }
}

#[test]
fn a_subscriber_that_never_acknowledges_is_closed_and_publishers_go_on() {
    for shards in [1, 2, 5] {
        let w = World::with_limits(shards, |limits| {
            limits.in_flight_max = 1;
            limits.queue_soft_messages = 3;
            limits.slow_subscriber_ms = 20_000;
        });
        let (client, publisher) = (w.client(V311, "c"), w.connected(V311, "publisher"));
        client.connect_with(|c| c.clean_start(false));
        client.subscribe("t", 1);
        for number in 1..=4 {
            publisher.publish("t", &number.to_string(), 1);
        }
        // From here on the queue is long, and acknowledgements wait.
        for number in 5..=9 {
            publisher.publish_with(
                PublishPacket::new("t", number.to_string())
                    .qos(1)
                    .id(number),
            );
        }
        publisher.expect_nothing();
        // Progress, however slow, keeps the subscriber.
        w.advance(15);
        let first = client.message();
        client.puback(first.id());
        w.advance(15);
        assert!(!client.is_closed());
        publisher.expect_nothing();
        w.advance(10);
        assert!(client.is_closed());
        for number in 5..=9 {
            publisher.expect_ack(AckKind::Puback, number, ReasonCode::Success);
        }
        // Nothing was lost.
        client.connect_with(|c| c.clean_start(false));
        for number in 2..=9 {
            assert_eq!(client.receive().text(), number.to_string());
        }
        client.expect_nothing();
    }
}

#[test]
fn thousands_of_messages_in_one_piece_are_all_acknowledged_in_order() {
    World::each(|w| {
        let (client, publisher) = two(w);
        client.subscribe("t/#", 0);
        let all: Vec<u8> = (1..=6_000_u16)
            .flat_map(|id| {
                let topic = format!("t/{}", id % 11);
                let publish = PublishPacket::new(&topic, id.to_string());
                publish.qos(1 + (id % 2) as u8).id(id).build(V311)
            })
            .collect();
        publisher.send_raw(&all);
        for id in 1..=6_000 {
            let kind = if id % 2 == 0 {
                AckKind::Puback
            } else {
                AckKind::Pubrec
            };
            publisher.expect_ack(kind, id, ReasonCode::Success);
        }
        publisher.expect_nothing();
        assert_eq!(client.drain_messages().len(), 6_000);
    });
}

#[test]
fn thousands_of_retained_messages_arrive_while_others_are_published() {
    World::each(|w| {
        let (client, publisher) = two(w);
        for number in 0..3_000 {
            publisher.publish_retained(&format!("kept/{number}"), "x", 0);
        }
        client.subscribe("#", 0);
        publisher.publish("live", "y", 0);
        w.advance(1);
        let messages = client.drain_messages();
        let (kept, live): (Vec<Message>, Vec<Message>) =
            messages.into_iter().partition(|message| message.retain);
        let mut topics: Vec<&str> = kept.iter().map(|message| &message.topic[..]).collect();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!((kept.len(), topics.len()), (3_000, 3_000));
        assert_eq!(texts(&live), ["y"]);
    });
}

#[test]
fn acknowledgements_of_the_wrong_kind_harm_nobody() {
    World::each(|w| {
        for (qos, kind) in [(1, 5), (1, 7), (2, 4), (2, 7)] {
            let (client, publisher) = two(w);
            client.subscribe("t", 2);
            publisher.publish("t", "x", qos);
            let id = client.message().id();
            client.send_raw(&bytes::ack(kind, id, 0));
            client.expect_closed();
            publisher.expect_alive();
            publisher.disconnect();
        }
    });
}
