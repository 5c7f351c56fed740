//! What a check comes to.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Could be better; nothing goes wrong.
    Notice,
    /// Will show under load, or when something else fails.
    Warning,
    /// What is configured cannot be had, or is dangerous.
    Error,
}

impl Severity {
    /// One word, for people and for programs.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// What a check comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be; says what it is.
    Fine(String),
    /// Something to do.
    Found {
        /// How bad.
        severity: Severity,
        /// What is so.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The host does not say, or it does not apply; says why.
    Unknown(String),
}

impl Verdict {
    pub(super) fn fine(what: impl fmt::Display) -> Verdict {
        Verdict::Fine(what.to_string())
    }

    pub(super) fn unknown(why: impl fmt::Display) -> Verdict {
        Verdict::Unknown(why.to_string())
    }

    pub(super) fn notice(what: impl fmt::Display, remedy: impl fmt::Display) -> Verdict {
        Verdict::found(Severity::Notice, what, remedy)
    }

    pub(super) fn warning(what: impl fmt::Display, remedy: impl fmt::Display) -> Verdict {
        Verdict::found(Severity::Warning, what, remedy)
    }

    pub(super) fn error(what: impl fmt::Display, remedy: impl fmt::Display) -> Verdict {
        Verdict::found(Severity::Error, what, remedy)
    }

    fn found(severity: Severity, what: impl fmt::Display, remedy: impl fmt::Display) -> Verdict {
        Verdict::Found {
            severity,
            what: what.to_string(),
            remedy: remedy.to_string(),
        }
    }
}
