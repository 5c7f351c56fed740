//! Property blocks become structs. A block has been cut out of its packet; here it must be used
//! up exactly.

use super::*;
use crate::text::text;
use crate::{DecodeError, topic_is_valid};

const NOT_ALLOWED: DecodeError = DecodeError::malformed("property not allowed in this packet");
const TWICE: DecodeError = DecodeError::protocol("property sent twice");

/// Declares how a struct is decoded: which identifier goes to which field, read by which function.
macro_rules! decode_properties {
    ($name:ident { $($id:ident => $field:ident by $read:ident),* $(,)? }) => {
        impl<'a> $name<'a> {
            pub(crate) fn decode(block: &'a [u8]) -> Result<Self, DecodeError> {
                let mut properties = Self::default();
                let mut reader = Reader::new(block);
                while !reader.is_empty() {
                    match reader.u8()? {
                        $(id::$id => set(&mut properties.$field, $read(&mut reader)?)?,)*
                        id::USER_PROPERTY => {
                            user_property(&mut reader)?;
                            properties.user_properties = UserProperties::Block(block);
                        }
                        _ => return Err(NOT_ALLOWED),
                    }
                }
                Ok(properties)
            }
        }
    };
}

decode_properties!(ConnectProperties {
    SESSION_EXPIRY => session_expiry_s by four_bytes,
    RECEIVE_MAXIMUM => receive_maximum by receive_maximum,
    MAXIMUM_PACKET_SIZE => maximum_packet_size by packet_size,
    TOPIC_ALIAS_MAXIMUM => topic_alias_maximum by two_bytes,
    REQUEST_RESPONSE_INFORMATION => request_response_information by boolean,
    REQUEST_PROBLEM_INFORMATION => request_problem_information by boolean,
    AUTHENTICATION_METHOD => authentication_method by string,
    AUTHENTICATION_DATA => authentication_data by binary,
});

decode_properties!(ConnackProperties {
    SESSION_EXPIRY => session_expiry_s by four_bytes,
    RECEIVE_MAXIMUM => receive_maximum by receive_maximum,
    MAXIMUM_QOS => maximum_qos by maximum_qos,
    RETAIN_AVAILABLE => retain_available by boolean,
    MAXIMUM_PACKET_SIZE => maximum_packet_size by packet_size,
    ASSIGNED_CLIENT_ID => assigned_client_id by string,
    TOPIC_ALIAS_MAXIMUM => topic_alias_maximum by two_bytes,
    REASON_STRING => reason_string by string,
    WILDCARD_SUBSCRIPTION_AVAILABLE => wildcard_subscription_available by boolean,
    SUBSCRIPTION_IDS_AVAILABLE => subscription_identifiers_available by boolean,
    SHARED_SUBSCRIPTION_AVAILABLE => shared_subscription_available by boolean,
    SERVER_KEEP_ALIVE => server_keep_alive_s by two_bytes,
    RESPONSE_INFORMATION => response_information by string,
    SERVER_REFERENCE => server_reference by string,
    AUTHENTICATION_METHOD => authentication_method by string,
    AUTHENTICATION_DATA => authentication_data by binary,
});

decode_properties!(AckProperties {
    REASON_STRING => reason_string by string,
});

decode_properties!(SubscribeProperties {
    SUBSCRIPTION_ID => subscription_id by subscription_id,
});

decode_properties!(DisconnectProperties {
    SESSION_EXPIRY => session_expiry_s by four_bytes,
    REASON_STRING => reason_string by string,
    SERVER_REFERENCE => server_reference by string,
});

decode_properties!(AuthProperties {
    AUTHENTICATION_METHOD => authentication_method by string,
    AUTHENTICATION_DATA => authentication_data by binary,
    REASON_STRING => reason_string by string,
});

