//! What an HTTP request asks: its head and body become a [`Call`], or something that this shard
//! answers by itself.
//!
//! Credentials come first: who shows none is told that, whatever else is wrong with the request.

use super::answers::{Answer, refused, style};
use super::call::{Actor, Call, Op, SubscriptionOf, Way};
use super::live::Transport;
use super::parts::Part;
use super::routes::{Endpoint, Found, Route, find};
use crate::{ConnectionId, DeviceId, Dialect};
use http::{Credentials, Head};
use meshblu::{Kind, Query, Refusal, json};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A request whose head has been read.
#[derive(Debug)]
pub(crate) struct Request {
    /// The row that it matches.
    pub route: &'static Route,
    /// The values of the row's parameters, in order.
    parameters: Vec<Box<str>>,
    /// What stands behind the question mark, without credentials.
    query: Vec<Pair>,
    actor: Actor,
    acting_as: Option<DeviceId>,
    /// The body is a form, not JSON.
    is_form: bool,
    is_head: bool,
}

/// A name and a value.
type Pair = (Box<str>, Box<str>);

/// What is to be done for a request.
#[derive(Debug)]
pub(crate) enum Plan {
    /// The owners of devices are asked.
    Call(Box<Call>),
    /// This shard knows by itself.
    Here,
}

