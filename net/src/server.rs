//! Starting, stopping and joining the threads of all shards.

use crate::clock::Clock;
use crate::doors::{Change, Doors};
use crate::journal;
use crate::links::Links;
use crate::listen::{self, Opened};
use crate::pulse::Pulse;
use crate::seat::{Entrance, Seat};
use crate::store::{Made, Waker, Workplace};
use crate::uring;
use crate::wake::Wake;
use crate::{DriverChoice, Handler, JoinError, ServerConfig, StartError};
use shard::limits::SHARDS_MAX;
use shard::{Cause, Listener, Shard, ShardId, Time};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::{self, JoinHandle};

/// A running server. Dropping it does not stop it.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(Listener, SocketAddr)>,
    doors: Doors,
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
    is_open: AtomicBool,
    /// How often shards have been told about listeners since they were opened.
    doors: AtomicU64,
    is_stopping: AtomicBool,
    finished: AtomicUsize,
    has_failed: Arc<AtomicBool>,
}

impl Shared {
    /// Whether all shards are ready, so that each has been given its listeners.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Moves when the shards are told about their listeners.
    pub(crate) fn doors(&self) -> u64 {
        self.doors.load(Ordering::Acquire)
    }

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

    /// Whether a shard that has opened its listeners or not, has heard of so many changes of them,
    /// and knows or does not know of the stop, must look around before it sleeps.
    pub(crate) fn has_news(&self, has_opened: bool, doors: u64, knows_of_stop: bool) -> bool {
        (self.is_open() && !has_opened)
            || (has_opened && self.doors() != doors)
            || (self.is_stopping() && !knows_of_stop)
            || self.has_failed()
            || self.are_all_finished()
    }
}

/// Whether io_uring can be used by this process with all that the driver needs of it, found out by
/// using it. Errs with what is refused, for people.
pub fn probe_io_uring() -> Result<(), String> {
    uring::probe()
}

/// Starts one [`Shard`] per thread, which keeps nothing. Returns when all listeners are open.
pub fn start(config: ServerConfig) -> Result<Server, StartError> {
    let template = config.clone();
    start_with(config, move |shard, now| {
        let mut shard = Shard::new(template.of_shard(shard), now);
        shard.begin(now);
        shard
    })
}

/// Starts a handler of another kind per thread, each made on its own thread, which keeps nothing.
/// Returns when all listeners are open.
pub fn start_with<H, F>(config: ServerConfig, make: F) -> Result<Server, StartError>
where
    H: Handler,
    F: Fn(ShardId, Time) -> H + Clone + Send + 'static,
{
    start_stored(config, move |place| {
        Ok(Made {
            handler: make(place.shard, place.now),
            store: None,
            helpers: None,
            console: None,
        })
    })
}

