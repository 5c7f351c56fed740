//! Plain answers to requests.

use std::io::Write;

/// Appends a whole response whose body is `{"error":"message"}`.
///
/// `extra_headers` are names and values, written as they are: they come from our code, never from
/// a peer. Without `keep_alive` the response says that the connection closes; the caller closes.
pub fn write_json_error(
    out: &mut Vec<u8>,
    status: u16,
    message: &str,
    extra_headers: &[(&str, &str)],
    keep_alive: bool,
) {
    let mut body = Vec::with_capacity(message.len() + 12);
    body.extend_from_slice(b"{\"error\":\"");
    write_json_text(&mut body, message);
    body.extend_from_slice(b"\"}");
    write_status_line(out, status);
    out.extend_from_slice(b"Content-Type: application/json\r\n");
    write!(out, "Content-Length: {}\r\n", body.len()).expect("a Vec takes all bytes");
    for (name, value) in extra_headers {
        debug_assert!(
            !value.contains(['\r', '\n']),
            "header value of several lines"
        );
        write!(out, "{name}: {value}\r\n").expect("a Vec takes all bytes");
    }
    if !keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
}

/// The phrase that goes with a status; empty for statuses that we do not use.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

pub(crate) fn write_status_line(out: &mut Vec<u8>, status: u16) {
    let phrase = reason_phrase(status);
    write!(out, "HTTP/1.1 {status} {phrase}\r\n").expect("a Vec takes all bytes");
}

/// The inside of a JSON string (RFC 8259, section 7).
fn write_json_text(out: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            '\0'..='\x1f' => {
                write!(out, "\\u{:04x}", character as u32).expect("a Vec takes all bytes");
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_whole_json_response() {
        let mut out = Vec::new();
        write_json_error(&mut out, 405, "no", &[("Allow", "GET")], false);
        let expected = "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: application/json\r\n\
            Content-Length: 14\r\nAllow: GET\r\nConnection: close\r\n\r\n{\"error\":\"no\"}";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn messages_are_escaped() {
        let mut out = Vec::new();
        write_json_error(&mut out, 404, "a\"b\\c\nd ü", &[], true);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with("\r\n\r\n{\"error\":\"a\\\"b\\\\c\\u000ad ü\"}"),
            "{text}"
        );
        assert!(!text.contains("Connection"), "{text}");
    }
}
