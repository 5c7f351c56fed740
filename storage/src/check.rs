//! Looking a data directory over, without changing anything in it.

use crate::StoreError;
use crate::directory::{DataDirectory, generations};
use crate::files::{FileSystem, SystemFiles};
use crate::load::{self, Loaded};
use crate::manifest::Manifest;
use crate::store::{Store, StoreOptions};
use shard::{Change, DeviceId, Placement, SessionKey};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// What a check has found.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the directory says about itself.
    pub manifest: Manifest,
    /// One for each file that should be there.
    pub files: Vec<FileReport>,
    /// What is worth knowing and is no damage.
    pub notes: Vec<String>,
}

/// What a check of one file has found.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Which.
    pub path: PathBuf,
    /// Its records, as far as they could be read.
    pub counts: Loaded,
    /// What is wrong with it; nothing, if all is well.
    pub findings: Vec<String>,
    /// Whether [`crate::repair`] would make a new file of it.
    pub needs_repair: bool,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.files.iter().all(|file| file.findings.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let manifest = &self.manifest;
        writeln!(
            f,
            "directory {:016x}, generation {}, {} shards",
            manifest.id, manifest.generation, manifest.shards
        )?;
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        for file in &self.files {
            let counts = &file.counts;
            writeln!(
                f,
                "{}: {} sessions, {} subscriptions, {} queued, {} retained, {} for groups, {} \
                 QoS 2 records, {} devices, {} tokens, {} subscriptions of devices",
                file.path.display(),
                counts.sessions,
                counts.subscriptions,
                counts.queued,
                counts.retained,
                counts.group_queued,
                counts.received + counts.seen,
                counts.devices,
                counts.tokens,
                counts.device_subscriptions,
            )?;
            for finding in &file.findings {
                writeln!(f, "  {finding}")?;
            }
        }
        f.write_str(if self.is_sound() {
            "no damage found"
        } else {
            "DAMAGED"
        })
    }
}

/// Checks all files of a directory that no broker uses: that they are whole, that every record can
/// be read, that the records fit each other and are where they belong. Errs only if it cannot be
/// done at all.
pub fn check(directory: &Path) -> Result<Report, StoreError> {
    let directory = DataDirectory::open_as_is(directory)?;
    check_open(&SystemFiles, directory.path(), directory.manifest())
}

/// The same for a directory that is locked already, or that needs no lock.
pub(crate) fn check_open(
    file_system: &dyn FileSystem,
    directory: &Path,
    manifest: &Manifest,
) -> Result<Report, StoreError> {
    let mut notes = Vec::new();
    for generation in generations(file_system, directory)? {
        if generation != manifest.generation {
            notes.push(format!(
                "the files of generation {generation} do not count, and go at the next start"
            ));
        }
    }
    let mut known = Known::default();
    let files = (0..).zip(manifest.files(directory));
    let files =
        files.map(|(shard, path)| check_file(file_system, path, manifest, shard, &mut known));
    Ok(Report {
        manifest: *manifest,
        files: files.collect(),
        notes,
    })
}

/// What must not be in two files.
#[derive(Debug, Default)]
struct Known {
    sessions: HashSet<SessionKey>,
    clients: HashSet<Box<str>>,
}

fn check_file(
    file_system: &dyn FileSystem,
    path: PathBuf,
    manifest: &Manifest,
    shard: u16,
    known: &mut Known,
) -> FileReport {
    let mut findings = Findings::default();
    let counts = match open_untouched(file_system, &path) {
        Err(error) => {
            findings.add_damage(&short(error), String::new);
            Loaded::default()
        }
        Ok(store) => {
            if let Err(found) = manifest.check_header(shard, store.header()) {
                findings.add(&found, String::new);
            }
            check_records(&store, manifest, shard, known, &mut findings)
        }
    };
    FileReport {
        path,
        counts,
        needs_repair: findings.is_damage,
        findings: findings.lines(),
    }
}

/// Opens a file, as after a crash, without changing it.
pub(crate) fn open_untouched(files: &dyn FileSystem, path: &Path) -> Result<Store, StoreError> {
    Store::open_source(files.untouched(path), StoreOptions::default())
}

/// An error without the advice, since whoever reads it is following it.
fn short(error: StoreError) -> String {
    match error {
        StoreError::Damaged { found, .. } | StoreError::WrongFile { found, .. } => found,
        StoreError::Missing { .. } => "it is missing".to_owned(),
        other => other.to_string(),
    }
}

