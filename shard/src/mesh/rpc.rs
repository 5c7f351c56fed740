//! The requests of meshblu-mqtt: a device publishes JSON with a `callbackId` to a topic that names what
//! it wants, and hears the answer on the topic that is its UUID, with the request in `_request`.
//! What happens to it comes there in the same form, without `_request`.
//!
//! Bounded by `Limits::calls_max`, as all requests are.

use super::call::{Call, CallOrigin, Done, Op, Outcome, Way};
use super::emission::MeshEvent;
use crate::message::{LazyMessage, MessageView, Publisher};
use crate::pending::Ticket;
use crate::{ConnectionId, DeviceId, Effects, Shard};
use mqtt_v5_codec::{Packet, Publish, QoS};
use serde_json::{Map, Value};

/// Topics that name requests.
const NAMES: [&str; 6] = [
    "whoami",
    "update",
    "message",
    "generateAndStoreToken",
    "resetToken",
    "getPublicKey",
];

/// A request that has not been answered.
#[derive(Debug)]
pub(crate) struct Rpc {
    name: &'static str,
    device: DeviceId,
    /// As it came.
    request: Box<[u8]>,
}

impl Shard {
    /// Takes a PUBLISH as a request, if a device has sent it and it is one.
    pub(crate) fn on_rpc(
        &mut self,
        id: ConnectionId,
        topic: &str,
        payload: &[u8],
        effects: &mut Effects,
    ) -> bool {
        let Some(identity) = self.mesh.identity(id).copied() else {
            return false;
        };
        let Some(name) = NAMES.into_iter().find(|name| *name == topic) else {
            return false;
        };
        let Ok(mut request) = serde_json::from_slice::<Map<String, Value>>(payload) else {
            return false;
        };
        if request.get("callbackId").is_none() {
            return false; // A topic like any other.
        }
        let Some(op) = op_of(name, identity.device, &mut request, payload) else {
            self.send_rpc(
                id,
                identity.device,
                "error",
                b"{\"message\":\"invalid uuid\"}",
                payload,
                effects,
            );
            return true;
        };
        let (slot, _) = self.mesh.rpcs.insert(Rpc {
            name,
            device: identity.device,
            request: payload.into(),
        });
        let call = Call {
            actor: identity.actor(),
            acting_as: None,
            op,
        };
        self.start_call(CallOrigin::Rpc(id, slot), call, effects);
        true
    }

    /// What came of a request.
    pub(super) fn answer_rpc(
        &mut self,
        id: ConnectionId,
        slot: u32,
        outcome: Outcome,
        batch: u64,
        effects: &mut Effects,
    ) {
        let Rpc {
            name,
            device,
            request,
        } = self.mesh.rpcs.remove(slot);
        if self.connection(id).is_none() {
            return;
        }
        if !self.durable.is_committed(batch) {
            effects.hold(id, batch);
        }
        let data = match outcome {
            Ok(Done::Sent) => return, // Has no answer.
            Ok(Done::Device { view }) => view,
            Ok(Done::Token {
                device: of,
                token,
                id: number,
                options,
                ..
            }) => {
                if name == "resetToken"
                    && let Some(identity) = self.mesh.identities.get_mut(&id.index)
                {
                    identity.token = number;
                }
                let comma = if options.is_empty() { "" } else { "," };
                let text = format!("{{\"uuid\":\"{of}\",\"token\":\"{token}\"{comma}{options}}}");
                text.into_bytes()
            }
            Ok(Done::PublicKey { device, json }) => {
                format!("{{\"uuid\":\"{device}\",\"publicKey\":{json}}}").into_bytes()
            }
            Ok(_) => b"{}".to_vec(),
            Err(refusal) => {
                let why = format!("{name} failed: {}", refusal.text());
                let data = serde_json::json!({ "message": why }).to_string();
                return self.send_rpc(id, device, "error", data.as_bytes(), &request, effects);
            }
        };
        self.send_rpc(id, device, name, &data, &request, effects);
    }

    fn send_rpc(
        &mut self,
        id: ConnectionId,
        device: DeviceId,
        name: &str,
        data: &[u8],
        request: &[u8],
        effects: &mut Effects,
    ) {
        let mut payload = wrapped(name, data);
        payload.pop();
        payload.extend_from_slice(b",\"_request\":");
        payload.extend_from_slice(request);
        payload.push(b'}');
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: &device.to_string(),
            packet_id: None,
            properties: Default::default(),
            payload: &payload,
        };
        self.send(id, &Packet::Publish(publish), effects);
        self.bound_output(id, effects);
    }

    /// Tells sessions that have subscribed to just the UUID of their device.
    pub(super) fn publish_wrapped(
        &mut self,
        device: DeviceId,
        event: &MeshEvent,
        ticket: &mut Ticket,
        effects: &mut Effects,
    ) {
        let topic = device.to_string();
        let is_wanted = self.subscriptions.find(&topic).is_some()
            || (self.config.shards > 1 && !self.routes.matching(&topic).is_empty());
        if !is_wanted {
            return; // Nothing is copied for nobody.
        }
        let payload = wrapped(event.kind.topic(), &event.body);
        let mut lazy = LazyMessage::new(MessageView {
            topic: &topic,
            forwarded: &[],
            payload: &payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            expires: None,
            publisher: Some(Publisher::MESH),
        });
        self.route_here(&mut lazy, ticket, effects);
    }
}

/// `{"topic":…,"data":…}`; both are JSON already.
fn wrapped(name: &str, data: &[u8]) -> Vec<u8> {
    let mut payload = format!("{{\"topic\":\"{name}\",\"data\":").into_bytes();
    payload.extend_from_slice(data);
    payload.push(b'}');
    payload
}

/// What a request asks for; `None` if it names a device that cannot be.
fn op_of(name: &str, me: DeviceId, request: &mut Map<String, Value>, payload: &[u8]) -> Option<Op> {
    let device = match request.get("uuid") {
        None => me,
        Some(uuid) => DeviceId::parse(uuid.as_str()?)?,
    };
    Some(match name {
        "whoami" => Op::Whoami,
        "message" => Op::Message {
            body: payload.into(),
        },
        "update" => {
            request.shift_remove("uuid");
            request.shift_remove("callbackId");
            let body = serde_json::to_vec(request).expect("JSON of JSON");
            Op::Update {
                device,
                body: body.into(),
                way: Way::Merge,
            }
        }
        "generateAndStoreToken" => {
            request.retain(|name, _| name == "tag" || name == "expiresOn");
            let body = serde_json::to_vec(request).expect("JSON of JSON");
            Op::GenerateToken {
                device,
                body: body.into(),
            }
        }
        "resetToken" => Op::ResetToken { device: me },
        _ => Op::PublicKey { device: me },
    })
}
