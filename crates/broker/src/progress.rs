//! Says how far something has come that takes longer than a second: in the log, and to the service
//! manager.

use crate::supervise;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tracing::{info, warn};

/// How long before the first line, and between lines.
const PERIOD: Duration = Duration::from_secs(1);

/// What is counted, by any thread.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// So many by now.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Logs a line per second until it is dropped.
#[derive(Debug)]
pub struct Progress {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// `what` is done to `count` records.
    pub fn watch(what: &'static str, count: &Count) -> Progress {
        let (stop, stopped) = channel::<()>();
        let count = count.clone();
        let watching = Builder::new().name("progress".to_owned()).spawn(move || {
            let mut before = 0;
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                let records = count.now();
                supervise::progress(&format!("{what}: {records} records"), records > before);
                info!(records, "{what}");
                before = records;
            }
        });
        if let Err(error) = &watching {
            warn!(%error, "no thread to report progress");
        }
        let (stop, thread) = (Some(stop), watching.ok());
        Progress { stop, thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of it has been reported, and it holds nothing that matters.
            let _ = thread.join();
        }
    }
}
