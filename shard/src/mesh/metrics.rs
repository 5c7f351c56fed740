//! What has been counted, for Prometheus, on the public HTTP listener.

use super::answers::Answer;
use crate::counters::Counters;
use crate::metrics::{CONTENT_TYPE, Exposition};

/// The answer to `GET /metrics`: the numbers of all shards together.
pub(crate) fn answer(counters: &Counters) -> Answer {
    let mut exposition = Exposition::default();
    exposition.counted(counters);
    Answer {
        content_type: Some(CONTENT_TYPE),
        ..Answer::json(200, exposition.into_text())
    }
}
