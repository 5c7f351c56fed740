//! The list of clients.

use crate::support::*;
use shard::Time;
use shard::console::{ClientFilter, ClientRow, Question, ROWS_MAX, Report, Rows};

fn page(
    world: &World,
    core: usize,
    from: u32,
    limit: u32,
    filter: &ClientFilter,
) -> Rows<ClientRow> {
    let filter = filter.clone();
    match world.ask(
        core,
        Question::Clients {
            from,
            limit,
            filter,
        },
    ) {
        Some(Report::Clients(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

/// All of one shard, page by page.
fn all(world: &World, filter: &ClientFilter) -> Vec<ClientRow> {
    let (mut rows, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let page = page(world, 0, at, 3, filter);
        assert!(page.rows.len() <= 3);
        assert!(page.next.is_none_or(|next| next > at), "it goes on");
        rows.extend(page.rows);
        from = page.next;
    }
    rows
}

fn ids(rows: &[ClientRow]) -> Vec<&str> {
    rows.iter().map(|row| &*row.client_id).collect()
}

#[test]
fn a_client_is_described() {
    let w = World::new(1);
    let a = w.client(V5, "a");
    a.connect_with(|c| {
        c.clean_start(false)
            .session_expiry(60)
            .keep_alive(30)
            .receive_maximum(2)
    });
    a.subscribe("t/#", 1);
    a.subscribe("$share/g/u", 1);
    let b = w.connected(V311, "b");
    for n in 0..5 {
        b.publish("t/1", &format!("message {n}"), 1);
    }
    let rows = all(&w, &ClientFilter::default());
    assert_eq!(ids(&rows), ["a", "b"]);
    let row = &rows[0];
    let connection = row.connection.as_ref().unwrap();
    assert_eq!((connection.version, connection.keep_alive_s), (V5, 30));
    assert_eq!(connection.since, Time(1_700_000_000_000_000));
    assert_eq!((row.expiry_s, row.subscriptions), (60, 2));
    assert_eq!((row.in_flight, row.queue_messages), (2, 3));
    assert!(row.queue_bytes > 0);
    assert_eq!(row.expires, None);
    a.cut();
    let row = &all(&w, &ClientFilter::default())[0];
    assert_eq!(row.connection, None);
    assert_eq!(row.expires, Some(Time(1_700_000_060_000_000)));
}

#[test]
fn filters_narrow_the_list() {
    let w = World::new(1);
    w.connected(V311, "pump-1");
    w.connected(V5, "pump-2");
    let gone = w.client(V5, "pump-3");
    gone.connect_with(|c| c.clean_start(false).session_expiry(60));
    gone.cut();
    w.connected(V5, "valve");
    let none = ClientFilter::default();
    let check = |filter: ClientFilter, expected: &[&str]| {
        assert_eq!(ids(&all(&w, &filter)), expected, "{filter:?}");
    };
    check(none.clone(), &["pump-1", "pump-2", "pump-3", "valve"]);
    let prefix = |prefix: &str| Some(prefix.into());
    check(
        ClientFilter {
            prefix: prefix("pump"),
            ..none.clone()
        },
        &["pump-1", "pump-2", "pump-3"],
    );
    check(
        ClientFilter {
            prefix: prefix("x"),
            ..none.clone()
        },
        &[],
    );
    check(
        ClientFilter {
            version: Some(V5),
            ..none.clone()
        },
        &["pump-2", "valve"],
    );
    check(
        ClientFilter {
            is_connected: Some(false),
            ..none.clone()
        },
        &["pump-3"],
    );
    check(
        ClientFilter {
            is_connected: Some(true),
            prefix: prefix("pump"),
            ..none.clone()
        },
        &["pump-1", "pump-2"],
    );
    check(
        ClientFilter {
            peer: Some([192, 0, 2, 1].into()),
            ..none.clone()
        },
        &[],
    );
    check(
        ClientFilter {
            device: Some(shard::DeviceId([1; 16])),
            ..none
        },
        &[],
    );
}

#[test]
fn a_list_stays_right_while_clients_come_and_go() {
    let w = World::new(1);
    let clients: Vec<Client> = (0..9).map(|n| w.connected(V5, &format!("{n}"))).collect();
    let none = ClientFilter::default();
    let first = page(&w, 0, 0, 4, &none);
    assert_eq!(ids(&first.rows), ["0", "1", "2", "3"]);
    clients[1].disconnect();
    clients[5].disconnect();
    w.connected(V5, "new");
    let second = page(&w, 0, first.next.unwrap(), 4, &none);
    let third = page(&w, 0, second.next.unwrap(), 4, &none);
    let seen = [ids(&second.rows), ids(&third.rows)].concat();
    for stays in ["4", "6", "7", "8"] {
        assert_eq!(
            seen.iter().filter(|id| **id == stays).count(),
            1,
            "{seen:?}"
        );
    }
    assert!(!seen.contains(&"5"));
    assert_eq!(third.next, None);
}

#[test]
fn nonsense_is_answered() {
    let w = World::new(1);
    let none = ClientFilter::default();
    for from in [0, 1, 77, u32::MAX] {
        let rows = page(&w, 0, from, 0, &none);
        assert!(rows.rows.is_empty() && rows.next.is_none());
    }
    for n in 0..ROWS_MAX + 10 {
        w.connected(V311, &format!("c{n}"));
    }
    assert_eq!(page(&w, 0, 0, 0, &none).rows.len(), 1);
    let most = page(&w, 0, 0, u32::MAX, &none);
    assert_eq!(most.rows.len(), ROWS_MAX as usize);
    assert_eq!(
        page(&w, 0, most.next.unwrap(), u32::MAX, &none).rows.len(),
        10
    );
}

#[test]
fn long_names_make_short_pages() {
    let w = World::new(1);
    for n in 0..20 {
        w.connected(V311, &format!("{n:02}{}", "x".repeat(60_000)));
    }
    let rows = page(&w, 0, 0, 1_000, &ClientFilter::default());
    assert!(rows.rows.len() < 8 && rows.next.is_some());
    assert_eq!(all(&w, &ClientFilter::default()).len(), 20);
}
