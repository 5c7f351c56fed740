//! A broker, and HTTP to its admin API by hand.

use crate::support::{Broker, PATIENCE};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A broker whose data directory is known.
pub struct Target {
    /// The broker.
    pub broker: Broker,
    /// Where it keeps what it keeps.
    pub data: TempDir,
}

/// An answer.
#[derive(Debug)]
pub struct Got {
    /// The status code.
    pub status: u16,
    /// All behind the head.
    pub body: String,
}

impl Got {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The body of a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// What went wrong, with this status.
    #[track_caller]
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Target {
    /// With these further flags.
    pub fn start(flags: &[&str]) -> Target {
        let data = TempDir::new().unwrap();
        let mut all = vec!["--data", data.path().to_str().unwrap(), "--log", "warn"];
        all.extend(flags);
        let broker = Broker::start(&all);
        Target { broker, data }
    }

    /// Runs a test on both drivers, with one shard and with two.
    pub fn each(test: impl Fn(&Target)) {
        for (driver, shards) in [("epoll", "1"), ("epoll", "2"), ("auto", "1"), ("auto", "2")] {
            println!("--driver {driver} --shards {shards}"); // Shown if the test fails.
            test(&Target::start(&["--driver", driver, "--shards", shards]));
        }
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.data.path().join("admin.sock")
    }

    /// A request over the Unix socket.
    pub fn call(&self, method: &str, target: &str, body: &str) -> Got {
        request(
            UnixStream::connect(self.socket()).unwrap(),
            method,
            target,
            body,
            "",
        )
    }

    /// A GET over the Unix socket that succeeds.
    #[track_caller]
    pub fn get(&self, target: &str) -> Value {
        self.call("GET", target, "").ok()
    }

    /// A request over the Unix socket to its command line: exit code, stdout, stderr.
    pub fn command(&self, words: &[&str]) -> (i32, String, String) {
        let data = self.data.path().to_str().unwrap();
        crate::support::run(&[words, &["--data", data]].concat())
    }
}

/// A request over TCP with further heads, each ending in a line break.
pub fn call_at(address: SocketAddr, method: &str, target: &str, heads: &str) -> Got {
    request(
        TcpStream::connect(address).unwrap(),
        method,
        target,
        "",
        heads,
    )
}

fn request(stream: impl Io, method: &str, target: &str, body: &str, heads: &str) -> Got {
    let length = body.len();
    let kind = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/json\r\n"
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{heads}{kind}Content-Length: {length}\r\n\r\n"
    );
    raw(stream, &format!("{head}{body}"))
}

/// Sends bytes, and reads the answer to its end.
pub fn raw(mut stream: impl Io, bytes: &str) -> Got {
    stream.be_patient();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = match head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        true => unchunk(body),
        false => body.to_owned(),
    };
    Got { status, body }
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, more)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body.push_str(&more[..length]);
        rest = more[length..].trim_start_matches("\r\n");
        if length == 0 {
            break;
        }
    }
    body
}

/// A stream that does not wait for ever.
pub trait Io: Read + Write {
    /// Sets its limits.
    fn be_patient(&self);
}

impl Io for TcpStream {
    fn be_patient(&self) {
        self.set_read_timeout(Some(PATIENCE)).unwrap();
    }
}

impl Io for UnixStream {
    fn be_patient(&self) {
        self.set_read_timeout(Some(PATIENCE)).unwrap();
    }
}

/// The permissions of a file.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
