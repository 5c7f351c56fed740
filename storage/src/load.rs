//! Records come back as *put* changes.

use crate::records::{
    BadRecord, decode_group_queued, decode_queued, decode_retained, decode_session,
    decode_subscription, session_of, share_group,
};
use crate::tables::{
    DEVICE_SUBSCRIPTIONS, DEVICES, GROUP_QUEUED, QUEUED, RECEIVED, RETAINED, SEEN, SESSIONS,
    SUBSCRIPTIONS, TOKENS, queued_key, read_device_subscription_key, read_group_key,
    read_queued_key, read_received_key, read_seen_key, read_subscription_key, read_token_key,
};
use redb::{
    Key, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableError,
    TableHandle, Value,
};
use shard::{Change, DeviceId, GroupKey, SessionKey, StoredQueued, StoredSubscription, Time};
use std::sync::Arc;

/// What a file held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// When the last commit was made; `None` if there was none.
    pub alive: Option<Time>,
    /// Sessions.
    pub sessions: u64,
    /// Sessions that have taken QoS 2 messages.
    pub floors: u64,
    /// QoS 2 messages that are not released.
    pub received: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Copies of QoS 2 messages whose publisher may send them again.
    pub seen: u64,
    /// Messages on their way to sessions.
    pub queued: u64,
    /// Retained messages.
    pub retained: u64,
    /// Messages that wait for a member of a group.
    pub group_queued: u64,
    /// Devices of the Meshblu API.
    pub devices: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Their subscriptions to each other.
    pub device_subscriptions: u64,
}

impl Loaded {
    /// How many records there were.
    pub fn records(&self) -> u64 {
        self.sessions
            + self.floors
            + self.received
            + self.subscriptions
            + self.seen
            + self.queued
            + self.retained
            + self.group_queued
            + self.devices
            + self.tokens
            + self.device_subscriptions
    }
}

/// Why a transaction stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    Redb(Box<redb::Error>),
    /// In this table.
    BadRecord(String, BadRecord),
    /// Whoever takes the records in does not want this one.
    Refused(String),
    /// The file has this format.
    NewerFormat(u32),
}

macro_rules! stop_from {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Stop {
            fn from(error: redb::$error) -> Stop {
                Stop::Redb(Box::new(error.into()))
            }
        })*
    };
}

stop_from!(
    StorageError,
    TableError,
    TransactionError,
    CommitError,
    DatabaseError,
    SetDurabilityError
);

/// Takes a record in, or says why not.
pub(crate) type Take<'a> = dyn FnMut(Change) -> Result<(), String> + 'a;

/// What becomes of a row that is no record: an error, unless it is noted and passed over.
pub(crate) type Bad<'a> = dyn FnMut(&str, BadRecord) -> Result<(), Stop> + 'a;

/// Reads all tables, each in the order of its keys: sessions before what is theirs, and devices
/// before what is theirs.
pub(crate) fn load(
    transaction: &ReadTransaction,
    take: &mut Take<'_>,
    bad: &mut Bad<'_>,
) -> Result<Loaded, Stop> {
    let mut group: Option<Arc<GroupKey>> = None;
    let mut floors = 0;
    let sessions = rows(transaction, SESSIONS, take, bad, session_row)?;
    let received = rows(transaction, RECEIVED, take, bad, |key, row| {
        let change = received_row(key, row)?;
        floors += u64::from(matches!(change, Change::PutFloor { .. }));
        Ok(change)
    })?;
    let subscriptions = rows(transaction, SUBSCRIPTIONS, take, bad, subscription_row)?;
    let seen = rows(transaction, SEEN, take, bad, seen_row)?;
    let queued = rows(transaction, QUEUED, take, bad, |key, row| {
        queued_row(key, row, &mut group)
    })?;
    let retained = rows(transaction, RETAINED, take, bad, retained_row)?;
    let group_queued = rows(transaction, GROUP_QUEUED, take, bad, |key, row| {
        group_row(key, row, &mut group)
    })?;
    let devices = rows(transaction, DEVICES, take, bad, device_row)?;
    let tokens = rows(transaction, TOKENS, take, bad, token_row)?;
    let device_subscriptions = rows(transaction, DEVICE_SUBSCRIPTIONS, take, bad, |key, ()| {
        device_subscription_row(key)
    })?;
    Ok(Loaded {
        alive: None,
        sessions,
        floors,
        received: received - floors,
        subscriptions,
        seen,
        queued,
        retained,
        group_queued,
        devices,
        tokens,
        device_subscriptions,
    })
}

