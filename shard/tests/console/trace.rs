//! What happens to packets is noted while somebody looks.

use crate::support::*;
use shard::console::{Fate, Question, Report, Subject, TRACED_MAX, TRACES_MAX, Trail};

fn begin(w: &World, number: u64, subject: Subject) -> Option<Report> {
    w.ask(0, Question::BeginTrace { number, subject })
}

fn read(w: &World, number: u64) -> Option<Trail> {
    match w.ask(0, Question::ReadTrace { number }) {
        Some(Report::Trail(trail)) => trail,
        other => panic!("{other:?}"),
    }
}

/// What was noted, in words.
fn told(w: &World, number: u64) -> Vec<String> {
    let trail = read(w, number).expect("the trace runs");
    let word = |fate: &Fate| match fate {
        Fate::Received { bytes, .. } => format!("received {bytes}"),
        Fate::Refused(reason) => format!("refused {reason:?}"),
        Fate::Matched(filters) => format!("matched {}", filters.join(" ")),
        Fate::Dropped(why) => format!("dropped {why}"),
        other => format!("{other:?}").to_lowercase(),
    };
    trail
        .steps
        .iter()
        .map(|step| format!("{} {} {}", step.client_id, step.topic, word(&step.fate)))
        .collect()
}

#[test]
fn a_topic_is_followed_from_its_publisher_to_its_subscribers() {
    let w = World::new(1);
    let (a, b) = (w.connected(V5, "a"), w.client(V5, "b"));
    b.connect_with(|c| c.clean_start(false).session_expiry(60));
    b.subscribe("t/+", 1);
    b.subscribe("t/#", 0);
    a.publish("t/0", "before", 1);
    let before = b.receive();
    assert!(matches!(
        begin(&w, 7, Subject::Topic("t/#".into())),
        Some(Report::Done)
    ));
    a.publish("t/1", "12345", 1);
    b.receive();
    a.publish("u", "not meant", 1);
    let all = told(&w, 7);
    let expected = [
        "a t/1 received 5",
        "b t/1 matched t/+ t/#",
        "b t/1 delivered",
        "b t/1 acknowledged",
    ];
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!(all[0], expected[0]);
    assert!(all[1].contains("matched") && all[1].contains("t/+") && all[1].contains("t/#"));
    assert_eq!(all[2..], expected[2..]);
    b.cut();
    a.publish("t/2", "x", 1);
    a.publish("t/2", "x", 0);
    let all = told(&w, 7);
    assert!(all.contains(&"b t/2 queued".to_owned()), "{all:?}");
    assert!(
        all.iter().any(|line| line.contains("dropped QoS 0")),
        "{all:?}"
    );
    assert!(matches!(
        w.ask(0, Question::EndTrace { number: 7 }),
        Some(Report::Done)
    ));
    assert!(read(&w, 7).is_none());
    drop(before);
}

#[test]
fn a_client_is_followed_and_refusals_are_told() {
    let w = World::new(1);
    let a = w.connected(V5, "a");
    let b = w.connected(V5, "b");
    begin(&w, 1, Subject::Client("a".into()));
    a.publish("$SYS/x", "", 1);
    b.publish("t", "", 1);
    assert_eq!(
        told(&w, 1),
        ["a $SYS/x received 0", "a $SYS/x refused NotAuthorized"]
    );
}

#[test]
fn a_trace_is_bounded_and_ends_when_nobody_reads() {
    let w = World::new(1);
    let a = w.connected(V311, "a");
    for number in 0..TRACES_MAX as u64 {
        assert!(matches!(
            begin(&w, number, Subject::Client("a".into())),
            Some(Report::Done)
        ));
    }
    assert!(matches!(
        begin(&w, 99, Subject::Client("a".into())),
        Some(Report::TooManyTraces)
    ));
    for _ in 0..TRACED_MAX + 10 {
        a.publish_with(PublishPacket::new(&"t".repeat(300), "x"));
    }
    let trail = read(&w, 0).unwrap();
    assert_eq!((trail.steps.len(), trail.left_out), (TRACED_MAX, 10));
    assert_eq!(trail.steps[0].topic.len(), 256);
    assert_eq!(read(&w, 0).unwrap().left_out, 0);
    w.advance(11);
    a.publish_with(PublishPacket::new("t", "x"));
    assert!(read(&w, 0).is_none() && read(&w, 1).is_none() && read(&w, 98).is_none());
    assert!(matches!(
        begin(&w, 99, Subject::Client("a".into())),
        Some(Report::Done)
    ));
}
