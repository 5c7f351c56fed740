//! Records move to other shards when the number of shards changes.
//!
//! The files of the next generation are written from those that count, synced, and then made to
//! count by replacing the manifest: before that nothing has changed, after it everything has. The
//! memory it takes grows with the number of sessions only: eight bytes and a few each.

use crate::StoreError;
use crate::copy::Filler;
use crate::directory::{make_directory, open_store, remove_generation, tell};
use crate::files::{FileSystem, sync_directory};
use crate::load::{self, Stop};
use crate::manifest::Manifest;
use crate::open::read_alive;
use crate::store::{Namer, Store, StoreOptions};
use crate::tables::{DEVICES, GROUP_QUEUED, RETAINED, group_key, read_group_key};
use redb::ReadTransaction;
use shard::{Change, DeviceId, GroupKey, Placement, SessionKey, Time};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// How far a change of the number of shards has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// What is being done.
    pub step: MoveStep,
    /// Records moved.
    pub records: u64,
    /// Of so many.
    pub records_all: u64,
}

/// The steps of a change of the number of shards, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStep {
    /// What an interrupted attempt has left is removed.
    Cleaning,
    /// Files are made.
    Creating {
        /// How many there were; 0 in a new directory.
        from: u16,
        /// How many there will be.
        to: u16,
    },
    /// Records move.
    Moving,
    /// The new files are closed and durable, and about to count.
    Switching,
    /// The new files count; the old ones are about to be removed.
    Removing,
}

impl Move {
    /// How much of the moving is done.
    pub fn percent(&self) -> u64 {
        match self.step {
            MoveStep::Cleaning | MoveStep::Creating { .. } => 0,
            MoveStep::Moving if self.records_all > 0 => self.records * 100 / self.records_all,
            MoveStep::Moving | MoveStep::Switching | MoveStep::Removing => 100,
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            MoveStep::Cleaning => f.write_str("removing what an interrupted attempt has left"),
            MoveStep::Creating { from: 0, to } => write!(f, "making files for {to} shards"),
            MoveStep::Creating { from, to } => {
                write!(f, "moving records from {from} shards to {to}")
            }
            MoveStep::Moving => write!(
                f,
                "{} of {} records moved ({} %)",
                self.records,
                self.records_all,
                self.percent()
            ),
            MoveStep::Switching => f.write_str("all records are moved"),
            MoveStep::Removing => f.write_str("removing the old files"),
        }
    }
}

/// Hears how far it is; an error stops it.
pub type OnMove<'a> = dyn FnMut(Move) -> Result<(), String> + 'a;

/// So many records move between two calls of [`OnMove`].
const RECORDS_PER_MOVE: u64 = 10_000;

/// Memory for pages of each file that is written.
const TARGET_CACHE_BYTES: usize = 8 << 20;

/// Moves all records of a directory to so many shards; gives the manifest that counts from now on.
pub(crate) fn reshard(
    files: &dyn FileSystem,
    directory: &Path,
    from: &Manifest,
    shards: u16,
    now: Time,
    on_move: &mut OnMove<'_>,
) -> Result<Manifest, StoreError> {
    let to = Manifest {
        generation: from.generation + 1,
        shards,
        ..*from
    };
    let (old, new) = (from.shards, to.shards);
    tell(on_move, MoveStep::Creating { from: old, to: new })?;
    if let Err(error) = write_files(files, directory, from, &to, now, on_move) {
        if error.is_full() {
            // The room is needed elsewhere; anything else is left to the next start.
            let _ = remove_generation(files, directory, to.generation);
        }
        return Err(error);
    }
    tell(on_move, MoveStep::Switching)?;
    to.write(files, directory)?;
    if from.shards > 0 {
        tell(on_move, MoveStep::Removing)?;
        remove_generation(files, directory, from.generation)?;
    }
    Ok(to)
}

/// Writes the files of the next generation; they are durable and closed, and do not count yet.
fn write_files(
    files: &dyn FileSystem,
    directory: &Path,
    from: &Manifest,
    to: &Manifest,
    now: Time,
    on_move: &mut OnMove<'_>,
) -> Result<(), StoreError> {
    let mut targets = create_all(files, directory, to, now)?;
    let (old, new) = (from.shards, to.shards);
    tell(on_move, MoveStep::Creating { from: old, to: new })?;
    Mover::new(from, to, on_move).move_all(files, directory, &mut targets)?;
    for target in targets {
        target.close()?;
    }
    sync_directory(files, &to.folder(directory))?;
    sync_directory(files, directory)
}

