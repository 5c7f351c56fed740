//! A broker that is told everything by a file, which the test may write again.

use super::{PATIENCE, meshring};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use tempfile::TempDir;

/// A running broker; killed when the test is over.
pub struct Configured {
    /// What it listens on, as it said at the start: kind and address.
    pub bound: Vec<(String, SocketAddr)>,
    child: Child,
    folder: TempDir,
    log: Arc<(Mutex<String>, Condvar)>,
}

impl Configured {
    /// Starts with this file, in which DATA stands for its data directory, and reads so many lines
    /// about listeners.
    pub fn start(text: &str, listeners: usize) -> Configured {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("meshring.toml");
        let data = folder.path().join("data");
        std::fs::write(&path, with_data(text, &data)).unwrap();
        let mut command = meshring();
        command.args(["serve", "--config"]).arg(&path);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (to_log, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                let mut log = to_log.0.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
                to_log.1.notify_all();
            }
        });
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let bound = lines.take(listeners).map(|line| {
            let line = line.unwrap();
            let (kind, address) = line.split_once(' ').unwrap();
            (kind.to_owned(), address.parse().unwrap())
        });
        Configured {
            bound: bound.collect(),
            child,
            folder,
            log,
        }
    }

    /// Where it keeps what it keeps.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("meshring.toml")
    }

    /// Writes the file again.
    pub fn write(&self, text: &str) {
        std::fs::write(self.path(), with_data(text, &self.data())).unwrap();
    }

    /// Sends SIGHUP, and waits until the log says this after it.
    #[track_caller]
    pub fn hang_up(&self, words: &str) {
        let begin = self.log().len();
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", "HUP", &id]).status();
        assert!(status.unwrap().success());
        let log = self.log.0.lock().unwrap();
        let (log, timeout) = self
            .log
            .1
            .wait_timeout_while(log, PATIENCE, |log| !log[begin..].contains(words))
            .unwrap();
        assert!(!timeout.timed_out(), "no {words:?} in {}", &log[begin..]);
    }

    /// Runs `meshring reload` with these flags: exit code, stdout, stderr.
    pub fn reload(&self, flags: &[&str]) -> (i32, String, String) {
        let data = self.data();
        super::run(&[&["reload", "--data", data.to_str().unwrap()], flags].concat())
    }

    /// All that was logged so far.
    pub fn log(&self) -> String {
        self.log.0.lock().unwrap().clone()
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn with_data(text: &str, data: &std::path::Path) -> String {
    text.replace("DATA", &format!("{data:?}"))
}

/// An address of loopback that nobody has at this moment.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
