//! The sending side of the request lanes: credits, frames that wait for one, and the connections
//! that were paused because a lane was full.
//!
//! Always: at most [`REQUESTS_MAX`] requests of this shard are unanswered at any other shard, so
//! that its reply lane has room for every answer. They are divided among the tiers of
//! [`Frame::tier`], so that a request never waits for a credit that is held by one which waits for
//! it. Frames of a tier leave in the order they were sent, credited or not. Bounded: a connection
//! that adds to a congested lane is paused after the packet that it is in; relayed QoS 0 is dropped
//! beyond [`STAGED_HARD_MAX`]; what is late by what the other shard defers.

use crate::limits::{REQUEST_LANE, REQUESTS_MAX};
use crate::pending::Outcome;
use crate::{ConnectionId, Effects, Frame, RequestId, ShardId};
use std::collections::{BTreeMap, VecDeque};

/// Staged frames beyond which the connections that add to a lane are paused.
const STAGED_MAX: usize = REQUEST_LANE / 2;
/// Staged frames beyond which relayed QoS 0 messages are dropped.
const STAGED_HARD_MAX: usize = 4 * REQUEST_LANE;

/// Credits of each tier.
const CREDITS: [usize; 3] = [REQUESTS_MAX * 3 / 8, REQUESTS_MAX * 3 / 8, REQUESTS_MAX / 4];
const _: () = assert!(CREDITS[0] + CREDITS[1] + CREDITS[2] <= REQUESTS_MAX);

#[derive(Debug, Default)]
struct Tier {
    /// Requests sent and not answered.
    outstanding: usize,
    /// Frames that wait for a credit, and all that were sent after them.
    waiting: VecDeque<Frame>,
}

#[derive(Debug, Default)]
struct LaneState {
    tiers: [Tier; CREDITS.len()],
    /// Connections not read because of this lane.
    paused: VecDeque<ConnectionId>,
    /// The staged frames may fit at the end of this turn: look again at so many ticks. The tick of
    /// this turn may come before they move, that of the next comes after; if they have not all
    /// fitted by then, [`crate::Event::LaneDrained`] will tell.
    looks: u8,
    /// Retain requests sent and answered; for the barrier of `routes.rs`.
    retains_sent: u64,
    retains_answered: u64,
    /// Requests that were answered with [`crate::Answer::Later`], and not settled: how many of that
    /// name, since one entry may await several answers of the same shard.
    late: BTreeMap<RequestId, u32>,
    /// What requests came to that were settled before that answer has come: it is on another lane.
    settled: BTreeMap<RequestId, Vec<Outcome>>,
}

impl LaneState {
    fn waiting(&self) -> usize {
        self.tiers.iter().map(|tier| tier.waiting.len()).sum()
    }
}

