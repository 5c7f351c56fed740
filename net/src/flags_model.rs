//! `flags.rs` under the model checker: every order of steps that the memory model allows.
//!
//! The ring is a count here: the sender raises `pushed`, the receiver `popped`. A sleeper that
//! nobody signalled although it has something to do is the failure that is looked for.

/// Where `flags.rs` finds its atomics here.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

#[path = "flags.rs"]
#[allow(
    clippy::duplicate_mod,
    reason = "once with the real atomics, once with the model's"
)]
mod flags;

use flags::{Blocked, Sleeping};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

/// A ring of one place, and what surrounds it.
#[derive(Default)]
struct Pair {
    pushed: AtomicUsize,
    popped: AtomicUsize,
    receiver: Sleeping,
    receiver_signal: AtomicBool,
    sender: Sleeping,
    sender_signal: AtomicBool,
    blocked: Blocked,
}

impl Pair {
    fn wake(sleeping: &Sleeping, signal: &AtomicBool) {
        if sleeping.claim() {
            signal.store(true, Ordering::Release);
        }
    }
}

#[test]
fn a_receiver_that_sleeps_on_a_full_ring_has_been_signalled() {
    loom::model(|| {
        let pair = Arc::new(Pair::default());
        let sender = thread::spawn({
            let pair = Arc::clone(&pair);
            move || {
                for _ in 0..2 {
                    pair.pushed.fetch_add(1, Ordering::Release);
                    Pair::wake(&pair.receiver, &pair.receiver_signal);
                }
            }
        });
        // The receiver is awake once, and then goes to sleep.
        let seen = pair.pushed.load(Ordering::Acquire);
        pair.receiver.retract();
        pair.receiver.announce();
        let is_asleep = pair.pushed.load(Ordering::Acquire) == seen;
        sender.join().unwrap();
        let has_work = pair.pushed.load(Ordering::Acquire) != seen;
        let is_signalled = pair.receiver_signal.load(Ordering::Acquire);
        assert!(
            !is_asleep || !has_work || is_signalled,
            "asleep with a full ring"
        );
    });
}

#[test]
fn a_sender_that_sleeps_on_leftovers_has_been_signalled() {
    // Whether it has been blocked before.
    for was_blocked in [false, true] {
        sleep_on_leftovers(was_blocked);
    }
}

fn sleep_on_leftovers(was_blocked: bool) {
    loom::model(move || {
        // The ring of one place is full, and the sender has two more to push.
        let pair = Arc::new(Pair::default());
        pair.pushed.store(1, Ordering::Relaxed);
        if was_blocked {
            pair.blocked.raise();
        }
        let receiver = thread::spawn({
            let pair = Arc::clone(&pair);
            move || {
                // Drains whatever it finds, twice.
                for _ in 0..2 {
                    let pushed = pair.pushed.load(Ordering::Acquire);
                    if pushed == pair.popped.load(Ordering::Relaxed) {
                        continue;
                    }
                    let was_blocked = pair.blocked.lower();
                    pair.popped.store(pushed, Ordering::Release);
                    if was_blocked || pair.blocked.is_raised() {
                        Pair::wake(&pair.sender, &pair.sender_signal);
                    }
                }
            }
        });
        let is_full =
            || pair.pushed.load(Ordering::Relaxed) == pair.popped.load(Ordering::Acquire) + 1;
        let mut left = 2;
        if !is_full() {
            pair.pushed.fetch_add(1, Ordering::Release);
            left -= 1;
        }
        pair.blocked.raise();
        pair.sender.announce();
        let is_asleep = is_full();
        receiver.join().unwrap();
        let has_work = left > 0 && !is_full();
        let is_signalled = pair.sender_signal.load(Ordering::Acquire);
        assert!(
            !is_asleep || !has_work || is_signalled,
            "asleep with leftovers and room"
        );
    });
}

#[test]
fn a_sleeper_is_signalled_once() {
    loom::model(|| {
        let sleeping = Arc::new(Sleeping::default());
        assert!(!sleeping.claim());
        sleeping.announce();
        let other = thread::spawn({
            let sleeping = Arc::clone(&sleeping);
            move || sleeping.claim()
        });
        let is_ours = sleeping.claim();
        assert!(is_ours != other.join().unwrap(), "both or neither");
        assert!(!sleeping.claim());
    });
}
