//! The ordinals of a kept session's QoS 2 messages: which of them may come again, and which have a
//! durable receipt. See `seen.rs`.

use crate::SessionKey;
use crate::seen::{JUMP, Once};
use mqtt_v5_codec::PacketId;

/// The numbers of one publisher.
#[derive(Debug, Default)]
pub struct Numbering {
    /// The last one given.
    last: u64,
    /// Those up to this one have a durable receipt, or never will.
    floor: u64,
    /// The highest ordinal in each batch that is not durable, ascending: two at most.
    rising: Vec<(u64, u64)>,
    /// The floor of the former process.
    recovered_floor: u64,
    /// The session is of a former process: identifiers may stand for messages of it.
    is_recovered: bool,
    /// Identifiers, as bits, whose meaning is of this process.
    known: Vec<u64>,
    /// Messages that some took and others refused, and whose publisher sends them again.
    refused: Vec<(PacketId, u64)>,
}

impl Numbering {
    /// One more message.
    pub fn count(
        &mut self,
        publisher: SessionKey,
        packet_id: PacketId,
        is_repeat: bool,
        is_committed: impl Fn(u64) -> bool,
    ) -> Once {
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
            None if self.is_recovered && !self.is_known(packet_id) => Some(self.recovered_floor),
            None => None,
        };
        let lowest = self.refused.iter().map(|(_, ordinal)| ordinal - 1).min();
        Once {
            publisher,
            packet_id,
            ordinal: self.last,
            repeats_above: repeats_above.filter(|_| is_repeat),
            floor: lowest.map_or(self.floor, |lowest| self.floor.min(lowest)),
            recovered_floor: self.recovered_floor,
        }
    }

    /// The receipt of the message with this ordinal is in a batch.
    pub fn on_receipt(&mut self, packet_id: PacketId, ordinal: u64, batch: u64) {
        self.settle(packet_id);
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
    pub fn recover(&mut self, floor: u64) {
        self.is_recovered = true;
        self.recovered_floor = self.recovered_floor.max(floor);
        self.floor = self.recovered_floor;
        self.last = self.recovered_floor + JUMP;
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
