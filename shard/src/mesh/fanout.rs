//! Who hears of what: the one place where the eight kinds of subscription have a meaning.
//!
//! A device always hears what is addressed to it and when its own document changes. Whoever has
//! subscribed hears of what a device sends (`*.sent`, told by the device's own shard) and of what
//! reaches it (`*.received`, told by the shard of the device that it reached); one copy for each
//! subscription that matches. Each time the device that is heard of is asked for its leave anew.
//!
//! Always: what is passed on because somebody *received* it is not passed on further. What there is
//! to do is a list of steps; `telling.rs` says when each is done.

use super::emission::{Emission, Hearing, MeshEvent};
use super::telling::{Stage, Step, Turn};
use crate::pending::{Origin, Ticket};
use crate::{DeviceId, Effects, Frame, RequestId, Shard, ShardId};
use meshblu::{Access, Kind, Outgoing};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that are copied for a device's own forwarders in the time that it takes to tell one device.
const BYTES_PER_DEVICE: usize = 1_024;

/// Devices by the shard that they live on.
type ByShard = BTreeMap<ShardId, Vec<DeviceId>>;

impl Shard {
    /// Sends a device's message on its way.
    pub(crate) fn emit_message(
        &mut self,
        from: DeviceId,
        outgoing: &Outgoing,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        self.counters.mesh_messages += 1;
        let emission = Arc::new(Emission::new(from, outgoing, 0));
        for to in self.shards_of(&emission) {
            match to == self.config.shard {
                true => self.emit_here(&emission, ticket, effects),
                false => self.emit_there(to, &emission, ticket, effects),
            }
        }
    }

    /// Sends a message on its way that a device has sent to itself by its own wish, so often.
    /// Returns whether there is room for it.
    pub(super) fn emit_again(
        &mut self,
        from: DeviceId,
        outgoing: &Outgoing,
        hops: u8,
        effects: &mut Effects,
    ) -> bool {
        if !self.mesh.room.has_place_for(from) {
            return false;
        }
        self.counters.mesh_messages += 1;
        let emission = Arc::new(Emission::new(from, outgoing, hops));
        let mut ticket = Ticket::awaited(Origin::Nobody);
        // It is a part of the fan-out that is under way, and there may be one for each device.
        let steps = self.steps_here(&emission);
        self.fan_out_later((from, Stage::First), steps, &mut ticket, effects);
        for to in self.shards_of(&emission) {
            if to != self.config.shard {
                self.emit_there(to, &emission, &mut ticket, effects);
            }
        }
        self.hold_until_told(from, emission.bytes(), &ticket);
        self.finish_ticket(ticket, effects);
        true
    }

    /// Where the addressees and the sender of a message live.
    fn shards_of(&self, emission: &Emission) -> Vec<ShardId> {
        let devices = emission.direct.iter().chain([&emission.from]);
        let mut shards: Vec<ShardId> = devices
            .map(|device| self.placement.device(*device))
            .collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    fn emit_there(
        &mut self,
        to: ShardId,
        emission: &Arc<Emission>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let request = Some(RequestId(ticket.wait(&mut self.pending)));
        let emission = Arc::clone(emission);
        self.lanes
            .send(to, Frame::Emit { request, emission }, effects);
    }

    /// A message has come to the shard of some of its addressees, or of its sender. If its sender
    /// has too much under way nobody here is told, and the ticket says so.
    pub(crate) fn emit_here(
        &mut self,
        emission: &Arc<Emission>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let from = emission.from;
        if !self.mesh.room.has_place_for(from) {
            self.counters.dropped_fan_out_full += 1;
            ticket.is_refused = true;
            return;
        }
        let steps = self.steps_here(emission);
        self.fan_out((from, Stage::First), steps, ticket, effects);
        self.hold_until_told(from, emission.bytes(), ticket);
    }

    /// A message that somebody waits for has its share of the room until then.
    fn hold_until_told(&mut self, sender: DeviceId, bytes: usize, ticket: &Ticket) {
        if let Some(pending) = ticket.pending {
            self.mesh.room.hold(pending, sender, bytes);
        }
    }

    /// What is to be done here about a message, the last first.
    fn steps_here(&self, emission: &Arc<Emission>) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.placement.device(emission.from) == self.config.shard {
            let events = emission.broadcast.iter().chain([&emission.message]);
            steps.extend(events.map(|event| subscribers_to_sent(emission.from, event)));
        }
        let is_here = |device: &DeviceId| self.placement.device(*device) == self.config.shard;
        let to: Vec<DeviceId> = emission.direct.iter().copied().filter(is_here).collect();
        if !to.is_empty() {
            let event = Arc::clone(&emission.message);
            steps.push(Step::Addressees { to, at: 0, event });
        }
        steps
    }

