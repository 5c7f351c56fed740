//! The eight kinds of subscriptions, in all their spellings.

use std::fmt;

use crate::access::Access;

/// What a subscriber hears of an emitter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// What the emitter broadcasts.
    BroadcastSent,
    /// The broadcasts that the emitter hears.
    BroadcastReceived,
    /// The messages that the emitter sends.
    MessageSent,
    /// The messages that the emitter gets.
    MessageReceived,
    /// Changes of the emitter.
    ConfigureSent,
    /// Changes that the emitter hears of.
    ConfigureReceived,
    /// That the emitter was removed.
    UnregisterSent,
    /// Removals that the emitter hears of.
    UnregisterReceived,
}

impl Kind {
    /// All of them; each at the index that [`Kind::as_u8`] gives.
    pub const ALL: [Kind; 8] = [
        Kind::BroadcastSent,
        Kind::BroadcastReceived,
        Kind::MessageSent,
        Kind::MessageReceived,
        Kind::ConfigureSent,
        Kind::ConfigureReceived,
        Kind::UnregisterSent,
        Kind::UnregisterReceived,
    ];

    /// Reads `broadcast-sent`, `broadcast.sent`, `broadcast_sent` or `BroadcastSent`, in any case.
    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| {
            let is_letter = |byte: &u8| !matches!(byte, b'-' | b'.' | b'_');
            let given = text.bytes().filter(is_letter);
            let expected = kind.dotted().bytes().filter(is_letter);
            given.map(|byte| byte.to_ascii_lowercase()).eq(expected)
        })
    }

    /// `broadcast-sent`: FreshBlu's spelling in answers.
    pub fn hyphenated(self) -> &'static str {
        match self {
            Kind::BroadcastSent => "broadcast-sent",
            Kind::BroadcastReceived => "broadcast-received",
            Kind::MessageSent => "message-sent",
            Kind::MessageReceived => "message-received",
            Kind::ConfigureSent => "configure-sent",
            Kind::ConfigureReceived => "configure-received",
            Kind::UnregisterSent => "unregister-sent",
            Kind::UnregisterReceived => "unregister-received",
        }
    }

    /// `broadcast.sent`: Meshblu's spelling.
    pub fn dotted(self) -> &'static str {
        match self {
            Kind::BroadcastSent => "broadcast.sent",
            Kind::BroadcastReceived => "broadcast.received",
            Kind::MessageSent => "message.sent",
            Kind::MessageReceived => "message.received",
            Kind::ConfigureSent => "configure.sent",
            Kind::ConfigureReceived => "configure.received",
            Kind::UnregisterSent => "unregister.sent",
            Kind::UnregisterReceived => "unregister.received",
        }
    }

    /// What the emitter must allow the subscriber. There is no `unregister` whitelist: whoever may
    /// hear of changes may hear of the last one.
    pub fn access(self) -> Access {
        match self {
            Kind::BroadcastSent => Access::BroadcastSent,
            Kind::BroadcastReceived => Access::BroadcastReceived,
            Kind::MessageSent => Access::MessageSent,
            Kind::MessageReceived => Access::MessageReceived,
            Kind::ConfigureSent | Kind::UnregisterSent => Access::ConfigureSent,
            Kind::ConfigureReceived | Kind::UnregisterReceived => Access::ConfigureReceived,
        }
    }

    /// A number below 8, the same in every version: records hold it.
    pub fn as_u8(self) -> u8 {
        self as u8
    }

    /// The kind of that number; `None` from 8 on.
    pub fn from_u8(number: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.hyphenated())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.as_u8()), index);
            assert_eq!(Kind::from_u8(kind.as_u8()), Some(kind));
            for text in [
                kind.hyphenated().to_owned(),
                kind.dotted().to_owned(),
                format!("{kind:?}"),
                kind.dotted().replace('.', "_").to_uppercase(),
            ] {
                assert_eq!(Kind::parse(&text), Some(kind), "{text}");
            }
        }
        assert_eq!(Kind::from_u8(8), None);
    }

    #[test]
    fn other_words_are_no_kinds() {
        for text in [
            "",
            "-",
            "sent",
            "broadcast",
            "broadcast-sentence",
            "bröadcast.sent",
        ] {
            assert_eq!(Kind::parse(text), None, "{text}");
        }
    }
}
