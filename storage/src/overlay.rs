//! A file that is read and not touched: what is written to it stays in memory.
//!
//! A file that was not closed can only be read after redb has put it in order, which writes. Over
//! this it can be looked at all the same, also on a disk that takes no writes.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

const BLOCK_BYTES: u64 = 4_096;

type Block = Box<[u8; BLOCK_BYTES as usize]>;

/// A file under what would have been written to it.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// As it would be.
    length: u64,
    /// So much of the file itself still shows; beyond are zeros.
    file_bytes: u64,
    /// What has been written, by number. Bounded by what redb writes to put a file in order.
    blocks: BTreeMap<u64, Block>,
}

impl Overlay {
    pub(crate) fn open(path: &Path) -> io::Result<Overlay> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Overlay {
            file,
            state: Mutex::new(State {
                length,
                file_bytes: length,
                blocks: BTreeMap::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file's bytes from here on, zeros where it has none.
    fn read_file(&self, state: &State, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shown = state
            .file_bytes
            .saturating_sub(offset)
            .min(out.len() as u64);
        let (from_file, beyond) = out.split_at_mut(shown as usize);
        self.file.read_exact_at(from_file, offset)?;
        beyond.fill(0);
        Ok(())
    }
}

/// Cuts a range of bytes where blocks begin: block, offset within it, length.
fn blocks_of(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let block = at / BLOCK_BYTES;
        let next = end.min((block + 1) * BLOCK_BYTES);
        let part = (block, (at % BLOCK_BYTES) as usize, (next - at) as usize);
        at = next;
        Some(part)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset + out.len() as u64 > state.length {
            return Err(io::Error::from(ErrorKind::UnexpectedEof));
        }
        self.read_file(&state, offset, out)?;
        let mut rest = out;
        for (number, begin, length) in blocks_of(offset, rest.len()) {
            let (part, behind) = rest.split_at_mut(length);
            if let Some(block) = state.blocks.get(&number) {
                part.copy_from_slice(&block[begin..begin + length]);
            }
            rest = behind;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if len < state.length {
            state.file_bytes = state.file_bytes.min(len);
            drop(state.blocks.split_off(&len.div_ceil(BLOCK_BYTES)));
            if let Some(block) = state.blocks.get_mut(&(len / BLOCK_BYTES)) {
                block[(len % BLOCK_BYTES) as usize..].fill(0);
            }
        }
        state.length = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.length = state.length.max(offset + data.len() as u64);
        let mut rest = data;
        for (number, begin, length) in blocks_of(offset, data.len()) {
            let (part, behind) = rest.split_at(length);
            if !state.blocks.contains_key(&number) {
                let mut block = Box::new([0; BLOCK_BYTES as usize]);
                self.read_file(&state, number * BLOCK_BYTES, block.as_mut_slice())?;
                state.blocks.insert(number, block);
            }
            let block = state.blocks.get_mut(&number).expect("put there just now");
            block[begin..begin + length].copy_from_slice(part);
            rest = behind;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: u64 = 20_000;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Length(u64),
        Read(u64, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..SMALL, prop::collection::vec(1..255_u8, 1..9_000))
                .prop_map(|(offset, data)| Step::Write(offset, data)),
            (0..SMALL).prop_map(Step::Length),
            (0..SMALL, 0..9_000_usize).prop_map(|(offset, length)| Step::Read(offset, length)),
        ]
    }

    proptest! {
        #[test]
        fn it_reads_as_a_file_would(
            first in prop::collection::vec(1..255_u8, 0..15_000),
            steps in prop::collection::vec(step(), 0..20),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a");
            std::fs::write(&path, &first).unwrap();
            let overlay = Overlay::open(&path).unwrap();
            let mut model = first.clone();
            for step in steps {
                match step {
                    Step::Write(offset, data) => {
                        overlay.write(offset, &data).unwrap();
                        let end = offset as usize + data.len();
                        if end > model.len() {
                            model.resize(end, 0);
                        }
                        model[offset as usize..end].copy_from_slice(&data);
                    }
                    Step::Length(length) => {
                        overlay.set_len(length).unwrap();
                        model.resize(length as usize, 0);
                    }
                    Step::Read(offset, length) => {
                        let mut out = vec![9; length];
                        let expected = model.get(offset as usize..offset as usize + length);
                        let result = overlay.read(offset, &mut out);
                        prop_assert_eq!(result.is_ok(), expected.is_some());
                        if let Some(expected) = expected {
                            prop_assert_eq!(&out, expected);
                        }
                    }
                }
                prop_assert_eq!(overlay.len().unwrap(), model.len() as u64);
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), first);
        }
    }
}
