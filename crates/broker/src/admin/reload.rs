//! `POST /v1/reload`: the configuration is read again.

use super::State;
use crate::reload::{Answer, Refusal};
use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;

/// `POST /v1/reload`
pub async fn start(Shared(state): Shared<Arc<State>>) -> Response {
    let (answer, answered) = tokio::sync::oneshot::channel();
    state.reloads.ask("the admin API", move |came| {
        // Whoever has asked may have gone.
        let _ = answer.send(came);
    });
    match answered.await {
        Ok(answer) => response(answer),
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "the broker stops", &[]),
    }
}

fn response(answer: Answer) -> Response {
    match answer {
        Ok(outcome) => Json(outcome.to_json()).into_response(),
        Err(Refusal::Wrong(problems)) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let why = lines.join("; ");
            refused(StatusCode::UNPROCESSABLE_ENTITY, &why, &lines)
        }
        Err(Refusal::Failed(why)) => refused(StatusCode::CONFLICT, &why, &[]),
        Err(Refusal::Busy) => {
            let why = "too many reloads wait already";
            refused(StatusCode::SERVICE_UNAVAILABLE, why, &[])
        }
    }
}

fn refused(status: StatusCode, why: &str, problems: &[String]) -> Response {
    (status, Json(json!({"error": why, "problems": problems}))).into_response()
}
