//! One file: what is put comes back, also after a crash; what is removed does not.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

mod support;

use proptest::prelude::*;
use shard::{Change, SessionKey, Time};
use std::path::Path;
use storage::{Store, StoreError};
use support::{Model, any_change, commit, header, message, queued, records, session, subscription};

fn create(path: &Path) -> Store {
    Store::create(path, &header()).unwrap()
}

#[test]
fn an_empty_file_says_whose_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    create(&path).close().unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(*store.header(), header());
    let loaded = store.load(&mut |change| panic!("{change:?}")).unwrap();
    assert_eq!((loaded.alive, loaded.records()), (None, 0));
}

#[test]
fn what_is_committed_survives_a_crash_and_counts() {
    let directory = tempfile::tempdir().unwrap();
    let [path, copy] = ["a.redb", "b.redb"].map(|name| directory.path().join(name));
    let mut store = create(&path);
    let hello = message("greetings/one", b"hello");
    let changes = vec![
        session(5, "client"),
        subscription(5, "greetings/+"),
        queued(5, 2, &hello),
        queued(5, 1, &hello),
        Change::PutRetained { message: hello },
    ];
    store.apply(&[commit(3, changes)]).unwrap();
    // The file as a killed process leaves it: nothing has been closed.
    std::fs::copy(&path, &copy).unwrap();
    let expected = records(&store);
    drop(store);
    for path in [&path, &copy] {
        let store = Store::open(path).unwrap();
        assert_eq!(records(&store), expected);
        let loaded = store.load(&mut |_| Ok(())).unwrap();
        assert_eq!(loaded.alive, Some(Time(1_003)));
        assert_eq!(
            (
                loaded.sessions,
                loaded.subscriptions,
                loaded.queued,
                loaded.retained
            ),
            (1, 1, 2, 1)
        );
    }
}

#[test]
fn a_session_goes_with_all_that_is_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory.path().join("a.redb"));
    let hello = message("t", b"hello");
    let all_of = |key| {
        vec![
            session(key, "client"),
            subscription(key, "t"),
            subscription(key, "\u{10FFFF}"),
            queued(key, 0, &hello),
            queued(key, u64::MAX, &hello),
            Change::PutReceived {
                session: SessionKey(key),
                packet_id: mqtt_v5_codec::PacketId::new(u16::MAX).unwrap(),
                ordinal: 4,
            },
            Change::PutSeen {
                session: SessionKey(key),
                publisher: SessionKey(u64::MAX),
                packet_id: mqtt_v5_codec::PacketId::new(u16::MAX).unwrap(),
                ordinal: 4,
            },
        ]
    };
    let others: Vec<Change> = [1, 3, u64::MAX].into_iter().flat_map(all_of).collect();
    store.apply(&[commit(1, others)]).unwrap();
    let expected = records(&store);
    store.apply(&[commit(2, all_of(2))]).unwrap();
    assert_eq!(records(&store).len(), expected.len() + 8);
    let removal = Change::RemoveSession {
        session: SessionKey(2),
    };
    store.apply(&[commit(3, vec![removal])]).unwrap();
    assert_eq!(records(&store), expected);
}

#[test]
fn a_device_goes_with_its_tokens_and_the_subscriptions_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory.path().join("a.redb"));
    let all_of = |number: u128| {
        let mut changes = vec![
            support::device(number),
            support::token(number, 0),
            support::token(number, u64::MAX),
        ];
        changes.extend([0, 5, u128::MAX].into_iter().flat_map(|subscriber| {
            [0, u8::MAX].map(|kind| support::device_subscription(number, subscriber, kind))
        }));
        changes
    };
    let others: Vec<Change> = [4, 6, u128::MAX].into_iter().flat_map(all_of).collect();
    store.apply(&[commit(1, others)]).unwrap();
    let expected = records(&store);
    store.apply(&[commit(2, all_of(5))]).unwrap();
    assert_eq!(records(&store).len(), expected.len() + 9);
    let removal = Change::RemoveDevice {
        device: support::device_id(5),
    };
    store.apply(&[commit(3, vec![removal.clone()])]).unwrap();
    assert_eq!(records(&store), expected);
    // Registered again in the same group: what was said before counts no more.
    let again = vec![removal, support::device(5)];
    let both = [commit(4, all_of(5)), commit(5, again)];
    store.apply(&both).unwrap();
    assert_eq!(records(&store).len(), expected.len() + 1);
}

