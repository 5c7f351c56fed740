//! The packets of clients that keep sessions, have wills and speak QoS 2, as bytes.
//!
//! Apart from the broker's codec, as all that measures it. Bounded by the broker's own packets: a
//! packet above 256 MiB is malformed.

use crate::wire::{
    self, Malformed, STAMP_BYTES, Stamp, Version, after_properties, push_length, push_string,
};

/// A packet that the broker sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// CONNACK.
    Connack {
        /// The return code or reason; 0 is success.
        code: u8,
        /// Whether the broker still knew the session.
        session_present: bool,
    },
    /// SUBACK.
    Suback {
        /// Whether every filter was granted.
        granted: bool,
    },
    /// PUBLISH.
    Publish(Publish<'a>),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack {
        /// The first byte: which of them.
        kind: u8,
        /// Which exchange.
        packet_id: u16,
        /// The reason; 0 where there is none.
        reason: u8,
    },
    /// PINGRESP.
    Pingresp,
    /// DISCONNECT of MQTT 5, with its reason.
    Disconnect(u8),
}

/// A PUBLISH that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The DUP flag.
    pub dup: bool,
    /// 0 to 2.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
    /// 0 with QoS 0.
    pub packet_id: u16,
    /// The topic.
    pub topic: &'a [u8],
    /// The message.
    pub payload: &'a [u8],
}

/// First byte of PUBACK.
pub const PUBACK: u8 = 0x40;
/// First byte of PUBREC.
pub const PUBREC: u8 = 0x50;
/// First byte of PUBREL.
pub const PUBREL: u8 = 0x62;
/// First byte of PUBCOMP.
pub const PUBCOMP: u8 = 0x70;
/// The two bytes of a PINGREQ.
pub const PINGREQ: [u8; 2] = [0xC0, 0];

/// Takes one packet from the front of `bytes`; returns it and its length, or `None` while it is
/// incomplete.
///
/// # Errors
/// When it is nothing that a broker may send, or its lengths contradict each other.
pub fn take(version: Version, bytes: &[u8]) -> Result<Option<(Incoming<'_>, usize)>, Malformed> {
    let Some(frame) = wire::frame(bytes)? else {
        return Ok(None);
    };
    let packet = decode(version, frame.first, frame.body)?;
    Ok(Some((packet, frame.total)))
}

fn decode(version: Version, first: u8, body: &[u8]) -> Result<Incoming<'_>, Malformed> {
    match (first >> 4, body.len()) {
        (2, 2..) => Ok(Incoming::Connack {
            code: body[1],
            session_present: body[0] & 1 != 0,
        }),
        (3, _) => publish_of(version, first, body),
        (4..=7, 2..) => Ok(Incoming::Ack {
            kind: first,
            packet_id: u16::from_be_bytes([body[0], body[1]]),
            reason: body.get(2).copied().unwrap_or(0),
        }),
        (9, 3..) => {
            let codes = match version {
                Version::V311 => &body[2..],
                Version::V5 => after_properties(&body[2..])?,
            };
            let granted = !codes.is_empty() && codes.iter().all(|&code| code < 0x80);
            Ok(Incoming::Suback { granted })
        }
        (13, 0) => Ok(Incoming::Pingresp),
        (14, _) if version == Version::V5 => {
            Ok(Incoming::Disconnect(body.first().copied().unwrap_or(0)))
        }
        _ => Err(Malformed("nothing that a broker may send")),
    }
}

fn publish_of(version: Version, first: u8, body: &[u8]) -> Result<Incoming<'_>, Malformed> {
    let length = body
        .first_chunk::<2>()
        .map(|bytes| usize::from(u16::from_be_bytes(*bytes)))
        .ok_or(Malformed("PUBLISH without a topic"))?;
    let topic = body
        .get(2..2 + length)
        .ok_or(Malformed("topic longer than its packet"))?;
    let mut rest = &body[2 + length..];
    let qos = first >> 1 & 3;
    let mut packet_id = 0;
    if qos > 0 {
        let (bytes, after) = rest
            .split_first_chunk::<2>()
            .ok_or(Malformed("PUBLISH without a packet identifier"))?;
        packet_id = u16::from_be_bytes(*bytes);
        rest = after;
    }
    if qos == 3 || (qos > 0 && packet_id == 0) {
        return Err(Malformed("QoS 3, or packet identifier 0"));
    }
    let payload = match version {
        Version::V311 => rest,
        Version::V5 => after_properties(rest)?,
    };
    Ok(Incoming::Publish(Publish {
        dup: first & 8 != 0,
        qos,
        retain: first & 1 != 0,
        packet_id,
        topic,
        payload,
    }))
}

/// A will as CONNECT has it: QoS 1, not retained.
#[derive(Clone, Copy, Debug)]
pub struct Will<'a> {
    /// Where it goes.
    pub topic: &'a str,
    /// What it says.
    pub payload: &'a [u8],
    /// Seconds after the end of the connection; MQTT 5 alone has that.
    pub delay_s: u32,
}

/// What a CONNECT says.
#[derive(Clone, Copy, Debug)]
pub struct Connect<'a> {
    /// The protocol.
    pub version: Version,
    /// Who it is.
    pub client_id: &'a str,
    /// Whether the session outlives the connection: with MQTT 5, for an hour.
    pub kept: bool,
    /// Seconds.
    pub keep_alive_s: u16,
    /// User name and password.
    pub credentials: Option<(&'a str, &'a str)>,
    /// The will, if it has one.
    pub will: Option<Will<'a>>,
}

