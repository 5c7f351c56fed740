//! Where things live. Nothing else knows: one day the answer has a node in it.
//!
//! The answers are written into the files of all shards, which outlive versions of this program: so
//! the hash function has a specification (SipHash-1-3), and a change of anything here must move
//! records. The key keeps clients from choosing names that all live on one shard.

use crate::{DeviceId, ShardId, topic};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Places topics, clients and groups on shards. The same in every shard of a process, and, by its
/// seed, in every process that opens the same files.
#[derive(Clone, Debug)]
pub struct Placement {
    shards: u16,
    key: (u64, u64),
}

/// Which shards must know that a filter has subscribers here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A filter on one device's topics: its owner alone.
    Owner(ShardId),
    /// A filter on free topics, or one whose first level is a wildcard: everybody.
    All,
}

impl Placement {
    /// For so many shards; the seed is the same in all of them.
    pub fn new(shards: u16, seed: u64) -> Placement {
        assert!(shards >= 1 && shards as usize <= crate::limits::SHARDS_MAX);
        Placement {
            shards,
            key: (mixed(seed, 1), mixed(seed, 2)),
        }
    }

    fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.key.0, self.key.1)
    }

    fn place(&self, parts: &[&[u8]]) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        let mut hasher = self.hasher();
        for part in parts {
            hasher.write(part);
            // No text contains this byte, so it ends each part.
            hasher.write(&[0xFF]);
        }
        // The high bits of the product spread evenly over the shards.
        ShardId(((u128::from(hasher.finish()) * u128::from(self.shards)) >> 64) as u16)
    }

    /// The home of a client's session. A client whose identifier is a UUID lives on the shard of
    /// that device.
    pub fn client(&self, client_id: &str) -> ShardId {
        match topic::device_uuid(client_id) {
            Some(uuid) if client_id.len() == 36 => self.place(&[&uuid]),
            _ => self.place(&[client_id.as_bytes()]),
        }
    }

    /// The owner of a device, its tokens and the subscriptions to it.
    pub fn device(&self, device: DeviceId) -> ShardId {
        self.place(&[&device.0])
    }

    /// The owner of a device topic; `None` for a free topic.
    pub fn topic_owner(&self, topic: &str) -> Option<ShardId> {
        if self.shards == 1 {
            return None; // One shard owns everything; nothing has to travel.
        }
        topic::device_uuid(topic).map(|uuid| self.place(&[&uuid]))
    }

    /// Where the retained message of a topic is kept.
    pub fn retained(&self, topic: &str) -> ShardId {
        self.topic_owner(topic)
            .unwrap_or_else(|| self.place(&[topic.as_bytes()]))
    }

    /// Which shards keep retained messages that a filter may match.
    pub fn retained_for_filter(&self, filter: &str) -> Audience {
        if filter.contains(['+', '#']) {
            self.audience(filter)
        } else {
            Audience::Owner(self.retained(filter))
        }
    }

    /// Which shards must know of a filter's subscribers.
    pub fn audience(&self, filter: &str) -> Audience {
        match self.topic_owner(filter) {
            Some(owner) => Audience::Owner(owner),
            None => Audience::All,
        }
    }

    /// A number that stands for a client, and that others cannot guess.
    pub fn token(&self, client_id: &str) -> u64 {
        let mut hasher = self.hasher();
        hasher.write(b"response");
        hasher.write(client_id.as_bytes());
        hasher.finish()
    }

    /// Where a shared subscription's group lives.
    pub fn group(&self, name: &str, filter: &str) -> ShardId {
        self.place(&[name.as_bytes(), filter.as_bytes()])
    }
}

/// The number at this place of the sequence that a seed begins (splitmix64).
fn mixed(seed: u64, place: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(place));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(pub u128);

impl ShardSet {
    /// Adds one.
    pub fn insert(&mut self, shard: ShardId) {
        self.0 |= 1 << shard.0;
    }

    /// Removes one.
    pub fn remove(&mut self, shard: ShardId) {
        self.0 &= !(1 << shard.0);
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members, ascending.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let lowest = rest.trailing_zeros();
            rest &= rest - 1;
            Some(ShardId(lowest as u16))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_topics_live_with_its_session() {
        let placement = Placement::new(7, 3);
        let uuid = "9f1c2ab4-0d52-4b51-8a5e-3d4d0f6a7b8c";
        let upper = uuid.to_uppercase();
        let home = placement.client(uuid);
        assert_eq!(placement.client(&upper), home);
        for topic in [
            format!("{uuid}/message"),
            format!("{upper}/a/b"),
            uuid.to_string(),
        ] {
            assert_eq!(placement.topic_owner(&topic), Some(home));
            assert_eq!(placement.retained(&topic), home);
        }
        assert_eq!(placement.topic_owner("fleet/1"), None);
    }

    #[test]
    fn shards_share_evenly() {
        let placement = Placement::new(4, 1);
        let mut counts = [0; 4];
        for n in 0..4_000 {
            counts[placement.client(&format!("client-{n}")).index()] += 1;
        }
        assert!(
            counts.iter().all(|count| (800..1_200).contains(count)),
            "{counts:?}"
        );
    }

    /// Files rely on these numbers, which were computed by another implementation of SipHash-1-3.
    /// Never change them.
    #[test]
    fn placement_is_the_same_for_ever() {
        #[track_caller]
        fn check(seed: u64, clients: [u16; 5], group: u16, token: u64) {
            let placement = Placement::new(128, seed);
            let names = [
                "9f1c2ab4-0d52-4b51-8a5e-3d4d0f6a7b8c",
                "",
                "client-1",
                "fleet/1/temperature",
                "größe",
            ];
            assert_eq!(names.map(|name| placement.client(name).0), clients);
            for (name, shard) in names.into_iter().zip(clients) {
                assert_eq!(placement.retained(name).0, shard, "{name:?} as a topic");
            }
            assert_eq!(placement.group("workers", "jobs/+").0, group);
            assert_eq!(placement.token("client-1"), token);
        }
        check(0, [90, 3, 8, 83, 71], 118, 0xd906_f3c9_73c2_b65c);
        check(1, [67, 13, 108, 17, 123], 13, 0x60b9_1a05_42a2_7fa2);
        let seed = 0xdead_beef_cafe_f00d;
        check(seed, [58, 115, 115, 59, 123], 125, 0x158b_99cc_2038_9b9b);
    }
}