#[test]
fn the_floor_outlives_what_raised_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let mut store = create(&path);
    let packet_id = mqtt_v5_codec::PacketId::new(9).unwrap();
    let session = SessionKey(1);
    let put = |ordinal| Change::PutReceived {
        session,
        packet_id,
        ordinal,
    };
    let remove = || Change::RemoveReceived { session, packet_id };
    // In one group, in groups of their own, and lower than before.
    store.apply(&[commit(1, vec![put(6), remove()])]).unwrap();
    store.apply(&[commit(2, vec![put(3)])]).unwrap();
    store.apply(&[commit(3, vec![remove()])]).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    let floor = Change::PutFloor {
        session,
        ordinal: 6,
    };
    assert_eq!(records(&store), [format!("{floor:?}")]);
}

#[test]
fn a_queue_is_read_in_parts() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory.path().join("a.redb"));
    let hello = message("t", &[7; 1_000]);
    let mut changes: Vec<Change> = (1..=20).map(|n| queued(5, n * 10, &hello)).collect();
    changes.push(queued(4, 15, &hello));
    changes.push(queued(6, 15, &hello));
    store.apply(&[commit(1, changes)]).unwrap();
    let read = |after, messages_max, bytes_max| -> Vec<u64> {
        let session = SessionKey(5);
        let queue = store.load_queue(session, after, messages_max, bytes_max);
        queue
            .unwrap()
            .iter()
            .map(|queued| queued.position)
            .collect()
    };
    assert_eq!(read(0, 3, u32::MAX), [10, 20, 30]);
    assert_eq!(read(30, 2, u32::MAX), [40, 50]);
    assert_eq!(read(35, 1, 0), [40], "at least one");
    assert_eq!(
        read(0, 100, 2_500).len(),
        3,
        "no further once there are so many bytes"
    );
    assert_eq!(read(190, 100, u32::MAX), [200]);
    assert!(read(200, 100, u32::MAX).is_empty());
    assert!(read(u64::MAX, 100, u32::MAX).is_empty());
    assert!(read(0, 0, u32::MAX).is_empty());
}

#[test]
fn a_refused_record_ends_the_load() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(&directory.path().join("a.redb"));
    store
        .apply(&[commit(1, vec![session(1, "a"), session(2, "b")])])
        .unwrap();
    let result = store.load(&mut |_| Err("no".to_owned()));
    assert!(matches!(result, Err(StoreError::Refused { reason, .. }) if reason == "no"));
}

#[test]
fn what_is_no_file_of_ours_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let open = |name: &str| Store::open(&path(name)).unwrap_err();
    assert!(matches!(open("missing"), StoreError::Missing { .. }));
    std::fs::write(path("empty"), []).unwrap();
    assert!(matches!(open("empty"), StoreError::Damaged { .. }));
    std::fs::write(path("text"), "not a database at all\n".repeat(1_000)).unwrap();
    assert!(
        matches!(open("text"), StoreError::Damaged { .. }),
        "{}",
        open("text")
    );
    let store = create(&path("held"));
    assert!(
        matches!(open("held"), StoreError::Busy { .. }),
        "{}",
        open("held")
    );
    drop(store);
    assert!(matches!(
        Store::create(&path("held"), &header()),
        Err(StoreError::Io { .. })
    ));
    assert!(Store::open(&path("held")).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any history in any grouping, with a crash after it.
    #[test]
    fn a_file_holds_what_a_map_would(
        groups in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any_change(), 0..8), 1..4),
            1..6,
        ),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let [path, copy] = ["a.redb", "b.redb"].map(|name| directory.path().join(name));
        let mut store = create(&path);
        let mut model = Model::default();
        for group in groups {
            let commits: Vec<_> = group.into_iter().map(|changes| commit(1, changes)).collect();
            commits.iter().flat_map(|commit| &commit.changes).for_each(|c| model.apply(c));
            store.apply(&commits).unwrap();
            prop_assert_eq!(records(&store), model.records());
        }
        std::fs::copy(&path, &copy).unwrap();
        drop(store);
        prop_assert_eq!(records(&Store::open(&path).unwrap()), model.records());
        prop_assert_eq!(records(&Store::open(&copy).unwrap()), model.records());
    }
}
