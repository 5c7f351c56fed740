//! Queries: which devices they find, what they refuse, and that they are bounded.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use meshblu::{
    Device, QUERY_BYTES_MAX, QUERY_DEPTH_MAX, Query, REGEX_TEXT_MAX, REGEXES_MAX, Registration,
    TESTS_MAX, Timestamp, Uuid,
};
use serde_json::{Value, json};

const A: Uuid = Uuid([0xaa; 16]);
const B: Uuid = Uuid([0xbb; 16]);

fn register(body: &Value) -> Device {
    let (body, now) = (body.to_string(), Timestamp(5));
    Device::register(body.as_bytes(), A, now, &Registration::default()).unwrap()
}

fn parse(query: &Value) -> Query {
    Query::parse(query.to_string().as_bytes()).unwrap()
}

/// Of one document: queries that find it, and queries that do not.
#[track_caller]
fn check(document: Value, found: &[Value], missed: &[Value]) {
    let device = register(&document);
    for query in found {
        assert!(parse(query).matches(&device, true), "{query}");
        let nor = json!({"$nor": [query]});
        assert!(!parse(&nor).matches(&device, true), "{nor}");
    }
    for query in missed {
        assert!(!parse(query).matches(&device, true), "{query}");
        let nor = json!({"$nor": [query]});
        assert!(parse(&nor).matches(&device, true), "{nor}");
    }
}

#[test]
fn equality_is_of_values() {
    check(
        json!({"type": "sensor", "n": 1, "f": 2.0, "o": {"a": 1, "b": [1]}, "z": null, "t": true}),
        &[
            json!({}),
            json!({"type": "sensor"}),
            json!({"n": 1.0, "f": 2}),
            json!({"o": {"b": [1], "a": 1}}),
            json!({"z": null}),
            json!({"missing": null}),
            json!({"t": true}),
            json!({"type": {"$eq": "sensor"}, "n": {"$ne": 2}}),
            json!({"missing": {"$ne": 2}}),
        ],
        &[
            json!({"type": "Sensor"}),
            json!({"type": 5}),
            json!({"n": "1"}),
            json!({"n": 2}),
            json!({"n": 1, "f": 3}),
            json!({"o": {"a": 1}}),
            json!({"o": {"a": 1, "b": [1], "c": 1}}),
            json!({"missing": 1}),
            json!({"n": null}),
            json!({"t": 1}),
            json!({"n": {"$ne": 1}}),
        ],
    );
}

#[test]
fn what_the_server_keeps_is_found() {
    let upper = A.to_string().to_uppercase();
    check(
        json!({"uuid": "not this", "online": false}),
        &[
            json!({"uuid": A.to_string()}),
            json!({"uuid": upper}),
            json!({"uuid": {"$in": [B.to_string(), upper]}}),
            json!({"online": true}),
            json!({"online": "true"}),
            json!({"meshblu.version": "2.0.0"}),
            json!({"meshblu.createdAt": {"$lt": "2000"}}),
            json!({"meshblu.whitelists.discover.view.uuid": "*"}),
            json!({"meshblu.whitelists.discover.view": {"uuid": "*"}}),
            json!({"meshblu.owner": {"$exists": false}}),
        ],
        &[
            json!({"uuid": B.to_string()}),
            json!({"uuid": "not this"}),
            json!({"online": "false"}),
            json!({"online": false}),
            json!({"meshblu.owner": B.to_string()}),
            json!({"meshblu.whitelists.discover.as.uuid": "*"}),
        ],
    );
    let claimed = register(&json!({})).claimed(B, Timestamp(6));
    assert!(Query::owned_by(B).matches(&claimed, false));
    assert!(!Query::owned_by(A).matches(&claimed, false));
}

#[test]
fn paths_reach_into_objects_and_arrays() {
    check(
        json!({"a": {"b": {"c": 1}}, "l": [{"x": 1, "y": [5, 6]}, {"x": 2}, 7], "e": [], "d.t": 3}),
        &[
            json!({"a.b.c": 1}),
            json!({"l.x": 2}),
            json!({"l.0.x": 1}),
            json!({"l.y": 6}),
            json!({"l.2": 7}),
            json!({"l": 7}),
            json!({"e.x": null}),
            json!({"d.t": 3}),
            json!({"l.y": {"$all": [5, 6]}}),
            json!({"l.x": {"$gt": 1, "$lt": 2}}),
            json!({"l": {"$elemMatch": {"x": 1, "y": 5}}}),
            json!({"l.y": {"$elemMatch": {"$gt": 5, "$lt": 7}}}),
            json!({"l": {"$size": 3}}),
        ],
        &[
            json!({"a.b": 1}),
            json!({"a.b.c.d": 1}),
            json!({"l.1.x": 1}),
            json!({"l.3": 7}),
            json!({"l.x": {"$ne": 2}}),
            json!({"l.x": {"$nin": [5, 2]}}),
            json!({"l": {"$elemMatch": {"x": 2, "y": 5}}}),
            json!({"l": {"$size": 2}}),
            json!({"a": {"$size": 1}}),
        ],
    );
}

