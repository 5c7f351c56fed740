//! The ordinals of a kept session's QoS 2 messages: which of them may come again, and which have a
//! durable receipt. See `seen.rs`.

use crate::change::OVER;
use crate::seen::{JUMP, Once};
use crate::{SessionKey, Time};
use mqtt_v5_codec::PacketId;

/// The numbers of one publisher.
///
/// After a crash a client first sends again what was under way, then what is new (4.4, 4.6). By
/// which ordinals others know what is sent again is not known: so the receipt of a repetition does
/// not raise the floor, and the first receipt of something new takes it past all of them.
#[derive(Debug)]
pub struct Numbering {
    /// The last one given.
    last: u64,
    /// Those up to this one have a durable receipt, or never will.
    floor: u64,
    /// The highest ordinal in each batch that is not durable, ascending: two at most.
    rising: Vec<(u64, u64)>,
    /// The floor of the former process.
    recovered_floor: u64,
    /// The ordinals of this process are above this one, those of former processes are not.
    base: u64,
    /// The session is of a former process: identifiers may stand for messages of it.
    is_recovered: bool,
    /// Identifiers, as bits, whose meaning is of this process.
    known: Vec<u64>,
    /// Messages that some took and others refused, and whose publisher sends them again.
    refused: Vec<(PacketId, u64)>,
    /// Messages of a former process that are between PUBLISH and PUBREL.
    repeated: Vec<PacketId>,
    /// Such messages that have been released, with the ordinal up to which copies elsewhere are
    /// of them; kept until the floor has passed them all.
    over: Vec<(PacketId, u64)>,
}

impl Default for Numbering {
    fn default() -> Numbering {
        Numbering {
            last: JUMP,
            floor: 0,
            rising: Vec::new(),
            recovered_floor: 0,
            base: JUMP,
            is_recovered: false,
            known: Vec::new(),
            refused: Vec::new(),
            repeated: Vec::new(),
            over: Vec::new(),
        }
    }
}

/// One more message, counted.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// What goes with the message.
    pub once: Once,
    /// The ordinal to put down with its receipt.
    pub receipt: u64,
}

impl Numbering {
    /// One more message.
    pub fn count(
        &mut self,
        publisher: SessionKey,
        packet_id: PacketId,
        is_repeat: bool,
        is_committed: impl Fn(u64) -> bool,
    ) -> Counted {
        while let Some((ordinal, batch)) = self.rising.first()
            && is_committed(*batch)
        {
            self.floor = *ordinal;
            self.rising.remove(0);
        }
        self.last += 1;
        let refused = self.refused.iter().find(|(id, _)| *id == packet_id);
        let repeats_above = match refused {
            Some((_, ordinal)) => Some(ordinal - 1),
            None if is_repeat && self.is_recovered && !self.is_known(packet_id) => {
                self.repeated.push(packet_id);
                let over = self.over.iter().find(|(id, _)| *id == packet_id);
                Some(over.map_or(0, |(_, over)| *over).max(self.recovered_floor))
            }
            None => None,
        };
        let receipt = match self.repeated.contains(&packet_id) {
            true => self.recovered_floor.max(1),
            false => self.last,
        };
        let lowest = self.refused.iter().map(|(_, ordinal)| ordinal - 1).min();
        let once = Once {
            publisher,
            packet_id,
            ordinal: self.last,
            repeats_above: repeats_above.filter(|_| is_repeat),
            floor: lowest.map_or(self.floor, |lowest| self.floor.min(lowest)),
            recovered_floor: self.recovered_floor,
            base: self.base,
        };
        Counted { once, receipt }
    }

    /// A message has been released. If copies of it may be known by ordinals above the floor,
    /// returns the ordinal up to which they are: it is to be kept.
    pub fn on_over(&mut self, packet_id: PacketId) -> Option<u64> {
        let at = self.repeated.iter().position(|id| *id == packet_id)?;
        self.repeated.swap_remove(at);
        if self.has_passed() {
            return None;
        }
        self.over.retain(|(id, _)| *id != packet_id);
        self.over.push((packet_id, self.last));
        Some(self.last)
    }

