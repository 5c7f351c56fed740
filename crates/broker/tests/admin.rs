//! The admin API of the program, over its socket and its address, with real clients.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

#[path = "admin/api.rs"]
#[allow(dead_code, reason = "what can be asked belongs together")]
mod api;
#[path = "admin/client.rs"]
#[allow(dead_code, reason = "what a client can do belongs together")]
mod client;
#[path = "admin/clients.rs"]
mod clients;
#[path = "admin/listeners.rs"]
mod listeners;
mod support;
