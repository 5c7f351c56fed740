//! A table of slots with generations: dense, reused, and safe against stale identifiers.
//!
//! Bounded by its callers, each of which checks a limit before it inserts.

use crate::table::Table;

/// One slot.
#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values by slot number.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Table<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots {
            slots: Table::default(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    /// Puts a value into a free slot; returns its number and generation.
    pub fn insert(&mut self, value: T) -> (u32, u32) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                value: None,
            });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        assert!(slot.value.is_none(), "a free slot holds nothing");
        slot.value = Some(value);
        (index, slot.generation)
    }

    /// The value in a slot of this generation.
    pub fn get(&self, index: u32, generation: u32) -> Option<&T> {
        let slot = self.slots.get(index as usize)?;
        if slot.generation == generation {
            slot.value.as_ref()
        } else {
            None
        }
    }

    /// The value in a slot of this generation.
    pub fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation == generation {
            slot.value.as_mut()
        } else {
            None
        }
    }

    /// The value in a slot that the caller knows to be in use.
    pub fn at(&self, index: u32) -> &T {
        self.slots[index as usize]
            .value
            .as_ref()
            .expect("the caller holds a live slot number")
    }

    /// The value in a slot that the caller knows to be in use.
    pub fn at_mut(&mut self, index: u32) -> &mut T {
        self.slots[index as usize]
            .value
            .as_mut()
            .expect("the caller holds a live slot number")
    }

    /// The value in a slot, if it is in use.
    pub fn find(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    /// How many slots there are, in use or not: numbers are below this.
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// The generation of a slot.
    pub fn generation(&self, index: u32) -> u32 {
        self.slots[index as usize].generation
    }

    /// Empties a slot; identifiers of its old generation are stale from here on.
    pub fn remove(&mut self, index: u32) -> T {
        let slot = &mut self.slots[index as usize];
        let value = slot
            .value
            .take()
            .expect("the caller holds a live slot number");
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        value
    }

    /// The value in a slot, if it is in use.
    pub fn peek(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    /// One more than the highest slot number that was ever in use.
    pub fn end(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Slots in use.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All slots in use, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, s)| Some((i as u32, s.value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_identifier_finds_nothing() {
        let mut slots = Slots::default();
        let (index, generation) = slots.insert('a');
        assert_eq!(slots.remove(index), 'a');
        let (again, next) = slots.insert('b');
        assert_eq!(again, index);
        assert_eq!(slots.get(index, generation), None);
        assert_eq!(slots.get(index, next), Some(&'b'));
        assert_eq!(slots.len(), 1);
    }
}
