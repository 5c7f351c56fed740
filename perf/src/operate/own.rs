//! A broker that the harness starts itself, in a directory of its own, and what an operator does to
//! it with its own commands.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::packet::{self, Connect, Incoming};
use super::steps;
use crate::wire::Version;

/// The longest that a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(5);
/// Numbers the brokers of this process.
static STARTED: AtomicU32 = AtomicU32::new(0);
/// The steps, in this order.
pub const STEPS: [&str; 8] = [
    "steady",
    "reload-more",
    "reload-less",
    "log-debug",
    "log-info",
    "drain",
    "undrain",
    "upgrade",
];

/// How it is started.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The program.
    pub meshring: PathBuf,
    /// The one that takes its place.
    pub upgrade_to: PathBuf,
    /// Where its directory is made.
    pub folder: PathBuf,
    /// `auto`, `io_uring` or `epoll`.
    pub driver: String,
    /// `auto` or a number.
    pub shards: String,
    /// `commit`, `interval` or `memory`.
    pub durability: String,
    /// Clients closed per second.
    pub drain_rate: u32,
}

/// A broker; ended, and its directory removed, when this is dropped.
#[derive(Debug)]
pub struct Own {
    wanted: Wanted,
    directory: PathBuf,
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it listens, too, between two reloads.
    further: SocketAddr,
    /// A client that came by that listener, and stays.
    guest: Option<TcpStream>,
}

impl Drop for Own {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Own {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, or ends, with the end of its log.
    pub fn start(wanted: Wanted) -> Result<Own> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let directory = wanted
            .folder
            .join(format!("perf-operate-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let [address, further] = free_addresses(number)?;
        let listen = [address];
        write_file(&directory, &wanted, &listen, 1_000_000)?;
        let child = launch(&wanted.meshring, &directory)?;
        let mut own = Own {
            wanted,
            directory,
            child,
            address,
            further,
            guest: None,
        };
        own.wait_until_it_listens()?;
        Ok(own)
    }

    /// Carries out one of [`STEPS`].
    ///
    /// # Errors
    /// When a command fails, or the broker does not do what it says.
    pub fn carry_out(&mut self, step: &str) -> Result<()> {
        match step {
            "steady" => Ok(()),
            "reload-more" => self.listen_further(),
            "reload-less" => self.listen_less(),
            "log-debug" => self.command(&["log", "info,meshring=debug"]),
            "log-info" => self.command(&["log", "info"]),
            "drain" => {
                let rate = self.wanted.drain_rate.to_string();
                self.command(&["drain", "begin", "--rate", &rate, "--wait"])
            }
            "undrain" => self.command(&["drain", "end"]),
            "upgrade" => self.upgrade(),
            _ => bail!("no such step: {step}"),
        }
    }

    /// A listener is added and a limit changed; a client comes by that listener.
    fn listen_further(&mut self) -> Result<()> {
        let listen = [self.address, self.further];
        write_file(&self.directory, &self.wanted, &listen, 500_000)?;
        self.command(&["reload"])?;
        self.guest = Some(guest(self.further)?);
        Ok(())
    }

    /// That listener is removed again, which must leave its client alone.
    fn listen_less(&mut self) -> Result<()> {
        write_file(&self.directory, &self.wanted, &[self.address], 1_000_000)?;
        // By signal this time, as systemd does it.
        self.signal(rustix::process::Signal::HUP)?;
        let begun = Instant::now();
        while TcpStream::connect(self.further).is_ok() {
            ensure!(begun.elapsed() < PATIENCE, "{} still listens", self.further);
            std::thread::sleep(LOOK);
        }
        let mut guest = self.guest.take().context("nobody came by that listener")?;
        guest.write_all(&packet::PINGREQ)?;
        let mut answer = [0; 2];
        guest
            .read_exact(&mut answer)
            .context("the listener took its client along")?;
        ensure!(answer == [0xD0, 0], "PINGRESP expected, not {answer:?}");
        Ok(())
    }

    /// SIGTERM, and the other program in its place.
    fn upgrade(&mut self) -> Result<()> {
        self.signal(rustix::process::Signal::TERM)?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begun.elapsed() < PATIENCE, "it does not stop");
            std::thread::sleep(LOOK);
        };
        ensure!(status.success(), "it stopped with {status}");
        let stopped = begun.elapsed();
        self.child = launch(&self.wanted.upgrade_to, &self.directory)?;
        self.wait_until_it_listens()?;
        let started = begun.elapsed() - stopped;
        eprintln!("    | stopped in {stopped:.2?}, started in {started:.2?}");
        Ok(())
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    fn command(&self, words: &[&str]) -> Result<()> {
        let data = self.directory.join("data");
        let mut command = Command::new(&self.wanted.meshring);
        steps::run(command.args(words).arg("--data").arg(data))
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                let from = log.len().saturating_sub(2_000);
                let tail = log.get(from..).unwrap_or_default();
                bail!("it does not listen ({ended:?}): {tail}");
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn launch(program: &Path, directory: &Path) -> Result<Child> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("log"))?;
    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--config")
        .arg(directory.join("meshring.toml"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let spawned = command.spawn();
    spawned.with_context(|| format!("cannot start {}", program.display()))
}

fn write_file(
    directory: &Path,
    wanted: &Wanted,
    listen: &[SocketAddr],
    subscriptions_max: u32,
) -> Result<()> {
    let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
    let shards = match wanted.shards.parse::<u16>() {
        Ok(number) => number.to_string(),
        Err(_) => format!("{:?}", wanted.shards),
    };
    let text = format!(
        "[general]\ndata = {:?}\ndriver = {:?}\nshards = {shards}\n\
         [mqtt]\nlisten = {listen:?}\nallow_anonymous = \"loopback\"\n\
         subscriptions_max = {subscriptions_max}\n\
         [http]\nlisten = [\"127.0.0.1:0\"]\n[durability]\nmode = {:?}\n",
        directory.join("data"),
        wanted.driver,
        wanted.durability
    );
    Ok(fs::write(directory.join("meshring.toml"), text)?)
}

/// Two that nobody has just now, below the ports that the kernel gives to connections: the broker
/// comes back to its own. Brokers of one process look at ports of their own.
fn free_addresses(number: u32) -> Result<[SocketAddr; 2]> {
    let start = 12_000 + std::process::id() % 15_000 + number * 100;
    let addresses = (start..start + 100)
        .filter_map(|port| u16::try_from(port).ok())
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .filter(|address| TcpListener::bind(address).is_ok());
    let found: Vec<SocketAddr> = addresses.take(2).collect();
    <[SocketAddr; 2]>::try_from(found).map_err(|_| anyhow::anyhow!("no free ports from {start} on"))
}

/// A client that connects, and is answered.
fn guest(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).context("the listener that was added")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut bytes = Vec::new();
    Connect {
        version: Version::V311,
        client_id: "guest",
        kept: false,
        keep_alive_s: 600,
        credentials: None,
        will: None,
    }
    .push(&mut bytes);
    stream.write_all(&bytes)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    match packet::take(Version::V311, &answer) {
        Ok(Some((Incoming::Connack { code: 0, .. }, _))) => Ok(stream),
        other => bail!("the guest was not let in: {other:?}"),
    }
}
