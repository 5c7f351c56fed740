//! What a shard counts: plain integers, read by `$SYS` and by metrics.

use crate::histogram::Histogram;
use mqtt_v5_codec::{QoS, Version};

/// Messages, per quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// PUBLISH packets.
    pub messages: [u64; 3],
    /// Bytes of their payloads.
    pub bytes: [u64; 3],
}

impl Traffic {
    /// One more.
    pub fn count(&mut self, qos: QoS, bytes: usize) {
        self.messages[qos as usize] += 1;
        self.bytes[qos as usize] += bytes as u64;
    }

    fn add(&mut self, other: &Traffic) {
        for qos in 0..3 {
            self.messages[qos] += other.messages[qos];
            self.bytes[qos] += other.bytes[qos];
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts since start, except for the gauges, which are current values.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// PUBLISH packets that arrived.
            pub received: Traffic,
            /// PUBLISH packets sent.
            pub sent: Traffic,
            /// From the turn in which a PUBLISH arrived to the end of the turn in which it went to
            /// a subscriber's output at once, on whatever shard.
            pub delivery: Histogram,
            /// The same for those that waited in a queue in between.
            pub queued_delivery: Histogram,
        }

        impl Counters {
            /// Adds another shard's counts.
            pub fn add(&mut self, other: &Counters) {
                $(self.$name += other.$name;)*
                self.received.add(&other.received);
                self.sent.add(&other.sent);
                self.delivery.add(&other.delivery);
                self.queued_delivery.add(&other.queued_delivery);
            }
            /// Every plain counter with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Bytes that arrived.
    bytes_received,
    /// Bytes handed to outboxes.
    bytes_sent,
    /// Control packets that arrived.
    packets_received,
    /// Control packets sent.
    packets_sent,
    /// PUBLISH packets that arrived.
    publish_received,
    /// PUBLISH packets sent.
    publish_sent,
    /// Payload bytes of PUBLISH packets that arrived.
    publish_bytes_received,
    /// Payload bytes of PUBLISH packets sent.
    publish_bytes_sent,
    /// Messages dropped at QoS 0 because the subscriber's output was full.
    dropped_slow,
    /// Messages dropped because a session's or group's queue was full.
    dropped_queue_full,
    /// Messages refused because the store cannot write.
    refused_store,
    /// Commits given to the store.
    commits,
    /// Changes in them.
    commit_changes,
    /// Gauge: 1 while the store cannot write.
    stores_stalled,
    /// Messages dropped because the publisher may not publish there.
    dropped_not_authorized,
    /// Messages dropped between shards at QoS 0.
    dropped_lane_full,
    /// Messages of devices dropped because too many fan-outs are under way.
    dropped_fan_out_full,
    /// Messages not sent because they are larger than the client takes.
    dropped_too_large,
    /// Messages that expired in a queue.
    dropped_expired,
    /// Retained messages refused because the store is full.
    dropped_retained_full,
    /// Packets that were malformed.
    malformed_packets,
    /// Packets that broke the protocol.
    protocol_errors,
    /// Connections that sent no CONNECT in time.
    connect_timeouts,
    /// Clients that fell silent.
    keep_alive_timeouts,
    /// CONNECT packets refused.
    connects_refused,
    /// CONNECT packets accepted.
    connects_accepted,
    /// Sessions taken over by another connection.
    takeovers,
    /// Subscribers closed because they were too slow.
    slow_subscribers_closed,
    /// Sessions that expired.
    sessions_expired,
    /// Sockets accepted.
    sockets_accepted,
    /// HTTP requests that were answered.
    http_requests,
    /// Requests of the Meshblu API that were served.
    mesh_calls,
    /// Requests of the Meshblu API that were refused, but for those below.
    mesh_refused,
    /// Requests without valid credentials.
    mesh_unauthorized,
    /// Requests beyond a device's rate limit.
    mesh_rate_limited,
    /// Requests refused because too many were under way.
    mesh_busy,
    /// Messages that devices have sent.
    mesh_messages,
    /// Events written to sockets and streams.
    mesh_delivered,
    /// Deliveries that a whitelist denied.
    mesh_denied,
    /// Events dropped because a socket's output was full.
    dropped_output_full,
    /// Webhooks that were called with success.
    webhooks_sent,
    /// Webhooks that failed, or were not called because too much waited.
    webhooks_failed,
    /// Credentials of devices that were good.
    auths_accepted,
    /// Credentials of devices that fitted without a slow hash, rate-limited ones included.
    auths_quick,
    /// Credentials of devices that were not good.
    auths_denied,
    /// Credentials of devices that were not looked at, since too many were.
    auths_busy,
    /// Good credentials of devices beyond their rate limit.
    auths_rate_limited,
    /// Credentials of devices that were refused since too many from the same network were wrong.
    auths_failed_too_often,
    /// Gauge: devices.
    devices,
    /// Gauge: bytes of their documents.
    device_bytes,
    /// Gauge: devices with a connection.
    devices_online,
    /// Gauge: connections that are open, MQTT or not.
    connections,
    /// Gauge: connections that are HTTP so far.
    http_connections,
    /// Gauge: WebSockets of FreshBlu's kind.
    sockets,
    /// Gauge: clients connected.
    clients_connected,
    /// Gauge: of them, those of MQTT 3.1.
    clients_v31,
    /// Gauge: of them, those of MQTT 3.1.1.
    clients_v311,
    /// Gauge: of them, those of MQTT 5.
    clients_v5,
    /// Gauge: of them, those over WebSocket.
    clients_websocket,
    /// Gauge: highest number of clients connected at once.
    clients_maximum,
    /// Gauge: sessions, connected or not.
    sessions,
    /// Gauge: subscriptions, shared ones included.
    subscriptions,
    /// Gauge: subscriptions to shared groups.
    subscriptions_shared,
    /// Gauge: retained messages.
    retained,
    /// Gauge: messages sent and not acknowledged.
    in_flight,
    /// Gauge: messages in queues.
    stored_messages,
    /// Gauge: bytes of messages in queues.
    stored_bytes,
}

impl Counters {
    /// The gauge of clients that speak this version.
    pub(crate) fn clients_of(&mut self, version: Version) -> &mut u64 {
        match version {
            Version::V31 => &mut self.clients_v31,
            Version::V311 => &mut self.clients_v311,
            Version::V5 => &mut self.clients_v5,
        }
    }
}
