//! The lists of normative statements against the tests: every statement of the specification is
//! listed once, with tests that exist or with the reason why there is none, and every test that is
//! named by a statement is listed at it.
#![allow(clippy::disallowed_methods)] // It reads the tests themselves; the crate has no files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where tests of statements may be, from this crate's folder.
const TEST_FOLDERS: [&str; 3] = [
    "tests",
    "../crates/mqtt-v5-codec/tests",
    "../crates/broker/tests",
];

/// One line of a list.
struct Statement {
    /// As in the specification, without brackets: `MQTT-3.3.4-6`.
    id: String,
    /// Names of test functions; empty if a reason is given instead.
    tests: Vec<String>,
}

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of `tests/statements/<version>.txt`; their form is checked.
fn statements(version: &str) -> Vec<Statement> {
    let path = here().join(format!("tests/statements/{version}.txt"));
    let list = fs::read_to_string(&path).expect("the list is beside the tests");
    let lines = list
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(statement).collect()
}

fn statement(line: &str) -> Statement {
    let columns: Vec<&str> = line.split(" | ").collect();
    let [id, binds, tests, meaning] = columns[..] else {
        panic!("not four columns: {line}")
    };
    assert!(["server", "client", "both"].contains(&binds), "{line}");
    assert!(meaning.len() > 10, "no paraphrase: {line}");
    let tests = match tests.strip_prefix("- ") {
        Some(reason) => {
            assert!(reason.len() > 10, "neither tests nor a reason: {line}");
            Vec::new()
        }
        None => tests.split(", ").map(String::from).collect(),
    };
    Statement {
        id: id.into(),
        tests,
    }
}

/// `MQTT-3.3.4-6` for `mqtt5_3_3_4_6_and_so_on`; `None` for other names.
fn statement_of(version: &str, test: &str) -> Option<String> {
    let rest = test.strip_prefix(version)?.strip_prefix('_')?;
    let numbers: Vec<&str> = rest.splitn(5, '_').collect();
    let [chapter, section, subsection, number, _] = numbers[..] else {
        panic!("{test} does not name a statement")
    };
    Some(format!("MQTT-{chapter}.{section}.{subsection}-{number}"))
}

/// The names of all functions marked as tests in the folders.
fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    TEST_FOLDERS
        .iter()
        .for_each(|folder| collect_tests(&here().join(folder), &mut names));
    assert!(
        names.len() > 100,
        "the tests are looked for in the wrong place"
    );
    names
}

fn collect_tests(folder: &Path, names: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            collect_tests(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("sources are text");
            let marked = source.split("#[test]\n").skip(1);
            names.extend(marked.filter_map(|text| {
                let (name, _) = text.trim_start().strip_prefix("fn ")?.split_once('(')?;
                Some(name.to_string())
            }));
        }
    }
}

/// Every statement once, in rising order without gaps inside a section (but for those that the
/// specification itself leaves out), and as many as the specification has.
fn check_ids(version: &str, count: usize, left_out: &[&str]) {
    let listed: Vec<String> = statements(version)
        .into_iter()
        .map(|line| line.id)
        .collect();
    let unique: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "a statement is listed twice");
    assert_eq!(listed.len(), count);
    for id in &listed {
        let (section, number) = id.rsplit_once('-').expect("an id has a number");
        let number: u32 = number.parse().expect("a number");
        for before in 1..number {
            let before = format!("{section}-{before}");
            assert!(
                unique.contains(&before) || left_out.contains(&before.as_str()),
                "{before}"
            );
        }
    }
}

/// The tests that are named exist, and every test that carries a number is named at it (and
/// perhaps at others, which it covers too).
fn check_tests(version: &str) {
    let tests = test_names();
    let mut listed = BTreeSet::new();
    for statement in statements(version) {
        for test in statement.tests {
            assert!(
                tests.contains(&test),
                "{} names {test}, which is no test",
                statement.id
            );
            let is_new = listed.insert((statement.id.clone(), test));
            assert!(is_new, "{} names a test twice", statement.id);
        }
    }
    for test in tests {
        if let Some(id) = statement_of(version, &test) {
            assert!(
                listed.contains(&(id.clone(), test.clone())),
                "{test} is not listed at {id}"
            );
        }
    }
}

#[test]
fn statements_of_mqtt5_are_all_listed() {
    // The standard has no MQTT-2.2.1-1.
    check_ids("mqtt5", 251, &["MQTT-2.2.1-1"]);
}

#[test]
fn tests_of_mqtt5_statements_exist_and_are_listed() {
    check_tests("mqtt5");
}

#[test]
fn statements_of_mqtt311_are_all_listed() {
    check_ids("mqtt311", 141, &[]);
}

#[test]
fn tests_of_mqtt311_statements_exist_and_are_listed() {
    check_tests("mqtt311");
}
