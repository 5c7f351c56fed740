//! One run: an unkind world for a while, then a kind one until everything has come to rest, then
//! a last round of messages that must all arrive.

use crate::chance::Chance;
use crate::checker::Checker;
use crate::client::{Character, Client, State};
use crate::full::{Published, check_on_full_disk};
use crate::history::Recording;
use crate::ledger::MessageId;
use crate::link::{Leave, LinkId};
use crate::operator::Operator;
use crate::plan::{Options, Plan};
use crate::vandal::Vandal;
use crate::wire::Wish;
use crate::workload::{Pool, characters};
use crate::world::{Note, Wake, World};
use anyhow::{Context, Error, Result, ensure};
use mqtt_v5_codec::{QoS, SubscriptionOptions, Version};
use shard::Span;
use std::cell::Cell;

/// What a run that found nothing tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of all events and effects.
    pub hash: u64,
    /// Steps.
    pub steps: u64,
    /// Messages that clients published, wills included.
    pub messages: usize,
    /// Packets that shards sent.
    pub packets: u64,
}

/// What a run found.
#[derive(Debug)]
pub struct Failure {
    /// In which run.
    pub seed: u64,
    /// At which step.
    pub step: u64,
    /// What must not be.
    pub error: Error,
}

/// Steps in which a kind world must come to rest.
const REST_STEPS_MAX: u64 = 400_000;
/// What a kind world waits for delayed wills and for expiry.
const REST_AT_LEAST: Span = Span::from_s(30);

/// A shard commits at least so often, and hears then that its store cannot write.
const NOTICED: Span = Span::from_s(15);

