//! The store: what a shard keeps, in one redb file per shard.
//!
//! A shard says what it wants kept as [`shard::Commit`]s. A [`Worker`] takes all that have come in
//! and makes them durable in one transaction with one fsync, on a thread of its own; [`Store`] is
//! the same without a thread. [`Store::load`] gives back the *put* changes of what is left.
//! [`DataDirectory`] holds the files of all shards, and moves records when their number changes;
//! [`backup_running`], [`backup_at_rest`], [`restore`], [`check`] and [`repair`] look after it.
//! FORMAT.md, next to this crate's manifest, describes the files.
//!
//! # What redb was told, and why
//!
//! Measured with `examples/measure.rs` on 2 cores and a virtual disk whose fsync takes about 4 ms,
//! with 1,000,000 retained messages of 64 B and 100,000 sessions with 5 subscriptions (a file of
//! 257 MiB, 242 MiB of it in use), the changes being messages for sessions all over the file:
//!
//! | | without quick repair | with |
//! |---|---|---|
//! | commit of 1 change, median | 4.0 ms, 27 KiB written | 8.0 ms, 72 KiB |
//! | of 10 | 4.0 ms, 63 KiB | 8.0 ms, 145 KiB |
//! | of 100 | 3.8 ms, 404 KiB | 15.9 ms, 735 KiB |
//! | of 1,000 | 35 ms, 3.1 MiB | 72 ms, 4.6 MiB |
//! | of 10,000 | 98 ms, 14 MiB | 338 ms, 49 MiB |
//! | opening after a crash | 0.7 s | 0.25 s |
//! | opening after a crash, all checksums verified | 0.7 s | 0.9 s |
//! | loading all records | 0.7–1.4 s | the same |
//!
//! * **One-phase commits, no quick repair.** Quick repair saves half a second at a start that then
//!   reads every record anyway, and doubles the price of every commit: it implies two-phase
//!   commits, which are two fsyncs, and writes the allocator's state each time. Without it redb
//!   walks the file after a crash, at about 500 MB/s here.
//!   In a one-phase commit a header that reached the disk before its pages is recognised by their
//!   checksums. Those are not cryptographic: who can plan collisions, knows the layout of the file
//!   and has the machine crash between two writes could have old bytes of their own in place of
//!   new ones, in a commit that was never acknowledged.
//! * **The whole file is verified at each opening** ([`StoreOptions::verify`]). It costs 0.4 s here
//!   where the load that follows takes 0.7 s, and turns a page that the disk has changed into an
//!   error that names the file, where redb would otherwise trust it, and might panic.
//! * **A cache of 32 MiB per shard.** All branch pages of a tree with millions of rows fit; leaves
//!   come from the kernel's cache. Pages changed by one transaction beyond that are written early.
//! * **`Durability::Immediate` for commits**; `None` only while new files are filled, with one
//!   durable commit at the end.
//!
//! # Limits
//!
//! * A message queued for several sessions is stored for each of them.
//! * A file grows by doubling up to 4 GiB, then by 4 GiB at a time, as holes that take no room
//!   until they are written; redb gives room back rarely. A backup writes a compact file.
//! * Changing the number of shards takes the room of all records once more, and memory for the
//!   keys of the sessions of one file.
#![forbid(unsafe_code)]

mod backend;
mod backup;
mod batch;
mod check;
mod copy;
mod directory;
mod error;
mod files;
mod header;
mod import;
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
pub use backup::{backup_at_rest, backup_running, backup_stores};
pub use check::{FileReport, Report, check};
pub use directory::{DataDirectory, NewDirectory};
pub use error::StoreError;
pub use files::{FileSystem, SystemFiles};
pub use header::FileHeader;
pub use import::Import;
pub use load::Loaded;
pub use manifest::{Manifest, Pepper};
pub use records::BadRecord;
/// What a file is to redb; the simulator has one of its own.
pub use redb::StorageBackend;
pub use repair::{Repaired, repair};
pub use reshard::{Move, MoveStep, OnMove};
pub use restore::{restore, restore_on};
pub use space::Reserve;
pub use store::{Store, StoreOptions};
pub use worker::{StoreEvent, Worker, WorkerControl, WorkerCounts, WorkerHandle, WorkerOptions};
