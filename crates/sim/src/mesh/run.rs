//! One run: devices are registered, everybody does what comes to mind in an unkind world, with
//! pauses in which all must have come where it belongs, and in the end all that was acknowledged
//! is looked at once more.

use super::client::{Client, Role};
use super::happening::Event;
use super::hear::Known;
use super::request::{Request, What};
use super::workload::Choice;
use crate::chance::Chance;
use crate::history::Recording;
use crate::link::{Leave, LinkId};
use crate::plan::Options;
use crate::run::{Failure, Outcome, set_current};
use crate::world::{Note, Wake, World};
use anyhow::{Context, Result, ensure};
use shard::{Close, Span};

/// Steps in which the world must come to rest.
const REST_STEPS_MAX: u64 = 400_000;
/// How long nothing moves in a rest.
const REST: Span = Span::from_s(3);
/// From then on a shorter rest will do: idle connections that are closed and opened in turn, and the
/// stores' signs of life, may leave none of that length for ever.
const TIRED: Span = Span::from_s(60);
/// See above.
const SHORT_REST: Span = Span::from_ms(300);
/// Rests in the unkind world.
const ROUNDS: u64 = 3;
/// A connection that has been silent so long may be closed.
const SILENCE: Span = Span::from_s(50);

struct Run {
    world: World,
    known: Known,
    clients: Vec<Client>,
    registrations: usize,
    /// Nobody begins anything.
    is_pause: bool,
    stopped: u16,
    is_stopping: bool,
    is_crashed: bool,
}

/// Runs one seed.
///
/// # Errors
/// The first rule that was broken.
pub fn run(seed: u64, options: &Options, recording: Recording) -> Result<Outcome, Failure> {
    let mut chance = Chance::new(seed ^ 0x6D65_7368_626C_7521);
    let plan = super::plan(seed, options, &mut chance);
    let mut roles = vec![Role::Http, Role::Http];
    let others = [
        Role::Http,
        Role::Socket,
        Role::Socket,
        Role::Stream,
        Role::Mqtt,
        Role::Mqtt,
    ];
    roles.extend((0..chance.between(2, 8)).map(|_| chance.pick(&others)));
    let clients = roles.into_iter().enumerate();
    let clients = clients.map(|(index, role)| Client::new(index, role));
    let mut run = Run {
        clients: clients.collect(),
        world: World::new(plan, chance, recording),
        known: Known::default(),
        registrations: 0,
        is_pause: false,
        stopped: 0,
        is_stopping: false,
        is_crashed: false,
    };
    let result = run.all();
    let step = run.world.step;
    result.map_err(|error| Failure { seed, step, error })?;
    Ok(Outcome {
        hash: run.world.history.hash(),
        steps: step,
        messages: run.known.happenings.len(),
        packets: run.known.events,
    })
}

impl Run {
    fn all(&mut self) -> Result<()> {
        let line = format!("{:?}", self.world.plan);
        self.world.say(format_args!("{line}"));
        for index in 0..self.clients.len() {
            let delay_us = self.world.chance.delay(100_000);
            self.clients[index].wake(&mut self.world, delay_us, Wake::Act);
        }
        let steps = self.world.plan.steps;
        for round in 1..=ROUNDS {
            self.unkind(steps * round / ROUNDS)?;
            self.rest().context("in a pause")?;
            self.is_pause = false;
            self.wake_all();
        }
        self.calm_down().context("while calming down")?;
        if self.world.plan.crash_steps.is_some() {
            self.crash()?;
            self.rest().context("after a crash at rest")?;
        }
        self.last_round().context("in the last round")?;
        if self.world.plan.seed.is_multiple_of(2) {
            self.stop().context("while stopping")?;
        }
        Ok(())
    }

    fn unkind(&mut self, until: u64) -> Result<()> {
        while self.world.step < until {
            let world = &mut self.world;
            let crash_steps = world.plan.crash_steps;
            if world.has_process() && crash_steps.is_some_and(|n| world.chance.one_in(n)) {
                self.crash()?;
            }
            if !self.step()? {
                break;
            }
        }
        Ok(())
    }

