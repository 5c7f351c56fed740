//! Bytes become packets.

use crate::{DecodeError, Packet, Version};

/// Decodes one packet: `first` is the byte that begins its fixed header, `body` all that follows
/// the fixed header.
///
/// `version` is the one negotiated; CONNECT ignores it, since it brings its own.
///
/// # Errors
/// The reason that the specification gives for this fault: 0x81, 0x82, 0x84 (protocol name or
/// level unknown), 0x90 (topic name invalid), …
pub fn decode(version: Version, first: u8, body: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let _ = (version, first, body);
    todo!("codec")
}
