//! Who publishes most: the heaviest few of the last seconds, whatever the number of clients.
//!
//! The first messages of a window are all looked at, and of the rest a sample: so a quiet broker is
//! shown exactly and a busy one pays next to nothing. What is kept is the *space-saving* summary of
//! Metwally, Agrawal and El Abbadi: whoever has sent more than a [`ROWS`]th of the messages looked
//! at is in it for certain. Bounded: two windows of [`ROWS`] rows.

use crate::{SessionId, Span, Time};

/// Rows of a window.
const ROWS: usize = 32;
/// How long a window is.
const WINDOW: Span = Span::from_s(5);
/// Messages of a window that are all looked at.
const EXACT: u32 = 1_024;
/// From then on one in so many, on average.
const SAMPLE: u32 = 16;

/// What one client has sent.
#[derive(Clone, Copy, Debug)]
struct Row {
    session: SessionId,
    messages: u64,
    bytes: u64,
    /// So many of them may have been another's.
    doubtful: u64,
}

/// A client among the heaviest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talker {
    /// Its client identifier.
    pub client_id: Box<str>,
    /// Messages that it has sent in the window: estimated if the shard was busy.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// The heaviest clients of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Talkers {
    /// How long was looked.
    pub window: Span,
    /// Not sorted.
    pub rows: Vec<Talker>,
}

/// The windows: one being filled, and the last whole one.
#[derive(Debug)]
pub(crate) struct Watch {
    rows: Vec<Row>,
    began: Time,
    seen: u32,
    /// Messages until one is looked at.
    gap: u32,
    /// Makes the gaps uneven: clients that take turns must not hide behind each other.
    chance: u32,
    last: Vec<Row>,
    last_window: Span,
}

impl Watch {
    pub fn new(now: Time) -> Watch {
        Watch {
            rows: Vec::new(),
            began: now,
            seen: 0,
            gap: 0,
            chance: 0x9E37_79B9,
            last: Vec::new(),
            last_window: Span(0),
        }
    }

    /// A client has published so many bytes of payload.
    pub fn note(&mut self, session: SessionId, bytes: usize, now: Time) {
        if self.gap > 0 {
            self.gap -= 1;
            return;
        }
        self.turn_over(now);
        let weight = if self.seen < EXACT {
            self.seen += 1;
            1
        } else {
            self.chance ^= self.chance << 13;
            self.chance ^= self.chance >> 17;
            self.chance ^= self.chance << 5;
            // 0 to twice the mean, evenly.
            self.gap = self.chance % (2 * SAMPLE - 1);
            u64::from(SAMPLE)
        };
        self.weigh(session, weight, bytes as u64 * weight);
    }

    fn weigh(&mut self, session: SessionId, messages: u64, bytes: u64) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.session == session) {
            row.messages += messages;
            row.bytes += bytes;
            return;
        }
        let fresh = Row {
            session,
            messages,
            bytes,
            doubtful: 0,
        };
        if self.rows.len() < ROWS {
            return self.rows.push(fresh);
        }
        let least = self.rows.iter_mut().min_by_key(|row| row.messages);
        let least = least.expect("all rows are taken");
        *least = Row {
            doubtful: least.messages,
            messages: least.messages + messages,
            ..fresh
        };
    }

    /// Begins another window if this one is over.
    fn turn_over(&mut self, now: Time) {
        let window = now.since(self.began);
        if window < WINDOW {
            return;
        }
        std::mem::swap(&mut self.last, &mut self.rows);
        self.rows.clear();
        self.last_window = window;
        (self.began, self.seen, self.gap) = (now, 0, 0);
    }

    /// The last whole window, or, at the beginning, what there is: its length, and per session
    /// messages and bytes.
    pub fn heaviest(
        &mut self,
        now: Time,
    ) -> (Span, impl Iterator<Item = (SessionId, u64, u64)> + use<'_>) {
        self.turn_over(now);
        let (window, rows) = match self.last_window {
            Span(0) => (now.since(self.began), &self.rows),
            window => (window, &self.last),
        };
        let rows = rows.iter().filter(|row| row.messages > row.doubtful);
        let certain = |row: &Row| row.messages - row.doubtful;
        (
            window,
            rows.map(move |row| (row.session, certain(row), row.bytes)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(index: u32) -> SessionId {
        SessionId {
            index,
            generation: 0,
        }
    }

    fn messages_of(watch: &mut Watch, now: Time, index: u32) -> u64 {
        let (_, mut rows) = watch.heaviest(now);
        let found = rows.find(|(found, ..)| *found == session(index));
        found.map_or(0, |(_, messages, _)| messages)
    }

    #[test]
    fn few_messages_are_counted_exactly_and_forgotten_in_time() {
        let mut watch = Watch::new(Time(0));
        for count in 0..30 {
            watch.note(session(count % 3), 10, Time(u64::from(count)));
        }
        let (window, rows) = watch.heaviest(Time(1_000_000));
        assert_eq!(window, Span(1_000_000));
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|&(_, m, bytes)| (m, bytes) == (10, 100)));
        let later = Time(6_000_000);
        assert_eq!(messages_of(&mut watch, later, 0), 10);
        let much_later = Time(20_000_000);
        assert_eq!(messages_of(&mut watch, much_later, 0), 0);
    }

    #[test]
    fn a_heavy_client_is_found_among_very_many() {
        let mut watch = Watch::new(Time(0));
        // Every fourth message is the heavy one's; the others come from ten thousand.
        for count in 0..400_000 {
            let who = if count % 4 == 0 {
                7
            } else {
                100 + count % 10_007
            };
            watch.note(session(who), 1, Time(1));
        }
        let seen = messages_of(&mut watch, Time(2), 7);
        assert!((50_000..150_000).contains(&seen), "{seen} of 100,000");
        assert!(watch.rows.len() <= ROWS);
    }

    #[test]
    fn clients_that_take_turns_are_all_seen() {
        let mut watch = Watch::new(Time(0));
        for count in 0..320_000 {
            watch.note(session(count % SAMPLE), 1, Time(1));
        }
        for who in 0..SAMPLE {
            let seen = messages_of(&mut watch, Time(2), who);
            assert!((14_000..26_000).contains(&seen), "{who}: {seen} of 20,000");
        }
    }
}