impl Request {
    /// Reads a head; errs with the answer to a request that cannot be served.
    pub fn read(head: &Head<'_>, dialect: Dialect) -> Result<Request, Answer> {
        let malformed = |error: http::TargetError| Answer::error(error.status(), error.message());
        let segments = http::segments(head.path()).map_err(malformed)?;
        let (route, parameters) = match find(head.method, &segments) {
            Found::Route(route, parameters) => (route, parameters),
            Found::OtherMethods(allow) => {
                return Err(Answer::error(405, "method not allowed").with("Allow", allow));
            }
            Found::Nothing => return Err(Answer::error(404, "not found")),
        };
        let pairs = http::pairs(head.query()).map_err(malformed)?;
        let (actor, query) = actor_of(head, pairs);
        if needs_credentials(route.endpoint) && matches!(actor, Actor::Nobody | Actor::Malformed) {
            return Err(refused(&Refusal::Unauthorized, dialect));
        }
        if head
            .header("content-encoding")
            .is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
        {
            let answer = Answer::error(415, "request bodies must not be compressed");
            return Err(answer.with("Accept-Encoding", "identity"));
        }
        let acting_as = match head.header("x-meshblu-as").filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(DeviceId::parse(text).ok_or_else(|| {
                refused(&Refusal::invalid("x-meshblu-as is not a uuid"), dialect)
            })?),
        };
        let is_form = head.header("content-type").is_some_and(|media| {
            let media = media.split(';').next().unwrap_or("").trim_ascii();
            media.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        Ok(Request {
            route,
            parameters: parameters.iter().map(|text| (**text).into()).collect(),
            query,
            actor,
            acting_as,
            is_form,
            is_head: head.method == "HEAD",
        })
    }

    /// What is to be done, now that the body is there; errs with the answer if it makes no sense.
    pub fn plan(
        self,
        connection: ConnectionId,
        body: Vec<u8>,
        dialect: Dialect,
    ) -> Result<Plan, Answer> {
        let acting_as = self.acting_as;
        match self.op(connection, body, dialect) {
            Ok(Some((actor, op))) => Ok(Plan::Call(Box::new(Call {
                actor,
                acting_as,
                op,
            }))),
            Ok(None) => Ok(Plan::Here),
            Err(Wrong::Refused(refusal)) => Err(refused(&refusal, dialect)),
            Err(Wrong::Uuid) => Err(Answer::error(400, "invalid uuid")),
        }
    }

    fn op(
        mut self,
        connection: ConnectionId,
        body: Vec<u8>,
        dialect: Dialect,
    ) -> Result<Option<(Actor, Op)>, Wrong> {
        let endpoint = self.route.endpoint;
        let op = match endpoint {
            Endpoint::Healthcheck
            | Endpoint::ServerKey
            | Endpoint::OpenApi
            | Endpoint::Address
            | Endpoint::Socket => return Ok(None),
            Endpoint::Status | Endpoint::Metrics => Op::Status,
            Endpoint::Authenticate => {
                self.take_credentials_of(&body)?;
                Op::Authenticate
            }
            Endpoint::AuthenticateDevice => {
                self.take_credentials_of_target()?;
                Op::Authenticate
            }
            // Nothing of a stream can be shown by HEAD.
            Endpoint::Stream if self.is_head => Op::Authenticate,
            Endpoint::Stream => Op::Listen {
                connection,
                transport: Transport::EventStream,
            },
            Endpoint::Whoami => Op::Whoami,
            Endpoint::List => Op::Search {
                part: self.part()?,
                query: Arc::new(Query::from_pairs(self.query())?),
            },
            Endpoint::Search => Op::Search {
                part: self.part()?,
                query: Arc::new(Query::parse(&body)?),
            },
            Endpoint::MyDevices => {
                let part = self.part()?;
                let query = match self.query.is_empty() {
                    true => None,
                    false => Some(Arc::new(Query::from_pairs(self.query())?)),
                };
                let with_self = style(self.route, dialect) == Dialect::Freshblu;
                Op::MyDevices {
                    query,
                    with_self,
                    part,
                }
            }
            Endpoint::Register => Op::Register {
                body: self.document(body)?,
            },
            Endpoint::Message => Op::Message {
                body: self.document(body)?,
            },
            Endpoint::Broadcast => Op::Broadcast {
                body: self.document(body)?,
            },
            Endpoint::Put | Endpoint::Patch | Endpoint::FindAndUpdate => Op::Update {
                device: self.device()?,
                way: self.way(dialect),
                body: self.document(body)?,
            },
            Endpoint::SearchTokens => Op::SearchTokens {
                tag: text_in(&json::parse_object(&body)?, "tag")?,
            },
            _ => self.op_on_device(body)?,
        };
        Ok(Some((self.actor, op)))
    }

    /// Requests about the device that the path names.
    fn op_on_device(&mut self, body: Vec<u8>) -> Result<Op, Wrong> {
        let device = self.device()?;
        Ok(match self.route.endpoint {
            Endpoint::Get => Op::Get { device },
            Endpoint::Unregister => Op::Unregister { device },
            Endpoint::Claim => Op::Claim { device },
            Endpoint::DeviceKey => Op::PublicKey { device },
            Endpoint::Subscriptions => Op::Subscriptions {
                subscriber: device,
                part: self.part()?,
            },
            Endpoint::Subscribe => {
                let body = json::parse_object(&body)?;
                Op::Subscribe(SubscriptionOf {
                    subscriber: device,
                    emitter: device_in(&body, "emitterUuid")?.ok_or_else(|| {
                        Refusal::invalid("emitterUuid required") //
                    })?,
                    kind: kind_in(&body)?.ok_or_else(|| Refusal::invalid("type required"))?,
                })
            }
            Endpoint::SubscribeTo => {
                let (emitter, kind) = self.emitter_and_kind()?;
                Op::Subscribe(SubscriptionOf {
                    subscriber: device,
                    emitter,
                    kind,
                })
            }
            Endpoint::Unsubscribe => {
                let (emitter, kind) = self.emitter_and_kind()?;
                Op::Unsubscribe {
                    subscriber: device,
                    emitter: Some(emitter),
                    kind: Some(kind),
                }
            }
            Endpoint::UnsubscribeAll => {
                let body = json::parse_object(&body)?;
                Op::Unsubscribe {
                    subscriber: device,
                    emitter: device_in(&body, "emitterUuid")?,
                    kind: kind_in(&body)?,
                }
            }
            Endpoint::GenerateToken => Op::GenerateToken {
                device,
                body: self.document(body)?,
            },
            Endpoint::ResetToken => Op::ResetToken { device },
            Endpoint::RevokeToken => Op::RevokeToken {
                device,
                token: self.parameters[1].clone(),
            },
            Endpoint::RevokeTokens => Op::RevokeTokens {
                device,
                tag: self.tag_in_query()?,
            },
            other => unreachable!("not about a device in the path: {other:?}"),
        })
    }

    /// The device that the first parameter names.
    fn device(&self) -> Result<DeviceId, Wrong> {
        DeviceId::parse(&self.parameters[0]).ok_or(Wrong::Uuid)
    }

    fn emitter_and_kind(&self) -> Result<(DeviceId, Kind), Wrong> {
        let emitter = DeviceId::parse(&self.parameters[1]).ok_or(Wrong::Uuid)?;
        let kind = Kind::parse(&self.parameters[2]).ok_or_else(invalid_kind)?;
        Ok((emitter, kind))
    }

    fn way(&self, dialect: Dialect) -> Way {
        match (self.route.endpoint, style(self.route, dialect)) {
            (Endpoint::Patch, _) => Way::Merge,
            (Endpoint::FindAndUpdate, _) => Way::Operators,
            (_, Dialect::Freshblu) => Way::Put,
            (_, Dialect::Meshblu) if self.route.path.starts_with("/v2") => Way::Operators,
            (_, Dialect::Meshblu) => Way::Merge,
        }
    }

    /// How much of a list is asked for; what says so is no property to look for.
    fn part(&mut self) -> Result<Part, Refusal> {
        let mut take = |name: &str| {
            let at = self.query.iter().position(|(known, _)| &**known == name);
            at.map(|at| self.query.remove(at).1)
        };
        let (limit, after) = (take("limit"), take("after"));
        Part::read(limit.as_deref(), after.as_deref())
    }

    fn query(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The body as JSON. The oldest clients send forms, or everything in the target; and curl calls
    /// JSON a form unless it is told otherwise.
    fn document(&self, body: Vec<u8>) -> Result<Box<[u8]>, Refusal> {
        let is_json = body.trim_ascii_start().starts_with(b"{");
        if self.is_form && !is_json && !body.is_empty() {
            let malformed = || Refusal::invalid("malformed form");
            let text = std::str::from_utf8(&body).map_err(|_| malformed())?;
            let pairs = http::pairs(text).map_err(|_| malformed())?;
            return Ok(object_of(
                pairs.iter().map(|(name, value)| (&**name, &**value)),
            ));
        }
        if body.is_empty() && !self.query.is_empty() {
            return Ok(object_of(self.query()));
        }
        Ok(body.into())
    }

    /// A body with a UUID and a token counts more than the header.
    fn take_credentials_of(&mut self, body: &[u8]) -> Result<(), Wrong> {
        let body = json::parse_object(body)?;
        let (uuid, token) = (text_in(&body, "uuid")?, text_in(&body, "token")?);
        if uuid.is_none() && token.is_none() && !matches!(self.actor, Actor::Nobody) {
            return Ok(());
        }
        let uuid = uuid.ok_or_else(|| Refusal::invalid("uuid required"))?;
        let token = token.ok_or_else(|| Refusal::invalid("token required"))?;
        let device = DeviceId::parse(&uuid).ok_or_else(|| Refusal::invalid("invalid uuid"))?;
        self.actor = Actor::Claimed { device, token };
        Ok(())
    }

    fn take_credentials_of_target(&mut self) -> Result<(), Wrong> {
        let device = self.device()?;
        let token = self.query().find(|(name, _)| *name == "token");
        let token = token.ok_or_else(|| Refusal::invalid("token required"))?.1;
        let token = token.into();
        self.actor = Actor::Claimed { device, token };
        Ok(())
    }

    /// The tag that tokens are to be revoked by. Anything else in the query would not be heeded,
    /// and more would be revoked than was meant.
    fn tag_in_query(&self) -> Result<Option<Box<str>>, Refusal> {
        let mut tag = None;
        for (name, value) in self.query() {
            if name != "tag" {
                return Err(Refusal::invalid("tokens are revoked by tag alone"));
            }
            tag = Some(value.into());
        }
        Ok(tag)
    }
}

/// What can be wrong with a request.
enum Wrong {
    Refused(Refusal),
    /// A UUID in the path is none.
    Uuid,
}

impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Wrong {
        Wrong::Refused(refusal)
    }
}

fn needs_credentials(endpoint: Endpoint) -> bool {
    !matches!(
        endpoint,
        Endpoint::Status
            | Endpoint::Healthcheck
            | Endpoint::ServerKey
            | Endpoint::Metrics
            | Endpoint::OpenApi
            | Endpoint::Address
            | Endpoint::Authenticate
            | Endpoint::AuthenticateDevice
            | Endpoint::Register
            | Endpoint::DeviceKey
            | Endpoint::Socket
    )
}

/// Who asks, and the query without what says so: Meshblu's clients may name both there.
fn actor_of(head: &Head<'_>, pairs: Vec<http::Pair<'_>>) -> (Actor, Vec<Pair>) {
    let claimed = |uuid: &str, token: &str| match DeviceId::parse(uuid) {
        Some(device) => Actor::Claimed {
            device,
            token: token.into(),
        },
        None => Actor::Malformed,
    };
    let actor = match http::credentials(head) {
        Credentials::None => None,
        Credentials::Malformed => Some(Actor::Malformed),
        Credentials::Pair { uuid, token } => Some(claimed(&uuid, &token)),
    };
    let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted);
    let in_query = match (value("uuid"), value("token")) {
        (Some((_, uuid)), Some((_, token))) => Some(claimed(uuid, token)),
        _ => None,
    };
    let is_in_query = in_query.is_some();
    let query = pairs
        .iter()
        .filter(|(name, _)| !(is_in_query && (name == "uuid" || name == "token")))
        .map(|(name, value)| ((**name).into(), (**value).into()));
    (actor.or(in_query).unwrap_or(Actor::Nobody), query.collect())
}

