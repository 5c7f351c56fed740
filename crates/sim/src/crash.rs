//! What a crash may take away, and what it must not.
//!
//! Whatever was acknowledged is promised. What was not promised is sure, too, once it is old
//! enough ([`Crash::sure`]); in between both are allowed.

use crate::checker::{Checker, Closed, Ends, Fate};
use crate::ledger::{Ledger, Moment};
use crate::plan::Plan;
use crate::process::Crash;
use crate::truth::Farewell;
use shard::{Span, Time};

impl Checker {
    /// The process has ended, and all connections with it.
    pub fn on_crash(&mut self, crash: &Crash, plan: &Plan, step: u64) {
        self.is_stopping = false;
        self.ledger.on_crash(crash, plan, step);
        let open: Vec<usize> = (0..self.truths.len())
            .filter(|link| self.is_open(*link))
            .collect();
        for client in 0..self.sessions.len() {
            self.doubt_wills(client, crash);
            self.doubt_end(client, crash);
            self.undo(client, crash, step);
            let ledger = &self.ledger;
            self.sessions[client].flights.on_crash(|message| {
                let topic = message.and_then(|number| ledger.messages.get(number));
                topic.map_or(plan.durability.prefixes.is_empty(), |known| {
                    plan.promises(&known.topic)
                })
            });
        }
        for link in open {
            self.crash_link(link, crash);
        }
    }

    /// What was acknowledged of a session may not have been durable.
    fn undo(&mut self, client: usize, crash: &Crash, step: u64) {
        let now = Moment { step, at: crash.at };
        if !self.ledger.is_late || !self.ledger.undo(client, crash.sure, now) {
            return;
        }
        let session = &mut self.sessions[client];
        session.is_unclear = true;
        session.may_be_new = true;
        for (message, _, fate) in &mut session.wills {
            let known = &mut self.ledger.messages[*message];
            known.attempts += 1;
            known.is_orphan = true;
            *fate = Fate::Unclear;
        }
    }

    /// The shards are ready: only now can they see what has run out meanwhile.
    pub fn on_up(&mut self, now: Time) {
        for session in &mut self.sessions {
            if let Some(closed) = &mut session.closed
                && closed.expiry_s != Some(0)
                && let Some(latest) = &mut closed.ends.1
            {
                *latest = now.max(*latest);
            }
            for (_, _, fate) in &mut session.wills {
                if let Fate::Pending(_, latest) = fate {
                    *latest = now.max(*latest);
                }
            }
        }
    }

    fn is_open(&self, link: usize) -> bool {
        let truth = self.truths[link].as_ref();
        truth.is_some_and(|truth| truth.gone_at.is_none())
    }

    /// What happened to wills before the crash may not be known after it.
    fn doubt_wills(&mut self, client: usize, crash: &Crash) {
        let truths = &self.truths;
        let messages = &mut self.ledger.messages;
        for (message, link, fate) in &mut self.sessions[client].wills {
            let truth = truths[*link].as_ref();
            let gone_at = truth.and_then(|truth| truth.gone_at).unwrap_or(crash.at);
            let is_sure = gone_at < crash.sure;
            let delay_s = truth
                .and_then(|truth| truth.hello.will)
                .map_or(0, |will| will.1);
            *fate = match *fate {
                // It may have been on its way, and its record be gone or not.
                Fate::Pending(from, _) if from <= crash.at => Fate::Unclear,
                Fate::Pending(from, to) if !is_sure => {
                    let delay = Span::from_s(u64::from(delay_s));
                    Fate::Pending(from.min(crash.alive + delay), to)
                }
                Fate::Due => Fate::Unclear,
                Fate::Dismissed(at) if at >= crash.sure => Fate::Unclear,
                other => other,
            };
            if matches!(*fate, Fate::Unclear | Fate::Pending(..)) {
                let known = &mut messages[*message];
                known.attempts += 1;
                known.is_orphan = true;
            }
        }
    }