    fn crash(&mut self) -> Result<()> {
        self.world.crash()?;
        self.known.model.settle(self.world.step);
        self.is_crashed = true;
        for client in &mut self.clients {
            client.on_gone();
        }
        self.wake_all();
        Ok(())
    }

    fn wake_all(&mut self) {
        for client in &mut self.clients {
            let delay_us = self.world.chance.delay(50_000);
            client.turn += 1;
            client.wake(&mut self.world, delay_us, Wake::Connect);
        }
    }

    fn step(&mut self) -> Result<bool> {
        let Some(wish) = self.world.advance()? else {
            return Ok(false);
        };
        set_current(self.world.plan.seed, self.world.step);
        if let Some((index, _, turn)) = wish
            && self.clients[index].turn == turn
        {
            self.act(index);
        }
        while let Some(note) = self.world.notes.pop_front() {
            self.on_note(note)?;
        }
        Ok(true)
    }

    fn on_note(&mut self, note: Note) -> Result<()> {
        let now = self.world.step;
        match note {
            Note::Delivered(link, bytes) => {
                if let Some(client) = self.client_of(link) {
                    let model = &mut self.known.model;
                    self.clients[client].on_delivered(bytes.len(), model, now);
                }
            }
            Note::Emitted(link, bytes) => {
                if let Some(client) = self.client_of(link) {
                    let online = self.online();
                    let client = &mut self.clients[client];
                    self.known
                        .on_emitted(client, &online, &mut self.world, &bytes)?;
                }
            }
            Note::Closed(link, how) => {
                if let Some(client) = self.client_of(link) {
                    self.check_closed(client, how)?;
                    self.clients[client].on_gone();
                    self.reconnect(client);
                }
            }
            Note::Ended(link) => {
                if self.world.links[link.0].left.is_none() {
                    self.world.leave(link, Leave::Finish);
                }
                if let Some(client) = self.client_of(link) {
                    self.clients[client].on_gone();
                    self.reconnect(client);
                }
            }
            Note::Stopped(_) => self.stopped += 1,
            _ => {}
        }
        Ok(())
    }

    /// The client whose present connection it is.
    fn client_of(&self, link: LinkId) -> Option<usize> {
        let client = self.world.links[link.0].client;
        (self.clients[client].link == Some(link)).then_some(client)
    }

    /// Devices that have a connection.
    fn online(&self) -> Vec<usize> {
        let ready = self.clients.iter().filter(|client| {
            client.role != Role::Http && client.talk.ready.is_some() && client.link.is_some()
        });
        ready.map(|client| client.me.0).collect()
    }

    fn reconnect(&mut self, client: usize) {
        let delay_us = self.world.chance.delay(200_000) + 1;
        self.clients[client].wake(&mut self.world, delay_us, Wake::Connect);
    }

    /// A shard has closed a connection: it has a reason.
    fn check_closed(&self, client: usize, how: Close) -> Result<()> {
        let client = &self.clients[client];
        let is_silent = client.sent_at + SILENCE <= self.world.now;
        let Some(ready) = client.talk.ready else {
            return Ok(());
        };
        if client.role == Role::Http || is_silent || self.is_stopping {
            return Ok(());
        }
        let (device, token) = client.me;
        let now = self.world.step;
        let valid = self.known.model.is_valid(device, token, ready, now);
        ensure!(
            !valid.must,
            "client {} is closed for nothing: {how:?}",
            client.index
        );
        Ok(())
    }

    /// A client does something, if it wants to.
    fn act(&mut self, index: usize) {
        let pace_us = self.world.plan.pace_us;
        if self.clients[index].link.is_none() {
            self.connect(index);
        } else if !self.is_pause {
            if self.clients[index].talk.is_refused {
                self.clients[index].leave(&mut self.world, Leave::Finish);
                self.reconnect(index);
                return;
            }
            let cuts = self.world.plan.cuts_per_mille;
            if self.world.chance.below(1_000) < cuts && !self.world.is_calm {
                let leaves = [Leave::Finish, Leave::Reset, Leave::Vanish];
                let leave = self.world.chance.pick(&leaves);
                self.clients[index].leave(&mut self.world, leave);
                self.reconnect(index);
                return;
            }
            for _ in 0..self.world.chance.pick(&[1, 1, 1, 2, 5]) {
                self.ask_anything(index);
            }
        }
        let delay_us = self.world.chance.delay(2 * pace_us) + 1;
        if !self.is_pause {
            self.clients[index].wake(&mut self.world, delay_us, Wake::Act);
        }
    }