/// Makes the empty files of a generation.
fn create_all(
    files: &dyn FileSystem,
    directory: &Path,
    manifest: &Manifest,
    now: Time,
) -> Result<Vec<Store>, StoreError> {
    make_directory(files, &manifest.folder(directory))?;
    let options = StoreOptions {
        cache_bytes: TARGET_CACHE_BYTES,
        ..StoreOptions::default()
    };
    let paths = manifest.files(directory);
    (0..manifest.shards)
        .zip(&paths)
        .map(|(shard, path)| {
            Store::create_source(
                files.source(path, true),
                &manifest.header(shard, now),
                options,
            )
        })
        .collect()
}

struct Mover<'a, 'b> {
    from: Manifest,
    old: Option<Placement>,
    new: Placement,
    on_move: &'a mut OnMove<'b>,
    moved: u64,
    all: u64,
}

impl<'a, 'b> Mover<'a, 'b> {
    fn new(from: &Manifest, to: &Manifest, on_move: &'a mut OnMove<'b>) -> Mover<'a, 'b> {
        Mover {
            from: *from,
            old: (from.shards > 0).then(|| Placement::new(from.shards, from.placement_seed)),
            new: Placement::new(to.shards, to.placement_seed),
            on_move,
            moved: 0,
            all: 0,
        }
    }

    fn move_all(
        &mut self,
        files: &dyn FileSystem,
        directory: &Path,
        targets: &mut [Store],
    ) -> Result<(), StoreError> {
        let sources: Vec<Store> = (0..self.from.shards)
            .map(|shard| open_store(files, directory, &self.from, shard, StoreOptions::default()))
            .collect::<Result<_, _>>()?;
        let mut alive = None;
        for source in &sources {
            self.all += source.read(load::count)?;
            alive = alive.max(source.read(read_alive)?);
        }
        for (shard, source) in (0..).zip(&sources) {
            self.move_file(shard, source, targets)?;
        }
        for source in sources {
            source.close()?;
        }
        for target in targets {
            Filler::new(target).finish(alive)?;
        }
        self.tell_moved()
    }

    fn tell_moved(&mut self) -> Result<(), StoreError> {
        let result = (self.on_move)(Move {
            step: MoveStep::Moving,
            records: self.moved,
            records_all: self.all,
        });
        result.map_err(|reason| StoreError::Stopped { reason })
    }

