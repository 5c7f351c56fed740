//! A request target taken apart: a path into segments, a query or a form into pairs, both
//! percent-decoded (RFC 3986, section 2.1).
//!
//! Decoding comes after splitting, so an encoded `/`, `&` or `=` is an ordinary character. Nothing
//! else is changed: `.` and `..` are names like others, and an empty segment is one.

use std::borrow::Cow;
use std::fmt;

/// Segments of one path.
pub const SEGMENTS_MAX: usize = 16;
/// Pairs of one query or form.
pub const PAIRS_MAX: usize = 100;

/// A decoded name and its decoded value.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Why a target was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// The path does not begin with a slash.
    NotAPath,
    /// More than [`SEGMENTS_MAX`] segments: deeper than any path that we serve.
    TooDeep,
    /// More than [`PAIRS_MAX`] pairs.
    TooManyPairs,
    /// A `%` without two hexadecimal digits.
    Escape,
    /// Decodes to something that is not UTF-8, or to a control character.
    Text,
}

/// The decoded segments of a path: `/a/b` has two, `/a/` has `a` and an empty one, `/` has one
/// that is empty.
///
/// # Errors
/// See [`TargetError`].
pub fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, TargetError> {
    let path = path.strip_prefix('/').ok_or(TargetError::NotAPath)?;
    if path.split('/').nth(SEGMENTS_MAX).is_some() {
        return Err(TargetError::TooDeep);
    }
    path.split('/')
        .map(|segment| {
            let decoded = decode(segment, false)?;
            // No name of ours holds one, and logs, files and C programs mind them.
            if decoded.chars().any(char::is_control) {
                return Err(TargetError::Text);
            }
            Ok(decoded)
        })
        .collect()
}

/// The decoded pairs of a query or of a form (`application/x-www-form-urlencoded`), in order;
/// `+` is a space. A name without `=` has an empty value; empty items are passed over.
///
/// # Errors
/// See [`TargetError`].
pub fn pairs(query: &str) -> Result<Vec<Pair<'_>>, TargetError> {
    let items = || query.split('&').filter(|item| !item.is_empty());
    if items().nth(PAIRS_MAX).is_some() {
        return Err(TargetError::TooManyPairs);
    }
    items()
        .map(|item| {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

/// Appends `text` so that it stands for itself in a path or a query.
pub fn write_encoded(out: &mut String, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        // The unreserved characters (RFC 3986, section 2.3).
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

fn decode(text: &str, is_query: bool) -> Result<Cow<'_, str>, TargetError> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next())? << 4 | hex(bytes.next())?,
            b'+' if is_query => b' ',
            _ => byte,
        });
    }
    match String::from_utf8(decoded) {
        Ok(decoded) => Ok(Cow::Owned(decoded)),
        Err(_) => Err(TargetError::Text),
    }
}

fn hex(digit: Option<u8>) -> Result<u8, TargetError> {
    let value = digit.and_then(|digit| char::from(digit).to_digit(16));
    value.map(|value| value as u8).ok_or(TargetError::Escape)
}

impl TargetError {
    /// The status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            TargetError::TooDeep => 404,
            TargetError::NotAPath
            | TargetError::TooManyPairs
            | TargetError::Escape
            | TargetError::Text => 400,
        }
    }

    /// What was wrong, for the answer's body.
    pub fn message(&self) -> &'static str {
        match self {
            TargetError::NotAPath => "the request target is not a path",
            TargetError::TooDeep => "not found",
            TargetError::TooManyPairs => "too many query parameters",
            TargetError::Escape => "malformed percent-encoding",
            TargetError::Text => "percent-encoding of something that is not text",
        }
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for TargetError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_path(path: &str, expected: Result<&[&str], TargetError>) {
        let outcome = segments(path);
        let expected = expected.map(|all| all.iter().map(|&s| Cow::from(s)).collect());
        assert_eq!(outcome, expected, "{path}");
    }

    fn check_query(query: &str, expected: Result<&[(&str, &str)], TargetError>) {
        let outcome = pairs(query);
        let pair = |&(name, value)| (Cow::from(name), Cow::from(value));
        let expected = expected.map(|all| all.iter().map(pair).collect());
        assert_eq!(outcome, expected, "{query}");
    }

    #[test]
    fn paths_are_split_and_then_decoded() {
        check_path("/", Ok(&[""]));
        check_path("/status", Ok(&["status"]));
        check_path("/status/", Ok(&["status", ""]));
        check_path("/devices/a%2Fb/%c3%BC+", Ok(&["devices", "a/b", "ü+"]));
        check_path("//a/../.", Ok(&["", "a", "..", "."]));
        check_path("/%252F", Ok(&["%2F"]));
    }

    #[test]
    fn bad_paths_are_refused() {
        check_path("*", Err(TargetError::NotAPath));
        check_path("host:443", Err(TargetError::NotAPath));
        for path in ["/%", "/a%2", "/%2/b", "/%zz", "/%+1", "/%%41"] {
            check_path(path, Err(TargetError::Escape));
        }
        for path in ["/%ff", "/%c3", "/%00", "/%0d%0a", "/%c2%80"] {
            check_path(path, Err(TargetError::Text));
        }
        assert_eq!(
            segments(&"/a".repeat(SEGMENTS_MAX)).map(|all| all.len()),
            Ok(16)
        );
        check_path(&"/a".repeat(SEGMENTS_MAX + 1), Err(TargetError::TooDeep));
    }

    #[test]
    fn queries_are_split_and_then_decoded() {
        check_query("", Ok(&[]));
        check_query("a=1&b=&c", Ok(&[("a", "1"), ("b", ""), ("c", "")]));
        check_query("&&a=b=c&=d&", Ok(&[("a", "b=c"), ("", "d")]));
        check_query("a+b=c%2Bd%26%3d%0A", Ok(&[("a b", "c+d&=\n")]));
        check_query("a=1&a=2", Ok(&[("a", "1"), ("a", "2")]));
        check_query("a=%4", Err(TargetError::Escape));
        check_query("a=%ff", Err(TargetError::Text));
        check_query(&"a&".repeat(PAIRS_MAX + 1), Err(TargetError::TooManyPairs));
        assert_eq!(pairs(&"a&".repeat(PAIRS_MAX)).map(|all| all.len()), Ok(100));
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let text = "a/b?c=d&e+f%g ü\u{1f600}~";
        let mut path = String::from("/");
        write_encoded(&mut path, text);
        check_path(&path, Ok(&[text]));
    }
}
