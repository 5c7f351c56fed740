//! One shard's driver, apart from the kernel: what is known of each connection, and what events
//! and effects do to it. `turn.rs` says in which order.
//!
//! Always holds: an event names a connection only while its slot is [`Phase::Open`]; an outbox is
//! closed when its slot is freed, and a slot is freed only while effects are carried out.

use crate::backend::Backend;
use crate::clock::Clock;
use crate::console::Console;
use crate::helpers::Helpers;
use crate::journal::Journal;
use crate::links::Links;
use crate::slots::{Flag, Parting, Phase, Slots};
use crate::store::{Made, Store, StoreEvent};
use crate::{Handler, Tuning};
use shard::console::{DriverCounts, Question, Report};
use shard::{
    Cause, Close, Commit, Compute, Computed, ConnectionId, Effect, Effects, Event, Handoff, Line,
    Listener, ShardId, Span, Time,
};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// [`Event::Writable`] is due when no more than this is left.
pub(crate) const LOW_WATER_BYTES: usize = 64 * 1_024;

/// Everything of one shard's thread but its backend.
pub(crate) struct Driver<H> {
    pub(crate) shard: ShardId,
    pub(crate) handler: H,
    pub(crate) effects: Effects,
    pub(crate) slots: Slots,
    pub(crate) links: Links,
    pub(crate) tuning: Tuning,
    /// The time of this turn.
    pub(crate) now: Time,
    pub(crate) clock: Clock,
    /// Slots whose phase or wishes changed; each once, by its flag.
    pub(crate) touched: Vec<u32>,
    /// Connections whose output fell to the low-water mark while effects were carried out.
    pub(crate) writable: Vec<ConnectionId>,
    /// Where commits go.
    pub(crate) store: Option<Box<dyn Store>>,
    /// What the store has said and the shard has not heard.
    pub(crate) said: Option<StoreEvent>,
    /// The store may have more to say.
    pub(crate) may_say_more: bool,
    /// Where slow work goes.
    pub(crate) helpers: Option<Box<dyn Helpers>>,
    /// What of it is answered, and the shard has not heard.
    pub(crate) computed: VecDeque<(u64, Computed)>,
    /// Where an operator asks.
    pub(crate) console: Option<Box<dyn Console>>,
    /// A question that the shard has not heard.
    pub(crate) asked: Option<(u64, Box<Question>)>,
    /// What is counted here, for operators.
    pub(crate) counts: DriverCounts,
    /// When the turn began, until its end is known.
    pub(crate) turn_began: Option<Time>,
    /// When the commit that is under way was handed over.
    pub(crate) commit_began: Option<Time>,
    /// The highest commit, while it has not been answered.
    pub(crate) unanswered: Option<u64>,
    /// When flushing connections are given up, in order of time.
    pub(crate) flushes: VecDeque<(Time, ConnectionId)>,
    /// When lingering connections are given up, in order of time.
    pub(crate) lingers: VecDeque<(Time, ConnectionId)>,
    /// The shard is ready for connections.
    pub(crate) is_ready: bool,
    /// The listeners are open.
    pub(crate) has_opened: bool,
    /// So many changes of listeners have been heard of.
    pub(crate) doors: u64,
    /// [`Event::Stop`] has been given.
    pub(crate) is_stopping: bool,
    /// The shard has answered [`Effect::Stopped`].
    pub(crate) has_stopped: bool,
    /// What is written to the log.
    pub(crate) journal: Journal,
    /// Effects on their way from `effects` to `apply`; empty in between.
    list: Vec<Effect>,
}

impl<H: Handler> Driver<H> {
    pub(crate) fn new(
        shard: ShardId,
        made: Made<H>,
        links: Links,
        tuning: Tuning,
        clock: Clock,
    ) -> Driver<H> {
        Driver {
            shard,
            is_ready: !made.handler.awaits_ready(),
            handler: made.handler,
            effects: Effects::new(links.incoming.len()),
            slots: Slots::default(),
            links,
            tuning,
            now: clock.now(),
            clock,
            touched: Vec::new(),
            writable: Vec::new(),
            store: made.store,
            said: None,
            may_say_more: false,
            helpers: made.helpers,
            computed: VecDeque::new(),
            console: made.console,
            asked: None,
            counts: DriverCounts::default(),
            turn_began: None,
            commit_began: None,
            unanswered: None,
            flushes: VecDeque::new(),
            lingers: VecDeque::new(),
            has_opened: false,
            doors: 0,
            is_stopping: false,
            has_stopped: false,
            journal: Journal::new(shard.0),
            list: Vec::new(),
        }
    }

