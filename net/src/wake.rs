//! How one shard wakes another: a flag that says that it sleeps, and an eventfd.
//!
//! A shard that goes to sleep announces it, looks at its rings once more, and only then waits.
//! Whoever puts something into a ring looks at the flag afterwards. Each side writes one place and
//! then reads the other's, so both need a full fence between the two: without it, both could read
//! the old value, and the sleeper would sleep on a full ring. The flag is taken back by the first
//! who raises the signal, so a sleeper is signalled once, by whomever.

use crate::sys::Signal;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Whether a shard sleeps, or is about to.
#[derive(Debug, Default)]
struct Sleeping(AtomicBool);

impl Sleeping {
    /// The owner: "I am going to sleep". Look at the rings once more after this.
    fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner: "I am awake".
    fn retract(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Somebody else, after filling a ring: whether it falls to the caller to raise the signal.
    fn claim(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// Wakes one shard.
#[derive(Debug)]
pub struct Wake {
    sleeping: Sleeping,
    signal: Signal,
}

impl Wake {
    /// Of a shard that is awake. Errs if there are no file descriptors left.
    pub fn new() -> io::Result<Wake> {
        Ok(Wake {
            sleeping: Sleeping::default(),
            signal: Signal::new()?,
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
    pub fn wake(&self) {
        if self.sleeping.claim() {
            self.signal.raise();
        }
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
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    #[test]
    fn a_sleeper_is_signalled_once() {
        let sleeping = Sleeping::default();
        assert!(!sleeping.claim());
        sleeping.announce();
        assert!(sleeping.claim());
        assert!(!sleeping.claim());
        sleeping.announce();
        sleeping.retract();
        assert!(!sleeping.claim());
    }

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
