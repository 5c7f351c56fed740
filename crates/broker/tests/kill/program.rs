//! The broker as a process on one data folder: started, killed, started again.

use crate::support;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};

/// Where and how the broker runs.
#[derive(Debug)]
pub struct Place {
    /// Holds the data, the log, and the history.
    pub folder: PathBuf,
    /// Further flags of `meshring serve`.
    pub flags: Vec<String>,
}

impl Place {
    /// A new folder for this seed, among the build's temporary files.
    pub fn new(seed: u64, flags: Vec<String>) -> Place {
        let name = format!("kill-{seed}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        Place { folder, flags }
    }

    /// Everything went well: nobody needs the files.
    pub fn remove(&self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }

    /// The end of the broker's log.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.join("broker.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// A process of the broker. It is killed when this value is dropped.
pub struct Program {
    child: Child,
    address: Arc<OnceLock<SocketAddr>>,
}

impl Program {
    /// Starts it on this place's data, on free ports; does not wait until it listens.
    pub fn start(place: &Place, shards: u16) -> Program {
        let log_path = place.folder.join("broker.log");
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log_path)
            .unwrap();
        writeln!(log, "--- start with {shards} shards").unwrap();
        let mut child = support::meshring()
            .args(["serve", "--dev", "--mqtt", "127.0.0.1:0"])
            .args(["--http", "127.0.0.1:0", "--shards", &shards.to_string()])
            .arg("--data")
            .arg(place.folder.join("data"))
            .args(&place.flags)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let address = Arc::new(OnceLock::new());
        let announced = Arc::clone(&address);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Ends with the process.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(text) = line.strip_prefix("mqtt ") {
                    let _ = announced.set(text.trim().parse().unwrap());
                }
            }
        });
        Program { child, address }
    }

    /// Where it listens for MQTT, once it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.get().copied()
    }

    /// How it ended, if it ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGKILL; returns when the process is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; [`Program::ended`] says when it is gone.
    pub fn stop(&self) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(told.unwrap().success(), "kill -s TERM");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
