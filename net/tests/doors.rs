//! Listeners that are opened, closed and renamed while the shards run.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod harness;

use harness::{PATIENCE, Running, Script, exchange, read, serve, tuning};
use net::{DriverChoice, StartError};
use shard::{Event, Listener};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

on_both_drivers!(
    a_listener_comes_and_goes,
    a_renamed_listener_keeps_its_place,
    what_cannot_be_had_changes_nothing,
    many_come_and_go_under_load,
    fewer_and_more_connections_are_allowed,
);

/// Greets with the letter of the listener, and sends back what it receives.
fn greet() -> Script {
    Box::new(|event, effects| match event {
        Event::Accepted {
            connection,
            listener,
            ..
        } => effects.outbox(connection).push(match listener {
            Listener::Mqtt => b'm',
            _ => b'h',
        }),
        event => harness::echo(event, effects),
    })
}

fn start(driver: DriverChoice, shards: u16) -> Option<Running> {
    serve(driver, shards, tuning(), |_| greet())
}

/// Connects and is greeted with this letter.
#[track_caller]
fn greeted(address: SocketAddr, letter: u8) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read(&mut stream, 1), [letter]);
    stream
}

/// Waits until nobody listens there any more.
fn await_refused(address: SocketAddr) {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < end, "still listening");
        std::thread::yield_now();
    }
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn a_listener_comes_and_goes(driver: DriverChoice) {
    for shards in [1, 2] {
        let Some(running) = start(driver, shards) else {
            return;
        };
        let doors = running.server().doors();
        assert_eq!(doors.all().len(), 1);
        let opened = doors.open(&[(Listener::Http, any()), (Listener::Mqtt, any())]);
        let [one, two] = opened.unwrap()[..] else {
            panic!("two were wanted");
        };
        // Many, so that each shard accepts some.
        let mut clients: Vec<TcpStream> = (0..16).map(|_| greeted(one.address, b'h')).collect();
        greeted(two.address, b'm');
        doors.close(one);
        await_refused(one.address);
        for client in &mut clients {
            exchange(client, b"still here");
        }
        greeted(two.address, b'm');
        greeted(running.address, b'm');
        // The same port, since nobody has it any more.
        let again = doors.open(&[(Listener::Mqtt, one.address)]).unwrap()[0];
        assert_eq!(again.address, one.address);
        for _ in 0..16 {
            greeted(again.address, b'm');
        }
        assert_eq!(doors.all().len(), 3);
        // The first, which was there from the start, can go as well.
        doors.close(doors.all()[0]);
        await_refused(running.address);
        exchange(&mut clients[0], b"and still");
    }
}

fn a_renamed_listener_keeps_its_place(driver: DriverChoice) {
    let Some(running) = start(driver, 2) else {
        return;
    };
    let doors = running.server().doors();
    let mut before = greeted(running.address, b'm');
    doors.rename(doors.all()[0], Listener::Http);
    assert_eq!(doors.all()[0].kind, Listener::Http);
    // The shards hear of it one by one.
    let end = Instant::now() + PATIENCE;
    let mut in_a_row = 0;
    while in_a_row < 32 {
        assert!(Instant::now() < end, "not renamed");
        let mut stream = TcpStream::connect(running.address).unwrap();
        in_a_row = match read(&mut stream, 1)[0] {
            b'h' => in_a_row + 1,
            _ => 0,
        };
    }
    exchange(&mut before, b"here");
}

fn what_cannot_be_had_changes_nothing(driver: DriverChoice) {
    let Some(running) = start(driver, 2) else {
        return;
    };
    let doors = running.server().doors();
    let taken = running.address;
    let wanted = [(Listener::Mqtt, any()), (Listener::Mqtt, taken)];
    let error = doors.open(&wanted).unwrap_err();
    assert!(matches!(error, StartError::Listen { address, .. } if address == taken));
    assert_eq!(doors.all().len(), 1);
    assert!(doors.open(&vec![(Listener::Mqtt, any()); 2_000]).is_err());
    assert_eq!(doors.open(&[]).unwrap(), []);
    greeted(taken, b'm');
}

/// Whether the next connection is let in.
fn is_let_in(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    matches!(stream.read(&mut [0]), Ok(1))
}

fn fewer_and_more_connections_are_allowed(driver: DriverChoice) {
    let Some(running) = start(driver, 1) else {
        return;
    };
    let doors = running.server().doors();
    let mut clients: Vec<TcpStream> = (0..3).map(|_| greeted(running.address, b'm')).collect();
    for (most, expected) in [(1, false), (3, false), (50, true), (0, false)] {
        doors.limit_connections(most);
        let end = Instant::now() + PATIENCE;
        while is_let_in(running.address) != expected {
            assert!(Instant::now() < end, "{most} connections are allowed");
        }
        for client in &mut clients {
            exchange(client, b"here");
        }
    }
}

fn many_come_and_go_under_load(driver: DriverChoice) {
    let Some(running) = start(driver, 2) else {
        return;
    };
    let doors = running.server().doors();
    let mut steady = greeted(running.address, b'm');
    for round in 0..40 {
        let opened = doors.open(&[(Listener::Http, any())]).unwrap()[0];
        let mut client = greeted(opened.address, b'h');
        doors.close(opened);
        exchange(&mut client, format!("round {round}").as_bytes());
        exchange(&mut steady, b"steady");
    }
    assert_eq!(doors.all().len(), 1);
    // A stop right behind a change.
    let opened = doors.open(&[(Listener::Http, any())]).unwrap()[0];
    doors.close(opened);
}
