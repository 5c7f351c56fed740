//! Deliveries: may this message reach this client, in this form, now?

use crate::ledger::{Grant, Ledger, Message, MessageId, matches, number, payload};
use anyhow::{Result, bail, ensure};
use mqtt_v5_codec::{QoS, RetainHandling};

/// A PUBLISH, as its receiver sees it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// With the alias resolved.
    pub topic: String,
    /// At which quality.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// DUP flag.
    pub dup: bool,
    /// Which subscriptions.
    pub subscription_ids: Vec<u32>,
    /// Seconds left.
    pub expiry_s: Option<u32>,
    /// The message.
    pub payload: Vec<u8>,
}

/// What clients received.
impl Ledger {
    /// A message reached a client for the first time in its session, or again with DUP at QoS 1.
    ///
    /// # Errors
    /// It must not have.
    pub fn deliver(&mut self, client: usize, delivery: &Delivery) -> Result<()> {
        if delivery.payload.is_empty() || delivery.payload.contains(&b'x') {
            return Ok(()); // A clearing message, or a vandal's.
        }
        if delivery.topic.starts_with("$SYS/") {
            return Ok(());
        }
        let Some(number) = number(&delivery.payload) else {
            // An altered packet of a vandal's may swallow others; its topic is still not ours.
            let is_ours = self
                .messages
                .iter()
                .any(|message| message.topic == delivery.topic);
            ensure!(!is_ours, "a payload of nobody's");
            return Ok(());
        };
        let Some(message) = self.messages.get(number).cloned() else {
            bail!("no message {number}")
        };
        ensure!(
            delivery.payload == payload(number, message.payload_bytes),
            "payload altered"
        );
        ensure!(
            delivery.topic == message.topic,
            "topic altered: {}",
            delivery.topic
        );
        match (delivery.expiry_s, message.expiry_s) {
            (None, _) => {}
            (Some(left), Some(given)) => ensure!(left <= given, "message expiry has grown"),
            (Some(_), None) => bail!("message expiry out of nowhere"),
        }
        let matched = self.matched(client, &message);
        for group in &matched.groups {
            let group = self.groups.entry(group.clone()).or_default();
            group.reached.insert(number);
        }
        if delivery.retain {
            self.deliver_retained(client, number, &message, delivery, &matched)?;
        } else {
            self.deliver_live(client, number, &message, delivery, &matched)?;
        }
        self.check_ids(client, &message, delivery, &matched)?;
        self.meet_expectations(client, number, &message);
        Ok(())
    }

    fn matched(&self, client: usize, message: &Message) -> Matched {
        let mut matched = Matched::default();
        let since = self.accounts[client].since;
        for subscription in self.accounts[client].subscriptions.values() {
            let live = |grant: &&Grant| message.is_live_match(client, subscription, grant, since);
            let grants: Vec<Grant> = subscription.grants.iter().filter(live).cloned().collect();
            let is_sure = subscription.is_certain_since(message.sent.step)
                && subscription.lets_pass(message, client);
            if let Some(group) = &subscription.group {
                if !grants.is_empty() {
                    matched.groups.push(group.clone());
                    matched.shared.extend(grants);
                }
                continue;
            }
            if is_sure {
                matched.qos_min = matched.qos_min.max(Some(subscription.qos_min()));
                if let [only] = &grants[..] {
                    matched.sure_ids.extend(only.id);
                }
            }
            matched.own.extend(grants);
            if matches(&subscription.filter, &message.topic) {
                matched.any.extend(subscription.grants.iter().cloned());
            }
        }
        matched
    }

    fn deliver_live(
        &mut self,
        client: usize,
        number: MessageId,
        message: &Message,
        delivery: &Delivery,
        matched: &Matched,
    ) -> Result<()> {
        let mut grants = matched.own.iter().chain(&matched.shared);
        ensure!(
            grants.clone().next().is_some(),
            "message {number} to {} without a subscription",
            message.topic
        );
        if message.retain {
            let is_plain = grants.any(|grant| !grant.options.retain_as_published);
            ensure!(
                is_plain,
                "message {number}: RETAIN is gone, against retain as published"
            );
        }
        matched.check_qos(number, message, delivery)?;
        let copies = u32::from(!matched.own.is_empty()) + matched.groups.len() as u32;
        let crashes = self.crashes_since(message.sent.step);
        let attempts = match crashes {
            0 => message.attempts_that_count(),
            _ => message.attempts * (1 + crashes),
        };
        let account = &mut self.accounts[client];
        let seen = account.seen.entry(number).or_default();
        let is_again = seen.live + seen.unclear > 0;
        if is_again && delivery.dup && delivery.qos == QoS::AtLeastOnce {
            return Ok(());
        }
        seen.live += 1;
        // A group and a member may both have kept it.
        let is_blurred = crashes > 0 && !matched.groups.is_empty();
        ensure!(
            is_blurred || seen.live <= copies * attempts,
            "message {number}: copy {} too many",
            seen.live
        );
        // What is taken at QoS 2 is known again after a crash, except in groups.
        if delivery.qos == QoS::ExactlyOnce && matched.groups.is_empty() {
            seen.exact += 1;
            ensure!(
                seen.exact <= message.attempts_that_count(),
                "message {number}: copy {} at QoS 2",
                seen.exact
            );
        }
        // A message that was sent twice may have come too early for the subscription at first, or
        // have expired, or have been dropped at QoS 0, and then come late.
        let is_sure = matched.qos_min.is_some_and(|qos| qos > QoS::AtMostOnce);
        let is_kept = is_sure && message.expiry_s.is_none() && delivery.qos > QoS::AtMostOnce;
        let is_kept = is_kept && !self.is_lossy && !message.is_orphan;
        let is_ordered = message.attempts == 1 || is_kept;
        if matched.groups.is_empty() && !is_again && !message.is_will && is_ordered {
            let key = (message.publisher, message.topic.clone(), delivery.qos as u8);
            let latest = account.latest.entry(key).or_insert(number);
            ensure!(
                *latest <= number,
                "message {number} after {latest}: out of order"
            );
            *latest = number;
        }
        if let ([group], true) = (&matched.groups[..], matched.own.is_empty()) {
            self.count_shared(number, group)?;
        }
        Ok(())
    }

