//! `/v1/talkers`: the clients that publish most.

use super::State;
use super::answers::{Answer, mistaken};
use axum::Json;
use axum::extract::State as Shared;
use serde_json::{Value, json};
use shard::console::{Question, Report};
use std::sync::Arc;

/// Rows of the answer.
const ROWS: usize = 50;

/// `GET /v1/talkers`
pub async fn list(Shared(state): Shared<Arc<State>>) -> Answer {
    let reports = state.consoles.ask_all(|| Question::Talkers).await?;
    let mut rows: Vec<(f64, Value)> = Vec::new();
    for (shard, report) in reports.into_iter().enumerate() {
        let Report::Talkers(talkers) = report else {
            return Err(mistaken(&report));
        };
        let seconds = (talkers.window.0.max(1) as f64 / 1e6).max(0.001);
        rows.extend(talkers.rows.into_iter().map(|talker| {
            let rate = talker.messages as f64 / seconds;
            let row = json!({
                "client": talker.client_id,
                "shard": shard,
                "messages_per_s": rate,
                "bytes_per_s": talker.bytes as f64 / seconds,
                "window_s": seconds,
            });
            (rate, row)
        }));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let rows: Vec<Value> = rows.into_iter().take(ROWS).map(|(_, row)| row).collect();
    Ok(Json(json!({ "talkers": rows })))
}
