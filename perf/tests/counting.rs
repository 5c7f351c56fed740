//! The generator against a broker that misbehaves on purpose: what it loses or doubles must be
//! found, and a faultless one must be found faultless.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use perf::measure::Subject;
use perf::options::Options;
use perf::outcome::Outcome;
use perf::scenarios::{self, Scenario};

/// What the broker does to deliveries.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// Leaves out every so many-th; 0 never.
    drop_every: usize,
    /// Sends every so many-th twice; 0 never.
    double_every: usize,
}

/// A broker of one thread that sends everything to everybody who subscribed.
struct Broker {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    subscribed: bool,
}

impl Broker {
    fn start(faults: Faults) -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&listener, faults, &stopped));
        Broker {
            address,
            stop,
            thread: Some(thread),
        }
    }

    fn run(&self, scenario: Scenario, options: &Options) -> Outcome {
        let subject = Subject {
            name: "fake".to_owned(),
            address: self.address,
            pid: std::process::id(),
            core: None,
        };
        scenarios::run(scenario, &subject, options).unwrap()
    }
}

fn serve(listener: &TcpListener, faults: Faults, stop: &AtomicBool) {
    let mut peers: Vec<Peer> = Vec::new();
    let mut delivered = 0;
    while !stop.load(Ordering::Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).unwrap();
            let (input, output) = (Vec::new(), Vec::new());
            peers.push(Peer {
                stream,
                input,
                output,
                subscribed: false,
            });
        }
        for index in 0..peers.len() {
            for packet in read(&mut peers[index]) {
                answer(&mut peers, index, &packet, faults, &mut delivered);
            }
        }
        for peer in &mut peers {
            write(peer);
        }
        std::thread::yield_now();
    }
}

/// The whole packets that have come; their remaining length is below 128.
fn read(peer: &mut Peer) -> Vec<Vec<u8>> {
    let mut bytes = [0; 65_536];
    match peer.stream.read(&mut bytes) {
        Ok(count) => peer.input.extend_from_slice(&bytes[..count]),
        Err(error) => assert!(
            [ErrorKind::WouldBlock, ErrorKind::ConnectionReset].contains(&error.kind()),
            "{error}"
        ),
    }
    let mut packets = Vec::new();
    let mut at = 0;
    while let Some(&length) = peer.input.get(at + 1) {
        assert!(length < 128, "the fake broker reads short packets only");
        let end = at + 2 + usize::from(length);
        if end > peer.input.len() {
            break;
        }
        packets.push(peer.input[at..end].to_vec());
        at = end;
    }
    peer.input.drain(..at);
    packets
}

fn answer(peers: &mut [Peer], from: usize, packet: &[u8], faults: Faults, delivered: &mut usize) {
    match packet[0] >> 4 {
        1 => peers[from].output.extend_from_slice(&[0x20, 2, 0, 0]),
        8 => {
            peers[from].subscribed = true;
            peers[from]
                .output
                .extend_from_slice(&[0x90, 3, packet[2], packet[3], 0]);
        }
        3 => {
            let mut forwarded = packet.to_vec();
            if packet[0] & 0x06 != 0 {
                // Delivered with QoS 0: without the identifier, which goes back.
                let at = 4 + usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                peers[from]
                    .output
                    .extend_from_slice(&[0x40, 2, packet[at], packet[at + 1]]);
                forwarded.drain(at..at + 2);
                forwarded[0] = 0x30;
                forwarded[1] -= 2;
            }
            for peer in peers.iter_mut().filter(|peer| peer.subscribed) {
                *delivered += 1;
                let hit = |every: usize| every > 0 && delivered.is_multiple_of(every);
                let copies = if hit(faults.drop_every) {
                    0
                } else {
                    1 + usize::from(hit(faults.double_every))
                };
                for _ in 0..copies {
                    peer.output.extend_from_slice(&forwarded);
                }
            }
        }
        _ => {}
    }
}

fn write(peer: &mut Peer) {
    if !peer.output.is_empty()
        && let Ok(count) = peer.stream.write(&peer.output)
    {
        peer.output.drain(..count);
    }
}

fn options() -> Options {
    Options {
        seconds: 0.2,
        warm_up: 0.05,
        publishers: Some(3),
        window: Some(8),
        payload: Some(32),
        ..Options::default()
    }
}

/// Asserts that exactly one kind of fault was found, or none.
fn check(faults: Faults, scenario: Scenario, options: &Options, expected: Option<&str>) {
    let outcome = Broker::start(faults).run(scenario, options);
    let found = &outcome.faults;
    match expected {
        None => assert!(found.is_empty(), "{found:?}"),
        Some(expected) => {
            assert!(
                found.iter().any(|fault| fault.starts_with(expected)),
                "{found:?}"
            );
            assert_eq!(found.len(), 1, "{found:?}");
        }
    }
    assert!(outcome.details["delivered"] > 20.0, "{outcome:?}");
}

#[test]
fn a_faultless_broker_is_found_faultless() {
    for scenario in [Scenario::Ingest, Scenario::Queue] {
        let alone = Options {
            subscribers: Some(1),
            ..options()
        };
        check(Faults::default(), scenario, &alone, None);
    }
    let fanned_out = Options {
        publishers: Some(1),
        subscribers: Some(5),
        ..options()
    };
    check(Faults::default(), Scenario::Fanout, &fanned_out, None);
}

#[test]
fn what_is_lost_is_found() {
    let faults = Faults {
        drop_every: 10,
        double_every: 0,
    };
    let paced = Options {
        rate: Some(2_000.0),
        ..options()
    };
    check(faults, Scenario::Ingest, &paced, Some("LOST"));
}

#[test]
fn what_comes_twice_is_found() {
    let faults = Faults {
        drop_every: 0,
        double_every: 10,
    };
    let paced = Options {
        rate: Some(2_000.0),
        ..options()
    };
    check(faults, Scenario::Ingest, &paced, Some("DUPLICATED"));
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let paced = Options {
        rate: Some(1_000.0),
        seconds: 0.5,
        ..options()
    };
    let outcome = Broker::start(Faults::default()).run(Scenario::Ingest, &paced);
    assert!(outcome.faults.is_empty(), "{:?}", outcome.faults);
    // 1,000 in and 1,000 out; a busy host may make the start and the end a little late.
    let messages = outcome.value("messages in+out").unwrap();
    assert!((1_600.0..=2_400.0).contains(&messages), "{messages}");
    let latency = outcome.value("latency p50").unwrap();
    assert!(latency > 0.0 && latency.is_finite());
}
