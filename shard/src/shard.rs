//! The shard: its tables, and the one way in.
//!
//! Always: `handle` does bounded work. What takes longer is cut into steps that the next
//! [`Event::Tick`] goes on with; `next_deadline` then says "now".

use crate::clients::Clients;
use crate::connection::{Connection, Stage};
use crate::console::Desk;
use crate::console::configure::Announced;
use crate::counters::Counters;
use crate::deliver::{Recipient, Templates};
use crate::durable::Durable;
use crate::groups::Groups;
use crate::lanes::Lanes;
use crate::latency::Deliveries;
use crate::map::{Map, map_with_seed};
use crate::mesh::Mesh;
use crate::message::Message;
use crate::pending::PendingTable;
use crate::placement::Placement;
use crate::random::Random;
use crate::recover::Beginning;
use crate::retained::RetainedStore;
use crate::routes::Routes;
use crate::session::Session;
use crate::slots::Slots;
use crate::subscribe::SubackWait;
use crate::subscriptions::Subscriptions;
use crate::sys::Sys;
use crate::table::Table;
use crate::talkers::Watch;
use crate::timers::Timers;
use crate::{
    Close, Config, ConnectionId, Effect, Effects, Event, Handoff, Listener, SessionId, SessionKey,
    Span, Time,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a timer is for. Slot numbers are checked against the slot's own timer when it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerKey {
    /// The connect timeout, or keep-alive.
    Connection(u32),
    /// Session expiry, will delay, or the deadline of a slow subscriber.
    Session(u32),
    /// `$SYS` is due.
    Sys,
    /// Queues of recovered groups without members are given up.
    Leftovers,
    /// Groups offer again what no member could take.
    Groups,
    /// Sessions of unregistered devices are looked for.
    Gone,
}

/// Why a connection is not read; several may hold at once.
pub(crate) mod pause {
    /// A lane that it feeds is full.
    pub const LANE: u8 = 1;
    /// Too many acknowledgements are owed to it.
    pub const OWED: u8 = 2;
    /// It does not read its own output.
    pub const OUTPUT: u8 = 4;
    /// Too much waits for the store.
    pub const STORE: u8 = 8;
    /// Its request, or its credentials, are looked at.
    pub const CALL: u8 = 16;
}

/// The state and rules of one core's share of devices: a plain value.
pub struct Shard {
    pub(crate) config: Config,
    pub(crate) placement: Placement,
    pub(crate) now: Time,
    /// When this value was made.
    pub(crate) started: Time,
    pub(crate) random: Random,
    pub(crate) connections: Table<Option<Connection>>,
    pub(crate) sessions: Slots<Session>,
    pub(crate) clients: Clients,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) suback_waits: Slots<SubackWait>,
    pub(crate) routes: Routes,
    pub(crate) retained: RetainedStore<Arc<Message>>,
    pub(crate) retained_bytes: usize,
    pub(crate) groups: Groups,
    pub(crate) mesh: Mesh,
    pub(crate) lanes: Lanes,
    pub(crate) pending: PendingTable,
    pub(crate) durable: Durable,
    pub(crate) desk: Desk,
    /// Sessions whose queues are being read from the store.
    pub(crate) loading: Map<SessionKey, SessionId>,
    pub(crate) timers: Timers<TimerKey>,
    pub(crate) counters: Counters,
    pub(crate) deliveries: Deliveries,
    pub(crate) talkers: Watch,
    pub(crate) sys: Sys,
    /// Sessions whose subscriptions are still being removed.
    pub(crate) ending: VecDeque<u32>,
    /// Connections that may be read again and have not gone on yet.
    pub(crate) resumed: VecDeque<ConnectionId>,
    /// Sessions in whose queue very many messages have expired.
    pub(crate) pumping: VecDeque<SessionId>,
    /// Sessions that read retained messages and used up their turn.
    pub(crate) reading: VecDeque<SessionId>,
    /// What clients may have been told of limits.
    pub(crate) announced: Announced,
    /// Slot number from which those are looked for who may not be connected any more.
    pub(crate) sweeping: Option<usize>,
    /// Slot number from which a graceful stop goes on.
    pub(crate) stopping: Option<usize>,
    pub(crate) has_stopped: bool,
    pub(crate) beginning: Beginning,
    /// Kept between publishes so that none allocates.
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) templates: Templates,
    pub(crate) scratch: Vec<u8>,
    pub(crate) forwarded: Vec<u8>,
}

/// Steps of deferred work per [`Event::Tick`].
pub(crate) const STEPS_PER_TICK: usize = 1_000;

