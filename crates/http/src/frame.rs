//! WebSocket frames on their way out (RFC 6455, section 5): headers, control frames, masking.
//! Nothing that we send is fragmented.

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Bytes of a control frame's payload (RFC 6455, section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// A frame's opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// Goes on with the message of the frames before.
    Continuation,
    /// Begins a message of UTF-8 text.
    Text,
    /// Begins a message of bytes.
    Binary,
    /// Closes the connection.
    Close,
    /// To be answered with a pong.
    Ping,
    /// An answer to a ping, or a sign of life.
    Pong,
}

impl Opcode {
    fn code(self) -> OpCode {
        match self {
            Opcode::Continuation => OpCode::Data(Data::Continue),
            Opcode::Text => OpCode::Data(Data::Text),
            Opcode::Binary => OpCode::Data(Data::Binary),
            Opcode::Close => OpCode::Control(Control::Close),
            Opcode::Ping => OpCode::Control(Control::Ping),
            Opcode::Pong => OpCode::Control(Control::Pong),
        }
    }
}

/// Appends the header of a server's unfragmented frame; the payload follows, 2 to 10 bytes later.
pub fn write_frame_header(out: &mut Vec<u8>, opcode: Opcode, payload_bytes: usize) {
    write_header(out, opcode, payload_bytes, None);
}

/// Appends a close frame. A reason that is too long for it is cut at a character.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let mut reason_bytes = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(reason_bytes) {
        reason_bytes -= 1;
    }
    write_header(out, Opcode::Close, 2 + reason_bytes, None);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..reason_bytes]);
}

/// Appends a pong with the payload of the ping that it answers, at most [`CONTROL_BYTES_MAX`].
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    assert!(
        payload.len() <= CONTROL_BYTES_MAX,
        "pong longer than a ping can be"
    );
    write_header(out, Opcode::Pong, payload.len(), None);
    out.extend_from_slice(payload);
}

/// Appends a client's unfragmented frame: what a server decodes.
pub fn write_client_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    write_header(out, opcode, payload.len(), Some(mask));
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

fn write_header(out: &mut Vec<u8>, opcode: Opcode, payload_bytes: usize, mask: Option<[u8; 4]>) {
    let header = FrameHeader {
        opcode: opcode.code(),
        mask,
        ..FrameHeader::default()
    };
    header
        .format(payload_bytes as u64, out)
        .expect("a Vec takes all bytes");
}

/// XORs with the repeated mask, eight bytes at a time.
pub(crate) fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    if mask == [0; 4] {
        return;
    }
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, WsEvent};

    #[test]
    fn masking_agrees_with_the_plain_loop_at_every_length() {
        let mask = [0x6d, 0xb6, 0xb2, 0x80];
        for length in 0..40 {
            let mut bytes: Vec<u8> = (0..length).collect();
            let expected: Vec<u8> = bytes
                .iter()
                .enumerate()
                .map(|(at, byte)| byte ^ mask[at % 4])
                .collect();
            apply_mask(&mut bytes, mask);
            assert_eq!(bytes, expected, "{length}");
        }
    }

    #[test]
    fn long_close_reasons_are_cut_at_a_character() {
        let mut out = Vec::new();
        write_close(&mut out, 1011, &"ü".repeat(100));
        assert_eq!(out.len(), 2 + 2 + 122);
        let event = Decoder::for_client(0).decode(&mut &out[..], &mut Vec::new());
        assert_eq!(event, Ok(Some(WsEvent::Close(Some(1011)))));
    }
}
