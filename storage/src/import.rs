//! Devices from elsewhere come into the files of a directory that no broker uses.
//!
//! Always: of each file either all that was put is durable, once [`Import::finish`] is done with
//! it, or nothing. Memory is bounded by the steps of `copy.rs`.

use crate::StoreError;
use crate::copy::Filler;
use crate::load::Stop;
use crate::store::{Namer, Store};
use crate::tables::DEVICES;
use redb::ReadTransaction;
use shard::{Change, DeviceId, Placement};

/// Puts devices into the files where they belong.
pub struct Import<'a> {
    placement: Placement,
    /// The files as they were at first.
    before: Vec<(ReadTransaction, Namer)>,
    fillers: Vec<Filler<'a>>,
}

impl<'a> Import<'a> {
    /// Into these files, of all shards in their order.
    pub fn new(stores: &'a mut [Store], placement: Placement) -> Result<Import<'a>, StoreError> {
        let before = stores
            .iter()
            .map(|store| Ok((store.begin_read()?, store.namer())));
        Ok(Import {
            placement,
            before: before.collect::<Result<_, StoreError>>()?,
            fillers: stores.iter_mut().map(Filler::new).collect(),
        })
    }

    /// Whether the device was there at first.
    pub fn had_device(&self, device: DeviceId) -> Result<bool, StoreError> {
        let (transaction, namer) = &self.before[self.placement.device(device).index()];
        let has_device = || -> Result<bool, Stop> {
            let table = transaction.open_table(DEVICES)?;
            Ok(table.get(&device.0)?.is_some())
        };
        has_device().map_err(namer)
    }

    /// Puts changes that concern one device: its record, its tokens, subscriptions to it.
    pub fn put(&mut self, device: DeviceId, changes: Vec<Change>) -> Result<(), StoreError> {
        let filler = &mut self.fillers[self.placement.device(device).index()];
        changes
            .into_iter()
            .try_for_each(|change| filler.put(change))
    }

    /// Makes everything durable.
    pub fn finish(self) -> Result<(), StoreError> {
        // When the shards were last alive is not for us to say.
        self.fillers
            .into_iter()
            .try_for_each(|filler| filler.finish(None))
    }
}
