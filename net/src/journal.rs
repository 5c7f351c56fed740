//! What a shard's thread writes to the log: lines of the shard and of its driver.
//!
//! Limited per cause: [`LINES_MAX`] in a window that begins with the first of them. Those that come
//! too many are counted, and one line says how many when the window ends. So a flood of one cause
//! hides no other, and a shard writes at most `LINES_MAX + 1` lines per cause and second. Bounded:
//! a window per cause.

use shard::{Cause, Level, Line, Listener, Span, Time};

/// Lines of one cause that are written in one window.
pub const LINES_MAX: u32 = 10;

/// How long a window is.
const WINDOW: Span = Span::from_s(1);

/// The fields that a line may have, beside its time, level and message.
pub const LOG_FIELDS: &[&str] = &[
    "cause",
    "shard",
    "client_id",
    "device",
    "peer",
    "listener",
    "reason",
    "code",
    "detail",
    "suppressed",
];

/// How many lines a cause has had.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Zero before the first.
    end: Time,
    lines: u32,
    suppressed: u64,
}

/// What limits the lines of one shard's thread.
#[derive(Debug)]
pub(crate) struct Journal {
    shard: u16,
    /// By the number of the cause.
    windows: [Window; Cause::ALL.len()],
    /// When the first window ends that has suppressed lines; too early at worst.
    due: Option<Time>,
}

impl Journal {
    pub(crate) fn new(shard: u16) -> Journal {
        Journal {
            shard,
            windows: [Window::default(); Cause::ALL.len()],
            due: None,
        }
    }

    /// Writes a line, unless its cause has had too many.
    pub(crate) fn write(&mut self, now: Time, line: &Line) {
        let window = &mut self.windows[line.cause as usize];
        if now >= window.end {
            self.close(line.cause);
            let window = &mut self.windows[line.cause as usize];
            window.end = now + WINDOW;
            window.lines = 1;
            return emit(line, Some(self.shard), None);
        }
        if window.lines < LINES_MAX {
            window.lines += 1;
            return emit(line, Some(self.shard), None);
        }
        window.suppressed += 1;
        let end = window.end;
        self.due = Some(self.due.map_or(end, |due| due.min(end)));
    }

    /// When [`Journal::tick`] has something to say.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.due
    }

    /// Says what was left out in windows that have ended.
    pub(crate) fn tick(&mut self, now: Time) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        for &cause in Cause::ALL {
            let window = self.windows[cause as usize];
            match window.end <= now {
                true => self.close(cause),
                false if window.suppressed > 0 => {
                    let due = self.due.map_or(window.end, |due| due.min(window.end));
                    self.due = Some(due);
                }
                false => {}
            }
        }
    }

    /// Says what was left out and not said. Nothing is written after this.
    pub(crate) fn finish(&mut self) {
        for &cause in Cause::ALL {
            self.close(cause);
        }
    }

    fn close(&mut self, cause: Cause) {
        let window = &mut self.windows[cause as usize];
        let suppressed = std::mem::take(&mut window.suppressed);
        if suppressed > 0 {
            emit(&Line::new(cause, ""), Some(self.shard), Some(suppressed));
        }
    }
}

/// Writes a line of what happens once in the life of a process or a thread.
pub(crate) fn note(cause: Cause, shard: Option<u16>, detail: &str) {
    emit(&Line::new(cause, detail), shard, None);
}

/// The least that is logged anywhere in this process.
pub(crate) fn level() -> Level {
    use tracing::level_filters::LevelFilter;
    match LevelFilter::current() {
        LevelFilter::OFF | LevelFilter::ERROR => Level::Error,
        LevelFilter::WARN => Level::Warn,
        LevelFilter::INFO => Level::Info,
        _ => Level::Debug,
    }
}

/// Nothing is formatted if nobody wants lines of this level.
fn emit(line: &Line, shard: Option<u16>, suppressed: Option<u64>) {
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                cause = line.cause.name(),
                shard,
                client_id = line.client_id.as_deref(),
                device = line.device.map(tracing::field::display),
                peer = line.peer.map(tracing::field::display),
                listener = line.listener.map(kind),
                reason = line.reason.map(tracing::field::debug),
                code = line.code(),
                detail = Some(&*line.detail).filter(|detail| !detail.is_empty()),
                suppressed,
                "{}",
                if suppressed.is_some() {
                    "lines were left out"
                } else {
                    line.cause.message()
                }
            )
        };
    }
    match line.cause.level() {
        Level::Error => event!(error),
        Level::Warn => event!(warn),
        Level::Info => event!(info),
        Level::Debug => event!(debug),
    }
}

