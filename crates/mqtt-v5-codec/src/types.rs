//! The small values that packets are made of.

use std::num::NonZeroU16;

/// A protocol version, as negotiated by CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4 (or `MQIsdp` with level 4, which an old Meshblu
    /// client sends).
    V311,
    /// MQTT 5.0: protocol name `MQTT`, level 5.
    V5,
}

/// Quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// 0: may be lost, never repeated.
    #[default]
    AtMostOnce = 0,
    /// 1: never lost, may be repeated.
    AtLeastOnce = 1,
    /// 2: neither lost nor repeated.
    ExactlyOnce = 2,
}

impl QoS {
    /// The quality of service with this number; `None` above 2.
    pub fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// A packet identifier, 1 to 65,535. [MQTT-2.2.1-3]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub NonZeroU16);

impl PacketId {
    /// The identifier with this number; `None` for 0.
    pub fn new(number: u16) -> Option<PacketId> {
        NonZeroU16::new(number).map(PacketId)
    }

    /// The number, 1 to 65,535.
    pub fn number(self) -> u16 {
        self.0.get()
    }
}

/// When retained messages are sent on SUBSCRIBE. [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: at every SUBSCRIBE.
    #[default]
    Always = 0,
    /// 1: only if the subscription is new.
    IfNew = 1,
    /// 2: not at all.
    Never = 2,
}

/// The options byte of one topic filter in SUBSCRIBE (MQTT 5.0, 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest quality of service at which the subscriber wants messages.
    pub qos: QoS,
    /// Do not send back what this client publishes.
    pub no_local: bool,
    /// Keep the RETAIN flag as it was published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// The options byte of a v5 SUBSCRIBE; for 3.x only the quality of service is set.
    pub fn to_bits(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    /// Reads a v5 options byte; `None` if a reserved bit is set or a value is out of range.
    pub fn from_bits(bits: u8) -> Option<SubscriptionOptions> {
        let retain_handling = match bits >> 4 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return None,
        };
        Some(SubscriptionOptions {
            qos: QoS::from_bits(bits & 3)?,
            no_local: bits & 4 != 0,
            retain_as_published: bits & 8 != 0,
            retain_handling,
        })
    }
}
