//! The checker: hears of everything that happens and says when it must not have.
//!
//! It joins the truth about each connection with what is known of each session: whether it must
//! be present, when it ends, and what becomes of its will.

use crate::driver::LATEST;
use crate::ledger::{Ledger, MessageId, Moment};
use crate::truth::{Farewell, Flights, Hello, Sent, Truth};
use crate::world::World;
use anyhow::{Context, Result, bail, ensure};
use mqtt_v5_codec::Version;
use shard::{Limits, Span, Time};

/// How late a shard may notice that something has expired.
const SLACK: Span = Span::from_s(3);

/// What must become of a will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing yet: its connection lives, or was never accepted.
    Lodged,
    /// It goes out between these times unless the session is resumed before.
    Pending(Time, Time),
    /// It must go out.
    Due,
    /// It must not go out.
    Dropped,
    /// It must not go out, since the client left with DISCONNECT at this time.
    Dismissed(Time),
    /// Either.
    Unclear,
}

/// The end of a session, earliest and latest; `None`: never.
pub(crate) type Ends = (Option<Time>, Option<Time>);

/// Since when a session has no connection, and until when it lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) at: Time,
    /// Seconds that it lives on; `None`: for ever.
    pub(crate) expiry_s: Option<u32>,
    /// Its end.
    pub(crate) ends: Ends,
    /// That may have been forgotten in a crash.
    pub(crate) is_doubtful: bool,
}

/// What is known of a client's session.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// There is one, for all that is known.
    exists: bool,
    /// Which of the client's sessions it is.
    number: u64,
    /// Which one its client knew last.
    known: Option<u64>,
    /// What the last connection did to it is not known.
    pub(crate) is_unclear: bool,
    /// It may have ended and another begun: a CONNECT was delivered, and its CONNACK, which waited
    /// for a commit, was never sent.
    pub(crate) may_be_new: bool,
    pub(crate) closed: Option<Closed>,
    /// When its client came back, and when it would have ended otherwise, as long as that it came back
    /// may not be durable.
    pub(crate) returned: Vec<(Time, Ends)>,
    pub(crate) flights: Flights,
    /// The connection that it was last accepted on.
    pub(crate) link: Option<usize>,
    /// Wills of its connections.
    pub(crate) wills: Vec<(MessageId, usize, Fate)>,
}

/// The checker of a run.
#[derive(Debug)]
pub struct Checker {
    /// Messages and subscriptions.
    pub ledger: Ledger,
    /// Per connection; `None` for a vandal's.
    pub(crate) truths: Vec<Option<Truth>>,
    pub(crate) sessions: Vec<Session>,
    is_tiny: bool,
    is_durable: bool,
    limits: Limits,
    /// How long output may wait for commits: for the one under way, and the next, which begins late.
    hold: Span,
    connect_timeout: Span,
    /// The shards have been told to stop.
    pub is_stopping: bool,
}

impl Checker {
    /// For so many clients.
    pub fn new(clients: usize, world: &World) -> Checker {
        Checker {
            ledger: Ledger::new(
                clients,
                world.plan.is_tiny,
                world.plan.is_durable() && !world.plan.promises_sessions(),
            ),
            truths: Vec::new(),
            sessions: (0..clients)
                .map(|_| Session {
                    flights: Flights::new(world.plan.is_durable()),
                    ..Session::default()
                })
                .collect(),
            is_durable: world.plan.is_durable(),
            limits: world.plan.limits.clone(),
            hold: Span(2 * world.plan.commit_us + LATEST.0),
            is_tiny: world.plan.is_tiny,
            connect_timeout: Span::from_ms(world.plan.limits.connect_timeout_ms),
            is_stopping: false,
        }
    }

    /// A connection was opened, with this CONNECT; a vandal says nothing that counts.
    pub fn on_connect(&mut self, link: usize, hello: Option<Hello>) {
        assert_eq!(link, self.truths.len(), "connections are numbered in order");
        if let Some(hello) = &hello {
            self.ledger.limit_packets(hello.client, hello.packet_max);
            if let Some((message, _)) = hello.will {
                self.sessions[hello.client]
                    .wills
                    .push((message, link, Fate::Lodged));
            }
        }
        let limits = &self.limits;
        self.truths.push(hello.map(|hello| {
            let keep_alive_s = limits.keep_alive_s(hello.keep_alive_s);
            let mut truth = Truth::new(link, hello);
            // Until CONNACK says otherwise.
            truth.keep_alive_s = keep_alive_s;
            truth
        }));
    }