#[test]
fn order_is_among_values_of_a_kind() {
    check(
        json!({"n": 5, "s": "m", "b": true, "l": [1, 9], "big": u64::MAX}),
        &[
            json!({"n": {"$gt": 4.5, "$lt": 6, "$gte": 5, "$lte": 5}}),
            json!({"s": {"$gt": "a", "$lt": "z"}}),
            json!({"l": {"$gt": 8}}),
            json!({"big": {"$gt": i64::MAX}}),
            json!({"missing": {"$not": {"$gt": 1}}}),
            json!({"n": {"$not": {"$gt": 7}}}),
        ],
        &[
            json!({"n": {"$gt": 5}}),
            json!({"n": {"$gt": "4"}}),
            json!({"s": {"$gt": 1}}),
            json!({"missing": {"$lt": 1}}),
            json!({"missing": {"$gte": 0}}),
            json!({"n": {"$not": {"$gt": 3, "$lt": 6}}}),
        ],
    );
}

#[test]
fn sets_existence_and_patterns() {
    check(
        json!({"n": 5, "s": "Hello\nWorld", "z": null, "l": ["abc", 4]}),
        &[
            json!({"n": {"$in": [4, 5]}, "s": {"$nin": [1, "x"]}}),
            json!({"missing": {"$in": [null]}}),
            json!({"missing": {"$nin": [1]}}),
            json!({"z": {"$exists": true}, "missing": {"$exists": false}}),
            json!({"z": {"$exists": 1}, "missing": {"$exists": 0}}),
            json!({"s": {"$regex": "^Hel+o"}}),
            json!({"s": {"$regex": "^world$", "$options": "im"}}),
            json!({"s": {"$regex": "hello.world", "$options": "is"}}),
            json!({"l": {"$regex": "b"}}),
        ],
        &[
            json!({"n": {"$in": []}}),
            json!({"z": {"$exists": false}}),
            json!({"missing": {"$exists": true}}),
            json!({"s": {"$regex": "^world"}}),
            json!({"n": {"$regex": "5"}}),
            json!({"missing": {"$regex": ""}}),
            json!({"missing": {"$nin": [null]}}),
        ],
    );
    let long = register(&json!({"s": "x".repeat(REGEX_TEXT_MAX + 1)}));
    assert!(!parse(&json!({"s": {"$regex": "x"}})).matches(&long, true));
}

#[test]
fn clauses_are_joined() {
    check(
        json!({"a": 1, "b": 2}),
        &[
            json!({"$and": [{"a": 1}, {"b": 2}]}),
            json!({"$or": [{"a": 2}, {"b": 2}]}),
            json!({"$nor": [{"a": 2}, {"b": 1}], "a": 1}),
            json!({"$or": [{"$and": [{"a": 1}, {"b": 1}]}, {"$nor": [{"a": 3}]}]}),
        ],
        &[
            json!({"$and": [{"a": 1}, {"b": 1}]}),
            json!({"$or": [{"a": 2}, {"b": 1}]}),
            json!({"$nor": [{"a": 2}, {"b": 2}]}),
        ],
    );
}

