//! The devices that a shard owns, with their tokens, their connections, and who hears of them.
//!
//! Always: a subscription lives with its emitter, and `by_subscriber` names every one of them;
//! `expiring` names every token that expires and has a connection, and no other.
//! Bounded by `Limits::devices_max`, `tokens_max` and `device_subscriptions_max`.

use super::live::Live;
use crate::map::{Map, map_with_seed};
use crate::slots::Slots;
use crate::{ConnectionId, DeviceId, DeviceSubscription, ShardId};
use meshblu::{Device, Kind, Token};
use std::collections::BTreeSet;

/// A device and what belongs to it.
#[derive(Debug)]
pub struct Entry {
    /// Its document.
    pub device: Device,
    /// What shows that somebody is this device.
    pub tokens: Vec<Token>,
    /// Its connections. In memory alone: after a start nobody is connected.
    pub live: Vec<Live>,
    /// Who hears of it, by kind and then by subscriber.
    pub subscribers: Vec<(Kind, DeviceId)>,
    /// The window of its rate limit: when it began, in seconds since 1970, and how many requests
    /// came in it.
    pub rate: (u32, u32),
}

/// All devices of a shard.
#[derive(Debug)]
pub struct Registry {
    places: Map<DeviceId, u32>,
    /// Boxed, so that the table grows without moving them.
    entries: Slots<Box<Entry>>,
    /// Whom a device hears of, among this shard's devices.
    by_subscriber: Map<DeviceId, Vec<(DeviceId, Kind)>>,
    /// Bytes of all documents and tokens.
    bytes: usize,
    /// Devices with a connection.
    online: u64,
    /// Tokens with connections that expire: when, in seconds since 1970, and whose.
    expiring: BTreeSet<(u32, DeviceId, u64)>,
}

impl Registry {
    /// Without devices.
    pub fn new(seed: u64) -> Registry {
        Registry {
            places: map_with_seed(seed),
            entries: Slots::default(),
            by_subscriber: map_with_seed(seed),
            bytes: 0,
            online: 0,
            expiring: BTreeSet::new(),
        }
    }

    /// How many devices there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// How many of them have a connection.
    pub fn online(&self) -> u64 {
        self.online
    }

    /// Bytes of documents.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A device.
    pub fn find(&self, device: DeviceId) -> Option<&Entry> {
        self.places
            .get(&device)
            .map(|place| &**self.entries.at(*place))
    }

    /// A device; its document is changed with [`Registry::replace`] only.
    pub fn find_mut(&mut self, device: DeviceId) -> Option<&mut Entry> {
        let place = *self.places.get(&device)?;
        Some(self.entries.at_mut(place))
    }

    /// Adds a device that is not there.
    pub fn insert(&mut self, device: Device) {
        let id = device.uuid();
        self.bytes += device.bytes();
        let entry = Box::new(Entry {
            device,
            tokens: Vec::new(),
            live: Vec::new(),
            subscribers: Vec::new(),
            rate: (0, 0),
        });
        let (place, _) = self.entries.insert(entry);
        let old = self.places.insert(id, place);
        assert!(old.is_none(), "a device is registered once");
    }

    /// Puts a document in the place of the one before.
    pub fn replace(&mut self, device: Device) {
        let bytes = device.bytes();
        let entry = self
            .find_mut(device.uuid())
            .expect("only what is there is replaced");
        let old = std::mem::replace(&mut entry.device, device);
        self.bytes = self.bytes + bytes - old.bytes();
    }

    /// Removes a device and the subscriptions to it.
    pub fn remove(&mut self, device: DeviceId) -> Option<Entry> {
        let place = self.places.remove(&device)?;
        let entry = self.entries.remove(place);
        self.bytes -= entry.device.bytes();
        self.online -= u64::from(!entry.live.is_empty());
        for live in &entry.live {
            self.forget_expiry(device, live);
        }
        for (kind, subscriber) in &entry.subscribers {
            self.forget_hearing(*subscriber, device, *kind);
        }
        Some(*entry)
    }

    /// Devices from this place on, at most so many places of the table; and where to go on.
    pub fn page(
        &self,
        from: u32,
        places_max: u32,
    ) -> (impl Iterator<Item = (u32, &Entry)>, Option<u32>) {
        let end = from.saturating_add(places_max);
        let is_last = end as usize >= self.entries.places();
        let entries =
            (from..end).filter_map(|at| self.entries.find(at).map(|entry| (at, &**entry)));
        (entries, (!is_last).then_some(end))
    }

    /// Adds a subscription, whose emitter is here; whether it is new. `None`: there are too many.
    pub fn subscribe(
        &mut self,
        subscription: DeviceSubscription,
        kind: Kind,
        maximum: usize,
    ) -> Option<bool> {
        let DeviceSubscription {
            emitter,
            subscriber,
            ..
        } = subscription;
        let entry = self
            .find_mut(emitter)
            .expect("the caller has seen the emitter");
        let Err(at) = entry.subscribers.binary_search(&(kind, subscriber)) else {
            return Some(false);
        };
        if entry.subscribers.len() >= maximum {
            return None;
        }
        entry.subscribers.insert(at, (kind, subscriber));
        let hears = self.by_subscriber.entry(subscriber).or_default();
        hears.push((emitter, kind));
        Some(true)
    }

