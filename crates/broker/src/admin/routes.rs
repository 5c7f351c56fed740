//! Which requests there are, and who may make them. docs/admin.md describes each.

use super::answers::Failure;
use super::observe::observe;
use super::{
    State, client, clients, drain, explain, log, metrics, reload, retained, shards, slow,
    subscriptions, talkers, trace,
};
use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// For the Unix socket: everything.
pub fn free(state: &Arc<State>) -> Router {
    let all = open_to_all().merge(for_operators());
    let all = finish(all).layer(from_fn(observe));
    all.with_state(Arc::clone(state))
}

/// For addresses: all but metrics and health wants the token.
pub fn guarded(state: &Arc<State>) -> Router {
    let guard = from_fn_with_state(Arc::clone(state), demand_token);
    // The fallback, too: without the token nobody learns which requests there are.
    let guarded = finish(for_operators()).layer(guard);
    let all = open_to_all().merge(guarded).layer(from_fn(observe));
    all.with_state(Arc::clone(state))
}

fn open_to_all() -> Router<Arc<State>> {
    Router::new()
        .route("/metrics", get(metrics::write))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
}

fn for_operators() -> Router<Arc<State>> {
    Router::new()
        .route("/v1/clients", get(clients::list))
        .route("/v1/clients/{id}", get(client::show).delete(client::remove))
        .route("/v1/sessions", get(clients::sessions))
        .route("/v1/subscriptions", get(subscriptions::list))
        .route("/v1/retained", get(retained::list).delete(retained::delete))
        .route("/v1/retained/{*topic}", get(retained::read))
        .route("/v1/explain", get(explain::explain))
        .route("/v1/trace", get(trace::trace))
        .route("/v1/slow", get(slow::list))
        .route("/v1/talkers", get(talkers::list))
        .route(
            "/v1/drain",
            get(drain::show).post(drain::begin).delete(drain::end),
        )
        .route("/v1/shards", get(shards::list))
        .route("/v1/reload", post(reload::start))
        .route("/v1/log", put(log::set).get(log::current))
}

fn finish(router: Router<Arc<State>>) -> Router<Arc<State>> {
    router
        .fallback(|| async { Failure::new(StatusCode::NOT_FOUND, "no such request") })
        .method_not_allowed_fallback(|| async {
            let what = "this request does not have that method";
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, what)
        })
}

/// Lets a request with the token pass.
async fn demand_token(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let Some(token) = state.token() else {
        let what = "there is no token that would open this: the broker was started without a data \
                    directory and without --admin-token-file";
        return Failure::new(StatusCode::FORBIDDEN, what).into_response();
    };
    let given = request.headers().get(AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok());
    let bearer = given.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    if bearer.is_some_and(|given| token.is(given)) {
        return next.run(request).await;
    }
    let what = "this needs the token: Authorization: Bearer TOKEN";
    let mut response = Failure::new(StatusCode::UNAUTHORIZED, what).into_response();
    let scheme = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    response
}

/// The process runs.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Clients are welcome: all listeners are open, and every shard answers.
async fn readyz(Shared(state): Shared<Arc<State>>) -> Response {
    if !state.is_ready.load(Ordering::Relaxed) {
        let what = "the broker starts or stops\n";
        return (StatusCode::SERVICE_UNAVAILABLE, what).into_response();
    }
    if state.drains.is_on() {
        let what = "the broker is taken out of service\n";
        return (StatusCode::SERVICE_UNAVAILABLE, what).into_response();
    }
    match shards::overviews(&state).await {
        Ok(_) => "ready\n".into_response(),
        Err(failure) => failure.into_response(),
    }
}
