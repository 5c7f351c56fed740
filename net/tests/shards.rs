//! Shards among themselves, their clock, their commits, and their end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{
    PATIENCE, Script, close, config, echo, exchange, frame, number, read, serve, tuning,
};
use net::{DriverChoice, Handler, JoinError, ServerConfig, StartError, Tuning};
use shard::{Close, Commit, ConnectionId, Effect, Effects, Event, Listener, ShardId, Span, Time};
use std::io::Write;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

on_both_drivers!(
    a_frame_wakes_a_sleeping_shard,
    a_full_lane_drains_and_says_so,
    many_shards_talk_to_each_other,
    ticks_come_in_time,
    commits_are_answered,
    listeners_know_their_kind,
    shards_are_pinned,
    an_impossible_cpu_is_an_error,
    stopping_closes_what_is_open,
    a_shard_that_does_not_stop_is_abandoned,
    a_shard_that_panics_ends_the_server,
    a_port_in_use_is_an_error,
    a_server_can_be_stopped_while_it_is_joined,
);

/// Every byte received makes as many frames as it says to the next shard; the last shard of the
/// round sends one frame back per frame, and the first answers each to its client.
fn a_frame_wakes_a_sleeping_shard(driver: DriverChoice) {
    let make = |shard: ShardId| -> Script {
        let mut client = None;
        Box::new(move |event, effects| match event {
            Event::Received { connection, .. } => {
                client = Some(connection);
                effects.push_frame(ShardId(1 - shard.0), frame(0));
            }
            Event::Frame { from, .. } => match client.take() {
                Some(client) => effects.outbox(client).push(b'!'),
                None => effects.push_frame(from, frame(0)),
            },
            _ => {}
        })
    };
    let Some(running) = serve(driver, 2, tuning(), make) else {
        return;
    };
    let mut client = running.connect();
    for _ in 0..500 {
        client.write_all(b"?").unwrap();
        assert_eq!(read(&mut client, 1), b"!");
    }
}

fn a_full_lane_drains_and_says_so(driver: DriverChoice) {
    const FRAMES: usize = 20_000;
    const { assert!(FRAMES > 2 * shard::limits::REQUEST_LANE) };
    let (sender, arrived) = channel();
    let make = move |shard: ShardId| -> Script {
        let sender = sender.clone();
        let (mut client, mut frames) = (None, 0_usize);
        Box::new(move |event, effects| match event {
            Event::Received { connection, .. } => {
                client = Some(connection);
                for place in 0..FRAMES {
                    effects.push_frame(ShardId(1 - shard.0), frame(place));
                }
            }
            Event::LaneDrained { to } => {
                assert_eq!(to, ShardId(1 - shard.0));
                assert_eq!(effects.staged_requests(to), 0);
                effects.outbox(client.unwrap()).push(b'!');
            }
            Event::Frame { frame, .. } => {
                assert_eq!(number(&frame), frames % FRAMES, "out of order");
                frames += 1;
                if frames.is_multiple_of(FRAMES) {
                    sender.send(frames / FRAMES).unwrap();
                }
            }
            _ => {}
        })
    };
    let Some(running) = serve(driver, 2, tuning(), make) else {
        return;
    };
    let mut client = running.connect();
    for round in 1..4 {
        client.write_all(b"?").unwrap();
        assert_eq!(read(&mut client, 1), b"!");
        assert_eq!(arrived.recv_timeout(PATIENCE).unwrap(), round);
    }
    // Once each: nothing more has been said.
    client
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    assert!(std::io::Read::read(&mut client, &mut [0]).is_err());
}

fn many_shards_talk_to_each_other(driver: DriverChoice) {
    const SHARDS: u16 = 5;
    const FRAMES: usize = 3_000;
    let (sender, done) = channel();
    let make = move |shard: ShardId| -> Script {
        let sender = sender.clone();
        let mut frames = [0_usize; SHARDS as usize];
        let mut has_begun = false;
        Box::new(move |event, effects| {
            let Event::Frame { from, frame } = event else {
                // The client's one byte starts one shard, whose frames start the others.
                if matches!(event, Event::Received { .. }) && !has_begun {
                    has_begun = true;
                    flood(shard, effects);
                }
                return;
            };
            if !has_begun {
                has_begun = true;
                flood(shard, effects);
            }
            assert_eq!(number(&frame), frames[from.index()], "out of order");
            frames[from.index()] += 1;
            if frames.iter().sum::<usize>() == FRAMES * (usize::from(SHARDS) - 1) {
                sender.send(frames).unwrap();
            }
        })
    };
    fn flood(shard: ShardId, effects: &mut Effects) {
        for to in (0..SHARDS).map(ShardId).filter(|&to| to != shard) {
            for place in 0..FRAMES {
                effects.push_frame(to, frame(place));
            }
        }
    }
    let Some(running) = serve(driver, SHARDS, tuning(), make) else {
        return;
    };
    running.connect().write_all(b"!").unwrap();
    for _ in 0..SHARDS {
        let frames = done.recv_timeout(PATIENCE).unwrap();
        assert_eq!(
            frames.iter().filter(|&&count| count == FRAMES).count(),
            4,
            "{frames:?}"
        );
    }
}

