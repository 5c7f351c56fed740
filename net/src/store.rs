//! Where a shard's changes are kept, as the driver sees it; the crate `storage` provides it.
//!
//! A store belongs to one shard's thread and never makes it wait: it takes what it is given, works
//! on a thread of its own, and wakes the shard's thread by the [`Waker`] when there is something to
//! [`Store::poll`] for.

use crate::console::Console;
use crate::helpers::Helpers;
use crate::wake::Wake;
use shard::{Commit, SessionKey, ShardId, StoredQueued, Time};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Keeps what one shard wants kept.
pub trait Store: Send {
    /// Takes a group of changes. It is answered by a [`StoreEvent::Committed`] of its sequence, or
    /// of a later one.
    fn submit(&mut self, commit: Commit);

    /// Asks for messages of a session's queue, as [`shard::Effect::Load`] says; it is answered by
    /// one [`StoreEvent::Loaded`], which knows of everything that was submitted before.
    fn load(&mut self, session: SessionKey, after: u64, messages_max: u32, bytes_max: u32);

    /// What the store has to say, oldest first. Before it can say something new after a `None`, it
    /// calls the waker.
    fn poll(&mut self) -> Option<StoreEvent>;

    /// The shard has stopped: writes what was submitted and not answered, lets go of the file, and
    /// returns when that is done. Nothing is asked of the store afterwards. A store that is dropped
    /// without this owes nobody anything but what it has answered.
    fn close(&mut self);
}

/// What a store has to say.
#[derive(Debug)]
pub enum StoreEvent {
    /// All changes of this commit and of those before it are durable.
    Committed {
        /// As in [`Commit::sequence`].
        sequence: u64,
    },
    /// The answer to [`Store::load`].
    Loaded {
        /// Whose.
        session: SessionKey,
        /// In order; empty if there are no more.
        messages: Vec<StoredQueued>,
    },
    /// Nothing can be written for now; the store keeps what it has and tries again.
    Stalled {
        /// Why, for people.
        reason: String,
    },
    /// It writes again.
    Resumed,
    /// It cannot say any more what is durable and what is not: the process must end and recover.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

/// Wakes the thread of one shard, from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    wakes: Arc<[Wake]>,
    shard: ShardId,
}

impl Waker {
    pub(crate) fn new(wakes: Arc<[Wake]>, shard: ShardId) -> Waker {
        Waker { wakes, shard }
    }

    /// Which shard's.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// To be called after what the thread is to find has been made visible. Cheap if it is awake.
    pub fn wake(&self) {
        self.wakes[self.shard.index()].wake();
    }
}

/// What is known when a shard is made, on the thread that it will run on.
#[derive(Debug)]
pub struct Workplace {
    /// Which shard it is.
    pub shard: ShardId,
    /// The time.
    pub now: Time,
    /// Wakes its thread: for its store and its helpers.
    pub waker: Waker,
    pub(crate) has_failed: Arc<AtomicBool>,
}

impl Workplace {
    /// Whether the server will not start, because another shard could not be made: what takes long
    /// may then give up.
    pub fn is_given_up(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }
}

/// A shard, or another handler, and where it is kept.
pub struct Made<H> {
    /// Takes the events.
    pub handler: H,
    /// Takes its commits. Without one, a commit is answered at once, and nothing is kept.
    pub store: Option<Box<dyn Store>>,
    /// Do what takes it long. Without them, everything is answered with
    /// [`shard::Computed::Busy`].
    pub helpers: Option<Box<dyn Helpers>>,
    /// Asks it. Without one, nobody does.
    pub console: Option<Box<dyn Console>>,
}