impl Shard {
    /// A shard without sessions.
    pub fn new(config: Config, now: Time) -> Shard {
        assert!(
            config.shard.0 < config.shards,
            "a shard is one of its shards"
        );
        let mut random = Random::new(config.seed);
        let mut shard = Shard {
            placement: Placement::new(config.shards, config.placement_seed),
            now,
            started: now,
            connections: Table::default(),
            sessions: Slots::default(),
            clients: Clients::new(random.next()),
            subscriptions: Subscriptions::new(random.next()),
            suback_waits: Slots::default(),
            routes: Routes::new(random.next()),
            retained: RetainedStore::new(random.next()),
            retained_bytes: 0,
            groups: Groups::new(random.next()),
            mesh: Mesh::new(&config, random.next()),
            lanes: Lanes::new(config.shards),
            pending: PendingTable::default(),
            durable: Durable::new(&config),
            desk: Desk::default(),
            loading: map_with_seed(random.next()),
            timers: Timers::new(now),
            counters: Counters::default(),
            deliveries: Deliveries::default(),
            talkers: Watch::new(now),
            sys: Sys::new(&config, now),
            ending: VecDeque::new(),
            resumed: VecDeque::new(),
            pumping: VecDeque::new(),
            reading: VecDeque::new(),
            announced: Announced::new(&config.limits),
            sweeping: None,
            stopping: None,
            has_stopped: false,
            beginning: Beginning::default(),
            recipients: Vec::new(),
            templates: Templates::default(),
            scratch: Vec::new(),
            forwarded: Vec::new(),
            random,
            config,
        };
        shard.schedule_sys();
        shard
    }

    /// The only way in: takes one event, pushes its effects, does bounded work and returns.
    pub fn handle(&mut self, now: Time, event: Event<'_>, effects: &mut Effects) {
        debug_assert!(now >= self.now, "time goes forwards");
        self.now = now;
        match event {
            Event::Received { connection, bytes } => self.on_received(connection, bytes, effects),
            Event::Frame { from, frame } => self.on_frame(from, frame, effects),
            Event::Writable { connection } => self.on_writable(connection, effects),
            Event::Accepted {
                connection,
                listener,
                peer,
            } => {
                self.on_accepted(connection, listener, peer, effects);
            }
            Event::Adopted {
                connection,
                handoff,
            } => {
                self.on_adopted(connection, *handoff, effects);
            }
            Event::Closed { connection } => self.on_closed(connection, effects),
            Event::LaneDrained { to } => self.resume_lane(to, effects),
            Event::Committed { sequence } => self.on_committed(sequence, effects),
            Event::Loaded { session, messages } => self.on_loaded(session, messages, effects),
            Event::Computed { id, outcome } => self.on_computed(id, outcome, effects),
            Event::Asked { id, question } => self.on_asked(id, *question, effects),
            Event::StoreStalled { reason } => self.on_store_stalled(&reason, effects),
            Event::StoreResumed => self.on_store_resumed(effects),
            Event::Tick => self.on_tick(effects),
            Event::Stop => self.stopping = Some(0),
        }
        if !self.resumed.is_empty() {
            self.go_on(effects);
        }
    }

