//! Topics that begin with a device's UUID live on that device's shard, others where they are
//! wanted. No client may see a difference: each script runs under both and is compared.

use super::support::{prop, *};

/// First levels: an ordinary one, and UUIDs that different shards own.
fn roots() -> Vec<String> {
    let uuid = |n| format!("{n:08x}-1111-4222-8333-{:012x}", n * 7_919);
    std::iter::once("ordinary".to_string())
        .chain((1..=8).map(uuid))
        .collect()
}

/// What a client was sent, with the root taken out of topics.
fn seen(client: &Client, root: &str) -> Vec<String> {
    let describe = |got: Got| match got {
        Got::Publish(message) => format!(
            "{} {} qos {} retain {} ids {:?}",
            message.topic.replace(root, "root"),
            message.text(),
            message.qos,
            message.retain,
            message.subscription_ids,
        ),
        other => panic!("not a PUBLISH: {other:?}"),
    };
    client.drain().into_iter().map(describe).collect()
}

/// Runs a script under every root, with one to four shards; all must see the same.
fn compare(script: impl Fn(&World, &str) -> Vec<String>) {
    let mut expected = None;
    for shards in 1..=4 {
        for root in roots() {
            let found = script(&World::new(shards), &root);
            assert!(!found.is_empty());
            let expected = expected.get_or_insert_with(|| found.clone());
            assert_eq!(&found, expected, "{root} with {shards} shards");
        }
    }
}

#[test]
fn device_topics_are_delivered_as_others() {
    compare(|w, root| {
        let filters = [
            format!("{root}/a"),
            format!("{root}/+"),
            format!("{root}/#"),
            "+/a".into(),
            "#".into(),
            root.to_string(),
        ];
        let clients: Vec<Client> = (0..filters.len())
            .map(|n| w.connected([V5, V311][n % 2], &format!("client {n}")))
            .collect();
        for (client, filter) in clients.iter().zip(&filters) {
            assert_eq!(client.subscribe(filter, 2), 2);
        }
        let publisher = w.connected(V5, "publisher");
        for (n, topic) in ["/a", "/b", "/a/b", "", "/"].iter().enumerate() {
            for qos in 0..3 {
                let topic = format!("{root}{topic}");
                assert_eq!(
                    publisher.publish(&topic, &n.to_string(), qos),
                    ReasonCode::Success
                );
            }
        }
        let reason = publisher.publish(&format!("other-{root}/x/y"), "x", 1);
        assert_eq!(reason, ReasonCode::Success, "# matches it");
        clients
            .iter()
            .flat_map(|client| seen(client, root))
            .collect()
    });
}

#[test]
fn device_topics_without_a_subscriber_are_told_0x10() {
    compare(|w, root| {
        let topic = format!("{root}/a");
        let a = w.connected(V5, "a");
        let mut codes = vec![a.publish(&topic, "x", 1), a.publish(&topic, "x", 2)];
        a.subscribe(&topic, 0);
        codes.push(a.publish(&topic, "x", 1));
        a.drain();
        a.unsubscribe(&[&topic]);
        codes.push(a.publish(&topic, "x", 1));
        codes.iter().map(|code| format!("{code:?}")).collect()
    });
}

#[test]
fn device_topics_are_retained_as_others() {
    compare(|w, root| {
        let publisher = w.connected(V5, "publisher");
        for (name, text) in [("a", "1"), ("b", "2"), ("c", "3"), ("b", ""), ("a", "4")] {
            publisher.publish_retained(&format!("{root}/{name}"), text, 1);
        }
        let brief = PublishPacket::new(&format!("{root}/d"), "brief").retain();
        publisher.publish_all(brief.property(prop::message_expiry(5)));
        w.advance(10);
        let filters = [
            format!("{root}/a"),
            format!("{root}/+"),
            "#".into(),
            "+/c".into(),
        ];
        let mut all = Vec::new();
        for (n, filter) in filters.iter().enumerate() {
            let late = w.connected(V5, &format!("late {n}"));
            late.subscribe_with_id(filter, 1, n + 1);
            let mut messages = seen(&late, root);
            messages.sort_unstable();
            all.extend(messages);
        }
        all
    });
}

#[test]
fn device_topics_are_shared_as_others() {
    compare(|w, root| {
        let filter = format!("$share/group/{root}/+");
        let members: Vec<Client> = (0..3)
            .map(|n| {
                let member = w.connected(V5, &format!("member {n}"));
                assert_eq!(member.subscribe(&filter, 1), 1);
                member
            })
            .collect();
        let publisher = w.connected(V5, "publisher");
        for n in 0..9 {
            publisher.publish(&format!("{root}/a"), &n.to_string(), 1);
        }
        let mut all = Vec::new();
        for member in &members {
            let messages = seen(member, root);
            assert_eq!(messages.len(), 3);
            all.extend(messages);
        }
        all.sort_unstable();
        all
    });
}

#[test]
fn device_topics_wait_for_sessions_and_come_from_wills_as_others() {
    compare(|w, root| {
        let topic = format!("{root}/a");
        let a = w.client(V5, "a");
        a.connect_with(|connect| connect.session_expiry(100));
        a.subscribe(&topic, 2);
        a.cut();
        let publisher = w.client(V5, "publisher");
        let will = WillPacket::new(&topic, "gone").qos(2).retain();
        publisher.connect_with(|connect| connect.will(will));
        for n in 0..6 {
            publisher.publish(&topic, &n.to_string(), (n % 3) as u8);
        }
        publisher.cut();
        a.connect_with(|connect| connect.clean_start(false));
        let mut all = seen(&a, root);
        let late = w.connected(V5, "late");
        late.subscribe("#", 0);
        all.extend(seen(&late, root));
        all
    });
}