fn session_row(key: &[u8; 8], row: &[u8]) -> Result<Change, BadRecord> {
    let key = session_of(u64::from_be_bytes(*key))?;
    Ok(Change::PutSession(Box::new(decode_session(key, row)?)))
}

fn received_row(key: &[u8; 10], row: &[u8; 8]) -> Result<Change, BadRecord> {
    let ordinal = u64::from_be_bytes(*row);
    Ok(match read_received_key(key)? {
        (session, Some(packet_id)) => Change::PutReceived {
            session,
            packet_id,
            ordinal,
        },
        (session, None) => Change::PutFloor { session, ordinal },
    })
}

fn subscription_row(key: &[u8], row: &[u8; 5]) -> Result<Change, BadRecord> {
    let (session, filter) = read_subscription_key(key)?;
    let (options, subscription_id) = decode_subscription(row)?;
    Ok(Change::PutSubscription(Box::new(StoredSubscription {
        session,
        filter: filter.into(),
        options,
        subscription_id,
    })))
}

fn seen_row(key: &[u8; 18], row: &[u8; 8]) -> Result<Change, BadRecord> {
    let (session, publisher, packet_id) = read_seen_key(key)?;
    Ok(Change::PutSeen {
        session,
        publisher,
        packet_id,
        ordinal: u64::from_be_bytes(*row),
    })
}

fn queued_row(
    key: &[u8; 16],
    row: &[u8],
    group: &mut Option<Arc<GroupKey>>,
) -> Result<Change, BadRecord> {
    let (session, position) = read_queued_key(key)?;
    let queued = decode_queued(session, position, row, group)?;
    Ok(Change::PutQueued(Box::new(queued)))
}

fn retained_row(key: &[u8], row: &[u8]) -> Result<Change, BadRecord> {
    let message = decode_retained(key, row)?;
    Ok(Change::PutRetained { message })
}

fn group_row(
    key: &[u8],
    row: &[u8],
    group: &mut Option<Arc<GroupKey>>,
) -> Result<Change, BadRecord> {
    let (name, filter, position) = read_group_key(key)?;
    Ok(Change::PutGroupQueued {
        key: share_group(name, filter, group),
        position,
        message: decode_group_queued(row)?,
    })
}

fn device_row(key: &[u8; 16], row: &[u8]) -> Result<Change, BadRecord> {
    Ok(Change::PutDevice {
        device: DeviceId(*key),
        record: row.into(),
    })
}

fn token_row(key: &[u8; 24], row: &[u8]) -> Result<Change, BadRecord> {
    let (device, token) = read_token_key(key)?;
    Ok(Change::PutToken {
        device,
        token,
        record: row.into(),
    })
}

fn device_subscription_row(key: &[u8; 33]) -> Result<Change, BadRecord> {
    let subscription = read_device_subscription_key(key)?;
    Ok(Change::PutDeviceSubscription(subscription))
}

