//! What is on its way to the store, and what waits for it to get there.
//!
//! Changes gather in a batch; while one commit is under way the next batch fills, so the busier
//! the shard, the more changes share a commit. A change that is undone before its batch has left
//! is taken back and costs the store nothing.
//!
//! Always: at most one commit is under way. What was promised is announced only when the batch
//! that holds it is durable: output of connections waits in [`crate::Effects::hold`], answers to
//! other shards wait here. Bounded: beyond `commit_bytes_max` in a batch, publishers are not read;
//! answers by the credits of those who asked.

use crate::mesh::ask::Told;
use crate::outbound::{Delivery, Kept, Step};
use crate::{
    Answer, Cause, Change, Commit, Config, ConnectionId, Durability, DurabilityMode, Effect,
    Effects, Frame, GroupKey, Line, Message, SessionKey, ShardId, Span, StoredQueued, Time,
};
use mqtt_v5_codec::PacketId;
use std::collections::VecDeque;
use std::sync::Arc;

/// An answer to another shard that waits for a commit.
#[derive(Debug)]
struct HeldAnswer {
    sequence: u64,
    to: ShardId,
    frame: Frame,
}

/// The longest time without a commit while a shard runs.
const HEARTBEAT: Span = Span::from_s(10);

/// See the module.
#[derive(Debug)]
pub struct Durable {
    mode: DurabilityMode,
    prefixes: Vec<(Box<str>, DurabilityMode)>,
    interval: Span,
    batch_bytes_max: usize,
    batch: Vec<Change>,
    batch_bytes: usize,
    /// The number of the batch that is being filled.
    sequence: u64,
    /// The last batch that holds something promised.
    promised: u64,
    /// All batches up to this one are durable.
    committed: u64,
    is_under_way: bool,
    /// When the batch is to leave even if nobody waits for it.
    due: Option<Time>,
    /// When a commit is due that says no more than that the shard is alive.
    beat: Option<Time>,
    answers: VecDeque<HeldAnswer>,
    /// Connections that are not read until the batch is smaller.
    paused: Vec<ConnectionId>,
    last_position: u64,
    /// Sessions whose queues are to be read on.
    wanted_loads: Vec<u32>,
    /// The store cannot write for now.
    pub is_stalled: bool,
    /// Sessions that are new in a batch which is not durable, with its number.
    fresh: Vec<(u64, SessionKey)>,
}

/// The prefixes in the order in which the first that fits counts.
fn longest_first(durability: &Durability) -> Vec<(Box<str>, DurabilityMode)> {
    let mut prefixes = durability.prefixes.clone();
    prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    prefixes
}

impl Durable {
    /// Nothing to write yet.
    pub fn new(config: &Config) -> Durable {
        let durability = &config.durability;
        Durable {
            mode: durability.mode,
            prefixes: longest_first(durability),
            interval: Span::from_ms(durability.interval_ms),
            batch_bytes_max: config.limits.commit_bytes_max,
            batch: Vec::new(),
            batch_bytes: 0,
            sequence: 1,
            promised: 0,
            committed: 0,
            is_under_way: false,
            due: None,
            beat: None,
            answers: VecDeque::new(),
            paused: Vec::new(),
            last_position: 0,
            wanted_loads: Vec::new(),
            is_stalled: false,
            fresh: Vec::new(),
        }
    }

    /// Other prefixes, another interval, another bound from now on; the mode stays.
    pub fn configure(&mut self, durability: &Durability, batch_bytes_max: usize) {
        self.prefixes = longest_first(durability);
        self.interval = Span::from_ms(durability.interval_ms);
        self.batch_bytes_max = batch_bytes_max;
    }

    /// A session is kept from the batch on that is being filled.
    pub fn note_fresh(&mut self, session: SessionKey) {
        self.fresh.push((self.sequence, session));
    }

    /// Whether nothing of this session is durable yet.
    pub fn is_fresh(&self, session: SessionKey) -> bool {
        self.fresh.iter().any(|(_, fresh)| *fresh == session)
    }

    /// Whether anything is kept at all.
    pub fn is_on(&self) -> bool {
        self.mode != DurabilityMode::Memory
    }

    /// Whether sessions and subscriptions are promised to be on disk when they are acknowledged.
    pub fn is_promised(&self) -> bool {
        self.mode == DurabilityMode::Commit
    }

