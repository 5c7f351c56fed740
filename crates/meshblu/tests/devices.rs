//! Devices: what registration keeps, what updates change, what others see.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use meshblu::{
    Access, DOCUMENT_BYTES_MAX, DefaultWhitelists, Device, Refusal, Registration, Timestamp, Uuid,
    Whitelists,
};
use serde_json::{Value, json};

const A: Uuid = Uuid([0xaa; 16]);
const B: Uuid = Uuid([0xbb; 16]);
const THEN: Timestamp = Timestamp(1_795_311_401_422_389);
const NOW: Timestamp = Timestamp(1_795_311_500_000_000);

fn try_register(body: &str) -> Result<Device, Refusal> {
    Device::register(body.as_bytes(), A, THEN, &Registration::default())
}

fn register(body: Value) -> Device {
    try_register(&body.to_string()).unwrap()
}

fn view(device: &Device) -> Value {
    let mut out = Vec::new();
    device.write_view(false, &[], &mut out);
    meshblu::json::parse(&out).unwrap()
}

/// The view without what the server adds.
fn properties(device: &Device) -> Value {
    let mut view = view(device);
    for name in ["uuid", "online", "meshblu"] {
        view.as_object_mut().unwrap().remove(name).unwrap();
    }
    view
}

/// What an update makes of the properties of a device.
#[track_caller]
fn check(before: Value, update: Value, after: Value) {
    let device = register(before);
    let updated = device.update(update.to_string().as_bytes(), NOW).unwrap();
    assert_eq!(properties(&updated), after);
    let meshblu = |device: &Device| view(device)["meshblu"].clone();
    assert_eq!(
        meshblu(&updated)["createdAt"],
        meshblu(&device)["createdAt"]
    );
    assert_eq!(meshblu(&updated)["updatedAt"], NOW.rfc3339());
    assert_eq!(
        meshblu(&updated)["whitelists"],
        meshblu(&device)["whitelists"]
    );
    let is_same = properties(&updated) == properties(&device);
    assert_eq!(updated.hash() == device.hash(), is_same);
    let record = updated.to_record();
    assert_eq!(Device::from_record(A, &record), Some(updated));
}

/// The status with which an update is refused.
#[track_caller]
fn refused(before: Value, update: Value, status: u16) {
    let updated = register(before).update(update.to_string().as_bytes(), NOW);
    assert_eq!(
        updated.map_err(|refusal| refusal.status()),
        Err(status),
        "{update}"
    );
}

#[test]
fn a_view_is_shaped_as_freshblus() {
    let device = register(json!({"name": "temp-01", "type": "sensor", "n": {"a": [1, 2.50]}}));
    let mut out = Vec::new();
    device.write_view(true, &[("token", "\"secret\"")], &mut out);
    let hash = device.hash();
    assert_eq!(hash.len(), 44);
    let everyone = r#"[{"uuid":"*"}]"#;
    let expected = format!(
        "{{\"uuid\":\"{A}\",\"online\":true,\"type\":\"sensor\",\"meshblu\":{{\
         \"version\":\"2.0.0\",\"createdAt\":\"2026-11-22T01:36:41.422389Z\",\"hash\":\"{hash}\",\
         \"whitelists\":{{\"discover\":{{\"view\":{everyone},\"as\":[]}},\
         \"configure\":{{\"update\":{everyone},\"sent\":{everyone},\"received\":{everyone},\"as\":[]}},\
         \"message\":{{\"from\":{everyone},\"sent\":{everyone},\"received\":{everyone},\"as\":[]}},\
         \"broadcast\":{{\"sent\":{everyone},\"received\":{everyone},\"as\":[]}}}}}},\
         \"name\":\"temp-01\",\"n\":{{\"a\":[1,2.5]}},\"token\":\"secret\"}}"
    );
    assert_eq!(String::from_utf8(out), Ok(expected));
}

