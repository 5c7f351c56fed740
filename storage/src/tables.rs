//! The tables of a file, and the keys of their rows.
//!
//! Keys are big-endian numbers and plain bytes, so that the order of the bytes is the order of the
//! rows, and all rows of a session, or of a device, stand side by side in each table.

use crate::records::{BadRecord, Reader, packet_id_of, session_of, text_of};
use mqtt_v5_codec::PacketId;
use redb::TableDefinition;
use shard::{DeviceId, DeviceSubscription, GroupKey, SessionKey};

/// `format`, `header` and `alive`.
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Session → the session.
pub(crate) const SESSIONS: TableDefinition<'_, &[u8; 8], &[u8]> = TableDefinition::new("sessions");
/// Session, packet identifier → ordinal; the row with identifier 0 is the session's floor.
pub(crate) const RECEIVED: TableDefinition<'_, &[u8; 10], &[u8; 8]> =
    TableDefinition::new("received");
/// Session, filter → options, subscription identifier.
pub(crate) const SUBSCRIPTIONS: TableDefinition<'_, &[u8], &[u8; 5]> =
    TableDefinition::new("subscriptions");
/// Session, publisher, packet identifier → ordinal.
pub(crate) const SEEN: TableDefinition<'_, &[u8; 18], &[u8; 8]> = TableDefinition::new("seen");
/// Session, position → the message and how it is delivered.
pub(crate) const QUEUED: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("queued");
/// Topic → the message.
pub(crate) const RETAINED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("retained");
/// Name, filter, position → the message.
pub(crate) const GROUP_QUEUED: TableDefinition<'_, &[u8], &[u8]> =
    TableDefinition::new("group_queued");
/// Device → what the Meshblu API keeps of it.
pub(crate) const DEVICES: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("devices");
/// Device, token → what the Meshblu API keeps of it.
pub(crate) const TOKENS: TableDefinition<'_, &[u8; 24], &[u8]> = TableDefinition::new("tokens");
/// Emitter, subscriber, kind → nothing more.
pub(crate) const DEVICE_SUBSCRIPTIONS: TableDefinition<'_, &[u8; 33], ()> =
    TableDefinition::new("device_subscriptions");

/// The row of [`META`] with the format, as four bytes.
pub(crate) const META_FORMAT: &str = "format";
/// The row of [`META`] with the [`crate::FileHeader`].
pub(crate) const META_HEADER: &str = "header";
/// The row of [`META`] with the time of the last commit.
pub(crate) const META_ALIVE: &str = "alive";

/// Stands for the floor where a packet identifier stands otherwise.
const FLOOR: u16 = 0;

pub(crate) fn session_key(session: SessionKey) -> [u8; 8] {
    session.0.to_be_bytes()
}

pub(crate) fn received_key(session: SessionKey, packet_id: PacketId) -> [u8; 10] {
    received_row(session, packet_id.number())
}

pub(crate) fn floor_key(session: SessionKey) -> [u8; 10] {
    received_row(session, FLOOR)
}

/// The first and the last row of a session in [`RECEIVED`].
pub(crate) fn received_rows(session: SessionKey) -> [[u8; 10]; 2] {
    [floor_key(session), received_row(session, u16::MAX)]
}

fn received_row(session: SessionKey, packet_id: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&session_key(session));
    key[8..].copy_from_slice(&packet_id.to_be_bytes());
    key
}

/// `None` in place of a packet identifier for the floor.
pub(crate) fn read_received_key(
    key: &[u8; 10],
) -> Result<(SessionKey, Option<PacketId>), BadRecord> {
    let mut reader = Reader::new(key);
    Ok((session_of(reader.u64()?)?, PacketId::new(reader.u16()?)))
}

pub(crate) fn subscription_key(session: SessionKey, filter: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + filter.len());
    key.extend_from_slice(&session_key(session));
    key.extend_from_slice(filter.as_bytes());
    key
}

/// Below the first and above the last row of a session in [`SUBSCRIPTIONS`]: a filter is not
/// empty, and UTF-8 never has the byte 0xFF.
pub(crate) fn subscription_rows(session: SessionKey) -> [Vec<u8>; 2] {
    let key = session_key(session);
    [key.to_vec(), [key.as_slice(), &[0xFF]].concat()]
}

pub(crate) fn read_subscription_key(key: &[u8]) -> Result<(SessionKey, &str), BadRecord> {
    let mut reader = Reader::new(key);
    Ok((session_of(reader.u64()?)?, text_of(reader.all())?))
}

pub(crate) fn seen_key(
    session: SessionKey,
    publisher: SessionKey,
    packet_id: PacketId,
) -> [u8; 18] {
    seen_row(session, publisher, packet_id.number())
}

