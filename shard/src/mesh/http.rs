//! HTTP requests of the Meshblu API.

use super::call::{Done, Outcome};
use super::seconds;
use crate::{ConnectionId, Effects, Shard};

impl Shard {
    /// What came of the request that an HTTP connection is at.
    pub(crate) fn answer_http_call(
        &mut self,
        id: ConnectionId,
        outcome: Outcome,
        batch: u64,
        effects: &mut Effects,
    ) {
        if self.connection(id).is_none() {
            if let Ok(Done::Listening { device, .. }) = outcome {
                self.detach_from(device, id, effects);
            }
            return;
        }
        if !self.durable.is_committed(batch) {
            effects.hold(id, batch);
        }
        let _ = (seconds(self.now), outcome);
    }
}
