//! Two shards, their drivers, and the lanes between them, in one thread and in virtual time.
//!
//! A driver here does what one in `net` does: an event's list of effects is carried out at once;
//! output and frames leave at the end of a turn, which may have several events; a connection's
//! slot is used again only after that.

use crate::client::{Client, Place};
use mqtt_v5_codec::Version;
use shard::limits::{REPLY_LANE, REQUEST_LANE};
use shard::{
    Anonymous, Close, Computed, Config, ConnectionId, Effect, Effects, Event, Frame, Lane, Limits,
    Listener, Shard, ShardId, Span, Time,
};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};

/// How many shards there are.
pub const SHARDS: usize = 2;
/// Output below which a connection counts as drained.
const LOW_WATER_BYTES: usize = 16 * 1_024;
/// Ticks of one shard at one instant before it counts as spinning.
const TICKS_MAX: u32 = 2_000;
/// Rounds of frames, ticks and output before the shards count as never coming to rest.
const ROUNDS_MAX: u32 = 20_000;
/// What may wait for a connection beyond its limit and one packet: acknowledgements.
const OUTPUT_SLACK_BYTES: usize = 64 * 1_024;
/// Frames that may be staged: what is relayed at QoS 0 is dropped beyond four lanes.
const STAGED_MAX: usize = 6 * REQUEST_LANE;

/// The circumstances of a history.
#[derive(Clone)]
pub struct Setting {
    pub limits: Limits,
    /// Frames that a request lane holds.
    pub lane_frames: usize,
    /// Whether all that is under way arrives after every event.
    pub is_prompt: bool,
}

/// A slot of a driver's connection table.
#[derive(Default)]
struct Slot {
    generation: u32,
    client: Option<usize>,
}

/// A shard and its driver.
struct Core {
    shard: Shard,
    effects: Effects,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots given up in this turn.
    released: Vec<ConnectionId>,
    /// Towards the other shard.
    requests: VecDeque<Frame>,
    replies: VecDeque<Frame>,
    /// Staged frames once did not fit.
    is_blocked: bool,
    /// They have been moved since, and the shard does not know.
    has_drained: bool,
    has_stopped: bool,
    /// Slow work that has no answer yet.
    computes: Vec<u64>,
    ticks: u32,
}

/// The world.
pub struct World {
    now: Time,
    setting: Setting,
    cores: Vec<Core>,
    pub clients: Vec<Client>,
    accepted: usize,
    /// Of everything that left a shard.
    digest: DefaultHasher,
}

impl World {
    pub fn new(setting: Setting, clients: Vec<Client>) -> World {
        let now = Time(0) + Span::from_s(1_700_000_000);
        let cores = (0..SHARDS as u16)
            .map(|index| Core {
                shard: Shard::new(
                    Config {
                        shard: ShardId(index),
                        shards: SHARDS as u16,
                        seed: 5 + u64::from(index),
                        placement_seed: 1,
                        anonymous: Anonymous::Allow,
                        durability: shard::Durability::default(),
                        mesh: shard::MeshConfig::default(),
                        limits: setting.limits.clone(),
                    },
                    now,
                ),
                effects: Effects::new(SHARDS),
                slots: Vec::new(),
                free: Vec::new(),
                released: Vec::new(),
                requests: VecDeque::new(),
                replies: VecDeque::new(),
                is_blocked: false,
                has_drained: false,
                has_stopped: false,
                computes: Vec::new(),
                ticks: 0,
            })
            .collect();
        World {
            now,
            setting,
            cores,
            clients,
            accepted: 0,
            digest: DefaultHasher::new(),
        }
    }

    /// Stands for all that the shards have done.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    pub fn is_stopped(&self) -> bool {
        self.cores.iter().all(|core| core.has_stopped)
    }
}

/// What happens to a client.
impl World {
    /// Connects a client that is not connected; the shards accept in turn.
    pub fn open(&mut self, client: usize) {
        if !matches!(self.clients[client].place, Place::Closed) {
            return;
        }
        let core = self.accepted % SHARDS;
        self.accepted += 1;
        self.clients[client].on_open();
        let connection = self.admit(core, client);
        let listener = self.clients[client].listener;
        let peer = ([127, 0, 0, 1], 40_000 + client as u16).into();
        self.handle(
            core,
            Event::Accepted {
                connection,
                listener,
                peer,
            },
        );
    }

    fn admit(&mut self, core: usize, client: usize) -> ConnectionId {
        let Core {
            slots,
            free,
            effects,
            ..
        } = &mut self.cores[core];
        let index = free.pop().unwrap_or_else(|| {
            slots.push(Slot::default());
            slots.len() as u32 - 1
        });
        let slot = &mut slots[index as usize];
        slot.generation += 1;
        slot.client = Some(client);
        let connection = ConnectionId {
            index,
            generation: slot.generation,
        };
        effects.open(connection);
        self.clients[client].place = Place::At(core, connection);
        connection
    }

