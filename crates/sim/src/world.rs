//! The world around the shards: virtual time, connections, and what happens next.
//!
//! Everything that is under way is an entry of one queue, ordered by time and, within an instant,
//! by chance. A step takes the first entry and carries it out; what it caused is told to the
//! checker and to the clients as [`Note`]s, in order. The part of it that plays the drivers and
//! the rings is in `driver.rs`.
//!
//! Bounded by: the steps of the run; each entry belongs to a connection, a ring, a shard, or a
//! client, and each of these has a fixed number of entries at a time.

use crate::chance::Chance;
use crate::data::Data;
use crate::driver::{Ring, Station};
use crate::history::{History, Recording};
use crate::link::{Leave, Link, LinkId, Place};
use crate::plan::Plan;
use crate::records::Records;
use anyhow::Result;
use mqtt_v5_codec::Version;
use shard::{Close, Event, Lane, Listener, ShardId, Time};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// When every run begins.
const EPOCH: Time = Time(1_700_000_000_000_000);

/// What a client asked to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// To do something of its own.
    Act,
    /// To answer what it received.
    Answer,
    /// To show that it is alive.
    Ping,
    /// To connect.
    Connect,
}

/// An entry of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A driver accepts.
    Accept(LinkId),
    /// A connection arrives at its home.
    Adopt(LinkId),
    /// A driver reads.
    Up(LinkId),
    /// A kernel accepts output.
    Kernel(LinkId),
    /// A client reads.
    Down(LinkId),
    /// A shard takes frames from a ring.
    Ring {
        /// Index of the ring.
        ring: usize,
        /// Its reply lane.
        is_reply: bool,
    },
    /// A driver moves waiting frames into its rings.
    Turn(ShardId),
    /// A deadline of a shard.
    Tick(ShardId),
    /// A commit of a shard gets durable.
    Committed(ShardId),
    /// A helper of a shard has an answer.
    Computed(ShardId),
    /// A shard is given messages of a queue.
    Loaded(ShardId),
    /// There is room on all disks again.
    Room,
    /// The process starts again.
    Start,
    /// A client's wish; `turn` is the number of its connection, so that old wishes are ignored.
    Wake {
        /// Which client.
        client: usize,
        /// What for.
        wake: Wake,
        /// Of which connection.
        turn: u64,
    },
}

/// What a step caused, as seen by the checker and the clients.
#[derive(Debug)]
pub enum Note {
    /// Bytes of a client reached a shard.
    Delivered(LinkId, Vec<u8>),
    /// A shard sent bytes.
    Emitted(LinkId, Vec<u8>),
    /// A shard was told that the connection is gone.
    Lost(LinkId),
    /// A shard closed the connection.
    Closed(LinkId, Close),
    /// Bytes reached the client.
    Arrived(LinkId, Vec<u8>),
    /// The client sees that the connection has ended.
    Ended(LinkId),
    /// A shard has stopped.
    Stopped(ShardId),
    /// All shards have recovered.
    Up,
    /// A shard was told that its store cannot write.
    Stalled(ShardId),
    /// And that it can again.
    Resumed(ShardId),
}

/// The world.
#[derive(Debug)]
pub struct World {
    /// Virtual time.
    pub now: Time,
    /// Entries carried out.
    pub step: u64,
    /// All that is random.
    pub chance: Chance,
    /// What happened.
    pub history: History,
    /// The circumstances.
    pub plan: Plan,
    /// Nothing is slow or cut any more.
    pub is_calm: bool,
    /// Every connection of the run.
    pub links: Vec<Link>,
    /// Told and not yet read.
    pub notes: VecDeque<Note>,
    pub(crate) stations: Vec<Station>,
    pub(crate) rings: Vec<Ring>,
    queue: BinaryHeap<Reverse<(Time, u32, u64, What)>>,
    entries: u64,
    /// Clients are let in.
    pub(crate) is_up: bool,
    /// What stores have, while there is no process.
    pub(crate) kept: Vec<Records>,
    /// Where the real stores are, if there are any.
    pub(crate) data: Option<Data>,
    /// Messages that shards of former processes have counted as dropped.
    pub(crate) dropped_before: u64,
    /// How many shards have heard that another is ready; each counts for itself, too.
    pub(crate) begun: usize,
    /// When shards were last told to stop.
    pub(crate) stopped_at: Time,
    /// Times in which nothing was written: they were skipped, or a disk was full.
    pub(crate) unwritten: Vec<(Time, Time)>,
    /// Since when the disk of each shard has been full, the last time.
    pub(crate) fulls: Vec<Option<Time>>,
    /// Entries in the queue that are not merely somebody's clock.
    pub(crate) under_way: usize,
}

