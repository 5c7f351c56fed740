//! Histories that once went wrong: what is sent again after a crash, and stores that stall at a
//! bad moment.

use super::support::{bytes, *};
use shard::Change;

fn resume(client: &Client) -> ConnackGot {
    client.connect_with(|c| c.clean_start(false).session_expiry(1_000))
}

fn durable_client(w: &World, id: &str) -> Client {
    let client = w.client(V5, id);
    resume(&client);
    client
}

/// All messages so far, each acknowledged to the end.
fn texts(c: &Client) -> Vec<String> {
    let mut t = Vec::new();
    while let Some(got) = c.try_next() {
        if let Got::Publish(m) = got {
            if m.qos == 1 {
                c.puback(m.id());
            }
            if m.qos == 2 {
                c.pubrec(m.id());
                c.pubcomp(m.id());
            }
            t.push(m.text().to_string());
        }
    }
    t
}

#[test]
fn messages_sent_again_one_by_one_come_once() {
    let w = World::durable(2);
    let subs: Vec<Client> = (0..6)
        .map(|n| {
            let c = durable_client(&w, &format!("s{n}"));
            c.subscribe("#", 2);
            c.disconnect();
            c
        })
        .collect();
    let p = durable_client(&w, "publisher");
    p.publish("free", "before", 2);
    w.advance(1);
    w.hold_commits();
    let mut bytes = Vec::new();
    for id in [97, 98, 99] {
        bytes.extend(
            PublishPacket::new("free", id.to_string())
                .qos(2)
                .id(id)
                .build(V5),
        );
    }
    p.send_raw(&bytes);
    w.commit_once();
    assert_eq!(p.drain(), []);
    w.crash();
    w.release_commits();
    resume(&p);
    for id in [97, 98, 99] {
        p.send_raw(
            &PublishPacket::new("free", id.to_string())
                .qos(2)
                .id(id)
                .dup()
                .build(V5),
        );
        p.expect_ack(AckKind::Pubrec, id, ReasonCode::Success);
    }
    let got: Vec<_> = subs
        .iter()
        .map(|s| {
            resume(s);
            (s.shard() == p.shard(), texts(s))
        })
        .collect();
    let got: Vec<_> = got.into_iter().map(|g| g.1).collect();
    for g in &got {
        assert_eq!(g, &["before", "97", "98", "99"], "{got:?}");
    }
}

#[test]
fn a_session_that_is_not_kept_waits_for_no_store() {
    let w = World::durable(1);
    let kept = durable_client(&w, "kept");
    kept.subscribe("t", 1);
    kept.disconnect();
    let p = w.connected(V5, "publisher");
    w.advance(1);
    w.hold_commits();
    p.publish_with(PublishPacket::new("t", "x").qos(1));
    w.stall_stores(true);
    let c = w.client(V5, "clean");
    c.open();
    c.send_raw(&c.connect_packet().build());
    w.advance(60);
    assert!(
        c.try_next().is_some(),
        "no CONNACK for a clean session in a minute"
    );
}

#[test]
fn a_will_outlives_a_planned_stop() {
    let w = World::durable(1);
    let watcher = durable_client(&w, "watcher");
    watcher.subscribe("will", 1);
    let will = WillPacket::new("will", "lost").qos(1);
    w.client(V5, "gone")
        .connect_with(|c| c.clean_start(false).session_expiry(500).will(will));
    assert!(w.stop());
    w.crash();
    w.advance(5);
    resume(&watcher);
    assert_eq!(texts(&watcher), ["lost"]);
}

#[test]
fn a_session_does_not_expire_because_nothing_was_written() {
    let w = World::durable_with(1, |c| c.durability.mode = shard::DurabilityMode::Interval);
    let a = w.client(V5, "a");
    a.connect_with(|c| c.clean_start(false).session_expiry(60));
    a.subscribe("t", 1);
    let p = w.connected(V5, "p");
    for _ in 0..40 {
        w.advance(5);
        p.publish("t", "x", 1);
        a.receive();
    }
    w.crash();
    w.advance(1);
    let present = a
        .connect_with(|c| c.clean_start(false).session_expiry(60))
        .session_present;
    assert!(
        present,
        "a session of 60 s, connected a second ago, has expired"
    );
}