    /// Removes the subscriptions of a device that match; returns them.
    pub fn unsubscribe(
        &mut self,
        subscriber: DeviceId,
        emitter: Option<DeviceId>,
        kind: Option<Kind>,
    ) -> Vec<(DeviceId, Kind)> {
        let Some(hears) = self.by_subscriber.get_mut(&subscriber) else {
            return Vec::new();
        };
        let is_meant = |(of, what): &(DeviceId, Kind)| {
            emitter.is_none_or(|emitter| emitter == *of) && kind.is_none_or(|kind| kind == *what)
        };
        let (gone, left): (Vec<_>, Vec<_>) = hears.drain(..).partition(is_meant);
        match left.is_empty() {
            true => drop(self.by_subscriber.remove(&subscriber)),
            false => *hears = left,
        }
        for (emitter, kind) in &gone {
            let entry = self
                .find_mut(*emitter)
                .expect("a subscription lives with its emitter");
            let at = entry.subscribers.binary_search(&(*kind, subscriber));
            entry.subscribers.remove(at.expect("both tables name it"));
        }
        gone
    }

    /// What a device hears of, among this shard's devices.
    pub fn hears(&self, subscriber: DeviceId) -> &[(DeviceId, Kind)] {
        self.by_subscriber
            .get(&subscriber)
            .map_or(&[], Vec::as_slice)
    }

    /// A connection of a device, whose record is here.
    pub fn attach(&mut self, device: DeviceId, live: Live) {
        let entry = self.find_mut(device).expect("the caller has seen it");
        let is_first = entry.live.is_empty();
        entry.live.push(live);
        self.online += u64::from(is_first);
        if let Some(expires_s) = live.expires_s {
            self.expiring.insert((expires_s, device, live.token));
        }
    }

    /// A connection of a device goes on with another token, which never expires.
    pub fn renew(&mut self, device: DeviceId, of: (ShardId, ConnectionId), token: u64) {
        let entry = self.find_mut(device).expect("the caller has seen it");
        let mut live = entry.live.iter_mut();
        if let Some(live) = live.find(|live| (live.shard, live.connection) == of) {
            let old = *live;
            (live.token, live.expires_s) = (token, None);
            self.forget_expiry_unless_shown(device, &old);
        }
    }

    /// A connection of a device has ended.
    pub fn detach(&mut self, device: DeviceId, is_meant: impl Fn(&Live) -> bool) {
        let Some(entry) = self.find_mut(device) else {
            return;
        };
        let was_online = !entry.live.is_empty();
        let mut gone = Vec::new();
        entry.live.retain(|live| {
            if is_meant(live) {
                gone.extend(live.expires_s.map(|_| *live));
            }
            !is_meant(live)
        });
        let is_online = !entry.live.is_empty();
        self.online -= u64::from(was_online && !is_online);
        for live in gone {
            self.forget_expiry_unless_shown(device, &live);
        }
    }

    /// When the first token with a connection expires, in seconds since 1970.
    pub fn next_expiry(&self) -> Option<u32> {
        self.expiring.first().map(|(expires_s, ..)| *expires_s)
    }

    /// A connection whose token has expired by now.
    pub fn expired(&self, now_s: u32) -> Option<(DeviceId, Live)> {
        let (expires_s, device, token) = self.expiring.first()?;
        if *expires_s > now_s {
            return None;
        }
        let entry = self.find(*device).expect("what expires is a device's");
        let mut live = entry.live.iter();
        let live = live.find(|live| live.token == *token);
        Some((*device, *live.expect("what expires has a connection")))
    }

    /// A token's connection has gone: nothing waits for its expiry if it was the last.
    fn forget_expiry_unless_shown(&mut self, device: DeviceId, gone: &Live) {
        let entry = self.find(device).expect("the caller has seen it");
        if entry.live.iter().all(|live| live.token != gone.token) {
            self.forget_expiry(device, gone);
        }
    }

    fn forget_expiry(&mut self, device: DeviceId, live: &Live) {
        if let Some(expires_s) = live.expires_s {
            self.expiring.remove(&(expires_s, device, live.token));
        }
    }

    /// Counts a request of a device; `Err` with the seconds to wait if there were too many.
    pub fn spend(
        &mut self,
        device: DeviceId,
        now_s: u32,
        window_s: u32,
        limit: u32,
    ) -> Result<(), u32> {
        match self.find_mut(device) {
            Some(entry) => spend(&mut entry.rate, now_s, window_s, limit),
            None => Ok(()),
        }
    }

    fn forget_hearing(&mut self, subscriber: DeviceId, emitter: DeviceId, kind: Kind) {
        let Some(hears) = self.by_subscriber.get_mut(&subscriber) else {
            return;
        };
        hears.retain(|known| *known != (emitter, kind));
        if hears.is_empty() {
            self.by_subscriber.remove(&subscriber);
        }
    }

    /// Asserts that both tables of subscriptions agree, and that all that expires is waited for.
    pub fn check(&self) {
        let live = self.entries.iter().flat_map(|(_, entry)| {
            let device = entry.device.uuid();
            entry.live.iter().map(move |live| (device, live))
        });
        let expiring: BTreeSet<_> = live
            .filter_map(|(device, live)| Some((live.expires_s?, device, live.token)))
            .collect();
        assert_eq!(expiring, self.expiring, "tokens that expire");
        let entries = self.entries.iter().map(|(_, entry)| entry);
        let heard: usize = entries.map(|entry| entry.subscribers.len()).sum();
        let hears: usize = self.by_subscriber.values().map(Vec::len).sum();
        assert_eq!(heard, hears, "subscriptions that one table lacks");
    }
}

/// Counts something in a fixed window; `Err` with the seconds until the next one if there was too
/// much.
pub fn spend(rate: &mut (u32, u32), now_s: u32, window_s: u32, limit: u32) -> Result<(), u32> {
    if now_s.wrapping_sub(rate.0) >= window_s {
        *rate = (now_s, 0);
    }
    if rate.1 >= limit {
        return Err((rate.0 + window_s - now_s).max(1));
    }
    rate.1 += 1;
    Ok(())
}
