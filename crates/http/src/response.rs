//! Answers to requests: whole ones with their length, the preflight answer for browsers, and
//! `100 Continue`.
//!
//! Every answer has a `Date` and may be read by scripts of any origin, as FreshBlu's may: devices
//! identify themselves in every request, so no origin gains anything by the browser's memory.

use crate::head::{Body, Head};
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// The last second that a `Date` can name: the end of the year 9999.
const DATE_MAX_S: u64 = 253_402_300_799;
/// Bytes of `Access-Control-Request-Headers` that are repeated to a browser.
const REQUESTED_HEADERS_BYTES_MAX: usize = 1_024;
/// What a browser may send us without our having been told which it wants to.
const USUAL_HEADERS: &str = "authorization, content-type, x-meshblu-as, x-meshblu-uuid, \
    x-meshblu-token, x-meshblu-projection, *";
/// What every answer says to browsers.
const ORIGIN_LINES: &[u8] = b"Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: *\r\n\
    Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n";

/// A whole answer to a request.
///
/// Header values come from our code, never unseen from a peer: a line end within one would forge
/// headers.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status, 200 to 599.
    pub status: u16,
    /// `Content-Type`, if there is a body.
    pub content_type: Option<&'a str>,
    /// Further headers: names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; it must be empty for 204 and 304.
    pub body: &'a [u8],
    /// Whether the connection stays open. If not, the answer says so, and the caller closes.
    pub keep_alive: bool,
    /// [`Head::minor`] of the request: a 1.0 client must be told that the connection stays open.
    pub minor: u8,
    /// Whether the request was a HEAD, which is answered with the length of the body alone.
    pub is_head: bool,
}

impl Response<'_> {
    /// Appends the answer. `now_s` is the time in seconds since 1970, for `Date`.
    pub fn write(&self, out: &mut Vec<u8>, now_s: u64) {
        write_status_line(out, self.status);
        write_date(out, now_s);
        if let Some(content_type) = self.content_type {
            write_header(out, "Content-Type", content_type);
        }
        // RFC 9110, section 8.6: these two never have a body, and 204 no length either.
        let has_length = !matches!(self.status, 204 | 304);
        assert!(
            has_length || self.body.is_empty(),
            "a body behind {}",
            self.status
        );
        if has_length {
            write!(out, "Content-Length: {}\r\n", self.body.len()).expect("a Vec takes all bytes");
        }
        out.extend_from_slice(ORIGIN_LINES);
        write_headers(out, self.headers);
        write_connection(out, self.keep_alive, self.minor);
        out.extend_from_slice(b"\r\n");
        if !self.is_head {
            out.extend_from_slice(self.body);
        }
    }
}

/// Appends the answer to an `OPTIONS` request: 204 with what may be done there. `methods` is a list
/// such as `GET, HEAD`. A browser's preflight is told that it may send the headers it asked for,
/// since a mere `*` would not cover `Authorization`.
pub fn write_options(
    out: &mut Vec<u8>,
    head: &Head<'_>,
    methods: &str,
    keep_alive: bool,
    now_s: u64,
) {
    let requested = head
        .header("access-control-request-headers")
        .filter(|value| is_list_of_tokens(value));
    let headers = [
        ("Allow", methods),
        ("Access-Control-Allow-Methods", methods),
        (
            "Access-Control-Allow-Headers",
            requested.unwrap_or(USUAL_HEADERS),
        ),
        ("Access-Control-Max-Age", "7200"),
    ];
    let response = Response {
        status: 204,
        content_type: None,
        headers: &headers,
        body: b"",
        keep_alive,
        minor: head.minor,
        is_head: false,
    };
    response.write(out, now_s);
}

/// Appends the interim answer that a client waits for before it sends a body, see
/// [`Head::expects_continue`].
pub fn write_continue(out: &mut Vec<u8>) {
    write_status_line(out, 100);
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole response whose body is `{"error":"message"}`, without a date and without what
/// browsers want: for what fails before it is a request.
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
    let body = json_error(message);
    write_status_line(out, status);
    out.extend_from_slice(b"Content-Type: application/json\r\n");
    write!(out, "Content-Length: {}\r\n", body.len()).expect("a Vec takes all bytes");
    write_headers(out, extra_headers);
    write_connection(out, keep_alive, 1);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
}

/// `{"error":"message"}`, the body of every answer that is an error.
pub fn json_error(message: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(message.len() + 12);
    body.extend_from_slice(b"{\"error\":\"");
    write_json_text(&mut body, message);
    body.extend_from_slice(b"\"}");
    body
}

/// The phrase that goes with a status; empty for statuses that we do not use.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
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

impl Head<'_> {
    /// Whether the client waits for [`write_continue`] or a final answer before it sends the body
    /// (RFC 9110, section 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.minor >= 1 && self.body() != Body::None && self.has_token("expect", "100-continue")
    }
}

pub(crate) fn write_status_line(out: &mut Vec<u8>, status: u16) {
    let phrase = reason_phrase(status);
    write!(out, "HTTP/1.1 {status} {phrase}\r\n").expect("a Vec takes all bytes");
}