fn object_of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Box<[u8]> {
    let mut object = Map::new();
    for (name, value) in pairs {
        object.insert(name.to_owned(), Value::from(value));
    }
    let text = serde_json::to_vec(&object).expect("text as JSON");
    text.into()
}

fn text_in(body: &Map<String, Value>, name: &str) -> Result<Option<Box<str>>, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str().into())),
        Some(_) => Err(Refusal::invalid(format!("{name} must be a string"))),
    }
}

fn device_in(body: &Map<String, Value>, name: &str) -> Result<Option<DeviceId>, Refusal> {
    match text_in(body, name)? {
        None => Ok(None),
        Some(text) => match DeviceId::parse(&text) {
            Some(device) => Ok(Some(device)),
            None => Err(Refusal::invalid(format!("{name} is not a uuid"))),
        },
    }
}

/// The kind of subscription, under either name.
fn kind_in(body: &Map<String, Value>) -> Result<Option<Kind>, Refusal> {
    let text = match text_in(body, "type")? {
        Some(text) => Some(text),
        None => text_in(body, "subscriptionType")?,
    };
    match text {
        None => Ok(None),
        Some(text) => Ok(Some(Kind::parse(&text).ok_or_else(invalid_kind)?)),
    }
}

fn invalid_kind() -> Refusal {
    Refusal::invalid("invalid subscription type")
}
