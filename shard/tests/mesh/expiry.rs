//! Connections end when the token that they have shown expires, on every transport and wherever
//! they are; others stay.

use super::*;
use serde_json::json;

/// What time it is when a world begins, in seconds since 1970.
const START_S: u64 = 1_700_000_000;

/// The same device, by a new token that expires so many seconds after the begin.
fn until(mesh: &Mesh<'_>, device: &Device, after_s: u64) -> Device {
    let path = format!("/devices/{}/tokens", device.uuid);
    let body = json!({"expiresOn": START_S + after_s});
    let made = mesh.ask(device, "POST", &path, Some(body)).json();
    Device {
        token: made["token"].as_str().unwrap().into(),
        ..device.clone()
    }
}

#[test]
fn connections_end_when_their_token_expires() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let devices: Vec<Device> = (0..4).map(|_| mesh.register(json!({}))).collect();
        // One after the other, on whatever shards they are.
        for (device, begin_s) in devices.iter().zip([0, 200, 400, 600]) {
            let brief = until(&mesh, device, begin_s + 60);
            let long = until(&mesh, device, begin_s + 120);
            let (lasting, stays) = (mesh.socket(device), mesh.socket(&long));
            let (socket, stream) = (mesh.socket(&brief), mesh.stream(&brief));
            let mqtt = mesh.mqtt(&brief);
            w.advance(58);
            assert!(!socket.client.is_closed() && !stream.client.is_closed());
            mqtt.expect_alive();
            w.advance(3);
            assert!(socket.client.is_closed() && stream.client.is_closed());
            mqtt.expect_disconnect(ReasonCode::NotAuthorized); // 0x87
            assert!(!stays.client.is_closed() && !lasting.client.is_closed());
            // WebSockets that answer no ping would end, too.
            w.advance(1);
            lasting.client.cut();
            w.advance(58);
            assert!(stays.client.is_closed());
            w.advance(80);
        }
    });
}

#[test]
fn nothing_is_waited_for_once_nobody_shows_the_token() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let device = mesh.register(json!({}));
        let brief = until(&mesh, &device, 60);
        let (one, two) = (mesh.socket(&brief), mesh.socket(&brief));
        // `World` checks after each event that what is waited for is what is connected.
        one.client.cut();
        w.advance(1);
        assert!(!two.client.is_closed());
        two.client.cut();
        w.advance(1);
        let path = format!("/devices/{}", device.uuid);
        let three = mesh.socket(&brief);
        assert_eq!(mesh.ask(&device, "DELETE", &path, None).status, 200);
        assert!(three.client.is_closed());
        w.advance(100);
    });
}

#[test]
fn many_at_once_end_in_turns() {
    let w = World::new(2);
    let mesh = Mesh::new(&w);
    let device = mesh.register(json!({}));
    let brief = until(&mesh, &device, 60);
    let sockets: Vec<Socket> = (0..300).map(|_| mesh.socket(&brief)).collect();
    w.advance(61);
    assert!(sockets.iter().all(|socket| socket.client.is_closed()));
    assert_eq!(mesh.ask(&device, "GET", "/whoami", None).status, 200);
}
