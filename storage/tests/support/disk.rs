//! A disk in memory that can be told to fail, and that can be looked at as after a crash.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use storage::{Source, StorageBackend};

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// So many operations of this kind still succeed.
    writes_left: Option<(u64, ErrorKind)>,
    syncs_left: Option<(u64, ErrorKind)>,
    lengths_left: Option<(u64, ErrorKind)>,
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

impl Disk {
    pub fn source(&self) -> Source {
        let disk = self.clone();
        Source::backend("disk".to_owned(), None, move || {
            Ok(Box::new(disk.clone()) as Box<dyn StorageBackend>)
        })
    }

    /// Writing fails after so many more times.
    pub fn fail_writes(&self, after: u64, kind: ErrorKind) {
        self.state.lock().unwrap().writes_left = Some((after, kind));
    }

    pub fn fail_syncs(&self, after: u64, kind: ErrorKind) {
        self.state.lock().unwrap().syncs_left = Some((after, kind));
    }

    /// Growing fails after so many more times.
    pub fn fail_lengths(&self, after: u64, kind: ErrorKind) {
        self.state.lock().unwrap().lengths_left = Some((after, kind));
    }

    /// All is well again.
    pub fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        state.writes_left = None;
        state.syncs_left = None;
        state.lengths_left = None;
    }

    /// What is there, as a disk of its own.
    pub fn copy(&self) -> Disk {
        let bytes = self.state.lock().unwrap().bytes.clone();
        let state = State {
            bytes,
            ..State::default()
        };
        Disk {
            state: Arc::new(Mutex::new(state)),
        }
    }
}

fn spend(left: &mut Option<(u64, ErrorKind)>) -> io::Result<()> {
    match left {
        Some((0, kind)) => Err(io::Error::from(*kind)),
        Some((count, _)) => {
            *count -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        let offset = offset as usize;
        let bytes = state
            .bytes
            .get(offset..offset + out.len())
            .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        spend(&mut state.lengths_left)?;
        state.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        spend(&mut self.state.lock().unwrap().syncs_left)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        spend(&mut state.writes_left)?;
        let offset = offset as usize;
        let end = offset + data.len();
        if end > state.bytes.len() {
            state.bytes.resize(end, 0);
        }
        state.bytes[offset..end].copy_from_slice(data);
        Ok(())
    }
}
