//! What `meshring top` shows: two readings of the metrics become rates, shares and quantiles.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// One reading of `/metrics`.
#[derive(Clone, Debug)]
pub struct Reading {
    at: Instant,
    /// Name and labels, as they stand, to value.
    samples: BTreeMap<String, f64>,
}

impl Reading {
    /// Reads the text format; lines that make no sense are passed over.
    pub fn parse(text: &str, at: Instant) -> Reading {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        let samples = samples.collect();
        Reading { at, samples }
    }

    /// The samples of a family that have all of these labels.
    fn family<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [String],
    ) -> impl Iterator<Item = (&'a str, f64)> {
        let from = self.samples.range(name.to_owned()..);
        from.take_while(move |(sample, _)| sample.starts_with(name))
            .filter_map(move |(sample, &value)| {
                let rest = &sample[name.len()..];
                let is_it = rest.is_empty() || rest.starts_with('{');
                let has_all = labels.iter().all(|label| rest.contains(label.as_str()));
                (is_it && has_all).then_some((rest, value))
            })
    }

    fn sum(&self, name: &str, labels: &[String]) -> f64 {
        self.family(name, labels).map(|(_, value)| value).sum()
    }

    /// The values of a label in a family.
    fn values_of(&self, name: &str, label: &str) -> Vec<String> {
        let found: BTreeSet<String> = self
            .family(name, &[])
            .filter_map(|(labels, _)| label_in(labels, label))
            .collect();
        found.into_iter().collect()
    }
}

