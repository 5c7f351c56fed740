//! What requests may say and in which words, and event streams.

use super::{Http, nobody};
use crate::support::World;
use shard::Anonymous;

#[test]
fn credentials_come_in_many_headers() {
    let world = World::new(2);
    let http = Http::new(&world);
    let device = http.register("{}");
    let (uuid, token) = (&device.uuid, &device.token);
    let bearer = http::bearer(uuid, token);
    let encoded = bearer.strip_prefix("Bearer ").unwrap();
    for lines in [
        format!("Authorization: Basic {encoded}\r\n"),
        format!("authorization: basic {}\r\n", encoded.trim_end_matches('=')),
        format!("Authorization: {bearer}\r\n"),
        format!("Authorization: {encoded}\r\n"),
        format!("skynet_auth_uuid: {uuid}\r\nskynet_auth_token: {token}\r\n"),
        format!("X-Meshblu-UUID: {uuid}\r\nX-Meshblu-Token: {token}\r\n"),
        format!("Authorization: Basic {}\r\n", uppercase(uuid, token)),
    ] {
        let answer = http.request("GET", "/whoami", &lines, "");
        assert_eq!(answer.status, 200, "{lines}");
        assert_eq!(answer.json()["uuid"], **uuid);
    }
    let path = format!("/v2/whoami?uuid={uuid}&token={token}");
    assert_eq!(http.request("GET", &path, "", "").status, 200);
}

fn uppercase(uuid: &str, token: &str) -> String {
    let bearer = http::bearer(&uuid.to_uppercase(), token);
    bearer["Bearer ".len()..].to_owned()
}

