//! HTTP connections: requests one after the other, their answers in the same order.
//!
//! Always: a connection is at one request at a time; what else its client sends waits in
//! `partial`, and beyond [`PIPELINE_BYTES_MAX`] it is not read. Whoever is refused before its body
//! was read is closed, since nobody can tell where its next request begins.
//!
//! Bounded: heads and bodies in size and in time, output by `Limits::output_bytes_max` and one
//! answer; `exchange.rs` has the times.

use super::answers::{self, Answer};
use super::call::{CallOrigin, Done, Outcome};
use super::exchange::{
    At, BODY_TIMEOUT, Exchange, Framing, HEAD_TIMEOUT, SIGN_OF_LIFE, UNKNOWN, Waiting,
};
use super::hearing::Identity;
use super::live::Transport;
use super::openapi;
use super::requests::{Plan, Request};
use super::routes::{self, Endpoint, Found};
use crate::connection::{Stage, WebSocket};
use crate::shard::{Shard, pause};
use crate::{Anonymous, ConnectionId, Dialect, Effects, Listener};
use http::{Body, BodyReader, BodyStream, Head, Response, Upgrade};
use meshblu::Refusal;

/// Bytes that may wait behind a request that is being served, beside what arrives at once.
const PIPELINE_BYTES_MAX: usize = 64 * 1_024;
/// What a body may be larger than the message in it: names, addressees, spaces.
const ENVELOPE_BYTES: usize = 64 * 1_024;
/// Headers by which a proxy says that it is one.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
/// Subprotocols of MQTT over WebSocket. [MQTT-6.0.0-3]
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

impl Shard {
    /// Bytes of an HTTP connection.
    pub(crate) fn http_input(&mut self, id: ConnectionId, bytes: &[u8], effects: &mut Effects) {
        let now = self.now;
        let connection = self
            .connection_mut(id)
            .expect("the caller has seen it alive");
        let is_first = connection.partial.is_empty();
        let exchange = connection
            .extra_mut()
            .http
            .get_or_insert_with(|| Box::new(Exchange::new(now)));
        match exchange.at {
            At::Head if is_first => exchange.deadline = now + HEAD_TIMEOUT,
            // Nothing that follows a request without an end will ever be served.
            At::Streaming(_) | At::Closing | At::Draining => return,
            _ => {}
        }
        connection.partial.extend_from_slice(bytes);
        self.serve_http(id, effects);
    }

