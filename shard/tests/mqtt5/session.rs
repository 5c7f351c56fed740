//! Sessions and wills: Clean Start, expiry, takeover, delay (3.1.2.4, 3.1.2.5, 3.1.4, 4.1).

use super::support::{bytes, prop, *};

/// A watcher of every will, and a client with this will and session expiry.
fn with_will(w: &World, will: WillPacket, session_expiry_s: u32) -> (Client, Client) {
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("will/#", 2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.will(will).session_expiry(session_expiry_s));
    (watcher, a)
}

fn will() -> WillPacket {
    WillPacket::new("will/a", "gone")
}

#[test]
fn mqtt5_3_1_2_4_clean_start_discards_the_session() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(1_000));
    a.subscribe("t", 1);
    a.cut();
    let publisher = w.connected(V5, "publisher");
    publisher.publish("t", "queued", 1);
    assert!(
        !a.connect_with(|connect| connect.session_expiry(1_000))
            .session_present
    );
    a.expect_nothing();
    assert_eq!(
        publisher.publish("t", "x", 1),
        ReasonCode::NoMatchingSubscribers
    );
    a.expect_nothing();
}

#[test]
fn mqtt5_3_1_2_5_session_is_resumed_with_all_its_state() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(1_000));
    a.subscribe("t", 2);
    let publisher = w.connected(V5, "publisher");
    publisher.publish("t", "in flight", 1);
    publisher.publish("t", "half way", 2);
    let (first, second) = (a.message(), a.message());
    a.pubrec(second.id());
    a.expect_ack(AckKind::Pubrel, second.id(), ReasonCode::Success);
    // A QoS 2 message of the client's own, not yet released.
    a.publish_with(PublishPacket::new("other", "x").qos(2).id(77));
    a.ack();
    a.cut();
    publisher.publish("t", "queued", 1);
    assert!(
        a.connect_with(|c| c.clean_start(false).session_expiry(1_000))
            .session_present
    );
    // In the order of the first sending: PUBLISH again, PUBREL again, then what is new.
    let again = a.message();
    assert_eq!(
        (again.id(), again.dup, again.text()),
        (first.id(), true, "in flight")
    );
    a.expect_ack(AckKind::Pubrel, second.id(), ReasonCode::Success);
    assert_eq!(a.message().text(), "queued");
    // The identifier of the unreleased message is still known.
    a.pubrel(77);
    a.expect_ack(AckKind::Pubcomp, 77, ReasonCode::Success);
    // And the subscription lives.
    publisher.publish("t", "new", 0);
    assert_eq!(a.message().text(), "new");
}

#[test]
fn mqtt5_3_1_2_6_session_is_created_where_there_is_none() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    assert!(
        !a.connect_with(|connect| connect.clean_start(false))
            .session_present
    );
    a.subscribe("t", 1);
    w.connected(V5, "publisher").publish("t", "x", 1);
    assert_eq!(a.receive().text(), "x");
}

#[test]
fn mqtt5_3_1_2_7_will_is_kept_with_the_session() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will().qos(1).delay(10), 100);
    // Kept through the connection and beyond its end.
    w.advance(1_000);
    watcher.expect_nothing();
    a.cut();
    w.advance(5);
    watcher.expect_nothing();
    w.advance(7);
    assert_eq!(watcher.receive().text(), "gone");
}

#[test]
fn mqtt5_3_1_2_8_will_is_published_when_the_connection_is_lost() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will(), 0);
    watcher.expect_nothing();
    a.cut();
    assert_eq!(watcher.receive().text(), "gone");
    w.advance(100);
    watcher.expect_nothing();
}

#[test]
fn mqtt5_3_1_2_8_will_is_published_after_a_protocol_error_of_its_client() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will(), 0);
    a.send_raw(&packet(0xD0, &[]));
    a.expect_disconnect(ReasonCode::ProtocolError);
    assert_eq!(watcher.receive().text(), "gone");
}

