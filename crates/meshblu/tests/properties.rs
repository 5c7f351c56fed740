//! What holds for any input: nothing panics, records and views are read back, updates keep what
//! they must.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use meshblu::{
    Access, Device, Kind, Outgoing, Query, Registration, StoredSecret, Timestamp, Token, TokenHash,
    TokenOptions, Uuid, Whitelists, json,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Number, Value};

const A: Uuid = Uuid([0xaa; 16]);
const B: Uuid = Uuid([0xbb; 16]);
const THEN: Timestamp = Timestamp(1_795_311_401_422_389);
const NOW: Timestamp = Timestamp(1_795_311_500_000_000);

/// Names that mean something here, and others.
fn name() -> impl Strategy<Value = String> {
    let names = [
        "a",
        "b",
        "uuid",
        "token",
        "online",
        "type",
        "owner",
        "meshblu",
        "whitelists",
        "discover",
        "view",
        "forwarders",
        "message",
        "sent",
        "url",
        "publicKey",
        "createdAt",
        "hash",
        "devices",
        "topic",
        "payload",
        "fromUuid",
        "event",
        "metadata",
        "expiresOn",
        "tag",
        "0",
        "1",
        "$set",
        "$unset",
        "$inc",
        "$mul",
        "$min",
        "$max",
        "$push",
        "$pushAll",
        "$pull",
        "$pullAll",
        "$addToSet",
        "$pop",
        "$bit",
        "$rename",
        "$currentDate",
        "$each",
        "$slice",
        "$position",
        "$and",
        "$or",
        "$nor",
        "$not",
        "$eq",
        "$ne",
        "$gt",
        "$lte",
        "$in",
        "$nin",
        "$exists",
        "$regex",
        "$options",
        "$all",
        "$size",
        "$elemMatch",
        "and",
        "xor",
    ];
    let known = proptest::sample::select(names.to_vec()).prop_map(str::to_owned);
    let dotted = vec(proptest::sample::select(names.to_vec()), 1..4).prop_map(|n| n.join("."));
    prop_oneof![8 => known, 4 => dotted, 1 => any::<String>()]
}

fn leaf() -> impl Strategy<Value = Value> {
    let uuid = proptest::sample::select(vec![A.to_string(), B.to_string(), "*".to_owned()]);
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2..3_i64).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| Number::from_f64(f).map_or(Value::Null, Value::Number)),
        name().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        uuid.prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    vec((name(), value()), 0..5).prop_map(|members| members.into_iter().collect())
}

/// An object that registration takes.
fn document() -> impl Strategy<Value = Map<String, Value>> {
    object().prop_map(|mut members| {
        members.retain(|name, _| !name.starts_with('$') && !name.starts_with("meshblu"));
        if members.get("type").is_some_and(|kind| !kind.is_string()) {
            members.remove("type");
        }
        members
    })
}

/// An update by operators, most of them with operands that fit.
fn operators() -> impl Strategy<Value = Map<String, Value>> {
    let operators = [
        "$set",
        "$unset",
        "$inc",
        "$mul",
        "$min",
        "$max",
        "$push",
        "$pushAll",
        "$pull",
        "$pullAll",
        "$addToSet",
        "$pop",
        "$bit",
        "$rename",
        "$currentDate",
    ];
    let operator = proptest::sample::select(operators.to_vec()).prop_map(str::to_owned);
    vec((operator, object().prop_map(Value::Object)), 1..3)
        .prop_map(|operators| operators.into_iter().collect())
}

fn whitelists() -> impl Strategy<Value = Whitelists> {
    let entry = prop_oneof![
        Just("*".to_owned()),
        Just(A.to_string()),
        Just(B.to_string())
    ];
    vec(vec(entry, 0..3), 13).prop_map(|lists| {
        let mut value = serde_json::json!({});
        for (access, list) in Access::ALL.into_iter().zip(lists) {
            let (category, name) = access.parts();
            value[category][name] = Value::from(list);
        }
        Whitelists::from_json(&value).unwrap()
    })
}

fn view(device: &Device) -> Value {
    let mut out = Vec::new();
    device.write_view(true, &[("token", "\"t\""), ("owner", "null")], &mut out);
    let shown = json::parse(&out).unwrap();
    // Compact, and no key twice: readers differ in which of two they believe.
    assert_eq!(shown.to_string().as_bytes(), out);
    shown
}

