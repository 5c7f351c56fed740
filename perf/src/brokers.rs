//! Starts a broker on a core of its own, configured so that nothing is dropped, and ends it.
//!
//! All are anonymous and keep nothing on disk, ours by `--durability memory`. In-flight and queue
//! limits are raised; rumqttd gets one listener per protocol version; rmqtt's refusals while the host
//! is busy are switched off, and so are its plugins for HTTP, access rules and counters, which cost it
//! time and open a port. Nothing else of their defaults is changed. On one core tokio gives rumqttd
//! and rmqtt one worker.

mod configuration;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::measure::Subject;
use crate::wire::Version;

/// The longest that a broker may take until it accepts connections.
const START_MAX: Duration = Duration::from_secs(120);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(5);
/// Time for the connection of that look to end.
const LEAVES: Duration = Duration::from_millis(200);

/// The file in a broker's directory that has what it wrote to its standard output.
const STDOUT: &str = "stdout";

/// Numbers the directories of one process.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// The brokers that perf can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Ours.
    Meshring,
    /// Eclipse Mosquitto, of the distribution.
    Mosquitto,
    /// rumqttd, by `cargo install`.
    Rumqttd,
    /// RMQTT, by `cargo install`.
    Rmqtt,
    /// Ours with `--durability commit`: acknowledged means on disk.
    MeshringCommit,
    /// Ours with `--durability interval`: on disk 200 ms after it was acknowledged.
    MeshringInterval,
    /// mosquitto with persistence, as it comes: saves when it stops and every 30 minutes.
    MosquittoPersistence,
    /// mosquitto that saves every second.
    MosquittoAutosave,
    /// RMQTT with its plugin for sessions on the embedded store.
    RmqttStorage,
}

impl Kind {
    /// The name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Meshring => "meshring",
            Kind::Mosquitto => "mosquitto",
            Kind::Rumqttd => "rumqttd",
            Kind::Rmqtt => "rmqtt",
            Kind::MeshringCommit => "meshring-commit",
            Kind::MeshringInterval => "meshring-interval",
            Kind::MosquittoPersistence => "mosquitto-persistence",
            Kind::MosquittoAutosave => "mosquitto-autosave",
            Kind::RmqttStorage => "rmqtt-storage",
        }
    }

    /// The program, whatever it is told to keep.
    pub fn product(self) -> Kind {
        match self {
            Kind::Meshring | Kind::MeshringCommit | Kind::MeshringInterval => Kind::Meshring,
            Kind::Mosquitto | Kind::MosquittoPersistence | Kind::MosquittoAutosave => {
                Kind::Mosquitto
            }
            Kind::Rumqttd => Kind::Rumqttd,
            Kind::Rmqtt | Kind::RmqttStorage => Kind::Rmqtt,
        }
    }
}

/// Where the programs are and which cores they get.
#[derive(Clone, Debug)]
pub struct Places {
    /// Our own program.
    pub meshring: PathBuf,
    /// The directory given to `cargo install --root` for the peers.
    pub peers: PathBuf,
    /// The core for brokers; `None` leaves them unpinned.
    pub broker_core: Option<usize>,
    /// The core for the generator.
    pub generator_core: Option<usize>,
    /// More arguments for our own program.
    pub meshring_arguments: Vec<String>,
    /// Where brokers get their directories; the system's for temporary files unless it is said.
    pub data: Option<PathBuf>,
}

impl Places {
    /// The program of `kind`, if it is installed.
    pub fn find(&self, kind: Kind) -> Option<PathBuf> {
        let candidates: Vec<PathBuf> = match kind.product() {
            Kind::Mosquitto => [
                "/usr/sbin",
                "/usr/bin",
                "/usr/local/sbin",
                "/opt/homebrew/sbin",
            ]
            .map(|directory| Path::new(directory).join("mosquitto"))
            .to_vec(),
            Kind::Rumqttd => self.peer("rumqttd"),
            Kind::Rmqtt => self.peer("rmqttd"),
            _ => vec![self.meshring.clone()],
        };
        candidates.into_iter().find(|path| path.is_file())
    }

    fn peer(&self, program: &str) -> Vec<PathBuf> {
        vec![
            self.peers.join("bin").join(program),
            self.peers.join(program),
        ]
    }
}

/// A broker that runs until this value is dropped.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    child: Child,
    /// What to measure.
    pub subject: Subject,
    kind: Kind,
    version: Version,
    ports: [u16; 2],
    directory: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Starts `kind` and waits until it accepts connections.
///
/// # Errors
/// When it is not installed, ends at once, or does not listen within two minutes.
pub fn start(kind: Kind, places: &Places, version: Version) -> Result<Running> {
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let directory = places
        .data
        .clone()
        .unwrap_or_else(std::env::temp_dir)
        .join(format!("perf-{}-{number}", std::process::id()));
    let ports = free_ports()?;
    let (child, subject) = launch(kind, places, version, ports, &directory)?;
    let mut running = Running {
        child,
        subject,
        kind,
        version,
        ports,
        directory,
    };
    running.wait_until_it_is_up()?;
    Ok(running)
}

