//! Events that concern very many devices: told in turns, in order, and bounded.

use super::*;
use serde_json::{Value, json};

/// How many are told in one turn.
const PER_TURN: usize = 10;
/// How many subscribe; more than fit in several turns.
const CROWD: usize = 120;

fn world(shards: u16) -> World {
    let world = World::with_limits(shards, |limits| limits.told_per_turn = PER_TURN);
    world.leave_out_checks();
    world
}

fn subscribe(mesh: &Mesh<'_>, subscriber: &Device, emitter: &Device, kind: &str) {
    let path = format!("/devices/{}/subscriptions", subscriber.uuid);
    let body = json!({
        "emitterUuid": emitter.uuid, "subscriberUuid": subscriber.uuid, "type": kind,
    });
    let answer = mesh.ask(subscriber, "POST", &path, Some(body));
    assert_eq!(answer.status, 200, "{}", answer.body.escape_ascii());
}

/// Devices that hear of another one, by UUID.
fn crowd(mesh: &Mesh<'_>, emitter: &Device, kind: &str) -> Vec<(Device, Socket)> {
    let mut devices: Vec<Device> = (0..CROWD).map(|_| mesh.register(json!({}))).collect();
    devices.sort_by(|one, two| one.uuid.cmp(&two.uuid));
    devices
        .into_iter()
        .map(|device| {
            subscribe(mesh, &device, emitter, kind);
            let socket = mesh.socket(&device);
            (device, socket)
        })
        .collect()
}

fn payloads(socket: &Socket) -> Vec<Value> {
    let events = socket.all().into_iter();
    events.map(|event| event["payload"].clone()).collect()
}

/// A message of a device's, as its MQTT client sends it.
fn message(from: &Device, to: &Device, payload: u16) -> Vec<u8> {
    let body = json!({"devices": [to.uuid], "payload": payload}).to_string();
    let topic = format!("{}/message", from.uuid);
    PublishPacket::new(&topic, body)
        .qos(1)
        .id(payload)
        .build(V5)
}

#[test]
fn a_crowd_is_told_in_turns_and_in_order() {
    for shards in [1, 3] {
        let w = &world(shards);
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let crowd = crowd(&mesh, &a, "message.sent");
        w.forget_most_told();
        let client = mesh.mqtt(&a);
        let messages = (1..=3).map(|payload| message(&a, &b, payload));
        client.send_raw(&messages.collect::<Vec<_>>().concat());
        for payload in 1..=3 {
            client.expect_ack(AckKind::Puback, payload, ReasonCode::Success);
        }
        for (_, socket) in &crowd {
            assert_eq!(payloads(socket), [1, 2, 3]);
        }
        // Each event of a shard, and each tick.
        assert!(w.most_told() > 0 && w.most_told() <= PER_TURN as u64);
    }
}

#[test]
fn who_has_little_to_tell_does_not_wait_for_who_has_much() {
    let w = &world(1);
    let mesh = Mesh::new(w);
    let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
    let crowd = crowd(&mesh, &a, "message.sent");
    let (last, socket) = crowd.last().unwrap();
    let (one, two) = (mesh.mqtt(&a), mesh.mqtt(&b));
    w.turn(&[(&one, message(&a, &b, 1)), (&two, message(&b, last, 2))]);
    assert_eq!(
        payloads(socket),
        [2, 1],
        "the last of the crowd is told last"
    );
    one.expect_ack(AckKind::Puback, 1, ReasonCode::Success);
    two.expect_ack(AckKind::Puback, 2, ReasonCode::Success);
}

#[test]
fn nobody_tells_more_than_there_is_room_for() {
    for shards in [1, 3] {
        let w = &world(shards);
        let mesh = Mesh::new(w);
        let (a, b) = (mesh.register(json!({})), mesh.register(json!({})));
        let crowd = crowd(&mesh, &a, "message.sent");
        let client = mesh.mqtt(&a);
        let messages = (1..=100).map(|payload| message(&a, &b, payload));
        client.send_raw(&messages.collect::<Vec<_>>().concat());
        let mut accepted = Vec::new();
        for payload in 1..=100 {
            let ack = client.ack();
            assert_eq!(ack.packet_id, payload);
            match ack.reason {
                ReasonCode::Success => accepted.push(json!(payload)),
                reason => assert_eq!(reason, ReasonCode::QuotaExceeded),
            }
        }
        assert!((64..100).contains(&accepted.len()), "{}", accepted.len());
        for (_, socket) in &crowd {
            let heard = payloads(socket);
            for payload in &accepted {
                assert!(heard.contains(payload), "{payload} was accepted");
            }
        }
        // And afterwards there is room.
        client.send_raw(&message(&a, &b, 101));
        client.expect_ack(AckKind::Puback, 101, ReasonCode::Success);
    }
}

#[test]
fn a_crowd_hears_that_a_device_is_no_more() {
    for shards in [1, 3] {
        let w = &world(shards);
        let mesh = Mesh::new(w);
        let a = mesh.register(json!({}));
        let sent = crowd(&mesh, &a, "unregister.sent");
        let received = crowd(&mesh, &a, "unregister.received");
        let itself = mesh.mqtt(&a);
        assert_eq!(itself.subscribe(&format!("{}/unregistered", a.uuid), 0), 0);
        subscribe(&mesh, &a, &a, "unregister.received");
        w.forget_most_told();
        let path = format!("/devices/{}", a.uuid);
        assert_eq!(mesh.ask(&a, "DELETE", &path, None).status, 200);
        for (_, socket) in sent.iter().chain(&received) {
            let heard = socket.all();
            assert_eq!(heard.len(), 1);
            assert_eq!(heard[0]["event"], "unregistered");
            assert_eq!(heard[0]["uuid"], *a.uuid);
        }
        // As itself, and as one who subscribed to itself.
        for _ in 0..2 {
            itself.message();
        }
        assert!(w.most_told() <= PER_TURN as u64);
    }
}

#[test]
fn a_message_to_a_crowd_reaches_all_and_those_who_hear_of_them() {
    for shards in [1, 3] {
        let w = &world(shards);
        let mesh = Mesh::new(w);
        let a = mesh.register(json!({}));
        let devices: Vec<Device> = (0..CROWD).map(|_| mesh.register(json!({}))).collect();
        let listener = mesh.register(json!({}));
        for device in &devices {
            subscribe(&mesh, &listener, device, "message.received");
        }
        let closed = mesh.register_closed(&[]);
        let sockets: Vec<Socket> = devices.iter().map(|device| mesh.socket(device)).collect();
        let (hears, nothing) = (mesh.socket(&listener), mesh.socket(&closed));
        w.forget_most_told();
        let mut to: Vec<&str> = devices.iter().map(|device| &*device.uuid).collect();
        to.push(&closed.uuid);
        let answer = mesh.ask(
            &a,
            "POST",
            "/messages",
            Some(json!({"devices": to, "payload": 7})),
        );
        assert_eq!(answer.json(), json!({"sent": true}));
        for socket in &sockets {
            assert_eq!(payloads(socket), [7]);
        }
        assert_eq!(hears.all().len(), CROWD);
        assert_eq!(nothing.all().len(), 0);
        assert!(w.most_told() <= PER_TURN as u64);
    }
}
