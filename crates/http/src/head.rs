//! The head of a request: request line and headers (RFC 9112, sections 2 to 6).
//!
//! A head that two readers could understand differently is refused: line feeds without carriage
//! return, folded headers, several lengths, a length beside a transfer coding. Bounded by
//! [`HEAD_BYTES_MAX`] and [`HEADERS_MAX`].

use std::fmt;

/// Bytes of a request's head, from the first byte to the empty line.
pub const HEAD_BYTES_MAX: usize = 16 * 1_024;
/// Header lines of one request.
pub const HEADERS_MAX: usize = 100;

/// A request's head, borrowing from the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// The method as sent; methods are case-sensitive.
    pub method: &'a str,
    /// The request target as sent: path and query, or an absolute URL, or `*`.
    pub target: &'a str,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor: u8,
    /// Length of the head in bytes, empty lines before it and the one after it included.
    pub bytes: usize,
    body: Body,
    headers: [httparse::Header<'a>; HEADERS_MAX],
    headers_count: usize,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks (RFC 9112, section 7.1).
    Chunked,
}

/// Why a head was refused. The connection cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Longer than [`HEAD_BYTES_MAX`].
    TooLong,
    /// More header lines than [`HEADERS_MAX`].
    TooManyHeaders,
    /// The request line does not parse.
    RequestLine,
    /// Not HTTP/1.0 or HTTP/1.1.
    Version,
    /// A header line does not parse; folded lines are among these.
    Header,
    /// A line ends without a carriage return.
    BareLineFeed,
    /// HTTP/1.1 without exactly one `Host`.
    Host,
    /// `Content-Length` is not one decimal number.
    Length,
    /// Several lengths, or a length beside a transfer coding: a proxy might see other requests
    /// than we do.
    AmbiguousLength,
    /// A transfer coding other than `chunked`.
    TransferCoding,
}

/// Reads the head at the start of `bytes`; `None` if more bytes are needed.
///
/// # Errors
/// See [`HeadError`]; the connection is to be answered with its status and closed.
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head<'_>>, HeadError> {
    let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request.parse(window).map_err(HeadError::from_httparse)? {
        httparse::Status::Complete(head_bytes) => head_bytes,
        httparse::Status::Partial => {
            refuse_bare_line_feeds(window)?;
            return if window.len() == HEAD_BYTES_MAX {
                Err(HeadError::TooLong)
            } else {
                Ok(None)
            };
        }
    };
    refuse_bare_line_feeds(&window[..head_bytes])?;
    const PARSED: &str = "a complete head has a request line";
    let (method, target) = (request.method.expect(PARSED), request.path.expect(PARSED));
    let minor = request.version.expect(PARSED);
    let headers_count = request.headers.len();
    let mut head = Head {
        method,
        target,
        minor,
        bytes: head_bytes,
        body: Body::None,
        headers,
        headers_count,
    };
    head.check_host()?;
    head.body = head.find_body()?;
    Ok(Some(head))
}

/// httparse takes a line feed alone as the end of a line; RFC 9112, section 2.2 allows that, but
/// a proxy in front of us need not agree.
fn refuse_bare_line_feeds(head: &[u8]) -> Result<(), HeadError> {
    let mut previous = 0;
    for &byte in head {
        if byte == b'\n' && previous != b'\r' {
            return Err(HeadError::BareLineFeed);
        }
        previous = byte;
    }
    Ok(())
}

impl<'a> Head<'a> {
    /// The value of a header that occurs exactly once and is UTF-8. Names are compared without
    /// regard to case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut values = self.raw_values(name);
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        std::str::from_utf8(value).ok()
    }

    /// All values of a header that are UTF-8, in order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.raw_values(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// Whether a header whose value is a comma-separated list holds `token`, without regard to
    /// case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.header_values(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
    }

    /// The path: the target without scheme, authority and query. `/` if it is empty.
    pub fn path(&self) -> &'a str {
        let (path, _) = split_target(self.target);
        path
    }

    /// What stands behind the first `?` of the target; empty if there is none.
    pub fn query(&self) -> &'a str {
        let (_, query) = split_target(self.target);
        query
    }

    /// What follows the head.
    pub fn body(&self) -> Body {
        self.body
    }

    /// Whether the client will use the connection for another request (RFC 9112, section 9.3).
    pub fn keep_alive(&self) -> bool {
        if self.has_token("connection", "close") {
            return false;
        }
        self.minor >= 1 || self.has_token("connection", "keep-alive")
    }

    fn raw_values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers[..self.headers_count]
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// RFC 9112, section 3.2.
    fn check_host(&self) -> Result<(), HeadError> {
        match self.raw_values("host").count() {
            1 => Ok(()),
            0 if self.minor == 0 => Ok(()),
            _ => Err(HeadError::Host),
        }
    }

    /// RFC 9112, section 6.3, without its tolerance for repeated equal lengths.
    fn find_body(&self) -> Result<Body, HeadError> {
        let mut lengths = self.raw_values("content-length");
        let mut codings = self.raw_values("transfer-encoding");
        let (length, coding) = (lengths.next(), codings.next());
        if lengths.next().is_some() || (length.is_some() && coding.is_some()) {
            return Err(HeadError::AmbiguousLength);
        }
        if let Some(coding) = coding {
            let is_chunked = coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
            // A 1.0 client cannot know chunks (section 6.1).
            return match (is_chunked, self.minor) {
                (true, 1..) => Ok(Body::Chunked),
                (true, 0) => Err(HeadError::AmbiguousLength),
                (false, _) => Err(HeadError::TransferCoding),
            };
        }
        match length.map(parse_length).transpose()? {
            None | Some(0) => Ok(Body::None),
            Some(bytes) => Ok(Body::Length(bytes)),
        }
    }
}

