//! The v5 properties (2.2.2), a struct per packet that may carry them. All are empty for 3.x.

mod decode;
mod encode;

pub(crate) use encode::{write_publish_head, write_subscription_ids};

use crate::QoS;
use crate::text::Reader;
use std::num::NonZeroU16;

/// User properties in the order they were sent. Names may repeat. [MQTT-3.1.3-10]
#[derive(Clone, Copy, Debug, Default)]
pub enum UserProperties<'a> {
    /// None.
    #[default]
    None,
    /// A validated property block, in which they stand among others.
    Block(&'a [u8]),
    /// To be encoded.
    Pairs(&'a [(&'a str, &'a str)]),
}

/// Of CONNECT (3.1.2.11).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectProperties<'a> {
    /// Seconds; 0xFFFF_FFFF never expires. Absent means 0.
    pub session_expiry_s: Option<u32>,
    /// 1 to 65,535; absent means 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// Bytes, at least 1; absent means no limit.
    pub maximum_packet_size: Option<u32>,
    /// Absent means 0: no aliases towards the client.
    pub topic_alias_maximum: Option<u16>,
    /// Absent means false.
    pub request_response_information: Option<bool>,
    /// Absent means true.
    pub request_problem_information: Option<bool>,
    /// Enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Only with a method.
    pub authentication_data: Option<&'a [u8]>,
    /// In order.
    pub user_properties: UserProperties<'a>,
}

/// Of CONNACK (3.2.2.3).
#[allow(missing_docs)] // As in the specification; `None` is not sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnackProperties<'a> {
    pub session_expiry_s: Option<u32>,
    pub receive_maximum: Option<NonZeroU16>,
    pub maximum_qos: Option<QoS>,
    pub retain_available: Option<bool>,
    pub maximum_packet_size: Option<u32>,
    pub assigned_client_id: Option<&'a str>,
    pub topic_alias_maximum: Option<u16>,
    pub reason_string: Option<&'a str>,
    pub wildcard_subscription_available: Option<bool>,
    pub subscription_identifiers_available: Option<bool>,
    pub shared_subscription_available: Option<bool>,
    pub server_keep_alive_s: Option<u16>,
    pub response_information: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
    pub user_properties: UserProperties<'a>,
}

/// Of PUBLISH (3.3.2.3) and, without alias and subscription identifiers, of a will (3.1.3.2).
#[derive(Clone, Debug, Default)]
pub struct PublishProperties<'a> {
    /// 0 unspecified, 1 UTF-8; `Some` if the property was sent. Not checked against the payload.
    pub payload_format: Option<u8>,
    /// Seconds that the message may still wait.
    pub message_expiry_s: Option<u32>,
    /// As sent: 0 is left to the caller, who answers 0x94.
    pub topic_alias: Option<u16>,
    /// A valid topic name.
    pub response_topic: Option<&'a str>,
    /// Any bytes.
    pub correlation_data: Option<&'a [u8]>,
    /// A description of the payload.
    pub content_type: Option<&'a str>,
    /// Subscription identifiers: the first, and how many there are. A client must send none
    /// [MQTT-3.3.4-6]; all of them are listed by [`PublishProperties::subscription_ids`].
    pub subscription_id_count: u32,
    /// In order.
    pub user_properties: UserProperties<'a>,
    /// The validated property block as received (empty when not decoded).
    pub(crate) block: &'a [u8],
}

/// Of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AckProperties<'a> {
    /// For people.
    pub reason_string: Option<&'a str>,
    /// In order.
    pub user_properties: UserProperties<'a>,
}

/// Of SUBSCRIBE (3.8.2.1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeProperties<'a> {
    /// 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// In order.
    pub user_properties: UserProperties<'a>,
}

/// Of DISCONNECT (3.14.2.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DisconnectProperties<'a> {
    /// Seconds; only a client sends it.
    pub session_expiry_s: Option<u32>,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// Only a server sends it.
    pub server_reference: Option<&'a str>,
    /// In order.
    pub user_properties: UserProperties<'a>,
}

