//! The broker's process: it crashes, is stopped, and starts again from what its stores have.

use crate::driver::{Ring, Station};
use crate::keep::{Keep, Real};
use crate::link::{LinkId, Place};
use crate::records::Records;
use crate::world::{What, World};
use anyhow::{Context, Result};
use shard::{Placement, ShardId, Span, Time};

/// The end of a process, as the checker needs it.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// When.
    pub at: Time,
    /// Every shard is known to have been alive at this time.
    pub alive: Time,
    /// Everything that shards did before this time is durable, promised or not.
    pub sure: Time,
}

/// How late a tick can be, and something for the way between.
const LATENESS: Span = Span::from_ms(400);

impl World {
    /// The process ends without warning. What its stores have not made durable is lost, except
    /// that each may just have finished.
    ///
    /// # Errors
    /// A store does not survive it.
    pub fn crash(&mut self) -> Result<Crash> {
        self.say(format_args!("the process is killed"));
        let sure = self.sure_time();
        let crash = self.end(sure)?;
        self.schedule_start();
        Ok(crash)
    }

    /// All shards have stopped, and the process ends.
    ///
    /// # Errors
    /// A store does not survive it.
    pub fn end_stopped(&mut self) -> Result<Crash> {
        self.say(format_args!("the process has ended"));
        // A shard that had stopped may have taken more from one that had not.
        let crash = self.end(self.stopped_at)?;
        self.schedule_start();
        Ok(crash)
    }

    /// Whether there is a process with a store to crash.
    pub fn has_process(&self) -> bool {
        !self.stations.is_empty()
    }

    /// Whether clients are let in.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Before this, everything is durable: what is not promised leaves within the interval, waits
    /// for one commit, and takes another.
    fn sure_time(&self) -> Time {
        let interval = Span::from_ms(self.plan.durability.interval_ms);
        let commits = Span(2 * self.plan.commit_us);
        let window = Span(interval.0 + commits.0 + LATENESS.0);
        let mut sure = self.now - window;
        // While the machine sleeps nothing is written, nor while a disk is full.
        let full = self.full_since().map(|since| (since, self.now));
        let mut unwritten: Vec<(Time, Time)> = self.unwritten.iter().copied().chain(full).collect();
        unwritten.sort_by_key(|(_, to)| *to);
        for (from, to) in unwritten.iter().rev() {
            if *to >= sure {
                sure = sure.min(*from - window);
            }
        }
        sure
    }

    fn end(&mut self, sure: Time) -> Result<Crash> {
        self.back_up()?;
        let mut kept = Vec::new();
        self.dropped_before = self.dropped();
        for station in std::mem::take(&mut self.stations) {
            if let Some(keep) = station.keep {
                kept.push(keep.end(&mut self.chance)?);
            }
        }
        let alive = kept.iter().map(|records| records.alive);
        let alive = alive.min().flatten().unwrap_or(Time(0));
        self.kept = kept;
        self.rings.clear();
        self.is_up = false;
        self.forget_work();
        for index in 0..self.links.len() {
            self.cut(LinkId(index));
        }
        Ok(Crash {
            at: self.now,
            alive,
            sure: sure.max(alive),
        })
    }

    /// What the real stores have now may be backed up.
    fn back_up(&mut self) -> Result<()> {
        let keeps = self.stations.iter().map(|station| station.keep.as_ref());
        let readable: Option<Vec<_>> = keeps.map(|keep| keep?.readable()).collect();
        if let (Some(data), Some(stores)) = (&mut self.data, readable)
            && !stores.is_empty()
        {
            data.back_up(&stores, self.now).context("a backup")?;
        }
        Ok(())
    }

    /// The server's end of a connection is gone.
    fn cut(&mut self, link: LinkId) {
        let is_power = self.chance.percent(30);
        let state = &mut self.links[link.0];
        (state.is_up_due, state.is_kernel_due) = (false, false);
        if matches!(state.place, Place::Gone) {
            return;
        }
        state.place = Place::Gone;
        state.up.clear();
        state.unsent.clear();
        state.carried_bytes = 0;
        state.is_paused = false;
        if is_power {
            let rest = self.chance.below(state.down.len() as u64 + 1) as usize;
            state.down.truncate(rest);
        }
        self.schedule_down(link);
    }

    fn schedule_start(&mut self) {
        let pause_us = match self.is_calm {
            true => 1_000,
            false => self
                .chance
                .pick(&[1_000, 100_000, 3_000_000, 3_000_000, 40_000_000]),
        };
        self.schedule(pause_us, What::Start);
    }

    /// A process starts, perhaps with another number of shards.
    pub(crate) fn start(&mut self) -> Result<()> {
        if self.plan.has_reshards && self.chance.one_in(3) {
            self.plan.shards = self.chance.between(1, 4) as u16;
        }
        let shards = self.plan.shards;
        self.fulls = vec![None; usize::from(shards)];
        let mut kept = std::mem::take(&mut self.kept);
        let mut stores = Vec::new();
        if let Some(data) = &mut self.data {
            (kept, stores) = data
                .open(kept, shards, self.now)
                .context("the directory is opened")?;
        } else if kept.len() != usize::from(shards) {
            let placement = Placement::new(shards, self.plan.placement_seed);
            kept = Records::reshard(&kept, shards, &placement);
        }
        self.say(format_args!("a process with {shards} shards starts"));
        let chance = &mut self.chance;
        let count = usize::from(shards).pow(2);
        self.begun = usize::from(shards);
        self.rings = (0..count).map(|_| Ring::new(chance)).collect();
        let mut stores = stores.into_iter();
        for (index, records) in (0..shards).zip(kept) {
            self.recover(ShardId(index), records, stores.next())
                .with_context(|| format!("shard {index} recovers"))?;
        }
        for index in 0..shards {
            self.turn(ShardId(index))?;
        }
        Ok(())
    }

    fn recover(&mut self, shard: ShardId, records: Records, real: Option<Real>) -> Result<()> {
        let mut station = Station::new(shard, &self.plan, self.chance.draw(), self.now);
        let changes = records.changes();
        self.say(format_args!(
            "shard {} has {} records, alive at {:?}",
            shard.0,
            changes.len(),
            records.alive
        ));
        let alive = records.alive.unwrap_or(self.now);
        for change in changes {
            self.history.mix_number(1);
            if self.history.is_recording() {
                let line = crate::history::brief(&change, 200);
                self.say(format_args!("shard {} recovers {line}", shard.0));
            }
            station.recover(change)?;
        }
        station.begin(alive);
        station.keep = Some(Keep::new(records, real)?);
        self.stations.push(station);
        Ok(())
    }

    /// A shard is ready; once all are, clients are let in.
    pub(crate) fn ready(&mut self, shard: ShardId) {
        self.stations[shard.index()].is_ready = true;
        if self.stations.iter().all(|station| station.is_ready) {
            self.say(format_args!("clients are let in"));
            self.is_up = true;
            self.notes.push_back(crate::world::Note::Up);
        }
    }
}
