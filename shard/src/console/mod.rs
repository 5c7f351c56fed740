//! What an operator asks a shard: [`crate::Event::Asked`] brings a [`Question`], and
//! [`crate::Effect::Answered`] its one [`Report`].
//!
//! Always: a question is answered exactly once, and within one event unless its kind says otherwise.
//! Bounded: a report that is a list has at most [`ROWS_MAX`] rows and about [`BYTES_MAX`] bytes, and
//! at most [`LOOKS_MAX`] entries are looked at for it; what is left is asked for with the report's
//! `next`. A slot number or a topic says where to go on, so a list can be read while things come
//! and go: what is there all the time is in it exactly once.

mod client;
mod clients;
pub(crate) mod configure;
mod drain;
mod explain;
mod overview;
mod retained;
mod sockets;
mod subscriptions;
mod trace;

pub use crate::connection::Traffic;
pub use client::{ClientDetail, Removal};
pub use clients::{ClientConnection, ClientFilter, ClientRow};
pub use configure::Settings;
pub use drain::{Draining, Shed};
pub use explain::{GroupView, Leave, PublisherView, SubscriberView};
pub use mqtt_v5_codec::{QoS, ReasonCode, Version};
pub use overview::{DriverCounts, Overview};
pub use retained::{RetainedMessage, RetainedRow};
pub use sockets::{SocketKind, SocketRow};
pub use subscriptions::{Place, SubscriptionFilter, SubscriptionRow};
pub(crate) use trace::Traces;
pub use trace::{Fate, Subject, TRACED_MAX, TRACES_MAX, Traced, Trail};

use crate::shard::Shard;
use crate::{ConnectionId, Effect, Effects, Talkers};
use std::collections::VecDeque;

/// Rows of one report.
pub const ROWS_MAX: u32 = 1_000;
/// Bytes of one report, but for its last row.
pub const BYTES_MAX: usize = 256 * 1_024;
/// Entries of a table looked at for one report.
pub const LOOKS_MAX: u32 = 8_192;

/// Whether a text can be a topic filter, without `$share/`.
pub fn is_filter(text: &str) -> bool {
    mqtt_v5_codec::filter_is_valid(text)
}

/// Whether a text can be a topic.
pub fn is_topic(text: &str) -> bool {
    mqtt_v5_codec::topic_is_valid(text)
}

