//! Records as bytes: one value of a table, and back. FORMAT.md describes the encoding.
//!
//! What is encoded is decoded again as it was, but for a message's publisher, which names a
//! session of a process that is gone. Decoding takes any bytes and never panics; a record that it
//! takes has valid topics, identifiers that are not 0, and nothing behind it.

use mqtt_v5_codec::{PacketId, QoS, SubscriptionOptions, topic_is_valid};
use shard::{
    Delivery, DeviceId, GroupKey, Message, MessageView, SessionKey, Step, StoredQueued,
    StoredSession, StoredSubscription, StoredWill, SubscriptionIds, Time,
};
use std::fmt;
use std::sync::Arc;

/// Bytes that are no record, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRecord(pub &'static str);

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadRecord {}

/// The first byte of each record whose encoding may change one day.
const VERSION: u8 = 1;

const SESSION_HAS_LEFT: u8 = 1;
const SESSION_HAS_WILL: u8 = 2;
const SESSION_WILL_EXPIRES: u8 = 4;
const SESSION_HAS_DEVICE: u8 = 8;

const QUEUED_QOS: u8 = 0b11;
const QUEUED_RETAIN: u8 = 1 << 2;
const QUEUED_HAS_MESSAGE: u8 = 1 << 3;
const QUEUED_PUBLISHED: u8 = 1 << 4;
const QUEUED_RELEASED: u8 = 1 << 5;
const QUEUED_HAS_GROUP: u8 = 1 << 6;

const MESSAGE_QOS: u8 = 0b11;
const MESSAGE_RETAIN: u8 = 1 << 2;
const MESSAGE_EXPIRES: u8 = 1 << 3;

/// Appends the parts of a record.
pub(crate) trait Writer {
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_length(&mut self, value: usize);
    fn put_text(&mut self, text: &str);
}

impl Writer for Vec<u8> {
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    /// Seven bits to a byte, the lowest first; the eighth says that another follows.
    fn put_length(&mut self, value: usize) {
        let mut rest = value;
        while rest >= 0x80 {
            self.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.push(rest as u8);
    }

    fn put_text(&mut self, text: &str) {
        self.put_length(text.len());
        self.extend_from_slice(text.as_bytes());
    }
}

/// Takes the parts of a record off its front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], BadRecord> {
        let (first, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(BadRecord("it ends too early"))?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, BadRecord> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, BadRecord> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, BadRecord> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, BadRecord> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], BadRecord> {
        if count > self.rest.len() {
            return Err(BadRecord("it ends too early"));
        }
        let (first, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn length(&mut self) -> Result<usize, BadRecord> {
        let mut value = 0_usize;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BadRecord("a length has more than five bytes"))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, BadRecord> {
        let length = self.length()?;
        text_of(self.bytes(length)?)
    }

    pub(crate) fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn end(self) -> Result<(), BadRecord> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(BadRecord("something follows after its end"))
        }
    }

    fn version(&mut self) -> Result<(), BadRecord> {
        match self.u8()? {
            VERSION => Ok(()),
            _ => Err(BadRecord("its encoding is unknown")),
        }
    }
}

pub(crate) fn text_of(bytes: &[u8]) -> Result<&str, BadRecord> {
    std::str::from_utf8(bytes).map_err(|_| BadRecord("a text is not UTF-8"))
}

pub(crate) fn session_of(number: u64) -> Result<SessionKey, BadRecord> {
    if number == 0 {
        return Err(BadRecord("a session key is 0"));
    }
    Ok(SessionKey(number))
}

pub(crate) fn packet_id_of(number: u16) -> Result<PacketId, BadRecord> {
    PacketId::new(number).ok_or(BadRecord("a packet identifier is 0"))
}

fn qos_of(bits: u8) -> Result<QoS, BadRecord> {
    match bits {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(BadRecord("a quality of service is above 2")),
    }
}

/// A session without its key.
pub(crate) fn encode_session(session: &StoredSession, out: &mut Vec<u8>) {
    let mut flags = 0;
    if session.left.is_some() {
        flags |= SESSION_HAS_LEFT;
    }
    if session.device.is_some() {
        flags |= SESSION_HAS_DEVICE;
    }
    if let Some(will) = &session.will {
        flags |= SESSION_HAS_WILL;
        if will.expiry_s.is_some() {
            flags |= SESSION_WILL_EXPIRES;
        }
    }
    out.push(VERSION);
    out.push(flags);
    out.put_u32(session.expiry_s);
    if let Some(left) = session.left {
        out.put_u64(left.0);
    }
    out.put_text(&session.client_id);
    if let Some(device) = &session.device {
        out.extend_from_slice(&device.0);
    }
    if let Some(will) = &session.will {
        out.put_u32(will.delay_s);
        if let Some(expiry_s) = will.expiry_s {
            out.put_u32(expiry_s);
        }
        encode_message(&will.message.view(), out);
    }
}

