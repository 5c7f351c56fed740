//! Writes JSON to stdout as it came from the server: keys in its order, numbers with all digits;
//! only the white space between is ours.

use crate::arguments::Format;
use crate::failure::Failure;
use serde::de::IgnoredAny;
use std::io::Write;

/// Writes `text`, one JSON value, and a line end; nothing at all if it is empty, as some answers
/// are.
pub fn show(text: &str, format: Format) -> Result<(), Failure> {
    if text.is_empty() {
        return Ok(());
    }
    let mut line = spaced(text, format)?;
    line.push('\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    // A reader at the other end of a pipe wants each event when it comes.
    stdout.flush()?;
    Ok(())
}

/// `text` with other white space.
fn spaced(text: &str, format: Format) -> Result<String, Failure> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
        let why = format!("the answer is no JSON ({error}); is there another server?");
        Failure::Nonsense(why)
    })?;
    let mut spaced = String::with_capacity(text.len());
    let mut depth = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\n' | '\r' | '\t' => {}
            '"' => {
                spaced.push('"');
                while let Some(inside) = characters.next() {
                    spaced.push(inside);
                    match inside {
                        '\\' => spaced.extend(characters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            _ if format == Format::Json => spaced.push(character),
            '{' | '[' => {
                spaced.push(character);
                while characters
                    .next_if(|next| next.is_ascii_whitespace())
                    .is_some()
                {}
                match characters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => spaced.push(end),
                    None => {
                        depth += 1;
                        start_line(&mut spaced, depth);
                    }
                }
            }
            '}' | ']' => {
                depth -= 1;
                start_line(&mut spaced, depth);
                spaced.push(character);
            }
            ',' => {
                spaced.push(',');
                start_line(&mut spaced, depth);
            }
            ':' => spaced.push_str(": "),
            _ => spaced.push(character),
        }
    }
    Ok(spaced)
}

fn start_line(text: &mut String, depth: usize) {
    text.push('\n');
    for _ in 0..depth {
        text.push_str("  ");
    }
}

/// `text` as one line that does nothing to a terminal, and is not endless.
pub fn harmless(text: &str) -> String {
    const CHARACTERS_MAX: usize = 500;
    let printable = text.chars().map(|character| match character {
        character if character.is_control() => ' ',
        character => character,
    });
    printable.take(CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indented_as_serde_does() {
        for text in [
            r#"{"b":1,"a":[1,{"x":null}],"":{}, "e" : [ ] ,"s":"a \"{[,:]}\" \\"}"#,
            "[]",
            " [ { } , [ [ ] ] ]\r\n",
            "\"text\"",
            "-1.5e3",
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let pretty = spaced(text, Format::Pretty).unwrap();
            let again: serde_json::Value = serde_json::from_str(&pretty).unwrap();
            assert_eq!(again, value);
            let compact = spaced(text, Format::Json).unwrap();
            assert_eq!(spaced(&pretty, Format::Json).unwrap(), compact);
            assert!(!compact.contains('\n'));
        }
        let pretty = spaced(r#"{"b":1,"a":[1,{}]}"#, Format::Pretty).unwrap();
        assert_eq!(pretty, "{\n  \"b\": 1,\n  \"a\": [\n    1,\n    {}\n  ]\n}");
    }

    #[test]
    fn numbers_and_order_are_those_of_the_server() {
        let text = r#"{"z":12345678901234567890123,"a":1.10,"z":2}"#;
        assert_eq!(spaced(text, Format::Json).unwrap(), text);
    }

    #[test]
    fn what_is_no_json_is_not_shown() {
        for text in ["<html>", "{", "{} {}", "nul"] {
            assert!(spaced(text, Format::Pretty).is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_cannot_write_to_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc\u{9b}d"), "a [2Jb c d");
        assert_eq!(harmless(&"x".repeat(600)).len(), 500);
    }
}
