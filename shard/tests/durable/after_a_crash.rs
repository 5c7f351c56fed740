//! A crash at the worst moment: what was acknowledged is there, once.

use super::support::{prop, *};
use shard::Change;

fn durable_client(w: &World, id: &str) -> Client {
    let client = w.client(V5, id);
    resume(&client);
    client
}

fn resume(client: &Client) -> ConnackGot {
    client.connect_with(|c| c.clean_start(false).session_expiry(1_000))
}

#[test]
fn sessions_subscriptions_and_queues_are_there() {
    for shards in [1, 2, 5] {
        let w = World::durable(shards);
        let a = durable_client(&w, "a");
        a.subscribe("t/+", 2);
        a.subscribe_with_id("u/#", 1, 7);
        a.subscribe("gone", 1);
        a.unsubscribe(&["gone"]);
        a.disconnect();
        let publisher = w.connected(V311, "publisher");
        for n in 0..20 {
            publisher.publish(&format!("t/{}", n % 2), &n.to_string(), 1 + n % 2);
        }
        w.crash();
        publisher.connect();
        publisher.publish("u/1/2", "after", 1);
        assert_eq!(publisher.publish("gone", "x", 1), ReasonCode::Success);
        assert!(resume(&a).session_present);
        for n in 0..20u8 {
            let message = a.receive();
            assert_eq!((message.text(), message.qos), (&*n.to_string(), 1 + n % 2));
        }
        let last = a.receive();
        assert_eq!((last.text(), &*last.subscription_ids), ("after", &[7][..]));
        a.expect_nothing();
        w.advance(1);
        assert_eq!(w.count_records(|r| matches!(r, Change::PutQueued(_))), 0);
        w.crash();
        assert!(resume(&a).session_present);
        a.expect_nothing();
        a.disconnect();
        a.connect();
        w.advance(1);
        w.crash();
        assert!(!resume(&a).session_present);
        publisher.connect();
        publisher.publish("t/1", "x", 1);
        a.expect_nothing();
    }
}

#[test]
fn windows_go_on_with_their_packet_identifiers() {
    let w = World::durable(2);
    let a = durable_client(&w, "a");
    a.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    for n in 0..4 {
        publisher.publish("t", &n.to_string(), 2);
    }
    let sent = a.drain_messages();
    // One is done, one released, one received, one lost on its way.
    a.pubrec(sent[0].id());
    a.pubcomp(sent[0].id());
    a.pubrec(sent[1].id());
    a.drain();
    w.advance(1);
    w.crash();
    assert!(resume(&a).session_present);
    a.expect_ack(AckKind::Pubrel, sent[1].id(), ReasonCode::Success);
    for old in &sent[2..] {
        let again = a.message();
        assert_eq!((again.id(), again.dup), (old.id(), true));
        assert_eq!(again.payload, old.payload);
    }
    a.expect_nothing();
    publisher.connect();
    publisher.publish("t", "new", 2);
    let new = a.message();
    assert!(sent[1..].iter().all(|old| old.id() != new.id()));
}

#[test]
fn a_qos_2_message_sent_again_is_not_delivered_again() {
    for shards in [1, 2, 5] {
        let w = World::durable(shards);
        let subscribers: Vec<Client> = (0..6)
            .map(|n| {
                let client = durable_client(&w, &format!("s{n}"));
                client.subscribe("#", 2);
                client.disconnect();
                client
            })
            .collect();
        let uuid = "9f1c2ab4-0d52-4b51-8a5e-3d4d0f6a7b8c";
        for topic in ["free", &format!("{uuid}/device")] {
            let publisher = durable_client(&w, "publisher");
            publisher.publish(topic, "before", 2);
            w.advance(1);
            w.hold_commits();
            let packet = PublishPacket::new(topic, "x").qos(2).id(99);
            publisher.send_raw(&packet.build(V5));
            // Every shard has it, and the publisher's does not know that yet.
            w.commit_once();
            assert_eq!(publisher.drain(), []);
            w.crash();
            w.release_commits();
            assert!(resume(&publisher).session_present);
            let again = PublishPacket::new(topic, "x").qos(2).id(99).dup();
            publisher.send_raw(&again.build(V5));
            publisher.expect_ack(AckKind::Pubrec, 99, ReasonCode::Success);
            publisher.pubrel(99);
            publisher.expect_ack(AckKind::Pubcomp, 99, ReasonCode::Success);
            // The identifier now stands for another message, though it may be a repetition.
            let other = PublishPacket::new(topic, "other").qos(2).id(99).dup();
            publisher.send_raw(&other.build(V5));
            publisher.expect_ack(AckKind::Pubrec, 99, ReasonCode::Success);
            publisher.pubrel(99);
            publisher.expect_ack(AckKind::Pubcomp, 99, ReasonCode::Success);
            publisher.disconnect();
            for subscriber in &subscribers {
                resume(subscriber);
                for text in ["before", "x", "other"] {
                    assert_eq!(subscriber.receive().text(), text);
                }
                subscriber.expect_nothing();
                subscriber.disconnect();
            }
        }
    }
}