    /// Bytes of a client reached a shard.
    ///
    /// # Errors
    /// The client model is wrong.
    pub fn on_delivered(&mut self, link: usize, bytes: &[u8], now: Time) -> Result<()> {
        let Some(truth) = &mut self.truths[link] else {
            return Ok(());
        };
        let flights = &mut self.sessions[truth.hello.client].flights;
        let had_connect = truth.is_connect_delivered;
        truth
            .on_delivered(bytes, flights, now)
            .with_context(|| format!("to link {link}"))?;
        let has_begun = truth.is_connect_delivered && !had_connect;
        let (client, opened) = (truth.hello.client, truth.hello.sent);
        // Its CONNACK may wait for a commit, and the session of before be gone already.
        if has_begun && self.is_durable {
            let hello = truth.hello.clone();
            let is_certain = self.expected_presence(&hello, now) == Some(true);
            self.ledger.doubt(hello.client, !is_certain);
        }
        let is_overtaken = |other: &Truth| {
            let is_rival = other.hello.client == client && other.hello.sent > opened;
            is_rival && other.is_connect_delivered
        };
        if has_begun && self.truths.iter().flatten().any(is_overtaken) {
            self.ledger.blur_order(client, opened.step);
        }
        Ok(())
    }

    /// A shard sent bytes.
    ///
    /// # Errors
    /// It must not have.
    pub fn on_emitted(&mut self, link: usize, bytes: &[u8], now: Moment) -> Result<()> {
        let Some(mut truth) = self.truths[link].take() else {
            return Ok(());
        };
        let client = truth.hello.client;
        let mut flights = std::mem::take(&mut self.sessions[client].flights);
        let result = truth.on_emitted(bytes, &mut flights, |truth, flights, sent| match sent {
            Sent::Accepted { is_session_present } => {
                self.on_accepted(link, truth, flights, is_session_present, now)
            }
            Sent::First {
                message: Some(message),
            } => self.on_first(message, now.at),
            _ => Ok(()),
        });
        self.sessions[client].flights = flights;
        self.truths[link] = Some(truth);
        result.with_context(|| format!("from link {link} of client {client}"))
    }

    fn on_first(&self, message: MessageId, now: Time) -> Result<()> {
        let Some(known) = self.ledger.messages.get(message) else {
            return Ok(());
        };
        if let (Some(acked), Some(expiry_s)) = (known.acked, known.expiry_s) {
            let until = acked.at + Span::from_s(u64::from(expiry_s));
            let is_held = self.ledger.stalls.is_since(acked.step);
            ensure!(
                now <= until + self.hold || is_held,
                "message {message} had expired"
            );
        }
        Ok(())
    }

