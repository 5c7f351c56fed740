//! Devices: registered, seen, changed, found, claimed, and no more.

use super::*;
use serde_json::json;

#[test]
fn a_device_is_registered_seen_changed_and_unregistered() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let answer = mesh.ask_unknown("POST", "/devices", Some(json!({"type": "sensor", "n": 1})));
        assert_eq!(answer.status, 200);
        let view = answer.json();
        assert_eq!(
            (&view["type"], &view["n"], &view["online"]),
            (&json!("sensor"), &json!(1), &json!(false))
        );
        assert_eq!(view["token"].as_str().unwrap().len(), 40);
        assert_eq!(view["meshblu"]["version"], "2.0.0");
        let device = Device {
            uuid: view["uuid"].as_str().unwrap().into(),
            token: view["token"].as_str().unwrap().into(),
        };
        let path = format!("/devices/{}", device.uuid);
        let seen = mesh.ask(&device, "GET", &path, None).json();
        assert_eq!(seen["n"], 1);
        assert!(seen.get("token").is_none(), "{seen}");
        assert_eq!(mesh.ask(&device, "GET", "/whoami", None).json(), seen);
        let socket = mesh.socket(&device);
        assert_eq!(mesh.ask(&device, "GET", &path, None).json()["online"], true);
        let changed = mesh.ask(&device, "PUT", &path, Some(json!({"color": "blue"})));
        assert_eq!(
            (changed.status, &changed.json()["color"]),
            (200, &json!("blue"))
        );
        assert_eq!(socket.next().unwrap()["event"], "config");
        assert_eq!(mesh.ask(&device, "DELETE", &path, None).status, 200);
        assert_eq!(
            socket.next().unwrap(),
            json!({"event": "unregistered", "uuid": device.uuid})
        );
        assert_eq!(socket.next().unwrap()["event"], "closed");
        assert_eq!(mesh.ask(&device, "GET", "/whoami", None).status, 401);
    });
}

#[test]
fn strangers_do_not_see_or_change_a_closed_device() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (closed, stranger) = (mesh.register_closed(&[]), mesh.register(json!({})));
        let path = format!("/devices/{}", closed.uuid);
        assert_eq!(mesh.ask(&stranger, "GET", &path, None).status, 404);
        assert_eq!(
            mesh.ask(&stranger, "PUT", &path, Some(json!({"x": 1})))
                .status,
            403
        );
        assert_eq!(mesh.ask(&stranger, "DELETE", &path, None).status, 403);
        assert_eq!(mesh.ask(&closed, "GET", &path, None).status, 200);
    });
}

#[test]
fn decision_17_a_search_finds_what_is_there_on_all_shards() {
    for shards in [1, 2, 5] {
        let w = World::with(shards, |config| config.mesh.registrations_max = 10_000);
        let mesh = Mesh::new(&w);
        let me = mesh.register(json!({"type": "me"}));
        for n in 0..2_000 {
            mesh.register(json!({"type": "many", "n": n}));
        }
        mesh.register_closed(&[]);
        let search = |query| mesh.ask(&me, "POST", "/devices/search", Some(query));
        let found = search(json!({"type": "many", "n": 1_999})).json();
        assert_eq!(found.as_array().unwrap().len(), 1);
        let found = search(json!({"type": "many"})).json();
        assert_eq!(found.as_array().unwrap().len(), 2_000);
        let found = search(json!({"online": true})).json();
        assert_eq!(found, json!([]));
    }
}

#[test]
fn devices_survive_a_crash() {
    for shards in [1, 2, 5] {
        let w = World::durable(shards);
        let mesh = Mesh::new(&w);
        let (a, b) = (mesh.register(json!({"n": 1})), mesh.register(json!({})));
        let path = format!("/devices/{}/subscriptions", b.uuid);
        let body = json!({
            "emitterUuid": a.uuid, "subscriberUuid": b.uuid, "type": "message.sent",
        });
        assert_eq!(mesh.ask(&b, "POST", &path, Some(body)).status, 200);
        let path = format!("/devices/{}/tokens", a.uuid);
        let token = mesh
            .ask(&a, "POST", &path, Some(json!({"tag": "t"})))
            .json();
        let again = Device {
            token: token["token"].as_str().unwrap().into(),
            ..a.clone()
        };
        w.crash();
        let mesh = Mesh::new(&w);
        assert_eq!(mesh.ask(&a, "GET", "/whoami", None).json()["n"], 1);
        assert_eq!(mesh.ask(&again, "GET", "/whoami", None).status, 200);
        let socket = mesh.socket(&b);
        mesh.ask(
            &a,
            "POST",
            "/messages",
            Some(json!({"devices": [], "payload": 1})),
        );
        assert_eq!(socket.all().len(), 1);
    }
}
