//! Starting, stopping and joining the threads of all shards.

use crate::backend::Backend;
use crate::clock::Clock;
use crate::driver::Driver;
use crate::epoll::EpollBackend;
use crate::links::Links;
use crate::listen::{self, Listening};
use crate::turn::{self, Outcome};
use crate::uring::{self, UringBackend};
use crate::wake::Wake;
use crate::{DriverChoice, Handler, JoinError, ServerConfig, StartError, Tuning, sys};
use shard::limits::SHARDS_MAX;
use shard::{Listener, Shard, ShardId, Time};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// A running server. Dropping it does not stop it.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(Listener, SocketAddr)>,
    driver: &'static str,
    stopper: Stopper,
    threads: Vec<JoinHandle<Result<(), JoinError>>>,
}

/// Asks a server to stop, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    shared: Arc<Shared>,
    wakes: Arc<[Wake]>,
}

/// What the threads of a server know of each other, beside their links.
#[derive(Debug)]
pub(crate) struct Shared {
    shards: usize,
    is_stopping: AtomicBool,
    finished: AtomicUsize,
    has_failed: AtomicBool,
}

impl Shared {
    /// Whether a stop has been asked for.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Counts a shard that has stopped; returns whether it was the last.
    pub(crate) fn count_finished(&self) -> bool {
        self.finished.fetch_add(1, Ordering::Relaxed) + 1 == self.shards
    }

    /// Whether all shards have stopped.
    pub(crate) fn are_all_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed) == self.shards
    }

    /// Whether a thread ended before its time.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Whether a shard that knows or does not know of the stop must look around before it sleeps.
    pub(crate) fn has_news(&self, knows_of_stop: bool) -> bool {
        (self.is_stopping() && !knows_of_stop) || self.has_failed() || self.are_all_finished()
    }
}

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
struct Seat {
    shard: ShardId,
    cpu: Option<usize>,
    listeners: Vec<Listening>,
    links: Links,
    tuning: Tuning,
    clock: Clock,
    stopper: Stopper,
    is_ready: SyncSender<Result<(), StartError>>,
}

/// Starts one [`Shard`] per thread. Returns when all listeners are open and all threads run.
pub fn start(config: ServerConfig) -> Result<Server, StartError> {
    let template = config.shard.clone();
    let shards = config.shards;
    start_with(config, move |shard, now| {
        let mut config = template.clone();
        config.shard = shard;
        config.shards = shards;
        config.seed = seed_of(template.seed, shard);
        Shard::new(config, now)
    })
}

/// Starts a handler of another kind per thread, each made on its own thread. Returns when all
/// listeners are open and all threads run.
pub fn start_with<H, F>(config: ServerConfig, make: F) -> Result<Server, StartError>
where
    H: Handler,
    F: Fn(ShardId, Time) -> H + Clone + Send + 'static,
{
    check(&config)?;
    let driver = choose(config.driver, uring::probe)?;
    let mut addresses: Vec<(Listener, SocketAddr)> = Vec::new();
    addresses.extend(config.mqtt.iter().map(|&address| (Listener::Mqtt, address)));
    addresses.extend(config.http.iter().map(|&address| (Listener::Http, address)));
    let shards = usize::from(config.shards);
    let listen::Opened { sockets, bound } = listen::open(&addresses, shards)?;

    let wakes: Arc<[Wake]> = (0..config.shards)
        .map(|index| {
            Wake::new().map_err(|error| StartError::Shard {
                shard: ShardId(index),
                error,
            })
        })
        .collect::<Result<_, _>>()?;
    let shared = Arc::new(Shared {
        shards,
        is_stopping: AtomicBool::new(false),
        finished: AtomicUsize::new(0),
        has_failed: AtomicBool::new(false),
    });
    let stopper = Stopper {
        shared,
        wakes: Arc::clone(&wakes),
    };
    let clock = Clock::start();
    let (is_ready, readiness) = sync_channel(shards);
    let mut threads = Vec::with_capacity(shards);
    for (index, (links, listeners)) in Links::mesh(wakes).into_iter().zip(sockets).enumerate() {
        let seat = Seat {
            shard: ShardId(index as u16),
            cpu: config.cpus.get(index).copied(),
            listeners,
            links,
            tuning: config.tuning.clone(),
            clock,
            stopper: stopper.clone(),
            is_ready: is_ready.clone(),
        };
        let make = make.clone();
        let spawned = thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || seat.take(driver, make));
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                let shard = ShardId(index as u16);
                return Err(abandon(
                    &stopper,
                    threads,
                    StartError::Shard { shard, error },
                ));
            }
        }
    }
    drop(is_ready);
    if let Err(error) = await_all(&readiness, shards) {
        return Err(abandon(&stopper, threads, error));
    }
    Ok(Server {
        listeners: bound,
        driver: driver.name(),
        stopper,
        threads,
    })
}

