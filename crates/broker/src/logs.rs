//! Logs, for people, on stderr: stdout belongs to the lines that say what was bound.

use anyhow::Context;
use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;

/// What is logged when neither `--log` nor RUST_LOG says otherwise.
const DEFAULT_FILTER: &str = "info";

/// Starts logging: by `flag` if given, else by the environment variable RUST_LOG. Errs if the
/// filter cannot be read.
pub fn start(flag: Option<&str>) -> anyhow::Result<()> {
    let filter = match (flag, std::env::var("RUST_LOG")) {
        (Some(flag), _) => parse(flag).context("--log")?,
        (None, Ok(variable)) if !variable.is_empty() => parse(&variable).context("RUST_LOG")?,
        (None, _) => parse(DEFAULT_FILTER)?,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

fn parse(text: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(text).with_context(|| {
        format!("`{text}` is no log filter; try error, warn, info, debug, trace or info,net=debug")
    })
}
