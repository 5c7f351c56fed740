//! FreshBlu's WebSocket: JSON objects with an `event`, in both directions.
//!
//! Always: frames of one socket are handled one after the other, so an answer belongs to the frame
//! before it. A socket hears what happens to its device before it is told `ready`. Whatever cannot
//! be done is answered with `{"event":"error"}`; the socket stays open.

use super::call::{Actor, Call, CallOrigin, Done, Op, Outcome, SubscriptionOf, Way};
use super::hearing::Identity;
use super::live::Transport;
use crate::connection::Stage;
use crate::shard::{TimerKey, pause};
use crate::{ConnectionId, DeviceId, Effects, Shard, Span};
use http::Opcode;
use meshblu::{Kind, Refusal};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// How often a silent peer is asked whether it is there.
const PING: Span = Span::from_s(30);
/// How long it may be silent.
const SILENCE: Span = Span::from_s(90);
/// Depth of JSON is bounded by the parser at 128.
type Frame = Map<String, Value>;

/// The members of a frame that are read first.
#[derive(Deserialize)]
struct Named<'a> {
    /// What it is.
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    /// On whose behalf, if it is not of the device itself.
    #[serde(borrow, rename = "x-meshblu-as")]
    acting_as: Option<Cow<'a, str>>,
}

/// The member of a frame that says on whose behalf it is, as the header of a request does.
const ACTING_AS: &str = "x-meshblu-as";

/// What a frame asked for, so that the answer can be put into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `identity`
    Identity,
    /// `whoami`
    Whoami,
    /// `register`
    Register,
    /// `subscribe`
    Subscribe,
    /// What has no answer if it goes well.
    Quiet,
}

impl Shard {
    /// A connection has become a WebSocket of FreshBlu's kind.
    pub(crate) fn open_socket(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        connection.stage = Stage::Socket;
        connection.received_at = now;
        connection.opened_s = super::seconds(now);
        if let Some(timer) = connection.timer.take() {
            self.timers.cancel(timer);
        }
        self.counters.http_connections -= 1;
        self.counters.sockets += 1;
        self.schedule_ping(id);
    }

    fn schedule_ping(&mut self, id: ConnectionId) {
        let timer = self
            .timers
            .schedule(self.now + PING, TimerKey::Connection(id.index));
        let connection = self.connection_mut(id).expect("the caller has seen it");
        connection.timer = Some(timer);
    }

    /// Asks a silent socket whether it is there, and gives it up in the end.
    pub(crate) fn on_socket_timer(&mut self, id: ConnectionId, effects: &mut Effects) {
        let connection = self.connection(id).expect("the caller has seen it");
        let is_held = connection.paused_for != 0;
        if !is_held && connection.received_at + SILENCE <= self.now {
            self.counters.keep_alive_timeouts += 1;
            return self.close_websocket(id, 1001, "nothing has come for too long", effects);
        }
        if connection.received_at + PING <= self.now {
            http::write_frame_header(effects.outbox(id), Opcode::Ping, 0);
        }
        self.schedule_ping(id);
    }