/// Wants a tick every 20 ms and reports when they come.
struct Ticker {
    next: Time,
    ticks: std::sync::mpsc::Sender<Span>,
}

impl Handler for Ticker {
    fn handle(&mut self, now: Time, event: Event<'_>, effects: &mut Effects) {
        match event {
            Event::Tick => {
                assert!(now >= self.next, "a tick came early");
                // The test may have seen enough.
                let _ = self.ticks.send(now.since(self.next));
                self.next = now + Span::from_ms(20);
            }
            Event::Stop => effects.push(Effect::Stopped),
            _ => {}
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        Some(self.next)
    }
}

fn ticks_come_in_time(driver: DriverChoice) {
    let (ticks, late) = channel();
    let made = net::start_with(config(driver, 1, tuning()), move |_, now| Ticker {
        next: now + Span::from_ms(20),
        ticks: ticks.clone(),
    });
    let server = match made {
        Err(StartError::IoUringRefused(_)) => return,
        made => made.unwrap(),
    };
    let mut least = Span(u64::MAX);
    for _ in 0..10 {
        least = least.min(late.recv_timeout(PATIENCE).unwrap());
    }
    // The machine may be busy, but not each time.
    assert!(least < Span::from_ms(20), "always late: {least:?}");
    server.stop();
    server.join().unwrap();
}

fn commits_are_answered(driver: DriverChoice) {
    let make = |_| -> Script {
        let mut client: Option<ConnectionId> = None;
        let mut sequence = 0;
        Box::new(move |event, effects| match event {
            Event::Received { connection, .. } => {
                client = Some(connection);
                sequence += 2;
                for sequence in [sequence - 1, sequence] {
                    effects.push(Effect::Commit(Commit {
                        sequence,
                        ..Commit::default()
                    }));
                }
            }
            Event::Committed { sequence: last } => {
                assert_eq!(last, sequence);
                effects.outbox(client.unwrap()).push(b'!');
            }
            _ => {}
        })
    };
    let Some(running) = serve(driver, 1, tuning(), make) else {
        return;
    };
    let mut client = running.connect();
    for _ in 0..10 {
        client.write_all(b"?").unwrap();
        assert_eq!(read(&mut client, 1), b"!");
    }
}

/// Answers to everything at once, and stops at once.
struct Kinds;

impl Handler for Kinds {
    fn handle(&mut self, _now: Time, event: Event<'_>, effects: &mut Effects) {
        match event {
            Event::Accepted {
                connection,
                listener,
                peer,
            } => {
                let kind = if listener == Listener::Http {
                    b'h'
                } else {
                    b'm'
                };
                effects.outbox(connection).push(kind);
                effects
                    .outbox(connection)
                    .extend_from_slice(peer.to_string().as_bytes());
                close(effects, connection, Close::Flush);
            }
            Event::Stop => effects.push(Effect::Stopped),
            _ => {}
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        None
    }
}

/// `None` where io_uring is refused.
fn start_kinds(config: ServerConfig) -> Option<net::Server> {
    match net::start_with(config, |_, _| Kinds) {
        Err(StartError::IoUringRefused(_)) => None,
        made => Some(made.unwrap()),
    }
}

fn listeners_know_their_kind(driver: DriverChoice) {
    let mut config = config(driver, 2, tuning());
    config.http = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    let Some(server) = start_kinds(config) else {
        return;
    };
    assert_eq!(server.listeners().len(), 3);
    let name = if driver == DriverChoice::Epoll {
        "epoll"
    } else {
        "io_uring"
    };
    assert_eq!(server.driver(), name);
    for &(kind, address) in server.listeners() {
        let mut client = std::net::TcpStream::connect(address).unwrap();
        let letter = if kind == Listener::Http { 'h' } else { 'm' };
        let expected = format!("{letter}{}", client.local_addr().unwrap());
        assert_eq!(harness::read_to_end(&mut client), expected.as_bytes());
    }
    server.stop();
    server.join().unwrap();
}

fn shards_are_pinned(driver: DriverChoice) {
    let mut config = config(driver, 1, tuning());
    config.cpus = vec![0];
    // Other tests have shards too; this one's is found by its name and its one CPU.
    let Some(server) = start_kinds(config) else {
        return;
    };
    let is_pinned = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .any(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            status.starts_with("Name:\tshard-0\n") && status.contains("Cpus_allowed_list:\t0\n")
        });
    assert!(is_pinned);
    server.stop();
    server.join().unwrap();
}

fn an_impossible_cpu_is_an_error(driver: DriverChoice) {
    let mut config = config(driver, 2, tuning());
    config.cpus = vec![0, 1_000];
    match net::start_with(config.clone(), |_, _| Kinds) {
        Err(
            StartError::Shard {
                shard: ShardId(1), ..
            }
            | StartError::IoUringRefused(_),
        ) => {}
        other => panic!("{other:?}"),
    }
    config.cpus = vec![0];
    assert!(matches!(
        net::start_with(config, |_, _| Kinds),
        Err(StartError::Config(_))
    ));
}

fn stopping_closes_what_is_open(driver: DriverChoice) {
    let make = |_| -> Script { Box::new(echo) };
    let Some(running) = serve(driver, 2, tuning(), make) else {
        return;
    };
    let mut clients: Vec<_> = (0..20).map(|_| running.connect()).collect();
    for client in &mut clients {
        exchange(client, b"hello");
    }
    running.server().stop();
    for client in &mut clients {
        assert!(harness::read_to_end(client).is_empty());
    }
    let address = running.address;
    drop(running);
    assert!(std::net::TcpStream::connect(address).is_err());
}

/// Never answers a stop.
struct Deaf;

impl Handler for Deaf {
    fn handle(&mut self, _now: Time, event: Event<'_>, _effects: &mut Effects) {
        assert!(
            !matches!(
                event,
                Event::Received {
                    bytes: b"panic",
                    ..
                }
            ),
            "as told"
        );
    }