fn check(config: &ServerConfig) -> Result<(), StartError> {
    let wrong = |why: String| Err(StartError::Config(why));
    let shards = usize::from(config.shards);
    if shards == 0 || shards > SHARDS_MAX {
        return wrong(format!(
            "{shards} shards asked for, 1 to {SHARDS_MAX} are possible"
        ));
    }
    if !config.cpus.is_empty() && config.cpus.len() != shards {
        return wrong(format!(
            "{} CPUs named for {shards} shards",
            config.cpus.len()
        ));
    }
    let tuning = &config.tuning;
    if !tuning.receive_buffers.is_power_of_two() || tuning.receive_buffers > 32_768 {
        return wrong(format!(
            "{} receive buffers asked for; must be a power of two up to 32768",
            tuning.receive_buffers
        ));
    }
    if tuning.receive_buffer_bytes == 0 || tuning.connections_max == 0 {
        return wrong("no receive buffer or no connections allowed".to_owned());
    }
    Ok(())
}

/// The interface that was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chosen {
    IoUring,
    Epoll,
}

impl Chosen {
    fn name(self) -> &'static str {
        match self {
            Chosen::IoUring => "io_uring",
            Chosen::Epoll => "epoll",
        }
    }
}

fn choose(
    choice: DriverChoice,
    probe: impl FnOnce() -> Result<(), String>,
) -> Result<Chosen, StartError> {
    let chosen = match choice {
        DriverChoice::Epoll => {
            tracing::info!("driver: epoll, as demanded");
            Chosen::Epoll
        }
        DriverChoice::IoUring => {
            probe().map_err(StartError::IoUringRefused)?;
            tracing::info!("driver: io_uring, as demanded");
            Chosen::IoUring
        }
        DriverChoice::Auto => match probe() {
            Ok(()) => {
                tracing::info!("driver: io_uring, which this kernel has and allows");
                Chosen::IoUring
            }
            Err(why) => {
                tracing::warn!("driver: epoll, because io_uring is refused here: {why}");
                Chosen::Epoll
            }
        },
    };
    Ok(chosen)
}