    /// When to call with [`Event::Tick`]; `None` if there is nothing to wait for.
    pub fn next_deadline(&self) -> Option<Time> {
        let is_busy = self.wants_to_begin()
            || !self.ending.is_empty()
            || !self.resumed.is_empty()
            || !self.reading.is_empty()
            || !self.pumping.is_empty()
            || self.durable.wants_load()
            || self.groups.wants_turn()
            || self.mesh.wants_turn()
            || self.sweeping.is_some()
            || (self.stopping.is_some() && !self.has_stopped && !self.waits_for_others())
            || self.lanes.wants_look();
        if is_busy {
            return Some(self.now);
        }
        let deadlines = [
            self.timers.next_deadline().filter(|_| !self.is_beginning()),
            self.retained.next_expiry(),
            self.durable.deadline(self.now),
            self.mesh.next_expiry(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The driver has carried out all effects of a turn; now it is `end`.
    pub fn turned(&mut self, end: Time) {
        self.deliveries.finish(end, &mut self.counters.delivery);
    }

    /// What has been counted so far, gauges brought up to date.
    pub fn counters(&mut self) -> &Counters {
        self.counters.sessions = self.clients.len() as u64;
        self.counters.retained = self.retained.len() as u64;
        self.counters.devices = self.mesh.registry.len() as u64;
        self.counters.device_bytes = self.mesh.registry.bytes() as u64;
        self.counters.devices_online = self.mesh.registry.online();
        &self.counters
    }

    fn on_accepted(
        &mut self,
        id: ConnectionId,
        listener: Listener,
        peer: SocketAddr,
        effects: &mut Effects,
    ) {
        self.counters.sockets_accepted += 1;
        if self.stopping.is_some() {
            effects.push(Effect::Close {
                connection: id,
                how: Close::Abort,
            });
            return;
        }
        self.insert_connection(id, listener, peer);
    }

    fn insert_connection(&mut self, id: ConnectionId, listener: Listener, peer: SocketAddr) {
        let index = id.index as usize;
        while index >= self.connections.len() {
            self.connections.push(None);
        }
        assert!(
            self.connections[index].is_none(),
            "the driver reuses a slot that is in use"
        );
        let mut connection = Connection::new(id.generation, listener, peer, self.now);
        let timeout = self.now + Span::from_ms(self.config.limits.connect_timeout_ms);
        connection.timer = Some(
            self.timers
                .schedule(timeout, TimerKey::Connection(id.index)),
        );
        self.counters.http_connections += u64::from(connection.stage == Stage::Http);
        self.connections[index] = Some(connection);
        self.counters.connections += 1;
    }

    fn on_adopted(&mut self, id: ConnectionId, handoff: Handoff, effects: &mut Effects) {
        if self.stopping.is_some() {
            effects.push(Effect::Close {
                connection: id,
                how: Close::Abort,
            });
            return;
        }
        self.insert_connection(id, handoff.listener, handoff.peer);
        let connection = self.connection_mut(id).expect("just inserted");
        let was_http = connection.stage == Stage::Http;
        connection.stage = Stage::AwaitConnect;
        connection.extra = handoff.extra;
        self.counters.http_connections -= u64::from(was_http);
        self.packets_from(id, handoff.received, effects);
        self.websocket_input(id, &[], effects);
    }

    fn on_closed(&mut self, id: ConnectionId, effects: &mut Effects) {
        self.log_left(id, None, effects);
        if let Some(connection) = self.remove_connection(id, effects)
            && let Some(session) = connection.session()
        {
            self.detach(session, true, effects);
        }
    }

    /// The connection of this id, if it is alive.
    pub(crate) fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(id.index as usize)?.as_mut()?;
        (connection.generation == id.generation).then_some(connection)
    }

    /// The connection of this id, if it is alive.
    pub(crate) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        let connection = self.connections.get(id.index as usize)?.as_ref()?;
        (connection.generation == id.generation).then_some(connection)
    }

    /// The connection at this place, if there is one: its id, and its session if it has one.
    pub(crate) fn connection_at(&self, index: usize) -> Option<(ConnectionId, Option<SessionId>)> {
        let connection = self.connections[index].as_ref()?;
        let id = ConnectionId {
            index: index as u32,
            generation: connection.generation,
        };
        Some((id, connection.session()))
    }

    /// Forgets a connection; its session is the caller's to detach.
    pub(crate) fn remove_connection(
        &mut self,
        id: ConnectionId,
        effects: &mut Effects,
    ) -> Option<Connection> {
        self.connection(id)?;
        self.forget_identity(id, effects);
        let connection = self.connections[id.index as usize].take()?;
        if let Some(timer) = connection.timer {
            self.timers.cancel(timer);
        }
        self.counters.connections -= 1;
        match connection.stage {
            Stage::Http => self.counters.http_connections -= 1,
            Stage::Socket => self.counters.sockets -= 1,
            Stage::Open(_) => {
                self.counters.clients_connected -= 1;
                *self.counters.clients_of(connection.version) -= 1;
                self.counters.clients_websocket -= u64::from(connection.is_websocket());
            }
            Stage::AwaitConnect | Stage::Leaving(_) => {}
        }
        Some(connection)
    }

    /// Closes a connection and, if it has one, detaches its session.
    pub(crate) fn close(
        &mut self,
        id: ConnectionId,
        how: Close,
        with_will: bool,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.remove_connection(id, effects) else {
            return;
        };
        effects.push(Effect::Close {
            connection: id,
            how,
        });
        if let Some(session) = connection.session() {
            self.detach(session, with_will, effects);
        }
    }

    /// Stops reading from a connection for a reason of [`pause`].
    pub(crate) fn pause(&mut self, id: ConnectionId, reason: u8, effects: &mut Effects) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        if connection.paused_for == 0 {
            effects.push(Effect::PauseReading { connection: id });
        }
        connection.paused_for |= reason;
        // While we do not read its acknowledgements nobody may wait for them: two clients that
        // publish to each other would wait for ever.
        let session = connection.session();
        if let (Some(session), true) = (session, connection.is_unread()) {
            self.settle_deferred(session.index, true, effects);
        }
    }

    /// Ends one reason for not reading; goes on with what has arrived meanwhile once none is left.
    pub(crate) fn resume(&mut self, id: ConnectionId, reason: u8, effects: &mut Effects) {
        let now = self.now;
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        if connection.paused_for & reason == 0 {
            return;
        }
        connection.paused_for &= !reason;
        if connection.paused_for != 0 {
            return;
        }
        connection.received_at = now; // Its silence was ours.
        effects.push(Effect::ResumeReading { connection: id });
        self.resumed.push_back(id);
    }

