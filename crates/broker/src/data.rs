//! The directory of what the shards keep: opened once, and then by each shard for itself.

use crate::admin::console::Consoles;
use crate::control::{self, Control};
use crate::cpus;
use crate::helpers::Pool;
use crate::kept::Kept;
use crate::progress::Count;
use crate::serve::secret;
use crate::supervise;
use crate::telemetry::{self, CONTROL};
use crate::upkeep::summary_of;
use anyhow::{Context, bail};
use net::{Made, ServerConfig, Workplace};
use shard::{Shard, Time};
use std::io;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::thread::Builder;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use storage::{
    DataDirectory, Loaded, NewDirectory, Pepper, StoreError, StoreOptions, Worker, WorkerControl,
    WorkerOptions,
};
use tracing::{Id, Span, field, info, info_span, warn};

/// How long something may take before it is said how far it is, and between lines.
const PERIOD: Duration = Duration::from_secs(1);

/// The directory, locked for as long as this lives, and what each shard's thread needs to use it.
pub struct Data {
    directory: DataDirectory,
    spare_cpus: Arc<[usize]>,
    helpers: Arc<Pool>,
    consoles: Arc<Consoles>,
    recovered: Count,
    /// The span of the start; of no use afterwards.
    start: Option<Id>,
    /// Per shard, once it has recovered.
    workers: Vec<OnceLock<WorkerControl>>,
}

/// The time, for files that are made.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Time(since.unwrap_or_default().as_micros() as u64)
}

impl Data {
    /// Opens the directory for so many shards, or sets it up with the seed of this configuration;
    /// moves records if there were another number of shards. Threads that are no shards run on the
    /// spare CPUs.
    pub fn open(
        path: &Path,
        config: &ServerConfig,
        spare_cpus: Vec<usize>,
        (helpers, consoles): (Arc<Pool>, Arc<Consoles>),
    ) -> anyhow::Result<Data> {
        let new = NewDirectory {
            id: getrandom::u64().context("the system gives no random numbers")?,
            placement_seed: config.shard.placement_seed,
            now: now(),
        };
        let begin = Instant::now();
        let mut said = begin;
        let mut has_moved = false;
        let directory = DataDirectory::open(path, config.shards, new, &mut |step| {
            if said.elapsed() >= PERIOD {
                said = Instant::now();
                has_moved = true;
                info!("{step}");
                supervise::progress(&step.to_string(), true);
            }
            Ok(())
        })?;
        if has_moved {
            let seconds = begin.elapsed().as_secs();
            info!(seconds, shards = config.shards, "the records are in place");
        }
        Ok(Data {
            directory,
            spare_cpus: spare_cpus.into(),
            helpers,
            consoles,
            recovered: Count::default(),
            start: Span::current().id(),
            workers: (0..config.shards).map(|_| OnceLock::new()).collect(),
        })
    }

    /// The key of the hashes of all tokens: the given one, or that of the directory, which gets
    /// one if it is new.
    pub fn pepper(&mut self, given: Option<Pepper>) -> anyhow::Result<Pepper> {
        let kept = self.directory.manifest().pepper;
        match given {
            Some(given) => {
                if kept.is_some_and(|kept| kept != given) {
                    warn!(
                        "the pepper that is given is not the one of the directory: tokens that \
                         were made without it do not fit"
                    );
                }
                Ok(given)
            }
            None => Ok(self.directory.pepper(Pepper(secret()?))?),
        }
    }

    /// Places clients, topics and groups on shards.
    pub fn placement_seed(&self) -> u64 {
        self.directory.manifest().placement_seed
    }

    /// The stores of all shards, in order, once all have recovered; none before.
    pub fn workers(&self) -> Vec<WorkerControl> {
        let workers: Option<_> = self
            .workers
            .iter()
            .map(|worker| worker.get().cloned())
            .collect();
        workers.unwrap_or_default()
    }

    /// Records that shards have recovered from.
    pub fn recovered(&self) -> &Count {
        &self.recovered
    }

