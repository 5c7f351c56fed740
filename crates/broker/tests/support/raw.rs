//! MQTT by hand, over a plain socket: bytes that no client library would send, or would hide.

use super::PATIENCE;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// One connection.
pub struct Raw {
    stream: TcpStream,
}

/// A packet as received: its first byte, and all behind the length.
#[derive(Debug, PartialEq, Eq)]
pub struct RawPacket {
    /// Type and flags.
    pub first: u8,
    /// All behind the fixed header.
    pub body: Vec<u8>,
}

/// CONNECT with a clean session; `level` is 4 or 5.
pub fn connect_packet(level: u8, client_id: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 60];
    if level == 5 {
        body.push(0);
    }
    push_string(&mut body, client_id);
    packet(0x10, &body)
}

/// SUBSCRIBE to one filter, as version 5 has it.
pub fn subscribe_packet(filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1, 0];
    push_string(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

/// PUBLISH with QoS 0, as version 5 has it.
pub fn publish_packet(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    push_string(&mut body, topic);
    body.push(0);
    body.extend_from_slice(payload);
    packet(0x30, &body)
}

/// A packet with this first byte.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        bytes.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn push_string(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

impl Raw {
    /// A connection on which nothing has been sent.
    pub fn open(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Raw { stream }
    }

    /// A client of version 5 that has its CONNACK.
    pub fn connected(address: SocketAddr, client_id: &str) -> Raw {
        let mut raw = Raw::open(address);
        raw.send(&connect_packet(5, client_id));
        let connack = raw.packet().expect("CONNACK");
        assert_eq!(
            (connack.first, connack.body[1]),
            (0x20, 0),
            "CONNACK {connack:?}"
        );
        raw
    }

    /// Sends bytes. That the broker has closed already is not an error here.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(error) if !is_closed(error.kind()) => panic!("{error}"),
            _ => {}
        }
    }

    /// The next packet, or `None` at the end of the connection.
    pub fn packet(&mut self) -> Option<RawPacket> {
        let first = self.byte()?;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        Some(RawPacket { first, body })
    }

    /// Reads until the broker closes; it must.
    pub fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if !is_closed(error.kind()) => panic!("still open: {error}"),
            _ => bytes,
        }
    }

    /// Whether the broker says anything or closes, instead of leaving us waiting.
    pub fn answers_or_closes(&mut self) -> bool {
        match self.stream.peek(&mut [0]) {
            Ok(_) => true,
            Err(error) => is_closed(error.kind()),
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => None,
            Ok(_) => Some(byte[0]),
            Err(error) if is_closed(error.kind()) => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
