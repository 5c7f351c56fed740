//! What an operator asks a shard: [`crate::Event::Asked`] brings a [`Question`], and
//! [`crate::Effect::Answered`] its one [`Report`].
//!
//! Always: a question is answered exactly once, and within one event unless its kind says otherwise.
//! Bounded: a report that is a list has at most [`ROWS_MAX`] rows and about [`BYTES_MAX`] bytes, and
//! at most [`LOOKS_MAX`] entries are looked at for it; what is left is asked for with the report's
//! `next`. A slot number or a topic says where to go on, so a list can be read while things come
//! and go: what is there all the time is in it exactly once.

mod clients;
mod overview;

pub use clients::{ClientConnection, ClientFilter, ClientRow};
pub use mqtt_v5_codec::{QoS, Version};
pub use overview::Overview;

use crate::shard::Shard;
use crate::{Effect, Effects};

/// Rows of one report.
pub const ROWS_MAX: u32 = 1_000;
/// Bytes of one report, but for its last row.
pub const BYTES_MAX: usize = 256 * 1_024;
/// Entries of a table looked at for one report.
pub const LOOKS_MAX: u32 = 8_192;

/// What an operator wants to know, or to have done.
#[derive(Debug)]
pub enum Question {
    /// How much there is of everything, and what has been counted. [`Report::Overview`]
    Overview,
    /// Sessions of MQTT clients, connected or not. [`Report::Clients`]
    Clients {
        /// The slot to begin at: 0, or the `next` of the report before. Any number is allowed.
        from: u32,
        /// Rows wanted, 1 to [`ROWS_MAX`]; what is outside is moved to the bound.
        limit: u32,
        /// Which.
        filter: ClientFilter,
    },
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub enum Report {
    /// To [`Question::Overview`].
    Overview(Box<Overview>),
    /// To [`Question::Clients`].
    Clients(Rows<ClientRow>),
}

/// Part of a list.
#[derive(Debug)]
pub struct Rows<T> {
    /// What was found; may be empty although there is more.
    pub rows: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<u32>,
}

/// Collects rows until one of the bounds is reached.
struct Collector<T> {
    rows: Vec<T>,
    rows_left: u32,
    bytes_left: usize,
    looks_left: u32,
}

impl<T> Collector<T> {
    fn new(limit: u32) -> Collector<T> {
        Collector {
            rows: Vec::new(),
            rows_left: limit.clamp(1, ROWS_MAX),
            bytes_left: BYTES_MAX,
            looks_left: LOOKS_MAX,
        }
    }

    /// Whether one more entry may be looked at; it then counts as seen.
    fn may_look(&mut self) -> bool {
        if self.rows_left == 0 || self.bytes_left == 0 || self.looks_left == 0 {
            return false;
        }
        self.looks_left -= 1;
        true
    }

    /// Adds a row whose variable parts have so many bytes.
    fn push(&mut self, row: T, bytes: usize) {
        self.rows_left -= 1;
        self.bytes_left = self.bytes_left.saturating_sub(size_of::<T>() + bytes);
        self.rows.push(row);
    }
}

impl Shard {
    /// A question has come.
    pub(crate) fn on_asked(&mut self, id: u64, question: Question, effects: &mut Effects) {
        let report = match question {
            Question::Overview => Report::Overview(Box::new(self.overview(effects))),
            Question::Clients {
                from,
                limit,
                filter,
            } => Report::Clients(self.list_clients(from, limit, &filter, effects)),
        };
        effects.push(Effect::Answered {
            id,
            report: Box::new(report),
        });
    }
}
