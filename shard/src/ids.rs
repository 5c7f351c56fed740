//! Identifiers, each a type of its own.

/// A shard, 0 to the number of shards minus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// As an index into a table with one entry per shard.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A connection of one shard: a slot of its driver, and how often the slot has been used. The
/// driver issues it; a late completion or effect with an old generation is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Slot number, dense from 0.
    pub index: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// A session of one shard: a slot of its session table, and how often it has been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Slot number, dense from 0.
    pub index: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// A request that one shard made of another and that will be answered exactly once. Unique among
/// the requests that the asking shard has outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// The bits of a request's number that say which tier of the lane holds its credit.
const TIER_SHIFT: u32 = 30;

impl RequestId {
    /// With the tier of its frame, below 4.
    pub(crate) fn in_tier(self, tier: usize) -> RequestId {
        assert!(
            self.0 >> TIER_SHIFT == 0,
            "credits and windows keep requests below 2^30"
        );
        RequestId(self.0 | (tier as u32) << TIER_SHIFT)
    }

    /// The number that it was made with, and its tier.
    pub(crate) fn parts(self) -> (u32, usize) {
        let mask = (1 << TIER_SHIFT) - 1;
        (self.0 & mask, (self.0 >> TIER_SHIFT) as usize)
    }
}
