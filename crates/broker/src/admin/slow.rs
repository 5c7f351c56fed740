//! `/v1/slow`: the clients for whom most is waiting.

use super::State;
use super::answers::{Answer, limit, mistaken};
use super::clients;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use serde::Deserialize;
use serde_json::{Value, json};
use shard::console::{ClientFilter, ClientRow, Question, ROWS_MAX, Report};
use std::sync::Arc;

/// Questions asked of one shard: with more sessions than these look at, the rest is left out, and
/// the answer says so.
const QUESTIONS_MAX: u32 = 1_024;

/// How slow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    bytes: Option<u64>,
    limit: Option<u32>,
}

/// `GET /v1/slow`
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer {
    let Query(wanted) = wanted?;
    let limit = limit(wanted.limit)? as usize;
    let filter = ClientFilter {
        waiting_bytes_min: wanted.bytes.unwrap_or(1).max(1),
        ..ClientFilter::default()
    };
    let mut slowest: Vec<ClientRow> = Vec::new();
    let mut is_whole = true;
    for shard in state.consoles.shards() {
        let mut from = Some(0);
        for _ in 0..QUESTIONS_MAX {
            let Some(at) = from else { break };
            let question = Question::Clients {
                from: at,
                limit: ROWS_MAX,
                filter: filter.clone(),
            };
            match state.consoles.ask(shard, question).await? {
                Report::Clients(rows) => {
                    slowest.extend(rows.rows);
                    from = rows.next;
                }
                other => return Err(mistaken(&other)),
            }
            slowest.sort_by_key(|client| std::cmp::Reverse(client.waiting_bytes()));
            slowest.truncate(limit);
        }
        is_whole &= from.is_none();
    }
    let rows: Vec<Value> = slowest
        .iter()
        .map(|client| {
            let mut row = clients::row(client);
            row["waiting_bytes"] = client.waiting_bytes().into();
            row
        })
        .collect();
    Ok(Json(json!({ "slow": rows, "whole": is_whole })))
}
