//! Reading JSON of strangers: bounded in depth, and nothing let through that a strict reader at the
//! other end would choke on. Writing strings and compact copies.

use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// How deeply arrays and objects may be nested.
pub const DEPTH_MAX: usize = 128;

/// Reads one JSON value.
///
/// # Errors
/// [`Refusal::Malformed`] for what is not JSON or nested deeper than [`DEPTH_MAX`].
pub fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    if depth(bytes) > DEPTH_MAX {
        return Err(too_deep());
    }
    parse_shallow(bytes)
}

/// Reads a value whose depth was looked at before.
fn parse_shallow(bytes: &[u8]) -> Result<Value, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    // serde_json's own limit is a level below ours.
    reader.disable_recursion_limit();
    let value = Value::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(malformed)
}

/// Reads one JSON object; empty input is `{}`.
///
/// # Errors
/// [`Refusal::Malformed`] as [`parse`]; [`Refusal::Invalid`] for another kind of value.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match parse(bytes)? {
        Value::Object(object) => Ok(object),
        _ => Err(Refusal::invalid("the body must be a JSON object")),
    }
}

pub(crate) fn malformed(error: serde_json::Error) -> Refusal {
    Refusal::Malformed(error.to_string())
}

pub(crate) fn too_deep() -> Refusal {
    Refusal::Malformed(format!("nested deeper than {DEPTH_MAX} levels"))
}

/// How deeply arrays and objects are nested: 0 for a number. For text that is not JSON, some number
/// that is at least the depth a reader could reach in it.
pub fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

/// Moves behind the quote that ends a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

/// The length of the JSON string that a text begins with, quotes included; `None` if it begins with
/// something else.
pub(crate) fn string_bytes(json: &str) -> Option<usize> {
    let mut bytes = json.strip_prefix('"')?.as_bytes().iter();
    skip_string(&mut bytes);
    Some(json.len() - bytes.as_slice().len())
}

/// How deeply a value is nested; counts as [`depth`] does.
pub fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(object) => 1 + object.values().map(depth_of).max().unwrap_or(0),
        _ => 0,
    }
}

/// Looks at well-formed JSON that is passed on as it came, and must not be what breaks a receiver.
///
/// # Errors
/// [`Refusal::Malformed`] for what is nested deeper than [`DEPTH_MAX`], and for what a reader of
/// Unicode text and 64-bit floats cannot take: lone surrogates (`\ud800`) and numbers beyond any
/// float (`1e999`).
pub(crate) fn examine(json: &str) -> Result<(), Refusal> {
    let unreadable = || {
        let detail = "half a surrogate pair, or a number out of range";
        Refusal::Malformed(detail.into())
    };
    let mut depth = 0_usize;
    let mut rest = json.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let token = rest;
        rest = after;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(too_deep());
                }
            }
            b'}' | b']' => depth -= 1,
            b'"' => rest = behind_string(rest).ok_or_else(unreadable)?,
            b'0'..=b'9' => {
                let is_of_number =
                    |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                let bytes = token.iter().take_while(is_of_number).count();
                rest = &token[bytes..];
                if !is_finite(&token[..bytes]) {
                    return Err(unreadable());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What follows a string, given what follows its first quote; `None` if it has half a pair.
fn behind_string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let special = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (is_end, after) = (rest[special] == b'"', &rest[special + 1..]);
        if is_end {
            return Some(after);
        }
        rest = unescape(after)?;
    }
}

fn is_finite(number: &[u8]) -> bool {
    // The largest float has 309 digits before its point.
    let is_plain = number.len() < 309 && !number.iter().any(|byte| matches!(byte, b'e' | b'E'));
    let parse = |text: &str| text.parse::<f64>().is_ok_and(f64::is_finite);
    is_plain || std::str::from_utf8(number).is_ok_and(parse)
}

/// What follows an escape sequence, given what follows its backslash; `None` for half a pair.
fn unescape(rest: &[u8]) -> Option<&[u8]> {
    let (&kind, rest) = rest.split_first()?;
    if kind != b'u' {
        return Some(rest);
    }
    let (unit, rest) = code_unit(rest)?;
    match unit {
        0xd800..0xdc00 => {
            let (second, rest) = code_unit(rest.strip_prefix(b"\\u")?)?;
            (0xdc00..0xe000).contains(&second).then_some(rest)
        }
        0xdc00..0xe000 => None,
        _ => Some(rest),
    }
}

