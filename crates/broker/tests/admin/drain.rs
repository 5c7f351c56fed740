//! A broker is taken out of service.

use crate::api::Target;
use crate::client::{Client, QoS};
use crate::support::PATIENCE;
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn clients_are_moved_away_gently_and_welcomed_again() {
    Target::each(|target| {
        let mqtt = target.broker.mqtt;
        let clients: Vec<Client> = (0..40)
            .map(|n| Client::connect(mqtt, &format!("c{n}"), 60))
            .collect();
        clients[0].subscribe("t", QoS::AtLeastOnce);
        assert_eq!(target.get("/v1/drain"), json!({ "draining": false }));
        target.call("DELETE", "/v1/drain", "").error(409);
        for nonsense in [
            r#"{"clients_per_s":0}"#,
            r#"{"server":""}"#,
            r#"{"server":"a\nb"}"#,
        ] {
            target.call("POST", "/v1/drain", nonsense).error(400);
        }
        target
            .call("POST", "/v1/drain", r#"{"speed":1}"#)
            .error(422);
        let begin = Instant::now();
        let answer = target.call(
            "POST",
            "/v1/drain",
            r#"{"clients_per_s":50,"server":"other:1883"}"#,
        );
        assert_eq!(answer.ok()["draining"], true);
        assert_eq!(target.call("GET", "/readyz", "").status, 503);
        loop {
            let drain = target.get("/v1/drain");
            if drain["done"] == true {
                assert_eq!(
                    (&drain["closed"], &drain["clients"]),
                    (&json!(40), &json!(0))
                );
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "{drain}");
            std::thread::sleep(Duration::from_millis(20));
        }
        // 40 clients at 50 in a second, in steps of a tenth.
        assert!(
            begin.elapsed() > Duration::from_millis(500),
            "too fast to be gentle"
        );
        for client in &clients {
            let goodbye = client.goodbye();
            assert!(goodbye.contains("UseAnotherServer"), "{goodbye}");
        }
        assert_eq!(
            target.get("/v1/sessions?limit=50")["sessions"]
                .as_array()
                .unwrap()
                .len(),
            40
        );
        // Nobody new gets in.
        let late = Client::try_connect(mqtt, "late", 0);
        assert!(late.ends_without_connack());
        target.call("DELETE", "/v1/drain", "").ok();
        assert_eq!(target.call("GET", "/readyz", "").status, 200);
        let publisher = Client::connect(mqtt, "publisher", 0);
        assert_eq!(
            publisher.publish("t", "after the drain"),
            PubAckReason::Success
        );
        let back = Client::connect(mqtt, "c0", 60);
        assert_eq!(back.message().1, "after the drain");
    });
}
