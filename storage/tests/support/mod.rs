//! Records to try things with, and what is expected of a file that has taken them in.

#![allow(dead_code, reason = "each test file uses its part")]

use mqtt_v5_codec::{PacketId, QoS, SubscriptionOptions};
use proptest::prelude::*;
use shard::{
    Change, Commit, Delivery, DeviceId, DeviceSubscription, GroupKey, Message, MessageView,
    SessionKey, Step, StoredQueued, StoredSession, StoredSubscription, StoredWill, SubscriptionIds,
    Time,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::{FileHeader, Store};

pub fn header() -> FileHeader {
    FileHeader {
        directory: 7,
        generation: 1,
        shard: 0,
        shards: 1,
        placement_seed: 9,
        created: Time(11),
    }
}

pub fn commit(sequence: u64, changes: Vec<Change>) -> Commit {
    Commit {
        sequence,
        at: Time(1_000 + sequence),
        changes,
    }
}

pub fn message(topic: &str, payload: &[u8]) -> Arc<Message> {
    MessageView {
        topic,
        forwarded: &[1, 0],
        payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        expires: Some(Time(77)),
        publisher: None,
    }
    .to_message()
}

pub fn session(key: u64, client_id: &str) -> Change {
    Change::PutSession(Box::new(StoredSession {
        session: SessionKey(key),
        device: None,
        client_id: client_id.into(),
        expiry_s: 3_600,
        left: Some(Time(5)),
        will: None,
    }))
}

pub fn subscription(key: u64, filter: &str) -> Change {
    Change::PutSubscription(Box::new(StoredSubscription {
        session: SessionKey(key),
        filter: filter.into(),
        options: SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            ..SubscriptionOptions::default()
        },
        subscription_id: 3,
    }))
}

pub fn queued(key: u64, position: u64, message: &Arc<Message>) -> Change {
    Change::PutQueued(Box::new(StoredQueued {
        session: SessionKey(key),
        position,
        message: Some(Arc::clone(message)),
        delivery: Delivery {
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: SubscriptionIds::None,
            group: None,
        },
        sent: None,
    }))
}

pub fn device_id(number: u128) -> DeviceId {
    DeviceId(number.to_be_bytes())
}

pub fn device(number: u128) -> Change {
    Change::PutDevice {
        device: device_id(number),
        record: number.to_le_bytes().as_slice().into(),
    }
}

pub fn token(device: u128, token: u64) -> Change {
    Change::PutToken {
        device: device_id(device),
        token,
        record: token.to_le_bytes().as_slice().into(),
    }
}

pub fn device_subscription(emitter: u128, subscriber: u128, kind: u8) -> Change {
    Change::PutDeviceSubscription(DeviceSubscription {
        emitter: device_id(emitter),
        subscriber: device_id(subscriber),
        kind,
    })
}

/// All records of a store, as text.
pub fn records(store: &Store) -> Vec<String> {
    let mut records = Vec::new();
    store
        .load(&mut |change| {
            records.push(format!("{change:?}"));
            Ok(())
        })
        .unwrap();
    records
}

/// What a file must give back: the rows in the order of their keys, as text.
#[derive(Debug, Default)]
pub struct Model {
    rows: BTreeMap<(u8, Vec<u8>), String>,
    floors: BTreeMap<u64, u64>,
}

impl Model {
    pub fn apply(&mut self, change: &Change) {
        let text = || format!("{change:?}");
        match change {
            Change::Void => {}
            Change::PutSession(s) => self.put(0, s.session, &[], text()),
            Change::RemoveSession { session } => self.end(*session),
            Change::PutSubscription(s) => self.put(2, s.session, s.filter.as_bytes(), text()),
            Change::RemoveSubscription { session, filter } => {
                self.remove(2, *session, filter.as_bytes());
            }
            Change::PutReceived {
                session,
                packet_id,
                ordinal,
            } => {
                self.put(1, *session, &packet_id.number().to_be_bytes(), text());
                self.raise(*session, *ordinal);
            }
            Change::RemoveReceived { session, packet_id } => {
                self.remove(1, *session, &packet_id.number().to_be_bytes());
            }
            Change::PutFloor { session, ordinal } => self.raise(*session, *ordinal),
            Change::PutQueued(q) => self.put(4, q.session, &q.position.to_be_bytes(), text()),
            Change::RemoveQueued { session, position } => {
                self.remove(4, *session, &position.to_be_bytes());
            }
            Change::PutSeen {
                session,
                publisher,
                packet_id,
                ..
            } => self.put(3, *session, &seen(*publisher, *packet_id), text()),
            Change::RemoveSeen {
                session,
                publisher,
                packet_id,
            } => self.remove(3, *session, &seen(*publisher, *packet_id)),
            Change::PutRetained { message } => {
                let topic = message.view().topic.as_bytes().to_vec();
                self.rows.insert((5, topic), text());
            }
            Change::RemoveRetained { topic } => {
                self.rows.remove(&(5, topic.as_bytes().to_vec()));
            }
            Change::PutGroupQueued { key, position, .. } => {
                self.rows.insert((6, group(key, *position)), text());
            }
            Change::RemoveGroupQueued { key, position } => {
                self.rows.remove(&(6, group(key, *position)));
            }
            Change::PutDevice { device, .. } => {
                self.rows.insert((7, device.0.to_vec()), text());
            }
            Change::RemoveDevice { device } => self
                .rows
                .retain(|(table, row), _| *table < 7 || !row.starts_with(&device.0)),
            Change::PutToken { device, token, .. } => {
                self.rows.insert((8, token_row(*device, *token)), text());
            }
            Change::RemoveToken { device, token } => {
                self.rows.remove(&(8, token_row(*device, *token)));
            }
            Change::PutDeviceSubscription(one) => {
                self.rows.insert((9, device_subscription_row(one)), text());
            }
            Change::RemoveDeviceSubscription(one) => {
                self.rows.remove(&(9, device_subscription_row(one)));
            }
        }
    }

