//! What one shard tells another.
//!
//! A frame travels on one of two lanes. A request that wants an answer holds a credit of its lane
//! (`lanes.rs`) until the answer is there, and a reply lane holds as many frames as there are
//! credits: so a reply always has room.

use crate::mesh::ask::{Ask, Told};
use crate::mesh::emission::{Emission, Hearing, MeshEvent};
use crate::seen::Once;
use crate::{ConnectionId, DeviceId, RequestId, SessionId, counters::Counters, message::Message};
use mqtt_v5_codec::SubscriptionOptions;
use std::sync::Arc;

/// The lane that a frame travels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// May be full: frames then wait at the sender, and the connections that feed it are paused.
    Request,
    /// Always has room.
    Reply,
}

/// The name of a shared subscription's group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// The share name.
    pub name: Box<str>,
    /// The topic filter without `$share/name/`.
    pub filter: Box<str>,
}

/// One message between two shards.
#[derive(Debug)]
pub enum Frame {
    /// To the owner of a device topic: route this as if it had been published at yours.
    Publish {
        /// To be answered with [`Answer::Accepted`]; `None` at QoS 0.
        request: Option<RequestId>,
        /// The message.
        message: Arc<Message>,
        /// Makes it known again when it comes a second time.
        once: Option<Box<Once>>,
        /// A will: there is nobody to be told that it cannot be kept.
        is_will: bool,
    },
    /// To a shard that announced a matching route: deliver this to your subscribers.
    Deliver {
        /// To be answered with [`Answer::Accepted`]; `None` at QoS 0.
        request: Option<RequestId>,
        /// The message.
        message: Arc<Message>,
        /// Makes it known again when it comes a second time.
        once: Option<Box<Once>>,
        /// A will: there is nobody to be told that it cannot be kept.
        is_will: bool,
    },
    /// To the shard that keeps a free topic's retained message: keep this, or forget it if its
    /// payload is empty.
    Retain {
        /// To be answered with [`Answer::Retained`].
        request: RequestId,
        /// The message.
        message: Arc<Message>,
        /// A will: there is nobody to be told that it cannot be kept.
        is_will: bool,
    },
    /// The sender has subscribers to these filters from now on.
    RouteAdd {
        /// To be answered with [`Answer::RouteAdded`], once no publish that the receiver took
        /// before can miss both the route and the retained message.
        request: RequestId,
        /// Not known to the receiver before.
        filters: Vec<Box<str>>,
    },
    /// The sender has no subscribers to these filters any more.
    RouteRemove {
        /// Announced before.
        filters: Vec<Box<str>>,
    },
    /// To the shard of a group: a session joins, or changes its options.
    GroupJoin {
        /// To be answered with [`Answer::GroupJoined`] once the group's route is known.
        request: RequestId,
        /// Which group.
        key: Arc<GroupKey>,
        /// A session of the sender's.
        session: SessionId,
        /// Quality of service and flags.
        options: SubscriptionOptions,
    },
    /// A session leaves a group.
    GroupLeave {
        /// Which group.
        key: Arc<GroupKey>,
        /// A session of the sender's.
        session: SessionId,
    },
    /// A member connected or disconnected.
    GroupPresence {
        /// Which group.
        key: Arc<GroupKey>,
        /// A session of the sender's.
        session: SessionId,
        /// Whether it is connected now.
        is_connected: bool,
    },
    /// To a member's home: deliver this to the member.
    GroupDeliver {
        /// To be answered with [`Answer::Accepted`] or [`Answer::Declined`]; `None` at QoS 0.
        request: Option<RequestId>,
        /// Which group.
        key: Arc<GroupKey>,
        /// A session of the receiver's.
        session: SessionId,
        /// The message.
        message: Arc<Message>,
        /// A will: there is nobody to be told that it cannot be kept.
        is_will: bool,
    },
    /// A member's session ended before it took this message: give it to another member.
    GroupReturn {
        /// To be answered with [`Answer::Accepted`] if the sender keeps it until then.
        request: Option<RequestId>,
        /// Which group.
        key: Arc<GroupKey>,
        /// The message.
        message: Arc<Message>,
    },
    /// Read a page of retained messages.
    RetainedRead {
        /// To be answered with [`Answer::RetainedPage`].
        request: RequestId,
        /// Which topics.
        filter: Arc<str>,
        /// The topic to go on after.
        after: Option<String>,
    },
    /// What has come of a request that was answered with [`Answer::Later`].
    Settled {
        /// Which request, in the receiver's numbering.
        request: RequestId,
        /// As in [`Answer::Accepted`].
        matched: bool,
        /// As in [`Answer::Accepted`].
        is_refused: bool,
    },
    /// To the owner of a device: a step of a request of the Meshblu API.
    Ask {
        /// To be answered with [`Answer::Told`].
        request: RequestId,
        /// The step.
        ask: Box<Ask>,
    },
    /// To the owner of some of a message's addressees, or of its sender: tell who hears of it.
    Emit {
        /// To be answered with [`Answer::Accepted`].
        request: Option<RequestId>,
        /// The message.
        emission: Arc<Emission>,
    },
    /// To the owner of devices that hear of an event.
    Hear {
        /// To be answered with [`Answer::Accepted`].
        request: Option<RequestId>,
        /// What and who.
        hearing: Box<Hearing>,
    },
    /// To the shard of a device's connection: tell it this.
    Tell {
        /// Which.
        connection: ConnectionId,
        /// What.
        event: Arc<MeshEvent>,
    },
    /// To the shard of a device's connection: the token that it has shown is worth nothing now.
    Revoked {
        /// Which.
        connection: ConnectionId,
    },
    /// To the owner of a device: this connection of the sender's is gone.
    Detach {
        /// Whose it was.
        device: DeviceId,
        /// Which it was.
        connection: ConnectionId,
    },
    /// A device is no more, and hears of nobody.
    DeviceGone {
        /// Which.
        device: DeviceId,
    },
    /// All that the sender recovered has been announced, and confirmed.
    Begun,
    /// To shard 0: what the sender has counted.
    Counted(Box<Counters>),
    /// The answer to a request.
    Reply {
        /// Which request, in the receiver's numbering.
        request: RequestId,
        /// What came of it.
        answer: Answer,
    },
}

