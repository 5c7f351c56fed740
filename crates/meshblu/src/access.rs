//! The thirteen things that a whitelist can allow others to do.

use std::fmt;

/// A sub-type of Meshblu's whitelists, version 2.0.0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Access {
    /// See the device and find it in searches.
    DiscoverView,
    /// Look at others in its name.
    DiscoverAs,
    /// Change the device, its tokens and its subscriptions, or remove it.
    ConfigureUpdate,
    /// Subscribe to the changes it makes known.
    ConfigureSent,
    /// Subscribe to the changes that it hears of.
    ConfigureReceived,
    /// Configure others in its name.
    ConfigureAs,
    /// Send it messages.
    MessageFrom,
    /// Subscribe to the messages that it sends.
    MessageSent,
    /// Subscribe to the messages that it gets.
    MessageReceived,
    /// Send messages in its name.
    MessageAs,
    /// Subscribe to what it broadcasts.
    BroadcastSent,
    /// Subscribe to the broadcasts that it hears.
    BroadcastReceived,
    /// Broadcast in its name.
    BroadcastAs,
}

impl Access {
    /// All of them, in the order that documents show them in.
    pub const ALL: [Access; 13] = [
        Access::DiscoverView,
        Access::DiscoverAs,
        Access::ConfigureUpdate,
        Access::ConfigureSent,
        Access::ConfigureReceived,
        Access::ConfigureAs,
        Access::MessageFrom,
        Access::MessageSent,
        Access::MessageReceived,
        Access::MessageAs,
        Access::BroadcastSent,
        Access::BroadcastReceived,
        Access::BroadcastAs,
    ];

    /// `discover.view`, as it is called in documents.
    pub fn name(self) -> &'static str {
        match self {
            Access::DiscoverView => "discover.view",
            Access::DiscoverAs => "discover.as",
            Access::ConfigureUpdate => "configure.update",
            Access::ConfigureSent => "configure.sent",
            Access::ConfigureReceived => "configure.received",
            Access::ConfigureAs => "configure.as",
            Access::MessageFrom => "message.from",
            Access::MessageSent => "message.sent",
            Access::MessageReceived => "message.received",
            Access::MessageAs => "message.as",
            Access::BroadcastSent => "broadcast.sent",
            Access::BroadcastReceived => "broadcast.received",
            Access::BroadcastAs => "broadcast.as",
        }
    }

    /// The category and the sub-type: `discover` and `view`.
    pub fn parts(self) -> (&'static str, &'static str) {
        self.name()
            .split_once('.')
            .expect("every name has a category and a sub-type")
    }

    /// Whether it is a right to act in the device's name. These are closed unless somebody opens
    /// them, even on a device that is open otherwise.
    pub fn is_as(self) -> bool {
        self.parts().1 == "as"
    }
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_listed_in_their_order() {
        for (index, access) in Access::ALL.into_iter().enumerate() {
            assert_eq!(access as usize, index);
        }
        let acting: Vec<_> = Access::ALL.into_iter().filter(|a| a.is_as()).collect();
        assert_eq!(
            acting,
            [
                Access::DiscoverAs,
                Access::ConfigureAs,
                Access::MessageAs,
                Access::BroadcastAs
            ]
        );
    }
}
