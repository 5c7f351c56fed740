//! The connections of one shard's driver: a dense table of slots, reused, each use with a
//! generation of its own.
//!
//! A slot is freed only when nothing in the kernel refers to it any more, and is not given out
//! again before all effects of the turn are carried out. Bounded by `Tuning::connections_max`.

use shard::{ConnectionId, Handoff, ShardId};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody's.
    Free,
    /// The shard knows it.
    Open,
    /// The rest of the output is being sent; then writing is shut down.
    Flushing,
    /// Writing is shut down; what the peer still sends is discarded.
    Lingering,
    /// On its way to another shard, waiting for operations to end.
    Leaving,
    /// To be closed, waiting for operations to end.
    Closing,
}

/// One bit of [`Slot::flags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flag(u16);

impl Flag {
    /// The shard does not want to be given bytes.
    pub(crate) const PAUSED: Flag = Flag(1);
    /// The end of the stream, or its failure, has been seen: there is nothing left to read.
    pub(crate) const ENDED: Flag = Flag(1 << 1);
    /// Output has been handed to the backend and has not come back.
    pub(crate) const SENDING: Flag = Flag(1 << 2);
    /// In the list of slots to settle at the end of the turn.
    pub(crate) const TOUCHED: Flag = Flag(1 << 3);
    /// epoll: bytes may be waiting in the kernel.
    pub(crate) const READABLE: Flag = Flag(1 << 4);
    /// epoll: the peer has finished or the socket failed, so reading goes on to the very end.
    pub(crate) const HUNG_UP: Flag = Flag(1 << 5);
    /// epoll: in the queue of slots to read from.
    pub(crate) const QUEUED: Flag = Flag(1 << 6);
    /// io_uring: a receive is in flight.
    pub(crate) const RECEIVING: Flag = Flag(1 << 7);
    /// io_uring: a poll is in flight.
    pub(crate) const POLLING: Flag = Flag(1 << 8);
    /// io_uring: a cancellation is in flight.
    pub(crate) const CANCELLING: Flag = Flag(1 << 9);
    /// io_uring: nothing has been received yet, so the next receive is a single one.
    pub(crate) const FRESH: Flag = Flag(1 << 10);
    /// io_uring: silent for long; to be polled, not read.
    pub(crate) const IDLE: Flag = Flag(1 << 11);
    /// io_uring: in the list that is looked through for silence.
    pub(crate) const WATCHED: Flag = Flag(1 << 12);
}

/// What travels with a connection that leaves for another shard.
#[derive(Debug)]
pub(crate) struct Parting {
    pub(crate) to: ShardId,
    pub(crate) handoff: Box<Handoff>,
    /// Received after the shard let go of the connection.
    pub(crate) received: Vec<u8>,
    /// Taken to be sent and not accepted by the kernel.
    pub(crate) output: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Slot {
    socket: Option<OwnedFd>,
    pub(crate) generation: u32,
    /// io_uring: when something was received last, in milliseconds of the backend's own count.
    pub(crate) active_ms: u32,
    /// epoll: where the output waits that the kernel did not accept.
    pub(crate) blocked: u32,
    pub(crate) parting: Option<Box<Parting>>,
    flags: u16,
    pub(crate) phase: Phase,
}

// The promise of less than 100 bytes per idle connection, with the 40 of `Effects`.
const _: () = assert!(size_of::<Slot>() <= 40);

impl Slot {
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags & flag.0 != 0
    }

    pub(crate) fn set(&mut self, flag: Flag) {
        self.flags |= flag.0;
    }

    pub(crate) fn clear(&mut self, flag: Flag) {
        self.flags &= !flag.0;
    }

    /// The socket of a slot in use.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket
            .as_ref()
            .expect("a slot in use has a socket")
            .as_fd()
    }

    /// Whether bytes are wanted: by the shard, or to be discarded while closing.
    pub(crate) fn wants_bytes(&self) -> bool {
        match self.phase {
            _ if self.has(Flag::ENDED) => false,
            Phase::Open => !self.has(Flag::PAUSED),
            Phase::Flushing | Phase::Lingering => true,
            Phase::Free | Phase::Leaving | Phase::Closing => false,
        }
    }
}

/// All connections of one shard's driver.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// How many are in use.
    pub(crate) fn used(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Gives the socket a slot.
    pub(crate) fn insert(&mut self, socket: OwnedFd) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                socket: None,
                generation: 0,
                active_ms: 0,
                blocked: 0,
                parting: None,
                flags: 0,
                phase: Phase::Free,
            });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        assert!(
            slot.phase == Phase::Free && slot.socket.is_none(),
            "slot given out twice"
        );
        slot.generation = slot.generation.wrapping_add(1);
        slot.socket = Some(socket);
        slot.flags = 0;
        slot.phase = Phase::Open;
        ConnectionId {
            index,
            generation: slot.generation,
        }
    }

    /// Frees a slot and gives its socket back, to be closed or moved.
    pub(crate) fn remove(&mut self, index: u32) -> OwnedFd {
        let slot = &mut self.slots[index as usize];
        assert!(slot.phase != Phase::Free, "slot freed twice");
        slot.phase = Phase::Free;
        slot.flags = 0;
        slot.parting = None;
        self.free.push(index);
        slot.socket.take().expect("a slot in use has a socket")
    }

    /// The slot of this use, in any phase but free.
    pub(crate) fn find(&mut self, connection: ConnectionId) -> Option<&mut Slot> {
        self.slots
            .get_mut(connection.index as usize)
            .filter(|slot| slot.generation == connection.generation && slot.phase != Phase::Free)
    }

    /// The slot at this place, whoever uses it.
    pub(crate) fn at(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    /// The name of whoever uses this place.
    pub(crate) fn id(&self, index: u32) -> ConnectionId {
        ConnectionId {
            index,
            generation: self.slots[index as usize].generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> OwnedFd {
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()
    }

    #[test]
    fn every_use_of_a_slot_has_its_own_name() {
        let mut slots = Slots::default();
        let first = slots.insert(socket());
        drop(slots.remove(first.index));
        let second = slots.insert(socket());
        assert_eq!(first.index, second.index);
        assert_ne!(first, second);
        assert!(slots.find(first).is_none());
        assert!(slots.find(second).is_some());
    }

    #[test]
    fn a_free_slot_is_not_found_by_its_last_name() {
        let mut slots = Slots::default();
        let id = slots.insert(socket());
        drop(slots.remove(id.index));
        assert!(slots.find(id).is_none());
        assert!(
            slots
                .find(ConnectionId {
                    index: 9,
                    generation: 1
                })
                .is_none()
        );
    }

    #[test]
    fn those_in_use_are_counted() {
        let mut slots = Slots::default();
        let ids = [
            slots.insert(socket()),
            slots.insert(socket()),
            slots.insert(socket()),
        ];
        drop(slots.remove(ids[1].index));
        assert_eq!(slots.used(), 2);
        slots.insert(socket());
        slots.insert(socket());
        assert_eq!(slots.used(), 4);
    }

    #[test]
    fn nothing_is_left_of_the_last_use() {
        let mut slots = Slots::default();
        let id = slots.insert(socket());
        let slot = slots.at(id.index);
        slot.set(Flag::PAUSED);
        slot.set(Flag::ENDED);
        drop(slots.remove(id.index));
        let id = slots.insert(socket());
        assert!(slots.at(id.index).wants_bytes());
    }
}
