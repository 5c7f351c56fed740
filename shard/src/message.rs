//! An application message: borrowed while it is being routed, shared once someone must keep it.

use crate::seen::Once;
use crate::{SessionId, ShardId, Time};
use mqtt_v5_codec::QoS;
use std::sync::Arc;

/// Who published a message: needed for No Local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// The home of the session.
    pub shard: ShardId,
    /// The session there.
    pub session: SessionId,
}

impl Publisher {
    /// The Meshblu API: what it publishes on a device's topic is for sessions of that device alone.
    pub const MESH: Publisher = Publisher {
        shard: ShardId(u16::MAX),
        session: SessionId {
            index: u32::MAX,
            generation: u32::MAX,
        },
    };
}

/// A message that lives in somebody else's buffer.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    /// A valid topic name.
    pub topic: &'a str,
    /// Encoded v5 properties that are passed on unaltered; see
    /// `mqtt_v5_codec::PublishProperties::encode_forwarded`.
    pub forwarded: &'a [u8],
    /// The message itself.
    pub payload: &'a [u8],
    /// As published.
    pub qos: QoS,
    /// As published.
    pub retain: bool,
    /// When it must no longer be sent.
    pub expires: Option<Time>,
    /// `None` for wills and `$SYS`.
    pub publisher: Option<Publisher>,
}

/// A message of its own: one allocation for all its bytes.
#[derive(Debug)]
pub struct Message {
    bytes: Box<[u8]>,
    topic_bytes: u32,
    forwarded_bytes: u32,
    /// As published.
    pub qos: QoS,
    /// As published.
    pub retain: bool,
    /// When it must no longer be sent.
    pub expires: Option<Time>,
    /// `None` for wills and `$SYS`.
    pub publisher: Option<Publisher>,
    /// When its PUBLISH arrived; 0 if that is not known.
    arrived: Time,
}

impl Message {
    /// When its PUBLISH arrived; 0 if that is not known: it comes from the store, or no client has
    /// published it.
    pub fn arrived(&self) -> Time {
        self.arrived
    }

    /// The message as a view of itself.
    pub fn view(&self) -> MessageView<'_> {
        let (topic, rest) = self.bytes.split_at(self.topic_bytes as usize);
        let (forwarded, payload) = rest.split_at(self.forwarded_bytes as usize);
        MessageView {
            topic: std::str::from_utf8(topic).expect("built from a str"),
            forwarded,
            payload,
            qos: self.qos,
            retain: self.retain,
            expires: self.expires,
            publisher: self.publisher,
        }
    }

    /// What it counts for in a queue, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + 96
    }
}

impl MessageView<'_> {
    /// A message that owns a copy.
    pub fn to_message(&self) -> Arc<Message> {
        self.to_message_of(Time::default())
    }

    /// The same, with the time of its arrival.
    fn to_message_of(self, arrived: Time) -> Arc<Message> {
        let mut bytes =
            Vec::with_capacity(self.topic.len() + self.forwarded.len() + self.payload.len());
        bytes.extend_from_slice(self.topic.as_bytes());
        bytes.extend_from_slice(self.forwarded);
        bytes.extend_from_slice(self.payload);
        Arc::new(Message {
            bytes: bytes.into_boxed_slice(),
            topic_bytes: self.topic.len() as u32,
            forwarded_bytes: self.forwarded.len() as u32,
            qos: self.qos,
            retain: self.retain,
            expires: self.expires,
            publisher: self.publisher,
            arrived,
        })
    }

    /// Whether it must no longer be sent.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// A message that becomes shared at the first recipient who must keep it.
#[derive(Debug)]
pub struct LazyMessage<'a> {
    /// Its contents.
    pub view: MessageView<'a>,
    /// Makes it known again when it comes a second time, if it can.
    pub once: Option<Once>,
    /// When its PUBLISH arrived; 0 if that is not known.
    pub arrived: Time,
    shared: Option<Arc<Message>>,
}

impl<'a> LazyMessage<'a> {
    /// Not shared yet.
    pub fn new(view: MessageView<'a>) -> LazyMessage<'a> {
        LazyMessage {
            view,
            once: None,
            arrived: Time::default(),
            shared: None,
        }
    }

    /// Already shared.
    pub fn of(message: &'a Arc<Message>) -> LazyMessage<'a> {
        LazyMessage {
            view: message.view(),
            once: None,
            arrived: message.arrived,
            shared: Some(Arc::clone(message)),
        }
    }

    /// The shared message; made at the first call.
    pub fn share(&mut self) -> Arc<Message> {
        let (view, arrived) = (&self.view, self.arrived);
        let shared = &mut self.shared;
        Arc::clone(shared.get_or_insert_with(|| view.to_message_of(arrived)))
    }
}
