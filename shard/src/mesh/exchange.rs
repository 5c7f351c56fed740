//! How far an HTTP connection is with its request: what its answer must fit, when its client has
//! taken too long, and how the connection ends.
//!
//! Always: a connection has one timer, which looks at it every [`SIGN_OF_LIFE`] at least. Nobody keeps a
//! connection open who neither asks nor reads.

use super::answers::Answer;
use super::requests::Request;
use super::routes::Route;
use crate::connection::Connection;
use crate::shard::{Shard, TimerKey};
use crate::{Close, ConnectionId, Effects, Span, Time};
use http::{BodyReader, BodyStream, Head};

/// From the first byte of a head to its last.
pub(super) const HEAD_TIMEOUT: Span = Span::from_s(10);
/// From the end of a head to the end of its body.
pub(super) const BODY_TIMEOUT: Span = Span::from_s(60);
/// Between an answer and the next request.
const IDLE_TIMEOUT: Span = Span::from_s(75);
/// How often a connection is looked at: a timeout comes so much too late at most.
const LOOK: Span = Span::from_s(10);
/// How often an event stream shows that it is alive.
pub(super) const SIGN_OF_LIFE: Span = Span::from_s(15);

/// What is left of a last answer when the driver may finish alone, which has seconds for it.
const FLUSH_BYTES_MAX: usize = 64 * 1_024;
/// What a client takes of an answer between two looks, or it is given up.
const PROGRESS_BYTES: usize = 16 * 1_024;

/// How far an HTTP connection is.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// What comes next.
    pub(super) at: At,
    /// Requests are being taken from `partial`; answers need not begin with the next one.
    pub(super) is_serving: bool,
    /// When the client will have taken too long.
    pub(super) deadline: Time,
    /// What was left of an answer at the last look, once its client takes long to read it.
    unsent: usize,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum At {
    /// A head is expected.
    Head,
    /// A body is expected.
    Body(Box<Waiting>),
    /// The request is being served.
    Answering(Framing, &'static Route, bool),
    /// Events are sent as they happen.
    Streaming(BodyStream),
    /// The last answer waits for a commit.
    Closing,
    /// The last answer is large, and on its way.
    Draining,
}

/// A request whose body is on its way.
#[derive(Debug)]
pub(super) struct Waiting {
    /// What its answer must fit.
    pub framing: Framing,
    /// The request, or the answer that it has got already.
    pub request: Result<Request, Answer>,
    /// What has come of the body.
    pub reader: BodyReader,
}

/// What an answer must fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    /// The client's version of HTTP: 1.this.
    pub minor: u8,
    /// Another request may follow.
    pub keep_alive: bool,
    /// The answer has no body, only its length.
    pub is_head: bool,
}

impl Framing {
    /// Of the answer to this head.
    pub fn of(head: &Head<'_>) -> Framing {
        Framing {
            minor: head.minor,
            keep_alive: head.keep_alive(),
            is_head: head.method == "HEAD",
        }
    }

    /// Of the last answer of a connection.
    pub fn last(self) -> Framing {
        Framing {
            keep_alive: false,
            ..self
        }
    }
}

/// Of an answer to what was no request.
pub(super) const UNKNOWN: Framing = Framing {
    minor: 1,
    keep_alive: false,
    is_head: false,
};

impl Shard {
    /// An answer has been written, perhaps behind a commit.
    pub(super) fn after_answer(
        &mut self,
        id: ConnectionId,
        framing: Framing,
        held: Option<u64>,
        effects: &mut Effects,
    ) -> bool {
        let deadline = self.now + IDLE_TIMEOUT;
        match (framing.keep_alive, held) {
            (false, None) => {
                self.close_behind(id, effects);
                return false;
            }
            (false, Some(batch)) => self.mesh.closing.push((batch, id)),
            (true, _) => {}
        }
        let connection = self.connection_mut(id).expect("not closed above");
        let exchange = connection.exchange().expect("made with its first bytes");
        exchange.deadline = deadline;
        exchange.at = if framing.keep_alive {
            At::Head
        } else {
            At::Closing
        };
        self.bound_output(id, effects);
        framing.keep_alive
    }

