//! Reads what is whole of a damaged redb file, page by page.
//!
//! redb gives a tree as a whole or not at all. Each of its pages, though, has its checksum in the
//! page above it, and the topmost in the file's header. So a page whose checksum is right is what
//! was written, and belongs where it was found; one whose checksum is wrong is left out, with all
//! below it. The format is that of redb's file format 3, which its design document describes.
//!
//! Nothing here trusts a number that it has read: all bytes of a file may be anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";
const HEADER_BYTES: usize = 320;
const GOD_BYTE: usize = 9;
const PAGE_BYTES: u64 = 4_096;
const SLOTS: [usize; 2] = [64, 192];
const SLOT_BYTES: usize = 128;
const SLOT_CHECKSUM: usize = SLOT_BYTES - 16;
const FILE_FORMAT: u8 = 3;
const LEAF: u8 = 1;
const BRANCH: u8 = 2;
const NORMAL_TABLE: u8 = 3;
/// No tree of a file that fits on a disk is deeper.
const DEPTH_MAX: usize = 32;
/// Numbers of pages in a region have twenty bits.
const REGION_PAGES_MAX: u64 = 1 << 20;
/// No page is larger than this power of two of pages.
const ORDER_MAX: u32 = 20;

/// What could be read, and what could not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Rows that are whole.
    pub(crate) rows: u64,
    /// Pages that are not, not counting those below them.
    pub(crate) pages_lost: u64,
    /// Rows that are not there, as far as their tables are known.
    pub(crate) rows_lost: u64,
    /// It is the state before the last commit.
    pub(crate) is_previous: bool,
}

/// A row: its table, its key, its value.
pub(crate) type OnRow<'a> = dyn FnMut(&str, &[u8], &[u8]) + 'a;

/// Gives the rows of all tables that are whole, and says what is lost; `None` if not even the
/// header can be read. A file has two states, the last and the one before it: it takes the first
/// of them that is whole, or else the one with more rows. What the disk fails to read is not whole.
/// Errs if the file cannot be opened.
pub(crate) fn read_rows(path: &Path, on_row: &mut OnRow<'_>) -> io::Result<Option<Extent>> {
    let file = File::open(path)?;
    let Some(pages) = Pages::open(&file) else {
        return Ok(None);
    };
    let mut best: Option<(Extent, Root)> = None;
    for (root, is_previous) in pages.roots.into_iter().zip([false, true]) {
        let Some(root) = root else {
            continue;
        };
        let extent = Extent {
            is_previous,
            ..pages.read_tables(root, &mut |_, _, _| {})
        };
        let is_better = |known: Extent| {
            let [new, old] =
                [extent, known].map(|e| (e.pages_lost == 0 && e.rows_lost == 0, e.rows));
            new.0 && !old.0 || new.0 == old.0 && !new.0 && new.1 > old.1
        };
        if best.is_none_or(|(known, _)| is_better(known)) {
            best = Some((extent, root));
        }
    }
    let Some((extent, root)) = best else {
        return Ok(None);
    };
    pages.read_tables(root, on_row);
    Ok(Some(extent))
}

/// The top of a tree.
#[derive(Clone, Copy, Debug)]
struct Root {
    page: u64,
    checksum: u128,
    rows: u64,
}

impl Root {
    const BYTES: usize = 32;

    fn read(bytes: &[u8]) -> Option<Root> {
        Some(Root {
            page: u64_at(bytes, 0)?,
            checksum: u128_at(bytes, 8)?,
            rows: u64_at(bytes, 24)?,
        })
    }
}

/// The widths of the keys and values of a tree, where they are fixed.
#[derive(Clone, Copy, Debug)]
struct Widths {
    key: Option<usize>,
    value: Option<usize>,
}

struct Pages<'a> {
    file: &'a File,
    file_bytes: u64,
    region_bytes: u64,
    region_header_bytes: u64,
    /// The later first.
    roots: [Option<Root>; 2],
}

