//! WebSocket frames as they arrive (RFC 6455, section 5): a decoder that takes a stream cut anywhere.
//!
//! The decoder gives data as it comes and keeps none of it; only a control frame's payload (at
//! most [`CONTROL_BYTES_MAX`] bytes) is gathered. No extension is ever negotiated, so reserved
//! bits are errors. That text is UTF-8 is for the caller to check, who sees whole messages.

use crate::frame::{CONTROL_BYTES_MAX, apply_mask};
use std::fmt;
use std::io::Cursor;
use tungstenite::Error;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Bytes of the longest frame header: a 64-bit length and a mask.
const HEADER_BYTES_MAX: usize = 14;

/// What a decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WsEvent {
    /// A piece of a message has been appended to the caller's buffer; it may be empty.
    Data {
        /// Whether the message is text.
        is_text: bool,
        /// Whether this piece is the message's last.
        is_final: bool,
    },
    /// A ping; its payload goes back in a pong ([`crate::write_pong`]).
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The peer closes, with its code if it gave one. Nothing that follows is read; the close is
    /// to be answered with [`crate::write_close`] and the connection closed.
    Close(Option<u16>),
}

/// What was wrong with a frame. The connection is to be closed with [`WsError::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WsError {
    /// A client's frame without mask, or a server's with one.
    Mask,
    /// A reserved bit, though no extension was negotiated.
    ReservedBits,
    /// A reserved opcode.
    Opcode,
    /// A length not in its shortest form, or above 2^63.
    Length,
    /// A control frame in fragments or longer than [`CONTROL_BYTES_MAX`].
    Control,
    /// A continuation of nothing, or a new message within a message.
    Continuation,
    /// A close frame with half a code, or with a code that must not be sent.
    CloseCode,
    /// A close frame whose reason is not UTF-8.
    CloseReason,
    /// A message above the decoder's limit.
    TooLarge,
}

/// Takes one direction of a WebSocket connection apart.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    /// Of the message under way, those still to come in its current frame included.
    message_bytes: usize,
    /// The payload of the control frame under way; without capacity otherwise.
    control: Vec<u8>,
    state: State,
    /// The message under way, if its last frame has not begun to be read.
    open_message: Option<Message>,
    expects_mask: bool,
}

// It lives in every WebSocket connection.
const _: () = assert!(size_of::<Decoder>() <= 64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Text,
    Binary,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between frames, or within a header of which so many bytes are here.
    Header {
        bytes: [u8; HEADER_BYTES_MAX],
        len: u8,
    },
    /// Within a payload of which so many bytes are missing. The mask is turned such that its
    /// first byte is the next one to use.
    Payload {
        kind: Kind,
        mask: [u8; 4],
        missing: u64,
    },
    /// A close frame has been read.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text { is_final: bool },
    Binary { is_final: bool },
    Close,
    Ping,
    Pong,
}

const BETWEEN_FRAMES: State = State::Header {
    bytes: [0; HEADER_BYTES_MAX],
    len: 0,
};

impl Decoder {
    /// For a server: frames must be masked. A message above `message_bytes_max` bytes is an
    /// error as soon as the frame that exceeds it is announced; `usize::MAX` sets no bound, for a
    /// caller that treats the data as a stream.
    pub fn new(message_bytes_max: usize) -> Decoder {
        Decoder {
            message_bytes_max,
            message_bytes: 0,
            control: Vec::new(),
            state: BETWEEN_FRAMES,
            open_message: None,
            expects_mask: true,
        }
    }

    /// For a client: frames must not be masked.
    pub fn for_client(message_bytes_max: usize) -> Decoder {
        Decoder {
            expects_mask: false,
            ..Decoder::new(message_bytes_max)
        }
    }

