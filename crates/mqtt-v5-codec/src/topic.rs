//! Topic names and topic filters (4.7), and the shared subscription's filter (4.8.2).

/// Whether `topic` may be published to: not empty, no wildcard, no U+0000 [MQTT-4.7.3-1],
/// [MQTT-3.3.2-2]. That it is at most 65,535 bytes is given by its encoding.
pub fn topic_is_valid(topic: &str) -> bool {
    !topic.is_empty() && !topic.bytes().any(|byte| matches!(byte, b'+' | b'#' | 0))
}

/// Whether `filter` may be subscribed to: not empty, `+` alone in its level, `#` alone in the
/// last one [MQTT-4.7.1-1], [MQTT-4.7.1-2]. For a shared subscription give what
/// [`split_share`] leaves.
pub fn filter_is_valid(filter: &str) -> bool {
    let bytes = filter.as_bytes();
    let alone = |at: usize| {
        (at == 0 || bytes[at - 1] == b'/') && bytes.get(at + 1).is_none_or(|next| *next == b'/')
    };
    !bytes.is_empty()
        && bytes.iter().enumerate().all(|(at, byte)| match byte {
            b'+' => alone(at),
            b'#' => alone(at) && at + 1 == bytes.len(),
            0 => false,
            _ => true,
        })
}

/// What [`split_share`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share<'a> {
    /// An ordinary filter.
    None,
    /// `$share/name/filter`; both not empty, the name without `/`, `+`, `#`. [MQTT-4.8.2-1], -2
    Group {
        /// The group's name.
        name: &'a str,
        /// The filter to match with; still to be checked by [`filter_is_valid`].
        filter: &'a str,
    },
    /// Begins with `$share/` and is none: answered with 0x8F.
    Invalid,
}

/// Takes a shared subscription's filter apart.
pub fn split_share(filter: &str) -> Share<'_> {
    let Some(shared) = filter.strip_prefix("$share/") else {
        return Share::None;
    };
    match shared.split_once('/') {
        Some((name, filter)) if topic_is_valid(name) && !filter.is_empty() => {
            Share::Group { name, filter }
        }
        _ => Share::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, topic: bool, filter: bool) {
        assert_eq!(topic_is_valid(text), topic, "topic {text:?}");
        assert_eq!(filter_is_valid(text), filter, "filter {text:?}");
    }

    #[test]
    fn names_have_no_wildcards_and_filters_have_them_alone_in_a_level() {
        check("", false, false);
        for both in ["a", "/", "//", "a/b", "$SYS/x", " ", "ü/ñ", "a//b/"] {
            check(both, true, true);
        }
        for filter in [
            "+", "#", "/#", "+/#", "a/+", "+/b", "a/+/b", "/+", "+/", "+/+", "ü/+/#",
        ] {
            check(filter, false, true);
        }
        for neither in [
            "a+", "+a", "a#", "#a", "a/b#", "#/", "#/a", "a/#/b", "++", "##", "+#",
        ] {
            check(neither, false, false);
        }
        check("a\0b", false, false);
    }

    #[test]
    fn a_share_needs_a_name_and_a_filter() {
        let group = |name, filter| Share::Group { name, filter };
        assert_eq!(split_share("$share/g/a/b"), group("g", "a/b"));
        assert_eq!(split_share("$share/g/#"), group("g", "#"));
        assert_eq!(split_share("$share/g//"), group("g", "/"));
        for ordinary in [
            "",
            "a",
            "$share",
            "$shared/g/a",
            "share/g/a",
            "a/$share/g/b",
        ] {
            assert_eq!(split_share(ordinary), Share::None, "{ordinary:?}");
        }
        for bad in [
            "$share/",
            "$share//a",
            "$share/g",
            "$share/g/",
            "$share/+/a",
            "$share/g#/a",
        ] {
            assert_eq!(split_share(bad), Share::Invalid, "{bad:?}");
        }
    }
}
