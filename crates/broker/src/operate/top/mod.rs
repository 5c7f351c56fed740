//! `meshring top`: what a running broker does, refreshed every second, on a terminal or as JSON.
//!
//! A thread of its own asks the admin API, so that keys are heeded while a broker is slow to answer. The
//! terminal is put back on every way out: at the end, on a signal, and by a hook when we panic.

mod numbers;
mod panes;
mod screen;

use super::arguments::{Desk, TopArguments};
use super::call::Broker;
use cli::Failure;
use hyper::Method;
use numbers::{Reading, figures};
use panes::{Pane, View};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{ErrorKind, IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// How often keys and signals are looked for.
const LOOK: Duration = Duration::from_millis(100);
/// The exit code when the terminal is gone, as shells have it for SIGHUP.
const HUNG_UP: i32 = 128 + SIGHUP;
/// Slow clients that are asked for.
const SLOW: u32 = 50;

/// Carries the command out.
pub fn run(desk: &Desk, arguments: &TopArguments) -> ExitCode {
    match try_run(desk, arguments) {
        Ok(()) | Err(Failure::NobodyReads) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("meshring: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn try_run(desk: &Desk, arguments: &TopArguments) -> Result<(), Failure> {
    let interval = Duration::from_secs(u64::from(arguments.interval));
    let mut watch = Watch::begin(Broker::new(desk)?)?;
    if arguments.once || desk.json {
        loop {
            std::thread::sleep(interval);
            let figures = watch.next()?;
            let text = if desk.json {
                figures.to_string()
            } else {
                page(&figures)
            };
            say(&text)?;
            if arguments.once {
                return Ok(());
            }
        }
    }
    if !stdout().is_terminal() {
        let what = "stdout is no terminal: use --once, or --json";
        return Err(Failure::Usage(what.to_owned()));
    }
    show(&follow(watch, interval)?)
}

/// Writes a line.
fn say(text: &str) -> Result<(), Failure> {
    let written = writeln!(stdout(), "{text}").and_then(|()| stdout().flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::Nonsense(format!("cannot write: {error}")),
    })
}

/// Reads again and again, and says what happened in between.
struct Watch {
    broker: Broker,
    last: Reading,
}

impl Watch {
    fn begin(broker: Broker) -> Result<Watch, Failure> {
        let last = read(&broker)?;
        Ok(Watch { broker, last })
    }

    /// What happened since the last call.
    fn next(&mut self) -> Result<Value, Failure> {
        let now = read(&self.broker)?;
        let ask = |target: &str| self.broker.json(Method::GET, target, None);
        let talkers = ask("/v1/talkers")?;
        let slow = ask(&format!("/v1/slow?limit={SLOW}"))?;
        let found = figures(&self.last, &now, &talkers, &slow);
        self.last = now;
        Ok(found)
    }
}

fn read(broker: &Broker) -> Result<Reading, Failure> {
    let bytes = broker.bytes(Method::GET, "/metrics", None)?;
    Ok(Reading::parse(
        &String::from_utf8_lossy(&bytes),
        Instant::now(),
    ))
}

/// Watches on a thread of its own, until nobody listens any more.
fn follow(
    mut watch: Watch,
    interval: Duration,
) -> Result<Receiver<Result<Value, Failure>>, Failure> {
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(interval);
                if sender.send(watch.next()).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| Failure::Nonsense(format!("no thread: {error}")))?;
    Ok(receiver)
}

/// The overview as plain lines.
fn page(figures: &Value) -> String {
    let backend = TestBackend::new(80, 24);
    let mut terminal = Terminal::new(backend).expect("a backend in memory does not fail");
    let drawn = terminal
        .draw(|frame| screen::draw(frame, &View::of(Pane::Overview), Some(figures), Some("")))
        .expect("a backend in memory does not fail");
    let cells = drawn.buffer.content().chunks(80);
    let lines = cells.map(|row| {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    let lines: Vec<String> = lines.take(23).collect();
    lines.join("\n").trim_end().to_owned()
}

/// Draws until a key or a signal ends it.
fn show(watched: &Receiver<Result<Value, Failure>>) -> Result<(), Failure> {
    let is_over = Arc::new(AtomicBool::new(false));
    // SIGHUP ends the process at once, also where whoever has started us ignores it: the terminal is
    // gone then, and crossterm would read its end for ever.
    let always = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_shutdown(SIGHUP, HUNG_UP, always)
        .map_err(|error| Failure::Nonsense(format!("cannot watch for signals: {error}")))?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&is_over))
            .map_err(|error| Failure::Nonsense(format!("cannot watch for signals: {error}")))?;
    }
    // Puts the terminal back when we panic, too.
    let mut terminal = ratatui::try_init()
        .map_err(|error| Failure::Usage(format!("this terminal cannot be drawn on: {error}")))?;
    let shown = draw_on(&mut terminal, watched, &is_over);
    ratatui::restore();
    shown.map_err(|error| Failure::Nonsense(format!("the terminal fails: {error}")))
}

fn draw_on(
    terminal: &mut ratatui::DefaultTerminal,
    watched: &Receiver<Result<Value, Failure>>,
    is_over: &AtomicBool,
) -> std::io::Result<()> {
    let mut view = View::of(Pane::default());
    let (mut figures, mut wrong) = (None, None);
    while !is_over.load(Ordering::Relaxed) {
        match watched.try_recv() {
            Ok(Ok(found)) => (figures, wrong) = (Some(found), None),
            // What was last known stays on the screen.
            Ok(Err(failure)) => wrong = Some(failure.to_string()),
            Err(_) => {}
        }
        terminal.draw(|frame| screen::draw(frame, &view, figures.as_ref(), wrong.as_deref()))?;
        if !event::poll(LOOK)? {
            continue;
        }
        let Event::Key(key) = event::read()? else {
            continue;
        };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
            KeyCode::Tab | KeyCode::Right => view.pane = view.pane.step(1),
            KeyCode::BackTab | KeyCode::Left => view.pane = view.pane.step(Pane::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='4') => {
                view.pane = Pane::ALL[digit as usize - '1' as usize];
            }
            KeyCode::Char('s') => view.sort_by_next(1),
            KeyCode::Char('S') => view.sort_by_last(),
            KeyCode::Char('r') => view.reverse(),
            _ => {}
        }
    }
    Ok(())
}
