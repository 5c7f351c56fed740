//! Records go from one file into another, in steps that bound the memory they take.

use crate::StoreError;
use crate::batch::Batch;
use crate::load::{self, Loaded, Stop};
use crate::open::read_alive;
use crate::store::Store;
use redb::{Durability, ReadTransaction};
use shard::{Change, Time};

/// A step ends with so many records …
const STEP_RECORDS_MAX: usize = 10_000;
/// … or so many bytes of messages and devices.
const STEP_BYTES_MAX: usize = 16 << 20;

/// Gathers records and writes them step by step. They are durable once [`Filler::finish`] is done.
#[derive(Debug)]
pub(crate) struct Filler<'a> {
    target: &'a mut Store,
    changes: Vec<Change>,
    bytes: usize,
}

impl<'a> Filler<'a> {
    pub(crate) fn new(target: &'a mut Store) -> Filler<'a> {
        Filler {
            target,
            changes: Vec::new(),
            bytes: 0,
        }
    }

    pub(crate) fn put(&mut self, change: Change) -> Result<(), StoreError> {
        self.bytes += bytes_of(&change);
        self.changes.push(change);
        if self.changes.len() >= STEP_RECORDS_MAX || self.bytes >= STEP_BYTES_MAX {
            self.flush(None, Durability::None)?;
        }
        Ok(())
    }

    /// Writes what is left, and makes everything durable.
    pub(crate) fn finish(mut self, alive: Option<Time>) -> Result<(), StoreError> {
        self.flush(alive, Durability::Immediate)
    }

    /// Writes what is left; it is durable with a later [`Filler::finish`].
    pub(crate) fn pause(mut self) -> Result<(), StoreError> {
        self.flush(None, Durability::None)
    }

    fn flush(&mut self, at: Option<Time>, durability: Durability) -> Result<(), StoreError> {
        let mut batch = Batch::empty(at);
        self.changes.iter().for_each(|change| batch.add(change));
        self.target.write(&batch, durability)?;
        self.changes.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn bytes_of(change: &Change) -> usize {
    match change {
        Change::PutQueued(queued) => queued.message.as_ref().map_or(0, |m| m.bytes()),
        Change::PutRetained { message } | Change::PutGroupQueued { message, .. } => message.bytes(),
        Change::PutDevice { record, .. } => record.len(),
        Change::PutToken { record, .. } => record.len(),
        _ => 0,
    }
}

/// Everything that a transaction sees goes into an empty file. Errors of the file it comes from
/// are named by `name_error`.
pub(crate) fn copy_all(
    transaction: &ReadTransaction,
    target: &mut Store,
    name_error: impl Fn(Stop) -> StoreError,
) -> Result<Loaded, StoreError> {
    let mut filler = Filler::new(target);
    let mut failure = None;
    let mut take = |change| {
        filler.put(change).map_err(|error| {
            failure = Some(error);
            String::new()
        })
    };
    let loaded = load::load(transaction, &mut take, &mut |table, error| {
        Err(Stop::BadRecord(table.to_owned(), error))
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let mut loaded = loaded.map_err(&name_error)?;
    loaded.alive = read_alive(transaction).map_err(&name_error)?;
    filler.finish(loaded.alive)?;
    Ok(loaded)
}
