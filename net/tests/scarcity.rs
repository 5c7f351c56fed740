//! Too little of everything: buffers, queue entries, and both at once. It gets slower; nothing is
//! lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{Script, echo, pattern, read, serve, tuning};
use net::{DriverChoice, Tuning};
use shard::{Effect, Event};
use std::io::Write;

on_both_drivers!(
    one_receive_buffer_serves_many,
    tiny_queues_serve_many,
    everything_tiny_at_once,
    a_burst_of_connections_overflows_a_tiny_completion_queue,
);

/// Many clients send a stream each, at the same time, and read it back.
fn echo_to_many(driver: DriverChoice, tuning: Tuning, clients: usize, bytes: usize) {
    let make = |_| -> Script {
        let mut receives = 0_u32;
        Box::new(move |event, effects| {
            // Pausing and resuming under scarcity has its own ways to go wrong.
            if let Event::Received { connection, .. } = event {
                receives += 1;
                if receives.is_multiple_of(7) {
                    effects.push(Effect::PauseReading { connection });
                    effects.push(Effect::ResumeReading { connection });
                }
            }
            echo(event, effects);
        })
    };
    let Some(running) = serve(driver, 1, tuning, make) else {
        return;
    };
    std::thread::scope(|scope| {
        for number in 0..clients {
            let running = &running;
            scope.spawn(move || {
                let mut client = running.connect();
                let bytes = &pattern(number + bytes)[number..];
                let mut writer = client.try_clone().unwrap();
                std::thread::scope(|scope| {
                    scope.spawn(move || writer.write_all(bytes).unwrap());
                    assert!(
                        read(&mut client, bytes.len()) == bytes,
                        "lost or out of order"
                    );
                });
            });
        }
    });
}

fn one_receive_buffer_serves_many(driver: DriverChoice) {
    let tuning = Tuning {
        receive_buffers: 1,
        receive_buffer_bytes: 256,
        ..tuning()
    };
    echo_to_many(driver, tuning, 20, 100_000);
}

fn tiny_queues_serve_many(driver: DriverChoice) {
    let tuning = Tuning {
        submission_entries: 1,
        completion_entries: 2,
        ..tuning()
    };
    echo_to_many(driver, tuning, 20, 300_000);
}

fn everything_tiny_at_once(driver: DriverChoice) {
    let tuning = Tuning {
        receive_buffers: 2,
        receive_buffer_bytes: 100,
        submission_entries: 2,
        completion_entries: 2,
        idle_after_ms: 1,
        ..tuning()
    };
    echo_to_many(driver, tuning, 20, 50_000);
}

fn a_burst_of_connections_overflows_a_tiny_completion_queue(driver: DriverChoice) {
    let tuning = Tuning {
        submission_entries: 1,
        completion_entries: 2,
        ..tuning()
    };
    let make = |_| -> Script { Box::new(echo) };
    let Some(running) = serve(driver, 1, tuning, make) else {
        return;
    };
    for _ in 0..5 {
        let mut clients: Vec<_> = (0..100).map(|_| running.connect()).collect();
        for client in &mut clients {
            client.write_all(b"hello").unwrap();
        }
        for client in &mut clients {
            assert_eq!(read(client, 5), b"hello");
        }
    }
}
