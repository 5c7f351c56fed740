//! New settings while clients are connected.

use crate::support::*;
use mqtt_v5_codec::ReasonCode;
use shard::console::{Question, Report, Settings};
use shard::{Anonymous, Config, Limits};

/// The settings that a world of this kind begins with, changed.
fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let config = Config::alone();
    let mut settings = Settings {
        anonymous: config.anonymous,
        durability: config.durability,
        mesh: config.mesh,
        limits: config.limits,
    };
    change(&mut settings);
    settings
}

fn limited(change: impl FnOnce(&mut Limits)) -> Settings {
    settings(|settings| change(&mut settings.limits))
}

#[track_caller]
fn configure(world: &World, shards: usize, settings: &Settings) {
    for core in 0..shards {
        let question = Question::Configure(Box::new(settings.clone()));
        assert!(matches!(
            world.ask(core, question),
            Some(Report::Configured)
        ));
    }
}

#[test]
fn those_who_may_not_be_there_any_more_are_told_and_closed() {
    for shards in [1, 2] {
        let w = World::new(shards);
        let new: Vec<Client> = (0..8)
            .map(|n| w.connected(V5, &format!("new-{n}")))
            .collect();
        let old = w.connected(V311, "old");
        let denied = settings(|settings| settings.anonymous = Anonymous::Deny);
        configure(&w, usize::from(shards), &denied);
        w.advance_ms(1);
        for client in &new {
            client.expect_disconnect(ReasonCode::NotAuthorized);
            client.expect_closed();
        }
        old.expect_closed();
        let late = w.client(V5, "late");
        assert_eq!(late.try_connect(|c| c).reason, ReasonCode::NotAuthorized);
        configure(&w, usize::from(shards), &settings(|_| {}));
        w.connected(V5, "welcome").expect_alive();
    }
}

#[test]
fn those_who_may_stay_stay() {
    let w = World::new(1);
    let a = w.connected(V5, "a");
    a.subscribe("t", 1);
    configure(&w, 1, &limited(|limits| limits.subscriptions_max = 1));
    w.advance_ms(1);
    a.expect_alive();
    // From now on the new limit counts.
    assert_eq!(a.subscribe("u", 1), ReasonCode::QuotaExceeded as u8);
    assert_eq!(a.publish("t", "x", 1), ReasonCode::Success);
    assert_eq!(&*a.message().payload, b"x");
}

#[test]
fn nobody_is_closed_for_keeping_to_what_it_was_told() {
    let w = World::new(1);
    let a = w.connected(V5, "a");
    let lower = limited(|limits| {
        limits.packet_bytes_max = 1_024;
        limits.receive_maximum = 1;
        limits.topic_alias_maximum = 0;
    });
    configure(&w, 1, &lower);
    let large = "x".repeat(4_000);
    assert_eq!(a.publish("t", &large, 1), ReasonCode::NoMatchingSubscribers);
    a.publish_with(PublishPacket::new("t", "x").qos(2).id(1));
    a.publish_with(PublishPacket::new("t", "x").qos(2).id(2));
    a.expect_ack(AckKind::Pubrec, 1, ReasonCode::NoMatchingSubscribers);
    a.expect_ack(AckKind::Pubrec, 2, ReasonCode::NoMatchingSubscribers);
    a.expect_alive();
    // Whoever connects now is told the new ones.
    let b = w.client(V5, "b");
    let connack = b.connect();
    assert_eq!(connack.receive_maximum, Some(1));
}

#[test]
fn prefixes_count_from_the_next_message_on() {
    let w = World::durable(1);
    let kept = w.client(V5, "kept");
    kept.connect_with(|c| c.clean_start(false).session_expiry(60));
    kept.subscribe("t/#", 1);
    let a = w.connected(V5, "a");
    w.hold_commits();
    let id = a.publish_with(PublishPacket::new("t/1", "x").qos(1).id(1));
    a.expect_nothing();
    w.release_commits();
    a.expect_ack(AckKind::Puback, id, ReasonCode::Success);
    let interval = settings(|settings| {
        let prefix = ("t/".into(), shard::DurabilityMode::Interval);
        settings.durability.prefixes = vec![prefix];
        settings.durability.interval_ms = 200;
    });
    configure(&w, 1, &interval);
    w.hold_commits();
    let id = a.publish_with(PublishPacket::new("t/1", "x").qos(1).id(2));
    // In memory is enough now; the mode itself is as it was.
    a.expect_ack(AckKind::Puback, id, ReasonCode::Success);
    let id = a.publish_with(PublishPacket::new("t/1", "x").qos(1).id(3));
    a.expect_ack(AckKind::Puback, id, ReasonCode::Success);
    w.release_commits();
}

/// An ordinary topic of nobody who is here: below a UUID.
const BELOW: &str = "66617a1d-0c05-4a5c-9d3c-6c4a1d1a2b3c/x";

#[test]
fn while_ordinary_topics_are_denied_subscriptions_to_them_hear_nothing() {
    for shards in [1, 2] {
        let w = World::with(shards, |config| config.limits.sys_interval_s = 1);
        let heard: Vec<Client> = ["t", "#", "+/x", "$share/g/#", "$SYS/#"]
            .iter()
            .enumerate()
            .map(|(n, filter)| {
                let client = w.connected(V5, &format!("client-{n}"));
                client.subscribe(filter, 1);
                client
            })
            .collect();
        let below = w.connected(V5, "below");
        below.subscribe(BELOW, 1);
        let b = w.client(V5, "b");
        b.connect_with(|c| c.will(WillPacket::new("t", "will")));
        let a = w.connected(V5, "a");
        let of = |free| {
            settings(|settings| {
                settings.mesh.has_free_topics = free;
                settings.limits.sys_interval_s = 1;
            })
        };
        configure(&w, usize::from(shards), &of(false));
        for client in &heard {
            client.drain();
        }
        assert_eq!(a.publish("t", "x", 1), ReasonCode::NotAuthorized);
        assert_eq!(a.publish(BELOW, "x", 1), ReasonCode::Success);
        assert_eq!(&*below.receive().payload, b"x");
        b.cut();
        w.advance(3);
        for client in &heard {
            client.expect_nothing();
        }
        // They are there still.
        configure(&w, usize::from(shards), &of(true));
        assert_eq!(a.publish("t", "y", 1), ReasonCode::Success);
        for client in [&heard[0], &heard[1], &heard[3]] {
            assert_eq!(&*client.receive().payload, b"y");
        }
        w.advance(2);
        assert!(!heard[4].drain_messages().is_empty());
    }
}

#[test]
fn what_the_broker_says_of_itself_comes_in_another_rhythm() {
    let w = World::new(2);
    let a = w.connected(V5, "a");
    a.subscribe("$SYS/broker/uptime", 0);
    let of = |seconds| limited(|limits| limits.sys_interval_s = seconds);
    let heard = |seconds| {
        a.drain();
        w.advance(seconds);
        a.drain_messages().len()
    };
    configure(&w, 2, &of(0));
    assert_eq!(heard(100), 0);
    configure(&w, 2, &of(2));
    assert!((9..=10).contains(&heard(20)));
    configure(&w, 2, &of(5));
    // Told the same again, it does not begin anew.
    w.advance(4);
    configure(&w, 2, &of(5));
    assert_eq!(heard(2), 1);
    assert!((3..=4).contains(&heard(20)));
    configure(&w, 2, &of(0));
    assert_eq!(heard(100), 0);
}
