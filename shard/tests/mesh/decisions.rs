//! The decisions where the originals are wrong, a test each. Those on fan-out, the envelope,
//! delivery, MQTT and searches stand with their subject.

use super::*;
use serde_json::{Value, json};

/// With a configuration of the Meshblu API.
fn each_with(change: impl Fn(&mut shard::MeshConfig), test: impl Fn(&World)) {
    for shards in [1, 3] {
        println!("with {shards} shards");
        test(&World::with(shards, |config| change(&mut config.mesh)));
    }
}

#[test]
fn decision_1_every_error_is_json() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let device = mesh.register(json!({}));
        let (whoami, me) = ("/whoami", &device);
        let none = "00000000-0000-0000-0000-000000000000";
        for (answer, status) in [
            (mesh.ask_unknown("GET", whoami, None), 401),
            (mesh.ask(me, "GET", "/nowhere", None), 404),
            (mesh.ask(me, "PATCH", "/messages", None), 405),
            (mesh.ask(me, "GET", &format!("/devices/{none}"), None), 404),
            (
                mesh.ask(me, "POST", "/messages", Some(json!({"payload": 1}))),
                422,
            ),
            (mesh.ask(me, "POST", "/messages", Some(json!([1]))), 422),
            (
                mesh.ask(me, "POST", "/devices/search", Some(json!([]))),
                422,
            ),
        ] {
            assert_eq!(answer.status, status, "{}", answer.body.escape_ascii());
            assert!(answer.json()["error"].is_string(), "{}", answer.json());
        }
    });
}

#[test]
fn decision_2_no_answer_carries_a_hash_of_a_token() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let device = mesh.register(json!({"token": "chosen", "x": 1}));
        let path = format!("/devices/{}/tokens", device.uuid);
        mesh.ask(&device, "POST", &path, Some(json!({"tag": "t"})));
        let own = format!("/devices/{}", device.uuid);
        for (method, path, body) in [
            ("GET", "/whoami", None),
            ("GET", &*own, None),
            ("PUT", &*own, Some(json!({"y": 2}))),
            ("GET", "/mydevices", None),
            ("POST", "/devices/search", Some(json!({}))),
            ("POST", "/search/tokens", Some(json!({}))),
        ] {
            let answer = mesh.ask(&device, method, path, body);
            let text = String::from_utf8(answer.body).unwrap();
            assert_eq!(answer.status, 200, "{path}: {text}");
            assert!(
                !text.contains("\"token\"") && !text.contains("secret"),
                "{path}: {text}"
            );
        }
    });
}

#[test]
fn decision_6_closed_registration_is_closed_on_every_transport() {
    each_with(
        |mesh| mesh.is_registration_open = true,
        |w| {
            let mesh = Mesh::new(w);
            let device = mesh.register(json!({}));
            let socket = mesh.socket(&device);
            socket.send(json!({"event": "register", "type": "child"}));
            assert_eq!(socket.next().unwrap()["event"], "registered");
        },
    );
    each_with(
        |mesh| mesh.is_registration_open = false,
        |w| {
            let mesh = Mesh::new(w);
            assert_eq!(
                mesh.ask_unknown("POST", "/devices", Some(json!({}))).status,
                403
            );
            let nobody = Device {
                uuid: "9bf49a6a-0755-4953-811f-ce125f2683d5".into(),
                token: "garbage".into(),
            };
            assert_eq!(
                mesh.ask(&nobody, "POST", "/devices", Some(json!({})))
                    .status,
                401
            );
            let socket = mesh.open_socket();
            socket.send(json!({"event": "register", "type": "child"}));
            assert_eq!(socket.next().unwrap()["event"], "error");
        },
    );
}

#[test]
fn decision_7_claiming_needs_leave_to_configure() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (me, other) = (mesh.register(json!({})), mesh.register(json!({})));
        let closed = mesh.register_closed(&[]);
        let claim = |by: &Device, of: &Device| {
            mesh.ask(by, "POST", &format!("/claimdevice/{}", of.uuid), None)
        };
        assert_eq!(claim(&me, &closed).status, 403);
        let open = mesh.register(json!({"x": 1}));
        let claimed = claim(&me, &open);
        assert_eq!(
            (claimed.status, &claimed.json()["owner"]),
            (200, &json!(me.uuid))
        );
        assert_eq!(claimed.json()["x"], 1, "the whole view, for strict clients");
        assert_eq!(claim(&other, &open).status, 403, "it has an owner");
        let mine = mesh.ask(&me, "GET", "/mydevices", None).json();
        let mine: Vec<&Value> = mine
            .as_array()
            .unwrap()
            .iter()
            .map(|d| &d["uuid"])
            .collect();
        assert_eq!(mine, [&json!(me.uuid), &json!(open.uuid)]);
        let path = format!("/devices/{}", open.uuid);
        assert_eq!(mesh.ask(&other, "GET", &path, None).status, 404);
    });
}

