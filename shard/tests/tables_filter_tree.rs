//! The filter tree against the naive matcher, over random inserts, removes and topics.

use proptest::collection::vec;
use proptest::prelude::*;
use shard::filter_tree::{FilterId, FilterTree};
use shard::topic;
use std::collections::BTreeMap;

/// Few names, so that filters share paths and topics match; the last does not fit in a short one.
fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "a",
        "b",
        "é",
        "$x",
        "a-name-of-more-than-twenty-two-bytes",
    ])
}

fn topics() -> impl Strategy<Value = String> {
    vec(name(), 1..6).prop_map(|names| names.join("/"))
}

fn filters() -> impl Strategy<Value = String> {
    let level = prop_oneof![2 => name(), 1 => Just("+")];
    (vec(level, 0..5), any::<bool>()).prop_map(|(mut levels, multi)| {
        if multi || levels.is_empty() {
            levels.push("#");
        }
        levels.join("/")
    })
}

#[derive(Clone, Debug)]
enum Step {
    Insert(String),
    /// The filter at this place among those that are there.
    Remove(prop::sample::Index),
    Match(String),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => filters().prop_map(Step::Insert),
        2 => any::<prop::sample::Index>().prop_map(Step::Remove),
        3 => topics().prop_map(Step::Match),
    ];
    vec(step, 1..120)
}

/// A tree and what it ought to hold: each filter's identifier and value.
struct Pair {
    tree: FilterTree<usize>,
    model: BTreeMap<String, (FilterId, usize)>,
    values: usize,
}

impl Pair {
    fn insert(&mut self, filter: String) {
        self.values += 1;
        let id = self.tree.insert_with(&filter, || self.values);
        let expected = *self.model.entry(filter).or_insert((id, self.values));
        assert_eq!((id, *self.tree.value(id)), expected);
    }

    fn remove(&mut self, filter: &str) {
        let (id, value) = self.model.remove(filter).expect("it is there");
        assert_eq!(
            (self.tree.find(filter), self.tree.filter(id).as_str()),
            (Some(id), filter)
        );
        assert_eq!(self.tree.remove(id), value);
        assert_eq!(self.tree.find(filter), None);
    }

    fn matches(&self, topic: &str) -> Vec<(u32, usize)> {
        let mut found = Vec::new();
        self.tree
            .for_each_match(topic, |id, value| found.push((id.0, *value)));
        found
    }

    fn check_topic(&self, topic: &str) {
        let model = self
            .model
            .iter()
            .filter(|(filter, _)| topic::matches(filter, topic));
        let mut expected: Vec<_> = model.map(|(_, (id, value))| (id.0, *value)).collect();
        let mut found = self.matches(topic);
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{topic}");
    }
}

fn pair(seed: u64) -> Pair {
    Pair {
        tree: FilterTree::new(seed),
        model: BTreeMap::new(),
        values: 0,
    }
}

fn apply(pair: &mut Pair, step: &Step) {
    match step {
        Step::Insert(filter) => pair.insert(filter.clone()),
        Step::Remove(_) if pair.model.is_empty() => {}
        Step::Remove(index) => {
            let filter = pair.model.keys().nth(index.index(pair.model.len()));
            let filter = filter.expect("the index is within the length").clone();
            pair.remove(&filter);
        }
        Step::Match(topic) => pair.check_topic(topic),
    }
}

proptest! {
    #[test]
    fn the_tree_agrees_with_the_naive_matcher(steps in steps(), seed: u64) {
        let mut pair = pair(seed);
        for step in &steps {
            apply(&mut pair, step);
            assert_eq!(pair.tree.len(), pair.model.len());
            pair.tree.check();
        }
        for filter in pair.model.keys().cloned().collect::<Vec<_>>() {
            pair.remove(&filter);
        }
        pair.tree.check();
        assert!(pair.tree.is_empty());
    }

    #[test]
    fn the_seed_changes_nothing_that_a_caller_sees(steps in steps(), topic in topics()) {
        let (mut one, mut other) = (pair(1), pair(2));
        for step in &steps {
            apply(&mut one, step);
            apply(&mut other, step);
            assert_eq!(one.matches(&topic), other.matches(&topic));
        }
        assert_eq!(one.model, other.model);
    }
}