/// Whether an entry is work, not somebody's clock.
fn is_work(what: What) -> bool {
    !matches!(
        what,
        What::Tick(_)
            | What::Room
            | What::Wake {
                wake: Wake::Act | Wake::Ping,
                ..
            }
    )
}

impl World {
    /// The world of a plan, with its shards and without connections.
    pub fn new(plan: Plan, chance: Chance, recording: Recording) -> World {
        let mut chance = chance;
        let is_durable = plan.is_durable();
        // With stores it begins as it goes on: with a start.
        let shards = if is_durable { 0 } else { plan.shards };
        let stations = (0..shards)
            .map(|index| Station::new(ShardId(index), &plan, chance.draw(), EPOCH))
            .collect();
        let count = usize::from(shards).pow(2);
        let rings = (0..count).map(|_| Ring::new(&mut chance)).collect();
        let kept = (0..plan.shards).map(|_| Records::default());
        let kept = kept.filter(|_| is_durable).collect();
        let mut world = World {
            now: EPOCH,
            step: 0,
            chance,
            history: History::new(recording),
            data: plan.has_disks.then(|| Data::new(&plan)),
            plan,
            is_calm: false,
            links: Vec::new(),
            notes: VecDeque::new(),
            stations,
            rings,
            queue: BinaryHeap::new(),
            entries: 0,
            is_up: !is_durable,
            kept,
            dropped_before: 0,
            begun: 0,
            stopped_at: EPOCH,
            unwritten: Vec::new(),
            fulls: Vec::new(),
            under_way: 0,
        };
        if is_durable {
            world.schedule(1, What::Start);
        }
        world
    }

    /// A process that is to start some time starts now.
    pub fn hurry_start(&mut self) {
        let before = self.queue.len();
        self.queue.retain(|entry| entry.0.3 != What::Start);
        if self.queue.len() < before {
            self.under_way -= 1;
            self.schedule(1, What::Start);
        }
    }

    /// Nobody makes room any more who was about to.
    pub(crate) fn forget_room(&mut self) {
        self.queue.retain(|entry| entry.0.3 != What::Room);
    }

    /// What a process had to do goes with it.
    pub(crate) fn forget_work(&mut self) {
        let queue = std::mem::take(&mut self.queue).into_vec();
        let others = |Reverse((_, _, _, what)): &Reverse<(Time, u32, u64, What)>| {
            matches!(what, What::Down(_) | What::Wake { .. })
        };
        self.queue = queue.into_iter().filter(others).collect();
        let work = self.queue.iter().filter(|entry| is_work(entry.0.3));
        self.under_way = work.count();
    }

    /// Adds an entry to the queue.
    pub fn schedule(&mut self, delay_us: u64, what: What) {
        let at = Time(self.now.0 + delay_us);
        let order = self.chance.draw() as u32;
        self.entries += 1;
        self.under_way += usize::from(is_work(what));
        self.queue.push(Reverse((at, order, self.entries, what)));
    }

    /// Writes a line of the history, if it is being recorded.
    pub fn say(&mut self, what: std::fmt::Arguments<'_>) {
        if self.history.is_recording() {
            let micros = self.now.0 - EPOCH.0;
            let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
            self.history.line(format_args!(
                "{:>6} {seconds:>6}.{rest:06} {what}",
                self.step
            ));
        }
    }

