//! What a configuration that is read again changes, and what it cannot change.

use super::key::Key;
use super::keys::{Config, KEYS};
use super::sources::Loaded;
use serde_json::{Value, json};

/// A key whose value is another one now; secrets are masked.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// `section.name`.
    pub key: String,
    /// What it was.
    pub old: Value,
    /// What it is to be.
    pub new: Value,
}

impl Difference {
    fn of(key: &Key, old: &Config, new: &Config) -> Difference {
        Difference {
            key: key.path(),
            old: (key.show)(old),
            new: (key.show)(new),
        }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({"key": self.key, "old": self.old, "new": self.new})
    }
}

/// What becomes of a configuration that is read again while the broker runs.
#[derive(Clone, Debug)]
pub struct Merged {
    /// What counts from now on: all that can change is as it was read, the rest as it was.
    pub loaded: Loaded,
    /// What can change, and does.
    pub changed: Vec<Difference>,
    /// What would need a restart to change.
    pub needs_restart: Vec<Difference>,
    /// How many keys are as they were.
    pub unchanged: usize,
}

impl Loaded {
    /// Puts what was read again over what counts now.
    pub fn merge(&self, read: Loaded) -> Merged {
        let mut merged = Merged {
            loaded: read.clone(),
            changed: Vec::new(),
            needs_restart: Vec::new(),
            unchanged: 0,
        };
        for (place, key) in KEYS.iter().enumerate() {
            if (key.is_same)(&self.config, &read.config) {
                merged.unchanged += 1;
                continue;
            }
            let difference = Difference::of(key, &self.config, &read.config);
            if key.needs_restart {
                (key.take)(&mut merged.loaded.config, &self.config);
                merged.loaded.origins[place] = self.origins[place].clone();
                merged.needs_restart.push(difference);
            } else {
                merged.changed.push(difference);
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::super::sources::Sources;
    use super::*;

    fn loaded(text: &str) -> Loaded {
        let read = file::parse("a.toml", text);
        Sources::default().layer(read, None).unwrap()
    }

    #[test]
    fn what_needs_a_restart_stays_and_the_rest_changes() {
        let old = loaded("[general]\nshards = 2\n[devices]\nrate_limit = 1\npepper = \"a\"\n");
        let new = loaded(
            "[general]\nshards = 3\n[devices]\nrate_limit = 2\npepper = \"b\"\n[mqtt]\n\
             allow_anonymous = true\n",
        );
        let merged = old.merge(new);
        let keys = |list: &[Difference]| -> Vec<String> {
            list.iter().map(|one| one.key.clone()).collect()
        };
        assert_eq!(
            keys(&merged.changed),
            ["mqtt.allow_anonymous", "devices.rate_limit"]
        );
        assert_eq!(
            keys(&merged.needs_restart),
            ["general.shards", "devices.pepper"]
        );
        assert_eq!(merged.unchanged, KEYS.len() - 4);
        assert_eq!(
            merged.changed[1].to_json(),
            json!({"key": "devices.rate_limit", "old": 1, "new": 2})
        );
        // The secret is not in it, though it differs.
        assert_eq!(merged.needs_restart[1].old, merged.needs_restart[1].new);
        let config = &merged.loaded.config;
        assert_eq!((config.shards(), config.devices.rate_limit), (Some(2), 2));
        assert_eq!(config.devices.pepper.0, b"a");
        // Who reads the same again changes nothing more.
        let again = merged.loaded.merge(merged.loaded.clone());
        assert_eq!((again.changed.len(), again.needs_restart.len()), (0, 0));
    }
}
