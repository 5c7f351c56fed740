//! Retained messages: listed, read, forgotten.

use crate::support::*;
use shard::console::{Question, Report, RetainedRow, Rows};

fn page(w: &World, filter: &str, after: Option<&str>, limit: u32) -> Rows<RetainedRow, Box<str>> {
    let (filter, after) = (filter.into(), after.map(Into::into));
    match w.ask(
        0,
        Question::Retained {
            filter,
            after,
            limit,
        },
    ) {
        Some(Report::Retained(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

fn topics(w: &World, filter: &str) -> Vec<String> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = page(w, filter, after.as_deref(), 7);
        rows.extend(page.rows.into_iter().map(|row| row.topic.to_string()));
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

fn forget(w: &World, filter: &str) -> Option<Report> {
    w.ask(
        0,
        Question::ForgetRetained {
            filter: filter.into(),
            after: None,
        },
    )
}

#[test]
fn retained_messages_are_listed_and_read() {
    let w = World::new(1);
    let a = w.connected(V5, "a");
    for n in 0..50 {
        a.publish_retained(&format!("t/{n:02}/x"), &"y".repeat(n), 1);
    }
    assert_eq!(topics(&w, "#").len(), 49, "an empty payload keeps nothing");
    assert_eq!(topics(&w, "t/+/x").len(), 49);
    assert_eq!(topics(&w, "t/07/x"), ["t/07/x"]);
    assert_eq!(topics(&w, "u/#").len(), 0);
    let row = &page(&w, "t/07/#", None, 1).rows[0];
    assert_eq!(
        (row.payload_bytes, row.qos, row.expires),
        (7, QoS::AtLeastOnce, None)
    );
    let read = |topic: &str| match w.ask(
        0,
        Question::RetainedMessage {
            topic: topic.into(),
        },
    ) {
        Some(Report::RetainedMessage(message)) => message.map(|message| message.payload),
        other => panic!("{other:?}"),
    };
    assert_eq!(read("t/03/x").unwrap(), b"yyy");
    assert_eq!(read("t/+/x"), None);
    assert_eq!(read(""), None);
    // Where a list goes on may be gone, or nonsense.
    for after in ["", "t/09/x", "zzz", "t/#", "\u{10ffff}"] {
        page(&w, "#", Some(after), 1_000);
    }
}

#[test]
fn those_of_a_filter_are_forgotten_when_the_store_has_forgotten_them() {
    let w = World::durable(1);
    let a = w.connected(V5, "a");
    for topic in ["t/1", "t/2", "u/1"] {
        a.publish_retained(topic, "x", 1);
    }
    let is_kept = |change: &shard::Change| matches!(change, shard::Change::PutRetained { .. });
    w.hold_commits();
    assert!(forget(&w, "t/#").is_none());
    assert_eq!(w.count_records(is_kept), 3);
    w.release_commits();
    match w.answer(0) {
        Some(Report::RetainedForgotten {
            count: 2,
            next: None,
        }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(
        (topics(&w, "#"), w.count_records(is_kept)),
        (vec!["u/1".to_owned()], 1)
    );
    match forget(&w, "none/#") {
        Some(Report::RetainedForgotten {
            count: 0,
            next: None,
        }) => {}
        other => panic!("{other:?}"),
    }
    w.stall_stores(true);
    assert!(matches!(forget(&w, "#"), Some(Report::StoreStalled)));
    assert_eq!(topics(&w, "#").len(), 1);
}

#[test]
fn very_many_are_forgotten_in_several_answers() {
    let w = World::new(1);
    let a = w.connected(V311, "a");
    for n in 0..1_500 {
        a.publish_retained(&format!("t/{n}"), "x", 0);
    }
    let (mut after, mut sum, mut pages) = (None, 0, 0);
    loop {
        let question = Question::ForgetRetained {
            filter: "t/+".into(),
            after,
        };
        let Some(Report::RetainedForgotten { count, next }) = w.ask(0, question) else {
            panic!("not forgotten");
        };
        (sum, pages, after) = (sum + count, pages + 1, next);
        if after.is_none() {
            break;
        }
    }
    assert!(sum == 1_500 && pages > 1, "{sum} in {pages}");
    assert_eq!(topics(&w, "#").len(), 0);
}
