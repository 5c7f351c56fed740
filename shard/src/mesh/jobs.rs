//! Requests of the Meshblu API on the shard that holds the connection they came by: a short list
//! of steps each, every step a question to the owner of the device it concerns.
//!
//! The answers come back here and not, as the design has it, by way of the next step's shard: a
//! question then holds the credit of one pair of lanes only while its own owner works at it, and a
//! job is one value in one place.
//!
//! Always: a job asks one question at a time, and ends with exactly one outcome. Bounded by
//! `Limits::calls_max`, and messages of one device by a share of it: beyond it a request is refused
//! with 503.

use super::ask::{Ask, Asker, Proof, Told};
use super::call::{Actor, Call, CallOrigin, Done, Op, Outcome, SubscriptionOf};
use super::gather::Gathered;
use super::live::Live;
use crate::pending::{Origin, Ticket};
use crate::{DeviceId, DeviceSubscription, Effects, Frame, RequestId, Shard, ShardId};
use meshblu::{Access, Outgoing, Refusal};

/// One device may have this part of all calls under way as messages.
const SHARE_OF_ONE: usize = 16;

/// A request under way.
#[derive(Debug)]
pub struct Job {
    origin: CallOrigin,
    pub(super) call: Call,
    step: Step,
    /// Who asks, once that is verified, and which token showed it.
    me: Option<(DeviceId, u64)>,
    /// The batch of this shard that must be durable before the outcome is told.
    batch: u64,
    /// The shard that a question to all shards is at.
    pub(super) cursor: u16,
    pub(super) gathered: Gathered,
    /// What a new device or token is to be known by.
    fresh: Option<(DeviceId, Box<str>)>,
}

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Authenticating,
    ActingAs,
    BroadcastingAs,
    Permitting,
    Acting,
}

impl Job {
    /// On whose behalf it acts.
    pub(super) fn subject(&self) -> DeviceId {
        let (me, _) = self.me.expect("the actor has been verified");
        self.call.acting_as.unwrap_or(me)
    }

    /// What the actor needs leave for to act as another device.
    fn access_as(&self) -> Access {
        match &self.call.op {
            Op::Message { .. } | Op::Broadcast { .. } => Access::MessageAs,
            Op::Whoami
            | Op::Get { .. }
            | Op::Search { .. }
            | Op::MyDevices { .. }
            | Op::Authenticate
            | Op::Listen { .. }
            | Op::Subscriptions { .. }
            | Op::SearchTokens { .. } => Access::DiscoverAs,
            _ => Access::ConfigureAs,
        }
    }

    /// The device whose leave to configure it the subject needs before it may act.
    fn needs_leave_of(&self) -> Option<DeviceId> {
        let concerned = match &self.call.op {
            Op::Subscribe(SubscriptionOf { subscriber, .. })
            | Op::Subscriptions { subscriber, .. }
            | Op::Unsubscribe { subscriber, .. } => *subscriber,
            _ => return None,
        };
        (concerned != self.subject()).then_some(concerned)
    }
}

impl Shard {
    /// Begins a request; its outcome goes to `Shard::on_outcome`, perhaps before this returns.
    pub(crate) fn start_call(&mut self, origin: CallOrigin, call: Call, effects: &mut Effects) {
        if self.mesh.jobs.len() >= self.config.limits.calls_max {
            self.counters.mesh_busy += 1;
            return self.on_outcome(origin, Err(Refusal::Busy), 0, effects);
        }
        let needs_proof = match &call.op {
            Op::PublicKey { .. } | Op::Status => false,
            Op::Register { .. } => {
                !self.config.mesh.is_registration_open || matches!(call.actor, Actor::Known { .. })
            }
            _ => true,
        };
        if needs_proof && matches!(call.actor, Actor::Nobody | Actor::Malformed) {
            let refusal = match &call.op {
                Op::Register { .. } => Refusal::Forbidden,
                _ => Refusal::Unauthorized,
            };
            self.counters.mesh_unauthorized += 1;
            return self.on_outcome(origin, Err(refusal), 0, effects);
        }
        let job = Job {
            origin,
            call,
            step: Step::Authenticating,
            me: None,
            batch: 0,
            cursor: 0,
            gathered: Gathered::default(),
            fresh: None,
        };
        let (id, _) = self.mesh.jobs.insert(job);
        match needs_proof {
            true => self.authenticate(id, effects),
            false => self.act(id, effects),
        }
    }

