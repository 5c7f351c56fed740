//! What the owner of a device does at a step of somebody's request.
//!
//! Always: leave is asked of the device as it is at this moment; what a step promises to keep is
//! told only with the batch that must be durable first.

use super::ask::{Ask, Asker, Told};
use super::call::{SubscriptionOf, Way};
use crate::frame::Answer;
use crate::{Change, DeviceId, Effects, Frame, Shard};
use meshblu::{Access, DefaultWhitelists, Device, Kind, Query, Refusal, Registration, Timestamp};

/// Places of the table of devices that one step of a search looks at.
const PLACES_PER_PAGE: u32 = 512;
/// Subscriptions that one step of a list has.
const SUBSCRIPTIONS_PER_PAGE: usize = 1_024;
/// Bytes of documents after which it ends.
const PAGE_BYTES: usize = 256 * 1_024;

/// What a step comes to, or why to nothing.
pub(super) type Result<T> = std::result::Result<T, Refusal>;

impl Shard {
    /// Carries out a step and answers it, now or when a helper thread has done its part.
    pub(crate) fn execute(&mut self, asker: Asker, ask: Ask, effects: &mut Effects) {
        let (told, batch) = match ask {
            Ask::Authenticate { device, proof } => {
                return self.verify(asker, device, proof, None, effects);
            }
            Ask::Attach {
                device,
                proof,
                live,
            } => return self.verify(asker, device, proof, Some(live), effects),
            Ask::RevokeToken {
                device,
                actor,
                token,
            } => return self.revoke(asker, (device, actor), token, effects),
            other => match self.step(other, effects) {
                Ok((told, true)) => (told, self.durable.gate()),
                // What it saw may not be durable yet: nothing is promised of that.
                Ok((told, false)) => (told, 0),
                Err(refusal) => (Told::Refused(refusal), 0),
            },
        };
        self.tell_asker(asker, told, batch, effects);
    }

    /// Answers a step.
    pub(crate) fn tell_asker(
        &mut self,
        asker: Asker,
        told: Told,
        batch: u64,
        effects: &mut Effects,
    ) {
        match asker {
            Asker::Job(id) => self.on_told(id, told, batch, effects),
            Asker::Shard { to, request } => {
                let answer = Answer::Told(Box::new(told));
                let reply = Frame::Reply { request, answer };
                self.tell_when_durable(batch, to, reply, effects);
            }
        }
    }

    /// A step that needs no helper thread; whether what it did has to be durable before it is told.
    fn step(&mut self, ask: Ask, effects: &mut Effects) -> Result<(Told, bool)> {
        let asks = match ask {
            Ask::Authenticate { .. } | Ask::Attach { .. } | Ask::RevokeToken { .. } => {
                unreachable!("carried out elsewhere")
            }
            Ask::Permit {
                device,
                actor,
                access,
            } => {
                self.permitted(device, actor, access)?;
                (Told::Allowed, false)
            }
            Ask::View { device, actor } => {
                let device = self.visible(device, actor)?;
                (Told::View(self.view_of(device)), false)
            }
            Ask::Register {
                device,
                token,
                body,
            } => return self.register_here(device, &token, &body),
            Ask::Update {
                device,
                actor,
                body,
                way,
            } => return self.update_here(device, actor, &body, way, effects),
            Ask::Unregister { device, actor } => {
                return self.unregister_here(device, actor, effects);
            }
            Ask::Claim { device, owner } => return self.claim_here(device, owner, effects),
            Ask::Search {
                query,
                owner,
                actor,
                from,
            } => (
                self.search_here(query.as_deref(), owner, actor, from),
                false,
            ),
            Ask::Subscribe(of) => return self.subscribe_here(of),
            Ask::Unsubscribe {
                subscriber,
                emitter,
                kind,
            } => {
                self.can_keep()?;
                let is_kept = self.give_up(subscriber, emitter, kind);
                (Told::Allowed, is_kept)
            }
            Ask::Subscriptions { subscriber, from } => {
                (self.subscriptions_here(subscriber, from), false)
            }
            Ask::PublicKey { device } => {
                let entry = self.mesh.registry.find(device).ok_or(Refusal::NotFound)?;
                (Told::PublicKey(entry.device.public_key_json()), false)
            }
            Ask::Count => (Told::Counted(Box::new(self.counters().clone())), false),
            tokens => return self.token_step(tokens, effects),
        };
        Ok(asks)
    }

    /// A device that exists and gives the actor this leave.
    pub(super) fn permitted(
        &self,
        device: DeviceId,
        actor: DeviceId,
        access: Access,
    ) -> Result<&Device> {
        let entry = self.mesh.registry.find(device).ok_or(Refusal::NotFound)?;
        match entry.device.allows(access, actor) {
            true => Ok(&entry.device),
            false => Err(Refusal::Forbidden),
        }
    }

