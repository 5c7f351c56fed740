//! The commands of the client as their users meet them: against a running server, against none, and
//! over TLS. Each runs in a directory of its own, where it keeps its credentials.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

#[path = "client/tls.rs"]
mod tls;

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Broker, meshring, run};
use tempfile::TempDir;

/// A directory with the credentials of one device, and a server to use them at.
struct Folder {
    directory: TempDir,
    server: String,
}

impl Folder {
    /// Not registered yet.
    fn new(server: &str) -> Folder {
        Folder {
            directory: TempDir::new().unwrap(),
            server: server.to_owned(),
        }
    }

    fn registered(broker: &Broker) -> (Folder, Value) {
        let folder = Folder::new(&format!("http://{}", broker.http));
        let device = folder.json(&["register", "-t", "sensor"]);
        (folder, device)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The command, with nothing inherited that could say who to be.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = meshring();
        for prefix in ["MESHRING", "FRESHBLU", "MESHBLU"] {
            for name in ["SERVER", "HOSTNAME", "PORT", "PROTOCOL", "UUID", "TOKEN"] {
                command.env_remove(format!("{prefix}_{name}"));
            }
        }
        command
            .env("MESHRING_SERVER", &self.server)
            .current_dir(self.path())
            .args(words);
        command
    }

    /// Exit code, stdout, stderr.
    fn run(&self, words: &[&str]) -> (i32, String, String) {
        let output = self.command(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        (code, text(output.stdout), text(output.stderr))
    }

    /// The answer of a command that must succeed.
    #[track_caller]
    fn json(&self, words: &[&str]) -> Value {
        let (code, stdout, stderr) = self.run(words);
        assert_eq!(code, 0, "{words:?}: {stderr}");
        serde_json::from_str(&stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, words: &[&str], expected: i32, said: &str) {
        let (code, stdout, stderr) = self.run(words);
        assert_eq!(
            (code, stdout.as_str()),
            (expected, ""),
            "{words:?}: {stderr}"
        );
        assert!(stderr.starts_with("meshring: "), "{stderr}");
        assert!(
            stderr.contains(said),
            "{words:?} should say {said:?}: {stderr}"
        );
    }
}

#[test]
fn a_device_lives_from_register_to_unregister() {
    let broker = Broker::start(&["--shards", "2"]);
    let (folder, device) = Folder::registered(&broker);
    let uuid = device["uuid"].as_str().unwrap();
    let kept = std::fs::read_to_string(folder.path().join("meshring.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["token"], device["token"]);
    assert_eq!(folder.json(&["whoami"])["type"], "sensor");
    assert_eq!(folder.json(&["update", "-d", r#"{"n":1}"#])["n"], 1);
    assert_eq!(folder.json(&["get", uuid, "-f", "json"])["n"], 1);
    let found = folder.json(&["search", "-d", r#"{"type":"sensor","n":1}"#]);
    assert_eq!(found[0]["uuid"], uuid);
    folder.json(&["unregister"]);
    folder.refused(&["whoami"], 4, "unauthorized");
    folder.refused(&["get", uuid], 4, "unauthorized");
}

#[test]
fn events_are_lines_as_they_come() {
    let broker = Broker::start(&["--shards", "2"]);
    let (listener, own) = Folder::registered(&broker);
    let (emitter, other) = Folder::registered(&broker);
    let words = [
        "subscribe",
        other["uuid"].as_str().unwrap(),
        "broadcast.sent",
        "--count",
        "2",
    ];
    let mut command = listener.command(&words);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut said).unwrap();
    assert!(
        said.starts_with("subscribed to broadcast.sent of "),
        "{said}"
    );
    let own = own["uuid"].as_str().unwrap();
    for message in [
        r#"{"devices":["*"],"payload":1}"#,
        &format!(r#"{{"devices":["{own}"]}}"#),
    ] {
        assert_eq!(emitter.json(&["message", "-d", message])["sent"], true);
    }
    let mut lines = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut lines)
        .unwrap();
    assert!(child.wait().unwrap().success());
    let events: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 2, "{lines}");
    assert_eq!(
        (&events[0]["event"], &events[0]["payload"]),
        (&"broadcast".into(), &1.into())
    );
    assert_eq!(events[1]["event"], "message");
    assert!(
        events
            .iter()
            .all(|event| event["fromUuid"] == other["uuid"])
    );
}

#[test]
fn a_server_that_ends_is_told() {
    let mut broker = Broker::start(&[]);
    let (folder, device) = Folder::registered(&broker);
    let mut command = folder.command(&[
        "subscribe",
        device["uuid"].as_str().unwrap(),
        "configure.sent",
    ]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    broker.kill();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{said}");
    assert!(said.contains("is lost"), "{said}");
    folder.refused(&["whoami"], 3, "cannot reach");
}

#[test]
fn refusals_and_mistakes_have_exit_codes_of_their_own() {
    let broker = Broker::start(&[]);
    let (folder, device) = Folder::registered(&broker);
    let uuid = device["uuid"].as_str().unwrap();
    let nobody = "00000000-0000-4000-8000-000000000001";
    folder.refused(&["get", nobody], 5, "device not found");
    folder.refused(&["-T", "wrong", "whoami"], 4, "unauthorized");
    folder.refused(&["whoami", "-U", nobody], 2, "no token for");
    folder.refused(&["message", "-d", "{}"], 2, "devices");
    folder.refused(&["register"], 2, "has credentials already");
    folder.refused(&["-c", "missing.json", "whoami"], 2, "no such file");
    folder.refused(&["-S", "ftp://a", "status"], 2, "http or https");
    folder.refused(&["--as", nobody, "get", uuid], 5, "device not found");
    let (code, _, stderr) = folder.run(&["subscribe", uuid, "message.seen"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("message.sent"),
        "suggests what is there: {stderr}"
    );
    let (code, _, stderr) = folder.run(&["-U", uuid, "check"]);
    assert_eq!(
        (code, stderr.contains("commands of the client")),
        (2, true),
        "{stderr}"
    );
}

#[test]
fn several_devices_can_be_kept_side_by_side() {
    let broker = Broker::start(&[]);
    let (folder, first) = Folder::registered(&broker);
    let second = folder.json(&["register", "--save", "second.json"]);
    let third = folder.json(&["-c", "third.json", "register"]);
    assert_eq!(folder.json(&["whoami"])["uuid"], first["uuid"]);
    assert_eq!(
        folder.json(&["-c", "second.json", "whoami"])["uuid"],
        second["uuid"]
    );
    assert_eq!(
        folder.json(&["whoami", "-c", "third.json"])["uuid"],
        third["uuid"]
    );
    let kept = |name: &str| folder.path().join(name).exists();
    folder.json(&["register", "--no-save"]);
    assert!(kept("second.json") && kept("third.json"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    let forced = folder.json(&["register", "--force", "--save"]);
    assert_eq!(folder.json(&["whoami"])["uuid"], forced["uuid"]);
}

#[test]
fn completions_and_manual_cover_every_command() {
    let (code, script, _) = run(&["completions", "bash"]);
    assert_eq!(code, 0);
    let folder = TempDir::new().unwrap();
    let directory = folder.path().to_str().unwrap();
    assert_eq!(run(&["man", directory]).0, 0);
    for command in [
        "serve",
        "backup",
        "whoami",
        "subscribe",
        "token-revoke",
        "completions",
    ] {
        assert!(
            script.contains(&command.replace('-', "__subcmd__")) || script.contains(command),
            "{command}"
        );
        let page = folder.path().join(format!("meshring-{command}.1"));
        assert!(page.exists(), "{command} has no page");
    }
    let (code, page, _) = run(&["man"]);
    assert_eq!((code, page.contains(".TH")), (0, true));
}

#[test]
fn help_teaches_by_examples() {
    for command in [
        "register",
        "update",
        "message",
        "subscribe",
        "search",
        "status",
    ] {
        let (code, help, _) = run(&[command, "--help"]);
        assert_eq!(code, 0);
        for words in ["Examples:", "Exit codes:", "MESHRING_TOKEN"] {
            assert!(help.contains(words), "{command} --help lacks {words}");
        }
    }
}
