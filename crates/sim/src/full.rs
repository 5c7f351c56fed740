//! What stores have to say, and disks that fill up: then a shard hears that its store cannot write,
//! until there is room and what had to wait is written; and what must then be refused, and what
//! must go on.

use crate::checker::Checker;
use crate::client::{Client, State};
use crate::history::brief;
use crate::keep::Written;
use crate::ledger::MessageId;
use crate::link::LinkId;
use crate::world::{Note, What, World};
use anyhow::{Result, ensure};
use mqtt_v5_codec::QoS;
use shard::{Event, ShardId, Span, Time};

/// How long a store waits before it tries again to write to a full disk.
const RETRY: Span = Span::from_s(1);
/// What is written to the real store while its disk fills up, at most: a commit is fewer writes.
const WRITES_MAX: u64 = 60;

impl World {
    /// A commit of a shard gets durable, or finds no room.
    pub(crate) fn write_commit(&mut self, shard: ShardId) -> Result<()> {
        match self.keep(shard)?.commit()? {
            Written::Nothing => {}
            Written::Full { is_news } => {
                let delay_us = if self.is_calm { 50_000 } else { RETRY.0 };
                self.schedule(delay_us, What::Committed(shard));
                if is_news {
                    self.notes.push_back(Note::Stalled(shard));
                    let reason = "the simulated disk is full".to_string();
                    self.hear(shard, Event::StoreStalled { reason });
                }
            }
            Written::Durable {
                sequence,
                was_stalled,
            } => {
                if was_stalled {
                    let from = self.fulls[shard.index()].unwrap_or(self.now);
                    self.unwritten.push((from, self.now));
                    self.notes.push_back(Note::Resumed(shard));
                    self.hear(shard, Event::StoreResumed);
                }
                self.hear(shard, Event::Committed { sequence });
            }
        }
        self.turn(shard)
    }

    /// Part of a queue has been read.
    pub(crate) fn give_loaded(&mut self, shard: ShardId) -> Result<()> {
        if self.keep(shard)?.is_load_delayed() {
            let delay_us = if self.is_calm { 50_000 } else { RETRY.0 };
            self.schedule(delay_us, What::Loaded(shard));
            return Ok(());
        }
        if let Some(event) = self.keep(shard)?.load() {
            self.hear(shard, event);
        }
        self.turn(shard)
    }

    fn hear(&mut self, shard: ShardId, event: Event<'static>) {
        if self.history.is_recording() {
            let line = brief(&event, 100);
            self.say(format_args!("shard {} hears {line}", shard.0));
        }
        self.handle(shard, event);
    }

    /// The disks of some shards, or of all, are full for a while.
    pub(crate) fn fill_disks(&mut self) {
        let only = self.chance.one_in(2);
        let only = only.then(|| self.chance.index(self.stations.len()));
        let pauses = [1_000, 300_000, 5_000_000, 60_000_000];
        let delay_us = self.chance.pick(&pauses);
        for index in 0..self.stations.len() {
            if only.is_none_or(|only| only == index) {
                let writes = self.chance.below(WRITES_MAX);
                self.fill_disk(index, writes);
            }
        }
        self.schedule(delay_us, What::Room);
    }

    /// All disks are full until somebody makes room.
    pub(crate) fn fill_all(&mut self) {
        (0..self.stations.len()).for_each(|index| self.fill_disk(index, 0));
    }

    fn fill_disk(&mut self, index: usize, writes: u64) {
        let now = self.now;
        if let Some(keep) = &mut self.stations[index].keep {
            // What has not been written since it was last full waits since then.
            if !keep.is_stalled() && keep.full_since().is_none() {
                self.fulls[index] = Some(now);
            }
            keep.fill(now, writes);
            self.say(format_args!("the disk of shard {index} is full"));
        }
    }

    /// There is room on all disks.
    pub(crate) fn make_room(&mut self) {
        for station in &mut self.stations {
            if let Some(keep) = &mut station.keep {
                keep.make_room();
            }
        }
        self.say(format_args!("there is room"));
    }

    /// Whether every shard has been told that its store cannot write.
    pub(crate) fn are_all_stalled(&self) -> bool {
        let mut keeps = self.stations.iter().map(|station| station.keep.as_ref());
        keeps.all(|keep| keep.is_some_and(|keep| keep.is_stalled()))
    }

