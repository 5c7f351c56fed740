//! What is wrong with a configuration, and where it is said.

use serde_json::{Value, json};
use std::fmt;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has said anything.
    Default,
    /// `--dev` makes it so.
    Dev,
    /// A line of a file.
    File {
        /// The file's name, as it was given.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => out.write_str("default"),
            Origin::Dev => out.write_str("default with --dev"),
            Origin::File { file, line } => write!(out, "{file}:{line}"),
            Origin::Variable(name) | Origin::Flag(name) => out.write_str(name),
        }
    }
}

impl Origin {
    /// For programs.
    pub fn to_json(&self) -> Value {
        match self {
            Origin::Default => json!({"kind": "default"}),
            Origin::Dev => json!({"kind": "dev"}),
            Origin::File { file, line } => json!({"kind": "file", "file": file, "line": line}),
            Origin::Variable(name) => json!({"kind": "variable", "name": name}),
            Origin::Flag(name) => json!({"kind": "flag", "name": name}),
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot be used.
    Error,
    /// It can be used, but perhaps not as it was meant.
    Warning,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where; of what nobody has said, the default is where.
    pub origin: Origin,
    /// What and why, for people.
    pub text: String,
}

impl Problem {
    /// What prevents a start.
    pub fn error(origin: Origin, text: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            origin,
            text: text.into(),
        }
    }

    /// What does not.
    pub fn warning(origin: Origin, text: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Warning,
            origin,
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    /// One line: where, and what.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.severity == Severity::Warning {
            out.write_str("warning: ")?;
        }
        match &self.origin {
            Origin::Default | Origin::Dev => out.write_str(&self.text),
            // The text begins with what it is set to.
            Origin::Variable(name) if self.text.starts_with('=') => {
                write!(out, "{name}{}", self.text)
            }
            origin => write!(out, "{origin}: {}", self.text),
        }
    }
}

/// The name that is nearest to what was written, if one is near.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| strsim::osa_distance(&written.to_lowercase(), &name.to_lowercase());
    let (name, distance) = known
        .into_iter()
        .map(|name| (name, distance(name)))
        .min_by_key(|(_, found)| *found)?;
    // A third of the letters may be wrong; and who leaves out or adds words is understood too.
    let is_near = distance * 3 <= name.chars().count().max(written.chars().count());
    let is_part = written.len() >= 4 && (name.contains(written) || written.contains(name));
    (is_near || is_part).then_some(name)
}

/// `; did you mean X?`, or nothing.
pub fn hint(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |name| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_found_and_what_is_far_is_not() {
        let known = ["listen", "queue_full", "queue_bytes_max", "rate_limit"];
        for (written, expected) in [
            ("lsiten", Some("listen")),
            ("Listen", Some("listen")),
            ("queue_bytes", Some("queue_bytes_max")),
            ("rate_limits", Some("rate_limit")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), expected, "{written}");
        }
        assert_eq!(nearest("a", []), None);
    }
}
