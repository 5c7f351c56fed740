//! The program as its users meet it: what it prints, how it refuses to start, how it ends.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod support;

use std::fs::File;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::raw::{Raw, connect_packet, publish_packet, subscribe_packet};
use support::{Broker, meshring, run};
use tempfile::TempDir;

/// Checks that the program does not start, and that it says why in these words.
#[track_caller]
fn refuses(arguments: &[&str], code: i32, words: &[&str]) {
    let (found, stdout, stderr) = run(arguments);
    assert_eq!(found, code, "exit code of {arguments:?}: {stderr}");
    assert_eq!(stdout, "", "nothing may look like a bound address");
    for word in words {
        assert!(
            stderr.contains(word),
            "{arguments:?} should say {word:?}: {stderr}"
        );
    }
}

#[test]
fn help_and_version_need_no_broker() {
    let (code, help, _) = run(&["serve", "--help"]);
    assert_eq!(code, 0);
    let flags = [
        "--dev",
        "--mqtt",
        "--http",
        "--data",
        "--durability",
        "--durability-interval",
        "--durability-prefix",
        "--shards",
        "--cpus",
        "--driver",
        "--log",
    ];
    for flag in flags {
        assert!(help.contains(flag), "{flag} is missing in the help");
    }
    assert!(help.contains("Not there yet"), "the help must be honest");
    let (code, version, _) = run(&["--version"]);
    assert_eq!(code, 0);
    let expected = format!("meshring {}", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&expected), "{version}");
    refuses(&[], 2, &["Usage"]);
}

/// Runs a command with this stdout; gives its exit code and what it says on stderr.
fn output_to(arguments: &[&str], stdout: Stdio) -> (i32, String) {
    let mut command = meshring();
    let child = command
        .args(arguments)
        .stdout(stdout)
        .stderr(Stdio::piped());
    let output = child.output().expect("the program starts");
    let stderr = String::from_utf8(output.stderr).expect("it says UTF-8");
    (output.status.code().unwrap_or(-1), stderr)
}

