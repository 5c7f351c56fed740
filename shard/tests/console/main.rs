//! What an operator asks a shard, and what it answers.

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod overview;
