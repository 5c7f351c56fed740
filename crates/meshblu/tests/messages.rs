//! Messages and broadcasts: who they are for, and what receivers get to see.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use meshblu::{DEVICES_MAX, Outgoing, Refusal, Uuid};

const A: Uuid = Uuid([0xaa; 16]);
const B: Uuid = Uuid([0xbb; 16]);
const B_TEXT: &str = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb";

/// What a receiver gets of a message from A, after `"fromUuid"`; `B` stands for the uuid of B.
#[track_caller]
fn check(sent: &str, devices: &str, rest: &str) {
    let spell = |text: &str| text.replace("\"B\"", &format!("\"{B_TEXT}\""));
    let outgoing = Outgoing::parse(spell(sent).as_bytes(), A, 1000).unwrap();
    let devices = spell(devices);
    let body = format!("{{\"devices\":{devices},\"fromUuid\":\"{A}\"{rest}}}");
    assert_eq!(std::str::from_utf8(outgoing.body()), Ok(&*body));
    let event = format!("{{\"event\":\"message\",{}", &body[1..]);
    assert_eq!(String::from_utf8(outgoing.event("message")), Ok(event));
}

fn refusal(body: &str) -> u16 {
    Outgoing::parse(body.as_bytes(), A, 1000)
        .unwrap_err()
        .status()
}

#[test]
fn a_message_goes_through_as_it_came() {
    check(
        r#"{"devices":["B"],"topic":"t","payload":{"temp": 72.40}, "x":[1, 2]}"#,
        r#"["B"]"#,
        r#","topic":"t","payload":{"temp":72.40},"x":[1,2]"#,
    );
    check(
        r#"{"payload":1e2,"devices":"B"}"#,
        r#"["B"]"#,
        r#","payload":1e2"#,
    );
}

#[test]
fn nulls_that_mean_nothing_are_left_out() {
    check(
        r#"{"devices":["*"],"topic":null,"payload":null,"other":null}"#,
        r#"["*"]"#,
        r#","other":null"#,
    );
}

#[test]
fn nobody_forges_the_envelope() {
    check(
        r#"{"fromUuid":"B","event":"config","devices":["B"],"metadata":{"route":[]},
            "from\u0055uid":"B","\u0065vent":1,"Event":2}"#,
        r#"["B"]"#,
        r#","Event":2"#,
    );
}

#[test]
fn the_last_of_equal_keys_counts() {
    check(
        r#"{"devices":["x"],"payload":1,"devices":["B"],"a":1,"payload":2,"a":3}"#,
        r#"["B"]"#,
        r#","payload":2,"a":3"#,
    );
}

