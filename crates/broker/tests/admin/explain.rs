//! What the broker says about a message is what then becomes of it.

use crate::api::Target;
use crate::client::{Client, QoS};
use serde_json::{Value, json};

fn explain(target: &Target, from: &str, topic: &str, to: &str, more: &str) -> Value {
    target.get(&format!(
        "/v1/explain?from={from}&topic={topic}&to={to}{more}"
    ))
}

#[track_caller]
fn check(answer: &Value, arrives: Value, says: &str) {
    assert_eq!(answer["arrives"], arrives, "{answer:#}");
    let why = answer["why"].as_str().unwrap();
    assert!(why.contains(says), "{why:?} should say {says:?}");
}

#[test]
fn a_message_arrives_or_it_is_said_why_not() {
    Target::each(|target| {
        let mqtt = target.broker.mqtt;
        let publisher = Client::connect(mqtt, "from", 0);
        let subscriber = Client::connect(mqtt, "to", 60);
        subscriber.subscribe("t/+", QoS::AtLeastOnce);
        let good = explain(target, "from", "t/1", "to", "&qos=1&bytes=100");
        check(&good, json!(true), "nothing stands in its way");
        assert_eq!(good["matches"][0]["filter"], "t/+");
        publisher.publish("t/1", "as explained");
        assert_eq!(subscriber.message().1, "as explained");
        let no = json!(false);
        let large = explain(target, "from", "t/1", "to", "&qos=1&bytes=2000000");
        check(&large, json!(false), "mqtt.packet_bytes_max");
        check(
            &explain(target, "from", "u", "to", ""),
            no.clone(),
            "no subscription",
        );
        check(
            &explain(target, "nobody", "t/1", "to", ""),
            no.clone(),
            "no such client",
        );
        check(
            &explain(target, "from", "t/1", "nobody", ""),
            no.clone(),
            "no such client",
        );
        check(
            &explain(target, "from", "t/%2B", "to", ""),
            no.clone(),
            "no topic",
        );
        check(
            &explain(target, "from", "$SYS/x", "to", ""),
            no.clone(),
            "may not publish",
        );
        subscriber.leave();
        check(
            &explain(target, "from", "t/1", "to", "&qos=0"),
            no.clone(),
            "QoS 0",
        );
        let waits = explain(target, "from", "t/1", "to", "&qos=1");
        check(&waits, Value::Null, "has to connect again");
        check(
            &explain(target, "to", "t/1", "from", ""),
            no,
            "not connected",
        );
    });
}

#[test]
fn members_of_a_group_take_turns() {
    let target = Target::start(&["--shards", "2"]);
    let mqtt = target.broker.mqtt;
    let _publisher = Client::connect(mqtt, "from", 0);
    let one = Client::connect(mqtt, "one", 0);
    one.subscribe("$share/g/t", QoS::AtLeastOnce);
    check(
        &explain(&target, "from", "t", "one", "&qos=1"),
        json!(true),
        "nothing",
    );
    let two = Client::connect(mqtt, "two", 0);
    two.subscribe("$share/g/t", QoS::AtLeastOnce);
    check(
        &explain(&target, "from", "t", "one", "&qos=1"),
        Value::Null,
        "2 members",
    );
}

#[test]
fn nonsense_is_refused_and_the_command_says_it_all() {
    let target = Target::start(&[]);
    let _client = Client::connect(target.broker.mqtt, "a", 0);
    for nonsense in [
        "",
        "?from=a",
        "?from=a&topic=t&to=a&qos=3",
        "?from=a&topic=t&to=a&bytes=-1",
    ] {
        target
            .call("GET", &format!("/v1/explain{nonsense}"), "")
            .error(400);
    }
    let words = ["explain", "--from", "a", "--topic", "t", "--to", "a"];
    let (code, stdout, stderr) = target.command(&words);
    assert_eq!((code, &*stderr), (0, ""));
    assert!(stdout.starts_with("no: no subscription"), "{stdout}");
    let (_, stdout, _) = target.command(&[&words[..], &["--json"]].concat());
    assert_eq!(
        serde_json::from_str::<Value>(&stdout).unwrap()["arrives"],
        false
    );
}
