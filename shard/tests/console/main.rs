//! What an operator asks a shard, and what it answers.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod clients;
mod configure;
mod drain;
mod explain;
mod numbers;
mod overview;
mod retained;
mod subscriptions;
mod trace;
