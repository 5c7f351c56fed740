//! What a key is: its name, its words for people, where else it can be said, and what becomes of it
//! while the broker runs.

use super::keys::Config;
use super::raw::Raw;
use super::setting::{ANY, Range};
use clap::builder::PossibleValue;
use serde_json::Value;

/// Gives the words that a key takes.
type Words = fn() -> Vec<PossibleValue>;

/// A key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// The table that it is in.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it is, line by line.
    pub doc: &'static [&'static str],
    /// Reads a value into the configuration. Errs with what was expected.
    read: fn(&mut Config, &Raw, Range) -> Result<(), String>,
    /// Its value in a configuration; secrets are masked.
    pub show: fn(&Config) -> Value,
    /// Whether two configurations agree on it.
    pub is_same: fn(&Config, &Config) -> bool,
    /// Takes the value of the second configuration into the first.
    pub take: fn(&mut Config, &Config),
    /// What can be written for it; empty where the default says enough.
    pub choices: fn() -> String,
    /// The only words that it takes; none if others are right as well.
    pub words: Words,
    /// The lowest and highest number, if it is one.
    pub range: Range,
    /// The flag that says the same, without dashes, and what its help calls the value.
    pub flag: Option<(&'static str, &'static str)>,
    /// Whether the flag may come several times.
    pub is_list: bool,
    /// Variables of older names, the strongest first.
    pub variables: &'static [&'static str],
    /// Variables that say a port on which to listen, the strongest first.
    pub ports: &'static [&'static str],
    /// What the default is with `--dev`, for documents.
    pub dev: Option<&'static str>,
    /// Whether it is kept out of sight, and its variable is taken byte for byte.
    pub is_secret: bool,
    /// Whether its text need not be UTF-8.
    pub is_path: bool,
    /// Whether a change needs a restart.
    pub needs_restart: bool,
}

impl Key {
    /// A key that can change while the broker runs, and that only a file and its own variable say.
    pub(super) const fn new(
        names: (&'static str, &'static str),
        doc: &'static [&'static str],
        read: fn(&mut Config, &Raw, Range) -> Result<(), String>,
        show: fn(&Config) -> Value,
        is_same: fn(&Config, &Config) -> bool,
        take: fn(&mut Config, &Config),
        (choices, words): (fn() -> String, Words),
    ) -> Key {
        Key {
            section: names.0,
            name: names.1,
            doc,
            read,
            show,
            is_same,
            take,
            choices,
            words,
            range: ANY,
            flag: None,
            is_list: false,
            variables: &[],
            ports: &[],
            dev: None,
            is_secret: false,
            is_path: false,
            needs_restart: false,
        }
    }

    /// Takes numbers from the first to the second only.
    pub(super) const fn range(mut self, low: i128, high: i128) -> Key {
        self.range = (low, high);
        self
    }

    /// Has a flag.
    pub(super) const fn flag(mut self, flag: &'static str, value_name: &'static str) -> Key {
        self.flag = Some((flag, value_name));
        self
    }

    /// Has a flag that may come several times.
    pub(super) const fn flags(mut self, flag: &'static str, value_name: &'static str) -> Key {
        self.is_list = true;
        self.flag(flag, value_name)
    }

    /// Has variables of other names.
    pub(super) const fn or(mut self, variables: &'static [&'static str]) -> Key {
        self.variables = variables;
        self
    }

    /// Has variables that say a port alone.
    pub(super) const fn port(mut self, variables: &'static [&'static str]) -> Key {
        self.ports = variables;
        self
    }

    /// Has another default with `--dev`.
    pub(super) const fn dev(mut self, default: &'static str) -> Key {
        self.dev = Some(default);
        self
    }

    /// Must not be shown.
    pub(super) const fn secret(mut self) -> Key {
        self.is_secret = true;
        self
    }

    /// Takes what need not be UTF-8.
    pub(super) const fn path_name(mut self) -> Key {
        self.is_path = true;
        self
    }

    /// Cannot change while the broker runs.
    pub(super) const fn restart(mut self) -> Key {
        self.needs_restart = true;
        self
    }

    /// `section.name`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The variable of this name: `MESHRING_SECTION__NAME`.
    pub fn variable(&self) -> String {
        format!("MESHRING_{}__{}", self.section, self.name).to_ascii_uppercase()
    }

    /// Reads a value. Errs with what was expected; nothing has changed then.
    pub fn read(&self, config: &mut Config, raw: &Raw) -> Result<(), String> {
        (self.read)(config, raw, self.range)
    }
}
