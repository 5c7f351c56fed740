//! What takes long leaves for the helpers, and each piece of it is answered once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{Script, Scripted, config, read, tuning};
use net::{DriverChoice, Helpers, Made, StartError, Waker};
use shard::{Compute, Computed, Effect, Effects, Event, Task};
use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

on_both_drivers!(
    answers_come_from_another_thread,
    without_helpers_everything_is_busy,
);

/// A thread that says of each piece of work whether its number is even.
struct Parity {
    asked: Sender<u64>,
    answers: Receiver<(u64, Computed)>,
}

impl Parity {
    fn new(waker: Waker) -> Parity {
        let (asked, work) = channel();
        let (answer, answers) = channel();
        thread::spawn(move || {
            for id in work {
                let is_delivered = id % 2 == 0;
                answer
                    .send((id, Computed::Called { is_delivered }))
                    .unwrap();
                waker.wake();
            }
        });
        Parity { asked, answers }
    }
}

impl Helpers for Parity {
    fn submit(&mut self, compute: Compute) {
        self.asked.send(compute.id).unwrap();
    }

    fn poll(&mut self) -> Option<(u64, Computed)> {
        self.answers.try_recv().ok()
    }
}

/// Asks once for each byte it receives, and sends back what becomes of it.
fn asking() -> Script {
    let mut client = None;
    Box::new(move |event, effects: &mut Effects| match event {
        Event::Received { connection, bytes } => {
            client = Some(connection);
            for &byte in bytes {
                let task = Task::Verify {
                    secret: "".into(),
                    hashes: Vec::new(),
                    only_known: false,
                };
                effects.push(Effect::Compute(Compute {
                    id: u64::from(byte),
                    task,
                }));
            }
        }
        Event::Computed { id, outcome } => {
            let letter = match outcome {
                Computed::Busy => b'b',
                Computed::Called { is_delivered } => b'0' + u8::from(is_delivered),
                Computed::Verified(_) => b'?',
            };
            effects
                .outbox(client.unwrap())
                .extend_from_slice(&[id as u8, letter]);
        }
        _ => {}
    })
}

fn served(driver: DriverChoice, has_helpers: bool, test: impl FnOnce(&mut TcpStream)) {
    let made = net::start_stored(config(driver, 1, tuning()), move |place| {
        let helpers = has_helpers.then(|| Box::new(Parity::new(place.waker.clone())) as _);
        Ok(Made {
            handler: Scripted::new(asking()),
            store: None,
            helpers,
            console: None,
        })
    });
    let server = match made {
        Err(StartError::IoUringRefused(why)) => {
            eprintln!("not tested on io_uring: {why}");
            return;
        }
        made => made.unwrap(),
    };
    test(&mut TcpStream::connect(server.listeners()[0].1).unwrap());
    server.stop();
    server.join().unwrap();
}

fn answers_come_from_another_thread(driver: DriverChoice) {
    served(driver, true, |client| {
        for _ in 0..3 {
            client.write_all(&[1, 2, 3, 4]).unwrap();
            let answers = read(client, 8);
            assert_eq!(answers, [1, b'0', 2, b'1', 3, b'0', 4, b'1']);
        }
        // More than one turn takes.
        let many: Vec<u8> = (0..2_000_u32).map(|n| n as u8).collect();
        client.write_all(&many).unwrap();
        let answers = read(client, 4_000);
        let ids: Vec<u8> = answers.chunks(2).map(|answer| answer[0]).collect();
        assert_eq!(ids, many);
    });
}

fn without_helpers_everything_is_busy(driver: DriverChoice) {
    served(driver, false, |client| {
        client.write_all(&[7, 8]).unwrap();
        assert_eq!(read(client, 4), [7, b'b', 8, b'b']);
    });
}
