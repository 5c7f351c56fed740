//! Strings, binary data and integers (1.5), read from the front of a slice.
//!
//! A [`Reader`] only ever shortens; whatever would read past the end is a malformed packet.

use crate::{DecodeError, PacketId, ReasonCode};

/// What is left to read of a packet or of a property block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

const CUT_SHORT: DecodeError = DecodeError::malformed("packet ends too early");

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable byte integer in its shortest form. [MQTT-1.5.5-1]
    #[inline]
    pub(crate) fn variable(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                if byte == 0 && index > 0 {
                    return Err(DecodeError::malformed("integer longer than it need be"));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::malformed("integer longer than four bytes"))
    }

    /// The next `count` bytes.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(head)
    }

    /// Binary data (1.5.6): a length of two bytes, then as many bytes.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.u16()?;
        self.take(usize::from(count))
    }

    /// A UTF-8 encoded string (1.5.4).
    pub(crate) fn string(&mut self) -> Result<&'a str, DecodeError> {
        text(self.binary()?)
    }

    /// A topic name that is sent in its own right: 0x90 if it holds a wildcard. May be empty.
    #[inline]
    pub(crate) fn topic(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        let found = scan(bytes);
        if found.wildcard {
            // Ill-formed text is the graver fault of the two.
            text(bytes)?;
            return Err(WILDCARD);
        }
        if found.unusual {
            unusual_text(bytes)
        } else {
            ascii_text(bytes)
        }
    }

    /// A property block (2.2.2): its length, then its bytes.
    #[inline]
    pub(crate) fn block(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.variable()?;
        self.take(count as usize)
    }

    /// A packet identifier. [MQTT-2.2.1-3]
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::protocol("packet identifier is 0"))
    }

    /// Nothing may follow.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::malformed(
                "bytes left over at the end of the packet",
            ))
        }
    }
}

const WILDCARD: DecodeError = DecodeError {
    reason: ReasonCode::TopicNameInvalid,
    detail: "wildcard in a topic name",
};

const NOT_UTF8: DecodeError = DecodeError::malformed("string is not UTF-8");

/// Text as the specification wants it: well-formed UTF-8 [MQTT-1.5.4-1] without U+0000
/// [MQTT-1.5.4-2]; control characters and non-characters, which it advises against, are refused
/// as well.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    if scan(bytes).unusual {
        unusual_text(bytes)
    } else {
        ascii_text(bytes)
    }
}

/// Only printable ASCII is left, so that this cannot fail; the standard library's own check is
/// what safe code pays for having a `str`.
#[inline]
fn ascii_text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| NOT_UTF8)
}

#[cold]
fn unusual_text(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| NOT_UTF8)?;
    if text.chars().any(is_refused) {
        return Err(DecodeError::malformed(
            "control character or non-character in a string",
        ));
    }
    Ok(text)
}

/// U+0000, control characters, and the code points that Unicode keeps free of characters.
fn is_refused(character: char) -> bool {
    let code = character as u32;
    character.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// What [`scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scan {
    /// Something other than printable ASCII: look again, character by character.
    unusual: bool,
    /// `+` or `#`.
    wildcard: bool,
}

/// Looks at eight bytes at once for everything that makes a string worth a second look.
#[inline]
fn scan(bytes: &[u8]) -> Scan {
    let (mut unusual, mut wildcard) = (0, 0);
    let mut look = |word: u64| {
        unusual |= unusual_bytes(word);
        wildcard |= wildcard_bytes(word);
    };
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        look(u64::from_le_bytes(*word));
    }
    if let Some(last) = bytes.last_chunk::<8>() {
        // Overlaps the word before it, which does no harm.
        look(u64::from_le_bytes(*last));
    } else {
        for byte in tail {
            look(u64::from(*byte) * ONES);
        }
    }
    Scan {
        unusual: unusual != 0,
        wildcard: wildcard != 0,
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = ONES * 0x80;

/// Not 0 exactly if a byte of `word` is 0.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH_BITS
}

/// Not 0 exactly if a byte of `word` is below 0x20, 0x7F, or above.
#[inline]
fn unusual_bytes(word: u64) -> u64 {
    let low = word.wrapping_sub(ONES * 0x20) & !word & HIGH_BITS;
    (word & HIGH_BITS) | low | zero_bytes(word ^ (ONES * 0x7F))
}

/// Not 0 exactly if a byte of `word` is `#` (0x23) or `+` (0x2B), which differ in one bit.
#[inline]
fn wildcard_bytes(word: u64) -> u64 {
    zero_bytes((word & !(ONES * 0x08)) ^ (ONES * 0x23))
}

/// Appends binary data or a string with its length. Panics above 65,535 bytes, which no packet
/// can hold.
pub(crate) fn write_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let count = u16::try_from(bytes.len()).expect("a string has at most 65,535 bytes");
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], accepted: bool) {
        assert_eq!(text(bytes).is_ok(), accepted, "{bytes:02X?}");
        // Where the string stands in a word must make no difference.
        for before in 0..9 {
            let longer = [&b"abcdefgh"[..before], bytes, b"ijk"].concat();
            assert_eq!(text(&longer).is_ok(), accepted, "{longer:02X?}");
        }
    }

    #[test]
    fn text_is_utf8_without_controls_and_non_characters() {
        for good in [
            "",
            " ",
            "~",
            "a/b",
            "üñí",
            "\u{A0}",
            "\u{FEFF}",
            "\u{FFFD}",
            "\u{10FFFD}",
        ] {
            check(good.as_bytes(), true);
        }
        for bad in [
            "\0", "\u{1}", "\u{1F}", "\u{7F}", "\u{80}", "\u{9F}", "\u{FDD0}",
        ] {
            check(bad.as_bytes(), false);
        }
        for bad in [
            "\u{FDEF}",
            "\u{FFFE}",
            "\u{FFFF}",
            "\u{1FFFE}",
            "\u{10FFFF}",
        ] {
            check(bad.as_bytes(), false);
        }
        check(b"\xED\xA0\x80", false); // A surrogate.
        check(b"\xC0\x80", false); // U+0000 in two bytes.
        check(b"\xFF", false);
    }

    #[test]
    fn every_ascii_byte_is_classified_as_the_slow_path_would() {
        for byte in 0..=0x7F {
            let bytes = [byte];
            assert_eq!(
                text(&bytes).is_ok(),
                !is_refused(char::from(byte)),
                "{byte:02X}"
            );
            let wildcard = byte == b'+' || byte == b'#';
            assert_eq!(
                scan(&[b'a', b'a', byte, b'a']).wildcard,
                wildcard,
                "{byte:02X}"
            );
            assert_eq!(
                scan(&[b'a', b'a', b'a', b'a', byte, 0xFF, 0, 1, 2]).wildcard,
                wildcard
            );
        }
    }

    #[test]
    fn integers_are_four_bytes_at_most_and_shortest() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            268_435_455,
        ] {
            let mut bytes = Vec::new();
            crate::write_variable_length(&mut bytes, value as usize);
            assert_eq!(Reader::new(&bytes).variable(), Ok(value));
            assert!(Reader::new(&bytes[..bytes.len() - 1]).variable().is_err());
        }
        for bad in [
            &[0x80, 0][..],
            &[0xFF, 0x80, 0],
            &[0x80; 4],
            &[0xFF, 0xFF, 0xFF, 0xFF, 1],
        ] {
            assert_eq!(
                Reader::new(bad).variable().unwrap_err().reason,
                ReasonCode::MalformedPacket
            );
        }
    }
}
