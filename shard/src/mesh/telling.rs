//! Fan-out under way: what one device sends may concern very many others. A shard tells
//! `Limits::told_per_turn` of them in the event that brings it, and the rest at the ticks that follow, so
//! that nobody else waits for it.
//!
//! Always: what one device sends is told in the order in which it was sent, and devices with much to
//! tell take turns. Bounded: by the room of `room.rs`, in which a message has its share until it is
//! told. What other shards pass on is a part of a message that has been taken, so that it is never
//! refused; a fan-out that awaits [`AWAITED_MAX`] answers goes on when they are fewer.

use super::emission::MeshEvent;
use crate::map::{Map, map_with_seed};
use crate::pending::Ticket;
use crate::{DeviceId, Effects, Shard};
use meshblu::Kind;
use std::collections::VecDeque;
use std::sync::Arc;

/// Answers of other shards that one fan-out may await before it goes on.
const AWAITED_MAX: u32 = 1_024;
/// How many devices take a turn in one tick, if all have much to tell.
const TURNS_PER_TICK: usize = 4;
/// Who is to be told of an event, and how far that is.
#[derive(Debug)]
pub(super) enum Step {
    /// The addressees of a message that live here, if they allow its sender.
    Addressees {
        /// Who.
        to: Vec<DeviceId>,
        /// The next one.
        at: usize,
        /// The message.
        event: Arc<MeshEvent>,
    },
    /// Devices of this shard.
    Devices {
        /// Which.
        to: Vec<DeviceId>,
        /// The next one.
        at: usize,
        /// What they hear.
        event: Arc<MeshEvent>,
        /// Whether those who hear of what they receive hear of it, too.
        is_onward: bool,
    },
    /// Those who subscribed to a kind of event of a device of this shard, and may.
    Subscribers {
        /// The device.
        emitter: DeviceId,
        /// What they subscribed to.
        kind: Kind,
        /// What they hear.
        event: Arc<MeshEvent>,
        /// Whether those who hear of what they receive hear of it, too.
        is_onward: bool,
        /// Those up to this one have been seen to; `None` before the first turn.
        after: Option<DeviceId>,
    },
}

/// What comes after a step's turn.
#[derive(Debug)]
pub(super) enum Turn {
    /// There is nothing left of it.
    Done,
    /// More of the same.
    More,
    /// This, and then more of the same.
    First(Step),
    /// This, and nothing else.
    Last(Step),
}

/// How many shards a fan-out has come through. Each waits for later ones only, so that what is told
/// in order at one stage never waits for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// It is told by the owner of the sender or of an addressee.
    First,
    /// It is told by the owner of one who subscribed to that.
    Second,
    /// It is told by the owner of one who subscribed to what reaches the second, and ends there.
    Third,
}

impl Stage {
    /// That of what a fan-out of this one has others tell.
    pub fn next(self) -> Stage {
        match self {
            Stage::First => Stage::Second,
            Stage::Second | Stage::Third => Stage::Third,
        }
    }
}

/// Whose fan-out: those of one source are told one after the other.
pub(super) type Source = (DeviceId, Stage);

/// One fan-out.
#[derive(Debug)]
struct Telling {
    /// What is left to do; the last first.
    steps: Vec<Step>,
    /// Who waits until it is done.
    ticket: Ticket,
}

/// The fan-outs of a shard that are under way.
#[derive(Debug)]
pub(crate) struct Tellings {
    /// In their order.
    by_source: Map<Source, VecDeque<Telling>>,
    /// Whose turn it is: each source once.
    turns: VecDeque<Source>,
    /// Those that go on when fewer answers are awaited, by the entry that awaits them.
    parked: Map<u32, Source>,
}

impl Tellings {
    /// Without any.
    pub fn new(seed: u64) -> Tellings {
        Tellings {
            by_source: map_with_seed(seed),
            turns: VecDeque::new(),
            parked: map_with_seed(seed),
        }
    }