impl<'a> Pages<'a> {
    fn open(file: &'a File) -> Option<Pages<'a>> {
        let file_bytes = file.metadata().ok()?.len();
        let mut header = [0; HEADER_BYTES];
        if file_bytes < HEADER_BYTES as u64 {
            return None;
        }
        file.read_exact_at(&mut header, 0).ok()?;
        let [Some(page_bytes), Some(header_pages), Some(data_pages)] =
            [12, 16, 20].map(|at| u32_at(&header, at).map(u64::from))
        else {
            return None;
        };
        let is_possible = header_pages <= REGION_PAGES_MAX && data_pages <= REGION_PAGES_MAX;
        if !header.starts_with(MAGIC) || page_bytes != PAGE_BYTES || !is_possible {
            return None;
        }
        let primary = usize::from(header[GOD_BYTE] & 1);
        let roots = [primary, 1 - primary].map(|slot| slot_root(&header[SLOTS[slot]..]));
        Some(Pages {
            file,
            file_bytes,
            region_bytes: (header_pages + data_pages) * PAGE_BYTES,
            region_header_bytes: header_pages * PAGE_BYTES,
            roots,
        })
    }

    /// All tables below the root of a state.
    fn read_tables(&self, root: Root, on_row: &mut OnRow<'_>) -> Extent {
        let names = Widths {
            key: None,
            value: None,
        };
        let mut tables = BTreeMap::new();
        let mut extent = self.read_tree(root, names, &mut |name, definition| {
            if let Ok(name) = std::str::from_utf8(name) {
                tables.insert(name.to_owned(), table_of(definition));
            }
        });
        extent.rows = 0;
        for (name, table) in tables {
            let Some((root, widths)) = table else {
                extent.pages_lost += 1;
                continue;
            };
            let Some(root) = root else {
                continue; // An empty table has no pages.
            };
            let of_table = self.read_tree(root, widths, &mut |key, value| {
                on_row(&name, key, value);
            });
            extent.rows += of_table.rows;
            extent.pages_lost += of_table.pages_lost;
            extent.rows_lost += of_table.rows_lost;
        }
        extent
    }

    /// All rows below a root.
    fn read_tree(
        &self,
        root: Root,
        widths: Widths,
        on_row: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Extent {
        let mut extent = Extent::default();
        // Last in, first out, and children are put in from the last: so rows come in order.
        let mut waiting = vec![(root.page, root.checksum, 0)];
        while let Some((page, checksum, depth)) = waiting.pop() {
            let bytes = self.read_page(page);
            let node = bytes
                .as_deref()
                .and_then(|bytes| Node::read(bytes, widths, checksum));
            match node {
                Some(Node::Leaf(leaf)) => leaf.for_each(&mut |key, value| {
                    extent.rows += 1;
                    on_row(key, value);
                }),
                Some(Node::Branch(children)) if depth < DEPTH_MAX => {
                    let children = children.into_iter().rev();
                    waiting.extend(children.map(|(page, checksum)| (page, checksum, depth + 1)));
                }
                Some(Node::Branch(_)) | None => extent.pages_lost += 1,
            }
        }
        extent.rows_lost = root.rows.saturating_sub(extent.rows);
        extent
    }

    /// The bytes of a page; `None` if the file has no such page, or the disk fails to give it.
    fn read_page(&self, number: u64) -> Option<Vec<u8>> {
        let order = (number >> 59) as u32;
        if order > ORDER_MAX {
            return None;
        }
        let index = number & (0xF_FFFF >> order);
        let region = (number >> 20) & 0xF_FFFF;
        let bytes = PAGE_BYTES << order;
        let begin =
            PAGE_BYTES + region * self.region_bytes + self.region_header_bytes + index * bytes;
        // What is cut off may be nothing but the unused end of the page.
        let there = self.file_bytes.checked_sub(begin)?.min(bytes);
        let mut page = vec![0; there as usize];
        self.file.read_exact_at(&mut page, begin).ok()?;
        Some(page)
    }
}

/// The root of the tables of a state, if the state's own checksum is right.
fn slot_root(slot: &[u8]) -> Option<Root> {
    let slot = slot.get(..SLOT_BYTES)?;
    let is_whole = u128_at(slot, SLOT_CHECKSUM)? == xxh3_128(&slot[..SLOT_CHECKSUM]);
    let has_root = slot[1] != 0;
    if !is_whole || !has_root || slot[0] != FILE_FORMAT {
        return None;
    }
    Root::read(&slot[8..])
}

/// The root of a table, unless it is empty, and its widths; `None` if the definition makes no
/// sense.
fn table_of(definition: &[u8]) -> Option<(Option<Root>, Widths)> {
    let rows = u64_at(definition, 1)?;
    let root_at = 10;
    let root = match definition.get(9)? {
        0 => None,
        _ => Some(Root {
            rows,
            ..Root::read(definition.get(root_at..)?)?
        }),
    };
    let width = |at: usize| -> Option<Option<usize>> {
        match definition.get(at)? {
            0 => Some(None),
            _ => Some(Some(u32_at(definition, at + 1)? as usize)),
        }
    };
    let widths_at = root_at + Root::BYTES;
    let widths = Widths {
        key: width(widths_at)?,
        value: width(widths_at + 5)?,
    };
    (definition.first() == Some(&NORMAL_TABLE)).then_some((root, widths))
}

/// A page whose checksum was right.
enum Node<'a> {
    Leaf(Leaf<'a>),
    /// Pages and their checksums.
    Branch(Vec<(u64, u128)>),
}

impl<'a> Node<'a> {
    fn read(bytes: &'a [u8], widths: Widths, checksum: u128) -> Option<Node<'a>> {
        let count = usize::from(u16::from_le_bytes([*bytes.get(2)?, *bytes.get(3)?]));
        let last = count.checked_sub(1)?;
        match bytes[0] {
            LEAF => {
                let leaf = Leaf {
                    bytes,
                    widths,
                    count,
                };
                let whole = bytes.get(..leaf.value_end(last)?)?;
                (xxh3_128(whole) == checksum).then_some(Node::Leaf(leaf))
            }
            BRANCH => {
                let pages_at = 8 + 16 * (count + 1);
                let keys_at = pages_at + 8 * (count + 1);
                let end = match widths.key {
                    Some(width) => keys_at + width.checked_mul(count)?,
                    None => u32_at(bytes, keys_at + 4 * last)? as usize,
                };
                let whole = bytes.get(..end)?;
                if xxh3_128(whole) != checksum {
                    return None;
                }
                let children = (0..=count).map(|child| {
                    let page = u64_at(whole, pages_at + 8 * child)?;
                    Some((page, u128_at(whole, 8 + 16 * child)?))
                });
                children.collect::<Option<_>>().map(Node::Branch)
            }
            _ => None,
        }
    }
}

struct Leaf<'a> {
    bytes: &'a [u8],
    widths: Widths,
    /// Never 0.
    count: usize,
}

impl<'a> Leaf<'a> {
    fn for_each(&self, on_row: &mut dyn FnMut(&'a [u8], &'a [u8])) {
        for n in 0..self.count {
            let row = (|| {
                let key_begin = match n {
                    0 => self.keys_at(),
                    _ => self.key_end(n - 1)?,
                };
                let value_begin = match n {
                    0 => self.key_end(self.count - 1)?,
                    _ => self.value_end(n - 1)?,
                };
                let key = self.bytes.get(key_begin..self.key_end(n)?)?;
                let value = self.bytes.get(value_begin..self.value_end(n)?)?;
                Some((key, value))
            })();
            if let Some((key, value)) = row {
                on_row(key, value);
            }
        }
    }

    fn keys_at(&self) -> usize {
        let variable = [self.widths.key, self.widths.value];
        4 + 4 * self.count * variable.iter().filter(|width| width.is_none()).count()
    }

    fn key_end(&self, n: usize) -> Option<usize> {
        match self.widths.key {
            Some(width) => Some(self.keys_at() + width.checked_mul(n + 1)?),
            None => Some(u32_at(self.bytes, 4 + 4 * n)? as usize),
        }
    }

    fn value_end(&self, n: usize) -> Option<usize> {
        match self.widths.value {
            Some(width) => self
                .key_end(self.count - 1)?
                .checked_add(width.checked_mul(n + 1)?),
            None => {
                let keys = if self.widths.key.is_none() {
                    self.count
                } else {
                    0
                };
                Some(u32_at(self.bytes, 4 + 4 * (keys + n))? as usize)
            }
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

fn u128_at(bytes: &[u8], at: usize) -> Option<u128> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u128::from_le_bytes(*bytes))
}
