//! Topic filters, each with a value, and which of them match a topic.
//!
//! Filters without a wildcard are in one hash table keyed by the whole text: one lookup for a
//! topic, however many there are. Filters with a wildcard are in a trie. Both name a filter by its
//! slot, which stays the same for as long as the filter is here and is then used again. Visits
//! come in an order that the inserts and removes decide, never the seed.
//!
//! Bounded by the subscriptions that its owner admits; nothing grows by matching.

mod level_table;
mod text;
mod trie;

use crate::index_table::IndexTable;
use crate::map::{KeyedHash, short_hash};
use crate::table::Table;
use crate::topic;
use text::Text;
use trie::{Position, Trie};

/// Names a filter of one [`FilterTree`] until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FilterId(pub u32);

/// A set of topic filters with a value each.
pub struct FilterTree<V> {
    slots: Table<Slot<V>>,
    free: Vec<u32>,
    hash: KeyedHash,
    /// The slots of filters without a wildcard, by text.
    exact: IndexTable,
    wild: Trie,
    wild_count: usize,
}

/// A filter and its value; `None` while the slot is free. In memory as it is written here: with the
/// value of `Subscriptions` 96 bytes, so a look at one touches two cache lines, side by side.
#[repr(C, align(32))]
struct Slot<V> {
    value: Option<V>,
    place: Place,
}

enum Place {
    /// No wildcard: the text.
    Exact(Text),
    Wild(Position),
}

/// Topics that [`FilterTree::warm`] takes at a time: enough to keep a core's miss buffers busy.
pub const WARM_TOPICS: usize = 32;

impl<V> FilterTree<V> {
    /// Bytes of one slot.
    pub(crate) const SLOT_BYTES: usize = size_of::<Slot<V>>();

    /// Without filters. The seed keys the hash tables and must be unknown to clients.
    pub fn new(seed: u64) -> FilterTree<V> {
        FilterTree {
            slots: Table::default(),
            free: Vec::new(),
            hash: KeyedHash::new(seed),
            exact: IndexTable::new(),
            wild: Trie::new(seed.wrapping_add(1)),
            wild_count: 0,
        }
    }

    /// The filter's identifier; if it is new here, it comes in with the value that `make` makes.
    /// `filter` must be valid.
    pub fn insert_with(&mut self, filter: &str, make: impl FnOnce() -> V) -> FilterId {
        if let Some(id) = self.find(filter) {
            return id;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => u32::try_from(self.slots.len()).expect("limits keep filters below 2^32"),
        };
        let place = if topic::has_wildcard(filter) {
            self.wild_count += 1;
            Place::Wild(self.wild.insert(filter, index))
        } else {
            let hash = short_hash(self.hash.bytes(filter.as_bytes()));
            self.exact.insert(hash, index);
            Place::Exact(Text::new(filter))
        };
        let slot = Slot {
            value: Some(make()),
            place,
        };
        match self.slots.get_mut(index as usize) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        FilterId(index)
    }

    /// The identifier of a filter that is here.
    pub fn find(&self, filter: &str) -> Option<FilterId> {
        if topic::has_wildcard(filter) {
            self.wild.find(filter).map(FilterId)
        } else {
            self.find_exact(filter).map(FilterId)
        }
    }

    /// The value of a filter that is here.
    pub fn value(&self, id: FilterId) -> &V {
        self.slots[id.0 as usize]
            .value
            .as_ref()
            .expect("the caller's filter is here")
    }

    /// The value of a filter that is here.
    pub fn value_mut(&mut self, id: FilterId) -> &mut V {
        self.slots[id.0 as usize]
            .value
            .as_mut()
            .expect("the caller's filter is here")
    }

    /// The text of a filter that is here.
    pub fn filter(&self, id: FilterId) -> String {
        match &self.slots[id.0 as usize].place {
            Place::Exact(text) => text.as_str().to_owned(),
            Place::Wild(position) => self.wild.text(*position),
        }
    }

    /// Whether a filter that is here begins with a wildcard.
    pub fn begins_wild(&self, id: FilterId) -> bool {
        match &self.slots[id.0 as usize].place {
            Place::Exact(_) => false,
            Place::Wild(position) => self.wild.begins_wild(*position),
        }
    }

