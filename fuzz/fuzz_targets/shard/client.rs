//! The client's end of one connection: what it has sent that no driver has read, what it was sent,
//! and what it owes for that.

use http::Opcode;
use mqtt_v5_codec::{
    AckKind, FixedHeader, Packet, PacketId, QoS, Version, connect_version, decode,
};
use shard::{ConnectionId, Handoff, Listener};

/// Where the server's end is.
pub enum Place {
    /// Nowhere.
    Closed,
    /// With a driver.
    At(usize, ConnectionId),
    /// On its way to this shard.
    Moving(usize, Box<Handoff>),
}

/// A client and its connection.
pub struct Client {
    pub version: Version,
    pub listener: Listener,
    pub place: Place,
    /// Sent, and not read by a driver.
    pub up: Vec<u8>,
    /// What it sends waits until it is asked for.
    pub is_held: bool,
    /// The shard does not want to read it.
    pub is_paused: bool,
    /// Taken from its outbox, and not accepted by the kernel.
    pub unsent: Vec<u8>,
    /// Of `unsent`, bytes that its last home took out and its present one knows nothing of.
    pub carried_bytes: usize,
    /// It does not read.
    pub is_stalled: bool,
    /// Received, and not understood yet.
    received: Vec<u8>,
    /// What it said first, which decides how it is answered.
    said: Vec<u8>,
    /// It has sent bytes that only the server can make sense of, so its answers mean nothing.
    is_opaque: bool,
    /// The server's HTTP response has come.
    has_switched: bool,
    /// MQTT out of the WebSocket frames.
    unframed: Vec<u8>,
    /// Acknowledgements that it owes, in order.
    pub owes: Vec<(AckKind, PacketId)>,
    /// Kinds of packets that came, a bit each.
    pub seen: u32,
    /// The server looks into no larger packet, so it never learns what a larger CONNECT asks for.
    server_bytes_max: usize,
}

/// A handshake for WebSocket.
const HANDSHAKE: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

impl Client {
    pub fn new(version: Version, listener: Listener, server_bytes_max: usize) -> Client {
        Client {
            version,
            listener,
            place: Place::Closed,
            up: Vec::new(),
            is_held: false,
            is_paused: false,
            unsent: Vec::new(),
            carried_bytes: 0,
            is_stalled: false,
            received: Vec::new(),
            said: Vec::new(),
            is_opaque: false,
            has_switched: false,
            unframed: Vec::new(),
            owes: Vec::new(),
            seen: 0,
            server_bytes_max,
        }
    }

    /// A new connection: nothing of the last one is left. What the client says first depends on
    /// the listener.
    pub fn on_open(&mut self) {
        *self = Client {
            is_held: self.is_held,
            is_stalled: self.is_stalled,
            ..Client::new(self.version, self.listener, self.server_bytes_max)
        };
        if self.listener == Listener::Http {
            self.up.extend_from_slice(HANDSHAKE);
        }
    }

    /// Sends bytes of MQTT.
    pub fn send(&mut self, bytes: &[u8]) {
        self.said.extend_from_slice(bytes);
        match self.listener {
            Listener::Mqtt => self.up.extend_from_slice(bytes),
            Listener::Http | Listener::HttpAs(_) => {
                http::write_client_frame(&mut self.up, Opcode::Binary, bytes, [1, 2, 3, 4]);
            }
        }
    }

