//! The v5 properties (2.2.2), a struct per packet that may carry them. All are empty for 3.x.

use crate::QoS;
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
#[derive(Clone, Debug, Default, PartialEq)]
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

impl<'a> UserProperties<'a> {
    /// The pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        todo!("codec") as std::vec::IntoIter<(&'a str, &'a str)>
    }
}

impl PartialEq for UserProperties<'_> {
    /// Equal when they hold the same pairs in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a> PublishProperties<'a> {
    /// The subscription identifiers, in the order they stand in the packet.
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> + use<'a> {
        todo!("codec") as std::vec::IntoIter<u32>
    }

    /// Appends to `out` the encoded properties that a server passes on unaltered: payload format,
    /// response topic, correlation data, content type and user properties, in the order received
    /// ([MQTT-3.3.2-4], -15, -16, -17, -18, -20). No length prefix. Alias, expiry and
    /// subscription identifiers are left out: they are the server's to write.
    pub fn encode_forwarded(&self, out: &mut Vec<u8>) {
        let _ = out;
        todo!("codec")
    }
}
