//! Promises that a full disk must not make, and what must not get lost on it.

use super::support::*;

fn keep(c: ConnectPacket) -> ConnectPacket {
    c.clean_start(false).session_expiry(1_000)
}

fn kept(w: &World, id: &str) -> Client {
    let client = w.client(V5, id);
    client.connect_with(keep);
    client
}

#[test]
fn a_will_reaches_a_kept_subscriber_once_there_is_room() {
    for shards in [1, 2, 5] {
        let w = World::durable(shards);
        let subscribers: Vec<Client> = (0..4).map(|n| kept(&w, &format!("s{n}"))).collect();
        for subscriber in &subscribers {
            subscriber.subscribe("will", 1);
            subscriber.disconnect();
        }
        let publisher = w.client(V311, "publisher");
        publisher.connect_with(|c| c.will(WillPacket::new("will", "gone").qos(1).retain()));
        w.advance(1);
        w.hold_commits();
        w.stall_stores(true);
        // Nobody would send it again.
        publisher.cut();
        w.advance(1);
        w.stall_stores(false);
        w.release_commits();
        w.advance(1);
        w.crash();
        for subscriber in &subscribers {
            subscriber.connect_with(keep);
            assert_eq!(subscriber.receive().text(), "gone");
        }
        let late = w.connected(V5, "late");
        late.subscribe("will", 1);
        assert_eq!(late.receive().text(), "gone");
    }
}

#[test]
fn a_session_does_not_end_while_its_end_cannot_be_kept() {
    for shards in [1, 2] {
        let w = World::durable(shards);
        let client = kept(&w, "a");
        client.subscribe("t", 1);
        client.disconnect();
        w.advance(1);
        w.hold_commits();
        w.stall_stores(true);
        let connack = client.try_connect(|c| c.clean_start(true));
        assert_eq!(connack.reason, ReasonCode::QuotaExceeded);
        w.crash();
        w.release_commits();
        // What was refused has not happened.
        assert!(client.connect_with(keep).session_present);
        client.disconnect();
        let connack = client.connect_with(|c| c.clean_start(true));
        assert!(!connack.session_present);
    }
}

#[test]
fn a_session_that_is_not_durable_yet_is_not_called_present() {
    for shards in [1, 2] {
        let w = World::durable(shards);
        w.hold_commits();
        let client = w.client(V5, "a");
        client.open();
        client.send_raw(&keep(client.connect_packet()).build());
        client.expect_nothing();
        w.stall_stores(true);
        let again = w.client(V5, "a");
        let connack = again.try_connect(keep);
        assert_eq!(connack.reason, ReasonCode::QuotaExceeded);
        w.stall_stores(false);
        w.release_commits();
        w.advance(1);
        w.client(V5, "a").connect_with(keep);
    }
}

#[test]
fn a_release_that_is_not_durable_is_not_confirmed_on_another_connection_either() {
    for shards in [1, 2] {
        let w = World::durable(shards);
        let publisher = kept(&w, "publisher");
        let id = publisher.publish_with(PublishPacket::new("t", "x").qos(2));
        let reason = ReasonCode::NoMatchingSubscribers;
        publisher.expect_ack(AckKind::Pubrec, id, reason);
        w.advance(1);
        w.hold_commits();
        publisher.pubrel(id);
        publisher.expect_nothing();
        w.stall_stores(true);
        publisher.cut();
        publisher.connect_with(keep);
        publisher.pubrel(id);
        publisher.expect_nothing();
        w.stall_stores(false);
        w.release_commits();
        w.advance(1);
        let reason = ReasonCode::PacketIdentifierNotFound;
        publisher.expect_ack(AckKind::Pubcomp, id, reason);
    }
}
