//! Where the two families of clients are answered differently: the table of the specification.

use super::{Answer, Http, nobody};
use crate::support::World;
use shard::Dialect;

fn world(dialect: Dialect) -> World {
    World::with(2, |config| config.mesh.dialect = dialect)
}

fn check(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.text()), (status, body));
}

#[test]
fn missing_credentials() {
    for lines in [
        "",
        "Authorization: Basic bm9ib2R5OnRva2Vu\r\n",
        "Authorization: x\r\n",
    ] {
        let http = Http::new(&world(Dialect::Freshblu));
        let answer = http.request("GET", "/whoami", lines, "");
        check(&answer, 401, r#"{"error":"unauthorized"}"#);
        let scheme = answer.header("www-authenticate").unwrap();
        assert!(scheme.starts_with("Basic "), "{scheme}");
        let http = Http::new(&world(Dialect::Meshblu));
        check(&http.request("GET", "/whoami", lines, ""), 403, "null");
    }
}

#[test]
fn wrong_credentials() {
    for (dialect, status) in [(Dialect::Freshblu, 401), (Dialect::Meshblu, 403)] {
        let http = Http::new(&world(dialect));
        let mut device = http.register("{}");
        device.token.push('x');
        assert_eq!(http.call(&device, "GET", "/v2/whoami", "").status, status);
        device.uuid = nobody();
        assert_eq!(http.call(&device, "GET", "/v2/whoami", "").status, status);
    }
}

#[test]
fn authenticate() {
    for (dialect, right, wrong) in [(Dialect::Freshblu, 200, 401), (Dialect::Meshblu, 204, 403)] {
        let http = Http::new(&world(dialect));
        let device = http.register("{}");
        let body = |token: &str| format!(r#"{{"uuid":"{}","token":"{token}"}}"#, device.uuid);
        let answer = http.request("POST", "/authenticate", "", &body(&device.token));
        assert_eq!(answer.status, right);
        if right == 200 {
            assert_eq!(answer.text(), format!(r#"{{"uuid":"{}"}}"#, device.uuid));
        }
        let answer = http.request("POST", "/authenticate", "", &body("x"));
        assert_eq!(answer.status, wrong);
        check(&http.call(&device, "POST", "/authenticate", ""), 204, "");
        let path = format!("/authenticate/{}?token={}", device.uuid, device.token);
        let answer = http.request("GET", &path, "", "");
        assert_eq!(answer.json()["authentication"], true);
    }
    let http = Http::new(&world(Dialect::Freshblu));
    for body in ["", "{}", r#"{"uuid":"x"}"#, r#"{"uuid":"x","token":"y"}"#] {
        http.request("POST", "/authenticate", "", body)
            .expect_error(422);
    }
}

#[test]
fn devices() {
    for dialect in [Dialect::Freshblu, Dialect::Meshblu] {
        let is_freshblu = dialect == Dialect::Freshblu;
        let pick = |freshblu, meshblu| if is_freshblu { freshblu } else { meshblu };
        let http = Http::new(&world(dialect));
        let answer = http.request("POST", "/devices", "", r#"{"type":"a"}"#);
        assert_eq!(answer.status, pick(200, 201));
        let device = http.register(r#"{"type":"b"}"#);
        let path = format!("/devices/{}", device.uuid);
        let view = http.call(&device, "GET", &path, "").json();
        let view = if is_freshblu {
            &view
        } else {
            &view["devices"][0]
        };
        assert_eq!(view["uuid"], *device.uuid);
        assert!(view.get("token").is_none(), "{view}");
        let v2 = http.call(&device, "GET", &format!("/v2{path}"), "").json();
        assert_eq!(v2["uuid"], *device.uuid);
        let mine = http.call(&device, "GET", "/mydevices", "").json();
        match is_freshblu {
            true => assert_eq!(mine[0]["uuid"], *device.uuid),
            false => assert_eq!(mine["devices"], serde_json::json!([])),
        }
        let answer = http.call(&device, "PUT", &path, r#"{"color":"red"}"#);
        assert_eq!(answer.status, pick(200, 204));
        let operators = r#"{"$set":{"color":"blue"}}"#;
        let answer = http.call(&device, "PUT", &format!("/v2{path}"), operators);
        check(&answer, 204, "");
        let found = http.call(
            &device,
            "PUT",
            &format!("/v2{path}/find-and-update"),
            operators,
        );
        assert_eq!(found.json()["color"], "blue");
        let answer = http.call(&device, "PATCH", &format!("/v2{path}"), r#"{"n":1}"#);
        check(&answer, 204, "");
        let found = http
            .call(&device, "POST", "/devices/search", r#"{"n":1}"#)
            .json();
        assert_eq!(found[0]["color"], "blue");
        let found = http
            .call(&device, "GET", "/v2/devices?color=blue", "")
            .json();
        assert_eq!(found.as_array().unwrap().len(), 1);
        let found = http.call(&device, "GET", "/devices?color=blue", "").json();
        assert_eq!(found["devices"].as_array().unwrap().len(), 1);
        let gone = http.call(&device, "DELETE", &path, "");
        check(&gone, 200, &format!(r#"{{"uuid":"{}"}}"#, device.uuid));
        let refused = http.call(&device, "GET", "/v2/whoami", "").status;
        assert_eq!(refused, pick(401, 403));
    }
}

#[test]
fn messages() {
    for dialect in [Dialect::Freshblu, Dialect::Meshblu] {
        let is_freshblu = dialect == Dialect::Freshblu;
        let http = Http::new(&world(dialect));
        let device = http.register("{}");
        let sent = if is_freshblu {
            (200, r#"{"sent":true}"#)
        } else {
            (204, "")
        };
        let body = format!(r#"{{"devices":["{}"],"payload":1}}"#, device.uuid);
        for (path, body) in [("/messages", &*body), ("/broadcasts", r#"{"payload":1}"#)] {
            check(&http.call(&device, "POST", path, body), sent.0, sent.1);
        }
        http.call(&device, "POST", "/messages", "{}")
            .expect_error(422);
        http.call(&device, "POST", "/messages", "{")
            .expect_error(400);
    }
}

#[test]
fn subscriptions() {
    for dialect in [Dialect::Freshblu, Dialect::Meshblu] {
        let http = Http::new(&world(dialect));
        let (a, b) = (http.register("{}"), http.register("{}"));
        let path = format!("/devices/{}/subscriptions", a.uuid);
        let body = format!(r#"{{"emitterUuid":"{}","type":"broadcast.sent"}}"#, b.uuid);
        let made = http.call(&a, "POST", &path, &body);
        assert_eq!(made.status, 200);
        let made = made.json();
        assert_eq!(made["subscriptionType"], "broadcast-sent");
        assert_eq!(made["type"], "broadcast.sent");
        assert_eq!(made["emitterUuid"], *b.uuid);
        assert_eq!(made["subscriberUuid"], *a.uuid);
        let one = format!("/v2{path}/{}/message.received", b.uuid);
        check(&http.call(&a, "POST", &one, ""), 204, "");
        for list in [path.clone(), format!("/v2{path}")] {
            let all = http.call(&a, "GET", &list, "").json();
            assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
        }
        let gone = format!("{path}/{}/broadcast-sent", b.uuid);
        check(
            &http.call(&a, "DELETE", &gone, ""),
            200,
            r#"{"deleted":true}"#,
        );
        check(
            &http.call(&a, "DELETE", &format!("/v2{path}"), "{}"),
            204,
            "",
        );
        check(&http.call(&a, "GET", &path, ""), 200, "[]");
        let answer = http.call(&a, "DELETE", &format!("{path}/{}/nonsense", b.uuid), "");
        let why = "validation error: invalid subscription type";
        assert_eq!(answer.expect_error(422), why);
    }
}

#[test]
fn tokens() {
    for dialect in [Dialect::Freshblu, Dialect::Meshblu] {
        let is_freshblu = dialect == Dialect::Freshblu;
        let http = Http::new(&world(dialect));
        let device = http.register("{}");
        let path = format!("/devices/{}", device.uuid);
        let options = r#"{"tag":"session","expiresOn":1999999999}"#;
        let made = http.call(&device, "POST", &format!("{path}/tokens"), options);
        assert_eq!(made.status, if is_freshblu { 200 } else { 201 });
        let made = made.json();
        assert_eq!(made["uuid"], *device.uuid);
        match is_freshblu {
            true => assert!(made["createdAt"].as_str().unwrap().ends_with('Z')),
            false => assert_eq!(made["tag"], "session"),
        }
        let found = http.call(&device, "POST", "/search/tokens", r#"{"tag":"session"}"#);
        assert_eq!(found.json().as_array().unwrap().len(), 1);
        let one = format!("{path}/tokens/{}", made["token"].as_str().unwrap());
        let gone = http.call(&device, "DELETE", &one, "");
        let again = http.call(&device, "DELETE", &one, "");
        if is_freshblu {
            check(&gone, 200, r#"{"revoked":true}"#);
            assert_eq!(again.expect_error(404), "device not found");
        } else {
            check(&gone, 204, "");
            check(&again, 204, "");
        }
        let by_tag = format!("{path}/tokens?tag=session");
        check(&http.call(&device, "DELETE", &by_tag, ""), 204, "");
        let answer = http.call(&device, "DELETE", &format!("{path}/tokens?color=red"), "");
        answer.expect_error(422);
        let reset = http.call(&device, "POST", &format!("{path}/token"), "");
        assert_eq!(reset.status, 200);
        assert_ne!(reset.json()["token"], *device.token);
        assert!(http.call(&device, "GET", "/whoami", "").status >= 401);
    }
}

#[test]
fn claiming_and_the_server_itself() {
    for dialect in [Dialect::Freshblu, Dialect::Meshblu] {
        let is_freshblu = dialect == Dialect::Freshblu;
        let http = Http::new(&world(dialect));
        let (a, b) = (http.register("{}"), http.register("{}"));
        let claimed = http.call(&a, "POST", &format!("/claimdevice/{}", b.uuid), "");
        if is_freshblu {
            assert_eq!(claimed.json()["owner"], *a.uuid);
            assert_eq!(claimed.json()["uuid"], *b.uuid);
        } else {
            check(&claimed, 204, "");
        }
        let status = http.request("GET", "/status", "", "").json();
        match is_freshblu {
            true => assert_eq!(
                status,
                serde_json::json!({"meshblu": true, "version": "2.0.0", "online": true,
                    "connections": 0, "engine": "meshring"})
            ),
            false => assert_eq!(status, serde_json::json!({"meshblu": "online"})),
        }
        for path in ["/healthcheck", "/ping", "/proofoflife"] {
            let health = http.request("GET", path, "", "").json();
            assert_eq!(health, serde_json::json!({"healthy": true, "online": true}));
        }
        let key = format!("/devices/{}/publickey", b.uuid);
        let key = http.request("GET", &key, "", "").json();
        assert!(key["publicKey"].is_null() && key["uuid"] == *b.uuid);
        check(
            &http.request("GET", "/publickey", "", ""),
            200,
            r#"{"publicKey":null}"#,
        );
    }
}
