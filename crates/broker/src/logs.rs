//! Logs, for people, on stderr: stdout belongs to the lines that say what was bound.

use anyhow::Context;
use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

/// What is logged when neither `--log` nor RUST_LOG says otherwise.
const DEFAULT_FILTER: &str = "info";

/// Changes what is logged; set when logging starts.
static CHANGE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging as the broker's configuration says. Errs if the filter cannot be read.
pub fn start_as(filter: &str) -> anyhow::Result<()> {
    begin(parse(filter)?);
    Ok(())
}

/// Starts logging: by `flag` if given, else by the environment variable RUST_LOG. Errs if the
/// filter cannot be read.
pub fn start(flag: Option<&str>) -> anyhow::Result<()> {
    let filter = match (flag, std::env::var("RUST_LOG")) {
        (Some(flag), _) => parse(flag).context("--log")?,
        (None, Ok(variable)) if !variable.is_empty() => parse(&variable).context("RUST_LOG")?,
        (None, _) => parse(DEFAULT_FILTER)?,
    };
    begin(filter);
    Ok(())
}

fn begin(filter: EnvFilter) {
    let (filter, handle) = reload::Layer::new(filter);
    // Logging starts once.
    let _ = CHANGE.set(handle);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
}

/// Logs by another filter from now on. Errs if it cannot be read.
pub fn change(filter: &str) -> anyhow::Result<()> {
    let filter = parse(filter)?;
    let handle = CHANGE.get().context("logging has not started")?;
    handle.reload(filter).context("logging has ended")
}

/// The filter that counts; empty while nothing is logged.
pub fn current() -> String {
    let filter = CHANGE.get().and_then(|handle| {
        let text = handle.with_current(ToString::to_string);
        text.ok()
    });
    filter.unwrap_or_default()
}

/// Reads a filter. Errs with words for people.
pub fn parse(text: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(text).with_context(|| {
        format!("`{text}` is no log filter; try error, warn, info, debug, trace or info,net=debug")
    })
}
