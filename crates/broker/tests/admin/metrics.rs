//! What Prometheus reads: that it is well-formed, that it counts what has happened, and that the
//! dashboard and the alerts that ship ask for nothing else.

use crate::api::{Target, call_at};
use crate::client::{Client, QoS};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

/// The sum of a family's samples with this label, or of all without one.
#[track_caller]
fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let samples = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let is_of_family = labels.is_empty() || labels.starts_with('{');
        (is_of_family && labels.contains(label)).then(|| value.parse::<f64>().unwrap())
    });
    let samples: Vec<f64> = samples.collect();
    assert!(!samples.is_empty(), "no {name} with {label:?} in {metrics}");
    samples.iter().sum()
}

/// Ten messages from one client to two others, on two shards.
fn with_traffic() -> (Target, Vec<Client>) {
    let target = Target::start(&["--shards", "2"]);
    let address = target.broker.mqtt;
    let subscribers = ["a", "b"].map(|id| Client::connect(address, id, 60));
    for subscriber in &subscribers {
        subscriber.subscribe("t/#", QoS::AtLeastOnce);
    }
    let publisher = Client::connect(address, "publisher", 0);
    for _ in 0..10 {
        publisher.publish("t/1", "12345");
    }
    for subscriber in &subscribers {
        for _ in 0..10 {
            subscriber.message();
        }
    }
    let mut clients = Vec::from(subscribers);
    clients.push(publisher);
    (target, clients)
}

fn scrape(target: &Target) -> String {
    let got = target.call("GET", "/metrics", "");
    assert_eq!(got.status, 200, "{got:?}");
    got.body
}

#[test]
fn what_happened_is_counted() {
    let (target, _clients) = with_traffic();
    let metrics = scrape(&target);
    for (name, label, expected) in [
        ("meshring_connections", "mqtt-5", 3.0),
        ("meshring_shard_connections", "", 3.0),
        ("meshring_messages_received_total", "qos=\"1\"", 10.0),
        ("meshring_message_bytes_received_total", "", 50.0),
        ("meshring_messages_sent_total", "qos=\"1\"", 20.0),
        ("meshring_delivery_seconds_count", "direct", 20.0),
        ("meshring_messages_dropped_total", "", 0.0),
        ("meshring_sessions", "", 3.0),
        ("meshring_build_info", "shards=\"2\"", 1.0),
        ("freshblu_mqtt_connections", "", 3.0),
    ] {
        assert_eq!(sum(&metrics, name, label), expected, "{name} {label}");
    }
    for name in [
        "meshring_shard_turn_seconds_count",
        "meshring_commit_seconds_count",
        "meshring_store_syncs_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(sum(&metrics, name, "") > 0.0, "{name}");
    }
    // On the public listener: the same numbers of all shards, and nothing of the process.
    let public = call_at(target.broker.http, "GET", "/metrics", "").body;
    assert_eq!(sum(&public, "meshring_messages_sent_total", ""), 20.0);
    assert!(!public.contains("process_"), "{public}");
}

/// Adds the metrics of a PromQL expression: names with one of our prefixes, as families.
fn add_names(expression: &str, names: &mut BTreeSet<String>) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for word in expression.split(|c| !is_part(c)) {
        let prefixes = ["meshring_", "process_", "freshblu_"];
        if prefixes.iter().any(|prefix| word.starts_with(prefix)) {
            names.insert(word.to_owned());
        }
    }
}

/// The `expr` and `query` of everything in a JSON document.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if ["expr", "query"].contains(&&**name) => {
                        found.push(text.clone());
                    }
                    other => expressions(other, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn dashboard_and_alerts_ask_for_what_there_is() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/meshring.json")).unwrap();
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    let mut names = BTreeSet::new();
    asked
        .iter()
        .for_each(|expression| add_names(expression, &mut names));
    let of_dashboard = names.len();
    let alerts = read("deploy/prometheus/alerts.yml");
    let rules = alerts.lines().filter(|line| line.contains("expr:"));
    rules.for_each(|line| add_names(line, &mut names));
    assert!(of_dashboard > 30 && names.len() > of_dashboard, "{names:?}");

    let (target, _clients) = with_traffic();
    let metrics = scrape(&target);
    let there: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !there.contains(&***name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_panel_of_the_dashboard_is_whole() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/meshring.json")).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let place = &panel["gridPos"];
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| place[side].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is wider than the page");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} lies on another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert!(target["refId"].is_string(), "{title}");
        }
    }
}

/// Debian's promtool, if there is one: `.ci/run` puts it into MESHRING_PROMTOOL.
fn promtool() -> Option<PathBuf> {
    let named = std::env::var_os("MESHRING_PROMTOOL").map(PathBuf::from);
    let found = named.unwrap_or_else(|| PathBuf::from("promtool"));
    let version = Command::new(&found).arg("--version").output();
    match version {
        Ok(output) if output.status.success() => Some(found),
        _ => {
            eprintln!("not checked by promtool: there is none (MESHRING_PROMTOOL)");
            None
        }
    }
}

#[track_caller]
fn assert_accepted(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn promtool_accepts_metrics_and_alerts() {
    let Some(promtool) = promtool() else { return };
    let (target, _clients) = with_traffic();
    let metrics = scrape(&target);
    let public = call_at(target.broker.http, "GET", "/metrics", "").body;
    for text in [&metrics, &public] {
        let output = check_metrics(&promtool, text);
        assert_accepted(&output);
        assert!(output.stderr.is_empty(), "{output:?}");
    }
    // That it would say so if something was wrong.
    let wrong = metrics.replacen(
        "# TYPE meshring_sessions gauge",
        "# TYPE meshring_sessions guess",
        1,
    );
    assert!(!check_metrics(&promtool, &wrong).status.success());
    let folder = repository("deploy/prometheus");
    for words in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ] {
        let output = Command::new(&promtool)
            .args(words)
            .current_dir(&folder)
            .output();
        assert_accepted(&output.unwrap());
    }
}

fn check_metrics(promtool: &Path, text: &str) -> Output {
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}