    /// A device that the actor may see. One that it may not see does not exist for it.
    fn visible(&self, device: DeviceId, actor: DeviceId) -> Result<&Device> {
        self.permitted(device, actor, Access::DiscoverView)
            .map_err(|_| Refusal::NotFound)
    }

    /// A device that the actor may configure. One that it may not even see does not exist for it.
    pub(super) fn configurable(&self, device: DeviceId, actor: DeviceId) -> Result<&Device> {
        self.permitted(device, actor, Access::ConfigureUpdate)
    }

    /// A document as it is shown.
    pub(super) fn view_of(&self, device: &Device) -> Vec<u8> {
        let entry = self.mesh.registry.find(device.uuid());
        let is_online = entry.is_some_and(|entry| !entry.live.is_empty());
        let mut view = Vec::with_capacity(device.bytes());
        device.write_view(is_online, &[], &mut view);
        view
    }

    /// Keeps a change as it is promised.
    pub(super) fn keep(&mut self, change: Change) {
        if self.durable.is_on() {
            let is_promised = self.durable.is_promised();
            self.durable.push(change, is_promised, self.now);
        }
    }

    /// Nothing is changed that could not be kept.
    pub(super) fn can_keep(&self) -> Result<()> {
        match self.durable.is_stalled || self.durable.is_congested() {
            true => Err(Refusal::Busy),
            false => Ok(()),
        }
    }

    /// A device is not changed when those who hear of it could not be told.
    fn can_change(&self, device: DeviceId) -> Result<()> {
        match self.mesh.room.has_place_for_event_of(device) {
            true => self.can_keep(),
            false => Err(Refusal::Busy),
        }
    }

    pub(super) fn timestamp(&self) -> Timestamp {
        Timestamp(self.now.0)
    }

    fn register_here(
        &mut self,
        device: DeviceId,
        token: &str,
        body: &[u8],
    ) -> Result<(Told, bool)> {
        self.can_keep()?;
        if self.mesh.registry.len() >= self.config.limits.devices_max {
            return Err(Refusal::Busy);
        }
        self.has_room_for(body.len())?;
        if self.mesh.registry.find(device).is_some() {
            return Err(Refusal::Conflict);
        }
        let default_whitelists = match self.config.mesh.is_private_by_default {
            true => DefaultWhitelists::Private,
            false => DefaultWhitelists::Open,
        };
        let rules = Registration { default_whitelists };
        let document = Device::register(body, device, self.timestamp(), &rules)?;
        let quoted = format!("\"{token}\"");
        let mut view = Vec::with_capacity(document.bytes() + 64);
        document.write_view(false, &[("token", &quoted)], &mut view);
        self.keep(Change::PutDevice {
            device,
            record: document.to_record().into(),
        });
        self.mesh.registry.insert(document);
        self.add_token(device, token, Default::default(), true);
        Ok((Told::View(view), true))
    }

    /// Whether documents may grow by so many bytes.
    fn has_room_for(&self, bytes: usize) -> Result<()> {
        let all = self.mesh.registry.bytes() + bytes;
        match all > self.config.limits.device_bytes_max {
            true => Err(Refusal::Busy),
            false => Ok(()),
        }
    }

    fn update_here(
        &mut self,
        id: DeviceId,
        actor: DeviceId,
        body: &[u8],
        way: Way,
        effects: &mut Effects,
    ) -> Result<(Told, bool)> {
        let old = self.configurable(id, actor)?;
        let is_operators = Device::is_operators(body);
        let wanted = match way {
            Way::Put => is_operators,
            Way::Merge => false,
            Way::Operators => true,
        };
        if wanted != is_operators {
            let detail = match wanted {
                true => "expected update operators",
                false => "expected properties, not operators",
            };
            return Err(Refusal::invalid(detail));
        }
        self.has_room_for(body.len())?;
        let before = self.view_of(old);
        let now = self.timestamp();
        let new = match wanted {
            true => old.operate(body, now)?,
            false => old.merge(body, now)?,
        };
        self.can_change(id)?;
        let view = self.put_document(new, effects);
        let told = Told::Updated {
            view,
            before,
            is_operators,
        };
        Ok((told, true))
    }

    fn claim_here(
        &mut self,
        id: DeviceId,
        owner: DeviceId,
        effects: &mut Effects,
    ) -> Result<(Told, bool)> {
        let old = self.configurable(id, owner)?;
        if old.owner().is_some() {
            return Err(Refusal::Forbidden);
        }
        let new = old.claimed(owner, self.timestamp());
        self.can_change(id)?;
        self.put_document(new, effects);
        let entry = self.mesh.registry.find(id).expect("just put");
        let quoted = format!("\"{owner}\"");
        let mut view = Vec::new();
        let extra = [("owner", quoted.as_str())];
        let is_online = !entry.live.is_empty();
        entry.device.write_view(is_online, &extra, &mut view);
        Ok((Told::View(view), true))
    }

