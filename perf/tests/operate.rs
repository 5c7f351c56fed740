//! A small crowd through all that an operator does, on both drivers.
//!
//! Without our broker beside this test there is nothing to try, which is said, past the capture of
//! test output.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use perf::operate::{self, Options, Report};

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
}

/// Where cargo builds, seen from this test: `target/PROFILE/deps/operate-…`.
fn meshring() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("meshring");
    if !program.is_file() {
        let _ = writeln!(
            std::io::stderr(),
            "perf/tests/operate.rs: {} is not built: nothing was tried",
            program.display()
        );
        return None;
    }
    Some(program)
}

fn options(words: &[&str]) -> Options {
    let line = [&["operate"], words].concat();
    CommandLine::try_parse_from(line).unwrap().options
}

fn run(driver: &str, durability: &str, further: &[&str]) -> Option<Report> {
    let program = meshring()?;
    let words = ["--idle", "200", "--active", "50", "--rate", "400"];
    let mut options = options(&[&words, further].concat());
    // What is lost for good need not be waited for.
    let patience = if durability == "memory" { 4.0 } else { 40.0 };
    (options.retained, options.seconds, options.patience) = (50, 0.5, patience);
    (options.driver, options.shards) = (driver.to_owned(), "2".to_owned());
    options.durability = durability.to_owned();
    // Slow enough to take a while, so that messages come while it is under way.
    options.drain_rate = 300;
    options.meshring = program;
    Some(operate::run(&options).unwrap())
}

fn check(driver: &str, durability: &str) {
    let Some(report) = run(driver, durability, &[]) else {
        return;
    };
    assert_eq!(report.faults, 0, "{driver}\n{}", report.table());
    assert_eq!(report.steps.len(), 8);
    for row in &report.steps {
        // What is not tried is not right.
        let counts = &row.counts;
        assert!(counts.delivered > 50, "{driver}\n{}", report.table());
        assert!(counts.acknowledged > 50 || row.name == "undrain", "{row:?}");
    }
    let upgrade = &report.steps[7];
    assert!(upgrade.counts.closed >= 240, "{}", report.table());
    assert!(upgrade.counts.wills_came >= upgrade.counts.wills_owed);
    assert!(upgrade.counts.retained >= 50, "{}", report.table());
}

#[test]
fn epoll_with_commit_loses_nothing() {
    check("epoll", "commit");
}

#[test]
fn the_default_driver_with_interval_loses_nothing() {
    check("auto", "interval");
}

#[test]
fn a_broker_that_forgets_is_found_out() {
    // Nothing is kept, so that all that is owed after the upgrade is lost.
    let Some(report) = run("auto", "memory", &["--steps", "steady,upgrade"]) else {
        return;
    };
    let [steady, upgrade] = &report.steps[..] else {
        panic!("two steps: {}", report.table());
    };
    assert_eq!(steady.counts.faults, 0, "{}", report.table());
    assert!(upgrade.counts.faults > 50, "{}", report.table());
    assert!(upgrade.counts.retained < 50, "{}", report.table());
    let lost = |fault: &String| fault.contains("session") && fault.contains("lost");
    assert!(report.told.iter().any(lost), "{}", report.table());
}

#[test]
fn wrong_words_are_refused() {
    for words in [
        &["--step", "reload=true"][..],
        &["--addr", "127.0.0.1:1"],
        &["--addr", "127.0.0.1:1", "--step", "reboot=true"],
        &["--steps", "reboot"],
        &["--active", "19"],
        &["--keep-alive", "1"],
        &["--username", "who"],
    ] {
        let line = [&["operate"], words].concat();
        assert!(CommandLine::try_parse_from(line).is_err(), "{words:?}");
    }
}

#[test]
fn a_broker_that_is_not_there_is_an_error() {
    let mut options = options(&["--idle", "2", "--active", "20", "--patience", "1"]);
    options.addr = Some("127.0.0.1:9".parse().unwrap());
    let error = operate::run(&options).unwrap_err().to_string();
    assert!(error.contains("0 of 21 clients arrived"), "{error}");
    options.addr = None;
    options.meshring = PathBuf::from("/nonexistent/meshring");
    let error = operate::run(&options).unwrap_err().to_string();
    assert!(
        error.contains("cannot start /nonexistent/meshring"),
        "{error}"
    );
}
