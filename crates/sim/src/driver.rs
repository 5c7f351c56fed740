//! The drivers and the rings between shards, as the contract in `shard` describes them.
//!
//! One [`Station`] per shard owns its `Effects` and the slots of its connections. After the events
//! of a turn it empties the effects: frames go into the rings as far as there is room, the list is
//! carried out in order, and new output is taken.

use crate::chance::Chance;
use crate::helpers::Helpers;
use crate::history::brief;
use crate::keep::{Keep, Load};
use crate::link::{LinkId, Place};
use crate::plan::Plan;
use crate::world::{Note, What, World};
use anyhow::{Context, Result, bail, ensure};
use shard::console::{Question, Report};
use shard::limits::{REPLY_LANE, REQUESTS_MAX};
use shard::{
    Anonymous, Change, Close, Config, ConnectionId, Effect, Effects, Event, Frame, Handoff, Lane,
    Shard, ShardId, Span, Time,
};
use std::collections::VecDeque;

/// How late a tick may be, and how much later one in a while.
const LATE_US: u64 = 2_000;
const VERY_LATE_US: u64 = 100_000;
/// The most that a tick is late, and with it what a shard does at a deadline, such as a commit.
pub const LATEST: Span = Span(LATE_US + VERY_LATE_US);
/// Ticks of one shard at one instant before it counts as spinning.
const TICKS_MAX: u32 = 2_000;
/// What may wait for a connection beyond its limit: acknowledgements, which are owed, and the last
/// packet that still fitted.
const OUTPUT_SLACK_BYTES: usize = 16 * 1_024;
/// Frames that may be staged for one shard: those that hold a credit, those that a few thousand
/// subscriptions and messages at QoS 0 leave while they wait for room, and the messages that a
/// connection's end gives back to groups.
const STAGED_MAX: usize = 16 * REQUESTS_MAX;

/// A slot of a driver's connection table.
#[derive(Debug)]
struct Slot {
    generation: u32,
    link: Option<LinkId>,
}

/// A shard with what its driver keeps.
pub struct Station {
    shard: Shard,
    pub(crate) effects: Effects,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Per target: staged frames did not all fit.
    blocked: Vec<bool>,
    /// Per target: they have all been moved since; the shard is to be told.
    drained: Vec<bool>,
    is_turn_due: bool,
    tick_at: Option<Time>,
    ticks: (Time, u32),
    /// The last time at which it had no deadline behind it.
    pub(crate) settled_at: Time,
    /// Where its commits go, if anything is kept.
    pub(crate) keep: Option<Keep>,
    /// Where its slow work goes.
    helpers: Helpers,
    /// It has told the others what it recovered.
    pub(crate) is_ready: bool,
}

impl std::fmt::Debug for Station {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Station")
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}

/// The two lanes from one shard to another.
#[derive(Debug)]
pub struct Ring {
    requests: VecDeque<Frame>,
    replies: VecDeque<Frame>,
    is_request_due: bool,
    is_reply_due: bool,
    /// How much faster than the plan's delay each lane is: nothing is promised across lanes.
    request_speed: u64,
    reply_speed: u64,
}

impl Ring {
    /// An empty one.
    pub fn new(chance: &mut Chance) -> Ring {
        Ring {
            requests: VecDeque::new(),
            replies: VecDeque::new(),
            is_request_due: false,
            is_reply_due: false,
            request_speed: chance.pick(&[1, 1, 20, 1_000]),
            reply_speed: chance.pick(&[1, 1, 20, 1_000]),
        }
    }

    fn lane(&mut self, lane: Lane) -> (&mut VecDeque<Frame>, &mut bool) {
        match lane {
            Lane::Request => (&mut self.requests, &mut self.is_request_due),
            Lane::Reply => (&mut self.replies, &mut self.is_reply_due),
        }
    }
}

impl Station {
    /// A new shard and its driver.
    pub fn new(shard: ShardId, plan: &Plan, seed: u64, now: Time) -> Station {
        let config = Config {
            shard,
            shards: plan.shards,
            seed,
            placement_seed: plan.placement_seed,
            anonymous: Anonymous::Allow,
            durability: plan.durability.clone(),
            mesh: crate::mesh::config(seed),
            limits: plan.limits.clone(),
        };
        let shards = usize::from(plan.shards);
        Station {
            shard: Shard::new(config, now),
            effects: Effects::new(shards),
            slots: Vec::new(),
            free: Vec::new(),
            blocked: vec![false; shards],
            drained: vec![false; shards],
            is_turn_due: false,
            tick_at: None,
            ticks: (now, 0),
            settled_at: now,
            keep: None,
            helpers: Helpers::default(),
            is_ready: false,
        }
    }