    fn on_accepted(
        &mut self,
        link: usize,
        truth: &mut Truth,
        flights: &mut Flights,
        is_session_present: bool,
        now: Moment,
    ) -> Result<()> {
        // Its clock starts when it is accepted: before that it may have moved between shards. Where
        // CONNACK waits for a commit, it has been running.
        truth.touched_at = now.at;
        truth.accepted_at = Some(now.at);
        if !self.is_durable {
            truth.heard_at = now.at;
        }
        let hello = &truth.hello;
        let expected = self.expected_presence(hello, now.at);
        // MQTT 3.1 has no such flag.
        let is_present = match hello.version {
            Version::V31 => !hello.is_clean && self.sessions[hello.client].exists,
            _ => is_session_present,
        };
        if let Some(expected) = expected
            && hello.version != Version::V31
            && !self.is_tiny
        {
            ensure!(is_present == expected, "session present is {is_present}");
        }
        let is_unsure = self.ledger.is_late || self.ledger.stalls.is_since(hello.sent.step);
        let session = &mut self.sessions[hello.client];
        for (_, will_link, fate) in &mut session.wills {
            if let Fate::Pending(from, to) = *fate
                && *will_link != link
            {
                *fate = match is_present {
                    false => Fate::Due,
                    // That it has come back may not be durable yet.
                    true if now.at < from && is_unsure => Fate::Dismissed(now.at),
                    true if now.at < from => Fate::Dropped,
                    true if hello.sent.at > to + SLACK => Fate::Due,
                    true => Fate::Unclear,
                };
            }
        }
        if is_present && session.may_be_new {
            flights.on_crash(|_| false);
            self.ledger.blur_session(hello.client, now);
            truth.is_blurred = true;
        }
        if is_present {
            flights.resume(link);
            self.ledger.resume(hello.client, now);
        } else {
            *flights = match self.ledger.is_late {
                true => std::mem::take(flights).succeeded(),
                false => Flights::new(self.is_durable),
            };
            flights.resume(link);
            self.ledger.end_session(hello.client, now);
            self.sessions[hello.client].number += 1;
        }
        let session = &mut self.sessions[hello.client];
        truth.session = session.number;
        session.exists = true;
        session.is_unclear = false;
        session.may_be_new = false;
        let closed = session.closed.take();
        match closed.filter(|_| is_unsure) {
            Some(closed) => session.returned.push((now.at, closed.ends)),
            None => session.returned.clear(),
        }
        session.link = Some(link);
        Ok(())
    }

    /// Whether a CONNECT must find a session; `None` if it may or may not.
    fn expected_presence(&self, hello: &Hello, now: Time) -> Option<bool> {
        let session = &self.sessions[hello.client];
        if hello.is_clean {
            return Some(false);
        }
        if session.is_unclear {
            return None;
        }
        if !session.exists {
            return Some(false);
        }
        let closed = session.closed.as_ref()?;
        let (earliest, latest) = closed.ends;
        match closed.expiry_s {
            // Taken over: whether that ends the session before it is resumed is not laid down.
            Some(0) if hello.sent.at <= closed.at => None,
            Some(0) if !closed.is_doubtful => Some(false),
            _ if earliest.is_none_or(|end| now < end) => Some(true),
            _ if latest.is_some_and(|end| hello.sent.at > end + SLACK) => Some(false),
            _ => None,
        }
    }

    /// The shard was told that the connection is gone.
    pub fn on_lost(&mut self, link: usize, now: Time) {
        let is_kept = self.truths[link]
            .as_ref()
            .is_some_and(|truth| truth.farewell.is_some());
        self.forget(link, now, is_kept);
    }

    /// The shard closed the connection.
    ///
    /// # Errors
    /// It had no reason to.
    pub fn on_closed(&mut self, link: usize, world: &World) -> Result<()> {
        let now = world.now;
        let Some(truth) = &self.truths[link] else {
            return Ok(());
        };
        // Not always by a later one: a move between shards may take its time.
        let is_taken_over = self.truths.iter().enumerate().any(|(index, other)| {
            other.as_ref().is_some_and(|other| {
                let is_rival = index != link && other.hello.client == truth.hello.client;
                is_rival && other.is_connect_delivered && other.gone_at.is_none()
            })
        });
        // A 3.x client whose message cannot be kept is not told, but closed.
        let is_full = self.ledger.stalls.is_since(truth.hello.sent.step);
        // What is refused may have come on an earlier connection.
        let since = self.ledger.unacked_since(truth.hello.client);
        let was_full = since.is_some_and(|step| self.ledger.stalls.is_since(step));
        let may_be_refused = (self.is_tiny || was_full)
            && truth.hello.version != Version::V5
            && truth.is_owed_a_receipt();
        let is_turned_away = is_full && !truth.is_accepted && truth.refusal.is_some();
        // Its DISCONNECT may have waited behind a message that made the shard stop reading.
        let is_unread =
            (is_taken_over || may_be_refused || self.is_stopping) && truth.farewell.is_some();
        self.forget(link, now, is_unread);
        let Some(truth) = &self.truths[link] else {
            return Ok(());
        };
        let client = truth.hello.client;
        let is_late = !truth.is_accepted && now.since(truth.hello.sent.at) >= self.connect_timeout;
        let is_excused = truth.farewell.is_some()
            || is_taken_over
            || truth.is_silent(now)
            || is_late
            || may_be_refused
            || is_turned_away
            || self.is_tiny
            || self.is_stopping;
        let reason = truth.refusal;
        ensure!(
            is_excused,
            "link {link} of client {client} is closed for nothing: {reason:?}"
        );
        Ok(())
    }

