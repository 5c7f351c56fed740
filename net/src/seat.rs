//! The life of one shard's thread, from its making to its end.

use crate::backend::Backend;
use crate::clock::Clock;
use crate::doors::Change;
use crate::driver::Driver;
use crate::epoll::EpollBackend;
use crate::journal;
use crate::links::Links;
use crate::server::{Chosen, Stopper};
use crate::store::{Made, Waker, Workplace};
use crate::turn::{self, Outcome};
use crate::uring::UringBackend;
use crate::{Handler, JoinError, StartError, Tuning, sys};
use shard::{Cause, ShardId};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;

/// Ends all other threads if its own ends by a panic.
struct FailOnPanic(Stopper);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail();
        }
    }
}

/// What a new thread needs.
pub(crate) struct Seat {
    pub(crate) shard: ShardId,
    pub(crate) cpu: Option<usize>,
    pub(crate) links: Links,
    pub(crate) tuning: Tuning,
    pub(crate) clock: Clock,
    pub(crate) stopper: Stopper,
    pub(crate) waker: Waker,
    pub(crate) entrance: Entrance,
}

/// How a thread and whoever starts the server come to open the listeners together.
pub(crate) struct Entrance {
    /// Told once: that the shard is ready, or why it never will be. `None` afterwards.
    pub(crate) is_ready: Option<SyncSender<Result<(), StartError>>>,
    /// Gives the listeners, when all shards are ready, and says how they change.
    pub(crate) listeners: Receiver<Change>,
}

impl Entrance {
    /// Says, once, that the shard is ready or why it is not.
    pub(crate) fn say(&mut self, answer: Result<(), StartError>) {
        if let Some(is_ready) = self.is_ready.take() {
            // Nobody listens any more if another shard has failed before.
            let _ = is_ready.send(answer);
        }
    }
}

impl Seat {
    /// The life of a shard's thread.
    pub(crate) fn take<H, F>(self, driver: Chosen, make: F) -> Result<(), JoinError>
    where
        H: Handler,
        F: Fn(Workplace) -> Result<Made<H>, String>,
    {
        let _guard = FailOnPanic(self.stopper.clone());
        let pinned = self.cpu.map_or(Ok(()), sys::pin_thread);
        let wake = self.links.own_wake().fd();
        match driver {
            Chosen::IoUring => {
                let now = self.clock.now();
                let backend = pinned.and_then(|()| UringBackend::new(wake, &self.tuning, now));
                self.run(backend, make)
            }
            Chosen::Epoll => {
                let buffer_bytes = self.tuning.receive_buffer_bytes as usize;
                let backend = pinned.and_then(|()| EpollBackend::new(wake, buffer_bytes));
                self.run(backend, make)
            }
        }
    }

    fn run<H, B, F>(mut self, backend: io::Result<B>, make: F) -> Result<(), JoinError>
    where
        H: Handler,
        B: Backend,
        F: Fn(Workplace) -> Result<Made<H>, String>,
    {
        let shard = self.shard;
        let mut backend = match backend {
            Ok(backend) => backend,
            Err(error) => {
                self.entrance.say(Err(StartError::Shard { shard, error }));
                return Ok(());
            }
        };
        let place = Workplace {
            shard,
            now: self.clock.now(),
            waker: self.waker,
            has_failed: self.stopper.failure(),
        };
        let made = match make(place) {
            Ok(made) => made,
            Err(reason) => {
                self.entrance.say(Err(StartError::Store { shard, reason }));
                return Ok(());
            }
        };
        let mut driver = Driver::new(shard, made, self.links, self.tuning, self.clock);
        let shared = self.stopper.shared();
        let outcome = turn::run(&mut driver, &mut backend, shared, &mut self.entrance);
        driver.journal.finish();
        // The kernel must be done with the sockets before they are closed.
        drop(backend);
        let error = match outcome {
            Ok(Outcome::Stopped) => {
                driver.close_store();
                return Ok(());
            }
            Ok(Outcome::OtherFailed) => return Ok(()),
            Ok(Outcome::Abandoned) => JoinError::Abandoned(shard),
            Ok(Outcome::StoreFailed(reason)) => {
                self.entrance.say(Err(StartError::Store {
                    shard,
                    reason: reason.clone(),
                }));
                JoinError::Store { shard, reason }
            }
            Err(error) => JoinError::Failed { shard, error },
        };
        journal::note(Cause::ShardFailed, Some(shard.0), &error.to_string());
        self.stopper.fail();
        Err(error)
    }
}