    /// Gives the shard a record of a former process.
    pub(crate) fn recover(&mut self, change: Change) -> Result<()> {
        self.shard.recover(change).map_err(anyhow::Error::msg)
    }

    /// The shard has all records.
    pub(crate) fn begin(&mut self, alive: Time) {
        self.shard.begin(alive);
    }

    /// Names a connection, in a slot that may have been used before.
    pub fn open(&mut self, link: LinkId) -> ConnectionId {
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        if index as usize == self.slots.len() {
            self.slots.push(Slot {
                generation: 0,
                link: None,
            });
        }
        let slot = &mut self.slots[index as usize];
        slot.generation += 1;
        slot.link = Some(link);
        let connection = ConnectionId {
            index,
            generation: slot.generation,
        };
        self.effects.open(connection);
        connection
    }

    /// Forgets a connection whose id is dead.
    pub fn release(&mut self, connection: ConnectionId) {
        self.effects.close(connection);
        let slot = &mut self.slots[connection.index as usize];
        assert_eq!(slot.generation, connection.generation, "released once");
        slot.link = None;
        self.free.push(connection.index);
    }

    fn link(&self, connection: ConnectionId) -> Option<LinkId> {
        let slot = self.slots.get(connection.index as usize)?;
        if slot.generation == connection.generation {
            slot.link
        } else {
            None
        }
    }
}

/// Events in, effects out.
impl World {
    /// Hands a shard an event; [`World::turn`] follows.
    pub(crate) fn handle(&mut self, shard: ShardId, event: Event<'_>) {
        self.history.mix_number(u64::from(shard.0) + 1);
        if let Event::Received { bytes, .. } = &event {
            self.history.mix(bytes);
        }
        let station = &mut self.stations[shard.index()];
        station.shard.handle(self.now, event, &mut station.effects);
    }

    /// Asks a shard something that changes nothing and is answered at once. Nobody else notices.
    pub(crate) fn ask(&mut self, shard: ShardId, question: Question) -> Result<Report> {
        let station = &mut self.stations[shard.index()];
        let (id, question) = (0, Box::new(question));
        let event = Event::Asked { id, question };
        station.shard.handle(self.now, event, &mut station.effects);
        let mut list = Vec::new();
        station.effects.take_list(&mut list);
        match list.pop() {
            Some(Effect::Answered { id: 0, report }) if list.is_empty() => Ok(*report),
            last => bail!(
                "shard {}: a question is answered with {last:?} after {list:?}",
                shard.0
            ),
        }
    }

    /// Carries out what a shard wants.
    pub(crate) fn turn(&mut self, shard: ShardId) -> Result<()> {
        self.stations[shard.index()].shard.check();
        self.stations[shard.index()].shard.turned(self.now);
        let mut list = Vec::new();
        self.stations[shard.index()].effects.take_list(&mut list);
        for effect in list {
            self.carry_out(shard, effect)?;
        }
        while let Some(connection) = self.stations[shard.index()].effects.next_dirty() {
            self.take_output(shard, connection)?;
        }
        self.flush_frames(shard)?;
        self.schedule_tick(shard);
        Ok(())
    }

