//! Tokens: what shows that somebody is a device.
//!
//! Always: a token itself is never kept, only its hash; comparing takes the same time wherever the
//! difference is. Hashes that are slow on purpose are compared by helper threads.

use super::ask::{Ask, Asker, Proof, Told};
use super::live::Live;
use super::networks::{Allowance, Wait};
use super::steps::Result;
use super::{Computing, Login, seconds};
use crate::{Change, Compute, Computed, DeviceId, Effect, Effects, Shard, Task};
use meshblu::{Refusal, StoredSecret, Token, TokenOptions, keyed_hash};
use std::net::IpAddr;

/// Comparisons with the slow hashes of one device that may be under way.
const COMPARISONS_OF_ONE_DEVICE: usize = 8;

/// Refused logins of one device that may be looked up at a time: they wait behind slow hashes, and take
/// room that is everybody's.
const LOOKS_AT_ONE_DEVICE: usize = 64;

/// Connections with expired tokens that are ended in one tick.
const EXPIRED_PER_TICK: usize = 64;

/// What a look at a device's tokens has shown.
enum Verdict {
    /// It is this token.
    Fits(u64),
    /// It is none of them.
    FitsNone,
    /// It may be one of these, whose hashes are slow.
    MayFit(Vec<(u64, Box<str>)>),
}

impl Shard {
    /// Whether a proof is good; if so, and `live` is given, the connection hears what happens to
    /// the device from now on.
    pub(super) fn verify(
        &mut self,
        asker: Asker,
        device: DeviceId,
        proof: Proof,
        live: Option<Live>,
        effects: &mut Effects,
    ) {
        let told = match (self.judge(device, &proof), proof) {
            (Verdict::Fits(token), _) => {
                self.counters.auths_quick += 1;
                self.on_verified(device, token, live)
            }
            (Verdict::MayFit(slow), Proof::Token { secret, peer }) => {
                if self.may_compare(device) {
                    let login = self.begin_login(peer);
                    let only_known = match login {
                        Login::OnlyKnown(refusal)
                            if self.under_way(device, true) >= LOOKS_AT_ONE_DEVICE =>
                        {
                            let told = self.refuse_login(refusal);
                            return self.tell_asker(asker, told, 0, effects);
                        }
                        Login::OnlyKnown(_) => true,
                        _ => false,
                    };
                    let (tokens, hashes) = slow.into_iter().unzip();
                    let waiting = Computing::Verify {
                        asker,
                        device,
                        tokens,
                        live,
                        login,
                    };
                    let task = Task::Verify {
                        secret,
                        hashes,
                        only_known,
                    };
                    return self.compute(waiting, task, effects);
                }
                self.busy_with_logins()
            }
            (_, Proof::Token { peer, .. }) => self.fail_login(peer),
            (_, Proof::Known(_)) => self.unauthorized(),
        };
        self.tell_asker(asker, told, 0, effects);
    }

    /// How often logins from one network may fail; `None` if as often as they like.
    fn failures_allowed(&self) -> Option<Allowance> {
        let mesh = &self.config.mesh;
        (mesh.failed_logins_max > 0).then_some(Allowance {
            window_s: mesh.rate_window_s,
            times: mesh.failed_logins_max,
        })
    }

    /// A secret is to be compared with slow hashes: whether that is still paid for by those from
    /// where it came.
    ///
    /// Only this costs so much that somebody could use it up for all others. So a network of which
    /// too many logins have failed is refused nothing that is cheap: tokens that we have made, and
    /// imported ones that have been right before. Many devices may share an address with the one
    /// that is wrong.
    fn begin_login(&mut self, peer: Option<IpAddr>) -> Login {
        let (Some(allowance), Some(peer)) = (self.failures_allowed(), peer) else {
            return Login::Free;
        };
        let now_s = seconds(self.now);
        match self.mesh.failed_logins.begin(peer, now_s, allowance) {
            Ok(()) => Login::CountedFor(peer),
            Err(Wait::Pending) => Login::OnlyKnown(Refusal::Busy),
            Err(Wait::Window(retry_after_s)) => {
                Login::OnlyKnown(Refusal::RateLimited { retry_after_s })
            }
        }
    }

    /// A token was wrong, and it cost little to see that.
    fn fail_login(&mut self, peer: Option<IpAddr>) -> Told {
        if let (Some(allowance), Some(peer)) = (self.failures_allowed(), peer) {
            let now_s = seconds(self.now);
            // Not of what pays for slow hashes: who asks for devices that are not there must not
            // lock out those behind the same address.
            let spent = self.mesh.wrong_logins.spend(peer, now_s, allowance);
            if let Err(retry_after_s) = spent {
                return self.refuse_login(Refusal::RateLimited { retry_after_s });
            }
        }
        self.unauthorized()
    }

