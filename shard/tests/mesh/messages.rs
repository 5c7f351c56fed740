//! Who hears of what: the table of FreshBlu's fan-out, mended, over every transport.

use super::*;
use serde_json::{Value, json};

const KINDS: [&str; 8] = [
    "broadcast.sent",
    "broadcast.received",
    "message.sent",
    "message.received",
    "configure.sent",
    "configure.received",
    "unregister.sent",
    "unregister.received",
];

/// A device that hears of another one by one kind of subscription each, in the order of `KINDS`.
fn listeners(mesh: &Mesh<'_>, emitter: &Device) -> Vec<(Device, Socket)> {
    KINDS
        .iter()
        .map(|kind| {
            let device = mesh.register(json!({"type": kind}));
            let path = format!("/devices/{}/subscriptions", device.uuid);
            let body = json!({
                "emitterUuid": emitter.uuid, "subscriberUuid": device.uuid, "type": kind,
            });
            let answer = mesh.ask(&device, "POST", &path, Some(body));
            assert_eq!(answer.status, 200, "{}", answer.body.escape_ascii());
            let socket = mesh.socket(&device);
            (device, socket)
        })
        .collect()
}

/// How many events each of the listeners has heard since last time.
fn heard(listeners: &[(Device, Socket)]) -> Vec<usize> {
    listeners
        .iter()
        .map(|(_, socket)| socket.all().len())
        .collect()
}

/// The ways to send a message as a device.
#[derive(Clone, Copy, Debug)]
enum By {
    Http,
    Socket,
    Mqtt,
}

fn send(mesh: &Mesh<'_>, by: By, from: &Device, body: Value) {
    match by {
        By::Http => {
            let answer = mesh.ask(from, "POST", "/messages", Some(body));
            assert_eq!(answer.status, 200, "{}", answer.body.escape_ascii());
            assert_eq!(answer.json(), json!({"sent": true}));
        }
        By::Socket => {
            let mut body = body;
            body["event"] = "message".into();
            let socket = mesh.socket(from);
            socket.send(body);
            socket.client.cut();
        }
        By::Mqtt => {
            let client = mesh.mqtt(from);
            let topic = format!("{}/message", from.uuid);
            let reason = client.publish(&topic, &body.to_string(), 1);
            assert_eq!(reason, ReasonCode::Success);
            client.disconnect();
        }
    }
}

/// Decision 4: fan-out has one meaning on every transport, and a subscriber gets one copy for each
/// subscription that matches.
#[test]
fn decision_4_fan_out_has_one_meaning_on_every_transport() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        for by in [By::Http, By::Socket, By::Mqtt] {
            let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
            let of_b = listeners(&mesh, &b);
            send(&mesh, by, &a, json!({"devices": [b.uuid], "payload": 1}));
            assert_eq!(heard(&of_b), [0, 0, 0, 1, 0, 0, 0, 0], "{by:?} a to b");
            send(&mesh, by, &b, json!({"devices": [a.uuid], "payload": 1}));
            assert_eq!(heard(&of_b), [0, 0, 1, 0, 0, 0, 0, 0], "{by:?} b to a");
            let both = json!({"devices": [a.uuid, b.uuid], "payload": 1});
            send(&mesh, by, &b, both);
            assert_eq!(heard(&of_b), [0, 0, 1, 1, 0, 0, 0, 0], "{by:?} b to both");
            send(&mesh, by, &b, json!({"devices": ["*"], "payload": 1}));
            assert_eq!(heard(&of_b), [1, 0, 1, 0, 0, 0, 0, 0], "{by:?} b to all");
            // b listens to a.
            let path = format!("/devices/{}/subscriptions", b.uuid);
            let body = json!({
                "emitterUuid": a.uuid, "subscriberUuid": b.uuid, "type": "broadcast-sent",
            });
            assert_eq!(mesh.ask(&b, "POST", &path, Some(body)).status, 200);
            send(&mesh, by, &a, json!({"devices": ["*"], "payload": 1}));
            assert_eq!(heard(&of_b), [0, 1, 0, 0, 0, 0, 0, 0], "{by:?} a to all");
            let path = format!("/devices/{}", b.uuid);
            assert_eq!(
                mesh.ask(&b, "PUT", &path, Some(json!({"x": 1}))).status,
                200
            );
            assert_eq!(heard(&of_b), [0, 0, 0, 0, 1, 1, 0, 0], "{by:?} update");
            assert_eq!(mesh.ask(&b, "DELETE", &path, None).status, 200);
            assert_eq!(heard(&of_b), [0, 0, 0, 0, 0, 0, 1, 1], "{by:?} unregister");
        }
    });
}

