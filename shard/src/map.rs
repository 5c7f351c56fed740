//! Hash maps whose order is unpredictable to clients and never seen by anyone.
//!
//! Keys are chosen by clients (topics, client identifiers, UUIDs), so the hash is keyed with a
//! secret seed. The order of iteration depends on that seed: it never reaches an effect. Where an
//! order is needed, another table gives it.

use foldhash::SharedSeed;
use foldhash::fast::{FoldHasher, SeedableRandomState};
use std::hash::Hasher;
use std::sync::OnceLock;

/// A hash map with a seed of our own; make it with [`map_with_seed`].
pub type Map<K, V> = hashbrown::HashMap<K, V, SeedableRandomState>;
/// A hash set with a seed of our own; make it with [`set_with_seed`].
pub type Set<K> = hashbrown::HashSet<K, SeedableRandomState>;

/// An empty map, keyed with `seed`.
pub fn map_with_seed<K, V>(seed: u64) -> Map<K, V> {
    Map::with_hasher(state(seed))
}

/// An empty set, keyed with `seed`.
pub fn set_with_seed<K>(seed: u64) -> Set<K> {
    Set::with_hasher(state(seed))
}

/// foldhash multiplies the input with a word shared by all its hashers; a client that knew it
/// could choose keys that multiply with zero, all of one hash. Its published constant is
/// therefore no choice. The words come from the first seed of the process: a `static` is what
/// foldhash can borrow, and leaking one for each map would have no bound.
static SHARED: OnceLock<SharedSeed> = OnceLock::new();

fn state(seed: u64) -> SeedableRandomState {
    SeedableRandomState::with_seed(seed, SHARED.get_or_init(|| SharedSeed::from_u64(seed)))
}

/// A keyed hash for the tables that keep their keys elsewhere.
pub(crate) struct KeyedHash {
    shared: SharedSeed,
    seed: u64,
}

impl KeyedHash {
    pub(crate) fn new(seed: u64) -> KeyedHash {
        KeyedHash {
            shared: SharedSeed::from_u64(seed),
            seed: seed.rotate_left(32),
        }
    }

    /// Of a string.
    #[inline]
    pub(crate) fn bytes(&self, bytes: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(bytes);
        hasher.finish()
    }

    /// Of a pair of small numbers.
    #[inline]
    pub(crate) fn pair(&self, first: u32, second: u32) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write_u64(u64::from(first) << 32 | u64::from(second));
        hasher.finish()
    }
}

/// A hash in 32 bits, as an [`IndexTable`](crate::index_table::IndexTable) keeps it.
#[inline]
pub(crate) fn short_hash(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_with_different_seeds_hold_the_same() {
        let mut first = map_with_seed(1);
        let mut second = map_with_seed(2);
        for key in 0..1_000u32 {
            first.insert(key, key * 2);
            second.insert(key, key * 2);
        }
        assert!((0..1_000).all(|key| first.get(&key) == second.get(&key)));
        assert_eq!(set_with_seed::<u8>(3).len(), 0);
    }

    #[test]
    fn seeds_give_different_hashes() {
        let (first, second) = (KeyedHash::new(1), KeyedHash::new(2));
        assert_ne!(first.bytes(b"topic"), second.bytes(b"topic"));
        assert_ne!(first.pair(1, 2), second.pair(1, 2));
        assert_ne!(first.pair(1, 2), first.pair(2, 1));
    }
}
