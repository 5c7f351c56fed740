//! What does a simulated shard's slow work: a model of helper threads that take their time, finish
//! in any order, and are sometimes too busy. A hash of the model is what follows its last `$`.

use crate::chance::Chance;
use shard::{Compute, Computed, Task};

/// More waiting work than any limit lets a shard have.
const WAITING_MAX: usize = 100_000;

/// The work that waits for its answer.
#[derive(Debug, Default)]
pub struct Helpers {
    waiting: Vec<Compute>,
}

impl Helpers {
    /// Takes some work.
    pub fn submit(&mut self, compute: Compute) {
        self.waiting.push(compute);
        assert!(
            self.waiting.len() < WAITING_MAX,
            "a shard bounds its slow work"
        );
    }

    /// The answer to any of it; `None` if a former process has asked.
    pub fn answer(&mut self, chance: &mut Chance) -> Option<(u64, Computed)> {
        if self.waiting.is_empty() {
            return None;
        }
        let compute = self.waiting.swap_remove(chance.index(self.waiting.len()));
        let outcome = match compute.task {
            _ if chance.one_in(50) => Computed::Busy,
            // It remembers nothing.
            Task::Verify {
                only_known: true, ..
            } => Computed::Verified(None),
            Task::Verify { secret, hashes, .. } => Computed::Verified(
                hashes
                    .iter()
                    .position(|hash| hash.rsplit('$').next() == Some(&*secret)),
            ),
            Task::Call(_) => Computed::Called {
                is_delivered: chance.percent(80),
            },
        };
        Some((compute.id, outcome))
    }
}
