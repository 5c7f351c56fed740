//! What came of a request, as an HTTP answer: the status and the body in the dialect of whoever
//! asked. Meaning is decided elsewhere; here is only how it is written.

use super::call::{Done, Outcome};
use super::metrics;
use super::parts::NEXT;
use super::routes::{Endpoint, Family, Route};
use crate::{DeviceId, DeviceSubscription, Dialect};
use meshblu::{Kind, Refusal, json};
use std::borrow::Cow;

/// The media type of all bodies that this file writes.
pub(crate) const JSON: &str = "application/json";

/// An answer, ready to be framed.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Its media type; none if there is no body.
    pub content_type: Option<&'static str>,
    /// Further headers.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// With a JSON body.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            content_type: Some(JSON),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// 204.
    pub fn empty() -> Answer {
        Answer {
            status: 204,
            content_type: None,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// An error with a text for people.
    pub fn error(status: u16, text: &str) -> Answer {
        Answer::json(status, http::json_error(text))
    }

    /// With one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }
}

/// How answers to a route are written on a listener of this dialect.
pub(crate) fn style(route: &Route, dialect: Dialect) -> Dialect {
    match route.family {
        Family::Both => dialect,
        Family::Freshblu => Dialect::Freshblu,
        Family::Meshblu => Dialect::Meshblu,
    }
}

/// The answer to a request of `route`. Refused credentials are the listener's `dialect`'s matter
/// whosever route it is.
pub(crate) fn answer(route: &Route, has_body: bool, outcome: Outcome, dialect: Dialect) -> Answer {
    match outcome {
        Err(refusal) => refused(&refusal, dialect),
        Ok(Done::Status { counters }) if route.endpoint == Endpoint::Metrics => {
            metrics::answer(&counters)
        }
        Ok(done) => {
            let next = match &done {
                Done::Devices { next, .. } | Done::Subscriptions { next, .. } => *next,
                _ => None,
            };
            let answer = match style(route, dialect) {
                Dialect::Freshblu => freshblu(route.endpoint, has_body, done),
                Dialect::Meshblu => meshblu(route, done),
            };
            match next {
                // Clients expect an array, which has no place for it.
                Some(next) => answer.with(NEXT, next.to_string()),
                None => answer,
            }
        }
    }
}

/// The answer to a request that is not served.
pub(crate) fn refused(refusal: &Refusal, dialect: Dialect) -> Answer {
    if *refusal == Refusal::Unauthorized && dialect == Dialect::Meshblu {
        return Answer::json(403, "null");
    }
    let mut body = Vec::new();
    refusal.write_json(&mut body);
    let answer = Answer::json(refusal.status(), body);
    match refusal {
        Refusal::Unauthorized => answer.with(
            "WWW-Authenticate",
            "Basic realm=\"meshblu\", charset=\"UTF-8\"",
        ),
        Refusal::RateLimited { retry_after_s } => {
            answer.with("Retry-After", retry_after_s.to_string())
        }
        Refusal::Busy => answer.with("Retry-After", "1"),
        _ => answer,
    }
}

/// As FreshBlu answers: every success is 200.
fn freshblu(endpoint: Endpoint, has_body: bool, done: Done) -> Answer {
    match done {
        Done::Authenticated { .. } if endpoint == Endpoint::Authenticate && !has_body => {
            Answer::empty()
        }
        Done::Updated {
            is_operators: true, ..
        } => Answer::empty(),
        Done::Updated { view, .. } => Answer::json(200, view),
        Done::Claimed { view } => Answer::json(200, view),
        Done::Sent => Answer::json(200, r#"{"sent":true}"#),
        Done::Subscribed(subscription) => {
            let mut body = Vec::new();
            write_subscription(&subscription, &mut body);
            Answer::json(200, body)
        }
        Done::Unsubscribed => Answer::json(200, r#"{"deleted":true}"#),
        Done::Token {
            device,
            token,
            created,
            ..
        } => {
            let created = match endpoint {
                Endpoint::ResetToken => String::new(),
                _ => format!(",\"createdAt\":\"{}\"", created.rfc3339()),
            };
            Answer::json(
                200,
                format!("{{\"uuid\":\"{device}\",\"token\":\"{token}\"{created}}}"),
            )
        }
        Done::Revoked { count: 0 } => refused(&Refusal::NotFound, Dialect::Freshblu),
        Done::Revoked { .. } => Answer::json(200, r#"{"revoked":true}"#),
        Done::Status { counters } => Answer::json(
            200,
            format!(
                "{{\"meshblu\":true,\"version\":\"2.0.0\",\"online\":true,\
                 \"connections\":{},\"engine\":\"meshring\"}}",
                counters.devices_online
            ),
        ),
        other => shared(200, other),
    }
}

/// As the original answers: 201 for what is new, 204 where nothing is to be said.
fn meshblu(route: &Route, done: Done) -> Answer {
    match (route.endpoint, done) {
        (Endpoint::Authenticate, Done::Authenticated { .. }) => Answer::empty(),
        (Endpoint::AuthenticateDevice, Done::Authenticated { device }) => Answer::json(
            200,
            format!("{{\"uuid\":\"{device}\",\"authentication\":true}}"),
        ),
        (Endpoint::FindAndUpdate, Done::Updated { before, .. }) => Answer::json(200, before),
        // The first version of these routes wraps what it finds.
        (Endpoint::Get, Done::Device { view }) if !is_versioned(route) => {
            Answer::json(200, wrapped(&[view]))
        }
        (Endpoint::List | Endpoint::MyDevices, Done::Devices { views, .. })
            if !is_versioned(route) =>
        {
            Answer::json(200, wrapped(&views))
        }
        (_, Done::Token { device, token, .. }) if route.endpoint == Endpoint::ResetToken => {
            Answer::json(
                200,
                format!("{{\"uuid\":\"{device}\",\"token\":\"{token}\"}}"),
            )
        }
        (
            _,
            Done::Token {
                device,
                token,
                options,
                ..
            },
        ) => {
            let comma = if options.is_empty() { "" } else { "," };
            Answer::json(
                201,
                format!("{{{options}{comma}\"uuid\":\"{device}\",\"token\":\"{token}\"}}"),
            )
        }
        (_, Done::Registered { view, .. }) => Answer::json(201, view),
        (
            _,
            Done::Updated { .. }
            | Done::Claimed { .. }
            | Done::Sent
            | Done::Subscribed(_)
            | Done::Unsubscribed
            | Done::Revoked { .. },
        ) => Answer::empty(),
        (_, Done::Status { .. }) => Answer::json(200, r#"{"meshblu":"online"}"#),
        (_, other) => shared(200, other),
    }
}

fn is_versioned(route: &Route) -> bool {
    route.path.starts_with("/v")
}

/// What both write in one way.
fn shared(status: u16, done: Done) -> Answer {
    match done {
        Done::Authenticated { device } | Done::Unregistered { device } => {
            Answer::json(status, uuid_object(device))
        }
        Done::Registered { view, .. } | Done::Device { view } => Answer::json(status, view),
        Done::Devices { views, .. } => Answer::json(status, array(&views)),
        Done::Subscriptions { found, .. } => {
            let mut body = vec![b'['];
            for (at, subscription) in found.iter().enumerate() {
                if at > 0 {
                    body.push(b',');
                }
                write_subscription(subscription, &mut body);
            }
            body.push(b']');
            Answer::json(status, body)
        }
        Done::Tokens { json } => Answer::json(status, json),
        Done::PublicKey { device, json } => Answer::json(
            status,
            format!("{{\"uuid\":\"{device}\",\"publicKey\":{json}}}"),
        ),
        other => unreachable!("written by each dialect for itself: {other:?}"),
    }
}

fn uuid_object(device: DeviceId) -> String {
    format!("{{\"uuid\":\"{device}\"}}")
}

/// Both families' words for the kind: FreshBlu's SDK reads `type` with dots, its server wrote
/// `subscriptionType` with a hyphen.
fn write_subscription(subscription: &DeviceSubscription, out: &mut Vec<u8>) {
    let kind = Kind::from_u8(subscription.kind).expect("only kinds are kept");
    let (emitter, subscriber) = (subscription.emitter, subscription.subscriber);
    let (dotted, hyphenated) = (kind.dotted(), kind.hyphenated());
    let text = format!(
        "{{\"emitterUuid\":\"{emitter}\",\"subscriberUuid\":\"{subscriber}\",\
         \"type\":\"{dotted}\",\"subscriptionType\":\"{hyphenated}\"}}"
    );
    out.extend_from_slice(text.as_bytes());
}

fn array(views: &[Vec<u8>]) -> Vec<u8> {
    let bytes: usize = views.iter().map(|view| view.len() + 1).sum();
    let mut out = Vec::with_capacity(bytes + 1);
    out.push(b'[');
    out.extend_from_slice(&views.join(&b','));
    out.push(b']');
    out
}

fn wrapped(views: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"{\"devices\":".to_vec();
    out.extend_from_slice(&array(views));
    out.push(b'}');
    out
}

/// A public key of the server's, or the lack of one.
pub(crate) fn server_key(key: Option<&str>) -> Answer {
    let mut body = b"{\"publicKey\":".to_vec();
    match key {
        Some(key) => json::write_string(key, &mut body),
        None => body.extend_from_slice(b"null"),
    }
    body.push(b'}');
    Answer::json(200, body)
}