    /// Takes requests from what has arrived until it is used up or one of them has to wait.
    pub(crate) fn serve_http(&mut self, id: ConnectionId, effects: &mut Effects) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let partial = std::mem::take(&mut connection.partial);
        let Some(exchange) = connection.exchange() else {
            connection.partial = partial;
            return;
        };
        exchange.is_serving = true;
        let mut rest = &partial[..];
        while self.serve_one(id, &mut rest, effects) {}
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        if connection.stage != Stage::Http {
            return; // It has taken the rest along.
        }
        if rest.len() < partial.len() {
            connection.partial = rest.to_vec();
        } else {
            connection.partial = partial;
        }
        let is_long = connection.partial.len() > PIPELINE_BYTES_MAX;
        let exchange = connection.exchange().expect("just seen");
        exchange.is_serving = false;
        if is_long && matches!(exchange.at, At::Answering(..)) {
            self.pause(id, pause::CALL, effects);
        }
    }

    /// One step of one request; returns whether there may be another.
    fn serve_one(&mut self, id: ConnectionId, rest: &mut &[u8], effects: &mut Effects) -> bool {
        let Some(connection) = self.connection_mut(id) else {
            return false;
        };
        if connection.paused_for != 0 || connection.stage != Stage::Http {
            return false;
        }
        let exchange = connection.exchange().expect("the caller has seen it");
        match std::mem::replace(&mut exchange.at, At::Head) {
            At::Head if rest.is_empty() => false,
            At::Head => match http::parse_head(rest) {
                Ok(None) => false,
                Ok(Some(head)) => {
                    let (_, behind) = rest.split_at(head.bytes);
                    *rest = behind;
                    self.on_head(id, &head, rest, effects)
                }
                Err(error) => {
                    self.counters.malformed_packets += 1;
                    let answer = Answer::error(error.status(), error.message());
                    self.write_answer(id, UNKNOWN, &answer, 0, effects);
                    false
                }
            },
            At::Body(mut waiting) => match waiting.reader.read(rest) {
                Ok(true) => self.on_whole(id, *waiting, effects),
                Ok(false) => {
                    exchange.at = At::Body(waiting);
                    false
                }
                Err(error) => {
                    self.counters.malformed_packets += 1;
                    let answer = Answer::error(error.status(), error.message());
                    self.write_answer(id, waiting.framing.last(), &answer, 0, effects);
                    false
                }
            },
            other => {
                exchange.at = other;
                false
            }
        }
    }

    /// A head has come; `rest` is what has come behind it.
    fn on_head(
        &mut self,
        id: ConnectionId,
        head: &Head<'_>,
        rest: &mut &[u8],
        effects: &mut Effects,
    ) -> bool {
        if self.upgrade_http(id, head, rest, effects) {
            return false;
        }
        let framing = Framing::of(head);
        if head.method == "OPTIONS" {
            return self.answer_options(id, head, effects);
        }
        let request = Request::read(head, self.dialect_of(id))
            .and_then(|request| self.check_metrics(id, head, request));
        let body_bytes_max = self.config.mesh.message_bytes_max + ENVELOPE_BYTES;
        let reader = match BodyReader::new(head.body(), body_bytes_max) {
            Ok(reader) => reader,
            Err(error) => {
                let answer = request.err().unwrap_or_else(|| {
                    Answer::error(error.status(), error.message()) //
                });
                self.write_answer(id, framing.last(), &answer, 0, effects);
                return false;
            }
        };
        if head.expects_continue() && rest.is_empty() {
            if let Err(answer) = &request {
                self.write_answer(id, framing.last(), answer, 0, effects);
                return false;
            }
            http::write_continue(effects.outbox(id));
        }
        let waiting = Waiting {
            framing,
            request,
            reader,
        };
        if head.body() == Body::None {
            return self.on_whole(id, waiting, effects);
        }
        let deadline = self.now + BODY_TIMEOUT;
        let connection = self.connection_mut(id).expect("nothing has closed it");
        let exchange = connection.exchange().expect("made with its first bytes");
        exchange.deadline = deadline;
        exchange.at = At::Body(Box::new(waiting));
        true
    }

    /// What is counted is shown to those alone who may see it.
    fn check_metrics(
        &self,
        id: ConnectionId,
        head: &Head<'_>,
        request: Request,
    ) -> Result<Request, Answer> {
        if request.route.endpoint != Endpoint::Metrics {
            return Ok(request);
        }
        let those = self.config.mesh.metrics;
        // What a proxy on this machine passes on comes from somewhere else.
        let is_forwarded =
            those != Anonymous::Allow && FORWARDED.iter().any(|name| head.header(name).is_some());
        match !is_forwarded && self.is_among(those, id) {
            true => Ok(request),
            false => Err(Answer::error(
                403,
                "metrics are not shown to this address; see the setting http.metrics",
            )),
        }
    }

    /// A request is whole.
    fn on_whole(&mut self, id: ConnectionId, waiting: Waiting, effects: &mut Effects) -> bool {
        let framing = waiting.framing;
        let body = waiting.reader.into_bytes();
        let has_body = !body.is_empty();
        let dialect = self.dialect_of(id);
        let planned = waiting.request.and_then(|request| {
            let route = request.route;
            Ok((route, request.plan(id, body, dialect)?))
        });
        let (route, plan) = match planned {
            Ok(planned) => planned,
            Err(answer) => return self.write_answer(id, framing, &answer, 0, effects),
        };
        let call = match plan {
            Plan::Call(call) => call,
            Plan::Here => {
                let answer = self.answer_here(id, route.endpoint);
                return self.write_answer(id, framing, &answer, 0, effects);
            }
        };
        let connection = self.connection_mut(id).expect("nothing has closed it");
        let exchange = connection.exchange().expect("made with its first bytes");
        exchange.at = At::Answering(framing, route, has_body);
        self.start_call(CallOrigin::Http(id), *call, effects);
        true
    }

    /// What came of the request that an HTTP connection is at.
    pub(crate) fn answer_http_call(
        &mut self,
        id: ConnectionId,
        outcome: Outcome,
        batch: u64,
        effects: &mut Effects,
    ) {
        let at = self
            .connection_mut(id)
            .and_then(|connection| connection.exchange())
            .map(|exchange| std::mem::replace(&mut exchange.at, At::Head));
        let Some(At::Answering(framing, route, has_body)) = at else {
            if let Ok(Done::Listening { device, .. }) = outcome {
                self.detach_from(device, id, effects);
            }
            return;
        };
        let outcome = match outcome {
            Ok(Done::Listening { device, token, .. }) => {
                let identity = Identity::new(device, token, Transport::EventStream);
                if self.identify(id, identity) {
                    return self.begin_stream(id, framing, effects);
                }
                Err(Refusal::Unauthorized)
            }
            outcome => outcome,
        };
        let answer = answers::answer(route, has_body, outcome, self.dialect_of(id));
        self.write_answer(id, framing, &answer, batch, effects);
        self.serve_next(id, effects);
    }

    /// How results are written on a connection: as its listener says, else as is configured.
    fn dialect_of(&self, id: ConnectionId) -> Dialect {
        match self.connection(id).map(|connection| connection.listener) {
            Some(Listener::HttpAs(dialect)) => dialect,
            _ => self.config.mesh.dialect,
        }
    }

    /// Goes on with what came behind a request, but not within the event that answered it.
    fn serve_next(&mut self, id: ConnectionId, effects: &mut Effects) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let has_more = !connection.partial.is_empty();
        if connection
            .exchange()
            .is_none_or(|exchange| exchange.is_serving)
        {
            return;
        }
        if connection.paused_for & pause::CALL != 0 {
            self.resume(id, pause::CALL, effects);
        } else if has_more {
            self.resumed.push_back(id);
        }
    }

    /// Writes an answer once `batch` is durable, and closes behind the last one. Returns whether
    /// the connection may go on.
    pub(super) fn write_answer(
        &mut self,
        id: ConnectionId,
        framing: Framing,
        answer: &Answer,
        batch: u64,
        effects: &mut Effects,
    ) -> bool {
        let is_held = !self.durable.is_committed(batch);
        if is_held {
            effects.hold(id, batch);
        }
        self.counters.http_requests += 1;
        let headers: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let response = Response {
            status: answer.status,
            content_type: answer.content_type,
            headers: &headers,
            body: &answer.body,
            keep_alive: framing.keep_alive,
            minor: framing.minor,
            is_head: framing.is_head,
        };
        let out = effects.outbox(id);
        let before = out.len();
        response.write(out, self.now.seconds());
        self.counters.bytes_sent += (out.len() - before) as u64;
        self.after_answer(id, framing, is_held.then_some(batch), effects)
    }

    /// Makes a connection whose client asks for it a WebSocket, or refuses; returns whether it asks.
    fn upgrade_http(
        &mut self,
        id: ConnectionId,
        head: &Head<'_>,
        rest: &[u8],
        effects: &mut Effects,
    ) -> bool {
        let upgrade = http::upgrade(head, &SUBPROTOCOLS);
        let (key, protocol) = match upgrade {
            Upgrade::NotAsked => return false,
            Upgrade::Refuse { status, reason } => {
                let mut answer = Answer::error(status, reason);
                for (name, value) in upgrade.refusal_headers() {
                    answer = answer.with(name, *value);
                }
                self.write_answer(id, UNKNOWN, &answer, 0, effects);
                return true;
            }
            Upgrade::Accept { key, protocol } => (key, protocol),
        };
        if protocol.is_none() && !is_socket(head) {
            // [MQTT-6.0.0-3]
            let why = "the WebSocket subprotocol must be mqtt or mqttv3.1";
            self.write_answer(id, UNKNOWN, &Answer::error(400, why), 0, effects);
            return true;
        }
        http::write_switching_protocols(effects.outbox(id), key, protocol);
        let connection = self.connection_mut(id).expect("the caller has seen it");
        connection.extra_mut().http = None;
        if protocol.is_some() {
            self.open_mqtt_websocket(id, rest, effects);
            return true;
        }
        let message_bytes_max = self.config.mesh.message_bytes_max + ENVELOPE_BYTES;
        let connection = self.connection_mut(id).expect("the caller has seen it");
        connection.extra_mut().websocket = Some(WebSocket {
            decoder: http::Decoder::new(message_bytes_max),
            undecoded: Vec::new(),
        });
        self.open_socket(id);
        self.websocket_input(id, rest, effects);
        true
    }

    fn answer_options(&mut self, id: ConnectionId, head: &Head<'_>, effects: &mut Effects) -> bool {
        let framing = match head.body() {
            Body::None => Framing::of(head),
            _ => Framing::of(head).last(),
        };
        let segments = http::segments(head.path()).unwrap_or_default();
        let methods = routes::methods(&segments);
        self.counters.http_requests += 1;
        let now_s = self.now.seconds();
        let out = effects.outbox(id);
        http::write_options(out, head, &methods, framing.keep_alive, now_s);
        self.after_answer(id, framing, None, effects)
    }

    /// What this shard knows by itself.
    fn answer_here(&mut self, id: ConnectionId, endpoint: Endpoint) -> Answer {
        match endpoint {
            Endpoint::Healthcheck if self.durable.is_stalled => {
                let body = r#"{"healthy":false,"online":true,"error":"the store cannot write"}"#;
                Answer::json(503, body)
            }
            Endpoint::Healthcheck => Answer::json(200, r#"{"healthy":true,"online":true}"#),
            Endpoint::ServerKey => answers::server_key(self.config.mesh.public_key.as_deref()),
            Endpoint::OpenApi => Answer::json(200, openapi::document()),
            Endpoint::Address => {
                let peer = self.connection(id).expect("it has asked").peer.ip();
                Answer::json(200, format!("{{\"ipAddress\":\"{peer}\"}}"))
            }
            Endpoint::Socket => {
                let answer = Answer::error(426, "this path serves WebSocket alone");
                answer.with("Upgrade", "websocket")
            }
            other => unreachable!("asked of the owners of devices: {other:?}"),
        }
    }

    /// From now on a connection is told what happens to its device.
    fn begin_stream(&mut self, id: ConnectionId, framing: Framing, effects: &mut Effects) {
        self.counters.http_requests += 1;
        let now_s = self.now.seconds();
        let out = effects.outbox(id);
        let stream = BodyStream::begin(out, http::EVENT_STREAM, framing.minor, now_s);
        let identity = self.mesh.identities.get_mut(&id.index);
        identity.expect("just identified").stream = Some(stream);
        let now = self.now;
        let connection = self.connection_mut(id).expect("the caller has seen it");
        connection.opened_s = super::seconds(now);
        let exchange = connection.exchange().expect("the caller has seen it");
        exchange.at = At::Streaming(stream);
        self.look_again(id, SIGN_OF_LIFE);
    }
}

/// Whether a handshake is for FreshBlu's WebSocket. Engine.IO has the same path, but names its
/// version.
fn is_socket(head: &Head<'_>) -> bool {
    let segments = http::segments(head.path()).unwrap_or_default();
    let is_engine =
        http::pairs(head.query()).is_ok_and(|pairs| pairs.iter().any(|(name, _)| name == "EIO"));
    match routes::find("GET", &segments) {
        Found::Route(route, _) => route.endpoint == Endpoint::Socket && !is_engine,
        Found::OtherMethods(_) | Found::Nothing => false,
    }
}
