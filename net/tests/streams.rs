//! Bytes in, bytes out: whole, in order, and not lost when things go slowly or end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{
    Script, await_close, close, echo, exchange, pattern, read, read_to_end, serve, tuning,
};
use net::DriverChoice;
use shard::{Close, Effect, Event};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

on_both_drivers!(
    echoes_what_it_receives,
    puts_split_writes_together,
    echoes_a_large_stream_both_ways,
    a_slow_reader_gets_everything,
    writable_comes_when_output_has_drained,
    pausing_loses_nothing,
    a_paused_connection_is_not_read,
    reading_resumes_while_output_is_stuck,
    a_flushing_close_delivers_the_last_bytes,
    a_flushing_close_survives_a_peer_that_goes_on_sending,
    a_flushing_close_gives_up_on_a_peer_that_does_not_read,
    an_aborting_close_is_at_once,
    a_half_closed_peer_gets_its_answer,
    a_reset_is_reported,
    goes_on_after_silence,
    sends_without_delay,
);

fn echo_script(_: shard::ShardId) -> Script {
    Box::new(echo)
}

fn echoes_what_it_receives(driver: DriverChoice) {
    let Some(running) = serve(driver, 1, tuning(), echo_script) else {
        return;
    };
    let mut clients: Vec<_> = (0..10).map(|_| running.connect()).collect();
    for round in 0..20_u8 {
        for client in &mut clients {
            exchange(client, &[round; 33]);
        }
    }
}

fn puts_split_writes_together(driver: DriverChoice) {
    let Some(running) = serve(driver, 1, tuning(), echo_script) else {
        return;
    };
    let mut client = running.connect();
    let bytes = pattern(300);
    for byte in &bytes {
        client.write_all(&[*byte]).unwrap();
    }
    assert_eq!(read(&mut client, bytes.len()), bytes);
}

fn echoes_a_large_stream_both_ways(driver: DriverChoice) {
    let Some(running) = serve(driver, 1, tuning(), echo_script) else {
        return;
    };
    let mut client = running.connect();
    let bytes = pattern(5_000_000);
    let mut writer = client.try_clone().unwrap();
    let to_write = bytes.clone();
    let writing = std::thread::spawn(move || writer.write_all(&to_write).unwrap());
    assert!(
        read(&mut client, bytes.len()) == bytes,
        "lost or out of order"
    );
    writing.join().unwrap();
}

fn a_slow_reader_gets_everything(driver: DriverChoice) {
    const BYTES: usize = 20_000_000;
    let make = |_| -> Script {
        Box::new(|event, effects| {
            if let Event::Accepted { connection, .. } = event {
                effects
                    .outbox(connection)
                    .extend_from_slice(&pattern(BYTES));
            }
        })
    };
    let Some(running) = serve(driver, 1, tuning(), make) else {
        return;
    };
    let mut client = running.connect();
    let mut received = Vec::new();
    // Small reads now and then, so that the window closes and opens again and again.
    while received.len() < BYTES / 4 {
        received.extend(read(&mut client, 100_000));
        std::thread::yield_now();
    }
    let rest = BYTES - received.len();
    received.extend(read(&mut client, rest));
    assert!(received == pattern(BYTES), "lost or out of order");
}

fn writable_comes_when_output_has_drained(driver: DriverChoice) {
    const BLOCK: usize = 3_000_000;
    let make = |_| -> Script {
        let mut blocks = 0;
        Box::new(move |event, effects| match event {
            Event::Accepted { connection, .. } => {
                effects
                    .outbox(connection)
                    .extend_from_slice(&pattern(BLOCK));
                effects.want_writable(connection);
            }
            Event::Writable { connection } => {
                let pending = effects.pending_bytes(connection);
                assert!(
                    pending <= 64 * 1_024,
                    "writable with {pending} bytes pending"
                );
                blocks += 1;
                if blocks < 4 {
                    effects
                        .outbox(connection)
                        .extend_from_slice(&pattern(BLOCK));
                    effects.want_writable(connection);
                } else {
                    close(effects, connection, Close::Flush);
                }
            }
            _ => {}
        })
    };
    let Some(running) = serve(driver, 1, tuning(), make) else {
        return;
    };
    let received = read_to_end(&mut running.connect());
    assert!(received == pattern(BLOCK).repeat(4), "lost or out of order");
}

