//! How much of what devices send may be under way on a shard: a message takes its share from the
//! event that brings it until the last of those who are to have it does, here and on the shards that
//! this one has passed it on to.
//!
//! Bounded: one device by [`MESSAGES_OF_ONE`] and [`BYTES_OF_ONE`], all together by [`BYTES_MAX`].
//! Whoever has nothing under way is let in until there are [`EXCESS`] times as many bytes, so that
//! those who flood a shard do not shut out the others.

use crate::DeviceId;
use crate::map::{Map, map_with_seed};

/// Messages of one device.
const MESSAGES_OF_ONE: u32 = 1_024;
/// Bytes of messages of one device, unless it is a single one.
const BYTES_OF_ONE: usize = 8 * 1_048_576;
/// Bytes of messages of all devices of which some have more than one under way.
const BYTES_MAX: usize = 64 * 1_048_576;
/// See above.
const EXCESS: usize = 4;
/// Beyond the others, for what happens to the device itself: who floods a shard can still be
/// configured and unregistered.
const OWN_EVENTS: u32 = 16;
/// What a message takes beside its bytes.
const OVERHEAD: usize = 512;

/// What one device has under way.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    messages: u32,
    bytes: usize,
}

/// The shares of all devices.
#[derive(Debug)]
pub(crate) struct Room {
    by_sender: Map<DeviceId, Share>,
    /// By the entry that awaits the last answer.
    held: Map<u32, (DeviceId, usize)>,
    bytes: usize,
}

impl Room {
    /// Empty.
    pub fn new(seed: u64) -> Room {
        Room {
            by_sender: map_with_seed(seed),
            held: map_with_seed(seed),
            bytes: 0,
        }
    }

    /// Whether this device may have one more message under way.
    pub fn has_place_for(&self, sender: DeviceId) -> bool {
        self.has_place(sender, 0)
    }

    /// Whether something may happen to this device that others are to hear of.
    pub fn has_place_for_event_of(&self, device: DeviceId) -> bool {
        self.has_place(device, OWN_EVENTS)
    }

    fn has_place(&self, sender: DeviceId, more: u32) -> bool {
        match self.by_sender.get(&sender) {
            None => self.bytes < EXCESS * BYTES_MAX,
            Some(share) if more > 0 => {
                share.messages < MESSAGES_OF_ONE + more && self.bytes < EXCESS * BYTES_MAX
            }
            Some(share) => {
                share.messages < MESSAGES_OF_ONE
                    && share.bytes < BYTES_OF_ONE
                    && self.bytes < BYTES_MAX
            }
        }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    /// A message of so many bytes is under way until its entry has been answered.
    pub fn hold(&mut self, pending: u32, sender: DeviceId, bytes: usize) {
        let bytes = bytes + OVERHEAD;
        let old = self.held.insert(pending, (sender, bytes));
        assert!(old.is_none(), "an entry is of one message");
        let share = self.by_sender.entry(sender).or_default();
        share.messages += 1;
        share.bytes += bytes;
        self.bytes += bytes;
    }

    /// An entry has its last answer.
    pub fn give_back(&mut self, pending: u32) {
        if self.held.is_empty() {
            return;
        }
        let Some((sender, bytes)) = self.held.remove(&pending) else {
            return;
        };
        self.bytes -= bytes;
        let share = self.by_sender.get_mut(&sender).expect("it holds something");
        share.messages -= 1;
        share.bytes -= bytes;
        if share.messages == 0 {
            self.by_sender.remove(&sender);
        }
    }

    /// Asserts that the sums are right.
    pub fn check(&self) {
        let messages: u32 = self.by_sender.values().map(|share| share.messages).sum();
        assert_eq!(messages as usize, self.held.len());
        let bytes: usize = self.by_sender.values().map(|share| share.bytes).sum();
        assert_eq!(bytes, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8) -> DeviceId {
        DeviceId([number; 16])
    }

    #[test]
    fn one_device_does_not_shut_out_others() {
        let mut room = Room::new(1);
        for pending in 0..MESSAGES_OF_ONE {
            assert!(room.has_place_for(device(1)));
            room.hold(pending, device(1), 10);
        }
        assert!(!room.has_place_for(device(1)));
        assert!(room.has_place_for_event_of(device(1)));
        assert!(room.has_place_for(device(2)));
        room.check();
        room.give_back(7);
        room.give_back(7);
        assert!(room.has_place_for(device(1)));
        for pending in 0..MESSAGES_OF_ONE {
            room.give_back(pending);
        }
        room.check();
        assert!(room.by_sender.is_empty() && room.bytes == 0);
    }

    #[test]
    fn bytes_are_bounded_for_one_and_for_all() {
        let mut room = Room::new(1);
        let mut pending = 0;
        let mut hold = |room: &mut Room, number| {
            pending += 1;
            room.hold(pending, device(number), BYTES_OF_ONE);
        };
        hold(&mut room, 0);
        assert!(!room.has_place_for(device(0)));
        assert!(room.has_place_for_event_of(device(0)));
        for number in 1..32 {
            assert!(room.has_place_for(device(number)), "{number}");
            hold(&mut room, number);
        }
        assert!(!room.has_place_for(device(99)));
        room.check();
    }
}