    /// Carries out the next entry. A client's wish is returned, since clients are not the world's;
    /// `None` at the inner level if it was something else, at the outer if nothing is left.
    ///
    /// # Errors
    /// A shard broke its contract.
    pub fn advance(&mut self) -> Result<Option<Option<(usize, Wake, u64)>>> {
        let Some(Reverse((at, _, _, what))) = self.queue.pop() else {
            return Ok(None);
        };
        self.under_way -= usize::from(is_work(what));
        self.now = self.now.max(at);
        self.step += 1;
        self.history.mix_number(self.now.0);
        match what {
            What::Accept(link) => self.accept(link)?,
            What::Adopt(link) => self.adopt(link)?,
            What::Up(link) => self.read(link)?,
            What::Kernel(link) => self.fill(link)?,
            What::Down(link) => self.drain(link),
            What::Ring {
                ring,
                is_reply: false,
            } => self.take_frames(ring, Lane::Request)?,
            What::Ring {
                ring,
                is_reply: true,
            } => self.take_frames(ring, Lane::Reply)?,
            What::Turn(shard) => self.turn_lanes(shard)?,
            What::Tick(shard) => self.tick(shard)?,
            What::Committed(shard) => self.write_commit(shard)?,
            What::Computed(shard) => self.compute(shard)?,
            What::Loaded(shard) => self.give_loaded(shard)?,
            What::Room => self.make_room(),
            What::Start => self.start()?,
            What::Wake { client, wake, turn } => return Ok(Some(Some((client, wake, turn)))),
        }
        Ok(Some(None))
    }

    /// The last time at which the shard of a connection had done all that was due; now, if none
    /// has it.
    pub fn settled_at(&self, link: usize) -> Time {
        match self.links[link].place {
            Place::At(shard, _) => self.stations[shard.index()].settled_at,
            _ => self.now,
        }
    }

    /// Whether nothing moves any more: only clocks are left.
    pub fn is_still(&self) -> bool {
        self.under_way == 0
    }

    /// Whether some store is writing.
    pub fn is_committing(&self) -> bool {
        let mut keeps = self
            .stations
            .iter()
            .filter_map(|station| station.keep.as_ref());
        keeps.any(|keep| keep.is_busy())
    }

    /// Whether some output of a connection has not been handed to the network.
    pub(crate) fn is_held(&self, link: LinkId) -> bool {
        match self.links[link.0].place {
            Place::At(shard, connection) => {
                let effects = &self.stations[shard.index()].effects;
                effects.pending_bytes(connection) > 0
            }
            _ => false,
        }
    }

    /// Time passes at once, as if the machine had slept.
    pub fn jump(&mut self, microseconds: u64) {
        let from = self.now;
        self.now = Time(self.now.0 + microseconds);
        self.unwritten.push((from, self.now));
        self.say(format_args!("time jumps by {} s", microseconds / 1_000_000));
    }
}

/// What a client does to its connection.
impl World {
    /// Opens a connection; some shard will accept it.
    pub fn connect(&mut self, client: usize, version: Version) -> LinkId {
        self.connect_to(client, version, Listener::Mqtt)
    }

    /// Opens a connection to one of the two listeners.
    pub fn connect_to(&mut self, client: usize, version: Version, listener: Listener) -> LinkId {
        let shard = ShardId(self.chance.below(u64::from(self.plan.shards)) as u16);
        let link = LinkId(self.links.len());
        let (delay_max, chunk_max) = (self.plan.link_delay_us, self.plan.chunk_bytes as u64);
        let delay_us = self.chance.between(1, delay_max);
        let chunk_bytes = self.chance.between(1, chunk_max) as usize;
        let kernel_bytes = self.plan.kernel_bytes;
        self.links.push(Link {
            client,
            version,
            listener,
            place: match self.is_up {
                true => Place::Accepting(shard),
                false => Place::Gone,
            },
            up: VecDeque::new(),
            left: None,
            unsent: VecDeque::new(),
            carried_bytes: 0,
            down: VecDeque::new(),
            is_read: true,
            is_paused: false,
            has_grace: false,
            delay_us,
            chunk_bytes,
            kernel_bytes,
            heard_at: self.now,
            is_up_due: false,
            is_down_due: false,
            is_kernel_due: false,
        });
        self.say(format_args!(
            "client {client} opens link {} to shard {}",
            link.0, shard.0
        ));
        if !self.is_up {
            self.say(format_args!("link {} is refused", link.0));
            self.schedule_down(link);
            return link;
        }
        let delay_us = self.link_delay(link);
        self.schedule(delay_us, What::Accept(link));
        link
    }