#[test]
fn a_message_reaches_its_device_on_every_transport() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let (socket, other, stream) = (mesh.socket(&b), mesh.socket(&b), mesh.stream(&b));
        let mqtt = mesh.mqtt(&b);
        assert_eq!(mqtt.subscribe(&format!("{}/message", b.uuid), 1), 1);
        for by in [By::Http, By::Socket, By::Mqtt] {
            let body = json!({"devices": [b.uuid], "topic": "t", "payload": {"x": [1]}, "more": 2});
            send(&mesh, by, &a, body);
            let expected = json!({
                "event": "message", "devices": [b.uuid], "fromUuid": a.uuid, "topic": "t",
                "payload": {"x": [1]}, "more": 2,
            });
            assert_eq!(socket.all(), std::slice::from_ref(&expected), "{by:?}");
            assert_eq!(other.all(), std::slice::from_ref(&expected), "{by:?}");
            assert_eq!(stream.all(), std::slice::from_ref(&expected), "{by:?}");
            let published: Value = serde_json::from_str(mqtt.receive().text()).unwrap();
            let mut body = expected;
            body.as_object_mut().unwrap().remove("event");
            assert_eq!(published, body, "{by:?}");
        }
        // Closing one of a device's connections leaves the others alone.
        other.client.cut();
        send(
            &mesh,
            By::Http,
            &a,
            json!({"devices": [b.uuid], "payload": 1}),
        );
        assert_eq!(socket.all().len(), 1);
    });
}

/// Decision 3: nobody forges the envelope.
#[test]
fn decision_3_nobody_forges_the_envelope() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let socket = mesh.socket(&b);
        let forged = json!({
            "devices": [b.uuid], "fromUuid": b.uuid, "event": "config",
            "metadata": {"route": [1]}, "payload": 1,
        });
        for by in [By::Http, By::Mqtt] {
            send(&mesh, by, &a, forged.clone());
            let expected = json!({
                "event": "message", "devices": [b.uuid], "fromUuid": a.uuid, "payload": 1,
            });
            assert_eq!(socket.all(), [expected], "{by:?}");
        }
    });
}

/// Decision 5: permissions are checked when a subscription is made and again at each delivery.
#[test]
fn decision_5_revoked_leave_takes_effect_on_the_next_message() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let b = mesh.register(json!({}));
        let emitter = mesh.register_closed(&[("broadcast.sent", &b.uuid)]);
        let subscribe = |by: &Device| {
            let path = format!("/devices/{}/subscriptions", by.uuid);
            let body = json!({
                "emitterUuid": emitter.uuid, "subscriberUuid": by.uuid, "type": "broadcast-sent",
            });
            mesh.ask(by, "POST", &path, Some(body)).status
        };
        assert_eq!(subscribe(&mesh.register(json!({}))), 403);
        assert_eq!(subscribe(&b), 200);
        let socket = mesh.socket(&b);
        let broadcast = || mesh.ask(&emitter, "POST", "/broadcasts", Some(json!({"payload": 1})));
        assert_eq!(broadcast().status, 200);
        assert_eq!(socket.all().len(), 1);
        let path = format!("/devices/{}", emitter.uuid);
        let closed = json!({"meshblu": {"whitelists": {"broadcast": {"sent": []}}}});
        assert_eq!(mesh.ask(&emitter, "PUT", &path, Some(closed)).status, 200);
        assert_eq!(broadcast().status, 200);
        assert_eq!(socket.all().len(), 0);
    });
}

