//! Topics and filters as strings (MQTT 4.7): levels, a single match, the UUID in front.
//!
//! Nothing here keeps state. Many filters against one topic is the work of
//! [`FilterTree`](crate::filter_tree::FilterTree); this matcher is its oracle in tests.

/// How many levels a topic or filter has; at least 1. Empty levels count [4.7.1.1].
#[inline]
pub fn levels(topic: &str) -> usize {
    topic.bytes().filter(|byte| *byte == b'/').count() + 1
}

/// Whether a filter has a wildcard. Of a valid filter, that is: there `+` and `#` are nothing else.
#[inline]
pub fn has_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

/// Whether a valid `filter` matches `topic` [4.7.1, 4.7.2]: `a/#` matches `a`; a wildcard in the
/// first level does not match a topic that begins with `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic_levels = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match topic_levels.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

/// Length of a UUID in that form.
pub const UUID_BYTES: usize = 36;

/// The device that a topic or filter begins with: its first level, if that is a UUID in the form
/// of 8-4-4-4-12 hexadecimal digits, in either case.
#[inline]
pub fn device_uuid(topic_or_filter: &str) -> Option<[u8; 16]> {
    let bytes = topic_or_filter.as_bytes();
    let text: &[u8; 36] = bytes.first_chunk()?;
    if bytes.get(36).is_some_and(|next| *next != b'/') {
        return None;
    }
    if [text[8], text[13], text[18], text[23]] != [b'-'; 4] {
        return None;
    }
    let mut uuid = [0; 16];
    // Where each byte's first digit stands.
    const AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let mut invalid = 0;
    for (byte, at) in uuid.iter_mut().zip(AT) {
        let (high, low) = (HEX[text[at] as usize], HEX[text[at + 1] as usize]);
        invalid |= high | low;
        *byte = high << 4 | low & 0x0F;
    }
    (invalid & NOT_HEX == 0).then_some(uuid)
}

/// Set in [`HEX`] for bytes that are no hexadecimal digit.
const NOT_HEX: u8 = 0x80;

/// The value of each hexadecimal digit.
const HEX: [u8; 256] = {
    let mut table = [NOT_HEX; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit as usize] as usize] = digit;
        table[b"0123456789ABCDEF"[digit as usize] as usize] = digit;
        digit += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str, yes: &[&str], no: &[&str]) {
        for topic in yes {
            assert!(matches(filter, topic), "{filter} ought to match {topic}");
        }
        for topic in no {
            assert!(
                !matches(filter, topic),
                "{filter} ought not to match {topic}"
            );
        }
    }

    #[test]
    fn wildcards_match_as_the_specification_says() {
        check("a", &["a"], &["/a", "a/", "A", "", "$a"]);
        check("a/#", &["a", "a/", "a/b", "a/b/c"], &["", "b", "ab", "/a"]);
        check("a/+", &["a/", "a/b"], &["a", "a/b/c", "/a"]);
        check("+", &["a", "é"], &["/", "a/b", "$a"]);
        check("#", &["a", "/", "a/b", "/$a"], &["$a", "$SYS/x", "$"]);
        check("+/+", &["/", "/a", "a/b"], &["a", "$a/b", "//"]);
        check("/+", &["/a", "/", "/$a"], &["a", "a/b"]);
        check("+/a/#", &["x/a", "/a/b"], &["a", "$x/a", "x/b"]);
        check("$SYS/#", &["$SYS", "$SYS/a"], &["$sys", "a"]);
        check("$SYS/+", &["$SYS/a", "$SYS/"], &["$SYS", "$SYS/a/b"]);
    }

    #[test]
    fn levels_count_empty_ones() {
        assert_eq!(
            [levels("a"), levels("/"), levels("a/b"), levels("//a/")],
            [1, 2, 2, 4]
        );
    }

    #[test]
    fn uuids_are_read_in_either_case_and_only_as_a_whole_level() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let uuid = Some(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
        assert_eq!(device_uuid(text), uuid);
        assert_eq!(device_uuid(&text.to_uppercase()), uuid);
        assert_eq!(device_uuid(&format!("{text}/a/#")), uuid);
        assert_eq!(device_uuid(&format!("{text}/")), uuid);
        let no = [
            "",
            "a/b",
            "00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeeff0",
            "00112233-4455-6677-8899-aabbccddeeffé",
            "0011223304455-6677-8899-aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeefg",
            "00112233-4455-6677-8899/aabbccddeeff",
            "/0112233-4455-6677-8899-aabbccddeeff",
            "é112233-4455-6677-8899-aabbccddeeff",
            "+/00112233-4455-6677-8899-aabbccddee",
        ];
        for text in no {
            assert_eq!(device_uuid(text), None, "{text}");
        }
    }
}
