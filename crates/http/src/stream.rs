//! Answers without an end that is known beforehand: server-sent events (WHATWG HTML, section 9.2)
//! and lines of JSON, in chunks (RFC 9112, section 7.1).
//!
//! A 1.0 client knows no chunks; for it the connection's end is the answer's.

use crate::response::{
    write_connection, write_date, write_headers, write_origin, write_status_line,
};
use std::io::Write;

/// The media type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// A body that is written piece by piece. Each piece leaves at once; none may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyStream {
    is_chunked: bool,
}

impl BodyStream {
    /// Appends the head of a 200 whose body goes on until [`BodyStream::end`] or the connection's
    /// end. `minor` is [`crate::Head::minor`] of the request, `now_s` the time in seconds since
    /// 1970.
    pub fn begin(out: &mut Vec<u8>, content_type: &str, minor: u8, now_s: u64) -> BodyStream {
        let is_chunked = minor >= 1;
        write_status_line(out, 200);
        write_date(out, now_s);
        let headers = [
            ("Content-Type", content_type),
            ("Cache-Control", "no-cache"),
            // nginx gathers an answer before it passes it on, unless told so.
            ("X-Accel-Buffering", "no"),
        ];
        write_headers(out, &headers);
        write_origin(out);
        if is_chunked {
            write_headers(out, &[("Transfer-Encoding", "chunked")]);
        }
        write_connection(out, is_chunked, minor);
        out.extend_from_slice(b"\r\n");
        BodyStream { is_chunked }
    }

    /// Appends one piece, made of `parts`.
    pub fn write(self, out: &mut Vec<u8>, parts: &[&[u8]]) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        assert!(bytes > 0, "an empty chunk would end the body");
        if self.is_chunked {
            write!(out, "{bytes:x}\r\n").expect("a Vec takes all bytes");
        }
        for part in parts {
            out.extend_from_slice(part);
        }
        if self.is_chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends a server-sent event that has nothing but data. Lines become one field each.
    pub fn write_event(self, out: &mut Vec<u8>, data: &[u8]) {
        if !data.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return self.write(out, &[b"data: ", data, b"\n\n"]);
        }
        let mut fields = Vec::with_capacity(data.len() + 32);
        let mut is_after_return = false;
        fields.extend_from_slice(b"data: ");
        for &byte in data {
            match byte {
                b'\n' if is_after_return => {} // They are one end of a line.
                b'\n' | b'\r' => fields.extend_from_slice(b"\ndata: "),
                _ => fields.push(byte),
            }
            is_after_return = byte == b'\r';
        }
        self.write(out, &[&fields, b"\n\n"]);
    }

    /// Appends an empty comment, which receivers ignore: a sign of life, for proxies that close
    /// what is silent.
    pub fn write_event_comment(self, out: &mut Vec<u8>) {
        self.write(out, &[b":\n\n"]);
    }

    /// Appends the end of the body. For a 1.0 client the caller has to close the connection.
    pub fn end(self, out: &mut Vec<u8>) {
        if self.is_chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// [`BodyStream::write_event`] for a client that knows chunks.
pub fn write_event(out: &mut Vec<u8>, data: &[u8]) {
    BodyStream { is_chunked: true }.write_event(out, data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, BodyReader};

    const CHUNKED: BodyStream = BodyStream { is_chunked: true };
    const PLAIN: BodyStream = BodyStream { is_chunked: false };

    /// Writes the same both ways; returns what a client sees.
    fn seen(write: impl Fn(BodyStream, &mut Vec<u8>)) -> String {
        let (mut chunked, mut plain) = (Vec::new(), Vec::new());
        write(CHUNKED, &mut chunked);
        CHUNKED.end(&mut chunked);
        write(PLAIN, &mut plain);
        PLAIN.end(&mut plain);
        let mut reader = BodyReader::new(Body::Chunked, 1_000).unwrap();
        assert_eq!(reader.read(&mut &chunked[..]), Ok(true));
        assert_eq!(reader.into_bytes(), plain);
        String::from_utf8(plain).unwrap()
    }

    #[test]
    fn events_are_fields_with_an_empty_line_behind() {
        let data = r#"{"event":"message"}"#;
        let text = seen(|stream, out| stream.write_event(out, data.as_bytes()));
        assert_eq!(text, "data: {\"event\":\"message\"}\n\n");
        let text = seen(|stream, out| stream.write_event(out, b"a\nb\r\nc\rd"));
        assert_eq!(text, "data: a\ndata: b\ndata: c\ndata: d\n\n");
        assert_eq!(
            seen(|stream, out| stream.write_event(out, b"")),
            "data: \n\n"
        );
        assert_eq!(seen(BodyStream::write_event_comment), ":\n\n");
    }

    #[test]
    fn pieces_of_any_length_are_chunks() {
        for length in [1, 15, 16, 255, 256] {
            let piece = vec![b'x'; length];
            assert_eq!(
                seen(|stream, out| stream.write(out, &[&piece])).len(),
                length
            );
        }
    }

    #[test]
    fn only_who_knows_chunks_gets_them() {
        for (minor, expected, other) in [
            (1, "Transfer-Encoding: chunked\r\n", "Connection:"),
            (0, "Connection: close\r\n", "Transfer-Encoding:"),
        ] {
            let mut out = Vec::new();
            let stream = BodyStream::begin(&mut out, EVENT_STREAM, minor, 0);
            assert_eq!(stream.is_chunked, minor == 1);
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with("HTTP/1.1 200 OK\r\nDate: "), "{text}");
            assert!(
                text.contains("Content-Type: text/event-stream\r\n"),
                "{text}"
            );
            assert!(
                text.contains("Access-Control-Allow-Origin: *\r\n"),
                "{text}"
            );
            assert!(text.contains(expected) && !text.contains(other), "{text}");
            assert!(text.ends_with("\r\n\r\n") && !text.contains("Content-Length"));
        }
    }
}
