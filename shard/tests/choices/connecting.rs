//! Choices about versions, client identifiers, keep-alive, wills and authentication.

use super::support::{prop, *};

/// Connects with these bytes; the bytes of the answer.
fn answer(connect: &[u8]) -> (Vec<u8>, bool) {
    let a = World::new(2).client(V311, "a");
    a.open();
    a.send_raw(connect);
    (a.take_raw(), a.is_closed())
}

#[test]
fn choices_unknown_level_is_answered_in_the_shape_the_client_spoke() {
    for level in [0, 1, 2] {
        let connect = ConnectPacket {
            level,
            ..ConnectPacket::new(V311, "a")
        }
        .build();
        assert_eq!(
            answer(&connect),
            (vec![0x20, 2, 0, 1], true),
            "level {level}"
        );
    }
    for level in [6, 7, 100] {
        let connect = ConnectPacket {
            level,
            ..ConnectPacket::new(V5, "a")
        }
        .build();
        let (raw, is_closed) = answer(&connect);
        assert_eq!(
            (raw[0], raw[2], raw[3], is_closed),
            (0x20, 0, 0x84, true),
            "level {level}"
        );
    }
}

#[test]
fn choices_mqisdp_with_level_4_is_served_as_3_1_1() {
    let w = World::new(2);
    let a = w.client(V311, "a");
    a.connect_with(|connect| ConnectPacket {
        protocol_name: b"MQIsdp".to_vec(),
        ..connect
    });
    assert_eq!(a.subscribe("t", 1), 1);
    // Only 3.1.1 has a code for a refused filter.
    assert_eq!(a.subscribe("a#", 1), 0x80);
    w.connected(V31, "b").publish("t", "x", 1);
    assert_eq!(a.receive().text(), "x");
}

#[test]
fn choices_odd_client_identifiers_are_accepted() {
    let w = World::new(3);
    let long = "ü".repeat(30_000);
    for id in [" ", "[a] (b) {c}", "a/+/#", "$SYS", "日本", "😀", &long] {
        for version in [V5, V311, V31] {
            let a = w.connected(version, id);
            a.expect_alive();
            let again = w.connected(version, id);
            assert!(a.is_closed(), "{id:?} is one client");
            again.disconnect();
        }
    }
}

#[test]
fn choices_empty_client_identifier_is_assigned() {
    let w = World::new(2);
    for clean_start in [true, false] {
        let connack = w
            .client(V5, "")
            .connect_with(|connect| connect.clean_start(clean_start));
        let id = connack.assigned_client_id.expect("v5 clients are told");
        let uuid = id.strip_prefix("auto-").expect("`auto-` and a UUID");
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        assert!(
            uuid.chars().all(|c| c.is_ascii_hexdigit() || c == '-'),
            "{id}"
        );
    }
    // 3.1.1 allows it with a clean session only.
    w.client(V311, "").connect();
    let a = w.client(V311, "");
    let connack = a.try_connect(|connect| connect.clean_start(false));
    assert_eq!(connack.raw, [0x20, 2, 0, 2]);
    a.expect_closed();
}

#[test]
fn choices_keep_alive_0_is_accepted_and_capped_on_request() {
    for version in [V5, V311, V31] {
        let w = World::new(1);
        let a = w.connected(version, "a");
        w.advance(1_000_000);
        a.expect_alive();
        // A cap is announced where it can be, and never a reason to refuse.
        let w = World::with_limits(1, |limits| limits.keep_alive_max_s = Some(60));
        let a = w.client(version, "a");
        let connack = a.connect_with(|connect| connect.keep_alive(0));
        assert_eq!(connack.server_keep_alive_s, (version == V5).then_some(60));
        a.expect_alive();
    }
}

#[test]
fn choices_keep_alive_closes_within_a_second_of_its_time_and_never_before() {
    for version in [V5, V311, V31] {
        for seconds in [1, 3, 60, 1_000, 65_535] {
            let w = World::new(1);
            let a = w.client(version, "a");
            a.connect_with(|connect| connect.keep_alive(seconds));
            let allowed_ms = u64::from(seconds) * 1_500;
            w.advance_ms(allowed_ms - 1);
            a.expect_nothing();
            w.advance_ms(1_001);
            if version == V5 {
                a.expect_disconnect(ReasonCode::KeepAliveTimeout);
            } else {
                a.expect_closed();
            }
        }
    }
}