/// Decision 8: a connection is heard before it is told `ready`; 12: nothing is echoed.
#[test]
fn decision_12_nothing_published_is_echoed() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let device = mesh.register(json!({}));
        let client = mesh.mqtt(&device);
        for name in ["message", "broadcast", "config"] {
            assert_eq!(client.subscribe(&format!("{}/{name}", device.uuid), 1), 1);
        }
        let body = json!({"devices": ["*"], "payload": 1}).to_string();
        let topic = format!("{}/message", device.uuid);
        assert_eq!(client.publish(&topic, &body, 1), ReasonCode::Success);
        let topic = format!("{}/broadcast", device.uuid);
        assert_eq!(client.publish(&topic, "{\"t\":1}", 1), ReasonCode::Success);
        assert!(client.try_next().is_none());
        // To itself, by name, is no echo.
        let body = json!({"devices": [device.uuid], "payload": 2}).to_string();
        let topic = format!("{}/message", device.uuid);
        assert_eq!(client.publish(&topic, &body, 1), ReasonCode::Success);
        let heard: Value = serde_json::from_str(client.receive().text()).unwrap();
        assert_eq!(heard["payload"], 2);
    });
}

#[test]
fn topics_of_another_device_are_nobodys() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let (mine, stranger) = (mesh.mqtt(&a), w.connected(V5, "stranger"));
        for client in [&mine, &stranger] {
            for name in ["message", "broadcast", "config"] {
                let topic = format!("{}/{name}", b.uuid);
                assert_eq!(client.subscribe(&topic, 1), 0x87, "{name}");
                let reason = client.publish(&topic, "{\"devices\":[\"*\"]}", 1);
                assert_eq!(reason, ReasonCode::NotAuthorized, "{name}");
            }
        }
        assert_eq!(mine.subscribe(&format!("{}/#", b.uuid), 1), 0x87);
        // Whoever hears everything does not hear what devices are told.
        assert_eq!(stranger.subscribe("#", 1), 1);
        assert_eq!(stranger.subscribe("+/message", 1), 1);
        assert_eq!(stranger.subscribe(&format!("{}/+", b.uuid), 1), 1);
        send(
            &mesh,
            By::Http,
            &a,
            json!({"devices": [b.uuid], "payload": 1}),
        );
        assert!(stranger.try_next().is_none());
    });
}

#[test]
fn a_kept_session_of_a_device_has_its_messages_later() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let client = w.client(V5, "any name");
        let connect = || {
            client.connect_with(|connect| {
                connect
                    .clean_start(false)
                    .session_expiry(100)
                    .user_name(&b.uuid)
                    .password(b.token.as_bytes())
            })
        };
        connect();
        client.subscribe(&format!("{}/+", b.uuid), 1);
        client.cut();
        send(
            &mesh,
            By::Http,
            &a,
            json!({"devices": [b.uuid], "payload": 7}),
        );
        // Nobody else may have the session.
        let connack = client.try_connect(|connect| connect.clean_start(false));
        assert_eq!(connack.reason, ReasonCode::NotAuthorized);
        connect();
        let heard: Value = serde_json::from_str(client.receive().text()).unwrap();
        assert_eq!(heard["payload"], 7);
    });
}

#[test]
fn kept_sessions_of_a_device_end_with_it() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        for device in [&a, &b] {
            // One that is away, and one that is there.
            for name in ["away", "there"] {
                let client = w.client(V5, &format!("{}-{name}", &device.uuid[..8]));
                client.connect_with(|connect| {
                    let named = connect.user_name(&device.uuid);
                    let named = named.password(device.token.as_bytes());
                    named.session_expiry(u32::MAX)
                });
                assert_eq!(client.subscribe("news/#", 1), 1);
                if name == "away" {
                    client.disconnect();
                }
            }
        }
        let of_all = || w.total(|counters| counters.sessions);
        assert_eq!(of_all(), 4);
        let path = format!("/devices/{}", a.uuid);
        assert_eq!(mesh.ask(&a, "DELETE", &path, None).status, 200);
        w.advance(4);
        assert_eq!(of_all(), 4, "they are gathered first");
        w.advance(2);
        assert_eq!(of_all(), 2);
        let next = mesh.mqtt(&b);
        next.publish("news/x", "1", 1);
        w.advance(20);
        assert_eq!(of_all(), 3);
    });
}