    /// The driver reads at most so many bytes of what a client has sent. `at_all_costs`: they were
    /// received before the shard wanted a pause.
    pub fn read(&mut self, client: usize, bytes_max: usize, at_all_costs: bool) {
        let state = &mut self.clients[client];
        let Place::At(core, connection) = state.place else {
            return;
        };
        if state.up.is_empty() || bytes_max == 0 || (state.is_paused && !at_all_costs) {
            return;
        }
        let count = bytes_max.min(state.up.len());
        let bytes: Vec<u8> = state.up.drain(..count).collect();
        let bytes = &bytes[..];
        self.handle(core, Event::Received { connection, bytes });
    }

    /// The client goes away.
    pub fn cut(&mut self, client: usize) {
        match self.clients[client].place {
            Place::Closed => {}
            // The new home will find out for itself.
            Place::Moving(..) => self.clients[client].up.clear(),
            Place::At(core, connection) => {
                self.release(core, connection);
                self.clients[client].on_close();
                self.handle(core, Event::Closed { connection });
            }
        }
    }

    /// The kernel accepts at most so many bytes of output.
    pub fn accept_output(&mut self, client: usize, bytes_max: usize) {
        let state = &mut self.clients[client];
        let count = bytes_max.min(state.unsent.len());
        if count == 0 {
            return;
        }
        let bytes: Vec<u8> = state.unsent.drain(..count).collect();
        let carried = state.carried_bytes.min(count);
        state.carried_bytes -= carried;
        state.receive(&bytes);
        let Place::At(core, connection) = state.place else {
            return;
        };
        let effects = &mut self.cores[core].effects;
        if count > carried && effects.sent(connection, count - carried, LOW_WATER_BYTES) {
            self.handle(core, Event::Writable { connection });
        }
    }

    /// A connection that was handed over arrives.
    pub fn adopt(&mut self, client: usize) {
        let state = &mut self.clients[client];
        match std::mem::replace(&mut state.place, Place::Closed) {
            Place::Moving(core, handoff) if self.cores[core].has_stopped => {
                drop(handoff);
                state.on_close();
            }
            Place::Moving(core, handoff) => {
                let connection = self.admit(core, client);
                self.handle(
                    core,
                    Event::Adopted {
                        connection,
                        handoff,
                    },
                );
            }
            other => state.place = other,
        }
    }
}

/// Events in, effects out.
impl World {
    fn handle(&mut self, core: usize, event: Event<'_>) {
        let is_tick = matches!(event, Event::Tick);
        let now = self.now;
        let own = &mut self.cores[core];
        own.ticks = if is_tick { own.ticks + 1 } else { 0 };
        own.shard.handle(now, event, &mut own.effects);
        own.shard.check();
        let mut list = Vec::new();
        own.effects.take_list(&mut list);
        for effect in list {
            self.apply(core, effect);
        }
        let own = &mut self.cores[core];
        let open = own
            .slots
            .iter()
            .filter(|slot| slot.client.is_some())
            .count();
        assert_eq!(own.shard.counters().connections, open as u64);
        // A webhook, since there are no slow hashes here.
        while let Some(id) = self.cores[core].computes.pop() {
            let outcome = match id % 3 {
                0 => Computed::Busy,
                n => Computed::Called {
                    is_delivered: n == 1,
                },
            };
            self.handle(core, Event::Computed { id, outcome });
        }
    }

    /// The client of a connection that an effect names.
    fn named(&self, core: usize, connection: ConnectionId) -> usize {
        let slot = &self.cores[core].slots[connection.index as usize];
        assert_eq!(
            slot.generation, connection.generation,
            "an effect for one long gone"
        );
        slot.client
            .expect("an effect for a connection that is gone")
    }

