//! The order of one turn.
//!
//! The backend waits and reports; then come frames and connections from other shards, then what
//! the driver itself has to say, and last the effects of all that are carried out: connections are
//! settled, output is sent, frames go into the rings, sleepers are woken. Each part is bounded, so
//! that none can starve the others; what is left over makes the next wait return at once.

use crate::Handler;
use crate::backend::{Backend, Sent};
use crate::doors::Change;
use crate::driver::{Driver, LOW_WATER_BYTES};
use crate::journal;
use crate::links::Parcel;
use crate::seat::Entrance;
use crate::server::Shared;
use crate::slots::{Flag, Phase};
use crate::store::StoreEvent;
use shard::{ConnectionId, Event, ShardId, Span, Time};
use std::io;
use std::net::Shutdown;
use std::time::Duration;

/// Frames taken per turn from one lane.
const FRAMES_PER_TURN: usize = 1_024;
/// Connections taken per turn from one other shard.
const PARCELS_PER_TURN: usize = 64;
/// Answers of the store taken per turn.
const STORE_EVENTS_PER_TURN: usize = 256;
/// Answers of helpers taken per turn.
const COMPUTED_PER_TURN: usize = 256;

/// Questions of an operator taken per turn: each may take as long as hundreds of messages.
const QUESTIONS_PER_TURN: usize = 2;

/// How a shard's thread ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All shards have stopped.
    Stopped,
    /// This shard did not stop in time.
    Abandoned,
    /// Another shard's thread ended before its time.
    OtherFailed,
    /// The store does not know any more what is durable; says why.
    StoreFailed(String),
}

/// Takes turns until all shards have stopped. Errs if the kernel fails a wait.
pub(crate) fn run<H: Handler, B: Backend>(
    driver: &mut Driver<H>,
    backend: &mut B,
    shared: &Shared,
    entrance: &mut Entrance,
) -> io::Result<Outcome> {
    let mut stop_deadline = None;
    let mut is_counted = false;
    loop {
        if driver.is_ready {
            entrance.say(Ok(()));
        }
        let timeout = driver.announce_sleep(backend, shared, stop_deadline);
        backend.wait(driver, timeout)?;
        if shared.is_open() && !driver.has_opened {
            driver.has_opened = true;
            driver.change_doors(backend, entrance)?;
        }
        // Read before what it counts is taken.
        let doors = shared.doors();
        if driver.has_opened && driver.doors != doors {
            driver.doors = doors;
            if !driver.is_stopping {
                driver.change_doors(backend, entrance)?;
            }
        }
        if shared.is_stopping() && !driver.is_stopping {
            driver.is_stopping = true;
            stop_deadline = Some(driver.now + Span::from_ms(u64::from(driver.tuning.stop_ms)));
            backend.stop_accepting();
            driver.handle(Event::Stop);
        }
        driver.take_from_links(backend);
        driver.take_own_events();
        // Before anything else leaves: what is durable is not known any more.
        if let Some(reason) = driver.take_from_store() {
            return Ok(Outcome::StoreFailed(reason));
        }
        driver.take_from_helpers();
        driver.take_from_console();
        driver.carry_out(backend);
        if driver.is_finished() && !is_counted {
            is_counted = true;
            if shared.count_finished() {
                driver.links.wake_all();
            }
        }
        if shared.are_all_finished() {
            return Ok(Outcome::Stopped);
        }
        if shared.has_failed() {
            return Ok(Outcome::OtherFailed);
        }
        if stop_deadline.is_some_and(|deadline| driver.now >= deadline) && !is_counted {
            return Ok(Outcome::Abandoned);
        }
    }
}

impl<H: Handler> Driver<H> {
    /// To be called by the backend when it has waited: reads the clock for this turn.
    pub(crate) fn begin(&mut self) {
        let wake = self.links.own_wake();
        wake.retract_sleep();
        wake.count_turn();
        // Not `max`ed needlessly: the clock is monotonic.
        self.now = self.clock.now();
        self.effects.log_up_to(journal::level());
        self.end_turn(self.now);
        self.turn_began = Some(self.now);
    }

