//! What somebody asks of the Meshblu API, and what comes of it, whatever the transport: HTTP,
//! WebSocket and MQTT only translate into a [`Call`] and out of a [`Done`].

use super::live::Transport;
use super::parts::{Cursor, Part};
use crate::counters::Counters;
use crate::{ConnectionId, DeviceId, DeviceSubscription, SessionId};
use meshblu::{Kind, Query, Refusal, Timestamp};
use std::sync::Arc;

/// A request.
#[derive(Debug)]
pub struct Call {
    /// Who asks.
    pub actor: Actor,
    /// Whom the actor acts as (`x-meshblu-as`); the actor needs that device's leave.
    pub acting_as: Option<DeviceId>,
    /// What is asked.
    pub op: Op,
}

/// Who asks, as far as is known.
#[derive(Clone, Debug)]
pub enum Actor {
    /// Somebody without credentials.
    Nobody,
    /// Somebody whose credentials make no sense.
    Malformed,
    /// Somebody who says so.
    Claimed {
        /// The device.
        device: DeviceId,
        /// Its token, to be verified.
        token: Box<str>,
    },
    /// A connection that has identified itself before.
    Known {
        /// The device.
        device: DeviceId,
        /// Which of its tokens; if that has been revoked, the actor is unauthorized.
        token: u64,
    },
}

/// How a document is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Plain properties are merged; a body of operators alone is carried out.
    Put,
    /// Plain properties are merged.
    Merge,
    /// Operators.
    Operators,
}

/// What is asked. JSON bodies are as they came, and judged where they are used.
#[derive(Debug)]
pub enum Op {
    /// Whether the credentials are right.
    Authenticate,
    /// The same, and from then on the connection hears what happens to the device.
    Listen {
        /// Which.
        connection: ConnectionId,
        /// How it is told.
        transport: Transport,
    },
    /// A new device.
    Register {
        /// Its document.
        body: Box<[u8]>,
    },
    /// The actor's own document.
    Whoami,
    /// A document.
    Get {
        /// Whose.
        device: DeviceId,
    },
    /// Another document.
    Update {
        /// Whose.
        device: DeviceId,
        /// The changes.
        body: Box<[u8]>,
        /// How to read them.
        way: Way,
    },
    /// The end of a device.
    Unregister {
        /// Whose.
        device: DeviceId,
    },
    /// All that the actor may see and that matches.
    Search {
        /// What to look for.
        query: Arc<Query>,
        /// How much of it.
        part: Part,
    },
    /// The actor itself if `with_self`, and all that it owns.
    MyDevices {
        /// Among these only.
        query: Option<Arc<Query>>,
        /// Begin with the actor.
        with_self: bool,
        /// How much of them.
        part: Part,
    },
    /// The actor becomes the owner.
    Claim {
        /// Of which device.
        device: DeviceId,
    },
    /// A message to devices, or to all who listen.
    Message {
        /// As it came.
        body: Box<[u8]>,
    },
    /// A message to all who listen.
    Broadcast {
        /// As it came.
        body: Box<[u8]>,
    },
    /// From now on a device hears of another.
    Subscribe(SubscriptionOf),
    /// What a device hears of.
    Subscriptions {
        /// Whose.
        subscriber: DeviceId,
        /// How much of it.
        part: Part,
    },
    /// A device hears no more of another, or of this kind of it, or of anybody.
    Unsubscribe {
        /// Whose.
        subscriber: DeviceId,
        /// Of whom; of all.
        emitter: Option<DeviceId>,
        /// Of what; of everything.
        kind: Option<Kind>,
    },
    /// One more token.
    GenerateToken {
        /// Whose.
        device: DeviceId,
        /// Options; may be empty.
        body: Box<[u8]>,
    },
    /// One token less.
    RevokeToken {
        /// Whose.
        device: DeviceId,
        /// The token itself.
        token: Box<str>,
    },
    /// All tokens with this tag less.
    RevokeTokens {
        /// Whose.
        device: DeviceId,
        /// The tag; all if there is none.
        tag: Option<Box<str>>,
    },
    /// A new token instead of all others.
    ResetToken {
        /// Whose.
        device: DeviceId,
    },
    /// The actor's tokens, or those with this tag.
    SearchTokens {
        /// The tag.
        tag: Option<Box<str>>,
    },
    /// A device's public key. Needs no credentials.
    PublicKey {
        /// Whose.
        device: DeviceId,
    },
    /// What all shards have counted. Needs no credentials.
    Status,
}

