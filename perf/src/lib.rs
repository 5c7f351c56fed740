//! Loads a running broker and measures it: capacity, latency, CPU per message, memory per
//! connection; alone or beside its peers.
//!
//! One thread makes all the load, on a core of its own, and is cheaper per message than any
//! broker: `fleet` holds the connections, `traffic` decides what is sent when and counts what
//! comes back, `measure` and `procfs` ask the kernel what it cost, `scenarios` say what is set up,
//! and `outcome` judges whether a figure may be believed. `compare` runs brokers in turn;
//! `comparison` makes medians of it, `markdown` and `html` show them. `operate` measures nothing: it
//! asks whether operators may do what they do while clients are at work.

pub mod brokers;
pub mod compare;
pub mod comparison;
pub mod fleet;
pub mod freshblu;
pub mod host;
pub mod html;
pub mod ledger;
pub mod markdown;
pub mod measure;
pub mod operate;
pub mod options;
pub mod outcome;
pub mod procfs;
pub mod scenarios;
pub mod svg;
pub mod syncs;
pub mod traffic;
pub mod wire;