    fn carry_out(&mut self, shard: ShardId, effect: Effect) -> Result<()> {
        match effect {
            Effect::Close { connection, how } => self.close(shard, connection, how)?,
            Effect::PauseReading { connection } => {
                let link = self.open_link(shard, connection, "pause")?;
                self.links[link.0].is_paused = true;
                self.links[link.0].has_grace = self.chance.one_in(4);
            }
            Effect::ResumeReading { connection } => {
                let link = self.open_link(shard, connection, "resume")?;
                self.links[link.0].is_paused = false;
                self.links[link.0].heard_at = self.now;
                self.schedule_up(link);
            }
            Effect::Adopt {
                connection,
                to,
                handoff,
            } => {
                self.move_away(shard, connection, to, handoff)?;
            }
            Effect::Commit(commit) => {
                if self.history.is_recording() {
                    let line = brief(&commit, 6_000);
                    self.say(format_args!("shard {} commits {line}", shard.0));
                }
                self.keep(shard)?.submit(commit)?;
                let delay_us = self.commit_delay();
                self.schedule(delay_us, What::Committed(shard));
            }
            Effect::Load {
                session,
                after,
                messages_max,
                bytes_max,
            } => {
                self.keep(shard)?.ask(Load {
                    session,
                    after,
                    messages_max,
                    bytes_max,
                })?;
                let delay_us = self.commit_delay();
                self.schedule(delay_us, What::Loaded(shard));
            }
            Effect::Compute(compute) => {
                self.stations[shard.index()].helpers.submit(compute);
                let delay_us = self.commit_delay();
                self.schedule(delay_us, What::Computed(shard));
            }
            Effect::Answered { .. } => bail!("shard {} answers a question nobody asked", shard.0),
            Effect::Ready => self.ready(shard),
            Effect::Log(line) => self.say(format_args!("shard {} logs {line:?}", shard.0)),
            Effect::Stopped => self.notes.push_back(Note::Stopped(shard)),
        }
        Ok(())
    }

    pub(crate) fn keep(&mut self, shard: ShardId) -> Result<&mut Keep> {
        let keep = &mut self.stations[shard.index()].keep;
        keep.as_mut()
            .with_context(|| format!("shard {} asks for a store, and has none", shard.0))
    }

    pub(crate) fn commit_delay(&mut self) -> u64 {
        let max = if self.is_calm {
            50
        } else {
            self.plan.commit_us
        };
        self.chance.delay(max) + 1
    }

    /// A helper has something to say.
    pub(crate) fn compute(&mut self, shard: ShardId) -> Result<()> {
        let helpers = &mut self.stations[shard.index()].helpers;
        if let Some((id, outcome)) = helpers.answer(&mut self.chance) {
            self.handle(shard, Event::Computed { id, outcome });
        }
        self.turn(shard)
    }

    fn open_link(&self, shard: ShardId, connection: ConnectionId, what: &str) -> Result<LinkId> {
        match self.stations[shard.index()].link(connection) {
            Some(link) => Ok(link),
            None => bail!(
                "shard {}: {what} of a dead connection {connection:?}",
                shard.0
            ),
        }
    }

    fn close(&mut self, shard: ShardId, connection: ConnectionId, how: Close) -> Result<()> {
        let link = self.open_link(shard, connection, "close")?;
        self.say(format_args!(
            "shard {} closes link {}: {how:?}",
            shard.0, link.0
        ));
        if how == Close::Flush {
            self.take_output(shard, connection)?;
        }
        self.stations[shard.index()].release(connection);
        let state = &mut self.links[link.0];
        state.up.clear();
        state.carried_bytes = state.unsent.len();
        state.place = Place::Draining;
        if how == Close::Abort {
            state.unsent.clear();
            state.down.clear();
            state.carried_bytes = 0;
            state.place = Place::Gone;
        }
        self.notes.push_back(Note::Closed(link, how));
        self.schedule_kernel(link);
        self.schedule_down(link);
        Ok(())
    }

    fn move_away(
        &mut self,
        shard: ShardId,
        connection: ConnectionId,
        to: ShardId,
        handoff: Box<Handoff>,
    ) -> Result<()> {
        let link = self.open_link(shard, connection, "adopt")?;
        ensure!(
            to != shard,
            "shard {} hands link {} to itself",
            shard.0,
            link.0
        );
        ensure!(to.0 < self.plan.shards, "there is no shard {}", to.0);
        self.say(format_args!(
            "shard {} hands link {} to shard {}",
            shard.0, link.0, to.0
        ));
        self.take_output(shard, connection)?;
        self.stations[shard.index()].release(connection);
        let state = &mut self.links[link.0];
        state.carried_bytes = state.unsent.len();
        state.is_paused = false;
        state.place = Place::Moving(to, handoff);
        let delay_us = self.turn_delay();
        self.schedule(delay_us, What::Adopt(link));
        Ok(())
    }