/// See [`LaneState::looks`].
const LOOKS: u8 = 2;

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
    pub fn send(&mut self, to: ShardId, mut frame: Frame, effects: &mut Effects) {
        let lane = &mut self.lanes[to.index()];
        let at = frame.tier();
        if matches!(frame, Frame::Retain { .. }) {
            lane.retains_sent += 1;
        }
        let request = frame.request_mut();
        let wants_answer = request.is_some();
        if let Some(request) = request {
            *request = request.in_tier(at);
        }
        let tier = &mut lane.tiers[at];
        let must_wait =
            !tier.waiting.is_empty() || (wants_answer && tier.outstanding == CREDITS[at]);
        if must_wait {
            tier.waiting.push_back(frame);
            return;
        }
        tier.outstanding += usize::from(wants_answer);
        effects.push_frame(to, frame);
    }

    /// An answer has come to a request of this tier: its credit is free, and frames that waited
    /// may go.
    pub fn on_answer(
        &mut self,
        from: ShardId,
        at: usize,
        is_retained: bool,
        effects: &mut Effects,
    ) {
        let lane = &mut self.lanes[from.index()];
        lane.retains_answered += u64::from(is_retained);
        let tier = &mut lane.tiers[at];
        assert!(
            tier.outstanding > 0,
            "an answer to a request that was not made"
        );
        tier.outstanding -= 1;
        while let Some(frame) = tier.waiting.front_mut() {
            let wants_answer = frame.request_mut().is_some();
            if wants_answer && tier.outstanding == CREDITS[at] {
                break;
            }
            tier.outstanding += usize::from(wants_answer);
            let frame = tier.waiting.pop_front().expect("there is a front");
            effects.push_frame(from, frame);
        }
    }

    /// A request will be settled later. Returns what it came to, if that is known already.
    pub fn on_later(&mut self, from: ShardId, request: RequestId) -> Option<Outcome> {
        let lane = &mut self.lanes[from.index()];
        let Some(outcomes) = lane.settled.get_mut(&request) else {
            *lane.late.entry(request).or_default() += 1;
            return None;
        };
        let outcome = outcomes.pop();
        if outcomes.is_empty() {
            lane.settled.remove(&request);
        }
        outcome
    }

    /// A request is settled. Returns the outcome, unless it has to wait for
    /// [`Lanes::on_later`]: until then the request is not over.
    pub fn on_settled(
        &mut self,
        from: ShardId,
        request: RequestId,
        outcome: Outcome,
    ) -> Option<Outcome> {
        let lane = &mut self.lanes[from.index()];
        let Some(late) = lane.late.get_mut(&request) else {
            lane.settled.entry(request).or_default().push(outcome);
            return None;
        };
        *late -= 1;
        if *late == 0 {
            lane.late.remove(&request);
        }
        Some(outcome)
    }

    /// Whether whoever adds to this lane should be paused.
    pub fn is_congested(&self, to: ShardId, effects: &Effects) -> bool {
        self.lanes[to.index()].waiting() > 0 || effects.staged_requests(to) > STAGED_MAX
    }

    /// Whether a relayed QoS 0 message should be dropped.
    pub fn is_overfull(&self, to: ShardId, effects: &Effects) -> bool {
        self.lanes[to.index()].waiting() + effects.staged_requests(to) > STAGED_HARD_MAX
    }

    /// Remembers a connection that is paused until the lane has room.
    pub fn pause(&mut self, to: ShardId, connection: ConnectionId) {
        let lane = &mut self.lanes[to.index()];
        lane.paused.push_back(connection);
        if lane.waiting() == 0 {
            lane.looks = LOOKS;
        }
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
        self.lanes.iter().any(|lane| lane.looks > 0)
    }

    /// One look of [`Lanes::wants_look`] has begun.
    pub fn looked(&mut self) {
        for lane in &mut self.lanes {
            lane.looks = lane.looks.saturating_sub(1);
        }
    }

    /// Asks for another look at a lane on which connections still wait.
    pub fn look_again(&mut self, to: ShardId) {
        let lane = &mut self.lanes[to.index()];
        if !lane.paused.is_empty() && lane.waiting() == 0 {
            lane.looks = LOOKS;
        }
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

    /// How loaded the lanes are: requests not answered, frames that wait for a credit, and
    /// connections that are not read because of it.
    pub fn load(&self) -> (u64, u64, u64) {
        self.lanes.iter().fold((0, 0, 0), |sum, lane| {
            let outstanding: usize = lane.tiers.iter().map(|tier| tier.outstanding).sum();
            let paused = lane.paused.len() as u64;
            let waiting = lane.waiting() as u64;
            (sum.0 + outstanding as u64, sum.1 + waiting, sum.2 + paused)
        })
    }

    /// Asserts the bounds.
    pub fn check(&self) {
        for lane in &self.lanes {
            for (tier, credits) in lane.tiers.iter().zip(CREDITS) {
                assert!(tier.outstanding <= credits, "more requests than credits");
            }
            assert!(lane.retains_answered <= lane.retains_sent);
        }
    }
}