    fn move_file(
        &mut self,
        shard: u16,
        source: &Store,
        targets: &mut [Store],
    ) -> Result<(), StoreError> {
        let mut seen = Seen::of(targets)?;
        let mut fillers: Vec<Filler<'_>> = targets.iter_mut().map(Filler::new).collect();
        let mut homes = HashMap::new();
        let mut failure = None;
        let result = source.load(&mut |change| {
            let step = || {
                if let Some((target, change)) = self.place(shard, change, &mut homes, &mut seen)? {
                    fillers[target].put(change)?;
                }
                self.moved += 1;
                if self.moved.is_multiple_of(RECORDS_PER_MOVE) {
                    self.tell_moved()?;
                }
                Ok(())
            };
            step().map_err(|error| {
                failure = Some(error);
                String::new()
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        result?;
        // Durable only with the last step of all, but visible to what the next file is asked.
        fillers.into_iter().try_for_each(Filler::pause)
    }
}

impl Mover<'_, '_> {
    /// Where a record of an old shard belongs, and what it is called there; `None` if it is a
    /// stray of which the rightful one is there already.
    fn place(
        &self,
        shard: u16,
        mut change: Change,
        homes: &mut HashMap<SessionKey, u16>,
        seen: &mut Seen,
    ) -> Result<Option<(usize, Change)>, StoreError> {
        // A record without its session is kept as well: whoever loads it decides.
        let home = |session: &SessionKey| homes.get(session).copied().unwrap_or(0);
        let target = match &mut change {
            Change::PutSession(session) => {
                let target = self.new.client(&session.client_id).0;
                homes.insert(session.session, target);
                target
            }
            Change::PutSubscription(subscription) => home(&subscription.session),
            Change::PutQueued(queued) => home(&queued.session),
            Change::PutReceived { session, .. }
            | Change::PutFloor { session, .. }
            | Change::PutSeen { session, .. } => home(session),
            Change::PutRetained { message } => {
                let topic = message.view().topic;
                let target = self.new.retained(topic).0;
                let old = self.old.as_ref().map(|old| old.retained(topic).0);
                if old != Some(shard) && seen.has_retained(target, topic)? {
                    return Ok(None);
                }
                target
            }
            Change::PutGroupQueued { key, position, .. } => {
                let target = self.new.group(&key.name, &key.filter).0;
                *position = seen.position(target, key, *position)?;
                target
            }
            Change::PutDevice { device, .. } => {
                let target = self.new.device(*device).0;
                let old = self.old.as_ref().map(|old| old.device(*device).0);
                if old != Some(shard) && seen.has_device(target, *device)? {
                    return Ok(None);
                }
                target
            }
            Change::PutToken { device, .. } => self.new.device(*device).0,
            Change::PutDeviceSubscription(subscription) => self.new.device(subscription.emitter).0,
            other => unreachable!("a file gives no {other:?}"),
        };
        Ok(Some((usize::from(target), change)))
    }
}

/// What the files before have brought to the targets.
struct Seen {
    snapshots: Vec<(ReadTransaction, Namer)>,
    /// The group whose messages are coming, and the next position, unless they keep their own.
    group: Option<(Arc<GroupKey>, Option<u64>)>,
}

impl Seen {
    fn of(targets: &[Store]) -> Result<Seen, StoreError> {
        let snapshots = targets
            .iter()
            .map(|target| Ok((target.begin_read()?, target.namer())));
        Ok(Seen {
            snapshots: snapshots.collect::<Result<_, StoreError>>()?,
            group: None,
        })
    }

    fn has_retained(&self, target: u16, topic: &str) -> Result<bool, StoreError> {
        self.ask(target, |transaction| {
            let table = transaction.open_table(RETAINED)?;
            Ok(table.get(topic.as_bytes())?.is_some())
        })
    }

    fn has_device(&self, target: u16, device: DeviceId) -> Result<bool, StoreError> {
        self.ask(target, |transaction| {
            let table = transaction.open_table(DEVICES)?;
            Ok(table.get(&device.0)?.is_some())
        })
    }

    /// The position of the next message of a group. A group that an earlier file had as well goes
    /// on where that one ended.
    fn position(
        &mut self,
        target: u16,
        key: &Arc<GroupKey>,
        position: u64,
    ) -> Result<u64, StoreError> {
        if self.group.as_ref().is_none_or(|(group, _)| group != key) {
            let last = self.last_position(target, key)?;
            self.group = Some((Arc::clone(key), last.map(|last| last.saturating_add(1))));
        }
        let Some((_, Some(next))) = &mut self.group else {
            return Ok(position);
        };
        let position = *next;
        *next = next.saturating_add(1);
        Ok(position)
    }

    fn last_position(&self, target: u16, key: &GroupKey) -> Result<Option<u64>, StoreError> {
        self.ask(target, |transaction| {
            let table = transaction.open_table(GROUP_QUEUED)?;
            let [first, last] = [0, u64::MAX].map(|position| group_key(key, position));
            let mut range = table.range::<&[u8]>(first.as_slice()..=last.as_slice())?;
            let Some(row) = range.next_back() else {
                return Ok(None);
            };
            let (row, _) = row?;
            let (_, _, position) = read_group_key(row.value())
                .map_err(|error| Stop::BadRecord("group_queued".to_owned(), error))?;
            Ok(Some(position))
        })
    }

    fn ask<T>(
        &self,
        target: u16,
        question: impl FnOnce(&ReadTransaction) -> Result<T, Stop>,
    ) -> Result<T, StoreError> {
        let (transaction, namer) = &self.snapshots[usize::from(target)];
        question(transaction).map_err(namer)
    }
}
