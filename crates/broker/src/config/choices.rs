//! Keys that take one of few words.

use clap::ValueEnum;

/// What becomes of a message for an offline session whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QueueFull {
    /// The oldest message in the queue makes room for it
    DropOldest,
    /// It is dropped, and its publisher told that it was taken
    DropNewest,
    /// Its publisher is told 0x97 (quota exceeded); one of MQTT 3.x is closed unacknowledged
    Reject,
}

/// How to talk to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// io_uring where the kernel allows it, else epoll; the log says which and why
    Auto,
    /// io_uring, or do not start
    #[value(name = "io_uring", alias = "io-uring")]
    IoUring,
    /// epoll
    Epoll,
}

/// What a device lets others do that says nothing of whitelists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DefaultWhitelists {
    /// Everything but to act as it
    Open,
    /// Nothing
    Private,
}

/// Whether something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Permission {
    /// They may
    Allow,
    /// They may not
    Deny,
}

/// Who needs no credentials: as an MQTT client, or to read what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AnonymousClients {
    /// Everybody
    Allow,
    /// Whoever connects from this machine
    Loopback,
    /// Nobody
    Deny,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// JSON if stderr goes to the journal of systemd, else text
    #[default]
    Auto,
    /// For people
    Text,
    /// One object per line
    Json,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DialectName {
    /// As FreshBlu writes them
    Freshblu,
    /// As the original does
    Meshblu,
}
