//! One client: all about it, and how an operator parts with it.

use super::{ClientRow, Report};
use crate::shard::Shard;
use crate::{Effects, Time};
use mqtt_v5_codec::ReasonCode;

/// All about one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientDetail {
    /// What a list says of it.
    pub row: ClientRow,
    /// Whether its session is kept in the store.
    pub is_kept: bool,
    /// Whether its session is of a former process.
    pub is_recovered: bool,
    /// Messages that it may have unacknowledged; 0 while it is not connected.
    pub in_flight_max: u16,
    /// Messages in flight that its present connection has not been sent again yet.
    pub in_flight_unsent: u32,
    /// Messages of its queue that are in the store alone.
    pub queue_stored_messages: u64,
    /// QoS 1 and 2 messages of its own without a final answer.
    pub received_unacknowledged: u32,
    /// Publishers that wait for room in its queue.
    pub publishers_waiting: u32,
    /// Since when its queue makes publishers wait and nothing moves.
    pub slow_since: Option<Time>,
    /// Bytes of the largest packet that it takes; `u32::MAX` for any.
    pub packet_bytes_max: u32,
    /// When its last packet came.
    pub received: Option<Time>,
    /// The topic of its will, and the seconds that the will waits.
    pub will: Option<(Box<str>, u32)>,
}

/// What an operator has parted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// There was such a client.
    pub is_known: bool,
    /// It was connected.
    pub was_connected: bool,
    /// Its session has ended with this.
    pub has_ended: bool,
}

impl Shard {
    pub(super) fn describe_client(
        &self,
        client_id: &str,
        effects: &Effects,
    ) -> Option<ClientDetail> {
        let index = self.clients.find(client_id, &self.sessions)?;
        let session = self.sessions.at(index);
        let connection = session.connection.and_then(|id| self.connection(id));
        let outbound = session.outbound.as_deref();
        let window = outbound.map(|outbound| &outbound.window);
        Some(ClientDetail {
            row: self.client_row(session, effects),
            is_kept: session.kept_key().is_some(),
            is_recovered: session.is_recovered,
            in_flight_max: connection.map_or(0, |c| c.send_window),
            in_flight_unsent: window.map_or(0, |window| {
                window.iter().filter(|entry| entry.is_unsent).count() as u32
            }),
            queue_stored_messages: outbound.map_or(0, |out| out.spilled.messages as u64),
            received_unacknowledged: session
                .inbound
                .as_ref()
                .map_or(0, |inbound| inbound.unacknowledged() as u32),
            publishers_waiting: outbound.map_or(0, |out| out.deferred.len() as u32),
            slow_since: session.slow_since,
            packet_bytes_max: connection.map_or(u32::MAX, |c| c.packet_bytes_max),
            received: connection.map(|c| c.received_at),
            will: session
                .will
                .as_ref()
                .map(|will| (will.message.view().topic.into(), will.delay_s)),
        })
    }

    pub(super) fn remove_client(
        &mut self,
        client_id: &str,
        with_session: bool,
        effects: &mut Effects,
    ) -> Report {
        let mut removal = Removal::default();
        let Some(index) = self.clients.find(client_id, &self.sessions) else {
            return Report::Removed(removal);
        };
        if with_session && self.durable.is_on() && self.durable.is_stalled {
            return Report::StoreStalled;
        }
        removal.is_known = true;
        if let Some(connection) = self.sessions.at(index).connection {
            removal.was_connected = true;
            let reason = ReasonCode::AdministrativeAction;
            self.disconnect(connection, reason, "an operator has closed it", effects);
        }
        // That may have ended it already.
        let left = self.clients.find(client_id, &self.sessions);
        removal.has_ended = left.is_none();
        if let Some(index) = left.filter(|_| with_session) {
            self.end_session(index, effects);
            removal.has_ended = true;
        }
        Report::Removed(removal)
    }
}