    /// Gives the shard one event and applies what it asks for at once, so that it is never told
    /// about a connection that it has let go of.
    pub(crate) fn handle(&mut self, event: Event<'_>) {
        self.handler.handle(self.now, event, &mut self.effects);
        self.effects.take_list(&mut self.list);
        if self.list.is_empty() {
            return;
        }
        let mut list = std::mem::take(&mut self.list);
        for effect in list.drain(..) {
            self.apply(effect);
        }
        self.list = list;
    }

    /// Notes an effect; the kernel hears of it when the turn's effects are carried out.
    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Close { connection, how } => self.close(connection, how),
            Effect::PauseReading { connection } => self.set_paused(connection, true),
            Effect::ResumeReading { connection } => self.set_paused(connection, false),
            Effect::Adopt {
                connection,
                to,
                handoff,
            } => self.leave(connection, to, handoff),
            Effect::Commit(commit) => self.commit(commit),
            Effect::Load {
                session,
                after,
                messages_max,
                bytes_max,
            } => match &mut self.store {
                Some(store) => store.load(session, after, messages_max, bytes_max),
                // A shard that keeps nothing has nothing that it could ask for.
                None => self.log(&Line::new(Cause::StoreMissing, "")),
            },
            Effect::Compute(compute) => self.compute(compute),
            Effect::Answered { id, mut report } => {
                if let Report::Overview(overview) = &mut *report {
                    overview.driver = self.counted();
                }
                if let Some(console) = &mut self.console {
                    console.answer(id, report);
                }
            }
            Effect::Ready => self.is_ready = true,
            Effect::Log(line) => self.log(&line),
            Effect::Stopped => self.has_stopped = true,
        }
    }

    fn log(&mut self, line: &Line) {
        self.journal.write(self.now, line);
    }

    fn counted(&self) -> DriverCounts {
        let (wakes, rings_full, ring_frames) = self.links.load();
        DriverCounts {
            wakes,
            rings_full,
            ring_frames,
            ..self.counts.clone()
        }
    }

    fn commit(&mut self, commit: Commit) {
        self.unanswered = Some(commit.sequence);
        self.commit_began = Some(self.now);
        match &mut self.store {
            Some(store) => store.submit(commit),
            // Nothing is kept, so it is as durable as it will be.
            None => {
                self.said = Some(StoreEvent::Committed {
                    sequence: commit.sequence,
                });
            }
        }
    }

    fn compute(&mut self, compute: Compute) {
        match &mut self.helpers {
            Some(helpers) => helpers.submit(compute),
            None => self.computed.push_back((compute.id, Computed::Busy)),
        }
    }

    /// Says that something is wrong with accepting.
    pub(crate) fn log_accept(&mut self, cause: Cause, error: Option<&io::Error>) {
        let detail = error.map(ToString::to_string).unwrap_or_default();
        self.log(&Line::new(cause, &detail));
    }

    fn close(&mut self, connection: ConnectionId, how: Close) {
        let Some(slot) = self
            .slots
            .find(connection)
            .filter(|slot| slot.phase == Phase::Open)
        else {
            return;
        };
        match how {
            Close::Abort => slot.phase = Phase::Closing,
            Close::Flush => {
                slot.phase = Phase::Flushing;
                self.flush_until(connection);
            }
        }
        self.touch(connection.index);
    }

    pub(crate) fn flush_until(&mut self, connection: ConnectionId) {
        let deadline = self.now + Span::from_ms(u64::from(self.tuning.flush_ms));
        self.flushes.push_back((deadline, connection));
    }

    fn set_paused(&mut self, connection: ConnectionId, is_paused: bool) {
        let Some(slot) = self
            .slots
            .find(connection)
            .filter(|slot| slot.phase == Phase::Open)
        else {
            return;
        };
        if is_paused {
            slot.set(Flag::PAUSED);
        } else {
            slot.clear(Flag::PAUSED);
        }
        self.touch(connection.index);
    }

    fn leave(&mut self, connection: ConnectionId, to: ShardId, handoff: Box<Handoff>) {
        assert_ne!(
            to, self.shard,
            "a connection adopted by the shard that has it"
        );
        let Some(slot) = self
            .slots
            .find(connection)
            .filter(|slot| slot.phase == Phase::Open)
        else {
            return;
        };
        slot.phase = Phase::Leaving;
        let (received, output) = (Vec::new(), Vec::new());
        slot.parting = Some(Box::new(Parting {
            to,
            handoff,
            received,
            output,
        }));
        self.touch(connection.index);
    }

    /// Has the slot settled when effects are carried out.
    pub(crate) fn touch(&mut self, index: u32) {
        let slot = self.slots.at(index);
        if !slot.has(Flag::TOUCHED) {
            slot.set(Flag::TOUCHED);
            self.touched.push(index);
        }
    }

    /// A socket was accepted.
    pub(crate) fn on_accepted<B: Backend>(
        &mut self,
        backend: &mut B,
        socket: OwnedFd,
        listener: Listener,
        peer: SocketAddr,
    ) {
        if self.is_stopping {
            return;
        }
        if let Some(connection) = self.admit(backend, socket) {
            self.handle(Event::Accepted {
                connection,
                listener,
                peer,
            });
        }
    }

    /// Gives a socket a slot and an outbox, or closes it if there is no room.
    pub(crate) fn admit<B: Backend>(
        &mut self,
        backend: &mut B,
        socket: OwnedFd,
    ) -> Option<ConnectionId> {
        // Those on their way out count too, or they could pile up behind a slow shard.
        let held = self.slots.used() + self.links.parcels_waiting();
        if held >= self.tuning.connections_max as usize {
            drop(socket);
            self.log_accept(Cause::ConnectionsFull, None);
            return None;
        }
        let connection = self.slots.insert(socket);
        self.effects.open(connection);
        if let Err(error) = backend.attach(self.slots.at(connection.index), connection) {
            self.effects.close(connection);
            drop(self.slots.remove(connection.index));
            self.log_accept(Cause::WatchFailed, Some(&error));
            return None;
        }
        self.touch(connection.index);
        Some(connection)
    }

    /// Bytes arrived, never none.
    pub(crate) fn on_received(&mut self, connection: ConnectionId, bytes: &[u8]) {
        debug_assert!(!bytes.is_empty(), "the end of a stream is not a receive");
        let slot = self.slots.at(connection.index);
        match slot.phase {
            Phase::Open => self.handle(Event::Received { connection, bytes }),
            Phase::Leaving => {
                let parting = slot
                    .parting
                    .as_mut()
                    .expect("a leaving slot has what it takes along");
                parting.received.extend_from_slice(bytes);
            }
            Phase::Free | Phase::Flushing | Phase::Lingering | Phase::Closing => {}
        }
    }

    /// The kernel accepted more output; `is_all` if the backend holds none any more.
    pub(crate) fn on_sent(&mut self, connection: ConnectionId, bytes: usize, is_all: bool) {
        let is_low = self.effects.sent(connection, bytes, LOW_WATER_BYTES);
        let phase = self.slots.at(connection.index).phase;
        if is_low && phase == Phase::Open {
            self.handle(Event::Writable { connection });
        }
        // More output may have gathered meanwhile, or a close wait for this.
        if is_all && (phase != Phase::Open || self.effects.pending_bytes(connection) > 0) {
            self.touch(connection.index);
        }
    }

    /// The peer has finished sending. What it was told last still goes out.
    pub(crate) fn on_ended(&mut self, connection: ConnectionId) {
        let slot = self.slots.at(connection.index);
        slot.set(Flag::ENDED);
        match slot.phase {
            Phase::Open => {
                slot.phase = Phase::Flushing;
                self.flush_until(connection);
                self.handle(Event::Closed { connection });
            }
            Phase::Lingering => slot.phase = Phase::Closing,
            Phase::Free | Phase::Flushing | Phase::Leaving | Phase::Closing => {}
        }
        self.touch(connection.index);
    }

    /// The transport failed.
    pub(crate) fn on_broken(&mut self, connection: ConnectionId) {
        let slot = self.slots.at(connection.index);
        slot.set(Flag::ENDED);
        match slot.phase {
            Phase::Open => {
                slot.phase = Phase::Closing;
                self.handle(Event::Closed { connection });
            }
            Phase::Flushing | Phase::Lingering => slot.phase = Phase::Closing,
            // The new home will find out for itself.
            Phase::Free | Phase::Leaving | Phase::Closing => {}
        }
        self.touch(connection.index);
    }
}
