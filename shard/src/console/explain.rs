//! Why a message would or would not arrive: what this shard knows of its publisher, of its
//! subscriber, and of a group. Nothing is changed by asking.

use super::SubscriptionRow;
use crate::mesh::mqtt::Right;
use crate::shard::Shard;
use crate::{DeviceId, GroupKey, topic};
use mqtt_v5_codec::Version;

/// Subscriptions of one client that are told of.
const MATCHES_MAX: usize = 100;

/// What may become of what a client publishes to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It goes to whoever has subscribed.
    Granted,
    /// It is a message of the device that the client is, for those who hear that device.
    AsDevice,
    /// It is a message on behalf of another device, if that one's whitelist allows it.
    OnBehalf,
    /// The client may not publish there.
    Denied,
}

/// A publisher, as far as one topic is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherView {
    /// The device that it is.
    pub device: Option<DeviceId>,
    /// What it may; `None` while it is not connected.
    pub leave: Option<Leave>,
    /// What it sends is not read for now, since something must catch up.
    pub is_paused: bool,
    /// Bytes of a packet that is taken from it.
    pub packet_bytes_max: u32,
}

/// A subscriber, as far as one topic is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriberView {
    /// The device that it is.
    pub device: Option<DeviceId>,
    /// What it speaks, if it is connected.
    pub version: Option<Version>,
    /// Its subscriptions that match, shared ones included; the first hundred.
    pub matches: Vec<SubscriptionRow>,
    /// Some would match but for being to ordinary topics, which are denied now.
    pub is_denied: bool,
    /// It is a device, and the topic is another device's: it hears nothing of that.
    pub is_shut_out: bool,
    /// Bytes of the largest packet that it takes; `u32::MAX` for any.
    pub packet_bytes_max: u32,
    /// Messages in flight.
    pub in_flight: u32,
    /// Messages that may be in flight; 0 while it is not connected.
    pub in_flight_max: u32,
    /// Messages in its queue.
    pub queue_messages: u64,
    /// Messages that its queue holds.
    pub queue_messages_max: u64,
    /// Bytes in its queue.
    pub queue_bytes: u64,
    /// Bytes that its queue holds.
    pub queue_bytes_max: u64,
    /// Whether its output is so full that messages of QoS 0 are dropped.
    pub is_output_full: bool,
}

/// A group of a shared subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupView {
    /// How many share it.
    pub members: u32,
    /// How many of them are connected.
    pub connected: u32,
    /// Messages that wait for a member.
    pub queue_messages: u64,
}

impl Shard {
    pub(super) fn view_publisher(&self, client_id: &str, topic: &str) -> Option<PublisherView> {
        let index = self.clients.find(client_id, &self.sessions)?;
        let session = self.sessions.at(index);
        let connection = session.connection;
        Some(PublisherView {
            device: session.device.as_deref().copied(),
            leave: connection.map(|id| match self.right_to_publish(id, topic) {
                _ if topic.starts_with("$SYS/") || topic.starts_with("$share/") => Leave::Denied,
                Right::Ordinary => Leave::Granted,
                Right::Send(..) => Leave::AsDevice,
                Right::SendAs(..) => Leave::OnBehalf,
                Right::Denied => Leave::Denied,
            }),
            is_paused: connection
                .and_then(|id| self.connection(id))
                .is_some_and(|connection| connection.paused_for != 0),
            packet_bytes_max: self.announced.packet_bytes_max,
        })
    }

    pub(super) fn view_subscriber(
        &self,
        client_id: &str,
        topic: &str,
        effects: &crate::Effects,
    ) -> Option<SubscriberView> {
        let index = self.clients.find(client_id, &self.sessions)?;
        let session = self.sessions.at(index);
        let mut matches = Vec::new();
        let row = |share, filter, options, subscription_id| SubscriptionRow {
            client_id: client_id.into(),
            is_connected: session.connection.is_some(),
            share,
            filter,
            options,
            subscription_id,
        };
        let mut is_denied = false;
        let may_match =
            |filter: &str| self.config.mesh.has_free_topics || topic::device_uuid(filter).is_some();
        self.subscriptions.for_each_match(topic, |id, entry| {
            if let Some(grant) = entry.subscribers.get(index)
                && matches.len() < MATCHES_MAX
            {
                let filter = self.subscriptions.filter(id);
                if !may_match(&filter) {
                    is_denied = true;
                    return;
                }
                matches.push(row(None, filter, grant.options(), grant.subscription_id));
            }
        });
        for shared in session.shared.iter().flat_map(|shared| shared.iter()) {
            if matches.len() < MATCHES_MAX && topic::matches(&shared.key.filter, topic) {
                if !may_match(&shared.key.filter) {
                    is_denied = true;
                    continue;
                }
                let (name, filter) = (shared.key.name.clone(), shared.key.filter.clone());
                matches.push(row(
                    Some(name),
                    filter,
                    shared.options,
                    shared.subscription_id,
                ));
            }
        }
        let device = session.device.as_deref().copied();
        let of = topic::device_uuid(topic).map(DeviceId);
        let connection = session.connection.and_then(|id| self.connection(id));
        let outbound = session.outbound.as_deref();
        let limits = &self.config.limits;
        Some(SubscriberView {
            device,
            version: connection.map(|c| c.version),
            matches,
            is_denied,
            is_shut_out: of.is_some() && device.is_some() && of != device,
            packet_bytes_max: connection.map_or(u32::MAX, |c| c.packet_bytes_max),
            in_flight: outbound.map_or(0, |outbound| outbound.window.len() as u32),
            in_flight_max: connection.map_or(0, |c| u32::from(c.send_window)),
            queue_messages: outbound.map_or(0, |outbound| outbound.queue_len() as u64),
            queue_messages_max: limits.queue_messages_max as u64,
            queue_bytes: outbound.map_or(0, |outbound| outbound.all_bytes() as u64),
            queue_bytes_max: limits.queue_bytes_max as u64,
            is_output_full: session
                .connection
                .is_some_and(|id| effects.pending_bytes(id) > limits.output_bytes_max),
        })
    }

    pub(super) fn view_group(&self, share: &str, filter: &str) -> Option<GroupView> {
        let key = GroupKey {
            name: share.into(),
            filter: filter.into(),
        };
        let (members, connected, queue_messages) = self.groups.describe(&key)?;
        Some(GroupView {
            members: members as u32,
            connected: connected as u32,
            queue_messages: queue_messages as u64,
        })
    }
}
