//! No file descriptors left. A test program of its own, because the limit is the process's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{PATIENCE, Script, echo, exchange, serve, tuning};
use net::DriverChoice;
use socket2::{Domain, Socket, Type};
use std::net::TcpStream;
use std::time::Duration;

/// Sets how many descriptors may be open; returns how many might before.
fn limit_descriptors(count: u64) -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    assert_eq!(result, 0);
    let before = limit.rlim_cur;
    limit.rlim_cur = count;
    // SAFETY: as above.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(result, 0);
    before
}

/// Hundredths of a second of CPU that this process has used.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn check(driver: DriverChoice) {
    let make = |_| -> Script { Box::new(echo) };
    let Some(running) = serve(driver, 1, tuning(), make) else {
        return;
    };
    let mut first = running.connect();
    exchange(&mut first, b"hello");
    let sockets: Vec<Socket> = (0..5)
        .map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap())
        .collect();

    let before = cpu_ticks();
    // No new descriptor from here on; those that are open stay.
    let limit = limit_descriptors(3);
    for socket in &sockets {
        socket.connect(&running.address.into()).unwrap();
    }
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(50));
        exchange(&mut first, b"undisturbed");
    }
    limit_descriptors(limit);
    let ticks = cpu_ticks() - before;
    assert!(
        ticks < 25,
        "{ticks} hundredths of a second of CPU in half a second of rest"
    );

    for socket in sockets {
        let mut client = TcpStream::from(socket);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&mut client, b"at last");
    }
}

#[test]
fn accepting_rests_without_descriptors_and_goes_on_with_them() {
    // One after the other.
    check(DriverChoice::Epoll);
    check(DriverChoice::IoUring);
}