/// The first and the last row of a session in [`SEEN`].
pub(crate) fn seen_rows(session: SessionKey) -> [[u8; 18]; 2] {
    [
        seen_row(session, SessionKey(0), 0),
        seen_row(session, SessionKey(u64::MAX), u16::MAX),
    ]
}

fn seen_row(session: SessionKey, publisher: SessionKey, packet_id: u16) -> [u8; 18] {
    let mut key = [0; 18];
    key[..8].copy_from_slice(&session_key(session));
    key[8..16].copy_from_slice(&session_key(publisher));
    key[16..].copy_from_slice(&packet_id.to_be_bytes());
    key
}

pub(crate) fn read_seen_key(
    key: &[u8; 18],
) -> Result<(SessionKey, SessionKey, PacketId), BadRecord> {
    let mut reader = Reader::new(key);
    Ok((
        session_of(reader.u64()?)?,
        session_of(reader.u64()?)?,
        packet_id_of(reader.u16()?)?,
    ))
}

pub(crate) fn queued_key(session: SessionKey, position: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&session_key(session));
    key[8..].copy_from_slice(&position.to_be_bytes());
    key
}

/// The first and the last row of a session in [`QUEUED`].
pub(crate) fn queued_rows(session: SessionKey) -> [[u8; 16]; 2] {
    [queued_key(session, 0), queued_key(session, u64::MAX)]
}

pub(crate) fn read_queued_key(key: &[u8; 16]) -> Result<(SessionKey, u64), BadRecord> {
    let mut reader = Reader::new(key);
    Ok((session_of(reader.u64()?)?, reader.u64()?))
}

/// Everything before the position of a row of [`GROUP_QUEUED`]. The name ends at a byte that
/// UTF-8 never has, the filter before the last eight bytes.
pub(crate) fn group_prefix(key: &GroupKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.name.len() + 1 + key.filter.len() + 1 + 8);
    bytes.extend_from_slice(key.name.as_bytes());
    bytes.push(GROUP_END);
    bytes.extend_from_slice(key.filter.as_bytes());
    bytes.push(GROUP_END);
    bytes
}

const GROUP_END: u8 = 0xFF;

pub(crate) fn group_key(key: &GroupKey, position: u64) -> Vec<u8> {
    let mut bytes = group_prefix(key);
    bytes.extend_from_slice(&position.to_be_bytes());
    bytes
}

/// Name, filter, position.
pub(crate) fn read_group_key(key: &[u8]) -> Result<(&str, &str, u64), BadRecord> {
    let (texts, position) = key
        .split_last_chunk::<8>()
        .ok_or(BadRecord("a group's key is too short"))?;
    let bad = BadRecord("a group's key has no end");
    let texts = texts.strip_suffix(&[GROUP_END]).ok_or(bad)?;
    let end = texts
        .iter()
        .position(|&byte| byte == GROUP_END)
        .ok_or(bad)?;
    let name = text_of(&texts[..end])?;
    let filter = text_of(&texts[end + 1..])?;
    Ok((name, filter, u64::from_be_bytes(*position)))
}

pub(crate) fn token_key(device: DeviceId, token: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&device.0);
    key[16..].copy_from_slice(&token.to_be_bytes());
    key
}

/// The first and the last row of a device in [`TOKENS`].
pub(crate) fn token_rows(device: DeviceId) -> [[u8; 24]; 2] {
    [token_key(device, 0), token_key(device, u64::MAX)]
}

pub(crate) fn read_token_key(key: &[u8; 24]) -> Result<(DeviceId, u64), BadRecord> {
    let mut reader = Reader::new(key);
    Ok((DeviceId(reader.array()?), reader.u64()?))
}

pub(crate) fn device_subscription_key(subscription: DeviceSubscription) -> [u8; 33] {
    let mut key = [0; 33];
    key[..16].copy_from_slice(&subscription.emitter.0);
    key[16..32].copy_from_slice(&subscription.subscriber.0);
    key[32] = subscription.kind;
    key
}

/// The first and the last row of an emitter in [`DEVICE_SUBSCRIPTIONS`].
pub(crate) fn device_subscription_rows(emitter: DeviceId) -> [[u8; 33]; 2] {
    [0, u8::MAX].map(|byte| {
        device_subscription_key(DeviceSubscription {
            emitter,
            subscriber: DeviceId([byte; 16]),
            kind: byte,
        })
    })
}

pub(crate) fn read_device_subscription_key(
    key: &[u8; 33],
) -> Result<DeviceSubscription, BadRecord> {
    let mut reader = Reader::new(key);
    Ok(DeviceSubscription {
        emitter: DeviceId(reader.array()?),
        subscriber: DeviceId(reader.array()?),
        kind: reader.u8()?,
    })
}
