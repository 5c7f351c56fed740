//! Moving clients away: new ones are refused, those that are here are closed a few at a time.
//!
//! Clients of MQTT 5 are told 0x9C (use another server) and which one, if one is named, else 0x8B
//! (server shutting down); a CONNECT is refused with 0x9C or 0x88 (server unavailable), and with
//! return code 3 in MQTT 3. Sessions stay.

use super::{LOOKS_MAX, ROWS_MAX};
use crate::connection::Stage;
use crate::shard::Shard;
use crate::{ConnectionId, Effects};
use mqtt_v5_codec::ReasonCode;

/// What clients are told.
const WHY: &str = "this server is being taken out of service";

/// New clients are turned away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draining {
    /// The server that clients of MQTT 5 are told to use instead, such as `host:port`.
    pub server: Option<Box<str>>,
}

/// How far closing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shed {
    /// Connections closed by this question.
    pub closed: u32,
    /// MQTT clients that are still connected.
    pub clients: u64,
}

impl Shard {
    /// Why a new client is turned away, if it is.
    pub(crate) fn turns_away(&self) -> Option<(ReasonCode, &'static str)> {
        let draining = self.desk.draining.as_ref()?;
        let reason = match draining.server {
            Some(_) => ReasonCode::UseAnotherServer,
            None => ReasonCode::ServerUnavailable,
        };
        Some((reason, WHY))
    }

    /// What goes along with a reason code that says to use another server.
    pub(crate) fn other_server(&self, reason: ReasonCode) -> Option<Box<str>> {
        let draining = self.desk.draining.as_ref()?;
        let is_meant = reason == ReasonCode::UseAnotherServer;
        draining.server.clone().filter(|_| is_meant)
    }

    pub(super) fn shed(&mut self, limit: u32, effects: &mut Effects) -> Shed {
        let Some(draining) = &self.desk.draining else {
            return Shed {
                closed: 0,
                clients: self.counters.clients_connected,
            };
        };
        let reason = match draining.server {
            Some(_) => ReasonCode::UseAnotherServer,
            None => ReasonCode::ServerShuttingDown,
        };
        let end = self.connections.len() as u32;
        let mut closed = 0;
        for _ in 0..LOOKS_MAX.min(end) {
            if closed >= limit.min(ROWS_MAX) {
                break;
            }
            if self.desk.shed_at >= end {
                // Connections that were on their way come again at lower places.
                self.desk.shed_at = 0;
            }
            let index = self.desk.shed_at;
            self.desk.shed_at += 1;
            let Some(connection) = &self.connections[index as usize] else {
                continue;
            };
            // A request over HTTP is answered, and no other one follows for long.
            if !matches!(connection.stage, Stage::Open(_) | Stage::Socket) {
                continue;
            }
            let generation = connection.generation;
            let id = ConnectionId { index, generation };
            self.disconnect(id, reason, WHY, effects);
            closed += 1;
        }
        Shed {
            closed,
            clients: self.counters.clients_connected,
        }
    }
}