/// A different seed for each shard, fixed by the one that was configured (splitmix64).
fn seed_of(seed: u64, shard: ShardId) -> u64 {
    let step = 0x9E37_79B9_7F4A_7C15_u64;
    let mut mixed = seed.wrapping_add(step.wrapping_mul(u64::from(shard.0) + 1));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn await_all(
    readiness: &Receiver<Result<(), StartError>>,
    shards: usize,
) -> Result<(), StartError> {
    for _ in 0..shards {
        // A thread that panics drops its sender unused.
        let answer = readiness.recv().unwrap_or_else(|_| {
            Err(StartError::Config(
                "a shard panicked while it was made".to_owned(),
            ))
        });
        answer?;
    }
    Ok(())
}

/// Ends the threads that run already.
fn abandon(
    stopper: &Stopper,
    threads: Vec<JoinHandle<Result<(), JoinError>>>,
    error: StartError,
) -> StartError {
    stopper.fail();
    for thread in threads {
        // The reason for the failure is known already.
        let _ = thread.join();
    }
    error
}

impl Seat {
    /// The life of a shard's thread.
    fn take<H, F>(mut self, driver: Chosen, make: F) -> Result<(), JoinError>
    where
        H: Handler,
        F: Fn(ShardId, Time) -> H,
    {
        let _guard = FailOnPanic(self.stopper.clone());
        let pinned = self.cpu.map_or(Ok(()), sys::pin_thread);
        let listeners = std::mem::take(&mut self.listeners);
        match driver {
            Chosen::IoUring => {
                let now = self.clock.now();
                let backend = pinned.and_then(|()| {
                    UringBackend::new(listeners, self.links.own_wake().fd(), &self.tuning, now)
                });
                self.run(backend, make)
            }
            Chosen::Epoll => {
                let buffer_bytes = self.tuning.receive_buffer_bytes as usize;
                let backend = pinned.and_then(|()| {
                    EpollBackend::new(listeners, self.links.own_wake().fd(), buffer_bytes)
                });
                self.run(backend, make)
            }
        }
    }

    fn run<H, B, F>(self, backend: io::Result<B>, make: F) -> Result<(), JoinError>
    where
        H: Handler,
        B: Backend,
        F: Fn(ShardId, Time) -> H,
    {
        let shard = self.shard;
        let mut backend = match backend {
            Ok(backend) => backend,
            Err(error) => {
                // Nobody listens any more if another shard has failed before.
                let _ = self.is_ready.send(Err(StartError::Shard { shard, error }));
                return Ok(());
            }
        };
        let handler = make(shard, self.clock.now());
        let mut driver = Driver::new(shard, handler, self.links, self.tuning, self.clock);
        let _ = self.is_ready.send(Ok(()));
        drop(self.is_ready);
        let outcome = turn::run(&mut driver, &mut backend, &self.stopper.shared);
        // The kernel must be done with the sockets before they are closed.
        drop(backend);
        match outcome {
            Ok(Outcome::Stopped | Outcome::OtherFailed) => Ok(()),
            Ok(Outcome::Abandoned) => {
                self.stopper.fail();
                Err(JoinError::Abandoned(shard))
            }
            Err(error) => {
                tracing::error!(shard = shard.0, %error, "the shard's thread ends, and with it all");
                self.stopper.fail();
                Err(JoinError::Failed { shard, error })
            }
        }
    }
}

impl Server {
    /// What is listened on, with the ports that were picked.
    pub fn listeners(&self) -> &[(Listener, SocketAddr)] {
        &self.listeners
    }

    /// `"io_uring"` or `"epoll"`.
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    /// Begins a graceful stop; [`Server::join`] waits for its end.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// Something that can stop the server from another thread, also while one waits in
    /// [`Server::join`].
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until all shards have stopped; returns the first failure of any of them.
    pub fn join(self) -> Result<(), JoinError> {
        let mut failure = None;
        for (index, thread) in self.threads.into_iter().enumerate() {
            let panicked = Err(JoinError::Panicked(ShardId(index as u16)));
            let result = thread.join().unwrap_or(panicked);
            failure = failure.or(result.err());
        }
        failure.map_or(Ok(()), Err)
    }
}

impl Stopper {
    /// Begins a graceful stop.
    pub fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        self.wake_all();
    }

    /// Ends all threads at once.
    fn fail(&self) {
        self.shared.has_failed.store(true, Ordering::Relaxed);
        self.wake_all();
    }

    fn wake_all(&self) {
        for wake in self.wakes.iter() {
            wake.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_uring_is_chosen_where_it_works() {
        assert_eq!(
            choose(DriverChoice::Auto, || Ok(())).unwrap(),
            Chosen::IoUring
        );
        assert_eq!(
            choose(DriverChoice::IoUring, || Ok(())).unwrap(),
            Chosen::IoUring
        );
    }

    #[test]
    fn where_it_is_refused_epoll_steps_in_unless_io_uring_was_demanded() {
        let refused = || Err("not permitted".to_owned());
        assert_eq!(choose(DriverChoice::Auto, refused).unwrap(), Chosen::Epoll);
        match choose(DriverChoice::IoUring, refused) {
            Err(StartError::IoUringRefused(why)) => assert_eq!(why, "not permitted"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn epoll_on_demand_does_not_touch_io_uring() {
        let probe = || panic!("probed");
        assert_eq!(choose(DriverChoice::Epoll, probe).unwrap(), Chosen::Epoll);
    }

    #[test]
    fn every_shard_has_its_own_seed() {
        let mut seeds: Vec<u64> = (0..128).map(|shard| seed_of(1, ShardId(shard))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 128);
        assert_ne!(seed_of(1, ShardId(0)), seed_of(2, ShardId(0)));
    }
}