    /// Something has happened to a device itself: it hears of it, and who subscribed to that.
    pub(super) fn emit_config(&mut self, device: DeviceId, view: &[u8], effects: &mut Effects) {
        let event = Arc::new(MeshEvent::config(device, view));
        let itself = Step::Devices {
            to: vec![device],
            at: 0,
            event: Arc::clone(&event),
            is_onward: true,
        };
        let steps = vec![subscribers_to_sent(device, &event), itself];
        let mut ticket = Ticket::awaited(Origin::Nobody);
        self.fan_out((device, Stage::First), steps, &mut ticket, effects);
        self.hold_until_told(device, event.bytes(), &ticket);
        self.finish_ticket(ticket, effects);
    }

    /// A device is about to be removed: whoever subscribed to that is chosen now, since afterwards
    /// nobody knows who that was.
    pub(super) fn emit_unregistered(&mut self, device: DeviceId, effects: &mut Effects) {
        let event = Arc::new(MeshEvent::unregistered(device));
        let mut ticket = Ticket::awaited(Origin::Nobody);
        let mut steps = Vec::new();
        self.forward(device, event.kind.sent(), &event, effects);
        let mut sent = self.choose(device, event.kind.sent(), None, usize::MAX);
        // As itself, and perhaps as one who subscribed to itself.
        let hears = 1 + sent.take_out(device);
        steps.extend(self.tell_others(sent, &event, true, Stage::First, &mut ticket, effects));
        for _ in 0..hears {
            self.tell_connections(device, &event, &mut ticket, effects);
            self.forward(device, event.kind.received(), &event, effects);
            let mut received = self.choose(device, event.kind.received(), None, usize::MAX);
            for _ in 0..received.take_out(device) {
                self.tell_connections(device, &event, &mut ticket, effects);
            }
            let first = Stage::First;
            steps.extend(self.tell_others(received, &event, false, first, &mut ticket, effects));
        }
        self.fan_out((device, Stage::First), steps, &mut ticket, effects);
        self.hold_until_told(device, event.bytes(), &ticket);
        self.finish_ticket(ticket, effects);
    }

    /// Does the next piece of a step.
    pub(super) fn take_step(
        &mut self,
        step: &mut Step,
        stage: Stage,
        budget: &mut usize,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) -> Turn {
        match step {
            Step::Addressees { to, at, event } => {
                let Some(&device) = to.get(*at) else {
                    return Turn::Done;
                };
                *at += 1;
                *budget = budget.saturating_sub(1);
                let may = self.permitted(device, event.from, Access::MessageFrom);
                if may.is_err() {
                    self.counters.mesh_denied += 1;
                    return Turn::More;
                }
                self.hear(device, event, true, budget, ticket, effects)
            }
            Step::Devices {
                to,
                at,
                event,
                is_onward,
            } => {
                let Some(&device) = to.get(*at) else {
                    return Turn::Done;
                };
                *at += 1;
                *budget = budget.saturating_sub(1);
                self.hear(device, event, *is_onward, budget, ticket, effects)
            }
            Step::Subscribers {
                emitter,
                kind,
                event,
                is_onward,
                after,
            } => {
                if after.is_none() {
                    let copied = self.forward(*emitter, *kind, event, effects);
                    *budget = budget.saturating_sub(copied / BYTES_PER_DEVICE);
                }
                let chosen = self.choose(*emitter, *kind, *after, *budget);
                *budget = budget.saturating_sub(chosen.seen);
                *after = chosen.next;
                let is_last = chosen.next.is_none();
                match self.tell_others(chosen, event, *is_onward, stage, ticket, effects) {
                    None if is_last => Turn::Done,
                    None => Turn::More,
                    Some(here) if is_last => Turn::Last(here),
                    Some(here) => Turn::First(here),
                }
            }
        }
    }

