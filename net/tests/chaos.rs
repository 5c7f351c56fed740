//! Everything at once, at random: the driver's own assertions are what is tested, and that it can
//! be stopped in the middle of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{Running, Script, handoff, serve, tuning};
use net::{DriverChoice, Tuning};
use shard::{Close, ConnectionId, Effect, Effects, Event, ShardId};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

on_both_drivers!(chaos, chaos_in_little_room, chaos_that_is_stopped);

/// Numbers that look random and are the same in every run (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Does anything that a shard may do, to the connection at hand or to another.
fn chaotic_script(shard: ShardId) -> Script {
    let mut chance = Chance(0x9E37_79B9 + u64::from(shard.0));
    let mut open: BTreeSet<ConnectionId> = BTreeSet::new();
    Box::new(move |event, effects| match event {
        Event::Accepted { connection, .. } | Event::Adopted { connection, .. } => {
            open.insert(connection);
            if chance.below(20) == 0 {
                let_go(&mut chance, shard, connection, &mut open, effects);
            }
        }
        Event::Closed { connection } => {
            open.remove(&connection);
        }
        Event::Writable { connection } => effects.outbox(connection).extend_from_slice(b"more"),
        Event::Received { connection, bytes } => {
            // Resumes whoever was paused, or nobody.
            let place = chance.below(open.len() as u64) as usize;
            let other = *open.iter().nth(place).unwrap();
            effects.push(Effect::ResumeReading { connection: other });
            match chance.below(16) {
                0..5 => effects.outbox(connection).extend_from_slice(bytes),
                5..8 => {
                    if effects.pending_bytes(connection) < 1_000_000 {
                        let count = chance.below(300_000) as usize;
                        effects.outbox(connection).resize(count, 7);
                    }
                    effects.want_writable(connection);
                }
                8..10 => effects.push(Effect::PauseReading { connection }),
                10 => effects.outbox(other).push(1),
                11 => let_go(&mut chance, shard, other, &mut open, effects),
                12 => let_go(&mut chance, shard, connection, &mut open, effects),
                _ => {}
            }
        }
        _ => {}
    })
}

fn let_go(
    chance: &mut Chance,
    shard: ShardId,
    connection: ConnectionId,
    open: &mut BTreeSet<ConnectionId>,
    effects: &mut Effects,
) {
    open.remove(&connection);
    effects.push(match chance.below(4) {
        0 => Effect::Close {
            connection,
            how: Close::Abort,
        },
        1 => Effect::Close {
            connection,
            how: Close::Flush,
        },
        _ => {
            let (to, handoff) = (ShardId(1 - shard.0), handoff(vec![0]));
            Effect::Adopt {
                connection,
                to,
                handoff,
            }
        }
    });
}

/// A client that does anything that a client may do, and takes any answer.
fn misbehave(running: &Running, chance: &mut Chance) {
    let Ok(mut client) = TcpStream::connect(running.address) else {
        return;
    };
    client
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    client
        .set_write_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    let mut buffer = vec![0; 100_000];
    for _ in 0..chance.below(20) {
        let (count, action) = (chance.below(5_000) as usize + 1, chance.below(10));
        let is_over = match action {
            0..6 => client.write_all(&buffer[..count]).is_err(),
            6..9 => matches!(client.read(&mut buffer), Ok(0)),
            _ => client.shutdown(Shutdown::Write).is_err(),
        };
        if is_over {
            break;
        }
    }
    if chance.below(3) == 0 {
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

/// Clients for as long as they are wanted. Returns the server, still running.
fn run(driver: DriverChoice, tuning: Tuning, clients: usize) -> Option<Running> {
    let running = serve(driver, 2, tuning, chaotic_script)?;
    std::thread::scope(|scope| {
        for number in 0..6 {
            let running = &running;
            scope.spawn(move || {
                let mut chance = Chance(number + 1);
                for _ in 0..clients {
                    misbehave(running, &mut chance);
                }
            });
        }
    });
    Some(running)
}

fn chaos(driver: DriverChoice) {
    let tuning = Tuning {
        idle_after_ms: 2,
        flush_ms: 50,
        linger_ms: 20,
        ..tuning()
    };
    run(driver, tuning, 150);
}

fn chaos_in_little_room(driver: DriverChoice) {
    let tuning = Tuning {
        connections_max: 4,
        receive_buffers: 2,
        receive_buffer_bytes: 500,
        submission_entries: 2,
        completion_entries: 2,
        idle_after_ms: 1,
        flush_ms: 10,
        linger_ms: 5,
        ..tuning()
    };
    run(driver, tuning, 150);
}

fn chaos_that_is_stopped(driver: DriverChoice) {
    let tuning = Tuning {
        idle_after_ms: 2,
        flush_ms: 50,
        linger_ms: 20,
        ..tuning()
    };
    let Some(running) = serve(driver, 2, tuning, chaotic_script) else {
        return;
    };
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (running, has_ended) = (&running, &has_ended);
            scope.spawn(move || {
                let mut chance = Chance(number + 100);
                while !has_ended.load(Ordering::Relaxed) {
                    misbehave(running, &mut chance);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        running.server().stop();
        std::thread::sleep(Duration::from_millis(50));
        has_ended.store(true, Ordering::Relaxed);
    });
    // Going out of scope, the server is joined, and must have ended well.
}