    fn apply(&mut self, core: usize, effect: Effect) {
        self.digest.write_u8(core as u8);
        match effect {
            Effect::Close { connection, how } => {
                let client = self.named(core, connection);
                self.digest.write_u32(connection.index);
                if how == Close::Flush {
                    self.take_output(core, connection);
                    let rest = std::mem::take(&mut self.clients[client].unsent);
                    self.clients[client].receive(&rest);
                }
                self.release(core, connection);
                self.clients[client].on_close();
            }
            Effect::PauseReading { connection } => {
                let client = self.named(core, connection);
                assert!(!self.clients[client].is_paused, "paused twice");
                self.clients[client].is_paused = true;
            }
            Effect::ResumeReading { connection } => {
                let client = self.named(core, connection);
                assert!(self.clients[client].is_paused, "resumed twice");
                self.clients[client].is_paused = false;
            }
            Effect::Adopt {
                connection,
                to,
                handoff,
            } => {
                let client = self.named(core, connection);
                assert!(to.index() != core && to.index() < SHARDS, "moved to {to:?}");
                self.take_output(core, connection);
                self.release(core, connection);
                let state = &mut self.clients[client];
                state.carried_bytes = state.unsent.len();
                state.is_paused = false;
                state.place = Place::Moving(to.index(), handoff);
            }
            Effect::Commit(_) | Effect::Load { .. } => panic!("there is no store"),
            Effect::Compute(compute) => self.cores[core].computes.push(compute.id),
            Effect::Answered { .. } => panic!("nobody has asked"),
            Effect::Ready => {}
            Effect::Log(line) => self.digest.write(format!("{line:?}").as_bytes()),
            Effect::Stopped => {
                assert!(!self.cores[core].has_stopped, "stopped twice");
                self.cores[core].has_stopped = true;
            }
        }
    }

    fn release(&mut self, core: usize, connection: ConnectionId) {
        let own = &mut self.cores[core];
        own.effects.close(connection);
        own.slots[connection.index as usize].client = None;
        own.released.push(connection);
    }

    fn take_output(&mut self, core: usize, connection: ConnectionId) {
        let own = &mut self.cores[core];
        let slot = &own.slots[connection.index as usize];
        let Some(client) = slot
            .client
            .filter(|_| slot.generation == connection.generation)
        else {
            return;
        };
        let pending = own.effects.pending_bytes(connection);
        let limits = &self.setting.limits;
        let bound = limits.output_bytes_max + limits.packet_bytes_max as usize;
        assert!(
            pending <= bound + OUTPUT_SLACK_BYTES,
            "{pending} B of output wait"
        );
        let output = own.effects.take_output(connection);
        self.digest.write(&output);
        self.clients[client].unsent.extend_from_slice(&output);
        own.effects.recycle(output);
    }

    /// The end of a shard's turn: output and frames leave.
    pub fn end_turn(&mut self, core: usize) {
        while let Some(connection) = self.cores[core].effects.next_dirty() {
            self.take_output(core, connection);
            let slot = &self.cores[core].slots[connection.index as usize];
            if let Some(client) = slot.client
                && !self.clients[client].is_stalled
            {
                self.accept_output(client, usize::MAX);
            }
        }
        let own = &mut self.cores[core];
        let me = ShardId(core as u16);
        let other = ShardId(1 - core as u16);
        assert!(
            own.effects.staged(me, Lane::Request).is_empty(),
            "a frame to itself"
        );
        assert!(
            own.effects.staged(me, Lane::Reply).is_empty(),
            "a reply to itself"
        );
        let replies = own.effects.staged(other, Lane::Reply);
        own.replies.append(replies);
        assert!(own.replies.len() <= REPLY_LANE, "the reply lane is full");
        let requests = own.effects.staged(other, Lane::Request);
        assert!(
            requests.len() <= STAGED_MAX,
            "{} frames staged",
            requests.len()
        );
        let room = self.setting.lane_frames.saturating_sub(own.requests.len());
        own.requests
            .extend(requests.drain(..room.min(requests.len())));
        if !requests.is_empty() {
            own.is_blocked = true;
        } else if std::mem::take(&mut own.is_blocked) {
            own.has_drained = true;
        }
        for connection in own.released.drain(..) {
            let pending = own.effects.pending_bytes(connection);
            assert_eq!(pending, 0, "written to after its end");
            own.free.push(connection.index);
        }
    }

    /// Takes at most so many frames that the other shard sent.
    pub fn take_frames(&mut self, core: usize, lane: Lane, count: usize) -> bool {
        let mut any = false;
        for _ in 0..count {
            let from = &mut self.cores[1 - core];
            let frame = match lane {
                Lane::Request => from.requests.pop_front(),
                Lane::Reply => from.replies.pop_front(),
            };
            let Some(frame) = frame else { break };
            any = true;
            assert_eq!(frame.lane(), lane);
            let from = ShardId(1 - core as u16);
            self.handle(core, Event::Frame { from, frame });
        }
        any
    }

    /// Tells a shard what its driver has to say: a lane has drained, a deadline has passed.
    pub fn own_events(&mut self, core: usize) -> bool {
        let mut any = false;
        if std::mem::take(&mut self.cores[core].has_drained) {
            any = true;
            let to = ShardId(1 - core as u16);
            self.handle(core, Event::LaneDrained { to });
        }
        let deadline = self.cores[core].shard.next_deadline();
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            any = true;
            self.handle(core, Event::Tick);
            assert!(self.cores[core].ticks <= TICKS_MAX, "spins on its deadline");
        }
        any
    }

    pub fn stop(&mut self, core: usize) {
        self.handle(core, Event::Stop);
    }
}