#[test]
fn wrong_queries_are_refused() {
    let nested = |count| (0..count).fold(json!({}), |inner, _| json!({"$and": [inner]}));
    assert!(Query::parse(nested(QUERY_DEPTH_MAX).to_string().as_bytes()).is_ok());
    let negated = |count| (0..count).fold(json!({"$eq": 1}), |inner, _| json!({"$not": inner}));
    assert!(
        Query::parse(
            json!({"a": negated(QUERY_DEPTH_MAX)})
                .to_string()
                .as_bytes()
        )
        .is_ok()
    );
    let tests = |count| json!({"$or": vec![json!({"a": 1}); count]});
    assert!(Query::parse(tests(TESTS_MAX).to_string().as_bytes()).is_ok());
    let regexes = |count| json!({"$or": vec![json!({"a": {"$regex": "x"}}); count]});
    assert!(Query::parse(regexes(REGEXES_MAX).to_string().as_bytes()).is_ok());
    for query in [
        json!([]),
        json!({"$where": "1"}),
        json!({"$and": {}}),
        json!({"$or": []}),
        json!({"$or": [1]}),
        json!({"a": {"$near": 1}}),
        json!({"a": {"$gt": 1, "b": 1}}),
        json!({"a": {"$in": 1}}),
        json!({"a": {"$size": -1}}),
        json!({"a": {"$not": 1}}),
        json!({"a": {"$not": {}}}),
        json!({"a": {"$exists": "x"}}),
        json!({"a": {"$elemMatch": 1}}),
        json!({"a": {"$regex": 1}}),
        json!({"a": {"$regex": "("}}),
        json!({"a": {"$regex": "(?=x)"}}),
        json!({"a": {"$regex": "x{1000}{1000}"}}),
        json!({"a": {"$regex": "(".repeat(100) + &")".repeat(100)}}),
        json!({"a": {"$regex": "x".repeat(257)}}),
        json!({"a": {"$regex": "x", "$options": "g"}}),
        json!({"a": {"$regex": "x", "$options": 1}}),
        json!({"a": {"$options": "i"}}),
        json!({"a..b": 1}),
        json!({"": 1}),
        json!({"a": "x".repeat(QUERY_BYTES_MAX)}),
        nested(QUERY_DEPTH_MAX + 1),
        json!({"a": negated(QUERY_DEPTH_MAX + 1)}),
        tests(TESTS_MAX + 1),
        regexes(REGEXES_MAX + 1),
    ] {
        let refusal = Query::parse(query.to_string().as_bytes()).unwrap_err();
        assert_eq!(refusal.status(), 422, "{query}");
    }
    assert_eq!(Query::parse(b"{").unwrap_err().status(), 400);
    assert!(
        Query::parse(b"")
            .unwrap()
            .matches(&register(&json!({})), false)
    );
}

#[test]
fn pairs_of_a_url_are_equalities() {
    let device = register(&json!({"type": "a", "n": {"m": "x"}, "z": null}));
    let matches = |pairs: &[(&str, &str)]| {
        let query = Query::from_pairs(pairs.iter().copied()).unwrap();
        query.matches(&device, true)
    };
    assert!(matches(&[]));
    assert!(matches(&[("type", "a"), ("n.m", "x"), ("online", "true")]));
    assert!(matches(&[("missing", "null"), ("gone", "")]));
    assert!(!matches(&[("type", "a"), ("n.m", "y")]));
    assert!(!matches(&[("type", "")]));
    assert!(!matches(&[("online", "false")]));
    assert!(Query::from_pairs([("$where", "1")]).is_err());
    assert!(Query::from_pairs([("a", "x".repeat(QUERY_BYTES_MAX))]).is_err());
}

#[test]
fn a_query_tells_whom_alone_it_can_find() {
    let query = parse(&json!({"$and": [{"uuid": A.to_string()}], "type": {"$eq": "x"}}));
    assert_eq!((query.uuid_of(), query.kind_of()), (Some(A), Some("x")));
    assert_eq!(Query::owned_by(B).owner_of(), Some(B));
    for query in [
        json!({"uuid": {"$ne": A.to_string()}}),
        json!({"$or": [{"uuid": A.to_string()}]}),
        json!({"$nor": [{"uuid": A.to_string()}]}),
        json!({"uuid": "x"}),
        json!({"type": "x", "meshblu.owner": null}),
    ] {
        assert_eq!(parse(&query).uuid_of(), None);
        assert_eq!(parse(&query).owner_of(), None);
    }
}

#[test]
fn a_query_that_costs_too_much_finds_nothing() {
    let device = register(&json!({"l": vec![1; 60_000]}));
    let cheap = parse(&json!({"l": {"$in": [1]}}));
    assert!(cheap.matches(&device, false));
    let values: Vec<_> = (2..1000).collect();
    for query in [
        json!({"l": {"$in": values}}),
        json!({"l": {"$nin": values}}),
        json!({"l": {"$all": values}}),
        json!({"l.x": {"$ne": 1}, "l.y": {"$ne": 1}}),
        json!({"$nor": [{"l": {"$in": values}}]}),
        json!({"l": {"$not": {"$in": values}}}),
    ] {
        assert!(!parse(&query).matches(&device, false), "{query}");
    }
}