    /// Puts a changed document in its place and tells who hears of it; returns how it is shown.
    fn put_document(&mut self, new: Device, effects: &mut Effects) -> Vec<u8> {
        let id = new.uuid();
        self.keep(Change::PutDevice {
            device: id,
            record: new.to_record().into(),
        });
        let view = self.view_of(&new);
        self.mesh.registry.replace(new);
        self.emit_config(id, &view, effects);
        view
    }

    fn unregister_here(
        &mut self,
        id: DeviceId,
        actor: DeviceId,
        effects: &mut Effects,
    ) -> Result<(Told, bool)> {
        self.configurable(id, actor)?;
        self.can_change(id)?;
        self.emit_unregistered(id, effects);
        let entry = self.mesh.registry.remove(id).expect("just seen");
        self.keep(Change::RemoveDevice { device: id });
        for live in entry.live {
            self.end_live(live, id, effects);
        }
        // What it heard of is of no use to anybody now, on this shard and on all others.
        for shard in 0..self.config.shards {
            let shard = crate::ShardId(shard);
            match shard == self.config.shard {
                true => self.on_device_gone(id),
                false => {
                    let gone = Frame::DeviceGone { device: id };
                    self.lanes.send(shard, gone, effects);
                }
            }
        }
        Ok((Told::Allowed, true))
    }

    /// A device that is no more hears of nobody.
    pub(crate) fn forget_subscriber(&mut self, subscriber: DeviceId) {
        self.give_up(subscriber, None, None);
    }

    /// Ends the subscriptions of a device that match; whether there were any.
    fn give_up(
        &mut self,
        subscriber: DeviceId,
        emitter: Option<DeviceId>,
        kind: Option<Kind>,
    ) -> bool {
        let gone = self.mesh.registry.unsubscribe(subscriber, emitter, kind);
        let is_kept = !gone.is_empty();
        for (emitter, kind) in gone {
            let of = SubscriptionOf {
                subscriber,
                emitter,
                kind,
            };
            self.keep(Change::RemoveDeviceSubscription(of.record()));
        }
        is_kept
    }

    fn subscribe_here(&mut self, of: SubscriptionOf) -> Result<(Told, bool)> {
        self.permitted(of.emitter, of.subscriber, of.kind.access())?;
        self.can_keep()?;
        let maximum = self.config.limits.device_subscriptions_max;
        if self.mesh.registry.hears(of.subscriber).len() >= maximum {
            return Err(Refusal::Busy);
        }
        let record = of.record();
        match self.mesh.registry.subscribe(record, of.kind, maximum) {
            None => Err(Refusal::Busy),
            Some(is_new) => {
                if is_new {
                    self.keep(Change::PutDeviceSubscription(record));
                }
                Ok((Told::Allowed, true))
            }
        }
    }

    /// A page of what a device hears of among this shard's.
    fn subscriptions_here(&self, subscriber: DeviceId, from: u32) -> Told {
        let hears = self.mesh.registry.hears(subscriber);
        let end = (from as usize).saturating_add(SUBSCRIPTIONS_PER_PAGE);
        let page = hears.iter().enumerate().skip(from as usize);
        let found = page
            .take(SUBSCRIPTIONS_PER_PAGE)
            .map(|(place, &(emitter, kind))| {
                let of = SubscriptionOf {
                    subscriber,
                    emitter,
                    kind,
                };
                (place as u32, of.record())
            });
        Told::Subscriptions {
            found: found.collect(),
            next: (end < hears.len()).then_some(end as u32),
        }
    }

    fn search_here(
        &self,
        query: Option<&Query>,
        owner: Option<DeviceId>,
        actor: DeviceId,
        from: u32,
    ) -> Told {
        let (entries, next) = self.mesh.registry.page(from, PLACES_PER_PAGE);
        let (mut views, mut bytes) = (Vec::new(), 0);
        for (place, entry) in entries {
            let device = &entry.device;
            if bytes >= PAGE_BYTES {
                let next = Some(place);
                return Told::Page { views, next };
            }
            let is_meant = owner
                .is_none_or(|owner| device.owner() == Some(owner) && device.uuid() != owner)
                && device.allows(Access::DiscoverView, actor)
                && query.is_none_or(|query| query.matches(device, !entry.live.is_empty()));
            if is_meant {
                let view = self.view_of(device);
                bytes += view.len();
                views.push((place, view));
            }
        }
        Told::Page { views, next }
    }
}
