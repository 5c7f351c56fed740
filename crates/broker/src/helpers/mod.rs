//! Helper threads: what takes long is done here for all shards, and never on a shard's thread.
//!
//! Two kinds, each with threads and a queue of its own, so that a slow webhook holds up no login:
//! comparing secrets with slow hashes (`verify.rs`), first come, first served, and calling webhooks
//! (`calls.rs`). Bounded: [`VERIFIES_WAITING_MAX`], [`CALLS_WAITING_MAX`] and [`CALLS_BYTES_MAX`];
//! what comes beyond is answered *busy* at once. Every task is answered exactly once, whatever
//! becomes of it.

mod addresses;
mod calls;
mod hosts;
pub mod roots;
pub mod signature;
mod verify;

use crate::cpus;
use anyhow::Context;
use calls::Caller;
pub use calls::Rules;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use net::Helpers;
use shard::{Compute, Computed, Task, Webhook};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::Builder;
use tracing::info;
use verify::Verified;

/// Secrets that may wait for their comparison, of all shards.
const VERIFIES_WAITING_MAX: usize = 16_384;
/// Webhooks that may wait for their first try, of all shards.
const CALLS_WAITING_MAX: usize = 4_096;
/// Bytes of webhooks that may wait or be under way, of all shards.
const CALLS_BYTES_MAX: usize = 64 << 20;
/// Threads that compare: one per spare CPU, within these bounds.
const VERIFY_THREADS_MAX: usize = 8;
/// Threads that call: they wait for others nearly all the time.
const CALL_THREADS: usize = 8;

/// A secret to compare.
struct Verify {
    secret: Box<str>,
    hashes: Vec<Box<str>>,
    only_known: bool,
    reply: Reply,
}

/// A webhook to call.
struct Call {
    webhook: Box<Webhook>,
    reply: Reply,
    _bytes: Bytes,
}

/// A share of [`CALLS_BYTES_MAX`], for as long as this lives.
struct Bytes {
    count: usize,
    all: Arc<AtomicUsize>,
}

impl Bytes {
    /// `None` if there is no room for so many.
    fn take(all: &Arc<AtomicUsize>, count: usize) -> Option<Bytes> {
        let add = |taken: usize| {
            taken
                .checked_add(count)
                .filter(|&sum| sum <= CALLS_BYTES_MAX)
        };
        all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .ok()?;
        let all = Arc::clone(all);
        Some(Bytes { count, all })
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.all.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// Wakes the thread of a shard.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// How a task is answered.
struct Reply {
    id: u64,
    answers: Sender<(u64, Computed)>,
    wake: Wake,
    is_given: bool,
}

impl Reply {
    fn give(mut self, outcome: Computed) {
        self.send(outcome);
    }

    fn send(&mut self, outcome: Computed) {
        self.is_given = true;
        // The shard may have ended.
        let _ = self.answers.send((self.id, outcome));
        (self.wake)();
    }
}

impl Drop for Reply {
    /// What cannot be done any more is answered, too.
    fn drop(&mut self) {
        if !self.is_given {
            self.send(Computed::Busy);
        }
    }
}

/// What all helpers have done so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Secrets compared.
    pub verified: AtomicU64,
    /// Of them, those that had fitted before.
    pub remembered: AtomicU64,
    /// Webhooks that were answered with success.
    pub sent: AtomicU64,
    /// Webhooks that were given up.
    pub failed: AtomicU64,
    /// Tasks that were not taken, since too many waited.
    pub dropped: AtomicU64,
}

/// What waits for helpers now.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Secrets to compare.
    pub verifies: usize,
    /// Webhooks that nobody has begun to call.
    pub calls: usize,
    /// Bytes of those, and of those under way.
    pub call_bytes: usize,
}