#[test]
fn bodies_may_be_forms_or_stand_in_the_target() {
    let world = World::new(1);
    let http = Http::new(&world);
    let form = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n";
    let answer = http.request("POST", "/devices", form, "type=a+b&name=%C3%BC");
    assert_eq!(answer.json()["type"], "a b");
    assert_eq!(answer.json()["name"], "ü");
    let answer = http.request("POST", "/devices", form, " {\"type\":\"curl's\"}");
    assert_eq!(answer.json()["type"], "curl's");
    let answer = http.request("POST", "/devices?type=c", "", "");
    assert_eq!(answer.json()["type"], "c");
    let device = http.register("");
    let answer = http.call(&device, "POST", "/messages?devices=*&payload=x", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    http.request("POST", "/devices", form, "a=%zz")
        .expect_error(422);
    let gzip = "Content-Encoding: gzip\r\n";
    http.request("POST", "/devices", gzip, "x")
        .expect_error(415);
}

#[test]
fn uuids_that_are_none_are_refused() {
    let world = World::new(1);
    let http = Http::new(&world);
    let device = http.register("{}");
    for (method, path) in [
        ("GET", "/devices/x"),
        ("DELETE", "/v2/devices/x"),
        ("POST", "/claimdevice/x"),
        ("GET", "/devices/x/subscriptions"),
    ] {
        http.request(method, path, "", "").expect_error(401);
        http.call(&device, method, path, "").expect_error(400);
    }
    let path = format!("/devices/{}", nobody());
    http.call(&device, "GET", &path, "").expect_error(404);
}

#[test]
fn a_device_acts_as_another_that_lets_it() {
    let world = World::new(3);
    let http = Http::new(&world);
    let actor = http.register("{}");
    let lists = |uuid: &str| {
        format!(r#"{{"meshblu":{{"whitelists":{{"discover":{{"as":[{{"uuid":"{uuid}"}}]}}}}}}}}"#)
    };
    let friend = http.register(&lists(&actor.uuid));
    let stranger = http.register(&lists(&nobody()));
    let whoami_as = |uuid: &str| {
        let lines = format!("{}x-meshblu-as: {uuid}\r\n", actor.lines());
        http.request("GET", "/whoami", &lines, "")
    };
    assert_eq!(whoami_as(&friend.uuid).json()["uuid"], *friend.uuid);
    assert_eq!(whoami_as(&actor.uuid).json()["uuid"], *actor.uuid);
    assert_eq!(whoami_as("").json()["uuid"], *actor.uuid);
    whoami_as(&stranger.uuid).expect_error(403);
    whoami_as(&nobody()).expect_error(404);
    whoami_as("x").expect_error(422);
}

#[test]
fn a_stream_brings_events_until_its_token_is_revoked() {
    World::each(|world| {
        let http = Http::new(world);
        let device = http.register("{}");
        let stream = Http::new(world);
        let lines = device.lines();
        stream.send(&format!(
            "GET /subscribe HTTP/1.1\r\nHost: h\r\n{lines}\r\n"
        ));
        let head = stream.raw();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains("Content-Type: text/event-stream\r\n"),
            "{head}"
        );
        assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
        let online = http.call(&device, "GET", "/whoami", "").json();
        assert_eq!(online["online"], true);
        let body = format!(r#"{{"devices":["{}"],"payload":{{"n":1}}}}"#, device.uuid);
        http.call(&device, "POST", "/messages", &body);
        let event = stream.raw();
        let (size, data) = event.split_once("\r\n").unwrap();
        let data = data.strip_suffix("\r\n").unwrap();
        assert_eq!(usize::from_str_radix(size, 16).unwrap(), data.len());
        let json = data.strip_prefix("data: ").unwrap().trim_end();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["event"], "message");
        assert_eq!(json["payload"]["n"], 1);
        world.advance(16);
        assert_eq!(stream.raw(), "3\r\n:\n\n\r\n");
        stream.send("GET /status HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(
            stream.raw(),
            "",
            "nothing comes behind an answer without an end"
        );
        let path = format!("/devices/{}/token", device.uuid);
        http.call(&device, "POST", &path, "");
        assert!(stream.is_closed());
    });
}

#[test]
fn a_stream_that_ends_takes_its_device_offline() {
    let world = World::new(2);
    let http = Http::new(&world);
    let device = http.register("{}");
    let stream = Http::new(&world);
    let lines = device.lines();
    stream.send(&format!("GET /subscribe HTTP/1.0\r\n{lines}\r\n"));
    let head = stream.raw();
    assert!(
        head.contains("Connection: close\r\n") && !head.contains("chunked"),
        "{head}"
    );
    world.advance(16);
    assert_eq!(stream.raw(), ":\n\n");
    stream.0.cut();
    let view = http.call(&device, "GET", "/whoami", "").json();
    assert_eq!(view["online"], false);
    let head = http.request("HEAD", "/subscribe", &lines, "");
    assert_eq!(head.status, 200);
    http.request("GET", "/subscribe", "", "").expect_error(401);
}

#[test]
fn registrations_and_requests_are_limited() {
    let world = World::with(1, |config| {
        config.mesh.registrations_max = 2;
        config.mesh.rate_limit = 3;
        config.mesh.rate_window_s = 10;
    });
    let http = Http::new(&world);
    let device = http.register("{}");
    http.register("{}");
    let refused = http.request("POST", "/devices", "", "{}");
    refused.expect_error(429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    for _ in 0..3 {
        assert_eq!(http.call(&device, "GET", "/whoami", "").status, 200);
    }
    http.call(&device, "GET", "/whoami", "").expect_error(429);
    world.advance(11);
    assert_eq!(http.call(&device, "GET", "/whoami", "").status, 200);
}

#[test]
fn closed_registration_is_closed() {
    let world = World::with(1, |config| config.mesh.is_registration_open = false);
    let http = Http::new(&world);
    http.request("POST", "/devices", "", "{}").expect_error(403);
    let garbage = "skynet_auth_uuid: a\r\nskynet_auth_token: b\r\n";
    http.request("POST", "/devices", garbage, "{}")
        .expect_error(403);
    let nobody = nobody();
    let lines = format!("skynet_auth_uuid: {nobody}\r\nskynet_auth_token: b\r\n");
    http.request("POST", "/devices", &lines, "{}")
        .expect_error(401);
}

#[test]
fn a_full_store_is_told_by_the_health_check() {
    let world = World::durable(1);
    let http = Http::new(&world);
    world.stall_stores(true);
    assert_eq!(http.request("GET", "/healthcheck", "", "").status, 503);
    let refused = http.request("POST", "/devices", "", "{}");
    refused.expect_error(503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    world.stall_stores(false);
    assert_eq!(http.request("GET", "/healthcheck", "", "").status, 200);
}

#[test]
fn counters_of_all_shards_are_added_up() {
    let world = World::new(3);
    for _ in 0..6 {
        Http::new(&world).register("{}");
    }
    let answer = Http::new(&world).request("GET", "/metrics", "", "");
    let has_line = |line: &str| answer.text().lines().any(|found| found == line);
    assert!(has_line("meshring_devices 6"), "{}", answer.text());
    let media = answer.header("content-type").unwrap();
    assert!(media.starts_with("text/plain"), "{media}");
}

#[test]
fn counters_are_shown_to_whom_the_operator_says() {
    let ask = |metrics, lines: &str| {
        let world = World::with(1, |config| config.mesh.metrics = metrics);
        Http::new(&world)
            .request("GET", "/metrics", lines, "")
            .status
    };
    // The client of this test is on loopback.
    let forwarded = "X-Forwarded-For: 203.0.113.7\r\n";
    assert_eq!(ask(Anonymous::Loopback, ""), 200);
    assert_eq!(ask(Anonymous::Loopback, forwarded), 403);
    assert_eq!(ask(Anonymous::Loopback, "Via: 1.1 proxy\r\n"), 403);
    assert_eq!(ask(Anonymous::Deny, ""), 403);
    assert_eq!(ask(Anonymous::Allow, forwarded), 200);
    let world = World::with(1, |config| config.mesh.metrics = Anonymous::Deny);
    let refused = Http::new(&world).request("GET", "/metrics", "", "");
    assert!(
        refused.text().contains("http.metrics"),
        "{}",
        refused.text()
    );
    assert_eq!(
        Http::new(&world).request("GET", "/status", "", "").status,
        200
    );
}