/// Seconds for which a kept session of MQTT 5 is to be kept.
const EXPIRY_S: u32 = 3_600;

impl Connect<'_> {
    /// Appends the packet.
    pub fn push(&self, out: &mut Vec<u8>) {
        let is_v5 = self.version == Version::V5;
        let mut body = Vec::with_capacity(128);
        push_string(&mut body, "MQTT");
        body.push(if is_v5 { 5 } else { 4 });
        let will_flags = if self.will.is_some() { 0x0C } else { 0 };
        let credentials = if self.credentials.is_some() { 0xC0 } else { 0 };
        body.push(u8::from(!self.kept) << 1 | will_flags | credentials);
        body.extend_from_slice(&self.keep_alive_s.to_be_bytes());
        if is_v5 {
            push_number_property(&mut body, 0x11, if self.kept { EXPIRY_S } else { 0 });
        }
        push_string(&mut body, self.client_id);
        if let Some(will) = &self.will {
            if is_v5 {
                push_number_property(&mut body, 0x18, will.delay_s);
            }
            push_string(&mut body, will.topic);
            let length = u16::try_from(will.payload.len()).expect("wills are short");
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(will.payload);
        }
        if let Some((name, password)) = self.credentials {
            push_string(&mut body, name);
            push_string(&mut body, password);
        }
        out.push(0x10);
        push_length(out, body.len());
        out.extend_from_slice(&body);
    }
}

/// A property list with one property of four bytes, or an empty one where that is 0, its default.
fn push_number_property(out: &mut Vec<u8>, identifier: u8, value: u32) {
    if value == 0 {
        out.push(0);
        return;
    }
    out.extend_from_slice(&[5, identifier]);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends one of the four acknowledgements.
pub fn push_ack(out: &mut Vec<u8>, kind: u8, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[kind, 2, high, low]);
}

/// Appends a PUBLISH whose payload is a stamp; `packet_id` counts only above QoS 0.
pub fn push_publish(out: &mut Vec<u8>, version: Version, publish: &Publish<'_>) {
    let flags = u8::from(publish.dup) << 3 | publish.qos << 1 | u8::from(publish.retain);
    let with_id = usize::from(publish.qos > 0) * 2;
    let properties = usize::from(version == Version::V5);
    out.push(0x30 | flags);
    push_length(
        out,
        2 + publish.topic.len() + with_id + properties + publish.payload.len(),
    );
    let length = u16::try_from(publish.topic.len()).expect("generated topics are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(publish.topic);
    if publish.qos > 0 {
        out.extend_from_slice(&publish.packet_id.to_be_bytes());
    }
    if version == Version::V5 {
        out.push(0);
    }
    out.extend_from_slice(publish.payload);
}

/// The payload of message `sequence` of a stream, which was due then.
pub fn stamp(stream: u32, sequence: u32, due_ns: u64) -> [u8; STAMP_BYTES] {
    let mut payload = [0; STAMP_BYTES];
    let stamp = Stamp {
        publisher: stream,
        sequence,
        intended_ns: due_ns,
    };
    stamp.write(&mut payload);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_read_back() {
        for version in [Version::V311, Version::V5] {
            for qos in 0..=2 {
                let publish = Publish {
                    dup: qos == 1,
                    qos,
                    retain: qos == 2,
                    packet_id: if qos > 0 { 513 } else { 0 },
                    topic: b"a/b",
                    payload: &stamp(7, 9, 11),
                };
                let mut bytes = Vec::new();
                push_publish(&mut bytes, version, &publish);
                for cut in 0..bytes.len() {
                    assert_eq!(take(version, &bytes[..cut]), Ok(None), "{cut}");
                }
                let expected = (Incoming::Publish(publish), bytes.len());
                assert_eq!(take(version, &bytes), Ok(Some(expected)));
            }
        }
    }

    #[test]
    fn a_connect_has_its_parts_in_order() {
        let mut bytes = Vec::new();
        Connect {
            version: Version::V5,
            client_id: "c",
            kept: true,
            keep_alive_s: 60,
            credentials: Some(("u", "p")),
            will: Some(Will {
                topic: "t",
                payload: b"w",
                delay_s: 3,
            }),
        }
        .push(&mut bytes);
        let expected = [
            &[0x10, 37, 0, 4][..],
            b"MQTT",
            &[5, 0xCC, 0, 60, 5, 0x11, 0, 0, 14, 16, 0, 1, b'c'],
            &[
                5, 0x18, 0, 0, 0, 3, 0, 1, b't', 0, 1, b'w', 0, 1, b'u', 0, 1, b'p',
            ],
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_a_broker_may_not_send_is_malformed() {
        let wrong: [&[u8]; 7] = [
            &[0x10, 0],
            &[0x36, 5, 0, 1, b'a', 0, 1],
            &[0x32, 5, 0, 1, b'a', 0, 0],
            &[0x32, 3, 0, 9, b'a'],
            &[0x30, 1, 0],
            &[0x40, 1, 0],
            &[0xE0, 1, 0],
        ];
        for bytes in wrong {
            assert!(take(Version::V311, bytes).is_err(), "{bytes:?}");
        }
        let told = take(Version::V5, &[0xE0, 2, 0x8B, 0]);
        assert_eq!(told, Ok(Some((Incoming::Disconnect(0x8B), 4))));
    }
}
