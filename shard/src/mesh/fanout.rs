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

/// Devices by the shard that they live on.
type ByShard = BTreeMap<ShardId, Vec<DeviceId>>;

impl Shard {
    /// Sends a device's message on its way. Returns a shard that the sender had better wait for.
    pub(crate) fn emit_message(
        &mut self,
        from: DeviceId,
        outgoing: &Outgoing,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) -> Option<ShardId> {
        self.counters.mesh_messages += 1;
        let emission = Arc::new(Emission::new(from, outgoing, 0));
        let mut congested = None;
        for to in self.shards_of(&emission) {
            if to == self.config.shard {
                self.emit_here(emission.clone(), ticket, effects);
                continue;
            }
            self.emit_there(to, &emission, ticket, effects);
            congested = congested.or(self.lanes.is_congested(to, effects).then_some(to));
        }
        congested
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
        if !self.mesh.tellings.has_room_for(from) {
            return false;
        }
        self.counters.mesh_messages += 1;
        let emission = Arc::new(Emission::new(from, outgoing, hops));
        let mut ticket = Ticket::awaited(Origin::Nobody);
        // It is a part of the fan-out that is under way, and there may be one for each device.
        let bytes = emission.bytes();
        let steps = self.steps_here(&emission);
        self.fan_out_later((from, Stage::Sent), steps, bytes, &mut ticket, effects);
        for to in self.shards_of(&emission) {
            if to != self.config.shard {
                self.emit_there(to, &emission, &mut ticket, effects);
            }
        }
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

    /// A message has come to the shard of some of its addressees, or of its sender.
    pub(crate) fn emit_here(
        &mut self,
        emission: Arc<Emission>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let steps = self.steps_here(&emission);
        let source = (emission.from, Stage::Sent);
        self.fan_out(source, steps, emission.bytes(), ticket, effects);
    }

    /// What is to be done here about a message, the last first.
    fn steps_here(&self, emission: &Arc<Emission>) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.placement.device(emission.from) == self.config.shard {
            let events = emission.broadcast.iter().chain([&emission.message]);
            steps.extend(events.map(|event| subscribers_to_sent(emission.from, event)));
        }
        if !emission.direct.is_empty() {
            steps.push(Step::Addressees {
                emission: Arc::clone(emission),
                at: 0,
            });
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
        let source = (device, Stage::Sent);
        self.fan_out(source, steps, event.bytes(), &mut ticket, effects);
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
        steps.extend(self.tell_others(sent, &event, true, &mut ticket, effects));
        for _ in 0..hears {
            self.tell_connections(device, &event, &mut ticket, effects);
            self.forward(device, event.kind.received(), &event, effects);
            let mut received = self.choose(device, event.kind.received(), None, usize::MAX);
            for _ in 0..received.take_out(device) {
                self.tell_connections(device, &event, &mut ticket, effects);
            }
            steps.extend(self.tell_others(received, &event, false, &mut ticket, effects));
        }
        let source = (device, Stage::Sent);
        self.fan_out(source, steps, event.bytes(), &mut ticket, effects);
        self.finish_ticket(ticket, effects);
    }

    /// Does the next piece of a step.
    pub(super) fn take_step(
        &mut self,
        step: &mut Step,
        budget: &mut usize,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) -> Turn {
        match step {
            Step::Addressees { emission, at } => {
                let Some(&device) = emission.direct.get(*at) else {
                    return Turn::Done;
                };
                *at += 1;
                *budget = budget.saturating_sub(1);
                if self.placement.device(device) != self.config.shard {
                    return Turn::More;
                }
                let may = self.permitted(device, emission.from, Access::MessageFrom);
                if may.is_err() {
                    self.counters.mesh_denied += 1;
                    return Turn::More;
                }
                self.hear(device, &emission.message, true, budget, ticket, effects)
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
                    self.forward(*emitter, *kind, event, effects);
                }
                let chosen = self.choose(*emitter, *kind, *after, *budget);
                *budget = budget.saturating_sub(chosen.seen);
                *after = chosen.next;
                let is_last = chosen.next.is_none();
                match self.tell_others(chosen, event, *is_onward, ticket, effects) {
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
        let stage = match hearing.is_onward {
            true => Stage::Onward,
            false => Stage::Heard,
        };
        let source = (hearing.event.from, stage);
        // The event itself is counted with the message.
        let bytes = size_of::<Hearing>() + size_of_val(&*hearing.to);
        let step = Step::Devices {
            to: hearing.to,
            at: 0,
            event: hearing.event,
            is_onward: hearing.is_onward,
        };
        self.fan_out(source, vec![step], bytes, ticket, effects);
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