#[test]
fn decision_8_a_connection_is_heard_before_it_is_told_ready() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        for n in 0..40 {
            let socket = mesh.open_socket();
            socket.send(json!({"event": "identity", "uuid": b.uuid, "token": b.token}));
            let body = json!({"devices": [b.uuid], "payload": n});
            assert_eq!(mesh.ask(&a, "POST", "/messages", Some(body)).status, 200);
            let heard = socket.all();
            assert_eq!((heard.len(), &heard[0]["event"]), (2, &json!("ready")));
            assert_eq!(heard[1]["payload"], n);
            socket.client.cut();
        }
    });
}

#[test]
fn decision_9_a_slow_consumer_is_counted_and_closed_and_alone() {
    for shards in [1, 3] {
        let w = World::with(shards, |config| {
            config.limits.output_bytes_max = 64 * 1_024;
            config.mesh.rate_limit = u32::MAX;
        });
        let mesh = Mesh::new(&w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let (slow, quick) = (mesh.socket(&b), mesh.socket(&b));
        slow.client.stall();
        let send = |payload: String| {
            let body = json!({"devices": [b.uuid], "payload": payload});
            assert_eq!(mesh.ask(&a, "POST", "/messages", Some(body)).status, 200);
        };
        for _ in 0..100 {
            send("x".repeat(1_000));
        }
        assert_eq!(quick.all().len(), 100);
        w.advance(25);
        send("last".into());
        assert_eq!(quick.all().len(), 1);
        slow.client.unstall();
        let heard = slow.all();
        assert!(heard.len() > 50 && heard.len() < 100, "{}", heard.len());
        assert_eq!(heard.last().unwrap()["event"], "closed");
    }
}

#[test]
fn decision_10_updates_do_not_get_lost() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let path = format!("/devices/{}", b.uuid);
        for n in 0..24 {
            let by = if n % 2 == 0 { &a } else { &b };
            let body = json!({format!("key{n}"): n});
            assert_eq!(mesh.ask(by, "PUT", &path, Some(body)).status, 200);
        }
        let view = mesh.ask(&b, "GET", "/whoami", None).json();
        assert!((0..24).all(|n| view[format!("key{n}")] == n), "{view}");
    });
}

#[test]
fn decision_11_a_close_is_answered_and_idle_sockets_are_pinged_and_reaped() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let device = mesh.register(json!({}));
        let socket = mesh.socket(&device);
        let mut close = Vec::new();
        http::write_client_frame(&mut close, http::Opcode::Close, &[3, 232], [0; 4]);
        socket.client.send_raw(&close);
        assert_eq!(socket.all(), [json!({"event": "closed", "code": 1000})]);
        assert!(socket.client.is_closed());
        let idle = mesh.socket(&device);
        w.advance(31);
        assert!(!idle.client.take_raw().is_empty(), "a ping");
        let view = || mesh.ask(&device, "GET", "/whoami", None).json();
        assert_eq!(view()["online"], true);
        let mut pong = Vec::new();
        http::write_client_frame(&mut pong, http::Opcode::Pong, b"", [0; 4]);
        for _ in 0..10 {
            idle.client.send_raw(&pong);
            w.advance(30);
        }
        assert!(!idle.client.is_closed(), "a pong is a sign of life");
        w.advance(120);
        assert!(idle.client.is_closed());
        assert_eq!(view()["online"], false);
    });
}

