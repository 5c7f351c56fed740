//! The other end of sd_notify(3): a socket that collects what a service manager would be told.

use super::PATIENCE;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A service manager that only listens.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    _directory: TempDir,
}

impl Manager {
    /// With nothing heard yet.
    pub fn new() -> Manager {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager {
            socket,
            path,
            _directory: directory,
        }
    }

    /// The command will tell this one, and has a watchdog if `watchdog` is some time.
    pub fn manage(&self, command: &mut Command, watchdog: Option<Duration>) {
        command.env("NOTIFY_SOCKET", &self.path);
        if let Some(interval) = watchdog {
            command.env("WATCHDOG_USEC", interval.as_micros().to_string());
        }
    }

    /// The next message, as lines; none if there is none for so long.
    pub fn hear(&self, patience: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut bytes = [0; 4_096];
        let length = self.socket.recv(&mut bytes).ok()?;
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        Some(text.lines().map(str::to_owned).collect())
    }

    /// The first message with this line, and all that were heard before it.
    pub fn await_line(&self, line: &str) -> (Vec<String>, Vec<Vec<String>>) {
        let end = Instant::now() + PATIENCE;
        let mut before = Vec::new();
        while Instant::now() < end {
            match self.hear(Duration::from_millis(100)) {
                Some(message) if message.iter().any(|one| one == line) => {
                    return (message, before);
                }
                Some(message) => before.push(message),
                None => {}
            }
        }
        panic!("never told {line}, but {before:?}");
    }

    /// What has been told and not been heard.
    pub fn rest(&self) -> Vec<Vec<String>> {
        std::iter::from_fn(|| self.hear(Duration::from_millis(1))).collect()
    }
}
