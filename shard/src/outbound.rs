//! What is on its way to one client at QoS 1 and 2: the in-flight window and the queue behind it.
//!
//! Always: window entries are in the order in which they were first sent, each with a packet
//! identifier that no other entry has; queue entries come after all of them. Bounded by
//! `in_flight_max` and the client's Receive Maximum, and by `queue_messages_max` and
//! `queue_bytes_max`.

use crate::Time;
use crate::frame::GroupKey;
use crate::message::Message;
use crate::queue::Spilled;
use crate::seen::Seen;
use mqtt_v5_codec::{PacketId, QoS};
use std::collections::VecDeque;
use std::sync::Arc;

/// How a message is delivered to one recipient.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The lower of the message's and the subscription's.
    pub qos: QoS,
    /// The RETAIN flag as the recipient sees it.
    pub retain: bool,
    /// The subscriptions that it matched (v5).
    pub subscription_ids: SubscriptionIds,
    /// The group on whose behalf the recipient has it.
    pub group: Option<Arc<GroupKey>>,
}

/// Subscription identifiers of one delivery: mostly none or one.
#[derive(Clone, Debug, Default)]
pub enum SubscriptionIds {
    /// None.
    #[default]
    None,
    /// One.
    One([u32; 1]),
    /// From overlapping subscriptions.
    Many(Box<[u32]>),
}

impl SubscriptionIds {
    /// As a list.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            SubscriptionIds::None => &[],
            SubscriptionIds::One(id) => id,
            SubscriptionIds::Many(ids) => ids,
        }
    }

    /// Adds one, unless it is 0, which stands for none.
    pub fn push(&mut self, id: u32) {
        if id == 0 {
            return;
        }
        *self = match std::mem::take(self) {
            SubscriptionIds::None => SubscriptionIds::One([id]),
            SubscriptionIds::One([first]) => SubscriptionIds::Many(Box::new([first, id])),
            SubscriptionIds::Many(ids) => {
                let mut ids = ids.into_vec();
                ids.push(id);
                SubscriptionIds::Many(ids.into_boxed_slice())
            }
        };
    }
}

/// How far an in-flight message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// PUBLISH sent; PUBACK or PUBREC awaited.
    Published,
    /// PUBREL sent; PUBCOMP awaited.
    Released,
}

/// Where a message of a queue is kept, so that it can be changed and forgotten there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// As in `StoredQueued::position`; 0 if it is not kept.
    pub position: u64,
    /// The batch of the last change to it.
    pub batch: u64,
    /// That change's place in the batch.
    pub index: u32,
    /// An earlier batch holds a change to it.
    pub has_left: bool,
}

impl Kept {
    /// Kept by a former process, or read back.
    pub fn stored(position: u64) -> Kept {
        Kept {
            position,
            has_left: true,
            ..Kept::default()
        }
    }
}

/// One entry of the window.
#[derive(Debug)]
pub struct InFlight {
    /// Until it is acknowledged for good.
    pub packet_id: PacketId,
    /// How far it has come.
    pub step: Step,
    /// Not yet sent on the present connection.
    pub is_unsent: bool,
    /// Kept only if it may have to be sent again: `None` once released, and for sessions that end
    /// with their connection.
    pub message: Option<Arc<Message>>,
    /// How it was sent.
    pub delivery: Delivery,
    /// Where it is kept.
    pub kept: Kept,
}

/// A message that waits.
#[derive(Debug)]
pub struct Queued {
    /// What.
    pub message: Arc<Message>,
    /// How.
    pub delivery: Delivery,
    /// Where it is kept.
    pub kept: Kept,
}

/// Everything on its way to one client.
#[derive(Debug)]
pub struct Outbound {
    /// Sent and not acknowledged.
    pub window: VecDeque<InFlight>,
    /// Entries of the window sent on the present connection: what counts against the client's
    /// Receive Maximum.
    pub window_used: usize,
    /// Waiting for room in the window.
    pub queue: VecDeque<Queued>,
    /// Bytes in `queue`.
    pub queue_bytes: usize,
    /// What comes after `queue` and is in the store alone.
    pub spilled: Spilled,
    /// Publishes whose acknowledgement waits until this queue has room (see `pending.rs`).
    pub deferred: Vec<u32>,
    /// When the first of them began to wait.
    pub deferred_since: Option<Time>,
    /// `Connection` output was full when the queue was last pumped.
    pub waits_for_output: bool,
    /// QoS 2 messages that it has and that their publishers may send again.
    pub seen: Seen,
    next_packet_id: u16,
    /// The numbers have gone round and passed the front of the window since it was last empty, so
    /// its identifiers need not rise any more.
    is_lapped: bool,
}

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound {
            window: VecDeque::new(),
            window_used: 0,
            queue: VecDeque::new(),
            queue_bytes: 0,
            spilled: Spilled::default(),
            deferred: Vec::new(),
            deferred_since: None,
            waits_for_output: false,
            seen: Seen::default(),
            next_packet_id: 1,
            is_lapped: false,
        }
    }
}

