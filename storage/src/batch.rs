//! What a group of commits comes to: for each row the last word said about it.
//!
//! A message that was queued and acknowledged within one group is never written, and rows are
//! written in the order of their keys, so that neighbours share pages.

use crate::records::{
    encode_group_queued, encode_queued, encode_retained, encode_session, encode_subscription,
};
use crate::tables::{
    DEVICE_SUBSCRIPTIONS, DEVICES, GROUP_QUEUED, QUEUED, RECEIVED, RETAINED, SEEN, SESSIONS,
    SUBSCRIPTIONS, TOKENS, device_subscription_key, device_subscription_rows, floor_key, group_key,
    queued_key, queued_rows, received_key, received_rows, seen_key, seen_rows, session_key,
    subscription_key, subscription_rows, token_key, token_rows,
};
use redb::{ReadableTable, TableError, WriteTransaction};
use shard::{
    Change, Commit, DeviceId, Message, OVER, SessionKey, StoredQueued, StoredSession,
    StoredSubscription, Time,
};
use std::collections::{BTreeMap, BTreeSet};

/// The rows of one table: what to put, `None` to remove.
type Rows<K, V> = BTreeMap<K, Option<V>>;

/// Puts and removes the rows of one table. The table is opened only if there are any.
macro_rules! write_rows {
    (
        $transaction:expr, $table:expr, $rows:expr,
        $key:ident => $as_key:expr, $value:ident => $as_row:expr
    ) => {
        if !$rows.is_empty() {
            let mut table = $transaction.open_table($table)?;
            for ($key, value) in &$rows {
                match value {
                    Some($value) => drop(table.insert($as_key, $as_row)?),
                    None => drop(table.remove($as_key)?),
                }
            }
        }
    };
}

/// The net effect of a group of commits.
#[derive(Debug, Default)]
pub(crate) struct Batch<'a> {
    /// Sessions whose rows all go before anything is put.
    ended: BTreeSet<SessionKey>,
    sessions: Rows<[u8; 8], &'a StoredSession>,
    subscriptions: Rows<Vec<u8>, &'a StoredSubscription>,
    received: Rows<[u8; 10], u64>,
    /// Only ever raised.
    floors: BTreeMap<SessionKey, u64>,
    seen: Rows<[u8; 18], u64>,
    queued: Rows<[u8; 16], &'a StoredQueued>,
    retained: Rows<&'a str, &'a Message>,
    group_queued: Rows<Vec<u8>, &'a Message>,
    /// Devices whose rows all go before anything is put.
    unregistered: BTreeSet<DeviceId>,
    devices: Rows<[u8; 16], &'a [u8]>,
    tokens: Rows<[u8; 24], &'a [u8]>,
    device_subscriptions: Rows<[u8; 33], ()>,
    /// When the last commit was made.
    pub(crate) at: Option<Time>,
}