    /// The shard has the connection no more. `is_unread`: a DISCONNECT was delivered, but the shard
    /// did not act on it before the connection was lost.
    fn forget(&mut self, link: usize, now: Time, is_unread: bool) {
        self.doubt_identity(link, now);
        let Some(truth) = &mut self.truths[link] else {
            return;
        };
        truth.gone_at = Some(now);
        let client = truth.hello.client;
        self.ledger.lose_link(client, link);
        let session = &mut self.sessions[client];
        let own = session
            .wills
            .iter_mut()
            .find(|(_, will_link, _)| *will_link == link);
        if let Some((_, _, fate)) = own {
            let delay_s = truth.hello.will.map_or(0, |(_, delay_s)| delay_s);
            let wait_s = delay_s.min(truth.expiry_s.unwrap_or(u32::MAX));
            *fate = match truth.farewell {
                _ if !truth.is_accepted && truth.is_connect_delivered => Fate::Unclear,
                _ if !truth.is_accepted => Fate::Dropped,
                Some(Farewell::Plain) if is_unread => Fate::Unclear,
                Some(Farewell::Plain) => Fate::Dismissed(now),
                _ if self.is_stopping && truth.expiry_s == Some(0) => Fate::Unclear,
                _ if wait_s == 0 && !self.is_stopping => Fate::Due,
                _ => {
                    let due = now + Span::from_s(u64::from(wait_s));
                    Fate::Pending(due, due)
                }
            };
        }
        if truth.is_accepted && session.link == Some(link) {
            let span = truth
                .expiry_s
                .map(|seconds| Span::from_s(u64::from(seconds)));
            let end = span.map(|span| now + span);
            session.closed = Some(Closed {
                at: now,
                expiry_s: truth.expiry_s,
                ends: (end, end),
                is_doubtful: false,
            });
            session.is_unclear |= is_unread;
            self.ledger
                .detach(client, truth.expiry_s.is_some() || is_unread);
        } else if truth.is_connect_delivered && !truth.is_accepted {
            session.is_unclear = true;
        }
    }

    /// Before a connection is forgotten: whether its CONNECT may have begun another session.
    pub(crate) fn doubt_identity(&mut self, link: usize, now: Time) {
        let Some(truth) = &self.truths[link] else {
            return;
        };
        if !truth.is_connect_delivered || truth.is_accepted {
            return;
        }
        let is_certain = self.expected_presence(&truth.hello, now) == Some(true);
        let session = &mut self.sessions[truth.hello.client];
        session.may_be_new |= !is_certain;
        let client = truth.hello.client;
        self.ledger.doubt(client, !is_certain);
        let session = &mut self.sessions[client];
        for (_, _, fate) in &mut session.wills {
            if let Fate::Pending(..) = fate {
                *fate = Fate::Unclear;
            }
        }
    }

    /// Whether the shard knows the connection no longer.
    pub fn is_gone(&self, link: usize) -> bool {
        let truth = self.truths[link].as_ref();
        truth.is_some_and(|truth| truth.gone_at.is_some())
    }

    /// A client was let in: whether what it has received means nothing to this session, since it is
    /// not the one that the client knew, or may not be.
    pub fn begins_anew(&mut self, link: usize) -> bool {
        let Some(truth) = self.truths[link].as_ref() else {
            return false;
        };
        let session = &mut self.sessions[truth.hello.client];
        let known = session.known.replace(truth.session);
        truth.is_blurred || known != Some(truth.session)
    }

    /// Whether a client that is connected has a session that outlives its connection.
    pub(crate) fn keeps_session(&self, client: usize) -> bool {
        let link = self.sessions[client].link;
        let truth = link.and_then(|link| self.truths[link].as_ref());
        truth.is_some_and(|truth| truth.granted_s != Some(0))
    }