    /// In the order in which a file gives them.
    pub fn records(&self) -> Vec<String> {
        self.rows.values().cloned().collect()
    }

    fn put(&mut self, table: u8, session: SessionKey, rest: &[u8], text: String) {
        self.rows.insert((table, key(session, rest)), text);
    }

    fn remove(&mut self, table: u8, session: SessionKey, rest: &[u8]) {
        self.rows.remove(&(table, key(session, rest)));
    }

    fn raise(&mut self, session: SessionKey, ordinal: u64) {
        if ordinal & shard::OVER != 0 {
            return;
        }
        let floor = self.floors.entry(session.0).or_default();
        *floor = ordinal.max(*floor);
        let change = Change::PutFloor {
            session,
            ordinal: *floor,
        };
        self.put(1, session, &[], format!("{change:?}"));
    }

    fn end(&mut self, session: SessionKey) {
        self.floors.remove(&session.0);
        self.rows
            .retain(|(table, row), _| *table >= 5 || !row.starts_with(&session.0.to_be_bytes()));
    }
}

fn key(session: SessionKey, rest: &[u8]) -> Vec<u8> {
    [&session.0.to_be_bytes(), rest].concat()
}

fn token_row(device: DeviceId, token: u64) -> Vec<u8> {
    [device.0.as_slice(), &token.to_be_bytes()].concat()
}

fn device_subscription_row(one: &DeviceSubscription) -> Vec<u8> {
    [&one.emitter.0, &one.subscriber.0, [one.kind].as_slice()].concat()
}

fn seen(publisher: SessionKey, packet_id: PacketId) -> Vec<u8> {
    let mut bytes = publisher.0.to_be_bytes().to_vec();
    bytes.extend_from_slice(&packet_id.number().to_be_bytes());
    bytes
}

fn group(key: &GroupKey, position: u64) -> Vec<u8> {
    let mut bytes = key.name.as_bytes().to_vec();
    bytes.push(0xFF);
    bytes.extend_from_slice(key.filter.as_bytes());
    bytes.push(0xFF);
    bytes.extend_from_slice(&position.to_be_bytes());
    bytes
}

/// Few names, so that changes meet.
fn topic() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_owned()),
        Just("a/b".to_owned()),
        "[a-z]{1,3}/[a-zä]{0,3}"
    ]
}

fn session_key() -> impl Strategy<Value = SessionKey> {
    prop_oneof![1..5_u64, Just(u64::MAX), Just(u64::MAX - 1)].prop_map(SessionKey)
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    prop_oneof![1..4_u16, Just(u16::MAX)].prop_map(|number| PacketId::new(number).unwrap())
}

fn position() -> impl Strategy<Value = u64> {
    prop_oneof![0..5_u64, Just(u64::MAX)]
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce)
    ]
}

fn time() -> impl Strategy<Value = Option<Time>> {
    prop::option::of(any::<u64>().prop_map(Time))
}

pub fn any_message() -> impl Strategy<Value = Arc<Message>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let long = prop::collection::vec(any::<u8>(), 0..6_000);
    (
        topic(),
        bytes(),
        prop_oneof![9 => bytes(), 1 => long],
        qos(),
        any::<bool>(),
        time(),
    )
        .prop_map(|(topic, forwarded, payload, qos, retain, expires)| {
            MessageView {
                topic: &topic,
                forwarded: &forwarded,
                payload: &payload,
                qos,
                retain,
                expires,
                publisher: None,
            }
            .to_message()
        })
}

fn group_key() -> impl Strategy<Value = Arc<GroupKey>> {
    (prop_oneof!["[gh]", "g{1,200}"], topic()).prop_map(|(name, filter)| {
        Arc::new(GroupKey {
            name: name.into(),
            filter: filter.into(),
        })
    })
}

