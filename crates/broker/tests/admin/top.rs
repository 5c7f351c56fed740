//! `meshring top --once --json` against a broker with traffic.

use crate::api::Target;
use crate::client::{Client, QoS};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn top_says_who_publishes_how_much_and_how_long_it_takes() {
    let target = Target::start(&["--shards", "2"]);
    let address = target.broker.mqtt;
    let subscriber = Client::connect(address, "subscriber", 0);
    subscriber.subscribe("t", QoS::AtMostOnce);
    let is_over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&is_over);
    let publisher = std::thread::spawn(move || {
        let client = Client::connect(address, "loud", 0);
        while !until.load(Ordering::Relaxed) {
            client.publish("t", "12345");
        }
    });
    let (code, stdout, stderr) = target.command(&["top", "--once", "--json"]);
    let (plain_code, plain, _) = target.command(&["top", "--once"]);
    is_over.store(true, Ordering::Relaxed);
    publisher.join().unwrap();
    assert_eq!((code, plain_code), (0, 0), "{stderr}");
    assert_eq!(stdout.lines().count(), 1);
    let found: Value = serde_json::from_str(&stdout).unwrap();
    let number = |value: &Value| {
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{value} in {stdout}"))
    };
    assert!(number(&found["interval_s"]) >= 1.0);
    assert!(number(&found["per_s"]["received"]) > 0.0, "{stdout}");
    assert!(number(&found["per_s"]["sent"]) > 0.0, "{stdout}");
    assert!(number(&found["delivery_s"]["p99"]) > 0.0, "{stdout}");
    assert_eq!(found["connections"]["mqtt-5"], 2.0);
    assert_eq!(found["shards"].as_array().unwrap().len(), 2);
    assert_eq!(found["talkers"][0]["client"], "loud");
    assert!(number(&found["talkers"][0]["messages_per_s"]) > 0.0);
    assert!(plain.contains("messages in /s"), "{plain}");
}

#[test]
fn top_fails_with_words() {
    let target = Target::start(&[]);
    // Without a terminal there is nothing to draw on.
    let (code, _, stderr) = target.command(&["top"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--once"), "{stderr}");
    let nowhere = tempfile::TempDir::new().unwrap();
    let path = nowhere.path().to_str().unwrap();
    let (code, _, stderr) = crate::support::run(&["top", "--once", "--json", "--data", path]);
    assert_eq!(code, 3);
    assert!(stderr.contains("no broker answers"), "{stderr}");
}
