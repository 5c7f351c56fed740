//! The directory of the real stores: opened, brought to another number of shards, backed up and
//! restored by the storage crate, with the power going in the middle of any of it.
//!
//! Its chance is its own, so that the rest of a seed is the same whatever happens in here.

use crate::chance::Chance;
use crate::files::Files;
use crate::keep::{OPTIONS, Real, records_of, text};
use crate::plan::Plan;
use crate::records::Records;
use anyhow::{Context, Result, ensure};
use shard::{Placement, Time};
use std::path::Path;
use std::sync::Arc;
use storage::{
    DataDirectory, FileSystem, Manifest, NewDirectory, Store, StoreError, backup_stores, restore_on,
};

/// Where the broker's files are.
const DATA: &str = "/data";
/// Where a backup goes, elsewhere.
const BACKUP: &str = "/backup";
/// Where backups are restored, elsewhere.
const RESTORED: &str = "/restored";

/// The directory of the real stores, and another machine for backups.
#[derive(Debug)]
pub struct Data {
    files: Files,
    elsewhere: Files,
    /// What was restored there last.
    restored: Option<(Manifest, Vec<Records>)>,
    chance: Chance,
    placement_seed: u64,
}

/// The power of a file system goes after this many operations; most of these are few enough.
fn cut(files: &Files, chance: &mut Chance) {
    let bound = chance.pick(&[10, 60, 60, 200, 800]);
    files.power().fail_after(Some(chance.below(bound)));
}

