//! No acknowledgement leaves before what it promises is durable.

use super::support::{bytes, *};

fn durable_client(w: &World, id: &str) -> Client {
    let client = w.client(V5, id);
    client.connect_with(|c| c.clean_start(false).session_expiry(1_000));
    client
}

#[test]
fn connack_of_a_new_session_waits() {
    let w = World::durable(2);
    w.hold_commits();
    let a = w.client(V5, "a");
    a.open();
    let connect = a.connect_packet().clean_start(false).session_expiry(9);
    a.send_raw(&connect.build());
    a.expect_nothing();
    w.commit();
    assert!(!a.connack().session_present);
    // A session that ends with its connection promises nothing.
    w.connected(V5, "b").expect_alive();
}

#[test]
fn suback_and_unsuback_wait() {
    for shards in [1, 2, 3] {
        let w = World::durable(shards);
        let a = durable_client(&w, "a");
        w.hold_commits();
        a.send_raw(&bytes::subscribe(
            V5,
            1,
            &[("t", 1), ("$share/g/s", 1)],
            &[],
        ));
        a.expect_nothing();
        w.commit();
        assert_eq!(a.suback().reasons, [1, 1]);
        a.send_raw(&bytes::unsubscribe(V5, 2, &["t"], &[]));
        a.expect_nothing();
        w.commit();
        assert_eq!(a.unsuback().reasons, [0]);
    }
}

#[test]
fn puback_and_pubrec_wait_for_every_shard_with_a_kept_subscriber() {
    for shards in [1, 2, 5] {
        for qos in [1, 2] {
            let w = World::durable(shards);
            for n in 0..4 {
                let subscriber = durable_client(&w, &format!("subscriber {n}"));
                subscriber.subscribe("t/#", qos);
                subscriber.disconnect();
            }
            let publisher = durable_client(&w, "publisher");
            w.advance(1);
            w.hold_commits();
            let id = publisher.publish_with(PublishPacket::new("t/1", "x").qos(qos));
            publisher.expect_nothing();
            // The second commit is that of PUBREC, where it could not share the first.
            w.commit();
            w.commit();
            let kind = [AckKind::Puback, AckKind::Pubrec][usize::from(qos) - 1];
            publisher.expect_ack(kind, id, ReasonCode::Success);
            if qos == 2 {
                publisher.pubrel(id);
                publisher.expect_nothing();
                w.commit();
                publisher.expect_ack(AckKind::Pubcomp, id, ReasonCode::Success);
            }
        }
    }
}

#[test]
fn what_promises_nothing_does_not_wait() {
    let w = World::durable(2);
    let subscriber = w.connected(V5, "subscriber");
    subscriber.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    w.hold_commits();
    assert_eq!(publisher.publish("t", "x", 1), ReasonCode::Success);
    assert_eq!(subscriber.receive().text(), "x");
    assert_eq!(publisher.publish("t", "y", 2), ReasonCode::Success);
    assert_eq!(subscriber.receive().text(), "y");
    w.connected(V311, "clean").expect_alive();
}

#[test]
fn a_qos_2_message_leaves_after_its_packet_identifier_is_durable() {
    for shards in [1, 3] {
        let w = World::durable(shards);
        let a = durable_client(&w, "a");
        a.subscribe("t", 2);
        let publisher = w.connected(V311, "publisher");
        w.hold_commits();
        publisher.publish_with(PublishPacket::new("t", "x").qos(2));
        a.expect_nothing();
        w.commit();
        let message = a.message();
        a.pubrec(message.id());
        a.expect_nothing();
        w.commit();
        a.expect_ack(AckKind::Pubrel, message.id(), ReasonCode::Success);
        a.pubcomp(message.id());
        a.expect_nothing();
    }
}

#[test]
fn retained_messages_wait_for_the_shard_of_their_topic() {
    let w = World::durable(3);
    let publisher = w.connected(V5, "publisher");
    w.hold_commits();
    for n in 0..10 {
        let topic = format!("t/{n}");
        let id = publisher.publish_with(PublishPacket::new(&topic, "x").qos(1).retain());
        publisher.expect_nothing();
        w.commit();
        let no_one = ReasonCode::NoMatchingSubscribers;
        publisher.expect_ack(AckKind::Puback, id, no_one);
        let id = publisher.publish_with(PublishPacket::new(&topic, "").qos(1).retain());
        publisher.expect_nothing();
        w.commit();
        publisher.expect_ack(AckKind::Puback, id, no_one);
        // Nothing is there to be removed, and nothing to wait for.
        assert_eq!(publisher.publish_retained(&topic, "", 1), no_one);
    }
}

#[test]
fn prefixes_have_modes_of_their_own() {
    let w = World::durable_with(2, |config| {
        let interval = shard::DurabilityMode::Interval;
        config.durability.prefixes = vec![("fast/".into(), interval)];
    });
    let subscriber = durable_client(&w, "subscriber");
    subscriber.subscribe("#", 1);
    subscriber.disconnect();
    w.advance(1);
    let publisher = w.connected(V5, "publisher");
    w.hold_commits();
    assert_eq!(publisher.publish("fast/1", "x", 1), ReasonCode::Success);
    let id = publisher.publish_with(PublishPacket::new("slow/1", "x").qos(1));
    publisher.expect_nothing();
    w.commit();
    publisher.expect_ack(AckKind::Puback, id, ReasonCode::Success);
}

#[test]
fn what_comes_while_a_commit_is_under_way_shares_the_next_one() {
    let w = World::durable(1);
    let subscriber = durable_client(&w, "subscriber");
    subscriber.subscribe("t", 1);
    subscriber.disconnect();
    w.advance(1);
    let publisher = w.connected(V5, "publisher");
    w.hold_commits();
    for _ in 0..100 {
        publisher.publish_with(PublishPacket::new("t", "x").qos(1));
    }
    publisher.expect_nothing();
    w.commit();
    assert_eq!(publisher.drain().len(), 1);
    w.commit();
    assert_eq!(publisher.drain().len(), 99);
}