    /// That a client had left before the crash may not be known after it.
    fn doubt_end(&mut self, client: usize, crash: &Crash) {
        let session = &mut self.sessions[client];
        let Some(closed) = &mut session.closed else {
            return;
        };
        let truth = session.link.and_then(|link| self.truths[link].as_ref());
        let granted_s = truth.map_or(Some(0), |truth| truth.granted_s);
        if closed.at < crash.sure || granted_s == Some(0) {
            return;
        }
        // It may have ended, and be back after the crash without what came in between.
        session.may_be_new |= closed.ends.0.is_some_and(|end| end <= crash.at);
        // As if it had been connected until the crash, or had left when it did.
        let (earliest, latest) = ends(crash, granted_s);
        closed.ends.0 = match (closed.ends.0, earliest) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        closed.ends.1 = match (closed.ends.1, latest) {
            (Some(one), Some(other)) => Some(one.max(other)),
            _ => None,
        };
        closed.is_doubtful = true;
        self.doubt_return(client, crash);
        self.ledger.detach(client, true);
    }

    /// That a client had come back before the crash may not be known after it: then its session
    /// ends as if it had not.
    fn doubt_return(&mut self, client: usize, crash: &Crash) {
        let session = &mut self.sessions[client];
        session.returned.retain(|(at, _)| *at >= crash.sure);
        let Some(closed) = session
            .closed
            .as_mut()
            .filter(|_| !session.returned.is_empty())
        else {
            return;
        };
        let former = session.returned.iter().filter_map(|(_, ends)| ends.0);
        if let Some(former) = former.min() {
            session.may_be_new |= former <= crash.at;
            closed.ends.0 = Some(closed.ends.0.map_or(former, |end| end.min(former)));
        }
        closed.is_doubtful = true;
        self.ledger.detach(client, true);
    }

    fn crash_link(&mut self, link: usize, crash: &Crash) {
        self.doubt_identity(link, crash.at);
        let Some(truth) = &mut self.truths[link] else {
            return;
        };
        truth.gone_at = Some(crash.at);
        let client = truth.hello.client;
        self.ledger.lose_link(client, link);
        let session = &mut self.sessions[client];
        let own = session
            .wills
            .iter_mut()
            .find(|(_, will_link, _)| *will_link == link);
        if let Some((message, _, fate)) = own {
            let delay_s = truth.hello.will.map_or(0, |(_, delay_s)| delay_s);
            let wait_s = delay_s.min(truth.expiry_s.unwrap_or(u32::MAX));
            let wait = Span::from_s(u64::from(wait_s));
            *fate = match truth.farewell {
                _ if !truth.is_connect_delivered => Fate::Dropped,
                _ if !truth.is_accepted || truth.granted_s == Some(0) => Fate::Unclear,
                Some(Farewell::Plain) => Fate::Unclear,
                // One that was taken over is not the session's any more.
                _ if session.link != Some(link) => Fate::Unclear,
                // Its session may not be there after the crash.
                _ if self.ledger.is_late && session.is_unclear => Fate::Unclear,
                // Nor may it have been durable that it was lodged.
                _ if self.ledger.is_late && truth.accepted_at >= Some(crash.sure) => Fate::Unclear,
                _ => Fate::Pending(crash.alive + wait, crash.at + wait),
            };
            // Published, and again after another crash.
            let known = &mut self.ledger.messages[*message];
            known.is_orphan = true;
        }
        if truth.is_accepted && session.link == Some(link) {
            session.closed = Some(Closed {
                at: crash.at,
                expiry_s: truth.granted_s,
                ends: ends(crash, truth.granted_s),
                is_doubtful: truth.farewell.is_some(),
            });
            self.ledger.detach(client, truth.granted_s.is_some());
            self.doubt_return(client, crash);
        } else if truth.is_connect_delivered && !truth.is_accepted {
            session.is_unclear = true;
        }
    }
}

/// When a session ends that was connected when the process crashed: the earliest and the latest.
fn ends(crash: &Crash, expiry_s: Option<u32>) -> Ends {
    let span = expiry_s.map(|seconds| Span::from_s(u64::from(seconds)));
    let from = |at: Time| span.map(|span| at + span);
    (from(crash.alive), from(crash.at))
}

impl Ledger {
    /// Whatever was acknowledged stays so, unless it was promised only for later.
    fn on_crash(&mut self, crash: &Crash, plan: &Plan, step: u64) {
        self.crashes.push(step);
        self.stalls.on_crash(step);
        for message in &mut self.messages {
            if message.acked.is_some_and(|acked| acked.at >= crash.sure)
                && !plan.promises(&message.topic)
            {
                message.acked = None;
            }
        }
        for group in self.groups.values_mut() {
            group.crashed = step;
        }
    }
}
