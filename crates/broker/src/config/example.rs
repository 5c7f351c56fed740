//! The file that is shipped: every key with its words and its default, as comments.

use super::key::Key;
use super::keys::{Config, KEYS, SECTIONS};
use super::raw::toml_of;
use super::setting::ANY;

/// The longest line.
const COLUMNS: usize = 92;

const HEAD: &str = "\
# meshring.toml: what `meshring serve` is told.
#
# Each key is here with its default, as a comment: take the # before it away to change it.
# `meshring config check FILE` finds mistakes, `meshring config show` says what counts and why,
# and `meshring config example` writes this file.
#
# What counts: a flag before a variable of the environment, a variable before this file, this file
# before the default. The variable of a key is MESHRING_SECTION__KEY, for example
# MESHRING_MQTT__LISTEN=0.0.0.0:1883,[::]:1883 – a list has commas.
#
# \"Restart\" marks what cannot change while the broker runs; `meshring reload`, or SIGHUP, takes
# over the rest.
";

/// The whole file.
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    let config = Config::defaults(false);
    for section in SECTIONS {
        text.push_str("\n\n");
        push_comment(&mut text, &section.about.join(" "));
        text.push_str(&format!("{}\n", section.title));
        for key in KEYS.iter().filter(|key| key.section == section.name) {
            text.push('\n');
            push_comment(&mut text, &words(key));
            text.push_str(&format!(
                "#{} = {}\n",
                key.name,
                toml_of(&(key.show)(&config))
            ));
        }
    }
    text
}

/// What a key is, what it takes, and what else says it.
fn words(key: &Key) -> String {
    let mut text = key.doc.join(" ").trim().to_owned();
    let choices = (key.choices)();
    if !choices.is_empty() {
        text.push_str(&format!(" Takes {choices}."));
    }
    if key.range != ANY {
        text.push_str(&format!(" From {} to {}.", key.range.0, key.range.1));
    }
    if let Some(dev) = key.dev {
        text.push_str(&format!(" With --dev: {dev}."));
    }
    if let Some((flag, _)) = key.flag {
        text.push_str(&format!(" Flag: --{flag}."));
    }
    let ports = key.ports.iter().map(|name| format!("{name} (a port)"));
    let names: Vec<String> = key
        .variables
        .iter()
        .map(|name| (*name).to_owned())
        .chain(ports)
        .collect();
    if !names.is_empty() {
        text.push_str(&format!(" Older variables: {}.", names.join(", ")));
    }
    if key.needs_restart {
        text.push_str(" Restart.");
    }
    text
}

fn push_comment(text: &mut String, words: &str) {
    let mut line = "#".to_owned();
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            text.push_str(&line);
            text.push('\n');
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::super::sources::Sources;
    use super::*;

    /// The file with all its keys, which are no comments any more.
    fn uncommented(text: &str) -> String {
        let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
        let strip = |line| {
            if is_key(&line) {
                line.trim_start_matches('#')
            } else {
                line
            }
        };
        text.lines().map(strip).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_shipped_file_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/meshring.toml");
        let shipped = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            shipped,
            example(),
            "meshring config example > deploy/meshring.toml"
        );
    }

    #[test]
    fn every_key_is_in_it_with_its_default() {
        let text = uncommented(&example());
        let read = file::parse("example", &text);
        assert_eq!(read.problems, []);
        let paths: Vec<&str> = read
            .entries
            .iter()
            .map(|entry| entry.path.as_str())
            .collect();
        assert_eq!(paths.len(), KEYS.len());
        for key in KEYS {
            assert!(paths.contains(&key.path().as_str()), "{}", key.path());
        }
        let loaded = Sources::default().layer(read, None).unwrap();
        assert_eq!(loaded.config, Config::defaults(false));
    }

    #[test]
    fn as_it_is_shipped_it_says_nothing() {
        let read = file::parse("example", &example());
        assert_eq!((read.problems, read.entries), (vec![], vec![]));
    }

    #[test]
    fn every_key_is_explained() {
        for key in KEYS {
            let text = key.doc.join(" ");
            assert!(
                text.trim().ends_with(['.', '"']) || text.contains(". "),
                "{}",
                key.path()
            );
            assert!(key.range.0 <= key.range.1, "{}", key.path());
        }
        assert!(example().lines().all(|line| line.chars().count() <= 100));
    }
}