    /// Whether a connection belongs to its client's latest session: it may have been taken over,
    /// and the client does not know it yet.
    pub fn is_of_latest_session(&self, link: usize) -> bool {
        self.truths[link]
            .as_ref()
            .is_some_and(|truth| truth.session == self.sessions[truth.hello.client].number)
    }

    /// A message reached a client.
    ///
    /// # Errors
    /// It is a will that must not go out, or not yet.
    pub fn check_will(&self, message: MessageId, now: Time) -> Result<()> {
        let Some(known) = self.ledger.messages.get(message) else {
            return Ok(());
        };
        let wills = &self.sessions[known.publisher].wills;
        let Some((_, link, fate)) = wills.iter().find(|(will, ..)| *will == message) else {
            return Ok(());
        };
        match fate {
            Fate::Lodged => bail!("the will {message} goes out while link {link} lives"),
            Fate::Dropped | Fate::Dismissed(_) => {
                bail!("the will {message} of link {link} must not go out")
            }
            // A session that is being replaced has ended before CONNACK says so.
            Fate::Pending(..) if self.is_being_replaced(known.publisher, now) => Ok(()),
            Fate::Pending(due, _) if now < *due => bail!("the will {message} goes out too early"),
            _ => Ok(()),
        }
    }

    fn is_being_replaced(&self, client: usize, now: Time) -> bool {
        self.truths.iter().flatten().any(|truth| {
            let is_waiting = truth.is_connect_delivered && !truth.is_accepted;
            truth.hello.client == client
                && is_waiting
                && truth.gone_at.is_none()
                && self.expected_presence(&truth.hello, now) != Some(true)
        })
    }

    /// Whether a message must have arrived by now: acknowledged, or a will that is due.
    pub fn is_due(&self, number: MessageId, now: Time) -> bool {
        let message = &self.ledger.messages[number];
        if !message.is_will {
            return message.acked.is_some();
        }
        let wills = &self.sessions[message.publisher].wills;
        wills.iter().any(|(will, _, fate)| {
            *will == number
                && match fate {
                    Fate::Due => true,
                    Fate::Pending(_, due) => now > *due + SLACK,
                    _ => false,
                }
        })
    }

    /// Connections whose keep-alive has run out must have been closed.
    ///
    /// # Errors
    /// One has not.
    pub fn check_keep_alive(&mut self, world: &World) -> Result<()> {
        for (index, truth) in self.truths.iter_mut().enumerate() {
            let Some(truth) = truth else { continue };
            if !truth.is_accepted || truth.gone_at.is_some() {
                continue;
            }
            // While the shard does not read, silence says nothing.
            let link = &world.links[index];
            let is_overdue = !link.is_paused && {
                truth.touched_at = truth.touched_at.max(link.heard_at);
                truth.is_overdue(world.settled_at(index))
            };
            ensure!(!is_overdue, "link {index} is silent and still open");
        }
        Ok(())
    }

    /// Everything has come to rest: all that was asked is answered, all that is owed has arrived.
    /// `dropped` is what shards have counted.
    ///
    /// # Errors
    /// Something is missing.
    pub fn check_rest(&self, now: Time, dropped: u64) -> Result<()> {
        for truth in self.truths.iter().flatten() {
            if truth.gone_at.is_none() && truth.is_accepted {
                truth.check_answered()?;
            }
        }
        let is_online = |client: usize| {
            let session = &self.sessions[client];
            session.link.is_some() && session.closed.is_none()
        };
        for (client, session) in self.sessions.iter().enumerate() {
            let is_done = session.flights.is_empty() || !is_online(client);
            ensure!(
                is_done,
                "client {client}: in flight for ever: {:?}",
                session.flights
            );
        }
        let is_due = |number| self.is_due(number, now);
        self.ledger.check_complete(&is_due, &is_online, dropped)
    }

    /// Packets that shards sent to clients.
    pub fn packets(&self) -> u64 {
        self.truths
            .iter()
            .flatten()
            .map(|truth| truth.packets)
            .sum()
    }
}
