//! Why a request is not served, with the status and the text that FreshBlu gives.

use std::borrow::Cow;
use std::fmt;

use crate::json;

/// A request that is not served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Not JSON at all, or nested too deeply: 400.
    Malformed(String),
    /// JSON of the wrong shape: 422.
    Invalid(String),
    /// No such device, or none that the actor may see: 404.
    NotFound,
    /// Not allowed: 403.
    Forbidden,
    /// Credentials are missing or wrong: 401.
    Unauthorized,
    /// A message or a document above its limit: 413.
    TooLarge,
    /// Too many requests: 429.
    RateLimited {
        /// Seconds until the next is served.
        retry_after_s: u32,
    },
    /// A limit of ours is reached; the same request may succeed later: 503.
    Busy,
    /// What should be made is there already: 409.
    Conflict,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Malformed(_) => 400,
            Refusal::Unauthorized => 401,
            Refusal::Forbidden => 403,
            Refusal::NotFound => 404,
            Refusal::Conflict => 409,
            Refusal::TooLarge => 413,
            Refusal::Invalid(_) => 422,
            Refusal::RateLimited { .. } => 429,
            Refusal::Busy => 503,
        }
    }

    /// What the client is told; nothing internal.
    pub fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Refusal::Malformed(detail) => return format!("invalid JSON: {detail}").into(),
            Refusal::Invalid(detail) => return format!("validation error: {detail}").into(),
            Refusal::NotFound => "device not found",
            Refusal::Forbidden => "forbidden",
            Refusal::Unauthorized => "unauthorized",
            Refusal::TooLarge => "message too large",
            Refusal::RateLimited { .. } => "rate limit exceeded",
            Refusal::Busy => "busy",
            Refusal::Conflict => "device already exists",
        })
    }

    /// Appends `{"error":"…"}`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"error\":");
        json::write_string(&self.text(), out);
        out.push(b'}');
    }

    /// An [`Refusal::Invalid`] with this detail.
    pub fn invalid(detail: impl Into<String>) -> Refusal {
        Refusal::Invalid(detail.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_freshblus() {
        for (refusal, status, text) in [
            (Refusal::NotFound, 404, "device not found"),
            (Refusal::Forbidden, 403, "forbidden"),
            (Refusal::Unauthorized, 401, "unauthorized"),
            (Refusal::Conflict, 409, "device already exists"),
            (Refusal::invalid("a"), 422, "validation error: a"),
            (Refusal::TooLarge, 413, "message too large"),
            (
                Refusal::RateLimited { retry_after_s: 3 },
                429,
                "rate limit exceeded",
            ),
        ] {
            assert_eq!((refusal.status(), &*refusal.text()), (status, text));
        }
        let mut out = Vec::new();
        Refusal::invalid("a \"quoted\" word").write_json(&mut out);
        assert_eq!(out, br#"{"error":"validation error: a \"quoted\" word"}"#);
    }
}
