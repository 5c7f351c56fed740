//! Traffic between shards that fills their lanes: it waits, and then it goes on.

use super::support::*;

/// A client of this shard, with a device's identifier that lives there too.
fn device_on(w: &World, shard: usize, name: u32) -> Client {
    (0..)
        .map(|n| format!("{name:08x}-0000-4000-8000-{n:012x}"))
        .map(|id| (w.connected(V5, &id), id))
        .find(|(client, _)| client.shard() == shard)
        .expect("every shard has devices")
        .0
}

/// So many publishes of this quality of service to one topic, in one piece.
fn burst(topic: &str, qos: u8, count: u16) -> Vec<u8> {
    (1..=count)
        .flat_map(|id| {
            let publish = PublishPacket::new(topic, "x").qos(qos);
            let publish = if qos > 0 { publish.id(id) } else { publish };
            publish.build(V5)
        })
        .collect()
}

/// Both shards publish to each other's devices, and what they publish has to come back to
/// subscribers of their own: requests that wait for requests in the opposite direction.
#[test]
fn choices_full_lanes_in_both_directions_do_not_wait_for_each_other() {
    let w = World::new(2);
    w.leave_out_checks();
    let subscribers = [device_on(&w, 0, 1), device_on(&w, 1, 2)];
    subscribers.iter().for_each(|client| {
        client.subscribe("+/m", 0);
    });
    let publishers = [device_on(&w, 0, 3), device_on(&w, 1, 4)];
    let topics = [publishers[1].topic("m"), publishers[0].topic("m")];
    w.turn(&[
        (&publishers[0], burst(&topics[0], 1, 1_024)),
        (&publishers[1], burst(&topics[1], 1, 1_024)),
    ]);
    w.advance_ms(0);
    for (publisher, subscriber) in publishers.iter().zip(&subscribers) {
        assert_eq!(publisher.drain().len(), 1_024, "all are acknowledged");
        assert_eq!(subscriber.drain_messages().len(), 2_048);
    }
}

/// The ring has room for what is staged, but the tick of the same turn comes before it moves.
#[test]
fn choices_a_lane_that_was_full_for_one_turn_does_not_pause_for_ever() {
    let w = World::new(2);
    w.leave_out_checks();
    let subscriber = device_on(&w, 0, 1);
    subscriber.subscribe("t", 0);
    let publisher = device_on(&w, 1, 2);
    w.turn(&[(&publisher, burst("t", 0, 3_000))]);
    w.advance_ms(0);
    assert_eq!(subscriber.drain_messages().len(), 3_000);
    publisher.expect_alive();
}

/// The first acknowledgement waits for a slow subscriber. Those behind it need not wait for
/// anybody, but have to leave in order.
#[test]
fn choices_a_3_x_client_that_is_owed_very_many_acknowledgements_is_not_read() {
    let w = World::with_limits(1, |limits| {
        limits.queue_soft_messages = 2;
        limits.receive_maximum = 10;
    });
    let slow = w.client(V5, "slow");
    slow.connect_with(|connect| connect.receive_maximum(1));
    slow.subscribe("t", 1);
    let counter = w.connected(V5, "counter");
    counter.subscribe("count", 0);
    let publisher = w.connected(V311, "publisher");
    for id in 1..=6 {
        publisher.send_raw(&PublishPacket::new("t", "x").qos(1).id(id).build(V311));
    }
    let deferred = 6 - publisher.drain().len();
    assert!(deferred > 0, "the queue is long");
    for id in 100..200 {
        publisher.send_raw(&PublishPacket::new("nobody", "x").qos(1).id(id).build(V311));
    }
    publisher.send_raw(&PublishPacket::new("count", "x").build(V311));
    counter.expect_nothing();
    // Once the subscriber takes what it has, all goes on.
    for _ in 0..6 {
        let id = slow.message().id();
        slow.puback(id);
    }
    assert_eq!(publisher.drain().len(), 100 + deferred);
    assert_eq!(counter.receive().text(), "x");
}

#[test]
fn choices_large_retained_messages_all_come_at_qos_0() {
    for shards in [1, 3] {
        let w = World::new(shards);
        let publisher = w.connected(V5, "publisher");
        for n in 0..40 {
            publisher.publish_retained(&format!("large/{n}"), &"x".repeat(100_000), 1);
        }
        let subscriber = w.connected(V5, "subscriber");
        subscriber.subscribe("large/#", 0);
        w.advance_ms(0);
        assert_eq!(subscriber.drain_messages().len(), 40, "{shards} shards");
    }
}
