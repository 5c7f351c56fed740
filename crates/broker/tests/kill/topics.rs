//! Where messages go: topics on which events are published, topics that keep a retained message,
//! and the filters that subscribers choose from.
//!
//! Some topics are free, some belong to a device, so that with two shards and more a message takes
//! every way there is. No filter for events matches a topic that retains.

/// The devices. Some clients have the same identifiers, and live where the device's topics do.
pub const DEVICES: [&str; 4] = [
    "0d9c3c6e-52b7-4f0a-9a44-6f1f3a1b7c01",
    "7be1a0f2-0c35-4d6b-8a4e-9d5e2c4f1b02",
    "c24f96d8-1f7e-4e83-b5d1-3a8b6e0c9d03",
    "f8a35b47-96c2-47d9-a07c-1e2d4b6a8c04",
];

/// Topics for events.
pub fn event_topics() -> Vec<String> {
    let mut topics = Vec::new();
    for place in ["hall", "yard"] {
        topics.extend((0..3).map(|n| format!("{place}/ev/{n}")));
    }
    for device in DEVICES {
        topics.extend((0..2).map(|n| format!("{device}/ev/{n}")));
    }
    topics
}

/// Topics that retain what this publisher alone publishes.
pub fn keep_topics(publisher: usize) -> Vec<String> {
    let mut topics: Vec<String> = (0..4)
        .map(|n| format!("attic/keep/{publisher}-{n}"))
        .collect();
    topics.extend(
        DEVICES
            .iter()
            .map(|device| format!("{device}/keep/{publisher}")),
    );
    topics
}

/// Filters that between them match all topics that retain.
pub const KEEP_FILTERS: [&str; 1] = ["+/keep/#"];

/// What subscribers choose from.
pub fn event_filters() -> Vec<String> {
    let mut filters: Vec<String> = ["hall/ev/#", "hall/ev/1", "yard/+/+", "+/ev/0", "+/ev/+"]
        .map(str::to_owned)
        .to_vec();
    for device in DEVICES {
        filters.push(format!("{device}/ev/#"));
        filters.push(format!("{device}/ev/1"));
    }
    filters
}

/// Whether a topic matches a filter. (4.7; neither begins with `$`)
pub fn matches(filter: &str, topic: &str) -> bool {
    let mut topic_levels = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match topic_levels.next() {
            Some(found) if level == "+" || level == found => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

#[test]
fn filters_match_as_the_specification_says() {
    for (filter, topic, expected) in [
        ("hall/ev/#", "hall/ev/0", true),
        ("hall/ev/#", "hall/ev", true),
        ("hall/ev/1", "hall/ev/0", false),
        ("+/ev/0", "hall/ev/0", true),
        ("+/ev/+", "hall/ev/0/1", false),
        ("yard/+/+", "yard/ev", false),
    ] {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
    let filters = event_filters();
    let kept = (0..2).flat_map(keep_topics);
    for topic in kept {
        assert!(!filters.iter().any(|filter| matches(filter, &topic)));
        assert!(KEEP_FILTERS.iter().any(|filter| matches(filter, &topic)));
    }
}
