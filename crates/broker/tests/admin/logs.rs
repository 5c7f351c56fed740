//! How lines are logged.

use crate::support::Broker;
use serde_json::Value;

/// What a broker logs from its start to its end.
fn log_of(flags: &[&str]) -> String {
    let mut broker = Broker::start(flags);
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert!(status.success(), "{log}");
    log
}

#[test]
fn json_is_an_object_per_line() {
    let log = log_of(&["--log-format", "json"]);
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let running = lines.iter().find(|line| line["message"] == "running");
    let running = running.unwrap_or_else(|| panic!("{log}"));
    assert_eq!(running["level"], "INFO");
    assert!(running["driver"].is_string() && running["timestamp"].is_string());
}

#[test]
fn without_the_journal_lines_are_for_people() {
    let log = log_of(&[]);
    let first = log.lines().next().unwrap();
    assert!(
        first.contains(" INFO ") && !first.starts_with('{'),
        "{first}"
    );
}
