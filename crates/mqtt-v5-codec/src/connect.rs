//! CONNECT (3.1), the packet that says which version all others are read by.

use crate::decode::check_authentication;
use crate::text::Reader;
use crate::{
    Connect, ConnectProperties, DecodeError, PublishProperties, QoS, ReasonCode, Version, Will,
};

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

const UNSUPPORTED: DecodeError = DecodeError {
    reason: ReasonCode::UnsupportedProtocolVersion,
    detail: "protocol name or level unknown",
};

/// In which version's form to answer the CONNECT whose body (all that follows the fixed header)
/// this is, whether or not it can be decoded: for a level that we do not know, 5.0 if it is above
/// 5 and the name is `MQTT`, else 3.1.1. A level with its highest bit set is what some bridges send; the bit is ignored
/// here. `None` if it does not begin as a CONNECT of MQTT does: then no answer is due.
pub fn connect_version(body: &[u8]) -> Option<Version> {
    let mut reader = Reader::new(body);
    let name = reader.binary().ok()?;
    let level = reader.u8().ok()?;
    if let Ok(version) = version(name, level) {
        return Some(version);
    }
    let known = name == b"MQTT" || name == b"MQIsdp";
    known.then_some(if name == b"MQTT" && level & 0x7F > 5 {
        Version::V5
    } else {
        Version::V311
    })
}

/// [MQTT-3.1.2-1], [MQTT-3.1.2-2]
fn version(name: &[u8], level: u8) -> Result<Version, DecodeError> {
    match (name, level) {
        (b"MQIsdp", 3) => Ok(Version::V31),
        (b"MQTT" | b"MQIsdp", 4) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        _ => Err(UNSUPPORTED),
    }
}

pub(crate) fn decode_connect(body: &[u8]) -> Result<Connect<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let name = reader.binary()?;
    let version = version(name, reader.u8()?)?;
    let flags = reader.u8()?;
    check_flags(version, flags)?;
    let keep_alive_s = reader.u16()?;
    let mut properties = ConnectProperties::default();
    if version == Version::V5 {
        properties = ConnectProperties::decode(reader.block()?)?;
        check_authentication(
            properties.authentication_method,
            properties.authentication_data,
        )?;
    }
    let client_id = reader.string()?;
    let will = if flags & WILL == 0 {
        None
    } else {
        Some(will(version, flags, &mut reader)?)
    };
    // In 3.1 the end of the packet takes precedence over these two flags. (3.1, section 3.1)
    let follows = |flag: u8, reader: &Reader<'_>| {
        flags & flag != 0 && !(version == Version::V31 && reader.is_empty())
    };
    let user_name = if follows(USER_NAME, &reader) {
        Some(reader.string()?)
    } else {
        None
    };
    let password = if follows(PASSWORD, &reader) {
        Some(reader.binary()?)
    } else {
        None
    };
    reader.finish()?;
    let clean_start = flags & CLEAN_START != 0;
    Ok(Connect {
        version,
        clean_start,
        keep_alive_s,
        client_id,
        will,
        user_name,
        password,
        properties,
    })
}

/// The flags that contradict each other. 3.1 disregards those of a will that is not there.
fn check_flags(version: Version, flags: u8) -> Result<(), DecodeError> {
    // [MQTT-3.1.2-3]
    if flags & 1 != 0 {
        return Err(DecodeError::malformed("reserved flag in CONNECT"));
    }
    let will_qos = flags >> 3 & 3;
    if flags & WILL != 0 {
        // [MQTT-3.1.2-12]
        if will_qos == 3 {
            return Err(DecodeError::malformed("will QoS is 3"));
        }
    } else if version > Version::V31 && (will_qos != 0 || flags & WILL_RETAIN != 0) {
        // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
        return Err(DecodeError::protocol(
            "will QoS or will retain without a will",
        ));
    }
    // 3.1.1: [MQTT-3.1.2-22]
    if version < Version::V5 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(DecodeError::protocol("password without a user name"));
    }
    Ok(())
}

fn will<'a>(version: Version, flags: u8, reader: &mut Reader<'a>) -> Result<Will<'a>, DecodeError> {
    let qos = QoS::from_bits(flags >> 3 & 3).ok_or(DecodeError::malformed("will QoS is 3"))?;
    let (mut properties, mut delay_s) = (PublishProperties::default(), 0);
    if version == Version::V5 {
        (properties, delay_s) = PublishProperties::decode_will(reader.block()?)?;
    }
    let topic = reader.topic()?;
    if topic.is_empty() {
        // [MQTT-4.7.3-1]
        return Err(DecodeError {
            reason: ReasonCode::TopicNameInvalid,
            detail: "will topic is empty",
        });
    }
    let payload = reader.binary()?;
    let retain = flags & WILL_RETAIN != 0;
    Ok(Will {
        qos,
        retain,
        topic,
        payload,
        delay_s,
        properties,
    })
}

/// The byte of CONNECT's flags.
pub(crate) fn connect_flags(connect: &Connect<'_>) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let will = connect.will.as_ref().map_or(0, |will| {
        WILL | (will.qos as u8) << 3 | flag(will.retain, WILL_RETAIN)
    });
    will | flag(connect.clean_start, CLEAN_START)
        | flag(connect.user_name.is_some(), USER_NAME)
        | flag(connect.password.is_some(), PASSWORD)
}
