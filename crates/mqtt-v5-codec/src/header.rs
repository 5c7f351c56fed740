//! The fixed header (2.1) and the variable byte integer (1.5.5).

use crate::DecodeError;

/// The four high bits of a packet's first byte.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketKind {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketKind {
    /// The kind that `first`, a packet's first byte, names; `None` for kind 0, which is reserved.
    #[inline]
    pub fn from_first_byte(first: u8) -> Option<PacketKind> {
        use PacketKind::*;
        Some(match first >> 4 {
            1 => Connect,
            2 => Connack,
            3 => Publish,
            4 => Puback,
            5 => Pubrec,
            6 => Pubrel,
            7 => Pubcomp,
            8 => Subscribe,
            9 => Suback,
            10 => Unsubscribe,
            11 => Unsuback,
            12 => Pingreq,
            13 => Pingresp,
            14 => Disconnect,
            15 => Auth,
            _ => return None,
        })
    }
}

/// The first two to five bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHeader {
    /// Kind and flags.
    pub first: u8,
    /// 2 to 5.
    pub header_bytes: usize,
    /// Bytes after the fixed header, 0 to 268,435,455.
    pub body_bytes: usize,
}

impl FixedHeader {
    /// Reads the fixed header at the start of `bytes`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// Malformed, as soon as the bytes show it: if the length runs over four bytes or is longer
    /// than it need be [MQTT-1.5.5-1], the kind is 0, or the flags are not those that the kind
    /// demands [MQTT-2.1.3-1]. Kind 15, and DUP where 3.1 alone allows it, are left to
    /// [`crate::decode`], which knows the version.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<FixedHeader>, DecodeError> {
        let Some((&first, length)) = bytes.split_first() else {
            return Ok(None);
        };
        check_flags(first)?;
        let mut body_bytes = 0;
        for (index, &byte) in length.iter().take(4).enumerate() {
            body_bytes |= usize::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                if byte == 0 && index > 0 {
                    return Err(DecodeError::malformed(
                        "remaining length longer than it need be",
                    ));
                }
                return Ok(Some(FixedHeader {
                    first,
                    header_bytes: index + 2,
                    body_bytes,
                }));
            }
        }
        if length.len() >= 4 {
            return Err(DecodeError::malformed("remaining length over four bytes"));
        }
        Ok(None)
    }

    /// Fixed header and body together.
    pub fn packet_bytes(&self) -> usize {
        self.header_bytes + self.body_bytes
    }

    /// What kind of packet it is. Panics on a header that [`FixedHeader::parse`] would refuse.
    pub fn kind(&self) -> PacketKind {
        PacketKind::from_first_byte(self.first).expect("a parsed header has a known kind")
    }
}

/// Judges the first byte alone. PUBREL, SUBSCRIBE and UNSUBSCRIBE pass with DUP, which 3.1 sets on
/// re-delivery.
#[inline]
pub(crate) fn check_flags(first: u8) -> Result<(), DecodeError> {
    let flags = first & 0x0F;
    let fits = match first >> 4 {
        0 => return Err(DecodeError::malformed("packet kind 0")),
        // QoS 3. [MQTT-3.3.1-4]
        3 => flags & 0b0110 != 0b0110,
        6 | 8 | 10 => flags & 0b0111 == 0b0010,
        _ => flags == 0,
    };
    if fits {
        Ok(())
    } else {
        Err(DecodeError::malformed("flags do not fit the packet kind"))
    }
}

/// Appends `value` as a variable byte integer of 1 to 4 bytes. Panics above 268,435,455.
#[inline]
pub fn write_variable_length(out: &mut Vec<u8>, value: usize) {
    let (bytes, count) = variable_bytes(value);
    out.extend_from_slice(&bytes[..count]);
}

/// `value` as a variable byte integer, and how many of the four bytes it takes.
#[inline]
pub(crate) fn variable_bytes(value: usize) -> ([u8; 4], usize) {
    assert!(value <= 268_435_455, "a length has at most 28 bits");
    let mut bytes = [0; 4];
    let mut rest = value;
    let mut count = 0;
    loop {
        bytes[count] = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 {
            return (bytes, count + 1);
        }
        bytes[count] |= 0x80;
        count += 1;
    }
}

/// How many bytes `value` takes as a variable byte integer: 1 to 4.
#[inline]
pub(crate) fn variable_bytes_count(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Option<(usize, usize)>) {
        // As if they came one at a time.
        for count in 0..bytes.len() {
            assert_eq!(
                FixedHeader::parse(&bytes[..count]),
                Ok(None),
                "{bytes:02X?}"
            );
        }
        let header = FixedHeader::parse(bytes);
        let found = header.map(|header| {
            let header = header.expect("is whole");
            (header.header_bytes, header.body_bytes)
        });
        assert_eq!(found.ok(), expected, "{bytes:02X?}");
    }

    #[test]
    fn lengths_have_one_to_four_bytes() {
        check(&[0x30, 0], Some((2, 0)));
        check(&[0x30, 127], Some((2, 127)));
        check(&[0x30, 0x80, 1], Some((3, 128)));
        check(&[0x30, 0xFF, 0x7F], Some((3, 16_383)));
        check(&[0x30, 0x80, 0x80, 1], Some((4, 16_384)));
        check(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], Some((5, 268_435_455)));
        check(&[0x30, 0x80, 0], None);
        check(&[0x30, 0x80, 0x80, 0x80, 0], None);
        check(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], None);
    }

    #[test]
    fn what_follows_the_header_is_not_looked_at() {
        let header = FixedHeader::parse(&[0xC0, 0, 0xFF, 0xFF]).unwrap().unwrap();
        assert_eq!(
            (header.packet_bytes(), header.kind()),
            (2, PacketKind::Pingreq)
        );
    }

    #[test]
    fn flags_are_judged_from_the_first_byte() {
        for first in 0..=255u8 {
            let flags = first & 15;
            let expected = match first >> 4 {
                0 => false,
                3 => flags & 6 != 6,
                6 | 8 | 10 => flags == 2 || flags == 10,
                _ => flags == 0,
            };
            assert_eq!(
                FixedHeader::parse(&[first]).is_ok(),
                expected,
                "{first:02X}"
            );
        }
    }

    #[test]
    fn written_lengths_are_read_back() {
        for value in [
            0,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            268_435_455,
        ] {
            let mut bytes = vec![0xD0];
            write_variable_length(&mut bytes, value);
            assert_eq!(bytes.len(), 1 + variable_bytes_count(value));
            check(&bytes, Some((bytes.len(), value)));
        }
    }
}
