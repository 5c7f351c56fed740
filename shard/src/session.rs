//! MQTT state of one client, which may outlive its connection.
//!
//! Always: a session whose expiry is 0 exists only while it is connected. What most sessions do
//! not have is boxed and absent.

use crate::compact_map::CompactMap;
use crate::filter_tree::FilterId;
use crate::frame::GroupKey;
use crate::inbound::Inbound;
use crate::message::Message;
use crate::outbound::Outbound;
use crate::timers::TimerId;
use crate::{ConnectionId, DeviceId, SessionKey, ShardId, Time};
use mqtt_v5_codec::SubscriptionOptions;
use std::collections::VecDeque;
use std::sync::Arc;

/// A session.
#[derive(Debug)]
pub struct Session {
    /// Who.
    pub client_id: Box<str>,
    /// Its name in the store; 0 if it is not kept. See [`Session::kept_key`].
    pub key: SessionKey,
    /// Its connection, if it is connected.
    pub connection: Option<ConnectionId>,
    /// The device whose token its client has shown, if any: nobody else may have this session.
    pub device: Option<Box<DeviceId>>,
    /// Seconds that it outlives its connection; 0xFFFF_FFFF for ever.
    pub expiry_s: u32,
    /// Its subscriptions are being removed; it is no longer found by its client identifier.
    pub is_ending: bool,
    /// It is of a former process.
    pub is_recovered: bool,
    /// A slow-subscriber deadline is running.
    pub slow_since: Option<Time>,
    /// Filters in `subscriptions.rs` that it subscribes to.
    pub subscriptions: CompactMap<FilterId, ()>,
    /// Shared subscriptions.
    #[allow(clippy::box_collection)] // 8 bytes instead of 24 in sessions that have none.
    pub shared: Option<Box<Vec<SharedSubscription>>>,
    /// On its way to the client.
    pub outbound: Option<Box<Outbound>>,
    /// Owed to the client.
    pub inbound: Option<Box<Inbound>>,
    /// To be published when the client vanishes.
    pub will: Option<Box<Will>>,
    /// Retained messages still to be read for new subscriptions.
    #[allow(clippy::box_collection)] // As above.
    pub reads: Option<Box<VecDeque<RetainedRead>>>,
    /// Session expiry or will delay, whichever is first; only while disconnected.
    pub timer: Option<TimerId>,
    /// When it expires; only while disconnected.
    pub expires: Option<Time>,
}

/// A shared subscription of a session here; its group may live elsewhere.
#[derive(Debug)]
pub struct SharedSubscription {
    /// Which group.
    pub key: Arc<GroupKey>,
    /// Where the group lives.
    pub group: ShardId,
    /// Quality of service and flags.
    pub options: SubscriptionOptions,
    /// v5 subscription identifier; 0 for none.
    pub subscription_id: u32,
}

/// A will. [MQTT-3.1.2-7] to [MQTT-3.1.2-10]
#[derive(Debug)]
pub struct Will {
    /// What to publish, without its expiry.
    pub message: Arc<Message>,
    /// Seconds that it waits for the client to come back.
    pub delay_s: u32,
    /// v5 message expiry in seconds, counted from its publication.
    pub expiry_s: Option<u32>,
    /// When it goes out, once the client has vanished.
    pub due: Option<Time>,
}

/// Retained messages being read for one new subscription, page by page.
#[derive(Debug)]
pub struct RetainedRead {
    /// What was subscribed to.
    pub filter: Arc<str>,
    /// How to deliver.
    pub options: SubscriptionOptions,
    /// v5 subscription identifier; 0 for none.
    pub subscription_id: u32,
    /// The shard being read.
    pub shard: ShardId,
    /// The last shard to read.
    pub last: ShardId,
    /// The topic to go on after.
    pub after: Option<String>,
    /// A page has been asked for and has not come.
    pub is_waiting: bool,
    /// Topics whose newer retained message has been delivered as it came while a page is on its
    /// way: what the page says of them is old.
    pub overtaken: Vec<Box<str>>,
}

impl Session {
    /// A session that is about to be connected.
    pub fn new(client_id: &str) -> Session {
        Session {
            client_id: client_id.into(),
            key: SessionKey(0),
            connection: None,
            device: None,
            expiry_s: 0,
            is_ending: false,
            is_recovered: false,
            slow_since: None,
            subscriptions: CompactMap::None,
            shared: None,
            outbound: None,
            inbound: None,
            will: None,
            reads: None,
            timer: None,
            expires: None,
        }
    }

    /// Its name in the store, if it is kept there.
    pub fn kept_key(&self) -> Option<SessionKey> {
        (self.key.0 != 0).then_some(self.key)
    }

    /// Its outbound state, made at first use.
    pub fn outbound_mut(&mut self) -> &mut Outbound {
        self.outbound.get_or_insert_default()
    }

    /// Its inbound state, made at first use.
    pub fn inbound_mut(&mut self) -> &mut Inbound {
        self.inbound.get_or_insert_default()
    }

    /// How many subscriptions it has, shared ones included.
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.len() + self.shared.as_ref().map_or(0, |shared| shared.len())
    }

    /// The shared subscription to a group.
    pub fn shared_subscription(&self, key: &GroupKey) -> Option<&SharedSubscription> {
        self.shared
            .as_ref()?
            .iter()
            .find(|shared| *shared.key == *key)
    }

    /// Gives memory back that an idle session does not need.
    pub fn shrink(&mut self) {
        if self
            .outbound
            .as_ref()
            .is_some_and(|outbound| outbound.is_empty())
        {
            self.outbound = None;
        }
        if self
            .inbound
            .as_ref()
            .is_some_and(|inbound| inbound.is_empty())
        {
            self.inbound = None;
        }
    }
}