/// Time and rest.
impl World {
    pub fn pass(&mut self, span: Span) {
        self.now = self.now + span;
        self.cores.iter_mut().for_each(|core| core.ticks = 0);
    }

    /// Goes on to the next deadline of a shard, if it has one.
    pub fn pass_to_deadline(&mut self, core: usize) {
        if let Some(deadline) = self.cores[core].shard.next_deadline() {
            self.pass(deadline.since(self.now));
        }
    }

    /// Lets everything arrive that is under way, but for what clients hold back or do not read.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut any = false;
            for client in 0..self.clients.len() {
                any |= matches!(self.clients[client].place, Place::Moving(..));
                self.adopt(client);
                let state = &self.clients[client];
                if !state.is_held && !state.is_paused && !state.up.is_empty() {
                    any |= matches!(state.place, Place::At(..));
                    self.read(client, usize::MAX, false);
                }
                let state = &self.clients[client];
                if !state.is_stalled && !state.unsent.is_empty() {
                    any = true;
                    self.accept_output(client, usize::MAX);
                }
            }
            for core in 0..SHARDS {
                any |= self.own_events(core);
                any |= self.take_frames(core, Lane::Reply, usize::MAX);
                any |= self.take_frames(core, Lane::Request, usize::MAX);
                self.end_turn(core);
            }
            if !any && self.cores.iter().all(Core::is_idle) {
                return;
            }
        }
        panic!("the shards never come to rest");
    }

    /// What follows an event, in a world where nothing is slow.
    pub fn after_event(&mut self) {
        if self.setting.is_prompt {
            self.settle();
        }
    }

    /// Nobody may be left behind: whoever is not read must be read again once all that is slow has
    /// been given up on, whoever comes is served, and a stop comes to an end.
    pub fn finish(&mut self, newcomer: usize) {
        for client in &mut self.clients {
            (client.is_held, client.is_stalled) = (false, false);
        }
        self.settle_until(|world| !world.clients.iter().any(|client| client.is_paused));
        let left_behind = self.clients.iter().position(|client| client.is_paused);
        assert_eq!(left_behind, None, "not read any more");
        self.serve(newcomer);
        for core in 0..SHARDS {
            if !self.cores[core].has_stopped {
                self.stop(core);
            }
        }
        self.settle();
        assert!(self.is_stopped(), "a stop that does not end");
        for client in &self.clients {
            assert!(
                matches!(client.place, Place::Closed),
                "connected after the stop"
            );
        }
    }

    /// Lets time pass until slow subscribers have been given up on; each may make another one slow.
    fn settle_until(&mut self, is_done: impl Fn(&World) -> bool) {
        self.settle();
        for _ in 0..2 * self.clients.len() {
            if is_done(self) {
                break;
            }
            self.pass(Span::from_ms(self.setting.limits.slow_subscriber_ms + 10));
            self.settle();
        }
    }

    fn serve(&mut self, newcomer: usize) {
        let kinds = |world: &World| world.clients[newcomer].seen;
        let bytes_max = self.setting.limits.packet_bytes_max as usize;
        self.clients[newcomer] = Client::new(Version::V5, Listener::Mqtt, bytes_max);
        self.open(newcomer);
        self.clients[newcomer].send(&crate::packets::plain_connect("last"));
        self.settle();
        // A full or stopping shard refuses it.
        if matches!(self.clients[newcomer].place, Place::Closed) {
            return;
        }
        assert_eq!(kinds(self), 1 << 2, "CONNACK");
        self.clients[newcomer].send(&crate::packets::plain_subscribe("last/+"));
        // Its route may have to wait behind messages for a slow subscriber over there.
        self.settle_until(|world| kinds(world) == 1 << 2 | 1 << 9);
        assert_eq!(kinds(self), 1 << 2 | 1 << 9, "SUBACK");
        self.clients[newcomer].send(&crate::packets::plain_publish("last/1"));
        let all = 1 << 2 | 1 << 9 | 1 << 3 | 1 << 4;
        self.settle_until(|world| kinds(world) == all);
        assert_eq!(kinds(self), all, "PUBLISH and PUBACK");
    }
}

impl Core {
    /// Nothing waits to leave or to be told.
    fn is_idle(&self) -> bool {
        self.effects.is_empty()
            && self.requests.is_empty()
            && self.replies.is_empty()
            && !self.has_drained
    }
}
