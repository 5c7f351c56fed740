//! Slow work that helper threads do for a shard: comparing a token with hashes that are slow on
//! purpose, and calling webhooks. It leaves as [`crate::Effect::Compute`] and its answer is
//! [`crate::Event::Computed`], always exactly one, in any order.
//!
//! Bounded: a shard has at most `Limits::computes_max` under way, and answers *busy* beyond.

/// Work for a helper thread.
#[derive(Debug)]
pub struct Compute {
    /// The shard's name for it, given back with the answer.
    pub id: u64,
    /// What is to be done.
    pub task: Task,
}

/// What is to be done.
#[derive(Debug)]
pub enum Task {
    /// Which of these hashes a secret fits, if any.
    Verify {
        /// What the client has sent.
        secret: Box<str>,
        /// In bcrypt's modular format.
        hashes: Vec<Box<str>>,
        /// Nothing slow is done: it is looked only whether one is known to fit.
        only_known: bool,
    },
    /// An HTTP request to somebody else.
    Call(Box<Webhook>),
}

/// An HTTP request to somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Absolute, as the device's owner wrote it: not to be trusted.
    pub url: Box<str>,
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: Box<str>,
    /// Names and values.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// JSON.
    pub body: Vec<u8>,
    /// It must not be made but with the server's signature.
    pub is_signed: bool,
}

/// What came of it.
#[derive(Debug)]
pub enum Computed {
    /// The place of the first hash that fits.
    Verified(Option<usize>),
    /// The other side has answered with success, at one of the tries.
    Called {
        /// Whether it has.
        is_delivered: bool,
    },
    /// Not even begun: too much waits.
    Busy,
}
