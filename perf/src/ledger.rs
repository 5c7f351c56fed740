//! Which messages arrived: each exactly once, and in order where order is promised.
//!
//! Invariant: `delivered` counts every copy that arrived, `duplicated` those among them that had
//! arrived before. What is lost is known only at the end, when no more can come.

/// Sequence numbers that a stream remembers behind its newest, in [`Order::Any`].
const WINDOW: u32 = 65_536;

/// What order a scenario may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each stream's sequence numbers arrive one after the other.
    Strict,
    /// A stream's messages are spread over several receivers, so only the set counts.
    Any,
}

/// Counts what arrives on a fixed number of streams.
#[derive(Clone, Debug)]
pub struct Ledger {
    streams: Vec<Stream>,
    order: Order,
    /// Copies that arrived.
    pub delivered: u64,
    /// Copies that had arrived before.
    pub duplicated: u64,
    /// Copies that arrived after one that was sent later.
    pub reordered: u64,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    /// One above the highest sequence number seen.
    next: u32,
    /// Numbers below `next` that were skipped and have not come, in [`Order::Strict`].
    skipped: u32,
    /// One bit per number of the window, in [`Order::Any`].
    seen: Vec<u64>,
}

impl Ledger {
    /// Makes a ledger of `streams` streams.
    pub fn new(streams: usize, order: Order) -> Ledger {
        let words = if order == Order::Any {
            WINDOW as usize / 64
        } else {
            0
        };
        let stream = Stream {
            seen: vec![0; words],
            ..Stream::default()
        };
        let streams = vec![stream; streams];
        Ledger {
            streams,
            order,
            delivered: 0,
            duplicated: 0,
            reordered: 0,
        }
    }

    /// Notes that `sequence` arrived on `stream`. Returns false if it had arrived before, or if
    /// there is no such stream: a message that nobody sent.
    #[inline]
    pub fn note(&mut self, stream: usize, sequence: u32) -> bool {
        let Some(state) = self.streams.get_mut(stream) else {
            return false;
        };
        self.delivered += 1;
        if self.order == Order::Strict && sequence == state.next {
            state.next += 1;
            return true;
        }
        match self.order {
            Order::Strict => self.note_strict(stream, sequence),
            Order::Any => self.note_any(stream, sequence),
        }
    }

    fn note_strict(&mut self, stream: usize, sequence: u32) -> bool {
        let state = &mut self.streams[stream];
        if sequence > state.next {
            state.skipped += sequence - state.next;
            state.next = sequence + 1;
            return true;
        }
        // Older than the newest: the first copy of a skipped one, or a copy too many.
        if state.skipped > 0 {
            state.skipped -= 1;
            self.reordered += 1;
            true
        } else {
            self.duplicated += 1;
            false
        }
    }

    fn note_any(&mut self, stream: usize, sequence: u32) -> bool {
        let state = &mut self.streams[stream];
        // Numbers that enter the window forget what stood in their place one window before.
        let mut entering = state.next;
        if sequence >= entering.saturating_add(WINDOW) {
            state.seen.fill(0);
            entering = sequence + 1;
        }
        while entering <= sequence {
            let slot = entering % WINDOW;
            state.seen[(slot / 64) as usize] &= !(1 << (slot % 64));
            entering += 1;
        }
        state.next = state.next.max(sequence + 1);
        let slot = sequence % WINDOW;
        let word = &mut state.seen[(slot / 64) as usize];
        let bit = 1 << (slot % 64);
        if *word & bit != 0 || sequence.saturating_add(WINDOW) < state.next {
            self.duplicated += 1;
            return false;
        }
        *word |= bit;
        true
    }

    /// How many of `expected` copies never arrived.
    pub fn lost(&self, expected: u64) -> u64 {
        expected.saturating_sub(self.delivered - self.duplicated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(order: Order, sequences: &[u32], duplicated: u64, reordered: u64, lost_of_ten: u64) {
        let mut ledger = Ledger::new(1, order);
        for &sequence in sequences {
            ledger.note(0, sequence);
        }
        assert_eq!(ledger.delivered, sequences.len() as u64);
        assert_eq!(
            (ledger.duplicated, ledger.reordered, ledger.lost(10)),
            (duplicated, reordered, lost_of_ten),
            "{order:?} {sequences:?}"
        );
    }

    #[test]
    fn every_message_once_is_nothing_lost() {
        for order in [Order::Strict, Order::Any] {
            check(order, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 0, 0, 0);
        }
    }

    #[test]
    fn gaps_are_lost_and_copies_are_duplicated() {
        for order in [Order::Strict, Order::Any] {
            check(order, &[0, 1, 2, 4, 5, 6, 9], 0, 0, 3);
            check(order, &[0, 1, 1, 2, 2], 2, 0, 7);
        }
    }

    #[test]
    fn a_late_message_is_reordered_where_order_is_promised() {
        check(Order::Strict, &[0, 2, 1, 3], 0, 1, 6);
        check(Order::Any, &[0, 2, 1, 3], 0, 0, 6);
    }

    #[test]
    fn the_window_of_any_order_moves_on() {
        let mut ledger = Ledger::new(2, Order::Any);
        for sequence in 0..3 * WINDOW {
            assert!(ledger.note(1, sequence));
        }
        assert!(!ledger.note(1, 3 * WINDOW - 1));
        assert!(ledger.note(1, 9 * WINDOW));
        assert!(ledger.note(1, 9 * WINDOW - 5));
        assert!(!ledger.note(1, 9 * WINDOW - 5));
        assert_eq!(ledger.duplicated, 2);
    }

    #[test]
    fn a_stream_that_nobody_sends_is_refused() {
        let mut ledger = Ledger::new(1, Order::Strict);
        assert!(!ledger.note(1, 0));
        assert_eq!(ledger.delivered, 0);
    }
}
