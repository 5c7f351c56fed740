//! Which part of a long list an answer has: how many entries, and where it goes on.
//!
//! A place is one of a shard's table, so nothing is kept for whoever reads on. It is good until the
//! next start; what changes between two answers may be missed or come twice, all else comes once.

use super::secrets::Secrets;
use crate::{Config, ShardId};
use meshblu::Refusal;
use std::fmt;

/// Entries of one answer.
pub(crate) const ENTRIES_MAX: usize = 10_000;
/// The header of an answer that is not the end of its list.
pub(crate) const NEXT: &str = "X-Next-After";
/// A stream of the secret seed that is no shard's.
const TAG_STREAM: ShardId = ShardId(u16::MAX);

/// What part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Entries at most.
    pub entries_max: usize,
    /// Where an answer before has ended.
    pub after: Option<Cursor>,
}

/// Where an answer ends: the next entry is at this place of this shard, or behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Of this start of the server.
    pub tag: u32,
    /// The shard.
    pub shard: u16,
    /// The place in its table.
    pub place: u32,
}

impl Part {
    /// From the texts of `limit` and `after`, as far as they are given.
    pub fn read(limit: Option<&str>, after: Option<&str>) -> Result<Part, Refusal> {
        let entries_max = match limit.map(str::parse) {
            None => ENTRIES_MAX,
            Some(Ok(limit @ 1..=ENTRIES_MAX)) => limit,
            Some(_) => return Err(Refusal::invalid("limit must be a number from 1 to 10000")),
        };
        let after = match after.map(Cursor::parse) {
            None => None,
            Some(Some(cursor)) => Some(cursor),
            Some(None) => return Err(Cursor::unknown()),
        };
        Ok(Part { entries_max, after })
    }
}

impl Cursor {
    /// What all shards of this start of the server write into theirs.
    pub fn tag(config: &Config) -> u32 {
        let mut secrets = Secrets::new(config.mesh.secret_seed, TAG_STREAM);
        let [a, b, c, d, ..] = secrets.uuid().0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The answer to one that is not of this start, or was never given out.
    pub fn unknown() -> Refusal {
        Refusal::invalid("after is no place of this list, or one of before the last start")
    }

    fn parse(text: &str) -> Option<Cursor> {
        let is_hex = text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
        if !is_hex {
            return None;
        }
        Some(Cursor {
            tag: number(&text[..8])?,
            shard: u16::try_from(number(&text[8..12])?).ok()?,
            place: number(&text[12..])?,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cursor { tag, shard, place } = self;
        write!(out, "{tag:08x}{shard:04x}{place:08x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let cursor = Cursor {
            tag: 1,
            shard: 127,
            place: u32::MAX,
        };
        let text = cursor.to_string();
        assert_eq!(text, "00000001007fffffffff");
        let part = Part::read(Some("7"), Some(&text)).unwrap();
        assert_eq!((part.entries_max, part.after), (7, Some(cursor)));
        assert_eq!(Part::read(None, None).unwrap().entries_max, ENTRIES_MAX);
    }

    #[test]
    fn what_is_no_part_is_refused() {
        for limit in ["", "0", "10001", "-1", "x", "1.5"] {
            assert!(Part::read(Some(limit), None).is_err(), "{limit}");
        }
        for after in [
            "",
            "1",
            "00000001007fffffffff0",
            "+0000001007fffffffff",
            "é000000100007fffff",
        ] {
            assert!(Part::read(None, Some(after)).is_err(), "{after}");
        }
    }
}