    /// A token is not looked at as closely as it would take.
    fn refuse_login(&mut self, refusal: Refusal) -> Told {
        match refusal {
            Refusal::Busy => self.busy_with_logins(),
            refusal => {
                self.counters.auths_failed_too_often += 1;
                Told::Refused(refusal)
            }
        }
    }

    fn busy_with_logins(&mut self) -> Told {
        self.counters.mesh_busy += 1;
        self.counters.auths_busy += 1;
        Told::Refused(Refusal::Busy)
    }

    /// Whether slow hashes of a device may be compared now: one device takes not all there is room
    /// for, whoever tries. What is only looked up takes no place: else those whose logins are refused
    /// would shut out the device itself.
    fn may_compare(&self, device: DeviceId) -> bool {
        self.mesh.computing.len() < self.config.limits.computes_max
            && self.under_way(device, false) < COMPARISONS_OF_ONE_DEVICE
    }

    /// How many comparisons of a device are under way, or how many of its refused logins are looked up.
    fn under_way(&self, device: DeviceId, is_look: bool) -> usize {
        let is_of_this = |waiting: &Computing| match waiting {
            Computing::Verify {
                device: of, login, ..
            } => *of == device && matches!(login, Login::OnlyKnown(_)) == is_look,
            Computing::Revoke { device: of, .. } => *of == device && !is_look,
            Computing::Call { .. } => false,
        };
        let computing = self.mesh.computing.iter();
        computing.filter(|(_, waiting)| is_of_this(waiting)).count()
    }

    fn judge(&self, device: DeviceId, proof: &Proof) -> Verdict {
        let Some(entry) = self.mesh.registry.find(device) else {
            return Verdict::FitsNone;
        };
        let now = self.timestamp();
        let mut valid = entry.tokens.iter().filter(|token| !token.is_expired(now));
        match proof {
            Proof::Known(id) => match valid.find(|token| token.id == *id) {
                Some(_) => Verdict::Fits(*id),
                None => Verdict::FitsNone,
            },
            Proof::Token { secret, .. } => {
                let hash = keyed_hash(&self.config.mesh.pepper, device, secret);
                let mut slow = Vec::new();
                let mut fits = None;
                for token in valid {
                    match &token.secret {
                        StoredSecret::Keyed(known) if known.matches(&hash) => fits = Some(token.id),
                        StoredSecret::Keyed(_) => {}
                        StoredSecret::Bcrypt(text) => slow.push((token.id, text.clone())),
                    }
                }
                match fits {
                    Some(id) => Verdict::Fits(id),
                    None if slow.is_empty() => Verdict::FitsNone,
                    None => Verdict::MayFit(slow),
                }
            }
        }
    }

    /// Somebody has shown a token of this device.
    fn on_verified(&mut self, device: DeviceId, token: u64, live: Option<Live>) -> Told {
        let (window_s, limit) = (self.config.mesh.rate_window_s, self.config.mesh.rate_limit);
        let now_s = seconds(self.now);
        let registry = &mut self.mesh.registry;
        if let Err(retry_after_s) = registry.spend(device, now_s, window_s, limit) {
            self.counters.auths_rate_limited += 1;
            return Told::Refused(Refusal::RateLimited { retry_after_s });
        }
        self.counters.auths_accepted += 1;
        let Some(live) = live else {
            return Told::Known { token };
        };
        let entry = registry.find(device).expect("its token has just been seen");
        let mut meshblu = Vec::new();
        entry.device.write_meshblu(&mut meshblu);
        let mut tokens = entry.tokens.iter();
        let expires_s = tokens.find(|known| known.id == token);
        // What lasts longer than this number, 2106, is as good as for ever.
        let expires_s = expires_s
            .and_then(|known| known.expires_s)
            .and_then(|expires_s| u32::try_from(expires_s).ok());
        let live = Live {
            token,
            expires_s,
            ..live
        };
        self.mesh.registry.attach(device, live);
        Told::Attached { token, meshblu }
    }

    /// Somebody has shown what is no token of a device.
    fn unauthorized(&mut self) -> Told {
        self.counters.auths_denied += 1;
        Told::Refused(Refusal::Unauthorized)
    }

    /// Ends connections whose token has expired, some at each call.
    pub(crate) fn end_expired(&mut self, effects: &mut Effects) {
        let now_s = seconds(self.now);
        for _ in 0..EXPIRED_PER_TICK {
            let Some((device, live)) = self.mesh.registry.expired(now_s) else {
                return;
            };
            self.end_live(live, device, effects);
        }
    }

