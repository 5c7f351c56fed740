//! What a shard asks of the world.
//!
//! Output bytes are the data plane: they are appended straight to the connection's outbox, which
//! the driver empties once per turn, so a small frame is copied once and a burst leaves in one
//! send. Frames are staged per target shard. All else is a list in the order it was pushed.
//!
//! Bounded by: `Limits::output_bytes_max` per outbox (the shard asks [`Effects::pending_bytes`]
//! before it appends), frames by the credits of `lanes.rs`, the list by the work of one turn.

use crate::console::Report;
use crate::log::{Cause, Level, Line};
use crate::table::Table;
use crate::{Commit, Compute, ConnectionId, Frame, Handoff, Lane, SessionKey, ShardId};
use std::collections::VecDeque;

/// One request to the driver.
#[derive(Debug)]
pub enum Effect {
    /// The shard is done with this connection.
    Close {
        /// Which; the id is dead for the shard from here on.
        connection: ConnectionId,
        /// How gently.
        how: Close,
    },
    /// Do not deliver [`crate::Event::Received`] for it until resumed. Bytes already received
    /// and not yet delivered may still be delivered.
    PauseReading {
        /// Which.
        connection: ConnectionId,
    },
    /// Deliver again.
    ResumeReading {
        /// Which.
        connection: ConnectionId,
    },
    /// Move the connection, with whatever is still in its outbox, to another shard.
    Adopt {
        /// Which; the id is dead for this shard from here on.
        connection: ConnectionId,
        /// Its new home, never the shard itself.
        to: ShardId,
        /// What the new home must know; it arrives there in [`crate::Event::Adopted`].
        handoff: Box<Handoff>,
    },
    /// Make a group of changes durable and answer with [`crate::Event::Committed`].
    Commit(Commit),
    /// Read messages of a session's queue from the store and answer with
    /// [`crate::Event::Loaded`]. All changes of earlier commits must be visible to it.
    Load {
        /// Whose.
        session: SessionKey,
        /// Only positions above this one.
        after: u64,
        /// At most so many.
        messages_max: u32,
        /// No further once there are so many bytes, but at least one message.
        bytes_max: u32,
    },
    /// Have a helper thread do this, and answer with [`crate::Event::Computed`].
    Compute(Compute),
    /// The answer to [`crate::Event::Asked`].
    Answered {
        /// As in the question.
        id: u64,
        /// What is to be said.
        report: Box<Report>,
    },
    /// Everything recovered is announced to the other shards: clients may come.
    Ready,
    /// Something that an operator may want to read. The driver writes it to the log, and limits the
    /// rate per cause.
    Log(Box<Line>),
    /// After [`crate::Event::Stop`]: every connection is closed, nothing is left to send.
    Stopped,
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Send what is in the outbox, shut down writing, then read and discard what the peer still
    /// sends for a moment (1 s at most), so that a reset does not take the last packet away.
    Flush,
    /// At once, discarding the outbox.
    Abort,
}

/// Output of one connection.
#[derive(Debug, Default)]
struct Outbox {
    /// Bytes not yet taken by the driver.
    filling: Vec<u8>,
    /// Bytes taken by the driver and not yet accepted by the kernel.
    taken_bytes: u32,
    generation: u32,
    /// Already in `dirty`.
    is_dirty: bool,
    /// The shard waits for [`crate::Event::Writable`].
    wants_writable: bool,
    /// What waits for commits, and all that came after it.
    #[allow(clippy::box_collection)] // 8 bytes instead of 32 in connections that have none.
    held: Option<Box<VecDeque<Held>>>,
}

/// Output that waits for a commit.
#[derive(Debug)]
struct Held {
    sequence: u64,
    bytes: Vec<u8>,
}

impl Outbox {
    fn pending_bytes(&self) -> usize {
        let held = self.held.iter().flat_map(|held| held.iter());
        let held: usize = held.map(|held| held.bytes.len()).sum();
        self.filling.len() + self.taken_bytes as usize + held
    }
}

/// Frames staged for one shard.
#[derive(Debug, Default)]
struct Staged {
    requests: VecDeque<Frame>,
    replies: VecDeque<Frame>,
}

/// Where a shard puts its effects; the driver owns one per shard and keeps it for good.
#[derive(Debug)]
pub struct Effects {
    outboxes: Table<Outbox>,
    dirty: Vec<ConnectionId>,
    list: Vec<Effect>,
    staged: Vec<Staged>,
    spare: Vec<Vec<u8>>,
    /// Connections with held output by the commit that they wait for, ascending: two or three.
    holding: VecDeque<(u64, Vec<ConnectionId>)>,
    /// Lines of this level, and of those that matter more, are logged.
    log_level: Level,
}

