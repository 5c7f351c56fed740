//! Which other shards want which topics.
//!
//! Always: when a shard has been answered `RouteAdded`, every publish that reaches this shard
//! later is sent to it, and every retained message that passed here before is already where a read
//! will find it: that is what the barrier is for.

use crate::filter_tree::FilterTree;
use crate::frame::Answer;
use crate::placement::ShardSet;
use crate::shard::Shard;
use crate::{Effects, Frame, RequestId, ShardId};

/// A `RouteAdd` that waits for retained messages on their way.
#[derive(Debug)]
struct Barrier {
    to: ShardId,
    request: RequestId,
    /// Retain requests sent on each lane when it came.
    sent: Vec<u64>,
}

/// Filter to shards.
pub struct Routes {
    tree: FilterTree<ShardSet>,
    barriers: Vec<Barrier>,
}

impl Routes {
    /// Empty.
    pub fn new(seed: u64) -> Routes {
        Routes {
            tree: FilterTree::new(seed),
            barriers: Vec::new(),
        }
    }

    fn add(&mut self, filter: &str, shard: ShardId) {
        let id = self.tree.insert_with(filter, ShardSet::default);
        self.tree.value_mut(id).insert(shard);
    }

    fn remove(&mut self, filter: &str, shard: ShardId) {
        let Some(id) = self.tree.find(filter) else {
            return;
        };
        let shards = self.tree.value_mut(id);
        shards.remove(shard);
        if shards.is_empty() {
            self.tree.remove(id);
        }
    }

    /// The shards that want a topic.
    pub fn matching(&self, topic: &str) -> ShardSet {
        let mut shards = ShardSet::default();
        if !self.tree.is_empty() {
            self.tree
                .for_each_match(topic, |_, more| shards.0 |= more.0);
        }
        shards
    }

    /// Asserts what always holds.
    pub fn check(&self) {
        self.tree.check();
        self.tree
            .for_each(|_, shards| assert!(!shards.is_empty(), "a route to nobody"));
    }
}

impl Shard {
    pub(crate) fn on_route_add(
        &mut self,
        from: ShardId,
        request: RequestId,
        filters: &[Box<str>],
        effects: &mut Effects,
    ) {
        for filter in filters {
            self.routes.add(filter, from);
        }
        if self.lanes.no_retain_is_pending() {
            self.reply(from, request, Answer::RouteAdded, effects);
        } else {
            let sent = self.lanes.retains_sent();
            self.routes.barriers.push(Barrier {
                to: from,
                request,
                sent,
            });
        }
    }

    pub(crate) fn on_route_remove(&mut self, from: ShardId, filters: &[Box<str>]) {
        for filter in filters {
            self.routes.remove(filter, from);
        }
    }

    /// A retained message has arrived where it is kept: barriers may fall.
    pub(crate) fn pass_barriers(&mut self, effects: &mut Effects) {
        let lanes = &self.lanes;
        let passed: Vec<Barrier> = self
            .routes
            .barriers
            .extract_if(.., |barrier| lanes.retains_are_answered(&barrier.sent))
            .collect();
        for barrier in passed {
            self.reply(barrier.to, barrier.request, Answer::RouteAdded, effects);
        }
    }

    /// Answers another shard's request.
    pub(crate) fn reply(
        &mut self,
        to: ShardId,
        request: RequestId,
        answer: Answer,
        effects: &mut Effects,
    ) {
        effects.push_frame(to, Frame::Reply { request, answer });
    }
}
