//! What a shard has committed, as maps: the store that every other must be equal to.

use shard::{
    Change, Commit, DeviceId, DeviceSubscription, GroupKey, Message, OVER, SessionKey,
    StoredQueued, StoredSession, StoredSubscription, Time,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Share name, filter, position.
type GroupPlace = (Box<str>, Box<str>, u64);

/// The records of one shard.
#[derive(Clone, Default)]
pub struct ModelStore {
    pub alive: Time,
    sessions: BTreeMap<SessionKey, StoredSession>,
    floors: BTreeMap<SessionKey, u64>,
    received: BTreeMap<(SessionKey, u16), u64>,
    subscriptions: BTreeMap<(SessionKey, Box<str>), StoredSubscription>,
    seen: BTreeMap<(SessionKey, SessionKey, u16), u64>,
    queued: BTreeMap<(SessionKey, u64), StoredQueued>,
    retained: BTreeMap<String, Arc<Message>>,
    group_queued: BTreeMap<GroupPlace, (Arc<GroupKey>, Arc<Message>)>,
    devices: BTreeMap<DeviceId, Arc<[u8]>>,
    tokens: BTreeMap<(DeviceId, u64), Box<[u8]>>,
    device_subscriptions: BTreeSet<DeviceSubscription>,
}

impl ModelStore {
    pub fn apply(&mut self, commit: Commit) {
        self.alive = commit.at;
        for change in commit.changes {
            self.apply_one(change);
        }
    }

    fn apply_one(&mut self, change: Change) {
        match change {
            Change::Void => {}
            Change::PutSession(session) => {
                self.sessions.insert(session.session, *session);
            }
            Change::RemoveSession { session } => {
                self.sessions.remove(&session);
                self.floors.remove(&session);
                self.received.retain(|key, _| key.0 != session);
                self.subscriptions.retain(|key, _| key.0 != session);
                self.seen.retain(|key, _| key.0 != session);
                self.queued.retain(|key, _| key.0 != session);
            }
            Change::PutSubscription(subscription) => {
                let key = (subscription.session, subscription.filter.clone());
                self.subscriptions.insert(key, *subscription);
            }
            Change::RemoveSubscription { session, filter } => {
                self.subscriptions.remove(&(session, filter));
            }
            Change::PutReceived {
                session,
                packet_id,
                ordinal,
            } => {
                self.received.insert((session, packet_id.number()), ordinal);
                if ordinal & OVER == 0 {
                    let floor = self.floors.entry(session).or_default();
                    *floor = (*floor).max(ordinal);
                }
            }
            Change::RemoveReceived { session, packet_id } => {
                self.received.remove(&(session, packet_id.number()));
            }
            Change::PutFloor { session, ordinal } => {
                self.floors.insert(session, ordinal);
            }
            Change::PutQueued(queued) => {
                self.queued
                    .insert((queued.session, queued.position), *queued);
            }
            Change::RemoveQueued { session, position } => {
                self.queued.remove(&(session, position));
            }
            Change::PutSeen {
                session,
                publisher,
                packet_id,
                ordinal,
            } => {
                let key = (session, publisher, packet_id.number());
                self.seen.insert(key, ordinal);
            }
            Change::RemoveSeen {
                session,
                publisher,
                packet_id,
            } => {
                self.seen.remove(&(session, publisher, packet_id.number()));
            }
            Change::PutRetained { message } => {
                self.retained.insert(message.view().topic.into(), message);
            }
            Change::RemoveRetained { topic } => {
                self.retained.remove(&*topic);
            }
            Change::PutGroupQueued {
                key,
                position,
                message,
            } => {
                let at = (key.name.clone(), key.filter.clone(), position);
                self.group_queued.insert(at, (key, message));
            }
            Change::RemoveGroupQueued { key, position } => {
                let at = (key.name.clone(), key.filter.clone(), position);
                self.group_queued.remove(&at);
            }
            Change::PutDevice { device, record } => {
                self.devices.insert(device, record);
            }
            Change::RemoveDevice { device } => {
                self.devices.remove(&device);
                self.tokens.retain(|key, _| key.0 != device);
                self.device_subscriptions
                    .retain(|subscription| subscription.emitter != device);
            }
            Change::PutToken {
                device,
                token,
                record,
            } => {
                self.tokens.insert((device, token), record);
            }
            Change::RemoveToken { device, token } => {
                self.tokens.remove(&(device, token));
            }
            Change::PutDeviceSubscription(subscription) => {
                self.device_subscriptions.insert(subscription);
            }
            Change::RemoveDeviceSubscription(subscription) => {
                self.device_subscriptions.remove(&subscription);
            }
        }
    }

    /// All records, in the order in which a shard recovers from them.
    pub fn records(&self) -> Vec<Change> {
        let id = |number: u16| mqtt_v5_codec::PacketId::new(number).expect("put as one");
        let mut records = Vec::new();
        let sessions = self.sessions.values().cloned();
        records.extend(sessions.map(|session| Change::PutSession(Box::new(session))));
        for (session, ordinal) in &self.floors {
            records.push(Change::PutFloor {
                session: *session,
                ordinal: *ordinal,
            });
        }
        for ((session, packet_id), ordinal) in &self.received {
            records.push(Change::PutReceived {
                session: *session,
                packet_id: id(*packet_id),
                ordinal: *ordinal,
            });
        }
        let subscriptions = self.subscriptions.values().cloned();
        records.extend(subscriptions.map(|one| Change::PutSubscription(Box::new(one))));
        for ((session, publisher, packet_id), ordinal) in &self.seen {
            records.push(Change::PutSeen {
                session: *session,
                publisher: *publisher,
                packet_id: id(*packet_id),
                ordinal: *ordinal,
            });
        }
        let queued = self.queued.values().cloned();
        records.extend(queued.map(|one| Change::PutQueued(Box::new(one))));
        for message in self.retained.values() {
            records.push(Change::PutRetained {
                message: Arc::clone(message),
            });
        }
        for ((_, _, position), (key, message)) in &self.group_queued {
            records.push(Change::PutGroupQueued {
                key: Arc::clone(key),
                position: *position,
                message: Arc::clone(message),
            });
        }
        for (device, record) in &self.devices {
            records.push(Change::PutDevice {
                device: *device,
                record: Arc::clone(record),
            });
        }
        for ((device, token), record) in &self.tokens {
            records.push(Change::PutToken {
                device: *device,
                token: *token,
                record: record.clone(),
            });
        }
        let subscriptions = self.device_subscriptions.iter();
        records.extend(subscriptions.map(|one| Change::PutDeviceSubscription(*one)));
        records
    }

    /// Part of a session's queue.
    pub fn load(&self, session: SessionKey, after: u64, max: usize) -> Vec<StoredQueued> {
        let rows = self
            .queued
            .range((session, after + 1)..=(session, u64::MAX));
        rows.take(max).map(|(_, queued)| queued.clone()).collect()
    }
}
