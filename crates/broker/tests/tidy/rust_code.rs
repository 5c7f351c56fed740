//! Rust source with the contents of comments and literals blanked out, so that a rule about code
//! does not trip over a sentence about code. Lines keep their numbers.

/// `source` with every character of comments, strings and character literals replaced by a space.
pub fn code_of(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let length = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => until(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment(bytes, at),
            b'"' => string(bytes, at),
            b'r' if is_raw_string(bytes, at) => raw_string(bytes, at),
            b'\'' => character(bytes, at),
            _ => 0,
        };
        if length == 0 {
            code.push(bytes[at]);
            at += 1;
            continue;
        }
        let blanked = bytes[at..at + length].iter();
        code.extend(blanked.map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }));
        at += length;
    }
    String::from_utf8(code).expect("whole characters were replaced, byte by byte, by spaces")
}

/// The numbers (from 1) of the lines of `code` that lie in an item marked `#[cfg(test)]`.
pub fn lines_of_tests(code: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut depth = 0_usize;
    // The depth outside the marked item, once its brace has opened.
    let mut marked_at: Option<usize> = None;
    let mut is_pending = false;
    for (index, line) in code.lines().enumerate() {
        if marked_at.is_none() && line.contains("#[cfg(test)]") {
            is_pending = true;
        }
        if is_pending || marked_at.is_some() {
            lines.push(index + 1);
        }
        for character in line.chars() {
            match character {
                '{' => {
                    if is_pending {
                        (marked_at, is_pending) = (Some(depth), false);
                    }
                    depth += 1;
                }
                '}' => {
                    depth = depth.saturating_sub(1);
                    if marked_at == Some(depth) {
                        marked_at = None;
                    }
                }
                // `#[cfg(test)] mod tests;`: the item ends here.
                ';' => is_pending = false,
                _ => {}
            }
        }
    }
    lines
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
pub fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part)
    })
}

/// The distance to the next `end`, or to the end of the file.
fn until(bytes: &[u8], at: usize, end: &[u8]) -> usize {
    let rest = &bytes[at..];
    rest.windows(end.len())
        .position(|window| window == end)
        .unwrap_or(rest.len())
}

fn block_comment(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0;
    let mut end = at;
    while end < bytes.len() {
        if bytes[end..].starts_with(b"/*") {
            depth += 1;
            end += 2;
        } else if bytes[end..].starts_with(b"*/") {
            depth -= 1;
            end += 2;
            if depth == 0 {
                break;
            }
        } else {
            end += 1;
        }
    }
    end.min(bytes.len()) - at
}

fn string(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != b'"' {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len()) - at
}

fn is_raw_string(bytes: &[u8], at: usize) -> bool {
    // `br"` is one too; any other letter before makes the `r` the end of a name.
    let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
    let is_name = (before.is_ascii_alphanumeric() || before == b'_') && before != b'b';
    let after = bytes[at + 1..].iter().find(|&&byte| byte != b'#');
    !is_name && after == Some(&b'"')
}

fn raw_string(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..]
        .iter()
        .take_while(|&&byte| byte == b'#')
        .count();
    let mut end = vec![b'"'];
    end.extend(std::iter::repeat_n(b'#', hashes));
    let body = at + hashes + 2;
    (body + until(bytes, body, &end) + end.len()).min(bytes.len()) - at
}

/// The length of a character literal, or 0 for a lifetime.
fn character(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at + 1) == Some(&b'\\') {
        // The escaped character may itself be a quote.
        return 3 + until(bytes, at + 3, b"'") + 1;
    }
    let longest_character = 4;
    let body = &bytes[at + 1..bytes.len().min(at + 2 + longest_character)];
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or(""),
    };
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(character), Some('\'')) => character.len_utf8() + 2,
        _ => 0,
    }
}

#[test]
fn comments_and_literals_are_blanked() {
    for (source, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("a(\"b\\\"c\")", "a(      )"),
        ("a(r#\"b\"c\"#) d", "a(        ) d"),
        ("a(br\"b\\\") c", "a(b     ) c"),
        (
            "for<'a> x('\\'', '\"', b'\\\\', 'é')",
            "for<'a> x(    ,    , b    ,     )",
        ),
        ("\"unterminated", "             "),
    ] {
        assert_eq!(code_of(source), code, "{source}");
    }
}

#[test]
fn test_modules_are_found() {
    let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod d;\nfn e() {}";
    assert_eq!(lines_of_tests(code), [2, 3, 4, 5, 7, 8]);
}
