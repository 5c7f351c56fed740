//! What the shard that holds a request asks of the shards that own the devices concerned, one step
//! at a time, and what it is told.
//!
//! Always: a step concerns one device (or one shard's part of a search), is carried out by the
//! owner within one event, and is answered exactly once.

use super::call::{SubscriptionOf, Way};
use super::live::Live;
use crate::counters::Counters;
use crate::{ConnectionId, DeviceId, DeviceSubscription, RequestId, ShardId};
use meshblu::{Access, Kind, Query, Refusal, Timestamp};
use std::net::IpAddr;
use std::sync::Arc;

/// What shows that somebody is a device.
#[derive(Clone, Debug)]
pub enum Proof {
    /// Its token, to be verified.
    Token {
        /// What was shown.
        secret: Box<str>,
        /// By whom, if they are still there.
        peer: Option<IpAddr>,
    },
    /// That this token of its has been verified before, and has not been revoked since.
    Known(u64),
}

/// One step.
#[derive(Debug)]
pub enum Ask {
    /// Whether somebody is this device.
    Authenticate {
        /// Which.
        device: DeviceId,
        /// What shows it.
        proof: Proof,
    },
    /// The same, and the connection hears what happens to it.
    Attach {
        /// Which.
        device: DeviceId,
        /// What shows it.
        proof: Proof,
        /// The connection; its token, and when that expires, is filled in.
        live: Live,
    },
    /// Whether somebody has this kind of leave from the device; unknown devices are not found.
    Permit {
        /// Whose leave.
        device: DeviceId,
        /// Who.
        actor: DeviceId,
        /// For what.
        access: Access,
    },
    /// Its document.
    View {
        /// Whose.
        device: DeviceId,
        /// Who looks.
        actor: DeviceId,
    },
    /// A new device.
    Register {
        /// Its UUID.
        device: DeviceId,
        /// Its token.
        token: Box<str>,
        /// Its document.
        body: Box<[u8]>,
    },
    /// Another document.
    Update {
        /// Whose.
        device: DeviceId,
        /// Who changes it.
        actor: DeviceId,
        /// The changes.
        body: Box<[u8]>,
        /// How to read them.
        way: Way,
    },
    /// The end of the device.
    Unregister {
        /// Which.
        device: DeviceId,
        /// Who ends it.
        actor: DeviceId,
    },
    /// A new owner.
    Claim {
        /// Of which device.
        device: DeviceId,
        /// Who.
        owner: DeviceId,
    },
    /// A page of this shard's devices.
    Search {
        /// Which of them; all.
        query: Option<Arc<Query>>,
        /// Those of this owner only.
        owner: Option<DeviceId>,
        /// Who looks.
        actor: DeviceId,
        /// Where to go on.
        from: u32,
    },
    /// A device hears of this one.
    Subscribe(SubscriptionOf),
    /// A device hears no more of this one, or of any of this shard's.
    Unsubscribe {
        /// Who.
        subscriber: DeviceId,
        /// Of whom.
        emitter: Option<DeviceId>,
        /// Of what; of everything.
        kind: Option<Kind>,
    },
    /// What a device hears of among this shard's.
    Subscriptions {
        /// Who.
        subscriber: DeviceId,
        /// Where to go on.
        from: u32,
    },
    /// A new token.
    GenerateToken {
        /// Whose.
        device: DeviceId,
        /// Who asks for it.
        actor: DeviceId,
        /// The token.
        token: Box<str>,
        /// Its options.
        body: Box<[u8]>,
        /// It replaces all others.
        is_reset: bool,
        /// The connection that it is told on goes on with it.
        by: Option<(ShardId, ConnectionId)>,
    },
    /// One token less.
    RevokeToken {
        /// Whose.
        device: DeviceId,
        /// Who asks for it.
        actor: DeviceId,
        /// The token.
        token: Box<str>,
    },
    /// All tokens with this tag less.
    RevokeTokens {
        /// Whose.
        device: DeviceId,
        /// Who asks for it.
        actor: DeviceId,
        /// The tag; all if there is none.
        tag: Option<Box<str>>,
    },
    /// Its tokens.
    SearchTokens {
        /// Whose.
        device: DeviceId,
        /// With this tag only.
        tag: Option<Box<str>>,
    },
    /// Its public key.
    PublicKey {
        /// Whose.
        device: DeviceId,
    },
    /// What this shard has counted.
    Count,
}

/// What came of a step.
#[derive(Debug)]
pub enum Told {
    /// Nothing: this is why.
    Refused(Refusal),
    /// Yes, or done.
    Allowed,
    /// Who shows this is the device.
    Known {
        /// Which of its tokens it was.
        token: u64,
    },
    /// The connection hears what happens to the device.
    Attached {
        /// Which of its tokens it was.
        token: u64,
        /// The inside of its `meshblu`.
        meshblu: Vec<u8>,
    },
    /// A document.
    View(Vec<u8>),
    /// A changed document.
    Updated {
        /// As it is now.
        view: Vec<u8>,
        /// As it was.
        before: Vec<u8>,
        /// The body had operators alone.
        is_operators: bool,
    },
    /// A page of documents.
    Page {
        /// Each as JSON, with its place.
        views: Vec<(u32, Vec<u8>)>,
        /// Where to go on, if that was not all.
        next: Option<u32>,
    },
    /// What a device hears of.
    Subscriptions {
        /// A page of it, each with its place.
        found: Vec<(u32, DeviceSubscription)>,
        /// Where to go on, if that was not all.
        next: Option<u32>,
    },
    /// A new token is kept.
    Token {
        /// Which it is.
        id: u64,
        /// When it was made.
        created: Timestamp,
        /// Its options, as members of a JSON object.
        options: Box<str>,
    },
    /// Tokens are gone.
    Revoked {
        /// How many.
        count: usize,
    },
    /// Tokens, as a JSON array.
    Tokens(Vec<u8>),
    /// A public key as JSON.
    PublicKey(String),
    /// What this shard has counted.
    Counted(Box<Counters>),
}

/// Who waits for what came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A job of this shard.
    Job(u32),
    /// One of another.
    Shard {
        /// Who.
        to: ShardId,
        /// In its numbering.
        request: RequestId,
    },
}
