//! What we give the kernel to name an operation or a socket, and get back from it.
//!
//! 8 bits of kind, 24 of generation, 32 of index. The generation only guards against our own
//! mistakes – a slot is freed after its last completion – so 24 bits of it are plenty.

use shard::ConnectionId;

/// What is being named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A connection (epoll).
    Connection = 1,
    /// A listener, by its number.
    Listener = 2,
    /// The shard's wake-up.
    Wake = 3,
    /// A receive on a connection.
    Receive = 4,
    /// A poll on a connection.
    Poll = 5,
    /// A cancellation for a connection.
    Cancel = 6,
    /// A send, by its number among those in flight.
    Send = 7,
    /// The cancellation of an accept: nothing to be told.
    Ignore = 8,
    /// A cancellation of everything on a connection.
    CancelAll = 9,
}

impl Kind {
    fn from_bits(bits: u8) -> Option<Kind> {
        Some(match bits {
            1 => Kind::Connection,
            2 => Kind::Listener,
            3 => Kind::Wake,
            4 => Kind::Receive,
            5 => Kind::Poll,
            6 => Kind::Cancel,
            7 => Kind::Send,
            8 => Kind::Ignore,
            9 => Kind::CancelAll,
            _ => return None,
        })
    }
}

/// A name of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) u64);

const GENERATION_MASK: u32 = 0x00FF_FFFF;

impl Token {
    /// Names something of a connection.
    pub(crate) fn of(kind: Kind, connection: ConnectionId) -> Token {
        let generation = u64::from(connection.generation & GENERATION_MASK);
        Token(u64::from(kind as u8) << 56 | generation << 32 | u64::from(connection.index))
    }

    /// Names something that has a number.
    pub(crate) fn numbered(kind: Kind, number: u32) -> Token {
        Token(u64::from(kind as u8) << 56 | u64::from(number))
    }

    pub(crate) fn kind(self) -> Option<Kind> {
        Kind::from_bits((self.0 >> 56) as u8)
    }

    /// The number, or the connection's index.
    pub(crate) fn number(self) -> u32 {
        self.0 as u32
    }

    /// Whether this names something of that connection.
    pub(crate) fn is_of(self, connection: ConnectionId) -> bool {
        let generation = (self.0 >> 32) as u32 & GENERATION_MASK;
        self.number() == connection.index && generation == connection.generation & GENERATION_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_it_was_made_of() {
        let connection = ConnectionId {
            index: u32::MAX,
            generation: 0x1234_5678,
        };
        let token = Token::of(Kind::Receive, connection);
        assert_eq!(token.kind(), Some(Kind::Receive));
        assert_eq!(token.number(), u32::MAX);
        assert!(token.is_of(connection));
        assert!(!token.is_of(ConnectionId {
            generation: 0x1234_5679,
            ..connection
        }));
        assert!(!token.is_of(ConnectionId {
            index: 0,
            ..connection
        }));
        assert_eq!(Token::numbered(Kind::Send, 77).number(), 77);
        assert_eq!(Token(0).kind(), None);
    }
}