fn code_unit(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(4)?;
    let unit = std::str::from_utf8(digits).ok()?;
    Some((u32::from_str_radix(unit, 16).ok()?, rest))
}

/// Appends a JSON string, quotes included.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string can be written to memory");
}

/// Appends a value, compact.
pub fn write_value(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a value can be written to memory");
}

/// Appends well-formed JSON without the white space between its tokens.
pub(crate) fn write_compact(json: &str, out: &mut Vec<u8>) {
    out.reserve(json.len());
    each_token(json, |token| out.extend_from_slice(token));
}

/// The length of what [`write_compact`] appends.
pub(crate) fn compact_bytes(json: &str) -> usize {
    let mut count = 0;
    each_token(json, |token| count += token.len());
    count
}

/// Calls back with the pieces of well-formed JSON between white space.
fn each_token(json: &str, mut take: impl FnMut(&[u8])) {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    if !json.as_bytes().iter().any(is_space) {
        return take(json.as_bytes());
    }
    let mut bytes = json.as_bytes().iter();
    while let rest @ [first, ..] = bytes.as_slice() {
        bytes.next();
        if *first == b'"' {
            skip_string(&mut bytes);
        }
        if !is_space(first) {
            take(&rest[..rest.len() - bytes.as_slice().len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_containers() {
        for (json, expected) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a":[{"b":"[[[\"{{"}]}"#, 3),
            (r#""\\"[]"#, 1),
            ("]]][", 1),
        ] {
            assert_eq!(depth(json.as_bytes()), expected, "{json}");
        }
        let nested = |count| "[".repeat(count) + &"]".repeat(count);
        for count in [1, 126, 127, DEPTH_MAX] {
            let value = parse(nested(count).as_bytes()).unwrap();
            assert_eq!(depth_of(&value), count);
        }
        assert_eq!(parse(nested(129).as_bytes()), Err(too_deep()));
        assert_eq!(parse("[".repeat(1_000_000).as_bytes()), Err(too_deep()));
    }

    #[test]
    fn bad_json_is_malformed_and_a_wrong_shape_invalid() {
        for json in [
            "{",
            "nul",
            "{}x",
            "\u{0}",
            "[1,]",
            r#"{"a":1e999}"#,
            r#""\ud800""#,
        ] {
            let refusal = parse(json.as_bytes()).unwrap_err();
            assert!(matches!(refusal, Refusal::Malformed(_)), "{json}");
        }
        assert!(parse(b"\"\xff\"").is_err());
        for json in ["[]", "1", "null", "\"{}\""] {
            let refusal = parse_object(json.as_bytes()).unwrap_err();
            assert!(matches!(refusal, Refusal::Invalid(_)), "{json}");
        }
        assert_eq!(parse_object(b" \n"), Ok(Map::new()));
    }

    #[test]
    fn what_strict_readers_refuse_is_not_passed_on() {
        for json in [
            r#""\ud83d\ude00 \u00e9 \\ud800 \"""#,
            "[1e308,-1E-999,0.5e+3,1234567890,-0]",
            r#"{"1e999":"9e999"}"#,
        ] {
            assert_eq!(examine(json), Ok(()), "{json}");
            assert!(parse(json.as_bytes()).is_ok(), "{json}");
        }
        let long = "9".repeat(400);
        for json in [
            r#""\ud83d""#,
            r#""\ude00\ud83d""#,
            r#""\ud83dx""#,
            r#""\ud83d\u0041""#,
            "[-1e999]",
            &long,
        ] {
            assert!(examine(json).is_err(), "{json}");
            assert!(parse(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn compact_copies_keep_strings_whole() {
        let mut out = Vec::new();
        write_compact("{ \"a b\" :\t[ 1 ,\r\n\"\\\" \\\\\" ] }", &mut out);
        assert_eq!(out, br#"{"a b":[1,"\" \\"]}"#);
    }
}
