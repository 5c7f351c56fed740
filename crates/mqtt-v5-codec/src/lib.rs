//! MQTT packets of versions 3.1, 3.1.1 and 5.0: decoded from a slice without copying, encoded into
//! a buffer. No I/O, no clock, no allocation while decoding.
//!
//! A caller cuts a stream into packets with [`FixedHeader::parse`] and hands each body to
//! [`decode`]. Decoding checks everything that can be judged from one packet alone: flags,
//! lengths, UTF-8, property identifiers and their multiplicity, topic names and filters. What
//! needs state (aliases, packet identifiers in use, limits) is the caller's.
#![forbid(unsafe_code)]

mod connect;
mod decode;
mod encode;
mod error;
mod header;
mod packet;
mod properties;
mod reason;
mod text;
mod topic;
mod types;

pub use connect::connect_version;
pub use decode::decode;
pub use encode::{Layout, Outgoing, encode_ack, encode_publish};
pub use error::DecodeError;
pub use header::{FixedHeader, PacketKind, write_variable_length};
pub use packet::{
    Ack, AckKind, Auth, Connack, Connect, Disconnect, Packet, Publish, ReturnCodes, Suback,
    Subscribe, SubscribeFilter, Unsuback, Unsubscribe, Will,
};
pub use properties::{
    AckProperties, AuthProperties, ConnackProperties, ConnectProperties, DisconnectProperties,
    PublishProperties, SubscribeProperties, UserProperties,
};
pub use reason::ReasonCode;
pub use topic::{Share, filter_is_valid, split_share, topic_is_valid};
pub use types::{PacketId, QoS, RetainHandling, SubscriptionOptions, Version};