/// Echoes, but pauses after every receive; another connection's bytes resume it.
fn pausing_script() -> Script {
    let mut paused = BTreeMap::new();
    Box::new(move |event, effects| match event {
        Event::Received {
            connection,
            bytes: b"resume",
        } => {
            for (connection, ()) in std::mem::take(&mut paused) {
                effects.push(Effect::ResumeReading { connection });
            }
            effects.outbox(connection).extend_from_slice(b"ok");
        }
        Event::Received { connection, bytes } => {
            effects.outbox(connection).extend_from_slice(bytes);
            effects.push(Effect::PauseReading { connection });
            paused.insert(connection, ());
        }
        Event::Closed { connection } => {
            paused.remove(&connection);
        }
        _ => {}
    })
}

fn pausing_loses_nothing(driver: DriverChoice) {
    let Some(running) = serve(driver, 1, tuning(), |_| pausing_script()) else {
        return;
    };
    let (mut client, mut control) = (running.connect(), running.connect());
    let bytes = pattern(2_000_000);
    let mut writer = client.try_clone().unwrap();
    let to_write = bytes.clone();
    let writing = std::thread::spawn(move || writer.write_all(&to_write).unwrap());
    let mut reader = client.try_clone().unwrap();
    let reading = std::thread::spawn(move || read(&mut reader, 2_000_000));
    while !reading.is_finished() {
        control.write_all(b"resume").unwrap();
        assert_eq!(read(&mut control, 2), b"ok");
    }
    assert!(reading.join().unwrap() == bytes, "lost or out of order");
    writing.join().unwrap();
    control.write_all(b"resume").unwrap();
    read(&mut control, 2);
    exchange(&mut client, b"still there");
}

fn a_paused_connection_is_not_read(driver: DriverChoice) {
    let Some(running) = serve(driver, 1, tuning(), |_| pausing_script()) else {
        return;
    };
    let (mut client, mut control) = (running.connect(), running.connect());
    exchange(&mut client, b"first");
    client.write_all(b"second").unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let silence = std::io::Read::read(&mut client, &mut [0; 8]);
    assert!(silence.is_err(), "read while paused");
    client.set_read_timeout(Some(harness::PATIENCE)).unwrap();
    control.write_all(b"resume").unwrap();
    assert_eq!(read(&mut client, 6), b"second");
}

fn reading_resumes_while_output_is_stuck(driver: DriverChoice) {
    let (sender, received) = channel();
    let make = move |_| -> Script {
        let (sender, mut stuck) = (sender.clone(), None);
        Box::new(move |event, effects| {
            let Event::Received { connection, bytes } = event else {
                return;
            };
            match bytes {
                b"fill" => {
                    effects
                        .outbox(connection)
                        .extend_from_slice(&pattern(10_000_000));
                    effects.push(Effect::PauseReading { connection });
                    stuck = Some(connection);
                }
                b"resume" => {
                    let connection = stuck.unwrap();
                    for _ in 0..3 {
                        effects.push(Effect::PauseReading { connection });
                        effects.push(Effect::ResumeReading { connection });
                    }
                }
                bytes => sender.send(bytes.to_vec()).unwrap(),
            }
        })
    };
    let Some(running) = serve(driver, 1, tuning(), make) else {
        return;
    };
    let (mut client, mut control) = (running.connect(), running.connect());
    client.write_all(b"fill").unwrap();
    // The first bytes show that the rest is being sent; it fills both sockets and stays.
    let first = read(&mut client, 1_000);
    client.write_all(b"more").unwrap();
    control.write_all(b"resume").unwrap();
    assert_eq!(received.recv_timeout(harness::PATIENCE).unwrap(), b"more");
    let rest = read(&mut client, 10_000_000 - 1_000);
    assert!(
        [first, rest].concat() == pattern(10_000_000),
        "lost or out of order"
    );
}

/// Sends a large answer to the first bytes of each connection, and closes.
fn answer_and_close(how: Close) -> Script {
    Box::new(move |event, effects| {
        if let Event::Received { connection, .. } = event {
            effects
                .outbox(connection)
                .extend_from_slice(&pattern(4_000_000));
            close(effects, connection, how);
        }
    })
}

