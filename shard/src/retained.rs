//! Retained messages by topic, read by filter in pages.
//!
//! A hash table finds one topic; an ordered map of the same topics serves filters with wildcards.
//! A reader holds only the last topic it saw, so the store may change between its pages: what is
//! there throughout is seen exactly once.
//!
//! *Topic order* compares topics level by level, a level by its bytes. So a topic comes right
//! before the topics below it, and those that share a path lie together. A reader whose filter
//! does not match where it stands knows the next topic that could match, and seeks to it: it
//! looks at the topics that match, and at most at two for each choice a `+` leaves.
//!
//! Bounded by what its owner admits (`retained_messages_max`, `retained_bytes_max`).

use crate::Time;
use crate::index_table::IndexTable;
use crate::map::{KeyedHash, short_hash};
use crate::table::Table;
use crate::topic;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// A set of topics with a value each.
pub struct RetainedStore<V> {
    slots: Table<Slot<V>>,
    free: Vec<u32>,
    hash: KeyedHash,
    by_topic: IndexTable,
    in_order: BTreeMap<OrderedTopic, u32>,
    /// The slots that expire, by when.
    by_expiry: BTreeSet<(Time, u32)>,
}

/// A topic and its value; `None` while the slot is free.
struct Slot<V> {
    value: Option<V>,
    topic: Arc<str>,
    expires: Time,
}

/// The expiry of what stays.
const NEVER: Time = Time(u64::MAX);

/// A topic that compares in topic order.
#[derive(Clone, PartialEq, Eq)]
struct OrderedTopic(Arc<str>);

impl Ord for OrderedTopic {
    fn cmp(&self, other: &OrderedTopic) -> Ordering {
        topic_order(&self.0, &other.0)
    }
}

impl PartialOrd for OrderedTopic {
    fn partial_cmp(&self, other: &OrderedTopic) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares level by level, a level by its bytes: byte order with `/` before all else.
pub fn topic_order(first: &str, second: &str) -> Ordering {
    let (first, second) = (first.as_bytes(), second.as_bytes());
    let common = common_prefix(first, second);
    match (first.get(common), second.get(common)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(b'/'), Some(_)) => Ordering::Less,
        (Some(_), Some(b'/')) => Ordering::Greater,
        (Some(one), Some(other)) => one.cmp(other),
    }
}

fn common_prefix(first: &[u8], second: &[u8]) -> usize {
    let words = first
        .as_chunks::<8>()
        .0
        .iter()
        .zip(second.as_chunks::<8>().0);
    let mut common = 0;
    for (one, other) in words {
        let difference = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if difference != 0 {
            return common + difference.trailing_zeros() as usize / 8;
        }
        common += 8;
    }
    let rest = first[common..].iter().zip(&second[common..]);
    common + rest.take_while(|(one, other)| one == other).count()
}

impl<V> RetainedStore<V> {
    /// Without messages. The seed keys the hash table and must be unknown to clients.
    pub fn new(seed: u64) -> RetainedStore<V> {
        RetainedStore {
            slots: Table::default(),
            free: Vec::new(),
            hash: KeyedHash::new(seed),
            by_topic: IndexTable::new(),
            in_order: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
        }
    }