    fn connect(&mut self, index: usize) {
        let model = &self.known.model;
        let choice = Choice {
            model,
            now: self.world.step,
            registrations: self.registrations,
        };
        let chance = &mut self.world.chance;
        let is_http = self.clients[index].role == Role::Http;
        let me = match model.devices.is_empty() {
            true if is_http => (0, 0),
            true => {
                if !self.is_pause {
                    self.reconnect(index);
                }
                return;
            }
            false if (self.world.is_calm || self.is_pause) && !is_http => {
                let good = choice.good();
                if good.is_empty() {
                    return;
                }
                chance.pick(&good)
            }
            false => choice.credentials(chance, 95),
        };
        self.clients[index].connect(&mut self.world, &mut self.known.model, me);
    }

    /// A client asks for something that its transport can ask for.
    fn ask_anything(&mut self, index: usize) {
        let client = &self.clients[index];
        let is_full = client.talk.queue.len() >= 8;
        if client.talk.ready.is_none() || is_full || client.role == Role::Stream {
            return;
        }
        let model = &self.known.model;
        let choice = Choice {
            model,
            now: self.world.step,
            registrations: self.registrations,
        };
        let chance = &mut self.world.chance;
        if model.devices.len() < 4 && self.registrations < 8 {
            if client.role == Role::Http
                && let Some(what) = choice.registration(chance, false)
            {
                self.send(index, None, None, what);
            }
            return;
        }
        if model.devices.is_empty() {
            return;
        }
        let is_http = client.role == Role::Http;
        let actor = match is_http {
            true => choice.credentials(chance, 90),
            false => client.me,
        };
        let mut what = choice.anything(chance, actor.0);
        if client.role == Role::Mqtt && !matches!(what, What::Message(..) | What::Broadcast) {
            what = choice.message(chance);
        }
        let is_as = is_http && chance.percent(15);
        let other = is_as.then(|| chance.index(model.devices.len()));
        let actor = match what {
            What::Register(_) if is_http => None,
            _ => Some(actor),
        };
        self.send(index, actor, other.filter(|_| actor.is_some()), what);
    }

    fn send(
        &mut self,
        index: usize,
        actor: Option<(usize, usize)>,
        acting_as: Option<usize>,
        what: What,
    ) {
        let model = &mut self.known.model;
        let client = &mut self.clients[index];
        let probe = Request {
            op: 0,
            actor,
            acting_as,
            what,
            is_known: client.role == Role::Mqtt,
        };
        if client.role == Role::Socket && probe.frame(model).is_none() {
            return;
        }
        self.registrations += usize::from(matches!(probe.what, What::Register(_)));
        let now = self.world.step;
        let (request, happening) = Request::new(model, now, probe);
        if let Some(happening) = happening {
            self.known.happenings.insert(request.op, happening);
        }
        self.world
            .say(format_args!("client {index} asks {request:?}"));
        client.send(&mut self.world, &self.known.model, request);
    }

    /// Nobody begins anything until all is done; then what must hold is checked.
    fn rest(&mut self) -> Result<()> {
        self.is_pause = true;
        self.known.is_quiet = false;
        let tired = self.world.now + TIRED;
        let mut until = self.world.now + REST;
        let last_step = self.world.step + REST_STEPS_MAX;
        while self.world.now < until || !self.world.is_still() {
            if !self.world.is_still() {
                // What was done last may wait for a commit that has not left yet.
                let is_tired = self.world.now > tired;
                until = self.world.now + if is_tired { SHORT_REST } else { REST };
            }
            ensure!(self.world.step < last_step, "the world does not rest");
            if !self.step()? {
                break;
            }
        }
        for client in &self.clients {
            let waits = client.talk.queue.front();
            ensure!(
                waits.is_none() || !self.world.is_up(),
                "client {} waits for ever: {waits:?}",
                client.index
            );
        }
        let dropped = self.world.dropped();
        let (clients, now) = (&self.clients, self.world.step);
        self.known.check_rest(clients, now, dropped)
    }

