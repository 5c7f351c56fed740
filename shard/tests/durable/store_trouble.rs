//! The store cannot write: what cannot be kept is refused, what needs no store goes on.

use super::support::*;

fn durable_client(w: &World, id: &str) -> Client {
    let client = w.client(V5, id);
    client.connect_with(|c| c.clean_start(false).session_expiry(1_000));
    client
}

#[test]
fn a_full_disk_refuses_what_must_be_kept_and_serves_the_rest() {
    for shards in [1, 2, 5] {
        let w = World::durable(shards);
        let (kept, other) = (durable_client(&w, "kept"), durable_client(&w, "other"));
        kept.subscribe("t/#", 1);
        kept.disconnect();
        let (publisher, old) = (w.connected(V5, "publisher"), w.connected(V311, "old"));
        let live = w.connected(V5, "live");
        live.subscribe("live", 1);
        w.advance(1);
        w.hold_commits();
        w.stall_stores(true);
        let full = ReasonCode::QuotaExceeded;
        assert_eq!(publisher.publish("t/1", "x", 1), full);
        assert_eq!(publisher.publish("t/1", "x", 2), full);
        assert_eq!(publisher.publish_retained("r", "x", 1), full);
        old.publish_with(PublishPacket::new("t/1", "x").qos(1));
        assert!(old.is_closed(), "3.x cannot be told");
        assert_eq!(other.subscribe("x", 1), 0x97);
        let new = w.client(V5, "new");
        let connack = new.try_connect(|c| c.clean_start(false).session_expiry(9));
        assert_eq!(connack.reason, full);
        // What needs no store.
        assert_eq!(publisher.publish("live", "x", 1), ReasonCode::Success);
        assert_eq!(live.receive().text(), "x");
        w.connected(V5, "clean").subscribe("y", 1);
        let connack = kept.connect_with(|c| c.clean_start(false).session_expiry(1_000));
        assert!(connack.session_present);
        w.stall_stores(false);
        w.commit();
        w.commit();
        let id = publisher.publish_with(PublishPacket::new("t/1", "y").qos(1));
        w.commit();
        w.commit();
        publisher.expect_ack(AckKind::Puback, id, ReasonCode::Success);
        assert_eq!(kept.receive().text(), "y");
    }
}

#[test]
fn what_waits_for_room_holds_up_nobody_who_needs_no_store() {
    for shards in [1, 3] {
        let w = World::durable(shards);
        let (publisher, live) = (w.connected(V5, "publisher"), w.connected(V5, "live"));
        live.subscribe("live", 1);
        w.hold_commits();
        for n in 0..10 {
            let packet = PublishPacket::new(&format!("r/{n}"), "x").qos(1).retain();
            publisher.publish_with(packet);
        }
        w.stall_stores(true);
        for n in 0..10 {
            let other = w.connected([V311, V5][n % 2], &format!("other-{n}"));
            assert_eq!(other.publish("live", "x", 1), ReasonCode::Success);
            assert_eq!(live.receive().text(), "x");
            // Another connection of the same client.
            let again = w.connected(V5, &format!("other-{n}"));
            assert_eq!(again.publish("live", "y", 1), ReasonCode::Success);
            assert_eq!(live.receive().text(), "y");
        }
        live.unsubscribe(&["live"]);
    }
}

#[test]
fn a_full_queue_keeps_to_its_policy() {
    use shard::limits::QueuePolicy::{self, *};
    for (policy, expected, last) in [
        (DropOldest, ["2", "3", "4"], ReasonCode::Success),
        (DropNewest, ["0", "1", "2"], ReasonCode::Success),
        (Reject, ["0", "1", "2"], ReasonCode::QuotaExceeded),
    ] {
        let _: QueuePolicy = policy;
        let w = World::durable_with(2, |config| {
            config.limits.queue_messages_max = 3;
            config.limits.queue_policy = policy;
        });
        let a = durable_client(&w, "a");
        a.subscribe("t", 1);
        a.disconnect();
        let publisher = w.connected(V5, "publisher");
        for n in 0..5 {
            let reason = publisher.publish("t", &n.to_string(), 1);
            let is_full = n >= 3;
            assert_eq!(reason, if is_full { last } else { ReasonCode::Success });
        }
        w.advance(1);
        w.crash();
        a.connect_with(|c| c.clean_start(false).session_expiry(1_000));
        let texts: Vec<String> = a.drain_messages().iter().map(|m| m.text().into()).collect();
        assert_eq!(texts, expected, "{policy:?}");
    }
}

#[test]
fn sys_says_what_the_store_does_and_is_not_kept() {
    let w = World::durable_with(3, |config| config.limits.sys_interval_s = 1);
    durable_client(&w, "a").subscribe("t", 1);
    w.stall_stores(true);
    w.advance(3);
    let reader = w.connected(V5, "reader");
    let value = |topic: &str| {
        reader.subscribe(&format!("$SYS/broker/storage/{topic}"), 0);
        reader.message().text().parse::<u64>().unwrap()
    };
    assert_eq!(value("stalled"), 3);
    assert!(value("commits") >= 2);
    assert!(value("changes") >= 2);
    let retained = |r: &shard::Change| matches!(r, shard::Change::PutRetained { .. });
    assert_eq!(w.count_records(retained), 0);
}
