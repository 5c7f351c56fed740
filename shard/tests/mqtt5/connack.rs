//! Section 3.2: CONNACK and what it announces.

use super::support::{prop, *};
use super::*;

#[test]
fn mqtt5_3_2_0_1_connack_comes_before_all_that_waits() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(100));
    a.subscribe("t", 1);
    a.cut();
    let publisher = w.connected(V5, "publisher");
    for _ in 0..5 {
        publisher.publish("t", "x", 1);
    }
    a.open();
    a.send_raw(&a.connect_packet().clean_start(false).build());
    let packets = a.drain();
    assert!(matches!(packets[0], Got::Connack(_)), "{packets:?}");
    assert_eq!(packets.len(), 6);
}

#[test]
fn mqtt5_3_2_0_2_one_connection_sees_one_connack() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.send_raw(&a.connect_packet().build());
    a.expect_disconnect(ReasonCode::ProtocolError);
    // Refused: nothing follows the CONNACK, whatever else arrives.
    a.open();
    let refused = a.connect_packet().flip_flags(1).build();
    a.send_raw(&[refused, a.connect_packet().build()].concat());
    assert_eq!(a.connack().reason, ReasonCode::MalformedPacket);
    a.expect_closed();
}

#[test]
fn mqtt5_3_2_2_1_reserved_acknowledge_flags_are_zero() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    // One byte of length, then the flags.
    let flags = |connack: &ConnackGot| {
        assert!(connack.raw[1] < 128);
        connack.raw[2]
    };
    assert_eq!(
        flags(&a.connect_with(|connect| connect.session_expiry(100))),
        0
    );
    a.cut();
    assert_eq!(
        flags(&a.connect_with(|connect| connect.clean_start(false))),
        1
    );
    assert_eq!(
        flags(&refuse(
            &connect().flip_flags(1).build(),
            ReasonCode::MalformedPacket
        )),
        0
    );
}

#[test]
fn mqtt5_3_2_2_2_clean_start_has_no_session_present() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    for _ in 0..3 {
        let connack = a.connect_with(|connect| connect.session_expiry(100));
        assert_eq!(
            (connack.session_present, connack.reason),
            (false, ReasonCode::Success)
        );
        a.cut();
    }
}

#[test]
fn mqtt5_3_2_2_3_session_present_says_whether_there_was_a_session() {
    let w = World::new(3);
    let a = w.client(V5, "a");
    let resume = |connect: ConnectPacket| connect.clean_start(false).session_expiry(100);
    assert!(!a.connect_with(resume).session_present);
    for _ in 0..3 {
        a.cut();
        let connack = a.connect_with(resume);
        assert_eq!(
            (connack.session_present, connack.reason),
            (true, ReasonCode::Success)
        );
    }
}

#[test]
fn mqtt5_3_2_2_6_refusal_has_no_session_present() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.connect_with(|connect| connect.session_expiry(100));
    a.cut();
    // There is a session of that identifier, and still.
    let connack = a.try_connect(|connect| {
        connect
            .clean_start(false)
            .property(prop::authentication_method("m"))
    });
    assert_eq!(connack.reason, ReasonCode::BadAuthenticationMethod);
    assert!(!connack.session_present);
    assert!(
        a.connect_with(|connect| connect.clean_start(false))
            .session_present
    );
}

#[test]
fn mqtt5_3_2_2_7_refusal_closes() {
    let denied = World::with(2, |config| config.anonymous = shard::Anonymous::Deny);
    refuse_in(&denied, &connect().build(), &[ReasonCode::NotAuthorized]);
    refuse(
        &connect().flip_flags(1).build(),
        ReasonCode::MalformedPacket,
    );
    refuse(
        &connect().property(prop::receive_maximum(0)).build(),
        ReasonCode::ProtocolError,
    );
}

#[test]
fn mqtt5_3_2_2_8_codes_of_connack_are_those_listed_for_it() {
    // Table 3-1.
    let listed = [
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
        0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
    ];
    let w = World::with_limits(2, |limits| limits.packet_bytes_max = 500);
    let not_text = WillPacket {
        payload: vec![0xFF],
        ..WillPacket::new("will", "")
    };
    for connect in [
        connect(),
        connect().flip_flags(1),
        ConnectPacket {
            level: 9,
            ..connect()
        },
        connect().property(prop::receive_maximum(0)),
        connect().property(prop::authentication_method("m")),
        connect().will(WillPacket::new("will/+", "x")),
        connect().will(WillPacket::new("", "x")),
        connect().will(not_text.property(prop::payload_format(1))),
        connect().user_name(&"u".repeat(600)),
    ] {
        let a = w.client(V5, "a");
        a.open();
        a.send_raw(&connect.build());
        let connack = a.connack();
        assert!(listed.contains(&(connack.reason as u8)), "{connack:?}");
    }
}

#[test]
fn mqtt5_3_2_2_9_no_maximum_qos_and_every_qos_is_served() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    assert_eq!(a.connect().maximum_qos, None);
    a.subscribe("t", 2);
    for qos in 0..3 {
        assert_eq!(a.publish("t", "x", qos), ReasonCode::Success);
        assert_eq!(a.receive().qos, qos);
    }
}

#[test]
fn mqtt5_3_2_2_10_subscribe_may_ask_for_every_qos() {
    let a = World::new(1).connected(V5, "a");
    for qos in 0..3 {
        assert_eq!(a.subscribe("t", qos), qos);
    }
}

#[test]
fn mqtt5_3_2_2_12_every_will_qos_is_within_our_capabilities() {
    let w = World::new(1);
    for qos in 0..3 {
        let a = w.client(V5, "a");
        a.connect_with(|connect| connect.will(WillPacket::new("will", "x").qos(qos)));
        a.disconnect();
    }
}