fn a_flushing_close_delivers_the_last_bytes(driver: DriverChoice) {
    let Some(running) = serve(driver, 1, tuning(), |_| answer_and_close(Close::Flush)) else {
        return;
    };
    let mut client = running.connect();
    client.write_all(b"?").unwrap();
    assert!(
        read_to_end(&mut client) == pattern(4_000_000),
        "lost or out of order"
    );
}

fn a_flushing_close_survives_a_peer_that_goes_on_sending(driver: DriverChoice) {
    let Some(running) = serve(driver, 1, tuning(), |_| answer_and_close(Close::Flush)) else {
        return;
    };
    let mut client = running.connect();
    client.write_all(b"?").unwrap();
    let mut writer = client.try_clone().unwrap();
    // Unread bytes at a close would reset the connection, and the answer would be lost.
    let writing = std::thread::spawn(move || while writer.write_all(&[0; 1_000]).is_ok() {});
    assert!(
        read(&mut client, 4_000_000) == pattern(4_000_000),
        "lost or out of order"
    );
    writing.join().unwrap();
}

fn a_flushing_close_gives_up_on_a_peer_that_does_not_read(driver: DriverChoice) {
    let tuning = net::Tuning {
        flush_ms: 100,
        ..tuning()
    };
    let Some(running) = serve(driver, 1, tuning, |_| answer_and_close(Close::Flush)) else {
        return;
    };
    let mut client = running.connect();
    client.write_all(b"?").unwrap();
    let begin = Instant::now();
    // Writing fails once the other end is gone.
    while client.write_all(b"still here").is_ok() {
        assert!(begin.elapsed() < harness::PATIENCE, "not closed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn an_aborting_close_is_at_once(driver: DriverChoice) {
    let Some(running) = serve(driver, 1, tuning(), |_| answer_and_close(Close::Abort)) else {
        return;
    };
    let mut client = running.connect();
    client.write_all(b"?").unwrap();
    await_close(&mut client);
}

fn a_half_closed_peer_gets_its_answer(driver: DriverChoice) {
    let make = |_| -> Script {
        Box::new(|event, effects| {
            if let Event::Received { connection, .. } = event {
                effects
                    .outbox(connection)
                    .extend_from_slice(&pattern(4_000_000));
            }
        })
    };
    let Some(running) = serve(driver, 1, tuning(), make) else {
        return;
    };
    let mut client = running.connect();
    client.write_all(b"?").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(
        read_to_end(&mut client) == pattern(4_000_000),
        "lost or out of order"
    );
}

/// Tells the test when a connection is closed.
fn reporting_script(closed: Sender<()>) -> Script {
    Box::new(move |event, effects| match event {
        Event::Closed { .. } => closed.send(()).unwrap(),
        event => echo(event, effects),
    })
}

fn a_reset_is_reported(driver: DriverChoice) {
    let (sender, closed) = channel();
    let make = move |_| reporting_script(sender.clone());
    let Some(running) = serve(driver, 1, tuning(), make) else {
        return;
    };
    let mut client = running.connect();
    exchange(&mut client, b"hello");
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    closed.recv_timeout(harness::PATIENCE).unwrap();
    // And after a silence.
    let mut client = running.connect();
    exchange(&mut client, b"hello");
    std::thread::sleep(Duration::from_millis(150));
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    closed.recv_timeout(harness::PATIENCE).unwrap();
}

fn goes_on_after_silence(driver: DriverChoice) {
    let Some(running) = serve(driver, 1, tuning(), echo_script) else {
        return;
    };
    let mut client = running.connect();
    for round in 0..4_u8 {
        exchange(&mut client, &[round; 100]);
        // Silent for longer than `idle_after_ms`; one round with the change under way.
        std::thread::sleep(Duration::from_millis(if round == 2 { 50 } else { 120 }));
    }
}

fn sends_without_delay(driver: DriverChoice) {
    let Some(running) = serve(driver, 1, tuning(), echo_script) else {
        return;
    };
    let mut client = running.connect();
    exchange(&mut client, b"warm");
    // Nagle's algorithm would hold the second of two small sends until the first is acknowledged,
    // which a peer that answers late does after 40 ms.
    let begin = Instant::now();
    for _ in 0..50 {
        client.write_all(b"a").unwrap();
        client.write_all(b"b").unwrap();
        assert_eq!(read(&mut client, 2), b"ab");
    }
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "took {:?}",
        begin.elapsed()
    );
}
