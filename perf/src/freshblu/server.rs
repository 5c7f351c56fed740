//! Starts a server of devices on a core of its own, in a directory of its own, and ends it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::brokers::{Places, pin};
use crate::measure::Subject;

/// The longest that a server may take until it accepts connections.
const START_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(10);
/// Time for the connection of that look to end.
const LEAVES: Duration = Duration::from_millis(200);

/// The servers that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Server {
    /// Ours.
    Meshring,
    /// freshblu-server, by `cargo install`.
    Freshblu,
}

impl Server {
    /// The name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Server::Meshring => "meshring",
            Server::Freshblu => "freshblu",
        }
    }
}

/// A server that runs until this value is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// What to measure, with the address of its HTTP.
    pub subject: Subject,
    directory: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then both are no-ops.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.directory.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Starts `server` and waits until it accepts connections.
///
/// # Errors
/// When it is not installed, ends at once, or does not listen.
pub fn start(server: Server, places: &Places) -> Result<Running> {
    let parent = places.data.clone().unwrap_or_else(std::env::temp_dir);
    let directory = parent.join(format!("perf-freshblu-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    start_in(server, places, directory)
}

/// The same in a directory that may have been filled before.
fn start_in(server: Server, places: &Places, directory: PathBuf) -> Result<Running> {
    let ports = free_ports()?;
    let mut command = match server {
        Server::Meshring => meshring(places, &directory),
        Server::Freshblu => freshblu(places, &directory, ports),
    };
    command
        // Without limits, since one device asks for all, from one address. Both understand the
        // first, FreshBlu has no such limit as the second.
        .env("FRESHBLU_RATE_LIMIT", "1000000000")
        .env("MESHRING_REGISTRATION_LIMIT", "1000000000")
        .env("MESHRING_REGISTRATION_LIMIT", "1000000000")
        .env("RUST_LOG", "warn")
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(fs::File::create(directory.join("stdout"))?)
        .stderr(fs::File::create(directory.join("log"))?);
    // A child inherits the affinity of the thread that starts it.
    pin(places.broker_core);
    let spawned = command.spawn();
    pin(places.generator_core);
    let program = command.get_program().to_owned();
    let child = spawned.with_context(|| format!("cannot start {}", program.display()))?;
    let subject = Subject {
        name: server.name().to_owned(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0])),
        pid: child.id(),
        core: places.broker_core,
    };
    let mut running = Running {
        child,
        subject,
        directory,
    };
    running.wait_until_it_listens(server)?;
    Ok(running)
}

fn meshring(places: &Places, directory: &Path) -> Command {
    let program = fs::canonicalize(&places.meshring).unwrap_or(places.meshring.clone());
    let mut command = Command::new(program);
    let free = "127.0.0.1:0";
    command.args(["serve", "--dev", "--mqtt", free, "--http", free]);
    command.arg("--data").arg(directory.join("data"));
    if let Some(core) = places.broker_core {
        command.args(["--shards", "1", "--cpus", &core.to_string()]);
    }
    command.args(&places.meshring_arguments);
    command
}

fn freshblu(places: &Places, directory: &Path, ports: [u16; 2]) -> Command {
    let program = places.peers.join("bin").join("freshblu-server");
    let mut command = Command::new(fs::canonicalize(&program).unwrap_or(program));
    let database = format!("sqlite:{}", directory.join("freshblu.db").display());
    command
        .env("FRESHBLU_HTTP_PORT", ports[0].to_string())
        .env("FRESHBLU_MQTT_PORT", ports[1].to_string())
        .env("DATABASE_URL", database);
    command
}

impl Running {
    /// Kills it and starts it again with what it has kept; returns how long that took.
    ///
    /// # Errors
    /// As [`start`].
    pub fn restart(&mut self, server: Server, places: &Places) -> Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        let began = Instant::now();
        let directory = std::mem::take(&mut self.directory);
        *self = start_in(server, places, directory)?;
        Ok(began.elapsed().saturating_sub(LEAVES))
    }

    fn wait_until_it_listens(&mut self, server: Server) -> Result<()> {
        let started = Instant::now();
        loop {
            if server == Server::Meshring {
                let said = fs::read_to_string(self.directory.join("stdout"))?;
                let address = said.lines().find_map(|line| line.strip_prefix("http "));
                // A line may still be cut; then it is no address yet, or the next look corrects it.
                if let Some(Ok(address)) = address.map(str::parse) {
                    self.subject.address = address;
                }
            }
            if TcpStream::connect(self.subject.address).is_ok() {
                std::thread::sleep(LEAVES);
                return Ok(());
            }
            let log = || fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once: {status}: {}", server.name(), log());
            }
            if started.elapsed() > START_MAX {
                bail!("{} does not listen: {}", server.name(), log());
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Two ports that nobody listens on just now.
fn free_ports() -> Result<[u16; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}