    /// From here on nothing is slow or cut, and everybody connects with a good token.
    fn calm_down(&mut self) -> Result<()> {
        self.world.say(format_args!("the world turns kind"));
        self.world.is_calm = true;
        self.world.hurry_start();
        self.world.reset_vanished();
        self.is_pause = true;
        self.rest()
    }

    /// All that was acknowledged is still there, and everybody hears all once more.
    fn last_round(&mut self) -> Result<()> {
        while self.good().len() < 2 {
            let choice = Choice {
                model: &self.known.model,
                now: self.world.step,
                registrations: self.registrations,
            };
            let what = choice.registration(&mut self.world.chance, true);
            let what = what.context("too few registrations are left")?;
            self.send(0, None, None, what);
            self.rest()?;
        }
        self.wake_all();
        self.rest()?;
        self.look()?;
        self.world.say(format_args!("everybody sends once more"));
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            if client.talk.ready.is_none() || client.role == Role::Stream {
                continue;
            }
            let good = self.good();
            let actor = match client.role {
                Role::Http => self.world.chance.pick(&good),
                _ => client.me,
            };
            let all = (0..self.known.model.devices.len()).collect();
            self.send(index, Some(actor), None, What::Message(all, true));
            self.send(index, Some(actor), None, What::Broadcast);
            let update = What::SetProperty(actor.0, 0);
            if client_can(self.clients[index].role) {
                self.send(index, Some(actor), None, update);
            }
            self.rest()?;
        }
        let sent = self.known.happenings.values();
        let is_message = |event: &Event| matches!(event, Event::Message { .. });
        ensure!(
            sent.filter(|one| is_message(&one.event)).count() > 0,
            "nobody has sent anything"
        );
        self.look()
    }

    /// The tokens that are good for sure.
    fn good(&self) -> Vec<(usize, usize)> {
        let choice = Choice {
            model: &self.known.model,
            now: self.world.step,
            registrations: self.registrations,
        };
        choice.good()
    }

    /// Looks at everything while nothing changes.
    fn look(&mut self) -> Result<()> {
        let devices = self.known.model.devices.len();
        let http = 0;
        ensure!(
            self.clients[http].link.is_some(),
            "the first client is not connected"
        );
        for device in 0..devices {
            for token in 0..self.known.model.devices[device].tokens.len() {
                self.send(http, Some((device, token)), None, What::Whoami);
            }
        }
        let good = self.good();
        for (device, token) in good {
            let other = self.world.chance.index(devices);
            for what in [What::Search, What::Subscriptions(device), What::Get(other)] {
                self.send(http, Some((device, token)), None, what);
            }
        }
        self.known.is_quiet = true;
        self.quiet_rest()
    }

    fn quiet_rest(&mut self) -> Result<()> {
        let last_step = self.world.step + REST_STEPS_MAX;
        while !self.world.is_still() || !self.clients[0].talk.queue.is_empty() {
            ensure!(self.world.step < last_step, "what is asked is not answered");
            if !self.step()? {
                break;
            }
        }
        self.known.is_quiet = false;
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.is_stopping = true;
        self.world.stop()?;
        let last_step = self.world.step + REST_STEPS_MAX;
        while self.stopped < self.world.plan.shards {
            ensure!(self.world.step < last_step, "no end");
            if !self.step()? {
                break;
            }
        }
        ensure!(
            self.stopped == self.world.plan.shards,
            "not every shard has stopped"
        );
        Ok(())
    }
}

/// Whether documents can be changed by this transport.
fn client_can(role: Role) -> bool {
    matches!(role, Role::Http | Role::Socket)
}
