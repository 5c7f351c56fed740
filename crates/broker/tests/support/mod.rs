//! A running `meshring` for tests: started on free ports, killed when the test is over.

#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

pub mod configured;
pub mod kept;
pub mod notify;
pub mod raw;
pub mod tls;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long to wait for what must come; far above what it takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a broker on free ports of loopback.
pub const SERVE: [&str; 6] = [
    "serve",
    "--dev",
    "--mqtt",
    "127.0.0.1:0",
    "--http",
    "127.0.0.1:0",
];

/// The program as it was built for this test, with nothing inherited that could change its logs.
pub fn meshring() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshring"));
    command
        .stdin(Stdio::null())
        .env_remove("RUST_LOG")
        .env_remove("MESHRING_LOG_FORMAT");
    command
}

/// Runs the program to its end: exit code, stdout, stderr.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = meshring().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A running broker.
pub struct Broker {
    /// Where it listens for MQTT.
    pub mqtt: SocketAddr,
    /// Where it listens for HTTP and WebSocket.
    pub http: SocketAddr,
    /// Where it listens for operators, if the flags have `--admin`.
    pub admin: Option<SocketAddr>,
    child: Child,
    log: Option<JoinHandle<String>>,
    /// Goes with the broker, unless the test has said where its data is.
    _data: Option<TempDir>,
}

impl Broker {
    /// Starts `meshring serve --dev` with these further flags, on free ports of loopback, in a
    /// directory of its own unless they say `--data`.
    pub fn start(flags: &[&str]) -> Broker {
        Broker::start_as(meshring(), flags)
    }

    /// The same, by a command that runs the program with the arguments that are added to it.
    pub fn start_as(mut command: Command, flags: &[&str]) -> Broker {
        command.args(SERVE);
        let data = (!flags.contains(&"--data")).then(|| TempDir::new().unwrap());
        if let Some(data) = &data {
            command.arg("--data").arg(data.path());
        }
        let mut child = command
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let log = read_log(child.stderr.take().unwrap());
        let mut bound = |kind: &str| {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            match line.trim_end().split_once(' ') {
                Some((first, address)) if first == kind => address.parse().unwrap(),
                _ => panic!("expected `{kind} ADDRESS`, found {line:?}"),
            }
        };
        let (mqtt, http) = (bound("mqtt"), bound("http"));
        let admin = flags.contains(&"--admin").then(|| bound("admin"));
        Broker {
            mqtt,
            http,
            admin,
            child,
            log: Some(log),
            _data: data,
        }
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "kill -s {name}");
    }

    /// Waits for the end: the exit status and the log.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log.take().unwrap().join().unwrap());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("still running");
    }

    /// Kills it at once, as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects the log, so that the broker never waits for its reader.
fn read_log(mut stderr: ChildStderr) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut log = String::new();
        // What is not UTF-8 ends the log; the tests that look at it would then fail.
        let _ = stderr.read_to_string(&mut log);
        log
    })
}
