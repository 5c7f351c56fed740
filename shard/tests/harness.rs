//! The harness itself: what it writes is what the specification's examples show.

mod support;
use support::*;

/// The example of 3.1.2.12 and its like: protocol name, level, flags, keep-alive, properties.
#[test]
fn connect_is_written_as_in_the_specification() {
    let connect = ConnectPacket::new(V5, "a")
        .keep_alive(10)
        .session_expiry(10)
        .build();
    let expected = [
        &[0x10, 19, 0, 4][..],
        b"MQTT",
        &[5, 0x02, 0, 10],
        &[5, 0x11, 0, 0, 0, 10],
        &[0, 1, b'a'],
    ];
    assert_eq!(connect, expected.concat());
}

#[test]
fn publish_and_subscribe_are_written_as_in_the_specification() {
    let publish = PublishPacket::new("a/b", "x").qos(1).id(10).build(V311);
    assert_eq!(publish, [0x32, 8, 0, 3, b'a', b'/', b'b', 0, 10, b'x']);
    let subscribe = bytes::subscribe(V311, 10, &[("a/b", 1), ("c/d", 2)], &[]);
    let filters = [0, 3, b'a', b'/', b'b', 1, 0, 3, b'c', b'/', b'd', 2];
    assert_eq!(subscribe, [&[0x82, 14, 0, 10][..], &filters].concat());
}