    /// Goes on with what connections have sent while they were paused. Never in the middle of
    /// something else, so that no message is handled inside another.
    fn go_on(&mut self, effects: &mut Effects) {
        for _ in 0..STEPS_PER_TICK {
            let Some(id) = self.resumed.pop_front() else {
                return;
            };
            let Some(connection) = self.connection_mut(id) else {
                continue;
            };
            match connection.stage {
                Stage::Http => {
                    self.serve_http(id, effects);
                    self.hand_off(id, effects);
                }
                Stage::Socket => self.websocket_input(id, &[], effects),
                Stage::AwaitConnect | Stage::Leaving(_) | Stage::Open(_) => {
                    let partial = std::mem::take(&mut connection.partial);
                    self.packets_from(id, partial, effects);
                    self.websocket_input(id, &[], effects);
                    self.hand_off(id, effects);
                }
            }
        }
    }

    /// A lane has room again: the connections that it held up go on.
    pub(crate) fn resume_lane(&mut self, to: crate::ShardId, effects: &mut Effects) {
        for _ in 0..STEPS_PER_TICK {
            let Some(id) = self.lanes.next_resumable(to, effects) else {
                return;
            };
            self.resume(id, pause::LANE, effects);
        }
        self.lanes.look_again(to);
    }

    fn on_writable(&mut self, id: ConnectionId, effects: &mut Effects) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let session = connection.session();
        let stage = connection.stage;
        self.resume(id, pause::OUTPUT, effects);
        if stage == Stage::Http {
            self.on_http_writable(id, effects);
        }
        if let Some(session) = session {
            self.pump(session.index, effects);
            self.pump_reads(session.index, effects);
        }
    }

    fn on_tick(&mut self, effects: &mut Effects) {
        self.go_on_beginning(effects);
        if self.lanes.wants_look() {
            self.lanes.looked();
            for to in 0..self.config.shards {
                self.resume_lane(crate::ShardId(to), effects);
            }
        }
        for _ in 0..STEPS_PER_TICK {
            if self.is_beginning() {
                break;
            }
            let Some(key) = self.timers.pop_expired(self.now) else {
                break;
            };
            match key {
                TimerKey::Connection(index) => self.on_connection_timer(index, effects),
                TimerKey::Session(index) => self.on_session_timer(index, effects),
                TimerKey::Sys => self.on_sys_timer(effects),
                TimerKey::Leftovers => self.drop_leftovers(),
                TimerKey::Groups => self.try_groups_again(),
                TimerKey::Gone => self.on_gone_timer(),
            }
        }
        self.expire_retained();
        self.read_on(effects);
        self.go_on_searching(effects);
        self.end_expired(effects);
        self.go_on_telling(effects);
        self.end_sessions_of_gone(effects);
        self.sweep_on(effects);
        self.pump_on(effects);
        self.drain_groups(effects);
        self.end_some_sessions(effects);
        self.stop_some_connections(effects);
        self.load_spilled(effects);
        self.commit(effects);
    }

    /// Asserts the invariants that span several tables. Costs time: for tests and the simulator.
    pub fn check(&self) {
        self.mesh.tellings.check();
        self.mesh.room.check();
        let mut connected = 0;
        for (index, connection) in self.connections.iter().enumerate() {
            let Some(connection) = connection else {
                continue;
            };
            let Some(id) = connection.session() else {
                continue;
            };
            connected += 1;
            let session = self.sessions.get(id.index, id.generation);
            let session = session.expect("a connection's session lives");
            assert_eq!(session.connection.map(|c| c.index as usize), Some(index));
        }
        assert_eq!(connected, self.counters.clients_connected);
        let (mut subscriptions, mut in_flight) = (0, 0);
        for (index, session) in self.sessions.iter() {
            if let Some(outbound) = &session.outbound {
                outbound.check();
                in_flight += outbound.window.len() as u64;
            }
            if !session.is_ending {
                assert_eq!(
                    self.clients.find(&session.client_id, &self.sessions),
                    Some(index)
                );
                assert!(session.connection.is_some() || session.expiry_s > 0);
            }
            session.subscriptions.for_each(|filter, ()| {
                assert!(
                    self.subscriptions.has(filter, index),
                    "both sides of a subscription"
                );
                subscriptions += 1;
            });
        }
        assert_eq!(subscriptions, self.subscriptions.check());
        assert_eq!(in_flight, self.counters.in_flight);
        self.lanes.check();
        self.mesh.registry.check();
        self.pending.check();
        self.groups.check();
        self.routes.check();
    }
}