    /// Identifiers for which [`Numbering::on_over`] has returned an ordinal that need not be kept
    /// any more.
    pub fn forget_over(&mut self) -> Vec<PacketId> {
        if self.over.is_empty() || !self.has_passed() {
            return Vec::new();
        }
        self.over.drain(..).map(|(id, _)| id).collect()
    }

    /// Whether something new has a durable receipt.
    fn has_passed(&self) -> bool {
        self.floor > self.recovered_floor.max(1)
    }

    /// What a former process kept of an identifier: that it was received, or released.
    pub fn recover_received(&mut self, packet_id: PacketId, ordinal: u64) {
        match ordinal & OVER {
            0 => self.repeated.push(packet_id),
            _ => self.over.push((packet_id, ordinal & !OVER)),
        }
    }

    /// The receipt of the message with this ordinal is in a batch.
    pub fn on_receipt(&mut self, packet_id: PacketId, ordinal: u64, batch: u64) {
        self.settle(packet_id);
        if ordinal <= self.floor.max(1) {
            return;
        }
        match self.rising.last_mut() {
            Some(last) if last.1 == batch => last.0 = last.0.max(ordinal),
            _ => self.rising.push((ordinal, batch)),
        }
    }

    /// The exchange is over: the next message with this identifier is another one.
    pub fn settle(&mut self, packet_id: PacketId) {
        self.refused.retain(|(id, _)| *id != packet_id);
        if self.is_recovered {
            let (word, bit) = place(packet_id);
            if self.known.len() <= word {
                self.known.resize(word + 1, 0);
            }
            self.known[word] |= bit;
        }
    }

    /// Not everybody took the message, and its publisher does not know: it sends it again.
    pub fn on_refused(&mut self, packet_id: PacketId, ordinal: u64) {
        // Those who took it the first time know it by its first ordinal.
        if !self.refused.iter().any(|(id, _)| *id == packet_id) {
            self.refused.push((packet_id, ordinal));
        }
    }

    /// Goes on where a former process stopped, if this is a session of one.
    pub fn recover(&mut self, floor: u64, started: Time) {
        self.is_recovered = true;
        self.recovered_floor = self.recovered_floor.max(floor);
        self.floor = self.recovered_floor;
        // Above all that former processes gave, also while the floor was this one already. How
        // many is in no file, but they began earlier, and nobody sends a message in each
        // microsecond.
        self.base = match started.0 > self.recovered_floor {
            true => started.0,
            false => self.recovered_floor + JUMP, // The clock is wrong.
        };
        self.last = self.base;
    }

    fn is_known(&self, packet_id: PacketId) -> bool {
        let (word, bit) = place(packet_id);
        self.known.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

fn place(packet_id: PacketId) -> (usize, u64) {
    let number = packet_id.number();
    (usize::from(number / 64), 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    const FLOOR: u64 = 9_999_990;

    /// What a process that began then does first with a session whose floor has not risen.
    fn recovered(started: u64) -> Numbering {
        let mut numbering = Numbering::default();
        numbering.recover(FLOOR, Time(started));
        numbering
    }

    fn repeat(numbering: &mut Numbering, packet_id: PacketId) -> Counted {
        numbering.count(SessionKey(1), packet_id, true, |_| true)
    }

    #[test]
    fn what_is_released_is_not_taken_for_what_comes_next_after_any_number_of_crashes() {
        // It is sent again late in one process, and early in the next, where it is released.
        let mut second = recovered(10_000_000);
        let late = (1..=5).map(|n| repeat(&mut second, id(n))).last().unwrap();
        let mut third = recovered(10_001_000);
        repeat(&mut third, id(5));
        third.on_receipt(id(5), FLOOR, 1);
        let over = third.on_over(id(5)).unwrap();
        let mut fourth = recovered(10_002_000);
        fourth.recover_received(id(5), over | OVER);
        let next = repeat(&mut fourth, id(5)).once;
        assert!(next.repeats_above.unwrap() >= late.once.ordinal);
        assert!(next.ordinal > over);
    }
}