    fn take_output(&mut self, shard: ShardId, connection: ConnectionId) -> Result<()> {
        // It may have been closed in this turn, after it was written to.
        let Some(link) = self.stations[shard.index()].link(connection) else {
            return Ok(());
        };
        let effects = &mut self.stations[shard.index()].effects;
        let pending = effects.pending_bytes(connection);
        let output = effects.take_output(connection);
        let bound = self.plan.limits.output_bytes_max
            + self.plan.limits.packet_bytes_max as usize
            + OUTPUT_SLACK_BYTES;
        ensure!(
            pending <= bound,
            "link {}: {pending} B of output wait",
            link.0
        );
        if output.is_empty() {
            return Ok(());
        }
        self.history.mix_number(link.0 as u64);
        self.history.mix(&output);
        self.links[link.0].unsent.extend(&output);
        self.notes.push_back(Note::Emitted(link, output));
        self.schedule_kernel(link);
        Ok(())
    }

    /// Messages that shards have counted as dropped.
    pub fn dropped(&mut self) -> u64 {
        let stations = self.stations.iter_mut();
        let dropped = stations.map(|station| {
            let counters = station.shard.counters();
            counters.dropped_slow
                + counters.dropped_queue_full
                + counters.dropped_lane_full
                + counters.dropped_expired
                + counters.dropped_retained_full
        });
        self.dropped_before + dropped.sum::<u64>()
    }

    /// Tells all shards to stop.
    ///
    /// # Errors
    /// A shard broke its contract.
    pub fn stop(&mut self) -> Result<()> {
        self.stopped_at = self.now;
        for shard in (0..self.plan.shards).map(ShardId) {
            self.say(format_args!("shard {} is told to stop", shard.0));
            self.handle(shard, Event::Stop);
            self.turn(shard)?;
        }
        Ok(())
    }
}

/// Time and rings.
impl World {
    fn schedule_tick(&mut self, shard: ShardId) {
        let now = self.now;
        // Until all shards know of each other their timers wait.
        let has_begun = !self.plan.is_durable() || self.begun == self.rings.len();
        let station = &mut self.stations[shard.index()];
        let deadline = station.shard.next_deadline();
        if has_begun && deadline.is_none_or(|deadline| deadline > now) {
            station.settled_at = now;
        }
        let Some(deadline) = deadline else { return };
        if station.tick_at.is_some_and(|at| at <= deadline) {
            return;
        }
        station.tick_at = Some(deadline);
        let mut late_us = self.chance.delay(LATE_US);
        if self.is_calm {
            late_us = 0;
        } else if deadline <= now {
            // It has more to do: its driver comes round without sleeping.
            late_us = self.chance.delay(50);
        } else if self.chance.one_in(50) {
            late_us += VERY_LATE_US;
        }
        let delay_us = deadline.since(self.now).0 + late_us;
        self.schedule(delay_us, What::Tick(shard));
    }

    pub(crate) fn tick(&mut self, shard: ShardId) -> Result<()> {
        let station = &mut self.stations[shard.index()];
        if station.tick_at.is_some_and(|at| at > self.now) {
            // It was for a deadline that an earlier tick has seen to, and the next has its own.
            return Ok(());
        }
        station.tick_at = None;
        if station
            .shard
            .next_deadline()
            .is_some_and(|deadline| deadline <= self.now)
        {
            station.ticks = match station.ticks {
                (at, count) if at == self.now => (at, count + 1),
                _ => (self.now, 1),
            };
            ensure!(
                station.ticks.1 <= TICKS_MAX,
                "shard {} spins on its deadline",
                shard.0
            );
            self.handle(shard, Event::Tick);
        }
        self.turn(shard)
    }

    /// How long a driver takes to come round.
    fn turn_delay(&mut self) -> u64 {
        let max = if self.is_calm {
            20
        } else {
            self.plan.lane_delay_us
        };
        self.chance.delay(max) + 1
    }

    fn schedule_ring(&mut self, ring_index: usize, lane: Lane) {
        let ring = &self.rings[ring_index];
        let speed = match lane {
            Lane::Request => ring.request_speed,
            Lane::Reply => ring.reply_speed,
        };
        let delay_us = self.turn_delay() / speed;
        let is_reply = lane == Lane::Reply;
        let ring = ring_index;
        self.schedule(delay_us, What::Ring { ring, is_reply });
    }