/// Output buffers kept for reuse, so that connections that take turns share a few warm ones.
const SPARE_BUFFERS_MAX: usize = 1_024;
/// A buffer that grew beyond this is given back to the allocator.
const SPARE_BUFFER_BYTES_MAX: usize = 256 * 1_024;
/// Capacity of a new buffer.
const BUFFER_BYTES_MIN: usize = 512;

/// What a shard does.
impl Effects {
    /// The connection's outbox, to append to; it is sent this turn. The connection must be open.
    pub fn outbox(&mut self, connection: ConnectionId) -> &mut Vec<u8> {
        let outbox = &mut self.outboxes[connection.index as usize];
        debug_assert_eq!(
            outbox.generation, connection.generation,
            "outbox of a dead connection"
        );
        if let Some(held) = &mut outbox.held {
            return &mut held.back_mut().expect("dropped when empty").bytes;
        }
        if !outbox.is_dirty {
            outbox.is_dirty = true;
            self.dirty.push(connection);
            if outbox.filling.capacity() == 0 {
                outbox.filling = self
                    .spare
                    .pop()
                    .unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES_MIN));
            }
        }
        &mut outbox.filling
    }

    /// Bytes of the connection that the kernel has not accepted yet.
    pub fn pending_bytes(&self, connection: ConnectionId) -> usize {
        self.outboxes[connection.index as usize].pending_bytes()
    }

    /// Holds back what is appended to the connection's outbox from here on until the commit of
    /// this number is durable ([`Effects::release`]); 0 holds nothing.
    pub fn hold(&mut self, connection: ConnectionId, sequence: u64) {
        if sequence == 0 {
            return;
        }
        let outbox = &mut self.outboxes[connection.index as usize];
        debug_assert_eq!(
            outbox.generation, connection.generation,
            "hold on a dead connection"
        );
        let held = outbox.held.get_or_insert_default();
        if held.back().is_some_and(|last| last.sequence >= sequence) {
            return;
        }
        held.push_back(Held {
            sequence,
            bytes: Vec::new(),
        });
        let at = self.holding.partition_point(|(known, _)| *known < sequence);
        match self.holding.get_mut(at) {
            Some((known, connections)) if *known == sequence => connections.push(connection),
            _ => self.holding.insert(at, (sequence, vec![connection])),
        }
    }

    /// All commits up to this one are durable: what waited for them is sent this turn.
    pub fn release(&mut self, sequence: u64) {
        while let Some((_, connections)) = self.holding.pop_front_if(|held| held.0 <= sequence) {
            for connection in connections {
                self.release_one(connection, sequence);
            }
        }
    }

    fn release_one(&mut self, connection: ConnectionId, sequence: u64) {
        let outbox = &mut self.outboxes[connection.index as usize];
        if outbox.generation != connection.generation {
            return;
        }
        let Some(held) = &mut outbox.held else { return };
        let mut bytes = Vec::new();
        while let Some(next) = held.pop_front_if(|held| held.sequence <= sequence) {
            match bytes.is_empty() {
                true => bytes = next.bytes,
                false => bytes.extend_from_slice(&next.bytes),
            }
        }
        if held.is_empty() {
            outbox.held = None;
        }
        if bytes.is_empty() {
            return;
        }
        match outbox.filling.is_empty() {
            true => outbox.filling = bytes,
            false => outbox.filling.extend_from_slice(&bytes),
        }
        if !outbox.is_dirty {
            outbox.is_dirty = true;
            self.dirty.push(connection);
        }
    }

    /// Asks for one [`crate::Event::Writable`] once the connection's pending bytes have fallen to
    /// the driver's low-water mark.
    pub fn want_writable(&mut self, connection: ConnectionId) {
        self.outboxes[connection.index as usize].wants_writable = true;
    }

    /// Adds an effect to the list.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Whether somebody wants lines of this cause; else none need be made.
    pub fn is_logged(&self, cause: Cause) -> bool {
        cause.level() <= self.log_level
    }

    /// Adds a line to the log, unless nobody wants it.
    pub fn log(&mut self, line: Line) {
        if self.is_logged(line.cause) {
            self.push(Effect::Log(Box::new(line)));
        }
    }

    /// Stages a frame for another shard, on the lane that its kind belongs to.
    pub fn push_frame(&mut self, to: ShardId, frame: Frame) {
        let staged = &mut self.staged[to.index()];
        match frame.lane() {
            Lane::Request => staged.requests.push_back(frame),
            Lane::Reply => staged.replies.push_back(frame),
        }
    }

    /// Request frames staged for a shard and not yet in its ring.
    pub fn staged_requests(&self, to: ShardId) -> usize {
        self.staged[to.index()].requests.len()
    }
}