pub(crate) fn decode_session(key: SessionKey, bytes: &[u8]) -> Result<StoredSession, BadRecord> {
    let mut reader = Reader::new(bytes);
    reader.version()?;
    let flags = reader.u8()?;
    let known = SESSION_HAS_LEFT | SESSION_HAS_WILL | SESSION_WILL_EXPIRES | SESSION_HAS_DEVICE;
    if flags & !known != 0 {
        return Err(BadRecord("a session has unknown flags"));
    }
    let expiry_s = reader.u32()?;
    if expiry_s == 0 {
        return Err(BadRecord("a session has no expiry"));
    }
    let left = match flags & SESSION_HAS_LEFT {
        0 => None,
        _ => Some(Time(reader.u64()?)),
    };
    let client_id = reader.text()?.into();
    let device = match flags & SESSION_HAS_DEVICE {
        0 => None,
        _ => Some(DeviceId(reader.array()?)),
    };
    let will = if flags & SESSION_HAS_WILL != 0 {
        let delay_s = reader.u32()?;
        let expiry_s = match flags & SESSION_WILL_EXPIRES {
            0 => None,
            _ => Some(reader.u32()?),
        };
        let message = decode_message(&mut reader)?;
        Some(StoredWill {
            message,
            delay_s,
            expiry_s,
        })
    } else if flags & SESSION_WILL_EXPIRES != 0 {
        return Err(BadRecord("a session has unknown flags"));
    } else {
        None
    };
    reader.end()?;
    Ok(StoredSession {
        session: key,
        client_id,
        device,
        expiry_s,
        left,
        will,
    })
}

/// The options byte and the subscription identifier.
pub(crate) fn encode_subscription(subscription: &StoredSubscription) -> [u8; 5] {
    let id = subscription.subscription_id.to_be_bytes();
    [subscription.options.to_bits(), id[0], id[1], id[2], id[3]]
}

pub(crate) fn decode_subscription(
    bytes: &[u8; 5],
) -> Result<(SubscriptionOptions, u32), BadRecord> {
    let options = SubscriptionOptions::from_bits(bytes[0])
        .ok_or(BadRecord("a subscription has unknown options"))?;
    let id = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
    Ok((options, id))
}

/// A message in a queue, without its session and position.
pub(crate) fn encode_queued(queued: &StoredQueued, out: &mut Vec<u8>) {
    let delivery = &queued.delivery;
    let mut flags = delivery.qos as u8;
    if delivery.retain {
        flags |= QUEUED_RETAIN;
    }
    if queued.message.is_some() {
        flags |= QUEUED_HAS_MESSAGE;
    }
    flags |= match queued.sent {
        None => 0,
        Some((_, Step::Published)) => QUEUED_PUBLISHED,
        Some((_, Step::Released)) => QUEUED_RELEASED,
    };
    if delivery.group.is_some() {
        flags |= QUEUED_HAS_GROUP;
    }
    out.push(VERSION);
    out.push(flags);
    if let Some((packet_id, _)) = queued.sent {
        out.put_u16(packet_id.number());
    }
    let ids = delivery.subscription_ids.as_slice();
    out.put_length(ids.len());
    for &id in ids {
        out.put_length(id as usize);
    }
    if let Some(group) = &delivery.group {
        out.put_text(&group.name);
        out.put_text(&group.filter);
    }
    if let Some(message) = &queued.message {
        encode_message(&message.view(), out);
    }
}

/// Groups that are the same as `last` share its allocation; `last` is then the one decoded.
pub(crate) fn decode_queued(
    session: SessionKey,
    position: u64,
    bytes: &[u8],
    last: &mut Option<Arc<GroupKey>>,
) -> Result<StoredQueued, BadRecord> {
    let mut reader = Reader::new(bytes);
    reader.version()?;
    let flags = reader.u8()?;
    let step = match flags & (QUEUED_PUBLISHED | QUEUED_RELEASED) {
        0 => None,
        QUEUED_PUBLISHED => Some(Step::Published),
        QUEUED_RELEASED => Some(Step::Released),
        _ => return Err(BadRecord("a message is at two steps at once")),
    };
    if flags & 0x80 != 0 {
        return Err(BadRecord("a queued message has unknown flags"));
    }
    let sent = match step {
        None => None,
        Some(step) => Some((packet_id_of(reader.u16()?)?, step)),
    };
    let subscription_ids = decode_ids(&mut reader)?;
    let group = match flags & QUEUED_HAS_GROUP {
        0 => None,
        _ => {
            let (name, filter) = (reader.text()?, reader.text()?);
            Some(share_group(name, filter, last))
        }
    };
    let message = match flags & QUEUED_HAS_MESSAGE {
        0 => None,
        _ => Some(decode_message(&mut reader)?),
    };
    reader.end()?;
    Ok(StoredQueued {
        session,
        position,
        message,
        delivery: Delivery {
            qos: qos_of(flags & QUEUED_QOS)?,
            retain: flags & QUEUED_RETAIN != 0,
            subscription_ids,
            group,
        },
        sent,
    })
}

