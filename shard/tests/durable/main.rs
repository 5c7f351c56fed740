//! What is acknowledged is durable, and what was durable is there again.

#[path = "../support/mod.rs"]
mod support;

mod acknowledged;
mod after_a_crash;
mod full_disk;
mod histories;
mod store_trouble;
