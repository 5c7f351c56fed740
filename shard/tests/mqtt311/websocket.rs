//! MQTT 3.1.1, chapter 6: MQTT in WebSocket frames, and what else the HTTP listener answers.

use super::support::{bytes, packets};
use super::*;
use http::{Decoder, Opcode, WsEvent};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The head of a handshake.
fn handshake(path: &str, protocols: Option<&str>) -> String {
    let protocols = protocols.map(|list| format!("Sec-WebSocket-Protocol: {list}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{}\r\n",
        protocols.unwrap_or_default()
    )
}

/// One frame of a client.
fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    http::write_client_frame(&mut out, opcode, payload, MASK);
    out
}

fn binary(payload: &[u8]) -> Vec<u8> {
    frame(Opcode::Binary, payload)
}

/// What the server sends: status line and headers, in lower case, then the rest.
fn split_response(bytes: &[u8]) -> (String, Vec<u8>) {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a whole head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head of text");
    (head.to_lowercase(), bytes[end + 4..].to_vec())
}

/// A client of the HTTP listener after a successful handshake.
struct Socket {
    client: Client,
    decoder: Decoder,
    /// MQTT from the server, not yet cut into packets.
    mqtt: Vec<u8>,
    /// Frames that carry no data.
    events: Vec<WsEvent>,
}

