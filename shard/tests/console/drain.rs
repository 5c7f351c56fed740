//! Clients are moved away.

use crate::support::*;
use shard::console::{Draining, Question, Report, Shed};

fn drain(w: &World, core: usize, server: Option<&str>) {
    let server = server.map(Into::into);
    let done = w.ask(core, Question::Drain(Some(Draining { server })));
    assert!(matches!(done, Some(Report::Done)));
}

fn shed(w: &World, core: usize, limit: u32) -> Shed {
    match w.ask(core, Question::Shed { limit }) {
        Some(Report::Shed(shed)) => shed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn clients_are_closed_a_few_at_a_time_and_new_ones_refused() {
    let w = World::new(1);
    let clients: Vec<Client> = (0..10).map(|n| w.connected(V5, &format!("{n}"))).collect();
    assert_eq!(
        shed(&w, 0, 100),
        Shed {
            closed: 0,
            clients: 10
        },
        "nobody has asked to drain"
    );
    drain(&w, 0, None);
    assert_eq!(
        shed(&w, 0, 3),
        Shed {
            closed: 3,
            clients: 7
        }
    );
    for client in &clients[..3] {
        client.expect_disconnect(ReasonCode::ServerShuttingDown);
    }
    clients[3].expect_alive();
    let refused = clients[0].try_connect(|c| c);
    assert_eq!(refused.reason, ReasonCode::ServerUnavailable);
    let old = w.client(V311, "old");
    assert_eq!(old.try_connect(|c| c).reason, ReasonCode::ServerUnavailable);
    assert_eq!(
        shed(&w, 0, 100),
        Shed {
            closed: 7,
            clients: 0
        }
    );
    assert_eq!(shed(&w, 0, 100), Shed::default());
    assert!(matches!(
        w.ask(0, Question::Drain(None)),
        Some(Report::Done)
    ));
    clients[0].connect();
}

#[test]
fn sessions_stay_and_clients_of_version_5_hear_of_the_other_server() {
    let w = World::new(1);
    let a = w.client(V5, "a");
    a.connect_with(|c| c.clean_start(false).session_expiry(60));
    drain(&w, 0, Some("other.example:1883"));
    shed(&w, 0, 10);
    let goodbye = a.expect_disconnect(ReasonCode::UseAnotherServer);
    let raw = String::from_utf8_lossy(&goodbye.raw).into_owned();
    assert!(raw.contains("other.example:1883"), "{raw}");
    let refused = a.try_connect(|c| c.clean_start(false).session_expiry(60));
    assert_eq!(refused.reason, ReasonCode::UseAnotherServer);
    let raw = String::from_utf8_lossy(&refused.raw).into_owned();
    assert!(raw.contains("other.example:1883"), "{raw}");
    let old = w.client(V311, "b");
    assert_eq!(old.try_connect(|c| c).reason, ReasonCode::ServerUnavailable);
    w.ask(0, Question::Drain(None));
    assert!(
        a.try_connect(|c| c.clean_start(false).session_expiry(60))
            .session_present
    );
}
