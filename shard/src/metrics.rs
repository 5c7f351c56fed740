//! Numbers as Prometheus reads them: text format 0.0.4.
//!
//! Written by us because shards count in plain integers of their own and hand out copies: the
//! libraries of the field want to own the counters, with atomics or locks, and none is pure.
//! `GET /metrics` of the HTTP listener and that of the admin listener are both written by this; the
//! admin listener adds what only the program knows.

use crate::counters::{Counters, Traffic};
use crate::histogram::Histogram;
use std::fmt::{Display, Write};

/// The content type of what [`Exposition`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever rises; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// [`Histogram`]s, in seconds; its name ends in `_seconds`.
    Histogram,
}

/// A label and its value.
pub type Label<'a> = (&'a str, &'a dyn Display);

/// Writes families of samples, each family once and in one piece.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    family: String,
}

impl Exposition {
    /// The text so far.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Begins a family; the samples that follow are of it.
    pub fn family(&mut self, kind: Kind, name: &str, help: &str) -> &mut Exposition {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        name.clone_into(&mut self.family);
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {word}"));
        self
    }

    /// One sample.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl Display) -> &mut Exposition {
        self.named("", labels, None, value);
        self
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.family(kind, name, help).sample(&[], value);
    }

    /// A family of counters that differ in one label.
    pub fn counters<'a>(
        &mut self,
        (name, help): (&str, &str),
        label: &str,
        rows: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        self.family(Kind::Counter, name, help);
        for (row, value) in rows {
            self.sample(&[(label, &row)], value);
        }
    }

    /// One histogram.
    pub fn histogram(&mut self, labels: &[Label<'_>], histogram: &Histogram) -> &mut Exposition {
        let mut below = 0;
        for (bound, count) in histogram.buckets() {
            below += count;
            match bound {
                Some(bound) => {
                    let bound = seconds(bound.0);
                    self.named("_bucket", labels, Some(("le", &bound)), below);
                }
                None => self.named("_bucket", labels, Some(("le", &"+Inf")), below),
            }
        }
        self.named("_sum", labels, None, seconds(histogram.sum().0));
        self.named("_count", labels, None, below);
        self
    }

    fn named(
        &mut self,
        suffix: &str,
        labels: &[Label<'_>],
        last: Option<Label<'_>>,
        value: impl Display,
    ) {
        self.text.push_str(&self.family);
        self.text.push_str(suffix);
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(last) {
            self.text.push(separator);
            separator = ',';
            self.text.push_str(name);
            self.text.push_str("=\"");
            for character in value.to_string().chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        if separator == ',' {
            self.text.push('}');
        }
        self.line(format_args!(" {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a String takes all text");
    }

    /// Everything that shards count, of one shard or of all together.
    pub fn counted(&mut self, counters: &Counters) {
        self.connections(counters);
        self.messages(counters);
        self.held(counters);
        self.devices(counters);
        self.freshblu(counters);
    }

    fn connections(&mut self, c: &Counters) {
        self.family(
            Kind::Gauge,
            "meshring_connections",
            "Open connections, by what they speak; mqtt counts those whose CONNECT was accepted.",
        );
        for (protocol, value) in [
            ("mqtt-3.1", c.clients_v31),
            ("mqtt-3.1.1", c.clients_v311),
            ("mqtt-5", c.clients_v5),
            ("websocket", c.sockets),
            ("http", c.http_connections),
        ] {
            self.sample(&[("protocol", &protocol)], value);
        }
        for (name, help, value) in [
            (
                "meshring_open_connections",
                "Open connections of all kinds, those that have not said yet what they are included.",
                c.connections,
            ),
            (
                "meshring_mqtt_websocket_connections",
                "Connected MQTT clients that came over WebSocket.",
                c.clients_websocket,
            ),
        ] {
            self.single(Kind::Gauge, name, help, value);
        }
        self.single(
            Kind::Counter,
            "meshring_connections_accepted_total",
            "Connections accepted from the kernel.",
            c.sockets_accepted,
        );
        self.counters(
            (
                "meshring_mqtt_connects_total",
                "CONNECT packets, by result.",
            ),
            "result",
            [
                ("accepted", c.connects_accepted),
                ("refused", c.connects_refused),
            ],
        );
        self.counters(
            (
                "meshring_connections_ended_total",
                "Connections that the broker ended, and requests it could not read, by reason.",
            ),
            "reason",
            [
                ("malformed", c.malformed_packets),
                ("protocol_error", c.protocol_errors),
                ("connect_timeout", c.connect_timeouts),
                ("keep_alive", c.keep_alive_timeouts),
                ("taken_over", c.takeovers),
                ("slow", c.slow_subscribers_closed),
            ],
        );
        self.counters(
            (
                "meshring_authentications_total",
                "Credentials of devices, by result.",
            ),
            "result",
            [
                ("accepted", c.auths_accepted),
                ("denied", c.auths_denied),
                ("busy", c.auths_busy),
                ("rate_limited", c.auths_rate_limited),
                ("failed_too_often", c.auths_failed_too_often),
            ],
        );
    }

    fn messages(&mut self, c: &Counters) {
        for (name, help, value) in [
            (
                "meshring_received_bytes_total",
                "Bytes that arrived.",
                c.bytes_received,
            ),
            (
                "meshring_sent_bytes_total",
                "Bytes handed to connections.",
                c.bytes_sent,
            ),
            (
                "meshring_mqtt_packets_received_total",
                "MQTT control packets that arrived.",
                c.packets_received,
            ),
            (
                "meshring_mqtt_packets_sent_total",
                "MQTT control packets sent.",
                c.packets_sent,
            ),
            (
                "meshring_http_requests_total",
                "HTTP requests that were answered.",
                c.http_requests,
            ),
        ] {
            self.single(Kind::Counter, name, help, value);
        }
        for (direction, arrived, traffic) in [
            ("received", "arrived", &c.received),
            ("sent", "were sent", &c.sent),
        ] {
            self.traffic(direction, arrived, traffic);
        }
        self.counters(
            (
                "meshring_messages_dropped_total",
                "Messages that did not reach a subscriber, by reason.",
            ),
            "reason",
            [
                ("slow_subscriber", c.dropped_slow),
                ("queue_full", c.dropped_queue_full),
                ("expired", c.dropped_expired),
                ("too_large", c.dropped_too_large),
                ("not_authorized", c.dropped_not_authorized),
                ("lane_full", c.dropped_lane_full),
                ("fan_out_full", c.dropped_fan_out_full),
                ("slow_socket", c.dropped_output_full),
            ],
        );
        self.counters(
            (
                "meshring_refused_total",
                "What was refused for want of room, by what was full.",
            ),
            "full",
            [
                ("disk", c.refused_store),
                ("retained", c.dropped_retained_full),
                ("requests", c.mesh_busy),
                ("rate", c.mesh_rate_limited),
            ],
        );
        self.family(
            Kind::Histogram,
            "meshring_delivery_seconds",
            "From the arrival of a PUBLISH to the end of the turn that handed it to a subscriber's output.",
        )
        .histogram(&[("path", &"direct")], &c.delivery)
        .histogram(&[("path", &"queue")], &c.queued_delivery);
    }

    fn traffic(&mut self, direction: &str, what: &str, traffic: &Traffic) {
        for (unit, help, counts) in [
            ("messages", "MQTT messages that", traffic.messages),
            (
                "message_bytes",
                "Payload bytes of MQTT messages that",
                traffic.bytes,
            ),
        ] {
            self.family(
                Kind::Counter,
                &format!("meshring_{unit}_{direction}_total"),
                &format!("{help} {what}, by quality of service."),
            );
            for (qos, count) in counts.iter().enumerate() {
                self.sample(&[("qos", &qos)], count);
            }
        }
    }

    fn held(&mut self, c: &Counters) {
        for (name, help, value) in [
            (
                "meshring_sessions",
                "MQTT sessions, connected or not.",
                c.sessions,
            ),
            (
                "meshring_subscriptions",
                "Subscriptions, shared ones included.",
                c.subscriptions,
            ),
            (
                "meshring_shared_subscriptions",
                "Subscriptions to shared groups.",
                c.subscriptions_shared,
            ),
            (
                "meshring_retained_messages",
                "Retained messages.",
                c.retained,
            ),
            (
                "meshring_in_flight_messages",
                "Messages sent and not acknowledged.",
                c.in_flight,
            ),
            (
                "meshring_queued_messages",
                "Messages that wait in queues of sessions and groups.",
                c.stored_messages,
            ),
            (
                "meshring_queued_bytes",
                "Bytes of messages that wait in queues.",
                c.stored_bytes,
            ),
            (
                "meshring_stores_stalled",
                "Shards whose store cannot write for now.",
                c.stores_stalled,
            ),
        ] {
            self.single(Kind::Gauge, name, help, value);
        }
        for (name, help, value) in [
            (
                "meshring_sessions_expired_total",
                "Sessions that expired.",
                c.sessions_expired,
            ),
            (
                "meshring_commits_total",
                "Commits given to the stores.",
                c.commits,
            ),
            (
                "meshring_commit_changes_total",
                "Changes in those commits.",
                c.commit_changes,
            ),
        ] {
            self.single(Kind::Counter, name, help, value);
        }
    }

    fn devices(&mut self, c: &Counters) {
        for (name, help, value) in [
            ("meshring_devices", "Registered devices.", c.devices),
            (
                "meshring_device_document_bytes",
                "Bytes of devices' documents.",
                c.device_bytes,
            ),
            (
                "meshring_devices_online",
                "Devices with a connection.",
                c.devices_online,
            ),
        ] {
            self.single(Kind::Gauge, name, help, value);
        }
        self.counters(
            (
                "meshring_api_requests_total",
                "Requests of the device API over HTTP, WebSocket and MQTT, by result.",
            ),
            "result",
            [
                ("served", c.mesh_calls),
                ("refused", c.mesh_refused),
                ("unauthorized", c.mesh_unauthorized),
                ("rate_limited", c.mesh_rate_limited),
                ("busy", c.mesh_busy),
            ],
        );
        self.counters(
            (
                "meshring_device_events_total",
                "Events of devices, by what became of them.",
            ),
            "result",
            [
                ("emitted", c.mesh_messages),
                ("delivered", c.mesh_delivered),
                ("denied", c.mesh_denied),
            ],
        );
        self.counters(
            ("meshring_webhooks_total", "Webhooks, by result."),
            "result",
            [("sent", c.webhooks_sent), ("failed", c.webhooks_failed)],
        );
    }

    /// The names that dashboards made for FreshBlu ask for.
    fn freshblu(&mut self, c: &Counters) {
        for (name, help, value) in [
            (
                "freshblu_messages_sent_total",
                "Messages that devices have sent.",
                c.mesh_messages,
            ),
            (
                "freshblu_messages_delivered_total",
                "Events written to sockets and streams.",
                c.mesh_delivered,
            ),
            (
                "freshblu_auth_requests_total",
                "Credentials of devices that were looked at.",
                c.auths_accepted + c.auths_denied + c.auths_rate_limited,
            ),
            (
                "freshblu_auth_cache_hits_total",
                "Of them, those that needed no slow hash.",
                c.auths_quick,
            ),
            (
                "freshblu_webhooks_sent_total",
                "Webhooks called with success.",
                c.webhooks_sent,
            ),
            (
                "freshblu_webhooks_failed_total",
                "Webhooks that failed.",
                c.webhooks_failed,
            ),
        ] {
            self.single(Kind::Counter, name, help, value);
        }
        for (name, help, value) in [
            (
                "freshblu_ws_connections",
                "Open WebSockets of FreshBlu's kind.",
                c.sockets,
            ),
            (
                "freshblu_mqtt_connections",
                "Connected MQTT clients.",
                c.clients_connected,
            ),
        ] {
            self.single(Kind::Gauge, name, help, value);
        }
    }
}

/// Microseconds as Prometheus wants them.
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;
    use std::collections::BTreeSet;

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let mut histogram = Histogram::default();
        histogram.record(Span(4), 1);
        histogram.record(Span(3_000), 2);
        let mut exposition = Exposition::default();
        exposition
            .family(Kind::Histogram, "x_seconds", "How long.")
            .histogram(&[("shard", &0)], &histogram);
        let text = exposition.into_text();
        for line in [
            "# HELP x_seconds How long.",
            "# TYPE x_seconds histogram",
            r#"x_seconds_bucket{shard="0",le="0.000004"} 1"#,
            r#"x_seconds_bucket{shard="0",le="0.002048"} 1"#,
            r#"x_seconds_bucket{shard="0",le="0.004096"} 3"#,
            r#"x_seconds_bucket{shard="0",le="+Inf"} 3"#,
            r#"x_seconds_sum{shard="0"} 0.006004"#,
            r#"x_seconds_count{shard="0"} 3"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut exposition = Exposition::default();
        exposition
            .family(Kind::Gauge, "x", "X.")
            .sample(&[("a", &"q\"\\\n")], 1);
        let text = exposition.into_text();
        assert!(text.ends_with("x{a=\"q\\\"\\\\\\n\"} 1\n"), "{text}");
    }

    #[test]
    fn every_family_comes_once_and_says_what_it_is() {
        let mut exposition = Exposition::default();
        exposition.counted(&Counters::default());
        let text = exposition.into_text();
        let mut families = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, _) = rest.split_once(' ').unwrap();
                assert!(families.insert(name), "{name} twice");
            }
        }
        let freshblu = families.iter().filter(|name| name.starts_with("freshblu_"));
        assert_eq!(freshblu.count(), 8);
    }
}
