//! Level strings, each kept once and named by a symbol.
//!
//! A symbol is counted: it lives as long as an edge of the trie uses it, and is used again after.

use crate::index_table::IndexTable;
use crate::map::{KeyedHash, short_hash};
use crate::table::Table;

/// Stands where there is no symbol.
pub(super) const NO_SYMBOL: u32 = u32::MAX;

/// The strings of all literal levels of the trie.
pub(super) struct LevelTable {
    hash: KeyedHash,
    /// Symbols by the hash of their string.
    symbols: IndexTable,
    /// The strings by symbol; those with no reference are free.
    levels: Table<Level>,
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
            symbols: IndexTable::new(),
            levels: Table::default(),
            free: Vec::new(),
        }
    }

    /// The hash of a level, which the methods here take along with it.
    #[inline]
    pub(super) fn hash(&self, text: &str) -> u32 {
        short_hash(self.hash.bytes(text.as_bytes()))
    }

    /// Whether a symbol in use stands for this string.
    #[inline]
    pub(super) fn is(&self, symbol: u32, text: &str) -> bool {
        self.levels[symbol as usize].text.bytes() == text.as_bytes()
    }

    /// The symbol of a string, one reference more.
    pub(super) fn acquire(&mut self, text: &str, hash: u32) -> u32 {
        if let Some(symbol) = self.symbols.find(hash, |symbol| self.is(symbol, text)) {
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
        self.symbols.insert(hash, symbol);
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
        self.symbols.remove(level.hash, symbol);
        self.free.push(symbol);
    }

    /// The hash of the string of a symbol in use.
    pub(super) fn hash_of(&self, symbol: u32) -> u32 {
        self.levels[symbol as usize].hash
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
                let symbol = symbol as u32;
                let hash = self.hash(self.text(symbol));
                assert_eq!(hash, level.hash);
                let found = self
                    .symbols
                    .find(hash, |other| self.is(other, self.text(symbol)));
                assert_eq!(found, Some(symbol));
            }
        }
    }

    /// One more than the highest symbol given so far.
    pub(super) fn symbols_end(&self) -> usize {
        self.levels.len()
    }
}
