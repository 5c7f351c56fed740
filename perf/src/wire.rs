//! The few packets that a load generator speaks, as bytes.
//!
//! Written apart from the broker's codec on purpose: what measures shares no code with what is
//! measured, and a generator may skip every check that a broker must make. A PUBLISH is encoded
//! once per publisher and then copied and patched.

/// Which protocol the generator speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0, with empty properties.
    V5,
}

/// Seconds that every CONNECT asks for. Longer than any run, so no PINGREQ is needed; not 0,
/// because rumqttd refuses that.
pub const KEEP_ALIVE_S: u16 = 600;

/// The smallest payload: stream, sequence number and intended time.
pub const STAMP_BYTES: usize = 16;

/// A packet that the broker sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// CONNACK.
    Connack {
        /// The return code or reason; 0 is success.
        code: u8,
        /// Whether the broker still knew the session.
        session_present: bool,
    },
    /// SUBACK with its last code; the generator counts only whether all were granted.
    Suback {
        /// Whether every code is below 0x80.
        granted: bool,
    },
    /// PUBACK.
    Puback(u16),
    /// PUBLISH.
    Publish {
        /// The packet identifier, present with QoS 1.
        packet_id: Option<u16>,
        /// RETAIN flag.
        retain: bool,
        /// The message itself.
        payload: &'a [u8],
    },
    /// Anything else, told by the first byte.
    Other(u8),
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Takes one packet from the front of `bytes`.
///
/// Returns the packet and its length in bytes, or `None` while it is incomplete.
///
/// # Errors
/// When the lengths inside contradict each other.
pub fn take(version: Version, bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, Malformed> {
    let Some(frame) = frame(bytes)? else {
        return Ok(None);
    };
    let packet = decode(version, frame.first, frame.body)?;
    Ok(Some((packet, frame.total)))
}

/// A packet as it lies in a stream.
pub(crate) struct Frame<'a> {
    /// Its kind and flags.
    pub first: u8,
    /// What stands behind its length.
    pub body: &'a [u8],
    /// How many bytes it takes as a whole.
    pub total: usize,
}

/// The packet at the front of `bytes`; `None` while it is incomplete.
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    if rest.is_empty() {
        return Ok(None);
    }
    let Some((remaining, header)) = remaining_length(rest)? else {
        return Ok(None);
    };
    let body = rest.get(header..header + remaining);
    Ok(body.map(|body| Frame {
        first,
        body,
        total: 1 + header + remaining,
    }))
}

/// A variable byte integer: its value and how many bytes it took.
pub(crate) fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0usize;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(Malformed("length above four bytes"))
    }
}

fn decode(version: Version, first: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    match first >> 4 {
        2 if body.len() >= 2 => Ok(Packet::Connack {
            code: body[1],
            session_present: body[0] & 1 != 0,
        }),
        3 => decode_publish(version, first, body),
        4 if body.len() >= 2 => Ok(Packet::Puback(u16::from_be_bytes([body[0], body[1]]))),
        9 if body.len() >= 3 => {
            let codes = match version {
                Version::V311 => &body[2..],
                Version::V5 => after_properties(&body[2..])?,
            };
            Ok(Packet::Suback {
                granted: codes.iter().all(|&code| code < 0x80),
            })
        }
        2 | 4 | 9 => Err(Malformed("packet too short")),
        _ => Ok(Packet::Other(first)),
    }
}

fn decode_publish(version: Version, first: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    if body.len() < 2 {
        return Err(Malformed("PUBLISH without a topic"));
    }
    let mut at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let mut packet_id = None;
    if first & 0x06 != 0 {
        if body.len() < at + 2 {
            return Err(Malformed("PUBLISH without a packet identifier"));
        }
        packet_id = Some(u16::from_be_bytes([body[at], body[at + 1]]));
        at += 2;
    }
    let rest = body
        .get(at..)
        .ok_or(Malformed("topic longer than its packet"))?;
    let payload = match version {
        Version::V311 => rest,
        Version::V5 => after_properties(rest)?,
    };
    Ok(Packet::Publish {
        packet_id,
        retain: first & 1 != 0,
        payload,
    })
}

pub(crate) fn after_properties(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let (length, header) =
        remaining_length(bytes)?.ok_or(Malformed("property length cut short"))?;
    bytes
        .get(header + length..)
        .ok_or(Malformed("properties longer than their packet"))
}

/// Appends a variable byte integer.
pub(crate) fn push_length(out: &mut Vec<u8>, mut value: usize) {
    assert!(
        value < 268_435_456,
        "a packet of 256 MiB is never generated"
    );
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        out.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}

pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("generated strings are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Appends a CONNECT without credentials, for a clean session or for one that is `kept` when the
/// connection has gone.
pub fn connect(version: Version, client_id: &str, kept: bool, out: &mut Vec<u8>) {
    let properties: &[u8] = match (version, kept) {
        (Version::V311, _) => &[],
        (Version::V5, false) => &[0],
        // Session Expiry Interval: never.
        (Version::V5, true) => &[5, 0x11, 0xFF, 0xFF, 0xFF, 0xFF],
    };
    out.push(0x10);
    push_length(out, 10 + properties.len() + 2 + client_id.len());
    push_string(out, "MQTT");
    out.push(if version == Version::V5 { 5 } else { 4 });
    out.push(if kept { 0 } else { 0x02 });
    out.extend_from_slice(&KEEP_ALIVE_S.to_be_bytes());
    out.extend_from_slice(properties);
    push_string(out, client_id);
}

/// Appends a SUBSCRIBE for `filters`, all with the same QoS.
pub fn subscribe(version: Version, packet_id: u16, filters: &[String], qos: u8, out: &mut Vec<u8>) {
    assert!(
        !filters.is_empty() && packet_id != 0,
        "a SUBSCRIBE has a filter and an identifier"
    );
    let properties = usize::from(version == Version::V5);
    let body: usize = filters.iter().map(|filter| 2 + filter.len() + 1).sum();
    out.push(0x82);
    push_length(out, 2 + properties + body);
    out.extend_from_slice(&packet_id.to_be_bytes());
    if version == Version::V5 {
        out.push(0);
    }
    for filter in filters {
        push_string(out, filter);
        out.push(qos);
    }
}

/// Appends a PUBACK.
#[inline]
pub fn puback(packet_id: u16, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0x40, 2, high, low]);
}

/// The two bytes of a DISCONNECT without a reason.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// What a generated payload says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which publisher sent it.
    pub publisher: u32,
    /// How many that publisher had sent before.
    pub sequence: u32,
    /// When it should have been sent: nanoseconds since the generator's epoch.
    pub intended_ns: u64,
}

impl Stamp {
    /// Reads the stamp at the front of a payload; `None` if the payload is too short.
    #[inline]
    pub fn read(payload: &[u8]) -> Option<Stamp> {
        let bytes: &[u8; STAMP_BYTES] = payload.first_chunk()?;
        let (publisher, rest) = bytes.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<4>()?;
        Some(Stamp {
            publisher: u32::from_be_bytes(*publisher),
            sequence: u32::from_be_bytes(*sequence),
            intended_ns: u64::from_be_bytes(*rest.first_chunk::<8>()?),
        })
    }

    #[inline]
    pub(crate) fn write(self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&self.publisher.to_be_bytes());
        payload[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        payload[8..16].copy_from_slice(&self.intended_ns.to_be_bytes());
    }
}

/// Decimal digits in a numbered topic.
const DIGITS: usize = 7;

/// A PUBLISH made once, copied per message and patched.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    digits_at: Option<usize>,
    packet_id_at: Option<usize>,
    payload_at: usize,
}

impl Template {
    /// Makes a PUBLISH to `topic` with `payload_bytes` of payload. A `#######` in the topic is
    /// the place of a number that each message brings.
    ///
    /// # Panics
    /// When the payload has no room for a [`Stamp`], or `qos` is above 1.
    pub fn new(
        version: Version,
        topic: &str,
        qos: u8,
        retain: bool,
        payload_bytes: usize,
    ) -> Template {
        assert!(payload_bytes >= STAMP_BYTES, "a payload holds its stamp");
        assert!(qos <= 1, "the generator speaks QoS 0 and 1");
        let properties = usize::from(version == Version::V5);
        let with_id = usize::from(qos > 0) * 2;
        let mut bytes = vec![0x30 | qos << 1 | u8::from(retain)];
        push_length(
            &mut bytes,
            2 + topic.len() + with_id + properties + payload_bytes,
        );
        let topic_at = bytes.len() + 2;
        push_string(&mut bytes, topic);
        let packet_id_at = (qos > 0).then_some(bytes.len());
        bytes.resize(bytes.len() + with_id + properties, 0);
        let payload_at = bytes.len();
        bytes.resize(payload_at + payload_bytes, b'x');
        let digits_at = topic
            .find(&"#".repeat(DIGITS))
            .map(|offset| topic_at + offset);
        Template {
            bytes,
            digits_at,
            packet_id_at,
            payload_at,
        }
    }

