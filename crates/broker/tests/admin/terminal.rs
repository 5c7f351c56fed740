//! `meshring top` on a terminal: keys, a broker that goes away and comes again, and a terminal that
//! vanishes.

use crate::client::{Client, QoS};
use crate::support::{Broker, PATIENCE, meshring};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const ROWS: usize = 24;
const COLUMNS: usize = 100;

/// What a terminal shows, as far as ratatui's output goes: text, and where the cursor is put.
#[derive(Debug)]
struct Screen {
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// An escape sequence that has begun.
    sequence: Option<String>,
}

impl Screen {
    fn put(&mut self, c: char) {
        if let Some(sequence) = &mut self.sequence {
            sequence.push(c);
            let is_over = match sequence.strip_prefix('[') {
                Some(rest) => rest.ends_with(|c: char| ('@'..='~').contains(&c)),
                None => true,
            };
            if sequence != "[" && is_over {
                let sequence = self.sequence.take().unwrap();
                self.obey(&sequence);
            }
            return;
        }
        match c {
            '\u{1b}' => self.sequence = Some(String::new()),
            c if c.is_control() => {}
            c if self.row < ROWS && self.column < COLUMNS => {
                self.cells[self.row][self.column] = c;
                self.column += 1;
            }
            _ => {}
        }
    }

    fn obey(&mut self, sequence: &str) {
        let Some(place) = sequence.strip_prefix('[') else {
            return;
        };
        if let Some(place) = place.strip_suffix('H') {
            let mut numbers = place.split(';').map(|number| number.parse().unwrap_or(1));
            self.row = numbers.next().unwrap_or(1) - 1;
            self.column = numbers.next().unwrap_or(1) - 1;
        } else if place.ends_with('J') {
            self.cells = vec![vec![' '; COLUMNS]; ROWS];
        }
    }

    fn text(&self) -> String {
        let lines = self.cells.iter().map(|row| row.iter().collect::<String>());
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// `meshring top` on a terminal of its own.
struct Top {
    child: Child,
    /// The terminal's other end; it vanishes with this.
    master: Option<File>,
    screen: Screen,
    /// What was read of a character that is not whole yet.
    rest: Vec<u8>,
}

impl Top {
    fn start(data: &Path) -> Top {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: ROWS as u16,
            ws_col: COLUMNS as u16,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let mut program = meshring();
        program.args(["top", "--data"]).arg(data);
        // A session of its own, which the terminal belongs to: as a shell in a window has.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program.get_program());
        command.args(program.get_args());
        command.env("TERM", "xterm");
        command.stdin(Stdio::from(slave.try_clone().unwrap()));
        command.stdout(Stdio::from(slave.try_clone().unwrap()));
        command.stderr(Stdio::from(slave));
        let child = command.spawn().unwrap();
        // Who waits for the screen looks in between how late it is.
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        let screen = Screen {
            cells: vec![vec![' '; COLUMNS]; ROWS],
            row: 0,
            column: 0,
            sequence: None,
        };
        Top {
            child,
            master: Some(File::from(master)),
            screen,
            rest: Vec::new(),
        }
    }

    /// Waits until the screen is like this.
    #[track_caller]
    fn await_screen(&mut self, is_so: impl Fn(&str) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut some = [0; 4_096];
            if let Ok(count @ 1..) = self.master.as_mut().unwrap().read(&mut some) {
                self.rest.extend_from_slice(&some[..count]);
                let whole = match std::str::from_utf8(&self.rest) {
                    Ok(_) => self.rest.len(),
                    Err(error) => error.valid_up_to(),
                };
                let text: Vec<u8> = self.rest.drain(..whole).collect();
                let text = String::from_utf8(text).unwrap();
                text.chars().for_each(|c| self.screen.put(c));
                continue;
            }
            let text = self.screen.text();
            if is_so(&text) {
                return;
            }
            assert!(Instant::now() < end, "{text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, keys: &str) {
        self.master
            .as_mut()
            .unwrap()
            .write_all(keys.as_bytes())
            .unwrap();
    }

    #[track_caller]
    fn await_end(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "top goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn top_obeys_keys_and_ends_with_its_terminal() {
    let data = TempDir::new().unwrap();
    let path = data.path().to_str().unwrap();
    let broker = Broker::start(&["--data", path, "--log", "warn"]);
    let client = Client::connect(broker.mqtt, "talkative", 0);
    client.subscribe("t", QoS::AtMostOnce);
    let mut top = Top::start(data.path());
    top.await_screen(|text| text.contains("messages in /s") && text.contains("q: quit"));
    top.press("2");
    top.await_screen(|text| text.contains("turn p99") && text.contains("[shard, rising]"));
    top.press("sr");
    top.await_screen(|text| text.contains("[busy, falling]"));
    top.press("q");
    assert!(top.await_end().success());
    // A terminal that vanishes, as with its window or its connection: no process is left behind.
    let mut top = Top::start(data.path());
    top.await_screen(|text| text.contains("messages in /s"));
    top.master = None;
    top.await_end();
}

#[test]
fn top_stays_while_the_broker_is_away() {
    let data = TempDir::new().unwrap();
    let path = data.path().to_str().unwrap();
    let flags = ["--data", path, "--log", "warn"];
    let mut broker = Broker::start(&flags);
    let mut top = Top::start(data.path());
    top.await_screen(|text| text.contains("messages in /s") && text.contains("Tab, 1-4"));
    broker.kill();
    // What was known last is there still.
    top.await_screen(|text| text.contains("no broker answers") && text.contains("messages in /s"));
    let _broker = Broker::start(&flags);
    top.await_screen(|text| text.contains("messages in /s") && text.contains("Tab, 1-4"));
    top.press("q");
    assert!(top.await_end().success());
}
