//! What one client has sent at QoS 1 and 2 and has no final answer to.
//!
//! Always: acknowledgements leave in the order in which their packets came [MQTT-4.6.0-2],
//! [MQTT-4.6.0-3], so one that is ready waits for those before it. Bounded by our Receive Maximum
//! (v5) and by pausing the connection (3.x).

use crate::Time;
use crate::numbering::Numbering;
use mqtt_v5_codec::{PacketId, QoS, ReasonCode};
use std::collections::VecDeque;

/// QoS 2 identifiers of one session that are between PUBLISH and PUBREL, whatever connections they
/// came by, unless Receive Maximum is larger: each connection may add as many as that.
const RECEIVED_MAX: usize = 4_096;

/// An acknowledgement that is owed.
#[derive(Clone, Copy, Debug)]
pub struct Owed {
    /// Of the PUBLISH.
    pub packet_id: PacketId,
    /// 1: PUBACK. 2: PUBREC.
    pub qos: QoS,
    /// Present once it may be sent.
    pub reason: Option<ReasonCode>,
    /// The batch that must be durable before it is sent.
    pub batch: u64,
    /// The session's count of QoS 2 messages; 0 if it is not kept.
    pub ordinal: u64,
    /// The connection that it was owed to is gone.
    pub is_void: bool,
    /// The sequence number of the one that takes its place on a later connection.
    pub repeated_as: Option<u32>,
}

/// Everything that is owed to one client.
#[derive(Debug, Default)]
pub struct Inbound {
    /// QoS 2 identifiers received and not yet released. [MQTT-4.3.3-10]
    received: Vec<PacketId>,
    /// So many of them, at the front, came by former connections and not by this one.
    received_before: usize,
    owed: VecDeque<Owed>,
    /// The sequence number of the front of `owed`.
    front: u32,
    /// Reading is paused until less is owed.
    pub is_paused: bool,
    /// QoS 2 messages of a kept session.
    numbering: Option<Box<Numbering>>,
}

