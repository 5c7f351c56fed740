//! Client packets, written byte by byte without the codec under test.
//!
//! Builders write exactly what they are told, valid or not.

use mqtt_v5_codec::Version;

/// A length-prefixed UTF-8 string.
pub fn string(text: &str) -> Vec<u8> {
    binary(text.as_bytes())
}

/// Length-prefixed bytes.
pub fn binary(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("a test's strings are short");
    [&length.to_be_bytes()[..], data].concat()
}

/// A variable byte integer in its shortest form.
pub fn variable(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value % 128) as u8;
        value /= 128;
        out.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return out;
        }
    }
}

/// Fixed header and body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &variable(body.len()), body].concat()
}

/// A property block: its length, then the properties.
pub fn block(properties: &[u8]) -> Vec<u8> {
    [&variable(properties.len())[..], properties].concat()
}

/// Single v5 properties: identifier and value.
pub mod prop {
    use super::{binary, string, variable};

    fn one(id: u8, value: &[u8]) -> Vec<u8> {
        [&[id][..], value].concat()
    }

    pub fn payload_format(value: u8) -> Vec<u8> {
        one(0x01, &[value])
    }
    pub fn message_expiry(seconds: u32) -> Vec<u8> {
        one(0x02, &seconds.to_be_bytes())
    }
    pub fn content_type(text: &str) -> Vec<u8> {
        one(0x03, &string(text))
    }
    pub fn response_topic(text: &str) -> Vec<u8> {
        one(0x08, &string(text))
    }
    pub fn correlation_data(data: &[u8]) -> Vec<u8> {
        one(0x09, &binary(data))
    }
    pub fn subscription_id(value: usize) -> Vec<u8> {
        one(0x0B, &variable(value))
    }
    pub fn session_expiry(seconds: u32) -> Vec<u8> {
        one(0x11, &seconds.to_be_bytes())
    }
    pub fn assigned_client_id(text: &str) -> Vec<u8> {
        one(0x12, &string(text))
    }
    pub fn authentication_method(text: &str) -> Vec<u8> {
        one(0x15, &string(text))
    }
    pub fn authentication_data(data: &[u8]) -> Vec<u8> {
        one(0x16, &binary(data))
    }
    pub fn request_problem_information(value: u8) -> Vec<u8> {
        one(0x17, &[value])
    }
    pub fn will_delay(seconds: u32) -> Vec<u8> {
        one(0x18, &seconds.to_be_bytes())
    }
    pub fn request_response_information(value: u8) -> Vec<u8> {
        one(0x19, &[value])
    }
    pub fn server_reference(text: &str) -> Vec<u8> {
        one(0x1C, &string(text))
    }
    pub fn reason_string(text: &str) -> Vec<u8> {
        one(0x1F, &string(text))
    }
    pub fn receive_maximum(value: u16) -> Vec<u8> {
        one(0x21, &value.to_be_bytes())
    }
    pub fn topic_alias_maximum(value: u16) -> Vec<u8> {
        one(0x22, &value.to_be_bytes())
    }
    pub fn topic_alias(value: u16) -> Vec<u8> {
        one(0x23, &value.to_be_bytes())
    }
    pub fn user_property(name: &str, value: &str) -> Vec<u8> {
        one(0x26, &[string(name), string(value)].concat())
    }
    pub fn maximum_packet_size(bytes: u32) -> Vec<u8> {
        one(0x27, &bytes.to_be_bytes())
    }
}

/// A CONNECT to be.
#[derive(Clone, Debug)]
pub struct ConnectPacket {
    pub version: Version,
    pub protocol_name: Vec<u8>,
    pub level: u8,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    pub client_id: Vec<u8>,
    pub will: Option<WillPacket>,
    pub user_name: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub properties: Vec<u8>,
    /// Flipped in the flags byte after all else is set.
    pub flags_flipped: u8,
}

/// The will of a CONNECT to be.
#[derive(Clone, Debug)]
pub struct WillPacket {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<u8>,
}

impl WillPacket {
    /// QoS 0, not retained.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> WillPacket {
        WillPacket {
            topic: topic.into(),
            payload: payload.as_ref().into(),
            qos: 0,
            retain: false,
            properties: Vec::new(),
        }
    }

    pub fn qos(self, qos: u8) -> WillPacket {
        WillPacket { qos, ..self }
    }

    pub fn retain(self) -> WillPacket {
        WillPacket {
            retain: true,
            ..self
        }
    }

    /// Seconds (v5).
    pub fn delay(self, seconds: u32) -> WillPacket {
        self.property(prop::will_delay(seconds))
    }

    /// One of [`prop`] (v5).
    pub fn property(mut self, property: Vec<u8>) -> WillPacket {
        self.properties.extend(property);
        self
    }
}

