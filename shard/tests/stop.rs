//! A graceful stop, event by event.

use mqtt_v5_codec::{FixedHeader, Packet, ReasonCode, Version, decode};
use shard::{Close, Config, ConnectionId, Effect, Effects, Event, Listener, Shard, Time};

/// The codes of CONNACK do not include that of DISCONNECT for a stop (MQTT 5.0, table 3-1); in 3.x
/// it is return code 3, server unavailable.
#[test]
fn a_client_that_comes_during_a_stop_is_told_that_the_server_is_unavailable() {
    check(Version::V5, b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0");
    check(Version::V311, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a");
}

fn check(version: Version, connect: &[u8]) {
    let mut shard = Shard::new(Config::alone(), Time(0));
    let mut effects = Effects::new(1);
    let connection = ConnectionId {
        index: 0,
        generation: 1,
    };
    effects.open(connection);
    let peer = ([127, 0, 0, 1], 1).into();
    let accepted = Event::Accepted {
        connection,
        listener: Listener::Mqtt,
        peer,
    };
    let received = Event::Received {
        connection,
        bytes: connect,
    };
    for event in [accepted, Event::Stop, received] {
        shard.handle(Time(0), event, &mut effects);
    }
    let sent = effects.take_output(connection);
    let header = FixedHeader::parse(&sent).expect("sound").expect("whole");
    match decode(version, header.first, &sent[header.header_bytes..]) {
        Ok(Packet::Connack(connack)) => {
            assert_eq!(connack.reason, ReasonCode::ServerUnavailable);
        }
        other => panic!("{version:?} {sent:02x?}: {other:?}"),
    }
    let mut list = Vec::new();
    effects.take_list(&mut list);
    let is_closed = |effect: &Effect| {
        matches!(
            effect,
            Effect::Close {
                how: Close::Flush,
                ..
            }
        )
    };
    assert!(list.iter().any(is_closed), "{list:?}");
}