#[test]
fn what_cannot_be_written_is_said_and_nobody_need_read() {
    let data = TempDir::new().expect("a directory");
    let data = data.path().to_str().expect("its name is text");
    for arguments in [
        &["config", "example"][..],
        &["config", "show", "--dev"],
        &["completions", "bash"],
        &["man"],
        &["doctor", "--dev", "--data", data],
        &["doctor", "--dev", "--data", data, "--json"],
    ] {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("Linux has it");
        let (code, stderr) = output_to(arguments, full.into());
        assert_eq!(code, 1, "{arguments:?}: {stderr}");
        assert!(stderr.contains("No space left"), "{arguments:?}: {stderr}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let (code, stderr) = output_to(arguments, writer.into());
        // 3: doctor has found something on this host.
        assert!([0, 3].contains(&code), "{arguments:?}: {code} {stderr}");
        assert!(stderr.is_empty(), "{arguments:?}: {stderr}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_starts() {
    refuses(
        &["serve", "--mqtt", "localhost:1883"],
        2,
        &["--mqtt", "127.0.0.1:1883"],
    );
    refuses(&["serve", "--cpus", "3-1"], 2, &["--cpus", "counts down"]);
    refuses(&["serve", "--shards", "0"], 2, &["--shards"]);
    refuses(&["serve", "--log", "a=b=c"], 2, &["--log", "no log filter"]);
    let contradiction = ["serve", "--durability", "memory", "--durability-prefix"];
    let line = [&contradiction[..], &["a=commit"]].concat();
    refuses(&line, 2, &["--durability-prefix", "keeps nothing"]);
    let free = [
        "--mqtt",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--log",
        "error",
    ];
    let with = |flags: &[&'static str]| [&["serve"], flags, &free].concat();
    refuses(
        &with(&["--cpus", "8000"]),
        1,
        &["CPU 8000", "usable CPUs are"],
    );
    refuses(&with(&["--shards", "129"]), 2, &["129", "from 1 to 128"]);
}

#[test]
fn a_variable_that_makes_no_sense_is_named() {
    for (name, text) in [
        ("FRESHBLU_HTTP_PORT", "http"),
        ("MESHRING_OPEN_REGISTRATION", "perhaps"),
        ("FRESHBLU_MAX_MESSAGE_SIZE", "1"),
    ] {
        let mut command = meshring();
        let command = command.env(name, text).args(["serve", "--durability"]);
        let output = command.arg("memory").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.contains(&format!("{name}={text}: expected")),
            "{stderr}"
        );
    }
}

#[test]
fn ports_come_from_variables_unless_flags_say_otherwise() {
    let mut command = meshring();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    command
        .env("FRESHBLU_MQTT_PORT", &port)
        .env("MESHRING_HTTP_PORT", "0");
    let line = ["serve", "--dev", "--durability", "memory", "--log", "error"];
    let output = command.args(line).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(&format!("127.0.0.1:{port}")), "{stderr}");
    // Flags for both, and so it starts.
    let mut command = meshring();
    command.env("FRESHBLU_MQTT_PORT", &port);
    Broker::start_as(command, &[]);
}

#[test]
fn a_pepper_is_drawn_once_and_kept() {
    let data = TempDir::new().unwrap();
    let at = data.path().to_str().unwrap();
    let pepper = || {
        let text = std::fs::read_to_string(data.path().join("manifest.json")).unwrap();
        let (_, rest) = text.split_once("\"pepper\": \"")?;
        rest.split_once('"').map(|(pepper, _)| pepper.to_owned())
    };
    let mut command = meshring();
    command.env("MESHRING_PEPPER", "salt");
    Broker::start_as(command, &["--shards", "1", "--data", at]).kill();
    assert_eq!(pepper(), None, "what is given is not written");
    Broker::start(&["--shards", "1", "--data", at]).kill();
    let drawn = pepper().unwrap();
    assert_eq!(drawn.len(), 64);
    Broker::start(&["--shards", "2", "--data", at]).kill();
    assert_eq!(pepper(), Some(drawn));
    // Another one is a mistake more often than not.
    let mut command = meshring();
    command.env("FRESHBLU_PEPPER", "change-me-in-production");
    let mut broker = Broker::start_as(command, &["--shards", "1", "--data", at]);
    broker.signal("TERM");
    let (_, log) = broker.wait();
    assert!(log.contains("not the one of the directory"), "{log}");
    assert!(log.contains("everybody can read"), "{log}");
}

#[test]
fn an_address_that_cannot_be_had_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = "127.0.0.1:0";
    let forgets = ["serve", "--durability", "memory", "--log", "error"];
    let with = |mqtt, http| [&forgets[..], &["--mqtt", mqtt, "--http", http]].concat();
    let line = with(free, &address);
    refuses(&line, 1, &[&address, "(--http)", "in use"]);
    let line = with(&address, free);
    refuses(&line, 1, &[&address, "(--mqtt)", "in use"]);
    // An address of the documentation's range, which no machine has.
    let line = with("192.0.2.1:0", free);
    refuses(&line, 1, &["192.0.2.1:0", "(--mqtt)", "no such address"]);
}

#[test]
fn two_brokers_do_not_share_a_port_by_accident() {
    let broker = Broker::start(&["--shards", "2"]);
    let address = broker.mqtt.to_string();
    let line = [
        "serve",
        "--durability",
        "memory",
        "--log",
        "error",
        "--mqtt",
        &address,
        "--http",
        "127.0.0.1:0",
    ];
    refuses(&line, 1, &[&address, "in use"]);
}

#[test]
fn the_log_tells_what_runs_and_what_is_missing() {
    let mut broker = Broker::start(&["--shards", "2", "--driver", "epoll"]);
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    for words in [
        "epoll",
        "shards=2",
        "recovered",
        "store closed",
        "limit on open files",
        "stopped",
    ] {
        assert!(log.contains(words), "{words:?} is missing in {log}");
    }
}

#[test]
fn a_low_limit_on_open_files_is_raised() {
    let program = env!("CARGO_BIN_EXE_meshring");
    let line =
        format!("ulimit -Sn 300; exec '{program}' serve --dev --shards 1 --cpus 8000 --log info");
    // It does not get far, but far enough.
    let output = std::process::Command::new("sh")
        .args(["-c", &line])
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let words = "limit on open files before=300 now=";
    let (_, now) = log.split_once(words).expect("the limit is logged");
    let now = now.split_whitespace().next().unwrap();
    let now: u64 = now.parse().unwrap();
    assert!(now > 300, "raised to {now}");
}

#[test]
fn without_dev_nobody_gets_in_and_the_log_says_so() {
    let mut child = meshring()
        .args(["serve", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .args(["--durability", "memory"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let address = line.trim().strip_prefix("mqtt ").unwrap().parse().unwrap();
    let mut raw = Raw::open(address);
    raw.send(&connect_packet(5, "stranger"));
    let connack = raw.packet().expect("CONNACK");
    assert_eq!(
        (connack.first, connack.body[1]),
        (0x20, 0x87),
        "not authorized"
    );
    let mut raw = Raw::open(address);
    raw.send(&connect_packet(4, "stranger"));
    assert_eq!(
        raw.drain(),
        [0x20, 2, 0, 5],
        "not authorized, as 3.1.1 says it"
    );
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("only devices may log in"), "{log}");
}

/// Both drivers where the kernel has both; `auto` is io_uring then.
const DRIVERS: [&str; 2] = ["auto", "epoll"];

#[test]
fn a_stop_tells_version_5_clients_and_exits_with_0() {
    for (driver, signal) in DRIVERS.into_iter().zip(["TERM", "INT"]) {
        let mut broker = Broker::start(&["--shards", "2", "--driver", driver]);
        let mut clients: Vec<Raw> = (0..8)
            .map(|i| Raw::connected(broker.mqtt, &format!("client-{i}")))
            .collect();
        let mut old = Raw::open(broker.mqtt);
        old.send(&connect_packet(4, "old"));
        assert_eq!(old.packet().unwrap().body, [0, 0]);
        broker.signal(signal);
        for client in &mut clients {
            let disconnect = client.packet().expect("DISCONNECT");
            assert_eq!(
                (disconnect.first, disconnect.body[0]),
                (0xe0, 0x8b),
                "{driver}"
            );
            assert_eq!(client.packet(), None, "closed");
        }
        assert_eq!(old.packet(), None, "closed");
        let (status, log) = broker.wait();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut broker = Broker::start(&["--shards", "1"]);
    // A client that reads nothing more: its output cannot be drained, so the stop takes its time.
    let mut stuck = Raw::connected(broker.mqtt, "stuck");
    stuck.send(&subscribe_packet("flood", 0));
    assert_eq!(stuck.packet().expect("SUBACK").first, 0x90);
    let mut publisher = Raw::connected(broker.mqtt, "publisher");
    let payload = vec![b'x'; 500_000];
    for _ in 0..40 {
        publisher.send(&publish_packet("flood", &payload));
    }
    // The answer says that all of it has been handled.
    publisher.send(&subscribe_packet("fence", 0));
    assert_eq!(publisher.packet().expect("SUBACK").first, 0x90);
    broker.signal("TERM");
    assert_eq!(publisher.packet().expect("DISCONNECT").body[0], 0x8b);
    assert!(
        broker.is_running(),
        "the stop should wait for the client that reads nothing"
    );
    let start = Instant::now();
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert_eq!(status.code(), Some(143), "{log}");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn killed_it_starts_again_on_the_same_port() {
    for driver in DRIVERS {
        let tries: Vec<_> = (0..10).map(|_| restart_on_the_same_port(driver)).collect();
        let mut failed = tries.iter().filter_map(|found| found.as_ref().err());
        // Another program may take a port that is free for a moment, but hardly twice.
        let first = failed.next();
        let is_taken = first.is_none_or(|log| log.contains("in use"));
        assert!(is_taken && failed.next().is_none(), "{driver}: {tries:?}");
    }
}

/// Kills a broker and starts another; gives its log if that does not listen.
fn restart_on_the_same_port(driver: &str) -> Result<(), String> {
    let data = TempDir::new().unwrap();
    let at = data.path().to_str().unwrap();
    let mut broker = Broker::start(&["--shards", "2", "--driver", driver, "--data", at]);
    let (mqtt, http) = (broker.mqtt.to_string(), broker.http.to_string());
    let mut client = Raw::connected(broker.mqtt, "client");
    broker.kill();
    assert_eq!(client.drain(), [], "cut without a word");
    let mut again = meshring()
        .args(["serve", "--dev", "--log", "error", "--driver", driver])
        .args(["--mqtt", &mqtt, "--http", &http, "--data", at])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(again.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let is_up = line.trim() == format!("mqtt {mqtt}");
    if is_up {
        Raw::connected(mqtt.parse().unwrap(), "client");
    }
    again.kill().unwrap();
    let log = again.wait_with_output().unwrap().stderr;
    match is_up {
        true => Ok(()),
        false => Err(String::from_utf8(log).unwrap()),
    }
}
