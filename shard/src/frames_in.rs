//! Frames from other shards.

use crate::frame::Answer;
use crate::mesh::ask::Asker;
use crate::message::LazyMessage;
use crate::pending::{Origin, Outcome, Ticket};
use crate::shard::Shard;
use crate::{Effects, Frame, RequestId, ShardId};
use mqtt_v5_codec::QoS;

impl Shard {
    pub(crate) fn on_frame(&mut self, from: ShardId, frame: Frame, effects: &mut Effects) {
        match frame {
            Frame::Deliver {
                request,
                message,
                once,
                is_will,
            } => {
                let mut ticket = ticket_of(from, request);
                ticket.is_will = is_will;
                let mut lazy = LazyMessage::of(&message);
                lazy.once = once.map(|once| *once);
                self.deliver_local(&mut lazy, &mut ticket, effects);
                self.finish_ticket(ticket, effects);
            }
            Frame::Publish {
                request,
                message,
                once,
                is_will,
            } => {
                let mut ticket = ticket_of(from, request);
                ticket.is_will = is_will;
                let mut lazy = LazyMessage::of(&message);
                lazy.once = once.map(|once| *once);
                // Congestion cannot be passed on: the sender is held back by its own credits.
                self.route_here(&mut lazy, &mut ticket, effects);
                self.finish_ticket(ticket, effects);
            }
            Frame::Reply { request, answer } => self.on_reply(from, request, answer, effects),
            Frame::Retain {
                request,
                message,
                is_will,
            } => {
                let mut ticket = ticket_of(from, Some(request));
                ticket.is_will = is_will;
                // The answer is for the barrier of `routes.rs`; at QoS 0 nothing is promised.
                ticket.wants_answer = message.qos > QoS::AtMostOnce;
                self.keep_retained(&mut LazyMessage::of(&message), &mut ticket);
                let is_refused = ticket.is_refused;
                let answer = Answer::Retained {
                    is_refused,
                    is_late: false,
                };
                let reply = Frame::Reply { request, answer };
                self.tell_when_durable(ticket.batch, from, reply, effects);
            }
            Frame::RouteAdd { request, filters } => {
                self.on_route_add(from, request, &filters, effects);
            }
            Frame::RouteRemove { filters } => self.on_route_remove(from, &filters),
            Frame::GroupJoin {
                request,
                key,
                session,
                options,
            } => {
                self.on_group_join(from, request, &key, session, options, effects);
            }
            Frame::GroupLeave { key, session } => {
                let removed = self.leave_group(&key, (from, session));
                self.withdraw(removed.into_iter().collect(), effects);
            }
            Frame::GroupPresence {
                key,
                session,
                is_connected,
            } => {
                self.on_group_presence(from, &key, session, is_connected);
            }
            Frame::GroupDeliver {
                request,
                key,
                session,
                message,
                is_will,
            } => {
                let asked = (from, request, is_will);
                self.on_group_deliver(asked, &key, session, &message, effects);
            }
            Frame::GroupReturn {
                request,
                key,
                message,
            } => {
                let mut ticket = ticket_of(from, request);
                ticket.wants_answer = true;
                self.offer_returned(&key, &message, ticket, effects);
            }
            Frame::RetainedRead {
                request,
                filter,
                after,
            } => {
                self.on_retained_read(from, request, &filter, after.as_deref(), effects);
            }
            Frame::Settled {
                request,
                matched,
                is_refused,
            } => {
                let outcome = Outcome {
                    matched,
                    is_refused,
                    ..Outcome::default()
                };
                if let Some(outcome) = self.lanes.on_settled(from, request, outcome) {
                    self.answer_pending(request.parts().0, outcome, effects);
                }
            }
            Frame::Ask { request, ask } => {
                self.execute(Asker::Shard { to: from, request }, *ask, effects);
            }
            Frame::Emit { request, emission } => {
                let mut ticket = ticket_of(from, request);
                self.emit_here(&emission, &mut ticket, effects);
                self.finish_ticket(ticket, effects);
            }
            Frame::Hear { request, hearing } => {
                let mut ticket = ticket_of(from, request);
                self.hear_here(*hearing, &mut ticket, effects);
                // What is awaited may be of the same tier: the credit must not wait for it.
                if let Some(pending) = ticket.pending {
                    self.mark_late(pending, effects);
                }
                self.finish_ticket(ticket, effects);
            }
            Frame::Tell { connection, event } => self.tell_connection(connection, &event, effects),
            Frame::Revoked { connection } => self.on_revoked(connection, effects),
            Frame::Detach { device, connection } => self.on_detach(from, device, connection),
            Frame::DeviceGone { device } => self.on_device_gone(device),
            Frame::Begun => self.beginning.others_ready += 1,
            Frame::Counted(counters) => self.sys.on_counted(from, *counters),
        }
    }

    fn on_reply(
        &mut self,
        from: ShardId,
        request: RequestId,
        answer: Answer,
        effects: &mut Effects,
    ) {
        let (id, tier) = request.parts();
        let is_retained = matches!(answer, Answer::Retained { .. });
        self.lanes.on_answer(from, tier, is_retained, effects);
        match answer {
            Answer::Accepted {
                matched,
                is_refused,
            } => {
                let outcome = Outcome {
                    matched,
                    is_refused,
                    ..Outcome::default()
                };
                self.answer_pending(id, outcome, effects);
            }
            Answer::Told(told) => self.on_told(id, *told, 0, effects),
            Answer::Later => {
                self.mark_late(id, effects);
                if let Some(outcome) = self.lanes.on_later(from, request) {
                    self.answer_pending(id, outcome, effects);
                }
            }
            Answer::RouteAdded | Answer::GroupJoined => {
                self.answer_pending(id, Outcome::default(), effects);
            }
            Answer::Retained {
                is_refused,
                is_late,
            } => {
                let outcome = Outcome {
                    is_refused,
                    ..Outcome::default()
                };
                let outcome = match is_late {
                    true => self.lanes.on_later(from, request),
                    false => Some(outcome),
                };
                if let Some(outcome) = outcome {
                    self.answer_pending(id, outcome, effects);
                }
                self.pass_barriers(effects);
            }
            Answer::Declined => {
                let answer = Outcome::default();
                let declined = self.pending.answer(id, answer);
                let declined = declined.map(|pending| pending.origin);
                let Some(Origin::GroupOffer {
                    key,
                    message,
                    parent,
                    member,
                    presence,
                }) = declined
                else {
                    unreachable!("only an offer to a member is declined");
                };
                self.offer_again(&key, &message, (member, presence), parent, effects);
            }
            Answer::RetainedPage { messages, next } => {
                let answer = Outcome::default();
                let read = self.pending.answer(id, answer);
                let read = read.map(|pending| pending.origin);
                let Some(Origin::RetainedRead {
                    session,
                    connection,
                }) = read
                else {
                    unreachable!("only a reader is given a page");
                };
                self.on_retained_page(session, connection, messages, next, effects);
            }
        }
        self.resume_lane(from, effects);
    }
}

fn ticket_of(from: ShardId, request: Option<RequestId>) -> Ticket {
    match request {
        Some(request) => Ticket::awaited(Origin::Shard { to: from, request }),
        None => Ticket::unawaited(),
    }
}
