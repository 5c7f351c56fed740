//! Reading a file: which keys it has, with what values, on which lines.
//!
//! All that is wrong is found, not the first alone. Bounded: a file has at most
//! [`FILE_BYTES_MAX`].

use super::keys::{KEYS, SECTIONS, find};
use super::mcloudtt;
use super::problem::{Origin, Problem, hint, nearest};
use super::raw::Raw;
use std::io::Read;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// More is no configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A value of a file: of which key, and on which line.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// `section.name`.
    pub path: String,
    /// What it says.
    pub raw: Raw,
    /// Where it says so.
    pub origin: Origin,
}

/// A file that has been read.
#[derive(Debug, Default)]
pub struct FileRead {
    /// What it says of keys that there are.
    pub entries: Vec<Entry>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// Reads a file. That it cannot be read at all is a problem as well.
pub fn read(path: &Path) -> FileRead {
    let name = path.display().to_string();
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    let why = match read {
        Ok(count) if count as u64 <= FILE_BYTES_MAX => return parse(&name, &text),
        Ok(_) => format!("{name}: longer than {FILE_BYTES_MAX} bytes, which no configuration is"),
        Err(error) => format!("{name}: cannot be read: {error}"),
    };
    FileRead {
        entries: Vec::new(),
        problems: vec![Problem::error(Origin::Default, why)],
    }
}

/// Reads the text of a file of this name.
pub fn parse(file: &str, text: &str) -> FileRead {
    let mut reader = Reader {
        file,
        text,
        read: FileRead::default(),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.error(at, error.message().to_owned());
    }
    // What could be read of a file with such mistakes may be something else than was meant.
    if errors.is_empty() {
        reader.document(table.get_ref());
    }
    let mut read = reader.read;
    read.problems.sort_by_key(|problem| match &problem.origin {
        Origin::File { line, .. } => *line,
        _ => 0,
    });
    read
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    read: FileRead,
}

impl Reader<'_> {
    fn origin(&self, at: usize) -> Origin {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Origin::File {
            file: self.file.to_owned(),
            line,
        }
    }

    fn error(&mut self, at: usize, text: String) {
        let origin = self.origin(at);
        self.read.problems.push(Problem::error(origin, text));
    }

    fn document(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let section: &str = name.get_ref();
            let at = name.span().start;
            let is_known = SECTIONS.iter().any(|known| known.name == section)
                || mcloudtt::has_section(section);
            match value.get_ref() {
                DeValue::Table(keys) if is_known => self.section(section, keys),
                _ if is_known => {
                    self.error(at, format!("{section} is a section: write [{section}]"))
                }
                DeValue::Table(_) => {
                    let hint = hint(nearest(section, SECTIONS.iter().map(|known| known.name)));
                    self.error(at, format!("there is no section [{section}]{hint}"));
                }
                _ => self.outside(section, at),
            }
        }
    }

    /// A key before the first section.
    fn outside(&mut self, name: &str, at: usize) {
        let paths: Vec<String> = KEYS
            .iter()
            .filter(|key| key.name == name)
            .map(|key| key.path())
            .collect();
        let hint = match paths.is_empty() {
            true => String::new(),
            false => format!("; {} is in a section", paths.join(" or ")),
        };
        self.error(at, format!("{name} is in no section{hint}"));
    }

    fn section(&mut self, section: &str, keys: &DeTable<'_>) {
        for (name, value) in keys {
            let at = name.span().start;
            let path = format!("{section}.{}", name.get_ref());
            let is_known = find(&path).is_some();
            if !is_known && !mcloudtt::has_key(&path) {
                let text = unknown(&path);
                self.error(at, text);
                continue;
            }
            let raw = raw_of(value);
            let origin = self.origin(at);
            self.read.entries.push(Entry { path, raw, origin });
        }
    }
}

/// That there is no such key, and which is near: in its section first, then in others.
pub fn unknown(path: &str) -> String {
    let (section, name) = path.split_once('.').unwrap_or(("", path));
    let of_section = KEYS
        .iter()
        .filter(|key| key.section == section)
        .map(|key| key.name);
    if let Some(near) = nearest(name, of_section) {
        return format!("there is no {path}; did you mean {section}.{near}?");
    }
    let paths: Vec<String> = KEYS.iter().map(|key| key.path()).collect();
    let same_name = paths
        .iter()
        .find(|path| path.ends_with(&format!(".{name}")));
    let near = same_name.map(String::as_str);
    let near = near.or_else(|| nearest(path, paths.iter().map(String::as_str)));
    format!("there is no {path}{}", hint(near))
}

