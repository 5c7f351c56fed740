//! What connects one shard's driver to all others: per ordered pair a ring for request frames, one
//! for reply frames, and one for parcels, which are connections on their way home.
//!
//! Whoever finds a ring full leaves the rest with itself, in order, and says so in a flag next to
//! the ring; the other side, having made room, sees the flag and wakes it (`flags.rs`). Rings are
//! bounded by `shard::limits`, parcels that wait for a ring by the connections that a shard may
//! have.

use crate::flags::Blocked;
use crate::wake::Wake;
use rtrb::{Consumer, Producer, RingBuffer};
use shard::limits::{REPLY_LANE, REQUEST_LANE};
use shard::{Effects, Frame, Handoff, Lane, ShardId};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Parcels that a ring holds.
const PARCEL_LANE: usize = 256;

/// A connection on its way to its home shard.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) socket: OwnedFd,
    pub(crate) handoff: Box<Handoff>,
    /// Received since the handoff was written.
    pub(crate) received: Vec<u8>,
    /// Not yet sent.
    pub(crate) output: Vec<u8>,
}

/// Which rings did not take everything.
#[derive(Clone, Copy, Debug, Default)]
struct Leftovers {
    requests: bool,
    replies: bool,
    parcels: bool,
}

/// One direction's rings at their sending end.
#[derive(Debug)]
struct Outgoing {
    requests: Producer<Frame>,
    replies: Producer<Frame>,
    parcels: Producer<Parcel>,
    parcels_waiting: VecDeque<Parcel>,
    left: Leftovers,
    /// Tells the other side so.
    blocked: Arc<Blocked>,
    /// The request lane was once found full and the shard has not yet been told that it drained.
    was_full: bool,
    /// All staged requests have moved since; the shard is to be told.
    has_drained: bool,
}

/// One direction's rings at their receiving end.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) requests: Consumer<Frame>,
    pub(crate) replies: Consumer<Frame>,
    pub(crate) parcels: Consumer<Parcel>,
    sender_blocked: Arc<Blocked>,
}

impl Incoming {
    /// To be called before anything is taken: whether the sender waits for room.
    pub(crate) fn lower_blocked(&self) -> bool {
        self.sender_blocked.lower()
    }

    /// Whether there is nothing to take.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.replies.is_empty() && self.parcels.is_empty()
    }
}

/// All rings of one shard. The entries of the shard itself are `None`.
#[derive(Debug)]
pub(crate) struct Links {
    outgoing: Vec<Option<Outgoing>>,
    pub(crate) incoming: Vec<Option<Incoming>>,
    wakes: Arc<[Wake]>,
    me: ShardId,
    /// How often another shard had to be woken.
    wakes_raised: u64,
    /// How often a ring had no room for all frames.
    rings_full: u64,
}

/// One direction, both ends.
fn ring() -> (Outgoing, Incoming) {
    let (requests, requests_end) = RingBuffer::new(REQUEST_LANE);
    let (replies, replies_end) = RingBuffer::new(REPLY_LANE);
    let (parcels, parcels_end) = RingBuffer::new(PARCEL_LANE);
    let blocked = Arc::new(Blocked::default());
    let incoming = Incoming {
        requests: requests_end,
        replies: replies_end,
        parcels: parcels_end,
        sender_blocked: Arc::clone(&blocked),
    };
    let outgoing = Outgoing {
        requests,
        replies,
        parcels,
        parcels_waiting: VecDeque::new(),
        left: Leftovers::default(),
        blocked,
        was_full: false,
        has_drained: false,
    };
    (outgoing, incoming)
}

/// Moves from the queue's front into the ring what fits; returns how many.
fn fill<T>(ring: &mut Producer<T>, waiting: &mut VecDeque<T>) -> usize {
    let count = waiting.len().min(ring.slots());
    if count == 0 {
        return 0;
    }
    let chunk = ring
        .write_chunk_uninit(count)
        .expect("no more than the free slots are asked for");
    chunk.fill_from_iter(waiting.drain(..count))
}

impl Outgoing {
    /// Moves what fits of everything, and notes whether that is all; returns whether anything moved.
    fn push(&mut self, effects: &mut Effects, to: ShardId) -> bool {
        // Every outstanding request has room for its reply (`limits.rs`), so nothing of this stays.
        let mut moved = fill(&mut self.replies, effects.staged(to, Lane::Reply));
        moved += fill(&mut self.requests, effects.staged(to, Lane::Request));
        moved += fill(&mut self.parcels, &mut self.parcels_waiting);
        self.left = Leftovers {
            requests: !effects.staged(to, Lane::Request).is_empty(),
            replies: !effects.staged(to, Lane::Reply).is_empty(),
            parcels: !self.parcels_waiting.is_empty(),
        };
        if self.left.requests || self.left.replies || self.left.parcels {
            self.blocked.raise();
        }
        if self.left.requests {
            self.was_full = true;
        } else if self.was_full {
            self.was_full = false;
            self.has_drained = true;
        }
        moved > 0
    }

