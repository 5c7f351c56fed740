//! Packets become bytes. What is encoded is not checked to be valid: the caller's values are.
//! A string above 65,535 bytes or a packet above 268,435,455 is a mistake and panics.

use crate::connect::connect_flags;
use crate::header::{variable_bytes, variable_bytes_count};
use crate::properties::{write_publish_head, write_subscription_ids};
use crate::text::write_binary;
use crate::{
    Ack, AckKind, Auth, Connack, Connect, Disconnect, Packet, PacketId, Publish, QoS, ReasonCode,
    Suback, Subscribe, SubscribeFilter, SubscribeProperties, Unsuback, Unsubscribe, UserProperties,
    Version,
};

/// A PUBLISH on its way out, with its properties in the form in which a message keeps them.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Decides whether properties are written.
    pub version: Version,
    /// A re-delivery.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic name; empty when `topic_alias` stands for it.
    pub topic: &'a str,
    /// Needed exactly when `qos` is above 0.
    pub packet_id: Option<PacketId>,
    /// v5.
    pub topic_alias: Option<u16>,
    /// v5: seconds that the message may still wait.
    pub message_expiry_s: Option<u32>,
    /// v5: the subscriptions that it matched.
    pub subscription_ids: &'a [u32],
    /// v5: what [`crate::PublishProperties::encode_forwarded`] wrote.
    pub forwarded: &'a [u8],
    /// The message itself.
    pub payload: &'a [u8],
}

/// Where things stand in an encoded PUBLISH, so that it can be copied and patched per recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset in the buffer of the packet's first byte.
    pub start: usize,
    /// Offset in the buffer of the two bytes of the packet identifier, if it has one.
    pub packet_id_at: Option<usize>,
    /// Length of the whole packet in bytes.
    pub bytes: usize,
}

impl Outgoing<'_> {
    /// The length of the property block, without the length that stands before it.
    fn block_bytes(&self) -> usize {
        let ids = self.subscription_ids.iter();
        self.topic_alias.map_or(0, |_| 3)
            + self.message_expiry_s.map_or(0, |_| 5)
            + ids
                .map(|id| 1 + variable_bytes_count(*id as usize))
                .sum::<usize>()
            + self.forwarded.len()
    }
}

/// Appends a PUBLISH to `out`. Panics if `packet_id` is absent above QoS 0, or present at QoS 0.
pub fn encode_publish(out: &mut Vec<u8>, publish: &Outgoing<'_>) -> Layout {
    let with_id = publish.qos != QoS::AtMostOnce;
    // [MQTT-2.2.1-2], [MQTT-2.2.1-3]
    assert_eq!(
        with_id,
        publish.packet_id.is_some(),
        "an identifier exactly above QoS 0"
    );
    let topic_count =
        u16::try_from(publish.topic.len()).expect("a topic name has at most 65,535 bytes");
    let block = (publish.version == Version::V5).then(|| publish.block_bytes());
    let block_total = block.map_or(0, |bytes| variable_bytes_count(bytes) + bytes);
    let id_bytes = if with_id { 2 } else { 0 };
    let body_bytes = 2 + publish.topic.len() + id_bytes + block_total + publish.payload.len();
    let (length, length_bytes) = variable_bytes(body_bytes);

    let start = out.len();
    let bytes = 1 + length_bytes + body_bytes;
    out.reserve(bytes);
    out.push(publish_first(publish.dup, publish.qos, publish.retain));
    out.extend_from_slice(&length[..length_bytes]);
    out.extend_from_slice(&topic_count.to_be_bytes());
    out.extend_from_slice(publish.topic.as_bytes());
    let packet_id_at = publish.packet_id.map(|id| {
        let at = out.len();
        out.extend_from_slice(&id.number().to_be_bytes());
        at
    });
    match block {
        None => {}
        Some(0) => out.push(0),
        Some(block_bytes) => {
            let (length, length_bytes) = variable_bytes(block_bytes);
            out.extend_from_slice(&length[..length_bytes]);
            write_publish_head(out, publish.topic_alias, publish.message_expiry_s);
            write_subscription_ids(out, publish.subscription_ids);
            out.extend_from_slice(publish.forwarded);
        }
    }
    out.extend_from_slice(publish.payload);
    debug_assert_eq!(out.len() - start, bytes);
    Layout {
        start,
        packet_id_at,
        bytes,
    }
}

fn publish_first(dup: bool, qos: QoS, retain: bool) -> u8 {
    0x30 | u8::from(dup) << 3 | (qos as u8) << 1 | u8::from(retain)
}

/// The first byte of an acknowledgement; PUBREL alone has a flag. [MQTT-3.6.1-1]
fn ack_first(kind: AckKind) -> u8 {
    (kind as u8) << 4 | if kind == AckKind::Pubrel { 2 } else { 0 }
}

