//! Logs on stderr, since stdout belongs to the lines that say what was bound: for people, or, where
//! the journal reads along, as JSON.

mod fields;

use anyhow::Context;
use clap::ValueEnum;
use fields::Fields;
use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// What is logged when neither `--log` nor RUST_LOG says otherwise.
const DEFAULT_FILTER: &str = "info";

/// Changes what is logged; set when logging starts.
static CHANGE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON if stderr goes to the journal of systemd, else text
    #[default]
    Auto,
    /// For people
    Text,
    /// One object per line
    Json,
}

impl Format {
    fn is_json(self) -> bool {
        match self {
            Format::Auto => goes_to_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()),
            Format::Text => false,
            Format::Json => true,
        }
    }
}

/// Whether stderr is the stream that systemd has named. A program that we were started by may have
/// left us the variable and another stderr. systemd.exec(5)
fn goes_to_journal(named: Option<&str>) -> bool {
    let is = rustix::fs::fstat(stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    is.is_ok_and(|is| Some(is.as_str()) == named)
}

/// Starts logging as the broker's configuration says. Errs if the filter cannot be read.
pub fn start_as(filter: &str, format: Format) -> anyhow::Result<()> {
    begin(parse(filter)?, format);
    Ok(())
}

/// Starts logging: by `flag` if given, else by the environment variable RUST_LOG. Errs if the
/// filter cannot be read.
pub fn start(flag: Option<&str>, format: Format) -> anyhow::Result<()> {
    let filter = match (flag, std::env::var("RUST_LOG")) {
        (Some(flag), _) => parse(flag).context("--log")?,
        (None, Ok(variable)) if !variable.is_empty() => parse(&variable).context("RUST_LOG")?,
        (None, _) => parse(DEFAULT_FILTER)?,
    };
    begin(filter, format);
    Ok(())
}

fn begin(filter: EnvFilter, format: Format) {
    let (filter, handle) = reload::Layer::new(filter);
    // Logging starts once.
    let _ = CHANGE.set(handle);
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let lines = match format.is_json() {
        true => lines.json().flatten_event(true).boxed(),
        false => {
            let lines = lines.with_ansi(stderr().is_terminal());
            lines.with_target(false).fmt_fields(Fields).boxed()
        }
    };
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
