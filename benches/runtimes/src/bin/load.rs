//! Starts the servers one after the other, loads each, and compares their CPU per message.
//!
//! `load [--seconds 3] [--rounds 3] [--subscribers 500] [--publishers 200] [--servers LIST]`
//!
//! LIST names programs with an argument each, as in `meshring=io_uring:64x16384,monoio=`; the first
//! is what the others are compared with.
//!
//! Closed loop: every publisher has a window of messages that are not yet with all subscribers. All
//! of it is one thread on CPU 1; the server has CPU 0. A message counts once when it enters and
//! once for each subscriber that it leaves to.

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use runtimes::{MESSAGE_BYTES, PUBLISHER, SUBSCRIBER};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SERVERS: &str = "meshring=io_uring,meshring=epoll,monoio=,glommio=";
const SERVER_CPU: usize = 0;
const LOAD_CPU: usize = 1;

/// One way to load a server.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    publishers: usize,
    subscribers: usize,
    /// Messages that one publisher may have under way.
    window: usize,
}

/// A server that is killed when it goes out of scope.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(program: &str, argument: &str) -> Server {
        let mut path: PathBuf = std::env::current_exe().expect("our own path");
        path.set_file_name(program);
        let mut child = Command::new(path)
            .args([&SERVER_CPU.to_string(), argument])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the servers have been built");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("the server says where it listens");
        Server {
            child,
            address: line.trim().parse().expect("an address"),
        }
    }

    /// CPU that all its threads have used.
    fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("running");
        let nanoseconds = tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok())
            .sum();
        Duration::from_nanos(nanoseconds)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // If it has died already, the run has failed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A publisher's messages that still have to be written.
struct Publisher {
    stream: TcpStream,
    unsent: usize,
}

/// All clients of a run.
struct Load {
    poll: Poll,
    publishers: Vec<Publisher>,
    subscribers: Vec<TcpStream>,
    received_bytes: u64,
    buffer: Vec<u8>,
    messages: Vec<u8>,
}

fn connect(address: SocketAddr, role: u8) -> TcpStream {
    let mut stream = std::net::TcpStream::connect(address).expect("the server accepts");
    stream.set_nodelay(true).expect("a socket option");
    stream.write_all(&[role]).expect("the server reads");
    if role == SUBSCRIBER {
        // So that no message is sent before the last subscriber is one.
        stream.read_exact(&mut [0]).expect("the server answers");
    }
    stream.set_nonblocking(true).expect("a socket option");
    TcpStream::from_std(stream)
}

impl Load {
    fn connect(address: SocketAddr, scenario: Scenario) -> Load {
        let poll = Poll::new().expect("epoll");
        let mut subscribers: Vec<_> = (0..scenario.subscribers)
            .map(|_| connect(address, SUBSCRIBER))
            .collect();
        let mut publishers: Vec<_> = (0..scenario.publishers)
            .map(|_| Publisher {
                stream: connect(address, PUBLISHER),
                unsent: 0,
            })
            .collect();
        let subscriber_streams = subscribers
            .iter_mut()
            .map(|stream| (stream, Interest::READABLE));
        let publisher_streams = publishers
            .iter_mut()
            .map(|publisher| (&mut publisher.stream, Interest::WRITABLE));
        for (number, (stream, interest)) in subscriber_streams.chain(publisher_streams).enumerate()
        {
            poll.registry()
                .register(stream, Token(number), interest)
                .expect("epoll");
        }
        let mut message = [0x5A; MESSAGE_BYTES];
        message[..2].copy_from_slice(&64_u16.to_be_bytes());
        Load {
            poll,
            publishers,
            subscribers,
            received_bytes: 0,
            buffer: vec![0; 256 * 1_024],
            messages: message.repeat(scenario.window),
        }
    }