fn raw_of(value: &Spanned<DeValue<'_>>) -> Raw {
    match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("a number beyond all bounds"), Raw::Number),
        DeValue::Float(_) => Raw::Other("a number with a fraction"),
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::Datetime(_) => Raw::Other("a time"),
        DeValue::Array(parts) => Raw::List(parts.iter().map(raw_of).collect()),
        DeValue::Table(entries) => {
            let entry = |(key, value): (&Spanned<_>, _)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                (key.to_string(), raw_of(value))
            };
            Raw::Table(entries.iter().map(entry).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn complaints(text: &str) -> Vec<String> {
        let read = parse("a.toml", text);
        read.problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn what_is_right_is_found_with_its_line() {
        let read = parse("a.toml", "# A comment.\n[mqtt]\n\nfree_topics = \"deny\"\n");
        assert_eq!(read.problems, []);
        let origin = Origin::File {
            file: "a.toml".to_owned(),
            line: 4,
        };
        let raw = Raw::Text("deny".to_owned());
        assert_eq!(
            read.entries,
            [Entry {
                path: "mqtt.free_topics".to_owned(),
                raw,
                origin
            }]
        );
        // A table in line is a section too.
        assert_eq!(
            parse("a.toml", "mqtt = { free_topics = true }")
                .entries
                .len(),
            1
        );
        assert_eq!(parse("a.toml", "mqtt.free_topics = true").entries.len(), 1);
    }

    #[test]
    fn everything_unknown_is_named_at_once_with_what_is_near() {
        let text = "shards = 4\n[general]\nshard = 4\ndta = \"x\"\n[mqqt]\nlisten = []\n[http]\n\
                    allow_anonymous = true\n[limits]\ncolour = 1\n";
        assert_eq!(
            complaints(text),
            [
                "a.toml:1: shards is in no section; general.shards is in a section",
                "a.toml:3: there is no general.shard; did you mean general.shards?",
                "a.toml:4: there is no general.dta; did you mean general.data?",
                "a.toml:5: there is no section [mqqt]; did you mean mqtt?",
                "a.toml:8: there is no http.allow_anonymous; did you mean mqtt.allow_anonymous?",
                "a.toml:10: there is no limits.colour",
            ]
        );
    }

    #[test]
    fn mistakes_of_toml_have_their_lines() {
        let found = complaints("[mqtt]\nfree_topics = deny\n[http]\nlisten = [\n");
        assert!(found.len() >= 2, "{found:?}");
        assert!(found[0].starts_with("a.toml:2: "), "{found:?}");
        let found = complaints("[mqtt]\nfree_topics = \"deny\"\nfree_topics = \"allow\"\n");
        assert!(found[0].starts_with("a.toml:3: duplicate key"), "{found:?}");
        assert_eq!(
            complaints("mqtt = 4\n"),
            ["a.toml:1: mqtt is a section: write [mqtt]"]
        );
    }

    #[test]
    fn numbers_of_all_kinds_are_read() {
        let of = |text: &str| {
            parse("a", &format!("[io]\nstop_ms = {text}")).entries[0]
                .raw
                .clone()
        };
        assert_eq!(of("1_000"), Raw::Number(1_000));
        assert_eq!(of("0x10"), Raw::Number(16));
        assert_eq!(of("-5"), Raw::Number(-5));
        assert!(matches!(of("1.5"), Raw::Other(_)));
        assert!(matches!(of(&"9".repeat(60)), Raw::Other(_)));
        assert!(matches!(of("2026-11-22"), Raw::Other(_)));
    }

    #[test]
    fn what_cannot_be_read_is_a_problem() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("a.toml");
        let problem = |file: &Path| read(file).problems[0].to_string();
        assert!(problem(&file).contains("cannot be read"));
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(problem(&file).contains("UTF-8"), "{}", problem(&file));
        std::fs::write(&file, "#".repeat(FILE_BYTES_MAX as usize + 1)).unwrap();
        assert!(problem(&file).contains("longer than"));
        assert!(problem(folder.path()).contains("cannot be read"));
    }
}