    /// Since when some disk has been full whose shard has something to write.
    pub(crate) fn full_since(&self) -> Option<Time> {
        let keeps = self.stations.iter().zip(&self.fulls);
        let stuck = keeps.filter_map(|(station, full)| {
            let keep = station.keep.as_ref()?;
            (keep.is_stalled() || keep.full_since().is_some()).then_some(*full)?
        });
        stuck.min()
    }
}

/// When stores could not write, as the checker has to know it.
#[derive(Debug, Default)]
pub struct Stalls {
    /// How many shards have been told so and not that it is over.
    now: usize,
    /// The step at which it was last over for one.
    over: u64,
}

impl Stalls {
    /// A shard has been told that its store cannot write.
    pub fn begin(&mut self) {
        self.now += 1;
    }

    /// It is over for one.
    pub fn end(&mut self, step: u64) {
        self.now -= 1;
        self.over = step;
    }

    /// It is over for all, with the process.
    pub fn on_crash(&mut self, step: u64) {
        if self.now > 0 {
            (self.now, self.over) = (0, step);
        }
    }

    /// Whether some shard could not write at some time since a step.
    pub fn is_since(&self, step: u64) -> bool {
        self.now > 0 || self.over >= step.max(1)
    }
}

/// What a client has published while all disks were full: on this connection, these messages, in
/// their order; and whether some group subscribed to them then.
pub(crate) type Published = (LinkId, Vec<(MessageId, bool)>);

/// What could not be kept has been refused, and the rest has gone on, though no disk has room.
///
/// # Errors
/// Something was refused that needs no disk, or taken that needs one.
pub(crate) fn check_on_full_disk(
    world: &World,
    checker: &Checker,
    clients: &[Client],
    published: &[Published],
) -> Result<()> {
    // An answer that waits for the disk holds back all that follows on its connection: that to a
    // message that a group was given back and keeps, and that to a will at QoS 2, which is nobody's to
    // refuse.
    let has_cause = |client: &Client, numbers: &[(MessageId, bool)]| {
        let waits = |(number, is_shared): &(MessageId, bool)| {
            let message = &checker.ledger.messages[*number];
            let is_answered = message.acked.is_some() || client.refused.contains(number);
            *is_shared && message.qos > QoS::AtMostOnce && !is_answered
        };
        numbers.iter().any(waits) || checker.ledger.may_hear_exact_will(client.index)
    };
    let is_there = |index: usize| {
        let client = &clients[index];
        let mut own = published.iter();
        let own = own.find(|(link, _)| client.link == Some(*link));
        client.state == State::Online
            && own.is_some_and(|(link, numbers)| {
                !(world.is_held(*link) && has_cause(client, numbers))
            })
    };
    for (link, numbers) in published {
        let client = clients.iter().find(|client| client.link == Some(*link));
        // One of an older version is closed at the first message that is refused.
        let Some(client) = client.filter(|client| client.state == State::Online) else {
            continue;
        };
        for (number, is_shared) in numbers {
            let message = &checker.ledger.messages[*number];
            if message.qos == QoS::AtMostOnce {
                checker.ledger.check_present(*number, &is_there)?;
                continue;
            }
            let own = message.qos == QoS::ExactlyOnce && checker.keeps_session(client.index);
            let need = checker
                .ledger
                .needs_disk(*number, world.plan.vandals > 0, &|client| {
                    checker.keeps_session(client)
                });
            let (must, may) = (own || need.0, own || need.1);
            let is_refused = client.refused.contains(number);
            let is_acked = message.acked.is_some();
            if !is_acked && !is_refused {
                // One that a group has been given back waits with the group, and an answer may be
                // among what is held back.
                ensure!(
                    *is_shared
                        || (world.is_held(*link)
                            && checker.ledger.may_hear_exact_will(client.index)),
                    "message {number} waits, and the disk is full"
                );
                break; // The answers to what follows wait for this one's.
            }
            ensure!(
                !(must && is_acked),
                "message {number} is taken, and the disk is full"
            );
            ensure!(
                may || is_acked,
                "message {number} is not taken, and needs no disk"
            );
            if is_acked {
                checker.ledger.check_present(*number, &is_there)?;
            }
        }
    }
    Ok(())
}