/// Appends an acknowledgement without properties, in its shortest form.
pub fn encode_ack(
    out: &mut Vec<u8>,
    version: Version,
    kind: AckKind,
    packet_id: PacketId,
    reason: ReasonCode,
) {
    let [high, low] = packet_id.number().to_be_bytes();
    let first = ack_first(kind);
    if version == Version::V5 && reason != ReasonCode::Success {
        out.extend_from_slice(&[first, 3, high, low, reason as u8]);
    } else {
        out.extend_from_slice(&[first, 2, high, low]);
    }
}

impl Packet<'_> {
    /// Appends the packet to `out`, as `version` writes it; CONNECT goes by its own version.
    ///
    /// Properties and reason codes that `version` does not have are left out, and so is AUTH as a
    /// whole; a CONNACK reason becomes the 3.x return code that means the same (0x84 → 1,
    /// 0x85 → 2, 0x88 and 0x89 → 3, 0x86 and 0x8C → 4, other errors → 5).
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Packet::Connect(connect) => encode_connect(connect, out),
            Packet::Connack(connack) => encode_connack(connack, version, out),
            Packet::Publish(publish) => encode_whole_publish(publish, version, out),
            Packet::Ack(ack) => encode_whole_ack(ack, version, out),
            Packet::Subscribe(subscribe) => encode_subscribe(
                out,
                version,
                subscribe.packet_id,
                &subscribe.properties,
                subscribe.filters(),
            ),
            Packet::Suback(suback) => encode_suback(suback, version, out),
            Packet::Unsubscribe(unsubscribe) => encode_unsubscribe(
                out,
                version,
                unsubscribe.packet_id,
                &unsubscribe.user_properties,
                unsubscribe.filters(),
            ),
            Packet::Unsuback(unsuback) => encode_unsuback(unsuback, version, out),
            Packet::Pingreq => out.extend_from_slice(&[0xC0, 0]),
            Packet::Pingresp => out.extend_from_slice(&[0xD0, 0]),
            Packet::Disconnect(disconnect) => encode_disconnect(disconnect, version, out),
            Packet::Auth(auth) => encode_auth(auth, version, out),
        }
    }
}

impl Subscribe<'_> {
    /// Appends a SUBSCRIBE to `out`. For 3.x only the filters and their QoS are written. Panics
    /// if `filters` is empty. [MQTT-3.8.3-2]
    pub fn encode(
        out: &mut Vec<u8>,
        version: Version,
        packet_id: PacketId,
        properties: &SubscribeProperties<'_>,
        filters: &[SubscribeFilter<'_>],
    ) {
        assert!(!filters.is_empty(), "SUBSCRIBE needs a filter");
        encode_subscribe(out, version, packet_id, properties, filters.iter().copied());
    }
}

impl Unsubscribe<'_> {
    /// Appends an UNSUBSCRIBE to `out`. Panics if `filters` is empty. [MQTT-3.10.3-2]
    pub fn encode(
        out: &mut Vec<u8>,
        version: Version,
        packet_id: PacketId,
        user_properties: &UserProperties<'_>,
        filters: &[&str],
    ) {
        assert!(!filters.is_empty(), "UNSUBSCRIBE needs a filter");
        encode_unsubscribe(
            out,
            version,
            packet_id,
            user_properties,
            filters.iter().copied(),
        );
    }
}

/// Appends a packet: `first`, its length, and what `write` appends.
fn framed(out: &mut Vec<u8>, first: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(first);
    measured(out, write);
}

/// Appends what `write` appends, and its length before it.
fn measured(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    write(out);
    let (length, count) = variable_bytes(out.len() - at - 1);
    // One byte stands ready; most packets and blocks need no more.
    out[at] = length[0];
    if count > 1 {
        out.splice(at + 1..at + 1, length[1..count].iter().copied());
    }
}

/// The property block, where `version` has one.
fn block(out: &mut Vec<u8>, version: Version, write: impl FnOnce(&mut Vec<u8>)) {
    if version == Version::V5 {
        measured(out, write);
    }
}

/// A reason code and a property block at the end of a packet, in the shortest form: an empty block
/// is left out, and success with it.
fn ending(out: &mut Vec<u8>, reason: ReasonCode, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(reason as u8);
    measured(out, write);
    if out.len() == at + 2 {
        out.truncate(if reason == ReasonCode::Success {
            at
        } else {
            at + 1
        });
    }
}

fn write_packet_id(out: &mut Vec<u8>, packet_id: PacketId) {
    out.extend_from_slice(&packet_id.number().to_be_bytes());
}

