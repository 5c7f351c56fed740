//! What clients of the Meshblu API send: a body that registers a device, then bodies that change
//! it, search for it and message it, separated by zero bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshblu::{
    Device, Outgoing, Query, Refusal, Registration, Timestamp, TokenOptions, Uuid, Whitelists, json,
};

const DEVICE: Uuid = Uuid([0xaa; 16]);
const NOW: Timestamp = Timestamp(1_795_311_401_422_389);

fuzz_target!(|data: &[u8]| {
    let mut bodies = data.split(|byte| *byte == 0);
    let first = bodies.next().unwrap_or_default();
    let registered = Device::register(first, DEVICE, NOW, &Registration::default());
    let Some(mut device) = accepted(registered) else {
        return;
    };
    check(&device);
    for body in bodies.take(8) {
        if let Some(updated) = accepted(device.update(body, NOW)) {
            check(&updated);
            device = updated;
        }
        if let Some(query) = accepted(Query::parse(body)) {
            query.matches(&device, true);
        }
        for outgoing in [
            Outgoing::parse(body, DEVICE, 1000),
            Outgoing::broadcast(body, DEVICE, 1000),
        ] {
            if let Some(outgoing) = accepted(outgoing) {
                check_event(&outgoing);
            }
        }
        accepted(TokenOptions::parse(body));
    }
});

/// What was not refused; a refusal must be one that can be told to the client.
fn accepted<T>(result: Result<T, Refusal>) -> Option<T> {
    let refusal = match result {
        Ok(value) => return Some(value),
        Err(refusal) => refusal,
    };
    assert!(matches!(refusal.status(), 400 | 413 | 422));
    let mut out = Vec::new();
    refusal.write_json(&mut out);
    assert!(json::parse(&out).is_ok());
    None
}

/// A device can be shown, with no key twice, and kept.
fn check(device: &Device) {
    let mut out = Vec::new();
    device.write_view(false, &[("token", "\"t\"")], &mut out);
    let shown = json::parse(&out).expect("a view is JSON");
    assert_eq!(shown.to_string().as_bytes(), out);
    assert_eq!(shown["uuid"], DEVICE.to_string());
    assert_eq!(shown["token"], "t");
    assert_eq!(shown["meshblu"]["createdAt"], NOW.rfc3339());
    let lists = Whitelists::from_json(&shown["meshblu"]["whitelists"]);
    assert_eq!(lists.as_ref(), Ok(device.whitelists()));
    let record = device.to_record();
    assert_eq!(Device::from_record(DEVICE, &record).as_ref(), Some(device));
    device.forwarders("message.sent");
    device.public_key_json();
}

/// A message is one line of JSON that names its true sender.
fn check_event(outgoing: &Outgoing) {
    let event = outgoing.event("message");
    assert!(!event.contains(&b'\n'));
    let seen = json::parse(&event).expect("an event is JSON");
    assert_eq!(seen["fromUuid"], DEVICE.to_string());
    assert_eq!(seen["event"], "message");
    assert!(seen.get("metadata").is_none());
}