/// Digits only: `str::parse` would also take a sign.
fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.contains(&b',') {
        return Err(HeadError::AmbiguousLength);
    }
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Length);
    }
    let digits = std::str::from_utf8(value).map_err(|_| HeadError::Length)?;
    digits.parse().map_err(|_| HeadError::Length)
}

fn split_target(target: &str) -> (&str, &str) {
    let (before, query) = target.split_once('?').unwrap_or((target, ""));
    // The absolute form names scheme and authority first (RFC 9112, section 3.2.2).
    let path = match before.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |slash| &rest[slash..])
        }
        _ => before,
    };
    (if path.is_empty() { "/" } else { path }, query)
}

impl HeadError {
    /// The status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            HeadError::TooLong | HeadError::TooManyHeaders => 431,
            HeadError::Version => 505,
            HeadError::TransferCoding => 501,
            HeadError::RequestLine
            | HeadError::Header
            | HeadError::BareLineFeed
            | HeadError::Host
            | HeadError::Length
            | HeadError::AmbiguousLength => 400,
        }
    }

    /// What was wrong, for the answer's body.
    pub fn message(&self) -> &'static str {
        match self {
            HeadError::TooLong => "request head too long",
            HeadError::TooManyHeaders => "too many headers",
            HeadError::RequestLine => "malformed request line",
            HeadError::Version => "unsupported HTTP version",
            HeadError::Header => "malformed header",
            HeadError::BareLineFeed => "line feed without carriage return",
            HeadError::Host => "exactly one Host header is needed",
            HeadError::Length => "malformed Content-Length",
            HeadError::AmbiguousLength => "ambiguous length of the body",
            HeadError::TransferCoding => "unsupported transfer coding",
        }
    }

    fn from_httparse(error: httparse::Error) -> HeadError {
        match error {
            httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
            httparse::Error::Version => HeadError::Version,
            httparse::Error::HeaderName | httparse::Error::HeaderValue => HeadError::Header,
            httparse::Error::Token | httparse::Error::Status | httparse::Error::NewLine => {
                HeadError::RequestLine
            }
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for HeadError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that a head with these lines after the request line is refused so.
    fn check_refused(lines: &str, expected: HeadError) {
        let text = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(
            parse_head(text.as_bytes()).map(|_| ()),
            Err(expected),
            "{lines:?}"
        );
    }

    fn check_body(lines: &str, expected: Body) {
        let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        assert_eq!(
            parse_head(text.as_bytes()).unwrap().unwrap().body(),
            expected,
            "{lines:?}"
        );
    }

    fn check_target(target: &str, path: &str, query: &str) {
        let text = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = parse_head(text.as_bytes()).unwrap().unwrap();
        assert_eq!((head.path(), head.query()), (path, query), "{target:?}");
    }

    #[test]
    fn a_head_is_read_only_when_it_is_whole() {
        let text = b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nX-One:  1 \r\n\r\nrest";
        for cut in 0..text.len() - 4 {
            assert!(parse_head(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let head = parse_head(text).unwrap().unwrap();
        assert_eq!(head.bytes, text.len() - 4);
        assert_eq!((head.method, head.target, head.minor), ("GET", "/a?b=c", 1));
        assert_eq!(head.header("x-ONE"), Some("1"));
        assert_eq!(head.header("x-two"), None);
        assert!(head.keep_alive());
    }

    #[test]
    fn a_repeated_header_has_no_single_value() {
        let text = b"GET / HTTP/1.1\r\nHost: h\r\nA: 1, x\r\na: 2\r\n\r\n";
        let head = parse_head(text).unwrap().unwrap();
        assert_eq!(head.header("a"), None);
        assert!(head.header_values("a").eq(["1, x", "2"]));
        assert!(head.has_token("a", "X") && !head.has_token("a", "3"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let both = "Host: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n";
        check_refused(both, HeadError::AmbiguousLength);
        let twice = "Host: h\r\nContent-Length: 3\r\ncontent-length: 3\r\n";
        check_refused(twice, HeadError::AmbiguousLength);
        check_refused(
            "Host: h\r\nContent-Length: 3, 3\r\n",
            HeadError::AmbiguousLength,
        );
        check_refused("Host: h\r\nContent-Length: +3\r\n", HeadError::Length);
        check_refused("Host: h\r\nContent-Length: 0x3\r\n", HeadError::Length);
        check_refused("Host: h\r\nContent-Length:\r\n", HeadError::Length);
        check_refused(
            "Host: h\r\nContent-Length: 18446744073709551616\r\n",
            HeadError::Length,
        );
        check_refused(
            "Host: h\r\nTransfer-Encoding: gzip\r\n",
            HeadError::TransferCoding,
        );
        check_refused(
            "Host: h\r\nTransfer-Encoding: gzip, chunked\r\n",
            HeadError::TransferCoding,
        );
        check_refused(
            "Host: h\r\nTransfer-Encoding: \u{b}chunked\r\n",
            HeadError::Header,
        );
        let codings = "Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
        check_refused(codings, HeadError::TransferCoding);
        check_refused("Host: h\nA: 1\r\n", HeadError::BareLineFeed);
        check_refused("Host: h\r\nA: 1\r\n 2\r\n", HeadError::Header);
        check_refused("Host: h\r\nA : 1\r\n", HeadError::Header);
        check_refused("Host: h\r\nHost: h\r\n", HeadError::Host);
        check_refused("", HeadError::Host);
        let text = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            parse_head(text).map(|_| ()),
            Err(HeadError::AmbiguousLength)
        );
    }

    #[test]
    fn bare_line_feeds_are_refused_before_the_head_is_whole() {
        assert_eq!(
            parse_head(b"GET / HTTP/1.1\nHost").map(|_| ()),
            Err(HeadError::BareLineFeed)
        );
    }

    #[test]
    fn bodies_are_announced() {
        check_body("", Body::None);
        check_body("Content-Length: 0\r\n", Body::None);
        check_body("Content-Length: 12\r\n", Body::Length(12));
        check_body("Transfer-Encoding: Chunked\r\n", Body::Chunked);
    }

    #[test]
    fn targets_are_taken_apart() {
        check_target("/", "/", "");
        check_target("/mqtt", "/mqtt", "");
        check_target("/a?b?c", "/a", "b?c");
        check_target("/a?to=http://x/y", "/a", "to=http://x/y");
        check_target("http://host:80/a/b?c", "/a/b", "c");
        check_target("http://host", "/", "");
        check_target("http://host?c", "/", "c");
        check_target("/a://b", "/a://b", "");
        check_target("*", "*", "");
    }

    #[test]
    fn other_versions_and_garbage_are_refused() {
        for (text, expected) in [
            (&b"GET / HTTP/2.0\r\n\r\n"[..], HeadError::Version),
            (b"PRI * HTTP/2.0\r\n\r\n", HeadError::Version),
            (b"GET /\r\n\r\n", HeadError::RequestLine),
            (b"\x16\x03\x01\x02\x00", HeadError::RequestLine),
            (b"\x10\x0e\x00\x04MQTT\x04\x02", HeadError::RequestLine),
        ] {
            let refused = parse_head(text).map(|_| ());
            assert_eq!(refused, Err(expected), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn limits_hold() {
        let long = format!(
            "GET /{} HTTP/1.1\r\nHost: h\r\n\r\n",
            "a".repeat(HEAD_BYTES_MAX)
        );
        assert_eq!(
            parse_head(long.as_bytes()).map(|_| ()),
            Err(HeadError::TooLong)
        );
        let empty_lines = "\r\n".repeat(HEAD_BYTES_MAX);
        assert_eq!(
            parse_head(empty_lines.as_bytes()).map(|_| ()),
            Err(HeadError::TooLong)
        );
        let many = "A: 1\r\n".repeat(HEADERS_MAX);
        check_refused(&format!("Host: h\r\n{many}"), HeadError::TooManyHeaders);
        let most = "A: 1\r\n".repeat(HEADERS_MAX - 1);
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{most}\r\n");
        assert!(parse_head(text.as_bytes()).unwrap().is_some());
    }

    #[test]
    fn keep_alive_follows_version_and_connection() {
        for (minor, lines, expected) in [
            (1, "", true),
            (1, "Connection: Close\r\n", false),
            (1, "Connection: upgrade, close\r\n", false),
            (0, "", false),
            (0, "Connection: keep-alive\r\n", true),
        ] {
            let text = format!("GET / HTTP/1.{minor}\r\nHost: h\r\n{lines}\r\n");
            let head = parse_head(text.as_bytes()).unwrap().unwrap();
            assert_eq!(head.keep_alive(), expected, "{minor} {lines:?}");
        }
    }
}
