//! What has been counted, for Prometheus (text format 0.0.4).

use super::answers::Answer;
use crate::counters::Counters;
use std::fmt::Write;

/// The answer to `GET /metrics`.
pub(crate) fn answer(counters: &Counters) -> Answer {
    let mut text = String::new();
    for (name, value) in counters.iter() {
        writeln!(text, "meshring_{name} {value}").expect("a String takes all text");
    }
    // The names that FreshBlu's dashboards ask for.
    for (name, value) in [
        ("messages_sent_total", counters.mesh_messages),
        ("messages_delivered_total", counters.mesh_delivered),
        (
            "auth_requests_total",
            counters.mesh_calls + counters.mesh_unauthorized,
        ),
        ("webhooks_sent_total", counters.webhooks_sent),
        ("webhooks_failed_total", counters.webhooks_failed),
        ("mqtt_connections", counters.clients_connected),
    ] {
        writeln!(text, "freshblu_{name} {value}").expect("a String takes all text");
    }
    Answer {
        content_type: Some("text/plain; version=0.0.4; charset=utf-8"),
        ..Answer::json(200, text)
    }
}