    /// Revokes the token of this text, at once or when a helper thread knows which it is.
    pub(super) fn revoke(
        &mut self,
        asker: Asker,
        (device, actor): (DeviceId, DeviceId),
        secret: Box<str>,
        effects: &mut Effects,
    ) {
        let told = match self.try_revoke(device, actor, &secret, effects) {
            Ok(Ok(count)) => Told::Revoked { count },
            Ok(Err(slow)) if self.may_compare(device) => {
                let (tokens, hashes) = slow.into_iter().unzip();
                let waiting = Computing::Revoke {
                    asker,
                    device,
                    tokens,
                };
                let task = Task::Verify {
                    secret,
                    hashes,
                    only_known: false,
                };
                return self.compute(waiting, task, effects);
            }
            Ok(Err(_)) => self.busy_with_logins(),
            Err(refusal) => Told::Refused(refusal),
        };
        self.tell_asker(asker, told, self.durable.gate(), effects);
    }

    /// How many tokens have been revoked; `Err` with those that may be meant if none was.
    #[allow(clippy::type_complexity, reason = "read in one place")]
    fn try_revoke(
        &mut self,
        device: DeviceId,
        actor: DeviceId,
        secret: &str,
        effects: &mut Effects,
    ) -> Result<std::result::Result<usize, Vec<(u64, Box<str>)>>> {
        self.configurable(device, actor)?;
        self.can_keep()?;
        let hash = keyed_hash(&self.config.mesh.pepper, device, secret);
        let is_meant = |known: &Token| match &known.secret {
            StoredSecret::Keyed(known) => known.matches(&hash),
            StoredSecret::Bcrypt(_) => false,
        };
        let count = self.remove_tokens(device, is_meant, effects);
        let entry = self.mesh.registry.find(device).ok_or(Refusal::NotFound)?;
        let slow: Vec<_> = entry
            .tokens
            .iter()
            .filter_map(|token| match &token.secret {
                StoredSecret::Bcrypt(text) => Some((token.id, text.clone())),
                StoredSecret::Keyed(_) => None,
            })
            .collect();
        Ok(match count > 0 || slow.is_empty() {
            true => Ok(count),
            false => Err(slow),
        })
    }

    /// Gives work to a helper thread.
    pub(super) fn compute(&mut self, waiting: Computing, task: Task, effects: &mut Effects) {
        let (id, _) = self.mesh.computing.insert(waiting);
        let id = u64::from(id);
        effects.push(Effect::Compute(Compute { id, task }));
    }

    /// A helper thread has done its work.
    pub(crate) fn on_computed(&mut self, id: u64, outcome: Computed, effects: &mut Effects) {
        let id = u32::try_from(id).expect("the number of a slot");
        match self.mesh.computing.remove(id) {
            Computing::Call { token } => {
                if !matches!(outcome, Computed::Called { is_delivered: true }) {
                    self.counters.webhooks_failed += 1;
                } else {
                    self.counters.webhooks_sent += 1;
                }
                if let Some((device, token)) = token {
                    self.remove_tokens(device, |known| known.id == token, effects);
                }
            }
            Computing::Revoke {
                asker,
                device,
                tokens,
            } => {
                let told = match outcome {
                    Computed::Verified(Some(at)) => {
                        let is_meant = |known: &Token| known.id == tokens[at];
                        let count = self.remove_tokens(device, is_meant, effects);
                        Told::Revoked { count }
                    }
                    Computed::Verified(None) | Computed::Called { .. } => {
                        Told::Revoked { count: 0 }
                    }
                    Computed::Busy => Told::Refused(Refusal::Busy),
                };
                self.tell_asker(asker, told, self.durable.gate(), effects);
            }
            Computing::Verify {
                asker,
                device,
                tokens,
                live,
                login,
            } => {
                let is_wrong = matches!(outcome, Computed::Verified(None));
                if let Login::CountedFor(peer) = login {
                    self.mesh.failed_logins.end(peer, is_wrong);
                }
                let told = match (outcome, login) {
                    (Computed::Verified(Some(at)), _) => {
                        // It may have been revoked meanwhile.
                        match self.judge(device, &Proof::Known(tokens[at])) {
                            Verdict::Fits(token) => self.on_verified(device, token, live),
                            _ => self.unauthorized(),
                        }
                    }
                    (Computed::Busy, _) => self.busy_with_logins(),
                    (_, Login::OnlyKnown(refusal)) => self.refuse_login(refusal),
                    _ => self.unauthorized(),
                };
                self.tell_asker(asker, told, 0, effects);
            }
        }
    }

