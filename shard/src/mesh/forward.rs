//! Webhooks: what a device's owner wants to be told over HTTP.
//!
//! The device's document says so under `meshblu.forwarders`; helper threads make the requests.
//! Bounded by half of `Limits::computes_max`, since a server that answers slowly must not keep
//! devices from logging in: beyond it a call is dropped and counted.

use super::emission::MeshEvent;
use super::{Computing, seconds};
use crate::{DeviceId, Effects, Shard, Task, Webhook};
use meshblu::{Forwarder, Kind, Outgoing, TokenOptions};
use std::sync::Arc;

/// How long a token that goes with a webhook is worth something, in seconds.
const CREDENTIAL_S: u32 = 300;
/// How often an event is sent on by devices' own wish.
const HOPS_MAX: u8 = 5;
/// What such a token is tagged with.
const CREDENTIAL_TAG: &str = "webhook-credential";

/// Headers that say which device a webhook is about, and what has happened.
const OURS: [&str; 2] = ["X-Meshblu-Uuid", "X-Meshblu-Message-Type"];

/// Whether programs that have headers as variables take one name for the other.
fn is_like(name: &str, other: &str) -> bool {
    name.replace('_', "-").eq_ignore_ascii_case(other)
}

impl Shard {
    /// Tells who a device of this shard has asked to be told of this kind of event. Returns how many
    /// bytes that has copied.
    pub(super) fn forward(
        &mut self,
        device: DeviceId,
        kind: Kind,
        event: &Arc<MeshEvent>,
        effects: &mut Effects,
    ) -> usize {
        let Some(entry) = self.mesh.registry.find(device) else {
            return 0;
        };
        let forwarders = entry.device.forwarders(kind.dotted());
        let copied = forwarders.len() * event.bytes();
        let mut is_sent_on = false;
        for forwarder in forwarders {
            match forwarder {
                Forwarder::Webhook(hook) => self.call_webhook(device, kind, &hook, event, effects),
                // One of several: each would be sent on by all of them again.
                Forwarder::Meshblu if is_sent_on => {}
                Forwarder::Meshblu => {
                    is_sent_on = true;
                    self.send_to_itself(device, event, effects);
                }
            }
        }
        copied
    }

    /// Sends what a device hears of to the device itself, as its own message.
    fn send_to_itself(&mut self, device: DeviceId, event: &MeshEvent, effects: &mut Effects) {
        if event.hops >= HOPS_MAX {
            self.counters.webhooks_failed += 1;
            return;
        }
        let mut body = format!("{{\"devices\":[\"{device}\"],\"topic\":\"forwarder\",\"payload\":");
        body.push_str(std::str::from_utf8(&event.frame).expect("JSON is UTF-8"));
        body.push('}');
        // It grows with every hop; what has become too large goes no further.
        let limit = self.config.mesh.message_bytes_max;
        match Outgoing::parse(body.as_bytes(), device, limit) {
            Err(_) => self.counters.webhooks_failed += 1,
            Ok(outgoing) => {
                if !self.emit_again(device, &outgoing, event.hops + 1, effects) {
                    self.counters.webhooks_failed += 1;
                }
            }
        }
    }

    fn call_webhook(
        &mut self,
        device: DeviceId,
        kind: Kind,
        hook: &meshblu::Webhook,
        event: &MeshEvent,
        effects: &mut Effects,
    ) {
        if self.mesh.computing.len() >= self.config.limits.computes_max / 2 {
            self.counters.webhooks_failed += 1;
            return;
        }
        let mut headers: Vec<(Box<str>, Box<str>)> =
            vec![("Content-Type".into(), "application/json".into())];
        // A device cannot say that it is another, not even to those who read `_` as `-`.
        let is_ours = |name: &str| OURS.iter().any(|ours| is_like(name, ours));
        let own = hook.headers.iter().filter(|(name, _)| !is_ours(name));
        headers.extend(own.map(|(name, value)| (name.as_str().into(), value.as_str().into())));
        let [uuid, message_type] = OURS;
        headers.push((uuid.into(), device.to_string().into()));
        headers.push((message_type.into(), kind.dotted().into()));
        let mut token = None;
        if hook.generate_credentials && self.can_keep().is_ok() {
            let text = self.mesh.secrets.token();
            let options = TokenOptions {
                expires_s: Some(i64::from(seconds(self.now) + CREDENTIAL_S)),
                tag: Some(CREDENTIAL_TAG.into()),
            };
            let id = self.add_token(device, &text, options, false);
            token = Some((device, id));
            headers.push((
                "Authorization".into(),
                http::bearer(&device.to_string(), &text).into(),
            ));
        }
        let task = Task::Call(Box::new(Webhook {
            url: hook.url.as_str().into(),
            method: hook.method.into(),
            headers,
            body: event.body.to_vec(),
            is_signed: hook.sign_request,
        }));
        self.compute(Computing::Call { token }, task, effects);
    }
}
