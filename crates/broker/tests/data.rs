//! What the program keeps in its directory, and what it says when it cannot.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use support::kept::{await_retained, files, refusal, retain, retained, serve};
use support::raw::{Raw, packet};
use support::{Broker, meshring};
use tempfile::TempDir;

#[test]
fn the_directory_is_made_for_its_owner_alone() {
    let root = TempDir::new().unwrap();
    let data = root.path().join("of/mine");
    let broker = serve(&data, &["--shards", "2"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let files = files(&data);
    assert_eq!(files.len(), 2);
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    drop(broker);
}

#[test]
fn without_a_word_it_is_data_in_the_current_directory_with_dev() {
    let root = TempDir::new().unwrap();
    let start = |flags: &[&str]| {
        let mut child = meshring()
            .args(["serve", "--dev", "--mqtt", "127.0.0.1:0", "--shards", "1"])
            .args(["--http", "127.0.0.1:0"])
            .args(flags)
            .current_dir(root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        assert!(line.starts_with("mqtt "), "{line}");
        child.kill().unwrap();
        child.wait().unwrap();
    };
    start(&["--durability", "memory"]);
    assert!(!root.path().join("data").exists(), "memory writes nothing");
    start(&[]);
    assert!(root.path().join("data").is_dir());
}

#[test]
fn a_directory_serves_one_broker_at_a_time() {
    let root = TempDir::new().unwrap();
    let mut first = serve(root.path(), &["--shards", "1"]);
    let said = refusal(root.path(), &["--shards", "1"]);
    let words = [root.path().to_str().unwrap(), "another broker uses"];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    first.kill();
    let _second = serve(root.path(), &["--shards", "1"]);
}

#[test]
fn retained_messages_outlive_stops_kills_and_other_numbers_of_shards() {
    let root = TempDir::new().unwrap();
    let mut expected = BTreeSet::new();
    for (round, shards) in ["1", "3", "3", "2", "1"].into_iter().enumerate() {
        let mut broker = serve(root.path(), &["--shards", shards]);
        assert_eq!(retained(&broker, expected.len()), expected);
        for number in 0..5 {
            let topic = format!("kept/{round}/{number}");
            retain(&broker, &topic);
            expected.insert(topic);
        }
        if round % 2 == 0 {
            broker.kill();
        } else {
            broker.signal("TERM");
            let (status, log) = broker.wait();
            assert_eq!(status.code(), Some(0), "{log}");
            assert!(log.contains("store closed"), "{log}");
        }
        assert_eq!(files(root.path()).len(), shards.parse().unwrap());
    }
}

#[test]
fn a_planned_stop_writes_what_the_interval_has_not() {
    let root = TempDir::new().unwrap();
    let flags = ["--shards", "2", "--durability", "interval"];
    let flags = [&flags[..], &["--durability-interval", "3600000"]].concat();
    let mut broker = serve(root.path(), &flags);
    retain(&broker, "kept/late");
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let broker = serve(root.path(), &flags);
    assert!(retained(&broker, 1).contains("kept/late"));
}

#[test]
fn a_damaged_or_missing_file_is_named_and_nothing_starts() {
    let root = TempDir::new().unwrap();
    let mut broker = serve(root.path(), &["--shards", "2"]);
    retain(&broker, "kept/one");
    broker.kill();
    let file = files(root.path()).remove(1);
    let whole = std::fs::read(&file).unwrap();
    let check = |what: &str| {
        let said = refusal(root.path(), &["--shards", "2"]);
        for word in [what, file.to_str().unwrap(), "meshring repair"] {
            assert!(said.contains(word), "{word:?} is missing in {said}");
        }
    };
    std::fs::write(&file, vec![0x5A; whole.len()]).unwrap();
    check("damaged");
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    check("damaged");
    std::fs::write(&file, []).unwrap();
    check("damaged");
    std::fs::remove_file(&file).unwrap();
    check("missing");
    std::fs::write(&file, &whole).unwrap();
    let broker = serve(root.path(), &["--shards", "2"]);
    assert_eq!(retained(&broker, 1).len(), 1);
}

#[test]
fn where_nothing_can_be_written_nothing_starts() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    // A file, a directory in which nobody can make a file, and one that holds something else.
    for (data, words) in [
        (file.as_path(), "file"),
        (Path::new("/proc/self"), "/proc/self"),
        (root.path(), "not empty"),
    ] {
        let said = refusal(data, &[]);
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}

#[test]
fn a_write_that_fails_ends_the_broker_and_what_was_acknowledged_is_there() {
    let root = TempDir::new().unwrap();
    let data = root.path().to_str().unwrap();
    // No file may be longer than 4 MiB; the signal that comes with it would hide the error.
    let line = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", line, env!("CARGO_BIN_EXE_meshring")]);
    let mut broker = Broker::start_as(command, &["--data", data, "--shards", "1"]);
    let mut acknowledged = BTreeSet::new();
    let mut client = Raw::connected(broker.mqtt, "publisher");
    let payload = [b'x'; 50_000];
    // Far more than fits.
    for number in 0..500 {
        let topic = format!("kept/{number:03}");
        let mut body = vec![0, topic.len() as u8];
        body.extend_from_slice(topic.as_bytes());
        body.extend_from_slice(&[0, 1, 0]);
        body.extend_from_slice(&payload);
        client.send(&packet(0x33, &body));
        match client.packet() {
            Some(puback) => assert_eq!(puback.first, 0x40),
            None => break,
        }
        acknowledged.insert(topic);
    }
    let (status, log) = broker.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("shard-000.redb"), "{log}");
    assert!(
        (5..200).contains(&acknowledged.len()),
        "{}",
        acknowledged.len()
    );
    await_retained(&serve(root.path(), &["--shards", "1"]), acknowledged);
}