    /// Takes a filter away and gives its value back. The identifier may be given again.
    pub fn remove(&mut self, id: FilterId) -> V {
        let slot = &mut self.slots[id.0 as usize];
        let value = slot.value.take().expect("the caller's filter is here");
        match &mut slot.place {
            Place::Wild(position) => {
                self.wild.remove(*position);
                self.wild_count -= 1;
            }
            Place::Exact(text) => {
                let hash = short_hash(self.hash.bytes(text.as_bytes()));
                self.exact.remove(hash, id.0);
                *text = Text::new("");
            }
        }
        self.free.push(id.0);
        value
    }

    /// Visits every filter that matches `topic`, each once.
    #[inline]
    pub fn for_each_match(&self, topic: &str, mut visit: impl FnMut(FilterId, &V)) {
        let mut visit_slot = |index: u32| {
            let value = self.slots[index as usize].value.as_ref();
            visit(
                FilterId(index),
                value.expect("filters in the tables have a value"),
            );
        };
        if !self.exact.is_empty()
            && let Some(index) = self.find_exact(topic)
        {
            visit_slot(index);
        }
        if self.wild_count > 0 {
            self.wild.for_each_match(topic, visit_slot);
        }
    }

    /// Touches what the next matches of these topics will look at, so that their cache misses run
    /// side by side instead of one after the other. Changes nothing and answers nothing; of use
    /// only where the tables are larger than the caches.
    pub fn warm(&self, topics: &[&[u8]; WARM_TOPICS]) {
        // One loop for what depends on the topic alone, one for what each step finds.
        let mut touched = 0;
        let hashes = topics.map(|topic| short_hash(self.hash.bytes(topic)));
        for hash in hashes {
            touched ^= self.exact.touch(hash);
        }
        let slots = hashes.map(|hash| self.slots.get(self.exact.likely(hash)? as usize));
        for slot in slots.into_iter().flatten() {
            touched ^= u32::from(slot.value.is_some());
            if let Place::Exact(text) = &slot.place {
                touched ^= u32::from(text.as_bytes().last().copied().unwrap_or(0));
            }
        }
        std::hint::black_box(touched);
    }

