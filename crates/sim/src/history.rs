//! What happened in a run: a running hash always, and lines for people when asked.
//!
//! Lines are formatted only while recording, since a thousand seeds must run in a minute; a run
//! that fails is repeated with recording on.
//!
//! Bounded by: the last [`LINES_MAX`] lines are kept.

use std::collections::VecDeque;
use std::fmt;

/// How many lines are kept.
pub const LINES_MAX: usize = 400;

/// How much of a run is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// Only the hash.
    Off,
    /// The last lines are kept.
    Last,
    /// Each line is printed when it happens, too.
    Print,
}

/// The record of one run.
#[derive(Debug)]
pub struct History {
    hash: u64,
    recording: Recording,
}

impl History {
    /// An empty one.
    pub fn new(recording: Recording) -> History {
        LAST_LINES.with_borrow_mut(VecDeque::clear);
        History {
            hash: 0xCBF2_9CE4_8422_2325,
            recording,
        }
    }

    /// Folds bytes into the hash (FNV-1a by words, the length included).
    pub fn mix(&mut self, bytes: &[u8]) {
        self.mix_number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix_number(u64::from_le_bytes(word));
        }
    }

    /// Folds a number into the hash.
    pub fn mix_number(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01B3);
        self.hash ^= self.hash >> 29;
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether lines are wanted at all.
    pub fn is_recording(&self) -> bool {
        self.recording != Recording::Off
    }

    /// Adds a line, if lines are wanted.
    pub fn line(&mut self, line: fmt::Arguments<'_>) {
        if !self.is_recording() {
            return;
        }
        let line = line.to_string();
        if self.recording == Recording::Print {
            eprintln!("{line}");
        }
        LAST_LINES.with_borrow_mut(|last| {
            if last.len() == LINES_MAX {
                last.pop_front();
            }
            last.push_back(line);
        });
    }
}

/// A value in at most so many characters, without the fields that are `None`.
pub fn brief(value: &impl fmt::Debug, characters_max: usize) -> String {
    let text = format!("{value:?}");
    let fields = text.split(", ").filter(|field| !field.ends_with(": None"));
    fields
        .collect::<Vec<&str>>()
        .join(", ")
        .chars()
        .take(characters_max)
        .collect()
}

thread_local! {
    /// The lines of this thread's run, where a panic hook can still find them.
    static LAST_LINES: std::cell::RefCell<VecDeque<String>> =
        const { std::cell::RefCell::new(VecDeque::new()) };
}

/// The last lines of this thread's latest run, oldest first.
pub fn last_lines() -> Vec<String> {
    LAST_LINES.with_borrow(|last| last.iter().cloned().collect())
}
