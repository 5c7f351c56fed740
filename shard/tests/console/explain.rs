//! Why a message would or would not arrive.

use crate::support::*;
use shard::console::{GroupView, Leave, PublisherView, Question, Report, SubscriberView};

fn publisher(w: &World, id: &str, topic: &str) -> Option<PublisherView> {
    let (client_id, topic) = (id.into(), topic.into());
    match w.ask(0, Question::ExplainPublisher { client_id, topic }) {
        Some(Report::Publisher(view)) => view,
        other => panic!("{other:?}"),
    }
}

fn subscriber(w: &World, id: &str, topic: &str) -> Option<SubscriberView> {
    let (client_id, topic) = (id.into(), topic.into());
    match w.ask(0, Question::ExplainSubscriber { client_id, topic }) {
        Some(Report::Subscriber(view)) => view.map(|view| *view),
        other => panic!("{other:?}"),
    }
}

fn group(w: &World, share: &str, filter: &str) -> Option<GroupView> {
    let (share, filter) = (share.into(), filter.into());
    match w.ask(0, Question::ExplainGroup { share, filter }) {
        Some(Report::Group(view)) => view,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_publisher_is_judged_as_its_messages_are() {
    let w = World::new(1);
    let a = w.connected(V5, "a");
    assert_eq!(publisher(&w, "a", "t").unwrap().leave, Some(Leave::Granted));
    for denied in [
        "$SYS/broker/version",
        "$share/g/t",
        "66617a1d-0c05-4a5c-9d3c-6c4a1d1a2b3c/received",
    ] {
        let view = publisher(&w, "a", denied).unwrap();
        let reason = a.publish(denied, "x", 1);
        assert_eq!(
            view.leave == Some(Leave::Denied),
            reason == ReasonCode::NotAuthorized,
            "{denied}"
        );
    }
    assert_eq!(publisher(&w, "b", "t"), None);
    let w = World::with(1, |config| config.mesh.has_free_topics = false);
    w.connected(V5, "a");
    assert_eq!(publisher(&w, "a", "t").unwrap().leave, Some(Leave::Denied));
}

#[test]
fn a_subscriber_has_what_matches_and_how_full_it_is() {
    let w = World::new(1);
    let a = w.client(V5, "a");
    a.connect_with(|c| c.clean_start(false).session_expiry(60).receive_maximum(1));
    a.subscribe_with_id("t/+", 1, 5);
    a.subscribe("u", 0);
    a.subscribe("$share/g/t/#", 2);
    let b = w.connected(V5, "b");
    for _ in 0..3 {
        b.publish("t/1", "x", 1);
    }
    let view = subscriber(&w, "a", "t/1").unwrap();
    let filters: Vec<&str> = view.matches.iter().map(|row| &*row.filter).collect();
    assert_eq!(filters, ["t/+", "t/#"]);
    assert_eq!(
        (
            view.matches[0].subscription_id,
            view.matches[1].share.as_deref()
        ),
        (5, Some("g"))
    );
    assert_eq!((view.in_flight, view.in_flight_max), (1, 1));
    assert!(view.queue_messages > 0 && !view.is_shut_out && !view.is_output_full);
    assert_eq!(subscriber(&w, "a", "v").unwrap().matches, []);
    assert_eq!(subscriber(&w, "nobody", "t"), None);
    a.cut();
    assert_eq!(subscriber(&w, "a", "t/1").unwrap().version, None);
}

#[test]
fn a_group_has_members() {
    let w = World::new(1);
    for id in ["a", "b"] {
        let client = w.client(V5, id);
        client.connect_with(|c| c.clean_start(false).session_expiry(60));
        client.subscribe("$share/g/t", 1);
        if id == "b" {
            client.cut();
        }
    }
    let view = group(&w, "g", "t").unwrap();
    assert_eq!(
        (view.members, view.connected, view.queue_messages),
        (2, 1, 0)
    );
    assert_eq!(group(&w, "g", "u"), None);
}
