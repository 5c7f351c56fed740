//! The sending side of the request lanes: credits, frames that wait for one, and the connections
//! that were paused because a lane was full.
//!
//! Always: at most [`REQUESTS_MAX`] requests of this shard are unanswered at any other shard, so
//! that its reply lane has room for every answer. Frames leave a lane in the order they were sent,
//! credited or not. Bounded: a connection that adds to a congested lane is paused after the packet
//! that it is in; relayed QoS 0 is dropped beyond [`STAGED_HARD_MAX`].

use crate::limits::{REQUEST_LANE, REQUESTS_MAX};
use crate::{ConnectionId, Effects, Frame, ShardId};
use std::collections::VecDeque;

/// Staged frames beyond which the connections that add to a lane are paused.
const STAGED_MAX: usize = REQUEST_LANE / 2;
/// Staged frames beyond which relayed QoS 0 messages are dropped.
const STAGED_HARD_MAX: usize = 4 * REQUEST_LANE;

#[derive(Debug, Default)]
struct LaneState {
    /// Requests sent and not answered.
    outstanding: usize,
    /// Frames that wait for a credit, and all that were sent after them.
    waiting: VecDeque<Frame>,
    /// Connections not read because of this lane.
    paused: VecDeque<ConnectionId>,
    /// The staged frames may fit at the end of this turn: look again.
    look_again: bool,
    /// Retain requests sent and answered; for the barrier of `routes.rs`.
    retains_sent: u64,
    retains_answered: u64,
}

/// One lane per shard.
#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<LaneState>,
}

impl Lanes {
    /// Lanes to so many shards.
    pub fn new(shards: u16) -> Lanes {
        Lanes {
            lanes: (0..shards).map(|_| LaneState::default()).collect(),
        }
    }

    /// Sends a request frame, now or once there is a credit.
    pub fn send(&mut self, to: ShardId, frame: Frame, effects: &mut Effects) {
        let lane = &mut self.lanes[to.index()];
        let wants_answer = frame.wants_answer();
        if matches!(frame, Frame::Retain { .. }) {
            lane.retains_sent += 1;
        }
        let must_wait =
            !lane.waiting.is_empty() || (wants_answer && lane.outstanding == REQUESTS_MAX);
        if must_wait {
            lane.waiting.push_back(frame);
            return;
        }
        lane.outstanding += usize::from(wants_answer);
        effects.push_frame(to, frame);
    }

    /// An answer has come: its credit is free, and frames that waited may go.
    pub fn on_answer(&mut self, from: ShardId, is_retained: bool, effects: &mut Effects) {
        let lane = &mut self.lanes[from.index()];
        assert!(
            lane.outstanding > 0,
            "an answer to a request that was not made"
        );
        lane.outstanding -= 1;
        if is_retained {
            lane.retains_answered += 1;
        }
        while let Some(frame) = lane.waiting.front() {
            let wants_answer = frame.wants_answer();
            if wants_answer && lane.outstanding == REQUESTS_MAX {
                break;
            }
            lane.outstanding += usize::from(wants_answer);
            let frame = lane.waiting.pop_front().expect("there is a front");
            effects.push_frame(from, frame);
        }
    }

    /// Whether whoever adds to this lane should be paused.
    pub fn is_congested(&self, to: ShardId, effects: &Effects) -> bool {
        !self.lanes[to.index()].waiting.is_empty() || effects.staged_requests(to) > STAGED_MAX
    }

    /// Whether a relayed QoS 0 message should be dropped.
    pub fn is_overfull(&self, to: ShardId, effects: &Effects) -> bool {
        self.lanes[to.index()].waiting.len() + effects.staged_requests(to) > STAGED_HARD_MAX
    }

    /// Remembers a connection that is paused until the lane has room.
    pub fn pause(&mut self, to: ShardId, connection: ConnectionId) {
        let lane = &mut self.lanes[to.index()];
        lane.paused.push_back(connection);
        lane.look_again = lane.waiting.is_empty();
    }

    /// The next connection that may go on, if the lane has room.
    pub fn next_resumable(&mut self, to: ShardId, effects: &Effects) -> Option<ConnectionId> {
        if self.is_congested(to, effects) {
            return None;
        }
        self.lanes[to.index()].paused.pop_front()
    }

    /// Whether some lane should be looked at again at the next turn.
    pub fn wants_look(&self) -> bool {
        self.lanes.iter().any(|lane| lane.look_again)
    }

    /// Ends the wish of [`Lanes::wants_look`].
    pub fn looked(&mut self) {
        self.lanes
            .iter_mut()
            .for_each(|lane| lane.look_again = false);
    }

    /// Asks for another look at a lane on which connections still wait.
    pub fn look_again(&mut self, to: ShardId) {
        let lane = &mut self.lanes[to.index()];
        lane.look_again = !lane.paused.is_empty() && lane.waiting.is_empty();
    }

    /// How many Retain requests have been sent on each lane.
    pub fn retains_sent(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.retains_sent).collect()
    }

    /// Whether all Retain requests up to these numbers have been answered.
    pub fn retains_are_answered(&self, sent: &[u64]) -> bool {
        self.lanes
            .iter()
            .zip(sent)
            .all(|(lane, sent)| lane.retains_answered >= *sent)
    }

    /// Whether no Retain request is unanswered.
    pub fn no_retain_is_pending(&self) -> bool {
        self.lanes
            .iter()
            .all(|lane| lane.retains_answered == lane.retains_sent)
    }

    /// Asserts the bounds.
    pub fn check(&self) {
        for lane in &self.lanes {
            assert!(
                lane.outstanding <= REQUESTS_MAX,
                "more requests than credits"
            );
            assert!(lane.retains_answered <= lane.retains_sent);
        }
    }
}
