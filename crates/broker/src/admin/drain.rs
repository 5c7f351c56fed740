//! `/v1/drain`: takes the broker out of service gently, and says how far that is.
//!
//! One drain is under way at a time. Its task tells the shards every [`STEP`] to close a few more
//! connections, until no MQTT client is connected; new ones are turned away until the drain is ended
//! or the broker is.

use super::State;
use super::answers::{Answer, Failure, mistaken, moment};
use crate::data::now;
use crate::telemetry::CONTROL;
use axum::Json;
use axum::extract::State as Shared;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use shard::Time;
use shard::console::{Draining, Question, ROWS_MAX, Report, Shed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{Instrument, Span, field, info, info_span, warn};

/// How often a few more connections are closed.
const STEP: Duration = Duration::from_millis(100);
/// Steps in one second.
const STEPS_PER_S: u32 = 10;
/// Clients closed per second, unless the request says otherwise.
const RATE_DEFAULT: u32 = 1_000;
/// Clients closed per second at most.
const RATE_MAX: u32 = 100_000;
/// Bytes of the other server's name.
const SERVER_BYTES_MAX: usize = 1_024;

/// How a drain is to be done.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    clients_per_s: Option<u32>,
    server: Option<String>,
}

/// A drain.
#[derive(Clone, Debug)]
struct Drain {
    /// Which one: a task that finds another has been replaced.
    number: u64,
    since: Time,
    rate: u32,
    server: Option<String>,
    closed: u64,
    left: Option<u64>,
}

/// The drain, if there is one.
#[derive(Debug, Default)]
pub struct Drains {
    current: Mutex<(u64, Option<Drain>)>,
}

impl Drains {
    /// Whether clients are turned away.
    pub fn is_on(&self) -> bool {
        self.with(|_, drain| drain.is_some())
    }

    fn with<T>(&self, work: impl FnOnce(&mut u64, &mut Option<Drain>) -> T) -> T {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, drain) = &mut *current;
        work(number, drain)
    }
}

/// `GET /v1/drain`
pub async fn show(Shared(state): Shared<Arc<State>>) -> Answer {
    Ok(Json(describe(state.drains.with(|_, drain| drain.clone()))))
}

/// `POST /v1/drain`: begins, or goes on with another rate or server.
pub async fn begin(
    Shared(state): Shared<Arc<State>>,
    wanted: Result<Option<Json<Wanted>>, JsonRejection>,
) -> Answer {
    let Json(wanted) = wanted?.unwrap_or_default();
    let rate = wanted.clients_per_s.unwrap_or(RATE_DEFAULT);
    if !(1..=RATE_MAX).contains(&rate) {
        return Err(Failure::wrong(format!("clients_per_s: 1 to {RATE_MAX}")));
    }
    if let Some(server) = &wanted.server
        && (server.is_empty()
            || server.len() > SERVER_BYTES_MAX
            || server.contains(char::is_control))
    {
        return Err(Failure::wrong("server: a name such as host:port"));
    }
    let draining = Draining {
        server: wanted.server.as_deref().map(Into::into),
    };
    state
        .consoles
        .ask_all(|| Question::Drain(Some(draining.clone())))
        .await?;
    let drain = state.drains.with(|number, current| {
        *number += 1;
        let before = current.take();
        let drain = Drain {
            number: *number,
            since: before.as_ref().map_or_else(now, |drain| drain.since),
            rate,
            server: wanted.server,
            closed: before.map_or(0, |drain| drain.closed),
            left: None,
        };
        *current = Some(drain.clone());
        drain
    });
    info!(
        rate,
        server = drain.server,
        "draining: new clients are turned away"
    );
    let span = info_span!(
        target: CONTROL,
        parent: None,
        "drain",
        clients_per_s = i64::from(rate),
        outcome = field::Empty,
        otel.status_code = field::Empty,
    );
    span.follows_from(Span::current());
    let task = carry_out(Arc::clone(&state), drain.number, rate);
    tokio::spawn(traced(task, span));
    Ok(Json(describe(Some(drain))))
}

/// `DELETE /v1/drain`: clients are welcome again.
pub async fn end(Shared(state): Shared<Arc<State>>) -> Answer {
    let ended = state.drains.with(|_, drain| drain.take());
    if ended.is_none() {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            "nothing is being drained",
        ));
    }
    state.consoles.ask_all(|| Question::Drain(None)).await?;
    info!("clients are welcome again");
    Ok(Json(describe(None)))
}

/// How a drain has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// No client is connected.
    Drained,
    /// It was ended, or there is another one.
    Replaced,
    /// A shard does not answer.
    Failed,
}

async fn traced(task: impl Future<Output = Ended>, span: Span) {
    let ended = task.instrument(span.clone()).await;
    span.record("outcome", field::debug(ended));
    if ended == Ended::Failed {
        span.record("otel.status_code", "ERROR");
    }
}

/// Closes connections until none is left, or this drain is no longer the one.
async fn carry_out(state: Arc<State>, number: u64, rate: u32) -> Ended {
    let shards = state.consoles.shards().len() as u32;
    // What a step leaves over of the rate, the next one has.
    let mut owed = 0;
    loop {
        owed += rate;
        let mut step = owed / STEPS_PER_S;
        owed %= STEPS_PER_S;
        let mut left = 0;
        for shard in state.consoles.shards() {
            let share = step.div_ceil(shards - u32::from(shard.0)).min(ROWS_MAX);
            let shed = match state
                .consoles
                .ask(shard, Question::Shed { limit: share })
                .await
            {
                Ok(Report::Shed(shed)) => shed,
                Ok(other) => {
                    warn!(failure = ?mistaken(&other), "the drain has stopped");
                    return Ended::Failed;
                }
                Err(error) => {
                    warn!(%error, "the drain has stopped");
                    return Ended::Failed;
                }
            };
            step = step.saturating_sub(shed.closed);
            left += shed.clients;
            if !note(&state, number, shed, None) {
                return Ended::Replaced;
            }
        }
        if !note(&state, number, Shed::default(), Some(left)) {
            return Ended::Replaced;
        }
        if left == 0 {
            info!("drained: no client is connected");
            return Ended::Drained;
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Notes how far the drain is; whether it is still the one.
fn note(state: &State, number: u64, shed: Shed, left: Option<u64>) -> bool {
    state.drains.with(|_, current| match current {
        Some(drain) if drain.number == number => {
            drain.closed += u64::from(shed.closed);
            drain.left = left.or(drain.left);
            true
        }
        _ => false,
    })
}

fn describe(drain: Option<Drain>) -> Value {
    let Some(drain) = drain else {
        return json!({ "draining": false });
    };
    json!({
        "draining": true,
        "since": moment(drain.since),
        "clients_per_s": drain.rate,
        "server": drain.server,
        "closed": drain.closed,
        "clients": drain.left,
        "done": drain.left == Some(0),
    })
}