    /// Keeps `value` for `topic`, until it expires if it does, and gives back what was kept there
    /// before.
    pub fn insert(&mut self, topic: &str, value: V, expires: Option<Time>) -> Option<V> {
        let expires = expires.unwrap_or(NEVER);
        let hash = short_hash(self.hash.bytes(topic.as_bytes()));
        if let Some(index) = self.find(topic, hash) {
            let slot = &mut self.slots[index as usize];
            let expired = std::mem::replace(&mut slot.expires, expires);
            let previous = slot.value.replace(value);
            self.expiry_changed(index, expired, expires);
            return previous;
        }
        let topic: Arc<str> = topic.into();
        let slot = Slot {
            value: Some(value),
            topic: topic.clone(),
            expires,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("limits keep messages below 2^32")
            }
        };
        self.by_topic.insert(hash, index);
        self.in_order.insert(OrderedTopic(topic), index);
        self.expiry_changed(index, NEVER, expires);
        None
    }

    /// Takes the message of a topic away.
    pub fn remove(&mut self, topic: &str) -> Option<V> {
        let hash = short_hash(self.hash.bytes(topic.as_bytes()));
        let index = self.find(topic, hash)?;
        self.by_topic.remove(hash, index);
        let slot = &mut self.slots[index as usize];
        let topic = OrderedTopic(std::mem::take(&mut slot.topic));
        let expired = std::mem::replace(&mut slot.expires, NEVER);
        let value = slot.value.take();
        assert!(value.is_some(), "a topic in the table has a value");
        let removed = self.in_order.remove(&topic);
        assert_eq!(removed, Some(index), "both tables hold the same topics");
        self.expiry_changed(index, expired, NEVER);
        self.free.push(index);
        value
    }

    /// The message of a topic.
    pub fn get(&self, topic: &str) -> Option<&V> {
        let hash = short_hash(self.hash.bytes(topic.as_bytes()));
        let index = self.find(topic, hash)?;
        self.slots[index as usize].value.as_ref()
    }

    /// Visits, in topic order, stored messages whose topics match `filter` and come after the
    /// topic `after`: up to `rows_max` of them, looking at up to `work_max` topics (both at least
    /// 1, and taken as 1 if 0). Returns the `after` to go on with; `None` at the end.
    pub fn page(
        &self,
        filter: &str,
        after: Option<&str>,
        rows_max: usize,
        work_max: usize,
        mut visit: impl FnMut(&str, &V),
    ) -> Option<String> {
        if !topic::has_wildcard(filter) {
            let is_ahead = after.is_none_or(|after| topic_order(filter, after).is_gt());
            if is_ahead && let Some(value) = self.get(filter) {
                visit(filter, value);
            }
            return None;
        }
        let reader = Reader::new(filter);
        let mut rows = 0;
        let mut work = 0;
        let mut start = match after {
            Some(after) => Bound::Excluded(OrderedTopic(after.into())),
            None => Bound::Included(OrderedTopic(reader.first().into())),
        };
        'seek: loop {
            for (OrderedTopic(topic), index) in self.in_order.range((start, Bound::Unbounded)) {
                work += 1;
                let next = reader.look(topic);
                if let Next::Match = next {
                    let value = self.slots[*index as usize].value.as_ref();
                    visit(topic, value.expect("a topic in the map has a value"));
                    rows += 1;
                }
                if let Next::End = next {
                    return None;
                }
                if rows >= rows_max.max(1) || work >= work_max.max(1) {
                    return Some(topic.to_string());
                }
                if let Next::Seek(target) = next {
                    start = Bound::Included(OrderedTopic(target.into()));
                    continue 'seek;
                }
            }
            return None;
        }
    }

    /// Removes up to `rows_max` messages whose expiry is not after `now`; gives each to `visit`
    /// and returns how many there were.
    pub fn expire(&mut self, now: Time, rows_max: usize, mut visit: impl FnMut(&str, V)) -> usize {
        for count in 0..rows_max {
            match self.by_expiry.first() {
                Some((expires, index)) if *expires <= now => {
                    let topic = self.slots[*index as usize].topic.clone();
                    let removed = self.remove(&topic);
                    visit(&topic, removed.expect("what expires is stored"));
                }
                _ => return count,
            }
        }
        rows_max
    }

    /// When the next message expires.
    pub fn next_expiry(&self) -> Option<Time> {
        self.by_expiry.first().map(|(expires, _)| *expires)
    }

    /// How many messages are stored.
    pub fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Whether no message is stored.
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// Asserts that the tables agree. Costs time: for tests and the simulator.
    pub fn check(&self) {
        assert_eq!(self.in_order.len(), self.len());
        assert_eq!(self.slots.len(), self.len() + self.free.len());
        for (OrderedTopic(topic), index) in &self.in_order {
            let hash = short_hash(self.hash.bytes(topic.as_bytes()));
            assert_eq!(self.find(topic, hash), Some(*index));
            let slot = &self.slots[*index as usize];
            assert!(Arc::ptr_eq(&slot.topic, topic) && slot.value.is_some());
            let is_listed = self.by_expiry.contains(&(slot.expires, *index));
            assert_eq!(is_listed, slot.expires != NEVER);
        }
        let expiring = self
            .slots
            .iter()
            .filter(|slot| slot.expires != NEVER)
            .count();
        assert_eq!(self.by_expiry.len(), expiring);
    }

    fn find(&self, topic: &str, hash: u32) -> Option<u32> {
        self.by_topic
            .find(hash, |index| *self.slots[index as usize].topic == *topic)
    }

    fn expiry_changed(&mut self, index: u32, before: Time, after: Time) {
        if before == after {
            return;
        }
        if before != NEVER {
            self.by_expiry.remove(&(before, index));
        }
        if after != NEVER {
            self.by_expiry.insert((after, index));
        }
    }
}