#[test]
fn what_no_member_can_take_stays_with_the_group() {
    for shards in [1, 2] {
        let w = World::durable(shards);
        let m1 = w.client(V5, "m1");
        m1.connect_with(|c| {
            c.clean_start(false)
                .session_expiry(1_000)
                .receive_maximum(1)
        });
        m1.subscribe("$share/g/t", 1);
        let p = w.connected(V5, "p");
        for n in 0..4 {
            assert_eq!(p.publish("t", &n.to_string(), 1), ReasonCode::Success);
        }
        let m2 = durable_client(&w, "m2");
        m2.subscribe("$share/g/t", 1);
        w.advance(1);
        w.stall_stores(true);
        m1.cut();
        w.stall_stores(false);
        w.advance(5);
        let mut all = texts(&m2);
        resume(&m1);
        all.extend(texts(&m1));
        all.extend(texts(&m2));
        all.sort();
        let rows =
            w.count_records(|r| matches!(r, Change::PutGroupQueued { .. } | Change::PutQueued(_)));
        assert_eq!(
            all,
            ["0", "1", "2", "3"],
            "{shards} shards; rows left {rows}"
        );
    }
}

#[test]
fn a_refusal_in_the_middle_makes_no_second_copy() {
    for n in 0..6 {
        let w = World::durable_with(2, |c| {
            c.limits.queue_messages_max = 1;
            c.limits.queue_policy = shard::limits::QueuePolicy::Reject;
        });
        let a = durable_client(&w, "a");
        a.subscribe("#", 2);
        let b = durable_client(&w, "b");
        b.subscribe("t1", 2);
        b.disconnect();
        let filler = w.connected(V5, "filler");
        filler.publish("t1", "fill", 2);
        let p = w.client(V311, &format!("p{n}"));
        p.connect_with(|c| c.clean_start(false));
        let mut bytes = PublishPacket::new("t1", "m5").qos(2).id(5).build(V311);
        bytes.extend(PublishPacket::new("t2", "m6").qos(2).id(6).build(V311));
        p.send_raw(&bytes);
        assert!(p.is_closed());
        w.advance(1);
        resume(&b);
        texts(&b);
        p.connect_with(|c| c.clean_start(false));
        p.send_raw(
            &PublishPacket::new("t1", "m5")
                .qos(2)
                .id(5)
                .dup()
                .build(V311),
        );
        w.advance(1);
        let got = texts(&a);
        assert_eq!(
            got.iter().filter(|t| *t == "m5").count(),
            1,
            "p{n}: {got:?}"
        );
    }
}

#[test]
fn an_identifier_used_again_at_once_is_another_message() {
    let w = World::durable_with(1, |c| c.durability.mode = shard::DurabilityMode::Interval);
    let s = durable_client(&w, "s");
    s.subscribe("t", 2);
    s.disconnect();
    let p = durable_client(&w, "p");
    w.advance(1);
    for (text, dup) in [("one", false), ("two", true)] {
        let packet = PublishPacket::new("t", text).qos(2).id(7);
        let packet = if dup { packet.dup() } else { packet };
        p.send_raw(&packet.build(V5));
        p.expect_ack(AckKind::Pubrec, 7, ReasonCode::Success);
        p.pubrel(7);
        p.expect_ack(AckKind::Pubcomp, 7, ReasonCode::Success);
        p.disconnect();
        resume(&p);
    }
    resume(&s);
    assert_eq!(texts(&s), ["one", "two"]);
}

