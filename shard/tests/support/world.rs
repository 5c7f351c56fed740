//! The driver of every shard, in one thread and in virtual time.

use super::{Client, Version, client::ClientState, computes, core::Core, store::ModelStore};
use shard::console::{Question, Report};
use shard::{
    Anonymous, Close, Commit, Config, ConnectionId, Durability, DurabilityMode, Effect, Effects,
    Event, Frame, Lane, Limits, Listener, Shard, ShardId, Span, Time,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Output below which a connection counts as drained.
const LOW_WATER_BYTES: usize = 16 * 1_024;
/// Events that one call may cause before it counts as an endless loop.
const EVENTS_MAX: usize = 5_000_000;
/// When virtual time begins, in seconds of the Unix epoch.
const START_S: u64 = 1_700_000_000;

/// Some shards and their clients.
#[derive(Clone)]
pub struct World {
    inner: Rc<RefCell<Inner>>,
}

impl World {
    /// So many shards, which let everybody in and publish nothing under `$SYS`.
    pub fn new(shards: u16) -> World {
        World::with(shards, |_| {})
    }

    /// Runs a test with one shard, with two, and with five.
    #[track_caller]
    pub fn each(test: impl Fn(&World)) {
        for shards in [1, 2, 5] {
            println!("with {shards} shards"); // Shown if the test fails.
            test(&World::new(shards));
        }
    }

    /// With other limits.
    pub fn with_limits(shards: u16, change: impl Fn(&mut Limits)) -> World {
        World::with(shards, |config| change(&mut config.limits))
    }

    /// With another configuration.
    pub fn with(shards: u16, change: impl Fn(&mut Config)) -> World {
        let now = Time(0) + Span::from_s(START_S);
        let cores = (0..shards)
            .map(|index| {
                let mut config = Config {
                    shard: ShardId(index),
                    shards,
                    seed: 77 + u64::from(index),
                    anonymous: Anonymous::Allow,
                    durability: Durability::default(),
                    ..Config::alone()
                };
                config.limits.sys_interval_s = 0;
                change(&mut config);
                Core::new(config, now, ModelStore::default())
            })
            .collect();
        let inner = Inner {
            now,
            cores,
            clients: Vec::new(),
            accepted: 0,
            events: 0,
            is_checked: true,
            is_slow: false,
            holds_computes: false,
            most_told: 0,
            called: Vec::new(),
        };
        World {
            inner: Rc::new(RefCell::new(inner)),
        }
    }

    /// Shards with a store, which promise what they acknowledge.
    pub fn durable(shards: u16) -> World {
        World::durable_with(shards, |_| {})
    }

    /// The same with another configuration.
    pub fn durable_with(shards: u16, change: impl Fn(&mut Config)) -> World {
        World::with(shards, |config| {
            config.durability = Durability {
                mode: DurabilityMode::Commit,
                prefixes: Vec::new(),
                interval_ms: 200,
            };
            change(config);
        })
    }

    /// Asks one shard as an operator does; its answer, if it has come at once.
    pub fn ask(&self, core: usize, question: Question) -> Option<Report> {
        let mut inner = self.inner.borrow_mut();
        let question = Box::new(question);
        inner.handle(core, Event::Asked { id: 7, question });
        inner.settle();
        self.answer_in(&mut inner, core)
    }

    /// The answer to a question that has not been answered at once.
    pub fn answer(&self, core: usize) -> Option<Report> {
        self.answer_in(&mut self.inner.borrow_mut(), core)
    }

    fn answer_in(&self, inner: &mut Inner, core: usize) -> Option<Report> {
        let (id, report) = inner.cores[core].answers.pop()?;
        assert_eq!(id, 7, "the question's number comes back");
        assert!(inner.cores[core].answers.is_empty(), "answered once");
        Some(*report)
    }

    /// From now on commits are answered only by [`World::commit`].
    pub fn hold_commits(&self) {
        self.inner.borrow_mut().is_slow = true;
    }

    /// The commits under way become durable, and what follows from that.
    pub fn commit(&self) {
        self.inner.borrow_mut().commit();
    }

    /// From now on commits are answered at once again.
    pub fn release_commits(&self) {
        self.inner.borrow_mut().is_slow = false;
        self.commit();
    }

    /// The commits under way become durable, and nobody hears of it.
    pub fn commit_once(&self) {
        let mut inner = self.inner.borrow_mut();
        for core in &mut inner.cores {
            for commit in std::mem::take(&mut core.commits) {
                core.store.apply(commit);
            }
        }
    }

    /// All records of all stores.
    pub fn records(&self) -> Vec<shard::Change> {
        let inner = self.inner.borrow();
        let records = inner.cores.iter().map(|core| core.store.records());
        records.flatten().collect()
    }

    /// From now on helper threads do nothing, or do again what has come.
    pub fn hold_computes(&self, holds: bool) {
        self.inner.borrow_mut().holds_computes = holds;
    }

    /// Puts records of a device into its owner's store, to be recovered after a crash.
    pub fn import(&self, device: shard::DeviceId, changes: Vec<shard::Change>) {
        let mut inner = self.inner.borrow_mut();
        let config = &inner.cores[0].config;
        let placement = shard::Placement::new(config.shards, config.placement_seed);
        let core = usize::from(placement.device(device).0);
        inner.cores[core].store.apply(Commit {
            changes,
            ..Commit::default()
        });
    }

    /// All shards vanish, with every commit that is not durable, and start again.
    pub fn crash(&self) {
        self.inner.borrow_mut().crash();
    }

    /// Every shard is told that its store cannot write, or can again.
    pub fn stall_stores(&self, is_stalled: bool) {
        let mut inner = self.inner.borrow_mut();
        for core in 0..inner.cores.len() {
            let event = match is_stalled {
                true => Event::StoreStalled {
                    reason: "full".into(),
                },
                false => Event::StoreResumed,
            };
            inner.handle(core, event);
        }
        inner.settle();
    }

    /// Records in all stores that this finds.
    pub fn count_records(&self, wanted: impl Fn(&shard::Change) -> bool) -> usize {
        self.records()
            .iter()
            .filter(|record| wanted(record))
            .count()
    }

    /// From now on `Shard::check`, which looks at all a shard has, is left out: for tests with
    /// very much in their tables.
    pub fn leave_out_checks(&self) {
        self.inner.borrow_mut().is_checked = false;
    }

    /// A client that is not connected yet.
    pub fn client(&self, version: Version, id: &str) -> Client {
        let mut inner = self.inner.borrow_mut();
        inner.clients.push(ClientState::new(version, id));
        Client::new(self.inner.clone(), inner.clients.len() - 1)
    }

    /// A client that has connected with a clean start.
    pub fn connected(&self, version: Version, id: &str) -> Client {
        let client = self.client(version, id);
        client.connect();
        client
    }

    /// Lets time pass, with every deadline on the way.
    pub fn advance(&self, seconds: u64) {
        self.advance_ms(seconds * 1_000);
    }

    /// Lets time pass, with every deadline on the way.
    pub fn advance_ms(&self, ms: u64) {
        self.inner.borrow_mut().advance(Span::from_ms(ms));
    }

    /// Lets bytes of several clients arrive in the same turn of their drivers.
    pub fn turn(&self, arrivals: &[(&Client, Vec<u8>)]) {
        let arrivals: Vec<(usize, Vec<u8>)> = arrivals
            .iter()
            .map(|(client, bytes)| (client.index(), bytes.clone()))
            .collect();
        self.inner.borrow_mut().turn(&arrivals);
    }

    /// Something that all shards count, in sum.
    pub fn total(&self, count: impl Fn(&shard::Counters) -> u64) -> u64 {
        let cores = &mut self.inner.borrow_mut().cores;
        let cores = cores.iter_mut();
        cores.map(|core| count(core.shard.counters())).sum()
    }

    /// The most events of devices that one event of a shard has had told since the last time.
    pub fn most_told(&self) -> u64 {
        self.inner.borrow().most_told
    }

    /// Begins to count them anew.
    pub fn forget_most_told(&self) {
        self.inner.borrow_mut().most_told = 0;
    }

    /// Asks every shard to stop and returns whether all have.
    pub fn stop(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        for index in 0..inner.cores.len() {
            inner.handle(index, Event::Stop);
        }
        inner.settle();
        inner.advance(Span::from_s(10));
        inner.cores.iter().all(|core| core.is_stopped)
    }
}

/// What [`World`] and [`Client`] share.
pub struct Inner {
    pub now: Time,
    cores: Vec<Core>,
    pub clients: Vec<ClientState>,
    /// Connections so far; the next is accepted by this shard modulo their number.
    accepted: usize,
    events: usize,
    /// `Shard::check` runs after every event.
    is_checked: bool,
    /// Commits wait for [`World::commit`].
    is_slow: bool,
    /// Helper threads do nothing.
    holds_computes: bool,
    /// The most events of devices that one event of a shard has had told.
    pub most_told: u64,
    /// Webhooks that were called.
    pub called: Vec<shard::Webhook>,
}

impl Inner {
    fn commit(&mut self) {
        for core in 0..self.cores.len() {
            let commits = std::mem::take(&mut self.cores[core].commits);
            for commit in commits {
                let sequence = commit.sequence;
                self.cores[core].store.apply(commit);
                self.handle(core, Event::Committed { sequence });
            }
        }
        self.settle();
    }

    fn crash(&mut self) {
        for client in &mut self.clients {
            client.place = None;
        }
        let old = std::mem::take(&mut self.cores);
        let now = self.now;
        let again = |mut core: Core| {
            core.config.seed += 1_000;
            Core::new(core.config, now, core.store)
        };
        self.cores = old.into_iter().map(again).collect();
        self.settle();
        assert!(self.is_slow || self.cores.iter().all(|core| core.is_ready));
    }

    /// A new connection, accepted by the shards in turn.
    pub fn accept(&mut self, client: usize, listener: Listener) {
        self.settle();
        assert!(self.cores.iter().all(|core| core.is_ready), "not ready");
        assert!(
            self.clients[client].place.is_none(),
            "the client is connected already"
        );
        let core = self.accepted % self.cores.len();
        self.accepted += 1;
        let connection = self.cores[core].open(client);
        self.clients[client].on_open(core, connection);
        let peer = ([127, 0, 0, 1], 40_000 + (client % 20_000) as u16).into();
        self.handle(
            core,
            Event::Accepted {
                connection,
                listener,
                peer,
            },
        );
        self.settle();
    }

    /// Bytes from a client; they are lost if the connection is gone.
    pub fn receive(&mut self, client: usize, bytes: &[u8]) {
        let Some((core, connection)) = self.clients[client].place else {
            return;
        };
        let slot = self.cores[core]
            .slot(connection)
            .expect("a place is an open slot");
        if slot.is_paused {
            slot.inbox.extend(bytes);
        } else if !bytes.is_empty() {
            self.handle(core, Event::Received { connection, bytes });
        }
        self.settle();
    }

    /// One turn of every driver: bytes of several clients, then ticks that are due, and only then
    /// the frames and output that follow from all of it.
    pub fn turn(&mut self, arrivals: &[(usize, Vec<u8>)]) {
        for (client, bytes) in arrivals {
            let (core, connection) = self.clients[*client].place.expect("it is connected");
            let slot = self.cores[core].slot(connection).expect("open");
            if slot.is_paused {
                slot.inbox.extend(bytes);
                continue;
            }
            self.handle(core, Event::Received { connection, bytes });
        }
        for core in 0..self.cores.len() {
            let deadline = self.cores[core].shard.next_deadline();
            if deadline.is_some_and(|at| at <= self.now) {
                self.handle(core, Event::Tick);
            }
        }
        self.settle();
    }

    /// The client's end of the connection goes away.
    pub fn cut(&mut self, client: usize) {
        if let Some((core, connection)) = self.clients[client].place.take() {
            self.cores[core].close(connection);
            self.handle(core, Event::Closed { connection });
            self.settle();
        }
    }

    /// The client reads again: what the kernel had taken is accepted.
    pub fn unstall(&mut self, client: usize) {
        let withheld = std::mem::take(&mut self.clients[client].withheld);
        self.clients[client].received.extend(&withheld);
        if let Some((core, connection)) = self.clients[client].place {
            let effects = &mut self.cores[core].effects;
            if effects.sent(connection, withheld.len(), LOW_WATER_BYTES) {
                self.handle(core, Event::Writable { connection });
            }
            self.settle();
        }
    }

    fn handle(&mut self, core: usize, event: Event<'_>) {
        self.events += 1;
        assert!(self.events < EVENTS_MAX, "the shards never come to rest");
        let core = &mut self.cores[core];
        let before = core.shard.counters().mesh_delivered;
        core.shard.handle(self.now, event, &mut core.effects);
        let told = core.shard.counters().mesh_delivered - before;
        self.most_told = self.most_told.max(told);
        if self.is_checked {
            core.shard.check();
        }
    }

    /// Carries out effects and delivers frames until nothing is left to do.
    pub fn settle(&mut self) {
        self.events = 0;
        loop {
            for core in 0..self.cores.len() {
                self.carry_out(core);
            }
            let delivered = self.deliver_frames();
            // An adoption gives another shard, already carried out, something to do.
            let is_quiet = !delivered && self.cores.iter().all(|core| core.effects.is_empty());
            if is_quiet && !self.tick_due() {
                break;
            }
        }
        let now = self.now;
        self.cores
            .iter_mut()
            .for_each(|core| core.shard.turned(now));
    }

    /// Ticks the shards whose deadline has come; returns whether there was one. Long work is cut
    /// into steps in this way.
    fn tick_due(&mut self) -> bool {
        let is_due = |core: &Core, now| core.shard.next_deadline().is_some_and(|at| at <= now);
        let due: Vec<usize> = (0..self.cores.len())
            .filter(|core| is_due(&self.cores[*core], self.now))
            .collect();
        for core in &due {
            self.handle(*core, Event::Tick);
        }
        !due.is_empty()
    }

    fn carry_out(&mut self, core: usize) {
        while !self.cores[core].effects.is_empty() {
            let mut list = Vec::new();
            self.cores[core].effects.take_list(&mut list);
            for effect in list {
                self.apply(core, effect);
            }
            while let Some(connection) = self.cores[core].effects.next_dirty() {
                self.send(core, connection);
            }
            if !self.is_slow {
                for commit in std::mem::take(&mut self.cores[core].commits) {
                    let sequence = commit.sequence;
                    self.cores[core].store.apply(commit);
                    self.handle(core, Event::Committed { sequence });
                }
            }
            let computes = match self.holds_computes {
                true => Vec::new(),
                false => std::mem::take(&mut self.cores[core].computes),
            };
            for compute in computes {
                let (id, outcome) = computes::answer(compute, &mut self.called);
                self.handle(core, Event::Computed { id, outcome });
            }
            if !self.fill_rings(core) {
                break;
            }
        }
    }

    fn apply(&mut self, core: usize, effect: Effect) {
        match effect {
            Effect::Close { connection, how } => self.close(core, connection, how),
            Effect::PauseReading { connection } => {
                if let Some(slot) = self.cores[core].slot(connection) {
                    slot.is_paused = true;
                }
            }
            Effect::ResumeReading { connection } => self.resume(core, connection),
            Effect::Adopt {
                connection,
                to,
                handoff,
            } => {
                assert_ne!(core, to.index(), "a shard adopts its own connection");
                self.send(core, connection);
                let slot = self.cores[core]
                    .slot(connection)
                    .expect("adopted once, while open");
                let client = slot.client.take().expect("the slot was open");
                let held = std::mem::take(&mut slot.inbox);
                self.cores[core].effects.close(connection);
                let connection = self.cores[to.index()].open(client);
                self.clients[client].place = Some((to.index(), connection));
                self.handle(
                    to.index(),
                    Event::Adopted {
                        connection,
                        handoff,
                    },
                );
                if !held.is_empty() && self.cores[to.index()].slot(connection).is_some() {
                    self.handle(
                        to.index(),
                        Event::Received {
                            connection,
                            bytes: &held,
                        },
                    );
                }
            }
            Effect::Commit(commit) => self.cores[core].commits.push(commit),
            Effect::Compute(compute) => self.cores[core].computes.push(compute),
            Effect::Load {
                session,
                after,
                messages_max,
                ..
            } => {
                let store = &self.cores[core].store;
                let messages = store.load(session, after, messages_max as usize);
                self.handle(core, Event::Loaded { session, messages });
            }
            Effect::Answered { id, report } => self.cores[core].answers.push((id, report)),
            Effect::Ready => self.cores[core].is_ready = true,
            Effect::Log(_) => {}
            Effect::Stopped => self.cores[core].is_stopped = true,
        }
    }

    fn close(&mut self, core: usize, connection: ConnectionId, how: Close) {
        let Some(slot) = self.cores[core].slot(connection) else {
            return;
        };
        let client = slot.client.expect("the slot is open");
        if how == Close::Flush {
            self.send(core, connection);
        }
        self.cores[core].close(connection);
        self.clients[client].on_close(how);
    }

    fn resume(&mut self, core: usize, connection: ConnectionId) {
        let Some(slot) = self.cores[core].slot(connection) else {
            return;
        };
        slot.is_paused = false;
        let held = std::mem::take(&mut slot.inbox);
        if !held.is_empty() {
            self.handle(
                core,
                Event::Received {
                    connection,
                    bytes: &held,
                },
            );
        }
    }

    /// Gives the client what is in its outbox.
    fn send(&mut self, core: usize, connection: ConnectionId) {
        let Some(slot) = self.cores[core].slot(connection) else {
            return;
        };
        let client = slot.client.expect("the slot is open");
        let effects = &mut self.cores[core].effects;
        let output = effects.take_output(connection);
        let state = &mut self.clients[client];
        if state.is_stalled {
            state.withheld.extend(&output);
            return effects.recycle(output);
        }
        state.received.extend(&output);
        let is_writable = effects.sent(connection, output.len(), LOW_WATER_BYTES);
        effects.recycle(output);
        if is_writable {
            self.handle(core, Event::Writable { connection });
        }
    }

    /// Moves staged frames into the rings; returns whether all fitted.
    fn fill_rings(&mut self, from: usize) -> bool {
        let mut fitted = true;
        for to in 0..self.cores.len() {
            let core = &mut self.cores[from];
            let target = ShardId(to as u16);
            for (lane, room, ring) in [
                (Lane::Request, shard::limits::REQUEST_LANE, 0),
                (Lane::Reply, shard::limits::REPLY_LANE, 1),
            ] {
                let staged = core.effects.staged(target, lane);
                assert!(
                    staged.is_empty() || from != to,
                    "a shard sends itself a frame"
                );
                let count = staged.len().min(room - core.rings[to][ring].len());
                core.rings[to][ring].extend(staged.drain(..count));
                assert!(
                    lane == Lane::Request || staged.is_empty(),
                    "a reply lane is full"
                );
            }
            if !core.effects.staged(target, Lane::Request).is_empty() {
                core.was_full[to] = true;
                fitted = false;
            } else if std::mem::take(&mut core.was_full[to]) {
                self.handle(from, Event::LaneDrained { to: target });
            }
        }
        fitted
    }

    /// Delivers what is in the rings, in order; returns whether there was anything.
    fn deliver_frames(&mut self) -> bool {
        let mut any = false;
        for from in 0..self.cores.len() {
            for to in 0..self.cores.len() {
                for ring in 0..2 {
                    let frames = std::mem::take(&mut self.cores[from].rings[to][ring]);
                    for frame in frames {
                        any = true;
                        let event = Event::Frame {
                            from: ShardId(from as u16),
                            frame,
                        };
                        self.handle(to, event);
                    }
                }
            }
        }
        any
    }

    /// Lets time pass, with every deadline on the way.
    pub fn advance(&mut self, span: Span) {
        let end = self.now + span;
        let mut ticks = 0;
        loop {
            let next = (0..self.cores.len())
                .filter_map(|core| Some((self.cores[core].shard.next_deadline()?, core)))
                .min();
            match next {
                Some((deadline, core)) if deadline <= end => {
                    ticks += 1;
                    assert!(ticks < EVENTS_MAX, "a deadline that does not move");
                    self.now = self.now.max(deadline);
                    self.handle(core, Event::Tick);
                    self.settle();
                }
                _ => break,
            }
        }
        self.now = end;
    }
}
