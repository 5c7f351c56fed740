//! Sections 3.12 to 3.15 and 4.12: PINGREQ, DISCONNECT, AUTH, enhanced authentication.

use super::support::{bytes, prop, *};
use super::*;

#[test]
fn mqtt5_3_12_4_1_pingreq_is_answered_by_pingresp() {
    let a = World::new(2).connected(V5, "a");
    a.send_raw(&bytes::PINGREQ);
    assert_eq!(a.next(), Got::Pingresp);
    a.send_raw(&[bytes::PINGREQ, bytes::PINGREQ, bytes::PINGREQ].concat());
    assert_eq!(a.drain(), [Got::Pingresp, Got::Pingresp, Got::Pingresp]);
    a.send_split(&bytes::PINGREQ);
    assert_eq!(a.drain(), [Got::Pingresp]);
}

#[test]
fn mqtt5_3_14_0_1_no_disconnect_before_a_successful_connack() {
    let w = World::new(2);
    let denied = World::with(2, |config| config.anonymous = shard::Anonymous::Deny);
    let scripts: [(&World, Vec<u8>); 6] = [
        (&w, bytes::PINGREQ.to_vec()),
        (&w, bytes::DISCONNECT.to_vec()),
        (&w, connect().flip_flags(1).build()),
        (
            &w,
            ConnectPacket {
                level: 9,
                ..connect()
            }
            .build(),
        ),
        (
            &w,
            connect().property(prop::authentication_method("m")).build(),
        ),
        (&denied, connect().build()),
    ];
    for (w, bytes) in scripts {
        let a = w.client(V5, "a");
        a.open();
        a.send_raw(&bytes);
        assert!(a.is_closed());
        for got in a.drain() {
            assert!(matches!(got, Got::Connack(_)), "{got:?}");
        }
    }
    // Who never finishes CONNECT is closed without a word.
    let a = w.client(V5, "a");
    a.open();
    a.send_raw(&connect().build()[..9]);
    w.advance(60);
    a.expect_closed();
}

#[test]
fn mqtt5_3_14_1_1_reserved_flags_of_disconnect_are_malformed() {
    for flags in 1..16 {
        breach(&packet(0xE0 | flags, &[]), ReasonCode::MalformedPacket);
    }
}

/// Each way in which this broker ends a connection with DISCONNECT.
fn disconnects() -> Vec<DisconnectGot> {
    let w = World::with_limits(2, |limits| {
        limits.packet_bytes_max = 1_000;
        limits.receive_maximum = 1;
    });
    let a = w.client(V5, "a");
    let said = |script: &dyn Fn()| {
        a.connect_with(|c| c.keep_alive(10).session_expiry(60).property(Vec::new()));
        script();
        match a.drain().pop() {
            Some(Got::Disconnect(disconnect)) => disconnect,
            other => panic!("not a DISCONNECT: {other:?}"),
        }
    };
    let alias = PublishPacket::new("", "x")
        .property(prop::topic_alias(1))
        .build(V5);
    vec![
        said(&|| a.send_raw(&[0, 0])),
        said(&|| a.send_raw(&connect().build())),
        said(&|| w.advance(17)),
        said(&|| a.send_raw(&PublishPacket::new("t", "x".repeat(2_000)).build(V5))),
        said(&|| a.send_raw(&alias)),
        said(&|| a.send_raw(&PublishPacket::new("#", "x").build(V5))),
        said(&|| {
            a.publish_with(PublishPacket::new("t", "x").qos(2));
            a.publish_with(PublishPacket::new("t", "x").qos(2));
        }),
        said(&|| drop(w.client(V5, "a").connect())),
        said(&|| assert!(w.stop(), "every shard has stopped")),
    ]
}

#[test]
fn mqtt5_3_14_2_1_codes_of_disconnect_are_those_listed_for_it() {
    // Table 3-10, those that a server may send.
    let listed = [
        0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
        0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];
    let codes: Vec<u8> = disconnects().iter().map(|got| got.reason as u8).collect();
    assert!(
        codes.iter().all(|code| listed.contains(code)),
        "{codes:02x?}"
    );
    assert_eq!(
        codes,
        [0x81, 0x82, 0x8D, 0x95, 0x94, 0x90, 0x93, 0x8E, 0x8B]
    );
}

#[test]
fn mqtt5_3_14_2_1_unknown_code_of_a_client_is_refused() {
    let refused = [ReasonCode::MalformedPacket, ReasonCode::ProtocolError];
    for code in [0x01, 0x10, 0x7F, 0xFF] {
        breach_any(&bytes::disconnect(code, &[]), &refused);
    }
}

#[test]
fn mqtt5_3_14_2_2_our_disconnect_has_no_session_expiry() {
    for disconnect in disconnects() {
        assert_eq!(disconnect.session_expiry_s, None);
    }
}

#[test]
fn mqtt5_3_14_2_2_client_may_not_begin_to_ask_for_a_session_at_its_end() {
    // 3.14.2.2.2, not numbered: from 0 in CONNECT to more than 0 is a protocol error.
    breach(
        &bytes::disconnect(0, &prop::session_expiry(10)),
        ReasonCode::ProtocolError,
    );
}

/// DISCONNECT within each Maximum Packet Size.
fn disconnect_stays_small() {
    with_small_packets(|_, a, bytes_max| {
        a.send_raw(&packet(0x00, &[]));
        let received = expect_small(a, bytes_max);
        let [Got::Disconnect(disconnect)] = &received[..] else {
            panic!("{received:?}")
        };
        assert_eq!(disconnect.reason, ReasonCode::MalformedPacket);
        assert_eq!(disconnect.user_properties, []);
    });
}

