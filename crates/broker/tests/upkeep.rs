//! `meshring backup`, `restore`, `check` and `repair`, as those who run a broker use them.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod support;

use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::kept::{await_retained, files, refusal, retain, retained, serve};
use support::{meshring, run};
use tempfile::TempDir;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a command that is expected to do well, and gives what it says.
#[track_caller]
fn does(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(arguments);
    assert_eq!(code, 0, "{arguments:?}: {stderr}");
    stdout
}

/// Runs a command that is expected to fail with this code and these words.
#[track_caller]
fn fails(arguments: &[&str], expected: i32, words: &[&str]) {
    let (code, stdout, stderr) = run(arguments);
    assert_eq!(code, expected, "{arguments:?}: {stderr}");
    let said = format!("{stdout}{stderr}");
    for word in words {
        assert!(
            said.contains(word),
            "{arguments:?} should say {word:?}: {said}"
        );
    }
}

#[test]
fn a_running_broker_is_backed_up_and_the_backup_runs_elsewhere() {
    let root = TempDir::new().unwrap();
    let [data, backup, elsewhere] = ["data", "backup", "elsewhere"].map(|d| root.path().join(d));
    let broker = serve(&data, &["--shards", "2"]);
    let socket = std::fs::metadata(data.join("control.sock")).unwrap();
    assert_eq!(socket.mode() & 0o777, 0o600);
    for number in 0..200 {
        retain(&broker, &format!("kept/before/{number}"));
    }
    // While it goes on taking messages, each of which is acknowledged before the next is sent.
    let is_done = AtomicBool::new(false);
    let acknowledged = AtomicUsize::new(0);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let number = acknowledged.fetch_add(1, Ordering::Relaxed);
                retain(&broker, &format!("kept/during/{number:06}"));
            }
        });
        while acknowledged.load(Ordering::Relaxed) < 20 {
            std::thread::yield_now();
        }
        let said = does(&["backup", text(&backup), "--data", text(&data)]);
        is_done.store(true, Ordering::Relaxed);
        said
    });
    assert!(said.contains("2 shards"), "{said}");
    fails(
        &["backup", text(&backup), "--data", text(&data)],
        1,
        &[text(&backup), "not empty"],
    );
    fails(
        &["restore", text(&backup), "--data", text(&data), "--force"],
        1,
        &["another broker uses"],
    );
    does(&["check", "--data", text(&backup)]);
    does(&["restore", text(&backup), "--data", text(&elsewhere)]);
    // With another number of shards at once.
    let restored = serve(&elsewhere, &["--shards", "3"]);
    let before = (0..200).map(|number| format!("kept/before/{number}"));
    // Acknowledged before the backup began.
    let during = (0..19).map(|number| format!("kept/during/{number:06}"));
    await_retained(&restored, before.chain(during).collect());
}

#[test]
fn what_rests_is_backed_up_as_well_and_restored_with_force_alone() {
    let root = TempDir::new().unwrap();
    let [data, backup] = ["data", "backup"].map(|d| root.path().join(d));
    let mut broker = serve(&data, &["--shards", "2"]);
    retain(&broker, "kept/one");
    // Killed, so that its socket is left behind.
    broker.kill();
    does(&["backup", text(&backup), "--data", text(&data)]);
    let mut broker = serve(&data, &["--shards", "1"]);
    retain(&broker, "kept/two");
    assert_eq!(retained(&broker, 2).len(), 2);
    broker.kill();
    let restore = ["restore", text(&backup), "--data", text(&data)];
    fails(&restore, 1, &["--force", "not empty"]);
    does(&[&restore[..], &["--force"]].concat());
    let json = does(&["check", "--data", text(&data), "--json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    let files = report["files"].as_array().unwrap();
    let count = files.iter().map(|file| file["retained"].as_u64().unwrap());
    assert_eq!((files.len(), count.sum::<u64>()), (2, 1), "{json}");
    let broker = serve(&data, &["--shards", "2"]);
    assert_eq!(Vec::from_iter(retained(&broker, 1)), ["kept/one"]);
}

#[test]
fn the_socket_answers_its_line_alone() {
    let root = TempDir::new().unwrap();
    let mut broker = serve(root.path(), &["--shards", "1"]);
    let socket = root.path().join("control.sock");
    for nonsense in ["\n", "restore /tmp\n", "backup relative\n"] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert_eq!(answer, "error not understood\n", "{nonsense:?}");
    }
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!socket.exists(), "a planned stop leaves no socket");
}

