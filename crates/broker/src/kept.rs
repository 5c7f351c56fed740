//! Joins a storage worker to the driver: the one says what the other wants to hear.

use net::{Store, StoreEvent};
use shard::{Commit, SessionKey};
use storage::WorkerHandle;
use tracing::{error, info};

/// A shard's storage worker, as the driver sees it.
pub struct Kept {
    shard: u16,
    /// `None` once it is closed.
    worker: Option<WorkerHandle>,
}

impl Kept {
    /// The shard's number is for the log.
    pub fn new(shard: u16, worker: WorkerHandle) -> Kept {
        let worker = Some(worker);
        Kept { shard, worker }
    }
}

impl Store for Kept {
    fn submit(&mut self, commit: Commit) {
        if let Some(worker) = &self.worker {
            worker.submit(commit);
        }
    }

    fn load(&mut self, session: SessionKey, after: u64, messages_max: u32, bytes_max: u32) {
        if let Some(worker) = &self.worker {
            worker.load(session, after, messages_max, bytes_max);
        }
    }

    fn poll(&mut self) -> Option<StoreEvent> {
        Some(match self.worker.as_mut()?.poll()? {
            storage::StoreEvent::Committed { sequence } => StoreEvent::Committed { sequence },
            storage::StoreEvent::Loaded { session, messages } => {
                StoreEvent::Loaded { session, messages }
            }
            storage::StoreEvent::Stalled { reason } => StoreEvent::Stalled { reason },
            storage::StoreEvent::Resumed => StoreEvent::Resumed,
            storage::StoreEvent::Failed { reason } => StoreEvent::Failed { reason },
        })
    }

    fn close(&mut self) {
        let Some(worker) = self.worker.take() else {
            return;
        };
        let shard = self.shard;
        let control = worker.control();
        match worker.close() {
            Ok(()) => {
                let counts = control.counts();
                info!(
                    shard,
                    commits = counts.commits,
                    changes = counts.changes,
                    groups = counts.groups,
                    fsyncs = counts.fsyncs,
                    written_bytes = counts.written_bytes,
                    file_bytes = counts.file_bytes,
                    "store closed"
                );
            }
            // What was acknowledged is durable all the same; the next start looks at the file.
            Err(error) => error!(shard, %error, "the store did not close well"),
        }
    }
}