/// `Date` as RFC 9110, section 5.6.7 wants it.
pub(crate) fn write_date(out: &mut Vec<u8>, now_s: u64) {
    let now = UNIX_EPOCH + Duration::from_secs(now_s.min(DATE_MAX_S));
    let date = httpdate::HttpDate::from(now);
    write!(out, "Date: {date}\r\n").expect("a Vec takes all bytes");
}

pub(crate) fn write_origin(out: &mut Vec<u8>) {
    out.extend_from_slice(ORIGIN_LINES);
}

pub(crate) fn write_headers(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        write_header(out, name, value);
    }
}

pub(crate) fn write_connection(out: &mut Vec<u8>, keep_alive: bool, minor: u8) {
    match (keep_alive, minor) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, 0) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, _) => {}
    }
}

fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    assert!(
        !value.contains(['\r', '\n']),
        "header value of several lines"
    );
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn is_list_of_tokens(value: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, \t".contains(&byte);
    value.len() <= REQUESTED_HEADERS_BYTES_MAX
        && value.bytes().any(|byte| byte.is_ascii_alphanumeric())
        && value.bytes().all(is_allowed)
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
    use crate::parse_head;

    const OK: Response<'static> = Response {
        status: 200,
        content_type: Some("application/json"),
        headers: &[],
        body: b"{}",
        keep_alive: true,
        minor: 1,
        is_head: false,
    };

    fn check(response: Response<'_>, expected: &str) {
        let mut out = Vec::new();
        response.write(&mut out, 784_111_777);
        let origin = std::str::from_utf8(ORIGIN_LINES).unwrap();
        let text = String::from_utf8(out).unwrap().replace(origin, "[origin]");
        let expected = expected.replace("[date]", "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        assert_eq!(text, expected);
    }

    fn options(lines: &str) -> String {
        let text = format!("OPTIONS /a HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let mut out = Vec::new();
        let head = parse_head(text.as_bytes()).unwrap().unwrap();
        write_options(&mut out, &head, "GET, HEAD", true, 0);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_has_a_date_a_length_and_is_for_every_origin() {
        let text = "HTTP/1.1 200 OK\r\n[date]Content-Type: application/json\r\n\
            Content-Length: 2\r\n[origin]\r\n{}";
        check(OK, text);
        let head = Response {
            is_head: true,
            ..OK
        };
        check(head, text.strip_suffix("{}").unwrap());
    }

    #[test]
    fn an_answer_without_content_has_no_length() {
        let response = Response {
            status: 204,
            content_type: None,
            body: b"",
            ..OK
        };
        check(response, "HTTP/1.1 204 No Content\r\n[date][origin]\r\n");
    }

    #[test]
    fn connections_that_close_or_unexpectedly_stay_are_announced() {
        let middle =
            "Content-Type: application/json\r\nContent-Length: 2\r\n[origin]Allow: GET\r\n";
        for (keep_alive, minor, line) in [
            (false, 0, "Connection: close\r\n"),
            (false, 1, "Connection: close\r\n"),
            (true, 0, "Connection: keep-alive\r\n"),
            (true, 1, ""),
        ] {
            let response = Response {
                headers: &[("Allow", "GET")],
                keep_alive,
                minor,
                ..OK
            };
            let expected = format!("HTTP/1.1 200 OK\r\n[date]{middle}{line}\r\n{{}}");
            check(response, &expected);
        }
    }

    #[test]
    fn dates_are_written_for_any_second() {
        for (now_s, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            let mut out = Vec::new();
            write_date(&mut out, now_s);
            assert_eq!(out, format!("Date: {expected}\r\n").as_bytes());
        }
    }

    #[test]
    fn a_preflight_gets_the_headers_it_asks_for() {
        let requested = "Authorization, x-meshblu-as";
        let answer = options(&format!("Access-Control-Request-Headers: {requested}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        let line = format!("\r\nAccess-Control-Allow-Headers: {requested}\r\n");
        assert!(answer.contains(&line), "{answer}");
        assert!(answer.contains("\r\nAccess-Control-Allow-Methods: GET, HEAD\r\n"));
        assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"));
    }

    #[test]
    fn other_options_requests_get_the_usual_headers() {
        let long = "a".repeat(REQUESTED_HEADERS_BYTES_MAX + 1);
        for value in ["", "a;b", "ü", &long] {
            let answer = options(&format!("Access-Control-Request-Headers: {value}\r\n"));
            assert!(answer.contains(USUAL_HEADERS), "{answer}");
        }
    }

    #[test]
    fn a_client_that_waits_for_permission_is_known() {
        let check = |lines: &str, expected: bool| {
            let text = format!("POST / {lines}\r\n");
            let head = parse_head(text.as_bytes()).unwrap().unwrap();
            assert_eq!(head.expects_continue(), expected, "{text}");
        };
        let expect = "Expect: 100-Continue\r\n";
        check(
            &format!("HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n{expect}"),
            true,
        );
        check(&format!("HTTP/1.1\r\nHost: h\r\n{expect}"), false);
        check(&format!("HTTP/1.0\r\nContent-Length: 1\r\n{expect}"), false);
        check("HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n", false);
        let mut out = Vec::new();
        write_continue(&mut out);
        assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
    }

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
