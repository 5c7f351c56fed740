//! `/v1/clients/{id}`: one client, described or closed.

use super::answers::{Answer, Failure, mistaken, moment};
use super::{State, clients, lists, sockets};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use shard::console::{ClientDetail, Question, Removal, Report};
use std::sync::Arc;
use tracing::info;

/// `GET /v1/clients/{id}`
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    id: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(id) = id?;
    if let Some(socket) = sockets::describe(&state, &id).await? {
        return Ok(Json(socket));
    }
    match find(&state, &id).await? {
        Some((shard, detail)) => Ok(Json(describe(shard, &detail))),
        None => Err(unknown()),
    }
}

/// A client, and the shard where it lives.
pub async fn find(
    state: &State,
    id: &str,
) -> Result<Option<(shard::ShardId, Box<ClientDetail>)>, Failure> {
    lists::first(state, |shard| async move {
        let question = Question::Client {
            client_id: id.into(),
        };
        match state.consoles.ask(shard, question).await? {
            Report::Client(client) => Ok(client.map(|client| (shard, client))),
            other => Err(mistaken(&other)),
        }
    })
    .await
}

/// What is to go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    session: Option<Session>,
}

/// What becomes of the session.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Session {
    /// It stays, if it outlives its connection.
    Keep,
    /// It goes, too.
    Delete,
}

/// `DELETE /v1/clients/{id}`
pub async fn remove(
    Shared(state): Shared<Arc<State>>,
    id: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer {
    let (Path(id), Query(wanted)) = (id?, wanted?);
    let with_session = wanted.session == Some(Session::Delete);
    let (state, id) = (&*state, id.as_str());
    let removal = lists::first(state, |shard| async move {
        let question = Question::Remove {
            client_id: id.into(),
            with_session,
        };
        match state.consoles.ask(shard, question).await? {
            Report::Removed(removal) => Ok(removal.is_known.then_some(removal)),
            Report::StoreStalled => {
                let what = "the store cannot write now; nothing was done";
                Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, what))
            }
            other => Err(mistaken(&other)),
        }
    });
    let removal = match sockets::remove(state, id).await? {
        Some(removal) => Some(removal),
        None => removal.await?,
    };
    let Some(Removal {
        was_connected,
        has_ended,
        ..
    }) = removal
    else {
        return Err(unknown());
    };
    info!(
        client_id = &*shard::printable(id),
        was_connected, has_ended, "an operator has closed a client"
    );
    Ok(Json(
        json!({ "disconnected": was_connected, "session_ended": has_ended }),
    ))
}

fn unknown() -> Failure {
    Failure::missing("no such client is connected or has a session")
}

fn describe(shard: shard::ShardId, detail: &ClientDetail) -> Value {
    let mut all = clients::row(&detail.row);
    let more = json!({
        "shard": shard.0,
        "kept": detail.is_kept,
        "recovered": detail.is_recovered,
        "in_flight_max": detail.in_flight_max,
        "in_flight_unsent": detail.in_flight_unsent,
        "queue_stored_messages": detail.queue_stored_messages,
        "received_unacknowledged": detail.received_unacknowledged,
        "publishers_waiting": detail.publishers_waiting,
        "slow_since": detail.slow_since.map(moment),
        "packet_bytes_max": (detail.packet_bytes_max != u32::MAX).then_some(detail.packet_bytes_max),
        "last_packet": detail.received.map(moment),
        "will": detail.will.as_ref().map(|(topic, delay_s)| json!({ "topic": topic, "delay_s": delay_s })),
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
        all.extend(more);
    }
    all
}