fn kind(listener: Listener) -> &'static str {
    match listener {
        Listener::Mqtt => "mqtt",
        Listener::Http | Listener::HttpAs(_) => "http",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// Keeps what is written, as `field=value` and the names of all fields there could be.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<(Vec<String>, Vec<&'static str>)>>);

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.push_str(&format!("{field}={value:?} "));
        }
    }

    impl Subscriber for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            let names = event.metadata().fields().iter().map(|field| field.name());
            let mut kept = self.0.lock().unwrap();
            kept.0.push(text.0.trim_end().to_owned());
            kept.1 = names.filter(|name| *name != "message").collect();
        }
    }

    impl Kept {
        /// What this writes.
        fn of(work: impl FnOnce()) -> (Vec<String>, Vec<&'static str>) {
            let kept = Kept::default();
            tracing::subscriber::with_default(kept.clone(), work);
            let kept = kept.0.lock().unwrap();
            kept.clone()
        }
    }

    fn at(ms: u64) -> Time {
        Time(1_000_000_000 + ms * 1_000)
    }

    #[test]
    fn a_flood_of_one_cause_is_counted_and_hides_no_other() {
        let (lines, _) = Kept::of(|| {
            let mut journal = Journal::new(3);
            let flood = Line::new(Cause::ProtocolError, "nonsense");
            for ms in 0..500 {
                journal.write(at(ms), &flood);
            }
            journal.write(at(500), &Line::new(Cause::TakenOver, ""));
            assert_eq!(journal.deadline(), Some(at(1_000)));
            journal.tick(at(999));
            journal.tick(at(1_000));
            assert_eq!(journal.deadline(), None);
            journal.write(at(1_001), &flood);
            journal.finish();
        });
        let of = |cause: &str| lines.iter().filter(|line| line.contains(cause)).count();
        assert_eq!(of("protocol_error"), LINES_MAX as usize + 2, "{lines:?}");
        assert_eq!(of("taken_over"), 1);
        let closing: Vec<_> = lines.iter().filter(|l| l.contains("suppressed")).collect();
        assert_eq!(
            closing,
            ["message=lines were left out cause=\"protocol_error\" shard=3 suppressed=490"]
        );
    }

    #[test]
    fn what_was_left_out_is_said_when_the_cause_comes_again_or_the_thread_ends() {
        let (lines, _) = Kept::of(|| {
            let mut journal = Journal::new(0);
            let line = Line::new(Cause::Quota, "");
            (0..15).for_each(|_| journal.write(at(0), &line));
            // Nobody ticked.
            (0..12).for_each(|_| journal.write(at(5_000), &line));
            journal.finish();
            journal.finish();
        });
        let closing: Vec<_> = lines
            .iter()
            .filter_map(|line| line.split_once("suppressed="))
            .map(|(_, count)| count)
            .collect();
        assert_eq!(closing, ["5", "2"]);
        assert_eq!(lines.len(), 2 * LINES_MAX as usize + 2);
    }

    #[test]
    fn windows_that_end_later_are_waited_for() {
        let (lines, _) = Kept::of(|| {
            let mut journal = Journal::new(0);
            for (cause, begin) in [(Cause::Quota, 0), (Cause::KeepAlive, 600)] {
                let line = Line::new(cause, "");
                (0..11).for_each(|_| journal.write(at(begin), &line));
            }
            journal.tick(at(1_000));
            assert_eq!(journal.deadline(), Some(at(1_600)));
            journal.tick(at(1_600));
            assert_eq!(journal.deadline(), None);
        });
        let closing = lines.iter().filter(|line| line.contains("suppressed=1"));
        assert_eq!(closing.count(), 2);
    }

    #[test]
    fn what_is_known_is_a_field_each() {
        let mut line = Line::new(Cause::TakenOver, "because");
        line.client_id = Some("pump \"7\"\n".into());
        line.peer = Some("127.0.0.1:5".parse().unwrap());
        line.listener = Some(Listener::Mqtt);
        line.close_code = Some(1008);
        let (lines, names) = Kept::of(|| Journal::new(1).write(at(0), &line));
        assert_eq!(
            lines,
            ["message=connection closed cause=\"taken_over\" shard=1 \
                 client_id=\"pump \\\"7\\\"\\n\" peer=127.0.0.1:5 listener=\"mqtt\" code=1008 \
                 detail=\"because\""]
        );
        assert_eq!(names, LOG_FIELDS);
    }
}
