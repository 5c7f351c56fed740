//! Pages of the retained store against a filter over a sorted list, with changes between pages.

use proptest::collection::vec;
use proptest::prelude::*;
use shard::Time;
use shard::retained::{RetainedStore, topic_order};
use shard::topic;
use std::collections::BTreeMap;

/// Names on both sides of `/` and `$` in byte order.
fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "a!", "a0", "b", "$x", "!", "a-longer-name"])
}

fn topics() -> impl Strategy<Value = String> {
    vec(name(), 1..5).prop_map(|names| names.join("/"))
}

fn filters() -> impl Strategy<Value = String> {
    let level = prop_oneof![1 => name(), 2 => Just("+")];
    (vec(level, 0..5), any::<bool>()).prop_map(|(mut levels, multi)| {
        if multi || levels.is_empty() {
            levels.push("#");
        }
        levels.join("/")
    })
}

#[derive(Clone, Debug)]
enum Change {
    Insert(String, Option<u64>),
    Remove(String),
    Expire(u64),
}

fn changes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Change>> {
    let expiry = prop::option::of(0..100u64);
    let change = prop_oneof![
        4 => (topics(), expiry).prop_map(|(topic, expiry)| Change::Insert(topic, expiry)),
        2 => topics().prop_map(Change::Remove),
        1 => (0..100u64).prop_map(Change::Expire),
    ];
    vec(change, count)
}

/// The store and what it ought to hold: each topic's value and expiry.
struct Pair {
    store: RetainedStore<usize>,
    model: BTreeMap<String, (usize, Option<u64>)>,
    values: usize,
}

impl Pair {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Insert(topic, expiry) => {
                self.values += 1;
                let before = self.model.insert(topic.clone(), (self.values, *expiry));
                let given = self.store.insert(topic, self.values, expiry.map(Time));
                assert_eq!(given, before.map(|(value, _)| value));
            }
            Change::Remove(topic) => {
                let before = self.model.remove(topic);
                assert_eq!(self.store.remove(topic), before.map(|(value, _)| value));
                assert_eq!(self.store.get(topic), None);
            }
            Change::Expire(now) => {
                let mut expected = BTreeMap::new();
                self.model.retain(|topic, (value, expiry)| {
                    let stays = expiry.is_none_or(|expiry| expiry > *now);
                    if !stays {
                        expected.insert(topic.clone(), *value);
                    }
                    stays
                });
                let mut expired = BTreeMap::new();
                let mut visit = |topic: &str, value| {
                    assert_eq!(expired.insert(topic.to_string(), value), None);
                };
                while self.store.expire(Time(*now), 2, &mut visit) > 0 {}
                assert_eq!(expired, expected);
            }
        }
        assert_eq!(self.store.len(), self.model.len());
        let next = self.model.values().filter_map(|(_, expiry)| *expiry).min();
        assert_eq!(self.store.next_expiry(), next.map(Time));
    }

    /// What a filter ought to read after a topic, in topic order.
    fn expected(&self, filter: &str, after: Option<&str>) -> Vec<(String, usize)> {
        let is_ahead = |topic: &str| after.is_none_or(|after| topic_order(topic, after).is_gt());
        let model = self.model.iter();
        let rows = model.filter(|(topic, _)| topic::matches(filter, topic) && is_ahead(topic));
        let mut rows: Vec<_> = rows
            .map(|(topic, (value, _))| (topic.clone(), *value))
            .collect();
        // The order as it is defined: level by level.
        rows.sort_by(|(one, _), (other, _)| one.split('/').cmp(other.split('/')));
        rows
    }
}

fn pair(changes: &[Change]) -> Pair {
    let mut pair = Pair {
        store: RetainedStore::new(3),
        model: BTreeMap::new(),
        values: 0,
    };
    changes.iter().for_each(|change| pair.apply(change));
    pair.store.check();
    pair
}

proptest! {
    #[test]
    fn pages_give_what_a_sorted_list_gives(
        before in changes(0..60),
        between in vec(changes(0..5), 20),
        filter in filters(),
        rows_max in 1..5usize,
        work_max in 1..10usize,
    ) {
        let mut pair = pair(&before);
        let mut after: Option<String> = None;
        for (pages, changes) in between.iter().cycle().enumerate() {
            assert!(pages < 500, "reading does not end");
            let expected = pair.expected(&filter, after.as_deref());
            let mut rows = Vec::new();
            let visit = |topic: &str, value: &usize| rows.push((topic.to_string(), *value));
            let next = pair.store.page(&filter, after.as_deref(), rows_max, work_max, visit);
            assert!(rows.len() <= rows_max);
            assert_eq!(rows, expected[..rows.len()]);
            let Some(next) = next else {
                assert_eq!(rows.len(), expected.len(), "the end comes after the last row");
                return Ok(());
            };
            // Nothing between the last row and where to go on is left out.
            assert_eq!(pair.expected(&filter, Some(&next)), expected[rows.len()..]);
            assert!(after.is_none_or(|after| topic_order(&after, &next).is_lt()), "progress");
            after = Some(next);
            changes.iter().for_each(|change| pair.apply(change));
            pair.store.check();
        }
    }

    #[test]
    fn topic_order_is_the_order_of_levels(one in topics(), other in topics()) {
        assert_eq!(topic_order(&one, &other), one.split('/').cmp(other.split('/')));
    }

    #[test]
    fn a_page_ends_when_its_work_is_spent(before in changes(0..60), filter in filters()) {
        let pair = pair(&before);
        let mut rows = Vec::new();
        let mut after = None;
        // A topic is looked at once, so work of one topic each takes at most a page per topic.
        for _ in 0..=pair.model.len() {
            let visit = |topic: &str, value: &usize| rows.push((topic.to_string(), *value));
            after = pair.store.page(&filter, after.as_deref(), 1, 1, visit);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(after, None);
        assert_eq!(rows, pair.expected(&filter, None));
    }
}
