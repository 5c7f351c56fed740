//! `/v1/trace`: a stream of JSON lines, what happens to one client's or one topic's packets.
//!
//! Bounded: a shard has a few traces at a time, each with a few thousand steps that were not read;
//! the stream says how many were left out. Nothing is noted once nobody reads the stream.

use super::State;
use super::answers::{Failure, mistaken, moment};
use super::console::Unanswered;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use shard::console::{Fate, Question, Report, Subject, Traced, is_filter};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the shards are asked what they have noted.
const LOOK: Duration = Duration::from_millis(100);
/// Looks after which an empty line is sent, so that it is noticed when nobody reads any more.
const SILENCE_MAX: u32 = 20;

/// Numbers of traces: each is used once.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Whose packets are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    client: Option<String>,
    topic: Option<String>,
}

/// `GET /v1/trace`
pub async fn trace(
    Shared(state): Shared<Arc<State>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(wanted) = wanted?;
    let subject = match (wanted.client, wanted.topic) {
        (Some(client), None) => Subject::Client(client.into()),
        (None, Some(topic)) if is_filter(&topic) => Subject::Topic(topic.into()),
        (None, Some(_)) => return Err(Failure::wrong("topic: not a topic filter")),
        _ => return Err(Failure::wrong("either client or topic")),
    };
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let begun = state.consoles.ask_all(|| Question::BeginTrace {
        number,
        subject: subject.clone(),
    });
    for report in begun.await? {
        match report {
            Report::Done => {}
            Report::TooManyTraces => {
                end(&state, number).await;
                let what = "as many traces as allowed are under way";
                return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, what));
            }
            other => return Err(mistaken(&other)),
        }
    }
    let (sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        // Whoever reads may go, and a shard may end: either is the end of the stream.
        let _ = follow(&state, number, sender).await;
        end(&state, number).await;
    });
    let kind = (CONTENT_TYPE, "application/x-ndjson");
    Ok(([kind], Body::new(body)).into_response())
}

async fn end(state: &State, number: u64) {
    // It ends by itself otherwise.
    let _ = state
        .consoles
        .ask_all(|| Question::EndTrace { number })
        .await;
}

/// Sends what is noted until nobody reads it.
async fn follow(
    state: &State,
    number: u64,
    mut sender: Sender<Bytes, Infallible>,
) -> Result<(), Unanswered> {
    let mut silence = SILENCE_MAX;
    loop {
        let mut steps = Vec::new();
        let mut left_out = 0;
        for report in state
            .consoles
            .ask_all(|| Question::ReadTrace { number })
            .await?
        {
            let Report::Trail(Some(trail)) = report else {
                return Ok(());
            };
            steps.extend(trail.steps);
            left_out += trail.left_out;
        }
        // Stable: what one shard has noted at one moment stays in order.
        steps.sort_by_key(|step| step.at);
        let mut lines: String = steps
            .iter()
            .map(|step| format!("{}\n", line(step)))
            .collect();
        if left_out > 0 {
            lines.push_str(&format!("{}\n", json!({ "left_out": left_out })));
        }
        silence += 1;
        if lines.is_empty() && silence >= SILENCE_MAX {
            lines.push('\n');
        }
        if !lines.is_empty() {
            silence = 0;
            if sender.send_data(Bytes::from(lines)).await.is_err() {
                return Ok(());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn line(step: &Traced) -> Value {
    let (what, more) = match &step.fate {
        Fate::Received { retain, bytes } => (
            "received",
            json!({ "retain": retain, "payload_bytes": bytes }),
        ),
        Fate::Refused(reason) => {
            let code = format!("{reason:?} (0x{:02X})", *reason as u8);
            ("refused", json!({ "reason": code }))
        }
        Fate::Matched(filters) => ("matched", json!({ "filters": filters })),
        Fate::Queued => ("queued", json!({})),
        Fate::Delivered => ("delivered", json!({})),
        Fate::Acknowledged => ("acknowledged", json!({})),
        Fate::Dropped(why) => ("dropped", json!({ "reason": why })),
    };
    let mut line = json!({
        "at": moment(step.at),
        "client": step.client_id,
        "what": what,
        "topic": (!step.topic.is_empty()).then_some(&step.topic),
        "qos": step.qos as u8,
    });
    if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
        line.extend(more);
    }
    line
}
