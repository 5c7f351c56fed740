//! A disk that loses power and fills up: what has not been synced is kept, lost, reordered or
//! torn.
//!
//! It is a `StorageBackend` of redb, so the real store runs on it. One sector of
//! [`SECTOR_BYTES`] is written whole or not at all; nothing else is promised before a sync.

use crate::chance::Chance;
use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use storage::StorageBackend;

/// What is written whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Something that was done and not synced.
#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
struct State {
    /// What no loss of power takes away.
    synced: Vec<u8>,
    /// What reads see.
    seen: Vec<u8>,
    unsynced: Vec<Change>,
    /// Writes until there is no room; `None`: there is always some.
    room: Option<u64>,
}

/// What disks run on; clones are the same power.
#[derive(Clone, Debug, Default)]
pub struct Power(Arc<Mutex<Option<u64>>>);

impl Power {
    fn left(&self) -> MutexGuard<'_, Option<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It goes after so many more operations that change something; `None`: it stays.
    pub fn fail_after(&self, operations: Option<u64>) {
        *self.left() = operations;
    }

    /// Whether it has gone.
    pub fn is_gone(&self) -> bool {
        *self.left() == Some(0)
    }

    /// One operation is done.
    ///
    /// # Errors
    /// There is no power for it.
    pub fn spend(&self) -> Result<()> {
        match &mut *self.left() {
            None => Ok(()),
            Some(0) => Err(Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

/// A disk with one file on it; clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>, Power);

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length, 0),
        Change::Write(offset, data) => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
    }
}

/// The parts of a write that reach the disk each for themselves.
fn sectors(change: &Change) -> Vec<Change> {
    let Change::Write(offset, data) = change else {
        return vec![change.clone()];
    };
    let mut parts = Vec::new();
    let (mut at, mut rest) = (*offset, &data[..]);
    while !rest.is_empty() {
        let room = SECTOR_BYTES - at % SECTOR_BYTES;
        let (part, more) = rest.split_at(room.min(rest.len()));
        parts.push(Change::Write(at, part.to_vec()));
        (at, rest) = (at + part.len(), more);
    }
    parts
}

impl State {
    fn holding(bytes: Vec<u8>) -> State {
        State {
            seen: bytes.clone(),
            synced: bytes,
            ..State::default()
        }
    }
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes after so many more operations that change something.
    pub fn fail_after(&self, operations: u64) {
        self.1.fail_after(Some(operations));
    }

    /// There is no room after so many more writes; `None`: there is always some.
    pub fn fill_after(&self, writes: Option<u64>) {
        self.state().room = writes;
    }

    /// An empty one that runs on this.
    pub fn on(power: &Power) -> Disk {
        Disk(Arc::default(), power.clone())
    }

    /// Another with what reads see on this one.
    pub fn copied(&self) -> Disk {
        let copy = Disk::default();
        *copy.state() = State::holding(self.state().seen.clone());
        copy
    }

    /// The power was lost, and is back. There is room again.
    pub fn lose_power(&self, chance: &mut Chance) {
        let bytes = self.left_after_power_loss(chance);
        *self.state() = State::holding(bytes);
        self.1.fail_after(None);
    }

    fn left_after_power_loss(&self, chance: &mut Chance) -> Vec<u8> {
        let state = self.state();
        let mut bytes = state.synced.clone();
        let unsynced = &state.unsynced;
        match chance.below(4) {
            // Nothing of it, all of it, the beginning, or any sectors: what was written later may
            // be there and what was written earlier not, as if the order had been another.
            0 => {}
            1 => unsynced.iter().for_each(|change| apply(&mut bytes, change)),
            2 if !unsynced.is_empty() => {
                let whole = chance.index(unsynced.len());
                let torn = sectors(&unsynced[whole]);
                let parts = chance.index(torn.len() + 1);
                let kept = unsynced[..whole].iter().chain(&torn[..parts]);
                kept.for_each(|change| apply(&mut bytes, change));
            }
            _ => {
                let mut parts: Vec<Change> = unsynced.iter().flat_map(sectors).collect();
                let percent = chance.pick(&[5, 50, 95]);
                parts.retain(|_| chance.percent(percent));
                parts.iter().for_each(|change| apply(&mut bytes, change));
            }
        }
        bytes
    }

    /// Does something that changes the file, if there is power.
    fn change(&self, change: Change) -> Result<()> {
        self.1.spend()?;
        let mut state = self.state();
        match &mut state.room {
            None => {}
            Some(0) => return Err(ErrorKind::StorageFull.into()),
            Some(left) => *left -= 1,
        }
        apply(&mut state.seen, &change);
        state.unsynced.push(change);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.state().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let state = self.state();
        let offset = offset as usize;
        let bytes = state.seen.get(offset..offset + out.len());
        let bytes = bytes.ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<()> {
        self.change(Change::Length(length as usize))
    }

    fn sync_data(&self) -> Result<()> {
        self.1.spend()?;
        let mut state = self.state();
        for change in std::mem::take(&mut state.unsynced) {
            apply(&mut state.synced, &change);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.change(Change::Write(offset as usize, data.to_vec()))
    }
}
