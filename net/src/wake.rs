//! How one shard wakes another: a flag that says that it sleeps, and an eventfd.
//!
//! A shard that goes to sleep announces it, looks at its rings once more, and only then waits.
//! Whoever puts something into a ring, or makes room in one, looks at the flag afterwards.

use crate::flags::Sleeping;
use crate::sys::Signal;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Wakes one shard.
#[derive(Debug)]
pub struct Wake {
    sleeping: Sleeping,
    signal: Signal,
    /// Turns that the owner has taken; written by it alone. It stands here because the owner
    /// touches this memory in each turn anyway.
    turns: AtomicU64,
}

impl Wake {
    /// Of a shard that is awake. Errs if there are no file descriptors left.
    pub fn new() -> io::Result<Wake> {
        Ok(Wake {
            sleeping: Sleeping::default(),
            signal: Signal::new()?,
            turns: AtomicU64::new(0),
        })
    }

    /// The owner is about to wait; it must look at what it waits for once more after this.
    pub fn announce_sleep(&self) {
        self.sleeping.announce();
    }

    /// The owner is awake.
    pub fn retract_sleep(&self) {
        self.sleeping.retract();
    }

    /// Wakes the owner if it sleeps. To be called after what it waits for has been made visible.
    /// Returns whether it had to be woken.
    pub fn wake(&self) -> bool {
        let is_asleep = self.sleeping.claim();
        if is_asleep {
            self.signal.raise();
        }
        is_asleep
    }

    /// The owner begins a turn. Two plain moves, since nobody else writes.
    pub(crate) fn count_turn(&self) {
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns.wrapping_add(1), Ordering::Relaxed);
    }

    /// How many turns the owner has taken.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// What the owner waits for: each wake-up is an edge.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.signal.fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Epoll;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    /// Two threads hand a number to and fro, each sleeping until the other has raised it. A lost
    /// wake-up shows as a wait that times out.
    #[test]
    fn no_wake_up_is_lost() {
        const ROUNDS: u64 = 20_000;
        let wakes = Arc::new([Wake::new().unwrap(), Wake::new().unwrap()]);
        let number = Arc::new(AtomicU64::new(0));
        let players: Vec<_> = (0..2_u64)
            .map(|me| {
                let (wakes, number) = (wakes.clone(), number.clone());
                std::thread::spawn(move || {
                    let (own, other) = (&wakes[me as usize], &wakes[1 - me as usize]);
                    let mut epoll = Epoll::new(1).unwrap();
                    epoll
                        .add(own.fd(), libc::EPOLLIN | libc::EPOLLET, 0)
                        .unwrap();
                    let mut round = me;
                    while round < ROUNDS {
                        own.announce_sleep();
                        while number.load(Ordering::Acquire) != round {
                            let woken = epoll.wait(Some(Duration::from_secs(10))).unwrap();
                            assert_eq!(woken, 1, "a wake-up was lost in round {round}");
                            own.announce_sleep();
                        }
                        own.retract_sleep();
                        number.store(round + 1, Ordering::Release);
                        other.wake();
                        round += 2;
                    }
                })
            })
            .collect();
        for player in players {
            player.join().unwrap();
        }
    }
}
