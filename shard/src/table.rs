//! A growing array in chunks: it never moves what it holds, so growth costs no copy and leaves no
//! half-used block behind. With a million entries of 100 bytes, doubling would cost as much memory
//! again.

/// Entries per chunk.
const CHUNK: usize = 512;

/// An array that only grows.
#[derive(Debug)]
pub struct Table<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Table<T> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, value: T) {
        if self.len.is_multiple_of(CHUNK) {
            // The first chunk starts small: most tables of a small broker stay there.
            let capacity = if self.len == 0 { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        self.chunks[self.len / CHUNK].push(value);
        self.len += 1;
    }

    /// The entry at an index.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// The entry at an index.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// All entries, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }
}

impl<T> FromIterator<T> for Table<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Table<T> {
        let mut table = Table::default();
        values.into_iter().for_each(|value| table.push(value));
        table
    }
}

impl<T> std::ops::Index<usize> for Table<T> {
    type Output = T;
    fn index(&self, index: usize) -> &T {
        &self.chunks[index / CHUNK][index % CHUNK]
    }
}

impl<T> std::ops::IndexMut<usize> for Table<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_where_they_are() {
        let mut table = Table::default();
        for n in 0..3 * CHUNK + 1 {
            assert_eq!(table.len(), n);
            assert!(table.get(n).is_none());
            table.push(n);
        }
        assert!(table.iter().copied().eq(0..3 * CHUNK + 1));
        table[CHUNK] = 7;
        assert_eq!(table.get(CHUNK), Some(&7));
        assert!(table.get(4 * CHUNK).is_none());
    }
}