/// What came of a request.
#[derive(Debug)]
pub enum Answer {
    /// The message is with all subscribers that the answering shard is responsible for.
    Accepted {
        /// Whether there was at least one.
        matched: bool,
        /// Some subscriber could not be given it, since it cannot be kept.
        is_refused: bool,
    },
    /// The message is taken, but a subscriber is too slow for it to be accepted now:
    /// [`Frame::Settled`] follows. The credit is free, so that others need not wait.
    Later,
    /// The member cannot take the message: it is not connected, or gone.
    Declined,
    /// The retained message is kept or forgotten.
    Retained {
        /// It could not be kept.
        is_refused: bool,
        /// It is not durable yet: [`Frame::Settled`] follows.
        is_late: bool,
    },
    /// The routes are known.
    RouteAdded,
    /// The session is a member and the group's route is known everywhere.
    GroupJoined,
    /// What came of a step.
    Told(Box<Told>),
    /// A page of retained messages.
    RetainedPage {
        /// In topic order.
        messages: Vec<Arc<Message>>,
        /// Where to go on; `None` at the end.
        next: Option<String>,
    },
}

impl Frame {
    /// The lane that this kind of frame travels on.
    pub fn lane(&self) -> Lane {
        match self {
            Frame::Reply { .. } => Lane::Reply,
            _ => Lane::Request,
        }
    }

    /// The request that the receiver owes an answer to, so that the frame holds a credit.
    pub(crate) fn request_mut(&mut self) -> Option<&mut RequestId> {
        match self {
            Frame::Publish { request, .. }
            | Frame::Deliver { request, .. }
            | Frame::GroupDeliver { request, .. }
            | Frame::GroupReturn { request, .. }
            | Frame::Emit { request, .. }
            | Frame::Hear { request, .. } => request.as_mut(),
            Frame::Ask { request, .. }
            | Frame::Retain { request, .. }
            | Frame::RouteAdd { request, .. }
            | Frame::GroupJoin { request, .. }
            | Frame::RetainedRead { request, .. } => Some(request),
            Frame::RouteRemove { .. }
            | Frame::GroupLeave { .. }
            | Frame::GroupPresence { .. }
            | Frame::Settled { .. }
            | Frame::Tell { .. }
            | Frame::Revoked { .. }
            | Frame::Detach { .. }
            | Frame::DeviceGone { .. }
            | Frame::Begun
            | Frame::Counted(_)
            | Frame::Reply { .. } => None,
        }
    }

    /// How far from the end of a chain of requests this kind stands. Whoever answers a request
    /// may have to ask for something of a higher tier first, never of the same or a lower one; and
    /// each tier has credits of its own. So no two lanes can wait for each other.
    pub(crate) fn tier(&self) -> usize {
        match self {
            // The owner delivers; the group's shard announces a route.
            Frame::Publish { .. }
            | Frame::GroupJoin { .. }
            | Frame::GroupLeave { .. }
            | Frame::GroupPresence { .. }
            | Frame::GroupReturn { .. }
            | Frame::Ask { .. }
            | Frame::Emit { .. }
            | Frame::Detach { .. }
            | Frame::DeviceGone { .. }
            | Frame::Begun
            | Frame::Counted(_) => 0,
            // A group there picks a member elsewhere; a barrier waits for retained messages. What
            // is heard may be heard of elsewhere, too, but is answered before that.
            Frame::Deliver { .. }
            | Frame::RouteAdd { .. }
            | Frame::RouteRemove { .. }
            | Frame::Hear { .. } => 1,
            // Answered without asking anybody.
            Frame::GroupDeliver { .. }
            | Frame::Retain { .. }
            | Frame::RetainedRead { .. }
            | Frame::Settled { .. }
            | Frame::Tell { .. }
            | Frame::Revoked { .. }
            | Frame::Reply { .. } => 2,
        }
    }
}
