//! What is told of a device, written once for all who hear of it.

use super::telling::Stage;
use crate::DeviceId;
use meshblu::{Kind, Outgoing};
use std::sync::Arc;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A message to devices.
    Message,
    /// A message to all who listen.
    Broadcast,
    /// A document has changed.
    Config,
    /// A device is no more.
    Unregistered,
}

impl EventKind {
    /// The last level of the MQTT topic that carries it.
    pub fn topic(self) -> &'static str {
        match self {
            EventKind::Message => "message",
            EventKind::Broadcast => "broadcast",
            EventKind::Config => "config",
            EventKind::Unregistered => "unregistered",
        }
    }

    /// Who hears of it by way of the device that it comes from.
    pub fn sent(self) -> Kind {
        match self {
            EventKind::Message => Kind::MessageSent,
            EventKind::Broadcast => Kind::BroadcastSent,
            EventKind::Config => Kind::ConfigureSent,
            EventKind::Unregistered => Kind::UnregisterSent,
        }
    }

    /// Who hears of it by way of a device that it reaches.
    pub fn received(self) -> Kind {
        match self {
            EventKind::Message => Kind::MessageReceived,
            EventKind::Broadcast => Kind::BroadcastReceived,
            EventKind::Config => Kind::ConfigureReceived,
            EventKind::Unregistered => Kind::UnregisterReceived,
        }
    }
}

/// Something that happened, as it is told.
#[derive(Debug)]
pub struct MeshEvent {
    /// What kind of thing.
    pub kind: EventKind,
    /// To or by which device.
    pub from: DeviceId,
    /// How often it has been sent on by a device's own wish.
    pub hops: u8,
    /// JSON for sockets, with the name of the event.
    pub frame: Box<[u8]>,
    /// JSON for MQTT and webhooks, where topic or header name it.
    pub body: Arc<[u8]>,
}

impl MeshEvent {
    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        self.frame.len() + self.body.len()
    }

    /// A document has changed; `view` is how it is shown now.
    pub fn config(device: DeviceId, view: &[u8]) -> MeshEvent {
        let mut frame = b"{\"event\":\"config\",\"device\":".to_vec();
        frame.extend_from_slice(view);
        frame.push(b'}');
        MeshEvent {
            kind: EventKind::Config,
            from: device,
            hops: 0,
            frame: frame.into(),
            body: view.into(),
        }
    }

    /// A device is no more.
    pub fn unregistered(device: DeviceId) -> MeshEvent {
        let frame = format!("{{\"event\":\"unregistered\",\"uuid\":\"{device}\"}}");
        let body = format!("{{\"uuid\":\"{device}\"}}");
        MeshEvent {
            kind: EventKind::Unregistered,
            from: device,
            hops: 0,
            frame: frame.into_bytes().into(),
            body: body.into_bytes().into(),
        }
    }
}

/// A message on its way to the shards of its addressees and of its sender.
#[derive(Debug)]
pub struct Emission {
    /// Who sends it.
    pub from: DeviceId,
    /// To these devices, on whatever shards.
    pub direct: Vec<DeviceId>,
    /// The message, for its addressees.
    pub message: Arc<MeshEvent>,
    /// The same for all who listen, if it is for them.
    pub broadcast: Option<Arc<MeshEvent>>,
}

impl Emission {
    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let broadcast = self.broadcast.as_ref().map_or(0, |event| event.frame.len());
        self.message.bytes() + broadcast + size_of_val(&*self.direct)
    }

    /// Of a message that has been read.
    pub fn new(from: DeviceId, outgoing: &Outgoing, hops: u8) -> Emission {
        let body: Arc<[u8]> = outgoing.body().into();
        let event = |kind| {
            Arc::new(MeshEvent {
                kind,
                from,
                hops,
                frame: outgoing.event(EventKind::topic(kind)).into(),
                body: Arc::clone(&body),
            })
        };
        Emission {
            from,
            direct: outgoing.direct.clone(),
            message: event(EventKind::Message),
            broadcast: outgoing.is_broadcast.then(|| event(EventKind::Broadcast)),
        }
    }
}

/// An event on its way to devices that hear of it.
#[derive(Debug)]
pub struct Hearing {
    /// Devices of the receiving shard.
    pub to: Vec<DeviceId>,
    /// What they hear.
    pub event: Arc<MeshEvent>,
    /// How many shards it has come through.
    pub stage: Stage,
    /// It reaches them as their own: those who hear of what they receive hear of it, too.
    pub is_onward: bool,
}