    /// How many filters are here.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wild_count
    }

    /// Whether no filter is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn find_exact(&self, text: &str) -> Option<u32> {
        let hash = short_hash(self.hash.bytes(text.as_bytes()));
        self.exact.find(hash, |slot| {
            matches!(&self.slots[slot as usize].place, Place::Exact(other) if other.is(text.as_bytes()))
        })
    }

    /// Visits every filter, by number.
    pub fn for_each(&self, mut visit: impl FnMut(FilterId, &V)) {
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(value) = &slot.value {
                visit(FilterId(index as u32), value);
            }
        }
    }

    /// Asserts that every table agrees with the slots. Costs time: for tests and the simulator.
    pub fn check(&self) {
        assert_eq!(self.len() + self.free.len(), self.slots.len());
        let mut wild = Vec::new();
        let mut is_free = vec![false; self.slots.len()];
        for index in &self.free {
            assert!(
                !std::mem::replace(&mut is_free[*index as usize], true),
                "freed once"
            );
        }
        for (index, slot) in self.slots.iter().enumerate() {
            assert_eq!(slot.value.is_none(), is_free[index]);
            if is_free[index] {
                continue;
            }
            let index = index as u32;
            match &slot.place {
                Place::Exact(text) => assert_eq!(self.find_exact(text.as_str()), Some(index)),
                Place::Wild(position) => wild.push((index, *position)),
            }
            assert_eq!(
                self.find(&self.filter(FilterId(index))),
                Some(FilterId(index))
            );
        }
        assert_eq!(wild.len(), self.wild_count);
        self.wild.check(&wild);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filters, as given, that match a topic.
    fn check(filters: &[&str], topic: &str, expected: &[&str]) {
        let mut tree = FilterTree::new(7);
        for filter in filters {
            tree.insert_with(filter, || filter.to_string());
        }
        tree.check();
        let mut found = Vec::new();
        tree.for_each_match(topic, |id, value| {
            assert_eq!(tree.filter(id), *value);
            found.push(value.clone());
        });
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(found, expected, "{topic}");
    }

    #[test]
    fn wildcards_match_as_the_specification_says() {
        let filters = [
            "#", "+", "a", "a/#", "a/+", "+/+", "/+", "/", "$SYS/#", "$SYS/+", "+/a/#",
        ];
        check(&filters, "a", &["#", "+", "a", "a/#"]);
        check(&filters, "a/b", &["#", "a/#", "a/+", "+/+"]);
        check(&filters, "/", &["#", "+/+", "/+", "/"]);
        check(&filters, "a/", &["#", "a/#", "a/+", "+/+"]);
        check(&filters, "x/a", &["#", "+/+", "+/a/#"]);
        check(&filters, "x/a/b/c", &["#", "+/a/#"]);
        check(&filters, "$SYS", &["$SYS/#"]);
        check(&filters, "$SYS/a", &["$SYS/#", "$SYS/+"]);
        check(&filters, "$x", &[]);
        check(&filters, "", &["#", "+"]);
    }

    #[test]
    fn a_filter_keeps_its_first_value_and_its_identifier() {
        let mut tree = FilterTree::new(7);
        for filter in ["a/b", "a/+", "#"] {
            let id = tree.insert_with(filter, || 1);
            assert_eq!(tree.insert_with(filter, || 2), id);
            assert_eq!((*tree.value(id), tree.find(filter)), (1, Some(id)));
            *tree.value_mut(id) = 3;
            assert_eq!(tree.remove(id), 3);
            assert_eq!(tree.find(filter), None);
            assert_eq!(
                tree.insert_with(filter, || 4),
                id,
                "identifiers are used again"
            );
            tree.check();
        }
        assert_eq!(tree.len(), 3);
    }

    #[test]
    fn identifiers_and_memory_are_used_again() {
        let mut tree = FilterTree::new(7);
        for round in 0..100 {
            let filter = |n| {
                if n == 0 {
                    format!("{round}")
                } else {
                    format!("{round}/{n}/+/{n}/#")
                }
            };
            let ids: Vec<_> = (0..=50)
                .map(|n| tree.insert_with(&filter(n), || n))
                .collect();
            assert!(ids.iter().all(|id| id.0 <= 50));
            ids.into_iter().for_each(|id| {
                tree.remove(id);
            });
            tree.check();
        }
        assert!(tree.is_empty());
    }

    #[test]
    fn looking_ahead_takes_any_topics_and_changes_nothing() {
        let long = "x".repeat(1_000);
        let mut topics = [&b""[..]; WARM_TOPICS];
        let numbers: Vec<_> = (0..WARM_TOPICS).map(|n| format!("n/{n}")).collect();
        for (topic, number) in topics.iter_mut().zip(&numbers).skip(3) {
            *topic = number.as_bytes();
        }
        topics[1] = long.as_bytes();
        topics[2] = b"\xFF";
        let mut tree = FilterTree::new(7);
        tree.warm(&topics);
        for filter in numbers.iter().chain([&long, &"n/+".to_owned()]) {
            tree.insert_with(filter, || ());
        }
        tree.warm(&topics);
        tree.remove(tree.find("n/5").unwrap());
        tree.warm(&topics);
        tree.check();
        assert_eq!(tree.len(), WARM_TOPICS + 1);
    }

    #[test]
    fn deep_topics_and_hostile_filters_end_soon() {
        let deep = |levels: usize| vec!["a"; levels].join("/");
        for levels in [2, 11, 12, 13, 127, 128, 129, 30_000] {
            let plus = vec!["+"; levels].join("/");
            let multi = format!("{plus}/#");
            let filters = [plus.as_str(), multi.as_str(), "#", "a/#", "+/#"];
            check(&filters, &deep(levels), &filters);
        }
        // Two choices at each of 16 levels, and no filter that ends where the topic does.
        let mut tree = FilterTree::new(7);
        for bits in 0..1u32 << 16 {
            let path: Vec<_> = (0..16)
                .map(|n| if bits >> n & 1 == 1 { "a" } else { "+" })
                .collect();
            tree.insert_with(&(path.join("/") + "/end"), || ());
        }
        let mut count = 0;
        tree.for_each_match(&deep(17), |_, ()| count += 1);
        assert_eq!(count, 0);
        tree.for_each_match(&(deep(16) + "/end"), |_, ()| count += 1);
        assert_eq!(count, 1 << 16);
    }
}