/// What an attempt came to while the power may have gone: whether it was done. The power is back.
fn outcome<T>(result: Result<T, StoreError>, files: &Files, chance: &mut Chance) -> Result<bool> {
    let is_done = match result {
        Ok(_) => true,
        Err(_) if files.power().is_gone() => false,
        Err(StoreError::Stopped { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    files.lose_power(chance);
    Ok(is_done)
}

/// The files that a manifest names have these records, and their headers fit.
fn check_whole(
    files: &Files,
    directory: &str,
    manifest: &Manifest,
    records: &[Records],
) -> Result<()> {
    ensure!(
        records.len() == usize::from(manifest.shards),
        "{directory} has {} shards instead of {}",
        manifest.shards,
        records.len()
    );
    let paths = manifest.files(Path::new(directory));
    for ((shard, path), records) in (0..).zip(&paths).zip(records) {
        let store = Store::open_source(files.untouched(path), OPTIONS)?;
        let header = store.header();
        ensure!(
            *header == manifest.header(shard, header.created),
            "{} belongs elsewhere",
            path.display()
        );
        ensure!(
            text(&records_of(&store)?) == text(records),
            "{} has other records than it should",
            path.display()
        );
    }
    Ok(())
}

impl Data {
    /// None yet.
    pub fn new(plan: &Plan) -> Data {
        Data {
            files: Files::default(),
            elsewhere: Files::default(),
            restored: None,
            chance: Chance::new(plan.seed ^ 0x6469_7265_6374_6f72),
            placement_seed: plan.placement_seed,
        }
    }

    /// Opens it for so many shards, perhaps after attempts, some with other numbers, in which the
    /// power went. `records` is what is in it; they come back as they are distributed now, with
    /// the stores.
    ///
    /// # Errors
    /// Something is lost, doubled or moved to the wrong shard.
    pub fn open(
        &mut self,
        mut records: Vec<Records>,
        shards: u16,
        now: Time,
    ) -> Result<(Vec<Records>, Vec<Real>)> {
        let is_moving = records.len() != usize::from(shards);
        let attempts = match is_moving || self.chance.one_in(8) {
            true => self.chance.below(4),
            false => 0,
        };
        for _ in 0..attempts {
            let other = self.chance.between(1, 4) as u16;
            let target = self.chance.pick(&[shards, other]);
            records = self
                .attempt(records, target, now)
                .with_context(|| format!("cut on the way to {target} shards"))?;
        }
        let directory = self.open_directory(shards, now, None)?;
        let records = self.moved(records, shards);
        let paths = directory.files();
        let stores = (0..shards).zip(&paths).map(|(shard, path)| {
            let store = directory.open_store(shard, OPTIONS)?;
            let disk = self.files.disk(path)?;
            Ok(Real { store, disk })
        });
        let stores = stores.collect::<Result<_>>()?;
        Ok((records, stores))
    }

    /// `stop`: whoever listens stops it when told for so many times.
    fn open_directory(
        &self,
        shards: u16,
        now: Time,
        stop: Option<u64>,
    ) -> Result<DataDirectory, StoreError> {
        let new = NewDirectory {
            id: 1,
            placement_seed: self.placement_seed,
            now,
        };
        let mut told = 0;
        let files = Arc::new(self.files.clone());
        DataDirectory::open_on(files, Path::new(DATA), shards, new, &mut |_| {
            told += 1;
            match stop == Some(told) {
                true => Err("enough".to_string()),
                false => Ok(()),
            }
        })
    }

    fn moved(&self, records: Vec<Records>, shards: u16) -> Vec<Records> {
        if records.len() == usize::from(shards) {
            return records;
        }
        let placement = Placement::new(shards, self.placement_seed);
        Records::reshard(&records, shards, &placement)
    }

    /// Opens it while the power goes. What counts afterwards is whole: the old or the new.
    fn attempt(&mut self, records: Vec<Records>, shards: u16, now: Time) -> Result<Vec<Records>> {
        cut(&self.files, &mut self.chance);
        let stop = self.chance.between(1, 40);
        let result = self.open_directory(shards, now, Some(stop));
        let is_done = outcome(result, &self.files, &mut self.chance)?;
        let manifest = Manifest::read_on(&self.files, Path::new(DATA))?;
        let Some(manifest) = manifest.filter(|manifest| manifest.generation > 0) else {
            // Before the first files there is nothing to lose.
            ensure!(!is_done, "a directory that was opened is gone");
            ensure!(
                records.iter().all(|records| records.changes().is_empty()),
                "the directory is gone, and all records with it"
            );
            return Ok(records);
        };
        ensure!(
            !is_done || manifest.shards == shards,
            "records were moved, and are back"
        );
        ensure!(
            manifest.shards == shards || usize::from(manifest.shards) == records.len(),
            "{} shards are nobody's wish",
            manifest.shards
        );
        let records = self.moved(records, manifest.shards);
        check_whole(&self.files, DATA, &manifest, &records)?;
        Ok(records)
    }

    /// Perhaps backs these stores up and restores them elsewhere, where the power goes now and
    /// then. With each comes what must be in it.
    ///
    /// # Errors
    /// A backup or what is restored from it is not whole.
    pub fn back_up(&mut self, stores: &[(&Store, &Records)], now: Time) -> Result<()> {
        if !self.chance.one_in(4) {
            return Ok(());
        }
        let manifest = Manifest::read_on(&self.files, Path::new(DATA))?;
        let manifest = manifest.context("the stores are in a directory")?;
        let records: Vec<Records> = stores
            .iter()
            .map(|(_, records)| (*records).clone())
            .collect();
        let stores: Vec<&Store> = stores.iter().map(|(store, _)| *store).collect();
        let (files, target) = (self.elsewhere.clone(), Path::new(BACKUP));
        let cuts = self.chance.below(3);
        for attempt in 0..=cuts {
            // One that was cut is not gone on with.
            files.erase(target);
            let is_last = attempt == cuts;
            if !is_last {
                cut(&files, &mut self.chance);
            }
            let result = backup_stores(&files, &manifest, &stores, now, target);
            let is_done = outcome(result, &files, &mut self.chance)?;
            ensure!(is_done || !is_last, "a backup fails for nothing");
            match Manifest::read_on(&files, target)? {
                Some(found) => {
                    ensure!(found == manifest, "a backup has another manifest");
                    check_whole(&files, BACKUP, &found, &records)?;
                }
                None => ensure!(!is_done, "a backup that was done is gone"),
            }
        }
        self.restore(&manifest, &records, now)
            .context("a backup is restored")
    }

    fn restore(&mut self, backup: &Manifest, records: &[Records], now: Time) -> Result<()> {
        let files = self.elsewhere.clone();
        let [from, to] = [BACKUP, RESTORED].map(Path::new);
        let cuts = self.chance.below(3);
        for attempt in 0..=cuts {
            let is_last = attempt == cuts;
            if !is_last {
                cut(&files, &mut self.chance);
            }
            let result = restore_on(&files, from, to, true, now);
            let is_done = outcome(result, &files, &mut self.chance)?;
            ensure!(is_done || !is_last, "restoring fails for nothing");
            let found = Manifest::read_on(&files, to)?;
            let Some(found) = found else {
                ensure!(
                    !is_done && self.restored.is_none(),
                    "what was restored is gone"
                );
                continue;
            };
            match &self.restored {
                Some((old, records)) if *old == found => {
                    ensure!(!is_done, "what was restored is the old again");
                    check_whole(&files, RESTORED, &found, records)?;
                }
                _ => {
                    ensure!(found.id == backup.id, "what is restored is another's");
                    check_whole(&files, RESTORED, &found, records)?;
                    self.restored = Some((found, records.to_vec()));
                }
            }
        }
        Ok(())
    }
}