    /// Whether some of what did not fit would fit now.
    fn has_room(&self) -> bool {
        (self.left.requests && !self.requests.is_full())
            || (self.left.replies && !self.replies.is_full())
            || (self.left.parcels && !self.parcels.is_full())
    }
}

impl Links {
    /// The links of all shards, in their order; `wakes` has one entry per shard.
    pub(crate) fn mesh(wakes: Arc<[Wake]>) -> Vec<Links> {
        let shards = wakes.len();
        let mut all: Vec<Links> = (0..shards)
            .map(|me| Links {
                outgoing: (0..shards).map(|_| None).collect(),
                incoming: (0..shards).map(|_| None).collect(),
                wakes: Arc::clone(&wakes),
                me: ShardId(me as u16),
                wakes_raised: 0,
                rings_full: 0,
            })
            .collect();
        for from in 0..shards {
            for to in (0..shards).filter(|&to| to != from) {
                let (outgoing, incoming) = ring();
                all[from].outgoing[to] = Some(outgoing);
                all[to].incoming[from] = Some(incoming);
            }
        }
        all
    }

    /// Moves staged frames and waiting parcels into the rings and wakes each shard that got
    /// something, at most once.
    pub(crate) fn push(&mut self, effects: &mut Effects) {
        for (index, outgoing) in self.outgoing.iter_mut().enumerate() {
            let Some(outgoing) = outgoing else { continue };
            if outgoing.push(effects, ShardId(index as u16)) {
                self.wakes_raised += u64::from(self.wakes[index].wake());
            }
            self.rings_full += u64::from(outgoing.left.requests || outgoing.left.replies);
        }
    }

    /// Lets a parcel wait for the next [`Links::push`].
    pub(crate) fn post(&mut self, to: ShardId, parcel: Parcel) {
        let outgoing = self.outgoing[to.index()]
            .as_mut()
            .expect("adopted by another shard");
        outgoing.parcels_waiting.push_back(parcel);
    }

    /// A shard whose request lane has drained after it was full; each once.
    pub(crate) fn next_drained(&mut self) -> Option<ShardId> {
        for (index, outgoing) in self.outgoing.iter_mut().enumerate() {
            if let Some(outgoing) = outgoing.as_mut().filter(|outgoing| outgoing.has_drained) {
                outgoing.has_drained = false;
                return Some(ShardId(index as u16));
            }
        }
        None
    }

    /// Whether there is something to do that no wake-up will announce.
    pub(crate) fn has_work(&self) -> bool {
        self.outgoing
            .iter()
            .flatten()
            .any(|outgoing| outgoing.has_drained || outgoing.has_room())
            || self
                .incoming
                .iter()
                .flatten()
                .any(|incoming| !incoming.is_empty())
    }

    /// Connections that wait for room in a ring.
    pub(crate) fn parcels_waiting(&self) -> usize {
        self.outgoing
            .iter()
            .flatten()
            .map(|outgoing| outgoing.parcels_waiting.len())
            .sum()
    }

    /// After something has been taken: wakes the sender if it waits for room.
    pub(crate) fn made_room(&mut self, from: ShardId, incoming: &Incoming, was_blocked: bool) {
        if was_blocked || incoming.sender_blocked.is_raised() {
            self.wakes_raised += u64::from(self.wakes[from.index()].wake());
        }
    }

    /// How often another shard had to be woken, how often a ring was full, and how many frames are
    /// in rings to others now.
    pub(crate) fn load(&self) -> (u64, u64, u64) {
        let frames = self.outgoing.iter().flatten().map(|outgoing| {
            (REQUEST_LANE - outgoing.requests.slots()) + (REPLY_LANE - outgoing.replies.slots())
        });
        let frames = frames.sum::<usize>() as u64;
        (self.wakes_raised, self.rings_full, frames)
    }

    /// The wake-up of this shard.
    pub(crate) fn own_wake(&self) -> &Wake {
        &self.wakes[self.me.index()]
    }

    /// Wakes every shard.
    pub(crate) fn wake_all(&self) {
        for wake in self.wakes.iter() {
            wake.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_stays_in_order() {
        let (mut ring, mut end) = RingBuffer::new(4);
        let mut waiting: VecDeque<u32> = (0..10).collect();
        let mut arrived = Vec::new();
        for taken in [0, 1, 3, 4] {
            for _ in 0..taken {
                arrived.push(end.pop().unwrap());
            }
            fill(&mut ring, &mut waiting);
            assert!(waiting.is_empty() || ring.is_full());
        }
        arrived.extend(std::iter::from_fn(|| end.pop().ok()));
        assert_eq!(arrived, Vec::from_iter(0..10));
        assert_eq!(fill(&mut ring, &mut waiting), 0);
    }

    #[test]
    fn every_shard_is_linked_to_every_other() {
        let wakes: Arc<[Wake]> = (0..3).map(|_| Wake::new().unwrap()).collect();
        for (me, links) in Links::mesh(wakes).iter().enumerate() {
            for other in 0..3 {
                assert_eq!(links.outgoing[other].is_some(), other != me);
                assert_eq!(links.incoming[other].is_some(), other != me);
            }
        }
    }
}