#[test]
fn a_will_says_nothing_in_a_devices_name() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (victim, device) = (mesh.register(json!({})), mesh.register(json!({})));
        for name in ["message", "broadcast", "config", "unregistered"] {
            let topic = format!("{}/{name}", victim.uuid);
            let will = || WillPacket::new(&topic, "{\"fromUuid\":\"x\"}").retain();
            let nobody = w.client(V5, "nobody");
            let connack = nobody.try_connect(|connect| connect.will(will()));
            assert_eq!(connack.reason, ReasonCode::NotAuthorized, "{name}");
            let client = w.client(V5, "device");
            let connack = client.try_connect(|connect| {
                connect
                    .will(will())
                    .user_name(&device.uuid)
                    .password(device.token.as_bytes())
            });
            assert_eq!(connack.reason, ReasonCode::NotAuthorized, "{name}");
        }
    });
}

#[test]
fn a_device_hears_nothing_of_another_ones_ordinary_topics() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let (of_a, of_b) = (mesh.mqtt(&a), mesh.mqtt(&b));
        assert_eq!(of_b.subscribe("+/state", 1), 1);
        assert_eq!(of_b.subscribe("free", 1), 1);
        assert_eq!(of_a.subscribe(&format!("{}/state", a.uuid), 1), 1);
        let reason = of_a.publish(&format!("{}/state", a.uuid), "on", 1);
        assert_eq!(reason, ReasonCode::Success);
        assert_eq!(of_a.receive().text(), "on");
        of_a.publish("free", "x", 1);
        assert_eq!(of_b.receive().text(), "x");
        assert!(of_b.try_next().is_none());
    });
}

#[test]
fn nor_what_is_retained_there_nor_what_others_share() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let (of_a, of_b) = (mesh.mqtt(&a), mesh.mqtt(&b));
        let state = format!("{}/state", a.uuid);
        for (topic, payload) in [(&*state, "on"), ("free/state", "off")] {
            let reason = of_a.publish_retained(topic, payload, 1);
            assert!((reason as u8) < 0x80, "{reason:?}");
        }
        assert_eq!(of_b.subscribe("+/state", 1), 1);
        assert_eq!(of_b.receive().text(), "off");
        assert_eq!(of_b.subscribe("#", 1), 1);
        assert_eq!(of_b.receive().text(), "off");
        assert!(of_b.try_next().is_none());
        assert_eq!(of_a.subscribe("+/state", 1), 1);
        let mut own = [(); 2].map(|()| of_a.receive().text().to_owned());
        own.sort_unstable();
        assert_eq!(own, ["off", "on"]);
        let no = ReasonCode::NotAuthorized as u8;
        for filter in ["$share/g/#", "$share/g/+/state", "$share/g/+"] {
            assert_eq!(of_b.subscribe(filter, 1), no, "{filter}");
        }
        assert_eq!(of_b.subscribe("$share/g/free/#", 1), 1);
        assert_eq!(of_b.subscribe(&format!("$share/g/{}/#", b.uuid), 1), 1);
        // Others than devices share what they like.
        let other = w.connected(V5, "other");
        assert_eq!(other.subscribe("$share/g/#", 1), 1);
    });
}

#[test]
fn a_device_that_sends_on_to_itself_ends_soon() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let entries: Vec<Value> = (0..10).map(|_| json!({"type": "meshblu"})).collect();
        let forwarders = json!({"message": {"sent": entries, "received": entries}});
        let device = mesh.register(json!({"meshblu": {"forwarders": forwarders}}));
        let socket = mesh.socket(&device);
        let body = json!({"devices": [device.uuid], "payload": 1});
        assert_eq!(
            mesh.ask(&device, "POST", "/messages", Some(body)).status,
            200
        );
        let heard = socket.all().len();
        assert!((2..=63).contains(&heard), "{heard}");
    });
}

