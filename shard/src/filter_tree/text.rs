//! The text of a filter, kept in place if it is short: a look at it is then no further cache miss.

use std::fmt;

/// Bytes that fit in place, so that a slot of `Subscriptions` has 96 bytes: most topics do.
const SHORT_MAX: usize = 54;

/// A text of any length.
pub(super) enum Text {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<str>),
}

const _: () = assert!(size_of::<Text>() == 56);

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

    /// Touches the end of the place for a short text, or the front of a long one. A comparison may
    /// read beyond the end of a text.
    #[inline]
    pub(super) fn touch(&self) -> u8 {
        match self {
            Text::Short { bytes, .. } => bytes[SHORT_MAX - 1],
            Text::Long(text) => text.as_bytes()[0],
        }
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("copied from a string")
    }
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
            let is_short = matches!(kept, Text::Short { .. });
            assert_eq!(is_short, length <= SHORT_MAX);
        }
    }
}