/// Of AUTH (3.15.2.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthProperties<'a> {
    /// Always present in a valid packet with properties.
    pub authentication_method: Option<&'a str>,
    /// Any bytes.
    pub authentication_data: Option<&'a [u8]>,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// In order.
    pub user_properties: UserProperties<'a>,
}

/// The identifiers of the properties. (2.2.2.2, table 2-4)
pub(crate) mod id {
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_ID: u8 = 0x0B;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

impl<'a> UserProperties<'a> {
    /// The pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (block, pairs): (&[u8], &[(&str, &str)]) = match *self {
            UserProperties::None => (&[], &[]),
            UserProperties::Block(block) => (block, &[]),
            UserProperties::Pairs(pairs) => (&[], pairs),
        };
        let decoded = properties_of(block, id::USER_PROPERTY).filter_map(|mut reader| {
            let name = std::str::from_utf8(reader.binary().ok()?).ok()?;
            let value = std::str::from_utf8(reader.binary().ok()?).ok()?;
            Some((name, value))
        });
        decoded.chain(pairs.iter().copied())
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl PartialEq for UserProperties<'_> {
    /// Equal when they hold the same pairs in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl PartialEq for PublishProperties<'_> {
    /// Equal when they mean the same, in whatever order they were sent.
    fn eq(&self, other: &Self) -> bool {
        self.payload_format == other.payload_format
            && self.message_expiry_s == other.message_expiry_s
            && self.topic_alias == other.topic_alias
            && self.response_topic == other.response_topic
            && self.correlation_data == other.correlation_data
            && self.content_type == other.content_type
            && self.user_properties == other.user_properties
            && self.subscription_ids().eq(other.subscription_ids())
    }
}

impl<'a> PublishProperties<'a> {
    /// The subscription identifiers, in the order they stand in the packet.
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> + use<'a> {
        let block = if self.subscription_id_count == 0 {
            &[]
        } else {
            self.block
        };
        properties_of(block, id::SUBSCRIPTION_ID).filter_map(|mut reader| reader.variable().ok())
    }
}

/// Readers that stand behind each occurrence of `wanted` in a validated block. Should the block
/// not be valid, the walk ends where that shows.
fn properties_of<'a>(block: &'a [u8], wanted: u8) -> impl Iterator<Item = Reader<'a>> + use<'a> {
    let mut reader = Reader::new(block);
    std::iter::from_fn(move || {
        loop {
            let found = reader.u8().ok()?;
            let value = reader;
            skip(&mut reader, found)?;
            if found == wanted {
                return Some(value);
            }
        }
    })
}

/// Steps over the value of the property `found`.
fn skip(reader: &mut Reader<'_>, found: u8) -> Option<()> {
    use id::*;
    match found {
        PAYLOAD_FORMAT
        | REQUEST_PROBLEM_INFORMATION
        | REQUEST_RESPONSE_INFORMATION
        | MAXIMUM_QOS
        | RETAIN_AVAILABLE
        | WILDCARD_SUBSCRIPTION_AVAILABLE
        | SUBSCRIPTION_IDS_AVAILABLE
        | SHARED_SUBSCRIPTION_AVAILABLE => reader.take(1),
        SERVER_KEEP_ALIVE | RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => reader.take(2),
        MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY | MAXIMUM_PACKET_SIZE => reader.take(4),
        SUBSCRIPTION_ID => return reader.variable().ok().map(drop),
        USER_PROPERTY => reader.binary().and_then(|_| reader.binary()),
        CONTENT_TYPE
        | RESPONSE_TOPIC
        | CORRELATION_DATA
        | ASSIGNED_CLIENT_ID
        | AUTHENTICATION_METHOD
        | AUTHENTICATION_DATA
        | RESPONSE_INFORMATION
        | SERVER_REFERENCE
        | REASON_STRING => reader.binary(),
        _ => return None,
    }
    .ok()
    .map(drop)
}