    /// Starts the thread that answers `meshring backup`. Without it the broker works as well.
    pub fn start_control(self: &Arc<Data>) {
        let data = Arc::clone(self);
        let started = Control::listen(self.directory.path()).and_then(|control| {
            Builder::new()
                .name("control".to_owned())
                .spawn(move || {
                    cpus::run_on(&data.spare_cpus);
                    control.serve(&|target, progress| data.backup(target, progress));
                })
                .context("no thread for it")
        });
        if let Err(error) = started {
            let error = format!("{error:#}");
            warn!(
                error,
                "no backups while the broker runs: the control socket does not open"
            );
        }
    }

    /// The broker ends: nobody answers `meshring backup` any more.
    pub fn stop_control(&self) {
        control::remove(self.directory.path());
    }

    /// Copies all files into a directory while the shards go on, and says every second how far it
    /// is. Whoever asked may go away: the copy is finished all the same.
    fn backup(
        &self,
        target: &Path,
        progress: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> anyhow::Result<String> {
        let workers: Option<Vec<WorkerControl>> = self
            .workers
            .iter()
            .map(|worker| worker.get().cloned())
            .collect();
        let workers = workers.context("the broker is starting; try again")?;
        let manifest = self.directory.manifest();
        let (done, result) = channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // Received below, unless this panics.
                let _ = done.send(storage::backup_running(manifest, &workers, now(), target));
            });
            loop {
                match result.recv_timeout(PERIOD) {
                    Ok(loaded) => return Ok(summary_of(&loaded?)),
                    Err(RecvTimeoutError::Disconnected) => bail!("the copying has panicked"),
                    Err(RecvTimeoutError::Timeout) => {
                        let text = format!("{} KiB copied", bytes_below(target) / 1_024);
                        let _ = progress(&text);
                    }
                }
            }
        })
    }

    /// Opens one shard's file and recovers the shard from it, on the shard's thread. Errs with
    /// words for people.
    pub fn recover(&self, config: &ServerConfig, place: &Workplace) -> Result<Made<Shard>, String> {
        let span = info_span!(
            target: CONTROL,
            parent: self.start.clone(),
            "recover",
            shard = i64::from(place.shard.0),
            sessions = field::Empty,
            devices = field::Empty,
            records = field::Empty,
            otel.status_code = field::Empty,
            otel.status_description = field::Empty,
        );
        telemetry::within(&span, || self.try_to_recover(config, place))
            .map_err(|error| error.to_string())
    }

    fn try_to_recover(
        &self,
        config: &ServerConfig,
        place: &Workplace,
    ) -> Result<Made<Shard>, StoreError> {
        let number = place.shard.0;
        let store = self.directory.open_store(number, StoreOptions::default())?;
        let mut shard = Shard::new(config.of_shard(place.shard), place.now);
        let loaded = store.load(&mut |change| {
            if place.is_given_up() {
                return Err("another shard cannot start".to_owned());
            }
            self.recovered.add(1);
            shard.recover(change)
        })?;
        log_recovered(number, &loaded);
        shard.begin(loaded.alive.unwrap_or(place.now));
        let cpus = Arc::clone(&self.spare_cpus);
        let options = WorkerOptions {
            name: format!("storage-{number}"),
            on_thread_start: Arc::new(move || cpus::run_on(&cpus)),
            ..WorkerOptions::default()
        };
        let [waker, store_waker] = [place.waker.clone(), place.waker.clone()];
        let worker = Worker::start(store, options, move || store_waker.wake())?;
        // A shard recovers once.
        let _ = self.workers[usize::from(number)].set(worker.control());
        Ok(Made {
            handler: shard,
            store: Some(Box::new(Kept::new(number, worker))),
            console: Some(self.consoles.of_shard(&place.waker)),
            helpers: Some(self.helpers.helpers_of(move || waker.wake())),
        })
    }
}

fn log_recovered(shard: u16, loaded: &Loaded) {
    let span = Span::current();
    span.record("sessions", loaded.sessions as i64);
    span.record("devices", loaded.devices as i64);
    span.record("records", loaded.records() as i64);
    info!(
        shard,
        sessions = loaded.sessions,
        subscriptions = loaded.subscriptions,
        queued = loaded.queued + loaded.group_queued,
        retained = loaded.retained,
        devices = loaded.devices,
        "recovered"
    );
}

/// The length of all files in the folders of a directory; 0 for what cannot be seen.
fn bytes_below(directory: &Path) -> u64 {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let folders = entries(directory).map(|entry| entry.path());
    folders
        .flat_map(|folder| entries(&folder).collect::<Vec<_>>())
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}