    fn authenticate(&mut self, id: u32, effects: &mut Effects) {
        let job = self.mesh.jobs.at(id);
        let (device, proof) = match &job.call.actor {
            Actor::Claimed { device, token } => {
                let (secret, peer) = (token.clone(), self.peer_of(job.origin));
                (*device, Proof::Token { secret, peer })
            }
            Actor::Known { device, token } => (*device, Proof::Known(*token)),
            Actor::Nobody | Actor::Malformed => unreachable!("refused before"),
        };
        let ask = match job.call.op {
            Op::Listen {
                connection,
                transport,
            } => Ask::Attach {
                device,
                proof,
                live: Live {
                    shard: self.config.shard,
                    connection,
                    token: 0,
                    expires_s: None,
                    transport,
                },
            },
            _ => Ask::Authenticate { device, proof },
        };
        self.ask(id, self.placement.device(device), ask, effects);
    }

    /// Puts a job's question to a shard, which may be this one.
    pub(super) fn ask(&mut self, id: u32, to: ShardId, ask: Ask, effects: &mut Effects) {
        if to == self.config.shard {
            return self.execute(Asker::Job(id), ask, effects);
        }
        let request = RequestId(id);
        let ask = Box::new(ask);
        self.lanes.send(to, Frame::Ask { request, ask }, effects);
    }

    fn permit(&mut self, id: u32, device: DeviceId, access: Access, effects: &mut Effects) {
        let (actor, _) = self.mesh.jobs.at(id).me.expect("verified");
        let actor = match self.mesh.jobs.at(id).step {
            Step::Permitting => self.mesh.jobs.at(id).subject(),
            _ => actor,
        };
        let ask = Ask::Permit {
            device,
            actor,
            access,
        };
        self.ask(id, self.placement.device(device), ask, effects);
    }

    /// The answer to a job's question.
    pub(crate) fn on_told(&mut self, id: u32, told: Told, batch: u64, effects: &mut Effects) {
        let job = self.mesh.jobs.at_mut(id);
        job.batch = job.batch.max(batch);
        if let Told::Refused(refusal) = told {
            return self.end_job(id, Err(refusal), effects);
        }
        match job.step {
            Step::Authenticating => self.on_authenticated(id, told, effects),
            Step::ActingAs => {
                let is_broadcast = matches!(job.call.op, Op::Broadcast { .. })
                    || matches!(&job.call.op, Op::Message { body } if names_everybody(body));
                if !is_broadcast {
                    return self.on_identified(id, effects);
                }
                job.step = Step::BroadcastingAs;
                let subject = job.subject();
                self.permit(id, subject, Access::BroadcastAs, effects);
            }
            Step::BroadcastingAs => self.on_identified(id, effects),
            Step::Permitting => self.act(id, effects),
            Step::Acting => self.on_acted(id, told, effects),
        }
    }

