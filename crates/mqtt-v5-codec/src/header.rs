//! The fixed header (2.1) and the variable byte integer (1.5.5).

use crate::DecodeError;

/// The four high bits of a packet's first byte.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketKind {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

/// The first two to five bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHeader {
    /// Kind and flags.
    pub first: u8,
    /// 2 to 5.
    pub header_bytes: usize,
    /// Bytes after the fixed header, 0 to 268,435,455.
    pub body_bytes: usize,
}

impl FixedHeader {
    /// Reads the fixed header at the start of `bytes`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// Malformed, if the length runs over four bytes [MQTT-1.5.5-1], the kind is 0, or the flags
    /// are not those that the kind demands [MQTT-2.1.3-1]. Kind 15 is left to [`crate::decode`],
    /// which knows the version.
    pub fn parse(bytes: &[u8]) -> Result<Option<FixedHeader>, DecodeError> {
        let _ = bytes;
        todo!("codec")
    }

    /// Fixed header and body together.
    pub fn packet_bytes(&self) -> usize {
        self.header_bytes + self.body_bytes
    }

    /// What kind of packet it is.
    pub fn kind(&self) -> PacketKind {
        todo!("codec")
    }
}

/// Appends `value` as a variable byte integer of 1 to 4 bytes. Panics above 268,435,455.
pub fn write_variable_length(out: &mut Vec<u8>, value: usize) {
    let _ = (out, value);
    todo!("codec")
}