/// What an operator wants to know, or to have done.
#[derive(Debug)]
pub enum Question {
    /// How much there is of everything, and what has been counted. [`Report::Overview`]
    Overview,
    /// Sessions of MQTT clients, connected or not. [`Report::Clients`]
    Clients {
        /// The slot to begin at: 0, or the `next` of the report before. Any number is allowed.
        from: u32,
        /// Rows wanted, 1 to [`ROWS_MAX`]; what is outside is moved to the bound.
        limit: u32,
        /// Which.
        filter: ClientFilter,
    },
    /// Connections that hear of devices and are no MQTT clients. [`Report::Sockets`]
    Sockets {
        /// The slot to begin at: 0, or the `next` of the report before. Any number is allowed.
        from: u32,
        /// As above.
        limit: u32,
        /// What they speak, if that matters.
        kind: Option<SocketKind>,
        /// Which: by device, peer and bytes that wait.
        filter: ClientFilter,
    },
    /// One of them. [`Report::Socket`]
    Socket(ConnectionId),
    /// Closes one of them. [`Report::Removed`]
    RemoveSocket(ConnectionId),
    /// All about one client. [`Report::Client`]
    Client {
        /// Its client identifier.
        client_id: Box<str>,
    },
    /// Closes a client's connection (0x98, administrative action), and ends its session if that is
    /// wanted: then it is answered once that is durable. [`Report::Removed`]
    Remove {
        /// Its client identifier.
        client_id: Box<str>,
        /// Whether its session goes, too.
        with_session: bool,
    },
    /// Subscriptions of MQTT clients. [`Report::Subscriptions`]
    Subscriptions {
        /// Where to begin: the default, or the `next` of the report before.
        from: Place,
        /// As above.
        limit: u32,
        /// Which.
        filter: SubscriptionFilter,
    },
    /// Retained messages that are kept here, in the order of their topics. [`Report::Retained`]
    Retained {
        /// A topic filter.
        filter: Box<str>,
        /// The `next` of the report before.
        after: Option<Box<str>>,
        /// As above.
        limit: u32,
    },
    /// One retained message. [`Report::RetainedMessage`]
    RetainedMessage {
        /// Its topic.
        topic: Box<str>,
    },
    /// Forgets the retained messages of a page; answered once that is durable.
    /// [`Report::RetainedForgotten`]
    ForgetRetained {
        /// A topic filter.
        filter: Box<str>,
        /// The `next` of the report before.
        after: Option<Box<str>>,
    },
    /// Begins to turn new clients away, or ends that with `None`. [`Report::Done`]
    Drain(Option<Draining>),
    /// What may become of what a client publishes to a topic. [`Report::Publisher`]
    ExplainPublisher {
        /// Its client identifier.
        client_id: Box<str>,
        /// A valid topic.
        topic: Box<str>,
    },
    /// Whether a client would get what is published to a topic. [`Report::Subscriber`]
    ExplainSubscriber {
        /// Its client identifier.
        client_id: Box<str>,
        /// A valid topic.
        topic: Box<str>,
    },
    /// The group of a shared subscription. [`Report::Group`]
    ExplainGroup {
        /// Its name.
        share: Box<str>,
        /// Its topic filter.
        filter: Box<str>,
    },
    /// Begins to note what happens to packets. [`Report::Done`] or [`Report::TooManyTraces`]
    BeginTrace {
        /// The trace's name, chosen by whoever asks and used once.
        number: u64,
        /// Whose packets.
        subject: Subject,
    },
    /// What has been noted since the last time. [`Report::Trail`]
    ReadTrace {
        /// Which trace.
        number: u64,
    },
    /// Ends a trace, if it has not ended. [`Report::Done`]
    EndTrace {
        /// Which trace.
        number: u64,
    },
    /// Closes connections of clients while new ones are turned away. [`Report::Shed`]
    Shed {
        /// So many at most; no more than [`ROWS_MAX`].
        limit: u32,
    },
    /// The clients that have published most in the last seconds, a few. [`Report::Talkers`]
    Talkers,
    /// New settings from now on. [`Report::Configured`]
    Configure(Box<Settings>),
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub enum Report {
    /// To [`Question::Overview`].
    Overview(Box<Overview>),
    /// To [`Question::Clients`].
    Clients(Rows<ClientRow>),
    /// To [`Question::Sockets`].
    Sockets(Rows<SocketRow>),
    /// To [`Question::Socket`]; `None` if it is not there any more.
    Socket(Option<Box<SocketRow>>),
    /// To [`Question::Client`]; `None` if there is no such client here.
    Client(Option<Box<ClientDetail>>),
    /// To [`Question::Remove`].
    Removed(Removal),
    /// To [`Question::Subscriptions`].
    Subscriptions(Rows<SubscriptionRow, Place>),
    /// To [`Question::Retained`].
    Retained(Rows<RetainedRow, Box<str>>),
    /// To [`Question::RetainedMessage`]; `None` if there is none here.
    RetainedMessage(Option<Box<RetainedMessage>>),
    /// To [`Question::ForgetRetained`].
    RetainedForgotten {
        /// How many there were.
        count: u32,
        /// Where to go on.
        next: Option<Box<str>>,
    },
    /// To [`Question::ExplainPublisher`]; `None` if there is no such client here.
    Publisher(Option<PublisherView>),
    /// To [`Question::ExplainSubscriber`]; `None` if there is no such client here.
    Subscriber(Option<Box<SubscriberView>>),
    /// To [`Question::ExplainGroup`]; `None` if it does not live here.
    Group(Option<GroupView>),
    /// To [`Question::ReadTrace`]; `None` if the trace has ended.
    Trail(Option<Trail>),
    /// As many traces as allowed are under way.
    TooManyTraces,
    /// To [`Question::Shed`].
    Shed(Shed),
    /// It is done.
    Done,
    /// It is not done, since the store cannot write now.
    StoreStalled,
    /// To [`Question::Talkers`].
    Talkers(Talkers),
    /// To [`Question::Configure`]: the settings count. Who may not be connected any more is being
    /// closed.
    Configured,
}

/// Part of a list; `C` says where in it one is.
#[derive(Debug)]
pub struct Rows<T, C = u32> {
    /// What was found; may be empty although there is more.
    pub rows: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<C>,
}

/// What a shard knows of its operators.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// New clients are turned away.
    pub(crate) draining: Option<Draining>,
    /// The connection at which closing goes on.
    shed_at: u32,
    /// What is looked at live.
    pub(crate) traces: Traces,
    /// Answers that wait for a commit, with its number. As many as there are questions under way,
    /// which whoever asks bounds.
    held: VecDeque<(u64, u64, Report)>,
}

/// Collects rows until one of the bounds is reached.
struct Collector<T> {
    rows: Vec<T>,
    rows_left: u32,
    bytes_left: usize,
    looks_left: u32,
}

