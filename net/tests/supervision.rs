//! What a service manager needs of the driver: sockets that it has opened itself, and to know
//! whether every shard still turns.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod harness;

use harness::{PATIENCE, config, echo, exchange, serve, tuning};
use net::{DriverChoice, Passed, Pulse, StartError};
use shard::{Event, Listener, ShardId};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

on_both_drivers!(
    a_passed_socket_is_served_by_all_shards,
    a_stop_leaves_a_passed_socket_to_its_owner,
    shards_with_nothing_to_do_turn_when_asked,
    a_shard_that_hangs_is_named_until_it_goes_on,
);

/// A server of two shards on nothing but this socket.
fn serve_passed(driver: DriverChoice, socket: &Arc<TcpListener>) -> Option<net::Server> {
    let mut config = config(driver, 2, tuning());
    config.mqtt.clear();
    config.passed.push(Passed {
        kind: Listener::Mqtt,
        socket: Arc::clone(socket),
    });
    match net::start_with(config, |_, _| harness::Scripted::new(Box::new(echo))) {
        Err(StartError::IoUringRefused(_)) => None,
        made => Some(made.unwrap()),
    }
}

fn passed() -> Arc<TcpListener> {
    Arc::new(TcpListener::bind("127.0.0.1:0").unwrap())
}

fn a_passed_socket_is_served_by_all_shards(driver: DriverChoice) {
    let socket = passed();
    let address = socket.local_addr().unwrap();
    // Connected before there is a server: that is what the socket was opened early for.
    let mut early = TcpStream::connect(address).unwrap();
    early.write_hello();
    let Some(server) = serve_passed(driver, &socket) else {
        return;
    };
    assert_eq!(server.listeners(), [(Listener::Mqtt, address)]);
    assert_eq!(harness::read(&mut early, 5), b"hello");
    let mut clients: Vec<TcpStream> = (0..64)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(client, b"to and fro");
    }
    server.stop();
    server.join().unwrap();
}

/// What a client says first.
trait Hello {
    fn write_hello(&mut self);
}

impl Hello for TcpStream {
    fn write_hello(&mut self) {
        self.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Write::write_all(self, b"hello").unwrap();
    }
}

fn a_stop_leaves_a_passed_socket_to_its_owner(driver: DriverChoice) {
    let socket = passed();
    for _ in 0..2 {
        let Some(server) = serve_passed(driver, &socket) else {
            return;
        };
        let mut client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&mut client, b"here");
        server.stop();
        server.join().unwrap();
        // Nobody accepts, and nobody refuses: the next server will.
        TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    }
}

/// Asks until exactly these stand still.
fn await_standing_still(pulse: &mut Pulse, expected: &[ShardId]) {
    let end = Instant::now() + PATIENCE;
    while pulse.standing_still() != expected {
        assert!(Instant::now() < end, "not {expected:?}");
        std::thread::yield_now();
    }
}

fn shards_with_nothing_to_do_turn_when_asked(driver: DriverChoice) {
    let Some(running) = serve(driver, 3, tuning(), |_| Box::new(echo)) else {
        return;
    };
    let mut pulse = running.server().pulse();
    for _ in 0..5 {
        await_standing_still(&mut pulse, &[]);
    }
}

fn a_shard_that_hangs_is_named_until_it_goes_on(driver: DriverChoice) {
    let (go_on, told): (Sender<()>, Receiver<()>) = channel();
    let told = Arc::new(Mutex::new(told));
    let (hanging, which) = channel();
    let Some(running) = serve(driver, 2, tuning(), move |shard| {
        let (told, hanging) = (Arc::clone(&told), hanging.clone());
        Box::new(move |event, effects| {
            if matches!(event, Event::Received { .. }) {
                hanging.send(shard).unwrap();
                told.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            }
            echo(event, effects);
        })
    }) else {
        return;
    };
    let mut pulse = running.server().pulse();
    await_standing_still(&mut pulse, &[]);
    let mut client = running.connect();
    client.write_hello();
    let hung = which.recv_timeout(PATIENCE).unwrap();
    // The turn that it hangs in may be counted once.
    await_standing_still(&mut pulse, &[hung]);
    for _ in 0..10 {
        assert!(pulse.standing_still().contains(&hung));
    }
    await_standing_still(&mut pulse, &[hung]);
    go_on.send(()).unwrap();
    assert_eq!(harness::read(&mut client, 5), b"hello");
    await_standing_still(&mut pulse, &[]);
}