#[test]
fn damage_is_found_said_and_repaired() {
    let root = TempDir::new().unwrap();
    let [data, nowhere] = ["data", "nowhere"].map(|d| root.path().join(d));
    let check = ["check", "--data", text(&data)];
    let repair = ["repair", "--data", text(&data)];
    let mut broker = serve(&data, &["--shards", "2"]);
    for number in 0..20 {
        retain(&broker, &format!("kept/{number}"));
    }
    fails(&check, 1, &["another broker uses"]);
    fails(&repair, 1, &["another broker uses"]);
    broker.kill();
    assert!(does(&check).contains("no damage found"));
    assert!(does(&repair).contains("nothing to repair"));
    fails(
        &["check", "--data", text(&nowhere)],
        1,
        &[text(&nowhere), "missing"],
    );

    let file = files(&data).remove(0);
    let bytes = std::fs::metadata(&file).unwrap().len() as usize;
    std::fs::write(&file, vec![0xFF; bytes]).unwrap();
    fails(&check, 3, &["DAMAGED", text(&file)]);
    let (code, json, _) = run(&[&check[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &report["sound"]), (3, &Value::Bool(false)));
    assert_eq!(report["shards"], 2);
    assert_eq!(report["files"][0]["path"], text(&file));
    assert_ne!(report["files"][0]["findings"][0], Value::Null);
    assert_eq!(report["files"][1]["findings"][0], Value::Null);
    let kept = report["files"][1]["retained"].as_u64().unwrap();
    assert!(kept > 0, "some of the messages are in the other file");
    assert!(refusal(&data, &["--shards", "2"]).contains("meshring repair"));

    assert!(does(&repair).contains(text(&file)));
    assert!(does(&check).contains("no damage found"));
    let broker = serve(&data, &["--shards", "2"]);
    retained(&broker, kept as usize);
}

#[test]
fn help_has_examples_and_exit_codes() {
    for command in ["backup", "restore", "check", "repair", "serve"] {
        let help = does(&[command, "--help"]);
        for words in ["Exit codes:", "Examples:", "--data"] {
            assert!(help.contains(words), "{words:?} is missing for {command}");
        }
        fails(&[command, "--nonsense"], 2, &["--nonsense"]);
    }
}

#[test]
fn targets_are_meant_from_where_the_command_runs() {
    let root = TempDir::new().unwrap();
    let data = root.path().join("data");
    let _broker = serve(&data, &["--shards", "1"]);
    let mut backup: Command = meshring();
    let output = backup
        .args(["backup", "here", "--data", text(&data)])
        .current_dir(root.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(root.path().join("here/manifest.json").is_file());
}

#[test]
fn the_directory_is_the_one_of_the_configuration() {
    let root = TempDir::new().unwrap();
    let (data, file) = (root.path().join("data"), root.path().join("meshring.toml"));
    let broker = serve(&data, &["--shards", "1"]);
    retain(&broker, "kept/one");
    let words = format!("# who knows\n[general]\ndata = {data:?}\nnonsense = 1\n");
    std::fs::write(&file, words).unwrap();
    // Whatever else is wrong in it; and what was taken is said, on stderr.
    let said = format!("data directory: {}", data.display());
    let (config, backup) = (text(&file), root.path().join("backup"));
    let (code, stdout, stderr) = run(&["backup", "--config", config, text(&backup)]);
    assert!(code == 0 && stderr.contains(&said), "{stdout}{stderr}");
    assert!(stderr.contains("meshring.toml:3"), "{stderr}");
    let (code, stdout, stderr) = run(&["clients", "--config", config, "--json"]);
    assert_eq!((code, stdout.lines().count()), (0, 0), "{stderr}");
    drop(broker);
    let by_variable = |arguments: &[&str]| {
        let mut command = meshring();
        command.args(arguments).env("MESHRING_CONFIG", &file);
        let output = command.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), error)
    };
    let (code, stderr) = by_variable(&["check", "--json"]);
    assert!(code == 0 && stderr.contains(&said), "{stderr}");
    let (code, stderr) = by_variable(&["repair"]);
    assert!(code == 0 && stderr.contains(&said), "{stderr}");
    let (code, stderr) = by_variable(&["restore", "--force", text(&backup)]);
    assert!(code == 0 && stderr.contains(&said), "{stderr}");
    // Operators hear where nobody is, and who has said so.
    let (code, stderr) = by_variable(&["shards"]);
    let socket = data.join("admin.sock").display().to_string();
    assert!(code == 3 && stderr.contains(&socket), "{stderr}");
    assert!(stderr.contains("general.data in "), "{stderr}");
    // Of a file that cannot be understood nothing is guessed.
    let broken = root.path().join("broken.toml");
    for (words, line) in [
        (format!("[general\ndata = {data:?}\n"), "broken.toml:1"),
        ("[general]\ndata = 5\n".to_owned(), "broken.toml:2"),
        (
            format!("[general]\nshards = 1\ndaat = {data:?}\n"),
            "broken.toml:3",
        ),
    ] {
        std::fs::write(&broken, words).unwrap();
        for command in ["check", "repair", "restore", "backup"] {
            let mut arguments = vec![command, "--config", text(&broken)];
            let is_with_backup = ["restore", "backup"].contains(&command);
            arguments.extend(is_with_backup.then_some(text(&backup)));
            fails(&arguments, 1, &[line, "--data"]);
        }
    }
    // A flag is stronger; a file that was named must be there.
    let elsewhere = root.path().join("elsewhere");
    fails(
        &["check", "--config", config, "--data", text(&elsewhere)],
        1,
        &["elsewhere"],
    );
    fails(
        &["check", "--config", "/nowhere.toml"],
        1,
        &["/nowhere.toml"],
    );
    fails(
        &["shards", "--config", "/nowhere.toml"],
        2,
        &["/nowhere.toml"],
    );
}
