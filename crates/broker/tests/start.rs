//! A start with much on disk: it says how far it is, can be told to stop meanwhile, and loses
//! nothing by it.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod support;

use mqtt_v5_codec::QoS;
use shard::{Change, Commit, MessageView, Time};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use storage::{DataDirectory, NewDirectory, StoreOptions};
use support::kept::{retained, serve};
use support::notify::Manager;
use support::{Broker, SERVE, meshring};
use tempfile::TempDir;

/// So many retained messages take some seconds, also on a quick machine.
const RECORDS: usize = 1_200_000;
/// In one commit.
const BATCH: usize = 100_000;

/// A data directory as a broker with one shard leaves it.
fn filled() -> TempDir {
    let root = TempDir::new().unwrap();
    let new = NewDirectory {
        id: 1,
        placement_seed: 2,
        now: Time(1_700_000_000_000_000),
    };
    let directory = DataDirectory::open(root.path(), 1, new, &mut |_| Ok(())).unwrap();
    let mut store = directory.open_store(0, StoreOptions::default()).unwrap();
    for batch in 0..RECORDS / BATCH {
        let put = |n: usize| Change::PutRetained {
            message: MessageView {
                topic: &format!("kept/{batch:02}/{n:05}"),
                forwarded: &[],
                payload: &[b'x'; 64],
                qos: QoS::AtLeastOnce,
                retain: true,
                expires: None,
                publisher: None,
            }
            .to_message(),
        };
        let commit = Commit {
            sequence: batch as u64 + 1,
            at: new.now,
            changes: (0..BATCH).map(put).collect(),
        };
        store.apply(&[commit]).unwrap();
    }
    store.close().unwrap();
    root
}

/// The records that a line of progress names.
fn records(line: &str) -> Option<usize> {
    let number = line.split_once("recovering")?.1.split_once("records=")?.1;
    number.trim().parse().ok()
}

/// Starts a broker and sends SIGTERM when it says for the first time how far it is: its exit code,
/// and what it printed on stdout and, from then on, on stderr.
fn stopped_while_recovering(data: &TempDir, manager: &Manager) -> (Option<i32>, String, String) {
    let mut command = meshring();
    manager.manage(&mut command, None);
    command.args(SERVE);
    command.args(["--shards", "1", "--data"]).arg(data.path());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while records(&line).is_none() {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it has ended");
        assert!(
            !line.contains("all shards are ready"),
            "no progress, {line}"
        );
    }
    let kill = Command::new("kill")
        .args(["-s", "TERM", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let (mut rest, mut printed) = (String::new(), String::new());
    log.read_to_string(&mut rest).unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut printed).unwrap();
    (child.wait().unwrap().code(), printed, rest)
}

#[test]
fn a_long_start_says_how_far_it_is_and_may_be_stopped() {
    let data = filled();
    let manager = Manager::new();
    let (code, printed, log) = stopped_while_recovering(&data, &manager);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(printed, "", "nothing listens yet");
    assert!(log.contains("stopped before it was up"), "{log}");
    let (_, told) = manager.await_line("STOPPING=1");
    let (first, others) = told[0].split_first().unwrap();
    assert!(first.starts_with("STATUS=recovering: "), "{told:?}");
    // Time is asked for when there is progress.
    let has_moved = first != "STATUS=recovering: 0 records";
    let has_asked = others
        .iter()
        .any(|line| line.starts_with("EXTEND_TIMEOUT_USEC="));
    assert_eq!(has_moved, has_asked, "{told:?}");
    assert!(told.iter().flatten().all(|line| line != "READY=1"));

    let mut broker = serve(data.path(), &["--shards", "1"]);
    assert_eq!(retained(&broker, 1_000).len(), 1_000);
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert_eq!(status.code(), Some(0));
    let counts: Vec<usize> = log.lines().filter_map(records).collect();
    assert!(!counts.is_empty(), "{log}");
    assert!(
        counts.is_sorted() && counts.iter().all(|count| *count <= RECORDS),
        "{counts:?}"
    );
    let ready = log
        .lines()
        .find(|line| line.contains("all shards are ready"));
    let all = format!("records={RECORDS}");
    assert!(ready.is_some_and(|line| line.contains(&all)), "{log}");

    drop(broker);
    moving_to_more_shards_is_said(&data);
}

/// With another number of shards the service manager hears how far the move is, and gives it time.
fn moving_to_more_shards_is_said(data: &TempDir) {
    let manager = Manager::new();
    let mut command = meshring();
    manager.manage(&mut command, None);
    let path = data.path().to_str().unwrap();
    // Listeners open, and so its addresses are said, when all is moved.
    let broker = Broker::start_as(command, &["--shards", "2", "--data", path]);
    let (_, told) = manager.await_line("READY=1");
    let is_move = |message: &&Vec<String>| message[0].ends_with("%)");
    let moves: Vec<&Vec<String>> = told.iter().filter(is_move).collect();
    assert!(!moves.is_empty(), "{told:?}");
    for message in moves {
        assert!(
            message[0].starts_with("STATUS=") && message[0].contains("records moved"),
            "{message:?}"
        );
        assert!(
            message[1].starts_with("EXTEND_TIMEOUT_USEC="),
            "{message:?}"
        );
    }
    drop(broker);
}