    /// Sends bytes.
    pub fn write(&mut self, link: LinkId, bytes: &[u8]) {
        let state = &mut self.links[link.0];
        assert!(
            state.left.is_none(),
            "a client that has left does not write"
        );
        state.up.extend(bytes);
        self.schedule_up(link);
    }

    /// Leaves the connection.
    pub fn leave(&mut self, link: LinkId, leave: Leave) {
        let client = self.links[link.0].client;
        self.say(format_args!(
            "client {client} leaves link {}: {leave:?}",
            link.0
        ));
        let lost_bytes = match leave {
            Leave::Finish => 0,
            Leave::Reset => self.links[link.0].up.len(),
            Leave::Vanish => self.chance.below(self.links[link.0].up.len() as u64 + 1) as usize,
        };
        let state = &mut self.links[link.0];
        let kept = state.up.len() - lost_bytes;
        state.up.truncate(kept);
        state.left = Some(leave);
        state.is_read = false;
        self.schedule_up(link);
        self.schedule_kernel(link);
    }

    /// A connection that nobody reads any more, and of which nobody has told the server, is reset.
    pub fn reset_vanished(&mut self) {
        for index in 0..self.links.len() {
            if self.links[index].left == Some(Leave::Vanish) {
                self.links[index].left = Some(Leave::Reset);
                self.links[index].up.clear();
                self.schedule_up(LinkId(index));
                self.schedule_kernel(LinkId(index));
            }
        }
    }

    /// How long the next piece of a connection takes.
    fn link_delay(&mut self, link: LinkId) -> u64 {
        let max = if self.is_calm {
            50
        } else {
            self.links[link.0].delay_us
        };
        let delay = self.chance.delay(max) + 1;
        // Now and then a reader or a network takes a break.
        if !self.is_calm && self.chance.one_in(200) {
            delay + 30 * max
        } else {
            delay
        }
    }

    pub(crate) fn schedule_up(&mut self, link: LinkId) {
        let state = &mut self.links[link.0];
        let is_wanted = !state.up.is_empty() || state.left.is_some();
        let is_open = matches!(state.place, Place::At(..)) && (!state.is_paused || state.has_grace);
        if is_wanted && is_open && !state.is_up_due {
            state.is_up_due = true;
            let delay_us = self.link_delay(link);
            self.schedule(delay_us, What::Up(link));
        }
    }

    pub(crate) fn schedule_kernel(&mut self, link: LinkId) {
        let state = &mut self.links[link.0];
        if !state.unsent.is_empty() && !state.is_kernel_due {
            state.is_kernel_due = true;
            let delay_us = self.chance.below(20);
            self.schedule(delay_us, What::Kernel(link));
        }
    }

    pub(crate) fn schedule_down(&mut self, link: LinkId) {
        let state = &mut self.links[link.0];
        if state.is_read && !state.is_down_due {
            state.is_down_due = true;
            let delay_us = self.link_delay(link);
            self.schedule(delay_us, What::Down(link));
        }
    }
}

/// What happens to a connection.
impl World {
    fn accept(&mut self, link: LinkId) -> Result<()> {
        let Place::Accepting(shard) = self.links[link.0].place else {
            return Ok(());
        };
        let connection = self.stations[shard.index()].open(link);
        self.links[link.0].place = Place::At(shard, connection);
        self.links[link.0].heard_at = self.now;
        let port = 1_024 + (link.0 % 60_000) as u16;
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        self.say(format_args!("shard {} accepts link {}", shard.0, link.0));
        self.handle(
            shard,
            Event::Accepted {
                connection,
                listener: self.links[link.0].listener,
                peer,
            },
        );
        self.turn(shard)?;
        self.schedule_up(link);
        Ok(())
    }