/// The record of a row that was not read by redb; `None` for a row of another table.
pub(crate) fn row_of(table: &str, key: &[u8], row: &[u8]) -> Option<Result<Change, BadRecord>> {
    fn sized<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], BadRecord> {
        bytes
            .try_into()
            .map_err(|_| BadRecord("it has a wrong length"))
    }
    let read = || -> Result<Option<Change>, BadRecord> {
        let is = |name: &str| table == name;
        Ok(Some(if is(SESSIONS.name()) {
            session_row(sized(key)?, row)?
        } else if is(RECEIVED.name()) {
            received_row(sized(key)?, sized(row)?)?
        } else if is(SUBSCRIPTIONS.name()) {
            subscription_row(key, sized(row)?)?
        } else if is(SEEN.name()) {
            seen_row(sized(key)?, sized(row)?)?
        } else if is(QUEUED.name()) {
            queued_row(sized(key)?, row, &mut None)?
        } else if is(RETAINED.name()) {
            retained_row(key, row)?
        } else if is(GROUP_QUEUED.name()) {
            group_row(key, row, &mut None)?
        } else if is(DEVICES.name()) {
            device_row(sized(key)?, row)?
        } else if is(TOKENS.name()) {
            token_row(sized(key)?, row)?
        } else if is(DEVICE_SUBSCRIPTIONS.name()) {
            let _: &[u8; 0] = sized(row)?;
            device_subscription_row(sized(key)?)?
        } else {
            return Ok(None);
        }))
    };
    read().transpose()
}

/// How many rows there are in all.
pub(crate) fn count(transaction: &ReadTransaction) -> Result<u64, Stop> {
    Ok(transaction.open_table(SESSIONS)?.len()?
        + transaction.open_table(RECEIVED)?.len()?
        + transaction.open_table(SUBSCRIPTIONS)?.len()?
        + transaction.open_table(SEEN)?.len()?
        + transaction.open_table(QUEUED)?.len()?
        + transaction.open_table(RETAINED)?.len()?
        + transaction.open_table(GROUP_QUEUED)?.len()?
        + transaction.open_table(DEVICES)?.len()?
        + transaction.open_table(TOKENS)?.len()?
        + transaction.open_table(DEVICE_SUBSCRIPTIONS)?.len()?)
}

/// Whether any device has a token.
pub(crate) fn has_tokens(transaction: &ReadTransaction) -> Result<bool, Stop> {
    Ok(!transaction.open_table(TOKENS)?.is_empty()?)
}

/// Reads one table; it may be absent.
fn rows<K: Key + 'static, V: Value + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'static, K, V>,
    take: &mut Take<'_>,
    bad: &mut Bad<'_>,
    mut decode: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> Result<Change, BadRecord>,
) -> Result<u64, Stop> {
    let table = match transaction.open_table(definition) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let mut count = 0;
    for row in table.iter()? {
        let (key, value) = row?;
        match decode(key.value(), value.value()) {
            Ok(change) => {
                take(change).map_err(Stop::Refused)?;
                count += 1;
            }
            Err(error) => bad(definition.name(), error)?,
        }
    }
    Ok(count)
}

/// Part of a session's queue, to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueuePart {
    /// Whose.
    pub(crate) session: SessionKey,
    /// Only positions above this one.
    pub(crate) after: u64,
    /// At most so many.
    pub(crate) messages_max: u32,
    /// No further once there are so many bytes, but at least one message.
    pub(crate) bytes_max: u32,
}

/// The messages of a part, in order.
pub(crate) fn load_queue(
    transaction: &ReadTransaction,
    part: QueuePart,
) -> Result<Vec<StoredQueued>, Stop> {
    match transaction.open_table(QUEUED) {
        Ok(table) => load_queue_of(&table, part),
        Err(TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The same, also within a transaction that writes.
pub(crate) fn load_queue_of(
    table: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    part: QueuePart,
) -> Result<Vec<StoredQueued>, Stop> {
    let mut messages = Vec::new();
    let Some(first) = part.after.checked_add(1) else {
        return Ok(messages);
    };
    let mut bytes = 0;
    let mut group = None;
    let [first, last] = [first, u64::MAX].map(|position| queued_key(part.session, position));
    let range = table.range::<&[u8; 16]>(&first..=&last)?;
    for row in range.take(part.messages_max as usize) {
        let (key, value) = row?;
        let bad = |error| Stop::BadRecord("queued".to_owned(), error);
        let (session, position) = read_queued_key(key.value()).map_err(bad)?;
        let queued = decode_queued(session, position, value.value(), &mut group).map_err(bad)?;
        bytes += queued.message.as_ref().map_or(0, |message| message.bytes());
        messages.push(queued);
        if bytes >= part.bytes_max as usize {
            break;
        }
    }
    Ok(messages)
}
