//! The two flags by which shards find out that they must wake each other. Plain memory, no kernel.
//!
//! Each is one half of a bargain: one side writes its flag and then looks at a ring, the other
//! changes the ring and then looks at the flag. A full fence stands between the two steps on either
//! side; without it both could see the old value, and somebody would sleep for ever. The model
//! checker in `tests` below tries every order that the memory model allows.

use super::atomic::{AtomicBool, Ordering, fence};

/// Whether a shard sleeps, or is about to.
#[derive(Debug, Default)]
pub(crate) struct Sleeping(AtomicBool);

impl Sleeping {
    /// The owner: "I am going to sleep". It looks at its rings once more after this.
    pub(crate) fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner: "I am awake".
    pub(crate) fn retract(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Somebody else, after changing a ring: whether it falls to the caller to raise the signal.
    /// The first who asks takes the flag back, so a sleeper is signalled once.
    pub(crate) fn claim(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// Whether the sender of a ring has more than fits and wants to be woken when there is room.
#[derive(Debug, Default)]
pub(crate) struct Blocked(AtomicBool);

impl Blocked {
    /// The sender, having found the ring full. Before it sleeps it looks for room once more, after
    /// having announced its sleep.
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The receiver, before it takes from the ring: whether the sender was blocked. The flag is
    /// taken back now and not later, when it may have been raised anew over a ring that the sender
    /// has filled again.
    pub(crate) fn lower(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }

    /// The receiver, after it has taken from the ring: whether the sender became blocked meanwhile.
    pub(crate) fn is_raised(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed)
    }
}
