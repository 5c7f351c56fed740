//! Listeners that come and go while the shards run.
//!
//! Whoever holds [`Doors`] opens and closes them from any thread; each shard hears of it by a channel
//! of its own and looks into it when a counter has moved. A listener that is closed keeps the
//! connections that came by it. How many connections a shard holds is told by the same way.
//! Bounded: at most [`DOORS_MAX`] listeners.

use crate::StartError;
use crate::listen::{self, Listening};
use crate::server::Stopper;
use shard::Listener;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// More listeners than anybody has.
const DOORS_MAX: usize = 1_024;

/// What a shard is told about its listeners.
#[derive(Debug)]
pub(crate) enum Change {
    /// Accept from these, too.
    Open(Vec<Listening>),
    /// Accept no more from the listener of this number.
    Close(u32),
    /// Who comes by the listener of this number comes by one of this kind.
    Rename(u32, Listener),
    /// Hold so many connections at most.
    Limit(u32),
}

/// A listener that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    number: u32,
    /// What is spoken there.
    pub kind: Listener,
    /// Where.
    pub address: SocketAddr,
}

/// The listeners of a server.
#[derive(Clone, Debug)]
pub struct Doors {
    inner: Arc<Mutex<Inner>>,
    stopper: Stopper,
}

#[derive(Debug)]
struct Inner {
    doors: Vec<Door>,
    next: u32,
    /// One for each shard.
    shards: Vec<Sender<Change>>,
}

impl Doors {
    /// Of shards that accept from these already, which have the numbers from 0.
    pub(crate) fn new(
        bound: &[(Listener, SocketAddr)],
        shards: Vec<Sender<Change>>,
        stopper: Stopper,
    ) -> Doors {
        let doors: Vec<Door> = (0..)
            .zip(bound)
            .map(|(number, &(kind, address))| Door {
                number,
                kind,
                address,
            })
            .collect();
        let next = doors.len() as u32;
        let inner = Inner {
            doors,
            next,
            shards,
        };
        Doors {
            inner: Arc::new(Mutex::new(inner)),
            stopper,
        }
    }

    /// What is open, in the order in which it was opened.
    pub fn all(&self) -> Vec<Door> {
        self.locked(|inner| inner.doors.clone())
    }

    /// Opens further listeners, all or none; port 0 picks a free one. Returns them with the ports
    /// that were picked. Errs if an address cannot be had.
    pub fn open(&self, wanted: &[(Listener, SocketAddr)]) -> Result<Vec<Door>, StartError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let opened = self.locked(|inner| inner.open(wanted))?;
        self.stopper.announce_doors();
        Ok(opened)
    }

    /// Closes a listener; connections that came by it stay.
    pub fn close(&self, door: Door) {
        self.locked(|inner| {
            inner.doors.retain(|open| open.number != door.number);
            inner.tell(|| Change::Close(door.number));
        });
        self.stopper.announce_doors();
    }

    /// Who connects to a listener from now on comes by one of another kind.
    pub fn rename(&self, door: Door, kind: Listener) {
        self.locked(|inner| {
            let open = inner
                .doors
                .iter_mut()
                .find(|open| open.number == door.number);
            if let Some(open) = open {
                open.kind = kind;
            }
            inner.tell(|| Change::Rename(door.number, kind));
        });
        self.stopper.announce_doors();
    }

    /// Has each shard hold so many connections at most, 1 or more; those that it holds already stay.
    pub fn limit_connections(&self, most: u32) {
        self.locked(|inner| inner.tell(|| Change::Limit(most.max(1))));
        self.stopper.announce_doors();
    }

    fn locked<T>(&self, with: impl FnOnce(&mut Inner) -> T) -> T {
        // Each change is whole before anything in it could panic.
        with(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn open(&mut self, wanted: &[(Listener, SocketAddr)]) -> Result<Vec<Door>, StartError> {
        if self.doors.len() + wanted.len() > DOORS_MAX {
            let why = format!("more than {DOORS_MAX} listeners");
            return Err(StartError::Config(why));
        }
        let mut opened = listen::bind_all(wanted, &[], self.shards.len())?;
        listen::listen_all(&opened)?;
        let first = self.next;
        self.next += wanted.len() as u32;
        let bound = (first..).zip(&opened.bound);
        let doors: Vec<Door> = bound
            .map(|(number, &(kind, address))| Door {
                number,
                kind,
                address,
            })
            .collect();
        self.doors.extend(&doors);
        opened.number_from(first);
        for (shard, sockets) in self.shards.iter().zip(opened.sockets) {
            // A shard's thread that has ended accepts nothing; the server says why it has.
            let _ = shard.send(Change::Open(sockets));
        }
        Ok(doors)
    }

    fn tell(&self, change: impl Fn() -> Change) {
        for shard in &self.shards {
            // As above.
            let _ = shard.send(change());
        }
    }
}