#[test]
fn addressees_are_sorted_out() {
    let upper = B_TEXT.to_uppercase();
    let body = format!(r#"{{"devices":["{B_TEXT}","*","nobody","{A}","{upper}","all",""]}}"#);
    let outgoing = Outgoing::parse(body.as_bytes(), A, 0).unwrap();
    assert_eq!(outgoing.direct, [B, A]);
    assert!(outgoing.is_broadcast);
    assert_eq!(outgoing.unknown, 2);
    let sent = format!(r#"["{B_TEXT}","*","nobody","{A}","{upper}","all",""]"#);
    assert!(String::from_utf8_lossy(outgoing.body()).contains(&sent));
}

#[test]
fn many_addressees_are_each_served_once() {
    let uuid = |number: u32| {
        let mut bytes = [0; 16];
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        Uuid(bytes)
    };
    let body = |count: u32| {
        let names: Vec<_> = (0..count).map(|n| format!("\"{}\"", uuid(n / 2))).collect();
        format!("{{\"devices\":[{}]}}", names.join(","))
    };
    let parse = |count| Outgoing::parse(body(count).as_bytes(), A, 0);
    let expected: Vec<_> = (0..DEVICES_MAX as u32 / 2).map(uuid).collect();
    assert_eq!(parse(DEVICES_MAX as u32).unwrap().direct, expected);
    assert_eq!(parse(10).unwrap().direct, expected[..5]);
    assert_eq!(parse(DEVICES_MAX as u32 + 1).unwrap_err().status(), 422);
}

#[test]
fn a_broadcast_is_for_everybody() {
    let body = br#"{"devices":["x"],"payload":{"a":1},"fromUuid":"x","b":2}"#;
    let outgoing = Outgoing::broadcast(body, A, 1000).unwrap();
    assert!(outgoing.is_broadcast && outgoing.direct.is_empty());
    let expected = format!(
        r#"{{"event":"broadcast","devices":["*"],"fromUuid":"{A}","payload":{{"a":1}},"b":2}}"#
    );
    assert_eq!(String::from_utf8(outgoing.event("broadcast")), Ok(expected));
    assert!(Outgoing::broadcast(b"", A, 0).unwrap().is_broadcast);
}

#[test]
fn a_payload_alone_can_be_broadcast() {
    let body = |payload: &str| {
        let outgoing = Outgoing::broadcast_payload(payload.as_bytes(), A, 1000)?;
        assert!(outgoing.is_broadcast);
        Ok(String::from_utf8(outgoing.body().to_vec()).unwrap())
    };
    let start = format!(r#"{{"devices":["*"],"fromUuid":"{A}""#);
    for (payload, rest) in [
        (r#" {"event": "mine"} "#, r#","payload":{"event":"mine"}}"#),
        ("7", r#","payload":7}"#),
        ("", "}"),
        ("null", "}"),
    ] {
        assert_eq!(body(payload), Ok(format!("{start}{rest}")));
    }
    for payload in [r#"1,"topic":"x""#, "x", "{}}", "1 2", &"[".repeat(128)] {
        assert_eq!(
            body(payload).map_err(|refusal: Refusal| refusal.status()),
            Err(400)
        );
    }
}

#[test]
fn wrong_shapes_are_told_from_bad_json() {
    for body in [
        "",
        "{}",
        "[]",
        "7",
        r#"{"payload":1}"#,
        r#"{"devices":5}"#,
        r#"{"devices":null}"#,
        r#"{"devices":[1]}"#,
        r#"{"devices":["*",null]}"#,
        r#"{"devices":["*"],"topic":5}"#,
    ] {
        assert_eq!(refusal(body), 422, "{body}");
    }
    let deep = format!(
        r#"{{"devices":["*"],"payload":{}1{}}}"#,
        "[".repeat(128),
        "]".repeat(128)
    );
    for body in [
        "{",
        "nul",
        r#"{"devices":["*"]"#,
        r#"{"devices":["*"]}{}"#,
        r#"{"devices":["*"],"payload":"\ud800"}"#,
        r#"{"devices":["*"],"payload":1e999}"#,
        &deep,
    ] {
        assert_eq!(refusal(body), 400, "{body}");
    }
    let least = deep
        .replacen('[', "", 2)
        .replacen(']', "", 2)
        .replace("\"*\"", "[\"*\"]");
    assert!(Outgoing::parse(least.as_bytes(), A, 1000).is_ok());
}

#[test]
fn the_limit_is_for_payload_and_extras() {
    let parse = |body: &str, limit| Outgoing::parse(body.as_bytes(), A, limit).map(|_| ());
    let plain = r#"{"devices":["*"],"topic":"long enough","payload":"12345678"}"#;
    assert_eq!(parse(plain, 10), Ok(()));
    assert_eq!(parse(plain, 9), Err(Refusal::TooLarge));
    let spaced = r#"{"devices":["*"],"payload":[1, 2, 3,
        4]}"#;
    assert_eq!(parse(spaced, 9), Ok(()));
    assert_eq!(parse(spaced, 8), Err(Refusal::TooLarge));
    // 4 of the payload, 13 of {"a":1,"b":2}.
    let extras = r#"{"a":1,"devices":["*"],"payload":"ab","b":2,"event":"not counted"}"#;
    assert_eq!(parse(extras, 17), Ok(()));
    assert_eq!(parse(extras, 16), Err(Refusal::TooLarge));
}
