//! Brokers on a directory that a test knows, and retained messages as what they keep.

use super::raw::{Raw, packet, subscribe_packet};
use super::{Broker, run};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Starts a broker on a directory.
pub fn serve(data: &Path, flags: &[&str]) -> Broker {
    let data = data.to_str().unwrap();
    Broker::start(&[&["--data", data], flags].concat())
}

/// Runs a broker that is expected to refuse, and gives what it says.
pub fn refusal(data: &Path, flags: &[&str]) -> String {
    let mut line = vec!["serve", "--dev", "--log", "error"];
    line.extend(["--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    line.extend(["--data", data.to_str().unwrap()]);
    line.extend(flags);
    let (code, stdout, stderr) = run(&line);
    assert_eq!((code, &*stdout), (1, ""), "{stderr}");
    stderr
}

/// Publishes a retained message with QoS 1 and waits for its PUBACK.
pub fn retain(broker: &Broker, topic: &str) {
    let mut client = Raw::connected(broker.mqtt, "publisher");
    let mut body = vec![0, topic.len() as u8];
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&[0, 1, 0]);
    body.extend_from_slice(b"kept");
    client.send(&packet(0x33, &body));
    let puback = client.packet().expect("PUBACK");
    assert_eq!((puback.first, &puback.body[..2]), (0x40, &[0, 1][..]));
}

/// The topics of the first retained messages below `kept/`, so many.
pub fn retained(broker: &Broker, count: usize) -> BTreeSet<String> {
    let mut topics = BTreeSet::new();
    let mut reader = Reader::start(broker);
    while topics.len() < count {
        assert!(topics.insert(reader.next()), "twice");
    }
    topics
}

/// Waits until all of these have come, among others.
pub fn await_retained(broker: &Broker, mut topics: BTreeSet<String>) {
    let mut reader = Reader::start(broker);
    while !topics.is_empty() {
        topics.remove(&reader.next());
    }
}

/// Reads retained messages below `kept/`.
struct Reader(Raw);

impl Reader {
    fn start(broker: &Broker) -> Reader {
        let mut client = Raw::connected(broker.mqtt, "reader");
        client.send(&subscribe_packet("kept/#", 0));
        assert_eq!(client.packet().expect("SUBACK").first, 0x90);
        Reader(client)
    }

    fn next(&mut self) -> String {
        let packet = self.0.packet().expect("a retained message");
        assert_eq!(packet.first, 0x31, "retained, QoS 0");
        let length = usize::from(packet.body[1]);
        String::from_utf8(packet.body[2..2 + length].to_vec()).unwrap()
    }
}

/// The files of shards below a directory.
pub fn files(data: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}