#[test]
fn choices_will_goes_out_at_the_earlier_of_delay_and_session_expiry() {
    for (delay_s, expiry_s, expected_s) in [(30, 100, 30), (100, 30, 30), (0, 100, 0), (9, 0, 0)] {
        let w = World::new(2);
        let watcher = w.connected(V5, "watcher");
        watcher.subscribe("will", 0);
        let a = w.client(V5, "a");
        let will = WillPacket::new("will", "gone").delay(delay_s);
        a.connect_with(|connect| connect.will(will).session_expiry(expiry_s));
        a.cut();
        if expected_s > 0 {
            w.advance_ms(expected_s * 1_000 - 1);
            watcher.expect_nothing();
            w.advance_ms(1_001);
        }
        assert_eq!(watcher.receive().text(), "gone");
    }
}

#[test]
fn choices_will_of_a_resumed_session_is_not_sent() {
    let w = World::new(2);
    let watcher = w.connected(V5, "watcher");
    watcher.subscribe("will", 0);
    let a = w.client(V5, "a");
    let will = WillPacket::new("will", "gone").delay(30);
    a.connect_with(|connect| connect.will(will).session_expiry(100));
    a.cut();
    w.advance(29);
    a.connect_with(|connect| connect.clean_start(false));
    w.advance(1_000);
    watcher.expect_nothing();
}

#[test]
fn choices_response_information_is_a_prefix_for_that_client_alone() {
    let w = World::new(2);
    let ask = |c: ConnectPacket| c.property(prop::request_response_information(1));
    let (a, b) = (w.client(V5, "a"), w.client(V5, "b"));
    let of_a = a
        .connect_with(ask)
        .response_information
        .expect("it was asked for");
    let of_b = b
        .connect_with(ask)
        .response_information
        .expect("it was asked for");
    assert_ne!(of_a, of_b);
    let topic = |prefix: &str| format!("{}/1", prefix.trim_end_matches('/'));
    assert_eq!(a.subscribe(&topic(&of_a), 1), 1);
    assert_eq!(b.subscribe(&topic(&of_b), 1), 1);
    assert_eq!(b.subscribe(&topic(&of_a), 1), 0x87);
    // Anybody may answer.
    assert_eq!(b.publish(&topic(&of_a), "answer", 1), ReasonCode::Success);
    assert_eq!(a.receive().text(), "answer");
    // A wildcard is no way around it.
    b.subscribe("#", 1);
    b.publish(&topic(&of_a), "answer", 1);
    b.expect_nothing();
}

#[test]
fn choices_authentication_method_is_told_0x8c() {
    let a = World::new(2).client(V5, "a");
    let connack = a.try_connect(|c| c.property(prop::authentication_method("SCRAM-SHA-256")));
    assert_eq!(connack.reason, ReasonCode::BadAuthenticationMethod);
    a.expect_closed();
    a.connect();
    a.send_raw(&bytes::auth(
        0x19,
        &prop::authentication_method("SCRAM-SHA-256"),
    ));
    let Got::Disconnect(disconnect) = a.next() else {
        panic!("not a DISCONNECT")
    };
    // Without a method in CONNECT, AUTH is also a protocol error.
    let refused = [
        ReasonCode::BadAuthenticationMethod,
        ReasonCode::ProtocolError,
    ];
    assert!(refused.contains(&disconnect.reason));
    a.expect_closed();
}

#[test]
fn choices_request_problem_information_0_leaves_reasons_out() {
    for (value, has_reason) in [(0, false), (1, true)] {
        let a = World::new(1).client(V5, "a");
        a.connect_with(|c| c.property(prop::request_problem_information(value)));
        a.publish_with(PublishPacket::new("$SYS/x", "x").qos(1));
        let ack = a.ack();
        assert_eq!(ack.reason, ReasonCode::NotAuthorized);
        if !has_reason {
            assert_eq!((ack.reason_string, ack.user_properties), (None, vec![]));
        }
        // DISCONNECT may have one in either case.
        a.send_raw(&[0, 0]);
        assert!(
            a.expect_disconnect(ReasonCode::MalformedPacket)
                .reason_string
                .is_some()
        );
    }
}