/// A filter with a wildcard, as a walk through the topics in order.
struct Reader<'a> {
    /// The levels, without a trailing `#`.
    levels: Vec<&'a str>,
    /// The filter ends in `#`.
    multi: bool,
    /// Its first level is a wildcard.
    is_wild: bool,
}

/// What a topic means to a reader.
#[derive(Debug, PartialEq)]
enum Next {
    /// It matches; the topic that follows may match too.
    Match,
    /// Neither it nor any before this text matches. The text is greater than the topic.
    Seek(String),
    /// Neither it nor any after it matches.
    End,
}

impl<'a> Reader<'a> {
    fn new(filter: &'a str) -> Reader<'a> {
        let mut levels: Vec<_> = filter.split('/').collect();
        let multi = levels.last() == Some(&"#");
        if multi {
            levels.pop();
        }
        Reader {
            levels,
            multi,
            is_wild: filter.starts_with(['+', '#']),
        }
    }

    /// A text that is not greater than any topic that matches.
    fn first(&self) -> String {
        let literals = self.levels.iter().take_while(|level| **level != "+");
        literals.copied().collect::<Vec<_>>().join("/")
    }

    fn look(&self, topic: &str) -> Next {
        if self.is_wild && topic.starts_with('$') {
            // [MQTT-4.7.2-1]. `%` follows `$`, so this is where those topics end.
            return Next::Seek("%".into());
        }
        // Where the level being looked at begins.
        let mut start = 0;
        // Where the last level that a `+` stands for ends.
        let mut plus_end = None;
        for (depth, level) in self.levels.iter().enumerate() {
            if start > topic.len() {
                // The topic ends before the filter does: what matches lies below it.
                return Next::Seek(self.with_rest(format!("{topic}/"), depth));
            }
            let end = topic[start..]
                .find('/')
                .map_or(topic.len(), |length| start + length);
            if *level == "+" {
                plus_end = Some(end);
            } else {
                match topic[start..end].cmp(level) {
                    Ordering::Equal => {}
                    Ordering::Less => {
                        return Next::Seek(self.with_rest(topic[..start].into(), depth));
                    }
                    Ordering::Greater => return after(topic, plus_end),
                }
            }
            start = end + 1;
        }
        if self.multi || start > topic.len() {
            Next::Match
        } else {
            after(topic, plus_end)
        }
    }

    /// The least text that matches from `depth` on, after the levels in `path`, which ends in `/`
    /// or is empty: an empty level for each `+`.
    fn with_rest(&self, mut path: String, depth: usize) -> String {
        for (index, level) in self.levels[depth..].iter().enumerate() {
            if index > 0 {
                path.push('/');
            }
            if *level != "+" {
                path.push_str(level);
            }
        }
        path
    }
}

/// What follows everything below the topic's levels up to `plus_end`: only the level there may
/// still become another.
fn after(topic: &str, plus_end: Option<usize>) -> Next {
    match plus_end {
        // U+0000 is in no topic, and is the least that a longer level can go on with.
        Some(end) => Next::Seek(format!("{}\0", &topic[..end])),
        None => Next::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(topics: &[&str]) -> RetainedStore<String> {
        let mut store = RetainedStore::new(7);
        for topic in topics {
            assert_eq!(store.insert(topic, topic.to_string(), None), None);
        }
        store.check();
        store
    }

    /// All rows of a filter, in pages of these sizes.
    fn rows(
        store: &RetainedStore<String>,
        filter: &str,
        rows_max: usize,
        work_max: usize,
    ) -> Vec<String> {
        let mut rows = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let before = rows.len();
            let next = store.page(
                filter,
                after.as_deref(),
                rows_max,
                work_max,
                |topic, value| {
                    assert_eq!(topic, value);
                    rows.push(topic.to_string());
                },
            );
            assert!(rows.len() - before <= rows_max);
            let Some(next) = next else { return rows };
            assert!(
                after.is_none_or(|after| topic_order(&after, &next).is_lt()),
                "progress"
            );
            after = Some(next);
        }
    }

    const TOPICS: [&str; 16] = [
        "", "/", "/x", "$SYS", "$SYS/x", "%", "a", "a/", "a/b", "a/b/x", "a/x", "a!", "a!/x",
        "a-b/x", "b/x", "b/x/y",
    ];

    fn check(filter: &str, expected: &[&str]) {
        let store = store(&TOPICS);
        for (rows_max, work_max) in [(100, 100), (1, 100), (100, 1), (1, 1), (2, 3)] {
            assert_eq!(
                rows(&store, filter, rows_max, work_max),
                expected,
                "{filter}"
            );
        }
    }

    #[test]
    fn filters_read_what_they_match_in_topic_order() {
        check("a", &["a"]);
        check("c", &[]);
        check("a/#", &["a", "a/", "a/b", "a/b/x", "a/x"]);
        check("+/x", &["/x", "a/x", "a!/x", "a-b/x", "b/x"]);
        check("+", &["", "%", "a", "a!"]);
        check(
            "+/+",
            &["/", "/x", "a/", "a/b", "a/x", "a!/x", "a-b/x", "b/x"],
        );
        check("a/+/x", &["a/b/x"]);
        check("+/b/#", &["a/b", "a/b/x"]);
        check("$SYS/#", &["$SYS", "$SYS/x"]);
        check("$SYS/+", &["$SYS/x"]);
        check("/+", &["/", "/x"]);
        check("+/+/+", &["a/b/x", "b/x/y"]);
        let mut all = TOPICS.to_vec();
        all.retain(|topic| !topic.starts_with('$'));
        check("#", &all);
    }

    #[test]
    fn reading_does_not_look_at_what_cannot_match() {
        let mut store = RetainedStore::new(7);
        for first in 0..10 {
            for second in 0..1_000 {
                store.insert(&format!("{first}/{second:04}/z"), (), None);
            }
            store.insert(&format!("{first}/x"), (), None);
        }
        let page = |filter, work_max| {
            let mut count = 0;
            let next = store.page(filter, None, usize::MAX, work_max, |_, ()| count += 1);
            (count, next)
        };
        assert_eq!(page("+/x", 31), (10, None));
        assert_eq!(page("+/0500/+", 31), (10, None));
        assert_eq!(page("5/+", 2_002), (1, None));
        assert_eq!(page("7/0007/#", 2), (1, None));
        assert_eq!(page("x/#", 1), (0, None));
    }

    #[test]
    fn messages_expire_in_bounded_steps() {
        let mut store = RetainedStore::new(7);
        for n in 0..10 {
            store.insert(&format!("a/{n}"), n, Some(Time(n)));
        }
        store.insert("kept", 10, None);
        store.insert("a/0", 0, None);
        store.insert("a/1", 1, Some(Time(100)));
        store.check();
        assert_eq!(store.next_expiry(), Some(Time(2)));
        assert_eq!(store.expire(Time(1), 100, |_, _| {}), 0);
        assert_eq!(store.expire(Time(8), 3, |_, _| {}), 3);
        assert_eq!(store.expire(Time(8), 100, |_, _| {}), 4);
        store.check();
        assert_eq!((store.len(), store.next_expiry()), (4, Some(Time(9))));
        assert_eq!(store.remove("a/1"), Some(1));
        assert_eq!(store.expire(Time(1_000), 100, |_, _| {}), 1);
        assert_eq!((store.len(), store.next_expiry()), (2, None));
        assert_eq!(store.insert("kept", 11, None), Some(10));
        assert_eq!(store.get("kept"), Some(&11));
        assert_eq!(store.remove("a/9"), None);
        store.check();
    }
}
