//! How lines are logged, and how many of them.

use crate::support::raw::{Raw, connect_packet, packet};
use crate::support::{Broker, meshring};
use serde_json::Value;
use shard::{Cause, Level};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

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

#[test]
fn the_journal_hears_how_much_a_line_matters() {
    // A stream of ours is named as systemd would name its own.
    let lines_of = |flags: &[&str]| {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let theirs = OwnedFd::from(theirs);
        let stat = File::from(theirs.try_clone().unwrap()).metadata().unwrap();
        let mut command = meshring();
        command.env("JOURNAL_STREAM", format!("{}:{}", stat.dev(), stat.ino()));
        command.args(["serve", "--dev"]).args(flags);
        let mut child = command.stderr(theirs).spawn().unwrap();
        drop(command);
        assert!(!child.wait().unwrap().success());
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        text
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = lines_of(&["--durability", "memory", "--mqtt", &address]);
    let (before, last) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(last.starts_with("<3>meshring: cannot listen"), "{text}");
    let first = before.lines().next().unwrap();
    let first: Value = serde_json::from_str(first.strip_prefix("<6>").unwrap()).unwrap();
    assert_eq!(first["level"], "INFO");
    let text = lines_of(&["--config", "/nonexistent/meshring.toml"]);
    assert!(text.starts_with("<3>meshring: "), "{text}");
}

#[test]
fn a_flag_a_variable_and_the_file_say_how_lines_are_written() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("meshring.toml");
    std::fs::write(&file, "[general]\nlog_format = \"json\"\n").unwrap();
    let is_json = |variable: &str, flags: &[&str]| {
        let mut command = meshring();
        command.env("MESHRING_LOG_FORMAT", variable);
        command.env("MESHRING_CONFIG", &file);
        let mut broker = Broker::start_as(command, flags);
        broker.signal("TERM");
        broker.wait().1.starts_with('{')
    };
    assert!(is_json("", &[]));
    assert!(!is_json("text", &[]));
    assert!(is_json("text", &["--log-format", "json"]));
    let mut command = meshring();
    command.args(["check", "--data", "/nonexistent"]);
    let output = command.env("MESHRING_LOG_FORMAT", "xml").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("MESHRING_LOG_FORMAT=xml: expected auto or text or json"),
        "{text}"
    );
}