/// Starts the process, in its directory and on its core.
fn launch(
    kind: Kind,
    places: &Places,
    version: Version,
    ports: [u16; 2],
    directory: &Path,
) -> Result<(Child, Subject)> {
    let program = places
        .find(kind)
        .with_context(|| format!("{} is not installed: see perf/README.md", kind.name()))?;
    fs::create_dir_all(directory)?;
    let mut command = configuration::command(kind, &program, directory, ports, places)?;
    let log = fs::File::create(directory.join("log"))?;
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stderr(log);
    command.stdout(match kind.product() {
        Kind::Meshring => Stdio::from(fs::File::create(directory.join(STDOUT))?),
        _ => Stdio::null(),
    });
    // A child inherits the affinity of the thread that starts it.
    pin(places.broker_core);
    let spawned = command.spawn();
    pin(places.generator_core);
    let child = spawned.with_context(|| format!("cannot start {}", program.display()))?;
    let port = if kind == Kind::Rumqttd && version == Version::V5 {
        ports[1]
    } else {
        ports[0]
    };
    let subject = Subject {
        name: kind.name().to_owned(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        pid: child.id(),
        core: places.broker_core,
    };
    Ok((child, subject))
}

impl Running {
    /// What was started.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it keeps what it keeps.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        // It may have ended already; then both are no-ops.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where it was, after [`Running::kill`]; returns the time from the start of the
    /// process until it said that it listens, or, of those that say nothing, until it did.
    ///
    /// # Errors
    /// As [`start`].
    pub fn start_again(&mut self, places: &Places) -> Result<Duration> {
        let began = Instant::now();
        let (kind, version, ports) = (self.kind, self.version, self.ports);
        (self.child, self.subject) = launch(kind, places, version, ports, &self.directory)?;
        self.wait_until_it_is_up()?;
        Ok(began.elapsed() - LEAVES)
    }

    /// Sends SIGUSR1, which makes mosquitto save.
    ///
    /// # Errors
    /// When it has ended.
    pub fn tell_to_save(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::USR1)?;
        Ok(())
    }

    fn wait_until_it_is_up(&mut self) -> Result<()> {
        if self.kind.product() == Kind::Meshring {
            self.wait_until_it_says_where()?;
        }
        self.wait_until_it_listens()?;
        // The probe's connection leaves first.
        std::thread::sleep(LEAVES);
        Ok(())
    }

    /// Waits for the line `mqtt ADDRESS` on its output. That goes to a file, since a thread that
    /// read a pipe would make this process one of two threads, for one broker alone: the kernel
    /// is slower with the open files of such a process, above all when their table grows.
    fn wait_until_it_says_where(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            let said = fs::read_to_string(self.directory.join(STDOUT))?;
            if let Some(address) = announced_address(&said) {
                self.subject.address = address;
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(self.told(anyhow::anyhow!("ended at once: {status}")));
            }
            if started.elapsed() > START_MAX {
                return Err(self.told(anyhow::anyhow!("no line `mqtt ADDRESS` on its output")));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let started = Instant::now();
        while TcpStream::connect(self.subject.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.told(anyhow::anyhow!("ended at once: {status}")));
            }
            if started.elapsed() > START_MAX {
                return Err(self.told(anyhow::anyhow!("does not listen")));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Adds what the broker said last to `error`.
    fn told(&self, error: anyhow::Error) -> anyhow::Error {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        error.context(format!("{}: {}", self.subject.name, tail.join(" | ")))
    }
}

/// Pins the calling thread, and so whatever it starts, to `core`.
pub fn pin(core: Option<usize>) {
    if let Some(id) = core {
        // Refused where the core does not exist: the report shows the cores really allowed.
        let _ = core_affinity::set_for_current(core_affinity::CoreId { id });
    }
}

/// Two ports that nobody listens on just now.
fn free_ports() -> Result<[u16; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

/// The address in the first whole line that says `mqtt ADDRESS`.
fn announced_address(output: &str) -> Option<SocketAddr> {
    let whole_lines = output
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole_lines.filter_map(parse_announcement).next()
}

fn parse_announcement(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("mqtt ")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announced_address_is_found_among_other_lines() {
        let output = "starting\nhttp 127.0.0.1:8080\nmqtt 127.0.0.1:41883\nmore\n";
        let address = announced_address(output).unwrap();
        assert_eq!(address.port(), 41_883);
        assert_eq!(announced_address("mqtt 127.0.0.1:41"), None);
        assert_eq!(parse_announcement("mqtt nowhere"), None);
        assert_eq!(parse_announcement("mqtts 127.0.0.1:1"), None);
    }

    #[test]
    fn what_is_not_installed_says_so() {
        let nowhere = PathBuf::from("/nonexistent");
        let places = Places {
            meshring: nowhere.clone(),
            peers: nowhere,
            broker_core: None,
            generator_core: None,
            meshring_arguments: Vec::new(),
            data: None,
        };
        let error = start(Kind::Rumqttd, &places, Version::V311).unwrap_err();
        assert!(
            error.to_string().contains("rumqttd is not installed"),
            "{error}"
        );
    }
}