    /// Whether an acknowledgement of a message to this topic promises that it is on disk.
    pub fn promises(&self, topic: &str) -> bool {
        let prefix = self
            .prefixes
            .iter()
            .find(|(prefix, _)| topic.starts_with(&**prefix));
        let mode = prefix.map_or(self.mode, |(_, mode)| *mode);
        self.is_on() && mode == DurabilityMode::Commit
    }

    /// The batch that must be durable before what has been promised so far may be announced; 0 if
    /// all of it is.
    pub fn gate(&self) -> u64 {
        match self.promised > self.committed {
            true => self.promised,
            false => 0,
        }
    }

    /// Whether this batch is durable.
    pub fn is_committed(&self, batch: u64) -> bool {
        batch <= self.committed
    }

    /// The batch that is being filled.
    pub fn current(&self) -> u64 {
        self.sequence
    }

    /// Promises the batch that is being filled, for what will be put into it or not; returns its
    /// number.
    pub fn promise(&mut self) -> u64 {
        self.promised = self.sequence;
        self.sequence
    }

    /// Whether nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        !self.is_under_way && self.batch.is_empty() && self.gate() == 0
    }

    /// Whether a commit is under way.
    pub fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// Bytes of the batch that is being filled.
    pub fn waiting_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// Connections that are not read until the batch is smaller.
    pub fn paused(&self) -> usize {
        self.paused.len()
    }

    /// Reads more of this session's queue at the next turn at which that may find something new.
    pub fn want_load(&mut self, session: u32) {
        if self.wanted_loads.last() != Some(&session) {
            self.wanted_loads.push(session);
        }
    }

    /// Whether there is a queue to read now: what waits in a batch can only be read after it.
    pub fn wants_load(&self) -> bool {
        !self.wanted_loads.is_empty() && !self.is_under_way
    }

    /// The sessions whose queues are to be read now.
    pub fn take_wanted_loads(&mut self) -> Vec<u32> {
        match self.wants_load() {
            true => std::mem::take(&mut self.wanted_loads),
            false => Vec::new(),
        }
    }

    /// Lets the batch leave as soon as it can.
    pub fn hurry(&mut self, now: Time) {
        if !self.batch.is_empty() {
            self.due = Some(now);
        }
    }

    /// A place in a queue after all others.
    pub fn next_position(&mut self) -> u64 {
        self.last_position += 1;
        self.last_position
    }

    /// A place in a queue that is taken: later ones come after it.
    pub fn saw_position(&mut self, position: u64) {
        self.last_position = self.last_position.max(position);
    }

    /// Adds a change. If it is promised, its batch leaves at the end of this turn or, if a commit
    /// is under way, with the next one; otherwise within the interval.
    pub fn push(&mut self, change: Change, is_promised: bool, now: Time) {
        debug_assert!(self.is_on());
        self.batch_bytes += weight(&change);
        self.batch.push(change);
        if is_promised {
            self.promised = self.sequence;
        } else if self.due.is_none() {
            self.due = Some(now + self.interval);
        }
    }

    /// Keeps a message of a session's queue or window, or what has become of it; `kept` says where
    /// it was kept before.
    pub fn put_queued(
        &mut self,
        (session, message): (SessionKey, Option<Arc<Message>>),
        delivery: &Delivery,
        sent: Option<(PacketId, Step)>,
        kept: &mut Kept,
        is_promised: bool,
        now: Time,
    ) {
        if kept.position == 0 {
            kept.position = self.next_position();
        }
        let change = Change::PutQueued(Box::new(StoredQueued {
            session,
            position: kept.position,
            message,
            delivery: delivery.clone(),
            sent,
        }));
        self.replace(change, kept, is_promised, now);
    }

    /// Keeps a message of a group's queue.
    pub fn put_group_queued(
        &mut self,
        key: &Arc<GroupKey>,
        message: &Arc<Message>,
        is_promised: bool,
        now: Time,
    ) -> Kept {
        let mut kept = Kept {
            position: self.next_position(),
            ..Kept::default()
        };
        let change = Change::PutGroupQueued {
            key: Arc::clone(key),
            position: kept.position,
            message: Arc::clone(message),
        };
        self.replace(change, &mut kept, is_promised, now);
        kept
    }

    /// Puts a change in the place of the one that it makes obsolete, or after it.
    fn replace(&mut self, change: Change, kept: &mut Kept, is_promised: bool, now: Time) {
        if kept.batch == self.sequence {
            let old = &mut self.batch[kept.index as usize];
            self.batch_bytes += weight(&change);
            self.batch_bytes -= weight(old);
            *old = change;
            if is_promised {
                self.promised = self.sequence;
            }
            return;
        }
        kept.has_left |= kept.batch != 0;
        kept.batch = self.sequence;
        kept.index = self.batch.len() as u32;
        self.push(change, is_promised, now);
    }

    /// Forgets what was kept: `removal` says how, if it has left already.
    pub fn forget(&mut self, kept: Kept, removal: impl FnOnce(u64) -> Change, now: Time) {
        if kept.position == 0 || !self.is_on() {
            return;
        }
        let mut has_left = kept.has_left;
        if kept.batch == self.sequence {
            let old = std::mem::replace(&mut self.batch[kept.index as usize], Change::Void);
            self.batch_bytes = self.batch_bytes + weight(&Change::Void) - weight(&old);
            while matches!(self.batch.last(), Some(Change::Void)) {
                self.batch.pop();
                self.batch_bytes -= weight(&Change::Void);
            }
        } else {
            has_left = true;
        }
        if has_left {
            self.push(removal(kept.position), false, now);
        }
    }

    /// Forgets a message of a session's queue or window.
    pub fn forget_queued(&mut self, session: SessionKey, kept: Kept, now: Time) {
        if session == SessionKey(0) {
            return; // Removed with everything of the session.
        }
        let removal = |position| Change::RemoveQueued { session, position };
        self.forget(kept, removal, now);
    }

    /// The next answer that may be given.
    fn pop_answer(&mut self) -> Option<(ShardId, Frame)> {
        let held = self
            .answers
            .pop_front_if(|held| held.sequence <= self.committed)?;
        Some((held.to, held.frame))
    }

    /// Whether whoever adds to the batch should be paused.
    pub fn is_congested(&self) -> bool {
        self.batch_bytes > self.batch_bytes_max
    }

    /// Remembers a connection that is paused until the batch has left.
    pub fn pause(&mut self, connection: ConnectionId) {
        self.paused.push(connection);
    }

    /// When the batch wants to leave; `None` while one is under way, or it is empty.
    pub fn deadline(&self, now: Time) -> Option<Time> {
        if self.is_under_way {
            return None;
        }
        if self.promised == self.sequence || self.is_congested() {
            return Some(now);
        }
        [self.due, self.beat].into_iter().flatten().min()
    }

    /// From now on the store hears at least every few seconds that the shard is alive: from then
    /// on the expiry of sessions counts if it ends without notice.
    pub fn beat(&mut self, now: Time) {
        if self.is_on() {
            self.beat = Some(now + HEARTBEAT);
        }
    }

    /// Takes the batch if it is time for it to leave. If all of it has been taken back, there is
    /// nothing to write, and it counts as committed at once.
    fn take_batch(&mut self, now: Time) -> Option<(Commit, bool)> {
        if self.deadline(now).is_none_or(|at| at > now) {
            return None;
        }
        let is_beat = self.beat.is_some_and(|at| at <= now);
        let mut changes = std::mem::take(&mut self.batch);
        changes.retain(|change| !matches!(change, Change::Void));
        let sequence = self.sequence;
        self.sequence += 1;
        self.batch_bytes = 0;
        self.due = None;
        self.is_under_way = true;
        let commit = Commit {
            sequence,
            at: now,
            changes,
        };
        Some((commit, is_beat))
    }
}

