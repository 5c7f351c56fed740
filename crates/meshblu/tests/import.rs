//! Devices that come from another server: what that one kept of them stays.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use meshblu::{Access, Device, Refusal, Registration, Timestamp, Uuid};
use serde_json::{Value, json};

const DEVICE: Uuid = Uuid([1; 16]);
const OWNER: Uuid = Uuid([2; 16]);
const STRANGER: Uuid = Uuid([3; 16]);
const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

fn import(document: &Value) -> Result<Device, Refusal> {
    let body = document.to_string();
    Device::import(body.as_bytes(), DEVICE, NOW, &Registration::default())
}

#[test]
fn owner_times_whitelists_and_properties_stay() {
    let device = import(&json!({
        "uuid": STRANGER.to_string(), "token": "secret", "online": true,
        "type": "lamp", "color": "blue",
        "meshblu": {
            "version": "2.0.0", "hash": "old", "owner": OWNER.to_string(), "publicKey": "key",
            "createdAt": "2020-01-02T03:04:05.678901234Z",
            "updatedAt": "2021-01-02T03:04:05+00:00",
            "whitelists": {"discover": {"view": [{"uuid": "*"}]}},
        },
    }))
    .unwrap();
    assert_eq!(device.uuid(), DEVICE);
    assert_eq!(device.owner(), Some(OWNER));
    assert_eq!(device.created().rfc3339(), "2020-01-02T03:04:05.678901Z");
    let updated = device.updated().unwrap();
    assert_eq!(updated.rfc3339(), "2021-01-02T03:04:05.000000Z");
    assert!(device.allows(Access::DiscoverView, STRANGER));
    assert!(!device.allows(Access::ConfigureUpdate, STRANGER));
    let mut view = Vec::new();
    device.write_view(false, &[], &mut view);
    let view: Value = serde_json::from_slice(&view).unwrap();
    assert_eq!(
        (&view["type"], &view["color"]),
        (&json!("lamp"), &json!("blue"))
    );
    assert_eq!(view["meshblu"]["publicKey"], "key");
    assert_eq!(view["online"], false);
    assert_eq!(view.get("token"), None);
    assert_eq!(view["meshblu"]["hash"], device.hash());
    let again = Device::from_record(DEVICE, &device.to_record());
    assert_eq!(again, Some(device));
}

#[test]
fn what_cannot_be_read_is_as_if_it_were_not_there() {
    let device = import(&json!({"meshblu": {"owner": 7, "createdAt": "monday", "updatedAt": ""}}));
    let device = device.unwrap();
    assert_eq!((device.owner(), device.updated()), (None, None));
    assert_eq!(device.created(), NOW);
    for wrong in [json!([]), json!({"type": 1}), json!({"$set": {}})] {
        assert!(import(&wrong).is_err(), "{wrong}");
    }
    // FreshBlu could not read such a device again itself; the last word counts.
    let twice = br#"{"type":"a","online":true,"type":"b","online":"x"}"#;
    let device = Device::import(twice, DEVICE, NOW, &Registration::default()).unwrap();
    assert_eq!(device.kind().as_deref(), Some("b"));
}
