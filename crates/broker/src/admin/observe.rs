//! A span for each request of an operator: which, and what came of it.

use crate::telemetry::CONTROL;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument, field, info_span};

/// Answers a request within a span. The names are OpenTelemetry's for HTTP servers; what the client
/// has chosen, which may be anything, is not in it.
pub async fn observe(request: Request, next: Next) -> Response {
    let method = known(request.method().as_str());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let span = info_span!(
        target: CONTROL,
        parent: None,
        "request",
        otel.name = field::Empty,
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
    );
    if !span.is_disabled() {
        let name = route.map(|route| format!("{method} {route}"));
        span.record("otel.name", name.as_deref().unwrap_or(method));
    }
    let response = next.run(request).instrument(span.clone()).await;
    let status = i64::from(response.status().as_u16());
    span.record("http.response.status_code", status);
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

/// A method that HTTP knows, or the word for all others.
fn known(method: &str) -> &'static str {
    const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    let known = METHODS.iter().find(|known| **known == method);
    known.copied().unwrap_or("_OTHER")
}
