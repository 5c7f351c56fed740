//! QoS 2 messages that come a second time, because their first receipt was lost with a process or
//! a connection.
//!
//! A publisher's home numbers the QoS 2 messages of each kept session: their *ordinals*. A kept
//! subscriber remembers those that it has and that may come again. They cannot once the
//! publisher's receipt is durable: that is the *floor*, which comes with every message.
//!
//! Bounded: [`SEEN_MAX`] messages per subscriber, the oldest forgotten first.

use crate::SessionKey;
use crate::map::{Map, map_with_seed};
use mqtt_v5_codec::PacketId;
use std::collections::VecDeque;

/// How far a session's ordinals go on after the floor it recovered with, at least.
pub const JUMP: u64 = 1 << 20;
/// Messages that one subscriber remembers. Only those matter whose receipts are under way.
const SEEN_MAX: usize = 16_384;

/// What makes a QoS 2 message of a kept session known again when it comes a second time.
#[derive(Clone, Copy, Debug)]
pub struct Once {
    /// Whose.
    pub publisher: SessionKey,
    /// The publisher's.
    pub packet_id: PacketId,
    /// The publisher's count of such messages.
    pub ordinal: u64,
    /// It may be a repetition of a message with an ordinal above this one.
    pub repeats_above: Option<u64>,
    /// Messages up to this count do not come again, but for those of the former process.
    pub floor: u64,
    /// The floor with which the session was recovered: messages of the former process are right
    /// above it.
    pub recovered_floor: u64,
    /// Those of the former process go up to this one.
    pub base: u64,
}

impl Once {
    /// Whether a message with this ordinal can come again.
    fn may_come_again(&self, ordinal: u64) -> bool {
        let is_former = ordinal > self.recovered_floor && ordinal <= self.base;
        ordinal > self.floor || is_former
    }
}

/// The QoS 2 messages that one subscriber has and that may come again.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of each publisher.
    entries: Option<Box<Map<SessionKey, Vec<Entry>>>>,
    /// All of them in the order in which they came, and some that are forgotten.
    order: VecDeque<(SessionKey, Entry)>,
    count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    packet_id: PacketId,
    ordinal: u64,
}

impl Seen {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether this is the repetition of a message that the subscriber has.
    pub fn has(&self, once: &Once) -> bool {
        let Some(above) = once.repeats_above else {
            return false;
        };
        let entries = self.entries.as_ref();
        let entries = entries.and_then(|entries| entries.get(&once.publisher));
        entries.is_some_and(|entries| {
            let is_it = |entry: &Entry| entry.packet_id == once.packet_id && entry.ordinal > above;
            entries.iter().any(is_it)
        })
    }

    /// Adds one; names those that it makes superfluous.
    pub fn insert(&mut self, once: &Once, mut forget: impl FnMut(SessionKey, PacketId)) {
        let new = Entry {
            packet_id: once.packet_id,
            ordinal: once.ordinal,
        };
        // Publishers' keys are drawn by us: nobody can choose them.
        let all = self
            .entries
            .get_or_insert_with(|| Box::new(map_with_seed(0)));
        let entries = all.entry(once.publisher).or_default();
        let before = entries.len();
        entries.retain(|old| {
            if old.packet_id == new.packet_id {
                return false; // Put over in the store.
            }
            let stays = once.may_come_again(old.ordinal);
            if !stays {
                forget(once.publisher, old.packet_id);
            }
            stays
        });
        entries.push(new);
        self.count = self.count + entries.len() - before;
        self.order.push_back((once.publisher, new));
        while self.count > SEEN_MAX || self.order.len() > 2 * self.count + SEEN_MAX {
            self.forget_oldest(&mut forget);
        }
    }

    fn forget_oldest(&mut self, forget: &mut impl FnMut(SessionKey, PacketId)) {
        let (Some((publisher, old)), Some(all)) = (self.order.pop_front(), &mut self.entries)
        else {
            return;
        };
        let Some(entries) = all.get_mut(&publisher) else {
            return;
        };
        let Some(at) = entries.iter().position(|entry| *entry == old) else {
            return;
        };
        if self.count <= SEEN_MAX {
            self.order.push_back((publisher, old)); // Only the forgotten are swept out.
            return;
        }
        entries.swap_remove(at);
        if entries.is_empty() {
            all.remove(&publisher);
        }
        self.count -= 1;
        forget(publisher, old.packet_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(publisher: u64, packet_id: u16, ordinal: u64, floor: u64) -> Once {
        Once {
            publisher: SessionKey(publisher),
            packet_id: PacketId::new(packet_id).unwrap(),
            ordinal,
            repeats_above: Some(0),
            floor,
            recovered_floor: 0,
            base: JUMP,
        }
    }

    #[test]
    fn what_has_a_durable_receipt_is_forgotten() {
        let mut seen = Seen::default();
        let base = JUMP;
        for n in 1..=10 {
            let mut gone = Vec::new();
            let message = once(7, n as u16, base + n, base + n.saturating_sub(3));
            seen.insert(&message, |_, id| gone.push(id.number()));
            assert_eq!(gone.len(), usize::from(n > 3), "{n}");
        }
        assert_eq!(seen.count, 3);
        assert!(seen.has(&once(7, 9, 0, 0)) && !seen.has(&once(7, 3, 0, 0)));
        assert!(!seen.has(&once(8, 9, 0, 0)));
    }

    #[test]
    fn the_oldest_of_very_many_publishers_are_forgotten() {
        let mut seen = Seen::default();
        let mut gone = 0;
        for publisher in 1..=3 * SEEN_MAX as u64 {
            seen.insert(&once(publisher, 1, JUMP + 1, JUMP), |_, _| gone += 1);
        }
        assert_eq!((seen.count, gone), (SEEN_MAX, 2 * SEEN_MAX));
        assert!(seen.has(&once(3 * SEEN_MAX as u64, 1, 0, 0)));
        // One that sends for ever leaves no trail.
        for n in 0..10 * SEEN_MAX as u64 {
            let message = once(1, (n % 60_000) as u16 + 1, JUMP + 1 + n, JUMP + n);
            seen.insert(&message, |_, _| {});
        }
        assert!(seen.order.len() <= 3 * SEEN_MAX + 2, "{}", seen.order.len());
    }
}