#[test]
fn mqtt5_3_2_2_13_retained_will_is_accepted_where_retain_is_available() {
    let a = World::new(1).client(V5, "a");
    let will = WillPacket::new("will", "x").retain();
    let connack = a.connect_with(|connect| connect.will(will));
    assert_ne!(connack.retain_available, Some(false));
}

#[test]
fn mqtt5_3_2_2_15_packet_above_our_maximum_is_told_0x95() {
    let w = World::with_limits(2, |limits| limits.packet_bytes_max = 1_000);
    let other = w.connected(V5, "other");
    other.subscribe("#", 0);
    let a = w.client(V5, "a");
    assert_eq!(a.connect().maximum_packet_size, Some(1_000));
    // Fixed header 3, topic 3, property length 1.
    a.publish("t", &"x".repeat(993), 0);
    assert_eq!(other.receive().payload.len(), 993);
    a.publish("t", &"x".repeat(994), 0);
    a.expect_disconnect(ReasonCode::PacketTooLarge);
    other.expect_nothing();
}

#[test]
fn mqtt5_3_2_2_15_large_packet_is_refused_by_its_header() {
    let w = World::with_limits(1, |limits| limits.packet_bytes_max = 1_000);
    let a = w.connected(V5, "a");
    a.send_raw(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    a.expect_disconnect(ReasonCode::PacketTooLarge);
}

#[test]
fn mqtt5_3_2_2_16_assigned_identifier_is_that_of_no_other_session() {
    let w = World::new(2);
    let kept: Vec<String> = (0..50)
        .map(|_| {
            let client = w.client(V5, "");
            let connack = client.connect_with(|connect| connect.session_expiry(1_000));
            client.cut();
            connack
                .assigned_client_id
                .expect("an identifier is assigned")
        })
        .collect();
    for id in &kept {
        assert!(!id.is_empty());
        assert_eq!(kept.iter().filter(|other| *other == id).count(), 1);
        let again = w.client(V5, id);
        assert!(
            again
                .connect_with(|connect| connect.clean_start(false))
                .session_present
        );
    }
}

#[test]
fn mqtt5_3_2_2_17_alias_above_our_maximum_is_told_0x94() {
    let w = World::with_limits(1, |limits| limits.topic_alias_maximum = 5);
    let a = w.client(V5, "a");
    assert_eq!(a.connect().topic_alias_maximum, Some(5));
    a.publish_all(PublishPacket::new("t", "x").property(prop::topic_alias(5)));
    a.expect_alive();
    a.publish_all(PublishPacket::new("t", "x").property(prop::topic_alias(6)));
    a.expect_disconnect(ReasonCode::TopicAliasInvalid);
}

#[test]
fn mqtt5_3_2_2_18_no_alias_is_accepted_where_none_is_announced() {
    let w = World::with_limits(1, |limits| limits.topic_alias_maximum = 0);
    let a = w.client(V5, "a");
    assert_eq!(a.connect().topic_alias_maximum.unwrap_or(0), 0);
    a.publish_all(PublishPacket::new("t", "x").property(prop::topic_alias(1)));
    a.expect_disconnect(ReasonCode::TopicAliasInvalid);
}

/// Every CONNACK, of success and of refusal, keeps to the size that the client named; where it
/// cannot, the connection is closed without one.
fn connack_keeps_to_each_size() {
    let w = World::new(1);
    for bytes_max in 1..120 {
        let refused = connect().property(prop::authentication_method("m"));
        let assigned = ConnectPacket {
            client_id: Vec::new(),
            ..connect()
        };
        for connect in [connect(), refused, assigned] {
            let a = w.client(V5, "a");
            a.open();
            a.send_raw(&connect.maximum_packet_size(bytes_max).build());
            match a.try_next() {
                Some(Got::Connack(connack)) => {
                    assert!(
                        connack.raw.len() <= bytes_max as usize,
                        "{bytes_max}: {connack:?}"
                    );
                    assert_eq!(a.is_closed(), connack.reason.is_error());
                }
                other => assert!(other.is_none() && a.is_closed(), "{bytes_max}: {other:?}"),
            }
            a.cut();
        }
    }
}

#[test]
fn mqtt5_3_2_2_19_reason_string_never_makes_connack_too_large() {
    connack_keeps_to_each_size();
}

#[test]
fn mqtt5_3_2_2_20_user_properties_never_make_connack_too_large() {
    connack_keeps_to_each_size();
    // We send none of our own.
    let a = World::new(1).client(V5, "a");
    assert_eq!(a.connect().user_properties, []);
}

#[test]
fn mqtt5_3_2_2_21_server_keep_alive_is_sent_when_it_differs() {
    let w = World::with_limits(2, |limits| limits.keep_alive_max_s = Some(30));
    let a = w.client(V5, "a");
    for (asked, told) in [(10, None), (30, None), (31, Some(30)), (0, Some(30))] {
        let connack = a.connect_with(|connect| connect.keep_alive(asked));
        assert_eq!(
            connack.server_keep_alive_s.filter(|told| *told != asked),
            told,
            "{asked}"
        );
        a.cut();
    }
}

#[test]
fn mqtt5_3_2_2_22_without_server_keep_alive_the_clients_own_counts() {
    let w = World::new(2);
    for seconds in [1, 7, 100, 65_535] {
        let a = w.client(V5, "a");
        let connack = a.connect_with(|connect| connect.keep_alive(seconds));
        assert_eq!(connack.server_keep_alive_s, None);
        let one_and_a_half_ms = u64::from(seconds) * 1_500;
        w.advance_ms(one_and_a_half_ms - 100);
        a.expect_nothing();
        w.advance_ms(1_200);
        a.expect_disconnect(ReasonCode::KeepAliveTimeout);
    }
}
