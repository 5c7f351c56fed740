//! Who hears of what: the one place where the eight kinds of subscription have a meaning.
//!
//! A device always hears what is addressed to it and when its own document changes. Whoever has
//! subscribed hears of what a device sends (`*.sent`, told by the device's own shard) and of what
//! reaches it (`*.received`, told by the shard of the device that it reached); one copy for each
//! subscription that matches. Each time the device that is heard of is asked for its leave anew.
//!
//! Always: what is passed on because somebody *received* it is not passed on further. Work is
//! bounded by `Limits::device_subscriptions_max` and the addressees of a message.

use super::emission::{Emission, Hearing, MeshEvent};
use crate::pending::{Origin, Ticket};
use crate::{DeviceId, Effects, Frame, RequestId, Shard, ShardId};
use meshblu::{Access, Kind, Outgoing};
use std::collections::BTreeMap;
use std::sync::Arc;

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
        self.emit_message_again(from, outgoing, 0, ticket, effects);
    }

    /// Sends a message on its way that has been sent on so often by devices' own wish.
    pub(super) fn emit_message_again(
        &mut self,
        from: DeviceId,
        outgoing: &Outgoing,
        hops: u8,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        self.counters.mesh_messages += 1;
        let emission = Arc::new(Emission::new(from, outgoing, hops));
        let mut shards: Vec<ShardId> = emission
            .direct
            .iter()
            .chain([&from])
            .map(|device| self.placement.device(*device))
            .collect();
        shards.sort_unstable();
        shards.dedup();
        for to in shards {
            if to == self.config.shard {
                self.emit_here(&emission, ticket, effects);
                continue;
            }
            let request = Some(RequestId(ticket.wait(&mut self.pending)));
            let emission = Arc::clone(&emission);
            self.lanes
                .send(to, Frame::Emit { request, emission }, effects);
        }
    }

    /// A message has come to the shard of some of its addressees, or of its sender.
    pub(crate) fn emit_here(
        &mut self,
        emission: &Arc<Emission>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        for &device in &emission.direct {
            if self.placement.device(device) != self.config.shard {
                continue;
            }
            let may = self.permitted(device, emission.from, Access::MessageFrom);
            if may.is_ok() {
                self.hear(device, &emission.message, true, ticket, effects);
            } else {
                self.counters.mesh_denied += 1;
            }
        }
        if self.placement.device(emission.from) == self.config.shard {
            let from = emission.from;
            self.tell_subscribers(from, &emission.message, ticket, effects);
            if let Some(broadcast) = &emission.broadcast {
                self.tell_subscribers(from, broadcast, ticket, effects);
            }
        }
    }

    /// Something has happened to a device itself: it hears of it, and who subscribed to that.
    pub(super) fn emit_own(&mut self, device: DeviceId, event: MeshEvent, effects: &mut Effects) {
        let event = Arc::new(event);
        let mut ticket = Ticket::awaited(Origin::Nobody);
        self.hear(device, &event, true, &mut ticket, effects);
        self.tell_subscribers(device, &event, &mut ticket, effects);
        self.finish_ticket(ticket, effects);
    }

    /// Those who subscribed to what a device of this shard sends.
    fn tell_subscribers(
        &mut self,
        from: DeviceId,
        event: &Arc<MeshEvent>,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        self.forward(from, event.kind.sent(), event, effects);
        self.tell_kind(from, event.kind.sent(), event, true, ticket, effects);
    }

    /// Those who subscribed to this kind of event of a device of this shard, and may.
    fn tell_kind(
        &mut self,
        emitter: DeviceId,
        kind: Kind,
        event: &Arc<MeshEvent>,
        is_onward: bool,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let Some(entry) = self.mesh.registry.find(emitter) else {
            return;
        };
        let first = entry
            .subscribers
            .partition_point(|(known, _)| *known < kind);
        let mut remote = ByShard::new();
        let mut local = Vec::new();
        let mut denied = 0;
        for &(known, subscriber) in &entry.subscribers[first..] {
            if known != kind {
                break;
            }
            if !entry.device.allows(kind.access(), subscriber) {
                denied += 1;
                continue;
            }
            let home = self.placement.device(subscriber);
            match home == self.config.shard {
                true => local.push(subscriber),
                false => remote.entry(home).or_default().push(subscriber),
            }
        }
        self.counters.mesh_denied += denied;
        for (home, to) in remote {
            let request = Some(RequestId(ticket.wait(&mut self.pending)));
            let hearing = Box::new(Hearing {
                to,
                event: Arc::clone(event),
                is_onward: is_onward && passes_on(event),
            });
            self.lanes
                .send(home, Frame::Hear { request, hearing }, effects);
        }
        for subscriber in local {
            let is_onward = is_onward && passes_on(event);
            self.hear(subscriber, event, is_onward, ticket, effects);
        }
    }

    /// A device of this shard hears an event.
    pub(crate) fn hear(
        &mut self,
        device: DeviceId,
        event: &Arc<MeshEvent>,
        is_onward: bool,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        if self.mesh.registry.find(device).is_none() {
            return; // Unregistered meanwhile.
        }
        self.tell_connections(device, event, ticket, effects);
        if is_onward {
            self.forward(device, event.kind.received(), event, effects);
            self.tell_kind(device, event.kind.received(), event, false, ticket, effects);
        }
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
