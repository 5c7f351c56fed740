//! The Meshblu API: devices, who may do what with them, and what they tell each other.
//!
//! | file | noun |
//! |---|---|
//! | `call.rs` | a request and its outcome, whatever the transport |
//! | `jobs.rs`, `ask.rs` | requests under way; their steps |
//! | `gather.rs`, `parts.rs` | requests that concern all shards; which part of a long list is answered |
//! | `steps.rs`, `tokens.rs` | what the owner of a device does at a step |
//! | `registry.rs`, `live.rs` | devices; their connections |
//! | `fanout.rs`, `telling.rs`, `room.rs`, `emission.rs` | who hears of what, when, how much of it at a time, and what it is |
//! | `http.rs`, `exchange.rs`, `routes.rs`, `requests.rs`, `answers.rs` | HTTP connections, and how they end; which requests there are, what they ask, how they are answered |
//! | `openapi.rs`, `metrics.rs` | what HTTP clients may read about the server |
//! | `hearing.rs`, `socket.rs`, `mqtt.rs`, `rpc.rs` | connections of devices: WebSocket, MQTT |
//! | `forward.rs` | webhooks |
//! | `networks.rs` | how often something came from where |
//! | `gone.rs` | what unregistered devices leave behind |
//! | `secrets.rs` | tokens and UUIDs that nobody can guess |

mod answers;
pub(crate) mod ask;
pub(crate) mod call;
pub(crate) mod emission;
pub(crate) mod exchange;
mod fanout;
mod forward;
mod gather;
mod gone;
pub(crate) mod hearing;
pub(crate) mod http;
mod jobs;
pub(crate) mod live;
mod metrics;
pub(crate) mod mqtt;
mod networks;
mod openapi;
mod parts;
mod recover;
pub(crate) mod registry;
mod requests;
mod room;
mod routes;
pub(crate) mod rpc;
mod secrets;
pub(crate) mod socket;
mod steps;
pub(crate) mod telling;
mod tokens;

use crate::map::{Map, Set, map_with_seed, set_with_seed};
use crate::slots::Slots;
use crate::{Config, ConnectionId, DeviceId, Effects, Shard, Time};
use ask::Asker;
use call::{CallOrigin, Outcome};
use gone::Gone;
use hearing::Identity;
use jobs::Job;
use meshblu::Refusal;
use networks::{Allowance, NETWORKS_MAX, Networks};
use registry::Registry;
use room::Room;
use rpc::Rpc;
use secrets::Secrets;
use std::collections::VecDeque;
use std::net::IpAddr;
use telling::Tellings;

/// What a shard keeps for the Meshblu API.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// The devices that live here.
    pub registry: Registry,
    /// Requests that came by connections of this shard.
    pub jobs: Slots<Job>,
    /// How many of them send a message, by the device that it is from.
    pub sending: Map<DeviceId, u32>,
    /// Jobs that search on at the next tick, and from where.
    pub searching: VecDeque<(u32, u32)>,
    /// Fan-outs that go on at the next tick.
    pub tellings: Tellings,
    /// What the places of lists are marked with in this start of the server.
    pub list_tag: u32,
    /// What they may come to.
    pub room: Room,
    /// Devices that are no more, and may have left sessions here.
    pub gone: Gone,
    /// Connections of this shard that have shown a device's token, by their numbers.
    pub identities: Map<u32, Identity>,
    /// HTTP connections that are closed once this batch is durable: their last answer waits for it.
    pub closing: Vec<(u64, ConnectionId)>,
    /// Connections whose token was revoked before this shard heard that it was right.
    pub revoked_early: Set<u32>,
    /// Where tokens and UUIDs come from.
    pub secrets: Secrets,
    /// Requests of meshblu-mqtt that have not been answered.
    pub rpcs: Slots<Rpc>,
    /// Slow work of helper threads.
    pub computing: Slots<Computing>,
    /// While a CONNECT with a token is looked at and nobody has been asked yet: its connection, its
    /// client identifier and its device.
    pub claiming: Option<(ConnectionId, Box<str>, DeviceId)>,
    /// Registrations by where they came from.
    registrations: Networks,
    /// Logins that failed, by where they came from.
    failed_logins: Networks,
    /// Logins that were wrong at first sight, which cost next to nothing.
    wrong_logins: Networks,
}

