//! The packets, borrowing from the bytes they were decoded from.

use crate::decode::subscription_options;
use crate::text::Reader;
use crate::{
    AckProperties, AuthProperties, ConnackProperties, ConnectProperties, DisconnectProperties,
    PacketId, PublishProperties, QoS, ReasonCode, SubscribeProperties, SubscriptionOptions,
    UserProperties, Version,
};

/// Any control packet.
#[allow(missing_docs)] // Each variant is documented at its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// CONNECT (3.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Connect<'a> {
    /// The version that the client speaks.
    pub version: Version,
    /// Clean Start; Clean Session for 3.x.
    pub clean_start: bool,
    /// Seconds; 0 switches keep-alive off.
    pub keep_alive_s: u16,
    /// Empty when the server is to assign one.
    pub client_id: &'a str,
    /// What to publish when the client vanishes.
    pub will: Option<Will<'a>>,
    /// User name, if the flag is set.
    pub user_name: Option<&'a str>,
    /// Password, if the flag is set. 3.x: only with a user name. [MQTT-3.1.2-22]
    pub password: Option<&'a [u8]>,
    /// v5 properties; all default for 3.x.
    pub properties: ConnectProperties<'a>,
}

/// The will in CONNECT.
#[derive(Clone, Debug, PartialEq)]
pub struct Will<'a> {
    /// Quality of service at which it is published.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// A valid topic name.
    pub topic: &'a str,
    /// May be empty.
    pub payload: &'a [u8],
    /// Seconds; 0 if absent.
    pub delay_s: u32,
    /// The properties of the message to be; alias and subscription identifiers are absent.
    pub properties: PublishProperties<'a>,
}

/// CONNACK (3.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Connack<'a> {
    /// Whether the server had a session for this client.
    pub session_present: bool,
    /// v5 reason code. For 3.x it is written as the return code that means the same: see
    /// [`Packet::encode`].
    pub reason: ReasonCode,
    /// v5 properties.
    pub properties: ConnackProperties<'a>,
}

/// PUBLISH (3.3), as received.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish<'a> {
    /// A re-delivery; always false at QoS 0. [MQTT-3.3.1-2]
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// A valid topic name, or empty when `properties.topic_alias` stands for it (v5).
    pub topic: &'a str,
    /// Present exactly when `qos` is above 0.
    pub packet_id: Option<PacketId>,
    /// v5 properties.
    pub properties: PublishProperties<'a>,
    /// The message itself.
    pub payload: &'a [u8],
}

/// Which of the four acknowledgements of PUBLISH.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AckKind {
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7).
#[derive(Clone, Debug, PartialEq)]
pub struct Ack<'a> {
    /// Which of the four.
    pub kind: AckKind,
    /// The packet that is acknowledged.
    pub packet_id: PacketId,
    /// v5; `Success` for 3.x and where it was left out.
    pub reason: ReasonCode,
    /// v5.
    pub properties: AckProperties<'a>,
}

/// SUBSCRIBE (3.8). Holds at least one filter.
#[derive(Clone, Debug)]
pub struct Subscribe<'a> {
    /// To be repeated in SUBACK.
    pub packet_id: PacketId,
    /// v5.
    pub properties: SubscribeProperties<'a>,
    /// The validated list of filters; iterate with [`Subscribe::filters`].
    pub(crate) body: &'a [u8],
    /// Decides how the options byte is read.
    pub(crate) version: Version,
}

/// One topic filter of SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeFilter<'a> {
    /// A string as sent; **not** checked to be a valid topic filter, since a bad one is refused
    /// alone, in SUBACK (0x8F). Use [`crate::filter_is_valid`] and [`crate::split_share`].
    pub filter: &'a str,
    /// For 3.x only the quality of service is set.
    pub options: SubscriptionOptions,
}