#[test]
fn what_extra_says_replaces_a_property() {
    let device = register(json!({"owner": "me", "x": {"owner": 1}, "type": "t"}));
    let mut out = Vec::new();
    device.write_view(false, &[("owner", "7")], &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with(r#","x":{"owner":1},"owner":7}"#), "{text}");
    assert_eq!(text.matches("\"type\":\"t\"").count(), 1);
}

#[test]
fn an_empty_registration_is_an_empty_device() {
    for body in ["", " ", "{}", r#"{"type":null,"meshblu":null}"#] {
        let device = try_register(body).unwrap();
        assert_eq!(properties(&device), json!({}));
        assert_eq!(device.kind(), None);
        assert_eq!(device.whitelists(), &Whitelists::open());
    }
}

#[test]
fn reserved_keys_do_no_harm() {
    let device = register(
        json!({"uuid": "x", "token": 5, "online": "yes", "type": "a", "b": 1,
        "meshblu": {"owner": B.to_string(), "createdAt": "x", "hash": 1, "version": "9", "x": 2}}),
    );
    assert_eq!(properties(&device), json!({"type": "a", "b": 1}));
    assert_eq!((device.uuid(), device.owner()), (A, None));
    let meshblu = &view(&device)["meshblu"];
    assert_eq!(meshblu["version"], "2.0.0");
    assert_eq!(meshblu["createdAt"], THEN.rfc3339());
    assert_eq!(
        (&meshblu["owner"], &meshblu["x"]),
        (&Value::Null, &json!(2))
    );
    check(
        json!({"type": "a"}),
        json!({"type": "b", "online": true, "token": 1, "uuid.x": 1, "token.y": 2}),
        json!({"type": "b"}),
    );
}

#[test]
fn wrong_registrations_are_refused() {
    for (body, status) in [
        ("{", 400),
        ("[]", 422),
        ("\"x\"", 422),
        (r#"{"type":5}"#, 422),
        (r#"{"meshblu":5}"#, 422),
        (r#"{"$set":{"a":1}}"#, 422),
        (r#"{"meshblu":{"whitelists":[]}}"#, 422),
        (
            r#"{"meshblu":{"whitelists":{"discover":{"view":["x"]}}}}"#,
            422,
        ),
    ] {
        let refusal = try_register(body).unwrap_err();
        assert_eq!(refusal.status(), status, "{body}");
    }
}

#[test]
fn whitelists_of_a_new_device_follow_the_rules() {
    let lists = |body: Value, default_whitelists| {
        let rules = Registration { default_whitelists };
        let device = Device::register(body.to_string().as_bytes(), A, THEN, &rules).unwrap();
        device.whitelists().clone()
    };
    let version_2 = json!({"meshblu": {"version": "2.0.0"}});
    let version_1 = json!({"meshblu": {"version": "1.0.0"}});
    let given = json!({"meshblu": {"version": "2.0.0",
        "whitelists": {"discover": {"view": [{"uuid": "*"}]}}}});
    for default in [DefaultWhitelists::Open, DefaultWhitelists::Private] {
        assert_eq!(lists(version_2.clone(), default), Whitelists::closed());
        let given = lists(given.clone(), default);
        assert!(given.allows(Access::DiscoverView, B));
        assert!(!given.allows(Access::MessageFrom, B));
    }
    assert_eq!(
        lists(version_1.clone(), DefaultWhitelists::Open),
        Whitelists::open()
    );
    assert_eq!(
        lists(version_1, DefaultWhitelists::Private),
        Whitelists::closed()
    );
    assert_eq!(
        lists(json!({}), DefaultWhitelists::Private),
        Whitelists::closed()
    );
    let dotted = json!({"meshblu.whitelists.message.from": ["*"]});
    let dotted = lists(dotted, DefaultWhitelists::Open);
    assert!(dotted.allows(Access::MessageFrom, B) && !dotted.allows(Access::DiscoverView, B));
}

#[test]
fn a_device_may_do_everything_with_itself() {
    let device = register(json!({"meshblu": {"whitelists": {}}}));
    for access in Access::ALL {
        assert!(device.allows(access, A));
        assert!(!device.allows(access, B));
    }
}

#[test]
fn plain_updates_merge() {
    check(
        json!({"a": 1, "b": {"c": 1}}),
        json!({"b": {"d": 2}, "e": null}),
        json!({"a": 1, "b": {"d": 2}, "e": null}),
    );
    check(json!({"a": 1}), json!({}), json!({"a": 1}));
    check(
        json!({"type": "a\"b", "x": 1}),
        json!({"type": null}),
        json!({"x": 1}),
    );
    check(
        json!({"x": 1}),
        json!({"type": "é\\"}),
        json!({"type": "é\\", "x": 1}),
    );
}

#[test]
fn dotted_names_reach_into_a_property() {
    check(
        json!({"a": {"b": 1, "c": 2}}),
        json!({"a.b": 3, "d.e.f": 4}),
        json!({"a": {"b": 3, "c": 2}, "d": {"e": {"f": 4}}}),
    );
    check(
        json!({"a": [{"b": 1}]}),
        json!({"a.0.b": 2, "a.1.b": 3}),
        json!({"a": [{"b": 2}, {"b": 3}]}),
    );
    // As it was registered.
    check(json!({"a.b": 1}), json!({"a.b": 2}), json!({"a.b": 2}));
    refused(json!({"a": 1}), json!({"a.b": 1}), 422);
    refused(json!({"a": []}), json!({"a.1": 1}), 422);
    refused(json!({"a": []}), json!({"a.x": 1}), 422);
    for path in ["a.", ".a", "a..b", ".", "a.$b", &vec!["x"; 33].join(".")] {
        refused(json!({}), json!({path: 1}), 422);
    }
}

#[test]
fn meshblu_is_added_to() {
    let device = register(json!({"x": 1, "meshblu": {"publicKey": "old", "other": 1}}));
    let update = json!({"meshblu": {"publicKey": {"kty": "OKP"}, "createdAt": 1, "owner": B.to_string(),
        "hash": 1, "updatedAt": 5, "version": "1", "whitelists": {"configure": {"update": [B.to_string()]}}}});
    let updated = device.update(update.to_string().as_bytes(), NOW).unwrap();
    assert_eq!(updated.public_key_json(), r#"{"kty":"OKP"}"#);
    assert_eq!(updated.owner(), None);
    assert!(updated.allows(Access::ConfigureUpdate, B));
    assert!(!updated.allows(Access::DiscoverView, B));
    let meshblu = &view(&updated)["meshblu"];
    assert_eq!(meshblu["createdAt"], THEN.rfc3339());
    assert_eq!(
        (&meshblu["other"], &meshblu["version"]),
        (&json!(1), &json!("2.0.0"))
    );
    assert_eq!(properties(&updated), json!({"x": 1}));

    let dotted = json!({"meshblu.whitelists.discover.view": [{"uuid": "*"}], "meshblu.hash": "x"});
    let updated = updated.update(dotted.to_string().as_bytes(), NOW).unwrap();
    assert!(updated.allows(Access::DiscoverView, B) && updated.allows(Access::ConfigureUpdate, B));

    // A document can be sent back as it was read.
    let sent_back = view(&updated);
    let again = updated
        .update(sent_back.to_string().as_bytes(), NOW)
        .unwrap();
    assert_eq!(view(&again), view(&updated));

    refused(json!({}), json!({"meshblu": []}), 422);
    refused(json!({}), json!({"meshblu": {"whitelists": []}}), 422);
    refused(json!({}), json!({"meshblu.whitelists.discover": []}), 422);
}

#[test]
fn operators_and_properties_are_not_mixed() {
    assert!(Device::is_operators(br#"{"$set":{},"$inc":{}}"#));
    for body in ["{}", "", "[]", "{", r#"{"a":1}"#, r#"{"$set":{},"a":1}"#] {
        assert!(!Device::is_operators(body.as_bytes()), "{body}");
    }
    refused(json!({}), json!({"$set": {"a": 1}, "b": 1}), 422);
}

#[test]
fn operators_do_what_they_say() {
    for (before, update, after) in [
        (
            json!({"a": 1}),
            json!({"$set": {"a": 2, "b.c": 3}}),
            json!({"a": 2, "b": {"c": 3}}),
        ),
        (
            json!({"a": {"b": 1, "c": 2}, "d": 1}),
            json!({"$unset": {"a.b": "", "d": 1, "x.y": 1}}),
            json!({"a": {"c": 2}}),
        ),
        (
            json!({"a": [1, 2]}),
            json!({"$unset": {"a.0": ""}}),
            json!({"a": [null, 2]}),
        ),
        (
            json!({"a": 1, "f": 0.5}),
            json!({"$inc": {"a": 2, "b": -1, "f": 1}}),
            json!({"a": 3, "b": -1, "f": 1.5}),
        ),
        (
            json!({"a": i64::MAX}),
            json!({"$inc": {"a": 1}}),
            json!({"a": i64::MAX as u64 + 1}),
        ),
        (
            json!({"a": 3}),
            json!({"$mul": {"a": 2, "b": 5}}),
            json!({"a": 6, "b": 0}),
        ),
        (
            json!({"a": 3}),
            json!({"$mult": {"a": 0.5}}),
            json!({"a": 1.5}),
        ),
        (
            json!({"a": 5, "b": 5}),
            json!({"$min": {"a": 3, "b": 7, "c": 1}}),
            json!({"a": 3, "b": 5, "c": 1}),
        ),
        (
            json!({"a": 5, "b": 5}),
            json!({"$max": {"a": 3, "b": "x"}}),
            json!({"a": 5, "b": "x"}),
        ),
        (
            json!({}),
            json!({"$currentDate": {"a": true, "b": {"$type": "date"}}}),
            json!({"a": NOW.rfc3339(), "b": NOW.rfc3339()}),
        ),
        (
            json!({"a": 1}),
            json!({"$rename": {"a": "b.c", "x": "y"}}),
            json!({"b": {"c": 1}}),
        ),
        (
            json!({"a": [1]}),
            json!({"$push": {"a": [2], "b": 1}}),
            json!({"a": [1, [2]], "b": [1]}),
        ),
        (
            json!({"a": [1]}),
            json!({"$push": {"a": {"$each": [2, 3], "$position": 0}}}),
            json!({"a": [2, 3, 1]}),
        ),
        (
            json!({"a": [1]}),
            json!({"$push": {"a": {"$each": [2, 3], "$slice": -2}}}),
            json!({"a": [2, 3]}),
        ),
        (
            json!({"a": [1]}),
            json!({"$push": {"a": {"$each": [2, 3], "$slice": 1}}}),
            json!({"a": [1]}),
        ),
        (
            json!({"a": [1]}),
            json!({"$pushAll": {"a": [2, 3]}}),
            json!({"a": [1, 2, 3]}),
        ),
        (
            json!({"a": [1, {"b": 1.0, "c": 2}]}),
            json!({"$addToSet": {"a": {"c": 2, "b": 1}, "d": {"$each": [1, 1, 2]}}}),
            json!({"a": [1, {"b": 1.0, "c": 2}], "d": [1, 2]}),
        ),
        (
            json!({"a": [1, 2, 3], "b": [1, 2]}),
            json!({"$pop": {"a": 1, "b": -1, "c": 1}}),
            json!({"a": [1, 2], "b": [2]}),
        ),
        (
            json!({"a": [1, 2, 3, 1]}),
            json!({"$pull": {"a": 1, "b": 2}}),
            json!({"a": [2, 3]}),
        ),
        (
            json!({"a": [1, 2, 3]}),
            json!({"$pull": {"a": {"$gte": 2}}}),
            json!({"a": [1]}),
        ),
        (
            json!({"a": [{"x": 1, "y": 2}, {"x": 2}, 1]}),
            json!({"$pull": {"a": {"x": 1}}}),
            json!({"a": [{"x": 2}, 1]}),
        ),
        (
            json!({"a": [1, 2, 3]}),
            json!({"$pullAll": {"a": [1, 3]}}),
            json!({"a": [2]}),
        ),
        (
            json!({"a": 12}),
            json!({"$bit": {"a": {"and": 10, "or": 1}, "b": {"xor": 3}}}),
            json!({"a": 9, "b": 3}),
        ),
        (
            json!({"a": 1}),
            json!({"$set": {"b": 1}, "$inc": {"b": 1}, "$unset": {"a": 1}}),
            json!({"b": 2}),
        ),
        (
            json!({"type": "a"}),
            json!({"$set": {"type": "b", "online": true}}),
            json!({"type": "b"}),
        ),
    ] {
        check(before, update, after);
    }
}

#[test]
fn operators_that_cannot_work_are_refused() {
    for update in [
        json!({"$query": {}}),
        json!({"$set": 1}),
        json!({"$set": {"": 1}}),
        json!({"$set": {"uuid": 1}}),
        json!({"$unset": {"token": 1}}),
        json!({"$set": {"token.x": 1}}),
        json!({"$rename": {"n": "uuid"}}),
        json!({"$rename": {"n": 1}}),
        json!({"$set": {"type": 1}}),
        json!({"$inc": {"text": 1}}),
        json!({"$inc": {"n": "1"}}),
        json!({"$mul": {"n": null}}),
        json!({"$inc": {"text.x": 1}}),
        json!({"$push": {"n": 1}}),
        json!({"$push": {"list": {"$each": 1}}}),
        json!({"$push": {"list": {"$each": [], "$sort": 1}}}),
        json!({"$push": {"list": {"$each": [], "$slice": "1"}}}),
        json!({"$addToSet": {"n": 1}}),
        json!({"$pop": {"list": 2}}),
        json!({"$pull": {"n": 1}}),
        json!({"$pull": {"list": {"$regex": "("}}}),
        json!({"$pullAll": {"list": 1}}),
        json!({"$bit": {"n": 1}}),
        json!({"$bit": {"n": {}}}),
        json!({"$bit": {"n": {"nand": 1}}}),
        json!({"$bit": {"text": {"and": 1}}}),
        json!({"$set": {"meshblu": 5}}),
        json!({"$set": {"meshblu.whitelists": 5}}),
        json!({"$push": {"meshblu.whitelists.discover.view": "nobody"}}),
    ] {
        refused(json!({"n": 1, "text": "x", "list": [1]}), update, 422);
    }
    let huge = json!({"n": 1e308});
    refused(huge, json!({"$mul": {"n": 10}}), 422);
    let device = try_register("").unwrap();
    assert_eq!(device.operate(b"{}", NOW).unwrap_err().status(), 422);
}

#[test]
fn operators_reach_whitelists_and_forwarders() {
    let device = register(json!({"meshblu": {"whitelists": {}}}));
    let update =
        |device: &Device, update: Value| device.update(update.to_string().as_bytes(), NOW).unwrap();
    let hook = json!({"type": "webhook", "url": "http://example.com/"});
    let updated = update(
        &device,
        json!({"$addToSet": {
        "meshblu.whitelists.discover.view": {"uuid": B.to_string()},
        "meshblu.forwarders.message.sent": hook}}),
    );
    assert!(updated.allows(Access::DiscoverView, B));
    assert_eq!(updated.forwarders("message.sent").len(), 1);
    assert_eq!(updated.forwarders("message.received").len(), 0);
    let pulled = update(
        &updated,
        json!({"$pull": {
        "meshblu.whitelists.discover.view": {"uuid": B.to_string()}}}),
    );
    assert_eq!(pulled.whitelists(), &Whitelists::closed());
    assert_eq!(pulled.forwarders("message.sent").len(), 1);
    // Added to, not replaced; and what clients may not set stays.
    let set = update(
        &updated,
        json!({"$set": {"meshblu": {"publicKey": "k", "owner": "x", "hash": 1}},
        "$rename": {"nothing": "meshblu.createdAt"}}),
    );
    assert_eq!(
        (set.forwarders("message.sent").len(), set.owner()),
        (1, None)
    );
    assert_eq!(view(&set)["meshblu"]["createdAt"], THEN.rfc3339());
    // Without lists a device is closed, whatever it was.
    let open = register(json!({}));
    let unset = update(&open, json!({"$unset": {"meshblu.whitelists": 1}}));
    assert_eq!(unset.whitelists(), &Whitelists::closed());
    let unset = update(&updated, json!({"$unset": {"meshblu": 1}}));
    assert_eq!(unset.whitelists(), &Whitelists::closed());
    let moved = update(&updated, json!({"$rename": {"meshblu": "elsewhere"}}));
    assert_eq!(moved.whitelists(), &Whitelists::closed());
    assert_eq!(view(&moved)["meshblu"]["createdAt"], THEN.rfc3339());
}

#[test]
fn a_claimed_device_is_its_owners() {
    let device = register(json!({"type": "lamp", "meshblu": {"publicKey": 1}}));
    let claimed = device.claimed(B, NOW);
    assert_eq!(claimed.owner(), Some(B));
    assert_eq!(claimed.whitelists(), &Whitelists::private(B));
    assert_eq!(claimed.updated(), Some(NOW));
    assert_ne!(claimed.hash(), device.hash());
    assert_eq!(view(&claimed)["meshblu"]["owner"], B.to_string());
    assert_eq!(claimed.public_key_json(), "1");
    assert_eq!(
        Device::from_record(A, &claimed.to_record()),
        Some(claimed.clone())
    );
    let updated = claimed
        .update(br#"{"meshblu":{"owner":null,"x":1}}"#, NOW)
        .unwrap();
    assert_eq!(
        (updated.owner(), updated.whitelists()),
        (Some(B), claimed.whitelists())
    );
}

#[test]
fn documents_have_a_largest_size_and_depth() {
    let most = DOCUMENT_BYTES_MAX - r#"{"a":""}"#.len();
    let register = |count| try_register(&json!({"a": "x".repeat(count)}).to_string());
    let full = register(most).unwrap();
    assert_eq!(register(most + 1), Err(Refusal::TooLarge));
    assert_eq!(full.update(br#"{"b":1}"#, NOW), Err(Refusal::TooLarge));

    let nested = |count| format!("{{\"a\":{}{}}}", "[".repeat(count), "]".repeat(count));
    let deepest = try_register(&nested(127)).unwrap();
    assert!(view(&deepest).to_string().contains(&"[".repeat(127)));
    assert_eq!(try_register(&nested(128)).unwrap_err().status(), 400);
    let wrap = json!({"$rename": {"a": "b.c"}});
    assert_eq!(
        deepest
            .update(wrap.to_string().as_bytes(), NOW)
            .unwrap_err()
            .status(),
        400
    );
}

#[test]
fn a_device_of_500_bytes_fits_a_million_times() {
    let device = register(json!({"type": "sensor", "payload": "x".repeat(470)}));
    assert_eq!(properties(&device).to_string().len(), 500);
    assert!(device.bytes() <= 680, "{}", device.bytes());
}

#[test]
fn damaged_records_are_refused() {
    let device = register(json!({"type": "a\"b", "x": [1], "meshblu": {"publicKey": "k"}}));
    let record = device.claimed(B, NOW).to_record();
    assert!(Device::from_record(A, &record).is_some());
    for end in 0..record.len() {
        assert_eq!(Device::from_record(A, &record[..end]), None);
    }
    for at in 0..record.len() {
        for byte in [0, 1, 0xff, b'"', b'{'] {
            let mut damaged = record.clone();
            damaged[at] = byte;
            // What is read of it can be shown.
            if let Some(device) = Device::from_record(A, &damaged) {
                view(&device);
                _ = (
                    device.kind(),
                    device.public_key_json(),
                    device.forwarders("message.sent"),
                );
            }
        }
    }
}