    fn on_authenticated(&mut self, id: u32, told: Told, effects: &mut Effects) {
        let job = self.mesh.jobs.at_mut(id);
        let device = match &job.call.actor {
            Actor::Claimed { device, .. } | Actor::Known { device, .. } => *device,
            Actor::Nobody | Actor::Malformed => unreachable!("refused before"),
        };
        match told {
            Told::Attached { token, meshblu } => {
                let done = Done::Listening {
                    device,
                    token,
                    meshblu,
                };
                return self.end_job(id, Ok(done), effects);
            }
            Told::Known { token } => job.me = Some((device, token)),
            other => unreachable!("no answer to a proof: {other:?}"),
        }
        if job.call.acting_as == Some(device) {
            job.call.acting_as = None;
        }
        match job.call.acting_as {
            None => self.on_identified(id, effects),
            Some(subject) => {
                job.step = Step::ActingAs;
                let access = job.access_as();
                self.permit(id, subject, access, effects);
            }
        }
    }

    /// It is known on whose behalf the job acts.
    fn on_identified(&mut self, id: u32, effects: &mut Effects) {
        let job = self.mesh.jobs.at_mut(id);
        match job.needs_leave_of() {
            None => self.act(id, effects),
            Some(device) => {
                job.step = Step::Permitting;
                self.permit(id, device, Access::ConfigureUpdate, effects);
            }
        }
    }

    /// What the request is about.
    fn act(&mut self, id: u32, effects: &mut Effects) {
        let job = self.mesh.jobs.at_mut(id);
        job.step = Step::Acting;
        let ask = match &mut job.call.op {
            Op::Authenticate => {
                let device = job.subject();
                return self.end_job(id, Ok(Done::Authenticated { device }), effects);
            }
            Op::Message { .. } | Op::Broadcast { .. } => return self.send_message(id, effects),
            Op::Register { body } => {
                let body = std::mem::take(body);
                return self.register(id, body, effects);
            }
            Op::Search { .. }
            | Op::Status
            | Op::Subscriptions { .. }
            | Op::Unsubscribe { emitter: None, .. } => return self.ask_shards(id, effects),
            _ => self.question(id),
        };
        let device = match &ask {
            Ask::Subscribe(SubscriptionOf { emitter, .. }) => *emitter,
            Ask::Unsubscribe { emitter, .. } => emitter.expect("else all shards are asked"),
            Ask::View { device, .. }
            | Ask::Update { device, .. }
            | Ask::Unregister { device, .. }
            | Ask::Claim { device, .. }
            | Ask::GenerateToken { device, .. }
            | Ask::RevokeToken { device, .. }
            | Ask::RevokeTokens { device, .. }
            | Ask::SearchTokens { device, .. }
            | Ask::PublicKey { device } => *device,
            other => unreachable!("not about one device: {other:?}"),
        };
        self.ask(id, self.placement.device(device), ask, effects);
    }

    /// The question of a request that concerns one device.
    fn question(&mut self, id: u32) -> Ask {
        let needs_token = matches!(
            self.mesh.jobs.at(id).call.op,
            Op::GenerateToken { .. } | Op::ResetToken { .. }
        );
        let token = needs_token.then(|| self.mesh.secrets.token());
        let here = self.config.shard;
        let job = self.mesh.jobs.at_mut(id);
        if let Op::PublicKey { device } = job.call.op {
            return Ask::PublicKey { device };
        }
        let actor = job.subject();
        let by = match job.origin {
            CallOrigin::Rpc(connection, _) => Some((here, connection)),
            _ => None,
        };
        match &mut job.call.op {
            Op::Whoami | Op::MyDevices { .. } => Ask::View {
                device: actor,
                actor,
            },
            Op::Get { device } => Ask::View {
                device: *device,
                actor,
            },
            Op::Update { device, body, way } => Ask::Update {
                device: *device,
                actor,
                body: std::mem::take(body),
                way: *way,
            },
            Op::Unregister { device } => Ask::Unregister {
                device: *device,
                actor,
            },
            Op::Claim { device } => Ask::Claim {
                device: *device,
                owner: actor,
            },
            Op::Subscribe(of) => Ask::Subscribe(*of),
            Op::Unsubscribe {
                subscriber,
                emitter,
                kind,
            } => Ask::Unsubscribe {
                subscriber: *subscriber,
                emitter: *emitter,
                kind: *kind,
            },
            Op::GenerateToken { .. } | Op::ResetToken { .. } => {
                let (device, body, is_reset) = match &mut job.call.op {
                    Op::GenerateToken { device, body } => (*device, std::mem::take(body), false),
                    Op::ResetToken { device } => (*device, Box::default(), true),
                    _ => unreachable!("just matched"),
                };
                let token = token.expect("drawn above");
                job.fresh = Some((device, token.clone()));
                Ask::GenerateToken {
                    device,
                    actor,
                    token,
                    body,
                    is_reset,
                    by,
                }
            }
            Op::RevokeToken { device, token } => Ask::RevokeToken {
                device: *device,
                actor,
                token: std::mem::take(token),
            },
            Op::RevokeTokens { device, tag } => Ask::RevokeTokens {
                device: *device,
                actor,
                tag: tag.take(),
            },
            Op::SearchTokens { tag } => Ask::SearchTokens {
                device: actor,
                tag: tag.take(),
            },
            other => unreachable!("not about one device: {other:?}"),
        }
    }