    /// The turn is over, if that is not known yet. The clock has been read for something else: for
    /// how long to sleep, or, after a turn that left work to do, for the next one.
    fn end_turn(&mut self, end: Time) {
        if let Some(began) = self.turn_began.take() {
            self.counts.turns.record(end.since(began), 1);
            self.handler.turned(end);
        }
    }

    /// How long the backend may wait. If that is more than nothing, others know that they must
    /// wake us.
    fn announce_sleep<B: Backend>(
        &mut self,
        backend: &B,
        shared: &Shared,
        stop_deadline: Option<Time>,
    ) -> Option<Duration> {
        let has_own_work = !self.writable.is_empty()
            || self.said.is_some()
            || self.may_say_more
            || !self.computed.is_empty()
            || !self.touched.is_empty()
            || backend.has_work();
        if has_own_work {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.handler.next_deadline(),
            backend.deadline(),
            self.flushes.front().map(|&(deadline, _)| deadline),
            self.lingers.front().map(|&(deadline, _)| deadline),
            self.journal.deadline(),
            stop_deadline,
        ];
        let now = self.clock.now();
        self.end_turn(now);
        let timeout = match deadlines.into_iter().flatten().min() {
            None => None,
            Some(deadline) => match deadline.since(now) {
                Span(0) => return Some(Duration::ZERO),
                Span(us) => Some(Duration::from_micros(us)),
            },
        };
        self.links.own_wake().announce_sleep();
        // What was put there before our announcement could be seen, nobody wakes us for.
        self.said = self.store.as_mut().and_then(|store| store.poll());
        let computed = self.helpers.as_mut().and_then(|helpers| helpers.poll());
        self.computed.extend(computed);
        let asked = || self.console.as_mut().and_then(|console| console.poll());
        self.asked = self.asked.take().or_else(asked);
        if self.said.is_some()
            || !self.computed.is_empty()
            || self.asked.is_some()
            || self.links.has_work()
            || shared.has_news(self.has_opened, self.doors, self.is_stopping)
        {
            return Some(Duration::ZERO);
        }
        timeout
    }

    /// What whoever opens and closes listeners has said.
    fn change_doors<B: Backend>(&mut self, backend: &mut B, entrance: &Entrance) -> io::Result<()> {
        while let Ok(change) = entrance.listeners.try_recv() {
            match change {
                Change::Open(listeners) => backend.start_accepting(listeners)?,
                Change::Close(number) => backend.stop_accepting_from(number),
                Change::Rename(number, kind) => backend.rename_listener(number, kind),
                Change::Limit(most) => self.tuning.connections_max = most,
            }
        }
        Ok(())
    }

    /// Frames and connections that other shards sent.
    fn take_from_links<B: Backend>(&mut self, backend: &mut B) {
        for index in 0..self.links.incoming.len() {
            // Taken out while the shard works on what is in it, because that needs all of `self`.
            let Some(mut incoming) = self.links.incoming[index].take() else {
                continue;
            };
            if incoming.is_empty() {
                self.links.incoming[index] = Some(incoming);
                continue;
            }
            let from = ShardId(index as u16);
            let was_blocked = incoming.lower_blocked();
            let mut frames = 0;
            // Replies first: they give back credits, which requests take.
            for _ in 0..FRAMES_PER_TURN {
                let Ok(frame) = incoming.replies.pop() else {
                    break;
                };
                frames += 1;
                self.handle(Event::Frame { from, frame });
            }
            for _ in 0..FRAMES_PER_TURN {
                let Ok(frame) = incoming.requests.pop() else {
                    break;
                };
                frames += 1;
                self.handle(Event::Frame { from, frame });
            }
            for _ in 0..PARCELS_PER_TURN {
                let Ok(parcel) = incoming.parcels.pop() else {
                    break;
                };
                self.adopt(backend, parcel);
            }
            self.counts.frames += frames;
            self.links.made_room(from, &incoming, was_blocked);
            self.links.incoming[index] = Some(incoming);
        }
    }