    /// Consumes bytes from the front of `input`, appends the unmasked payload of data frames to
    /// `data`, and returns at most one event. `None` means that `input` is used up. Allocates
    /// only for control frames and in `data`.
    ///
    /// # Errors
    /// What the peer did wrong; the decoder must not be used afterwards.
    pub fn decode(
        &mut self,
        input: &mut &[u8],
        data: &mut Vec<u8>,
    ) -> Result<Option<WsEvent>, WsError> {
        loop {
            match self.state {
                State::Closed => {
                    *input = &[];
                    return Ok(None);
                }
                State::Header { bytes, len } => match self.read_header(bytes, len, input)? {
                    Some(payload) => self.state = payload,
                    None => return Ok(None),
                },
                State::Payload {
                    kind,
                    mask,
                    missing,
                } => {
                    let is_data = matches!(kind, Kind::Text { .. } | Kind::Binary { .. });
                    let target = if is_data {
                        &mut *data
                    } else {
                        &mut self.control
                    };
                    let taken = take_payload(input, mask, missing, target);
                    let missing = missing - taken as u64;
                    let mut mask = mask;
                    mask.rotate_left(taken % 4);
                    self.state = match missing {
                        0 => BETWEEN_FRAMES,
                        _ => State::Payload {
                            kind,
                            mask,
                            missing,
                        },
                    };
                    if let Some(event) = self.payload_event(kind, taken, missing)? {
                        return Ok(Some(event));
                    }
                    if missing > 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Whether no frame and no fragmented message is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Header { len: 0, .. }) && self.open_message.is_none()
    }

    /// Reads a frame's header from `input`, `len` bytes of which came before.
    fn read_header(
        &mut self,
        mut bytes: [u8; HEADER_BYTES_MAX],
        mut len: u8,
        input: &mut &[u8],
    ) -> Result<Option<State>, WsError> {
        if len == 0
            && let Some((header, payload_bytes, header_bytes)) = parse_header(input)?
        {
            *input = &input[header_bytes..];
            return self
                .begin_frame(&header, payload_bytes, header_bytes)
                .map(Some);
        }
        // The header is cut. It is 14 bytes at most, so this loop is short.
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            bytes[len as usize] = byte;
            len += 1;
            if let Some((header, payload_bytes, header_bytes)) =
                parse_header(&bytes[..len as usize])?
            {
                return self
                    .begin_frame(&header, payload_bytes, header_bytes)
                    .map(Some);
            }
        }
        self.state = State::Header { bytes, len };
        Ok(None)
    }

    /// Checks a header against what came before it, and gives the state that it leads to.
    fn begin_frame(
        &mut self,
        header: &FrameHeader,
        payload_bytes: u64,
        header_bytes: usize,
    ) -> Result<State, WsError> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(WsError::ReservedBits);
        }
        if header.mask.is_some() != self.expects_mask {
            return Err(WsError::Mask);
        }
        if payload_bytes > i64::MAX as u64 || header_bytes != header.len(payload_bytes) {
            return Err(WsError::Length);
        }
        let kind = match header.opcode {
            OpCode::Data(data) => self.begin_data(data, header.is_final, payload_bytes)?,
            OpCode::Control(control) => {
                if !header.is_final || payload_bytes > CONTROL_BYTES_MAX as u64 {
                    return Err(WsError::Control);
                }
                match control {
                    Control::Close => Kind::Close,
                    Control::Ping => Kind::Ping,
                    Control::Pong => Kind::Pong,
                    Control::Reserved(_) => return Err(WsError::Opcode),
                }
            }
        };
        let mask = header.mask.unwrap_or_default();
        Ok(State::Payload {
            kind,
            mask,
            missing: payload_bytes,
        })
    }

    fn begin_data(
        &mut self,
        data: Data,
        is_final: bool,
        payload_bytes: u64,
    ) -> Result<Kind, WsError> {
        let message = match (data, self.open_message.take()) {
            (Data::Continue, Some(message)) => message,
            (Data::Text, None) => Message::Text,
            (Data::Binary, None) => Message::Binary,
            (Data::Reserved(_), _) => return Err(WsError::Opcode),
            _ => return Err(WsError::Continuation),
        };
        if data != Data::Continue {
            self.message_bytes = 0;
        }
        if payload_bytes > (self.message_bytes_max - self.message_bytes) as u64 {
            return Err(WsError::TooLarge);
        }
        self.message_bytes = self.message_bytes.saturating_add(payload_bytes as usize);
        if !is_final {
            self.open_message = Some(message);
        }
        Ok(match message {
            Message::Text => Kind::Text { is_final },
            Message::Binary => Kind::Binary { is_final },
        })
    }

    /// What a caller is told after `taken` bytes of a frame, of which `missing` are to come.
    fn payload_event(
        &mut self,
        kind: Kind,
        taken: usize,
        missing: u64,
    ) -> Result<Option<WsEvent>, WsError> {
        if let Kind::Text { is_final } | Kind::Binary { is_final } = kind {
            let is_text = matches!(kind, Kind::Text { .. });
            let is_final = is_final && missing == 0;
            let is_news = taken > 0 || is_final;
            return Ok(is_news.then_some(WsEvent::Data { is_text, is_final }));
        }
        if missing > 0 {
            return Ok(None);
        }
        let payload = std::mem::take(&mut self.control);
        match kind {
            Kind::Ping => Ok(Some(WsEvent::Ping(payload))),
            Kind::Pong => Ok(Some(WsEvent::Pong)),
            _ => {
                self.state = State::Closed;
                close_code_of(&payload).map(|code| Some(WsEvent::Close(code)))
            }
        }
    }
}