    /// A whole text message of a socket.
    pub(crate) fn on_socket_text(&mut self, id: ConnectionId, text: &[u8], effects: &mut Effects) {
        let now = self.now;
        if let Some(connection) = self.connection_mut(id) {
            connection.received_at = now;
            connection.traffic.receive(text.len());
        }
        let wrong =
            |error: serde_json::Error| format!("expected a JSON object with an event: {error}");
        let named = match serde_json::from_slice::<Named<'_>>(text) {
            Ok(named) => named,
            Err(error) => return self.send_error(id, &wrong(error), effects),
        };
        let event = named.event.unwrap_or_default();
        let identity = self.mesh.identity(id).copied();
        let op = match (&*event, identity, &named.acting_as) {
            ("ping", ..) => return self.send_text(id, b"{\"event\":\"pong\"}", effects),
            // Read where they are sent, and not before.
            ("message", Some(_), None) => Op::Message { body: text.into() },
            ("broadcast", Some(_), None) => Op::Broadcast { body: text.into() },
            (_, identity, _) => {
                let frame: Frame = match serde_json::from_slice(text) {
                    Ok(frame) => frame,
                    Err(error) => return self.send_error(id, &wrong(error), effects),
                };
                return match identity {
                    _ if event == "identity" => self.on_identity(id, &frame, effects),
                    None => self.send_error(id, "unauthorized: identity comes first", effects),
                    Some(identity) => self.on_request(id, identity, &event, frame, effects),
                };
            }
        };
        let actor = identity.expect("just seen").actor();
        self.call_from_socket(id, Verb::Quiet, (actor, None), op, effects);
    }

    fn on_identity(&mut self, id: ConnectionId, frame: &Frame, effects: &mut Effects) {
        if self.mesh.identity(id).is_some() {
            return; // As FreshBlu does.
        }
        let field = |name| frame.get(name).and_then(Value::as_str);
        let (Some(uuid), Some(token)) = (field("uuid"), field("token")) else {
            return self.send_not_ready(id, "uuid and token required", effects);
        };
        let Some(device) = DeviceId::parse(uuid) else {
            return self.send_not_ready(id, "invalid uuid", effects);
        };
        let actor = Actor::Claimed {
            device,
            token: token.into(),
        };
        let op = Op::Listen {
            connection: id,
            transport: Transport::Socket,
        };
        self.call_from_socket(id, Verb::Identity, (actor, None), op, effects);
    }

    fn on_request(
        &mut self,
        id: ConnectionId,
        identity: Identity,
        event: &str,
        mut frame: Frame,
        effects: &mut Effects,
    ) {
        let acting_as = match frame.contains_key(ACTING_AS) {
            true => device_in(&frame, ACTING_AS).map(Some),
            false => Ok(None),
        };
        frame.shift_remove(ACTING_AS);
        let read = acting_as.and_then(|acting_as| {
            // Without a word on whose it is, a frame is about who it is from.
            let me = acting_as.unwrap_or(identity.device);
            read_request(me, event, frame).map(|(verb, op)| (verb, acting_as, op))
        });
        let (verb, acting_as, op) = match read {
            Ok(read) => read,
            Err(why) => return self.send_error(id, &why, effects),
        };
        self.call_from_socket(id, verb, (identity.actor(), acting_as), op, effects);
    }

    fn call_from_socket(
        &mut self,
        id: ConnectionId,
        verb: Verb,
        (actor, acting_as): (Actor, Option<DeviceId>),
        op: Op,
        effects: &mut Effects,
    ) {
        let connection = self.connection_mut(id).expect("the caller has seen it");
        connection.extra_mut().socket_call = Some(verb);
        let call = Call {
            actor,
            acting_as,
            op,
        };
        self.start_call(CallOrigin::Socket(id), call, effects);
        // Most calls are answered by now.
        let is_waiting = self
            .connection_mut(id)
            .is_some_and(|connection| connection.extra_mut().socket_call.is_some());
        if is_waiting {
            self.pause(id, pause::CALL, effects);
        }
    }

    /// What came of a socket's frame.
    pub(crate) fn answer_socket_call(
        &mut self,
        id: ConnectionId,
        outcome: Outcome,
        batch: u64,
        effects: &mut Effects,
    ) {
        let Some(connection) = self.connection_mut(id) else {
            if let Ok(Done::Listening { device, .. }) = outcome {
                self.detach_from(device, id, effects);
            }
            return;
        };
        let verb = connection.extra_mut().socket_call.take();
        let verb = verb.expect("an answer belongs to a frame");
        if !self.durable.is_committed(batch) {
            effects.hold(id, batch);
        }
        match outcome {
            Ok(done) => self.send_done(id, done, effects),
            Err(refusal) => self.send_refusal(id, verb, &refusal, effects),
        }
        self.resume(id, pause::CALL, effects);
    }

    fn send_done(&mut self, id: ConnectionId, done: Done, effects: &mut Effects) {
        let mut out = Vec::new();
        match done {
            Done::Listening {
                device,
                token,
                meshblu,
            } => {
                let identity = Identity::new(device, token, Transport::Socket);
                if !self.identify(id, identity) {
                    let reason = Refusal::Unauthorized.text();
                    return self.send_not_ready(id, &reason, effects);
                }
                let head = format!(
                    "{{\"event\":\"ready\",\"uuid\":\"{device}\",\"fromUuid\":\"{device}\""
                );
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(b",\"meshblu\":");
                out.extend_from_slice(&meshblu);
                out.push(b'}');
            }
            Done::Device { view } => {
                out.extend_from_slice(b"{\"event\":\"whoami\",\"device\":");
                out.extend_from_slice(&view);
                out.push(b'}');
            }
            Done::Registered { device, token, .. } => {
                let text = format!(
                    "{{\"event\":\"registered\",\"uuid\":\"{device}\",\"token\":\"{token}\"}}"
                );
                out.extend_from_slice(text.as_bytes());
            }
            _ => return,
        }
        self.send_text(id, &out, effects);
    }

    fn send_refusal(
        &mut self,
        id: ConnectionId,
        verb: Verb,
        refusal: &Refusal,
        effects: &mut Effects,
    ) {
        match (verb, refusal) {
            (Verb::Identity, _) => self.send_not_ready(id, &refusal.text(), effects),
            (Verb::Subscribe, Refusal::Forbidden | Refusal::NotFound) => {
                let why = "forbidden: insufficient permission to subscribe";
                self.send_error(id, why, effects);
            }
            _ => self.send_error(id, &refusal.text(), effects),
        }
    }

    fn send_not_ready(&mut self, id: ConnectionId, reason: &str, effects: &mut Effects) {
        let frame = serde_json::json!({"event": "notReady", "reason": reason});
        self.send_text(id, frame.to_string().as_bytes(), effects);
    }

    fn send_error(&mut self, id: ConnectionId, why: &str, effects: &mut Effects) {
        let frame = serde_json::json!({"event": "error", "message": why});
        self.send_text(id, frame.to_string().as_bytes(), effects);
    }

    fn send_text(&mut self, id: ConnectionId, text: &[u8], effects: &mut Effects) {
        if self.connection(id).is_none() {
            return;
        }
        let out = effects.outbox(id);
        http::write_frame_header(out, Opcode::Text, text.len());
        out.extend_from_slice(text);
        self.counters.bytes_sent += text.len() as u64;
        self.bound_output(id, effects);
    }
}

