//! The list of subscriptions.
//!
//! Those of one session are listed from the last to the first, because a removal moves the last one
//! into its place: so none is left out that is there all the time. One may come twice.

use super::{Collector, Rows};
use crate::session::Session;
use crate::shard::Shard;
use crate::topic;
use mqtt_v5_codec::SubscriptionOptions;

/// Which subscriptions are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// The client's identifier.
    pub client_id: Option<Box<str>>,
    /// The topic filter, without `$share/name/`.
    pub filter: Option<Box<str>>,
    /// A topic that it matches.
    pub topic: Option<Box<str>>,
}

/// Where in the list one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The session's slot.
    pub session: u32,
    /// In the second half of what this session has: its own, behind the shared ones.
    pub is_own: bool,
    /// So many of this half are left to list; `None` for all.
    pub left: Option<u32>,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// Whose.
    pub client_id: Box<str>,
    /// Whether that client is connected.
    pub is_connected: bool,
    /// The name of the group, if it is shared.
    pub share: Option<Box<str>>,
    /// The topic filter, without `$share/name/`.
    pub filter: Box<str>,
    /// Quality of service and flags.
    pub options: SubscriptionOptions,
    /// v5 subscription identifier; 0 for none.
    pub subscription_id: u32,
}

impl Shard {
    pub(super) fn list_subscriptions(
        &self,
        from: Place,
        limit: u32,
        filter: &SubscriptionFilter,
    ) -> Rows<SubscriptionRow, Place> {
        let mut collector = Collector::new(limit);
        let mut place = from;
        let mut end = self.sessions.end();
        if let Some(client_id) = &filter.client_id {
            let Some(index) = self.clients.find(client_id, &self.sessions) else {
                return collector.finish(None);
            };
            if place.session != index {
                place = Place {
                    session: index,
                    ..Place::default()
                };
            }
            end = index + 1;
        }
        while place.session < end {
            let session = self.sessions.peek(place.session);
            let Some(session) = session.filter(|session| !session.is_ending) else {
                if !collector.may_look() {
                    return collector.finish(Some(place));
                }
                place = next_session(place);
                continue;
            };
            let count = match place.is_own {
                true => session.subscriptions.len() as u32,
                false => session
                    .shared
                    .as_ref()
                    .map_or(0, |shared| shared.len() as u32),
            };
            let mut left = place.left.map_or(count, |left| left.min(count));
            while left > 0 {
                if !collector.may_look() {
                    place.left = Some(left);
                    return collector.finish(Some(place));
                }
                left -= 1;
                let row = self.subscription_row(place.session, session, place.is_own, left);
                if is_wanted(&row, filter) {
                    let bytes = row.client_id.len() + row.filter.len();
                    collector.push(row, bytes);
                }
            }
            if place.is_own {
                // Sessions without any count, too, so that a page ends.
                collector.may_look();
                place = next_session(place);
            } else {
                place.is_own = true;
                place.left = None;
            }
        }
        collector.finish(None)
    }

    fn subscription_row(
        &self,
        index: u32,
        session: &Session,
        is_own: bool,
        at: u32,
    ) -> SubscriptionRow {
        let (share, filter, options, subscription_id) = if is_own {
            let (id, ()) = session
                .subscriptions
                .at(at as usize)
                .expect("within its length");
            let grant = self
                .subscriptions
                .grant(id, index)
                .expect("both sides of a subscription");
            (
                None,
                self.subscriptions.filter(id),
                grant.options(),
                grant.subscription_id,
            )
        } else {
            let shared = session.shared.as_ref().expect("it has some");
            let shared = &shared[at as usize];
            let (name, filter) = (shared.key.name.clone(), shared.key.filter.clone());
            (Some(name), filter, shared.options, shared.subscription_id)
        };
        SubscriptionRow {
            client_id: session.client_id.clone(),
            is_connected: session.connection.is_some(),
            share,
            filter,
            options,
            subscription_id,
        }
    }
}

fn next_session(place: Place) -> Place {
    Place {
        session: place.session + 1,
        ..Place::default()
    }
}

fn is_wanted(row: &SubscriptionRow, filter: &SubscriptionFilter) -> bool {
    let is_same = filter
        .filter
        .as_ref()
        .is_none_or(|filter| *filter == row.filter);
    let matches = |topic: &str| topic::matches(&row.filter, topic);
    is_same && filter.topic.as_deref().is_none_or(matches)
}
