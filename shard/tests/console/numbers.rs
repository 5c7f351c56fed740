//! What is counted for metrics: gauges come back to nothing, and messages are counted by how they
//! travelled.

use crate::support::*;
use shard::console::{Question, Report};
use shard::{Counters, Talkers};

/// What all shards have counted together.
fn total(world: &World, shards: u16) -> Counters {
    let mut total = Counters::default();
    for core in 0..usize::from(shards) {
        match world.ask(core, Question::Overview) {
            Some(Report::Overview(overview)) => total.add(&overview.counters),
            other => panic!("{other:?}"),
        }
    }
    total
}

fn talkers(world: &World) -> Talkers {
    match world.ask(0, Question::Talkers) {
        Some(Report::Talkers(talkers)) => talkers,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_are_counted_by_quality_of_service() {
    for shards in [1, 3] {
        let w = World::new(shards);
        let publisher = w.connected(V5, "publisher");
        let subscribers: Vec<_> = (0..4).map(|n| w.connected(V5, &format!("s{n}"))).collect();
        for subscriber in &subscribers {
            subscriber.subscribe("t", 1);
        }
        publisher.publish("t", "none", 0);
        publisher.publish("t", "once", 1);
        publisher.publish("u", "nobody", 1);
        let counted = total(&w, shards);
        assert_eq!(counted.received.messages, [1, 2, 0]);
        assert_eq!(counted.received.bytes, [4, 10, 0]);
        assert_eq!(counted.sent.messages, [4, 4, 0]);
        assert_eq!(counted.sent.bytes, [16, 16, 0]);
        assert_eq!(counted.in_flight, 4);
        assert_eq!(counted.delivery.count(), 8, "with {shards} shards");
        assert_eq!(counted.queued_delivery.count(), 0);
        for subscriber in &subscribers {
            subscriber.receive();
            subscriber.receive();
        }
        assert_eq!(total(&w, shards).in_flight, 0);
    }
}

#[test]
fn what_waits_in_a_queue_is_told_apart() {
    let w = World::new(1);
    let publisher = w.connected(V5, "publisher");
    let away = w.client(V5, "away");
    away.connect_with(|c| c.clean_start(false).session_expiry(600));
    away.subscribe("t", 1);
    away.disconnect();
    publisher.publish("t", "x", 1);
    w.advance(10);
    away.connect_with(|c| c.clean_start(false).session_expiry(600));
    away.receive();
    let counted = total(&w, 1);
    assert_eq!(counted.delivery.count(), 0);
    assert_eq!(counted.queued_delivery.count(), 1);
    assert!(counted.queued_delivery.sum().0 >= 10_000_000);
    // What is retained is not news.
    publisher.publish_retained("r", "x", 1);
    away.subscribe("r", 1);
    assert_eq!(total(&w, 1).delivery.count(), 0);
}

#[test]
fn gauges_of_connections_come_back_to_nothing() {
    for shards in [1, 3] {
        let w = World::new(shards);
        let old = w.connected(V311, "old");
        let new = w.connected(V5, "new");
        let http = w.client(V5, "http");
        http.open_http();
        let silent = w.client(V5, "silent");
        silent.open();
        let now = total(&w, shards);
        let gauges = [
            now.clients_v31,
            now.clients_v311,
            now.clients_v5,
            now.http_connections,
            now.connections,
        ];
        assert_eq!(gauges, [0, 1, 1, 1, 4]);
        // The second takes the place of the first.
        let again = w.connected(V311, "new");
        new.expect_disconnect(ReasonCode::SessionTakenOver);
        let now = total(&w, shards);
        assert_eq!((now.clients_v311, now.clients_v5), (2, 0));
        old.publish("t", "x", 0);
        for client in [&old, &again, &http, &silent] {
            client.cut();
        }
        let now = total(&w, shards);
        let gauges = [
            now.clients_v31,
            now.clients_v311,
            now.clients_v5,
            now.clients_websocket,
            now.http_connections,
            now.sockets,
            now.connections,
        ];
        assert_eq!(gauges, [0; 7]);
    }
}

#[test]
fn who_publishes_most_is_known() {
    let w = World::new(1);
    let [loud, quiet] = ["loud", "quiet"].map(|id| w.connected(V5, id));
    for _ in 0..9 {
        loud.publish("t", "12345", 0);
    }
    quiet.publish("t", "1", 0);
    w.advance(1);
    let found = talkers(&w);
    let counts: Vec<_> = found
        .rows
        .iter()
        .map(|row| (&*row.client_id, row.messages, row.bytes))
        .collect();
    assert_eq!(counts, [("loud", 9, 45), ("quiet", 1, 1)]);
    // Whoever is gone is not named.
    loud.disconnect();
    assert_eq!(talkers(&w).rows.len(), 1);
}