    /// Moves staged frames into the rings, as far as there is room.
    fn flush_frames(&mut self, shard: ShardId) -> Result<()> {
        let shards = self.plan.shards;
        for to in (0..shards).map(ShardId) {
            let own = &mut self.stations[shard.index()];
            if to == shard {
                let is_idle = own.effects.staged(to, Lane::Request).is_empty()
                    && own.effects.staged(to, Lane::Reply).is_empty();
                ensure!(is_idle, "shard {} sends itself a frame", shard.0);
                continue;
            }
            let staged = own.effects.staged_requests(to);
            ensure!(
                staged <= STAGED_MAX,
                "shard {}: {staged} frames staged",
                shard.0
            );
            self.flush_lane(shard, to, Lane::Request)?;
            self.flush_lane(shard, to, Lane::Reply)?;
        }
        Ok(())
    }

    fn flush_lane(&mut self, shard: ShardId, to: ShardId, lane: Lane) -> Result<()> {
        let ring_index = shard.index() * usize::from(self.plan.shards) + to.index();
        let own = &mut self.stations[shard.index()];
        let staged = own.effects.staged(to, lane);
        let (ring, is_due) = self.rings[ring_index].lane(lane);
        let capacity = match lane {
            Lane::Request => self.plan.lane_capacity,
            Lane::Reply => REPLY_LANE,
        };
        while ring.len() < capacity
            && let Some(frame) = staged.pop_front()
        {
            ring.push_back(frame);
        }
        let is_left = !staged.is_empty();
        ensure!(
            !is_left || lane == Lane::Request,
            "the reply lane to shard {} is full",
            to.0
        );
        if lane == Lane::Request {
            if is_left {
                own.blocked[to.index()] = true;
            } else if std::mem::take(&mut own.blocked[to.index()]) {
                own.drained[to.index()] = true;
            }
        }
        let is_new = !ring.is_empty() && !std::mem::replace(is_due, !ring.is_empty() || *is_due);
        if is_new {
            self.schedule_ring(ring_index, lane);
        }
        if self.stations[shard.index()].drained[to.index()] {
            self.schedule_turn(shard);
        }
        Ok(())
    }

    fn schedule_turn(&mut self, shard: ShardId) {
        if !std::mem::replace(&mut self.stations[shard.index()].is_turn_due, true) {
            let delay_us = self.turn_delay();
            self.schedule(delay_us, What::Turn(shard));
        }
    }

    /// The driver's turn without news: waiting frames move on, and the shard hears of it.
    pub(crate) fn turn_lanes(&mut self, shard: ShardId) -> Result<()> {
        self.stations[shard.index()].is_turn_due = false;
        self.flush_frames(shard)?;
        for to in (0..self.plan.shards).map(ShardId) {
            if std::mem::take(&mut self.stations[shard.index()].drained[to.index()]) {
                self.say(format_args!(
                    "shard {}: lane to {} has drained",
                    shard.0, to.0
                ));
                self.handle(shard, Event::LaneDrained { to });
            }
        }
        self.turn(shard)
    }

    /// A shard takes some frames from a lane.
    pub(crate) fn take_frames(&mut self, ring_index: usize, lane: Lane) -> Result<()> {
        let shards = usize::from(self.plan.shards);
        let from = ShardId((ring_index / shards) as u16);
        let to = ShardId((ring_index % shards) as u16);
        let batch = self.chance.pick(&[1, 1, 2, 16, 1_024]);
        for _ in 0..batch {
            let Some(frame) = self.rings[ring_index].lane(lane).0.pop_front() else {
                break;
            };
            if self.history.is_recording() {
                self.say(format_args!(
                    "shard {} to {}: {}",
                    from.0,
                    to.0,
                    brief(&frame, 160)
                ));
            }
            self.begun += usize::from(matches!(frame, Frame::Begun));
            self.handle(to, Event::Frame { from, frame });
        }
        self.turn(to)?;
        if self.stations[from.index()].blocked[to.index()] {
            self.schedule_turn(from);
        }
        let (ring, is_due) = self.rings[ring_index].lane(lane);
        *is_due = !ring.is_empty();
        if *is_due {
            self.schedule_ring(ring_index, lane);
        }
        Ok(())
    }
}
