//! Requests that concern all shards: asked one after the other, page by page, until the answer has as
//! many entries as it may, or all.
//!
//! Always: an answer that is not the end of its list says where it goes on. Bounded: entries by
//! [`ENTRIES_MAX`], documents by [`BYTES_MAX`] together.

use super::ask::Ask;
use super::call::{Done, Op};
use super::parts::{Cursor, ENTRIES_MAX};
use crate::counters::Counters;
use crate::{DeviceSubscription, Effects, Shard, ShardId};
use std::sync::Arc;

/// Bytes of documents in one answer; the first is in it in any case.
const BYTES_MAX: usize = 16 * 1_048_576;
/// Searches that go on in one tick, a page each.
const SEARCHES_PER_TICK: usize = 4;

/// What a question to all shards has brought so far.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    views: Vec<Vec<u8>>,
    bytes: usize,
    subscriptions: Vec<DeviceSubscription>,
    pub counters: Option<Box<Counters>>,
    /// Where what had no room begins, of the shard that is asked.
    left: Option<u32>,
}

impl Gathered {
    /// Takes documents in; the place of the first that has no room, if one has none.
    pub fn take_views(&mut self, views: Vec<(u32, Vec<u8>)>, entries_max: usize) -> Option<u32> {
        for (place, view) in views {
            let is_too_large = !self.views.is_empty() && self.bytes + view.len() > BYTES_MAX;
            if self.views.len() >= entries_max || is_too_large {
                return Some(place);
            }
            self.bytes += view.len();
            self.views.push(view);
        }
        None
    }

    /// The same for subscriptions.
    pub fn take_subscriptions(
        &mut self,
        found: Vec<(u32, DeviceSubscription)>,
        entries_max: usize,
    ) -> Option<u32> {
        for (place, subscription) in found {
            if self.subscriptions.len() >= entries_max {
                return Some(place);
            }
            self.subscriptions.push(subscription);
        }
        None
    }
}

impl Op {
    /// Entries that its answer has at most.
    pub(super) fn entries_max(&self) -> usize {
        match self {
            Op::Search { part, .. }
            | Op::MyDevices { part, .. }
            | Op::Subscriptions { part, .. } => part.entries_max,
            _ => ENTRIES_MAX,
        }
    }

    /// Where its answer begins.
    fn after(&self) -> Option<Cursor> {
        match self {
            Op::Search { part, .. }
            | Op::MyDevices { part, .. }
            | Op::Subscriptions { part, .. } => part.after,
            _ => None,
        }
    }
}

impl Shard {
    /// Puts the question of a job that concerns all shards to the first that it is about.
    pub(super) fn ask_shards(&mut self, id: u32, effects: &mut Effects) {
        let job = self.mesh.jobs.at_mut(id);
        let Some(after) = job.call.op.after() else {
            return self.ask_shard_from(id, 0, effects);
        };
        if after.tag != self.mesh.list_tag || after.shard >= self.config.shards {
            return self.end_job(id, Err(Cursor::unknown()), effects);
        }
        job.cursor = after.shard;
        self.ask_shard_from(id, after.place, effects);
    }

    fn ask_shard_from(&mut self, id: u32, from: u32, effects: &mut Effects) {
        let job = self.mesh.jobs.at(id);
        let to = ShardId(job.cursor);
        let ask = match &job.call.op {
            Op::Search { query, .. } => Ask::Search {
                query: Some(Arc::clone(query)),
                owner: None,
                actor: job.subject(),
                from,
            },
            Op::MyDevices { query, .. } => Ask::Search {
                query: query.clone(),
                owner: Some(job.subject()),
                actor: job.subject(),
                from,
            },
            Op::Status => Ask::Count,
            Op::Subscriptions { subscriber, .. } => Ask::Subscriptions {
                subscriber: *subscriber,
                from,
            },
            Op::Unsubscribe {
                subscriber, kind, ..
            } => Ask::Unsubscribe {
                subscriber: *subscriber,
                emitter: None,
                kind: *kind,
            },
            other => unreachable!("not about all shards: {other:?}"),
        };
        self.ask(id, to, ask, effects);
    }

    /// Goes on with searches that have used up their turn.
    pub(crate) fn go_on_searching(&mut self, effects: &mut Effects) {
        for _ in 0..self.mesh.searching.len().min(SEARCHES_PER_TICK) {
            let Some((id, from)) = self.mesh.searching.pop_front() else {
                return;
            };
            self.ask_shard_from(id, from, effects);
        }
    }

    /// A shard has given a page, of which what is at `left` had no room; the shard has more at
    /// `next`.
    pub(super) fn on_list_page(
        &mut self,
        id: u32,
        left: Option<u32>,
        next: Option<u32>,
        effects: &mut Effects,
    ) {
        if left.is_some() {
            self.mesh.jobs.at_mut(id).gathered.left = left;
            return self.end_gathering(id, effects);
        }
        match next {
            Some(next) => self.mesh.searching.push_back((id, next)),
            None => self.on_shard_done(id, effects),
        }
    }

    /// A shard has nothing more to say to a question to all shards.
    pub(super) fn on_shard_done(&mut self, id: u32, effects: &mut Effects) {
        let job = self.mesh.jobs.at_mut(id);
        job.cursor += 1;
        match job.cursor < self.config.shards {
            true => self.ask_shard_from(id, 0, effects),
            false => self.end_gathering(id, effects),
        }
    }

    fn end_gathering(&mut self, id: u32, effects: &mut Effects) {
        let tag = self.mesh.list_tag;
        let job = self.mesh.jobs.at_mut(id);
        let gathered = std::mem::take(&mut job.gathered);
        let next = gathered.left.map(|place| Cursor {
            tag,
            shard: job.cursor,
            place,
        });
        let done = match &job.call.op {
            Op::Subscriptions { .. } => Done::Subscriptions {
                found: gathered.subscriptions,
                next,
            },
            Op::Status => Done::Status {
                counters: gathered.counters.unwrap_or_default(),
            },
            Op::Unsubscribe { .. } => Done::Unsubscribed,
            _ => Done::Devices {
                views: gathered.views,
                next,
            },
        };
        self.end_job(id, Ok(done), effects);
    }
}