    /// A commit is durable: connections whose last answer waited for it are closed.
    pub(crate) fn close_answered(&mut self, sequence: u64, effects: &mut Effects) {
        let is_due = |(batch, _): &(u64, ConnectionId)| *batch <= sequence;
        if !self.mesh.closing.iter().any(is_due) {
            return;
        }
        let (due, left) = self.mesh.closing.iter().partition(|held| is_due(held));
        self.mesh.closing = left;
        let due: Vec<(u64, ConnectionId)> = due;
        for (_, id) in due {
            if self.connection(id).is_some() {
                self.close_behind(id, effects);
            }
        }
    }

    /// Closes behind the last answer, as soon as most of it has been taken.
    fn close_behind(&mut self, id: ConnectionId, effects: &mut Effects) {
        if effects.pending_bytes(id) <= FLUSH_BYTES_MAX {
            return self.close(id, Close::Flush, false, effects);
        }
        effects.want_writable(id);
        let connection = self.connection_mut(id).expect("the caller has seen it");
        let exchange = connection.exchange().expect("it has been answered");
        exchange.at = At::Draining;
    }

    /// Most of the output of an HTTP connection has been taken.
    pub(crate) fn on_http_writable(&mut self, id: ConnectionId, effects: &mut Effects) {
        let connection = self.connection_mut(id).expect("the caller has seen it");
        let at = connection.exchange().map(|exchange| &exchange.at);
        if let Some(At::Draining) = at {
            self.close(id, Close::Flush, false, effects);
        }
    }

    /// Looks after timeouts of an HTTP connection.
    pub(crate) fn on_http_timer(&mut self, id: ConnectionId, effects: &mut Effects) {
        let now = self.now;
        let connection = self.connection_mut(id).expect("the caller has seen it");
        let is_silent = connection.partial.is_empty();
        let unsent = effects.pending_bytes(id);
        let Some(exchange) = connection.exchange() else {
            self.counters.connect_timeouts += 1;
            return self.close(id, Close::Abort, false, effects);
        };
        let left = Span(exchange.deadline.since(now).0.clamp(1, LOOK.0));
        match &exchange.at {
            At::Streaming(stream) => {
                let stream = *stream;
                if effects.pending_bytes(id) == 0 {
                    stream.write_event_comment(effects.outbox(id));
                }
                self.look_again(id, SIGN_OF_LIFE);
            }
            At::Answering(..) | At::Closing => self.look_again(id, LOOK),
            At::Head | At::Body(_) if exchange.deadline > now => self.look_again(id, left),
            At::Head if is_silent && unsent == 0 => self.close(id, Close::Flush, false, effects),
            At::Head if is_silent => self.look_after_reader(id, unsent, effects),
            At::Draining => self.look_after_reader(id, unsent, effects),
            At::Head | At::Body(_) => {
                self.counters.connect_timeouts += 1;
                let answer = Answer::error(408, "the request did not come in time");
                self.write_answer(id, UNKNOWN, &answer, 0, effects);
            }
        }
    }

    /// A client that still reads its answer is given time; one that does not is closed.
    fn look_after_reader(&mut self, id: ConnectionId, unsent: usize, effects: &mut Effects) {
        let connection = self.connection_mut(id).expect("the caller has seen it");
        let exchange = connection.exchange().expect("the caller has seen it");
        match exchange.is_taking(unsent) {
            true => self.look_again(id, LOOK),
            false => self.close(id, Close::Abort, false, effects),
        }
    }

    /// When to look after the connection's timeouts again.
    pub(super) fn look_again(&mut self, id: ConnectionId, span: Span) {
        let key = TimerKey::Connection(id.index);
        let timer = self.timers.schedule(self.now + span, key);
        let connection = self.connection_mut(id).expect("the caller has seen it");
        if let Some(old) = connection.timer.replace(timer) {
            self.timers.cancel(old);
        }
    }
}

impl Exchange {
    pub(super) fn new(now: Time) -> Exchange {
        Exchange {
            at: At::Head,
            is_serving: false,
            deadline: now + HEAD_TIMEOUT,
            unsent: 0,
        }
    }

    /// Whether the client has taken enough of its answer since the last look.
    fn is_taking(&mut self, unsent: usize) -> bool {
        let before = std::mem::replace(&mut self.unsent, unsent);
        before == 0 || unsent + PROGRESS_BYTES <= before
    }
}

impl Connection {
    /// How far it is, if it speaks HTTP.
    pub(super) fn exchange(&mut self) -> Option<&mut Exchange> {
        self.extra.as_mut()?.http.as_deref_mut()
    }
}