    fn register(&mut self, id: u32, body: Box<[u8]>, effects: &mut Effects) {
        if let Err(refusal) = self.may_register(self.mesh.jobs.at(id).origin) {
            return self.end_job(id, Err(refusal), effects);
        }
        let device = self.mesh.secrets.uuid();
        let token = self.mesh.secrets.token();
        self.mesh.jobs.at_mut(id).fresh = Some((device, token.clone()));
        let ask = Ask::Register {
            device,
            token,
            body,
        };
        self.ask(id, self.placement.device(device), ask, effects);
    }

    fn send_message(&mut self, id: u32, effects: &mut Effects) {
        let limit = self.config.mesh.message_bytes_max;
        let job = self.mesh.jobs.at(id);
        let from = job.subject();
        let outgoing = match &job.call.op {
            Op::Message { body } => Outgoing::parse(body, from, limit),
            Op::Broadcast { body } => Outgoing::broadcast(body, from, limit),
            _ => unreachable!("only messages are sent"),
        };
        match outgoing {
            Err(refusal) => self.end_job(id, Err(refusal), effects),
            Ok(_) if !self.may_send_more(from) => self.end_job(id, Err(Refusal::Busy), effects),
            Ok(outgoing) => {
                *self.mesh.sending.entry(from).or_default() += 1;
                let mut ticket = Ticket::awaited(Origin::Job { id });
                self.emit_message(from, &outgoing, &mut ticket, effects);
                self.finish_ticket(ticket, effects);
            }
        }
    }

    /// Messages wait for slow subscribers: those of one device must not take all calls.
    fn may_send_more(&self, device: DeviceId) -> bool {
        let under_way = self.mesh.sending.get(&device).copied().unwrap_or_default();
        (under_way as usize) < self.config.limits.calls_max.div_ceil(SHARE_OF_ONE)
    }

    /// All who are to have a job's message have it.
    pub(crate) fn on_message_taken(
        &mut self,
        id: u32,
        batch: u64,
        is_refused: bool,
        effects: &mut Effects,
    ) {
        let job = self.mesh.jobs.at_mut(id);
        job.batch = job.batch.max(batch);
        let from = job.subject();
        let under_way = self.mesh.sending.get_mut(&from).expect("counted");
        *under_way -= 1;
        if *under_way == 0 {
            self.mesh.sending.remove(&from);
        }
        let outcome = match is_refused {
            true => Err(Refusal::Busy),
            false => Ok(Done::Sent),
        };
        self.end_job(id, outcome, effects);
    }