    /// At most so many of those who subscribed to a kind of event of a device of this shard.
    fn choose(
        &self,
        emitter: DeviceId,
        kind: Kind,
        after: Option<DeviceId>,
        most: usize,
    ) -> Chosen {
        let mut chosen = Chosen::default();
        let Some(entry) = self.mesh.registry.find(emitter) else {
            return chosen;
        };
        let first = entry.subscribers.partition_point(|known| match after {
            None => known.0 < kind,
            Some(after) => *known <= (kind, after),
        });
        let of_kind = entry.subscribers[first..]
            .iter()
            .take_while(|known| known.0 == kind);
        for &(_, subscriber) in of_kind {
            if chosen.seen == most {
                chosen.next = chosen.last;
                break;
            }
            chosen.seen += 1;
            chosen.last = Some(subscriber);
            if !entry.device.allows(kind.access(), subscriber) {
                chosen.denied += 1;
                continue;
            }
            let home = self.placement.device(subscriber);
            match home == self.config.shard {
                true => chosen.here.push(subscriber),
                false => chosen.elsewhere.entry(home).or_default().push(subscriber),
            }
        }
        chosen
    }

    /// Has those told who live elsewhere; what is left is to tell those who live here.
    fn tell_others(
        &mut self,
        chosen: Chosen,
        event: &Arc<MeshEvent>,
        is_onward: bool,
        stage: Stage,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) -> Option<Step> {
        self.counters.mesh_denied += chosen.denied;
        let is_onward = is_onward && passes_on(event);
        for (home, to) in chosen.elsewhere {
            let request = Some(RequestId(ticket.wait(&mut self.pending)));
            let hearing = Box::new(Hearing {
                to,
                event: Arc::clone(event),
                stage: stage.next(),
                is_onward,
            });
            self.lanes
                .send(home, Frame::Hear { request, hearing }, effects);
        }
        let to = chosen.here;
        (!to.is_empty()).then(|| Step::Devices {
            to,
            at: 0,
            event: Arc::clone(event),
            is_onward,
        })
    }

    /// Devices of this shard hear an event that another shard has passed on.
    pub(crate) fn hear_here(
        &mut self,
        hearing: Hearing,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let source = (hearing.event.from, hearing.stage);
        let step = Step::Devices {
            to: hearing.to,
            at: 0,
            event: hearing.event,
            is_onward: hearing.is_onward,
        };
        self.fan_out(source, vec![step], ticket, effects);
    }

    /// A device of this shard hears an event.
    fn hear(
        &mut self,
        device: DeviceId,
        event: &Arc<MeshEvent>,
        is_onward: bool,
        budget: &mut usize,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) -> Turn {
        let Some(entry) = self.mesh.registry.find(device) else {
            return Turn::More; // Unregistered meanwhile.
        };
        *budget = budget.saturating_sub(entry.live.len());
        self.tell_connections(device, event, ticket, effects);
        match is_onward {
            false => Turn::More,
            true => Turn::First(Step::Subscribers {
                emitter: device,
                kind: event.kind.received(),
                event: Arc::clone(event),
                is_onward: false,
                after: None,
            }),
        }
    }
}

/// Some of those who subscribed to an event.
#[derive(Default)]
struct Chosen {
    here: Vec<DeviceId>,
    elsewhere: ByShard,
    /// They may not hear it.
    denied: u64,
    /// How many have been looked at.
    seen: usize,
    /// The last of them.
    last: Option<DeviceId>,
    /// There are more, after this one.
    next: Option<DeviceId>,
}

impl Chosen {
    /// Takes a device of this shard out; how often it was among them.
    fn take_out(&mut self, device: DeviceId) -> usize {
        let before = self.here.len();
        self.here.retain(|subscriber| *subscriber != device);
        before - self.here.len()
    }
}

fn subscribers_to_sent(emitter: DeviceId, event: &Arc<MeshEvent>) -> Step {
    Step::Subscribers {
        emitter,
        kind: event.kind.sent(),
        event: Arc::clone(event),
        is_onward: true,
        after: None,
    }
}

/// Whether a subscriber *receives* the event, so that those who hear of what it receives hear of
/// it. A message sent to somebody else is only watched.
fn passes_on(event: &MeshEvent) -> bool {
    use super::emission::EventKind::*;
    match event.kind {
        Message => false,
        Broadcast | Config | Unregistered => true,
    }
}
