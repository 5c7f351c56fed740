//! Things that wait for answers: of other shards, or of slow subscribers here.
//!
//! An entry counts the answers it still awaits and is removed by the last one. Bounded: entries of
//! publishers by their Receive Maximum, entries made for other shards by the credits that those
//! shards hold.

use crate::frame::GroupKey;
use crate::message::Message;
use crate::outbound::Kept;
use crate::slots::Slots;
use crate::{ConnectionId, RequestId, SessionId, SessionKey, ShardId};
use std::sync::Arc;

/// For whom an entry waits.
#[derive(Debug)]
pub enum Origin {
    /// Nobody: a will, `$SYS`, or QoS 0.
    Nobody,
    /// A publisher here: the acknowledgement with this sequence number in its session.
    Publisher {
        /// Who.
        session: SessionId,
        /// Which of its acknowledgements.
        sequence: u32,
    },
    /// A request of the Meshblu API that sends a message.
    Job {
        /// Which.
        id: u32,
    },
    /// Another shard's request.
    Shard {
        /// Who asked.
        to: ShardId,
        /// In its numbering.
        request: RequestId,
    },
    /// Filters that are being announced to other shards.
    Announcement {
        /// Their numbers in `subscriptions.rs`.
        filters: Vec<u64>,
    },
    /// A session that joins a group on another shard.
    GroupJoin {
        /// The SUBACK that waits; see `subscribe.rs`.
        wait: u32,
    },
    /// A message offered to a member of a group on another shard.
    GroupOffer {
        /// Which group.
        key: Arc<GroupKey>,
        /// What was offered.
        message: Arc<Message>,
        /// The entry that waits until some member has it.
        parent: u32,
        /// The member it was offered to.
        member: (ShardId, SessionId),
        /// What the group had last heard of the member: see `groups.rs`.
        presence: u32,
    },
    /// A recovered session that joins its group on another shard again.
    Beginning,
    /// The same message for another entry.
    Forward {
        /// Which.
        parent: u32,
    },
    /// A message of a group's queue that is offered to a member.
    GroupQueued {
        /// Which group.
        key: Arc<GroupKey>,
        /// What.
        message: Arc<Message>,
        /// Where the group keeps it until a member does.
        kept: Kept,
    },
    /// A message that came back to a group, and is offered to another member.
    Returned {
        /// Which group.
        key: Arc<GroupKey>,
        /// What.
        message: Arc<Message>,
        /// The entry of whoever gave it back.
        parent: u32,
    },
    /// A message of a session here that goes back to a group on another shard.
    GroupReturn {
        /// Whose.
        session: SessionKey,
        /// Where it is kept until the group does.
        kept: Kept,
    },
    /// A page of retained messages for a session here.
    RetainedRead {
        /// For whom.
        session: SessionId,
        /// The connection it was on when it asked; a later one has asked anew.
        connection: ConnectionId,
    },
}

/// One entry.
#[derive(Debug)]
pub struct Pending {
    /// For whom.
    pub origin: Origin,
    /// Answers still awaited.
    pub awaiting: u32,
    /// What the answers so far say together.
    pub outcome: Outcome,
    /// Whoever waits for it has been told that it may take long.
    pub is_late: bool,
}

/// What has come of a publish.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Whether there was a subscriber.
    pub matched: bool,
    /// The batch of this shard that must be durable before anyone is told; 0 for none.
    pub batch: u64,
    /// Someone who would have to have it could not be given it.
    pub is_refused: bool,
}

/// A publish on its way: makes an entry only if something must be awaited.
#[derive(Debug)]
pub struct Ticket {
    origin: Option<Origin>,
    /// The entry, once there is one. The ticket itself counts as one awaited answer.
    pub pending: Option<u32>,
    /// Whether there is a subscriber, as far as is known at once.
    pub matched: bool,
    /// At QoS 0 nobody waits.
    pub wants_answer: bool,
    /// The batch of this shard that must be durable before anyone is told; 0 for none.
    pub batch: u64,
    /// The message cannot be kept for someone who would have to have it.
    pub is_refused: bool,
    /// A will: while a store cannot write it is taken all the same, since nobody would send it
    /// again. There are no more of them than sessions.
    pub is_will: bool,
}

impl Ticket {
    /// For a message whose acceptance must be reported.
    pub fn awaited(origin: Origin) -> Ticket {
        Ticket {
            origin: Some(origin),
            pending: None,
            matched: false,
            wants_answer: true,
            batch: 0,
            is_refused: false,
            is_will: false,
        }
    }

    /// For a message that nobody waits for.
    pub fn unawaited() -> Ticket {
        Ticket {
            origin: None,
            pending: None,
            matched: false,
            wants_answer: false,
            batch: 0,
            is_refused: false,
            is_will: false,
        }
    }

    /// For more work on an entry that awaits it already.
    pub fn going_on(pending: u32, wants_answer: bool) -> Ticket {
        Ticket {
            pending: Some(pending),
            wants_answer,
            ..Ticket::unawaited()
        }
    }

    /// Makes the entry if need be, and lets it await one more answer.
    pub fn wait(&mut self, table: &mut PendingTable) -> u32 {
        let id = *self.pending.get_or_insert_with(|| {
            let origin = self.origin.take().unwrap_or(Origin::Nobody);
            table.insert(origin, 1)
        });
        table.await_more(id, 1);
        id
    }

    /// What has come of it so far.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            matched: self.matched,
            batch: self.batch,
            is_refused: self.is_refused,
        }
    }

    /// Whether nothing had to be awaited; the origin is then given back.
    pub fn finish(self) -> Result<Option<Origin>, u32> {
        match self.pending {
            None => Ok(self.origin),
            Some(id) => Err(id),
        }
    }
}

/// All entries of a shard.
#[derive(Debug, Default)]
pub struct PendingTable {
    entries: Slots<Pending>,
}

impl PendingTable {
    /// A new entry that awaits so many answers.
    pub fn insert(&mut self, origin: Origin, awaiting: u32) -> u32 {
        self.entries
            .insert(Pending {
                origin,
                awaiting,
                outcome: Outcome::default(),
                is_late: false,
            })
            .0
    }

    /// Lets an entry await more answers.
    pub fn await_more(&mut self, id: u32, more: u32) {
        self.entries.at_mut(id).awaiting += more;
    }

    /// How many answers an entry awaits.
    pub fn awaiting(&self, id: u32) -> u32 {
        self.entries.at(id).awaiting
    }

    /// Notes that an entry may take long. Returns its origin the first time.
    pub fn mark_late(&mut self, id: u32) -> Option<&Origin> {
        let entry = self.entries.at_mut(id);
        let is_first = !std::mem::replace(&mut entry.is_late, true);
        is_first.then_some(&entry.origin)
    }

    /// One awaited answer has come; returns the entry if it was the last.
    pub fn answer(&mut self, id: u32, answer: Outcome) -> Option<Pending> {
        let entry = self.entries.at_mut(id);
        assert!(entry.awaiting > 0, "an entry that awaits nothing is gone");
        entry.awaiting -= 1;
        entry.outcome.matched |= answer.matched;
        entry.outcome.batch = entry.outcome.batch.max(answer.batch);
        entry.outcome.is_refused |= answer.is_refused;
        (entry.awaiting == 0).then(|| self.entries.remove(id))
    }

    /// Asserts that every entry awaits something.
    pub fn check(&self) {
        for (_, entry) in self.entries.iter() {
            assert!(entry.awaiting > 0, "an entry that awaits nothing is gone");
        }
    }
}