/// What a broker logs while clients do this, line by line.
fn json_while(flags: &[&str], work: impl FnOnce(&Broker)) -> Vec<Value> {
    let all = [&["--log-format", "json", "--shards", "1"], flags].concat();
    let log = log_while(&all, work);
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

fn log_while(flags: &[&str], work: impl FnOnce(&Broker)) -> String {
    let mut broker = Broker::start_as(meshring(), flags);
    work(&broker);
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert!(status.success(), "{log}");
    log
}

fn of(lines: &[Value], cause: Cause) -> Vec<&Value> {
    let is_of = |line: &&Value| line["cause"] == cause.name();
    lines.iter().filter(is_of).collect()
}

/// Tries to look like other fields, and to turn the text around. What else is worse is no MQTT.
const EVIL: &str = "pump\" level=ERROR cause=\"store_stalled\u{202e}x";
const HARMLESS: &str = "pump\" level=ERROR cause=\"store_stalled\\u{202e}x";

/// A client comes twice, and its first connection is closed.
fn take_over(broker: &Broker, client_id: &str) {
    let mut first = Raw::connected(broker.mqtt, client_id);
    let _second = Raw::connected(broker.mqtt, client_id);
    assert_eq!(first.packet().unwrap().first, 0xe0);
}

#[test]
fn what_is_known_of_a_client_is_a_key_each() {
    let lines = json_while(&[], |broker| take_over(broker, "pump-7"));
    let taken = of(&lines, Cause::TakenOver);
    let [line] = taken[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(line["client_id"], "pump-7");
    assert_eq!(
        (&line["level"], &line["listener"]),
        (&"INFO".into(), &"mqtt".into())
    );
    assert_eq!(
        (&line["reason"], &line["code"]),
        (&"SessionTakenOver".into(), &0x8e.into())
    );
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(line["shard"], 0);
    assert!(of(&lines, Cause::ClientConnected).is_empty());
}

#[test]
fn a_client_cannot_forge_lines() {
    let lines = json_while(&[], |broker| take_over(broker, EVIL));
    assert_eq!(of(&lines, Cause::TakenOver)[0]["client_id"], HARMLESS);
    let text = log_while(&["--log-format", "text"], |broker| take_over(broker, EVIL));
    let line = text
        .lines()
        .find(|line| line.contains("taken_over"))
        .unwrap();
    assert!(line.contains(&format!("client_id={HARMLESS:?}")), "{line}");
    let wild = |character: char| character.is_control() && character != '\n';
    assert!(
        !text.contains(wild) && !text.contains('\u{202e}'),
        "{text:?}"
    );
    let long = "x".repeat(60_000);
    let lines = json_while(&[], |broker| take_over(broker, &long));
    let shown = of(&lines, Cause::TakenOver)[0]["client_id"]
        .as_str()
        .unwrap();
    assert!(shown.starts_with("xxx") && shown.ends_with('…') && shown.len() < 300);
}

#[test]
fn who_is_refused_is_named_and_no_token_is() {
    const DEVICE: &str = "6c6b0a52-0f53-4e0d-9d3a-7d4f0e6e21aa";
    let lines = json_while(&["--log", "trace"], |broker| {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0xc2, 0, 60, 0];
        for text in ["intruder", DEVICE, "s3cret-token"] {
            body.extend_from_slice(&(text.len() as u16).to_be_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        let mut raw = Raw::open(broker.mqtt);
        raw.send(&packet(0x10, &body));
        assert_eq!(raw.packet().unwrap().body[1], 0x86);
        let mut raw = Raw::open(broker.mqtt);
        raw.send(&connect_packet(4, ""));
        let mut bad = connect_packet(5, "odd");
        bad[9] |= 1;
        let mut raw = Raw::open(broker.mqtt);
        raw.send(&bad);
        raw.drain();
    });
    let denied = of(&lines, Cause::ConnectDenied);
    let [line] = denied[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(
        (&line["client_id"], &line["device"]),
        (&"intruder".into(), &DEVICE.into())
    );
    assert_eq!(line["reason"], "BadUserNameOrPassword");
    assert_eq!(of(&lines, Cause::ConnectInvalid).len(), 1);
    assert!(!lines.iter().any(|line| line.to_string().contains("s3cret")));
}

#[test]
fn a_flood_of_one_cause_hides_no_other() {
    const CLOSED: usize = 200;
    let lines = json_while(&[], |broker| {
        for _ in 0..CLOSED {
            let mut raw = Raw::open(broker.mqtt);
            raw.send(b"\xf0\0 this is no CONNECT");
            raw.drain();
        }
        take_over(broker, "pump-7");
    });
    let (closing, written): (Vec<_>, Vec<_>) = of(&lines, Cause::ProtocolError)
        .into_iter()
        .partition(|line| line["suppressed"].is_u64());
    let left_out: u64 = closing
        .iter()
        .map(|line| line["suppressed"].as_u64().unwrap())
        .sum();
    assert_eq!(written.len() + left_out as usize, CLOSED);
    assert!(
        left_out > 0,
        "{CLOSED} closes took longer than {} s",
        CLOSED / 10
    );
    assert_eq!(of(&lines, Cause::TakenOver).len(), 1);
}

#[test]
fn comings_and_goings_are_logged_if_wanted() {
    let lines = json_while(&["--log", "info,net::journal=debug"], |broker| {
        let mut raw = Raw::connected(broker.mqtt, "pump-7");
        raw.send(&packet(0xe0, &[]));
        raw.drain();
        drop(Raw::connected(broker.mqtt, "pump-8"));
    });
    let names = |cause| {
        let ids = of(&lines, cause)
            .into_iter()
            .map(|line| line["client_id"].as_str().unwrap());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(names(Cause::ClientConnected), ["pump-7", "pump-8"]);
    let left = of(&lines, Cause::ClientLeft);
    assert_eq!(left[0]["reason"], "Success");
}

/// The cells of the table in the admin manual that has this head.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    const PAGE: &str = include_str!("../../../../docs/admin.md");
    let rows = PAGE.lines().skip_while(|line| !line.starts_with(head));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let cell = |cell: &'static str| cell.trim().trim_matches('`');
    rows.map(|row| row.trim_matches('|').split('|').map(cell).collect())
        .collect()
}

#[test]
fn the_manual_has_every_cause_and_every_field() {
    let written = table("| cause |");
    let written: Vec<_> = written.iter().map(|row| (row[0], row[1])).collect();
    let level = |cause: &Cause| match cause.level() {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    let causes = Cause::ALL.iter().map(|cause| (cause.name(), level(cause)));
    assert_eq!(written, causes.collect::<Vec<_>>());
    let written = table("| field |");
    let written: BTreeSet<_> = written.iter().map(|row| row[0]).collect();
    assert_eq!(written, net::LOG_FIELDS.iter().copied().collect());
}
