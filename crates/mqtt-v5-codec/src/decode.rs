//! Bytes become packets. CONNECT has a file of its own.

use crate::connect::decode_connect;
use crate::header::check_flags;
use crate::text::Reader;
use crate::{
    Ack, AckKind, AckProperties, Auth, AuthProperties, Connack, ConnackProperties, DecodeError,
    Disconnect, DisconnectProperties, Packet, PacketKind, Publish, PublishProperties, QoS,
    ReasonCode, ReturnCodes, Suback, Subscribe, SubscribeProperties, SubscriptionOptions, Unsuback,
    Unsubscribe, UserProperties, Version,
};

/// Decodes one packet: `first` is the byte that begins its fixed header, `body` all that follows
/// the fixed header.
///
/// `version` is the one negotiated; CONNECT ignores it, since it brings its own.
///
/// # Errors
/// The reason that the specification gives for this fault: 0x81, 0x82, 0x84 (protocol name or
/// level unknown), 0x90 (wildcard in a topic name). Where it gives none, its definitions decide
/// (1.2): what cannot be parsed is malformed, what parses and is not allowed a protocol error.
/// On a CONNECT that is refused, [`crate::connect_version`] tells which form of answer the client
/// will understand.
#[inline]
pub fn decode(version: Version, first: u8, body: &[u8]) -> Result<Packet<'_>, DecodeError> {
    if first >> 4 == PacketKind::Publish as u8 {
        return Publish::decode(version, first, body).map(Packet::Publish);
    }
    decode_rare(version, first, body)
}

fn decode_rare(version: Version, first: u8, body: &[u8]) -> Result<Packet<'_>, DecodeError> {
    check_flags(first)?;
    if first & 8 != 0 && version > Version::V31 {
        return Err(DecodeError::malformed("DUP on a packet other than PUBLISH"));
    }
    let kind = PacketKind::from_first_byte(first).ok_or(DecodeError::malformed("packet kind 0"))?;
    match kind {
        PacketKind::Connect => decode_connect(body).map(Packet::Connect),
        PacketKind::Connack => connack(version, body).map(Packet::Connack),
        PacketKind::Publish => Publish::decode(version, first, body).map(Packet::Publish),
        PacketKind::Puback => ack(version, AckKind::Puback, body),
        PacketKind::Pubrec => ack(version, AckKind::Pubrec, body),
        PacketKind::Pubrel => ack(version, AckKind::Pubrel, body),
        PacketKind::Pubcomp => ack(version, AckKind::Pubcomp, body),
        PacketKind::Subscribe => subscribe(version, body).map(Packet::Subscribe),
        PacketKind::Suback => suback(version, body).map(Packet::Suback),
        PacketKind::Unsubscribe => unsubscribe(version, body).map(Packet::Unsubscribe),
        PacketKind::Unsuback => unsuback(version, body).map(Packet::Unsuback),
        PacketKind::Pingreq => Reader::new(body).finish().map(|()| Packet::Pingreq),
        PacketKind::Pingresp => Reader::new(body).finish().map(|()| Packet::Pingresp),
        PacketKind::Disconnect => disconnect(version, body).map(Packet::Disconnect),
        PacketKind::Auth => auth(version, body).map(Packet::Auth),
    }
}

const REASON: DecodeError = DecodeError::protocol("reason code not allowed in this packet");

/// The reason code with this number, if `fits` lets this kind of packet have it.
#[inline]
fn reason(byte: u8, fits: fn(ReasonCode) -> bool) -> Result<ReasonCode, DecodeError> {
    ReasonCode::from_byte(byte)
        .filter(|reason| fits(*reason))
        .ok_or(REASON)
}

/// Authentication data only with a method. (3.1.2.11.10, 3.2.2.3.18)
pub(crate) fn check_authentication(
    method: Option<&str>,
    data: Option<&[u8]>,
) -> Result<(), DecodeError> {
    if data.is_some() && method.is_none() {
        return Err(DecodeError::protocol(
            "authentication data without a method",
        ));
    }
    Ok(())
}