    fn on_acted(&mut self, id: u32, told: Told, effects: &mut Effects) {
        let job = self.mesh.jobs.at_mut(id);
        let done = match told {
            Told::Page { views, next } => {
                let left = job.gathered.take_views(views, job.call.op.entries_max());
                return self.on_list_page(id, left, next, effects);
            }
            Told::Subscriptions { found, next } => {
                let left = job
                    .gathered
                    .take_subscriptions(found, job.call.op.entries_max());
                return self.on_list_page(id, left, next, effects);
            }
            Told::Counted(counters) => {
                job.gathered.counters.get_or_insert_default().add(&counters);
                return self.on_shard_done(id, effects);
            }
            Told::View(view) => match job.view_is_first_of_many() {
                None => job.done_with(view),
                Some(with_self) => {
                    if with_self {
                        job.gathered.take_views(vec![(0, view)], 1);
                    }
                    return self.ask_shards(id, effects);
                }
            },
            Told::Allowed if matches!(job.call.op, Op::Unsubscribe { emitter: None, .. }) => {
                return self.on_shard_done(id, effects);
            }
            told => job.done(told),
        };
        self.end_job(id, Ok(done), effects);
    }

    pub(super) fn end_job(&mut self, id: u32, outcome: Outcome, effects: &mut Effects) {
        let job = self.mesh.jobs.remove(id);
        match &outcome {
            Ok(_) => self.counters.mesh_calls += 1,
            Err(Refusal::Unauthorized) => self.counters.mesh_unauthorized += 1,
            Err(Refusal::RateLimited { .. }) => self.counters.mesh_rate_limited += 1,
            Err(_) => self.counters.mesh_refused += 1,
        }
        self.on_outcome(job.origin, outcome, job.batch, effects);
    }
}

impl Job {
    /// Of a request for one's own devices: whether the answer begins with the actor.
    fn view_is_first_of_many(&self) -> Option<bool> {
        match self.call.op {
            // Who reads on has seen itself.
            Op::MyDevices {
                with_self, part, ..
            } => Some(with_self && part.after.is_none()),
            _ => None,
        }
    }

    fn done_with(&mut self, view: Vec<u8>) -> Done {
        match &self.call.op {
            Op::Register { .. } => {
                let (device, token) = self.fresh.take().expect("drawn before it was asked for");
                Done::Registered {
                    device,
                    token,
                    view,
                }
            }
            Op::Claim { .. } => Done::Claimed { view },
            _ => Done::Device { view },
        }
    }

    fn done(&mut self, told: Told) -> Done {
        match (told, &self.call.op) {
            (
                Told::Updated {
                    view,
                    before,
                    is_operators,
                },
                _,
            ) => Done::Updated {
                view,
                before,
                is_operators,
            },
            (Told::Allowed, Op::Unregister { device }) => Done::Unregistered { device: *device },
            (Told::Allowed, Op::Subscribe(of)) => Done::Subscribed(of.record()),
            (Told::Allowed, _) => Done::Unsubscribed,
            (
                Told::Token {
                    id,
                    created,
                    options,
                },
                _,
            ) => {
                let (device, token) = self.fresh.take().expect("drawn before it was asked for");
                Done::Token {
                    device,
                    token,
                    id,
                    created,
                    options,
                }
            }
            (Told::Revoked { count }, _) => Done::Revoked { count },
            (Told::Tokens(json), _) => Done::Tokens { json },
            (Told::PublicKey(json), Op::PublicKey { device }) => Done::PublicKey {
                device: *device,
                json,
            },
            (other, op) => unreachable!("{other:?} is no answer to {op:?}"),
        }
    }
}

impl SubscriptionOf {
    /// As it is kept.
    pub fn record(&self) -> DeviceSubscription {
        DeviceSubscription {
            emitter: self.emitter,
            subscriber: self.subscriber,
            kind: self.kind as u8,
        }
    }
}

/// Whether a message body names everybody among its devices; a body that does not parse names
/// nobody, and is refused later.
fn names_everybody(body: &[u8]) -> bool {
    Outgoing::parse(body, DeviceId([0; 16]), usize::MAX).is_ok_and(|outgoing| outgoing.is_broadcast)
}
