//! What a client was sent: owned copies of decoded packets, with their bytes.

use mqtt_v5_codec::{
    AckKind, AckProperties, FixedHeader, Packet, Publish, ReasonCode, ReturnCodes, UserProperties,
    Version, decode,
};

/// A packet that the broker sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Got {
    Connack(ConnackGot),
    Publish(Message),
    Ack(AckGot),
    Suback(SubackGot),
    Unsuback(SubackGot),
    Pingresp,
    Disconnect(DisconnectGot),
    Auth(u8),
}

/// CONNACK.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnackGot {
    pub session_present: bool,
    pub reason: ReasonCode,
    pub session_expiry_s: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub maximum_qos: Option<u8>,
    pub retain_available: Option<bool>,
    pub maximum_packet_size: Option<u32>,
    pub assigned_client_id: Option<String>,
    pub topic_alias_maximum: Option<u16>,
    pub reason_string: Option<String>,
    pub wildcard_subscription_available: Option<bool>,
    pub subscription_identifiers_available: Option<bool>,
    pub shared_subscription_available: Option<bool>,
    pub server_keep_alive_s: Option<u16>,
    pub response_information: Option<String>,
    pub authentication_method: Option<String>,
    pub user_properties: Vec<(String, String)>,
    /// The whole packet.
    pub raw: Vec<u8>,
}

/// PUBLISH.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    pub packet_id: Option<u16>,
    pub payload: Vec<u8>,
    pub payload_format: Option<u8>,
    pub message_expiry_s: Option<u32>,
    pub topic_alias: Option<u16>,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Vec<u8>>,
    pub content_type: Option<String>,
    pub subscription_ids: Vec<u32>,
    pub user_properties: Vec<(String, String)>,
    /// The whole packet.
    pub raw: Vec<u8>,
}

impl Message {
    /// The payload, which must be UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the payload is text")
    }

    /// The packet identifier, which must be there.
    pub fn id(&self) -> u16 {
        self.packet_id
            .expect("QoS 1 and 2 have a packet identifier")
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Debug, PartialEq)]
pub struct AckGot {
    pub kind: AckKind,
    pub packet_id: u16,
    pub reason: ReasonCode,
    pub reason_string: Option<String>,
    pub user_properties: Vec<(String, String)>,
    /// The whole packet.
    pub raw: Vec<u8>,
}

/// SUBACK or UNSUBACK.
#[derive(Clone, Debug, PartialEq)]
pub struct SubackGot {
    pub packet_id: u16,
    /// As on the wire.
    pub reasons: Vec<u8>,
    pub reason_string: Option<String>,
    pub user_properties: Vec<(String, String)>,
    /// The whole packet.
    pub raw: Vec<u8>,
}

/// DISCONNECT.
#[derive(Clone, Debug, PartialEq)]
pub struct DisconnectGot {
    pub reason: ReasonCode,
    pub session_expiry_s: Option<u32>,
    pub reason_string: Option<String>,
    pub user_properties: Vec<(String, String)>,
    /// The whole packet.
    pub raw: Vec<u8>,
}

/// Takes one whole packet from the front of `received`; `None` if more bytes are needed. Panics if
/// the broker sent nonsense.
pub fn take_packet(version: Version, received: &mut Vec<u8>) -> Option<Got> {
    let header = FixedHeader::parse(received).expect("the broker sends valid fixed headers")?;
    if received.len() < header.packet_bytes() {
        return None;
    }
    let raw: Vec<u8> = received.drain(..header.packet_bytes()).collect();
    let packet = decode(version, header.first, &raw[header.header_bytes..])
        .unwrap_or_else(|error| panic!("the broker sent {raw:02x?}: {error}"));
    Some(own(packet, raw.clone()))
}

