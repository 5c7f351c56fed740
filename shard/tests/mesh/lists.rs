//! Long lists: an answer that is not the end says so and says where to go on, and who reads on gets
//! every entry once.

use super::*;
use serde_json::{Value, json};

/// Where an answer says that there is more.
fn next(answer: &Answer) -> Option<&str> {
    let mut lines = answer.head.split("\r\n");
    lines.find_map(|line| line.strip_prefix("X-Next-After: "))
}

/// Reads a list to its end in parts of this many; gives the entries and the number of answers.
fn read_all(
    mesh: &Mesh<'_>,
    by: &Device,
    (method, path): (&str, &str),
    body: &Option<Value>,
    limit: usize,
) -> (Vec<Value>, usize) {
    let (mut all, mut answers, mut after) = (Vec::new(), 0, String::new());
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}limit={limit}{after}");
        let answer = mesh.ask(by, method, &path, body.clone());
        assert_eq!(answer.status, 200, "{}", answer.body.escape_ascii());
        answers += 1;
        let entries = answer.json();
        let entries = entries.as_array().expect("an array, as ever");
        assert!(entries.len() <= limit, "{} of {limit}", entries.len());
        all.extend(entries.iter().cloned());
        match next(&answer) {
            // No answer but the last is short.
            Some(place) => {
                assert_eq!(entries.len(), limit);
                after = format!("&after={place}");
            }
            None => return (all, answers),
        }
    }
}

fn uuids(entries: &[Value]) -> Vec<&str> {
    let uuids = entries.iter().map(|entry| entry["uuid"].as_str().unwrap());
    let mut uuids: Vec<&str> = uuids.collect();
    uuids.sort_unstable();
    uuids
}

#[test]
fn every_part_of_a_search_together_is_the_search() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let mut expected: Vec<String> = Vec::new();
        let mut me = None;
        for number in 0..50 {
            let kind = if number % 2 == 0 { "even" } else { "odd" };
            let device = mesh.register(json!({"type": kind, "limit": "7"}));
            if number % 2 == 0 {
                expected.push(device.uuid.clone());
            }
            me = Some(device);
        }
        expected.sort_unstable();
        let me = me.unwrap();
        let body = Some(json!({"type": "even"}));
        for (request, body) in [
            (("POST", "/devices/search"), &body),
            (("POST", "/search/devices"), &body),
            (("GET", "/v2/devices?type=even"), &None),
        ] {
            for limit in [1, 4, 5, 24, 25, 26, 10_000] {
                let (all, answers) = read_all(&mesh, &me, request, body, limit);
                assert_eq!(uuids(&all), expected, "{request:?} by {limit}");
                assert_eq!(answers, 25_usize.div_ceil(limit), "{request:?} by {limit}");
            }
        }
        // Without a limit it is one answer, which says nothing of more.
        let answer = mesh.ask(&me, "POST", "/devices/search", body);
        assert_eq!(answer.json().as_array().unwrap().len(), 25);
        assert_eq!(next(&answer), None);
    });
}

#[test]
fn own_devices_and_subscriptions_come_in_parts_too() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let me = mesh.register(json!({}));
        for _ in 0..9 {
            let other = mesh.register(json!({}));
            let path = format!("/claimdevice/{}", other.uuid);
            assert_eq!(mesh.ask(&me, "POST", &path, None).status, 200);
            let path = format!("/devices/{}/subscriptions", me.uuid);
            let body = json!({"emitterUuid": other.uuid, "type": "broadcast.sent"});
            assert_eq!(mesh.ask(&me, "POST", &path, Some(body)).status, 200);
        }
        // Oneself comes first, and once.
        let (own, answers) = read_all(&mesh, &me, ("GET", "/mydevices"), &None, 3);
        assert_eq!((own.len(), answers), (10, 4));
        assert_eq!(own[0]["uuid"], *me.uuid);
        let mut found = uuids(&own);
        found.dedup();
        assert_eq!(found.len(), 10);
        for path in ["/devices/:/subscriptions", "/v2/devices/:/subscriptions"] {
            let path = path.replace(':', &me.uuid);
            let (heard, answers) = read_all(&mesh, &me, ("GET", &path), &None, 2);
            assert_eq!((heard.len(), answers), (9, 5));
            let emitters = heard.iter().map(|one| one["emitterUuid"].to_string());
            let emitters: std::collections::BTreeSet<String> = emitters.collect();
            assert_eq!(emitters.len(), 9);
        }
    });
}

#[test]
fn what_is_no_part_of_a_list_is_refused() {
    World::each(|w| {
        let mesh = Mesh::new(w);
        let me = mesh.register(json!({}));
        mesh.register(json!({}));
        let answer = mesh.ask(&me, "POST", "/devices/search?limit=1", Some(json!({})));
        let place = next(&answer).unwrap().to_owned();
        // Of another start, of a shard that is none, and no place at all.
        let other = format!("{:0>8x}{}", 1, &place[8..]);
        let beyond = format!("{}ffff{}", &place[..8], &place[12..]);
        for after in [&*other, &beyond, "x", ""] {
            for path in ["/v2/devices", "/mydevices"] {
                let path = format!("{path}?after={after}");
                assert_eq!(mesh.ask(&me, "GET", &path, None).status, 422, "{path}");
            }
        }
        for limit in ["0", "10001", "many"] {
            let path = format!("/devices/search?limit={limit}");
            let answer = mesh.ask(&me, "POST", &path, Some(json!({})));
            assert_eq!(answer.status, 422, "{limit}");
            assert!(answer.json()["error"].is_string());
        }
        // A place behind the last entry is the end.
        let end = format!("{}ffffffff", &place[..12]);
        let path = format!("/v2/devices?after={end}");
        let answer = mesh.ask(&me, "GET", &path, None);
        assert_eq!(answer.status, 200);
        assert!(answer.json().as_array().unwrap().len() < 2);
    });
}

#[test]
fn an_answer_that_ends_by_itself_says_so() {
    let w = World::with(2, |config| config.mesh.registrations_max = u32::MAX);
    w.leave_out_checks();
    let mesh = Mesh::new(&w);
    let me = mesh.register(json!({}));
    for _ in 0..10_004 {
        let answer = mesh.ask_unknown("POST", "/devices", Some(json!({"type": "a"})));
        assert_eq!(answer.status, 200);
    }
    let body = json!({"type": "a"});
    let first = mesh.ask(&me, "POST", "/devices/search", Some(body.clone()));
    let first_found = first.json();
    assert_eq!(first_found.as_array().unwrap().len(), 10_000);
    let path = format!("/devices/search?after={}", next(&first).unwrap());
    let second = mesh.ask(&me, "POST", &path, Some(body));
    assert_eq!(second.json().as_array().unwrap().len(), 4);
    assert_eq!(next(&second), None);
}
