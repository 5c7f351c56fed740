//! Starts a broker on a core of its own, configured so that nothing is dropped, and ends it.
//!
//! All are anonymous and keep nothing on disk, ours by `--durability memory`. In-flight and queue
//! limits are raised; rumqttd gets one listener per protocol version; rmqtt's refusals while the host
//! is busy are switched off, and so are its plugins for HTTP, access rules and counters, which cost it
//! time and open a port. Nothing else of their defaults is changed. On one core tokio gives rumqttd
//! and rmqtt one worker.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::measure::Subject;
use crate::wire::Version;

/// The longest that a broker may take until it accepts connections.
const START_MAX: Duration = Duration::from_secs(20);

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
}

impl Kind {
    /// The name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Meshring => "meshring",
            Kind::Mosquitto => "mosquitto",
            Kind::Rumqttd => "rumqttd",
            Kind::Rmqtt => "rmqtt",
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
}

impl Places {
    /// The program of `kind`, if it is installed.
    pub fn find(&self, kind: Kind) -> Option<PathBuf> {
        let candidates: Vec<PathBuf> = match kind {
            Kind::Meshring => vec![self.meshring.clone()],
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
    directory: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then both are no-ops.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Starts `kind` and waits until it accepts connections.
///
/// # Errors
/// When it is not installed, ends at once, or does not listen within 20 seconds.
pub fn start(kind: Kind, places: &Places, version: Version) -> Result<Running> {
    let program = places
        .find(kind)
        .with_context(|| format!("{} is not installed: see perf/README.md", kind.name()))?;
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("perf-{}-{number}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let ports = free_ports()?;
    let mut command = command(kind, &program, &directory, ports, places)?;
    let log = fs::File::create(directory.join("log"))?;
    command
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stderr(log);
    command.stdout(match kind {
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
    let mut running = Running {
        child,
        subject,
        directory,
    };
    if kind == Kind::Meshring {
        running.wait_until_it_says_where()?;
    }
    running.wait_until_it_listens()?;
    Ok(running)
}

impl Running {
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
            std::thread::sleep(Duration::from_millis(20));
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
            std::thread::sleep(Duration::from_millis(20));
        }
        // The probe's connection leaves first.
        std::thread::sleep(Duration::from_millis(200));
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

fn command(
    kind: Kind,
    program: &Path,
    directory: &Path,
    ports: [u16; 2],
    places: &Places,
) -> Result<Command> {
    let program = fs::canonicalize(program)?;
    let mut command = Command::new(program);
    let file = directory.join(format!("{}.toml", kind.name()));
    match kind {
        Kind::Meshring => {
            command.args([
                "serve",
                "--dev",
                "--mqtt",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
            ]);
            // As mosquitto without persistence, unless the further arguments ask for more.
            let says_mode = |argument: &String| argument.starts_with("--durability");
            if !places.meshring_arguments.iter().any(says_mode) {
                command.args(["--durability", "memory"]);
            }
            if let Some(core) = places.broker_core {
                command.args(["--shards", "1", "--cpus", &core.to_string()]);
            }
            command.args(&places.meshring_arguments);
        }
        Kind::Mosquitto => {
            fs::write(&file, mosquitto_configuration(ports[0]))?;
            command.arg("-c").arg(&file);
        }
        Kind::Rumqttd => {
            fs::write(&file, rumqttd_configuration(ports))?;
            command.arg("-q").arg("-c").arg(&file);
        }
        Kind::Rmqtt => {
            fs::create_dir_all(directory.join("plugins"))?;
            fs::write(&file, rmqtt_configuration(ports[0], ports[1], directory))?;
            command.arg("-f").arg(&file);
        }
    }
    ensure!(ports[0] != ports[1], "the kernel gave one port twice");
    if !directory.is_dir() {
        bail!("{} has gone", directory.display());
    }
    Ok(command)
}

fn mosquitto_configuration(port: u16) -> String {
    // 0 is no limit. Started by root it would otherwise change to a user that cannot read this.
    let mut text = format!("listener {port} 127.0.0.1\n");
    for line in [
        "allow_anonymous true",
        "persistence false",
        "max_inflight_messages 0",
        "max_queued_messages 0",
        "log_dest none",
        "user root",
    ] {
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn rumqttd_configuration(ports: [u16; 2]) -> String {
    let listener = |version: &str, port: u16| {
        format!(
            "[{version}.1]\nname = \"{version}\"\nlisten = \"127.0.0.1:{port}\"\n\
             next_connection_delay_ms = 1\n[{version}.1.connections]\n\
             connection_timeout_ms = 60000\nmax_payload_size = 1048576\n\
             max_inflight_count = 10000\ndynamic_filters = true\n"
        )
    };
    format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 30000\nmax_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n{}{}",
        listener("v4", ports[0]),
        listener("v5", ports[1])
    )
}

fn rmqtt_configuration(port: u16, rpc_port: u16, directory: &Path) -> String {
    format!(
        "[node]\nid = 1\n[node.busy]\ncheck_enable = false\n\
         [rpc]\nserver_addr = \"127.0.0.1:{rpc_port}\"\n\
         [log]\nto = \"off\"\nlevel = \"error\"\n\
         [plugins]\ndir = \"{}/plugins/\"\n\
         disabled_default_startups = [\"rmqtt-http-api\", \"rmqtt-acl\", \"rmqtt-counter\"]\n\
         [listener.tcp.external]\naddr = \"127.0.0.1:{port}\"\nallow_anonymous = true\n\
         nodelay = true\nmax_connections = 1024000\nmax_handshaking_limit = 20000\n\
         max_inflight = 65535\nmax_mqueue_len = 1000000\nmqueue_rate_limit = \"100000000,1s\"\n",
        directory.display()
    )
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
        };
        let error = start(Kind::Rumqttd, &places, Version::V311).unwrap_err();
        assert!(
            error.to_string().contains("rumqttd is not installed"),
            "{error}"
        );
    }

    #[test]
    fn each_version_of_rumqttd_has_its_listener() {
        let text = rumqttd_configuration([1_001, 1_002]);
        assert!(text.contains("[v4.1]") && text.contains("127.0.0.1:1001"));
        assert!(text.contains("[v5.1]") && text.contains("127.0.0.1:1002"));
    }
}
