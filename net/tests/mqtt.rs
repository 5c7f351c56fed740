//! The driver with what it is made for: real shards. What they answer is tested elsewhere.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{PATIENCE, config, read, tuning};
use net::{DriverChoice, StartError};
use std::io::Write;
use std::net::TcpStream;

on_both_drivers!(clients_reach_each_other_across_shards);

/// A packet with a remaining length below 128.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, u8::try_from(body.len()).unwrap()], body].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// Connects with MQTT 3.1.1 and a clean session.
fn connect(address: std::net::SocketAddr, client: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = [string("MQTT"), vec![4, 2, 0, 60], string(client)].concat();
    stream.write_all(&packet(0x10, &body)).unwrap();
    assert_eq!(read(&mut stream, 4), [0x20, 2, 0, 0], "CONNACK");
    stream
}

fn clients_reach_each_other_across_shards(driver: DriverChoice) {
    let server = match net::start(config(driver, 2, tuning())) {
        Err(StartError::IoUringRefused(_)) => return,
        made => made.unwrap(),
    };
    let address = server.listeners()[0].1;
    // Enough that each shard is home to some.
    let mut subscribers: Vec<TcpStream> = (0..20)
        .map(|number| {
            let mut stream = connect(address, &format!("subscriber-{number}"));
            let body = [vec![0, 1], string("news/#"), vec![0]].concat();
            stream.write_all(&packet(0x82, &body)).unwrap();
            assert_eq!(read(&mut stream, 5), [0x90, 3, 0, 1, 0], "SUBACK");
            stream
        })
        .collect();
    for number in 0..10_u8 {
        let mut publisher = connect(address, &format!("publisher-{number}"));
        let publish = packet(0x30, &[string("news/today"), vec![number]].concat());
        publisher.write_all(&publish).unwrap();
        for subscriber in &mut subscribers {
            assert_eq!(read(subscriber, publish.len()), publish);
        }
    }
    server.stop();
    server.join().unwrap();
}
