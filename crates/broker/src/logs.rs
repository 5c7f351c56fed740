//! Logs on stderr, since stdout belongs to the lines that say what was bound: for people, or, where
//! the journal reads along, as JSON.

mod fields;
mod journal;

use crate::config::choices::LogFormat;
use crate::config::{Config, Telemetry};
use crate::telemetry;
use anyhow::Context;
use fields::Fields;
pub use journal::complain;
use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;
use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Changes what is logged; set when logging starts.
static CHANGE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Whether lines are JSON.
fn is_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => journal::reads_along(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

/// Starts logging, and sending traces if there is where to: not for commands that come and go, which
/// make none. Errs if the filter cannot be read.
pub fn start(config: &Config, has_traces: bool) -> anyhow::Result<()> {
    let filter = parse(&config.general.log.0)?;
    let (filter, handle) = reload::Layer::new(filter);
    // Logging starts once.
    let _ = CHANGE.set(handle);
    let writer = match journal::reads_along() {
        true => BoxMakeWriter::new(journal::Marked),
        false => BoxMakeWriter::new(stderr),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match is_json(config.general.log_format) {
        true => lines.json().flatten_event(true).boxed(),
        false => {
            // https://no-color.org
            let is_plain = std::env::var_os("NO_COLOR").is_some_and(|text| !text.is_empty());
            let lines = lines.with_ansi(stderr().is_terminal() && !is_plain);
            lines.with_target(false).fmt_fields(Fields).boxed()
        }
    };
    let lines = lines.with_filter(without_spans(filter));
    let (traces, trouble) = match has_traces {
        true => {
            let Telemetry {
                endpoint,
                service_name,
            } = &config.telemetry;
            match telemetry::layer(endpoint, service_name) {
                Ok(layer) => (layer, None),
                Err(why) => (None, Some(why)),
            }
        }
        false => (None, None),
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(traces)
        .init();
    if let Some(why) = trouble {
        warn!(why, "no traces are sent");
    }
    Ok(())
}

/// Spans are for traces: lines say what they say without them.
fn without_spans<F: Filter<Registry>>(filter: F) -> impl Filter<Registry> {
    let no_spans = filter_fn(|metadata| !telemetry::is_control(metadata));
    // Without a hint of its own it would have all lines made that the filter does not want.
    filter.and(no_spans.with_max_level_hint(LevelFilter::TRACE))
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
    // EnvFilter takes a word that is no level for the name of a module: `ifno` would silence all.
    if let Some(word) = text
        .split(',')
        .map(str::trim)
        .find(|word| !is_directive(word))
    {
        let what = if word.contains('=') {
            "log filter"
        } else {
            "level"
        };
        anyhow::bail!(
            "`{word}` is no {what}; try error, warn, info, debug, trace or info,net=debug"
        );
    }
    EnvFilter::try_new(text).with_context(|| {
        format!("`{text}` is no log filter; try error, warn, info, debug, trace or info,net=debug")
    })
}

/// Whether a part of a filter is a level, or says one for something.
fn is_directive(word: &str) -> bool {
    let (target, level) = word.rsplit_once('=').unwrap_or(("all", word));
    let is_level = !level.is_empty() && level.parse::<LevelFilter>().is_ok();
    is_level && !target.is_empty() && !target.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_no_filter() {
        for wrong in [
            "ifno", "ifno=", "=info", "a b=info", "", " ", "info,", "foo bar", "info,net", "a=b=c",
            "net=loud",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for right in ["info", "OFF", "warn,net=debug", "net::journal=trace", "3"] {
            assert!(parse(right).is_ok(), "{right}");
        }
    }

    #[test]
    fn what_is_not_wanted_is_not_made() {
        for (text, level) in [("warn", LevelFilter::WARN), ("info", LevelFilter::INFO)] {
            let filter = without_spans(parse(text).unwrap());
            assert_eq!(filter.max_level_hint(), Some(level));
        }
        let one = without_spans(parse("info,net=debug").unwrap());
        assert_eq!(one.max_level_hint(), Some(LevelFilter::DEBUG));
    }
}