/// Decision 12: the requests of meshblu-mqtt, with its odd CONNECT, work on the same port.
#[test]
fn decision_12_requests_of_meshblu_mqtt_are_answered() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({"n": 1})), mesh.register(json!({})));
        let client = w.client(V311, "mqttjs_1");
        client.open();
        let connect = ConnectPacket::new(V31, "mqttjs_1")
            .user_name(&a.uuid)
            .password(a.token.as_bytes());
        let mut bytes = connect.build();
        assert_eq!(bytes[10], 3);
        bytes[10] = 4; // MQIsdp with the level of 3.1.1.
        client.send_raw(&bytes);
        assert_eq!(client.connack().reason, ReasonCode::Success);
        assert_eq!(client.subscribe(&a.uuid, 0), 0);
        let ask = |name: &str, request: Value| -> Value {
            client.publish(name, &request.to_string(), 0);
            serde_json::from_str(client.receive().text()).unwrap()
        };
        let request = json!({"callbackId": "1"});
        let answer = ask("whoami", request.clone());
        assert_eq!(
            (&answer["topic"], &answer["data"]["n"]),
            (&json!("whoami"), &json!(1))
        );
        assert_eq!(answer["_request"], request);
        let request = json!({"uuid": a.uuid, "n": 2, "callbackId": "2"});
        // The change is told first, since it happens to the device itself.
        let told = ask("update", request);
        assert_eq!(
            (&told["topic"], &told["data"]["n"]),
            (&json!("config"), &json!(2))
        );
        let answer: Value = serde_json::from_str(client.receive().text()).unwrap();
        assert_eq!(
            (&answer["topic"], &answer["data"]),
            (&json!("update"), &json!({}))
        );
        assert!(told["data"].get("callbackId").is_none());
        let answer = ask(
            "generateAndStoreToken",
            json!({"tag": "t", "callbackId": "3"}),
        );
        assert_eq!(
            (&answer["data"]["uuid"], &answer["data"]["tag"]),
            (&json!(a.uuid), &json!("t"))
        );
        let answer = ask("getPublicKey", json!({"callbackId": "4"}));
        assert_eq!(answer["data"], json!({"uuid": a.uuid, "publicKey": null}));
        let closed = mesh.register_closed(&[]);
        let answer = ask("update", json!({"uuid": closed.uuid, "callbackId": "5"}));
        assert_eq!(answer["topic"], "error");
        // Messages in both directions.
        let of_b = mesh.socket(&b);
        let body = json!({"devices": [b.uuid], "payload": 6, "callbackId": "6"});
        client.publish("message", &body.to_string(), 0);
        assert_eq!(of_b.next().unwrap()["payload"], 6);
        send(
            &mesh,
            By::Http,
            &b,
            json!({"devices": [a.uuid], "payload": 7}),
        );
        let heard: Value = serde_json::from_str(client.receive().text()).unwrap();
        assert_eq!(
            (&heard["topic"], &heard["data"]["payload"]),
            (&json!("message"), &json!(7))
        );
        assert!(client.try_next().is_none());
        let answer = ask("resetToken", json!({"callbackId": "8"}));
        assert_eq!(answer["data"]["uuid"], json!(a.uuid));
    });
}

#[test]
fn who_subscribes_to_all_of_a_devices_topics_hears_each_event_once() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let client = mesh.mqtt(&b);
        assert_eq!(client.subscribe(&format!("{}/#", b.uuid), 1), 1);
        send(
            &mesh,
            By::Http,
            &a,
            json!({"devices": [b.uuid], "payload": 1}),
        );
        let heard: Value = serde_json::from_str(client.receive().text()).unwrap();
        assert_eq!(heard["payload"], 1);
        assert!(client.try_next().is_none());
    });
}
