//! A new file is made of what can still be read of a damaged one, which is kept.

use crate::StoreError;
use crate::backend::Source;
use crate::check::{check_open, device_of, session_of};
use crate::copy::Filler;
use crate::directory::DataDirectory;
use crate::files::{SystemFiles, sync_directory};
use crate::load::{self, row_of};
use crate::manifest::{Manifest, file_name};
use crate::open::io_error;
use crate::pages::read_rows;
use crate::store::{Store, StoreOptions};
use crate::tables::{META, META_ALIVE};
use redb::TableHandle;
use shard::{Change, DeviceId, SessionKey, Time};
use std::collections::HashSet;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What a repair has done to a file.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The file, which is new now.
    pub path: PathBuf,
    /// The damaged one; `None` if there was none.
    pub kept: Option<PathBuf>,
    /// What was wrong.
    pub findings: Vec<String>,
    /// Records that the new file has.
    pub records: u64,
    /// What is lost, as far as can be told.
    pub dropped: Vec<String>,
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        writeln!(f, "{path}: {}", self.findings.join("; "))?;
        if let Some(kept) = &self.kept {
            writeln!(f, "  kept as {}", kept.display())?;
        }
        for dropped in &self.dropped {
            writeln!(f, "  lost: {dropped}")?;
        }
        write!(
            f,
            "  a new file has the {} records that could be read",
            self.records
        )
    }
}

/// Makes a new file in place of each that is damaged or missing in a directory that no broker
/// uses. A damaged one is kept in the directory, with `.damaged-` and the seconds of `now` behind
/// its name. Says what was done to which file, and nothing of those that are sound. Errs, before
/// anything is changed, if a file is sound but another's: bringing the right one back is better.
pub fn repair(directory: &Path, now: Time) -> Result<Vec<Repaired>, StoreError> {
    let directory = DataDirectory::open_as_is(directory)?;
    let manifest = *directory.manifest();
    let report = check_open(&SystemFiles, directory.path(), &manifest)?;
    for (shard, file) in (0..).zip(&report.files) {
        if !file.needs_repair {
            // It can be read, so this errs only if it is another's.
            crate::check::open_untouched(&SystemFiles, &file.path).and_then(|store| {
                let checked = manifest.check_header(shard, store.header());
                checked.map_err(|found| StoreError::WrongFile {
                    file: file.path.display().to_string(),
                    found,
                })
            })?;
        }
    }
    let mut repaired = Vec::new();
    for (shard, file) in (0..).zip(report.files) {
        if file.needs_repair {
            let one = Repair {
                directory: directory.path(),
                manifest: &manifest,
                shard,
                now,
            };
            repaired.push(one.run(file.path, file.findings)?);
        }
    }
    Ok(repaired)
}

struct Repair<'a> {
    directory: &'a Path,
    manifest: &'a Manifest,
    shard: u16,
    now: Time,
}

impl Repair<'_> {
    fn run(&self, path: PathBuf, findings: Vec<String>) -> Result<Repaired, StoreError> {
        let new = path.with_extension("redb.new");
        let named = |error| io_error(&path.display().to_string(), &error);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(named(error)),
            _ => {} // The rest of a repair that was interrupted.
        }
        let is_there = path.try_exists().map_err(named)?;
        let header = self.manifest.header(self.shard, self.now);
        let source = Source::new_file(&new);
        let mut target = Store::create_source(source, &header, StoreOptions::default())?;
        let salvage = match is_there {
            true => salvage(&path, &mut target)?,
            false => Salvage::nothing("the whole file"),
        };
        target.close()?;
        let kept = is_there.then(|| {
            let name = format!("{}.damaged-{}", file_name(self.shard), self.now.seconds());
            self.directory.join(name)
        });
        if let Some(kept) = &kept {
            // A second name first: so at no moment is there neither the old nor the new.
            std::fs::hard_link(&path, kept).map_err(named)?;
            sync_directory(&SystemFiles, self.directory)?;
        }
        std::fs::rename(&new, &path).map_err(named)?;
        sync_directory(&SystemFiles, &self.manifest.folder(self.directory))?;
        Ok(Repaired {
            path,
            kept,
            findings,
            records: salvage.records,
            dropped: salvage.dropped,
        })
    }
}

/// What was brought from a damaged file into a new one.
#[derive(Debug, Default)]
struct Salvage {
    records: u64,
    dropped: Vec<String>,
}

impl Salvage {
    fn nothing(what: &str) -> Salvage {
        Salvage {
            records: 0,
            dropped: vec![what.to_owned()],
        }
    }
}

fn salvage(path: &Path, target: &mut Store) -> Result<Salvage, StoreError> {
    let named = |error| io_error(&path.display().to_string(), &error);
    let mut sessions: HashSet<SessionKey> = HashSet::new();
    let mut devices: HashSet<DeviceId> = HashSet::new();
    let mut alive = None;
    let extent = read_rows(path, &mut |table, key, row| {
        if table == META.name() && key == META_ALIVE.as_bytes() {
            alive = row
                .try_into()
                .ok()
                .map(|bytes| Time(u64::from_be_bytes(bytes)));
        }
        match row_of(table, key, row) {
            Some(Ok(Change::PutSession(session))) => drop(sessions.insert(session.session)),
            Some(Ok(Change::PutDevice { device, .. })) => drop(devices.insert(device)),
            _ => {}
        }
    });
    let Some(extent) = extent.map_err(named)? else {
        return Ok(Salvage::nothing(
            "all of it: not even its header could be read",
        ));
    };
    let mut salvage = Salvage::default();
    let (mut bad, mut orphans) = (0_u64, 0_u64);
    let mut filler = Filler::new(target);
    let mut failure = None;
    read_rows(path, &mut |table, key, row| match row_of(table, key, row) {
        None => {}
        Some(Err(_)) => bad += 1,
        Some(Ok(change)) => {
            if session_of(&change).is_some_and(|session| !sessions.contains(&session))
                || device_of(&change).is_some_and(|device| !devices.contains(&device))
            {
                orphans += 1;
            } else if failure.is_none() {
                failure = filler.put(change).err();
            }
        }
    })
    .map_err(named)?;
    failure.map_or(Ok(()), Err)?;
    filler.finish(alive)?;
    salvage.records = target.read(load::count)?;
    let mut lost = |count: u64, what: &str| {
        if count > 0 {
            salvage.dropped.push(format!("{count} {what}"));
        }
    };
    lost(
        u64::from(extent.is_previous),
        "commit, the last: only the state before it can be read",
    );
    lost(
        extent.pages_lost,
        "pages, with all that was on and below them",
    );
    lost(extent.rows_lost, "rows of tables that are known");
    lost(bad, "rows that are no records");
    lost(orphans, "records of sessions and devices that are lost");
    Ok(salvage)
}
