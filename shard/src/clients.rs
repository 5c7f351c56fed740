//! Client identifier to session. The identifier itself is kept in the session alone: an entry here
//! is a slot number.
//!
//! Always: exactly the sessions that are not ending are in it.

use crate::map::KeyedHash;
use crate::session::Session;
use crate::slots::Slots;
use hashbrown::HashTable;

/// The table.
pub struct Clients {
    table: HashTable<u32>,
    hash: KeyedHash,
}

impl Clients {
    /// Empty; the seed must be unknown to clients.
    pub fn new(seed: u64) -> Clients {
        Clients {
            table: HashTable::new(),
            hash: KeyedHash::new(seed),
        }
    }

    /// The slot of a client's session.
    pub fn find(&self, client_id: &str, sessions: &Slots<Session>) -> Option<u32> {
        let hash = self.hash.bytes(client_id.as_bytes());
        self.table
            .find(hash, |index| &*sessions.at(*index).client_id == client_id)
            .copied()
    }

    /// Adds a session that is in its slot already, and not here.
    pub fn insert(&mut self, index: u32, sessions: &Slots<Session>) {
        let hash_of = |index: u32| self.hash.bytes(sessions.at(index).client_id.as_bytes());
        self.table
            .insert_unique(hash_of(index), index, |index| hash_of(*index));
    }

    /// Removes a session that is still in its slot.
    pub fn remove(&mut self, index: u32, sessions: &Slots<Session>) {
        let hash = self.hash.bytes(sessions.at(index).client_id.as_bytes());
        let entry = self.table.find_entry(hash, |known| *known == index);
        let Ok(entry) = entry else {
            panic!("a session that is not ending is in the table")
        };
        entry.remove();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }
}