    fn adopt(&mut self, link: LinkId) -> Result<()> {
        let place = std::mem::replace(&mut self.links[link.0].place, Place::Gone);
        let Place::Moving(shard, handoff) = place else {
            unreachable!("only a mover arrives")
        };
        let connection = self.stations[shard.index()].open(link);
        self.links[link.0].place = Place::At(shard, connection);
        self.say(format_args!("shard {} adopts link {}", shard.0, link.0));
        self.handle(
            shard,
            Event::Adopted {
                connection,
                handoff,
            },
        );
        self.turn(shard)?;
        self.schedule_up(link);
        Ok(())
    }

    /// The driver reads a piece, or finds the end.
    fn read(&mut self, link: LinkId) -> Result<()> {
        let calm_bytes = if self.is_calm { usize::MAX } else { 0 };
        let state = &mut self.links[link.0];
        state.is_up_due = false;
        let Place::At(shard, connection) = state.place else {
            return Ok(());
        };
        if state.is_paused && !state.has_grace {
            return Ok(());
        }
        state.has_grace = false;
        let piece = Link::take(&mut state.up, state.chunk_bytes.max(calm_bytes));
        if !piece.is_empty() {
            state.heard_at = self.now;
            self.say(format_args!(
                "link {} brings shard {} {} B",
                link.0,
                shard.0,
                piece.len()
            ));
            self.notes.push_back(Note::Delivered(link, piece.clone()));
            self.handle(
                shard,
                Event::Received {
                    connection,
                    bytes: &piece,
                },
            );
        } else if matches!(state.left, Some(Leave::Finish | Leave::Reset)) {
            self.say(format_args!("link {} is lost to shard {}", link.0, shard.0));
            self.stations[shard.index()].release(connection);
            self.links[link.0].place = Place::Gone;
            self.notes.push_back(Note::Lost(link));
            self.handle(shard, Event::Closed { connection });
        } else {
            return Ok(());
        }
        self.turn(shard)?;
        self.schedule_up(link);
        Ok(())
    }

    /// The kernel accepts what it has room for.
    fn fill(&mut self, link: LinkId) -> Result<()> {
        let low_water = self.plan.limits.output_bytes_max / 4;
        let state = &mut self.links[link.0];
        state.is_kernel_due = false;
        let is_discarded = matches!(state.left, Some(Leave::Finish | Leave::Reset));
        let room = if is_discarded || self.is_calm {
            usize::MAX
        } else {
            state.kernel_bytes.saturating_sub(state.down.len())
        };
        let piece = Link::take(&mut state.unsent, room);
        if piece.is_empty() {
            return Ok(());
        }
        let carried = state.carried_bytes.min(piece.len());
        state.carried_bytes -= carried;
        if !is_discarded {
            state.down.extend(&piece);
        }
        if let Place::At(shard, connection) = state.place
            && piece.len() > carried
        {
            let effects = &mut self.stations[shard.index()].effects;
            if effects.sent(connection, piece.len() - carried, low_water) {
                self.say(format_args!("link {} is writable", link.0));
                self.handle(shard, Event::Writable { connection });
                self.turn(shard)?;
            }
        }
        self.schedule_down(link);
        Ok(())
    }

    /// The client reads what has arrived, or finds the end.
    fn drain(&mut self, link: LinkId) {
        let calm_bytes = if self.is_calm { usize::MAX } else { 0 };
        let state = &mut self.links[link.0];
        state.is_down_due = false;
        if !state.is_read {
            return;
        }
        let piece = Link::take(&mut state.down, state.chunk_bytes.max(calm_bytes));
        let is_closed = matches!(state.place, Place::Draining | Place::Gone);
        if !piece.is_empty() {
            self.notes.push_back(Note::Arrived(link, piece));
        } else if state.unsent.is_empty() && is_closed {
            state.is_read = false;
            self.notes.push_back(Note::Ended(link));
        }
        let state = &self.links[link.0];
        let is_more = !state.down.is_empty() || (is_closed && state.unsent.is_empty());
        self.schedule_kernel(link);
        if is_more {
            self.schedule_down(link);
        }
    }
}
