//! Whether a wait should let a few completions gather before it returns.
//!
//! A thread that sleeps and wakes for every message spends a third of its time on the way to and
//! from sleep. Where messages come in a stream, a wait therefore returns only after a window
//! (`Tuning::gather_us`), or when [`ENOUGH`] completions are there, and handles what has come in
//! one turn.
//! Where they do not – a request that waits for its answer before the next one – a window would
//! delay without gathering anything, so it is used only while windows have held several receives,
//! and tried anew now and then. The first message after a silence never waits.

use std::time::Duration;

/// Completions that end a window early.
pub(super) const ENOUGH: u32 = 32;
/// Receives that a turn must have held on average, in sixteenths, for windows to go on.
const RECEIVES_MIN: u32 = 2 * 16;
/// Turns without a window after which one is tried.
const TURNS_TO_TRIAL: u32 = 64;
/// Windows in one trial.
const TRIAL: u32 = 8;
/// A turn that comes later than this after the one before is not part of a stream.
const STREAM_US: u64 = 1_000;

/// What recent turns were like.
#[derive(Debug)]
pub(super) struct Gather {
    /// The longest that a completion waits for others; zero for not at all.
    window: Duration,
    /// Moving average of receives per window, in sixteenths.
    average: u32,
    /// Windows left in this trial.
    trial: u32,
    /// Turns of a stream since the last window.
    turns: u32,
    /// The last turn was part of a stream, and had something to do.
    is_stream: bool,
}

impl Gather {
    /// With windows of so many microseconds.
    pub(super) fn new(window_us: u32) -> Gather {
        Gather {
            window: Duration::from_micros(u64::from(window_us)),
            average: 0,
            trial: 0,
            turns: 0,
            is_stream: false,
        }
    }

    /// How long the next wait may gather, if at all.
    pub(super) fn window(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        let window = self.window;
        if !self.is_stream || window.is_zero() || timeout.is_some_and(|timeout| timeout <= window) {
            return None;
        }
        if self.average >= RECEIVES_MIN {
            return Some(window);
        }
        if self.trial > 0 {
            self.trial -= 1;
            return Some(window);
        }
        self.turns += 1;
        if self.turns >= TURNS_TO_TRIAL {
            self.turns = 0;
            self.trial = TRIAL;
        }
        None
    }

    /// What a turn was like: microseconds since the last one, how many receives it held, and
    /// whether it had been gathered for.
    pub(super) fn observe(&mut self, since_us: u64, receives: u32, had_window: bool) {
        self.is_stream = receives > 0 && since_us < STREAM_US;
        if had_window {
            // A sixteenth of the new and fifteen of the old, rounded so that it can reach both ends.
            self.average = (self.average * 15 + receives.min(64) * 16).div_ceil(16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_US: u32 = 250;

    /// Runs turns that each hold so many receives; returns how many of them had a window.
    fn check(gather: &mut Gather, turns: u32, since_us: u64, receives: u32) -> u32 {
        let mut windows = 0;
        for _ in 0..turns {
            let window = gather.window(None);
            windows += u32::from(window.is_some());
            gather.observe(since_us, receives, window.is_some());
        }
        windows
    }

    #[test]
    fn a_stream_is_gathered() {
        let mut gather = Gather::new(WINDOW_US);
        check(&mut gather, 1_000, 150, 3);
        assert_eq!(check(&mut gather, 1_000, 150, 3), 1_000);
    }

    #[test]
    fn one_request_at_a_time_is_not_delayed_but_for_trials() {
        let mut gather = Gather::new(WINDOW_US);
        check(&mut gather, 1_000, 50, 3);
        check(&mut gather, 1_000, 50, 1);
        assert!(check(&mut gather, 1_000, 50, 1) <= 150);
    }

    #[test]
    fn after_a_silence_nothing_waits() {
        let mut gather = Gather::new(WINDOW_US);
        check(&mut gather, 1_000, 150, 3);
        assert_eq!(check(&mut gather, 10, 100_000, 3), 1);
    }

    #[test]
    fn a_deadline_that_is_near_is_kept() {
        let mut gather = Gather::new(WINDOW_US);
        check(&mut gather, 1_000, 150, 3);
        assert_eq!(
            gather.window(Some(Duration::from_micros(u64::from(WINDOW_US)))),
            None
        );
        assert!(gather.window(Some(Duration::from_millis(1))).is_some());
    }
}
