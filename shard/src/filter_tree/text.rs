//! The text of a filter, kept in place if it is short: a look at it is then no further cache miss.

use std::fmt;

/// Bytes that fit in place, so that a slot of `Subscriptions` has 96 bytes: most topics do.
const SHORT_MAX: usize = 62;

/// A text of any length.
pub(super) enum Text {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<str>),
}

const _: () = assert!(size_of::<Text>() == 64);

impl Text {
    pub(super) fn new(text: &str) -> Text {
        let mut bytes = [0; SHORT_MAX];
        match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text.as_bytes());
                let len = text.len() as u8;
                Text::Short { len, bytes }
            }
            None => Text::Long(text.into()),
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Short { len, bytes } => &bytes[..usize::from(*len)],
            Text::Long(text) => text.as_bytes(),
        }
    }

    /// Whether it is this one. Reads nothing beyond it, which could be one more cache miss.
    #[inline]
    pub(super) fn is(&self, other: &[u8]) -> bool {
        let own = self.as_bytes();
        if own.len() != other.len() {
            return false;
        }
        let (Some(own_last), Some(other_last)) = (own.last_chunk(), other.last_chunk()) else {
            return own.iter().eq(other);
        };
        let (own_words, _) = own.as_chunks();
        let (other_words, _) = other.as_chunks();
        // The last word overlaps the one before.
        word(own_last) == word(other_last)
            && own_words.iter().map(word).eq(other_words.iter().map(word))
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("copied from a string")
    }
}

#[inline]
fn word(bytes: &[u8; 8]) -> u64 {
    u64::from_ne_bytes(*bytes)
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_come_back() {
        for length in 0..=3 * SHORT_MAX {
            let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
            let kept = Text::new(&text);
            assert_eq!((kept.as_str(), kept.as_bytes()), (&*text, text.as_bytes()));
            assert!(kept.is(text.as_bytes()));
            assert!(!kept.is((text.clone() + "y").as_bytes()));
            for at in 0..length {
                let mut other = text.clone().into_bytes();
                other[at] ^= 1;
                assert!(!kept.is(&other));
                assert!(!kept.is(&other[..at]));
            }
            let is_short = matches!(kept, Text::Short { .. });
            assert_eq!(is_short, length <= SHORT_MAX);
        }
    }
}
