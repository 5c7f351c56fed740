//! Traces: what happens to one client's or one topic's packets, noted while an operator looks.
//!
//! Without a trace each place that could note something looks at one length and goes on. Bounded:
//! [`TRACES_MAX`] traces, each with [`TRACED_MAX`] steps that have not been read; more are counted
//! and left out. A trace that nobody reads ends after [`UNREAD_MAX`].

use super::Report;
use crate::session::Session;
use crate::shard::Shard;
use crate::{GroupKey, SessionId, Span, Time, topic};
use mqtt_v5_codec::{Publish, QoS, ReasonCode};
use std::collections::VecDeque;
use std::sync::Arc;

/// Traces of one shard at a time.
pub const TRACES_MAX: usize = 4;
/// Steps of one trace that wait to be read.
pub const TRACED_MAX: usize = 2_048;
/// How long a trace may go unread.
const UNREAD_MAX: Span = Span::from_s(10);
/// Bytes of a topic that are told.
const TOPIC_BYTES_MAX: usize = 256;
/// Filters that are told of a match.
const FILTERS_MAX: usize = 8;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// What this client sends and is sent.
    Client(Box<str>),
    /// What is published to topics that match this filter.
    Topic(Box<str>),
}

/// What has happened to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A client has published it.
    Received {
        /// Whether it is to be retained.
        retain: bool,
        /// Bytes of its payload.
        bytes: u64,
    },
    /// The client's message goes no further.
    Refused(ReasonCode),
    /// Subscriptions of a client match: these filters, `$share/name/` in front of shared ones.
    Matched(Vec<Box<str>>),
    /// It waits in the client's queue.
    Queued,
    /// It is in the output of the client's connection.
    Delivered,
    /// The client has acknowledged it for good.
    Acknowledged,
    /// The client does not get it, for this reason.
    Dropped(&'static str),
}

/// One step of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// When.
    pub at: Time,
    /// The client that it comes from or goes to.
    pub client_id: Box<str>,
    /// Its topic, cut off where it is long; empty if it is not known any more.
    pub topic: Box<str>,
    /// Its quality of service, as sent.
    pub qos: QoS,
    /// What has happened.
    pub fate: Fate,
}

/// What has been noted since the last time.
#[derive(Debug, Default)]
pub struct Trail {
    /// In order.
    pub steps: Vec<Traced>,
    /// How many were left out after them, since too many came.
    pub left_out: u64,
}

#[derive(Debug)]
struct Trace {
    number: u64,
    subject: Subject,
    steps: VecDeque<Traced>,
    left_out: u64,
    read: Time,
}

/// All traces of a shard.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    traces: Vec<Trace>,
}

impl Traces {
    pub(super) fn begin(&mut self, number: u64, subject: Subject, now: Time) -> Report {
        self.traces
            .retain(|trace| now.since(trace.read) <= UNREAD_MAX);
        if self.traces.len() >= TRACES_MAX {
            return Report::TooManyTraces;
        }
        self.traces.push(Trace {
            number,
            subject,
            steps: VecDeque::new(),
            left_out: 0,
            read: now,
        });
        Report::Done
    }

    pub(super) fn read(&mut self, number: u64, now: Time) -> Option<Trail> {
        let trace = self
            .traces
            .iter_mut()
            .find(|trace| trace.number == number)?;
        trace.read = now;
        Some(Trail {
            steps: trace.steps.drain(..).collect(),
            left_out: std::mem::take(&mut trace.left_out),
        })
    }

    pub(super) fn end(&mut self, number: u64) {
        self.traces.retain(|trace| trace.number != number);
    }

    fn note(&mut self, now: Time, client_id: &str, of: &str, qos: QoS, step: &Fate) {
        self.traces
            .retain(|trace| now.since(trace.read) <= UNREAD_MAX);
        for trace in &mut self.traces {
            let is_meant = match &trace.subject {
                Subject::Client(wanted) => **wanted == *client_id,
                Subject::Topic(filter) => !of.is_empty() && topic::matches(filter, of),
            };
            if !is_meant {
                continue;
            }
            if trace.steps.len() >= TRACED_MAX {
                trace.left_out += 1;
                continue;
            }
            let cut = of.floor_char_boundary(TOPIC_BYTES_MAX);
            trace.steps.push_back(Traced {
                at: now,
                client_id: client_id.into(),
                topic: of[..cut].into(),
                qos,
                fate: step.clone(),
            });
        }
    }
}

impl Shard {
    /// Whether anybody looks.
    #[inline]
    pub(crate) fn is_traced(&self) -> bool {
        !self.desk.traces.traces.is_empty()
    }

    /// Notes a step of a packet of a session, if anybody looks.
    #[inline]
    pub(crate) fn trace(&mut self, session: u32, topic: &str, qos: QoS, step: Fate) {
        if self.is_traced() {
            self.note_step(session, topic, qos, &step);
        }
    }

    #[cold]
    fn note_step(&mut self, session: u32, topic: &str, qos: QoS, step: &Fate) {
        let client_id = &self.sessions.at(session).client_id;
        self.desk.traces.note(self.now, client_id, topic, qos, step);
    }

    /// A client has published.
    #[inline]
    pub(crate) fn trace_received(&mut self, session: SessionId, publish: &Publish<'_>) {
        let (retain, bytes) = (publish.retain, publish.payload.len() as u64);
        let step = Fate::Received { retain, bytes };
        self.trace(session.index, publish.topic, publish.qos, step);
    }

    /// A client's message goes no further.
    pub(crate) fn trace_refused(
        &mut self,
        session: SessionId,
        publish: &Publish<'_>,
        reason: ReasonCode,
    ) {
        if reason.is_error() {
            self.trace(
                session.index,
                publish.topic,
                publish.qos,
                Fate::Refused(reason),
            );
        }
    }

    /// A message is for a session: says by which of its subscriptions.
    #[inline]
    pub(crate) fn trace_matched(
        &mut self,
        index: u32,
        topic: &str,
        qos: QoS,
        group: Option<&Arc<GroupKey>>,
    ) {
        if self.is_traced() {
            self.note_matched(index, topic, qos, group);
        }
    }

    #[cold]
    fn note_matched(&mut self, index: u32, topic: &str, qos: QoS, group: Option<&Arc<GroupKey>>) {
        let mut filters: Vec<Box<str>> = Vec::new();
        match group {
            Some(key) => filters.push(format!("$share/{}/{}", key.name, key.filter).into()),
            None => self.subscriptions.for_each_match(topic, |id, entry| {
                if filters.len() < FILTERS_MAX && entry.subscribers.get(index).is_some() {
                    filters.push(self.subscriptions.filter(id));
                }
            }),
        }
        self.note_step(index, topic, qos, &Fate::Matched(filters));
    }

    /// A client has acknowledged a message of its window for good.
    #[inline]
    pub(crate) fn trace_acknowledged(&mut self, session: SessionId, at: usize) {
        if self.is_traced() {
            let entry = |live: &Session| {
                let entry = live.outbound.as_ref()?.window.get(at)?;
                Some((entry.message.clone(), entry.delivery.qos))
            };
            if let Some((message, qos)) = entry(self.sessions.at(session.index)) {
                let topic = message.as_ref().map_or("", |message| message.view().topic);
                self.note_step(session.index, topic, qos, &Fate::Acknowledged);
            }
        }
    }
}