    /// Sends bytes below WebSocket.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.up.extend_from_slice(bytes);
        self.is_opaque = true;
    }

    /// The connection is gone.
    pub fn on_close(&mut self) {
        self.place = Place::Closed;
        self.up.clear();
        self.unsent.clear();
        self.carried_bytes = 0;
        self.is_paused = false;
    }

    /// The kernel has brought these bytes; they must make sense.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.is_opaque {
            return;
        }
        self.received.extend_from_slice(bytes);
        match self.listener {
            Listener::Mqtt => {
                let mut received = std::mem::take(&mut self.received);
                self.read_packets(&mut received);
                self.received = received;
            }
            Listener::Http | Listener::HttpAs(_) => self.read_frames(),
        }
    }

    fn read_frames(&mut self) {
        if !self.has_switched {
            let end = self
                .received
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            let Some(end) = end else { return };
            let head: Vec<u8> = self.received.drain(..end + 4).collect();
            if head.starts_with(b"HTTP/1.1 408 ") {
                self.is_opaque = true; // Its handshake has not come in time.
                return;
            }
            assert!(head.starts_with(b"HTTP/1.1 101 "), "the handshake is sound");
            self.has_switched = true;
        }
        while let Some((opcode, payload, total)) = frame_of(&self.received) {
            let payload = self.received[payload..total].to_vec();
            self.received.drain(..total);
            if opcode == 2 {
                self.unframed.extend_from_slice(&payload);
            } else {
                assert!(matches!(opcode, 8 | 10), "frames that a server sends");
            }
        }
        let mut unframed = std::mem::take(&mut self.unframed);
        self.read_packets(&mut unframed);
        self.unframed = unframed;
    }

    /// The version that it is answered in, and the largest packet that it takes.
    fn agreed(&self) -> (Version, usize) {
        let header = match FixedHeader::parse(&self.said) {
            Ok(Some(header)) if header.first == 0x10 => header,
            _ => return (Version::V311, usize::MAX),
        };
        let end = header.packet_bytes().min(self.said.len());
        let body = &self.said[header.header_bytes..end];
        match decode(Version::V311, header.first, body) {
            Ok(Packet::Connect(connect)) => {
                let maximum = connect.properties.maximum_packet_size;
                let maximum = maximum.filter(|_| header.packet_bytes() <= self.server_bytes_max);
                (
                    connect.version,
                    maximum.map_or(usize::MAX, |bytes| bytes as usize),
                )
            }
            _ => (connect_version(body).unwrap_or(Version::V311), usize::MAX),
        }
    }

    fn read_packets(&mut self, stream: &mut Vec<u8>) {
        if stream.is_empty() {
            return;
        }
        let (version, bytes_max) = self.agreed();
        let mut at = 0;
        while let Some(header) = FixedHeader::parse(&stream[at..]).expect("a sound header") {
            let Some(whole) = stream.get(at..at + header.packet_bytes()) else {
                break;
            };
            at += whole.len();
            assert!(whole.len() <= bytes_max, "{} B are too many", whole.len());
            let packet = decode(version, header.first, &whole[header.header_bytes..]);
            let packet = packet.unwrap_or_else(|error| panic!("{version:?} {whole:02x?}: {error}"));
            self.seen |= 1 << (header.first >> 4);
            self.on_packet(&packet);
        }
        stream.drain(..at);
    }

    fn on_packet(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Publish(publish) => {
                assert!(!publish.topic.is_empty() || publish.properties.topic_alias.is_some());
                let kind = match publish.qos {
                    QoS::AtMostOnce => return,
                    QoS::AtLeastOnce => AckKind::Puback,
                    QoS::ExactlyOnce => AckKind::Pubrec,
                };
                let id = publish.packet_id.expect("above QoS 0");
                self.owes.push((kind, id));
            }
            Packet::Ack(ack) => match ack.kind {
                AckKind::Pubrec if !ack.reason.is_error() => {
                    self.owes.push((AckKind::Pubrel, ack.packet_id));
                }
                AckKind::Pubrel => self.owes.push((AckKind::Pubcomp, ack.packet_id)),
                _ => {}
            },
            Packet::Connack(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp
            | Packet::Disconnect(_) => {}
            other => panic!("only a client sends {other:?}"),
        }
    }
}

/// The opcode of the frame at the front, where its payload begins, and where it ends; `None` if it
/// is not all there. Not masked and not fragmented, since it is a server's.
fn frame_of(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & 0xF0, 0x80, "one frame is one message");
    let (start, length) = match second {
        126 => {
            let long = bytes.get(2..4)?;
            (4, usize::from(u16::from_be_bytes([long[0], long[1]])))
        }
        127 => {
            let long: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
            (10, u64::from_be_bytes(long) as usize)
        }
        short => {
            assert!(short < 126, "a server does not mask");
            (2, usize::from(short))
        }
    };
    (bytes.len() >= start + length).then_some((first & 15, start, start + length))
}