/// The header at the start of `bytes`, its payload's length and its own; `None` if it is cut.
fn parse_header(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, WsError> {
    let mut cursor = Cursor::new(bytes);
    match FrameHeader::parse(&mut cursor) {
        Ok(None) => Ok(None),
        Ok(Some((header, payload_bytes))) => {
            Ok(Some((header, payload_bytes, cursor.position() as usize)))
        }
        Err(Error::Protocol(ProtocolError::InvalidOpcode(_))) => Err(WsError::Opcode),
        // Reading from memory fails in no other way.
        Err(_) => Err(WsError::Length),
    }
}

/// Moves up to `missing` bytes from `input` to `target`, unmasked; returns how many.
fn take_payload(input: &mut &[u8], mask: [u8; 4], missing: u64, target: &mut Vec<u8>) -> usize {
    let taken = usize::try_from(missing)
        .unwrap_or(usize::MAX)
        .min(input.len());
    let (payload, rest) = input.split_at(taken);
    *input = rest;
    let start = target.len();
    target.extend_from_slice(payload);
    apply_mask(&mut target[start..], mask);
    taken
}

/// RFC 6455, sections 5.5.1 and 7.4.
fn close_code_of(payload: &[u8]) -> Result<Option<u16>, WsError> {
    let (code, reason) = match *payload {
        [] => return Ok(None),
        [_] => return Err(WsError::CloseCode),
        [high, low, ref reason @ ..] => (u16::from_be_bytes([high, low]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(WsError::CloseCode);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(WsError::CloseReason);
    }
    Ok(Some(code))
}

impl WsError {
    /// The close code that goes with it (RFC 6455, section 7.4.1).
    pub fn close_code(&self) -> u16 {
        match self {
            WsError::TooLarge => 1009,
            WsError::CloseReason => 1007,
            _ => 1002,
        }
    }

    /// What was wrong, for the close frame's reason.
    pub fn message(&self) -> &'static str {
        match self {
            WsError::Mask => "wrong masking",
            WsError::ReservedBits => "reserved bit set",
            WsError::Opcode => "reserved opcode",
            WsError::Length => "invalid frame length",
            WsError::Control => "invalid control frame",
            WsError::Continuation => "invalid continuation",
            WsError::CloseCode => "invalid close code",
            WsError::CloseReason => "close reason is not UTF-8",
            WsError::TooLarge => "message too large",
        }
    }
}

impl fmt::Display for WsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for WsError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Opcode, write_client_frame};

    const BINARY: WsEvent = WsEvent::Data {
        is_text: false,
        is_final: true,
    };

    fn client_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_client_frame(&mut out, opcode, payload, [0x11, 0x22, 0x33, 0x44]);
        out
    }

    /// Decodes frames to the end; the events and the data.
    fn decode_all(mut decoder: Decoder, frames: &[u8]) -> Result<(Vec<WsEvent>, Vec<u8>), WsError> {
        let (mut input, mut data, mut events) = (frames, Vec::new(), Vec::new());
        while let Some(event) = decoder.decode(&mut input, &mut data)? {
            events.push(event);
        }
        assert!(input.is_empty());
        Ok((events, data))
    }

    fn check(frames: &[u8], expected: Result<&[WsEvent], WsError>) {
        let found = decode_all(Decoder::new(1_000), frames).map(|(events, _)| events);
        assert_eq!(
            found,
            expected.map(<[WsEvent]>::to_vec),
            "{}",
            frames.escape_ascii()
        );
    }

    #[test]
    fn every_length_format_round_trips() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let frame = client_frame(Opcode::Binary, &payload);
            let (events, data) = decode_all(Decoder::new(length), &frame).unwrap();
            assert_eq!((events, data), (vec![BINARY], payload), "{length}");
        }
    }

    #[test]
    fn lengths_not_in_their_shortest_form_are_refused() {
        check(&[0x82, 0xfe, 0, 125, 0, 0, 0, 0], Err(WsError::Length));
        check(
            &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
            Err(WsError::Length),
        );
        check(
            &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Err(WsError::Length),
        );
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused() {
        for bit in [0x40, 0x20, 0x10] {
            check(&[0x82 | bit, 0x80, 0, 0, 0, 0], Err(WsError::ReservedBits));
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            check(&[0x80 | opcode, 0x80, 0, 0, 0, 0], Err(WsError::Opcode));
        }
    }

    #[test]
    fn each_side_insists_on_its_masking() {
        check(&[0x82, 0x00], Err(WsError::Mask));
        let masked = client_frame(Opcode::Binary, b"a");
        assert_eq!(
            decode_all(Decoder::for_client(9), &masked),
            Err(WsError::Mask)
        );
        let unmasked = [0x82, 0x01, b'a'];
        let found = decode_all(Decoder::for_client(9), &unmasked).unwrap();
        assert_eq!(found, (vec![BINARY], b"a".to_vec()));
    }

    #[test]
    fn control_frames_are_short_and_whole() {
        check(&[0x09, 0x80, 0, 0, 0, 0], Err(WsError::Control));
        check(
            &client_frame(Opcode::Ping, &[0; 126]),
            Err(WsError::Control),
        );
        let longest = client_frame(Opcode::Ping, &[7; 125]);
        check(&longest, Ok(&[WsEvent::Ping(vec![7; 125])]));
        check(&client_frame(Opcode::Pong, b"x"), Ok(&[WsEvent::Pong]));
    }

    #[test]
    fn fragments_join_and_control_frames_may_stand_between() {
        let mut frames = client_frame(Opcode::Text, b"ab");
        frames[0] &= 0x7f;
        frames.extend(client_frame(Opcode::Ping, b"p"));
        let mut empty = client_frame(Opcode::Continuation, b"");
        empty[0] &= 0x7f;
        frames.extend(empty);
        frames.extend(client_frame(Opcode::Continuation, b""));
        let piece = WsEvent::Data {
            is_text: true,
            is_final: false,
        };
        let end = WsEvent::Data {
            is_text: true,
            is_final: true,
        };
        check(&frames, Ok(&[piece, WsEvent::Ping(b"p".to_vec()), end]));
    }

    #[test]
    fn continuations_belong_to_a_message() {
        check(
            &client_frame(Opcode::Continuation, b"a"),
            Err(WsError::Continuation),
        );
        let mut frames = client_frame(Opcode::Binary, b"a");
        frames[0] &= 0x7f;
        frames.extend(client_frame(Opcode::Binary, b"b"));
        let mut input = &frames[..];
        let (mut decoder, mut data) = (Decoder::new(9), Vec::new());
        assert!(decoder.decode(&mut input, &mut data).unwrap().is_some());
        assert!(!decoder.is_idle());
        assert_eq!(
            decoder.decode(&mut input, &mut data),
            Err(WsError::Continuation)
        );
    }

    #[test]
    fn the_limit_counts_all_fragments_and_acts_on_the_header() {
        let mut frames = client_frame(Opcode::Binary, &[0; 600]);
        frames[0] &= 0x7f;
        let first = frames.len();
        frames.extend(client_frame(Opcode::Continuation, &[0; 401]));
        // The payload that is too much is not even there.
        let mut input = &frames[..first + 8];
        let (mut decoder, mut data) = (Decoder::new(1_000), Vec::new());
        assert!(decoder.decode(&mut input, &mut data).unwrap().is_some());
        assert_eq!(
            decoder.decode(&mut input, &mut data),
            Err(WsError::TooLarge)
        );
        assert_eq!(WsError::TooLarge.close_code(), 1009);
        // A whole message does not count towards the next.
        let mut frames = client_frame(Opcode::Binary, &[0; 600]);
        frames.extend_from_within(..);
        check(&frames, Ok(&[BINARY, BINARY]));
    }

    #[test]
    fn close_frames_are_checked_and_end_the_stream() {
        check(
            &client_frame(Opcode::Close, b""),
            Ok(&[WsEvent::Close(None)]),
        );
        let mut frames = client_frame(Opcode::Close, b"\x03\xe8bye");
        frames.extend(b"anything");
        check(&frames, Ok(&[WsEvent::Close(Some(1000))]));
        check(
            &client_frame(Opcode::Close, b"\x0f\xa0"),
            Ok(&[WsEvent::Close(Some(4000))]),
        );
        check(
            &client_frame(Opcode::Close, b"\x03"),
            Err(WsError::CloseCode),
        );
        for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            let frame = client_frame(Opcode::Close, &code.to_be_bytes());
            check(&frame, Err(WsError::CloseCode));
        }
        check(
            &client_frame(Opcode::Close, b"\x03\xe8\xff"),
            Err(WsError::CloseReason),
        );
    }
}
