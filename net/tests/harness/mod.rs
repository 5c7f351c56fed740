//! Runs tiny handlers on the real driver, and talks to them over loopback.
#![allow(dead_code, reason = "every test file uses a part of it")]

use net::{
    DriverChoice, Handler, Made, Server, ServerConfig, StartError, Store, Tuning, Workplace,
};
use shard::{Close, ConnectionId, Effect, Effects, Event, Frame, Handoff, Listener, ShardId, Time};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a test wants to happen with an event.
pub type Script = Box<dyn FnMut(Event<'_>, &mut Effects)>;

/// Runs a script, and closes what is open when told to stop.
pub struct Scripted {
    script: Script,
    open: BTreeSet<ConnectionId>,
}

impl Scripted {
    /// With nothing open.
    pub fn new(script: Script) -> Scripted {
        Scripted {
            script,
            open: BTreeSet::new(),
        }
    }
}

impl Handler for Scripted {
    fn handle(&mut self, _now: Time, event: Event<'_>, effects: &mut Effects) {
        match event {
            Event::Accepted { connection, .. } | Event::Adopted { connection, .. } => {
                assert!(self.open.insert(connection), "an id was given out twice");
            }
            Event::Received { connection, bytes } => {
                assert!(!bytes.is_empty(), "received nothing");
                assert!(
                    self.open.contains(&connection),
                    "received on a dead connection"
                );
            }
            Event::Writable { connection } => {
                assert!(self.open.contains(&connection), "writable, but dead");
            }
            Event::Closed { connection } => {
                assert!(self.open.remove(&connection), "closed twice");
            }
            Event::Stop => {
                for connection in std::mem::take(&mut self.open) {
                    effects.push(Effect::Close {
                        connection,
                        how: Close::Flush,
                    });
                }
                effects.push(Effect::Stopped);
                return;
            }
            _ => {}
        }
        (self.script)(event, effects);
    }

    fn next_deadline(&self) -> Option<Time> {
        None
    }
}

/// A connection that a script lets go of must be named through these.
pub fn close(effects: &mut Effects, connection: ConnectionId, how: Close) {
    effects.push(Effect::Close { connection, how });
}

/// A running server that stops when it goes out of scope.
pub struct Running {
    server: Option<Server>,
    pub address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
            let result = server.join();
            if !std::thread::panicking() {
                result.unwrap();
            }
        }
    }
}

impl Running {
    /// Connects, with a bound on every wait.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Takes the server out, so that the test may see how it ends.
    pub fn into_server(mut self) -> Server {
        self.server.take().unwrap()
    }

    /// The server itself.
    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }
}

/// What tests run with, unless they say otherwise: nothing that makes them wait.
pub fn tuning() -> Tuning {
    Tuning {
        idle_after_ms: 50,
        flush_ms: 2_000,
        linger_ms: 300,
        ..Tuning::default()
    }
}

/// Listens once, on a free port.
pub fn config(driver: DriverChoice, shards: u16, tuning: Tuning) -> ServerConfig {
    ServerConfig {
        shards,
        cpus: Vec::new(),
        driver,
        mqtt: vec!["127.0.0.1:0".parse().unwrap()],
        further: Vec::new(),
        http: Vec::new(),
        passed: Vec::new(),
        shard: shard::Config::alone(),
        tuning,
    }
}

/// Starts a server whose shards run the scripts that `make` makes. `None` where the kernel
/// refuses io_uring, which is not for these tests to judge.
pub fn serve(
    driver: DriverChoice,
    shards: u16,
    tuning: Tuning,
    make: impl Fn(ShardId) -> Script + Clone + Send + 'static,
) -> Option<Running> {
    let made = net::start_with(config(driver, shards, tuning), move |shard, _now| {
        Scripted::new(make(shard))
    });
    run(made)
}

/// As [`serve`], with a store for every shard.
pub fn serve_stored(
    driver: DriverChoice,
    shards: u16,
    tuning: Tuning,
    make: impl Fn(Workplace) -> (Script, Box<dyn Store>) + Clone + Send + 'static,
) -> Option<Running> {
    let made = net::start_stored(config(driver, shards, tuning), move |place| {
        let (script, store) = make(place);
        Ok(Made {
            handler: Scripted::new(script),
            store: Some(store),
            helpers: None,
            console: None,
        })
    });
    run(made)
}

fn run(made: Result<Server, StartError>) -> Option<Running> {
    let server = match made {
        Err(StartError::IoUringRefused(why)) => {
            eprintln!("not tested on io_uring: {why}");
            return None;
        }
        made => made.unwrap(),
    };
    let address = server.listeners()[0].1;
    Some(Running {
        server: Some(server),
        address,
    })
}

/// Sends back what it receives.
pub fn echo(event: Event<'_>, effects: &mut Effects) {
    if let Event::Received { connection, bytes } = event {
        effects.outbox(connection).extend_from_slice(bytes);
    }
}

/// Reads exactly so many bytes.
pub fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Writes, and reads as much back.
pub fn exchange(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    assert_eq!(read(stream, bytes.len()), bytes);
}

/// Reads up to the end of the stream.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Waits until the peer has closed, well or badly.
pub fn await_close(stream: &mut TcpStream) {
    let mut bytes = [0; 4_096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            // A process that is stopped and goes on, say.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("not closed: {error}"),
        }
    }
}

/// So many bytes whose value depends on their place, so that loss and disorder show.
pub fn pattern(count: usize) -> Vec<u8> {
    (0..count as u32)
        .map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// Runs each named test on both drivers.
#[macro_export]
macro_rules! on_both_drivers {
    ($($name:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $name() { super::$name(net::DriverChoice::Epoll); })*
        }
        mod io_uring {
            $(#[test] fn $name() { super::$name(net::DriverChoice::IoUring); })*
        }
    };
}

/// A frame of the request lane that carries a number.
pub fn frame(number: usize) -> Frame {
    Frame::RouteRemove {
        filters: vec![number.to_string().into_boxed_str()],
    }
}

/// The number of a frame of [`frame`].
pub fn number(frame: &Frame) -> usize {
    match frame {
        Frame::RouteRemove { filters } => filters[0].parse().unwrap(),
        other => panic!("not sent by a test: {other:?}"),
    }
}

/// A handoff that carries only bytes.
pub fn handoff(received: Vec<u8>) -> Box<Handoff> {
    Box::new(Handoff::new(
        Listener::Mqtt,
        "127.0.0.1:1".parse().unwrap(),
        received,
    ))
}
