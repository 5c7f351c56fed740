//! The Meshblu API: requests in, answers and events out, over every transport.

#![allow(clippy::unwrap_used, reason = "all of this is a test, its helpers too")]

#[path = "../support/mod.rs"]
mod support;

mod crowds;
mod decisions;
mod expiry;
mod lists;
mod logins;
mod matrix;
mod mesh;
mod messages;
mod registry;

use mesh::*;
use support::*;
