//! How the fields of a line are written for people: as the library does, but nothing in them can
//! begin another line or move a terminal's cursor, wherever it comes from.

use std::fmt::{self, Debug, Write};
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Writes `message name=value …`, texts in quotes.
#[derive(Debug)]
pub struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line {
            has_colors: writer.has_ansi_escapes(),
            writer,
            is_begun: false,
            result: Ok(()),
        };
        fields.record(&mut line);
        line.result
    }
}

/// What has been written of a line.
struct Line<'writer> {
    writer: Writer<'writer>,
    has_colors: bool,
    is_begun: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // What the crate `log` adds to what comes by it.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.try_put(field.name(), value);
        }
    }

    fn try_put(&mut self, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        if std::mem::replace(&mut self.is_begun, true) {
            self.writer.write_char(' ')?;
        }
        let name = name.strip_prefix("r#").unwrap_or(name);
        match (name, self.has_colors) {
            ("message", _) => {}
            (_, true) => write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
            (_, false) => write!(self.writer, "{name}=")?,
        }
        Harmless(&mut self.writer).write_fmt(value)
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.put(field, format_args!("{value}")),
            _ => self.put(field, format_args!("{value:?}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

/// Passes on what is written to it, control characters as `\u{…}`.
struct Harmless<'a, 'writer>(&'a mut Writer<'writer>);

impl Write for Harmless<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            let end = part.chars().next_back().filter(|last| last.is_control());
            match end {
                Some(control) => {
                    self.0.write_str(&part[..part.len() - control.len_utf8()])?;
                    write!(self.0, "{}", control.escape_unicode())?;
                }
                None => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing::{info, warn};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(has_colors: bool, work: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt()
            .fmt_fields(Fields)
            .with_ansi(has_colors)
            .with_target(false)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(lines, work);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn nothing_in_a_field_begins_a_line_or_moves_a_cursor() {
        let evil = "a\nINFO forged\x1b[2J\u{9b}31m";
        let text = written(false, || {
            info!(quoted = evil, plain = %evil, number = 3, "message {evil}");
        });
        assert_eq!(text.matches(char::is_control).collect::<Vec<_>>(), ["\n"]);
        assert!(text.ends_with("number=3\n"), "{text}");
        assert!(text.contains(r"message a\u{a}INFO forged\u{1b}[2J\u{9b}31m quoted="));
        assert!(text.contains(r#"quoted="a\nINFO forged\u{1b}"#), "{text}");
    }

    #[test]
    fn lines_look_as_ever() {
        let plain = written(false, || {
            warn!(port = 1883, who = "me", missing = None::<u8>, "up")
        });
        assert_eq!(plain, " WARN up port=1883 who=\"me\"\n");
        let colored = written(true, || warn!(port = 1883, "up"));
        assert!(
            colored.contains("up \x1b[3mport\x1b[0m\x1b[2m=\x1b[0m1883"),
            "{colored:?}"
        );
    }
}