    fn next_deadline(&self) -> Option<Time> {
        None
    }
}

fn start_deaf(driver: DriverChoice) -> Option<net::Server> {
    let tuning = Tuning {
        stop_ms: 50,
        ..tuning()
    };
    match net::start_with(config(driver, 2, tuning), |_, _| Deaf) {
        Err(StartError::IoUringRefused(_)) => None,
        made => Some(made.unwrap()),
    }
}

fn a_shard_that_does_not_stop_is_abandoned(driver: DriverChoice) {
    let Some(server) = start_deaf(driver) else {
        return;
    };
    let _client = std::net::TcpStream::connect(server.listeners()[0].1).unwrap();
    server.stop();
    assert!(matches!(server.join(), Err(JoinError::Abandoned(_))));
}

fn a_shard_that_panics_ends_the_server(driver: DriverChoice) {
    let Some(server) = start_deaf(driver) else {
        return;
    };
    let mut client = std::net::TcpStream::connect(server.listeners()[0].1).unwrap();
    client.write_all(b"panic").unwrap();
    assert!(matches!(server.join(), Err(JoinError::Panicked(_))));
}

fn a_port_in_use_is_an_error(driver: DriverChoice) {
    let Some(server) = start_kinds(config(driver, 1, tuning())) else {
        return;
    };
    let mut second = config(driver, 1, tuning());
    second.mqtt = vec![server.listeners()[0].1];
    let refused = net::start_with(second, |_, _| Kinds);
    assert!(matches!(refused, Err(StartError::Listen { .. })));
    server.stop();
    server.join().unwrap();
}

fn a_server_can_be_stopped_while_it_is_joined(driver: DriverChoice) {
    let Some(server) = start_kinds(config(driver, 2, tuning())) else {
        return;
    };
    let stopper = server.stopper();
    let joining = std::thread::spawn(move || server.join());
    stopper.stop();
    let begin = Instant::now();
    joining.join().unwrap().unwrap();
    assert!(begin.elapsed() < PATIENCE);
}