    fn adopt<B: Backend>(&mut self, backend: &mut B, parcel: Parcel) {
        if self.has_stopped {
            return;
        }
        let Parcel {
            socket,
            handoff,
            received,
            output,
        } = parcel;
        let Some(connection) = self.admit(backend, socket) else {
            return;
        };
        // Before anything that the shard may add.
        if !output.is_empty() {
            self.effects.outbox(connection).extend_from_slice(&output);
        }
        self.handle(Event::Adopted {
            connection,
            handoff,
        });
        if !received.is_empty() {
            self.on_received(connection, &received);
        }
    }

    /// What no other shard and no kernel has to say: ticks, drained lanes, deadlines.
    fn take_own_events(&mut self) {
        while let Some(connection) = self.writable.pop() {
            if self
                .slots
                .find(connection)
                .is_some_and(|slot| slot.phase == Phase::Open)
            {
                self.handle(Event::Writable { connection });
            }
        }
        while let Some(to) = self.links.next_drained() {
            self.handle(Event::LaneDrained { to });
        }
        if self
            .handler
            .next_deadline()
            .is_some_and(|deadline| deadline <= self.now)
        {
            self.handle(Event::Tick);
        }
        self.give_up_on_slow_closes();
        self.journal.tick(self.now);
    }

    /// What the store has to say. Returns why it failed, if it did.
    fn take_from_store(&mut self) -> Option<String> {
        self.may_say_more = false;
        for _ in 0..STORE_EVENTS_PER_TURN {
            let polled = || self.store.as_mut().and_then(|store| store.poll());
            match self.said.take().or_else(polled)? {
                StoreEvent::Committed { sequence } => {
                    if self.unanswered.is_some_and(|last| last <= sequence) {
                        self.unanswered = None;
                        if let Some(began) = self.commit_began.take() {
                            self.counts.commits.record(self.now.since(began), 1);
                        }
                    }
                    self.handle(Event::Committed { sequence });
                }
                StoreEvent::Loaded { session, messages } => {
                    self.handle(Event::Loaded { session, messages });
                }
                // The shard has the words for the log.
                StoreEvent::Stalled { reason } => self.handle(Event::StoreStalled { reason }),
                StoreEvent::Resumed => self.handle(Event::StoreResumed),
                StoreEvent::Failed { reason } => return Some(reason),
            }
        }
        self.may_say_more = true;
        None
    }

    /// What helpers have done. What is left is seen before the thread sleeps.
    fn take_from_helpers(&mut self) {
        for _ in 0..COMPUTED_PER_TURN {
            let polled = || self.helpers.as_mut().and_then(|helpers| helpers.poll());
            let Some((id, outcome)) = self.computed.pop_front().or_else(polled) else {
                break;
            };
            self.handle(Event::Computed { id, outcome });
        }
    }

    /// What an operator asks. What is left is seen before the thread sleeps.
    fn take_from_console(&mut self) {
        for _ in 0..QUESTIONS_PER_TURN {
            let polled = || self.console.as_mut().and_then(|console| console.poll());
            let Some((id, question)) = self.asked.take().or_else(polled) else {
                break;
            };
            self.handle(Event::Asked { id, question });
        }
    }

    /// Has the store write the rest and let go of its file.
    pub(crate) fn close_store(&mut self) {
        if let Some(mut store) = self.store.take() {
            store.close();
        }
    }

    fn give_up_on_slow_closes(&mut self) {
        for phase in [Phase::Flushing, Phase::Lingering] {
            loop {
                let queue = match phase {
                    Phase::Flushing => &mut self.flushes,
                    _ => &mut self.lingers,
                };
                let Some(&(deadline, connection)) = queue.front() else {
                    break;
                };
                let slot = self
                    .slots
                    .find(connection)
                    .filter(|slot| slot.phase == phase);
                match slot {
                    Some(_) if deadline > self.now => break,
                    Some(slot) => {
                        slot.phase = Phase::Closing;
                        queue.pop_front();
                        self.touch(connection.index);
                    }
                    None => {
                        queue.pop_front();
                    }
                }
            }
        }
    }