fn own(packet: Packet<'_>, raw: Vec<u8>) -> Got {
    match packet {
        Packet::Connack(connack) => Got::Connack(own_connack(connack, raw)),
        Packet::Publish(publish) => Got::Publish(own_publish(&publish, raw)),
        Packet::Ack(ack) => Got::Ack(AckGot {
            kind: ack.kind,
            packet_id: ack.packet_id.number(),
            reason: ack.reason,
            reason_string: text(ack.properties.reason_string),
            user_properties: pairs(&ack.properties.user_properties),
            raw,
        }),
        Packet::Suback(suback) => {
            let id = suback.packet_id.number();
            Got::Suback(own_suback(id, suback.reasons, &suback.properties, raw))
        }
        Packet::Unsuback(unsuback) => {
            let id = unsuback.packet_id.number();
            Got::Unsuback(own_suback(id, unsuback.reasons, &unsuback.properties, raw))
        }
        Packet::Pingresp => Got::Pingresp,
        Packet::Disconnect(disconnect) => Got::Disconnect(DisconnectGot {
            reason: disconnect.reason,
            session_expiry_s: disconnect.properties.session_expiry_s,
            reason_string: text(disconnect.properties.reason_string),
            user_properties: pairs(&disconnect.properties.user_properties),
            raw,
        }),
        Packet::Auth(auth) => Got::Auth(auth.reason as u8),
        other => panic!("a packet that only clients send: {other:?}"),
    }
}

fn own_connack(connack: mqtt_v5_codec::Connack<'_>, raw: Vec<u8>) -> ConnackGot {
    let properties = connack.properties;
    ConnackGot {
        session_present: connack.session_present,
        reason: connack.reason,
        session_expiry_s: properties.session_expiry_s,
        receive_maximum: properties.receive_maximum.map(|value| value.get()),
        maximum_qos: properties.maximum_qos.map(|qos| qos as u8),
        retain_available: properties.retain_available,
        maximum_packet_size: properties.maximum_packet_size,
        assigned_client_id: text(properties.assigned_client_id),
        topic_alias_maximum: properties.topic_alias_maximum,
        reason_string: text(properties.reason_string),
        wildcard_subscription_available: properties.wildcard_subscription_available,
        subscription_identifiers_available: properties.subscription_identifiers_available,
        shared_subscription_available: properties.shared_subscription_available,
        server_keep_alive_s: properties.server_keep_alive_s,
        response_information: text(properties.response_information),
        authentication_method: text(properties.authentication_method),
        user_properties: pairs(&properties.user_properties),
        raw,
    }
}

fn own_publish(publish: &Publish<'_>, raw: Vec<u8>) -> Message {
    let properties = &publish.properties;
    Message {
        dup: publish.dup,
        qos: publish.qos as u8,
        retain: publish.retain,
        topic: publish.topic.into(),
        packet_id: publish.packet_id.map(|id| id.number()),
        payload: publish.payload.into(),
        payload_format: properties.payload_format,
        message_expiry_s: properties.message_expiry_s,
        topic_alias: properties.topic_alias,
        response_topic: text(properties.response_topic),
        correlation_data: properties.correlation_data.map(Vec::from),
        content_type: text(properties.content_type),
        subscription_ids: properties.subscription_ids().collect(),
        user_properties: pairs(&properties.user_properties),
        raw,
    }
}

fn own_suback(
    packet_id: u16,
    reasons: ReturnCodes<'_>,
    properties: &AckProperties<'_>,
    raw: Vec<u8>,
) -> SubackGot {
    let reasons = match reasons {
        ReturnCodes::List(list) => list.iter().map(|reason| *reason as u8).collect(),
        ReturnCodes::Bytes(bytes) => bytes.to_vec(),
    };
    SubackGot {
        packet_id,
        reasons,
        reason_string: text(properties.reason_string),
        user_properties: pairs(&properties.user_properties),
        raw,
    }
}

fn text(text: Option<&str>) -> Option<String> {
    text.map(String::from)
}

fn pairs(properties: &UserProperties<'_>) -> Vec<(String, String)> {
    properties
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}
