//! The body of a request, taken in as it arrives: of a known length, or in chunks (RFC 9112,
//! sections 6.2 and 7.1).
//!
//! What is read so far never exceeds the limit that the reader was made with, nor is more room
//! taken than arrived. Chunk extensions and trailers are skipped and bounded. Where RFC 9112 lets a
//! reader be lenient about chunks we are not: whoever stands in front of us might see other
//! requests than we do. How the bytes are cut makes no difference.

use crate::head::Body;
use std::fmt;

/// Bytes of all chunk extensions of one body.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1_024;
/// Bytes of all trailer lines of one body.
pub const TRAILER_BYTES_MAX: usize = 8 * 1_024;
/// Hexadecimal digits of a chunk's size, leading zeros included: no value of them overflows.
const SIZE_DIGITS_MAX: u8 = 15;
/// Room taken at the start for a body of a known length; the rest as it comes.
const ROOM_BYTES: usize = 4 * 1_024;

/// Takes in one body.
#[derive(Clone, Debug)]
pub struct BodyReader {
    state: State,
    bytes: Vec<u8>,
    bytes_max: usize,
    extension_bytes: usize,
    trailer_bytes: usize,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A body of known length; so many bytes are left.
    Length { left: usize },
    /// The hexadecimal size of a chunk.
    Size { value: u64, digits: u8 },
    /// Behind the size, up to the end of the line.
    Extension { value: u64 },
    /// The line feed behind a chunk's size.
    SizeEnd { value: u64 },
    /// A chunk; so many bytes are left.
    Data { left: usize },
    /// The carriage return behind a chunk.
    DataReturn,
    /// The line feed behind a chunk.
    DataEnd,
    /// The first byte of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    /// Within a trailer line.
    Trailer,
    /// The line feed behind a trailer line.
    TrailerEnd,
    /// The line feed that ends the body.
    LastEnd,
    /// The body is whole.
    Complete,
    /// It was refused.
    Failed(BodyError),
}

/// Why a body was refused. The connection cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than the limit.
    TooLarge,
    /// Chunk extensions of more than [`CHUNK_EXTENSION_BYTES_MAX`], or trailers of more than
    /// [`TRAILER_BYTES_MAX`].
    FramingTooLarge,
    /// A chunk's size is not a hexadecimal number of a sensible length.
    ChunkSize,
    /// A chunk extension with characters that have no place in a line.
    ChunkExtension,
    /// A chunk is not followed by a line end, or a line does not end as it should.
    ChunkEnd,
    /// A trailer line that is none: folded, or with characters that have no place in it.
    Trailer,
}

impl BodyReader {
    /// A reader for what [`crate::Head::body`] says will follow, of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] if the announced length is larger already.
    pub fn new(body: Body, bytes_max: usize) -> Result<BodyReader, BodyError> {
        let (state, room) = match body {
            Body::None => (State::Complete, 0),
            Body::Length(length) => {
                let left = usize::try_from(length).map_err(|_| BodyError::TooLarge)?;
                if left > bytes_max {
                    return Err(BodyError::TooLarge);
                }
                (State::Length { left }, left.min(ROOM_BYTES))
            }
            Body::Chunked => (State::SIZE, 0),
        };
        Ok(BodyReader {
            state,
            bytes: Vec::with_capacity(room),
            bytes_max,
            extension_bytes: 0,
            trailer_bytes: 0,
        })
    }

