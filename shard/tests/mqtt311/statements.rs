//! `tests/statements/mqtt311.txt` lists every statement, and names tests that exist.

use std::collections::BTreeSet;

const LIST: &str = include_str!("../statements/mqtt311.txt");
const SOURCES: [&str; 7] = [
    include_str!("connect.rs"),
    include_str!("format.rs"),
    include_str!("operation.rs"),
    include_str!("publish.rs"),
    include_str!("subscribe.rs"),
    include_str!("websocket.rs"),
    include_str!("will.rs"),
];

/// Statement, whom it binds, tests or the reason for none.
fn lines() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let lines = LIST
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let columns: Vec<&str> = line.split(" | ").collect();
        let [statement, bound, tests, meaning] = columns[..] else {
            panic!("not four columns: {line}")
        };
        assert!(!meaning.is_empty(), "{line}");
        assert!(["server", "client", "both"].contains(&bound), "{line}");
        (statement, bound, tests)
    })
}

/// The functions marked as tests.
fn tests() -> BTreeSet<&'static str> {
    let after_marks = SOURCES
        .iter()
        .flat_map(|source| source.split("#[test]\nfn ").skip(1));
    after_marks
        .map(|text| text.split('(').next().expect("a function has a name"))
        .collect()
}

/// Section and number of `MQTT-3.1.2-4`.
fn section_and_number(statement: &str) -> (&str, u32) {
    let rest = statement
        .strip_prefix("MQTT-")
        .expect("a statement begins with MQTT-");
    let (section, number) = rest.split_once('-').expect("a statement has a number");
    assert_eq!(section.split('.').count(), 3, "{statement}");
    (section, number.parse().expect("a number"))
}

#[test]
fn statements_are_numbered_without_gaps() {
    let mut before = ("", 0);
    let mut sections = BTreeSet::new();
    for (statement, _, _) in lines() {
        let (section, number) = section_and_number(statement);
        if section == before.0 {
            assert_eq!(number, before.1 + 1, "{statement}");
        } else {
            assert_eq!(number, 1, "{statement}");
            assert!(sections.insert(section), "{section} twice");
        }
        before = (section, number);
    }
    // As many as Appendix B of the standard has.
    assert_eq!(lines().count(), 141);
}

#[test]
fn every_statement_names_tests_that_exist_or_a_reason() {
    let tests = tests();
    for (statement, bound, named) in lines() {
        match named.strip_prefix("- ") {
            Some(reason) => assert!(!reason.is_empty(), "{statement}"),
            None => {
                for name in named.split(", ") {
                    assert!(tests.contains(name), "{statement} ({bound}) names {name}");
                }
            }
        }
    }
}

#[test]
fn every_test_of_a_statement_is_listed_at_it() {
    for test in tests() {
        let Some(name) = test.strip_prefix("mqtt311_") else {
            continue;
        };
        let numbers: Vec<&str> = name.splitn(5, '_').collect();
        let [chapter, section, subsection, number, _] = numbers[..] else {
            panic!("{test} names no statement")
        };
        let statement = format!("MQTT-{chapter}.{section}.{subsection}-{number}");
        let line = lines().find(|(listed, _, _)| *listed == statement);
        let (_, _, named) = line.unwrap_or_else(|| panic!("{test}: no {statement}"));
        assert!(
            named.split(", ").any(|listed| listed == test),
            "{test} is not at {statement}"
        );
    }
}
