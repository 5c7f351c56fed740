//! Connections as a whole: many of them, too many of them, and on their way to another shard.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{
    PATIENCE, Running, Script, await_close, close, echo, exchange, handoff, pattern, read,
    read_to_end, serve, tuning,
};
use net::{DriverChoice, Tuning};
use shard::{Close, Effect, Effects, Event, ShardId};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

on_both_drivers!(
    a_connection_moves_with_its_first_packet,
    a_connection_moves_with_its_unsent_output,
    nothing_is_lost_by_moving_under_traffic,
    a_connection_whose_peer_is_gone_can_move,
    a_moved_connection_that_finds_no_room_is_closed,
    a_thousand_connections_come_and_go,
    more_connections_than_allowed_are_closed,
    closing_a_connection_that_is_being_sent_to,
);

fn other(shard: ShardId) -> ShardId {
    ShardId(1 - shard.0)
}

/// Moves every connection that a shard accepts to the other shard, which answers with its number
/// and what it has been given.
fn moving_script(shard: ShardId) -> Script {
    let mut is_accepted = BTreeMap::new();
    Box::new(move |event, effects| match event {
        Event::Accepted { connection, .. } => {
            is_accepted.insert(connection, ());
        }
        Event::Received { connection, bytes } if is_accepted.remove(&connection).is_some() => {
            let handoff = handoff(vec![b"0123"[usize::from(shard.0)], bytes[0]]);
            effects.push(Effect::Adopt {
                connection,
                to: other(shard),
                handoff,
            });
        }
        Event::Adopted {
            connection,
            handoff,
        } => {
            let home = b"0123"[usize::from(shard.0)];
            assert_ne!(handoff.received()[0], home);
            effects
                .outbox(connection)
                .extend_from_slice(&[home, handoff.received()[1]]);
        }
        Event::Closed { connection } => {
            is_accepted.remove(&connection);
        }
        event => echo(event, effects),
    })
}

fn a_connection_moves_with_its_first_packet(driver: DriverChoice) {
    let Some(running) = serve(driver, 2, tuning(), moving_script) else {
        return;
    };
    let mut homes = [0; 2];
    // Many, so that with all but certainty each shard accepts some.
    for number in 0..64_u8 {
        let mut client = running.connect();
        client.write_all(&[number]).unwrap();
        let answer = read(&mut client, 2);
        assert_eq!(answer[1], number);
        homes[usize::from(answer[0] - b'0')] += 1;
        exchange(&mut client, b"at home");
    }
    assert!(homes[0] > 0 && homes[1] > 0, "all on one shard: {homes:?}");
}

fn a_connection_moves_with_its_unsent_output(driver: DriverChoice) {
    const BYTES: usize = 8_000_000;
    let make = |shard| -> Script {
        Box::new(move |event, effects| match event {
            Event::Received { connection, .. } => {
                effects
                    .outbox(connection)
                    .extend_from_slice(&pattern(BYTES));
                let handoff = handoff(Vec::new());
                effects.push(Effect::Adopt {
                    connection,
                    to: other(shard),
                    handoff,
                });
            }
            Event::Adopted { connection, .. } => {
                effects.outbox(connection).extend_from_slice(b"the end");
                close(effects, connection, Close::Flush);
            }
            _ => {}
        })
    };
    let Some(running) = serve(driver, 2, tuning(), make) else {
        return;
    };
    let mut client = running.connect();
    client.write_all(b"?").unwrap();
    let received = read_to_end(&mut client);
    assert_eq!(received.len(), BYTES + 7);
    assert!(received[..BYTES] == pattern(BYTES), "lost or out of order");
    assert_eq!(&received[BYTES..], b"the end");
}

/// Echoes, and moves the connection after every few receives, with the last one still to echo.
fn restless_script(shard: ShardId) -> Script {
    let mut receives = 0_u32;
    Box::new(move |event, effects| match event {
        Event::Received { connection, bytes } => {
            receives += 1;
            if receives.is_multiple_of(5) {
                let handoff = handoff(bytes.to_vec());
                effects.push(Effect::Adopt {
                    connection,
                    to: other(shard),
                    handoff,
                });
            } else {
                effects.outbox(connection).extend_from_slice(bytes);
            }
        }
        Event::Adopted {
            connection,
            handoff,
        } => {
            effects
                .outbox(connection)
                .extend_from_slice(handoff.received());
        }
        _ => {}
    })
}

fn nothing_is_lost_by_moving_under_traffic(driver: DriverChoice) {
    // Small buffers make many receives of one stream.
    let tuning = Tuning {
        receive_buffer_bytes: 512,
        ..tuning()
    };
    let Some(running) = serve(driver, 2, tuning, restless_script) else {
        return;
    };
    let mut client = running.connect();
    let bytes = pattern(3_000_000);
    let mut writer = client.try_clone().unwrap();
    let to_write = bytes.clone();
    let writing = std::thread::spawn(move || {
        for piece in to_write.chunks(3_333) {
            writer.write_all(piece).unwrap();
        }
    });
    assert!(
        read(&mut client, bytes.len()) == bytes,
        "lost or out of order"
    );
    writing.join().unwrap();
}

