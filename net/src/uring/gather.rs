//! Whether a wait should let a few things gather before it returns.
//!
//! A thread that sleeps and wakes for every message spends a third of its time on the way to and
//! from sleep. Where messages come in a stream, a wait therefore returns only when as many have
//! come as usually do in a window (`Tuning::gather_us`), or the window is over, and handles what
//! has come in one turn. Waiting for a number instead of for the window's end delays half as much
//! for the same saving.
//! Where they do not – a request that waits for its answer before the next one – a window would
//! delay without gathering anything, so it is used only while several receives come in the time of
//! a window, and tried anew now and then. The first message after a silence never waits.
//!
//! Where connections come in a stream, the thread naps outside of the ring instead, because an
//! accept wakes whoever waits in it, for however many completions. Half of what a connect costs the
//! other side would else be to wake us for it.

use std::time::Duration;

/// The least and the most completions that end a window.
const ENOUGH_MIN: u32 = 2;
const ENOUGH_MAX: u32 = 32;
/// Receives, in sixteenths, that a window must hold for windows to go on: whoever waits for an
/// answer before the next request makes one at most.
const RECEIVES_MIN: u64 = 17;
/// Windows that held enough, after which it is tried whether they hold twice as many.
const WINDOWS_TO_MORE: u32 = 32;
/// Turns without a window after which one is tried.
const TURNS_TO_TRIAL: u32 = 64;
/// Windows in one trial.
const TRIAL: u32 = 8;
/// What comes later than this after what came before is not part of a stream.
const STREAM_US: u64 = 1_000;

/// The longest nap: some connections per core, and little beside what it takes to connect.
const NAP: Duration = Duration::from_micros(100);

/// How to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Until something happens or the timeout has passed.
    Wait,
    /// Until so many completions are there or this has passed.
    Window(Duration, u32),
    /// So long, whatever happens.
    Nap(Duration),
}

/// What recent turns were like.
#[derive(Debug)]
pub(super) struct Gather {
    /// The longest that a completion waits for others; zero for not at all.
    window: Duration,
    /// Moving average of the time between two receives while windows were used, in sixteenths of
    /// a microsecond.
    gap: u64,
    /// Receives that end a window: as many as usually come. Clients that all wait for answers send
    /// no more, however long a window is.
    enough: u32,
    /// Windows that held enough since that was last changed.
    full: u32,
    /// Windows left in this trial.
    trial: u32,
    /// Turns of a stream since the last window.
    turns: u32,
    /// Microseconds since something was received.
    since_receive_us: u64,
    /// What was received last came soon after what was received before. Turns that only send are
    /// in between.
    is_stream: bool,
    /// Microseconds since a connection was accepted.
    since_accept_us: u64,
    /// Connections come in a stream.
    is_storm: bool,
}

impl Gather {
    /// With windows of so many microseconds.
    pub(super) fn new(window_us: u32) -> Gather {
        Gather {
            window: Duration::from_micros(u64::from(window_us)),
            gap: u64::from(window_us) * 16,
            enough: ENOUGH_MIN,
            full: 0,
            trial: 0,
            turns: 0,
            since_receive_us: STREAM_US,
            is_stream: false,
            since_accept_us: STREAM_US,
            is_storm: false,
        }
    }

    /// How the next wait should be done, which may last so long at most.
    pub(super) fn rest(&mut self, timeout: Option<Duration>) -> Rest {
        let window = self.window;
        if window.is_zero() || timeout.is_some_and(|timeout| timeout <= window) {
            return Rest::Wait;
        }
        if self.is_storm {
            return Rest::Nap(window.min(NAP));
        }
        if !self.is_stream {
            return Rest::Wait;
        }
        let expected = self.expected();
        let enough = match self.full >= WINDOWS_TO_MORE {
            true => (self.enough * 2).min(ENOUGH_MAX),
            false => self.enough,
        };
        if expected >= RECEIVES_MIN {
            return Rest::Window(window, enough);
        }
        if self.trial > 0 {
            self.trial -= 1;
            return Rest::Window(window, enough);
        }
        self.turns += 1;
        if self.turns >= TURNS_TO_TRIAL {
            self.turns = 0;
            self.trial = TRIAL;
        }
        Rest::Wait
    }

    /// Receives that a whole window would hold at this rate, in sixteenths.
    fn expected(&self) -> u64 {
        self.window.as_micros() as u64 * 16 * 16 / self.gap.max(1)
    }

