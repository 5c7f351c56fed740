//! The admin API of the program, over its socket and its address, with real clients.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

#[path = "admin/api.rs"]
mod api;
#[path = "admin/changes.rs"]
mod changes;
#[path = "admin/client.rs"]
mod client;
#[path = "admin/clients.rs"]
mod clients;
#[path = "admin/commands.rs"]
mod commands;
#[path = "admin/drain.rs"]
mod drain;
#[path = "admin/explain.rs"]
mod explain;
#[path = "admin/listeners.rs"]
mod listeners;
#[path = "admin/logs.rs"]
mod logs;
#[path = "admin/metrics.rs"]
mod metrics;
mod support;
#[path = "admin/terminal.rs"]
mod terminal;
#[path = "admin/top.rs"]
mod top;
#[path = "admin/trace.rs"]
mod trace;
