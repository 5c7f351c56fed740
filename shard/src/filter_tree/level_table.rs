//! Level strings, each kept once and named by a symbol.
//!
//! A symbol is counted: it lives as long as an edge of the trie uses it, and is used again after.

use crate::map::{KeyedHash, short_hash, wide_hash};
use hashbrown::HashTable;

/// Stands where there is no symbol.
pub(super) const NO_SYMBOL: u32 = u32::MAX;

/// The strings of all literal levels of the trie.
pub(super) struct LevelTable {
    hash: KeyedHash,
    /// Symbols by the hash of their string.
    symbols: HashTable<u32>,
    /// The strings by symbol; those with no reference are free.
    levels: Vec<Level>,
    free: Vec<u32>,
}

/// One string. 32 bytes, so that a short one costs a single cache line to compare.
struct Level {
    text: Text,
    hash: u32,
    references: u32,
}

/// Bytes that a level holds without an allocation.
const SHORT_MAX: usize = 22;

enum Text {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<str>),
}

const _: () = assert!(size_of::<Level>() == 32);

impl Text {
    fn new(text: &str) -> Text {
        if text.len() > SHORT_MAX {
            return Text::Long(text.into());
        }
        let mut bytes = [0; SHORT_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Text::Short {
            len: text.len() as u8,
            bytes,
        }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Text::Short { len, bytes } => &bytes[..usize::from(*len)],
            Text::Long(text) => text.as_bytes(),
        }
    }
}

impl LevelTable {
    pub(super) fn new(seed: u64) -> LevelTable {
        LevelTable {
            hash: KeyedHash::new(seed),
            symbols: HashTable::new(),
            levels: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The symbol of a string, [`NO_SYMBOL`] if no filter has it as a level.
    #[inline]
    pub(super) fn find(&self, text: &str) -> u32 {
        let hash = short_hash(self.hash.bytes(text.as_bytes()));
        self.find_hashed(text, hash)
    }

    #[inline]
    fn find_hashed(&self, text: &str, hash: u32) -> u32 {
        let same = |symbol: &u32| {
            let level = &self.levels[*symbol as usize];
            level.hash == hash && level.text.bytes() == text.as_bytes()
        };
        self.symbols
            .find(wide_hash(hash), same)
            .copied()
            .unwrap_or(NO_SYMBOL)
    }

    /// The symbol of a string, one reference more.
    pub(super) fn acquire(&mut self, text: &str) -> u32 {
        let hash = short_hash(self.hash.bytes(text.as_bytes()));
        let symbol = self.find_hashed(text, hash);
        if symbol != NO_SYMBOL {
            self.levels[symbol as usize].references += 1;
            return symbol;
        }
        let level = Level {
            text: Text::new(text),
            hash,
            references: 1,
        };
        let symbol = match self.free.pop() {
            Some(symbol) => {
                self.levels[symbol as usize] = level;
                symbol
            }
            None => {
                self.levels.push(level);
                u32::try_from(self.levels.len() - 1).expect("limits keep filters below 2^32")
            }
        };
        let levels = &self.levels;
        let hash_of = |symbol: &u32| wide_hash(levels[*symbol as usize].hash);
        self.symbols.insert_unique(wide_hash(hash), symbol, hash_of);
        symbol
    }

    /// Takes one reference back; with the last one the string goes.
    pub(super) fn release(&mut self, symbol: u32) {
        let level = &mut self.levels[symbol as usize];
        assert!(
            level.references > 0,
            "a symbol is released once for each time it was acquired"
        );
        level.references -= 1;
        if level.references > 0 {
            return;
        }
        level.text = Text::new("");
        let entry = self
            .symbols
            .find_entry(wide_hash(level.hash), |other| *other == symbol);
        entry.expect("a symbol in use is in the table").remove();
        self.free.push(symbol);
    }

    /// The string of a symbol in use.
    pub(super) fn text(&self, symbol: u32) -> &str {
        std::str::from_utf8(self.levels[symbol as usize].text.bytes())
            .expect("levels are cut out of strings")
    }

    /// Asserts that each symbol is found by its string and has `references[symbol]` references.
    pub(super) fn check(&self, references: &[u32]) {
        assert_eq!(self.symbols.len() + self.free.len(), self.levels.len());
        assert_eq!(references.len(), self.levels.len());
        for (symbol, level) in self.levels.iter().enumerate() {
            assert_eq!(level.references, references[symbol]);
            if level.references > 0 {
                assert_eq!(self.find(self.text(symbol as u32)), symbol as u32);
            }
        }
    }

    /// One more than the highest symbol given so far.
    pub(super) fn symbols_end(&self) -> usize {
        self.levels.len()
    }
}
