//! The directory of what the shards keep: opened once, and then by each shard for itself.

use crate::cpus;
use crate::kept::Kept;
use crate::progress::Count;
use anyhow::{Context, ensure};
use net::{Made, ServerConfig, Workplace};
use rustix::fs::{FlockOperation, flock};
use shard::{Shard, Time};
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::{FileHeader, Store, Worker, WorkerOptions};

/// The directory, locked for as long as this lives.
#[derive(Debug)]
pub struct Data {
    path: PathBuf,
    placement_seed: u64,
    _lock: File,
}

impl Data {
    /// Opens the directory for so many shards, or makes it.
    pub fn open(path: &Path, shards: u16, fresh_seed: u64) -> anyhow::Result<Data> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the directory {}", path.display()))?;
        let lock = File::create(path.join("lock"))
            .with_context(|| format!("cannot write in {}", path.display()))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("{} is in use by another broker", path.display()))?;
        let mut seed = fresh_seed;
        if file(path, 0).exists() {
            let store = Store::open(&file(path, 0))?;
            let header = *store.header();
            store.close()?;
            ensure!(
                header.shards == shards,
                "{} is of {} shards, not {shards}",
                path.display(),
                header.shards
            );
            seed = header.placement_seed;
        } else {
            for shard in (0..shards).rev() {
                let header = FileHeader {
                    directory: fresh_seed.rotate_left(32),
                    generation: 1,
                    shard,
                    shards,
                    placement_seed: seed,
                    created: Time::default(),
                };
                Store::create(&file(path, shard), &header)?.close()?;
            }
        }
        Ok(Data {
            path: path.to_owned(),
            placement_seed: seed,
            _lock: lock,
        })
    }

    /// Places clients, topics and groups on shards.
    pub fn placement_seed(&self) -> u64 {
        self.placement_seed
    }

    /// Opens one shard's file and recovers the shard from it, on the shard's thread. Errs with
    /// words for people.
    pub fn recover(
        &self,
        config: &ServerConfig,
        place: &Workplace,
        spare_cpus: &Arc<[usize]>,
        recovered: &Count,
    ) -> Result<Made<Shard>, String> {
        let text = |error: storage::StoreError| error.to_string();
        let store = Store::open(&file(&self.path, place.shard.0)).map_err(text)?;
        let mut shard = Shard::new(config.of_shard(place.shard), place.now);
        let loaded = store
            .load(&mut |change| {
                if place.is_given_up() {
                    return Err("given up, since another shard cannot start".to_owned());
                }
                recovered.add(1);
                shard.recover(change)
            })
            .map_err(text)?;
        shard.begin(loaded.alive.unwrap_or(place.now));
        let cpus = Arc::clone(spare_cpus);
        let options = WorkerOptions {
            name: format!("storage-{}", place.shard.0),
            on_thread_start: Arc::new(move || cpus::run_on(&cpus)),
            ..WorkerOptions::default()
        };
        let waker = place.waker.clone();
        let worker = Worker::start(store, options, move || waker.wake()).map_err(text)?;
        Ok(Made {
            handler: shard,
            store: Some(Box::new(Kept::new(place.shard.0, worker))),
        })
    }
}

fn file(path: &Path, shard: u16) -> PathBuf {
    path.join(format!("shard-{shard}.redb"))
}
