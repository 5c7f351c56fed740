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