/// The client repeats what was under way bit by bit, with a crash after each bit.
#[test]
fn a_repetition_that_is_acknowledged_says_nothing_of_those_still_to_come() {
    for shards in [1, 2, 5] {
        let w = World::durable(shards);
        let subscribers: Vec<Client> = (0..6)
            .map(|n| {
                let client = durable_client(&w, &format!("s{n}"));
                client.subscribe("#", 2);
                client.disconnect();
                client
            })
            .collect();
        let publisher = durable_client(&w, "publisher");
        publisher.publish("t", "before", 2);
        w.advance(1);
        w.hold_commits();
        let packet = |id: u16, text: &str| PublishPacket::new("t", text).qos(2).id(id);
        for id in 10..14 {
            publisher.send_raw(&packet(id, &id.to_string()).build(V5));
        }
        w.commit_once();
        assert_eq!(publisher.drain(), []);
        w.release_commits();
        for id in 10..14 {
            w.crash();
            assert!(resume(&publisher).session_present);
            let complete = |text: &str| {
                publisher.send_raw(&packet(id, text).dup().build(V5));
                publisher.expect_ack(AckKind::Pubrec, id, ReasonCode::Success);
                publisher.pubrel(id);
                publisher.expect_ack(AckKind::Pubcomp, id, ReasonCode::Success);
            };
            complete(&id.to_string());
            if id == 13 {
                // Nothing is left: this is new, though the crash took what was first said of it.
                w.crash();
                assert!(resume(&publisher).session_present);
                complete("other");
            }
        }
        publisher.publish("t", "after", 2);
        // By now it is known that nothing older is left.
        publisher.publish("t", "last", 2);
        for subscriber in &subscribers {
            resume(subscriber);
            for text in ["before", "10", "11", "12", "13", "other", "after", "last"] {
                assert_eq!(subscriber.receive().text(), text);
            }
            subscriber.expect_nothing();
        }
        w.advance(1);
        assert_eq!(
            w.count_records(|r| matches!(r, Change::PutReceived { .. })),
            0
        );
    }
}

#[test]
fn retained_messages_are_there_until_they_expire() {
    let w = World::durable(3);
    let publisher = w.connected(V5, "publisher");
    for n in 0..30 {
        publisher.publish_retained(&format!("r/{n}"), "old", 1);
        publisher.publish_retained(&format!("r/{n}"), "new", 1);
    }
    publisher.publish_retained("r/0", "", 1);
    let short = PublishPacket::new("r/1", "short").qos(1).retain();
    publisher.publish_all(short.property(prop::message_expiry(10)));
    w.crash();
    let reader = w.connected(V5, "reader");
    reader.subscribe("r/#", 0);
    let messages = reader.drain_messages();
    assert_eq!(messages.len(), 29);
    assert_eq!(messages.iter().filter(|m| m.text() == "new").count(), 28);
    w.advance(20);
    w.crash();
    let reader = w.connected(V5, "reader 2");
    reader.subscribe("r/#", 0);
    assert_eq!(reader.drain_messages().len(), 28);
    w.advance(1);
    let kept = |r: &Change| matches!(r, Change::PutRetained { .. });
    assert_eq!(w.count_records(kept), 28);
}

#[test]
fn sessions_expire_while_the_broker_is_down() {
    let w = World::durable(2);
    let (short, long) = (w.client(V5, "short"), durable_client(&w, "long"));
    short.connect_with(|c| c.clean_start(false).session_expiry(60));
    w.advance(30);
    w.crash(); // Both were connected, and are not any more.
    w.advance(40);
    w.crash();
    w.advance(30);
    assert!(
        !short
            .connect_with(|c| c.clean_start(false).session_expiry(60))
            .session_present
    );
    assert!(resume(&long).session_present);
    let sessions = |r: &Change| matches!(r, Change::PutSession(_));
    assert_eq!(w.count_records(sessions), 2);
}