/// Starts a handler per thread, each made on its own thread, and so all at the same time, with
/// what it recovers from and the store that keeps it. A closure that errs says why, for people,
/// and nothing starts.
///
/// The addresses are taken first, so that it is known early if they cannot be; but until every
/// handler is ready ([`Handler::awaits_ready`]), connections are refused. Returns when all
/// listeners are open.
pub fn start_stored<H, F>(config: ServerConfig, make: F) -> Result<Server, StartError>
where
    H: Handler,
    F: Fn(Workplace) -> Result<Made<H>, String> + Clone + Send + 'static,
{
    check(&config)?;
    let driver = choose(config.driver, uring::probe)?;
    let mut addresses: Vec<(Listener, SocketAddr)> = Vec::new();
    addresses.extend(config.mqtt.iter().map(|&address| (Listener::Mqtt, address)));
    addresses.extend(config.http.iter().map(|&address| (Listener::Http, address)));
    addresses.extend(&config.further);
    let shards = usize::from(config.shards);
    let opened = listen::bind_when_free(&addresses, &config.passed, shards)?;

    let wakes: Arc<[Wake]> = (0..config.shards)
        .map(|index| {
            Wake::new().map_err(|error| StartError::Shard {
                shard: ShardId(index),
                error,
            })
        })
        .collect::<Result<_, _>>()?;
    let stopper = Stopper::new(Arc::clone(&wakes));
    let clock = Clock::start();
    let (is_ready, readiness) = sync_channel(shards);
    let mut threads = Vec::with_capacity(shards);
    let mut doors = Vec::with_capacity(shards);
    for (index, links) in Links::mesh(Arc::clone(&wakes)).into_iter().enumerate() {
        let shard = ShardId(index as u16);
        let (door, listeners) = channel();
        doors.push(door);
        let seat = Seat {
            shard,
            cpu: config.cpus.get(index).copied(),
            links,
            tuning: config.tuning.clone(),
            clock,
            stopper: stopper.clone(),
            waker: Waker::new(Arc::clone(&wakes), shard),
            entrance: Entrance {
                is_ready: Some(is_ready.clone()),
                listeners,
            },
        };
        let make = make.clone();
        let spawned = thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || seat.take(driver, make));
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                let error = StartError::Shard { shard, error };
                return Err(abandon(&stopper, threads, error));
            }
        }
    }
    drop(is_ready);
    let bound = await_all(&readiness, shards).and_then(|()| {
        let sockets = opened.bound.len() as i64;
        let span = tracing::info_span!(target: crate::CONTROL, "listen", sockets);
        span.in_scope(|| open_doors(opened, &doors))
    });
    let bound = match bound {
        Ok(bound) => bound,
        Err(error) => return Err(abandon(&stopper, threads, error)),
    };
    stopper.open();
    Ok(Server {
        doors: Doors::new(&bound, doors, stopper.clone()),
        listeners: bound,
        driver: driver.name(),
        stopper,
        threads,
    })
}

/// Listens on all that was bound, and gives each shard its sockets. Returns what is listened on.
fn open_doors(
    mut opened: Opened,
    doors: &[Sender<Change>],
) -> Result<Vec<(Listener, SocketAddr)>, StartError> {
    listen::listen_all(&opened)?;
    opened.number_from(0);
    for (door, listeners) in doors.iter().zip(opened.sockets) {
        // A thread that has just failed does not accept; `Server::join` says why.
        let _ = door.send(Change::Open(listeners));
    }
    Ok(opened.bound)
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
pub(crate) enum Chosen {
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
            journal::note(Cause::Driver, None, "epoll, as demanded");
            Chosen::Epoll
        }
        DriverChoice::IoUring => {
            probe().map_err(StartError::IoUringRefused)?;
            journal::note(Cause::Driver, None, "io_uring, as demanded");
            Chosen::IoUring
        }
        DriverChoice::Auto => match probe() {
            Ok(()) => {
                let detail = "io_uring, which this kernel has and allows";
                journal::note(Cause::Driver, None, detail);
                Chosen::IoUring
            }
            Err(why) => {
                journal::note(Cause::DriverRefused, None, &why);
                Chosen::Epoll
            }
        },
    };
    Ok(chosen)
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

impl Server {
    /// What was listened on at the start, with the ports that were picked.
    pub fn listeners(&self) -> &[(Listener, SocketAddr)] {
        &self.listeners
    }

    /// Something that opens and closes listeners while the server runs.
    pub fn doors(&self) -> Doors {
        self.doors.clone()
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

    /// Something that watches whether the shards take turns.
    pub fn pulse(&self) -> Pulse {
        Pulse::new(Arc::clone(&self.stopper.wakes), self.stopper.clone())
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
    /// Of a server that has one shard per wake-up.
    fn new(wakes: Arc<[Wake]>) -> Stopper {
        let shared = Arc::new(Shared {
            shards: wakes.len(),
            is_open: AtomicBool::new(false),
            doors: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
            finished: AtomicUsize::new(0),
            has_failed: Arc::default(),
        });
        Stopper { shared, wakes }
    }

    /// What the threads know of each other.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether a thread ended before its time.
    pub(crate) fn failure(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.has_failed)
    }

    /// Has all shards accept connections.
    fn open(&self) {
        self.shared.is_open.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Has all shards look what they are told about their listeners.
    pub(crate) fn announce_doors(&self) {
        self.shared.doors.fetch_add(1, Ordering::Release);
        self.wake_all();
    }

    /// Begins a graceful stop.
    pub fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        self.wake_all();
    }

    /// Ends all threads at once.
    pub(crate) fn fail(&self) {
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
}