impl Socket {
    fn open(w: &World, id: &str, path: &str, protocol: &str) -> Socket {
        let client = w.client(V311, id);
        client.open_http();
        client.send_raw(handshake(path, Some(protocol)).as_bytes());
        let (head, rest) = split_response(&client.take_raw());
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(
            head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{head}"
        );
        assert!(rest.is_empty());
        let decoder = Decoder::for_client(1 << 20);
        Socket {
            client,
            decoder,
            mqtt: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A socket whose MQTT client is connected.
    fn connected(w: &World, id: &str) -> Socket {
        let mut socket = Socket::open(w, id, "/mqtt", "mqtt");
        socket
            .client
            .send_raw(&binary(&socket.client.connect_packet().build()));
        assert!(matches!(socket.next(), Some(Got::Connack(_))));
        socket
    }

    fn read(&mut self) {
        let received = self.client.take_raw();
        let mut input = &received[..];
        while let Some(event) = self
            .decoder
            .decode(&mut input, &mut self.mqtt)
            .expect("valid frames")
        {
            match event {
                WsEvent::Data { is_text, .. } => assert!(!is_text, "a text frame"),
                other => self.events.push(other),
            }
        }
    }

    /// The next MQTT packet.
    fn next(&mut self) -> Option<Got> {
        self.read();
        packets::take_packet(V311, &mut self.mqtt)
    }

    fn event(&mut self) -> Option<WsEvent> {
        self.read();
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }

    fn message(&mut self) -> Message {
        match self.next() {
            Some(Got::Publish(message)) => message,
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }
}

/// Sends a whole request and returns the response's head and body.
fn request(w: &World, text: &str) -> (String, String) {
    let client = w.client(V311, "http");
    client.open_http();
    client.send_raw(text.as_bytes());
    let (head, body) = split_response(&client.take_raw());
    client.cut();
    (head, String::from_utf8(body).expect("a body of text"))
}

#[track_caller]
fn check_json_error(response: (String, String), status: u16) {
    let (head, body) = response;
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
    assert!(
        head.contains("\r\ncontent-type: application/json"),
        "{head}"
    );
    assert!(
        head.contains(&format!("\r\ncontent-length: {}", body.len())),
        "{head}"
    );
    assert!(
        body.starts_with("{\"error\":\"") && body.ends_with("\"}"),
        "{body}"
    );
}

#[test]
fn mqtt311_6_0_0_1_packets_travel_in_binary_frames() {
    World::each(|w| {
        let mut socket = Socket::connected(w, "c");
        socket
            .client
            .send_raw(&binary(&bytes::subscribe(V311, 1, &[("t", 1)], &[])));
        assert!(matches!(socket.next(), Some(Got::Suback(_))));
        w.connected(V311, "publisher").publish("t", "x", 1);
        assert_eq!(socket.message().text(), "x");
        socket
            .client
            .send_raw(&binary(&PublishPacket::new("t", "y").build(V311)));
        assert_eq!(socket.message().text(), "y");
    });
}

#[test]
fn mqtt311_6_0_0_1_a_text_frame_closes_the_connection() {
    World::each(|w| {
        let mut socket = Socket::connected(w, "c");
        socket
            .client
            .send_raw(&frame(Opcode::Text, &bytes::PINGREQ));
        assert_eq!(socket.next(), None);
        assert_eq!(socket.event(), Some(WsEvent::Close(Some(1003))));
        assert!(socket.client.is_closed());

        let socket = Socket::open(w, "d", "/mqtt", "mqtt");
        socket.client.send_raw(&frame(
            Opcode::Text,
            &socket.client.connect_packet().build(),
        ));
        assert!(socket.client.is_closed());
    });
}

#[test]
fn mqtt311_6_0_0_2_packets_and_frames_need_not_agree() {
    World::each(|w| {
        let client = w.client(V311, "c");
        let packets = [
            &client.connect_packet().build()[..],
            &bytes::subscribe(V311, 1, &[("t", 0)], &[]),
            &PublishPacket::new("t", "x".repeat(300)).build(V311),
            &bytes::PINGREQ,
        ]
        .concat();
        for bytes_per_frame in [1, 2, 3, 7, 100, packets.len()] {
            let mut socket = Socket::open(w, "c", "/mqtt", "mqtt");
            for part in packets.chunks(bytes_per_frame) {
                socket.client.send_raw(&binary(part));
            }
            assert!(
                matches!(socket.next(), Some(Got::Connack(_))),
                "{bytes_per_frame}"
            );
            // SUBACK may wait until every shard knows of the filter; what follows does not.
            let rest: Vec<Got> = std::iter::from_fn(|| socket.next()).collect();
            assert_eq!(rest.len(), 3, "{rest:?}");
            assert!(rest.iter().any(|got| matches!(got, Got::Suback(_))));
            assert!(rest.contains(&Got::Pingresp));
            assert!(rest.iter().any(|got| match got {
                Got::Publish(message) => message.payload.len() == 300,
                _ => false,
            }));
            socket.client.cut();
        }
    });
}

#[test]
fn mqtt311_6_0_0_2_frames_may_be_cut_anywhere_and_fragmented() {
    World::each(|w| {
        let mut socket = Socket::open(w, "c", "/mqtt", "mqtt");
        socket
            .client
            .send_split(&binary(&socket.client.connect_packet().build()));
        assert!(matches!(socket.next(), Some(Got::Connack(_))));
        let mut first = binary(&bytes::PINGREQ[..1]);
        first[0] &= 0x7f;
        socket.client.send_raw(&first);
        socket.client.send_raw(&frame(Opcode::Ping, b"between"));
        assert_eq!(socket.event(), Some(WsEvent::Pong));
        socket
            .client
            .send_raw(&frame(Opcode::Continuation, &bytes::PINGREQ[1..]));
        assert_eq!(socket.next(), Some(Got::Pingresp));
    });
}

#[test]
fn the_handshake_itself_may_be_cut_anywhere() {
    World::each(|w| {
        let client = w.client(V311, "c");
        client.open_http();
        client.send_split(handshake("/mqtt", Some("mqtt")).as_bytes());
        let (head, _) = split_response(&client.take_raw());
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        // Frames right behind the handshake are read.
        let client = w.client(V311, "d");
        client.open_http();
        let connect = binary(&client.connect_packet().build());
        client.send_raw(&[handshake("/mqtt", Some("mqtt")).as_bytes(), &connect].concat());
        let (head, rest) = split_response(&client.take_raw());
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert_eq!(rest, [0x82, 4, 0x20, 2, 0, 0]);
    });
}

#[test]
fn mqtt311_6_0_0_4_the_subprotocol_is_mqtt() {
    World::each(|w| {
        for (offered, chosen) in [
            ("mqtt", "mqtt"),
            ("mqttv3.1", "mqttv3.1"),
            ("chat, mqtt", "mqtt"),
            ("mqtt, mqttv3.1", "mqtt"),
            ("mqttv3.1, mqtt", "mqtt"),
        ] {
            for path in ["/mqtt", "/", "/any/other?x=y"] {
                let (head, _) = request(w, &handshake(path, Some(offered)));
                assert!(head.starts_with("http/1.1 101 "), "{head}");
                let header = format!("\r\nsec-websocket-protocol: {chosen}");
                assert!(head.contains(&header), "{offered}: {head}");
            }
        }
    });
}

#[test]
fn a_will_is_published_when_a_websocket_is_lost() {
    World::each(|w| {
        let watcher = w.connected(V311, "watcher");
        watcher.subscribe("will", 0);
        for close in [None, Some(frame(Opcode::Close, &1000_u16.to_be_bytes()))] {
            let mut socket = Socket::open(w, "c", "/mqtt", "mqtt");
            let connect = socket
                .client
                .connect_packet()
                .will(WillPacket::new("will", "x"));
            socket.client.send_raw(&binary(&connect.build()));
            assert!(matches!(socket.next(), Some(Got::Connack(_))));
            match close {
                None => socket.client.cut(),
                Some(close) => {
                    socket.client.send_raw(&close);
                    assert_eq!(socket.event(), Some(WsEvent::Close(Some(1000))));
                    assert!(socket.client.is_closed());
                }
            }
            assert_eq!(watcher.message().topic, "will");
        }
    });
}

#[test]
fn pings_are_answered_with_their_payload() {
    World::each(|w| {
        let socket = Socket::connected(w, "c");
        socket.client.send_raw(&frame(Opcode::Ping, b"payload"));
        assert_eq!(
            socket.client.take_raw(),
            [&[0x8a, 7][..], b"payload"].concat()
        );
        // A pong that nobody asked for is no offence.
        socket.client.send_raw(&frame(Opcode::Pong, b""));
        socket.client.expect_nothing();
    });
}

#[test]
fn frames_that_break_rfc_6455_close_the_connection() {
    World::each(|w| {
        for wrong in [
            vec![0x82, 2, 0xC0, 0],             // not masked
            vec![0xC2, 0x80, 0, 0, 0, 0],       // a reserved bit
            vec![0x83, 0x80, 0, 0, 0, 0],       // a reserved opcode
            frame(Opcode::Continuation, &[]),   // of nothing
            vec![0x09, 0x80, 0, 0, 0, 0],       // a ping in fragments
            vec![0x82, 0xfe, 0, 2, 0, 0, 0, 0], // a length that is too long
        ] {
            let mut socket = Socket::connected(w, "c");
            socket.client.send_raw(&wrong);
            assert_eq!(
                socket.event(),
                Some(WsEvent::Close(Some(1002))),
                "{wrong:02x?}"
            );
            assert!(socket.client.is_closed(), "{wrong:02x?}");
        }
    });
}

#[test]
fn a_disconnect_over_websocket_closes_it() {
    World::each(|w| {
        let socket = Socket::connected(w, "c");
        socket.client.send_raw(&binary(&bytes::DISCONNECT));
        assert!(socket.client.is_closed());
    });
}

#[test]
fn a_malformed_packet_over_websocket_closes_it() {
    World::each(|w| {
        let socket = Socket::connected(w, "c");
        socket.client.send_raw(&binary(&[0x00, 0x00]));
        assert!(socket.client.is_closed());
    });
}

#[test]
fn a_session_moves_between_tcp_and_websocket() {
    World::each(|w| {
        let tcp = w.client(V311, "c");
        tcp.connect_with(|c| c.clean_start(false));
        tcp.subscribe("t", 1);
        let mut socket = Socket::open(w, "c", "/mqtt", "mqtt");
        let connect = socket.client.connect_packet().clean_start(false);
        socket.client.send_raw(&binary(&connect.build()));
        let Some(Got::Connack(connack)) = socket.next() else {
            panic!("no CONNACK")
        };
        assert!(connack.session_present);
        tcp.expect_closed();
        w.connected(V311, "publisher").publish("t", "x", 1);
        assert_eq!(socket.message().text(), "x");
    });
}

#[test]
fn other_requests_get_a_json_404() {
    World::each(|w| {
        for path in ["/", "/mqtt", "/other/1?x=y"] {
            let text = format!("GET {path} HTTP/1.1\r\nHost: broker\r\n\r\n");
            check_json_error(request(w, &text), 404);
        }
    });
}

#[test]
fn a_handshake_without_a_subprotocol_of_mqtt_is_refused() {
    World::each(|w| {
        for path in ["/mqtt", "/other"] {
            check_json_error(request(w, &handshake(path, Some("chat"))), 400);
            check_json_error(request(w, &handshake(path, None)), 400);
        }
    });
}

#[test]
fn malformed_requests_and_handshakes_are_refused() {
    World::each(|w| {
        check_json_error(request(w, "GET / HTTP/1.1\r\n\r\n"), 400);
        check_json_error(request(w, "GET / HTTP/1.1\nHost: x\n\n"), 400);
        check_json_error(request(w, "\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0"), 400);
        let old = handshake("/mqtt", Some("mqtt")).replace("Version: 13", "Version: 8");
        let (head, body) = request(w, &old);
        assert!(head.contains("\r\nsec-websocket-version: 13"), "{head}");
        check_json_error((head, body), 426);
        let keyless = handshake("/mqtt", Some("mqtt")).replace("Sec-WebSocket-Key", "X-Key");
        check_json_error(request(w, &keyless), 400);
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000));
        check_json_error(request(w, &long), 431);
    });
}

#[test]
fn a_connection_becomes_a_websocket_after_other_requests() {
    World::each(|w| {
        let client = w.client(V311, "http");
        client.open_http();
        let request = "POST /a HTTP/1.1\r\nHost: broker\r\nContent-Length: 4\r\n\r\nGET ";
        let upgrade = handshake("/mqtt", Some("mqtt"));
        client.send_raw(format!("{request}{upgrade}").as_bytes());
        let received = String::from_utf8(client.take_raw()).unwrap();
        assert!(received.starts_with("HTTP/1.1 404 "), "{received}");
        assert!(received.contains("}HTTP/1.1 101 "), "{received}");
        assert!(!client.is_closed());
    });
}
