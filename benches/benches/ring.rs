//! What a hop between two shards costs: the ring alone, and with sleeping and waking.
//!
//! `push_pop` is the work of a busy pair, on one core. `ping_pong` sends one frame to a thread that
//! spins and awaits its answer: two crossings of a cache line. `ping_pong_asleep` lets both sides
//! sleep in between, as shards do: two wake-ups by eventfd, which is why a shard wakes another at
//! most once per turn.

#![allow(missing_docs, reason = "criterion's macros make items without")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use net::Wake;
use rtrb::{Consumer, Producer, RingBuffer};
use shard::Frame;
use shard::limits::REQUEST_LANE;
use std::hint::black_box;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A frame that owns nothing, so that only the ring is measured.
fn frame() -> Frame {
    Frame::RouteRemove {
        filters: Vec::new(),
    }
}

/// One side of a pair of rings.
struct Side {
    to: Producer<Frame>,
    from: Consumer<Frame>,
}

fn sides() -> (Side, Side) {
    let (here_to, there_from) = RingBuffer::new(REQUEST_LANE);
    let (there_to, here_from) = RingBuffer::new(REQUEST_LANE);
    (
        Side {
            to: here_to,
            from: here_from,
        },
        Side {
            to: there_to,
            from: there_from,
        },
    )
}

fn push_pop(criterion: &mut Criterion) {
    let (mut sender, mut receiver) = RingBuffer::new(REQUEST_LANE);
    let mut group = criterion.benchmark_group("ring");
    for batch in [1_u64, 64, 1_024] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("push_pop_{batch}"), |bencher| {
            bencher.iter(|| {
                for _ in 0..batch {
                    sender
                        .push(black_box(frame()))
                        .expect("the ring is emptied each time");
                }
                while let Ok(frame) = receiver.pop() {
                    black_box(frame);
                }
            });
        });
    }
    group.finish();
}

/// Answers every frame until told to end; `wait` is called when there is none.
fn answer(mut side: Side, has_ended: &AtomicBool, mut wait: impl FnMut(&Side), sent: impl Fn()) {
    while !has_ended.load(Ordering::Relaxed) {
        match side.from.pop() {
            Ok(frame) => {
                side.to.push(frame).expect("one frame is under way");
                sent();
            }
            Err(_) => wait(&side),
        }
    }
}

fn ping_pong(criterion: &mut Criterion) {
    let (mut here, there) = sides();
    let has_ended = Arc::new(AtomicBool::new(false));
    let other = thread::spawn({
        let has_ended = Arc::clone(&has_ended);
        move || answer(there, &has_ended, |_| std::hint::spin_loop(), || {})
    });
    criterion.bench_function("ring/ping_pong", |bencher| {
        bencher.iter(|| {
            here.to.push(frame()).expect("one frame is under way");
            while here.from.pop().is_err() {
                std::hint::spin_loop();
            }
        });
    });
    has_ended.store(true, Ordering::Relaxed);
    other.join().expect("the other side does not panic");
}

/// Sleeps until woken, unless there is something in the ring.
fn sleep(wake: &Wake, signal: &mut std::fs::File, side: &Side) {
    wake.announce_sleep();
    if side.from.is_empty() {
        // Blocks until the signal is raised, and takes it back.
        signal
            .read_exact(&mut [0; 8])
            .expect("an eventfd gives eight bytes");
    }
    wake.retract_sleep();
}

/// The wake-up's eventfd as a file that blocks.
fn blocking(wake: &Wake) -> std::fs::File {
    let fd: OwnedFd = wake
        .fd()
        .try_clone_to_owned()
        .expect("a file descriptor is left");
    let file = socket2::Socket::from(fd);
    file.set_nonblocking(false)
        .expect("the flag can be changed");
    OwnedFd::from(file).into()
}

fn ping_pong_asleep(criterion: &mut Criterion) {
    let (mut here, there) = sides();
    let wakes = Arc::new([Wake::new().expect("eventfd"), Wake::new().expect("eventfd")]);
    let has_ended = Arc::new(AtomicBool::new(false));
    let other = thread::spawn({
        let (wakes, has_ended) = (Arc::clone(&wakes), Arc::clone(&has_ended));
        move || {
            let mut signal = blocking(&wakes[1]);
            let wait = |side: &Side| sleep(&wakes[1], &mut signal, side);
            answer(there, &has_ended, wait, || {
                wakes[0].wake();
            });
        }
    });
    let mut signal = blocking(&wakes[0]);
    criterion.bench_function("ring/ping_pong_asleep", |bencher| {
        bencher.iter_custom(|rounds| {
            let begin = Instant::now();
            for _ in 0..rounds {
                here.to.push(frame()).expect("one frame is under way");
                wakes[1].wake();
                while here.from.pop().is_err() {
                    sleep(&wakes[0], &mut signal, &here);
                }
            }
            begin.elapsed()
        });
    });
    has_ended.store(true, Ordering::Relaxed);
    // One frame more, so that the other side looks up.
    here.to.push(frame()).expect("one frame is under way");
    wakes[1].wake();
    other.join().expect("the other side does not panic");
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = push_pop, ping_pong, ping_pong_asleep
}
criterion_main!(benches);
