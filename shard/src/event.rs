//! What the world tells a shard. The set is closed: there is no other way in.

use crate::console::Question;
use crate::{Computed, ConnectionId, Dialect, Frame, Handoff, SessionKey, ShardId, StoredQueued};
use std::net::SocketAddr;

/// Something happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A socket was accepted. The id is new and stays valid until the shard sees
    /// [`Event::Closed`] or pushes [`crate::Effect::Close`] or [`crate::Effect::Adopt`] for it,
    /// whichever is first; after that neither side names it again.
    Accepted {
        /// The driver's name for it.
        connection: ConnectionId,
        /// Which listener it came by.
        listener: Listener,
        /// The other end.
        peer: SocketAddr,
    },
    /// A connection that another shard accepted has been moved here. Its id is new here.
    Adopted {
        /// This driver's name for it.
        connection: ConnectionId,
        /// What the other shard knew.
        handoff: Box<Handoff>,
    },
    /// Bytes arrived. They are borrowed from the receive buffer, which is free again when
    /// `handle` returns. Never empty.
    Received {
        /// Where.
        connection: ConnectionId,
        /// Part of a stream, cut anywhere.
        bytes: &'a [u8],
    },
    /// The connection's output, once reported full (see [`crate::Effects::want_writable`]), has
    /// drained to its low-water mark.
    Writable {
        /// Which.
        connection: ConnectionId,
    },
    /// The peer closed or the transport failed. The id is dead.
    Closed {
        /// Which.
        connection: ConnectionId,
    },
    /// Another shard says something. Frames of one lane of one sender arrive in order.
    Frame {
        /// Who.
        from: ShardId,
        /// What.
        frame: Frame,
    },
    /// The frames staged for this shard have all been put into its ring, after they once did not
    /// all fit.
    LaneDrained {
        /// The shard whose lane has room again.
        to: ShardId,
    },
    /// A group of changes is durable; all changes up to and including this number.
    Committed {
        /// The highest number among them.
        sequence: u64,
    },
    /// Part of a session's queue, as asked for by [`crate::Effect::Load`].
    Loaded {
        /// Whose.
        session: SessionKey,
        /// In order; empty if there are no more.
        messages: Vec<StoredQueued>,
    },
    /// A helper thread has done what [`crate::Effect::Compute`] asked for.
    Computed {
        /// As in [`crate::Compute::id`].
        id: u64,
        /// What came of it.
        outcome: Computed,
    },
    /// An operator asks; [`crate::Effect::Answered`] answers.
    Asked {
        /// Given back with the answer.
        id: u64,
        /// What.
        question: Box<Question>,
    },
    /// The store cannot write for now (full disk, read-only disk). It keeps what it was given and
    /// tries again; nothing is lost, and nothing gets durable meanwhile.
    StoreStalled {
        /// Why, for people.
        reason: String,
    },
    /// The store writes again.
    StoreResumed,
    /// The deadline of [`crate::Shard::next_deadline`] has passed.
    Tick,
    /// Begin a graceful stop; [`crate::Effect::Stopped`] says when all is drained.
    Stop,
}

/// The kind of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    /// MQTT over TCP.
    Mqtt,
    /// HTTP, and WebSocket by upgrade.
    Http,
    /// The same, with results written in this dialect whatever the configuration says.
    HttpAs(Dialect),
}
