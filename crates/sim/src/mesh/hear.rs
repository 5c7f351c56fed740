//! What shards send to clients: answers are judged, events are counted.

use super::client::{Client, Role};
use super::happening::{Copies, Event, Happening, NAMES};
use super::judge::{Verdict, check_view, judge, learn};
use super::model::Model;
use super::wire::{Frame, take_answer, take_events};
use crate::world::World;
use anyhow::{Context, Result, bail, ensure};
use mqtt_v5_codec::{AckKind, Packet, ReasonCode, Version};
use serde_json::Value;
use std::collections::BTreeMap;

/// A connection, an index into [`NAMES`], and what it was about.
type Heard = (usize, usize, u64);

/// All that is known of a run.
#[derive(Debug, Default)]
pub struct Known {
    /// What is possible.
    pub model: Model,
    /// What was to be heard, by the number of its request.
    pub happenings: BTreeMap<usize, Happening>,
    /// How often it was.
    heard: BTreeMap<Heard, u32>,
    /// Events that were heard.
    pub events: u64,
    /// Nothing is changed: `online` is what it is.
    pub is_quiet: bool,
    /// Happenings before this request have been checked.
    checked: usize,
}

/// What an event about a device is called that has been changed by this request.
fn about(device: usize, op: u64) -> u64 {
    (device as u64) << 40 | op
}

impl Known {
    /// A shard has sent bytes to a client.
    ///
    /// # Errors
    /// It must not have.
    pub fn on_emitted(
        &mut self,
        client: &mut Client,
        online: &[usize],
        world: &mut World,
        bytes: &[u8],
    ) -> Result<()> {
        match client.role {
            Role::Mqtt => {
                client.talk.framer.push(bytes);
                while let Some(raw) = client.talk.framer.next_packet()? {
                    let packet = raw.decode(Version::V5)?;
                    self.on_packet(client, &packet, world)?;
                }
                return Ok(());
            }
            _ => client.talk.received.extend_from_slice(bytes),
        }
        if client.role == Role::Http {
            while let Some(answer) = take_answer(&mut client.talk.received)? {
                if answer.status == 408 {
                    client.talk.queue.clear(); // Nothing of it was read.
                    continue;
                }
                let verdict = match answer.status {
                    200 | 201 | 204 => Verdict::Done,
                    401 => Verdict::Unauthorized,
                    403 | 404 => Verdict::Denied,
                    other => bail!("status {other}: {}", answer.body),
                };
                if self.is_quiet && verdict == Verdict::Done {
                    self.check_online(&answer.body, online)?;
                }
                self.on_answer(client, verdict, &answer.body, world)?;
            }
            return Ok(());
        }
        if !client.talk.is_open {
            let Some(answer) = take_answer(&mut client.talk.received)? else {
                return Ok(());
            };
            client.talk.is_open = true;
            match (client.role, answer.status) {
                (Role::Socket, 101) => {}
                (Role::Stream, 200) => {
                    ensure!(answer.is_stream, "a stream that is none");
                    self.on_hello(client, true, world)?;
                }
                (Role::Stream, 401) => return self.on_hello(client, false, world),
                (_, 408) => return Ok(()),
                (_, other) => bail!("status {other} instead of a stream: {}", answer.body),
            }
        }
        if client.role == Role::Stream {
            let talk = &mut client.talk;
            let events = take_events(&mut talk.received, &mut talk.text)?;
            for event in events {
                let name = event["event"].as_str().unwrap_or_default().to_owned();
                self.on_event(client, &name, &event, world)?;
            }
            return Ok(());
        }
        let talk = &mut client.talk;
        for frame in talk.socket.take(&mut talk.received)? {
            match frame {
                Frame::Text(value) => self.on_frame(client, &value, world)?,
                Frame::Ping => client.pong(world),
                Frame::Close => client.talk.ready = None,
            }
        }
        Ok(())
    }

    /// The token that opened a connection has been looked at.
    fn on_hello(&mut self, client: &mut Client, is_good: bool, world: &World) -> Result<()> {
        let (hello, (device, token), now) = (client.talk.hello, client.me, world.step);
        let valid = self
            .model
            .is_valid(device, token, self.model.times[hello].from, now);
        match is_good {
            true => ensure!(valid.can, "a connection for a token that is worth nothing"),
            false => ensure!(!valid.must, "no connection for a good token"),
        }
        self.model.done(hello, now);
        client.talk.ready = is_good.then_some(now);
        client.talk.is_refused = !is_good;
        Ok(())
    }

    fn on_answer(
        &mut self,
        client: &mut Client,
        verdict: Verdict,
        body: &Value,
        world: &mut World,
    ) -> Result<()> {
        let pending = client.talk.queue.pop_front();
        let pending = pending.with_context(|| format!("an answer to nothing: {body}"))?;
        self.on_verdict(&pending.request, verdict, body, world)
    }

