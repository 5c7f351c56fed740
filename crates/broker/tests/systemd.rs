//! The program under a service manager, which is played by the test: what it is told and when, the
//! watchdog, and sockets that were opened for the broker.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::notify::Manager;
use support::raw::Raw;
use support::{Broker, meshring, run};
use tempfile::TempDir;

/// Short, so that the test need not wait; a shard turns within a millisecond of being asked.
const WATCHDOG: Duration = Duration::from_millis(400);

#[test]
fn the_service_manager_hears_of_start_health_and_stop() {
    for driver in ["epoll", "auto"] {
        let manager = Manager::new();
        let mut command = meshring();
        manager.manage(&mut command, Some(WATCHDOG));
        let mut broker = Broker::start_as(command, &["--shards", "2", "--driver", driver]);
        let (ready, before) = manager.await_line("READY=1");
        assert!(
            ready
                .iter()
                .any(|line| line.starts_with("STATUS=running: 2 shards, ")),
            "{ready:?}"
        );
        assert!(
            before.iter().flatten().all(|line| line != "WATCHDOG=1"),
            "fed before it is ready: {before:?}"
        );
        // What is said to be ready is.
        let _client = Raw::connected(broker.mqtt, "early");
        for _ in 0..3 {
            let (_, before) = manager.await_line("WATCHDOG=1");
            assert!(before.is_empty(), "{before:?}");
        }
        broker.signal("TERM");
        let (stopping, _) = manager.await_line("STOPPING=1");
        assert!(
            stopping
                .iter()
                .any(|line| line.starts_with("EXTEND_TIMEOUT_USEC=")),
            "{stopping:?}"
        );
        let (status, log) = broker.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        let rest = manager.rest();
        assert!(
            rest.iter().flatten().all(|line| line != "READY=1"),
            "{rest:?}"
        );
    }
}

#[test]
fn a_broker_that_nobody_manages_tells_nobody() {
    let mut broker = Broker::start(&[]);
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert_eq!(status.code(), Some(0));
    assert!(
        !log.contains("watchdog") && !log.contains("NOTIFY"),
        "{log}"
    );
    // Nor does one that cannot reach its manager stop for it.
    let mut command = meshring();
    command.env("NOTIFY_SOCKET", "/nonexistent/notify");
    let mut broker = Broker::start_as(command, &[]);
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.matches("NOTIFY_SOCKET").count(), 1, "{log}");
}

/// A broker on sockets that were opened by the test.
struct Activated {
    child: Child,
    /// What it says was bound.
    bound: Vec<String>,
    data: TempDir,
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command of a broker that finds what it has as stdin at descriptor 3, what it has as stdout at
/// 4, and writes to stderr what it would to stdout.
fn activated(names: &str) -> Command {
    let program = meshring();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "exec 3<&0 4>&1 0</dev/null 1>&2; LISTEN_PID=$$ exec \"$0\" \"$@\"",
        ])
        .arg(program.get_program())
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", names)
        .env_remove("RUST_LOG");
    command
}

fn activate(names: &str, sockets: [&TcpListener; 2], driver: &str) -> Activated {
    activate_with(names, sockets, &["--driver", driver])
}

fn activate_with(names: &str, sockets: [&TcpListener; 2], flags: &[&str]) -> Activated {
    let data = TempDir::new().unwrap();
    let [first, second] = sockets.map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
    let mut child = activated(names)
        .args(["serve", "--dev", "--shards", "2", "--data"])
        .arg(data.path())
        .args(flags)
        .stdin(first)
        .stdout(second)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut bound = Vec::new();
    let mut log = String::new();
    while bound.len() < 2 {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "ended: {log}");
        match line.split_once(' ') {
            Some(("mqtt" | "http", _)) => bound.push(line.trim_end().to_owned()),
            _ => log.push_str(&line),
        }
    }
    Activated { child, bound, data }
}

fn opened() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Whether descriptor `number` of a process goes with an exec.
fn is_inherited(process: u32, number: u32) -> bool {
    let info = std::fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    u32::from_str_radix(flags.unwrap().trim(), 8).unwrap() & CLOSE_ON_EXEC == 0
}

#[test]
fn sockets_that_were_opened_for_it_are_served() {
    for driver in ["epoll", "auto"] {
        let ((mqtt, mqtt_address), (http, http_address)) = (opened(), opened());
        // In the other order than the broker says them, so that the names must decide.
        let broker = activate("http:mqtt", [&http, &mqtt], driver);
        let mut bound = broker.bound.clone();
        bound.sort();
        assert_eq!(
            bound,
            [
                format!("http {http_address}"),
                format!("mqtt {mqtt_address}")
            ]
        );
        let clients: Vec<Raw> = (0..20)
            .map(|number| Raw::connected(mqtt_address, &format!("client-{number}")))
            .collect();
        let mut stream = std::net::TcpStream::connect(http_address).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        for number in [3, 4] {
            assert!(!is_inherited(broker.child.id(), number), "{number}");
        }
        drop(clients);
        drop(broker);
        // Whoever comes between two brokers waits for the next one.
        let early = std::thread::spawn(move || drop(Raw::connected(mqtt_address, "between")));
        let broker = activate("http:mqtt", [&http, &mqtt], driver);
        early.join().unwrap();
        drop(broker);
    }
}

#[test]
fn a_reload_knows_what_passed_sockets_cover() {
    let everywhere = || TcpListener::bind("0.0.0.0:0").unwrap();
    let (mqtt, http) = (everywhere(), everywhere());
    let ports = [&mqtt, &http].map(|socket| socket.local_addr().unwrap().port());
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("meshring.toml");
    let configure = |receive_maximum: u16| {
        let [mqtt, http] = ports;
        let words = format!(
            "[mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nreceive_maximum = {receive_maximum}\n\
             [http]\nlisten = [\"127.0.0.1:{http}\"]\n"
        );
        std::fs::write(&file, words).unwrap();
    };
    configure(100);
    let flags = ["--config", file.to_str().unwrap()];
    let broker = activate_with("mqtt:http", [&mqtt, &http], &flags);
    configure(101);
    let data = broker.data.path().to_str().unwrap();
    let (code, stdout, stderr) = run(&["reload", "--data", data]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("receive_maximum"), "{stdout}");
    drop(Raw::connected(
        ([127, 0, 0, 1], ports[0]).into(),
        "after it",
    ));
}

/// The exit code and the log of a broker that is passed a file and a socket.
fn passed_nonsense(names: &str, count: &str) -> (Option<i32>, String) {
    let (socket, _) = opened();
    let data = TempDir::new().unwrap();
    let output = activated(names)
        .args(["serve", "--dev", "--data"])
        .arg(data.path())
        .env("LISTEN_FDS", count)
        .stdin(File::open("/dev/null").unwrap())
        .stdout(OwnedFd::from(socket))
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), log)
}

#[test]
fn what_is_no_listener_is_refused() {
    for (names, count, word) in [
        ("mqtt:http", "2", "descriptor 3 (`mqtt`)"),
        ("mqtt:http", "4000000000", "LISTEN_FDS is `4000000000`"),
        ("mqtt:http", "many", "LISTEN_FDS is `many`"),
    ] {
        let (code, log) = passed_nonsense(names, count);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(word) && !log.contains("panicked"), "{log}");
    }
}
