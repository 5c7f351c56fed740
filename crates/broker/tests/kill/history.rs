//! What happened, a line per action, for those who look into a failure.
//!
//! Bounded: when all is checked and well the file becomes `history-before.log` and a new one
//! begins, so that two stretches are kept at most.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Microseconds since the run began.
pub type Micros = u64;

/// The file.
pub struct History {
    path: PathBuf,
    file: BufWriter<File>,
}

impl History {
    /// Begins `history.log` in this folder.
    pub fn begin(folder: &Path) -> History {
        let path = folder.join("history.log");
        let file = BufWriter::new(File::create(&path).unwrap());
        History { path, file }
    }

    /// One line: when, who, what.
    pub fn line(&mut self, now: Micros, who: &str, what: impl Display) {
        let (s, us) = (now / 1_000_000, now % 1_000_000);
        writeln!(self.file, "{s:4}.{us:06} {who} {what}").unwrap();
    }

    /// All before this is checked and well.
    pub fn turn(&mut self) {
        self.file.flush().unwrap();
        fs::rename(&self.path, self.path.with_file_name("history-before.log")).unwrap();
        self.file = BufWriter::new(File::create(&self.path).unwrap());
    }

    /// Everything is in the file.
    pub fn flush(&mut self) {
        self.file.flush().unwrap();
    }
}