thread_local! {
    static CURRENT: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Where this thread's run is.
pub(crate) fn set_current(seed: u64, step: u64) {
    CURRENT.set((seed, step));
}

/// The seed and step of this thread's present run; for a panic hook.
pub fn current() -> (u64, u64) {
    CURRENT.get()
}

/// A run in progress.
struct Run {
    world: World,
    checker: Checker,
    clients: Vec<Client>,
    vandals: Vec<Vandal>,
    pool: Pool,
    operator: Operator,
    stopped: usize,
    /// It is not followed by a start.
    is_last_stop: bool,
}

/// Runs one seed.
///
/// # Errors
/// The first rule that was broken.
pub fn run(seed: u64, options: &Options, recording: Recording) -> Result<Outcome, Failure> {
    CURRENT.set((seed, 0));
    if options.is_mesh {
        return crate::mesh::run(seed, options, recording);
    }
    let mut chance = Chance::new(seed);
    let plan = Plan::new(seed, options, &mut chance);
    let (pool, devices) = Pool::new(&mut chance);
    let mut characters = characters(&plan, &pool, &devices, &mut chance);
    characters.push(observer());
    let world = World::new(plan, chance, recording);
    let clients = characters.into_iter().enumerate();
    let clients: Vec<Client> = clients
        .map(|(index, one)| Client::new(index, one))
        .collect();
    let vandals = (0..world.plan.vandals)
        .map(|index| Vandal::new(clients.len() + index))
        .collect();
    let checker = Checker::new(clients.len(), &world);
    let mut run = Run {
        world,
        checker,
        clients,
        vandals,
        pool,
        operator: Operator::new(seed),
        stopped: 0,
        is_last_stop: false,
    };
    let result = run.all();
    let step = run.world.step;
    result.map_err(|error| Failure { seed, step, error })?;
    Ok(Outcome {
        hash: run.world.history.hash(),
        steps: step,
        messages: run.checker.ledger.messages.len(),
        packets: run.checker.packets(),
    })
}

/// A client that comes last and sees what is retained.
fn observer() -> Character {
    Character {
        version: Version::V5,
        client_id: "the observer".to_string(),
        expiry_s: None,
        clean_percent: 0,
        will_percent: 0,
        keep_alive_s: 0,
        receive_maximum: None,
        packet_max: None,
        alias_max: 5,
        answer_us: 10,
        is_picky: false,
        publishes: false,
        subscribes: true,
        retains: Vec::new(),
        pings: true,
    }
}

impl Run {
    fn all(&mut self) -> Result<()> {
        let line = format!("{:?}", self.world.plan);
        self.world.say(format_args!("{line}"));
        self.unkind()?;
        self.calm_down();
        self.come_to_rest(REST_AT_LEAST)
            .context("while coming to rest")?;
        if self.world.plan.crash_steps.is_some() && !self.world.plan.is_tiny {
            self.crash()?;
            self.come_to_rest(REST_AT_LEAST)
                .context("after a crash at rest")?;
        }
        if self.world.plan.full_steps.is_some() && !self.world.plan.is_tiny {
            self.full_disk().context("on a full disk")?;
        }
        self.last_round().context("in the last round")?;
        if self.world.plan.seed.is_multiple_of(2) {
            self.stop().context("while stopping")?;
        }
        Ok(())
    }

    fn unkind(&mut self) -> Result<()> {
        let others = self.clients.len() - 1;
        for index in 0..others {
            let delay_us = self.world.chance.delay(2_000_000);
            self.clients[index].wake(&mut self.world, delay_us, Wake::Connect);
        }
        for vandal in &mut self.vandals {
            vandal.act(&mut self.world, &mut self.checker);
        }
        while self.world.step < self.world.plan.steps {
            // What waits for a commit waits for it as long as a disk takes, not for hours: what a
            // client is sent may expire on its way.
            let is_jump = self.world.plan.has_jumps && self.world.chance.one_in(2_000);
            if is_jump && !self.world.is_committing() {
                let seconds = self.world.chance.pick(&[1, 20, 100, 4_000]);
                self.world.jump(seconds * 1_000_000);
            }
            self.end_process()?;
            let world = &mut self.world;
            let is_open = world.has_process() && !self.checker.is_stopping;
            if let (Some(n), true) = (world.plan.full_steps, is_open)
                && world.chance.one_in(n)
            {
                world.fill_disks();
            }
            if !self.step()? {
                break;
            }
            self.checker.check_keep_alive(&self.world)?;
        }
        Ok(())
    }

    /// Now and then the process crashes, or is told to stop.
    fn end_process(&mut self) -> Result<()> {
        let world = &mut self.world;
        if world.has_process()
            && world
                .plan
                .crash_steps
                .is_some_and(|n| world.chance.one_in(n))
        {
            self.crash()?;
        }
        let world = &mut self.world;
        let is_stopping = self.checker.is_stopping;
        if world.is_up()
            && !is_stopping
            && world.full_since().is_none()
            && world
                .plan
                .stop_steps
                .is_some_and(|n| world.chance.one_in(n))
        {
            self.checker.is_stopping = true;
            self.stopped = 0;
            world.stop()?;
        }
        Ok(())
    }

    fn crash(&mut self) -> Result<()> {
        let crash = self.world.crash()?;
        let (plan, step) = (&self.world.plan, self.world.step);
        self.checker.on_crash(&crash, plan, step);
        Ok(())
    }

    /// One step of the world, and what the clients and the checker make of it. False if nothing is
    /// left to happen.
    fn step(&mut self) -> Result<bool> {
        let Some(wish) = self.world.advance()? else {
            return Ok(false);
        };
        CURRENT.set((self.world.plan.seed, self.world.step));
        if let Some((client, wake, turn)) = wish {
            self.on_wake(client, wake, turn);
        }
        while let Some(note) = self.world.notes.pop_front() {
            self.on_note(note)?;
        }
        self.operator
            .act(&mut self.world)
            .context("while an operator looked")?;
        Ok(true)
    }

    fn on_wake(&mut self, index: usize, wake: Wake, turn: u64) {
        let (world, checker) = (&mut self.world, &mut self.checker);
        let Some(client) = self.clients.get_mut(index) else {
            self.vandals[index - self.clients.len()].act(world, checker);
            return;
        };
        if client.turn != turn {
            return;
        }
        match wake {
            Wake::Act => client.act(world, checker, &self.pool),
            Wake::Answer => client.on_answer_time(world),
            Wake::Ping => client.ping(world),
            // Out of patience, if it is still connecting.
            Wake::Connect if client.state != State::Online => {
                client.connect(world, checker, &self.pool);
            }
            Wake::Connect => {}
        }
    }

    fn on_note(&mut self, note: Note) -> Result<()> {
        let now = Client::moment(&self.world);
        match note {
            Note::Delivered(link, bytes) => self.checker.on_delivered(link.0, &bytes, now.at),
            Note::Emitted(link, bytes) => self.checker.on_emitted(link.0, &bytes, now),
            Note::Lost(link) => {
                self.checker.on_lost(link.0, now.at);
                Ok(())
            }
            Note::Closed(link, _) => self.checker.on_closed(link.0, &self.world),
            Note::Arrived(link, bytes) => {
                let index = self.world.links[link.0].client;
                match self.clients.get_mut(index) {
                    Some(client) => {
                        client.on_arrived(&mut self.world, &mut self.checker, link, &bytes)
                    }
                    None => Ok(()),
                }
            }
            Note::Ended(link) => {
                let index = self.world.links[link.0].client;
                match self.clients.get_mut(index) {
                    Some(client) => client.on_ended(&mut self.world, link),
                    None => {
                        let vandal = &mut self.vandals[index - self.clients.len()];
                        vandal.on_ended(&mut self.world, link);
                    }
                }
                Ok(())
            }
            Note::Stopped(_) => {
                self.stopped += 1;
                if self.stopped == usize::from(self.world.plan.shards) && !self.is_last_stop {
                    let crash = self.world.end_stopped()?;
                    let (plan, step) = (&self.world.plan, self.world.step);
                    self.checker.on_crash(&crash, plan, step);
                }
                Ok(())
            }
            Note::Up => {
                self.checker.on_up(self.world.now);
                Ok(())
            }
            Note::Stalled(_) => {
                self.checker.ledger.stalls.begin();
                Ok(())
            }
            Note::Resumed(_) => {
                self.checker.ledger.stalls.end(self.world.step);
                Ok(())
            }
        }
    }

    /// From here on nothing is slow, full, or cut, and everybody connects.
    fn calm_down(&mut self) {
        let world = &mut self.world;
        world.say(format_args!("the world turns kind"));
        world.is_calm = true;
        world.hurry_start();
        world.make_room();
        world.reset_vanished();
        let present: Vec<Option<LinkId>> = self.clients.iter().map(|one| one.link).collect();
        for index in 0..world.links.len() {
            let client = world.links[index].client;
            let is_present = present
                .get(client)
                .is_none_or(|link| *link == Some(LinkId(index)));
            if !is_present && world.links[index].left.is_none() {
                world.leave(LinkId(index), Leave::Reset);
            }
        }
        for vandal in &mut self.vandals {
            vandal.act(world, &mut self.checker);
        }
        for client in &mut self.clients {
            client.wake(world, 1, Wake::Connect);
        }
    }

    /// Runs until nothing moves, for at least some virtual time, and checks what must hold then.
    fn come_to_rest(&mut self, at_least: Span) -> Result<()> {
        let until = self.world.now + at_least;
        let last_step = self.world.step + REST_STEPS_MAX;
        while self.world.now < until || !self.world.is_still() {
            ensure!(
                self.world.step < last_step,
                "the world does not come to rest"
            );
            if !self.step()? {
                break;
            }
        }
        for client in &self.clients {
            let waits = client.waits_for();
            ensure!(
                waits.is_none() || self.world.plan.is_tiny,
                "client {} waits for ever: {}",
                client.index,
                waits.unwrap_or_default()
            );
        }
        let dropped = self.world.dropped();
        self.checker.check_rest(self.world.now, dropped)?;
        self.operator
            .check_rest(&mut self.world, &self.clients)
            .context("while an operator looked at rest")
    }

    /// All disks are full, and everybody publishes: what cannot be kept is refused, the rest goes
    /// on. Then there is room, or the process ends.
    fn full_disk(&mut self) -> Result<()> {
        self.world.forget_room();
        self.world.fill_all();
        self.pass(NOTICED)?;
        ensure!(
            self.world.are_all_stalled(),
            "a shard has not been told that its store cannot write"
        );
        let mut published: Vec<Published> = Vec::new();
        for client in &mut self.clients {
            let Some(link) = client.link.filter(|_| client.state == State::Online) else {
                continue;
            };
            let mut numbers = Vec::new();
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let topic = self.pool.some_topic(&mut self.world.chance);
                numbers.extend(client.publish(&mut self.world, &mut self.checker, topic, qos));
            }
            let ledger = &self.checker.ledger;
            let numbers = numbers.into_iter();
            let numbers = numbers.map(|number| (number, ledger.is_shared(number)));
            published.push((link, numbers.collect()));
        }
        self.pass(Span::from_s(2))?;
        check_on_full_disk(&self.world, &self.checker, &self.clients, &published)?;
        match self.world.plan.seed.is_multiple_of(3) && self.world.plan.crash_steps.is_some() {
            true => self.crash()?,
            false => self.world.make_room(),
        }
        self.come_to_rest(REST_AT_LEAST)
    }

    /// Lets some time pass.
    fn pass(&mut self, span: Span) -> Result<()> {
        let until = self.world.now + span;
        let last_step = self.world.step + REST_STEPS_MAX;
        while self.world.now < until {
            ensure!(self.world.step < last_step, "time does not pass");
            if !self.step()? {
                break;
            }
        }
        Ok(())
    }

    /// Somebody new subscribes to everything, and then everybody publishes once more.
    fn last_round(&mut self) -> Result<()> {
        let observer = self.clients.len() - 1;
        if self.clients[observer].state == State::Online {
            let options = SubscriptionOptions {
                qos: QoS::ExactlyOnce,
                ..Default::default()
            };
            let wish = |filter: &str| Wish {
                filter: filter.to_string(),
                options,
            };
            let wishes = [wish("#"), wish("$else/#"), wish("+/a")];
            let world = &mut self.world;
            self.clients[observer].subscribe(world, &mut self.checker, &wishes);
        }
        self.come_to_rest(Span::from_ms(100))?;
        let mut sent: Vec<MessageId> = Vec::new();
        let levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
        for client in &mut self.clients {
            if client.state != State::Online {
                continue;
            }
            for qos in levels {
                let topic = self.pool.some_topic(&mut self.world.chance);
                sent.extend(client.publish(&mut self.world, &mut self.checker, topic, qos));
            }
        }
        self.come_to_rest(Span::from_s(2))?;
        for number in sent {
            self.checker.ledger.check_everywhere(number)?;
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.checker.is_stopping = true;
        self.is_last_stop = true;
        self.stopped = 0;
        self.world.stop()?;
        let last_step = self.world.step + REST_STEPS_MAX;
        let until = self.world.now + Span::from_s(60);
        while self.stopped < self.world.plan.shards.into() {
            ensure!(
                self.world.step < last_step && self.world.now < until,
                "no end"
            );
            if !self.step()? {
                break;
            }
        }
        ensure!(
            self.stopped == usize::from(self.world.plan.shards),
            "not every shard has stopped"
        );
        Ok(())
    }
}