#[test]
fn mqtt5_3_1_2_8_will_is_published_after_disconnect_with_will() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will(), 0);
    a.send_raw(&bytes::disconnect(0x04, &[]));
    a.expect_closed();
    assert_eq!(watcher.receive().text(), "gone");
}

#[test]
fn mqtt5_3_1_2_8_will_waits_for_its_delay() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will().delay(20), 1_000);
    a.cut();
    w.advance_ms(19_900);
    watcher.expect_nothing();
    w.advance_ms(1_200);
    assert_eq!(watcher.receive().text(), "gone");
}

#[test]
fn mqtt5_3_1_2_8_will_goes_out_when_the_session_ends_before_its_delay() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will().delay(1_000), 20);
    a.cut();
    w.advance_ms(19_900);
    watcher.expect_nothing();
    w.advance_ms(1_200);
    assert_eq!(watcher.receive().text(), "gone");
}

#[test]
fn mqtt5_3_1_2_8_will_goes_out_when_clean_start_ends_the_session() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will().delay(1_000), 1_000);
    a.cut();
    watcher.expect_nothing();
    a.connect();
    assert_eq!(watcher.receive().text(), "gone");
}

#[test]
fn mqtt5_3_1_2_8_will_without_delay_goes_out_at_a_takeover() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will(), 1_000);
    let again = w.client(V5, "a");
    again.connect_with(|connect| connect.clean_start(false));
    a.expect_disconnect(ReasonCode::SessionTakenOver);
    assert_eq!(watcher.receive().text(), "gone");
}

#[test]
fn mqtt5_3_1_2_10_will_is_removed_by_a_normal_disconnect() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will().delay(5), 100);
    a.disconnect();
    w.advance(1_000);
    watcher.expect_nothing();
}

#[test]
fn mqtt5_3_1_2_10_will_is_published_once() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will().delay(5), 100);
    a.cut();
    w.advance(7);
    assert_eq!(watcher.receive().text(), "gone");
    // Neither the end of the session nor a later connection without a will brings it back.
    a.connect_with(|connect| connect.clean_start(false).session_expiry(10));
    a.cut();
    w.advance(1_000);
    watcher.expect_nothing();
}

#[test]
fn mqtt5_3_1_2_14_will_without_retain_is_not_retained() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will(), 0);
    a.cut();
    assert!(!watcher.receive().retain);
    let late = w.connected(V5, "late");
    late.subscribe("will/#", 0);
    late.expect_nothing();
}

#[test]
fn mqtt5_3_1_2_15_will_with_retain_is_retained() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will().retain().qos(1), 0);
    a.cut();
    assert_eq!(watcher.receive().text(), "gone");
    let late = w.connected(V5, "late");
    late.subscribe("will/#", 2);
    let message = late.receive();
    assert_eq!(
        (message.text(), message.retain, message.qos),
        ("gone", true, 1)
    );
}

#[test]
fn mqtt5_3_1_2_23_session_outlives_its_connection() {
    for interval in [60, u32::MAX] {
        let w = World::new(2);
        let a = w.client(V5, "a");
        a.connect_with(|connect| connect.session_expiry(interval));
        a.subscribe("t", 1);
        a.disconnect();
        w.advance(59);
        w.connected(V5, "publisher").publish("t", "x", 1);
        assert!(
            a.connect_with(|connect| connect.clean_start(false))
                .session_present
        );
        assert_eq!(a.receive().text(), "x");
    }
}

#[test]
fn mqtt5_3_1_3_9_reconnecting_within_the_delay_stops_the_will() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will().delay(20), 1_000);
    a.cut();
    w.advance(19);
    assert!(
        a.connect_with(|connect| connect.clean_start(false))
            .session_present
    );
    w.advance(1_000);
    watcher.expect_nothing();
}

#[test]
fn mqtt5_3_1_3_9_takeover_within_the_delay_stops_the_will() {
    let w = World::new(2);
    let (watcher, a) = with_will(&w, will().delay(20), 1_000);
    let again = w.client(V5, "a");
    again.connect_with(|connect| connect.clean_start(false));
    a.expect_disconnect(ReasonCode::SessionTakenOver);
    w.advance(1_000);
    watcher.expect_nothing();
}

