//! The Meshblu API: requests in, answers and events out, over every transport.

#[path = "../support/mod.rs"]
mod support;

mod mesh;
mod messages;
mod registry;

use mesh::*;
use support::*;
