//! Answers of the admin API: JSON, and failures that say what was wrong.

use super::console::Unanswered;
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use shard::console::{ROWS_MAX, Report};
use shard::{ShardId, Time};
use std::fmt;

/// Rows of a list, unless the request says otherwise.
const LIMIT_DEFAULT: u32 = 100;

/// What a request came to.
pub type Answer = Result<Json<Value>, Failure>;

/// Why a request was not carried out: a status, and `{"error": …}`.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    status: StatusCode,
    what: String,
}

impl Failure {
    /// With words for people.
    pub fn new(status: StatusCode, what: impl Into<String>) -> Failure {
        let what = what.into();
        Failure { status, what }
    }

    /// The request makes no sense.
    pub fn wrong(what: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, what)
    }

    /// What it is about is not there.
    pub fn missing(what: impl Into<String>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, what)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.what }))).into_response()
    }
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, unanswered.to_string())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Failure {
        Failure::wrong(rejection.body_text())
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Failure {
        Failure::wrong(rejection.body_text())
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Failure {
        Failure::new(rejection.status(), rejection.body_text())
    }
}

/// A shard has answered another question than the one that was asked, which is a mistake of ours.
pub fn mistaken(report: &Report) -> Failure {
    let what = format!("a shard answers something else: {report:?}");
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, what)
}

/// How many rows are wanted, within what there may be.
pub fn limit(given: Option<u32>) -> Result<u32, Failure> {
    match given {
        None => Ok(LIMIT_DEFAULT),
        Some(limit @ 1..=ROWS_MAX) => Ok(limit),
        Some(_) => Err(Failure::wrong(format!("limit: 1 to {ROWS_MAX}"))),
    }
}

/// Where a list over all shards goes on: a shard, and what that shard said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The shard to ask next.
    pub shard: ShardId,
    /// Its own words; empty at its beginning.
    pub rest: String,
}

impl Cursor {
    /// Reads what a list has given as `next`, or begins.
    pub fn parse(given: Option<&str>) -> Result<Cursor, Failure> {
        let Some(given) = given else {
            let (shard, rest) = (ShardId(0), String::new());
            return Ok(Cursor { shard, rest });
        };
        let wrong = || Failure::wrong("after: not what a list has given as `next`");
        let (shard, rest) = given.split_once('.').ok_or_else(wrong)?;
        let shard = ShardId(shard.parse().map_err(|_| wrong())?);
        let rest = rest.to_owned();
        Ok(Cursor { shard, rest })
    }

    /// As a number; 0 at the beginning.
    pub fn number(&self) -> Result<u32, Failure> {
        if self.rest.is_empty() {
            return Ok(0);
        }
        let wrong = |_| Failure::wrong("after: not what a list has given as `next`");
        self.rest.parse().map_err(wrong)
    }

    /// The number behind a mark.
    pub fn number_behind(&self, mark: &str) -> Result<u32, Failure> {
        let wrong = || Failure::wrong("after: not what a list has given as `next`");
        let digits = self.rest.strip_prefix(mark).ok_or_else(wrong)?;
        digits.parse().map_err(|_| wrong())
    }

    /// The beginning of the next shard.
    pub fn advance(&mut self) {
        self.shard.0 += 1;
        self.rest.clear();
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.shard.0, self.rest)
    }
}

/// A moment, as RFC 3339 has it.
pub fn moment(time: Time) -> String {
    meshblu::Timestamp(time.0).rfc3339()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for text in ["0.", "3.17", "127.a/b.c"] {
            assert_eq!(Cursor::parse(Some(text)).unwrap().to_string(), text);
        }
        for nonsense in ["", "x", ".", "17", "-1.0", "70000.1"] {
            assert!(Cursor::parse(Some(nonsense)).is_err(), "{nonsense}");
        }
        assert!(Cursor::parse(Some("0.x")).unwrap().number().is_err());
        assert_eq!(Cursor::parse(None).unwrap().number(), Ok(0));
    }

    #[test]
    fn limits_have_bounds() {
        assert_eq!(limit(None), Ok(LIMIT_DEFAULT));
        assert_eq!(limit(Some(1_000)), Ok(1_000));
        assert!(limit(Some(0)).is_err() && limit(Some(1_001)).is_err());
    }

    #[test]
    fn moments_are_readable() {
        assert_eq!(
            moment(Time(1_700_000_000_000_000)),
            "2023-11-14T22:13:20.000000Z"
        );
    }
}