#[test]
fn mqtt5_3_1_4_3_older_connection_is_told_0x8e_and_closed() {
    let w = World::new(3);
    let first = w.connected(V5, "a");
    first.subscribe("t", 0);
    // Accepted by each shard in turn, and of any version.
    let second = w.connected(V5, "a");
    first.expect_disconnect(ReasonCode::SessionTakenOver);
    let third = w.connected(V311, "a");
    second.expect_disconnect(ReasonCode::SessionTakenOver);
    let fourth = w.connected(V5, "a");
    third.expect_closed();
    fourth.expect_alive();
    // What is sent on a connection that was taken over is lost.
    fourth.subscribe("t", 0);
    first.send_raw(&PublishPacket::new("t", "x").build(V5));
    fourth.expect_nothing();
}

#[test]
fn mqtt5_3_1_4_4_clean_start_is_acted_on_in_a_takeover() {
    let w = World::new(2);
    let first = w.client(V5, "a");
    first.connect_with(|connect| connect.session_expiry(100));
    first.subscribe("t", 1);
    let second = w.client(V5, "a");
    let connack = second.connect_with(|c| c.clean_start(false).session_expiry(100));
    assert!(connack.session_present);
    let publisher = w.connected(V5, "publisher");
    assert_eq!(publisher.publish("t", "x", 1), ReasonCode::Success);
    assert_eq!(second.receive().text(), "x");
    let third = w.client(V5, "a");
    assert!(!third.connect().session_present);
    assert_eq!(
        publisher.publish("t", "x", 1),
        ReasonCode::NoMatchingSubscribers
    );
}

#[test]
fn mqtt5_4_1_0_1_session_state_lives_as_long_as_the_connection() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    // The interval counts from the close, not from CONNECT; 0 ends nothing while connected.
    a.connect_with(|connect| connect.session_expiry(5));
    a.subscribe("t", 1);
    let b = w.connected(V5, "b");
    b.subscribe("t", 1);
    w.advance(10_000);
    assert_eq!(
        w.connected(V5, "publisher").publish("t", "x", 1),
        ReasonCode::Success
    );
    assert_eq!(a.receive().text(), "x");
    assert_eq!(b.receive().text(), "x");
}

#[test]
fn mqtt5_4_1_0_2_session_state_ends_when_its_expiry_has_passed() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(20));
    a.subscribe("t", 1);
    a.cut();
    w.advance_ms(19_900);
    let publisher = w.connected(V5, "publisher");
    assert_eq!(publisher.publish("t", "x", 1), ReasonCode::Success);
    w.advance_ms(1_200);
    assert_eq!(
        publisher.publish("t", "x", 1),
        ReasonCode::NoMatchingSubscribers
    );
    assert!(
        !a.connect_with(|connect| connect.clean_start(false))
            .session_present
    );
    a.expect_nothing();
}

#[test]
fn mqtt5_4_1_0_2_session_without_expiry_ends_with_its_connection() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.subscribe("t", 1);
    a.cut();
    let publisher = w.connected(V5, "publisher");
    assert_eq!(
        publisher.publish("t", "x", 1),
        ReasonCode::NoMatchingSubscribers
    );
    assert!(
        !a.connect_with(|connect| connect.clean_start(false))
            .session_present
    );
}

#[test]
fn mqtt5_4_1_0_2_disconnect_may_change_the_expiry() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(1_000));
    a.send_raw(&bytes::disconnect(0, &prop::session_expiry(0)));
    a.expect_closed();
    let resume = |c: ConnectPacket| c.clean_start(false).session_expiry(10);
    assert!(!a.connect_with(resume).session_present);
    a.send_raw(&bytes::disconnect(0, &prop::session_expiry(1_000)));
    a.expect_closed();
    w.advance(500);
    assert!(a.connect_with(resume).session_present);
}