impl<'a> Batch<'a> {
    /// Of nothing that was made at this time.
    pub(crate) fn empty(at: Option<Time>) -> Batch<'a> {
        Batch {
            at,
            ..Batch::default()
        }
    }

    /// Of commits in their order.
    pub(crate) fn of(commits: &'a [Commit]) -> Batch<'a> {
        let mut batch = Batch::default();
        for commit in commits {
            batch.add_commit(commit);
        }
        batch
    }

    pub(crate) fn add_commit(&mut self, commit: &'a Commit) {
        self.at = Some(commit.at);
        for change in &commit.changes {
            self.add(change);
        }
    }

    pub(crate) fn add(&mut self, change: &'a Change) {
        match change {
            Change::Void => {}
            Change::PutSession(session) => {
                self.sessions
                    .insert(session_key(session.session), Some(session));
            }
            Change::RemoveSession { session } => self.end(*session),
            Change::PutSubscription(subscription) => {
                let key = subscription_key(subscription.session, &subscription.filter);
                self.subscriptions.insert(key, Some(subscription));
            }
            Change::RemoveSubscription { session, filter } => {
                self.subscriptions
                    .insert(subscription_key(*session, filter), None);
            }
            &Change::PutReceived {
                session,
                packet_id,
                ordinal,
            } => {
                self.received
                    .insert(received_key(session, packet_id), Some(ordinal));
                self.raise_floor(session, ordinal);
            }
            &Change::RemoveReceived { session, packet_id } => {
                self.received.insert(received_key(session, packet_id), None);
            }
            &Change::PutFloor { session, ordinal } => self.raise_floor(session, ordinal),
            Change::PutQueued(queued) => {
                let key = queued_key(queued.session, queued.position);
                self.queued.insert(key, Some(queued));
            }
            &Change::RemoveQueued { session, position } => {
                self.queued.insert(queued_key(session, position), None);
            }
            &Change::PutSeen {
                session,
                publisher,
                packet_id,
                ordinal,
            } => {
                self.seen
                    .insert(seen_key(session, publisher, packet_id), Some(ordinal));
            }
            &Change::RemoveSeen {
                session,
                publisher,
                packet_id,
            } => {
                self.seen
                    .insert(seen_key(session, publisher, packet_id), None);
            }
            Change::PutRetained { message } => {
                self.retained.insert(message.view().topic, Some(message));
            }
            Change::RemoveRetained { topic } => {
                self.retained.insert(topic, None);
            }
            Change::PutGroupQueued {
                key,
                position,
                message,
            } => {
                self.group_queued
                    .insert(group_key(key, *position), Some(message));
            }
            Change::RemoveGroupQueued { key, position } => {
                self.group_queued.insert(group_key(key, *position), None);
            }
            Change::PutDevice { device, record } => {
                self.devices.insert(device.0, Some(record));
            }
            Change::RemoveDevice { device } => self.unregister(*device),
            Change::PutToken {
                device,
                token,
                record,
            } => {
                self.tokens.insert(token_key(*device, *token), Some(record));
            }
            Change::RemoveToken { device, token } => {
                self.tokens.insert(token_key(*device, *token), None);
            }
            Change::PutDeviceSubscription(subscription) => {
                let key = device_subscription_key(*subscription);
                self.device_subscriptions.insert(key, Some(()));
            }
            Change::RemoveDeviceSubscription(subscription) => {
                let key = device_subscription_key(*subscription);
                self.device_subscriptions.insert(key, None);
            }
        }
    }

    fn raise_floor(&mut self, session: SessionKey, ordinal: u64) {
        if ordinal & OVER != 0 {
            return;
        }
        let floor = self.floors.entry(session).or_default();
        *floor = ordinal.max(*floor);
    }

    /// What was said of the session before counts no more.
    fn end(&mut self, session: SessionKey) {
        self.ended.insert(session);
        self.floors.remove(&session);
        self.sessions.remove(&session_key(session));
        forget(&mut self.received, received_rows(session));
        forget(&mut self.seen, seen_rows(session));
        forget(&mut self.queued, queued_rows(session));
        forget(&mut self.subscriptions, subscription_rows(session));
    }

    /// What was said of the device before counts no more.
    fn unregister(&mut self, device: DeviceId) {
        self.unregistered.insert(device);
        self.devices.remove(&device.0);
        forget(&mut self.tokens, token_rows(device));
        forget(
            &mut self.device_subscriptions,
            device_subscription_rows(device),
        );
    }

    /// Writes it all, but for the time.
    pub(crate) fn write(&self, transaction: &WriteTransaction) -> Result<(), TableError> {
        let mut bytes = Vec::new();
        self.write_ended(transaction)?;
        write_rows!(transaction, SESSIONS, self.sessions, key => key, session => {
            encode_session(session, cleared(&mut bytes));
            bytes.as_slice()
        });
        write_rows!(
            transaction, SUBSCRIPTIONS, self.subscriptions, key => key.as_slice(),
            subscription => &encode_subscription(subscription)
        );
        self.write_floors(transaction)?;
        write_rows!(
            transaction, RECEIVED, self.received, key => key,
            ordinal => &ordinal.to_be_bytes()
        );
        write_rows!(transaction, SEEN, self.seen, key => key, ordinal => &ordinal.to_be_bytes());
        write_rows!(transaction, QUEUED, self.queued, key => key, queued => {
            encode_queued(queued, cleared(&mut bytes));
            bytes.as_slice()
        });
        write_rows!(transaction, RETAINED, self.retained, key => key.as_bytes(), message => {
            encode_retained(&message.view(), cleared(&mut bytes));
            bytes.as_slice()
        });
        write_rows!(
            transaction, GROUP_QUEUED, self.group_queued, key => key.as_slice(),
            message => {
                encode_group_queued(&message.view(), cleared(&mut bytes));
                bytes.as_slice()
            }
        );
        self.write_unregistered(transaction)?;
        write_rows!(transaction, DEVICES, self.devices, key => key, record => *record);
        write_rows!(transaction, TOKENS, self.tokens, key => key, record => *record);
        write_rows!(
            transaction, DEVICE_SUBSCRIPTIONS, self.device_subscriptions, key => key,
            nothing => *nothing
        );
        Ok(())
    }

    fn write_unregistered(&self, transaction: &WriteTransaction) -> Result<(), TableError> {
        if self.unregistered.is_empty() {
            return Ok(());
        }
        let mut devices = transaction.open_table(DEVICES)?;
        let mut tokens = transaction.open_table(TOKENS)?;
        let mut subscriptions = transaction.open_table(DEVICE_SUBSCRIPTIONS)?;
        for &device in &self.unregistered {
            devices.remove(&device.0)?;
            let [first, last] = token_rows(device);
            tokens.retain_in::<&[u8; 24], _>(&first..=&last, |_, _| false)?;
            let [first, last] = device_subscription_rows(device);
            subscriptions.retain_in::<&[u8; 33], _>(&first..=&last, |_, ()| false)?;
        }
        Ok(())
    }

    fn write_ended(&self, transaction: &WriteTransaction) -> Result<(), TableError> {
        if self.ended.is_empty() {
            return Ok(());
        }
        let mut sessions = transaction.open_table(SESSIONS)?;
        let mut received = transaction.open_table(RECEIVED)?;
        let mut seen = transaction.open_table(SEEN)?;
        let mut subscriptions = transaction.open_table(SUBSCRIPTIONS)?;
        let mut queued = transaction.open_table(QUEUED)?;
        for &session in &self.ended {
            sessions.remove(&session_key(session))?;
            let [first, last] = received_rows(session);
            received.retain_in::<&[u8; 10], _>(&first..=&last, |_, _| false)?;
            let [first, last] = seen_rows(session);
            seen.retain_in::<&[u8; 18], _>(&first..=&last, |_, _| false)?;
            let [first, last] = queued_rows(session);
            queued.retain_in::<&[u8; 16], _>(&first..=&last, |_, _| false)?;
            let [first, last] = subscription_rows(session);
            subscriptions
                .retain_in::<&[u8], _>(first.as_slice()..=last.as_slice(), |_, _| false)?;
        }
        Ok(())
    }

    fn write_floors(&self, transaction: &WriteTransaction) -> Result<(), TableError> {
        if self.floors.is_empty() {
            return Ok(());
        }
        let mut table = transaction.open_table(RECEIVED)?;
        for (&session, &ordinal) in &self.floors {
            let key = floor_key(session);
            let known = table.get(&key)?.map(|row| u64::from_be_bytes(*row.value()));
            if known.is_none_or(|known| known < ordinal) {
                table.insert(&key, &ordinal.to_be_bytes())?;
            }
        }
        Ok(())
    }
}

fn cleared(bytes: &mut Vec<u8>) -> &mut Vec<u8> {
    bytes.clear();
    bytes
}

/// Drops what is said of the rows between these two and of themselves.
fn forget<K: Ord + Clone, V>(rows: &mut BTreeMap<K, V>, [first, last]: [K; 2]) {
    while let Some((key, _)) = rows.range(&first..=&last).next() {
        let key = key.clone();
        rows.remove(&key);
    }
}
