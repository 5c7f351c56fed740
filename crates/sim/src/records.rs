//! What is kept of one shard: the plain reading of `shard::Change`, as ordered maps.

use shard::{
    Change, DeviceId, DeviceSubscription, GroupKey, Message, MessageView, OVER, Placement, ShardId,
    StoredQueued, StoredSession, StoredSubscription, Time,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A group's name and filter, and a place in its queue.
type GroupRow = (String, String, u64);

/// The records of one shard.
#[derive(Clone, Debug, Default)]
pub struct Records {
    sessions: BTreeMap<u64, StoredSession>,
    floors: BTreeMap<u64, u64>,
    received: BTreeMap<(u64, u16), u64>,
    subscriptions: BTreeMap<(u64, String), StoredSubscription>,
    /// Whose copy, of whose message.
    seen: BTreeMap<(u64, u64, u16), u64>,
    queued: BTreeMap<(u64, u64), StoredQueued>,
    retained: BTreeMap<String, Arc<Message>>,
    groups: BTreeMap<GroupRow, (Arc<GroupKey>, Arc<Message>)>,
    devices: BTreeMap<DeviceId, Arc<[u8]>>,
    tokens: BTreeMap<(DeviceId, u64), Box<[u8]>>,
    device_subscriptions: BTreeSet<DeviceSubscription>,
    /// When the last commit was made.
    pub alive: Option<Time>,
}

impl Records {
    /// Takes in one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Void => {}
            Change::PutSession(session) => {
                let mut session = (**session).clone();
                if let Some(will) = &mut session.will {
                    will.message = anonymous(&will.message);
                }
                self.sessions.insert(session.session.0, session);
            }
            Change::RemoveSession { session } => self.remove_session(session.0),
            Change::PutSubscription(stored) => {
                let key = (stored.session.0, stored.filter.to_string());
                self.subscriptions.insert(key, (**stored).clone());
            }
            Change::RemoveSubscription { session, filter } => {
                self.subscriptions.remove(&(session.0, filter.to_string()));
            }
            Change::PutReceived {
                session,
                packet_id,
                ordinal,
            } => {
                let key = (session.0, packet_id.number());
                self.received.insert(key, *ordinal);
                self.raise_floor(session.0, *ordinal);
            }
            Change::RemoveReceived { session, packet_id } => {
                self.received.remove(&(session.0, packet_id.number()));
            }
            Change::PutFloor { session, ordinal } => self.raise_floor(session.0, *ordinal),
            Change::PutQueued(queued) => {
                let mut queued = (**queued).clone();
                queued.message = queued.message.as_ref().map(anonymous);
                let key = (queued.session.0, queued.position);
                self.queued.insert(key, queued);
            }
            Change::RemoveQueued { session, position } => {
                self.queued.remove(&(session.0, *position));
            }
            Change::PutSeen {
                session,
                publisher,
                packet_id,
                ordinal,
            } => {
                let key = (session.0, publisher.0, packet_id.number());
                self.seen.insert(key, *ordinal);
            }
            Change::RemoveSeen {
                session,
                publisher,
                packet_id,
            } => {
                let key = (session.0, publisher.0, packet_id.number());
                self.seen.remove(&key);
            }
            Change::PutRetained { message } => {
                let topic = message.view().topic.to_string();
                self.retained.insert(topic, anonymous(message));
            }
            Change::RemoveRetained { topic } => {
                self.retained.remove(&**topic);
            }
            Change::PutGroupQueued {
                key,
                position,
                message,
            } => {
                let value = (Arc::clone(key), anonymous(message));
                self.groups.insert(group_row(key, *position), value);
            }
            Change::RemoveGroupQueued { key, position } => {
                self.groups.remove(&group_row(key, *position));
            }
            Change::PutDevice { device, record } => {
                self.devices.insert(*device, Arc::clone(record));
            }
            Change::RemoveDevice { device } => self.remove_device(*device),
            Change::PutToken {
                device,
                token,
                record,
            } => {
                self.tokens.insert((*device, *token), record.clone());
            }
            Change::RemoveToken { device, token } => {
                self.tokens.remove(&(*device, *token));
            }
            Change::PutDeviceSubscription(subscription) => {
                self.device_subscriptions.insert(*subscription);
            }
            Change::RemoveDeviceSubscription(subscription) => {
                self.device_subscriptions.remove(subscription);
            }
        }
    }

    fn raise_floor(&mut self, session: u64, ordinal: u64) {
        if ordinal & OVER != 0 {
            return;
        }
        let floor = self.floors.entry(session).or_default();
        *floor = ordinal.max(*floor);
    }

    fn remove_session(&mut self, key: u64) {
        self.sessions.remove(&key);
        self.floors.remove(&key);
        self.received.retain(|(session, _), _| *session != key);
        self.subscriptions.retain(|(session, _), _| *session != key);
        self.seen.retain(|(session, _, _), _| *session != key);
        self.queued.retain(|(session, _), _| *session != key);
    }

    fn remove_device(&mut self, device: DeviceId) {
        self.devices.remove(&device);
        self.tokens.retain(|(owner, _), _| *owner != device);
        let subscriptions = &mut self.device_subscriptions;
        subscriptions.retain(|subscription| subscription.emitter != device);
    }

    /// All records as *put* changes, in the order in which a shard recovers from them.
    pub fn changes(&self) -> Vec<Change> {
        let session = |key: &u64| shard::SessionKey(*key);
        let packet_id = |id: &u16| mqtt_v5_codec::PacketId::new(*id).expect("it came from one");
        let sessions = self.sessions.values().cloned();
        let floors = self.floors.iter().map(|(key, ordinal)| Change::PutFloor {
            session: session(key),
            ordinal: *ordinal,
        });
        let received = self.received.iter().map(|((key, id), ordinal)| {
            let (session, packet_id) = (session(key), packet_id(id));
            let ordinal = *ordinal;
            Change::PutReceived {
                session,
                packet_id,
                ordinal,
            }
        });
        let subscriptions = self.subscriptions.values().cloned();
        let seen = self.seen.iter().map(|((key, publisher, id), ordinal)| {
            let (publisher, packet_id) = (session(publisher), packet_id(id));
            Change::PutSeen {
                session: session(key),
                publisher,
                packet_id,
                ordinal: *ordinal,
            }
        });
        let queued = self.queued.values().cloned();
        let retained = self.retained.values().map(|message| Change::PutRetained {
            message: Arc::clone(message),
        });
        let groups = self.groups.iter().map(|(row, (key, message))| {
            let (key, message) = (Arc::clone(key), Arc::clone(message));
            Change::PutGroupQueued {
                key,
                position: row.2,
                message,
            }
        });
        let mut all: Vec<Change> = sessions.map(|s| Change::PutSession(Box::new(s))).collect();
        all.extend(floors);
        all.extend(received);
        all.extend(subscriptions.map(|s| Change::PutSubscription(Box::new(s))));
        all.extend(seen);
        all.extend(queued.map(|q| Change::PutQueued(Box::new(q))));
        all.extend(retained);
        all.extend(groups);
        all.extend(self.device_changes());
        all
    }

    fn device_changes(&self) -> impl Iterator<Item = Change> {
        let devices = self
            .devices
            .iter()
            .map(|(device, record)| Change::PutDevice {
                device: *device,
                record: Arc::clone(record),
            });
        let tokens = self
            .tokens
            .iter()
            .map(|((device, token), record)| Change::PutToken {
                device: *device,
                token: *token,
                record: record.clone(),
            });
        let subscriptions = self.device_subscriptions.iter();
        devices
            .chain(tokens)
            .chain(subscriptions.map(|one| Change::PutDeviceSubscription(*one)))
    }

    /// Part of a session's queue, as `shard::Effect::Load` asks for it.
    pub fn load(
        &self,
        session: u64,
        after: u64,
        messages_max: u32,
        bytes_max: u32,
    ) -> Vec<StoredQueued> {
        let mut loaded: Vec<StoredQueued> = Vec::new();
        let mut bytes = 0;
        let rows = self
            .queued
            .range((session, after + 1)..=(session, u64::MAX));
        for (_, queued) in rows.take(messages_max as usize) {
            bytes += queued.message.as_ref().map_or(0, |message| message.bytes());
            loaded.push(queued.clone());
            if bytes >= bytes_max as usize {
                break;
            }
        }
        loaded
    }

    /// The records of all shards on as many shards as `placement` knows.
    pub fn reshard(all: &[Records], shards: u16, placement: &Placement) -> Vec<Records> {
        let mut new: Vec<Records> = (0..shards).map(|_| Records::default()).collect();
        let alive = all.iter().filter_map(|records| records.alive).max();
        let mut homes: BTreeMap<u64, ShardId> = BTreeMap::new();
        for session in all.iter().flat_map(|records| records.sessions.values()) {
            homes.insert(session.session.0, placement.client(&session.client_id));
        }
        for change in all.iter().flat_map(Records::changes) {
            let home = match &change {
                Change::PutRetained { message } => placement.retained(message.view().topic),
                Change::PutGroupQueued { key, .. } => placement.group(&key.name, &key.filter),
                Change::PutDevice { device, .. } | Change::PutToken { device, .. } => {
                    placement.device(*device)
                }
                Change::PutDeviceSubscription(one) => placement.device(one.emitter),
                other => session_of(other).map_or(ShardId(0), |key| homes[&key]),
            };
            new[home.index()].apply(&change);
        }
        for records in &mut new {
            records.alive = alive;
        }
        new
    }
}

/// Whose record it is.
fn session_of(change: &Change) -> Option<u64> {
    match change {
        Change::PutSession(stored) => Some(stored.session.0),
        Change::PutSubscription(stored) => Some(stored.session.0),
        Change::PutQueued(stored) => Some(stored.session.0),
        Change::PutReceived { session, .. }
        | Change::PutFloor { session, .. }
        | Change::PutSeen { session, .. } => Some(session.0),
        _ => None,
    }
}

fn group_row(key: &GroupKey, position: u64) -> GroupRow {
    (key.name.to_string(), key.filter.to_string(), position)
}

/// Who published a message means nothing after a restart.
fn anonymous(message: &Arc<Message>) -> Arc<Message> {
    let view = MessageView {
        publisher: None,
        ..message.view()
    };
    view.to_message()
}
