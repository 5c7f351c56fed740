//! Traces of the control plane, taken by a collector that is a part of the test: an HTTP server that
//! decodes what comes.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

#[path = "telemetry/collector.rs"]
mod collector;
mod support;

use collector::{Collector, Got};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::raw::{Raw, publish_packet, subscribe_packet};
use support::{Broker, SERVE, meshring};
use tempfile::TempDir;

/// A program that sends traces soon.
fn traced(url: &str) -> Command {
    let mut command = meshring();
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .env("OTEL_BSP_SCHEDULE_DELAY", "50");
    command
}

/// A request to the admin API over TCP: the status.
fn ask(address: SocketAddr, method: &str, target: &str, token: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Stops a broker; its log.
fn stop(mut broker: Broker) -> String {
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert!(status.success(), "{log}");
    log
}

#[test]
fn the_control_plane_is_traced_and_nothing_else() {
    let collector = Collector::start();
    let data = TempDir::new().unwrap();
    let path = data.path().to_str().unwrap();
    let mut command = traced("http://ignored.invalid:1");
    command
        .env("OTEL_SERVICE_NAME", "meshring-plant-3")
        .env(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        )
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20for-the-collector",
        )
        .env("MESHRING_PEPPER", "salt-and-pepper");
    let url = collector.url();
    let flags = [
        "--data",
        path,
        "--shards",
        "2",
        "--admin",
        "127.0.0.1:0",
        "--otlp-endpoint",
        &url,
    ];
    let broker = Broker::start_as(command, &flags);
    let token = fs::read_to_string(data.path().join("admin.token")).unwrap();
    let token = token.trim();
    let mut raw = Raw::connected(broker.mqtt, "secret-client");
    raw.send(&subscribe_packet("secret/topic", 0));
    raw.packet().unwrap();
    for _ in 0..100 {
        raw.send(&publish_packet("secret/topic", b"secret payload"));
        raw.packet().unwrap();
    }
    let admin = broker.admin.unwrap();
    assert_eq!(ask(admin, "GET", "/v1/clients/secret-client", token), 200);
    assert_eq!(ask(admin, "GET", "/v1/clients", "wrong-secret"), 401);
    assert_eq!(ask(admin, "BREW", "/secret-place", token), 404);
    assert_eq!(ask(admin, "POST", "/v1/reload", token), 200);
    let target = data.path().join("copy");
    let backup = ["backup", "--data", path, target.to_str().unwrap()];
    let output = traced(&url).args(backup).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(ask(admin, "POST", "/v1/drain", token), 200);
    collector.wait_for("drain");
    assert!(raw.packet().is_some(), "DISCONNECT");
    stop(broker);
    let got = collector.wait_for("stop");
    check_start(&got);
    check_requests(&got);
    let reload = got.one("reload");
    let asked = got.one("POST /v1/reload");
    assert_eq!(reload.span.parent_span_id, asked.span.span_id);
    assert_eq!(
        (reload.text("by"), reload.number("changed")),
        ("the admin API", 0)
    );
    let drain = got.one("drain");
    assert_eq!(
        (drain.number("clients_per_s"), drain.text("outcome")),
        (1_000, "Drained")
    );
    let link = &drain.span.links[0];
    assert_eq!(link.span_id, got.one("POST /v1/drain").span.span_id);
    assert_eq!(got.one("stop").text("signal"), "SIGTERM");
    // The command, and the broker's part of it.
    assert_eq!(got.all("backup").len(), 2);
    for secret in ["secret", "pepper", "for-the-collector", token] {
        assert!(!got.text.contains(secret), "{secret} in {}", got.text);
    }
    let known = [
        "start",
        "recover",
        "listen",
        "reload",
        "drain",
        "stop",
        "backup",
        "GET /v1/clients/{id}",
        "GET /v1/clients",
        "_OTHER",
        "POST /v1/reload",
        "POST /v1/drain",
    ];
    for found in &got.spans {
        assert!(
            known.contains(&found.span.name.as_str()),
            "{}",
            found.span.name
        );
    }
    assert!(
        collector
            .heads()
            .contains("authorization: Bearer for-the-collector")
    );
}

fn check_start(got: &Got) {
    let start = got.one("start");
    assert_eq!(start.number("shards"), 2);
    assert!(["io_uring", "epoll"].contains(&start.text("driver")));
    for name in [
        ("service.name", "meshring-plant-3"),
        ("deployment.environment.name", "test"),
    ] {
        assert_eq!(start.resource(name.0), Some(name.1));
    }
    assert!(start.resource("service.version").is_some());
    let recovered = got.all("recover");
    let mut shards: Vec<_> = recovered
        .iter()
        .map(|found| found.number("shard"))
        .collect();
    shards.sort_unstable();
    assert_eq!(shards, [0, 1]);
    for part in recovered.iter().chain(&[got.one("listen")]) {
        assert_eq!(part.span.parent_span_id, start.span.span_id);
        assert!(part.span.start_time_unix_nano >= start.span.start_time_unix_nano);
        assert!(part.span.end_time_unix_nano <= start.span.end_time_unix_nano);
    }
    assert!(start.span.end_time_unix_nano > start.span.start_time_unix_nano);
}

