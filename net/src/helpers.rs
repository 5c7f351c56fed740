//! Who does what takes long for a shard, as the driver sees it; the program provides it.
//!
//! Helpers never make the shard's thread wait: they take what they are given, work on threads of
//! their own, and wake the shard's thread by the [`crate::Waker`] when there is something to
//! [`Helpers::poll`] for.

use shard::{Compute, Computed};

/// Does what takes long for one shard.
pub trait Helpers: Send {
    /// Takes some work. It is answered once, in any order: with [`Computed::Busy`] if too much
    /// waits already.
    fn submit(&mut self, compute: Compute);

    /// Answers, by [`Compute::id`]. Before there can be another after a `None`, the waker is
    /// called.
    fn poll(&mut self) -> Option<(u64, Computed)>;
}