fn check_device(device: &Device) {
    let shown = view(device);
    assert_eq!(shown["uuid"], A.to_string());
    assert_eq!(shown["online"], true);
    assert_eq!(shown["meshblu"]["createdAt"], THEN.rfc3339());
    assert_eq!(shown["meshblu"]["hash"], device.hash());
    let kind = shown.get("type").map(|kind| kind.as_str().unwrap());
    assert_eq!(device.kind().as_deref(), kind);
    let lists = Whitelists::from_json(&shown["meshblu"]["whitelists"]);
    assert_eq!(lists.as_ref(), Ok(device.whitelists()));
    let record = device.to_record();
    assert_eq!(Device::from_record(A, &record).as_ref(), Some(device));
    for kind in Kind::ALL {
        assert!(device.forwarders(kind.dotted()).len() <= meshblu::FORWARDERS_MAX);
    }
}

fn register(members: Map<String, Value>) -> Device {
    let body = Value::Object(members).to_string();
    Device::register(body.as_bytes(), A, THEN, &Registration::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn uuids_are_read_back(bytes: [u8; 16]) {
        let uuid = Uuid(bytes);
        prop_assert_eq!(Uuid::parse(&uuid.to_string()), Some(uuid));
        prop_assert_eq!(Uuid::parse(&uuid.to_string().to_uppercase().replace('-', "")), Some(uuid));
    }

    #[test]
    fn any_text_is_a_uuid_or_a_moment_or_not(text: String) {
        if let Some(uuid) = Uuid::parse(&text) {
            prop_assert!(text.to_lowercase().replace('-', "").contains(&uuid.to_string().replace('-', "")));
        }
        if let Some(moment) = Timestamp::parse(&text) {
            prop_assert_eq!(Timestamp::parse(&moment.rfc3339()), Some(moment));
        }
    }

    #[test]
    fn moments_are_read_back(micros in 0..=253_402_300_799_999_999_u64) {
        prop_assert_eq!(Timestamp::parse(&Timestamp(micros).rfc3339()), Some(Timestamp(micros)));
    }

    #[test]
    fn whitelists_are_read_back(whitelists in whitelists(), members in document()) {
        let shown = whitelists.to_json();
        let mut out = Vec::new();
        whitelists.write_json(&mut out);
        prop_assert_eq!(shown.to_string().into_bytes(), out);
        prop_assert_eq!(Whitelists::from_json(&shown), Ok(whitelists.clone()));
        for access in Access::ALL {
            let (category, name) = access.parts();
            let list = shown[category][name].as_array().unwrap();
            for actor in [A, B] {
                let is_in = |entry: &Value| entry["uuid"] == "*" || entry["uuid"] == actor.to_string();
                prop_assert_eq!(whitelists.allows(access, actor), list.iter().any(is_in));
            }
        }
        let mut members = members;
        members.insert("meshblu".to_owned(), serde_json::json!({"whitelists": shown}));
        let device = register(members);
        prop_assert_eq!(device.whitelists(), &whitelists);
        check_device(&device);
    }

    #[test]
    fn a_registration_keeps_what_was_said(members in document()) {
        let device = register(members.clone());
        check_device(&device);
        let shown = view(&device);
        for (name, value) in &members {
            if !["uuid", "token", "online", "owner"].contains(&name.as_str()) {
                prop_assert_eq!(&shown[name], value);
            }
        }
    }

    #[test]
    fn a_merge_is_the_last_word_on_each_property(before in document(), update in document()) {
        let plain = |members: &Map<String, Value>| -> Map<String, Value> {
            let kept = members.iter().filter(|(name, _)| !name.contains('.'));
            kept.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let (before, update) = (plain(&before), plain(&update));
        let device = register(before.clone());
        let updated = device.update(Value::Object(update.clone()).to_string().as_bytes(), NOW).unwrap();
        check_device(&updated);
        let mut both = before;
        both.extend(update);
        let expected = register(both);
        let strip = |device: &Device| {
            let mut shown = view(device);
            shown["meshblu"] = Value::Null;
            shown
        };
        prop_assert_eq!(strip(&updated), strip(&expected));
        prop_assert_eq!(updated.whitelists(), device.whitelists());
    }

    #[test]
    fn any_update_leaves_a_sound_device(
        before in document(),
        update in prop_oneof![object(), operators()],
    ) {
        let device = register(before);
        if let Ok(updated) = device.update(Value::Object(update).to_string().as_bytes(), NOW) {
            check_device(&updated);
            prop_assert_eq!(updated.owner(), None);
            prop_assert_eq!(updated.updated(), Some(NOW));
        }
    }

    #[test]
    fn any_update_of_lists_leaves_a_sound_device(update in operators(), list in vec(leaf(), 0..4)) {
        let device = register(Map::from_iter([("a".to_owned(), Value::from(list))]));
        let mut update = update;
        for operands in update.values_mut() {
            let operand = operands.as_object().and_then(|all| all.values().next().cloned());
            *operands = serde_json::json!({"a": operand});
        }
        if let Ok(updated) = device.update(Value::Object(update).to_string().as_bytes(), NOW) {
            check_device(&updated);
        }
    }

    #[test]
    fn any_query_matches_or_not(query in object(), members in document()) {
        let device = register(members.clone());
        let body = Value::Object(query).to_string();
        if let Ok(query) = Query::parse(body.as_bytes()) {
            let nor = Query::parse(format!("{{\"$nor\":[{body}]}}").as_bytes());
            if let Ok(nor) = nor {
                prop_assert_ne!(query.matches(&device, true), nor.matches(&device, true));
            }
        }
    }

    #[test]
    fn a_device_is_found_by_what_it_says(members in document()) {
        let device = register(members.clone());
        for (name, value) in &members {
            let has_operators = value.as_object().is_some_and(|o| o.keys().any(|k| k.starts_with('$')));
            let is_own = !["uuid", "token", "online"].contains(&name.as_str());
            let query = Map::from_iter([(name.clone(), value.clone())]);
            if let Ok(query) = Query::parse(Value::Object(query).to_string().as_bytes())
                && is_own
                && !has_operators
            {
                prop_assert!(query.matches(&device, false), "{name}: {value}");
            }
        }
    }

    #[test]
    fn a_message_says_what_was_sent(members in object(), devices in vec(name(), 0..4)) {
        let mut members = members;
        members.insert("devices".to_owned(), Value::from(devices.clone()));
        if !members.get("topic").is_some_and(Value::is_string) {
            members.remove("topic");
        }
        let body = serde_json::to_string_pretty(&members).unwrap();
        let outgoing = Outgoing::parse(body.as_bytes(), A, usize::MAX).unwrap();
        let seen = json::parse(outgoing.body()).unwrap();
        prop_assert_eq!(seen.to_string().into_bytes(), outgoing.body());
        for name in ["fromUuid", "event", "metadata"] {
            members.remove(name);
        }
        if members.get("payload").is_some_and(Value::is_null) {
            members.remove("payload");
        }
        members.insert("fromUuid".to_owned(), Value::from(A.to_string()));
        prop_assert_eq!(&seen, &Value::Object(members.clone()));
        members.insert("event".to_owned(), Value::from("message"));
        prop_assert_eq!(json::parse(&outgoing.event("message")).unwrap(), Value::Object(members));
    }

    #[test]
    fn tokens_are_read_back(
        hash: [u8; 32],
        bcrypt in any::<Option<String>>(),
        numbers: (u64, u64, Option<i64>),
        tag in any::<Option<String>>(),
        is_root: bool,
    ) {
        let token = Token {
            secret: match bcrypt {
                Some(text) => StoredSecret::Bcrypt(text.into()),
                None => StoredSecret::Keyed(TokenHash(hash)),
            },
            created: Timestamp(numbers.0),
            expires_s: numbers.2,
            tag: tag.map(String::into_boxed_str),
            id: numbers.1,
            is_root,
        };
        prop_assert_eq!(Token::from_record(&token.to_record()), Some(token));
    }

    #[test]
    fn nothing_panics_on_bytes(bytes in vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
        everything_on(&bytes);
        let mut record = register(Map::from_iter([("type".to_owned(), Value::from("a"))])).to_record();
        let place = at.index(record.len());
        let end = record.len().min(place + bytes.len());
        record[place..end].copy_from_slice(&bytes[..end - place]);
        if let Some(device) = Device::from_record(A, &record) {
            let mut out = Vec::new();
            device.write_view(false, &[], &mut out);
            prop_assert!(json::parse(&out).is_ok());
        }
    }

    #[test]
    fn nothing_panics_on_json(value in value(), cut in any::<prop::sample::Index>()) {
        let text = value.to_string();
        everything_on(text.as_bytes());
        everything_on(&text.as_bytes()[..cut.index(text.len() + 1)]);
    }
}

fn everything_on(bytes: &[u8]) {
    let device = Device::register(bytes, A, THEN, &Registration::default());
    let device = device.unwrap_or_else(|_| register(Map::new()));
    check_device(&device);
    for updated in [device.merge(bytes, NOW), device.operate(bytes, NOW)] {
        updated.iter().for_each(check_device);
    }
    _ = Query::parse(bytes).map(|query| query.matches(&device, true));
    for outgoing in [
        Outgoing::parse(bytes, A, 100),
        Outgoing::broadcast(bytes, A, 100),
    ] {
        let is_json = |outgoing: Outgoing| json::parse(&outgoing.event("message")).is_ok();
        assert!(outgoing.map_or(true, is_json));
    }
    _ = TokenOptions::parse(bytes);
    _ = Token::from_record(bytes);
    _ = Device::from_record(A, bytes);
    _ = Kind::parse(&String::from_utf8_lossy(bytes));
}
