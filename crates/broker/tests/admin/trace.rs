//! A trace shows what happens, as it happens.

use crate::api::Target;
use crate::client::{Client, QoS};
use crate::support::PATIENCE;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

/// Begins a trace; the lines of its stream, when the trace runs.
fn begin(target: &Target, query: &str) -> impl Iterator<Item = Value> + use<> {
    let mut stream = UnixStream::connect(target.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /v1/trace?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.next().unwrap().unwrap().contains(" 200 "));
    lines
        .filter_map(|line| serde_json::from_str(&line.unwrap()).ok())
        .filter(Value::is_object)
}

#[test]
fn a_message_is_followed_to_its_end() {
    Target::each(|target| {
        let mqtt = target.broker.mqtt;
        let publisher = Client::connect(mqtt, "from", 0);
        let subscriber = Client::connect(mqtt, "to", 60);
        subscriber.subscribe("t/+", QoS::AtLeastOnce);
        let by_topic = begin(target, "topic=t/%23");
        let by_client = begin(target, "client=from");
        publisher.publish("t/1", "12345");
        assert_eq!(subscriber.message().1, "12345");
        let steps: Vec<Value> = by_topic.take(4).collect();
        let has = |client: &str, what: &str| {
            steps.iter().any(|step| {
                step["client"] == client && step["what"] == what && step["topic"] == "t/1"
            })
        };
        assert!(
            has("from", "received") && has("to", "matched"),
            "{steps:#?}"
        );
        assert!(
            has("to", "delivered") && has("to", "acknowledged"),
            "{steps:#?}"
        );
        publisher.publish("$SYS/x", "no");
        let steps: Vec<Value> = by_client.take(3).collect();
        assert_eq!(steps[0]["payload_bytes"], 5);
        assert_eq!(steps[2]["what"], "refused");
        assert!(
            steps[2]["reason"].as_str().unwrap().contains("0x87"),
            "{steps:#?}"
        );
    });
}

#[test]
fn nonsense_and_too_many_traces_are_refused() {
    let target = Target::start(&["--shards", "2"]);
    for nonsense in ["", "?client=a&topic=b", "?topic=a%23", "?colour=red"] {
        target
            .call("GET", &format!("/v1/trace{nonsense}"), "")
            .error(400);
    }
    let running: Vec<_> = (0..4).map(|_| begin(&target, "client=a")).collect();
    target.call("GET", "/v1/trace?client=a", "").error(429);
    drop(running);
    // Those that nobody reads end.
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let mut stream = UnixStream::connect(target.socket()).unwrap();
        stream
            .write_all(b"GET /v1/trace?client=a HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        if line.contains(" 200 ") {
            break;
        }
        assert!(std::time::Instant::now() < end, "{line}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn the_command_shows_it_live() {
    let target = Target::start(&[]);
    let client = Client::connect(target.broker.mqtt, "a", 0);
    let data = target.data.path().to_str().unwrap();
    let mut child = crate::support::meshring()
        .args(["trace", "--client", "a", "--data", data])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // It may not run yet.
    let (enough, heard) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let line = lines.next().unwrap().unwrap();
        enough.send(()).unwrap();
        line
    });
    while heard
        .recv_timeout(std::time::Duration::from_millis(50))
        .is_err()
    {
        client.publish("t", "12345");
    }
    let line = reader.join().unwrap();
    assert!(
        line.contains(" a received") && line.contains("5 bytes"),
        "{line}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(target.command(&["trace"]).0, 2);
}