    /// What a turn was like: microseconds since the last one, how many receives it held, whether
    /// a connection was accepted, and how it had been waited for.
    pub(super) fn observe(&mut self, since_us: u64, receives: u32, has_accepted: bool, rest: Rest) {
        self.since_accept_us = self.since_accept_us.saturating_add(since_us);
        if has_accepted {
            self.is_storm = self.since_accept_us < STREAM_US;
            self.since_accept_us = 0;
        } else if self.since_accept_us >= STREAM_US {
            self.is_storm = false;
        }
        self.since_receive_us = self.since_receive_us.saturating_add(since_us);
        if receives > 0 {
            self.is_stream = self.since_receive_us < STREAM_US;
            self.since_receive_us = 0;
        }
        // Who connects waits for an answer to the first packet: that is no stream.
        if has_accepted || self.since_receive_us >= STREAM_US {
            self.is_stream = false;
        }
        if matches!(rest, Rest::Window(..)) {
            // A window in which nothing came says no more than that the time between two is longer.
            let gap = since_us * 16 / u64::from(receives.max(1));
            self.gap = (self.gap * 7 + gap) / 8;
        }
        if let Rest::Window(_, wanted) = rest {
            if receives >= wanted {
                self.full = if wanted > self.enough {
                    0
                } else {
                    self.full + 1
                };
                self.enough = wanted;
            } else {
                self.enough = receives.clamp(ENOUGH_MIN, ENOUGH_MAX);
                self.full = 0;
            }
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
            let rest = gather.rest(None);
            windows += u32::from(matches!(rest, Rest::Window(..)));
            gather.observe(since_us, receives, false, rest);
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
    fn turns_that_only_send_do_not_interrupt_a_stream() {
        let mut gather = Gather::new(WINDOW_US);
        check(&mut gather, 1_000, 150, 3);
        gather.observe(10, 0, false, Rest::Wait);
        assert!(matches!(gather.rest(None), Rest::Window(..)));
        gather.observe(STREAM_US, 0, false, Rest::Wait);
        assert_eq!(gather.rest(None), Rest::Wait);
    }

    #[test]
    fn one_request_at_a_time_is_not_delayed_but_for_trials() {
        let mut gather = Gather::new(WINDOW_US);
        check(&mut gather, 1_000, 50, 3);
        check(&mut gather, 1_000, 250, 1);
        assert!(check(&mut gather, 1_000, 250, 1) <= 150);
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
        let near = Duration::from_micros(u64::from(WINDOW_US));
        assert_eq!(gather.rest(Some(near)), Rest::Wait);
        let far = gather.rest(Some(Duration::from_millis(1)));
        assert!(matches!(far, Rest::Window(window, _) if window == near));
    }

    #[test]
    fn clients_that_wait_for_answers_are_waited_for_and_no_longer() {
        let mut gather = Gather::new(WINDOW_US);
        let mut waited_us = 0;
        for _ in 0..1_000 {
            // Four clients, whose next requests come within 20 µs of the answers.
            let rest = gather.rest(None);
            let (since_us, receives) = match rest {
                Rest::Window(_, enough) if enough > 4 => (u64::from(WINDOW_US), 4),
                Rest::Window(_, enough) => (20, enough),
                _ => (5, 1),
            };
            waited_us += since_us;
            gather.observe(since_us, receives, false, rest);
        }
        assert!(waited_us < 40 * 1_000, "{waited_us}");
        assert_eq!(gather.enough, 4);
    }

    #[test]
    fn a_storm_of_connects_is_napped_through_and_a_lone_one_is_not() {
        let mut gather = Gather::new(WINDOW_US);
        let mut accept = |since_us| {
            let rest = gather.rest(None);
            gather.observe(since_us, 0, true, rest);
            // What the turn sent is submitted by a turn in which nothing arrives.
            gather.observe(10, 0, false, Rest::Wait);
            gather.rest(None)
        };
        assert_eq!(accept(50), Rest::Wait);
        assert_eq!(accept(2_000), Rest::Wait);
        assert_eq!(accept(50), Rest::Nap(NAP));
        assert_eq!(accept(500), Rest::Nap(NAP));
        gather.observe(1_000, 1, false, Rest::Nap(NAP));
        assert_eq!(gather.rest(None), Rest::Wait);
    }

    #[test]
    fn who_does_not_gather_does_not_nap() {
        let mut gather = Gather::new(0);
        gather.observe(10, 0, true, Rest::Wait);
        gather.observe(10, 0, true, Rest::Wait);
        assert_eq!(gather.rest(None), Rest::Wait);
    }
}
