//! One client: described, and parted with.

use crate::support::*;
use shard::console::{ClientDetail, Question, Removal, Report};

fn describe(w: &World, core: usize, id: &str) -> Option<ClientDetail> {
    match w.ask(
        core,
        Question::Client {
            client_id: id.into(),
        },
    ) {
        Some(Report::Client(client)) => client.map(|client| *client),
        other => panic!("{other:?}"),
    }
}

fn remove(w: &World, core: usize, id: &str, with_session: bool) -> Option<Report> {
    w.ask(
        core,
        Question::Remove {
            client_id: id.into(),
            with_session,
        },
    )
}

#[track_caller]
fn removed(report: Option<Report>) -> Removal {
    match report {
        Some(Report::Removed(removal)) => removal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_is_known_where_it_lives() {
    World::each(|w| {
        let a = w.client(V5, "a");
        let will = WillPacket::new("wills/a", "gone").delay(30);
        a.connect_with(|c| c.clean_start(false).session_expiry(60).will(will));
        for core in 0..=a.shard() {
            assert_eq!(describe(w, core, "a").is_some(), core == a.shard());
        }
        let detail = describe(w, a.shard(), "a").unwrap();
        assert_eq!(detail.will, Some(("wills/a".into(), 30)));
        assert_eq!(detail.row.client_id, "a".into());
        assert!(!detail.is_kept && detail.received.is_some());
        assert_eq!(describe(w, a.shard(), "A"), None);
    });
}

#[test]
fn a_client_is_told_that_an_operator_has_closed_it() {
    World::each(|w| {
        let a = w.client(V5, "a");
        a.connect_with(|c| c.clean_start(false).session_expiry(60));
        a.subscribe("t", 1);
        let home = a.shard();
        let removal = removed(remove(w, home, "a", false));
        assert_eq!(
            (removal.is_known, removal.was_connected, removal.has_ended),
            (true, true, false)
        );
        a.expect_disconnect(ReasonCode::AdministrativeAction);
        // Its session is there still, and may be ended later.
        assert!(
            a.try_connect(|c| c.clean_start(false).session_expiry(60))
                .session_present
        );
        a.cut();
        let removal = removed(remove(w, home, "a", true));
        assert_eq!((removal.was_connected, removal.has_ended), (false, true));
        assert!(
            !a.try_connect(|c| c.clean_start(false).session_expiry(60))
                .session_present
        );
        let b = w.connected(V311, "b");
        let home = b.shard();
        assert!(removed(remove(w, home, "b", false)).has_ended);
        b.expect_closed();
        assert_eq!(removed(remove(w, home, "b", true)), Removal::default());
    });
}

#[test]
fn that_a_session_has_ended_is_durable_before_it_is_said() {
    let w = World::durable(1);
    let a = w.client(V5, "a");
    a.connect_with(|c| c.clean_start(false).session_expiry(60));
    let is_session = |change: &shard::Change| matches!(change, shard::Change::PutSession(_));
    assert_eq!(w.count_records(is_session), 1);
    w.hold_commits();
    assert!(remove(&w, 0, "a", true).is_none());
    assert_eq!(w.count_records(is_session), 1);
    w.commit();
    assert!(removed(w.answer(0)).has_ended);
    assert_eq!(w.count_records(is_session), 0);
    w.release_commits();
    a.connect_with(|c| c.clean_start(false).session_expiry(60));
    w.stall_stores(true);
    assert!(matches!(
        remove(&w, 0, "a", true),
        Some(Report::StoreStalled)
    ));
    a.expect_alive();
    assert!(removed(remove(&w, 0, "a", false)).was_connected);
}
