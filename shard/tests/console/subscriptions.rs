//! The list of subscriptions.

use crate::support::*;
use shard::console::{Place, Question, Report, Rows, SubscriptionFilter, SubscriptionRow};

fn page(
    w: &World,
    from: Place,
    limit: u32,
    filter: &SubscriptionFilter,
) -> Rows<SubscriptionRow, Place> {
    let filter = filter.clone();
    match w.ask(
        0,
        Question::Subscriptions {
            from,
            limit,
            filter,
        },
    ) {
        Some(Report::Subscriptions(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

fn all(w: &World, filter: &SubscriptionFilter) -> Vec<String> {
    let (mut rows, mut from) = (Vec::new(), Some(Place::default()));
    while let Some(place) = from {
        let page = page(w, place, 2, filter);
        assert!(page.rows.len() <= 2);
        rows.extend(page.rows.iter().map(|row| {
            let share = row.share.as_deref().map(|name| format!("{name}:"));
            format!(
                "{} {}{}",
                row.client_id,
                share.unwrap_or_default(),
                row.filter
            )
        }));
        from = page.next;
    }
    rows.sort();
    rows
}

fn busy() -> (World, Vec<Client>) {
    let w = World::new(1);
    let (a, b, c) = (
        w.connected(V5, "a"),
        w.connected(V5, "b"),
        w.connected(V311, "c"),
    );
    a.subscribe_with_id("t/+", 1, 9);
    a.subscribe("t/1", 0);
    a.subscribe("$share/g/t/#", 2);
    c.subscribe("u", 2);
    (w, vec![a, b, c])
}

#[test]
fn all_subscriptions_are_listed_and_filters_narrow_them() {
    let (w, _clients) = busy();
    let none = SubscriptionFilter::default();
    assert_eq!(all(&w, &none), ["a g:t/#", "a t/+", "a t/1", "c u"]);
    let of = |id: &str| SubscriptionFilter {
        client_id: Some(id.into()),
        ..none.clone()
    };
    assert_eq!(all(&w, &of("a")), ["a g:t/#", "a t/+", "a t/1"]);
    assert_eq!(all(&w, &of("b")), [""; 0]);
    assert_eq!(all(&w, &of("nobody")), [""; 0]);
    let exact = SubscriptionFilter {
        filter: Some("t/+".into()),
        ..none.clone()
    };
    assert_eq!(all(&w, &exact), ["a t/+"]);
    let topic = SubscriptionFilter {
        topic: Some("t/2".into()),
        ..none.clone()
    };
    assert_eq!(all(&w, &topic), ["a g:t/#", "a t/+"]);
    let rows = page(&w, Place::default(), 100, &exact).rows;
    assert_eq!(
        (rows[0].subscription_id, rows[0].options.qos),
        (9, QoS::AtLeastOnce)
    );
    assert!(rows[0].is_connected);
}

#[test]
fn what_stays_is_listed_while_others_go() {
    let w = World::new(1);
    let a = w.connected(V5, "a");
    for n in 0..100 {
        a.subscribe(&format!("t/{n}"), 0);
    }
    let none = SubscriptionFilter::default();
    let mut seen = std::collections::BTreeSet::new();
    let (mut from, mut gone) = (Some(Place::default()), 0);
    while let Some(place) = from {
        let page = page(&w, place, 10, &none);
        seen.extend(page.rows.into_iter().map(|row| row.filter));
        from = page.next;
        for _ in 0..3 {
            a.unsubscribe(&[&format!("t/{}", gone * 7 % 100)]);
            gone += 1;
        }
    }
    let has_gone: std::collections::BTreeSet<u32> = (0..gone).map(|n| n * 7 % 100).collect();
    for n in (0..100).filter(|n| !has_gone.contains(n)) {
        assert!(seen.contains(&*format!("t/{n}")), "{n}");
    }
}

#[test]
fn nonsense_places_are_answered() {
    let (w, _clients) = busy();
    for session in [0, 1, 2, 77, u32::MAX] {
        for left in [None, Some(0), Some(1), Some(u32::MAX)] {
            for is_own in [false, true] {
                let place = Place {
                    session,
                    is_own,
                    left,
                };
                page(&w, place, 5, &SubscriptionFilter::default());
            }
        }
    }
}