/// Turns an answer that has to wait into one that comes at once, which is returned, and the news
/// that follows it.
fn answer_later(frame: &mut Frame) -> Option<Frame> {
    let Frame::Reply { request, answer } = &frame else {
        return None;
    };
    let request = *request;
    let (matched, is_refused, at_once) = match answer {
        Answer::Accepted {
            matched,
            is_refused,
        } => (*matched, *is_refused, Answer::Later),
        Answer::Retained { is_refused, .. } => {
            let at_once = Answer::Retained {
                is_refused: *is_refused,
                is_late: true,
            };
            (false, *is_refused, at_once)
        }
        _ => return None,
    };
    *frame = Frame::Settled {
        request,
        matched,
        is_refused,
    };
    Some(Frame::Reply {
        request,
        answer: at_once,
    })
}

/// What a change counts for, in bytes.
fn weight(change: &Change) -> usize {
    let content = match change {
        Change::Void => return 16,
        Change::PutQueued(queued) => queued.message.as_ref().map_or(0, |message| message.bytes()),
        Change::PutRetained { message } | Change::PutGroupQueued { message, .. } => message.bytes(),
        Change::PutSession(session) => {
            session.client_id.len() + session.will.as_ref().map_or(0, |will| will.message.bytes())
        }
        Change::PutSubscription(subscription) => subscription.filter.len(),
        Change::PutDevice { record, .. } => record.len(),
        Change::PutToken { record, .. } => record.len(),
        _ => 0,
    };
    content + 128
}