    fn on_verdict(
        &mut self,
        request: &super::request::Request,
        verdict: Verdict,
        body: &Value,
        world: &mut World,
    ) -> Result<()> {
        let (op, now) = (request.op, world.step);
        world.say(format_args!("request {op} is answered: {verdict:?} {body}"));
        judge(&mut self.model, request, verdict, now)?;
        if verdict == Verdict::Done {
            self.model.done(op, now);
            return learn(&mut self.model, request, body, now)
                .with_context(|| format!("{request:?}"));
        }
        self.model.void(op, now);
        let is_of_it = |(_, name, number): &Heard| match name {
            0 | 1 => *number == op as u64,
            2 => number & ((1 << 40) - 1) == op as u64,
            _ => false,
        };
        ensure!(
            !self.heard.keys().any(is_of_it),
            "what was refused has been heard: {request:?}"
        );
        Ok(())
    }

    fn on_packet(
        &mut self,
        client: &mut Client,
        packet: &Packet<'_>,
        world: &mut World,
    ) -> Result<()> {
        match packet {
            Packet::Connack(connack) => {
                let is_good = connack.reason == ReasonCode::Success;
                self.on_hello(client, is_good, world)?;
                client.talk.is_open = is_good;
                // It hears nothing before it has subscribed.
                client.talk.ready = None;
                if is_good {
                    client.listen(world, &self.model);
                }
            }
            Packet::Suback(_) => client.talk.ready = Some(world.step),
            Packet::Ack(ack) if ack.kind == AckKind::Puback => {
                let id = ack.packet_id.number();
                let mut queue = client.talk.queue.iter();
                let at = queue.position(|pending| pending.packet_id == id);
                let at = at.with_context(|| format!("PUBACK {id} of nothing"))?;
                let pending = client.talk.queue.remove(at).expect("just found");
                let verdict = match ack.reason {
                    ReasonCode::Success => Verdict::Done,
                    ReasonCode::NotAuthorized => Verdict::Refused,
                    other => bail!("PUBACK {other:?}"),
                };
                self.on_verdict(&pending.request, verdict, &Value::Null, world)?;
            }
            Packet::Publish(publish) => {
                let (uuid, name) = publish.topic.split_once('/').unwrap_or_default();
                let own = &self.model.devices[client.me.0].uuid;
                ensure!(uuid == own, "somebody else's topic {}", publish.topic);
                let event: Value = serde_json::from_slice(publish.payload)?;
                let name = name.to_owned();
                if let Some(id) = publish.packet_id {
                    client.acknowledge(world, id);
                }
                ensure!(!publish.dup, "a message for the second time");
                self.on_event(client, &name, &event, world)?;
            }
            Packet::Disconnect(_) => client.talk.ready = None,
            other => bail!("out of place: {other:?}"),
        }
        Ok(())
    }

    fn on_frame(&mut self, client: &mut Client, value: &Value, world: &mut World) -> Result<()> {
        let name = value["event"].as_str().unwrap_or_default().to_owned();
        match &*name {
            "ready" => self.on_hello(client, true, world)?,
            "notReady" => self.on_hello(client, false, world)?,
            "whoami" => return self.on_body(client, &value["device"]),
            "registered" => return self.on_body(client, value),
            "error" => {
                let pending = client.talk.queue.front_mut();
                let pending = pending.with_context(|| format!("of nothing: {value}"))?;
                pending.is_refused = true;
            }
            "pong" => {
                let front = client.talk.queue.front();
                let is_refused = front.is_some_and(|pending| pending.is_refused);
                let verdict = match is_refused {
                    true => Verdict::Refused,
                    false => Verdict::Done,
                };
                let body = std::mem::take(&mut client.talk.body);
                self.on_answer(client, verdict, &body, world)?;
            }
            "config" => self.on_event(client, &name, &value["device"], world)?,
            _ => self.on_event(client, &name, value, world)?,
        }
        Ok(())
    }

    /// What is told before the pong that ends a request.
    fn on_body(&mut self, client: &mut Client, body: &Value) -> Result<()> {
        ensure!(client.talk.body.is_null(), "two answers: {body}");
        client.talk.body = body.clone();
        Ok(())
    }

    /// A device hears of something.
    fn on_event(
        &mut self,
        client: &Client,
        name: &str,
        body: &Value,
        world: &mut World,
    ) -> Result<()> {
        self.events += 1;
        let link = client.link.context("a connection that has been left")?.0;
        let (hearer, now) = (client.me.0, world.step);
        world.say(format_args!(
            "device {hearer} hears on link {link}: {name} {body}"
        ));
        let at = NAMES.iter().position(|known| *known == name);
        let at = at.with_context(|| format!("an unknown event: {body}"))?;
        let (number, copies) = match at {
            0 | 1 => self.message_copies(hearer, at, body, now)?,
            2 => {
                let body = body.get("device").unwrap_or(body);
                self.config_copies(hearer, body, now)?
            }
            _ => self.end_copies(hearer, body, now)?,
        };
        let heard = self.heard.entry((link, at, number)).or_default();
        *heard += 1;
        ensure!(
            *heard <= copies.max,
            "device {hearer} hears of {name} {number} on link {link} {heard} times, at most {} \
             are allowed: {body}",
            copies.max
        );
        Ok(())
    }