impl<'a> Publish<'a> {
    /// Decodes a PUBLISH, as [`decode`] does; for callers who know the kind from the fixed header.
    ///
    /// # Errors
    /// As for [`decode`].
    #[inline]
    pub fn decode(version: Version, first: u8, body: &'a [u8]) -> Result<Publish<'a>, DecodeError> {
        let qos = QoS::from_bits((first >> 1) & 3).ok_or(DecodeError::malformed("QoS is 3"))?;
        let mut dup = first & 8 != 0;
        if dup && qos == QoS::AtMostOnce {
            // [MQTT-3.3.1-2]; 3.1 does not forbid it, and it means nothing there.
            if version > Version::V31 {
                return Err(DecodeError::protocol("DUP at QoS 0"));
            }
            dup = false;
        }
        let mut reader = Reader::new(body);
        let topic = reader.topic()?;
        let packet_id = if qos == QoS::AtMostOnce {
            None
        } else {
            Some(reader.packet_id()?)
        };
        let block = if version == Version::V5 {
            reader.block()?
        } else {
            &[]
        };
        let properties = if block.is_empty() {
            PublishProperties::default()
        } else {
            PublishProperties::decode(block)?
        };
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(DecodeError::protocol("neither a topic name nor an alias"));
        }
        let retain = first & 1 != 0;
        Ok(Publish {
            dup,
            qos,
            retain,
            topic,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }
}

fn ack(version: Version, kind: AckKind, body: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let mut ack = Ack {
        kind,
        packet_id,
        reason: ReasonCode::Success,
        properties: AckProperties::default(),
    };
    if version == Version::V5 && !reader.is_empty() {
        let fits = match kind {
            AckKind::Puback | AckKind::Pubrec => ReasonCode::fits_receipt,
            AckKind::Pubrel | AckKind::Pubcomp => ReasonCode::fits_release,
        };
        ack.reason = reason(reader.u8()?, fits)?;
        if !reader.is_empty() {
            ack.properties = AckProperties::decode(reader.block()?)?;
        }
    }
    reader.finish()?;
    Ok(Packet::Ack(ack))
}

fn connack(version: Version, body: &[u8]) -> Result<Connack<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let flags = reader.u8()?;
    let code = reader.u8()?;
    let mut connack = Connack {
        // 3.1 does not use this byte.
        session_present: flags & 1 != 0 && version > Version::V31,
        reason: ReasonCode::Success,
        properties: ConnackProperties::default(),
    };
    // [MQTT-3.2.2-1]
    if flags > 1 && version > Version::V31 {
        return Err(DecodeError::malformed("reserved flag in CONNACK"));
    }
    if version == Version::V5 {
        connack.reason = reason(code, ReasonCode::fits_connack)?;
        connack.properties = ConnackProperties::decode(reader.block()?)?;
        let properties = &connack.properties;
        check_authentication(
            properties.authentication_method,
            properties.authentication_data,
        )?;
    } else {
        connack.reason = match code {
            0 => ReasonCode::Success,
            1 => ReasonCode::UnsupportedProtocolVersion,
            2 => ReasonCode::ClientIdentifierNotValid,
            3 => ReasonCode::ServerUnavailable,
            4 => ReasonCode::BadUserNameOrPassword,
            5 => ReasonCode::NotAuthorized,
            _ => return Err(REASON),
        };
    }
    // [MQTT-3.2.2-6]
    if connack.session_present && connack.reason.is_error() {
        return Err(DecodeError::protocol("session present in a refusal"));
    }
    reader.finish()?;
    Ok(connack)
}

fn subscribe(version: Version, body: &[u8]) -> Result<Subscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let mut properties = SubscribeProperties::default();
    if version == Version::V5 {
        properties = SubscribeProperties::decode(reader.block()?)?;
    }
    let filters = reader.rest();
    // [MQTT-3.8.3-2]
    if filters.is_empty() {
        return Err(DecodeError::protocol("SUBSCRIBE without a filter"));
    }
    while !reader.is_empty() {
        reader.string()?;
        subscription_options(version, reader.u8()?)?;
    }
    Ok(Subscribe {
        packet_id,
        properties,
        body: filters,
        version,
    })
}