fn decode_ids(reader: &mut Reader<'_>) -> Result<SubscriptionIds, BadRecord> {
    let count = reader.length()?;
    let mut id = || -> Result<u32, BadRecord> {
        u32::try_from(reader.length()?)
            .map_err(|_| BadRecord("a subscription identifier is too large"))
    };
    Ok(match count {
        0 => SubscriptionIds::None,
        1 => SubscriptionIds::One([id()?]),
        _ => {
            // Not with the count as capacity: it may be anything.
            let mut ids = Vec::new();
            for _ in 0..count {
                ids.push(id()?);
            }
            SubscriptionIds::Many(ids.into_boxed_slice())
        }
    })
}

pub(crate) fn share_group(
    name: &str,
    filter: &str,
    last: &mut Option<Arc<GroupKey>>,
) -> Arc<GroupKey> {
    if let Some(key) = last
        && *key.name == *name
        && *key.filter == *filter
    {
        return Arc::clone(key);
    }
    let key = Arc::new(GroupKey {
        name: name.into(),
        filter: filter.into(),
    });
    *last = Some(Arc::clone(&key));
    key
}

/// A message of a group's queue.
pub(crate) fn encode_group_queued(message: &MessageView<'_>, out: &mut Vec<u8>) {
    out.push(VERSION);
    encode_message(message, out);
}

pub(crate) fn decode_group_queued(bytes: &[u8]) -> Result<Arc<Message>, BadRecord> {
    let mut reader = Reader::new(bytes);
    reader.version()?;
    decode_message(&mut reader)
}

/// A retained message; its topic is the key of its row.
pub(crate) fn encode_retained(message: &MessageView<'_>, out: &mut Vec<u8>) {
    out.push(VERSION);
    encode_message_head(message, out);
    out.put_length(message.forwarded.len());
    out.extend_from_slice(message.forwarded);
    out.extend_from_slice(message.payload);
}

pub(crate) fn decode_retained(topic: &[u8], bytes: &[u8]) -> Result<Arc<Message>, BadRecord> {
    let mut reader = Reader::new(bytes);
    reader.version()?;
    let head = Head::decode(&mut reader)?;
    head.decode_rest(text_of(topic)?, &mut reader)
}

/// With its topic. It takes all that is left of a record, so it comes last.
fn encode_message(message: &MessageView<'_>, out: &mut Vec<u8>) {
    encode_message_head(message, out);
    out.put_text(message.topic);
    out.put_length(message.forwarded.len());
    out.extend_from_slice(message.forwarded);
    out.extend_from_slice(message.payload);
}

fn encode_message_head(message: &MessageView<'_>, out: &mut Vec<u8>) {
    let mut flags = message.qos as u8;
    if message.retain {
        flags |= MESSAGE_RETAIN;
    }
    if message.expires.is_some() {
        flags |= MESSAGE_EXPIRES;
    }
    out.push(flags);
    if let Some(expires) = message.expires {
        out.put_u64(expires.0);
    }
}

fn decode_message(reader: &mut Reader<'_>) -> Result<Arc<Message>, BadRecord> {
    let head = Head::decode(reader)?;
    let topic = reader.text()?;
    head.decode_rest(topic, reader)
}

/// What of a message stands before its topic.
struct Head {
    qos: QoS,
    retain: bool,
    expires: Option<Time>,
}

impl Head {
    fn decode(reader: &mut Reader<'_>) -> Result<Head, BadRecord> {
        let flags = reader.u8()?;
        if flags & !(MESSAGE_QOS | MESSAGE_RETAIN | MESSAGE_EXPIRES) != 0 {
            return Err(BadRecord("a message has unknown flags"));
        }
        let expires = match flags & MESSAGE_EXPIRES {
            0 => None,
            _ => Some(Time(reader.u64()?)),
        };
        Ok(Head {
            qos: qos_of(flags & MESSAGE_QOS)?,
            retain: flags & MESSAGE_RETAIN != 0,
            expires,
        })
    }

    fn decode_rest(self, topic: &str, reader: &mut Reader<'_>) -> Result<Arc<Message>, BadRecord> {
        if !topic_is_valid(topic) {
            return Err(BadRecord("a message has no valid topic"));
        }
        let forwarded_bytes = reader.length()?;
        let forwarded = reader.bytes(forwarded_bytes)?;
        let view = MessageView {
            topic,
            forwarded,
            payload: reader.all(),
            qos: self.qos,
            retain: self.retain,
            expires: self.expires,
            publisher: None,
        };
        Ok(view.to_message())
    }
}