/// Slow work of a helper thread, and who waits for it.
#[derive(Debug)]
pub(crate) enum Computing {
    /// A secret is compared with slow hashes.
    Verify {
        /// Who asked.
        asker: Asker,
        /// Of which device.
        device: DeviceId,
        /// Which tokens the hashes are of.
        tokens: Vec<u64>,
        /// The connection to attach if one fits.
        live: Option<live::Live>,
        /// How it counts.
        login: Login,
    },
    /// The same for a token that is to be revoked.
    Revoke {
        /// Who asked.
        asker: Asker,
        /// Of which device.
        device: DeviceId,
        /// Which tokens the hashes are of.
        tokens: Vec<u64>,
    },
    /// A webhook is called; the token made for the call ends with it.
    Call {
        /// Whose, and which.
        token: Option<(DeviceId, u64)>,
    },
}

/// How the comparison of a secret with slow hashes counts for those from where it came.
#[derive(Debug)]
pub(crate) enum Login {
    /// It does not.
    Free,
    /// If the secret is wrong, it has failed.
    CountedFor(IpAddr),
    /// Too many have failed: it is looked only whether it has been right before, and if not, this
    /// is the answer.
    OnlyKnown(Refusal),
}

impl Mesh {
    /// Without devices.
    pub fn new(config: &Config, seed: u64) -> Mesh {
        Mesh {
            registry: Registry::new(seed),
            jobs: Slots::default(),
            sending: map_with_seed(seed),
            searching: VecDeque::new(),
            list_tag: parts::Cursor::tag(config),
            tellings: Tellings::new(seed),
            room: Room::new(seed),
            gone: Gone::new(seed),
            identities: map_with_seed(seed),
            closing: Vec::new(),
            revoked_early: set_with_seed(seed),
            secrets: Secrets::new(config.mesh.secret_seed, config.shard),
            rpcs: Slots::default(),
            computing: Slots::default(),
            claiming: None,
            registrations: Networks::new(seed, NETWORKS_MAX),
            failed_logins: Networks::new(seed, NETWORKS_MAX),
            wrong_logins: Networks::new(seed, NETWORKS_MAX),
        }
    }

    /// When the next connection has to be ended because its token expires.
    pub fn next_expiry(&self) -> Option<Time> {
        let expires_s = self.registry.next_expiry()?;
        Some(Time(u64::from(expires_s) * 1_000_000))
    }

    /// Whether the next tick has something to do.
    pub fn wants_turn(&self) -> bool {
        !self.searching.is_empty() || self.tellings.wants_turn() || self.gone.wants_turn()
    }
}

impl Shard {
    /// Tells whoever waits what came of a request, once `batch` is durable.
    pub(crate) fn on_outcome(
        &mut self,
        origin: CallOrigin,
        outcome: Outcome,
        batch: u64,
        effects: &mut Effects,
    ) {
        match origin {
            CallOrigin::Http(id) => self.answer_http_call(id, outcome, batch, effects),
            CallOrigin::Socket(id) => self.answer_socket_call(id, outcome, batch, effects),
            CallOrigin::Connect(id) => self.on_connect_verified(id, outcome, effects),
            CallOrigin::Published {
                session, sequence, ..
            } => self.on_published_as(session, sequence, outcome, batch, effects),
            CallOrigin::Rpc(id, slot) => self.answer_rpc(id, slot, outcome, batch, effects),
        }
    }

    /// Whether whoever is at the other end may register one more device.
    fn may_register(&mut self, origin: CallOrigin) -> Result<(), Refusal> {
        let Some(peer) = self.peer_of(origin) else {
            return Ok(()); // Nobody hears of it; but what was asked is done.
        };
        let allowance = Allowance {
            window_s: self.config.mesh.rate_window_s,
            times: self.config.mesh.registrations_max,
        };
        let now_s = seconds(self.now);
        self.mesh
            .registrations
            .spend(peer, now_s, allowance)
            .map_err(|retry_after_s| Refusal::RateLimited { retry_after_s })
    }

    /// Where a request came from, if its connection is still there.
    fn peer_of(&self, origin: CallOrigin) -> Option<IpAddr> {
        let (CallOrigin::Http(id)
        | CallOrigin::Socket(id)
        | CallOrigin::Connect(id)
        | CallOrigin::Rpc(id, _)
        | CallOrigin::Published { connection: id, .. }) = origin;
        Some(self.connection(id)?.peer.ip())
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(now: Time) -> u32 {
    (now.0 / 1_000_000) as u32
}