    /// Carries out the effects of the turn.
    fn carry_out<B: Backend>(&mut self, backend: &mut B) {
        // Settling can find a connection broken, which the shard may answer with more effects; but
        // every such answer is another connection less, so this ends.
        loop {
            while let Some(connection) = self.effects.next_dirty() {
                if self.slots.find(connection).is_some() {
                    self.pump(backend, connection);
                }
            }
            let Some(index) = self.touched.pop() else {
                break;
            };
            self.settle(backend, index);
        }
        self.links.push(&mut self.effects);
    }

    /// Sends what is in the outbox, unless something is being sent already.
    fn pump<B: Backend>(&mut self, backend: &mut B, connection: ConnectionId) {
        let slot = self.slots.at(connection.index);
        let may_send = matches!(slot.phase, Phase::Open | Phase::Flushing);
        if !may_send || slot.has(Flag::SENDING) {
            return;
        }
        let output = self.effects.take_output(connection);
        if output.is_empty() {
            self.effects.recycle(output);
            return;
        }
        let accepted = match backend.send(slot, connection, output) {
            Sent::All(buffer) => {
                let bytes = buffer.len();
                self.effects.recycle(buffer);
                bytes
            }
            Sent::Pending(bytes) => bytes,
            Sent::Failed => return self.on_broken(connection),
        };
        if accepted > 0 && self.effects.sent(connection, accepted, LOW_WATER_BYTES) {
            // Not now: the shard could go on like this for ever.
            self.writable.push(connection);
        }
    }

    /// Brings what the kernel does for a slot in line with what is wanted.
    fn settle<B: Backend>(&mut self, backend: &mut B, index: u32) {
        let connection = self.slots.id(index);
        self.slots.at(index).clear(Flag::TOUCHED);
        match self.slots.at(index).phase {
            Phase::Free => {}
            Phase::Open => {
                self.pump(backend, connection);
                backend.align_reading(self.slots.at(index), connection);
            }
            Phase::Flushing => self.settle_flushing(backend, connection),
            Phase::Lingering => backend.align_reading(self.slots.at(index), connection),
            Phase::Leaving | Phase::Closing => {
                if backend.detach(self.slots.at(index), connection) {
                    self.part(connection);
                }
            }
        }
    }

    fn settle_flushing<B: Backend>(&mut self, backend: &mut B, connection: ConnectionId) {
        self.pump(backend, connection);
        let is_flushed = self.effects.pending_bytes(connection) == 0;
        let slot = self.slots.at(connection.index);
        if slot.phase != Phase::Flushing {
            return;
        }
        if is_flushed {
            let is_shut = socket2::SockRef::from(&slot.socket())
                .shutdown(Shutdown::Write)
                .is_ok();
            if slot.has(Flag::ENDED) || !is_shut {
                slot.phase = Phase::Closing;
                return self.touch(connection.index);
            }
            slot.phase = Phase::Lingering;
            let deadline = self.now + Span::from_ms(u64::from(self.tuning.linger_ms));
            self.lingers.push_back((deadline, connection));
        }
        backend.align_reading(self.slots.at(connection.index), connection);
    }

    /// Closes the socket of a slot that nothing refers to any more, or sends it to its new home.
    fn part(&mut self, connection: ConnectionId) {
        let slot = self.slots.at(connection.index);
        let parting = slot.parting.take();
        let rest = match parting {
            Some(_) => self.effects.take_output(connection),
            None => Vec::new(),
        };
        self.effects.close(connection);
        let socket = self.slots.remove(connection.index);
        if let Some(parting) = parting {
            let mut output = parting.output;
            output.extend_from_slice(&rest);
            self.effects.recycle(rest);
            let (handoff, received) = (parting.handoff, parting.received);
            self.links.post(
                parting.to,
                Parcel {
                    socket,
                    handoff,
                    received,
                    output,
                },
            );
        }
    }

    /// Whether the shard has stopped, nothing is left of its connections, and all that it wanted
    /// kept is kept.
    fn is_finished(&self) -> bool {
        self.has_stopped
            && self.slots.used() == 0
            && self.links.parcels_waiting() == 0
            && self.unanswered.is_none()
    }
}
