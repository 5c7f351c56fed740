//! What the broker is told: by flags, by variables of the environment, by a file.
//!
//! | file | noun |
//! |---|---|
//! | `keys.rs`, `key.rs` | all keys, and what a key is: the one table that all else is made of |
//! | `setting.rs`, `choices.rs`, `raw.rs` | the types of keys, and values that have none yet |
//! | `file.rs`, `mcloudtt.rs` | a file, ours or McloudTT's |
//! | `flags.rs` | the flags of keys |
//! | `sources.rs`, `relations.rs` | who counts; what must fit together |
//! | `problem.rs` | what is wrong, and where |
//! | `difference.rs` | what a configuration that is read again changes |
//! | `build.rs` | what shards and driver are told |
//! | `commands.rs`, `example.rs` | `meshring config`, and the file that is shipped |

mod build;
pub mod choices;
pub mod commands;
mod difference;
mod example;
mod file;
pub mod flags;
mod key;
mod keys;
mod mcloudtt;
mod problem;
mod raw;
mod relations;
mod setting;
mod sources;
#[cfg(test)]
mod tests;

pub use difference::Difference;
pub use keys::{Config, Telemetry};
pub use problem::Problem;
pub use raw::Raw;
pub use relations::do_overlap;
pub use setting::{Range as SettingRange, Setting};
pub use sources::{Environment, Loaded, Sources, of_commands};
