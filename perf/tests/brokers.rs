//! Small versions of the scenarios against every broker that is installed here.
//!
//! A broker that is missing is no failure, but it is said, past the capture of test output.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use std::io::Write;
use std::path::{Path, PathBuf};

use perf::brokers::{self, Kind, Places};
use perf::options::Options;
use perf::scenarios::{self, Scenario};
use perf::wire::Version;

fn say(text: &str) {
    // Not `eprintln!`, which the test harness keeps to itself while tests pass.
    let _ = writeln!(std::io::stderr(), "perf/tests/brokers.rs: {text}");
}

/// Where cargo builds, seen from this test: `target/PROFILE/deps/brokers-…`.
fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

fn places() -> Places {
    let profile = profile_directory();
    Places {
        meshring: profile.join("meshring"),
        peers: profile.parent().unwrap_or(Path::new(".")).join("peers"),
        broker_core: None,
        generator_core: None,
        meshring_arguments: vec!["--shards".to_owned(), "1".to_owned()],
        data: None,
    }
}

fn options() -> Options {
    Options {
        seconds: 0.3,
        warm_up: 0.1,
        publishers: Some(8),
        subscribers: Some(4),
        window: Some(10),
        ..Options::default()
    }
}

/// Runs `scenario` and asserts that nothing was lost and every figure is there.
fn check(kind: Kind, scenario: Scenario, options: &Options) {
    let running = brokers::start(kind, &places(), Version::V311).unwrap();
    let outcome = scenarios::run(scenario, &running.subject, options).unwrap();
    let place = format!("{} {}", kind.name(), scenario.name());
    assert!(outcome.faults.is_empty(), "{place}: {:?}", outcome.faults);
    assert!(!outcome.figures.is_empty(), "{place}");
    for figure in &outcome.figures {
        let value = figure.value.unwrap_or(-1.0);
        assert!(value >= 0.0, "{place}: {figure:?}");
    }
}

fn check_all(kind: Kind) {
    if places().find(kind).is_none() {
        say(&format!(
            "{} is not installed: NOT tested against it",
            kind.name()
        ));
        return;
    }
    let fanned_out = Options {
        publishers: Some(1),
        ..options()
    };
    let few = |count| Options {
        count: Some(count),
        ..options()
    };
    check(kind, Scenario::Ingest, &options());
    check(
        kind,
        Scenario::Ingest,
        &Options {
            rate: Some(500.0),
            ..options()
        },
    );
    check(kind, Scenario::Fanout, &fanned_out);
    check(kind, Scenario::Pairs, &options());
    check(kind, Scenario::Connect, &few(100));
    check(kind, Scenario::Idle, &few(100));
    check(kind, Scenario::Retained, &few(50));
    check(kind, Scenario::Filters, &few(500));
    check(kind, Scenario::Connections, &few(100));
    say(&format!("{} was tested", kind.name()));
}

#[test]
fn scenarios_work_with_meshring() {
    check_all(Kind::Meshring);
}

#[test]
fn scenarios_work_with_mosquitto() {
    check_all(Kind::Mosquitto);
}

#[test]
fn scenarios_work_with_rumqttd() {
    check_all(Kind::Rumqttd);
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    let kind = Kind::MeshringCommit;
    if places().find(kind).is_none() {
        say("meshring is not built: NOT tested for what a kill takes");
        return;
    }
    let few = Options {
        publishers: Some(4),
        ..options()
    };
    let outcome = scenarios::start_and_run(Scenario::Durable, kind, &places(), &few).unwrap();
    assert!(outcome.faults.is_empty(), "{:?}", outcome.faults);
    let figure = |name: &str| outcome.value(&format!("{name}, 4 publishers")).unwrap();
    assert!(figure("acknowledged") > 0.0);
    assert!(figure("latency p99") >= figure("latency p50"));
    assert!(figure("written per message") > 64.0, "it is on disk");
    assert_eq!(figure("lost by SIGKILL"), 0.0);
}