#[test]
fn mqtt5_3_14_2_3_reason_string_never_makes_disconnect_too_large() {
    disconnect_stays_small();
}

#[test]
fn mqtt5_3_14_2_4_user_properties_never_make_disconnect_too_large() {
    disconnect_stays_small();
}

#[test]
fn mqtt5_3_14_4_1_nothing_follows_disconnect() {
    let w = World::new(2);
    let other = w.connected(V5, "other");
    other.subscribe("#", 0);
    let a = w.connected(V5, "a");
    // Ours: the PINGREQ behind the mistake is not answered.
    a.send_raw(&[&packet(0x00, &[])[..], &bytes::PINGREQ].concat());
    a.expect_disconnect(ReasonCode::MalformedPacket);
    // The client's: what it sends behind is not acted on.
    a.connect();
    let publish = PublishPacket::new("t", "x").build(V5);
    a.send_raw(&[&bytes::DISCONNECT[..], &publish, &bytes::PINGREQ].concat());
    a.expect_closed();
    other.expect_alive();
}

#[test]
fn mqtt5_3_14_4_2_disconnect_closes() {
    let w = World::new(2);
    for bytes in [
        bytes::DISCONNECT.to_vec(),
        packet(0xE0, &[0]),
        bytes::disconnect(0, &[]),
        bytes::disconnect(0, &prop::reason_string("enough")),
    ] {
        let a = w.connected(V5, "a");
        a.send_raw(&bytes);
        a.expect_closed();
    }
    // Ours closes too: each of them is followed by a close in `expect_disconnect`.
    let a = w.connected(V5, "a");
    let again = w.connected(V5, "a");
    a.expect_disconnect(ReasonCode::SessionTakenOver);
    again.expect_alive();
}

#[test]
fn mqtt5_3_14_4_3_normal_disconnect_removes_the_will() {
    for (bytes, is_published) in [
        (bytes::DISCONNECT.to_vec(), false),
        (bytes::disconnect(0x00, &[]), false),
        (bytes::disconnect(0x04, &[]), true),
        (bytes::disconnect(0x80, &[]), true),
    ] {
        let w = World::new(2);
        let watcher = w.connected(V5, "watcher");
        watcher.subscribe("will", 0);
        let a = w.client(V5, "a");
        a.connect_with(|connect| connect.will(WillPacket::new("will", "gone")));
        a.send_raw(&bytes);
        a.expect_closed();
        assert_eq!(
            watcher.drain_messages().len(),
            usize::from(is_published),
            "{bytes:02x?}"
        );
    }
}

#[test]
fn mqtt5_3_15_1_1_flags_of_auth_are_malformed() {
    for flags in 1..16 {
        breach(&packet(0xF0 | flags, &[]), ReasonCode::MalformedPacket);
    }
}

/// What we may answer to AUTH while there is no method: it is a protocol error, and the method is
/// unknown.
const AUTH_REFUSED: [ReasonCode; 2] = [
    ReasonCode::ProtocolError,
    ReasonCode::BadAuthenticationMethod,
];

#[test]
fn mqtt5_3_15_2_1_unknown_code_of_auth_is_refused() {
    for code in [0x01, 0x17, 0x80, 0x8C] {
        let auth = bytes::auth(code, &prop::authentication_method("m"));
        breach_any(
            &auth,
            &[ReasonCode::MalformedPacket, ReasonCode::ProtocolError],
        );
    }
}

#[test]
fn mqtt5_4_12_0_1_unsupported_method_is_told_0x8c_and_closed() {
    for method in ["SCRAM-SHA-1", "GS2-KRB5", ""] {
        let connect = connect().property(prop::authentication_method(method));
        refuse(&connect.build(), ReasonCode::BadAuthenticationMethod);
        let connect = connect.property(prop::authentication_data(b"data"));
        refuse(&connect.build(), ReasonCode::BadAuthenticationMethod);
    }
}

#[test]
fn mqtt5_4_12_0_4_refused_authentication_closes() {
    let w = World::new(2);
    let connect = connect().property(prop::authentication_method("m"));
    refuse_in(&w, &connect.build(), &[ReasonCode::BadAuthenticationMethod]);
    let denied = World::with(2, |config| config.anonymous = shard::Anonymous::Deny);
    refuse_in(
        &denied,
        &connect.build(),
        &[ReasonCode::BadAuthenticationMethod],
    );
}

#[test]
fn mqtt5_4_12_0_6_who_named_no_method_is_sent_none() {
    let w = World::new(2);
    let a = w.client(V5, "a");
    a.open();
    a.send_raw(&a.connect_packet().user_name("u").password(b"p").build());
    assert_eq!(a.connack().authentication_method, None);
    w.advance(1_000);
    a.expect_nothing();
}

#[test]
fn mqtt5_4_12_0_7_auth_without_a_method_is_refused() {
    for code in [0x00, 0x18, 0x19] {
        let auth = bytes::auth(code, &prop::authentication_method("m"));
        breach_any(&auth, &AUTH_REFUSED);
    }
    // In the shortest form, which has no method.
    breach_any(&packet(0xF0, &[]), &AUTH_REFUSED);
}

#[test]
fn mqtt5_4_12_1_1_re_authentication_with_another_method_is_refused() {
    // No method was agreed on, so any is another.
    let auth = bytes::auth(0x19, &prop::authentication_method("SCRAM-SHA-1"));
    breach_any(&auth, &AUTH_REFUSED);
}

#[test]
fn mqtt5_4_12_1_2_failed_re_authentication_closes() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.send_raw(&bytes::auth(0x19, &prop::authentication_method("m")));
    let Got::Disconnect(disconnect) = a.next() else {
        panic!("not a DISCONNECT")
    };
    assert!(disconnect.reason.is_error());
    a.expect_closed();
}
