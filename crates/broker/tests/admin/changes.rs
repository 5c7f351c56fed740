//! What operators read of and do to clients, subscriptions and retained messages.

use crate::api::Target;
use crate::client::{Client, QoS};
use serde_json::{Value, json};

#[test]
fn a_client_is_shown_and_disconnected() {
    Target::each(|target| {
        let mqtt = target.broker.mqtt;
        let odd = "pump/7 é#";
        let path = "/v1/clients/pump%2F7%20%C3%A9%23";
        let client = Client::connect(mqtt, odd, 60);
        client.subscribe("a/#", QoS::AtLeastOnce);
        let shown = target.get(path);
        assert_eq!(
            (&shown["client"], &shown["kept"]),
            (&json!(odd), &json!(true))
        );
        assert_eq!(shown["connection"]["protocol"], "5");
        let gone = target.call("DELETE", path, "").ok();
        assert_eq!(
            gone,
            json!({ "disconnected": true, "session_ended": false })
        );
        let goodbye = client.goodbye();
        assert!(goodbye.contains("AdministrativeAction"), "{goodbye}");
        assert_eq!(target.get("/v1/sessions")["sessions"][0]["client"], odd);
        let gone = target
            .call("DELETE", &format!("{path}?session=delete"), "")
            .ok();
        assert_eq!(
            gone,
            json!({ "disconnected": false, "session_ended": true })
        );
        for method in ["GET", "DELETE"] {
            target.call(method, path, "").error(404);
        }
        target
            .call("DELETE", &format!("{path}?session=burn"), "")
            .error(400);
        target.call("GET", "/v1/clients/%ff", "").error(400);
    });
}

#[test]
fn subscriptions_are_listed() {
    Target::each(|target| {
        let clients: Vec<Client> = (0..6)
            .map(|n| {
                let client = Client::connect(target.broker.mqtt, &format!("c{n}"), 0);
                client.subscribe(&format!("t/{n}/+"), QoS::AtLeastOnce);
                client.subscribe("$share/g/jobs", QoS::ExactlyOnce);
                client
            })
            .collect();
        let all = |query: &str| {
            let mut rows: Vec<Value> = Vec::new();
            let mut path = format!("/v1/subscriptions?limit=5{query}");
            loop {
                let list = target.get(&path);
                rows.extend(list["subscriptions"].as_array().unwrap().clone());
                match list["next"].as_str() {
                    Some(next) => path = format!("/v1/subscriptions?limit=5{query}&after={next}"),
                    None => return rows,
                }
            }
        };
        assert_eq!(all("").len(), 12);
        assert_eq!(all("&client=c3").len(), 2);
        assert_eq!(all("&filter=jobs").len(), 6);
        let matching = all("&topic=t/4/x");
        assert_eq!((matching.len(), &matching[0]["client"]), (1, &json!("c4")));
        assert_eq!(matching[0]["qos"], 1);
        for nonsense in ["filter=a%23", "topic=%2B", "after=0.x"] {
            target
                .call("GET", &format!("/v1/subscriptions?{nonsense}"), "")
                .error(400);
        }
        drop(clients);
    });
}

#[test]
fn retained_messages_are_read_and_deleted() {
    Target::each(|target| {
        let client = Client::connect(target.broker.mqtt, "a", 0);
        for n in 0..12 {
            client.retain(&format!("r/{n}"), &format!("value {n}"));
        }
        client.retain("/odd//topic/", "é");
        let list = target.get("/v1/retained?filter=r/%23");
        assert_eq!(list["retained"].as_array().unwrap().len(), 12);
        let mut path = "/v1/retained?limit=3".to_owned();
        let mut count = 0;
        loop {
            let list = target.get(&path);
            count += list["retained"].as_array().unwrap().len();
            match list["next"].as_str() {
                Some(next) => {
                    path = format!("/v1/retained?limit=3&after={}", next.replace('/', "%2F"))
                }
                None => break,
            }
        }
        assert_eq!(count, 13);
        assert_eq!(target.call("GET", "/v1/retained/r/7", "").body, "value 7");
        assert_eq!(
            target
                .call("GET", "/v1/retained/%2Fodd%2F%2Ftopic%2F", "")
                .body,
            "é"
        );
        target.call("GET", "/v1/retained/none", "").error(404);
        target
            .call("GET", "/v1/retained?filter=a%23", "")
            .error(400);
        target.call("DELETE", "/v1/retained", "").error(400);
        let deleted = target.call("DELETE", "/v1/retained?filter=r/%2B", "").ok();
        assert_eq!(deleted["deleted"], 12);
        assert_eq!(
            target.get("/v1/retained")["retained"][0]["topic"],
            "/odd//topic/"
        );
        target.call("GET", "/v1/retained/r/7", "").error(404);
    });
}

#[test]
fn what_was_deleted_stays_deleted_after_a_kill() {
    let mut target = Target::start(&["--shards", "2"]);
    let client = Client::connect(target.broker.mqtt, "keeper", 600);
    client.retain("r/1", "x");
    client.retain("r/2", "x");
    drop(client);
    assert_eq!(
        target.call("DELETE", "/v1/retained?filter=r/1", "").ok()["deleted"],
        1
    );
    target
        .call("DELETE", "/v1/clients/keeper?session=delete", "")
        .ok();
    target.broker.kill();
    let data = target.data.path().to_str().unwrap();
    let flags = ["--data", data, "--shards", "2", "--log", "warn"];
    target.broker = crate::support::Broker::start(&flags);
    let retained = target.get("/v1/retained");
    assert_eq!(retained["retained"].as_array().unwrap().len(), 1);
    assert_eq!(target.get("/v1/clients")["clients"], json!([]));
}

#[test]
fn the_slowest_come_first() {
    let target = Target::start(&["--shards", "2"]);
    let mqtt = target.broker.mqtt;
    for (name, count) in [("fast", 0), ("slow", 20), ("slower", 40)] {
        let client = Client::connect(mqtt, name, 60);
        client.subscribe(&format!("to/{name}"), QoS::AtLeastOnce);
        client.leave();
        let publisher = Client::connect(mqtt, "publisher", 0);
        for _ in 0..count {
            publisher.publish(&format!("to/{name}"), "something");
        }
    }
    let slow = target.get("/v1/slow");
    let names: Vec<&Value> = slow["slow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["client"])
        .collect();
    assert_eq!(names, ["slower", "slow"]);
    assert!(slow["slow"][0]["waiting_bytes"].as_u64() > slow["slow"][1]["waiting_bytes"].as_u64());
    assert_eq!(
        target.get("/v1/slow?limit=1")["slow"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(target.get("/v1/slow?bytes=1000000")["slow"], json!([]));
    target.call("GET", "/v1/slow?limit=0", "").error(400);
}