/// What a driver does.
impl Effects {
    /// For a shard among `shards` shards.
    pub fn new(shards: usize) -> Effects {
        Effects {
            outboxes: Table::default(),
            dirty: Vec::new(),
            list: Vec::new(),
            staged: (0..shards).map(|_| Staged::default()).collect(),
            spare: Vec::new(),
            holding: VecDeque::new(),
            log_level: Level::Info,
        }
    }

    /// From now on lines of this level are logged, and those that matter more.
    pub fn log_up_to(&mut self, level: Level) {
        self.log_level = level;
    }

    /// Prepares the outbox of a connection before its `Accepted` or `Adopted`.
    pub fn open(&mut self, connection: ConnectionId) {
        let index = connection.index as usize;
        while index >= self.outboxes.len() {
            self.outboxes.push(Outbox::default());
        }
        let outbox = &mut self.outboxes[index];
        assert!(
            outbox.filling.is_empty() && outbox.taken_bytes == 0,
            "outbox in use"
        );
        outbox.generation = connection.generation;
        outbox.wants_writable = false;
        outbox.held = None;
    }

    /// Empties the outbox of a connection that is gone, or whose rest has been taken.
    pub fn close(&mut self, connection: ConnectionId) {
        let outbox = &mut self.outboxes[connection.index as usize];
        assert_eq!(
            outbox.generation, connection.generation,
            "outbox closed twice"
        );
        outbox.taken_bytes = 0;
        outbox.wants_writable = false;
        outbox.held = None;
        let mut buffer = std::mem::take(&mut outbox.filling);
        buffer.clear();
        self.recycle(buffer);
    }

    /// The next connection with new output, if any. It may have been closed since: the driver
    /// compares generations.
    pub fn next_dirty(&mut self) -> Option<ConnectionId> {
        let connection = self.dirty.pop()?;
        self.outboxes[connection.index as usize].is_dirty = false;
        Some(connection)
    }

    /// Takes what is in the outbox, to be sent; it counts as pending until [`Effects::sent`].
    /// Empty if there is nothing.
    pub fn take_output(&mut self, connection: ConnectionId) -> Vec<u8> {
        let outbox = &mut self.outboxes[connection.index as usize];
        debug_assert_eq!(
            outbox.generation, connection.generation,
            "output of a dead connection"
        );
        outbox.taken_bytes += outbox.filling.len() as u32;
        std::mem::take(&mut outbox.filling)
    }

    /// The kernel accepted `bytes` of what was taken. Returns whether the shard is waiting for
    /// [`crate::Event::Writable`] and pending output is now at most `low_water` bytes; the wait is
    /// then over.
    pub fn sent(&mut self, connection: ConnectionId, bytes: usize, low_water: usize) -> bool {
        let outbox = &mut self.outboxes[connection.index as usize];
        debug_assert_eq!(
            outbox.generation, connection.generation,
            "sent on a dead connection"
        );
        assert!(bytes <= outbox.taken_bytes as usize, "more sent than taken");
        outbox.taken_bytes -= bytes as u32;
        let is_low = outbox.pending_bytes() <= low_water;
        let is_due = outbox.wants_writable && is_low;
        if is_due {
            outbox.wants_writable = false;
        }
        is_due
    }

    /// Gives a sent buffer back for reuse.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0
            && buffer.capacity() <= SPARE_BUFFER_BYTES_MAX
            && self.spare.len() < SPARE_BUFFERS_MAX
        {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// The list, in order; empty afterwards.
    pub fn take_list(&mut self, into: &mut Vec<Effect>) {
        into.append(&mut self.list);
    }

    /// The frames staged for one shard on one lane, to be moved from the front into its ring.
    pub fn staged(&mut self, to: ShardId, lane: Lane) -> &mut VecDeque<Frame> {
        let staged = &mut self.staged[to.index()];
        match lane {
            Lane::Request => &mut staged.requests,
            Lane::Reply => &mut staged.replies,
        }
    }

    /// Whether nothing at all waits to be carried out.
    pub fn is_empty(&self) -> bool {
        self.dirty.is_empty()
            && self.list.is_empty()
            && self
                .staged
                .iter()
                .all(|s| s.requests.is_empty() && s.replies.is_empty())
    }
}
