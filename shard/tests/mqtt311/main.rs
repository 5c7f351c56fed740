//! MQTT 3.1.1, a test for each normative statement that a server can be held to, named by it:
//! `mqtt311_3_1_2_2_…` tests `[MQTT-3.1.2-2]`. `tests/statements/mqtt311.txt` lists them all.
//! `mqtt31` holds what is different in MQTT 3.1. Every test runs with one, two and five shards.

#[path = "../support/mod.rs"]
mod support;

mod choices;
mod connect;
mod format;
mod mqtt31;
mod operation;
mod publish;

mod subscribe;
mod websocket;
mod will;

use support::*;

/// A connected client sends these bytes and is closed without a word. Another client, which hears
/// every topic, is unharmed and hears nothing.
#[track_caller]
fn check_closed(w: &World, bytes: &[u8]) {
    let watcher = w.connected(V311, "watcher");
    watcher.subscribe("#", 0);
    let client = w.connected(V311, "wrong");
    client.send_raw(bytes);
    assert!(client.is_closed(), "not closed after {bytes:02x?}");
    client.expect_closed();
    watcher.expect_nothing();
    watcher.disconnect();
}

/// A connection that begins with these bytes is closed without CONNACK.
#[track_caller]
fn check_no_connack(w: &World, connect: &[u8]) {
    let client = w.client(V311, "wrong");
    client.open();
    client.send_raw(connect);
    assert!(client.is_closed(), "not closed after {connect:02x?}");
    client.expect_closed();
}

/// A plain CONNECT with a clean session.
fn connect(client_id: &str) -> ConnectPacket {
    ConnectPacket::new(V311, client_id)
}

/// A connected client, and a publisher.
fn two(w: &World) -> (Client, Client) {
    (w.connected(V311, "c"), w.connected(V311, "publisher"))
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::text).collect()
}
