//! Chapter 6: MQTT in WebSocket frames, over the HTTP listener.

use super::support::{bytes, *};

/// A frame as a client sends it: final, masked.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    fragment(0x80 | opcode, payload)
}

/// A frame with this first byte.
fn fragment(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut out = vec![first];
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    out
}

/// Frames as a server sends them, whole and not masked: opcode and payload.
fn server_frames(mut raw: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while !raw.is_empty() {
        let opcode = raw[0] & 0x0F;
        assert_eq!(
            raw[0] & 0xF0,
            0x80,
            "frames are final and have no extension bits"
        );
        assert!(raw[1] < 128, "a server does not mask");
        let (length, header) = match raw[1] {
            126 => (usize::from(raw[2]) << 8 | usize::from(raw[3]), 4),
            127 => panic!("no frame here is that long"),
            length => (usize::from(length), 2),
        };
        frames.push((opcode, raw[header..header + length].to_vec()));
        raw = &raw[header + length..];
    }
    frames
}

/// Asks for an upgrade with these subprotocols; the head of the answer.
fn upgrade(client: &Client, path: &str, protocols: &str) -> String {
    client.open_http();
    // The key and its answer are the example of RFC 6455, 1.3.
    client.send_raw(
        format!(
            "GET {path} HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {protocols}\r\n\r\n"
        )
        .as_bytes(),
    );
    String::from_utf8(client.take_raw()).expect("a head is ASCII")
}

/// The subprotocol that the answer selects, if it accepts the upgrade.
fn selected(head: &str) -> Option<&str> {
    if !head.starts_with("HTTP/1.1 101 ") {
        return None;
    }
    let value = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    assert_eq!(
        value("Sec-WebSocket-Accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    value("Sec-WebSocket-Protocol")
}

/// Decodes what is in binary frames, and puts it where the client finds its packets.
fn receive(client: &Client) -> Vec<Got> {
    let mut stream = Vec::new();
    for (opcode, payload) in server_frames(&client.take_raw()) {
        assert_eq!(opcode, 2, "packets travel in binary frames");
        stream.extend(payload);
    }
    std::iter::from_fn(|| packets::take_packet(V5, &mut stream)).collect()
}

/// A client that has connected over WebSocket.
fn connected(w: &World, id: &str) -> Client {
    let client = w.client(V5, id);
    assert_eq!(selected(&upgrade(&client, "/mqtt", "mqtt")), Some("mqtt"));
    client.send_raw(&frame(2, &client.connect_packet().build()));
    let [Got::Connack(connack)] = &receive(&client)[..] else {
        panic!("not one CONNACK")
    };
    assert_eq!(connack.reason, ReasonCode::Success);
    client
}

#[test]
fn mqtt5_6_0_0_1_packets_travel_in_binary_frames() {
    let w = World::new(2);
    for id in ["one", "two", "three"] {
        let a = connected(&w, id);
        a.send_raw(&frame(2, &bytes::subscribe(V5, 1, &[(id, 1)], &[])));
        assert!(matches!(receive(&a)[..], [Got::Suback(_)]));
        w.connected(V5, "publisher")
            .publish(id, &"x".repeat(1_000), 1);
        let [Got::Publish(message)] = &receive(&a)[..] else {
            panic!("not one PUBLISH")
        };
        assert_eq!(message.payload.len(), 1_000);
        a.send_raw(&frame(2, &bytes::ack(4, message.id(), 0)));
        a.send_raw(&frame(2, &bytes::PINGREQ));
        assert_eq!(receive(&a), [Got::Pingresp]);
    }
}

#[test]
fn mqtt5_6_0_0_1_text_frame_closes() {
    let w = World::new(2);
    let other = w.connected(V5, "other");
    let a = connected(&w, "a");
    a.send_raw(&frame(1, &bytes::PINGREQ));
    assert!(a.is_closed());
    other.expect_alive();
    // Before CONNECT as well.
    let b = w.client(V5, "b");
    upgrade(&b, "/mqtt", "mqtt");
    b.send_raw(&frame(1, &b.connect_packet().build()));
    assert!(b.is_closed());
}

#[test]
fn mqtt5_6_0_0_2_packets_need_not_be_aligned_with_frames() {
    let w = World::new(2);
    let subscriber = w.connected(V5, "subscriber");
    subscriber.subscribe("t", 0);
    for piece in [1, 2, 5, 1_000] {
        let a = w.client(V5, "a");
        upgrade(&a, "/mqtt", "mqtt");
        let stream = [
            a.connect_packet().build(),
            PublishPacket::new("t", "x").build(V5),
            bytes::PINGREQ.to_vec(),
        ]
        .concat();
        for part in stream.chunks(piece) {
            a.send_raw(&frame(2, part));
        }
        assert!(matches!(receive(&a)[..], [Got::Connack(_), Got::Pingresp]));
        assert_eq!(subscriber.receive().text(), "x");
        // The frames themselves may be cut by the stream, and messages into fragments.
        frame(2, &bytes::PINGREQ)
            .iter()
            .for_each(|byte| a.send_raw(&[*byte]));
        let fragments = [
            fragment(0x02, &bytes::PINGREQ[..1]),
            frame(0, &bytes::PINGREQ[1..]),
        ];
        a.send_raw(&fragments.concat());
        assert_eq!(receive(&a), [Got::Pingresp, Got::Pingresp]);
        a.cut();
    }
}

#[test]
fn mqtt5_6_0_0_3_upgrade_that_does_not_offer_mqtt_is_no_mqtt_connection() {
    let w = World::new(1);
    for protocols in ["chat", "mqtt5", "xmqtt"] {
        let a = w.client(V5, "a");
        assert_eq!(
            selected(&upgrade(&a, "/mqtt", protocols)),
            None,
            "{protocols}"
        );
        a.cut();
    }
}

#[test]
fn mqtt5_6_0_0_4_server_selects_mqtt() {
    let w = World::new(1);
    for protocols in ["mqtt", "chat, mqtt", "mqtt,chat", "mqttv3.1, mqtt"] {
        let a = w.client(V5, "a");
        assert_eq!(
            selected(&upgrade(&a, "/mqtt", protocols)),
            Some("mqtt"),
            "{protocols}"
        );
        a.cut();
    }
    // On any path.
    let a = w.client(V5, "a");
    assert_eq!(selected(&upgrade(&a, "/any/path", "mqtt")), Some("mqtt"));
}