    /// Has every publisher send a window, and waits until all of it has arrived.
    fn round(&mut self, events: &mut Events) {
        let sent = self.messages.len() * self.publishers.len();
        let expected = self.received_bytes + (sent * self.subscribers.len()) as u64;
        for number in 0..self.publishers.len() {
            self.publishers[number].unsent += self.messages.len();
            self.write(number);
        }
        let begin = Instant::now();
        while self.received_bytes < expected {
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "messages were lost"
            );
            // Spins: waking us up would otherwise be a part of what sending costs the server, and
            // how often it is needed would depend on how fast the server is.
            self.poll.poll(events, Some(Duration::ZERO)).expect("epoll");
            for event in events.iter() {
                let number = event.token().0;
                match number.checked_sub(self.subscribers.len()) {
                    None => self.read(number),
                    Some(publisher) => self.write(publisher),
                }
            }
        }
        assert_eq!(self.received_bytes, expected, "messages were doubled");
    }

    fn read(&mut self, number: usize) {
        loop {
            match self.subscribers[number].read(&mut self.buffer) {
                Ok(0) => panic!("the server closed a subscriber"),
                Ok(count) => self.received_bytes += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn write(&mut self, number: usize) {
        let publisher = &mut self.publishers[number];
        while publisher.unsent > 0 {
            let begin = self.messages.len() - publisher.unsent;
            match publisher.stream.write(&self.messages[begin..]) {
                Ok(count) => publisher.unsent -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// CPU µs per message, and messages per second.
fn measure(program: &str, argument: &str, scenario: Scenario, seconds: f64) -> (f64, f64) {
    let server = Server::start(program, argument);
    let mut load = Load::connect(server.address, scenario);
    let mut events = Events::with_capacity(1_024);
    let per_round = scenario.publishers * scenario.window * (1 + scenario.subscribers);
    let warm = Instant::now();
    while warm.elapsed().as_secs_f64() < seconds / 5.0 {
        load.round(&mut events);
    }
    let (begin, cpu, mut messages) = (Instant::now(), server.cpu(), 0.0);
    while begin.elapsed().as_secs_f64() < seconds {
        load.round(&mut events);
        messages += per_round as f64;
    }
    let used = (server.cpu() - cpu).as_secs_f64();
    (
        used * 1e6 / messages,
        messages / begin.elapsed().as_secs_f64(),
    )
}

fn argument(name: &str) -> Option<String> {
    std::env::args()
        .skip_while(|argument| argument != name)
        .nth(1)
}

fn number(name: &str, default: f64) -> f64 {
    argument(name).map_or(default, |value| value.parse().expect("a number"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    core_affinity::set_for_current(core_affinity::CoreId { id: LOAD_CPU });
    let (seconds, rounds) = (number("--seconds", 3.0), number("--rounds", 3.0) as usize);
    let (many_out, many_in) = (
        number("--subscribers", 500.0) as usize,
        number("--publishers", 200.0) as usize,
    );
    let list = argument("--servers").unwrap_or_else(|| SERVERS.to_owned());
    let servers: Vec<(&str, &str)> = list
        .split(',')
        .map(|server| server.split_once('=').expect("program=argument"))
        .collect();
    let scenarios = [
        Scenario {
            name: "fan-out",
            publishers: 1,
            subscribers: many_out,
            window: 10,
        },
        Scenario {
            name: "fan-out, one by one",
            publishers: 1,
            subscribers: many_out,
            window: 1,
        },
        Scenario {
            name: "fan-in",
            publishers: many_in,
            subscribers: 1,
            window: 64,
        },
        Scenario {
            name: "fan-in, one by one",
            publishers: many_in,
            subscribers: 1,
            window: 1,
        },
    ];
    println!("| scenario | server | CPU µs per message | ratio to the first | messages/s |");
    println!("|---|---|---|---|---|");
    for scenario in scenarios {
        // Interleaved, so that what disturbs the machine disturbs all.
        let mut results = vec![Vec::new(); servers.len()];
        for _ in 0..rounds.max(1) {
            for (server, (program, argument)) in servers.iter().enumerate() {
                results[server].push(measure(program, argument, scenario, seconds));
            }
        }
        let mut first = None;
        for ((program, argument), results) in servers.iter().zip(results) {
            let cpu = median(results.iter().map(|result| result.0).collect());
            let rate = median(results.iter().map(|result| result.1).collect());
            let ratio = cpu / *first.get_or_insert(cpu);
            let name = scenario.name;
            println!("| {name} | {program} {argument} | {cpu:.3} | {ratio:.2} | {rate:.0} |");
        }
    }
}