/// What a frame of an identified socket asks for; errs with what is wrong with it.
fn read_request(me: DeviceId, event: &str, mut frame: Frame) -> Result<(Verb, Op), String> {
    let body = |mut frame: Frame| {
        frame.shift_remove("event");
        let body = serde_json::to_vec(&frame).expect("JSON of JSON");
        body.into_boxed_slice()
    };
    Ok(match event {
        "message" => (Verb::Quiet, Op::Message { body: body(frame) }),
        "broadcast" => (Verb::Quiet, Op::Broadcast { body: body(frame) }),
        "whoami" => (Verb::Whoami, Op::Whoami),
        "register" => (Verb::Register, Op::Register { body: body(frame) }),
        "update" => (
            Verb::Quiet,
            Op::Update {
                device: me,
                body: body(frame),
                way: Way::Put,
            },
        ),
        "unregister" => {
            let device = match frame.get("uuid") {
                None => me,
                Some(_) => device_in(&frame, "uuid")?,
            };
            (Verb::Quiet, Op::Unregister { device })
        }
        "subscribe" => {
            let of = SubscriptionOf {
                subscriber: me,
                emitter: device_in(&frame, "emitterUuid")?,
                kind: kind_in(&frame)?.ok_or("type required")?,
            };
            (Verb::Subscribe, Op::Subscribe(of))
        }
        "unsubscribe" => {
            let op = Op::Unsubscribe {
                subscriber: me,
                emitter: Some(device_in(&frame, "emitterUuid")?),
                kind: kind_in(&frame)?,
            };
            (Verb::Quiet, op)
        }
        _ => {
            let event = frame.remove("event").unwrap_or_default();
            return Err(format!("unknown event: {event}"));
        }
    })
}

fn device_in(frame: &Frame, name: &str) -> Result<DeviceId, String> {
    let text = frame.get(name).and_then(Value::as_str);
    let text = text.ok_or_else(|| format!("{name} required"))?;
    DeviceId::parse(text).ok_or_else(|| format!("{name} is no uuid"))
}

/// The kind of subscription that a frame names, under either name of the field.
fn kind_in(frame: &Frame) -> Result<Option<Kind>, String> {
    let named = frame.get("type").or_else(|| frame.get("subscriptionType"));
    match named {
        None => Ok(None),
        Some(named) => named
            .as_str()
            .and_then(Kind::parse)
            .map(Some)
            .ok_or_else(|| "invalid subscription type".into()),
    }
}