#[test]
fn a_group_offers_again_what_was_refused() {
    let w = World::durable(1);
    let m = durable_client(&w, "m");
    m.subscribe("$share/g/t", 1);
    m.disconnect();
    let p = w.connected(V5, "p");
    for n in 0..3 {
        p.publish("t", &n.to_string(), 1);
    }
    w.advance(1);
    w.stall_stores(true);
    resume(&m);
    w.stall_stores(false);
    w.advance(3_000);
    let mut all = texts(&m);
    all.sort();
    assert_eq!(all, ["0", "1", "2"]);
}

#[test]
fn a_retained_message_on_its_way_holds_up_no_suback() {
    let w = World::durable(3);
    let p = w.connected(V5, "p");
    let cs: Vec<Client> = (0..6)
        .map(|n| w.connected(V5, &format!("clean{n}")))
        .collect();
    w.advance(1);
    w.hold_commits();
    for n in 0..10 {
        p.publish_with(PublishPacket::new(&format!("r/{n}"), "x").qos(1).retain());
    }
    w.stall_stores(true);
    w.advance(1);
    for (n, c) in cs.iter().enumerate() {
        c.send_raw(&bytes::subscribe(V5, 1, &[(&format!("+/new{n}"), 0)], &[]));
    }
    w.advance(60);
    let got: Vec<_> = cs
        .iter()
        .map(|c| (c.shard() == p.shard(), c.try_next().is_some()))
        .collect();
    assert!(got.iter().all(|g| g.1), "{got:?}");
}

#[test]
fn what_waits_for_the_disk_holds_nobodys_credits() {
    let w = World::durable(2);
    w.leave_out_checks();
    let kept: Vec<Client> = (0..6)
        .map(|n| {
            let c = durable_client(&w, &format!("s{n}"));
            c.subscribe("t", 1);
            c.disconnect();
            c
        })
        .collect();
    let live: Vec<Client> = (0..6)
        .map(|n| {
            let c = w.connected(V5, &format!("l{n}"));
            c.subscribe("live", 0);
            c
        })
        .collect();
    let p = w.connected(V5, "p");
    let qs: Vec<Client> = (0..6)
        .map(|n| w.connected(V311, &format!("q{n}")))
        .collect();
    w.advance(1);
    w.hold_commits();
    for id in 1..=600u16 {
        p.send_raw(&PublishPacket::new("t", "x").qos(1).id(id).build(V5));
    }
    w.stall_stores(true);
    w.advance(1);
    for q in &qs {
        q.publish_with(PublishPacket::new("live", "x"));
    }
    w.advance(60);
    let got: Vec<usize> = live.iter().map(|l| texts(l).len()).collect();
    drop(kept);
    assert!(got.iter().all(|n| *n == 6), "{got:?}");
}

#[test]
fn numbers_of_one_process_are_not_those_of_another() {
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
        let p = durable_client(&w, "publisher");
        let send = |text: &str, dup: bool| {
            let packet = PublishPacket::new("t", text).qos(2).id(2);
            let packet = if dup { packet.dup() } else { packet };
            p.send_raw(&packet.build(V5));
        };
        // Sends, and the process ends when all subscribers have it and the publisher not a word.
        let crash = |text: &str, dup: bool| {
            w.hold_commits();
            send(text, dup);
            w.commit_once();
            assert_eq!(p.drain(), []);
            w.crash();
            w.advance_ms(1); // No process starts in no time.
            w.release_commits();
            assert!(resume(&p).session_present);
        };
        let complete = |text: &str| {
            send(text, true);
            p.expect_ack(AckKind::Pubrec, 2, ReasonCode::Success);
            p.pubrel(2);
            p.expect_ack(AckKind::Pubcomp, 2, ReasonCode::Success);
        };
        crash("x", false);
        complete("x");
        // The same identifier for another message, of which the first process keeps nothing.
        w.hold_commits();
        send("y", false);
        w.crash();
        w.advance_ms(1);
        w.release_commits();
        assert!(resume(&p).session_present);
        crash("y", true);
        complete("y");
        for subscriber in &subscribers {
            resume(subscriber);
            assert_eq!(texts(subscriber), ["x", "y"], "{shards} shards");
        }
    }
}
