//! The clock that all shards of a process share: wall time once, monotonic time from then on.

use shard::Time;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads the monotonic clock as microseconds since the Unix epoch, by an offset taken once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    offset_us: u64,
}

impl Clock {
    /// Takes the offset; all shards get a copy of the same clock.
    pub(crate) fn start() -> Clock {
        // A host whose clock stands before 1970 gets times that begin at zero.
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Clock {
            origin: Instant::now(),
            offset_us: wall.as_micros() as u64,
        }
    }

    /// The time now. Never less than what any thread was told before.
    pub(crate) fn now(&self) -> Time {
        Time(self.offset_us + self.origin.elapsed().as_micros() as u64)
    }
}

/// Limits log lines, so that a peer cannot make a flood of them.
#[derive(Debug)]
pub(crate) struct LineLimit {
    per_second: u32,
    second: u64,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    /// So many lines in one second.
    pub(crate) fn new(per_second: u32) -> LineLimit {
        LineLimit {
            per_second,
            second: 0,
            lines: 0,
            left_out: 0,
        }
    }

    /// Whether a line may be written now; if so, how many were left out before it.
    pub(crate) fn admit(&mut self, now: Time) -> Option<u64> {
        if now.seconds() != self.second {
            self.second = now.seconds();
            self.lines = 0;
        }
        if self.lines >= self.per_second {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_limited_per_second_and_the_rest_is_counted() {
        let mut limit = LineLimit::new(2);
        let answers: Vec<Option<u64>> = [
            1_000_000, 1_000_001, 1_500_000, 1_999_999, 2_000_000, 2_000_001,
        ]
        .iter()
        .map(|&us| limit.admit(Time(us)))
        .collect();
        assert_eq!(answers, [Some(0), Some(0), None, None, Some(2), Some(0)]);
    }

    #[test]
    fn copies_of_a_clock_agree() {
        let clock = Clock::start();
        let copy = clock;
        let first = clock.now();
        assert!(copy.now() >= first);
        assert!(clock.now().since(first).0 < 60_000_000);
    }
}
