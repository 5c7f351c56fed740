//! Packets become bytes.

use crate::{AckKind, Packet, PacketId, QoS, ReasonCode, Version};

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

/// Appends a PUBLISH to `out`.
pub fn encode_publish(out: &mut Vec<u8>, publish: &Outgoing<'_>) -> Layout {
    let _ = (out, publish);
    todo!("codec")
}

/// Appends an acknowledgement without properties, in its shortest form.
pub fn encode_ack(
    out: &mut Vec<u8>,
    version: Version,
    kind: AckKind,
    packet_id: PacketId,
    reason: ReasonCode,
) {
    let _ = (out, version, kind, packet_id, reason);
    todo!("codec")
}

impl Packet<'_> {
    /// Appends the packet to `out`, as `version` writes it. Properties and reason codes that
    /// `version` does not have are left out; a CONNACK reason becomes the 3.x return code that
    /// means the same (0x84 → 1, 0x85 → 2, 0x88 and 0x89 → 3, 0x86 and 0x8C → 4, other errors → 5).
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let _ = (version, out);
        todo!("codec")
    }
}
