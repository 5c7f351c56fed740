//! Topic names and topic filters (4.7), and the shared subscription's filter (4.8.2).

/// Whether `topic` may be published to: not empty, no wildcard, no U+0000 [MQTT-4.7.3-1],
/// [MQTT-3.3.2-2]. That it is at most 65,535 bytes is given by its encoding.
pub fn topic_is_valid(topic: &str) -> bool {
    let _ = topic;
    todo!("codec")
}

/// Whether `filter` may be subscribed to: not empty, `+` alone in its level, `#` alone in the
/// last one [MQTT-4.7.1-1], [MQTT-4.7.1-2]. For a shared subscription give what
/// [`split_share`] leaves.
pub fn filter_is_valid(filter: &str) -> bool {
    let _ = filter;
    todo!("codec")
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
    let _ = filter;
    todo!("codec")
}
