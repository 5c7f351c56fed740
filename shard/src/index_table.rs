//! A hash table of indices into a vector that its owner keeps.
//!
//! Unlike a general table it looks at one cache line for most lookups: eight bytes in one place
//! hold a key's hash and its index, neighbours are tried in order, and a removal closes its gap.
//! On large tables a lookup costs little but its cache misses, which is why this is not
//! `hashbrown::HashTable`, which needs two. The owner's hash must be keyed with a secret, else a
//! client could choose keys of one neighbourhood.
//!
//! Always at least a quarter empty, so every search ends.

/// No key has this index.
const NONE: u32 = u32::MAX;
const EMPTY: Cell = Cell {
    hash: 0,
    index: NONE,
};
const CELLS_MIN: usize = 16;

#[derive(Clone, Copy)]
struct Cell {
    hash: u32,
    index: u32,
}

/// Indices by the hash of the keys they stand for.
pub(crate) struct IndexTable {
    /// A power of two of them. A cell is never further from its home than the cells between.
    cells: Vec<Cell>,
    len: usize,
}

impl IndexTable {
    pub(crate) fn new() -> IndexTable {
        IndexTable {
            cells: vec![EMPTY; CELLS_MIN],
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The index with this hash whose key `is_same`.
    #[inline]
    pub(crate) fn find(&self, hash: u32, mut is_same: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.cells.len() - 1;
        let mut at = home(hash, self.cells.len());
        loop {
            let cell = self.cells[at & mask];
            if cell.index == NONE {
                return None;
            }
            if cell.hash == hash && is_same(cell.index) {
                return Some(cell.index);
            }
            at += 1;
        }
    }

    /// Touches the place where a search for this hash begins.
    #[inline]
    pub(crate) fn touch(&self, hash: u32) -> u32 {
        self.cells[home(hash, self.cells.len())].hash
    }

    /// The index that [`IndexTable::find`] would look at first; its key may be another one of the
    /// same hash.
    #[inline]
    pub(crate) fn likely(&self, hash: u32) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Adds an index whose key is not here.
    pub(crate) fn insert(&mut self, hash: u32, index: u32) {
        assert!(index != NONE);
        if (self.len + 1) * 4 > self.cells.len() * 3 {
            self.grow();
        }
        self.put(Cell { hash, index });
        self.len += 1;
    }

    /// Takes an index away, which must be here with this hash.
    pub(crate) fn remove(&mut self, hash: u32, index: u32) {
        let mask = self.cells.len() - 1;
        let mut gap = home(hash, self.cells.len());
        while self.cells[gap].index != index {
            assert!(
                self.cells[gap].index != NONE,
                "only what is here is removed"
            );
            gap = (gap + 1) & mask;
        }
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if cell.index == NONE {
                break;
            }
            // A cell may move into the gap unless that is before its home.
            let from_home = at.wrapping_sub(home(cell.hash, self.cells.len())) & mask;
            if from_home >= at.wrapping_sub(gap) & mask {
                self.cells[gap] = cell;
                gap = at;
            }
        }
        self.cells[gap] = EMPTY;
        self.len -= 1;
    }

    /// Doubles. Homes keep their order, so this walks through both tables from front to back.
    fn grow(&mut self) {
        let larger = vec![EMPTY; self.cells.len() * 2];
        for cell in std::mem::replace(&mut self.cells, larger) {
            if cell.index != NONE {
                self.put(cell);
            }
        }
    }

    fn put(&mut self, cell: Cell) {
        let mask = self.cells.len() - 1;
        let mut at = home(cell.hash, self.cells.len());
        while self.cells[at].index != NONE {
            at = (at + 1) & mask;
        }
        self.cells[at] = cell;
    }
}

/// Where a search for a hash begins in a table of so many cells: its high bits.
#[inline]
fn home(hash: u32, cells: usize) -> usize {
    ((u64::from(hash) * cells as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inserts and removes indices by these hashes, and looks for each after every step.
    fn check(hashes: &[u32]) {
        let mut table = IndexTable::new();
        let is_here = |table: &IndexTable, index: usize| {
            table.find(hashes[index], |other| other as usize == index) == Some(index as u32)
        };
        for index in 0..hashes.len() {
            table.insert(hashes[index], index as u32);
            assert!((0..hashes.len()).all(|other| is_here(&table, other) == (other <= index)));
        }
        // In an order unlike that of inserting; no list here has a multiple of seven.
        let order: Vec<_> = (0..hashes.len()).map(|n| n * 7 % hashes.len()).collect();
        for (count, index) in order.iter().enumerate() {
            table.remove(hashes[*index], *index as u32);
            assert!(
                order
                    .iter()
                    .enumerate()
                    .all(|(n, other)| is_here(&table, *other) == (n > count))
            );
        }
        assert!(table.is_empty());
    }

    #[test]
    fn keys_are_found_wherever_they_had_to_go() {
        check(&[0; 10]);
        check(&[u32::MAX; 10]);
        check(&[u32::MAX, 0, u32::MAX, 0, 1 << 28, u32::MAX, 0, 1]);
        let spread: Vec<_> = (0..100u32).map(|n| n.wrapping_mul(0x9E37_79B1)).collect();
        check(&spread);
        let crowded: Vec<_> = (0..100u32)
            .map(|n| n.wrapping_mul(0x9E37_79B1) >> 3)
            .collect();
        check(&crowded);
    }
}
