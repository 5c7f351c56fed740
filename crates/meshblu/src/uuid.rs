//! UUIDs as sixteen bytes: read in every spelling that FreshBlu takes, written in one.

use std::fmt;

/// The identity of a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Reads `8-4-4-4-12` hexadecimal digits, 32 of them in a row, either in braces with hyphens
    /// or after `urn:uuid:`; in any case. `None` for anything else.
    pub fn parse(text: &str) -> Option<Uuid> {
        let text = text.as_bytes();
        match text.len() {
            32 => Uuid::parse_simple(text),
            36 => Uuid::parse_hyphenated(text),
            38 => Uuid::parse_hyphenated(text.strip_prefix(b"{")?.strip_suffix(b"}")?),
            45 => {
                let (scheme, rest) = text.split_at(9);
                scheme
                    .eq_ignore_ascii_case(b"urn:uuid:")
                    .then(|| Uuid::parse_hyphenated(rest))?
            }
            _ => None,
        }
    }

    fn parse_hyphenated(text: &[u8]) -> Option<Uuid> {
        let mut digits = [0; 32];
        let mut count = 0;
        for (index, &byte) in text.iter().enumerate() {
            if matches!(index, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return None;
                }
            } else {
                *digits.get_mut(count)? = byte;
                count += 1;
            }
        }
        (count == digits.len()).then(|| Uuid::parse_simple(&digits))?
    }

    fn parse_simple(digits: &[u8]) -> Option<Uuid> {
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Uuid(bytes))
    }

    /// A version 4 UUID of 122 of these random bits. [RFC 9562, 5.4]
    pub fn from_random(mut bits: [u8; 16]) -> Uuid {
        bits[6] = bits[6] & 0x0f | 0x40;
        bits[8] = bits[8] & 0x3f | 0x80;
        Uuid(bits)
    }

    /// Its 36 characters, lower-case and hyphenated.
    pub fn text(&self) -> [u8; 36] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for byte in self.0 {
            if matches!(at, 8 | 13 | 18 | 23) {
                at += 1;
            }
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 2;
        }
        text
    }

    /// Appends it as a JSON string, quotes included.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(&self.text());
        out.push(b'"');
    }
}

fn digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ => return None,
    })
}

impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        formatter.pad(std::str::from_utf8(&text).expect("digits and hyphens are ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0238237c-7090-46bc-aea2-847ee11c04a0";

    #[test]
    fn every_spelling_is_read_and_one_is_written() {
        let uuid = Uuid::parse(TEXT).unwrap();
        assert_eq!(uuid.to_string(), TEXT);
        assert_eq!(uuid.0[..4], [0x02, 0x38, 0x23, 0x7c]);
        for spelling in [
            TEXT.to_uppercase(),
            TEXT.replace('-', ""),
            format!("{{{TEXT}}}"),
            format!("urn:uuid:{TEXT}"),
            format!("URN:UUID:{TEXT}"),
        ] {
            assert_eq!(Uuid::parse(&spelling), Some(uuid), "{spelling}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "*",
            "0238237c-7090-46bc-aea2-847ee11c04a",
            "0238237c-7090-46bc-aea2-847ee11c04a0 ",
            "0238237c-7090-46bc-aea2-847ee11c04ag",
            "0238237c7-090-46bc-aea2-847ee11c04a0",
            "0238237c-7090-46bc-aea2+847ee11c04a0",
            "{0238237c-7090-46bc-aea2-847ee11c04a0",
            "{0238237c-7090-46bc-aea2-847ee11c04a0)",
            "urn:uuie:0238237c-7090-46bc-aea2-847ee11c04a0",
            "ééééééééééééééééééééééé",
            "éééééééééééééééé",
        ] {
            assert_eq!(Uuid::parse(text), None, "{text}");
        }
    }

    #[test]
    fn random_bits_become_version_4() {
        for bits in [[0; 16], [0xff; 16]] {
            let text = Uuid::from_random(bits).to_string();
            assert_eq!(&text[14..15], "4");
            assert!("89ab".contains(&text[19..20]), "{text}");
        }
    }
}
