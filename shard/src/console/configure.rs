//! New settings for a shard that runs: [`super::Question::Configure`].
//!
//! Always: what a client was told when it connected holds for it until it goes, so nobody is closed
//! for keeping to it; and whoever may not be connected any more is closed, at most
//! [`STEPS_PER_TICK`] connections per event. All else counts from the next look at it.

use crate::shard::{STEPS_PER_TICK, Shard};
use crate::{Anonymous, ConnectionId, Durability, Effects, Limits, MeshConfig};
use mqtt_v5_codec::ReasonCode;

/// What can change while a shard runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who may connect without credentials; others that did are closed.
    pub anonymous: Anonymous,
    /// Prefixes and interval; the mode is left as it is.
    pub durability: Durability,
    /// The Meshblu API; pepper and seed are left as they are.
    pub mesh: MeshConfig,
    /// Bounds.
    pub limits: Limits,
}

/// The highest of each limit that a client may have been told since the shard began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// As [`Limits::packet_bytes_max`].
    pub packet_bytes_max: u32,
    /// As [`Limits::receive_maximum`].
    pub receive_maximum: u16,
    /// As [`Limits::topic_alias_maximum`].
    pub topic_alias_maximum: u16,
}

impl Announced {
    /// Those of the first settings.
    pub fn new(limits: &Limits) -> Announced {
        Announced {
            packet_bytes_max: limits.packet_bytes_max,
            receive_maximum: limits.receive_maximum,
            topic_alias_maximum: limits.topic_alias_maximum,
        }
    }

    fn raise(&mut self, limits: &Limits) {
        let now = Announced::new(limits);
        self.packet_bytes_max = self.packet_bytes_max.max(now.packet_bytes_max);
        self.receive_maximum = self.receive_maximum.max(now.receive_maximum);
        self.topic_alias_maximum = self.topic_alias_maximum.max(now.topic_alias_maximum);
    }
}

impl Shard {
    /// Takes over new settings.
    pub(crate) fn configure(&mut self, settings: Settings) {
        let Settings {
            anonymous,
            durability,
            mesh,
            limits,
        } = settings;
        self.announced.raise(&limits);
        self.durable.configure(&durability, limits.commit_bytes_max);
        let old = self.config.clone();
        self.config.durability = Durability {
            mode: old.durability.mode,
            ..durability
        };
        self.config.mesh = MeshConfig {
            pepper: old.mesh.pepper,
            secret_seed: old.mesh.secret_seed,
            ..mesh
        };
        if old.limits.sys_interval_s != limits.sys_interval_s {
            self.publish_sys_every(limits.sys_interval_s);
        }
        self.config.limits = limits;
        if self.config.anonymous != anonymous {
            self.config.anonymous = anonymous;
            // From the beginning, if it was under way for other settings.
            self.sweeping = Some(0);
        }
    }

    /// Whether a client without credentials may be at this connection.
    pub(crate) fn may_be_anonymous(&self, id: ConnectionId) -> bool {
        self.is_among(self.config.anonymous, id)
    }

    /// Whether who is at this connection is among those.
    pub(crate) fn is_among(&self, those: Anonymous, id: ConnectionId) -> bool {
        let peer = self.connection(id).map(|connection| connection.peer);
        match those {
            Anonymous::Allow => true,
            Anonymous::Loopback => peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()),
            Anonymous::Deny => false,
        }
    }

    /// Goes on with closing those who may not be connected any more.
    pub(crate) fn sweep_on(&mut self, effects: &mut Effects) {
        let Some(from) = self.sweeping else {
            return;
        };
        let to = (from + STEPS_PER_TICK).min(self.connections.len());
        for index in from..to {
            let Some((id, session)) = self.connection_at(index) else {
                continue;
            };
            let is_anonymous =
                session.is_some_and(|session| self.sessions.at(session.index).device.is_none());
            if is_anonymous && !self.may_be_anonymous(id) {
                let reason = ReasonCode::NotAuthorized;
                let why = "anonymous clients are not allowed any more";
                self.disconnect(id, reason, why, effects);
            }
        }
        self.sweeping = (to < self.connections.len()).then_some(to);
    }
}
