//! `/metrics`: what is counted, in the text format of Prometheus.

use super::answers::Failure;
use super::{State, shards};
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use shard::Counters;
use std::fmt::Write;
use std::sync::Arc;

/// `GET /metrics`
pub async fn write(Shared(state): Shared<Arc<State>>) -> Result<Response, Failure> {
    let mut total = Counters::default();
    for overview in shards::overviews(&state).await? {
        total.add(&overview.counters);
    }
    let mut text = String::new();
    for (name, count) in total.iter() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "meshring_{name} {count}");
    }
    let kind = (CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    Ok(([kind], text).into_response())
}
