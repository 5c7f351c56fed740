//! Where an operator's questions come from, as the driver sees it; the program provides it.
//!
//! A console never makes the shard's thread wait. While nobody asks it costs the thread nothing but
//! one look per turn, which takes neither a lock nor a system call.

use shard::console::{Question, Report};

/// Asks one shard, and is given its answers.
pub trait Console: Send {
    /// The next question and its number. Before there can be another after a `None`, the
    /// [`crate::Waker`] is called.
    fn poll(&mut self) -> Option<(u64, Box<Question>)>;

    /// The answer to a question. Every question is answered once, in any order, unless the shard's
    /// thread ends before.
    fn answer(&mut self, id: u64, report: Box<Report>);
}
