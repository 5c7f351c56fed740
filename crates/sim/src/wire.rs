//! Cutting a byte stream into packets, and the two packets that the codec does not encode because
//! only clients send them.

use anyhow::{Result, anyhow};
use mqtt_v5_codec::{
    FixedHeader, Packet, PacketId, SubscriptionOptions, Version, decode, write_variable_length,
};

/// Collects bytes until they are whole packets.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    /// How much of `bytes` has been handed out.
    taken: usize,
}

/// One packet, still in bytes.
#[derive(Clone, Debug)]
pub struct Raw {
    /// The first byte of the fixed header.
    pub first: u8,
    /// What follows the fixed header.
    pub body: Vec<u8>,
    /// Length of the whole packet.
    pub packet_bytes: usize,
}

impl Framer {
    /// Adds what came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet, if there is one.
    ///
    /// # Errors
    /// The fixed header is not one.
    pub fn next_packet(&mut self) -> Result<Option<Raw>> {
        let rest = &self.bytes[self.taken..];
        let Some(header) = FixedHeader::parse(rest).map_err(|error| anyhow!("header: {error}"))?
        else {
            return Ok(None);
        };
        let packet_bytes = header.packet_bytes();
        if rest.len() < packet_bytes {
            return Ok(None);
        }
        let body = rest[header.header_bytes..packet_bytes].to_vec();
        self.taken += packet_bytes;
        Ok(Some(Raw {
            first: header.first,
            body,
            packet_bytes,
        }))
    }

    /// Bytes that are no whole packet yet.
    pub fn rest(&self) -> usize {
        self.bytes.len() - self.taken
    }
}

impl Raw {
    /// The packet that the bytes mean.
    ///
    /// # Errors
    /// They mean none.
    pub fn decode(&self, version: Version) -> Result<Packet<'_>> {
        decode(version, self.first, &self.body)
            .map_err(|error| anyhow!("packet {:#04x} {:02x?}: {error}", self.first, self.body))
    }
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// As sent, `$share/…` included.
    pub filter: String,
    /// For 3.x only the quality of service is sent.
    pub options: SubscriptionOptions,
}

/// Appends a SUBSCRIBE (3.8).
pub fn write_subscribe(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: PacketId,
    subscription_id: Option<u32>,
    wishes: &[Wish],
) {
    let mut body = packet_id.number().to_be_bytes().to_vec();
    if version == Version::V5 {
        let mut properties = Vec::new();
        if let Some(id) = subscription_id {
            properties.push(0x0B);
            write_variable_length(&mut properties, id as usize);
        }
        write_variable_length(&mut body, properties.len());
        body.extend_from_slice(&properties);
    }
    for wish in wishes {
        write_string(&mut body, &wish.filter);
        body.push(if version == Version::V5 {
            wish.options.to_bits()
        } else {
            wish.options.qos as u8
        });
    }
    write_packet(out, 0x82, &body);
}

/// Appends an UNSUBSCRIBE (3.10).
pub fn write_unsubscribe(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: PacketId,
    filters: &[String],
) {
    let mut body = packet_id.number().to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        write_string(&mut body, filter);
    }
    write_packet(out, 0xA2, &body);
}

/// Appends a fixed header and a body.
pub fn write_packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    write_variable_length(out, body.len());
    out.extend_from_slice(body);
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