    /// A step about tokens.
    pub(super) fn token_step(&mut self, ask: Ask, effects: &mut Effects) -> Result<(Told, bool)> {
        match ask {
            Ask::GenerateToken {
                device,
                actor,
                token,
                body,
                is_reset,
                by,
            } => {
                let options = TokenOptions::parse(&body)?;
                self.configurable(device, actor)?;
                self.can_keep()?;
                let text = members(&options);
                if !is_reset {
                    self.make_room_for_token(device, effects)?;
                }
                let id = self.add_token(device, &token, options, is_reset);
                if is_reset {
                    if let Some(by) = by {
                        self.mesh.registry.renew(device, by, id);
                    }
                    self.remove_tokens(device, |known| known.id != id, effects);
                }
                let told = Told::Token {
                    id,
                    created: self.timestamp(),
                    options: text.into(),
                };
                Ok((told, true))
            }
            Ask::RevokeTokens { device, actor, tag } => {
                self.configurable(device, actor)?;
                self.can_keep()?;
                let is_meant = |known: &Token| {
                    !known.is_root
                        && tag
                            .as_ref()
                            .is_none_or(|tag| known.tag.as_ref() == Some(tag))
                };
                let count = self.remove_tokens(device, is_meant, effects);
                Ok((Told::Revoked { count }, true))
            }
            Ask::SearchTokens { device, tag } => {
                let entry = self.mesh.registry.find(device).ok_or(Refusal::NotFound)?;
                let mut json = vec![b'['];
                for token in &entry.tokens {
                    if tag
                        .as_ref()
                        .is_some_and(|tag| token.tag.as_ref() != Some(tag))
                    {
                        continue;
                    }
                    if json.len() > 1 {
                        json.push(b',');
                    }
                    token.write_search_json(device, &mut json);
                }
                json.push(b']');
                Ok((Told::Tokens(json), false))
            }
            other => unreachable!("not about tokens: {other:?}"),
        }
    }

    /// Tokens that have expired make room for others. Errs if there are too many even so.
    fn make_room_for_token(&mut self, device: DeviceId, effects: &mut Effects) -> Result<()> {
        let now = self.timestamp();
        let maximum = self.config.limits.tokens_max;
        let count = |shard: &Shard| {
            let entry = shard.mesh.registry.find(device);
            entry.map_or(0, |entry| entry.tokens.len())
        };
        if count(self) < maximum {
            return Ok(());
        }
        self.remove_tokens(device, |token| token.is_expired(now), effects);
        match count(self) < maximum {
            true => Ok(()),
            false => Err(Refusal::invalid("too many tokens")),
        }
    }

    /// Adds a token to a device that is here; returns its number.
    pub(super) fn add_token(
        &mut self,
        device: DeviceId,
        text: &str,
        options: TokenOptions,
        is_root: bool,
    ) -> u64 {
        // Never one that was there before: connections may still know that.
        let id = self.random.next();
        let token = Token {
            secret: StoredSecret::Keyed(keyed_hash(&self.config.mesh.pepper, device, text)),
            created: self.timestamp(),
            expires_s: options.expires_s,
            tag: options.tag,
            id,
            is_root,
        };
        self.keep(Change::PutToken {
            device,
            token: id,
            record: token.to_record().into(),
        });
        let entry = self.mesh.registry.find_mut(device);
        entry.expect("the device is here").tokens.push(token);
        id
    }

    /// Removes tokens of a device, and closes the connections that have shown them.
    pub(super) fn remove_tokens(
        &mut self,
        device: DeviceId,
        is_meant: impl Fn(&Token) -> bool,
        effects: &mut Effects,
    ) -> usize {
        let Some(entry) = self.mesh.registry.find_mut(device) else {
            return 0;
        };
        let gone: Vec<u64> = entry
            .tokens
            .iter()
            .filter(|token| is_meant(token))
            .map(|token| token.id)
            .collect();
        if gone.is_empty() {
            return 0;
        }
        entry.tokens.retain(|token| !gone.contains(&token.id));
        let closed: Vec<Live> = entry
            .live
            .iter()
            .filter(|live| gone.contains(&live.token))
            .copied()
            .collect();
        for token in &gone {
            self.keep(Change::RemoveToken {
                device,
                token: *token,
            });
        }
        for live in closed {
            self.end_live(live, device, effects);
        }
        gone.len()
    }
}

/// Options of a token as members of a JSON object, without braces.
fn members(options: &TokenOptions) -> String {
    let mut object = serde_json::Map::new();
    if let Some(expires_s) = options.expires_s {
        object.insert("expiresOn".into(), expires_s.into());
    }
    if let Some(tag) = &options.tag {
        object.insert("tag".into(), (&**tag).into());
    }
    let text = serde_json::Value::Object(object).to_string();
    text[1..text.len() - 1].to_owned()
}
