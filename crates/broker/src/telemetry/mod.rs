//! Traces of the control plane, for OpenTelemetry: the start, recoveries, listeners, reloads,
//! requests of operators, drains, backups and the stop, as spans.
//!
//! Off unless `telemetry.endpoint` names a collector; then a thread of its own sends what has ended,
//! every 5 s. Never about messages, and nothing of a shard but its recovery. Bounded: 2,048 spans
//! wait for that thread, further ones are lost; the stop waits [`FLUSH_MAX`] for it. What is in a
//! span is written where it is made: no span holds a token, a head or a body. Numbers in spans are
//! `i64`, as OpenTelemetry has them; others become texts.

mod export;
mod url;

use export::{Post, State, Watched};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::fmt::Display;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Span, Subscriber, field, info_span, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;
pub use url::CollectorUrl;

/// The target of spans of the control plane; no line of the log has it.
pub const CONTROL: &str = net::CONTROL;

/// How long the end of the process waits for spans to leave.
pub const FLUSH_MAX: Duration = Duration::from_secs(2);

/// What sends spans, if anything does.
static RUNNING: OnceLock<(SdkTracerProvider, Arc<State>)> = OnceLock::new();

/// The stop, from the signal on.
static STOP: Mutex<Option<Span>> = Mutex::new(None);

/// Whether this is a span of the control plane.
pub fn is_control(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == CONTROL
}

/// Starts to send spans to a collector, under the name of a service. Nothing is sent without an
/// address, nor if the exporter cannot be made, which is then said in the log by the caller: the
/// error is for people.
pub fn layer<S>(
    collector: &CollectorUrl,
    service: &str,
) -> Result<Option<impl Layer<S> + use<S>>, String>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let Some(url) = collector.traces() else {
        return Ok(None);
    };
    let state = Arc::new(State::default());
    let post = Post::new(&url, Arc::clone(&state))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(post)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url)
        .build()
        .map_err(|error| error.to_string())?;
    let attributes = [
        KeyValue::new("service.version", env!("MESHRING_VERSION")),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    let resource = Resource::builder()
        .with_service_name(service.to_owned())
        .with_attributes(attributes);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(Watched::new(exporter, Arc::clone(&state)))
        .with_resource(resource.build())
        .build();
    let tracer = provider.tracer("meshring");
    // Logging starts once.
    let _ = RUNNING.set((provider, state));
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_level(false)
        .with_target(false);
    let only = filter_fn(is_control).with_max_level_hint(LevelFilter::INFO);
    Ok(Some(layer.with_filter(only)))
}

/// From now on the thread that sends spans runs on these CPUs.
pub fn run_on(cpus: &[usize]) {
    if let Some((_, state)) = RUNNING.get() {
        state.run_on(cpus);
    }
}

/// Sends what is left, for as long as that may take. Spans that end later are lost.
pub fn finish() {
    let Some((provider, state)) = RUNNING.get() else {
        return;
    };
    state.hurry();
    if let Err(error) = provider.shutdown_with_timeout(FLUSH_MAX) {
        warn!(%error, "the last traces may not have arrived");
    }
}

/// Does a command of this program within a span.
pub fn command<T, E: Display>(
    name: &'static str,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let span = info_span!(
        target: CONTROL,
        "command",
        otel.name = name,
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
    );
    within(&span, work)
}

/// Does something within a span that has fields for its status, and notes how it went.
pub fn within<T, E: Display>(span: &Span, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let result = span.in_scope(work);
    if let Err(error) = &result {
        failed(span, error);
    }
    result
}

/// Notes that what a span is about has failed.
pub fn failed(span: &Span, error: &dyn Display) {
    if !span.is_disabled() {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", format!("{error:#}"));
    }
}

/// The stop begins, by this signal.
pub fn stop_begins(signal: &'static str) {
    let span = info_span!(target: CONTROL, parent: None, "stop", signal);
    *STOP.lock().unwrap_or_else(PoisonError::into_inner) = Some(span);
}

/// The stop is over.
pub fn stop_ends() {
    STOP.lock().unwrap_or_else(PoisonError::into_inner).take();
}
