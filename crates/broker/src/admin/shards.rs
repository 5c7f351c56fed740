//! `/v1/shards`: how the shards are.

use super::State;
use super::answers::{Answer, Failure, mistaken};
use axum::Json;
use axum::extract::State as Shared;
use serde_json::{Map, Value, json};
use shard::console::{Overview, Question, Report};
use std::sync::Arc;

/// `GET /v1/shards`
pub async fn list(Shared(state): Shared<Arc<State>>) -> Answer {
    let shards: Vec<Value> = overviews(&state).await?.iter().map(row).collect();
    Ok(Json(json!({ "shards": shards })))
}

/// All shards, in order.
pub async fn overviews(state: &State) -> Result<Vec<Overview>, Failure> {
    let reports = state.consoles.ask_all(|| Question::Overview).await?;
    let overviews = reports.into_iter().map(|report| match report {
        Report::Overview(overview) => Ok(*overview),
        other => Err(mistaken(&other)),
    });
    overviews.collect()
}

fn row(shard: &Overview) -> Value {
    let counters = &shard.counters;
    let counted: Map<String, Value> = counters
        .iter()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    json!({
        "shard": shard.shard.0,
        "uptime_s": shard.uptime.0 / 1_000_000,
        "connections": counters.connections,
        "clients": counters.clients_connected,
        "sessions": counters.sessions,
        "subscriptions": counters.subscriptions,
        "filters": shard.filters,
        "filters_announcing": shard.filters_announcing,
        "retained": counters.retained,
        "retained_bytes": shard.retained_bytes,
        "stored_messages": counters.stored_messages,
        "stored_bytes": counters.stored_bytes,
        "ring_waiting": shard.frames_staged + shard.requests_waiting,
        "requests_unanswered": shard.requests_unanswered,
        "connections_paused": shard.connections_paused,
        "committing": shard.is_committing,
        "commit_waiting_bytes": shard.commit_waiting_bytes,
        "store_stalled": shard.is_store_stalled,
        "counters": counted,
    })
}