#[test]
fn wills_of_the_vanished_go_out_after_the_restart() {
    for delay in [0, 30] {
        let w = World::durable(3);
        let watcher = durable_client(&w, "watcher");
        watcher.subscribe("will/#", 1);
        for name in ["back", "gone"] {
            let will = WillPacket::new(&format!("will/{name}"), "lost").qos(1);
            let will = will.property(prop::will_delay(delay));
            w.client(V5, name)
                .connect_with(|c| c.clean_start(false).session_expiry(500).will(will));
        }
        w.crash();
        resume(&watcher);
        let back = w.client(V5, "back");
        if delay > 0 {
            watcher.expect_nothing();
            resume(&back);
            w.advance(31);
        }
        let mut topics: Vec<String> = watcher
            .drain_messages()
            .into_iter()
            .map(|m| m.topic)
            .collect();
        topics.sort();
        match delay {
            0 => assert_eq!(topics, ["will/back", "will/gone"]),
            _ => assert_eq!(topics, ["will/gone"]),
        }
    }
}

#[test]
fn a_planned_stop_loses_nothing_either() {
    let w = World::durable(2);
    let a = durable_client(&w, "a");
    a.subscribe("t", 1);
    let publisher = w.connected(V5, "publisher");
    publisher.publish("t", "x", 1);
    a.drain();
    assert!(w.stop());
    w.crash();
    assert!(resume(&a).session_present);
    assert_eq!(a.receive().text(), "x");
}

#[test]
fn group_queues_are_there() {
    for shards in [1, 2, 5] {
        let w = World::durable(shards);
        let member = durable_client(&w, "member");
        member.subscribe("$share/g/t/#", 1);
        let publisher = w.connected(V5, "publisher");
        publisher.publish("t/0", "before", 1);
        assert_eq!(member.message().text(), "before");
        member.disconnect(); // It has not acknowledged.
        for n in 0..5 {
            assert_eq!(
                publisher.publish("t/1", &n.to_string(), 1),
                ReasonCode::Success
            );
        }
        w.advance(1);
        w.crash();
        publisher.connect();
        publisher.publish("t/2", "after", 1);
        resume(&member);
        let mut texts: Vec<String> = Vec::new();
        while let Some(Got::Publish(message)) = member.try_next() {
            member.puback(message.id());
            texts.push(message.text().into());
        }
        texts.sort();
        assert_eq!(texts, ["0", "1", "2", "3", "4", "after", "before"]);
        w.advance(1);
        let queued = |r: &Change| matches!(r, Change::PutGroupQueued { .. } | Change::PutQueued(_));
        assert_eq!(w.count_records(queued), 0);
    }
}

#[test]
fn a_queue_larger_than_memory_is_read_back_in_order() {
    for restart in [false, true] {
        let w = World::durable_with(2, |config| {
            config.limits.queue_memory_messages = 300;
        });
        w.leave_out_checks();
        let a = durable_client(&w, "a");
        a.subscribe("t", 1);
        a.disconnect();
        let publisher = w.connected(V5, "publisher");
        for n in 0..2_000 {
            publisher.publish("t", &n.to_string(), 1);
        }
        if restart {
            w.crash();
            publisher.connect();
        }
        resume(&a);
        for n in 0..2_000 {
            assert_eq!(a.receive().text(), n.to_string());
            if n % 100 == 0 {
                publisher.publish("t", &(2_000 + n / 100).to_string(), 1);
            }
        }
        for n in 2_000..2_020 {
            assert_eq!(a.receive().text(), n.to_string());
        }
        a.expect_nothing();
        w.advance(1);
        assert_eq!(w.count_records(|r| matches!(r, Change::PutQueued(_))), 0);
    }
}

#[test]
fn records_that_contradict_each_other_are_refused() {
    let w = World::durable(1);
    let a = durable_client(&w, "a");
    a.subscribe("t", 1);
    a.disconnect();
    w.connected(V5, "p").publish("t", "x", 1);
    w.advance(1);
    let records = w.records();
    for (at, record) in records.iter().enumerate() {
        let mut shard = shard::Shard::new(shard::Config::alone(), shard::Time(1));
        let is_session = matches!(record, Change::PutSession(_));
        for other in records.iter().filter(|_| is_session) {
            let _ = shard.recover(other.clone());
        }
        assert!(shard.recover(record.clone()).is_err(), "{at}: {record:?}");
    }
    let mut shard = shard::Shard::new(shard::Config::alone(), shard::Time(1));
    assert!(shard.recover(Change::Void).is_err());
}
