//! The store: what a shard keeps, in one redb file per shard.
//!
//! A shard says what it wants kept as [`shard::Commit`]s; [`Store::apply`] makes a group of them
//! durable in one transaction, and [`Store::load`] gives back the *put* changes of what is left.
//! FORMAT.md, next to this crate's manifest, describes the file.
#![forbid(unsafe_code)]

mod backend;
mod backup;
mod batch;
mod check;
mod copy;
mod directory;
mod error;
mod header;
mod load;
mod manifest;
mod open;
mod overlay;
mod pages;
mod records;
#[cfg(test)]
mod records_tests;
mod repair;
mod reshard;
mod restore;
mod space;
mod store;
mod tables;
mod worker;
mod worker_thread;

pub use backend::Source;
pub use backup::{backup_at_rest, backup_running};
pub use check::{FileReport, Report, check};
pub use directory::{DataDirectory, NewDirectory};
pub use error::StoreError;
pub use header::FileHeader;
pub use load::Loaded;
pub use manifest::Manifest;
pub use records::BadRecord;
/// What a file is to redb; the simulator has one of its own.
pub use redb::StorageBackend;
pub use repair::{Repaired, repair};
pub use reshard::{Move, MoveStep, OnMove};
pub use restore::restore;
pub use space::Reserve;
pub use store::{Store, StoreOptions};
pub use worker::{StoreEvent, Worker, WorkerControl, WorkerCounts, WorkerHandle, WorkerOptions};