    /// Takes from the start of `input` what belongs to the body; returns whether the body is
    /// whole. If it is, what is left in `input` belongs to the next request; else nothing is left.
    ///
    /// # Errors
    /// See [`BodyError`]; the same again at every further call.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<bool, BodyError> {
        loop {
            match &mut self.state {
                State::Complete => return Ok(true),
                State::Failed(error) => return Err(*error),
                State::Length { left } | State::Data { left } => {
                    let (piece, rest) = input.split_at((*left).min(input.len()));
                    *input = rest;
                    *left -= piece.len();
                    self.bytes.extend_from_slice(piece);
                    if self.state == (State::Length { left: 0 }) {
                        self.state = State::Complete;
                    } else if self.state == (State::Data { left: 0 }) {
                        self.state = State::DataReturn;
                    } else {
                        return Ok(false);
                    }
                }
                _ => {
                    let Some((byte, rest)) = input.split_first() else {
                        return Ok(false);
                    };
                    *input = rest;
                    self.state = match self.after(*byte) {
                        Ok(state) => state,
                        Err(error) => State::Failed(error),
                    };
                }
            }
        }
    }

    /// Whether the body is whole.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Bytes of the body so far, without chunk sizes and trailers.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing of the body has come yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The body: whole if [`BodyReader::read`] said so, else as far as it came.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What follows a byte of the framing.
    fn after(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::Size { value, digits }, _) => self.after_size(value, digits, byte),
            (State::Extension { value }, b'\r') => Ok(State::SizeEnd { value }),
            (State::Extension { value }, _) => {
                self.extension_bytes += 1;
                check_line_byte(byte, BodyError::ChunkExtension)?;
                check_framing(self.extension_bytes, CHUNK_EXTENSION_BYTES_MAX)?;
                Ok(State::Extension { value })
            }
            (State::SizeEnd { value }, b'\n') => self.begin_chunk(value),
            (State::DataReturn, b'\r') => Ok(State::DataEnd),
            (State::DataEnd, b'\n') => Ok(State::SIZE),
            (State::TrailerStart, b'\r') => Ok(State::LastEnd),
            (State::TrailerStart, b' ' | b'\t' | b':') => Err(BodyError::Trailer),
            (State::Trailer, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerStart | State::Trailer, _) => {
                self.trailer_bytes += 1;
                check_line_byte(byte, BodyError::Trailer)?;
                check_framing(self.trailer_bytes, TRAILER_BYTES_MAX)?;
                Ok(State::Trailer)
            }
            (State::TrailerEnd, b'\n') => Ok(State::TrailerStart),
            (State::LastEnd, b'\n') => Ok(State::Complete),
            _ => Err(BodyError::ChunkEnd),
        }
    }

    fn after_size(&self, value: u64, digits: u8, byte: u8) -> Result<State, BodyError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if digits == SIZE_DIGITS_MAX {
                return Err(BodyError::ChunkSize);
            }
            let value = value * 16 + u64::from(digit);
            let digits = digits + 1;
            return Ok(State::Size { value, digits });
        }
        match (digits, byte) {
            (1.., b'\r') => Ok(State::SizeEnd { value }),
            (1.., b';') => Ok(State::Extension { value }),
            _ => Err(BodyError::ChunkSize),
        }
    }

    fn begin_chunk(&self, bytes: u64) -> Result<State, BodyError> {
        if bytes == 0 {
            return Ok(State::TrailerStart);
        }
        let room = self.bytes_max - self.bytes.len();
        match usize::try_from(bytes) {
            Ok(left) if left <= room => Ok(State::Data { left }),
            _ => Err(BodyError::TooLarge),
        }
    }
}

impl State {
    const SIZE: State = State::Size {
        value: 0,
        digits: 0,
    };
}

/// Visible characters, spaces, tabs, and whatever is not ASCII.
fn check_line_byte(byte: u8, error: BodyError) -> Result<(), BodyError> {
    let is_control = (byte < b' ' && byte != b'\t') || byte == 0x7f;
    if is_control { Err(error) } else { Ok(()) }
}

fn check_framing(bytes: usize, bytes_max: usize) -> Result<(), BodyError> {
    if bytes > bytes_max {
        Err(BodyError::FramingTooLarge)
    } else {
        Ok(())
    }
}

impl BodyError {
    /// The status to answer with: 413 for what is too large, 400 for what is malformed.
    pub fn status(&self) -> u16 {
        match self {
            BodyError::TooLarge | BodyError::FramingTooLarge => 413,
            BodyError::ChunkSize
            | BodyError::ChunkExtension
            | BodyError::ChunkEnd
            | BodyError::Trailer => 400,
        }
    }