fn encode_connect(connect: &Connect<'_>, out: &mut Vec<u8>) {
    let version = connect.version;
    let (name, level): (&[u8], u8) = match version {
        Version::V31 => (b"MQIsdp", 3),
        Version::V311 => (b"MQTT", 4),
        Version::V5 => (b"MQTT", 5),
    };
    framed(out, 0x10, |out| {
        write_binary(out, name);
        out.push(level);
        out.push(connect_flags(connect));
        out.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
        block(out, version, |out| connect.properties.encode(out));
        write_binary(out, connect.client_id.as_bytes());
        if let Some(will) = &connect.will {
            block(out, version, |out| {
                will.properties.encode_will(will.delay_s, out)
            });
            write_binary(out, will.topic.as_bytes());
            write_binary(out, will.payload);
        }
        if let Some(user_name) = connect.user_name {
            write_binary(out, user_name.as_bytes());
        }
        if let Some(password) = connect.password {
            write_binary(out, password);
        }
    });
}

fn encode_connack(connack: &Connack<'_>, version: Version, out: &mut Vec<u8>) {
    let code = match version {
        Version::V5 => connack.reason as u8,
        _ => return_code(connack.reason),
    };
    framed(out, 0x20, |out| {
        // 3.1 has no such flag.
        out.push((connack.session_present && version > Version::V31).into());
        out.push(code);
        block(out, version, |out| connack.properties.encode(out));
    });
}

/// The return code of a 3.x CONNACK that comes closest to `reason`.
fn return_code(reason: ReasonCode) -> u8 {
    match reason {
        ReasonCode::UnsupportedProtocolVersion => 1,
        ReasonCode::ClientIdentifierNotValid => 2,
        ReasonCode::ServerUnavailable
        | ReasonCode::ServerBusy
        | ReasonCode::ConnectionRateExceeded
        | ReasonCode::QuotaExceeded
        | ReasonCode::UseAnotherServer
        | ReasonCode::ServerMoved => 3,
        ReasonCode::BadUserNameOrPassword | ReasonCode::BadAuthenticationMethod => 4,
        error if error.is_error() => 5,
        _ => 0,
    }
}

fn encode_whole_publish(publish: &Publish<'_>, version: Version, out: &mut Vec<u8>) {
    framed(
        out,
        publish_first(publish.dup, publish.qos, publish.retain),
        |out| {
            write_binary(out, publish.topic.as_bytes());
            if let Some(packet_id) = publish.packet_id {
                write_packet_id(out, packet_id);
            }
            block(out, version, |out| publish.properties.encode(out));
            out.extend_from_slice(publish.payload);
        },
    );
}

fn encode_whole_ack(ack: &Ack<'_>, version: Version, out: &mut Vec<u8>) {
    framed(out, ack_first(ack.kind), |out| {
        write_packet_id(out, ack.packet_id);
        if version == Version::V5 {
            ending(out, ack.reason, |out| ack.properties.encode(out));
        }
    });
}

fn encode_subscribe<'a>(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: PacketId,
    properties: &SubscribeProperties<'_>,
    filters: impl Iterator<Item = SubscribeFilter<'a>>,
) {
    framed(out, 0x82, |out| {
        write_packet_id(out, packet_id);
        block(out, version, |out| properties.encode(out));
        for filter in filters {
            write_binary(out, filter.filter.as_bytes());
            let bits = filter.options.to_bits();
            out.push(if version == Version::V5 {
                bits
            } else {
                bits & 3
            });
        }
    });
}

fn encode_unsubscribe<'a>(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: PacketId,
    user_properties: &UserProperties<'_>,
    filters: impl Iterator<Item = &'a str>,
) {
    framed(out, 0xA2, |out| {
        write_packet_id(out, packet_id);
        block(out, version, |out| user_properties.encode(out));
        for filter in filters {
            write_binary(out, filter.as_bytes());
        }
    });
}

fn encode_suback(suback: &Suback<'_>, version: Version, out: &mut Vec<u8>) {
    framed(out, 0x90, |out| {
        write_packet_id(out, suback.packet_id);
        block(out, version, |out| suback.properties.encode(out));
        out.extend(suback.reasons.iter().map(|reason| match version {
            Version::V5 => reason as u8,
            // [MQTT-3.9.3-2] of 3.1.1
            _ if reason.is_error() => 0x80,
            _ => reason as u8,
        }));
    });
}

fn encode_unsuback(unsuback: &Unsuback<'_>, version: Version, out: &mut Vec<u8>) {
    framed(out, 0xB0, |out| {
        write_packet_id(out, unsuback.packet_id);
        if version == Version::V5 {
            block(out, version, |out| unsuback.properties.encode(out));
            out.extend(unsuback.reasons.iter().map(|reason| reason as u8));
        }
    });
}

fn encode_disconnect(disconnect: &Disconnect<'_>, version: Version, out: &mut Vec<u8>) {
    framed(out, 0xE0, |out| {
        if version == Version::V5 {
            ending(out, disconnect.reason, |out| {
                disconnect.properties.encode(out)
            });
        }
    });
}

fn encode_auth(auth: &Auth<'_>, version: Version, out: &mut Vec<u8>) {
    if version == Version::V5 {
        framed(out, 0xF0, |out| {
            ending(out, auth.reason, |out| auth.properties.encode(out));
        });
    }
}
