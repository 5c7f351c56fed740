//! When something counts as kept, as the command line says it.

use clap::ValueEnum;
use shard::{Durability, DurabilityMode};
use std::str::FromStr;

/// The value of `--durability`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Acknowledged means on disk
    #[default]
    Commit,
    /// Acknowledged means in memory; on disk within --durability-interval
    Interval,
    /// Nothing is written, and a stop forgets everything; no directory is used
    Memory,
}

impl Mode {
    fn for_shards(self) -> DurabilityMode {
        match self {
            Mode::Commit => DurabilityMode::Commit,
            Mode::Interval => DurabilityMode::Interval,
            Mode::Memory => DurabilityMode::Memory,
        }
    }
}

/// The value of `--durability-prefix`: messages whose topic begins so have a mode of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixMode {
    /// What the topic begins with; never empty.
    pub prefix: String,
    /// Never [`Mode::Memory`].
    pub mode: Mode,
}

impl FromStr for PrefixMode {
    type Err = String;

    /// Reads `telemetry/=interval`. A prefix may contain `=`.
    fn from_str(text: &str) -> Result<PrefixMode, String> {
        let (prefix, mode) = text
            .rsplit_once('=')
            .ok_or("expected PREFIX=MODE, such as telemetry/=interval")?;
        if prefix.is_empty() {
            return Err("the prefix is empty; --durability is for all topics".to_owned());
        }
        let mode = match mode {
            "commit" => Mode::Commit,
            "interval" => Mode::Interval,
            "memory" => return Err("memory is possible for everything only".to_owned()),
            other => return Err(format!("`{other}` is neither commit nor interval")),
        };
        let prefix = prefix.to_owned();
        Ok(PrefixMode { prefix, mode })
    }
}

/// What the shards are told. Errs if the flags contradict each other.
pub fn configure(
    mode: Mode,
    interval_ms: u32,
    prefixes: &[PrefixMode],
) -> Result<Durability, String> {
    if mode == Mode::Memory && !prefixes.is_empty() {
        return Err(
            "--durability-prefix does not go with --durability memory, which keeps nothing".into(),
        );
    }
    for (place, one) in prefixes.iter().enumerate() {
        if prefixes[..place].iter().any(|two| two.prefix == one.prefix) {
            return Err(format!("--durability-prefix names {} twice", one.prefix));
        }
    }
    let prefixes = prefixes
        .iter()
        .map(|one| (one.prefix.as_str().into(), one.mode.for_shards()))
        .collect();
    Ok(Durability {
        mode: mode.for_shards(),
        prefixes,
        interval_ms: u64::from(interval_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_from_the_right() {
        let read = |text: &str| text.parse::<PrefixMode>();
        let of = |prefix: &str, mode| PrefixMode {
            prefix: prefix.to_owned(),
            mode,
        };
        assert_eq!(read("a/=commit"), Ok(of("a/", Mode::Commit)));
        assert_eq!(read("a=b=interval"), Ok(of("a=b", Mode::Interval)));
        for wrong in ["", "a", "=commit", "a=", "a=memory", "a=Commit"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let prefixes: Vec<PrefixMode> = ["a=commit", "b=interval", "a=interval"]
            .map(|text| text.parse().unwrap())
            .into();
        assert!(configure(Mode::Memory, 1, &[]).is_ok());
        assert!(configure(Mode::Memory, 1, &prefixes[..1]).is_err());
        assert!(configure(Mode::Commit, 1, &prefixes).is_err());
        let both = configure(Mode::Interval, 7, &prefixes[..2]).unwrap();
        assert_eq!(both.mode, DurabilityMode::Interval);
        assert_eq!(both.interval_ms, 7);
        assert_eq!(both.prefixes[0], ("a".into(), DurabilityMode::Commit));
        assert_eq!(both.prefixes[1], ("b".into(), DurabilityMode::Interval));
    }
}