    /// Whether the next tick has something to do.
    pub fn wants_turn(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Whether something of this source is under way: what comes now is told after it.
    fn is_busy(&self, source: Source) -> bool {
        self.by_source.contains_key(&source)
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.by_source.is_empty()
    }

    fn of(&mut self, source: Source) -> &mut VecDeque<Telling> {
        let turns = &mut self.turns;
        self.by_source.entry(source).or_insert_with(|| {
            turns.push_back(source);
            VecDeque::new()
        })
    }

    /// What the source whose turn it is goes on with; [`Tellings::put_back`], [`Tellings::park`] or
    /// [`Tellings::end`] ends its turn.
    fn take(&mut self) -> Option<(Source, Telling)> {
        let source = self.turns.pop_front()?;
        let own = self.by_source.get_mut(&source);
        let telling = own.and_then(VecDeque::pop_front);
        Some((
            source,
            telling.expect("who has a turn has something to tell"),
        ))
    }

    fn put_first(&mut self, source: Source, telling: Telling) {
        let own = self.by_source.get_mut(&source).expect("it had a turn");
        own.push_front(telling);
    }

    /// The source goes on at its next turn.
    fn put_back(&mut self, source: Source, telling: Telling) {
        self.put_first(source, telling);
        self.turns.push_back(source);
    }

    /// The source goes on when the entry awaits fewer answers.
    fn park(&mut self, source: Source, telling: Telling, pending: u32) {
        self.put_first(source, telling);
        self.parked.insert(pending, source);
    }

    /// The source is done with what it told; what comes next has its turn.
    fn end(&mut self, source: Source) {
        let own = self.by_source.get(&source).expect("it had a turn");
        match own.is_empty() {
            true => drop(self.by_source.remove(&source)),
            false => self.turns.push_back(source),
        }
    }

    /// An entry awaits one answer less than before.
    pub fn on_answer(&mut self, pending: u32, awaiting: u32) {
        if !self.parked.is_empty()
            && awaiting <= AWAITED_MAX / 2
            && let Some(source) = self.parked.remove(&pending)
        {
            self.turns.push_back(source);
        }
    }

    /// Asserts what always holds.
    pub fn check(&self) {
        let waiting = self.turns.len() + self.parked.len();
        assert_eq!(waiting, self.by_source.len(), "each source has one turn");
        assert!(self.by_source.values().all(|own| !own.is_empty()));
    }
}

impl Shard {
    /// Begins a fan-out, and ends it if it is small and nothing of its source is under way. `steps`
    /// are taken from the end.
    pub(super) fn fan_out(
        &mut self,
        source: Source,
        mut steps: Vec<Step>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        if self.mesh.tellings.is_busy(source) {
            return self.fan_out_later(source, steps, ticket, effects);
        }
        let mut budget = self.config.limits.told_per_turn;
        self.take_steps(source, &mut steps, &mut budget, ticket, effects);
        if !steps.is_empty() {
            let telling = self.telling(steps, ticket, effects);
            // Before what has come of it so far.
            self.mesh.tellings.of(source).push_front(telling);
        }
    }

    /// Leaves a fan-out to the ticks that follow.
    pub(super) fn fan_out_later(
        &mut self,
        source: Source,
        steps: Vec<Step>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let telling = self.telling(steps, ticket, effects);
        self.mesh.tellings.of(source).push_back(telling);
    }

    fn telling(&mut self, steps: Vec<Step>, ticket: &mut Ticket, effects: &mut Effects) -> Telling {
        let pending = ticket.wait(&mut self.pending);
        // Another shard's request would hold its credit all the while.
        self.mark_late(pending, effects);
        let ticket = Ticket::going_on(pending, ticket.wants_answer);
        Telling { steps, ticket }
    }

    /// Goes on with fan-outs that have used up their turn.
    pub(crate) fn go_on_telling(&mut self, effects: &mut Effects) {
        let of_all = self.config.limits.told_per_turn;
        let of_one = of_all.div_ceil(TURNS_PER_TICK);
        let mut told = 0;
        while told < of_all
            && let Some((source, mut telling)) = self.mesh.tellings.take()
        {
            let mut budget = of_one;
            let Telling { steps, ticket, .. } = &mut telling;
            self.take_steps(source, steps, &mut budget, ticket, effects);
            told += of_one.saturating_sub(budget).max(1);
            if telling.steps.is_empty() {
                self.mesh.tellings.end(source);
                self.finish_ticket(telling.ticket, effects);
                continue;
            }
            let pending = telling.ticket.pending.expect("it was left to later turns");
            match self.pending.awaiting(pending) > AWAITED_MAX {
                true => self.mesh.tellings.park(source, telling, pending),
                false => self.mesh.tellings.put_back(source, telling),
            }
        }
    }

    /// Does steps until there are none or the budget is spent.
    fn take_steps(
        &mut self,
        (_, stage): Source,
        steps: &mut Vec<Step>,
        budget: &mut usize,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        while *budget > 0
            && let Some(mut step) = steps.pop()
        {
            match self.take_step(&mut step, stage, budget, ticket, effects) {
                Turn::Done => {}
                Turn::More => steps.push(step),
                Turn::First(other) => steps.extend([step, other]),
                Turn::Last(other) => steps.push(other),
            }
        }
    }
}
