//! Every bound of a shard, in one place. Units are in the names.

/// Request frames that a ring holds.
pub const REQUEST_LANE: usize = 4_096;
/// Requests that one shard may have outstanding at another; each holds a slot until answered.
pub const REQUESTS_MAX: usize = 1_024;
/// Reply frames that a ring holds.
pub const REPLY_LANE: usize = 1_024;
/// Shards of one process; a route is a set of them in 128 bits.
pub const SHARDS_MAX: usize = 128;

// A reply always has room.
const _: () = assert!(REPLY_LANE >= REQUESTS_MAX);

/// Limits that the operator may change.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Our Maximum Packet Size, in bytes, announced to v5 clients.
    pub packet_bytes_max: u32,
    /// Our Receive Maximum: QoS 1 and 2 messages that a client may have unacknowledged.
    pub receive_maximum: u16,
    /// Messages that we have unacknowledged at a client, if its own Receive Maximum allows.
    pub in_flight_max: u16,
    /// Our Topic Alias Maximum, announced to v5 clients.
    pub topic_alias_maximum: u16,
    /// Aliases that we use towards one client, if its maximum allows.
    pub client_alias_max: u16,
    /// Levels of a topic or filter.
    pub topic_levels_max: usize,
    /// Subscriptions of one session.
    pub subscriptions_max: usize,
    /// Output that may wait for one connection before QoS 0 is dropped, in bytes.
    pub output_bytes_max: usize,
    /// Messages in one session's queue.
    pub queue_messages_max: usize,
    /// Bytes in one session's queue.
    pub queue_bytes_max: usize,
    /// Messages of one kept session's queue in memory; more are in the store alone.
    pub queue_memory_messages: usize,
    /// Bytes of one kept session's queue in memory; more are in the store alone.
    pub queue_memory_bytes: usize,
    /// What becomes of a message for an offline session whose queue is full.
    pub queue_policy: QueuePolicy,
    /// Messages in a connected session's queue beyond which publishers have to wait.
    pub queue_soft_messages: usize,
    /// Bytes in a connected session's queue beyond which publishers have to wait.
    pub queue_soft_bytes: usize,
    /// Bytes of changes that may wait for a commit before publishers have to wait.
    pub commit_bytes_max: usize,
    /// Retained messages of one shard.
    pub retained_messages_max: usize,
    /// Bytes of retained messages of one shard.
    pub retained_bytes_max: usize,
    /// Sessions of one shard, connected or not.
    pub sessions_max: usize,
    /// Milliseconds from accept to a complete CONNECT.
    pub connect_timeout_ms: u64,
    /// Milliseconds that a full queue may make publishers wait before its subscriber is closed.
    pub slow_subscriber_ms: u64,
    /// Seconds; a longer Session Expiry Interval is shortened to this. 0xFFFF_FFFF: no cap.
    pub session_expiry_max_s: u32,
    /// Seconds; what clients are told to use when they ask for more or for none. `None`: no cap.
    pub keep_alive_max_s: Option<u16>,
    /// Slow tasks that one shard may have with helper threads.
    pub computes_max: usize,
    /// Requests of the Meshblu API that one shard may have under way.
    pub calls_max: usize,
    /// Devices of one shard.
    pub devices_max: usize,
    /// Tokens of one device.
    pub tokens_max: usize,
    /// Subscriptions to one device, and of one device to those of one shard.
    pub device_subscriptions_max: usize,
    /// Devices that are told of an event in one turn of a shard; the others are told in the next.
    pub told_per_turn: usize,
    /// Bytes of the documents of one shard.
    pub device_bytes_max: usize,
    /// Seconds between two publications of `$SYS`; 0 switches them off.
    pub sys_interval_s: u32,
}

/// What becomes of a message for an offline session whose queue is full. At a connected session's
/// full queue nothing is dropped to make room: the publisher is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueuePolicy {
    /// The oldest message in the queue makes room for it.
    #[default]
    DropOldest,
    /// It is dropped, and its publisher told that it was taken.
    DropNewest,
    /// Its publisher is told 0x97; a 3.x publisher is closed unacknowledged.
    Reject,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            packet_bytes_max: 1_048_576,
            receive_maximum: 1_024,
            in_flight_max: 8_192,
            topic_alias_maximum: 32,
            client_alias_max: 32,
            topic_levels_max: 128,
            subscriptions_max: 1_000_000,
            output_bytes_max: 1_048_576,
            queue_messages_max: 100_000,
            queue_bytes_max: 64 * 1_048_576,
            queue_memory_messages: 8_192,
            queue_memory_bytes: 4 * 1_048_576,
            queue_policy: QueuePolicy::DropOldest,
            queue_soft_messages: 4_096,
            queue_soft_bytes: 4 * 1_048_576,
            commit_bytes_max: 32 * 1_048_576,
            retained_messages_max: 10_000_000,
            retained_bytes_max: 4 << 30,
            sessions_max: 10_000_000,
            connect_timeout_ms: 10_000,
            slow_subscriber_ms: 20_000,
            session_expiry_max_s: u32::MAX,
            keep_alive_max_s: None,
            computes_max: 1_024,
            calls_max: 16_384,
            devices_max: 10_000_000,
            tokens_max: 1_000,
            device_subscriptions_max: 10_000,
            told_per_turn: 256,
            device_bytes_max: 8 << 30,
            sys_interval_s: 10,
        }
    }
}

impl Limits {
    /// The keep-alive that a client is held to, in seconds, given the one it asked for.
    pub fn keep_alive_s(&self, asked_s: u16) -> u16 {
        match self.keep_alive_max_s {
            Some(maximum) if asked_s == 0 || asked_s > maximum => maximum,
            _ => asked_s,
        }
    }
}