/// Who is to hear what of whom.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionOf {
    /// Who hears.
    pub subscriber: DeviceId,
    /// Of whom.
    pub emitter: DeviceId,
    /// Of what.
    pub kind: Kind,
}

/// What came of it. Documents are JSON.
#[derive(Debug)]
pub enum Done {
    /// The credentials are right.
    Authenticated {
        /// Whose they are.
        device: DeviceId,
    },
    /// The connection hears what happens to the device.
    Listening {
        /// Which.
        device: DeviceId,
        /// Which of its tokens was shown.
        token: u64,
        /// The inside of its `meshblu`.
        meshblu: Vec<u8>,
    },
    /// Registered.
    Registered {
        /// The new device.
        device: DeviceId,
        /// Its token, told once.
        token: Box<str>,
        /// Its document, with the token.
        view: Vec<u8>,
    },
    /// A document.
    Device {
        /// As it is now.
        view: Vec<u8>,
    },
    /// A changed document.
    Updated {
        /// As it is now.
        view: Vec<u8>,
        /// As it was.
        before: Vec<u8>,
        /// The body had operators alone.
        is_operators: bool,
    },
    /// The device is no more.
    Unregistered {
        /// Which.
        device: DeviceId,
    },
    /// Documents.
    Devices {
        /// Each as JSON.
        views: Vec<Vec<u8>>,
        /// Where there are more, if there are.
        next: Option<Cursor>,
    },
    /// Claimed.
    Claimed {
        /// The document, with `owner`.
        view: Vec<u8>,
    },
    /// The message is with all who are to have it.
    Sent,
    /// Subscribed.
    Subscribed(DeviceSubscription),
    /// What a device hears of.
    Subscriptions {
        /// In no order that means anything.
        found: Vec<DeviceSubscription>,
        /// Where there are more, if there are.
        next: Option<Cursor>,
    },
    /// Unsubscribed.
    Unsubscribed,
    /// A new token.
    Token {
        /// Whose.
        device: DeviceId,
        /// The token, told once.
        token: Box<str>,
        /// Which of the device's it is.
        id: u64,
        /// When it was made.
        created: Timestamp,
        /// The options that it was made with, as members of a JSON object, without braces.
        options: Box<str>,
    },
    /// So many tokens have been revoked.
    Revoked {
        /// How many.
        count: usize,
    },
    /// Tokens, as a JSON array.
    Tokens {
        /// The array.
        json: Vec<u8>,
    },
    /// A public key.
    PublicKey {
        /// Whose.
        device: DeviceId,
        /// As JSON; `null` if there is none.
        json: String,
    },
    /// What all shards have counted.
    Status {
        /// The sums.
        counters: Box<Counters>,
    },
}

/// What came of a call.
pub type Outcome = Result<Done, Refusal>;

/// Who waits for the outcome: a connection of this shard, which may be gone by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOrigin {
    /// The request that an HTTP connection is at.
    Http(ConnectionId),
    /// A frame of a WebSocket.
    Socket(ConnectionId),
    /// CONNECT of an MQTT client that shows a device's token.
    Connect(ConnectionId),
    /// A PUBLISH on behalf of another device.
    Published {
        /// Where it came.
        connection: ConnectionId,
        /// By whom.
        session: SessionId,
        /// Which of the acknowledgements that are owed; `None` at QoS 0.
        sequence: Option<u32>,
    },
    /// A request of meshblu-mqtt, by its number in `Mesh::rpcs`.
    Rpc(ConnectionId, u32),
}
