//! Events that concern very many devices: told in turns, in order, and bounded.

use super::*;
use serde_json::{Value, json};

/// How many are told in one turn.
const PER_TURN: usize = 10;
/// How many subscribe; more than fit in several turns.
const CROWD: usize = 40;

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
        let clients = [1, 601].map(|first| {
            let client = w.client(V5, &format!("{first}"));
            client.connect_with(|connect| {
                let named = connect.user_name(&a.uuid);
                named.password(a.token.as_bytes())
            });
            let messages = (first..first + 600).map(|payload| message(&a, &b, payload));
            (client, messages.collect::<Vec<_>>().concat())
        });
        let other = mesh.mqtt(&b);
        let [one, two] = &clients;
        w.turn(&[
            (&one.0, one.1.clone()),
            (&two.0, two.1.clone()),
            (&other, message(&b, &crowd[0].0, 2_000)),
        ]);
        let accepted = clients.each_ref().map(|(client, _)| {
            let acks = (0..600).map(|_| client.ack());
            let accepted = acks.filter_map(|ack| match ack.reason {
                ReasonCode::QuotaExceeded => None,
                reason => {
                    assert_eq!(reason, ReasonCode::Success);
                    Some(json!(ack.packet_id))
                }
            });
            accepted.collect::<Vec<_>>()
        });
        let count: usize = accepted.iter().map(Vec::len).sum();
        assert!((1_024..1_200).contains(&count), "{count}");
        // Others are let in.
        other.expect_ack(AckKind::Puback, 2_000, ReasonCode::Success);
        for (_, socket) in &crowd {
            let heard = payloads(socket);
            for accepted in &accepted {
                let mut heard = heard.iter();
                for payload in accepted {
                    assert!(heard.any(|one| one == payload), "{payload} was accepted");
                }
            }
        }
        // And afterwards there is room.
        one.0.send_raw(&message(&a, &b, 3_000));
        one.0
            .expect_ack(AckKind::Puback, 3_000, ReasonCode::Success);
    }
}

#[test]
fn what_is_told_here_and_elsewhere_keeps_its_order() {
    let w = &world(3);
    let mesh = Mesh::new(w);
    let a = mesh.register(json!({}));
    let crowd = crowd(&mesh, &a, "broadcast.sent");
    for (device, _) in &crowd {
        subscribe(&mesh, device, &a, "configure.sent");
    }
    let client = mesh.mqtt(&a);
    let topic = format!("{}/broadcast", a.uuid);
    let broadcast = |payload: u16| {
        let packet = PublishPacket::new(&topic, payload.to_string());
        packet.qos(1).id(payload).build(V5)
    };
    let path = format!("/devices/{}", a.uuid);
    for round in 1..=3 {
        client.send_raw(&broadcast(round));
        let answer = mesh.ask(&a, "PUT", &path, Some(json!({"round": round})));
        assert_eq!(answer.status, 200);
    }
    for (_, socket) in &crowd {
        let events = socket.all();
        let rounds = events.iter().map(|event| match &event["device"]["round"] {
            Value::Null => &event["payload"],
            round => round,
        });
        let rounds: Vec<u64> = rounds.map(|round| round.as_u64().unwrap()).collect();
        assert_eq!(rounds, [1, 1, 2, 2, 3, 3]);
    }
}

#[test]
fn who_sends_on_to_itself_keeps_the_order_too() {
    let w = &world(1);
    let mesh = Mesh::new(w);
    let forwarders = json!({"message": {"sent": [{"type": "meshblu"}]}});
    let a = mesh.register(json!({"meshblu": {"forwarders": forwarders}}));
    let b = mesh.register(json!({}));
    let crowd = crowd(&mesh, &a, "message.sent");
    let client = mesh.mqtt(&a);
    client.send_raw(&message(&a, &b, 1));
    client.expect_ack(AckKind::Puback, 1, ReasonCode::Success);
    for (_, socket) in &crowd {
        let topics: Vec<Value> = socket
            .all()
            .iter()
            .map(|event| event["topic"].clone())
            .collect();
        assert_eq!(
            topics[0],
            Value::Null,
            "the message, and then what came of it"
        );
        assert_eq!(topics[1], "forwarder");
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
