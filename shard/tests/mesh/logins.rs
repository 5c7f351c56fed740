//! Logins that fail, from one address and over every transport: after so many only what costs
//! little is looked at.

use super::*;
use serde_json::{Value, json};

/// Logins that may fail here.
const FAILURES: u32 = 5;

/// Runs a test with one shard, which counts all logins, and with three devices whose tokens only a
/// slow hash knows.
fn with_imported(test: impl Fn(&World, &Mesh<'_>, &[Device])) {
    let w = World::durable_with(1, |config| config.mesh.failed_logins_max = FAILURES);
    let slow = || meshblu::StoredSecret::Bcrypt("$2b$10$secret".into());
    let old: Vec<Device> = (1..=3)
        .map(|n| decisions::imported(&w, n, slow()))
        .collect();
    w.crash();
    test(&w, &Mesh::new(&w), &old);
}

fn with_token(device: &Device, token: &str) -> Device {
    Device {
        token: token.into(),
        ..device.clone()
    }
}

/// Uses up what may fail.
fn fail(mesh: &Mesh<'_>, device: &Device) {
    let wrong = with_token(device, "wrong");
    for _ in 0..FAILURES {
        assert_eq!(mesh.ask(&wrong, "GET", "/whoami", None).status, 401);
    }
}

/// What CONNECT is answered.
fn connect(w: &World, version: Version, device: &Device) -> ReasonCode {
    let client = w.client(version, "a client");
    client.open();
    let packet = ConnectPacket::new(version, "a client")
        .user_name(&device.uuid)
        .password(device.token.as_bytes());
    client.send_raw(&packet.build());
    let connack = client.connack();
    client.cut();
    connack.reason
}

#[test]
fn after_too_many_failures_nothing_slow_is_done_on_any_transport() {
    with_imported(|w, mesh, old| {
        fail(mesh, &old[0]);
        // Another device, and the right token: it would have to be compared.
        let answer = mesh.ask(&old[1], "GET", "/whoami", None);
        assert_eq!(answer.status, 429, "{}", answer.head);
        assert!(answer.head.contains("Retry-After: "), "{}", answer.head);
        assert_eq!(
            connect(w, V5, &old[1]),
            ReasonCode::ConnectionRateExceeded,
            "0x9F"
        );
        assert_eq!(connect(w, V311, &old[1]), ReasonCode::ServerUnavailable);
        let socket = mesh.open_socket();
        socket.send(json!({"event": "identity", "uuid": old[1].uuid, "token": old[1].token}));
        assert_eq!(
            socket.next().unwrap(),
            json!({"event": "notReady", "reason": "rate limit exceeded"})
        );
        // When the window is over, all is as before.
        w.advance(61);
        assert_eq!(mesh.ask(&old[1], "GET", "/whoami", None).status, 200);
        assert_eq!(connect(w, V5, &old[1]), ReasonCode::Success);
    });
}

#[test]
fn wrong_tokens_of_devices_that_are_none_count_for_themselves() {
    with_imported(|_, mesh, old| {
        let nobody = Device {
            uuid: "00000000-0000-4000-8000-000000000001".into(),
            token: "x".into(),
        };
        fail(mesh, &nobody);
        // Nobody learns whether that was right.
        assert_eq!(mesh.ask(&nobody, "GET", "/whoami", None).status, 429);
        // Who asks for devices that are not there does not lock out those behind the same address.
        assert_eq!(mesh.ask(&old[0], "GET", "/whoami", None).status, 200);
    });
}

#[test]
fn tokens_that_cost_little_are_served_whoever_else_fails_there() {
    with_imported(|w, mesh, old| {
        let fresh = mesh.register(json!({}));
        fail(mesh, &old[0]);
        assert_eq!(mesh.ask(&fresh, "GET", "/whoami", None).status, 200);
        assert_eq!(connect(w, V5, &fresh), ReasonCode::Success);
        assert_eq!(mesh.socket(&fresh).all(), Vec::<Value>::new());
    });
}

#[test]
fn logins_that_are_right_do_not_count() {
    with_imported(|_, mesh, old| {
        for _ in 0..3 * FAILURES {
            assert_eq!(mesh.ask(&old[0], "GET", "/whoami", None).status, 200);
        }
    });
}

#[test]
fn what_is_under_way_counts_before_it_has_failed() {
    with_imported(|w, mesh, old| {
        w.hold_computes(true);
        let attempts: Vec<Client> = (0..3 * FAILURES)
            .map(|n| {
                let client = w.client(V5, &format!("{n}"));
                client.open();
                let device = &old[n as usize % 3];
                let packet = ConnectPacket::new(V5, &device.uuid)
                    .user_name(&device.uuid)
                    .password(b"wrong");
                client.send_raw(&packet.build());
                client
            })
            .collect();
        w.hold_computes(false);
        assert_eq!(mesh.ask_unknown("GET", "/status", None).status, 200);
        let mut reasons = std::collections::BTreeMap::new();
        for client in attempts {
            let reason = format!("{:?}", client.connack().reason);
            *reasons.entry(reason).or_insert(0) += 1;
        }
        // The rest were not looked at, since the others might come to be all that may fail.
        assert_eq!(reasons["BadUserNameOrPassword"], FAILURES);
        assert_eq!(reasons["ServerBusy"], 2 * FAILURES);
        assert_eq!(mesh.ask(&old[0], "GET", "/whoami", None).status, 429);
    });
}

#[test]
fn who_revokes_takes_no_more_places_than_who_logs_in() {
    with_imported(|w, mesh, old| {
        let anybody = mesh.register(json!({}));
        w.hold_computes(true);
        let path = format!("/devices/{}/tokens/wrong", old[0].uuid);
        let request = Request {
            method: "DELETE",
            path: &path,
            by: Some(&anybody),
            acting_as: None,
            body: None,
        };
        let revoking: Vec<Client> = (0..9)
            .map(|n| {
                let client = w.client(V5, &format!("{n}"));
                client.open_http();
                client.send_raw(&request.bytes());
                client
            })
            .collect();
        let answered = |client: &Client| take_answer(&mut client.take_raw(), false);
        assert!(
            revoking[..8]
                .iter()
                .all(|client| answered(client).is_none())
        );
        assert_eq!(answered(&revoking[8]).unwrap().status, 503);
        w.hold_computes(false);
        assert_eq!(mesh.ask_unknown("GET", "/status", None).status, 200);
        assert!(
            revoking[..8]
                .iter()
                .all(|client| answered(client).is_some())
        );
        assert_eq!(mesh.ask(&old[0], "GET", "/whoami", None).status, 200);
    });
}

#[test]
fn who_is_refused_takes_no_place_of_the_device() {
    with_imported(|w, mesh, old| {
        fail(mesh, &old[1]);
        w.hold_computes(true);
        let (wrong, path) = (with_token(&old[0], "wrong"), "/whoami");
        let ask = |device: &Device| {
            let client = w.client(V5, "one of many");
            client.open_http();
            let (by, acting_as, body) = (Some(device), None, None);
            let method = "GET";
            let request = Request {
                method,
                path,
                by,
                acting_as,
                body,
            };
            client.send_raw(&request.bytes());
            client
        };
        // They are looked up alone, and the ninth is no other than the first; but not without end.
        let asking: Vec<Client> = (0..64).map(|_| ask(&wrong)).collect();
        let answered = |client: &Client| take_answer(&mut client.take_raw(), false);
        assert!(asking.iter().all(|client| answered(client).is_none()));
        assert_eq!(answered(&ask(&wrong)).unwrap().status, 429);
        w.hold_computes(false);
        assert_eq!(mesh.ask_unknown("GET", "/status", None).status, 200);
        for client in &asking {
            assert_eq!(answered(client).unwrap().status, 429);
        }
    });
}

#[test]
fn without_a_limit_as_many_may_fail_as_like() {
    let w = World::with(2, |config| config.mesh.failed_logins_max = 0);
    let mesh = Mesh::new(&w);
    let device = with_token(&mesh.register(json!({})), "wrong");
    for _ in 0..1_000 {
        assert_eq!(mesh.ask(&device, "GET", "/whoami", None).status, 401);
    }
}