    /// A copy that came by a shared subscription and by nothing else.
    fn count_shared(&mut self, number: MessageId, group: &str) -> Result<()> {
        let message = &self.messages[number];
        let attempts = message.attempts_that_count();
        let is_troubled = self.is_troubled(group, message.sent.step);
        let group = self.groups.entry(group.to_string()).or_default();
        let is_troubled = is_troubled || group.crashed >= message.sent.step;
        let copies = group.copies.entry(number).or_default();
        *copies += 1;
        ensure!(
            is_troubled || *copies <= attempts,
            "message {number} went to {copies} members of a group"
        );
        Ok(())
    }

    fn deliver_retained(
        &mut self,
        client: usize,
        number: MessageId,
        message: &Message,
        delivery: &Delivery,
        matched: &Matched,
    ) -> Result<()> {
        ensure!(message.retain, "message {number}: RETAIN out of nowhere");
        let is_published = |grant: &&Grant| grant.options.retain_as_published;
        let may_be_live = matched
            .own
            .iter()
            .chain(&matched.shared)
            .any(|g| is_published(&g));
        let crashes = self.crashes.len();
        let account = &mut self.accounts[client];
        let seen = account.seen.entry(number).or_default();
        if delivery.dup && seen.live + seen.retained + seen.unclear > 0 {
            return Ok(());
        }
        if may_be_live {
            seen.unclear += 1;
            return Ok(());
        }
        seen.retained += 1;
        let asks = matched.any.iter().filter(|grant| grant.asks_retained());
        let copies = account
            .retained_copies
            .entry(message.topic.clone())
            .or_default();
        *copies += 1;
        ensure!(
            *copies as usize <= asks.clone().count() + crashes,
            "message {number}: retained copy {copies} of {} was not asked for",
            message.topic
        );
        let most = asks
            .clone()
            .map(|grant| grant.options.qos)
            .max()
            .unwrap_or_default();
        ensure!(
            delivery.qos <= most.min(message.qos),
            "message {number} at {:?}",
            delivery.qos
        );
        if message.is_will || message.may_return() {
            return Ok(());
        }
        let numbers = &self.retained[&message.topic];
        let later = numbers.iter().filter(|later| **later > number);
        let is_fresh = asks.clone().any(|grant| {
            later.clone().all(|later| {
                self.messages[*later]
                    .acked
                    .is_none_or(|acked| acked.step >= grant.sent)
            })
        });
        ensure!(
            is_fresh,
            "message {number}: a retained message that had been replaced"
        );
        Ok(())
    }

    fn check_ids(
        &self,
        client: usize,
        message: &Message,
        delivery: &Delivery,
        matched: &Matched,
    ) -> Result<()> {
        let grants = || {
            matched
                .own
                .iter()
                .chain(&matched.shared)
                .chain(&matched.any)
        };
        for id in &delivery.subscription_ids {
            let is_known = grants().any(|grant| grant.id == Some(*id));
            ensure!(
                is_known,
                "client {client}: subscription identifier {id} matches nothing"
            );
        }
        if !delivery.retain && matched.groups.is_empty() && !message.retain {
            for id in &matched.sure_ids {
                let is_there = delivery.subscription_ids.contains(id);
                ensure!(
                    is_there,
                    "client {client}: subscription identifier {id} is missing"
                );
            }
        }
        Ok(())
    }

    fn meet_expectations(&mut self, client: usize, number: MessageId, message: &Message) {
        let Some(numbers) = self.retained.get(&message.topic) else {
            return;
        };
        let Some(index) = numbers.iter().position(|other| *other == number) else {
            return;
        };
        self.accounts[client]
            .expectations
            .retain(|expected| expected.topic != message.topic || expected.at_least > index);
    }
}

/// The SUBSCRIBEs that a message may have come by.
#[derive(Debug, Default)]
struct Matched {
    own: Vec<Grant>,
    shared: Vec<Grant>,
    groups: Vec<String>,
    /// Not shared, whenever they were in force.
    any: Vec<Grant>,
    /// At least this must have been granted.
    qos_min: Option<QoS>,
    sure_ids: Vec<u32>,
}

impl Matched {
    /// A live copy comes at the lower of what was published and what was granted.
    fn check_qos(&self, number: MessageId, message: &Message, delivery: &Delivery) -> Result<()> {
        let grants = self.own.iter().chain(&self.shared);
        let most = grants.map(|grant| grant.options.qos).max();
        let most = most.unwrap_or_default().min(message.qos);
        let qos = delivery.qos;
        ensure!(qos <= most, "message {number} at {qos:?}, at most {most:?}");
        if let (Some(least), true) = (self.qos_min, self.groups.is_empty()) {
            let least = least.min(message.qos);
            ensure!(
                qos >= least,
                "message {number} at {qos:?}, at least {least:?}"
            );
        }
        Ok(())
    }
}

impl Grant {
    fn asks_retained(&self) -> bool {
        match self.options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => !self.is_old,
            RetainHandling::Never => false,
        }
    }
}