    /// What was wrong, for the answer's body.
    pub fn message(&self) -> &'static str {
        match self {
            BodyError::TooLarge => "request body too large",
            BodyError::FramingTooLarge => "chunk extensions or trailers too large",
            BodyError::ChunkSize => "malformed chunk size",
            BodyError::ChunkExtension => "malformed chunk extension",
            BodyError::ChunkEnd => "malformed end of a chunk",
            BodyError::Trailer => "malformed trailer",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for BodyError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads in pieces of `piece` bytes; returns the body and what is left behind it.
    fn read(
        body: Body,
        bytes_max: usize,
        text: &[u8],
        piece: usize,
    ) -> Result<Option<(Vec<u8>, usize)>, BodyError> {
        let mut reader = BodyReader::new(body, bytes_max)?;
        let mut at = 0;
        loop {
            let mut input = &text[at..text.len().min(at + piece)];
            let given = input.len();
            let is_complete = reader.read(&mut input)?;
            assert_eq!(is_complete, reader.is_complete());
            at += given - input.len();
            if is_complete {
                return Ok(Some((reader.into_bytes(), text.len() - at)));
            }
            assert!(input.is_empty(), "incomplete, but input is left");
            if given == 0 {
                return Ok(None);
            }
        }
    }

    /// Checks the outcome for every length of pieces.
    fn check(text: &str, expected: Result<(&str, usize), BodyError>) {
        let expected = expected.map(|(body, left)| Some((body.as_bytes().to_vec(), left)));
        for piece in 1..=text.len() {
            let outcome = read(Body::Chunked, 20, text.as_bytes(), piece);
            assert_eq!(outcome, expected, "{text:?} in pieces of {piece}");
        }
    }

    #[test]
    fn a_body_of_known_length_ends_there() {
        for piece in 1..8 {
            let outcome = read(Body::Length(3), 3, b"abcGET", piece);
            assert_eq!(outcome, Ok(Some((b"abc".to_vec(), 3))), "{piece}");
        }
        assert_eq!(
            read(Body::None, 0, b"GET", 3),
            Ok(Some((Vec::new(), 3))),
            "nothing is complete at once"
        );
        assert_eq!(read(Body::Length(9), 9, b"abc", 3), Ok(None));
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_it_comes() {
        for length in [4, u64::MAX] {
            let refused = BodyReader::new(Body::Length(length), 3).map(|_| ());
            assert_eq!(refused, Err(BodyError::TooLarge));
        }
    }

    #[test]
    fn chunks_are_joined() {
        check("0\r\n\r\n", Ok(("", 0)));
        check("3\r\nabc\r\n0\r\n\r\nGET", Ok(("abc", 3)));
        check("3\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\n", {
            Ok(("abc0123456789", 0))
        });
        check("2;a=\"b;c\";d\r\n\r\n\r\n0;x\r\n\r\n", Ok(("\r\n", 0)));
        check("1\r\na\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\nz", Ok(("a", 1)));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let bad_sizes = [
            "\r\n", ";a\r\n", "g\r\n", "-1\r\n", "+1\r\n", "0x1\r\n", " 1\r\n", "1 \r\n", "1\n",
        ];
        for text in bad_sizes {
            check(text, Err(BodyError::ChunkSize));
        }
        check("0000000000000001\r\n", Err(BodyError::ChunkSize));
        check("1;a\nb\r\n", Err(BodyError::ChunkExtension));
        check("1;\0\r\n", Err(BodyError::ChunkExtension));
        check("1\ra", Err(BodyError::ChunkEnd));
        check("1\r\nabc", Err(BodyError::ChunkEnd));
        check("1\r\na\n", Err(BodyError::ChunkEnd));
        check("1\r\na\r\r", Err(BodyError::ChunkEnd));
        check("0\r\n a: 1\r\n\r\n", Err(BodyError::Trailer));
        check("0\r\na: 1\n\r\n", Err(BodyError::Trailer));
        check("0\r\n\n", Err(BodyError::Trailer));
        check("0\r\n\rG", Err(BodyError::ChunkEnd));
        check("0\r\na: 1\rG", Err(BodyError::ChunkEnd));
    }

    #[test]
    fn chunks_above_the_limit_are_refused_at_their_size() {
        check("15\r\n", Err(BodyError::TooLarge));
        check("fffffffffffffff\r\n", Err(BodyError::TooLarge));
        check("a\r\n0123456789\r\nb\r\n", Err(BodyError::TooLarge));
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = "x".repeat(TRAILER_BYTES_MAX + 1);
        for text in [format!("1;{long}\r\n"), format!("0\r\n{long}: 1\r\n\r\n")] {
            let outcome = read(Body::Chunked, 20, text.as_bytes(), text.len());
            assert_eq!(outcome, Err(BodyError::FramingTooLarge));
        }
        let many = "1;x\r\na\r\n".repeat(CHUNK_EXTENSION_BYTES_MAX + 1);
        let outcome = read(Body::Chunked, many.len(), many.as_bytes(), many.len());
        assert_eq!(outcome, Err(BodyError::FramingTooLarge));
    }

    #[test]
    fn a_refused_body_stays_refused() {
        let mut reader = BodyReader::new(Body::Chunked, 20).unwrap();
        assert_eq!(reader.read(&mut &b"x"[..]), Err(BodyError::ChunkSize));
        let mut rest = &b"1\r\na\r\n0\r\n\r\n"[..];
        assert_eq!(reader.read(&mut rest), Err(BodyError::ChunkSize));
    }
}
