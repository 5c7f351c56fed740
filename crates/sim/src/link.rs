//! A connection: two pipes of bytes, with a client at one end and a shard's driver at the other.
//!
//! Bytes keep their order and are delayed and cut anywhere. What a client sends waits in `up`
//! until the driver reads it; what the shard sends waits in `unsent` until the kernel accepts it
//! and then in `down` until the client reads it.

use mqtt_v5_codec::Version;
use shard::{ConnectionId, Handoff, Listener, ShardId, Time};
use std::collections::VecDeque;

/// A connection's number in its run; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub usize);

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// In order: what it sent arrives, then the end.
    Finish,
    /// With a reset: what has not arrived is lost.
    Reset,
    /// Without a word: nothing more arrives, and nothing is read.
    Vanish,
}

/// Who has the server's end.
#[derive(Debug)]
pub enum Place {
    /// Nobody yet: it waits to be accepted by this shard.
    Accepting(ShardId),
    /// A shard, under this name.
    At(ShardId, ConnectionId),
    /// On its way to its home.
    Moving(ShardId, Box<Handoff>),
    /// Closed by the shard; what is left is still sent.
    Draining,
    /// Nobody any more.
    Gone,
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    /// Which client's.
    pub client: usize,
    /// What the client speaks on it.
    pub version: Version,
    /// Where it knocks.
    pub listener: Listener,
    /// The server's end.
    pub place: Place,
    /// Sent by the client, not read by the driver.
    pub up: VecDeque<u8>,
    /// The client has left, after what is in `up`.
    pub left: Option<Leave>,
    /// Taken by the driver, not accepted by the kernel.
    pub unsent: VecDeque<u8>,
    /// Bytes at the front of `unsent` that another shard's driver took before the move: the
    /// present one has not counted them.
    pub carried_bytes: usize,
    /// Accepted by the kernel, not read by the client.
    pub down: VecDeque<u8>,
    /// The client is there and reads.
    pub is_read: bool,
    /// The shard wants no more input for now.
    pub is_paused: bool,
    /// One more piece may come although reading is paused.
    pub has_grace: bool,
    /// Longest delay in microseconds.
    pub delay_us: u64,
    /// Largest piece.
    pub chunk_bytes: usize,
    /// What `down` holds.
    pub kernel_bytes: usize,
    /// When bytes of the client last reached a shard, or it was accepted, or the shard began to
    /// read again.
    pub heard_at: Time,
    /// An event that delivers `up` is on its way.
    pub is_up_due: bool,
    /// An event that reads `down` is on its way.
    pub is_down_due: bool,
    /// An event that fills `down` is on its way.
    pub is_kernel_due: bool,
}

impl Link {
    /// Whether anything is still under way on it.
    pub fn is_busy(&self) -> bool {
        let is_up_busy = !self.up.is_empty() && matches!(self.place, Place::At(..));
        is_up_busy || (self.is_read && !(self.unsent.is_empty() && self.down.is_empty()))
    }

    /// Takes up to `bytes` from the front of a pipe.
    pub fn take(pipe: &mut VecDeque<u8>, bytes: usize) -> Vec<u8> {
        let bytes = bytes.min(pipe.len());
        pipe.drain(..bytes).collect()
    }
}
