//! Who is there, and how the shards are.

use crate::api::Target;
use crate::client::{Client, QoS};
use serde_json::Value;

fn ids(list: &Value) -> Vec<String> {
    let rows = list["clients"].as_array().unwrap();
    rows.iter()
        .map(|row| row["client"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn clients_are_listed_page_by_page() {
    Target::each(|target| {
        let peers: Vec<Client> = (0..25)
            .map(|n| Client::connect(target.broker.mqtt, &format!("client-{n}"), 0))
            .collect();
        peers[3].subscribe("a/#", QoS::AtLeastOnce);
        let mut seen = Vec::new();
        let mut path = "/v1/clients?limit=4".to_owned();
        loop {
            let list = target.get(&path);
            let page = ids(&list);
            assert!(page.len() <= 4);
            seen.extend(page);
            let Some(next) = list["next"].as_str() else {
                break;
            };
            path = format!("/v1/clients?limit=4&after={next}");
        }
        seen.sort();
        let mut expected: Vec<String> = (0..25).map(|n| format!("client-{n}")).collect();
        expected.sort();
        assert_eq!(seen, expected);
        let list =
            target.get("/v1/clients?prefix=client-3&protocol=5&connected=true&peer=127.0.0.1");
        let row = &list["clients"][0];
        assert_eq!((ids(&list).len(), &row["subscriptions"]), (1, &1.into()));
        assert_eq!(row["connection"]["protocol"], "5");
        assert_eq!(ids(&target.get("/v1/clients?protocol=3.1.1")).len(), 0);
        assert_eq!(
            target.get("/v1/sessions")["sessions"]
                .as_array()
                .unwrap()
                .len(),
            0
        );
        let shards = target.get("/v1/shards");
        let shards = shards["shards"].as_array().unwrap();
        let sum = |key: &str| {
            shards
                .iter()
                .map(|shard| shard[key].as_u64().unwrap())
                .sum::<u64>()
        };
        assert_eq!(
            (sum("clients"), sum("subscriptions"), sum("connections")),
            (25, 1, 25)
        );
        drop(peers);
    });
}

#[test]
fn the_log_level_changes_while_it_runs() {
    let mut target = Target::start(&[]);
    let set = |filter: &str| {
        let body = format!("{{\"filter\":\"{filter}\"}}");
        target.call("PUT", "/v1/log", &body).ok()
    };
    set("debug");
    assert_eq!(target.get("/v1/log")["filter"], "debug");
    // Something that is logged at this level alone.
    assert_eq!(
        crate::api::raw(
            std::os::unix::net::UnixStream::connect(target.socket()).unwrap(),
            "x\r\n\r\n"
        )
        .status,
        400
    );
    set("warn");
    target.broker.signal("TERM");
    let (_, log) = target.broker.wait();
    assert!(log.contains("an admin connection ended"), "{log}");
    assert!(!log.contains("stopping;"), "{log}");
}

/// A WebSocket of FreshBlu's kind that has shown the token of a new device, and the device.
fn device_socket(target: &Target) -> (tungstenite::WebSocket<std::net::TcpStream>, String) {
    use std::io::{Read, Write};
    let http = target.broker.http;
    let mut stream = std::net::TcpStream::connect(http).unwrap();
    let request = "POST /devices HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\
                   Content-Type: application/json\r\n\r\n{}";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let device: Value = serde_json::from_str(body).unwrap();
    let stream = std::net::TcpStream::connect(http).unwrap();
    let (mut socket, _) = tungstenite::client(format!("ws://{http}/ws"), stream).unwrap();
    let identity = serde_json::json!({
        "event": "identity", "uuid": device["uuid"], "token": device["token"],
    });
    socket.send(identity.to_string().into()).unwrap();
    assert!(socket.read().unwrap().to_string().contains("ready"));
    (socket, device["uuid"].as_str().unwrap().to_owned())
}

#[test]
fn sockets_of_devices_are_in_the_list_and_can_be_closed() {
    Target::each(|target| {
        let _client = Client::connect(target.broker.mqtt, "an MQTT client", 0);
        let (mut socket, uuid) = device_socket(target);
        let (_other, other_uuid) = device_socket(target);
        assert_eq!(ids(&target.get("/v1/clients")).len(), 3);
        let mut paged = Vec::new();
        let mut path = "/v1/clients?limit=1".to_owned();
        loop {
            let list = target.get(&path);
            paged.extend(ids(&list));
            let Some(next) = list["next"].as_str() else {
                break;
            };
            path = format!("/v1/clients?limit=1&after={next}");
        }
        assert_eq!(paged.len(), 3, "{paged:?}");
        for (query, count) in [
            ("protocol=websocket", 2),
            ("protocol=events", 0),
            ("protocol=5", 1),
            ("connected=false", 0),
            ("prefix=$ws/", 2),
            ("peer=127.0.0.2", 0),
        ] {
            let list = target.get(&format!("/v1/clients?{query}"));
            assert_eq!(ids(&list).len(), count, "{query}: {list}");
        }
        let list = target.get(&format!("/v1/clients?device={uuid}"));
        let row = &list["clients"][0];
        assert_eq!(
            (ids(&list).len(), &row["device"]),
            (1, &uuid.as_str().into())
        );
        let name = row["client"].as_str().unwrap().to_owned();
        let path = format!("/v1/clients/{}", name.replace('/', "%2F"));
        socket.send("{\"event\":\"ping\"}".into()).unwrap();
        assert!(socket.read().unwrap().to_string().contains("pong"));
        let shown = target.get(&path);
        assert_eq!(shown["connection"]["protocol"], "websocket");
        // The identity, and the ping.
        assert_eq!(shown["connection"]["traffic"]["received_messages"], 2);
        let (code, stdout, stderr) = target.command(&["clients", "disconnect", &name]);
        assert!(
            code == 0 && stdout.contains("disconnected"),
            "{stdout}{stderr}"
        );
        let closed = std::iter::repeat_with(|| socket.read()).find(Result::is_err);
        assert!(closed.is_some());
        target.call("GET", &path, "").error(404);
        target.call("DELETE", &path, "").error(404);
        let left = target.get("/v1/clients?protocol=websocket");
        assert_eq!(left["clients"][0]["device"], other_uuid);
    });
}

#[test]
fn what_a_connection_has_carried_is_counted() {
    let target = Target::start(&["--shards", "2"]);
    let from = Client::connect(target.broker.mqtt, "from", 0);
    let to = Client::connect(target.broker.mqtt, "to", 0);
    to.subscribe("t", QoS::AtLeastOnce);
    for _ in 0..3 {
        from.publish("t", "12345");
        to.message();
    }
    let traffic =
        |id: &str| target.get(&format!("/v1/clients/{id}"))["connection"]["traffic"].clone();
    let expected = serde_json::json!({
        "received_messages": 3, "received_bytes": 15, "sent_messages": 0, "sent_bytes": 0,
        "dropped_messages": 0,
    });
    assert_eq!(traffic("from"), expected);
    let expected = serde_json::json!({
        "received_messages": 0, "received_bytes": 0, "sent_messages": 3, "sent_bytes": 15,
        "dropped_messages": 0,
    });
    assert_eq!(traffic("to"), expected);
}
