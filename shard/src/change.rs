//! What a shard wants kept, and what it is given back when it starts again.
//!
//! One vocabulary for both directions: a file that has taken in all changes of a shard gives the
//! *put* changes of what is left, and a shard that recovers from them goes on where it was. A
//! session is named by a [`SessionKey`] that no other session of any shard ever has, so records
//! can move between files.

use crate::outbound::{Delivery, Step};
use crate::{DeviceId, GroupKey, Message, Time};
use mqtt_v5_codec::{PacketId, SubscriptionOptions};
use std::sync::Arc;

/// Names a kept session for as long as it lives, wherever it is kept. Drawn at random; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// Changes to make durable: all of them or none.
#[derive(Debug, Default)]
pub struct Commit {
    /// Rises by one with each commit of a shard in this process.
    pub sequence: u64,
    /// When the shard made it: what is known of the time at which it was last alive.
    pub at: Time,
    /// What changed, in order.
    pub changes: Vec<Change>,
}

/// Marks the ordinal of a [`Change::PutReceived`] whose message has been released already.
pub const OVER: u64 = 1 << 63;

/// One record to keep or to forget. Putting what is there replaces it; removing what is not there
/// does nothing.
#[derive(Clone, Debug)]
pub enum Change {
    /// Taken back before it left the shard: nothing to do.
    Void,
    /// A session that outlives its connection.
    PutSession(Box<StoredSession>),
    /// It has ended, and with it everything that is kept under its key.
    RemoveSession {
        /// Which.
        session: SessionKey,
    },
    /// A subscription of a session.
    PutSubscription(Box<StoredSubscription>),
    /// It has been given up.
    RemoveSubscription {
        /// Whose.
        session: SessionKey,
        /// As in [`StoredSubscription::filter`].
        filter: Box<str>,
    },
    /// A QoS 2 message of this client's has been taken and its PUBREC is due; until PUBREL.
    /// [MQTT-4.3.3-10]
    PutReceived {
        /// Whose.
        session: SessionKey,
        /// The client's.
        packet_id: PacketId,
        /// The session's count of such messages. The highest ever put is kept after the removal,
        /// and given back as [`Change::PutFloor`]; but one with [`OVER`] is none of them, and says
        /// up to which count messages with this identifier have been released.
        ordinal: u64,
    },
    /// Released.
    RemoveReceived {
        /// Whose.
        session: SessionKey,
        /// The client's.
        packet_id: PacketId,
    },
    /// The highest ordinal of a session's [`Change::PutReceived`].
    PutFloor {
        /// Whose.
        session: SessionKey,
        /// The ordinal.
        ordinal: u64,
    },
    /// A message on its way to a session's client.
    PutQueued(Box<StoredQueued>),
    /// It has arrived, or has been dropped.
    RemoveQueued {
        /// Whose.
        session: SessionKey,
        /// As in [`StoredQueued::position`].
        position: u64,
    },
    /// This session has its copy of a QoS 2 message whose publisher may send it again.
    PutSeen {
        /// Who has it.
        session: SessionKey,
        /// Whose it is.
        publisher: SessionKey,
        /// The publisher's.
        packet_id: PacketId,
        /// The publisher's count of such messages.
        ordinal: u64,
    },
    /// The publisher has its acknowledgement.
    RemoveSeen {
        /// Who has it.
        session: SessionKey,
        /// Whose it was.
        publisher: SessionKey,
        /// The publisher's.
        packet_id: PacketId,
    },
    /// The retained message of its topic.
    PutRetained {
        /// What; its topic is in it.
        message: Arc<Message>,
    },
    /// There is none any more.
    RemoveRetained {
        /// Of this topic.
        topic: Box<str>,
    },
    /// A message that waits for a member of a group.
    PutGroupQueued {
        /// Which group.
        key: Arc<GroupKey>,
        /// Its place in the group's queue: messages leave in this order.
        position: u64,
        /// What.
        message: Arc<Message>,
    },
    /// A member has it, or it has been dropped.
    RemoveGroupQueued {
        /// Which group.
        key: Arc<GroupKey>,
        /// As put.
        position: u64,
    },
    /// A device of the Meshblu API.
    PutDevice {
        /// Whose record it is, which decides where it lives.
        device: DeviceId,
        /// As `meshblu::Device` writes it.
        record: Arc<[u8]>,
    },
    /// It is unregistered, and with it go its tokens and the subscriptions to it.
    RemoveDevice {
        /// Which.
        device: DeviceId,
    },
    /// A token of a device.
    PutToken {
        /// Whose.
        device: DeviceId,
        /// Which of its tokens.
        token: u64,
        /// As `meshblu::Token` writes it: a hash, never the token itself.
        record: Box<[u8]>,
    },
    /// It has been revoked.
    RemoveToken {
        /// Whose.
        device: DeviceId,
        /// As put.
        token: u64,
    },
    /// A device hears what happens to another. Lives with the emitter.
    PutDeviceSubscription(DeviceSubscription),
    /// It has been given up.
    RemoveDeviceSubscription(DeviceSubscription),
}

/// That a device hears of one kind of event of another; the whole of it is its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceSubscription {
    /// To whom it happens.
    pub emitter: DeviceId,
    /// Who hears of it.
    pub subscriber: DeviceId,
    /// What: `meshblu::Kind` as a number.
    pub kind: u8,
}

/// A session as it is kept.
#[derive(Clone, Debug)]
pub struct StoredSession {
    /// Its name in all other records.
    pub session: SessionKey,
    /// Whose.
    pub client_id: Box<str>,
    /// The device that its client has shown itself to be, if any.
    pub device: Option<DeviceId>,
    /// Seconds that it outlives its connection; 0xFFFF_FFFF for ever. Never 0.
    pub expiry_s: u32,
    /// When its client was last seen to leave; `None` while it is connected.
    pub left: Option<Time>,
    /// To be published if the client does not come back.
    pub will: Option<StoredWill>,
}

/// A will as it is kept.
#[derive(Clone, Debug)]
pub struct StoredWill {
    /// What to publish, without its expiry.
    pub message: Arc<Message>,
    /// Seconds that it waits for the client to come back.
    pub delay_s: u32,
    /// v5 message expiry in seconds, counted from its publication.
    pub expiry_s: Option<u32>,
}

/// A subscription as it is kept.
#[derive(Clone, Debug)]
pub struct StoredSubscription {
    /// Whose.
    pub session: SessionKey,
    /// As the client wrote it, `$share/…` included.
    pub filter: Box<str>,
    /// Quality of service and flags.
    pub options: SubscriptionOptions,
    /// v5 subscription identifier; 0 for none.
    pub subscription_id: u32,
}

/// A message on its way to a session's client, as it is kept.
#[derive(Clone, Debug)]
pub struct StoredQueued {
    /// Whose.
    pub session: SessionKey,
    /// Its place: messages leave in this order.
    pub position: u64,
    /// What; `None` once the client has sent PUBREC for it.
    pub message: Option<Arc<Message>>,
    /// How.
    pub delivery: Delivery,
    /// Its packet identifier and how far it has come, once it has been sent.
    pub sent: Option<(PacketId, Step)>,
}