impl<'a> UserProperties<'a> {
    /// Reads the block of an UNSUBSCRIBE, where nothing else may stand. (3.10.2.1)
    pub(crate) fn decode(block: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(block);
        while !reader.is_empty() {
            match reader.u8()? {
                id::USER_PROPERTY => user_property(&mut reader)?,
                _ => return Err(NOT_ALLOWED),
            }
        }
        Ok(UserProperties::Block(block))
    }
}

impl<'a> PublishProperties<'a> {
    /// Reads the block of a PUBLISH.
    pub(crate) fn decode(block: &'a [u8]) -> Result<Self, DecodeError> {
        let mut properties = PublishProperties {
            block,
            ..Self::default()
        };
        let mut reader = Reader::new(block);
        while !reader.is_empty() {
            match reader.u8()? {
                id::TOPIC_ALIAS => set(&mut properties.topic_alias, reader.u16()?)?,
                id::SUBSCRIPTION_ID => {
                    subscription_id(&mut reader)?;
                    properties.subscription_id_count += 1;
                }
                found => properties.read_common(found, &mut reader, block)?,
            }
        }
        Ok(properties)
    }

    /// Reads the block of a will: the properties, and the delay in seconds.
    pub(crate) fn decode_will(block: &'a [u8]) -> Result<(Self, u32), DecodeError> {
        let mut properties = Self::default();
        let mut delay_s = None;
        let mut reader = Reader::new(block);
        while !reader.is_empty() {
            match reader.u8()? {
                id::WILL_DELAY => set(&mut delay_s, reader.u32()?)?,
                found => properties.read_common(found, &mut reader, block)?,
            }
        }
        Ok((properties, delay_s.unwrap_or(0)))
    }

    /// Reads the value of one property that PUBLISH and a will have in common.
    fn read_common(
        &mut self,
        found: u8,
        reader: &mut Reader<'a>,
        block: &'a [u8],
    ) -> Result<(), DecodeError> {
        match found {
            id::PAYLOAD_FORMAT => set(&mut self.payload_format, boolean(reader)?.into()),
            id::MESSAGE_EXPIRY => set(&mut self.message_expiry_s, reader.u32()?),
            id::CONTENT_TYPE => set(&mut self.content_type, reader.string()?),
            id::RESPONSE_TOPIC => set(&mut self.response_topic, response_topic(reader)?),
            id::CORRELATION_DATA => set(&mut self.correlation_data, reader.binary()?),
            id::USER_PROPERTY => {
                self.user_properties = UserProperties::Block(block);
                user_property(reader)
            }
            _ => Err(NOT_ALLOWED),
        }
    }
}

/// All properties but user properties and subscription identifiers may stand once.
#[inline]
fn set<T>(field: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(TWICE),
    }
}

fn two_bytes(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
    reader.u16()
}

fn four_bytes(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    reader.u32()
}

fn string<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    reader.string()
}

fn binary<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    reader.binary()
}

fn boolean(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::protocol("property must be 0 or 1")),
    }
}

fn maximum_qos(reader: &mut Reader<'_>) -> Result<QoS, DecodeError> {
    Ok(if boolean(reader)? {
        QoS::AtLeastOnce
    } else {
        QoS::AtMostOnce
    })
}

fn receive_maximum(reader: &mut Reader<'_>) -> Result<NonZeroU16, DecodeError> {
    NonZeroU16::new(reader.u16()?).ok_or(DecodeError::protocol("receive maximum is 0"))
}

fn packet_size(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    match reader.u32()? {
        0 => Err(DecodeError::protocol("maximum packet size is 0")),
        size => Ok(size),
    }
}

fn subscription_id(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    match reader.variable()? {
        0 => Err(DecodeError::protocol("subscription identifier is 0")),
        id => Ok(id),
    }
}

/// [MQTT-3.3.2-13], [MQTT-3.3.2-14]
fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let topic = text(reader.binary()?)?;
    if topic_is_valid(topic) {
        Ok(topic)
    } else {
        Err(DecodeError::protocol(
            "response topic is empty or has a wildcard",
        ))
    }
}

fn user_property(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    reader.string()?;
    reader.string()?;
    Ok(())
}