fn a_connection_whose_peer_is_gone_can_move(driver: DriverChoice) {
    let Some(running) = serve(driver, 2, tuning(), moving_script) else {
        return;
    };
    for number in 0..50_u8 {
        let mut client = running.connect();
        client.write_all(&[number]).unwrap();
        if number % 2 == 0 {
            socket2::SockRef::from(&client)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    }
    // Both shards are alive, and when told to stop will have closed all of them.
    for _ in 0..10 {
        let mut client = running.connect();
        client.write_all(b"x").unwrap();
        read(&mut client, 2);
    }
}

fn a_moved_connection_that_finds_no_room_is_closed(driver: DriverChoice) {
    let make = |shard: ShardId| -> Script {
        Box::new(move |event, effects| match event {
            // Both shards' rooms hold one; the first to come is at home on shard 1.
            Event::Received { connection, bytes } if shard.0 == 0 => {
                let handoff = handoff(bytes.to_vec());
                effects.push(Effect::Adopt {
                    connection,
                    to: other(shard),
                    handoff,
                });
            }
            Event::Adopted { connection, .. } => {
                effects.outbox(connection).extend_from_slice(b"in");
            }
            event => echo(event, effects),
        })
    };
    let tuning = Tuning {
        connections_max: 1,
        ..tuning()
    };
    let Some(running) = serve(driver, 2, tuning, make) else {
        return;
    };
    // Whoever is let in stays; all others are closed, by the shard that accepts them or by the
    // one they move to. Three at a time cannot all be in.
    let mut clients: Vec<_> = (0..12).map(|_| running.connect()).collect();
    let mut closed = 0;
    for client in &mut clients {
        let is_closed =
            client.write_all(b"ab").is_err() || !matches!(client.read(&mut [0; 2]), Ok(1..));
        closed += usize::from(is_closed);
    }
    assert!((10..12).contains(&closed), "{closed} of 12 were closed");
}

fn churn(running: &Running, count: usize) {
    for number in 0..count {
        let mut client = running.connect();
        exchange(&mut client, &pattern(50 + number % 1_000));
        match number % 3 {
            0 => {
                socket2::SockRef::from(&client)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
            }
            1 => client.write_all(b"unread").unwrap(),
            _ => {}
        }
    }
}

fn a_thousand_connections_come_and_go(driver: DriverChoice) {
    // A slot that is not given back would soon be missed.
    let tuning = Tuning {
        connections_max: 40,
        ..tuning()
    };
    let make = |_| -> Script { Box::new(echo) };
    let Some(running) = serve(driver, 2, tuning, make) else {
        return;
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| churn(&running, 250));
        }
    });
}

fn more_connections_than_allowed_are_closed(driver: DriverChoice) {
    let tuning = Tuning {
        connections_max: 5,
        ..tuning()
    };
    let make = |_| -> Script { Box::new(echo) };
    let Some(running) = serve(driver, 1, tuning, make) else {
        return;
    };
    let mut clients: Vec<_> = (0..5)
        .map(|_| {
            let mut client = running.connect();
            exchange(&mut client, b"hello");
            client
        })
        .collect();
    for _ in 0..3 {
        await_close(&mut running.connect());
    }
    for client in &mut clients {
        exchange(client, b"undisturbed");
    }
    clients.pop();
    let begin = Instant::now();
    loop {
        let mut client = running.connect();
        if client.write_all(b"x").is_ok() && matches!(client.read(&mut [0]), Ok(1)) {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "the place was not given back");
    }
}

fn closing_a_connection_that_is_being_sent_to(driver: DriverChoice) {
    fn script(event: Event<'_>, effects: &mut Effects) {
        match event {
            Event::Received {
                connection,
                bytes: b"fill",
            } => {
                effects
                    .outbox(connection)
                    .extend_from_slice(&pattern(10_000_000));
            }
            Event::Received { connection, .. } => close(effects, connection, Close::Abort),
            _ => {}
        }
    }
    let make = |_| -> Script { Box::new(script) };
    let tuning = Tuning {
        connections_max: 1,
        ..tuning()
    };
    let Some(running) = serve(driver, 1, tuning, make) else {
        return;
    };
    for _ in 0..5 {
        let mut client = loop {
            // The place of the one before may be given back a moment later.
            let mut client = running.connect();
            if client.write_all(b"fill").is_ok() && matches!(client.read(&mut [0]), Ok(1)) {
                break client;
            }
        };
        client.write_all(b"close").unwrap();
        await_close(&mut client);
    }
}
