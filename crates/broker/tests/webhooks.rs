//! Webhooks, from a device's document to the server that is called, and to those that must not be.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::{Broker, PATIENCE};

/// The body of a message, or what else follows a head that says its length.
fn read_message(stream: &TcpStream) -> (String, String) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let begin = head.len();
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        let line = head[begin..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// A request to the broker; gives the answer's body.
fn ask(broker: SocketAddr, line: &str, headers: &str, body: &Value) -> String {
    let body = body.to_string();
    let mut stream = TcpStream::connect(broker).unwrap();
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let (head, body) = read_message(&stream);
    assert!(head.starts_with("HTTP/1.1 200"), "{line}: {head}{body}");
    body
}

/// Registers a device that wants its messages told to this address, and sends it one.
fn send_a_message(broker: &Broker, told: SocketAddr) -> Value {
    let hook = json!({
        "type": "webhook", "url": format!("http://{told}/hook"), "method": "PUT",
        "generateAndForwardMeshbluCredentials": true,
    });
    let body = json!({"meshblu": {"forwarders": {"message": {"received": [hook]}}}});
    let device = ask(broker.http, "POST /devices", "", &body);
    let device: Value = serde_json::from_str(&device).unwrap();
    let [uuid, token] = ["uuid", "token"].map(|name| device[name].as_str().unwrap());
    let headers = format!("meshblu_auth_uuid: {uuid}\r\nmeshblu_auth_token: {token}\r\n");
    let body = json!({"devices": [uuid], "payload": {"degrees": 21}});
    ask(broker.http, "POST /messages", &headers, &body);
    device
}

#[test]
fn a_message_is_told_to_the_server_that_its_device_names() {
    let broker = Broker::start(&["--shards", "2", "--webhooks-to-private", "allow"]);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let device = send_a_message(&broker, server.local_addr().unwrap());
    let (mut stream, _) = server.accept().unwrap();
    let (head, body) = read_message(&stream);
    assert!(head.starts_with("PUT /hook HTTP/1.1\r\n"), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["payload"]["degrees"], 21, "{body}");
    let head = head.to_ascii_lowercase();
    let uuid = device["uuid"].as_str().unwrap();
    assert!(
        head.contains(&format!("x-meshblu-uuid: {uuid}\r\n")),
        "{head}"
    );
    assert!(head.contains("authorization: bearer "), "{head}");
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .unwrap();
    await_metric(&broker, "webhooks_sent_total 1");
}

#[test]
fn the_brokers_own_machine_is_not_called_unless_that_is_allowed() {
    let broker = Broker::start(&["--shards", "1"]);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    send_a_message(&broker, server.local_addr().unwrap());
    await_metric(&broker, "webhooks_failed_total 1");
    let nobody = server.accept().map(drop).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
}

/// Waits until the broker counts so.
fn await_metric(broker: &Broker, words: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let metrics = ask(broker.http, "GET /metrics", "", &Value::Null);
        if metrics.lines().any(|line| line.ends_with(words)) {
            return;
        }
        assert!(Instant::now() < end, "no {words:?} in {metrics}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