fn check_records(
    store: &Store,
    manifest: &Manifest,
    shard: u16,
    known: &mut Known,
    findings: &mut Findings,
) -> Loaded {
    let (mut own, mut own_devices) = (HashSet::new(), HashSet::new());
    let placement = Placement::new(manifest.shards, manifest.placement_seed);
    let mut bad = Findings::default();
    let result = store.read(|transaction| {
        let mut take = |change| {
            if let Change::PutSession(session) = &change {
                own.insert(session.session);
                if !known.sessions.insert(session.session) {
                    findings.add("sessions have a key that another has", || text(&change));
                }
                if !known.clients.insert(session.client_id.clone()) {
                    findings.add("sessions are of a client that has another", || {
                        text(&change)
                    });
                }
            }
            if session_of(&change).is_some_and(|session| !own.contains(&session)) {
                findings.add_damage("records are of a session that is not there", || {
                    text(&change)
                });
            }
            if let Change::PutDevice { device, .. } = &change {
                own_devices.insert(*device);
            }
            if device_of(&change).is_some_and(|device| !own_devices.contains(&device)) {
                findings.add_damage("records are of a device that is not there", || {
                    text(&change)
                });
            }
            if place_of(&placement, &change).is_some_and(|place| place != shard) {
                findings.add("records belong to another shard", || text(&change));
            }
            Ok(())
        };
        load::load(transaction, &mut take, &mut |table, error| {
            let rows = format!("rows of the table `{table}` are no records");
            bad.add_damage(&rows, || error.to_string());
            Ok(())
        })
    });
    findings.append(bad);
    result.unwrap_or_else(|error| {
        findings.add_damage(&short(error), String::new);
        Loaded::default()
    })
}

/// The session that a record needs.
pub(crate) fn session_of(change: &Change) -> Option<SessionKey> {
    match change {
        Change::PutSubscription(subscription) => Some(subscription.session),
        Change::PutQueued(queued) => Some(queued.session),
        Change::PutReceived { session, .. }
        | Change::PutFloor { session, .. }
        | Change::PutSeen { session, .. } => Some(*session),
        _ => None,
    }
}

/// The device that a record needs.
pub(crate) fn device_of(change: &Change) -> Option<DeviceId> {
    match change {
        Change::PutToken { device, .. } => Some(*device),
        Change::PutDeviceSubscription(subscription) => Some(subscription.emitter),
        _ => None,
    }
}

/// The shard that a record belongs to, unless it goes with its session or device.
fn place_of(placement: &Placement, change: &Change) -> Option<u16> {
    match change {
        Change::PutSession(session) => Some(placement.client(&session.client_id).0),
        Change::PutRetained { message } => Some(placement.retained(message.view().topic).0),
        Change::PutGroupQueued { key, .. } => Some(placement.group(&key.name, &key.filter).0),
        Change::PutDevice { device, .. } => Some(placement.device(*device).0),
        _ => None,
    }
}

/// A record in so few words that a line of a report can hold it.
fn text(change: &Change) -> String {
    match change {
        Change::PutSession(session) => format!("client {:?}", session.client_id),
        Change::PutSubscription(subscription) => format!("subscription {:?}", subscription.filter),
        Change::PutQueued(queued) => format!("message {} of a queue", queued.position),
        Change::PutRetained { message } => format!("topic {:?}", message.view().topic),
        Change::PutGroupQueued { key, .. } => format!("group {:?}", key.name),
        Change::PutDevice { device, .. } => format!("device {}", hex(*device)),
        Change::PutToken { device, .. } => format!("token of {}", hex(*device)),
        Change::PutDeviceSubscription(subscription) => {
            format!("subscription to {}", hex(subscription.emitter))
        }
        _ => "a QoS 2 record".to_owned(),
    }
}

/// A UUID without its hyphens.
fn hex(device: DeviceId) -> String {
    format!("{:032x}", u128::from_be_bytes(device.0))
}

/// What is wrong, by kind: how often, and the first of each.
#[derive(Debug, Default)]
struct Findings {
    kinds: BTreeMap<String, (u64, String)>,
    is_damage: bool,
}

impl Findings {
    fn add(&mut self, kind: &str, example: impl FnOnce() -> String) {
        match self.kinds.get_mut(kind) {
            Some((count, _)) => *count += 1,
            None => drop(self.kinds.insert(kind.to_owned(), (1, example()))),
        }
    }

    /// Of a file that cannot be used as it is.
    fn add_damage(&mut self, kind: &str, example: impl FnOnce() -> String) {
        self.is_damage = true;
        self.add(kind, example);
    }

    fn append(&mut self, mut other: Findings) {
        self.is_damage |= other.is_damage;
        self.kinds.append(&mut other.kinds);
    }

    fn lines(self) -> Vec<String> {
        let kinds = self.kinds.into_iter();
        kinds
            .map(|(kind, (count, example))| match example.as_str() {
                "" => kind,
                example => format!("{count} {kind}; the first: {example}"),
            })
            .collect()
    }
}