impl Inbound {
    /// Whether nothing is owed or remembered.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
            && self.owed.is_empty()
            && !self.is_paused
            && self.numbering.is_none()
    }

    /// Whether an acknowledgement may be sent at once.
    pub fn owes_nothing(&self) -> bool {
        self.owed.is_empty()
    }

    /// PUBLISH packets of this connection that count against our Receive Maximum: each connection
    /// begins with all of it. [MQTT-4.9.0-2]
    pub fn unacknowledged(&self) -> usize {
        let first = self
            .owed
            .iter()
            .filter(|owed| owed.qos == QoS::AtLeastOnce && !owed.is_void);
        first.count() + self.received.len() - self.received_before
    }

    /// Whether one more PUBLISH is more than this Receive Maximum allows, or more than is remembered.
    pub fn is_full(&self, maximum: usize) -> bool {
        self.unacknowledged() >= maximum || self.received.len() >= maximum.max(RECEIVED_MAX)
    }

    /// Acknowledgements owed.
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// The sequence number of the next acknowledgement that will be owed.
    pub fn next_sequence(&self) -> u32 {
        self.front.wrapping_add(self.owed.len() as u32)
    }

    /// Owes one more; returns its sequence number.
    pub fn owe(&mut self, packet_id: PacketId, qos: QoS, ordinal: u64) -> u32 {
        let sequence = self.next_sequence();
        self.owed.push_back(Owed {
            packet_id,
            qos,
            reason: None,
            batch: 0,
            ordinal,
            is_void: false,
            repeated_as: None,
        });
        sequence
    }

    /// The acknowledgement with this sequence number may be sent once a batch is durable.
    pub fn settle(&mut self, sequence: u32, reason: ReasonCode, batch: u64) {
        let at = sequence.wrapping_sub(self.front) as usize;
        let owed = self.owed.get_mut(at).expect("owed until it is sent");
        assert!(owed.reason.is_none(), "settled twice");
        owed.reason = Some(reason);
        owed.batch = batch;
    }

    /// The next acknowledgement in order, if it may be sent.
    pub fn pop_settled(&mut self) -> Option<Owed> {
        let owed = *self.owed.front()?;
        let reason = owed.reason?;
        self.owed.pop_front();
        self.front = self.front.wrapping_add(1);
        if let Some(sequence) = owed.repeated_as {
            self.settle(sequence, reason, owed.batch);
        }
        Some(owed)
    }

    /// Whether a QoS 2 identifier is between PUBLISH and PUBREL.
    pub fn is_received(&self, id: PacketId) -> bool {
        self.received.contains(&id)
    }

    /// Whether the PUBREC of this identifier is still owed on this connection.
    pub fn owes_pubrec(&self, id: PacketId) -> bool {
        self.owed
            .iter()
            .any(|owed| owed.packet_id == id && owed.qos == QoS::ExactlyOnce && !owed.is_void)
    }

    /// Remembers a QoS 2 identifier.
    pub fn remember(&mut self, id: PacketId) {
        debug_assert!(!self.is_received(id));
        self.received.push(id);
    }

    /// Forgets a QoS 2 identifier; returns whether it was known.
    pub fn release(&mut self, id: PacketId) -> bool {
        match self.received.iter().position(|known| *known == id) {
            Some(at) => {
                self.received.remove(at);
                self.received_before -= usize::from(at < self.received_before);
                true
            }
            None => false,
        }
    }

    /// A QoS 2 identifier that is known has come by this connection, too.
    pub fn came_again(&mut self, id: PacketId) {
        if self.release(id) {
            self.remember(id);
        }
    }

    /// What is remembered so far is not of the connection that comes next.
    pub fn end_connection(&mut self) {
        self.received_before = self.received.len();
    }

    /// The numbers of a kept session's QoS 2 messages, made at first use.
    /// `recovered`: the session is of a former process, and this one began then.
    pub fn numbering_mut(&mut self, recovered: Option<Time>) -> &mut Numbering {
        self.numbering.get_or_insert_with(|| {
            let mut numbering = Box::<Numbering>::default();
            if let Some(started) = recovered {
                numbering.recover(0, started);
            }
            numbering
        })
    }

    /// Released identifiers of which nothing need be kept any more. One that is in use again has a
    /// record of its own, in place of what was kept.
    pub fn forget_over(&mut self) -> Vec<PacketId> {
        let numbering = self.numbering.as_mut();
        let mut over = numbering.map_or(Vec::new(), |numbering| numbering.forget_over());
        over.retain(|id| !self.is_received(*id));
        over
    }

    /// The connection is gone: PUBACKs are owed to nobody. A PUBREC stays owed, since the client
    /// will ask again with the same identifier and must not make a second message.
    pub fn on_disconnect(&mut self) {
        for owed in &mut self.owed {
            owed.is_void = true;
        }
        self.is_paused = false;
        self.end_connection();
    }

    /// The client repeats a QoS 2 PUBLISH whose PUBREC is owed to a former connection: it is owed
    /// to this one now, after what came before the repetition. Returns whether there was one.
    pub fn revive_pubrec(&mut self, id: PacketId) -> bool {
        let is_it = |owed: &Owed| owed.packet_id == id && owed.qos == QoS::ExactlyOnce;
        let Some(at) = self.owed.iter().rposition(is_it) else {
            return false;
        };
        // Its receipt, with its ordinal, is that of the first.
        let ordinal = self.owed[at].ordinal;
        let sequence = self.owe(id, QoS::ExactlyOnce, ordinal);
        self.owed[at].repeated_as = Some(sequence);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_leave_in_the_order_of_their_packets() {
        let mut inbound = Inbound::default();
        let id = |n| PacketId::new(n).unwrap();
        let first = inbound.owe(id(1), QoS::AtLeastOnce, 0);
        let second = inbound.owe(id(2), QoS::AtLeastOnce, 0);
        inbound.settle(second, ReasonCode::Success, 0);
        assert!(inbound.pop_settled().is_none());
        inbound.settle(first, ReasonCode::NoMatchingSubscribers, 0);
        assert_eq!(inbound.pop_settled().map(|o| o.packet_id), Some(id(1)));
        assert_eq!(inbound.pop_settled().map(|o| o.packet_id), Some(id(2)));
        assert!(inbound.is_empty());
    }

    #[test]
    fn a_pubrec_outlives_its_connection() {
        let mut inbound = Inbound::default();
        let id = PacketId::new(7).unwrap();
        inbound.remember(id);
        let sequence = inbound.owe(id, QoS::ExactlyOnce, 0);
        inbound.on_disconnect();
        assert!(inbound.revive_pubrec(id));
        inbound.settle(sequence, ReasonCode::Success, 0);
        assert!(inbound.pop_settled().unwrap().is_void);
        assert!(!inbound.pop_settled().unwrap().is_void);
        assert!(inbound.release(id));
        assert!(!inbound.release(id));
    }

    #[test]
    fn each_connection_begins_with_all_of_receive_maximum() {
        let mut inbound = Inbound::default();
        let id = |n| PacketId::new(n).unwrap();
        (1..=3).for_each(|n| inbound.remember(id(n)));
        assert_eq!(inbound.unacknowledged(), 3);
        inbound.on_disconnect();
        assert_eq!(inbound.unacknowledged(), 0);
        inbound.remember(id(4));
        inbound.came_again(id(2));
        assert_eq!(inbound.unacknowledged(), 2);
        assert!(inbound.release(id(1)) && inbound.release(id(2)));
        assert_eq!(inbound.unacknowledged(), 1);
        assert!(inbound.release(id(3)) && inbound.release(id(4)));
        assert_eq!(inbound.unacknowledged(), 0);
    }

    #[test]
    fn what_connections_leave_behind_is_bounded() {
        let mut inbound = Inbound::default();
        let mut ids = (1..=u16::MAX).filter_map(PacketId::new);
        for _ in 0..RECEIVED_MAX / 1_024 {
            (0..1_024).for_each(|_| {
                assert!(!inbound.is_full(1_024));
                inbound.remember(ids.next().unwrap());
            });
            assert!(inbound.is_full(1_024));
            inbound.on_disconnect();
        }
        // Nothing of this connection, and yet there is no room.
        assert_eq!(inbound.unacknowledged(), 0);
        assert!(inbound.is_full(1_024));
        assert!(!inbound.is_full(65_535));
        assert!(inbound.release(PacketId::new(1).unwrap()));
        assert!(!inbound.is_full(1_024));
    }

    #[test]
    fn repeated_packets_are_answered_in_the_order_of_their_repetition() {
        let mut inbound = Inbound::default();
        let id = |n| PacketId::new(n).unwrap();
        let late = inbound.owe(id(2), QoS::ExactlyOnce, 0);
        inbound.on_disconnect();
        // The PUBREC of 1 was lost on its way; that of 2 has never been sent.
        let first = inbound.owe(id(1), QoS::ExactlyOnce, 0);
        inbound.settle(first, ReasonCode::Success, 0);
        assert!(inbound.revive_pubrec(id(2)));
        inbound.settle(late, ReasonCode::Success, 0);
        let sent = std::iter::from_fn(|| inbound.pop_settled()).filter(|owed| !owed.is_void);
        let numbers: Vec<u16> = sent.map(|owed| owed.packet_id.number()).collect();
        assert_eq!(numbers, [1, 2]);
    }
}
