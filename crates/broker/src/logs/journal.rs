//! Lines for systemd's journal, which takes a number in front of each for how much it matters.
//! sd-daemon(3)

use std::io::{self, Write, stderr};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// In front of what went wrong.
const ERROR: &str = "<3>";

/// Whether stderr is the stream that systemd has named. A program that we were started by may have
/// left us the variable and another stderr. systemd.exec(5)
pub fn reads_along() -> bool {
    is_named(std::env::var("JOURNAL_STREAM").ok().as_deref())
}

fn is_named(named: Option<&str>) -> bool {
    let is = rustix::fs::fstat(stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    is.is_ok_and(|is| Some(is.as_str()) == named)
}

/// Says on stderr why the program ends, or does not start; for the journal as errors.
pub fn complain(text: &str) {
    let mark = if reads_along() { ERROR } else { "" };
    let lines: Vec<String> = text.lines().map(|line| format!("{mark}{line}\n")).collect();
    // Where nobody reads, nothing is lost that the exit code does not say.
    let _ = stderr().lock().write_all(lines.concat().as_bytes());
}

/// Writes lines to stderr with their priorities.
#[derive(Clone, Copy, Debug)]
pub struct Marked;

/// A line of one priority.
#[derive(Debug)]
pub struct Line<W> {
    mark: &'static str,
    to: W,
}

impl<'a> MakeWriter<'a> for Marked {
    type Writer = Line<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        line(&Level::INFO, stderr())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        line(metadata.level(), stderr())
    }
}

fn line<W>(level: &Level, to: W) -> Line<W> {
    let mark = match *level {
        Level::ERROR => ERROR,
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    };
    Line { mark, to }
}

impl<W: Write> Write for Line<W> {
    /// Writes it as one, since another thread may write at the same time: the library gives a line as a
    /// whole.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write_all(&[self.mark.as_bytes(), bytes].concat())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_its_priority() {
        for (level, mark) in [
            (Level::ERROR, "<3>"),
            (Level::WARN, "<4>"),
            (Level::INFO, "<6>"),
            (Level::TRACE, "<7>"),
        ] {
            let mut out = Vec::new();
            line(&level, &mut out).write_all(b"{}\n").unwrap();
            assert_eq!(out, format!("{mark}{{}}\n").as_bytes());
        }
    }

    #[test]
    fn another_stream_is_not_the_journal() {
        assert!(!is_named(None));
        assert!(!is_named(Some("1:2")));
    }
}