    fn message_copies(
        &self,
        hearer: usize,
        name: usize,
        body: &Value,
        now: u64,
    ) -> Result<(u64, Copies)> {
        let id = body["payload"]["id"].as_u64().unwrap_or_default();
        let happening = self.happenings.get(&(id as usize));
        let happening = happening.with_context(|| format!("nobody has sent {body}"))?;
        let sender = &self.model.devices[happening.from].uuid;
        ensure!(body["fromUuid"] == **sender, "not the sender: {body}");
        ensure!(body.get("metadata").is_none(), "forged: {body}");
        let when = &self.model.times[happening.op];
        ensure!(!when.is_void, "it was refused: {body}");
        let copies = happening.copies(&self.model, hearer, name, when.from, now);
        Ok((id, copies))
    }

    fn config_copies(&self, hearer: usize, view: &Value, now: u64) -> Result<(u64, Copies)> {
        let stamp = view["stamp"].as_u64().unwrap_or_default();
        let model = &self.model;
        let from = model.times.get(stamp as usize).map_or(0, |when| when.from);
        let device = check_view(model, view, from, now)?;
        let claims = model.devices[device].claims.iter().copied();
        let mut copies = Copies::default();
        for op in claims.chain([stamp as usize]) {
            let when = &model.times[op];
            if let Some(happening) = self.happenings.get(&op)
                && !when.is_void
                && happening.event == Event::Config
            {
                let more = happening.copies(model, hearer, 2, when.from, now);
                copies = copies.plus(more);
            }
        }
        Ok((about(device, stamp), copies))
    }

    fn end_copies(&self, hearer: usize, body: &Value, now: u64) -> Result<(u64, Copies)> {
        let uuid = body["uuid"].as_str().unwrap_or_default();
        let device = self.model.find(uuid).context("the end of nobody")?;
        let mut copies = Copies::default();
        for op in &self.model.devices[device].ends {
            let when = &self.model.times[*op];
            if !when.is_void {
                let more = self.happenings[op].copies(&self.model, hearer, 3, when.from, now);
                copies.max = copies.max.max(more.max);
            }
        }
        Ok((device as u64, copies))
    }

    /// Nothing is under way: whatever had to be heard on a connection that is still there has been.
    /// Returns how many copies are missing.
    ///
    /// # Errors
    /// More are missing than shards have counted as dropped, or somebody is connected who has no
    /// right to be.
    pub fn check_rest(&mut self, clients: &[Client], now: u64, dropped: u64) -> Result<()> {
        self.model.settle(now);
        let mut missing = Vec::new();
        for client in clients {
            let Some((ready, link)) = client.talk.ready.zip(client.link) else {
                continue;
            };
            if client.role == Role::Http {
                continue;
            }
            let (device, token) = client.me;
            let valid = self.model.is_valid(device, token, now, now);
            ensure!(
                valid.can,
                "client {} is connected by a token that is worth nothing",
                client.index
            );
            for (op, happening) in self.happenings.range(self.checked..) {
                let when = &self.model.times[*op];
                // A claim leaves the stamp as it was.
                let is_claim = self.model.devices[happening.from].claims.contains(op);
                if !when.is_sure || when.from <= ready || is_claim {
                    continue;
                }
                for (name, number) in names_of(happening) {
                    let until = if name < 2 { when.until } else { now };
                    let copies = happening.copies(&self.model, device, name, when.from, until);
                    let heard = self.heard.get(&(link.0, name, number)).copied();
                    let heard = heard.unwrap_or(0);
                    if heard < copies.min {
                        missing.push(format!(
                            "device {device} has not heard of {} {op} on link {}: {heard} of {}",
                            NAMES[name], link.0, copies.min
                        ));
                    }
                }
            }
        }
        self.checked = self.model.times.len();
        ensure!(
            missing.len() as u64 <= dropped,
            "{} ({} in all, {dropped} dropped)",
            missing[0],
            missing.len()
        );
        Ok(())
    }

    /// Whether a document tells the truth about `online`.
    fn check_online(&self, view: &Value, online: &[usize]) -> Result<()> {
        if let Some(uuid) = view["uuid"].as_str()
            && let Some(device) = self.model.find(uuid)
            && let Some(shown) = view["online"].as_bool()
        {
            let is_online = online.contains(&device);
            ensure!(shown == is_online, "device {device} is online: {is_online}");
        }
        Ok(())
    }
}

/// The names under which something is heard, and what it is called there.
fn names_of(happening: &Happening) -> Vec<(usize, u64)> {
    let op = happening.op as u64;
    match &happening.event {
        Event::Message { is_broadcast, .. } => {
            let broadcast = is_broadcast.then_some((1, op));
            std::iter::once((0, op)).chain(broadcast).collect()
        }
        Event::Config => vec![(2, about(happening.from, op))],
        Event::Unregistered => vec![(3, happening.from as u64)],
    }
}
