//! Why a packet was refused.

use crate::ReasonCode;
use std::fmt;

/// The peer sent something that the specification forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What a v5 peer is told (in DISCONNECT, or in CONNACK before the connection is accepted).
    pub reason: ReasonCode,
    /// What was wrong, for a reason string and for logs.
    pub detail: &'static str,
}

impl DecodeError {
    /// The bytes do not parse: 0x81.
    pub const fn malformed(detail: &'static str) -> DecodeError {
        DecodeError {
            reason: ReasonCode::MalformedPacket,
            detail,
        }
    }

    /// The bytes parse, but the packet breaks a rule of the protocol: 0x82.
    pub const fn protocol(detail: &'static str) -> DecodeError {
        DecodeError {
            reason: ReasonCode::ProtocolError,
            detail,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for DecodeError {}