    /// Bytes of one message on the wire.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a PUBLISH has at least a header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends one message. `packet_id` counts only with QoS 1, `number` only if the topic has a
    /// place for it.
    #[inline]
    pub fn push(&self, out: &mut Vec<u8>, packet_id: u16, number: u32, stamp: Stamp) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let message = &mut out[start..];
        if let Some(at) = self.packet_id_at {
            message[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        if let Some(at) = self.digits_at {
            write_digits(number, &mut message[at..at + DIGITS]);
        }
        stamp.write(&mut message[self.payload_at..]);
    }
}

fn write_digits(mut number: u32, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// `pattern` with its `#######` replaced by `number`: the topic that [`Template::push`] writes.
pub fn numbered(pattern: &str, number: u32) -> String {
    pattern.replace(&"#".repeat(DIGITS), &format!("{number:0DIGITS$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        publisher: 7,
        sequence: 9,
        intended_ns: 1_234_567_890_123,
    };

    fn check_round_trip(version: Version, qos: u8, payload_bytes: usize) {
        let template = Template::new(version, "site/1/temp", qos, false, payload_bytes);
        let mut bytes = Vec::new();
        template.push(&mut bytes, 513, 0, STAMP);
        assert_eq!(bytes.len(), template.len());
        for cut in 0..bytes.len() {
            assert_eq!(
                take(version, &bytes[..cut]),
                Ok(None),
                "{cut} bytes are incomplete"
            );
        }
        let (packet, taken) = take(version, &bytes).unwrap().unwrap();
        assert_eq!(taken, bytes.len());
        let Packet::Publish {
            packet_id,
            retain,
            payload,
        } = packet
        else {
            panic!("not a PUBLISH: {packet:?}");
        };
        assert_eq!(packet_id, (qos > 0).then_some(513));
        assert!(!retain);
        assert_eq!(payload.len(), payload_bytes);
        assert_eq!(Stamp::read(payload), Some(STAMP));
    }

    #[test]
    fn a_publish_is_read_back_as_it_was_stamped() {
        for version in [Version::V311, Version::V5] {
            for qos in [0, 1] {
                for payload_bytes in [STAMP_BYTES, 64, 200, 20_000] {
                    check_round_trip(version, qos, payload_bytes);
                }
            }
        }
    }

    #[test]
    fn a_numbered_topic_is_patched_in_place() {
        let template = Template::new(Version::V311, "f/#######/t", 0, false, 16);
        let mut bytes = Vec::new();
        template.push(&mut bytes, 0, 42, STAMP);
        let topic = numbered("f/#######/t", 42);
        assert_eq!(topic, "f/0000042/t");
        assert_eq!(&bytes[4..4 + topic.len()], topic.as_bytes());
    }

    #[test]
    fn acknowledgements_are_read() {
        let mut bytes = Vec::new();
        puback(258, &mut bytes);
        assert_eq!(
            take(Version::V311, &bytes),
            Ok(Some((Packet::Puback(258), 4)))
        );
        // v5 may add a reason and properties.
        let long = [0x40, 4, 1, 2, 0x10, 0];
        assert_eq!(take(Version::V5, &long), Ok(Some((Packet::Puback(258), 6))));
        let connack = |code, session_present| Packet::Connack {
            code,
            session_present,
        };
        let refused = take(Version::V311, &[0x20, 2, 0, 5]);
        assert_eq!(refused, Ok(Some((connack(5, false), 4))));
        let resumed = take(Version::V311, &[0x20, 2, 1, 0]);
        assert_eq!(resumed, Ok(Some((connack(0, true), 4))));
        let refused = [0x90, 4, 0, 1, 0, 0x80];
        let packet = take(Version::V311, &refused).unwrap().unwrap().0;
        assert_eq!(packet, Packet::Suback { granted: false });
        let granted = [0x90, 4, 0, 1, 0, 1];
        let packet = take(Version::V5, &granted).unwrap().unwrap().0;
        assert_eq!(packet, Packet::Suback { granted: true });
    }

    #[test]
    fn contradicting_lengths_are_malformed_and_never_panic() {
        let faults: [&[u8]; 6] = [
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            &[0x30, 1, 0],
            &[0x30, 2, 0, 9],
            &[0x32, 3, 0, 1, b'a'],
            &[0x40, 1, 0],
            &[0x20, 1, 0],
        ];
        for bytes in faults {
            assert!(take(Version::V311, bytes).is_err(), "{bytes:?}");
        }
        assert!(take(Version::V5, &[0x30, 4, 0, 1, b'a', 9]).is_err());
    }

    #[test]
    fn a_stamp_needs_sixteen_bytes() {
        assert_eq!(Stamp::read(&[0; 15]), None);
        assert!(Stamp::read(&[0; 16]).is_some());
    }
}
