//! The examples that RFC 6455 gives, byte for byte.

#![allow(clippy::unwrap_used)] // A helper of tests may fail a test.

use http::{Decoder, Opcode, Upgrade, WsEvent, parse_head, upgrade};

/// Section 1.2 and 1.3.
#[test]
fn opening_handshake() {
    let request = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";
    let head = parse_head(request).unwrap().unwrap();
    let Upgrade::Accept { key, protocol } = upgrade(&head, &["chat", "superchat"]) else {
        panic!("refused");
    };
    let mut response = Vec::new();
    http::write_switching_protocols(&mut response, key, protocol);
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
        Sec-WebSocket-Protocol: chat\r\n\r\n";
    assert_eq!(String::from_utf8(response).unwrap(), expected);
}

fn check(mut decoder: Decoder, mut frames: &[u8], events: &[WsEvent], expected: &[u8]) {
    let mut data = Vec::new();
    for event in events {
        assert_eq!(
            decoder.decode(&mut frames, &mut data).unwrap().as_ref(),
            Some(event)
        );
    }
    assert_eq!(decoder.decode(&mut frames, &mut data), Ok(None));
    assert_eq!(data, expected);
    assert!(decoder.is_idle());
}

/// Section 5.7: a single-frame unmasked text message.
#[test]
fn unmasked_text() {
    let text = WsEvent::Data {
        is_text: true,
        is_final: true,
    };
    let frame = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    check(Decoder::for_client(5), &frame, &[text], b"Hello");
    let mut header = Vec::new();
    http::write_frame_header(&mut header, Opcode::Text, 5);
    assert_eq!(header, frame[..2]);
}

/// Section 5.7: a single-frame masked text message.
#[test]
fn masked_text() {
    let text = WsEvent::Data {
        is_text: true,
        is_final: true,
    };
    let frame = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    check(Decoder::new(5), &frame, &[text], b"Hello");
    let mut written = Vec::new();
    http::write_client_frame(
        &mut written,
        Opcode::Text,
        b"Hello",
        [0x37, 0xfa, 0x21, 0x3d],
    );
    assert_eq!(written, frame);
}

/// Section 5.7: a fragmented unmasked text message.
#[test]
fn fragmented_text() {
    let frames = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    let piece = WsEvent::Data {
        is_text: true,
        is_final: false,
    };
    let end = WsEvent::Data {
        is_text: true,
        is_final: true,
    };
    check(Decoder::for_client(5), &frames, &[piece, end], b"Hello");
}

/// Section 5.7: unmasked ping request and masked ping response.
#[test]
fn ping_and_pong() {
    let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    check(
        Decoder::for_client(0),
        &ping,
        &[WsEvent::Ping(b"Hello".to_vec())],
        b"",
    );
    let pong = [
        0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    check(Decoder::new(0), &pong, &[WsEvent::Pong], b"");
    let mut written = Vec::new();
    http::write_pong(&mut written, b"Hello");
    assert_eq!(written, [&[0x8a, 0x05], &b"Hello"[..]].concat());
}

/// Section 5.7: 256 bytes and 64 KiB of binary data announce their lengths so.
#[test]
fn long_lengths() {
    let mut out = Vec::new();
    http::write_frame_header(&mut out, Opcode::Binary, 256);
    assert_eq!(out, [0x82, 0x7e, 0x01, 0x00]);
    out.clear();
    http::write_frame_header(&mut out, Opcode::Binary, 65_536);
    assert_eq!(out, [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
}