fn check_requests(got: &Got) {
    let status = |name: &str| got.one(name).number("http.response.status_code");
    assert_eq!(status("GET /v1/clients/{id}"), 200);
    assert_eq!(status("GET /v1/clients"), 401);
    assert_eq!(status("_OTHER"), 404);
    let shown = got.one("GET /v1/clients/{id}");
    assert_eq!(shown.text("http.request.method"), "GET");
    assert_eq!(shown.text("http.route"), "/v1/clients/{id}");
    assert_eq!(shown.span.kind, 2, "a server's");
}

#[test]
fn commands_are_traced_and_say_how_they_failed() {
    let collector = Collector::start();
    let output = traced(&collector.url())
        .args(["check", "--data", "/nonexistent/data"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let got = collector.wait_for("check");
    let check = got.one("check");
    let status = check.span.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.is_empty()), (2, false));
    assert_eq!(check.resource("service.name"), Some("meshring"));
}

#[test]
fn a_collector_with_tls_must_be_trusted() {
    let (collector, certificate) = Collector::start_with_tls();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("collector.pem");
    fs::write(&file, certificate).unwrap();
    let url = collector.url().replace("http:", "https:");
    let check = |trusted: &str| {
        let mut command = traced(&url);
        command.args(["check", "--data", "/nonexistent/data"]);
        command.env_remove("SSL_CERT_DIR");
        let output = command.env("SSL_CERT_FILE", trusted).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let log = check(file.to_str().unwrap());
    assert!(!log.contains("traces"), "{log}");
    collector.wait_for("check");
    fs::write(&file, "").unwrap();
    let log = check(file.to_str().unwrap());
    assert!(
        log.contains("no traces are sent") && log.contains("trusts no certificates"),
        "{log}"
    );
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    fs::write(&file, other.cert.pem()).unwrap();
    let log = check(file.to_str().unwrap());
    assert!(
        log.contains("traces cannot be sent") && log.contains("certificate"),
        "{log}"
    );
}

/// What a broker logs that has this collector, is asked something, and stops.
fn log_with(url: &str) -> String {
    let broker = Broker::start_as(traced(url), &["--admin", "127.0.0.1:0"]);
    let admin = broker.admin.unwrap();
    for _ in 0..3 {
        assert_eq!(ask(admin, "GET", "/readyz", ""), 200);
        // So that several batches leave; there is nothing to wait for.
        std::thread::sleep(Duration::from_millis(120));
    }
    drop(Raw::connected(broker.mqtt, "client"));
    let begin = Instant::now();
    let log = stop(broker);
    // The flush has 2 s; the rest is for a busy machine.
    assert!(begin.elapsed() < Duration::from_secs(12), "{log}");
    log
}

#[test]
fn a_dead_collector_changes_nothing_and_is_said_once() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let log = log_with(&url);
    assert_eq!(log.matches("traces cannot be sent").count(), 1, "{log}");
    assert!(log.contains("refused"), "{log}");
}

#[test]
fn a_collector_that_never_answers_does_not_hold_up_the_stop() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    log_with(&format!("http://{}", silent.local_addr().unwrap()));
}

#[test]
fn a_collector_that_fails_and_recovers_is_said_so() {
    let collector = Collector::start();
    collector.answer(503);
    let broker = Broker::start_as(traced(&collector.url()), &["--admin", "127.0.0.1:0"]);
    let admin = broker.admin.unwrap();
    // One export, and its three repetitions.
    collector.wait_for_requests(4);
    collector.answer(200);
    assert_eq!(ask(admin, "GET", "/healthz", ""), 200);
    collector.wait_for("GET /healthz");
    let log = stop(broker);
    assert_eq!(log.matches("the collector answers 503").count(), 1, "{log}");
    assert!(log.contains("traces are sent again"), "{log}");
}

#[test]
fn without_a_collector_there_is_no_thread_for_it() {
    let threads = |command: Command| {
        let mut broker = Broker::start_as(command, &[]);
        let tasks = fs::read_dir(format!("/proc/{}/task", broker.id())).unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap();
        let names: Vec<String> = tasks.map(|task| name(task.unwrap())).collect();
        broker.kill();
        names
            .iter()
            .filter(|name| name.starts_with("OpenTelemetry"))
            .count()
    };
    assert_eq!(threads(meshring()), 0);
    assert_eq!(threads(traced("http://127.0.0.1:1")), 1);
}

#[test]
fn addresses_that_make_no_sense_stop_the_start() {
    for url in [
        "localhost:4318",
        "http://user:hunter2@localhost",
        "grpc://a",
    ] {
        let mut command = traced(url);
        let output = command.args(SERVE).stdout(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("expected an address such as"), "{text}");
    }
}
