//! A value before it has a type: what a file, a variable or a flag says.

use std::fmt;

/// What a source says.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A variable or one use of a flag: a text whose type the key decides.
    Word(String),
    /// The bytes of a variable whose value is taken as it is.
    Bytes(Vec<u8>),
    /// A string in a file.
    Text(String),
    /// A number in a file.
    Number(i128),
    /// `true` or `false` in a file.
    Bool(bool),
    /// An array in a file, or all uses of a flag that may come several times.
    List(Vec<Raw>),
    /// A table in a file, in order of its keys.
    Table(Vec<(String, Raw)>),
    /// What no key takes; says what it is.
    Other(&'static str),
}

impl Raw {
    /// The text that it is, quoted or not.
    pub fn text(&self) -> Option<&str> {
        match self {
            Raw::Word(text) | Raw::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The parts of a list; a variable's parts are between commas.
    pub fn parts(&self) -> Option<Vec<Raw>> {
        match self {
            Raw::List(parts) => Some(parts.clone()),
            Raw::Word(text) => {
                let parts = text
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                Some(parts.map(|part| Raw::Word(part.to_owned())).collect())
            }
            _ => None,
        }
    }

    /// Whether a list of allowed words is written with quotation marks.
    pub fn is_of_a_file(&self) -> bool {
        !matches!(self, Raw::Word(_) | Raw::Bytes(_))
    }
}

impl fmt::Display for Raw {
    /// As it was written, or nearly.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raw::Word(text) => out.write_str(text),
            Raw::Bytes(bytes) => write!(out, "{} bytes", bytes.len()),
            Raw::Text(text) => out.write_str(&toml_text(text)),
            Raw::Number(number) => number.fmt(out),
            Raw::Bool(value) => value.fmt(out),
            Raw::List(parts) => {
                let parts: Vec<String> = parts.iter().map(Raw::to_string).collect();
                write!(out, "[{}]", parts.join(", "))
            }
            Raw::Table(entries) => {
                let entry = |(key, value): &(String, Raw)| format!("{} = {value}", toml_text(key));
                let entries: Vec<String> = entries.iter().map(entry).collect();
                write!(out, "{{ {} }}", entries.join(", "))
            }
            Raw::Other(what) => out.write_str(what),
        }
    }
}

/// A basic string of TOML.
pub fn toml_text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A value of JSON as TOML writes it; tables are in line. `null`, which TOML lacks, is an empty
/// text: no key has it.
pub fn toml_of(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => toml_text(text),
        Value::Array(parts) => {
            let parts: Vec<String> = parts.iter().map(toml_of).collect();
            format!("[{}]", parts.join(", "))
        }
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Object(entries) => {
            let entry =
                |(key, value): (&String, &Value)| format!("{} = {}", toml_key(key), toml_of(value));
            let entries: Vec<String> = entries.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

fn toml_key(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(is_bare) {
        true => key.to_owned(),
        false => toml_text(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_toml_is_read_again() {
        for text in [
            "",
            "plain",
            "a \"b\" \\ c",
            "line\nline\ttab\r",
            "\u{7f}\u{1}",
            "ü€",
        ] {
            let line = format!("key = {}", toml_text(text));
            let table = toml::de::DeTable::parse(&line).unwrap();
            let value = table.get_ref().get("key").unwrap();
            assert_eq!(value.get_ref().as_str(), Some(text), "{line}");
        }
        let value = serde_json::json!({"a b": [1, true, "x"], "c": {"d/": "e"}, "f": {}});
        let line = toml_of(&value);
        assert_eq!(
            line,
            r#"{ "a b" = [1, true, "x"], c = { "d/" = "e" }, f = {} }"#
        );
    }

    #[test]
    fn variables_have_commas_between_parts() {
        let parts = Raw::Word("a, b,,c".to_owned()).parts().unwrap();
        let texts: Vec<&str> = parts.iter().filter_map(Raw::text).collect();
        assert_eq!(texts, ["a", "b", "c"]);
        assert_eq!(Raw::Word(String::new()).parts(), Some(Vec::new()));
        assert_eq!(Raw::Text("a,b".to_owned()).parts(), None);
    }
}
