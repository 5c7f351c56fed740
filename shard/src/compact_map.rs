//! A map that is mostly tiny and sometimes huge: one pair inline, a few in a vector, many in an
//! index map. Its order is that of insertion, disturbed only by removal, so it is deterministic.

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use std::hash::Hash;

/// Above this, a scan costs more than a hash.
const FEW_MAX: usize = 16;

/// Pairs of small values.
#[derive(Debug, Default)]
pub enum CompactMap<K, V> {
    /// Nothing.
    #[default]
    None,
    /// One pair, no allocation.
    One(K, V),
    /// Up to [`FEW_MAX`] pairs.
    Few(Vec<(K, V)>),
    /// More.
    Many(Box<IndexMap<K, V, FixedState>>),
}

impl<K: Copy + Eq + Hash, V: Copy> CompactMap<K, V> {
    /// How many pairs.
    pub fn len(&self) -> usize {
        match self {
            CompactMap::None => 0,
            CompactMap::One(..) => 1,
            CompactMap::Few(pairs) => pairs.len(),
            CompactMap::Many(map) => map.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        matches!(self, CompactMap::None)
    }

    /// Inserts or replaces; returns what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            CompactMap::None => {
                *self = CompactMap::One(key, value);
                None
            }
            CompactMap::One(k, v) if *k == key => Some(std::mem::replace(v, value)),
            CompactMap::One(k, v) => {
                *self = CompactMap::Few(vec![(*k, *v), (key, value)]);
                None
            }
            CompactMap::Few(pairs) => {
                if let Some((_, v)) = pairs.iter_mut().find(|(k, _)| *k == key) {
                    return Some(std::mem::replace(v, value));
                }
                pairs.push((key, value));
                if pairs.len() > FEW_MAX {
                    let map = pairs.drain(..).collect();
                    *self = CompactMap::Many(Box::new(map));
                }
                None
            }
            CompactMap::Many(map) => map.insert(key, value),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: K) -> Option<V> {
        match self {
            CompactMap::None => None,
            CompactMap::One(k, v) => (*k == key).then_some(*v),
            CompactMap::Few(pairs) => pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v),
            CompactMap::Many(map) => map.get(&key).copied(),
        }
    }

    /// The pair at a place of the order.
    pub fn at(&self, place: usize) -> Option<(K, V)> {
        match self {
            CompactMap::One(key, value) => (place == 0).then_some((*key, *value)),
            CompactMap::None => None,
            CompactMap::Few(pairs) => pairs.get(place).copied(),
            CompactMap::Many(map) => map.get_index(place).map(|(key, value)| (*key, *value)),
        }
    }

    /// Removes a key; returns its value.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let removed = match self {
            CompactMap::None => None,
            CompactMap::One(k, v) => (*k == key).then_some(*v),
            CompactMap::Few(pairs) => {
                let at = pairs.iter().position(|(k, _)| *k == key)?;
                Some(pairs.swap_remove(at).1)
            }
            CompactMap::Many(map) => map.swap_remove(&key),
        };
        if removed.is_some() && (matches!(self.len(), 0) || matches!(self, CompactMap::One(..))) {
            *self = CompactMap::None;
        }
        removed
    }

    /// Removes the pair that was put in last, or moved to the end since.
    pub fn pop(&mut self) -> Option<(K, V)> {
        let popped = match self {
            CompactMap::None => None,
            CompactMap::One(k, v) => Some((*k, *v)),
            CompactMap::Few(pairs) => pairs.pop(),
            CompactMap::Many(map) => map.pop(),
        };
        if matches!(self.len(), 0) || matches!(self, CompactMap::One(..)) {
            *self = CompactMap::None;
        }
        popped
    }

    /// Visits all pairs in order.
    pub fn for_each(&self, mut visit: impl FnMut(K, V)) {
        match self {
            CompactMap::None => {}
            CompactMap::One(k, v) => visit(*k, *v),
            CompactMap::Few(pairs) => pairs.iter().for_each(|(k, v)| visit(*k, *v)),
            CompactMap::Many(map) => map.iter().for_each(|(k, v)| visit(*k, *v)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_shrinks_through_all_its_shapes() {
        let mut map = CompactMap::default();
        for key in 0..100_u32 {
            assert_eq!(map.insert(key, key * 2), None);
            assert_eq!(map.insert(key, key * 3), Some(key * 2));
            assert_eq!(map.len(), key as usize + 1);
        }
        for key in 0..100 {
            assert_eq!(map.get(key), Some(key * 3));
            assert_eq!(map.remove(key), Some(key * 3));
            assert_eq!(map.remove(key), None);
        }
        assert!(map.is_empty());
        map.insert(1, 1);
        map.insert(2, 2);
        assert_eq!(map.pop(), Some((2, 2)));
        assert_eq!(map.pop(), Some((1, 1)));
        assert_eq!(map.pop(), None);
    }
}