impl<T> Collector<T> {
    fn new(limit: u32) -> Collector<T> {
        Collector {
            rows: Vec::new(),
            rows_left: limit.clamp(1, ROWS_MAX),
            bytes_left: BYTES_MAX,
            looks_left: LOOKS_MAX,
        }
    }

    /// Whether one more entry may be looked at; it then counts as seen.
    fn may_look(&mut self) -> bool {
        if self.rows_left == 0 || self.bytes_left == 0 || self.looks_left == 0 {
            return false;
        }
        self.looks_left -= 1;
        true
    }

    fn finish<C>(self, next: Option<C>) -> Rows<T, C> {
        let rows = self.rows;
        Rows { rows, next }
    }

    /// Adds a row whose variable parts have so many bytes.
    fn push(&mut self, row: T, bytes: usize) {
        self.rows_left = self.rows_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(size_of::<T>() + bytes);
        self.rows.push(row);
    }
}

impl Shard {
    /// A question has come.
    pub(crate) fn on_asked(&mut self, id: u64, question: Question, effects: &mut Effects) {
        let report = match question {
            Question::Overview => Report::Overview(Box::new(self.overview(effects))),
            Question::Clients {
                from,
                limit,
                filter,
            } => Report::Clients(self.list_clients(from, limit, &filter, effects)),
            Question::Sockets {
                from,
                limit,
                kind,
                filter,
            } => Report::Sockets(self.list_sockets(from, limit, (kind, &filter), effects)),
            Question::Socket(id) => Report::Socket(self.describe_socket(id, effects).map(Box::new)),
            Question::RemoveSocket(id) => Report::Removed(self.remove_socket(id, effects)),
            Question::Client { client_id } => {
                Report::Client(self.describe_client(&client_id, effects).map(Box::new))
            }
            Question::Remove {
                client_id,
                with_session,
            } => {
                let report = self.remove_client(&client_id, with_session, effects);
                return self.answer_when_durable(id, report, with_session, effects);
            }
            Question::Subscriptions {
                from,
                limit,
                filter,
            } => Report::Subscriptions(self.list_subscriptions(from, limit, &filter)),
            Question::Retained {
                filter,
                after,
                limit,
            } => Report::Retained(self.list_retained(&filter, after.as_deref(), limit)),
            Question::RetainedMessage { topic } => {
                Report::RetainedMessage(self.retained_message(&topic).map(Box::new))
            }
            Question::ForgetRetained { filter, after } => {
                let report = self.forget_matching(&filter, after.as_deref());
                return self.answer_when_durable(id, report, true, effects);
            }
            Question::Drain(draining) => {
                self.desk.draining = draining;
                self.desk.shed_at = 0;
                Report::Done
            }
            Question::ExplainPublisher { client_id, topic } => {
                Report::Publisher(self.view_publisher(&client_id, &topic))
            }
            Question::ExplainSubscriber { client_id, topic } => Report::Subscriber(
                self.view_subscriber(&client_id, &topic, effects)
                    .map(Box::new),
            ),
            Question::ExplainGroup { share, filter } => {
                Report::Group(self.view_group(&share, &filter))
            }
            Question::BeginTrace { number, subject } => {
                self.desk.traces.begin(number, subject, self.now)
            }
            Question::ReadTrace { number } => {
                Report::Trail(self.desk.traces.read(number, self.now))
            }
            Question::EndTrace { number } => {
                self.desk.traces.end(number);
                Report::Done
            }
            Question::Shed { limit } => Report::Shed(self.shed(limit, effects)),
            Question::Talkers => Report::Talkers(self.heaviest()),
            Question::Configure(settings) => {
                self.configure(*settings);
                Report::Configured
            }
        };
        answer(id, report, effects);
    }

    /// Answers at once, or when all that has been changed so far is durable.
    fn answer_when_durable(
        &mut self,
        id: u64,
        report: Report,
        has_changed: bool,
        effects: &mut Effects,
    ) {
        if !has_changed || !self.durable.is_on() || matches!(report, Report::StoreStalled) {
            return answer(id, report, effects);
        }
        let batch = self.durable.promise();
        self.desk.held.push_back((batch, id, report));
    }

    /// A commit is durable: gives the answers that waited for it.
    pub(crate) fn answer_committed(&mut self, effects: &mut Effects) {
        while let Some(&(batch, ..)) = self.desk.held.front()
            && self.durable.is_committed(batch)
        {
            let (_, id, report) = self.desk.held.pop_front().expect("just seen");
            answer(id, report, effects);
        }
    }
}

fn answer(id: u64, report: Report, effects: &mut Effects) {
    effects.push(Effect::Answered {
        id,
        report: Box::new(report),
    });
}