/// The byte behind a filter in SUBSCRIBE. In 3.1 its upper bits are unused, in 3.1.1 they must be
/// 0 [MQTT-3.8.3-4]; in v5 two bits are reserved [MQTT-3.8.3-5].
pub(crate) fn subscription_options(
    version: Version,
    bits: u8,
) -> Result<SubscriptionOptions, DecodeError> {
    let bits = if version == Version::V31 {
        bits & 3
    } else {
        bits
    };
    let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
    if bits & reserved != 0 {
        return Err(DecodeError::malformed(
            "reserved bit in subscription options",
        ));
    }
    SubscriptionOptions::from_bits(bits).ok_or(DecodeError::protocol(
        "QoS or retain handling of a subscription is 3",
    ))
}

fn suback(version: Version, body: &[u8]) -> Result<Suback<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let mut properties = AckProperties::default();
    let mut fits: fn(ReasonCode) -> bool = |code| matches!(code as u8, 0..=2 | 0x80);
    if version == Version::V5 {
        properties = AckProperties::decode(reader.block()?)?;
        fits = ReasonCode::fits_suback;
    }
    let reasons = return_codes(reader.rest(), fits)?;
    Ok(Suback {
        packet_id,
        properties,
        reasons,
    })
}

/// One code for each of at least one filter.
fn return_codes(
    bytes: &[u8],
    fits: fn(ReasonCode) -> bool,
) -> Result<ReturnCodes<'_>, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::protocol("no reason code"));
    }
    for byte in bytes {
        reason(*byte, fits)?;
    }
    Ok(ReturnCodes::Bytes(bytes))
}

fn unsubscribe(version: Version, body: &[u8]) -> Result<Unsubscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let mut user_properties = UserProperties::None;
    if version == Version::V5 {
        user_properties = UserProperties::decode(reader.block()?)?;
    }
    let filters = reader.rest();
    // [MQTT-3.10.3-2]
    if filters.is_empty() {
        return Err(DecodeError::protocol("UNSUBSCRIBE without a filter"));
    }
    while !reader.is_empty() {
        reader.string()?;
    }
    Ok(Unsubscribe {
        packet_id,
        user_properties,
        body: filters,
    })
}

fn unsuback(version: Version, body: &[u8]) -> Result<Unsuback<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    if version < Version::V5 {
        reader.finish()?;
        let properties = AckProperties::default();
        return Ok(Unsuback {
            packet_id,
            properties,
            reasons: ReturnCodes::Bytes(&[]),
        });
    }
    let properties = AckProperties::decode(reader.block()?)?;
    let reasons = return_codes(reader.rest(), ReasonCode::fits_unsuback)?;
    Ok(Unsuback {
        packet_id,
        properties,
        reasons,
    })
}

fn disconnect(version: Version, body: &[u8]) -> Result<Disconnect<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut disconnect = Disconnect {
        reason: ReasonCode::Success,
        properties: DisconnectProperties::default(),
    };
    if version == Version::V5 && !reader.is_empty() {
        disconnect.reason = reason(reader.u8()?, ReasonCode::fits_disconnect)?;
        if !reader.is_empty() {
            disconnect.properties = DisconnectProperties::decode(reader.block()?)?;
        }
    }
    reader.finish()?;
    Ok(disconnect)
}

fn auth(version: Version, body: &[u8]) -> Result<Auth<'_>, DecodeError> {
    if version < Version::V5 {
        return Err(DecodeError::malformed("packet kind 15 before v5"));
    }
    // Success without a word more. (3.15.2.1)
    if body.is_empty() {
        let properties = AuthProperties::default();
        return Ok(Auth {
            reason: ReasonCode::Success,
            properties,
        });
    }
    let mut reader = Reader::new(body);
    let reason = reason(reader.u8()?, ReasonCode::fits_auth)?;
    let mut properties = AuthProperties::default();
    if !reader.is_empty() {
        properties = AuthProperties::decode(reader.block()?)?;
    }
    reader.finish()?;
    // (3.15.2.2.2)
    if properties.authentication_method.is_none() {
        return Err(DecodeError::protocol("AUTH without a method"));
    }
    Ok(Auth { reason, properties })
}
