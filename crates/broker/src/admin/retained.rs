//! `/v1/retained`: retained messages, listed, read and deleted.

use super::answers::{Answer, Cursor, Failure, mistaken, moment};
use super::{State, lists};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use shard::console::{Question, Report, RetainedRow, is_filter};
use std::sync::Arc;
use tracing::info;

/// Which messages are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    filter: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

/// `GET /v1/retained`
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer {
    let Query(wanted) = wanted?;
    let filter = checked(wanted.filter.as_deref().unwrap_or("#"))?;
    let question = |cursor: &Cursor, limit| {
        Ok(Question::Retained {
            filter: filter.into(),
            after: (!cursor.rest.is_empty()).then(|| cursor.rest.as_str().into()),
            limit,
        })
    };
    let page = |report| match report {
        Report::Retained(rows) => Ok((rows.rows, rows.next.map(String::from))),
        other => Err(mistaken(&other)),
    };
    let after = wanted.after.as_deref();
    let (rows, next) = lists::read(&state, wanted.limit, after, question, page).await?;
    let rows: Vec<Value> = rows.iter().map(row).collect();
    Ok(Json(json!({ "retained": rows, "next": next })))
}

/// `GET /v1/retained/{topic}`: its payload, as it is.
pub async fn read(
    Shared(state): Shared<Arc<State>>,
    topic: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let Path(topic) = topic?;
    let (state, topic) = (&*state, topic.as_str());
    let message = lists::first(state, |shard| async move {
        let question = Question::RetainedMessage {
            topic: topic.into(),
        };
        match state.consoles.ask(shard, question).await? {
            Report::RetainedMessage(message) => Ok(message),
            other => Err(mistaken(&other)),
        }
    });
    match message.await? {
        Some(message) => {
            let kind = (CONTENT_TYPE, "application/octet-stream");
            Ok(([kind], message.payload).into_response())
        }
        None => Err(Failure::missing("this topic has no retained message")),
    }
}

/// `DELETE /v1/retained?filter=`
pub async fn delete(
    Shared(state): Shared<Arc<State>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer {
    let Query(wanted) = wanted?;
    let Some(filter) = wanted.filter.as_deref() else {
        return Err(Failure::wrong("filter: which ones? `%23` for all"));
    };
    let filter = checked(filter)?;
    let mut deleted = 0;
    for shard in state.consoles.shards() {
        let mut after = None;
        loop {
            let question = Question::ForgetRetained {
                filter: filter.into(),
                after,
            };
            match state.consoles.ask(shard, question).await? {
                Report::RetainedForgotten { count, next } => {
                    deleted += u64::from(count);
                    after = next;
                }
                Report::StoreStalled => {
                    let what = format!("the store cannot write now; {deleted} were deleted");
                    return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, what));
                }
                other => return Err(mistaken(&other)),
            }
            if after.is_none() {
                break;
            }
        }
    }
    info!(filter, deleted, "an operator has deleted retained messages");
    Ok(Json(json!({ "deleted": deleted })))
}

fn checked(filter: &str) -> Result<&str, Failure> {
    match is_filter(filter) {
        true => Ok(filter),
        false => Err(Failure::wrong("filter: not a topic filter")),
    }
}

fn row(message: &RetainedRow) -> Value {
    json!({
        "topic": message.topic,
        "payload_bytes": message.payload_bytes,
        "qos": message.qos as u8,
        "expires": message.expires.map(moment),
    })
}