impl crate::Shard {
    /// Gives the batch to the store, if it is time.
    pub(crate) fn commit(&mut self, effects: &mut Effects) {
        // A batch of which everything was taken back is followed by the next at once.
        while let Some((commit, is_beat)) = self.durable.take_batch(self.now) {
            if !commit.changes.is_empty() || is_beat {
                self.counters.commits += 1;
                self.counters.commit_changes += commit.changes.len() as u64;
                if self.durable.beat.is_some() {
                    self.durable.beat(self.now);
                }
                effects.push(Effect::Commit(commit));
                return;
            }
            self.on_committed(commit.sequence, effects);
        }
    }

    /// A commit is durable: what waited for it goes out.
    pub(crate) fn on_committed(&mut self, sequence: u64, effects: &mut Effects) {
        self.durable.committed = sequence;
        self.durable.is_under_way = false;
        self.durable.fresh.retain(|(batch, _)| *batch > sequence);
        effects.release(sequence);
        while let Some((to, frame)) = self.durable.pop_answer() {
            self.tell(to, frame, effects);
        }
        self.close_answered(sequence, effects);
        self.answer_committed(effects);
        for connection in std::mem::take(&mut self.durable.paused) {
            self.resume(connection, crate::shard::pause::STORE, effects);
        }
    }

    /// The store cannot write: from now on what would have to be kept is refused.
    pub(crate) fn on_store_stalled(&mut self, reason: &str, effects: &mut Effects) {
        self.durable.is_stalled = true;
        self.counters.stores_stalled = 1;
        // Nobody's credits wait for the disk.
        self.refuse_steps(effects);
        for at in 0..self.durable.answers.len() {
            let held = &mut self.durable.answers[at];
            let to = held.to;
            if let Some(later) = answer_later(&mut held.frame) {
                effects.push_frame(to, later);
            }
        }
        effects.log(Line::new(Cause::StoreStalled, reason));
    }

    /// Steps of requests that wait for the disk are refused, though they may be kept after all.
    fn refuse_steps(&mut self, effects: &mut Effects) {
        let held = std::mem::take(&mut self.durable.answers);
        for held in held {
            match held.frame {
                Frame::Reply {
                    request,
                    answer: Answer::Told(_),
                } => {
                    let refused = Told::Refused(meshblu::Refusal::Busy);
                    let answer = Answer::Told(Box::new(refused));
                    effects.push_frame(held.to, Frame::Reply { request, answer });
                }
                _ => self.durable.answers.push_back(held),
            }
        }
    }

    /// The store writes again.
    pub(crate) fn on_store_resumed(&mut self, effects: &mut Effects) {
        self.durable.is_stalled = false;
        self.counters.stores_stalled = 0;
        effects.log(Line::new(Cause::StoreResumed, ""));
    }

    /// Holds back what is sent to a connection from here on until what has been promised so far is
    /// durable.
    pub(crate) fn hold(&mut self, connection: ConnectionId, effects: &mut Effects) {
        effects.hold(connection, self.durable.gate());
    }

    /// Answers a request of another shard, once the batch is durable if one is named.
    pub(crate) fn tell_when_durable(
        &mut self,
        sequence: u64,
        to: ShardId,
        frame: Frame,
        effects: &mut Effects,
    ) {
        if self.durable.is_committed(sequence) {
            return self.tell(to, frame, effects);
        }
        let mut frame = frame;
        let is_retained = matches!(
            frame,
            Frame::Reply {
                answer: Answer::Retained { .. },
                ..
            }
        );
        if (is_retained || self.durable.is_stalled)
            && let Some(later) = answer_later(&mut frame)
        {
            effects.push_frame(to, later);
        }
        let answers = &mut self.durable.answers;
        // Sequences rise, but for answers that waited elsewhere: two batches at most.
        let at = answers.partition_point(|held| held.sequence <= sequence);
        let held = HeldAnswer {
            sequence,
            to,
            frame,
        };
        answers.insert(at, held);
    }

    fn tell(&mut self, to: ShardId, frame: Frame, effects: &mut Effects) {
        match frame {
            Frame::Reply { .. } => effects.push_frame(to, frame),
            frame => self.lanes.send(to, frame, effects),
        }
    }
}
