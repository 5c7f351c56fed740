//! Where the specifications leave a choice, what we do; and what has been seen failing in brokers
//! that people run.

#[path = "../support/mod.rs"]
mod support;

mod connecting;
mod lanes;
mod messages;
mod packets_refused;
mod seen_failing;