fn any_session() -> impl Strategy<Value = Change> {
    let will = (any_message(), any::<u32>(), prop::option::of(any::<u32>())).prop_map(
        |(message, delay_s, expiry_s)| StoredWill {
            message,
            delay_s,
            expiry_s,
        },
    );
    (
        session_key(),
        ".{0,9}",
        1_u32..,
        time(),
        prop::option::of(will),
    )
        .prop_map(|(session, client_id, expiry_s, left, will)| {
            Change::PutSession(Box::new(StoredSession {
                session,
                device: None,
                client_id: client_id.into(),
                expiry_s,
                left,
                will,
            }))
        })
}

fn any_queued() -> impl Strategy<Value = Change> {
    let ids = prop_oneof![
        Just(SubscriptionIds::None),
        (1..200_u32).prop_map(|id| SubscriptionIds::One([id])),
        prop::collection::vec(1..=268_435_455_u32, 2..5)
            .prop_map(|ids| SubscriptionIds::Many(ids.into()))
    ];
    let delivery = (qos(), any::<bool>(), ids, prop::option::of(group_key())).prop_map(
        |(qos, retain, subscription_ids, group)| Delivery {
            qos,
            retain,
            subscription_ids,
            group,
        },
    );
    let step = prop_oneof![Just(Step::Published), Just(Step::Released)];
    (
        session_key(),
        position(),
        prop::option::of(any_message()),
        delivery,
        prop::option::of((packet_id(), step)),
    )
        .prop_map(|(session, position, message, delivery, sent)| {
            Change::PutQueued(Box::new(StoredQueued {
                session,
                position,
                message,
                delivery,
                sent,
            }))
        })
}

fn any_put() -> impl Strategy<Value = Change> {
    prop_oneof![
        any_session(),
        (session_key(), topic(), 0..48_u8, any::<u32>()).prop_filter_map(
            "options",
            |(session, filter, bits, subscription_id)| {
                Some(Change::PutSubscription(Box::new(StoredSubscription {
                    session,
                    filter: filter.into(),
                    options: SubscriptionOptions::from_bits(bits)?,
                    subscription_id,
                })))
            }
        ),
        (session_key(), packet_id(), 0..9_u64).prop_map(|(session, packet_id, ordinal)| {
            Change::PutReceived {
                session,
                packet_id,
                ordinal,
            }
        }),
        (session_key(), 0..9_u64)
            .prop_map(|(session, ordinal)| Change::PutFloor { session, ordinal }),
        (session_key(), session_key(), packet_id(), any::<u64>()).prop_map(
            |(session, publisher, packet_id, ordinal)| Change::PutSeen {
                session,
                publisher,
                packet_id,
                ordinal,
            }
        ),
        any_queued(),
        any_message().prop_map(|message| Change::PutRetained { message }),
        (group_key(), position(), any_message()).prop_map(|(key, position, message)| {
            Change::PutGroupQueued {
                key,
                position,
                message,
            }
        }),
    ]
}

fn any_removal() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Void),
        session_key().prop_map(|session| Change::RemoveSession { session }),
        (session_key(), topic()).prop_map(|(session, filter)| Change::RemoveSubscription {
            session,
            filter: filter.into(),
        }),
        (session_key(), packet_id())
            .prop_map(|(session, packet_id)| Change::RemoveReceived { session, packet_id }),
        (session_key(), session_key(), packet_id()).prop_map(|(session, publisher, packet_id)| {
            Change::RemoveSeen {
                session,
                publisher,
                packet_id,
            }
        }),
        (session_key(), position())
            .prop_map(|(session, position)| Change::RemoveQueued { session, position }),
        topic().prop_map(|topic| Change::RemoveRetained {
            topic: topic.into()
        }),
        (group_key(), position())
            .prop_map(|(key, position)| Change::RemoveGroupQueued { key, position }),
    ]
}

/// Few, so that they meet; the first and the last of all, too.
fn any_device() -> impl Strategy<Value = DeviceId> {
    prop_oneof![Just(0), Just(1), Just(2), Just(u128::MAX)].prop_map(device_id)
}

fn any_device_subscription() -> impl Strategy<Value = DeviceSubscription> {
    (any_device(), any_device(), any::<u8>()).prop_map(|(emitter, subscriber, kind)| {
        DeviceSubscription {
            emitter,
            subscriber,
            kind,
        }
    })
}

fn any_device_change() -> impl Strategy<Value = Change> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        3 => (any_device(), bytes()).prop_map(|(device, record)| Change::PutDevice {
            device,
            record: record.into(),
        }),
        1 => any_device().prop_map(|device| Change::RemoveDevice { device }),
        3 => (any_device(), position(), bytes()).prop_map(|(device, token, record)| {
            Change::PutToken {
                device,
                token,
                record: record.into(),
            }
        }),
        1 => (any_device(), position())
            .prop_map(|(device, token)| Change::RemoveToken { device, token }),
        3 => any_device_subscription().prop_map(Change::PutDeviceSubscription),
        1 => any_device_subscription().prop_map(Change::RemoveDeviceSubscription),
    ]
}

pub fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![3 => any_put(), 2 => any_removal(), 2 => any_device_change()]
}
