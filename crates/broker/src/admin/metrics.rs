//! `/metrics`: what is counted, in the text format of Prometheus. docs/metrics.md lists it.
//!
//! Shards are asked for copies of what they have counted, and everything is written here, on the
//! thread of the admin API.

use super::answers::Failure;
use super::{State, process, shards};
use crate::helpers::{Counts, Waiting};
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use shard::console::Overview;
use shard::metrics::{Exposition, Kind};
use shard::{Counters, Histogram, metrics};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use storage::WorkerCounts;

/// A family of which each shard has one sample: its name, its help, and the sample.
type OfShard = (&'static str, &'static str, fn(&Overview) -> u64);

/// What rises and falls in each shard.
const GAUGES: &[OfShard] = &[
    (
        "meshring_shard_connections",
        "Open connections, by shard.",
        |shard| shard.counters.connections,
    ),
    (
        "meshring_shard_connections_paused",
        "Connections that are not read, because the store or another shard must catch up.",
        |shard| shard.connections_paused,
    ),
    (
        "meshring_shard_queued_messages",
        "Messages that wait in queues, by shard.",
        |shard| shard.counters.stored_messages,
    ),
    (
        "meshring_shard_retained_bytes",
        "Bytes of retained messages.",
        |shard| shard.retained_bytes,
    ),
    (
        "meshring_shard_filters",
        "Topic filters with subscribers.",
        |shard| shard.filters,
    ),
    (
        "meshring_shard_ring_frames",
        "Frames in the rings to other shards that were not taken yet.",
        |shard| shard.driver.ring_frames,
    ),
    (
        "meshring_shard_staged_frames",
        "Frames for other shards that wait for room in a ring or for answers.",
        |shard| shard.frames_staged + shard.requests_waiting,
    ),
    (
        "meshring_shard_unanswered_requests",
        "Requests that other shards have not answered.",
        |shard| shard.requests_unanswered,
    ),
    (
        "meshring_shard_commit_waiting_bytes",
        "Bytes of changes that the next commit takes along.",
        |shard| shard.commit_waiting_bytes,
    ),
    (
        "meshring_shard_store_stalled",
        "1 while the shard's store cannot write.",
        |shard| u64::from(shard.is_store_stalled),
    ),
];

/// What only rises in each shard.
const COUNTS: &[OfShard] = &[
    (
        "meshring_shard_messages_received_total",
        "MQTT messages that arrived, by shard.",
        |shard| shard.counters.publish_received,
    ),
    (
        "meshring_shard_messages_sent_total",
        "MQTT messages sent, by shard.",
        |shard| shard.counters.publish_sent,
    ),
    (
        "meshring_shard_ring_frames_total",
        "Frames taken from other shards.",
        |shard| shard.driver.frames,
    ),
    (
        "meshring_shard_wakes_total",
        "How often another shard had to be woken.",
        |shard| shard.driver.wakes,
    ),
    (
        "meshring_shard_rings_full_total",
        "How often a ring to another shard had no room for all there was.",
        |shard| shard.driver.rings_full,
    ),
];

/// A family of which each shard's store has one sample.
type OfStore = (&'static str, &'static str, fn(&WorkerCounts) -> u64);

const STORE_COUNTS: &[OfStore] = &[
    (
        "meshring_store_transactions_total",
        "Transactions that commits were written in.",
        |store| store.groups,
    ),
    ("meshring_store_syncs_total", "Calls of fsync.", |store| {
        store.fsyncs
    }),
    (
        "meshring_store_written_bytes_total",
        "Bytes written to the file.",
        |store| store.written_bytes,
    ),
    (
        "meshring_store_loads_total",
        "Parts of queues read back.",
        |store| store.loads,
    ),
];

/// `GET /metrics`
pub async fn write(Shared(state): Shared<Arc<State>>) -> Result<Response, Failure> {
    let shards = shards::overviews(&state).await?;
    let text = text(&state, &shards);
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

fn text(state: &State, shards: &[Overview]) -> String {
    let mut out = Exposition::default();
    let (mut total, mut commits) = (Counters::default(), Histogram::default());
    for shard in shards {
        total.add(&shard.counters);
        commits.add(&shard.driver.commits);
    }
    out.counted(&total);
    out.family(
        Kind::Histogram,
        "meshring_commit_seconds",
        "How long stores took to make a commit durable.",
    )
    .histogram(&[], &commits);
    of_shards(&mut out, shards);
    if let Some(facts) = state.facts.get() {
        let driver = facts.driver;
        out.family(
            Kind::Gauge,
            "meshring_build_info",
            "Always 1; what runs is in the labels.",
        )
        .sample(
            &[
                ("version", &env!("MESHRING_VERSION")),
                ("driver", &driver),
                ("shards", &shards.len()),
            ],
            1,
        );
        let stores: Vec<WorkerCounts> = facts.stores.iter().map(|store| store.counts()).collect();
        of_stores(&mut out, &stores);
        of_helpers(&mut out, facts.helpers.counts(), facts.helpers.waiting());
    }
    process::write(&mut out);
    out.into_text()
}

fn of_shards(out: &mut Exposition, shards: &[Overview]) {
    for (kind, families) in [(Kind::Gauge, GAUGES), (Kind::Counter, COUNTS)] {
        for (name, help, value) in families {
            out.family(kind, name, help);
            for shard in shards {
                out.sample(&[("shard", &shard.shard.0)], value(shard));
            }
        }
    }
    out.family(
        Kind::Histogram,
        "meshring_shard_turn_seconds",
        "How long turns of a shard took, waiting not included.",
    );
    for shard in shards {
        out.histogram(&[("shard", &shard.shard.0)], &shard.driver.turns);
    }
}

fn of_stores(out: &mut Exposition, stores: &[WorkerCounts]) {
    for (name, help, value) in STORE_COUNTS {
        out.family(Kind::Counter, name, help);
        for (shard, store) in stores.iter().enumerate() {
            out.sample(&[("shard", &shard)], value(store));
        }
    }
    out.family(
        Kind::Counter,
        "meshring_store_busy_seconds_total",
        "Time that stores spent on writing and reading.",
    );
    for (shard, store) in stores.iter().enumerate() {
        out.sample(&[("shard", &shard)], store.busy_us as f64 / 1e6);
    }
    out.family(
        Kind::Gauge,
        "meshring_store_file_bytes",
        "How long the shard's file is.",
    );
    for (shard, store) in stores.iter().enumerate() {
        out.sample(&[("shard", &shard)], store.file_bytes);
    }
}

fn of_helpers(out: &mut Exposition, counts: &Counts, waiting: Waiting) {
    let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    out.family(
        Kind::Gauge,
        "meshring_helper_waiting_tasks",
        "Tasks that wait for a helper thread: slow hashes to compare, webhooks to call.",
    )
    .sample(&[("kind", &"verify")], waiting.verifies)
    .sample(&[("kind", &"webhook")], waiting.calls);
    out.single(
        Kind::Gauge,
        "meshring_helper_webhook_bytes",
        "Bytes of webhooks that wait or are under way.",
        waiting.call_bytes,
    );
    out.counters(
        (
            "meshring_helper_tasks_total",
            "Tasks of helper threads, by what became of them.",
        ),
        "result",
        [
            ("compared", read(&counts.verified)),
            ("remembered", read(&counts.remembered)),
            ("webhook_sent", read(&counts.sent)),
            ("webhook_failed", read(&counts.failed)),
            ("busy", read(&counts.dropped)),
        ],
    );
}
