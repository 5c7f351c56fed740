//! Who on this shard wants which topics.
//!
//! Always: a filter is in the tree exactly while a session here subscribes to it or a group that
//! lives here does. While a filter is being announced to other shards, whoever needs the filter
//! waits for the announcement: the second subscriber joins the wait of the first.

use crate::compact_map::CompactMap;
use crate::filter_tree::{FilterId, FilterTree, WARM_TOPICS};
use crate::map::{Map, map_with_seed};
use crate::{RequestId, ShardId};
use mqtt_v5_codec::SubscriptionOptions;

/// Filters beyond which a match is likely to miss the caches, at about 150 bytes each.
const LARGE: usize = 2_048;

/// What a subscription grants, packed: there may be millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// v5 subscription identifier; 0 for none.
    pub subscription_id: u32,
    options: u8,
}

impl Grant {
    /// Packs.
    pub fn new(options: SubscriptionOptions, subscription_id: u32) -> Grant {
        Grant {
            subscription_id,
            options: options.to_bits(),
        }
    }

    /// Unpacks.
    pub fn options(self) -> SubscriptionOptions {
        SubscriptionOptions::from_bits(self.options).expect("packed by new")
    }
}

/// Everybody on this shard who wants one filter.
#[derive(Debug, Default)]
pub struct FilterEntry {
    /// Sessions, by slot.
    pub subscribers: CompactMap<u32, Grant>,
    /// Groups that live here, by slot.
    #[allow(clippy::box_collection)] // 8 bytes instead of 24 in filters that have none.
    pub groups: Option<Box<Vec<u32>>>,
}

const _: () = assert!(size_of::<Option<FilterEntry>>() == 32);
const _: () = assert!(FilterTree::<FilterEntry>::SLOT_BYTES == 96);

/// Who waits until other shards know a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// Nobody: a shard that begins, and counts announcements itself.
    Nobody,
    /// A SUBACK; see `subscribe.rs`.
    Suback(u32),
    /// Another shard's session that joins a group here.
    Join {
        /// Who.
        to: ShardId,
        /// In its numbering.
        request: RequestId,
    },
}

#[derive(Debug)]
struct Announcement {
    filter: FilterId,
    awaiting: u32,
    waiters: Vec<Waiter>,
}

/// The table.
pub struct Subscriptions {
    tree: FilterTree<FilterEntry>,
    announcements: Map<u64, Announcement>,
    /// The announcement under way of each filter that is here and has one.
    announced: Map<FilterId, u64>,
    last_announcement: u64,
}

impl Subscriptions {
    /// Empty.
    pub fn new(seed: u64) -> Subscriptions {
        Subscriptions {
            tree: FilterTree::new(seed),
            announcements: map_with_seed(seed.wrapping_add(1)),
            announced: map_with_seed(seed.wrapping_add(2)),
            last_announcement: 0,
        }
    }

    /// The entry of a filter, made if need be; whether it is new.
    pub fn entry(&mut self, filter: &str) -> (FilterId, bool) {
        let before = self.tree.len();
        let id = self.tree.insert_with(filter, FilterEntry::default);
        (id, self.tree.len() > before)
    }

    /// A filter's number, if anybody here wants it.
    pub fn find(&self, filter: &str) -> Option<FilterId> {
        self.tree.find(filter)
    }

    /// What is known of a filter.
    pub fn get_mut(&mut self, id: FilterId) -> &mut FilterEntry {
        self.tree.value_mut(id)
    }

    /// Removes a filter that nobody wants any more; returns its text.
    pub fn remove_if_unused(&mut self, id: FilterId) -> Option<Box<str>> {
        let entry = self.tree.value(id);
        if !entry.subscribers.is_empty() || entry.groups.is_some() {
            return None;
        }
        let filter = self.filter(id);
        self.tree.remove(id);
        self.announced.remove(&id);
        Some(filter)
    }

    /// A filter's text.
    pub fn filter(&self, id: FilterId) -> Box<str> {
        self.tree.filter(id).to_string().into_boxed_str()
    }

    /// Whether a filter begins with a wildcard.
    pub fn begins_wild(&self, id: FilterId) -> bool {
        self.tree.begins_wild(id)
    }

    /// How many filters are being announced.
    pub fn announcing(&self) -> usize {
        self.announcements.len()
    }

    /// Visits every filter that matches a topic.
    pub fn for_each_match(&self, topic: &str, visit: impl FnMut(FilterId, &FilterEntry)) {
        self.tree.for_each_match(topic, visit);
    }

    /// Whether [`Subscriptions::warm`] is worth its while: the table has outgrown the caches.
    pub fn is_large(&self) -> bool {
        self.tree.len() > LARGE
    }

    /// Touches what the next matches of these topics will look at.
    pub fn warm(&self, topics: &[&[u8]; WARM_TOPICS]) {
        self.tree.warm(topics);
    }

    /// Begins to announce a filter to so many shards; returns the announcement's number.
    pub fn announce(&mut self, id: FilterId, shards: u32) -> u64 {
        assert!(shards > 0, "nobody to tell");
        self.last_announcement += 1;
        let number = self.last_announcement;
        let before = self.announced.insert(id, number);
        assert_eq!(before, None, "announced once");
        let announcement = Announcement {
            filter: id,
            awaiting: shards,
            waiters: Vec::new(),
        };
        self.announcements.insert(number, announcement);
        number
    }

    /// Lets somebody wait for a filter's announcement; returns whether there is one to wait for.
    pub fn wait(&mut self, id: FilterId, waiter: Waiter) -> bool {
        let Some(number) = self.announced.get(&id) else {
            return false;
        };
        let announcement = self.announcements.get_mut(number);
        let announcement = announcement.expect("under way until all know");
        announcement.waiters.push(waiter);
        true
    }

    /// One more shard knows; returns who need wait no longer.
    pub fn on_announced(&mut self, number: u64) -> Vec<Waiter> {
        let announcement = self
            .announcements
            .get_mut(&number)
            .expect("announced until all know");
        announcement.awaiting -= 1;
        if announcement.awaiting > 0 {
            return Vec::new();
        }
        let announcement = self.announcements.remove(&number).expect("just seen");
        // The filter may be gone, and its number in use for another.
        if self.announced.get(&announcement.filter) == Some(&number) {
            self.announced.remove(&announcement.filter);
        }
        announcement.waiters
    }

    /// How many filters there are.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// What a filter grants a session.
    pub fn grant(&self, filter: FilterId, session: u32) -> Option<Grant> {
        self.tree.value(filter).subscribers.get(session)
    }

    /// Whether a session subscribes to a filter.
    pub fn has(&self, filter: FilterId, session: u32) -> bool {
        self.tree.value(filter).subscribers.get(session).is_some()
    }

    /// Asserts what always holds; returns the number of subscriptions.
    pub fn check(&self) -> usize {
        self.tree.check();
        let mut count = 0;
        self.tree.for_each(|_, entry| {
            assert!(
                !entry.subscribers.is_empty() || entry.groups.is_some(),
                "an unused filter"
            );
            count += entry.subscribers.len();
        });
        for (filter, number) in &self.announced {
            assert_eq!(self.announcements[number].filter, *filter);
        }
        count
    }
}