impl Counts {
    fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The threads, and the ends of their queues. They end when this is dropped and their queues are
/// empty.
pub struct Pool {
    verifies: Sender<Verify>,
    calls: Sender<Call>,
    call_bytes: Arc<AtomicUsize>,
    counts: Arc<Counts>,
    caller: SharedCaller,
}

/// Who calls webhooks; replaced when the rules change.
type SharedCaller = Arc<RwLock<Arc<Caller>>>;

impl Pool {
    /// Starts the threads on these CPUs, none of which a shard has to itself if it can be helped.
    pub fn start(spare_cpus: &[usize], rules: Rules) -> anyhow::Result<Arc<Pool>> {
        let counts = Arc::new(Counts::default());
        let (verifies, verifies_waiting) = bounded(VERIFIES_WAITING_MAX);
        let (calls, calls_waiting) = bounded(CALLS_WAITING_MAX);
        let cpus: Arc<[usize]> = spare_cpus.into();
        let verified = Arc::new(Verified::new(verify::SECRETS_MAX)?);
        for number in 0..cpus.len().clamp(1, VERIFY_THREADS_MAX) {
            let waiting: Receiver<Verify> = verifies_waiting.clone();
            let (verified, counts) = (Arc::clone(&verified), Arc::clone(&counts));
            spawn(format!("verify-{number}"), &cpus, move || {
                for task in waiting {
                    let (secret, hashes) = (&task.secret, &task.hashes);
                    let outcome = verified.first_fit(secret, hashes, task.only_known, &counts);
                    task.reply.give(Computed::Verified(outcome));
                }
            })?;
        }
        let caller = Arc::new(RwLock::new(Arc::new(Caller::new(rules))));
        for number in 0..CALL_THREADS {
            let waiting: Receiver<Call> = calls_waiting.clone();
            let (caller, counts) = (Arc::clone(&caller), Arc::clone(&counts));
            spawn(format!("webhook-{number}"), &cpus, move || {
                calls::work(&waiting, &caller, &counts);
            })?;
        }
        Ok(Arc::new(Pool {
            verifies,
            calls,
            call_bytes: Arc::default(),
            counts,
            caller,
        }))
    }

    /// From the next try of a webhook on, what counts. Connections that were made under other rules
    /// are not used again.
    pub fn set_rules(&self, rules: Rules) {
        let caller = Arc::new(Caller::new(rules));
        *self.caller.write().unwrap_or_else(PoisonError::into_inner) = caller;
    }

    /// One shard's way to the helpers.
    pub fn helpers_of(
        self: &Arc<Pool>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Box<dyn Helpers> {
        // Not bounded by itself: the shard bounds what it has under way.
        let (sender, answers) = unbounded();
        Box::new(ShardHelpers {
            pool: Arc::clone(self),
            sender,
            answers,
            wake: Arc::new(wake),
        })
    }

    /// What has been done.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What is to be done.
    pub fn waiting(&self) -> Waiting {
        Waiting {
            verifies: self.verifies.len(),
            calls: self.calls.len(),
            call_bytes: self.call_bytes.load(Ordering::Relaxed),
        }
    }

    /// Says in the log what has been done, if anything.
    pub fn log(&self) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        let (verified, sent) = (count(&counts.verified), count(&counts.sent));
        let (failed, dropped) = (count(&counts.failed), count(&counts.dropped));
        if verified + sent + failed + dropped > 0 {
            info!(
                secrets_compared = verified,
                secrets_remembered = count(&counts.remembered),
                webhooks_sent = sent,
                webhooks_failed = failed,
                tasks_dropped = dropped,
                "helpers are done"
            );
        }
    }
}

fn spawn(
    name: String,
    cpus: &Arc<[usize]>,
    work: impl FnOnce() + Send + 'static,
) -> anyhow::Result<()> {
    let cpus = Arc::clone(cpus);
    Builder::new()
        .name(name)
        .spawn(move || {
            cpus::run_on(&cpus);
            work();
        })
        .context("cannot start a helper thread")?;
    Ok(())
}

struct ShardHelpers {
    pool: Arc<Pool>,
    sender: Sender<(u64, Computed)>,
    answers: Receiver<(u64, Computed)>,
    wake: Wake,
}

/// What a webhook keeps in memory while it waits.
fn bytes_of(webhook: &Webhook) -> usize {
    let headers = webhook.headers.iter();
    let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    webhook.url.len() + headers + webhook.body.len()
}

impl Helpers for ShardHelpers {
    fn submit(&mut self, compute: Compute) {
        let reply = Reply {
            id: compute.id,
            answers: self.sender.clone(),
            wake: Arc::clone(&self.wake),
            is_given: false,
        };
        let is_taken = match compute.task {
            Task::Verify {
                secret,
                hashes,
                only_known,
            } => is_taken(self.pool.verifies.try_send(Verify {
                secret,
                hashes,
                only_known,
                reply,
            })),
            Task::Call(webhook) => match Bytes::take(&self.pool.call_bytes, bytes_of(&webhook)) {
                None => false,
                Some(bytes) => is_taken(self.pool.calls.try_send(Call {
                    webhook,
                    reply,
                    _bytes: bytes,
                })),
            },
        };
        if !is_taken {
            Counts::add(&self.pool.counts.dropped);
        }
    }

    fn poll(&mut self) -> Option<(u64, Computed)> {
        self.answers.try_recv().ok()
    }
}

/// A task that is not is dropped here, which answers it.
fn is_taken<T>(sent: Result<(), TrySendError<T>>) -> bool {
    sent.is_ok()
}

#[cfg(test)]
mod tests;