#[test]
fn decision_13_meshblu_properties_change_but_for_what_is_the_servers() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let device = mesh.register(json!({}));
        let path = format!("/devices/{}", device.uuid);
        let before = mesh.ask(&device, "GET", "/whoami", None).json();
        let body = json!({"uuid": "x", "token": "y", "meshblu": {
            "createdAt": "1970-01-01T00:00:00Z", "hash": "h", "publicKey": "k",
            "whitelists": {"discover": {"view": []}},
        }});
        assert_eq!(mesh.ask(&device, "PUT", &path, Some(body)).status, 200);
        let after = mesh.ask(&device, "GET", "/whoami", None).json();
        assert_eq!(after["uuid"], before["uuid"]);
        assert_eq!(
            after["meshblu"]["createdAt"],
            before["meshblu"]["createdAt"]
        );
        assert_ne!(after["meshblu"]["hash"], "h");
        assert_eq!(after["meshblu"]["publicKey"], "k");
        assert_eq!(
            after["meshblu"]["whitelists"]["discover"]["view"],
            json!([])
        );
        assert_eq!(
            mesh.ask(&device, "GET", "/whoami", None).status,
            200,
            "its token is the same"
        );
        let key = mesh
            .ask_unknown("GET", &format!("{path}/publickey"), None)
            .json();
        assert_eq!(key["publicKey"], "k");
    });
}

#[test]
fn decision_14_all_spellings_of_subscription_types_are_taken() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let path = format!("/devices/{}/subscriptions", b.uuid);
        for spelling in ["broadcast-sent", "broadcast.sent", "BroadcastSent"] {
            let body = json!({
                "emitterUuid": a.uuid, "subscriberUuid": b.uuid, "type": spelling,
            });
            let answer = mesh.ask(&b, "POST", &path, Some(body));
            assert_eq!(answer.status, 200, "{spelling}");
            assert_eq!(answer.json()["subscriptionType"], "broadcast-sent");
            assert!(answer.json()["type"].is_string());
            let one = format!("{path}/{}/{spelling}", a.uuid);
            assert_eq!(mesh.ask(&b, "DELETE", &one, None).status, 200, "{spelling}");
            assert_eq!(mesh.ask(&b, "GET", &path, None).json(), json!([]));
            let socket = mesh.socket(&b);
            socket.send(json!({"event": "subscribe", "emitterUuid": a.uuid, "type": spelling}));
            assert_eq!(socket.all(), [] as [Value; 0]);
            assert_eq!(
                mesh.ask(&b, "GET", &path, None)
                    .json()
                    .as_array()
                    .unwrap()
                    .len(),
                1
            );
            socket.send(json!({"event": "unsubscribe", "emitterUuid": a.uuid, "type": "what"}));
            assert_eq!(socket.next().unwrap()["event"], "error");
            socket.send(json!({"event": "unsubscribe", "emitterUuid": a.uuid, "type": spelling}));
            assert_eq!(mesh.ask(&b, "GET", &path, None).json(), json!([]));
            socket.client.cut();
        }
    });
}

#[test]
fn decision_15_version_2_without_whitelists_is_closed_and_silence_as_configured() {
    let is_open = |mesh: &Mesh<'_>, body: Value| {
        let (device, stranger) = (mesh.register(body), mesh.register(json!({})));
        let path = format!("/devices/{}", device.uuid);
        mesh.ask(&stranger, "GET", &path, None).status == 200
    };
    each_with(
        |mesh| mesh.is_private_by_default = false,
        |w| {
            let mesh = Mesh::new(w);
            assert!(is_open(&mesh, json!({})));
            assert!(!is_open(&mesh, json!({"meshblu": {"version": "2.0.0"}})));
        },
    );
    each_with(
        |mesh| mesh.is_private_by_default = true,
        |w| assert!(!is_open(&Mesh::new(w), json!({}))),
    );
}

#[test]
fn decision_16_the_pepper_is_really_used() {
    let id = meshblu::Uuid([7; 16]);
    let hash = meshblu::keyed_hash(&[1; 32], id, "secret");
    for (pepper, status) in [(1, 200), (2, 401)] {
        let w = World::durable_with(2, |config| config.mesh.pepper = [pepper; 32]);
        let device = imported(&w, 7, meshblu::StoredSecret::Keyed(hash));
        w.crash();
        let answer = Mesh::new(&w).ask(&device, "GET", "/whoami", None);
        assert_eq!(answer.status, status, "pepper {pepper}");
    }
}

