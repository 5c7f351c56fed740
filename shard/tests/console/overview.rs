//! How a shard is.

use crate::support::*;
use shard::console::{Overview, Question, Report};

fn overview(world: &World, core: usize) -> Overview {
    match world.ask(core, Question::Overview) {
        Some(Report::Overview(overview)) => *overview,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_shard_answers_for_itself() {
    World::each(|w| {
        let clients: Vec<Client> = (0..10)
            .map(|n| w.connected(V5, &format!("client-{n}")))
            .collect();
        clients[0].subscribe("a/+", 1);
        clients[1].publish_retained("a/b", "12345", 1);
        let shards = if clients.iter().any(|c| c.shard() != clients[0].shard()) {
            clients.iter().map(Client::shard).max().unwrap() + 1
        } else {
            1
        };
        let all: Vec<Overview> = (0..shards).map(|core| overview(w, core)).collect();
        for (core, overview) in all.iter().enumerate() {
            assert_eq!(usize::from(overview.shard.0), core);
            let here = clients.iter().filter(|c| c.shard() == core).count() as u64;
            assert_eq!(overview.counters.sessions, here);
            assert_eq!(overview.counters.connections, here);
            assert!(!overview.is_store_stalled);
        }
        let filters: u64 = all.iter().map(|o| o.filters).sum();
        assert_eq!(filters, 1);
        let retained: u64 = all.iter().map(|o| o.counters.retained).sum();
        assert_eq!(retained, 1);
    });
}

#[test]
fn a_commit_under_way_is_seen() {
    let w = World::durable(1);
    let a = w.client(V5, "a");
    a.connect_with(|c| c.clean_start(false).session_expiry(60));
    assert!(!overview(&w, 0).is_committing);
    w.hold_commits();
    a.publish_with(PublishPacket::new("t", "x").qos(1).retain().id(1));
    assert!(overview(&w, 0).is_committing);
    w.release_commits();
    assert!(!overview(&w, 0).is_committing);
    w.stall_stores(true);
    assert!(overview(&w, 0).is_store_stalled);
    w.stall_stores(false);
    w.advance(5);
    assert!(overview(&w, 0).uptime.0 >= 5_000_000);
}
