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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_clock_agree() {
        let clock = Clock::start();
        let copy = clock;
        let first = clock.now();
        assert!(copy.now() >= first);
        assert!(clock.now().since(first).0 < 60_000_000);
    }
}