impl Outbound {
    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
            && self.queue.is_empty()
            && self.spilled.messages == 0
            && self.deferred.is_empty()
            && self.seen.is_empty()
    }

    /// Adds to the end of the queue.
    pub fn push_queue(&mut self, queued: Queued) {
        self.queue_bytes += queued.message.bytes();
        self.queue.push_back(queued);
    }

    /// Takes the front of the queue.
    pub fn pop_queue(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.queue_bytes -= queued.message.bytes();
        Some(queued)
    }

    /// A packet identifier that is not in use. The window must not be full of all 65,535.
    pub fn take_packet_id(&mut self) -> PacketId {
        assert!(
            self.window.len() < u16::MAX as usize,
            "the window has a limit far below"
        );
        self.is_lapped &= !self.window.is_empty();
        let front = self.window.front().map(|entry| entry.packet_id);
        loop {
            let candidate = PacketId::new(self.next_packet_id);
            self.next_packet_id = self.next_packet_id.wrapping_add(1);
            let Some(id) = candidate else { continue };
            // The numbers in use begin with the front's: none is met before it.
            self.is_lapped |= Some(id) == front;
            if !self.is_lapped || self.find(id).is_none() {
                return id;
            }
        }
    }

    /// Takes back a window entry of a former process, whose packet identifier is still in use.
    pub fn restore(&mut self, entry: InFlight) -> Result<(), String> {
        if self
            .window
            .iter()
            .any(|known| known.packet_id == entry.packet_id)
        {
            return Err(format!(
                "packet identifier {} twice",
                entry.packet_id.number()
            ));
        }
        self.next_packet_id = entry.packet_id.number().wrapping_add(1);
        // Nothing is known of how its identifiers lie.
        self.is_lapped = true;
        self.window.push_back(entry);
        Ok(())
    }

    /// The window entry of a packet identifier. Identifiers rise along the window (modulo 65,535)
    /// with gaps, so the distance from the front is an upper bound of the position; unless an old
    /// message at the front has been lapped.
    pub fn find(&self, id: PacketId) -> Option<usize> {
        if self.is_lapped {
            return self.window.iter().position(|entry| entry.packet_id == id);
        }
        let front = self.window.front()?.packet_id.number();
        let number = id.number();
        // Zero is not an identifier: one step less where the numbers wrapped around.
        let distance = number.wrapping_sub(front) - u16::from(number < front);
        let last = (distance as usize).min(self.window.len() - 1);
        (0..=last).rev().find(|at| self.window[*at].packet_id == id)
    }

    /// Removes a window entry.
    pub fn remove(&mut self, at: usize) -> InFlight {
        let entry = self.window.remove(at).expect("the caller found it");
        if !entry.is_unsent {
            self.window_used -= 1;
        }
        entry
    }

    /// The connection is gone: everything in the window must be sent again on the next one.
    pub fn on_disconnect(&mut self) {
        self.window
            .iter_mut()
            .for_each(|entry| entry.is_unsent = true);
        self.window_used = 0;
        self.waits_for_output = false;
    }

    /// Asserts what always holds.
    pub fn check(&self) {
        let bytes: usize = self.queue.iter().map(|queued| queued.message.bytes()).sum();
        assert_eq!(bytes, self.queue_bytes, "queue bytes");
        let sent = self.window.iter().filter(|entry| !entry.is_unsent).count();
        assert_eq!(sent, self.window_used, "window entries sent");
        for (at, entry) in self.window.iter().enumerate() {
            assert_eq!(
                self.find(entry.packet_id),
                Some(at),
                "packet identifier in use twice"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(outbound: &mut Outbound) -> PacketId {
        let packet_id = outbound.take_packet_id();
        outbound.window.push_back(InFlight {
            packet_id,
            step: Step::Published,
            is_unsent: false,
            message: None,
            delivery: Delivery {
                qos: QoS::AtLeastOnce,
                retain: false,
                subscription_ids: SubscriptionIds::None,
                group: None,
            },
            kept: Kept::default(),
        });
        outbound.window_used += 1;
        packet_id
    }

    #[test]
    fn identifiers_are_found_across_gaps_and_the_wrap() {
        let mut outbound = Outbound {
            next_packet_id: 65_500,
            ..Outbound::default()
        };
        let ids: Vec<PacketId> = (0..100).map(|_| push(&mut outbound)).collect();
        assert_eq!(ids.last().map(|id| id.number()), Some(64));
        for at in [90, 50, 10, 3] {
            let found = outbound.find(ids[at]).expect("in flight");
            outbound.remove(found);
            assert_eq!(outbound.find(ids[at]), None);
        }
        outbound.check();
    }

    #[test]
    fn an_identifier_in_use_is_passed_over() {
        let mut outbound = Outbound::default();
        // These stay while others come and go, a hundred at a time, and lap them.
        let held: Vec<PacketId> = (0..3).map(|_| push(&mut outbound)).collect();
        let mut others = VecDeque::new();
        for turn in 0..70_000 {
            let id = push(&mut outbound);
            assert!(!held.contains(&id) && !others.contains(&id));
            others.push_back(id);
            if others.len() == 100 {
                let done = others.remove(turn % 100).expect("a hundred");
                let at = outbound.find(done).expect("in flight");
                assert_eq!(outbound.remove(at).packet_id, done);
                assert_eq!(outbound.find(done), None);
            }
            if turn % 1_000 == 0 {
                outbound.check();
            }
        }
        outbound.check();
    }
}