/// SUBACK (3.9).
#[derive(Clone, Debug, PartialEq)]
pub struct Suback<'a> {
    /// From SUBSCRIBE.
    pub packet_id: PacketId,
    /// v5.
    pub properties: AckProperties<'a>,
    /// One per filter, in order.
    pub reasons: ReturnCodes<'a>,
}

/// UNSUBSCRIBE (3.10). Holds at least one filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsubscribe<'a> {
    /// To be repeated in UNSUBACK.
    pub packet_id: PacketId,
    /// v5.
    pub user_properties: UserProperties<'a>,
    /// The validated list of filters; iterate with [`Unsubscribe::filters`].
    pub(crate) body: &'a [u8],
}

/// UNSUBACK (3.11).
#[derive(Clone, Debug, PartialEq)]
pub struct Unsuback<'a> {
    /// From UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// v5.
    pub properties: AckProperties<'a>,
    /// One per filter, in order; empty for 3.x.
    pub reasons: ReturnCodes<'a>,
}

/// The reason codes of SUBACK and UNSUBACK: a list to encode, or bytes that were decoded.
/// For a 3.x SUBACK every error is written as 0x80.
#[derive(Clone, Copy, Debug)]
pub enum ReturnCodes<'a> {
    /// To be encoded.
    List(&'a [ReasonCode]),
    /// As decoded; each byte is a valid code.
    Bytes(&'a [u8]),
}

/// DISCONNECT (3.14).
#[derive(Clone, Debug, PartialEq)]
pub struct Disconnect<'a> {
    /// v5; `Success` (normal disconnection) for 3.x and where it was left out.
    pub reason: ReasonCode,
    /// v5.
    pub properties: DisconnectProperties<'a>,
}

/// AUTH (3.15), v5 only.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth<'a> {
    /// Success, continue, or re-authenticate.
    pub reason: ReasonCode,
    /// Method and data.
    pub properties: AuthProperties<'a>,
}

impl<'a> Subscribe<'a> {
    /// The filters with their options, in order; at least one.
    pub fn filters(&self) -> impl Iterator<Item = SubscribeFilter<'a>> + use<'a> {
        let version = self.version;
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || {
            let filter = std::str::from_utf8(reader.binary().ok()?).ok()?;
            let options = subscription_options(version, reader.u8().ok()?).ok()?;
            Some(SubscribeFilter { filter, options })
        })
    }
}

impl PartialEq for Subscribe<'_> {
    /// Equal when they ask for the same; bits that the version does not use make no difference.
    fn eq(&self, other: &Self) -> bool {
        self.packet_id == other.packet_id
            && self.properties == other.properties
            && self.filters().eq(other.filters())
    }
}

impl<'a> Unsubscribe<'a> {
    /// The filters, in order; at least one. Like those of SUBSCRIBE they are strings as sent.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || std::str::from_utf8(reader.binary().ok()?).ok())
    }
}

impl<'a> ReturnCodes<'a> {
    /// The codes, in order.
    pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        let (list, bytes): (&[ReasonCode], &[u8]) = match *self {
            ReturnCodes::List(list) => (list, &[]),
            ReturnCodes::Bytes(bytes) => (&[], bytes),
        };
        list.iter()
            .copied()
            .chain(bytes.iter().filter_map(|byte| ReasonCode::from_byte(*byte)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            ReturnCodes::List(list) => list.len(),
            ReturnCodes::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether there is none, as in a 3.x UNSUBACK.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl PartialEq for ReturnCodes<'_> {
    /// Equal when they are the same codes in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// Packets of which there is a struct can be made a [`Packet`] with `into`.
macro_rules! into_packet {
    ($($kind:ident),*) => {
        $(impl<'a> From<$kind<'a>> for Packet<'a> {
            fn from(packet: $kind<'a>) -> Packet<'a> {
                Packet::$kind(packet)
            }
        })*
    };
}

into_packet!(
    Connect,
    Connack,
    Publish,
    Ack,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Disconnect,
    Auth
);
