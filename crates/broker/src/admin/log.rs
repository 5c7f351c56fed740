//! `/v1/log`: what is logged, changed while the broker runs.

use super::answers::{Answer, Failure};
use crate::logs;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use serde::Deserialize;
use serde_json::json;
use tracing::info;

/// What is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    filter: String,
}

/// `PUT /v1/log`
pub async fn set(wanted: Result<Json<Wanted>, JsonRejection>) -> Answer {
    let Json(wanted) = wanted?;
    logs::change(&wanted.filter).map_err(|error| Failure::wrong(format!("{error:#}")))?;
    info!(filter = wanted.filter, "what is logged was changed");
    Ok(Json(json!({ "filter": wanted.filter })))
}

/// `GET /v1/log`
pub async fn current() -> Answer {
    Ok(Json(json!({ "filter": logs::current() })))
}