impl ConnectPacket {
    /// Clean, without keep-alive, will, or credentials.
    pub fn new(version: Version, client_id: &str) -> ConnectPacket {
        let (name, level) = match version {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        ConnectPacket {
            version,
            protocol_name: name.into(),
            level,
            clean_start: true,
            keep_alive_s: 0,
            client_id: client_id.into(),
            will: None,
            user_name: None,
            password: None,
            properties: Vec::new(),
            flags_flipped: 0,
        }
    }

    pub fn clean_start(self, clean_start: bool) -> ConnectPacket {
        ConnectPacket {
            clean_start,
            ..self
        }
    }

    pub fn keep_alive(self, seconds: u16) -> ConnectPacket {
        ConnectPacket {
            keep_alive_s: seconds,
            ..self
        }
    }

    pub fn will(self, will: WillPacket) -> ConnectPacket {
        ConnectPacket {
            will: Some(will),
            ..self
        }
    }

    pub fn user_name(self, name: &str) -> ConnectPacket {
        ConnectPacket {
            user_name: Some(name.into()),
            ..self
        }
    }

    pub fn password(self, password: &[u8]) -> ConnectPacket {
        ConnectPacket {
            password: Some(password.into()),
            ..self
        }
    }

    /// One of [`prop`] (v5).
    pub fn property(mut self, property: Vec<u8>) -> ConnectPacket {
        self.properties.extend(property);
        self
    }

    /// Seconds (v5).
    pub fn session_expiry(self, seconds: u32) -> ConnectPacket {
        self.property(prop::session_expiry(seconds))
    }

    /// (v5)
    pub fn receive_maximum(self, value: u16) -> ConnectPacket {
        self.property(prop::receive_maximum(value))
    }

    /// (v5)
    pub fn topic_alias_maximum(self, value: u16) -> ConnectPacket {
        self.property(prop::topic_alias_maximum(value))
    }

    /// (v5)
    pub fn maximum_packet_size(self, bytes: u32) -> ConnectPacket {
        self.property(prop::maximum_packet_size(bytes))
    }

    /// Flips these bits of the flags byte.
    pub fn flip_flags(self, bits: u8) -> ConnectPacket {
        ConnectPacket {
            flags_flipped: bits,
            ..self
        }
    }

    /// The whole packet.
    pub fn build(&self) -> Vec<u8> {
        packet(0x10, &self.body())
    }

    /// The packet without its fixed header.
    pub fn body(&self) -> Vec<u8> {
        let mut flags = (self.clean_start as u8) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | (will.retain as u8) << 5;
        }
        flags |= (self.password.is_some() as u8) << 6 | (self.user_name.is_some() as u8) << 7;
        let mut body = binary(&self.protocol_name);
        body.push(self.level);
        body.push(flags ^ self.flags_flipped);
        body.extend(self.keep_alive_s.to_be_bytes());
        if self.version == Version::V5 {
            body.extend(block(&self.properties));
        }
        body.extend(binary(&self.client_id));
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                body.extend(block(&will.properties));
            }
            body.extend(binary(&will.topic));
            body.extend(binary(&will.payload));
        }
        body.extend(self.user_name.iter().flat_map(|name| binary(name)));
        body.extend(self.password.iter().flat_map(|password| binary(password)));
        body
    }
}

/// A PUBLISH to be.
#[derive(Clone, Debug)]
pub struct PublishPacket {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// Chosen by [`super::Client::publish_with`] if absent and needed.
    pub packet_id: Option<u16>,
    pub properties: Vec<u8>,
}

impl PublishPacket {
    /// QoS 0, not retained, without properties.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> PublishPacket {
        PublishPacket {
            topic: topic.into(),
            payload: payload.as_ref().into(),
            qos: 0,
            retain: false,
            dup: false,
            packet_id: None,
            properties: Vec::new(),
        }
    }

    pub fn qos(self, qos: u8) -> PublishPacket {
        PublishPacket { qos, ..self }
    }

    pub fn retain(self) -> PublishPacket {
        PublishPacket {
            retain: true,
            ..self
        }
    }

    pub fn dup(self) -> PublishPacket {
        PublishPacket { dup: true, ..self }
    }

    pub fn id(self, packet_id: u16) -> PublishPacket {
        PublishPacket {
            packet_id: Some(packet_id),
            ..self
        }
    }

    /// One of [`prop`] (v5).
    pub fn property(mut self, property: Vec<u8>) -> PublishPacket {
        self.properties.extend(property);
        self
    }

    /// The whole packet. A packet identifier is written exactly if there is one.
    pub fn build(&self, version: Version) -> Vec<u8> {
        let mut body = binary(&self.topic);
        body.extend(self.packet_id.iter().flat_map(|id| id.to_be_bytes()));
        if version == Version::V5 {
            body.extend(block(&self.properties));
        }
        body.extend(&self.payload);
        let flags = (self.dup as u8) << 3 | self.qos << 1 | self.retain as u8;
        packet(0x30 | flags, &body)
    }
}

/// SUBSCRIBE with filters and options bytes; properties for v5 only.
pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)], properties: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.extend(block(properties));
    }
    for (filter, options) in filters {
        body.extend(string(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// UNSUBSCRIBE; properties for v5 only.
pub fn unsubscribe(version: Version, id: u16, filters: &[&str], properties: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.extend(block(properties));
    }
    for filter in filters {
        body.extend(string(filter));
    }
    packet(0xA2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (the number of the kind) in its shortest form.
pub fn ack(kind: u8, id: u16, reason: u8) -> Vec<u8> {
    let first = kind << 4 | if kind == 6 { 2 } else { 0 };
    let mut body = id.to_be_bytes().to_vec();
    if reason != 0 {
        body.push(reason);
    }
    packet(first, &body)
}

/// Not the client's last word: DISCONNECT with a reason and properties (v5).
pub fn disconnect(reason: u8, properties: &[u8]) -> Vec<u8> {
    packet(0xE0, &[&[reason][..], &block(properties)].concat())
}

/// AUTH (v5).
pub fn auth(reason: u8, properties: &[u8]) -> Vec<u8> {
    packet(0xF0, &[&[reason][..], &block(properties)].concat())
}

/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// DISCONNECT in its shortest form.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];