/// The value of a label among `{a="1",b="2"}`.
fn label_in(labels: &str, label: &str) -> Option<String> {
    let (_, rest) = labels.split_once(&format!("{label}=\""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

fn is(label: &str, value: &str) -> String {
    format!("{label}=\"{value}\"")
}

/// What happened between two readings.
struct Between<'a> {
    earlier: &'a Reading,
    later: &'a Reading,
}

impl Between<'_> {
    fn length(&self) -> Duration {
        let length = self.later.at.saturating_duration_since(self.earlier.at);
        length.max(Duration::from_millis(1))
    }

    /// By how much a counter has risen; a broker that has been started again counts from 0.
    fn rise(&self, name: &str, labels: &[String]) -> f64 {
        let (before, now) = (self.earlier.sum(name, labels), self.later.sum(name, labels));
        if now < before { now } else { now - before }
    }

    fn rate(&self, name: &str, labels: &[String]) -> f64 {
        self.rise(name, labels) / self.length().as_secs_f64()
    }

    /// So many parts of the values of a histogram lie below this, in seconds; `None` without values.
    fn quantile(&self, name: &str, labels: &[String], part: f64) -> Option<f64> {
        let bucket = format!("{name}_bucket");
        let mut bounds: Vec<(f64, String)> = self
            .later
            .values_of(&bucket, "le")
            .into_iter()
            .filter_map(|bound| {
                let number = if bound == "+Inf" {
                    f64::INFINITY
                } else {
                    bound.parse().ok()?
                };
                Some((number, bound))
            })
            .collect();
        bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let below: Vec<(f64, f64)> = bounds
            .iter()
            .map(|(number, bound)| {
                let labels = [labels, &[is("le", bound)]].concat();
                (*number, self.rise(&bucket, &labels))
            })
            .collect();
        let wanted = below.last()?.1 * part;
        if wanted <= 0.0 {
            return None;
        }
        let (mut last_bound, mut last_count) = (0.0, 0.0);
        for (bound, count) in below {
            if count >= wanted {
                // Of what is above all bounds no more is known.
                if bound.is_infinite() {
                    return Some(last_bound);
                }
                let share = (wanted - last_count) / (count - last_count);
                return Some(last_bound + (bound - last_bound) * share);
            }
            (last_bound, last_count) = (bound, count);
        }
        None
    }

    fn shards(&self) -> Vec<Value> {
        let mut shards = self.later.values_of("meshring_shard_connections", "shard");
        shards.sort_by_key(|shard| shard.parse::<u32>().unwrap_or(u32::MAX));
        let row = |shard: &String| {
            let labels = [is("shard", shard)];
            let turns = "meshring_shard_turn_seconds";
            json!({
                "shard": shard.parse::<u32>().ok(),
                "busy": self.rate("meshring_shard_turn_seconds_sum", &labels),
                "turn_p99_s": self.quantile(turns, &labels, 0.99),
                "connections": self.later.sum("meshring_shard_connections", &labels),
                "received_per_s": self.rate("meshring_shard_messages_received_total", &labels),
                "sent_per_s": self.rate("meshring_shard_messages_sent_total", &labels),
                "wakes_per_s": self.rate("meshring_shard_wakes_total", &labels),
                "ring_frames": self.later.sum("meshring_shard_ring_frames", &labels)
                    + self.later.sum("meshring_shard_staged_frames", &labels),
                "queued_messages": self.later.sum("meshring_shard_queued_messages", &labels),
            })
        };
        shards.iter().map(row).collect()
    }
}

/// All that is shown, as `--json` writes it. `talkers` and `slow` are the answers of `/v1/talkers` and
/// `/v1/slow`.
pub fn figures(earlier: &Reading, later: &Reading, talkers: &Value, slow: &Value) -> Value {
    let between = Between { earlier, later };
    let build = later.family("meshring_build_info", &[]).next();
    let fact = |label| build.and_then(|(labels, _)| label_in(labels, label));
    let now = |name: &str| later.sum(name, &[]);
    let rate = |name: &str| between.rate(name, &[]);
    let delivery =
        |path: &str, part| between.quantile("meshring_delivery_seconds", &[is("path", path)], part);
    let protocols: Value = later
        .values_of("meshring_connections", "protocol")
        .into_iter()
        .map(|name| {
            let count = later.sum("meshring_connections", &[is("protocol", &name)]);
            (name, json!(count))
        })
        .collect();
    json!({
        "interval_s": between.length().as_secs_f64(),
        "version": fact("version"),
        "driver": fact("driver"),
        "connections": protocols,
        "open_connections": now("meshring_open_connections"),
        "sessions": now("meshring_sessions"),
        "subscriptions": now("meshring_subscriptions"),
        "devices": now("meshring_devices"),
        "devices_online": now("meshring_devices_online"),
        "queued_messages": now("meshring_queued_messages"),
        "queued_bytes": now("meshring_queued_bytes"),
        "in_flight_messages": now("meshring_in_flight_messages"),
        "retained_messages": now("meshring_retained_messages"),
        "stores_stalled": now("meshring_stores_stalled"),
        "resident_bytes": now("process_resident_memory_bytes"),
        "per_s": {
            "received": rate("meshring_messages_received_total"),
            "sent": rate("meshring_messages_sent_total"),
            "received_bytes": rate("meshring_received_bytes_total"),
            "sent_bytes": rate("meshring_sent_bytes_total"),
            "dropped": rate("meshring_messages_dropped_total"),
            "refused": rate("meshring_refused_total"),
            "connects": rate("meshring_mqtt_connects_total"),
            "http_requests": rate("meshring_http_requests_total"),
            "commits": rate("meshring_commits_total"),
            "commit_changes": rate("meshring_commit_changes_total"),
            "cpu_s": rate("process_cpu_seconds_total"),
        },
        "delivery_s": {
            "p50": delivery("direct", 0.5),
            "p99": delivery("direct", 0.99),
            "p999": delivery("direct", 0.999),
        },
        "queued_delivery_s": { "p50": delivery("queue", 0.5), "p99": delivery("queue", 0.99) },
        "commit_s": {
            "p50": between.quantile("meshring_commit_seconds", &[], 0.5),
            "p99": between.quantile("meshring_commit_seconds", &[], 0.99),
        },
        "shards": between.shards(),
        "talkers": talkers["talkers"],
        "slow": slow["slow"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str, seconds: u64) -> Reading {
        static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let begin = *BEGIN.get_or_init(Instant::now);
        Reading::parse(text, begin + Duration::from_secs(seconds))
    }

    #[test]
    fn rates_are_of_the_time_between_two_readings() {
        let earlier = reading(
            "# HELP x\nmeshring_messages_received_total{qos=\"0\"} 10\nmeshring_messages_received_total{qos=\"1\"} 5\n",
            0,
        );
        let later = reading(
            "meshring_messages_received_total{qos=\"0\"} 30\nmeshring_messages_received_total{qos=\"1\"} 5\nnonsense\nmore nonsense\n",
            2,
        );
        let none = Value::Null;
        let found = figures(&earlier, &later, &none, &none);
        assert_eq!(found["per_s"]["received"], 10.0);
        assert_eq!(found["interval_s"], 2.0);
        assert!(found["delivery_s"]["p50"].is_null());
        // It was started again.
        let again = reading("meshring_messages_received_total{qos=\"0\"} 8\n", 4);
        let found = figures(&later, &again, &none, &none);
        assert_eq!(found["per_s"]["received"], 4.0);
    }

    #[test]
    fn quantiles_are_of_what_came_in_between() {
        let buckets = |fast, slow| {
            format!(
                "m_seconds_bucket{{le=\"0.001\"}} {fast}\nm_seconds_bucket{{le=\"0.002\"}} {}\nm_seconds_bucket{{le=\"+Inf\"}} {}\n",
                fast + slow,
                fast + slow
            )
        };
        let (earlier, later) = (
            reading(&buckets(1_000, 0), 0),
            reading(&buckets(1_050, 50), 1),
        );
        let between = Between {
            earlier: &earlier,
            later: &later,
        };
        assert_eq!(between.quantile("m_seconds", &[], 0.5), Some(0.001));
        assert_eq!(between.quantile("m_seconds", &[], 0.75), Some(0.0015));
        assert_eq!(between.quantile("other", &[], 0.5), None);
    }

    #[test]
    fn shards_are_in_the_order_of_their_numbers() {
        let text = "meshring_shard_connections{shard=\"10\"} 1\nmeshring_shard_connections{shard=\"2\"} 7\n";
        let later = reading(text, 1);
        let found = figures(&reading("", 0), &later, &Value::Null, &Value::Null);
        assert_eq!(found["shards"][0]["shard"], 2);
        assert_eq!(found["shards"][0]["connections"], 7.0);
        assert_eq!(found["shards"][1]["shard"], 10);
    }
}