#[test]
fn decision_18_tokens_are_made_listed_revoked_and_reset() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let device = mesh.register(json!({}));
        let path = format!("/devices/{}/tokens", device.uuid);
        let made = mesh
            .ask(&device, "POST", &path, Some(json!({"tag": "t"})))
            .json();
        let token = made["token"].as_str().unwrap();
        assert_eq!(token.len(), 40);
        let second = Device {
            token: token.into(),
            ..device.clone()
        };
        let (of_first, of_second) = (mesh.socket(&device), mesh.socket(&second));
        let listed = mesh.ask(&device, "POST", "/search/tokens", Some(json!({"tag": "t"})));
        assert_eq!(listed.json().as_array().unwrap().len(), 1);
        let one = format!("{path}/{token}");
        assert_eq!(mesh.ask(&device, "DELETE", &one, None).status, 200);
        assert_eq!(mesh.ask(&second, "GET", "/whoami", None).status, 401);
        assert!(of_second.client.is_closed() && !of_first.client.is_closed());
        assert_eq!(mesh.ask(&device, "DELETE", &one, None).status, 404);
        // One that expires.
        let now_s = 1_700_000_000_u64;
        let body = json!({"expiresOn": now_s + 60});
        let made = mesh.ask(&device, "POST", &path, Some(body)).json();
        let brief = Device {
            token: made["token"].as_str().unwrap().into(),
            ..device.clone()
        };
        assert_eq!(mesh.ask(&brief, "GET", "/whoami", None).status, 200);
        w.advance(61);
        assert_eq!(mesh.ask(&brief, "GET", "/whoami", None).status, 401);
        let bad = mesh.ask(&device, "POST", &path, Some(json!({"expiresOn": "soon"})));
        assert_eq!(bad.status, 422, "no token that never expires instead");
        // A reset leaves one.
        let reset = format!("/devices/{}/token", device.uuid);
        let made = mesh.ask(&device, "POST", &reset, None).json();
        assert_eq!(mesh.ask(&device, "GET", "/whoami", None).status, 401);
        let fresh = Device {
            token: made["token"].as_str().unwrap().into(),
            ..device.clone()
        };
        assert_eq!(mesh.ask(&fresh, "GET", "/whoami", None).status, 200);
    });
}

/// A device whose record and token stand in its owner's file at the next start.
pub fn imported(w: &World, number: u8, secret: meshblu::StoredSecret) -> Device {
    let id = meshblu::Uuid([number; 16]);
    let rules = meshblu::Registration::default();
    let now = meshblu::Timestamp(1);
    let device = meshblu::Device::register(b"{}", id, now, &rules).unwrap();
    let token = meshblu::Token {
        secret,
        created: now,
        expires_s: None,
        tag: None,
        id: 1,
        is_root: true,
    };
    let changes = vec![
        shard::Change::PutDevice {
            device: id,
            record: device.to_record().into(),
        },
        shard::Change::PutToken {
            device: id,
            token: 1,
            record: token.to_record().into(),
        },
    ];
    w.import(id, changes);
    Device {
        uuid: id.to_string(),
        token: "secret".into(),
    }
}

#[test]
fn decision_18_generated_tokens_do_not_wait_for_imported_ones() {
    for shards in [1, 3] {
        let w = World::durable_with(shards, |config| config.limits.computes_max = 2);
        // Hashes that it takes a helper thread to compare.
        let slow = || meshblu::StoredSecret::Bcrypt("$2b$10$secret".into());
        let old: Vec<Device> = (1..=9).map(|n| imported(&w, n, slow())).collect();
        w.crash();
        let mesh = Mesh::new(&w);
        let fresh = mesh.register(json!({}));
        w.hold_computes(true);
        let connect = |device: &Device| {
            let client = w.client(V5, &device.uuid);
            client.open();
            let packet = ConnectPacket::new(V5, &device.uuid)
                .user_name(&device.uuid)
                .password(device.token.as_bytes());
            client.send_raw(&packet.build());
            client
        };
        let waiting: Vec<Client> = old.iter().map(connect).collect();
        // Beyond what may wait, they are told at once that we are busy.
        let answered = waiting.iter().filter(|client| client.is_closed()).count();
        assert!(answered >= 3, "{answered}");
        assert_eq!(connect(&fresh).connack().reason, ReasonCode::Success);
        assert_eq!(mesh.ask(&fresh, "GET", "/whoami", None).status, 200);
        // Whoever has waited for too long is told, too.
        w.advance(61);
        for client in &waiting {
            assert_eq!(client.connack().reason, ReasonCode::ServerBusy);
        }
        w.hold_computes(false);
        // Asks every shard something, and so lets their helpers go on.
        assert_eq!(mesh.ask_unknown("GET", "/status", None).status, 200);
        for device in &old {
            assert_eq!(connect(device).connack().reason, ReasonCode::Success);
        }
    }
}
