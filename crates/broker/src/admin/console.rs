//! The way from the program's own threads to the shards: questions go in, each has one answer.
//!
//! Any thread may ask, by a clone of an [`Arc<Consoles>`]. Bounded: [`WAITING_MAX`] questions per
//! shard are on their way or not answered; more are refused with [`Unanswered::Busy`] at once.
//! While nobody asks, a shard's thread looks at one counter per turn and no more.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use net::{Console, Waker};
use shard::ShardId;
use shard::console::{Question, Report};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Questions to one shard that may be on their way or not answered.
pub const WAITING_MAX: usize = 64;
/// How long an answer is waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// As many questions as allowed are under way at this shard.
    Busy,
    /// The shard has not answered in time.
    Late,
    /// The shard is not there: it has not started, or it has ended.
    Gone,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unanswered::Busy => "too many questions are under way",
            Unanswered::Late => "a shard has not answered in time",
            Unanswered::Gone => "a shard is not running",
        })
    }
}

impl std::error::Error for Unanswered {}

/// Is given the answer; dropped unused if there will be none.
type Reply = Box<dyn FnOnce(Box<Report>) + Send>;

/// A question on its way.
type Asked = (Box<Question>, Reply);

/// The asking end of one shard.
struct Line {
    questions: Sender<Asked>,
    /// Taken by the shard's thread when it starts.
    ends: Receiver<Asked>,
    counts: Arc<Counts>,
    waker: OnceLock<Waker>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Questions put in and not taken out.
    waiting: AtomicUsize,
    /// Questions put in and not answered.
    under_way: AtomicUsize,
    /// The shard's thread has ended.
    is_gone: AtomicBool,
}

/// The consoles of all shards.
pub struct Consoles {
    lines: Vec<Line>,
}

impl Consoles {
    /// For so many shards, none of which is there yet.
    pub fn new(shards: u16) -> Arc<Consoles> {
        let lines = (0..shards).map(|_| {
            let (questions, ends) = bounded(WAITING_MAX);
            Line {
                questions,
                ends,
                counts: Arc::default(),
                waker: OnceLock::new(),
            }
        });
        Arc::new(Consoles {
            lines: lines.collect(),
        })
    }

    /// The shard's end, to be taken once, on its thread or before.
    pub fn of_shard(&self, waker: &Waker) -> Box<dyn Console> {
        let line = &self.lines[waker.shard().index()];
        // A shard starts once.
        let _ = line.waker.set(waker.clone());
        Box::new(ShardConsole {
            questions: line.ends.clone(),
            counts: Arc::clone(&line.counts),
            replies: HashMap::new(),
            last: 0,
        })
    }

    /// All shards, in order.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = ShardId> + use<> {
        (0..self.lines.len() as u16).map(ShardId)
    }

    /// Whether there is such a shard.
    pub fn has(&self, shard: ShardId) -> bool {
        shard.index() < self.lines.len()
    }

    /// Asks one shard; `reply` is called on the shard's thread, and must not make it wait.
    fn send(&self, shard: ShardId, question: Question, reply: Reply) -> Result<(), Unanswered> {
        let line = self.lines.get(shard.index()).ok_or(Unanswered::Gone)?;
        let waker = line.waker.get().ok_or(Unanswered::Gone)?;
        if line.counts.is_gone.load(Ordering::Relaxed) {
            return Err(Unanswered::Gone);
        }
        let admit = |count: usize| (count < WAITING_MAX).then_some(count + 1);
        line.counts
            .under_way
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit)
            .map_err(|_| Unanswered::Busy)?;
        line.counts.waiting.fetch_add(1, Ordering::SeqCst);
        let sent = line.questions.try_send((Box::new(question), reply));
        sent.expect("the queue holds as many as are admitted, and this end of it is kept");
        waker.wake();
        Ok(())
    }

    /// Asks one shard, and waits on the runtime of the caller.
    pub async fn ask(&self, shard: ShardId, question: Question) -> Result<Report, Unanswered> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let reply = move |report| {
            // Whoever has asked may have gone.
            let _ = answer.send(report);
        };
        self.send(shard, question, Box::new(reply))?;
        match tokio::time::timeout(PATIENCE, answered).await {
            Err(_) => Err(Unanswered::Late),
            Ok(Err(_)) => Err(Unanswered::Gone),
            Ok(Ok(report)) => Ok(*report),
        }
    }

    /// Asks all shards at the same time; answers in the order of the shards.
    pub async fn ask_all(
        &self,
        question: impl Fn() -> Question,
    ) -> Result<Vec<Report>, Unanswered> {
        // All are on their way before the first is waited for.
        let mut awaited = Vec::new();
        for shard in self.shards() {
            let (answer, answered) = tokio::sync::oneshot::channel();
            let reply = move |report| {
                let _ = answer.send(report);
            };
            self.send(shard, question(), Box::new(reply))?;
            awaited.push(answered);
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut reports = Vec::with_capacity(awaited.len());
        for answered in awaited {
            match tokio::time::timeout_at(deadline, answered).await {
                Err(_) => return Err(Unanswered::Late),
                Ok(Err(_)) => return Err(Unanswered::Gone),
                Ok(Ok(report)) => reports.push(*report),
            }
        }
        Ok(reports)
    }
}

impl Consoles {
    /// Asks all shards at the same time, and makes the calling thread wait: it must be neither a
    /// shard's nor that of the admin API. Answers in the order of the shards.
    pub fn ask_all_and_wait(
        &self,
        question: impl Fn() -> Question,
    ) -> Result<Vec<Report>, Unanswered> {
        let mut awaited = Vec::new();
        for shard in self.shards() {
            let (answer, answered) = bounded(1);
            let reply = move |report| {
                let _ = answer.send(report);
            };
            self.send(shard, question(), Box::new(reply))?;
            awaited.push(answered);
        }
        let deadline = Instant::now() + PATIENCE;
        let reports = awaited.into_iter().map(|answered: Receiver<Box<Report>>| {
            match answered.recv_deadline(deadline) {
                Ok(report) => Ok(*report),
                Err(RecvTimeoutError::Timeout) => Err(Unanswered::Late),
                Err(RecvTimeoutError::Disconnected) => Err(Unanswered::Gone),
            }
        });
        reports.collect()
    }
}

/// The answering end, on the shard's thread.
struct ShardConsole {
    questions: Receiver<Asked>,
    counts: Arc<Counts>,
    replies: HashMap<u64, Reply>,
    last: u64,
}

impl Console for ShardConsole {
    fn poll(&mut self) -> Option<(u64, Box<Question>)> {
        if self.counts.waiting.load(Ordering::SeqCst) == 0 {
            return None;
        }
        // Counted before it is put in: it may not be there yet, and its sender then wakes us.
        let (question, reply) = self.questions.try_recv().ok()?;
        self.counts.waiting.fetch_sub(1, Ordering::SeqCst);
        self.last += 1;
        self.replies.insert(self.last, reply);
        Some((self.last, question))
    }

    fn answer(&mut self, id: u64, report: Box<Report>) {
        if let Some(reply) = self.replies.remove(&id) {
            self.counts.under_way.fetch_sub(1, Ordering::Relaxed);
            reply(report);
        }
    }
}

impl Drop for ShardConsole {
    /// Nobody waits for a shard that has ended.
    fn drop(&mut self) {
        self.counts.is_gone.store(true, Ordering::Relaxed);
        while self.questions.try_recv().is_ok() {}
    }
}
