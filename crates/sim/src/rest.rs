//! What must have arrived once everything has come to rest.

use crate::ledger::{Account, Group, Ledger, Message, MessageId, Subscription, fits, matches};
use anyhow::{Result, bail, ensure};
use mqtt_v5_codec::QoS;

/// At the end, when everything has come to rest.
impl Ledger {
    /// Every message that had to arrive has arrived; with tiny limits, no more are missing than
    /// shards have counted as dropped.
    ///
    /// # Errors
    /// One is missing, or too many are.
    pub fn check_complete(
        &self,
        is_due: &dyn Fn(MessageId) -> bool,
        is_online: &dyn Fn(usize) -> bool,
        dropped: u64,
    ) -> Result<()> {
        let mut missing = 0;
        for (number, message) in self.messages.iter().enumerate() {
            let is_empty = message.is_clearing || message.expiry_s.is_some();
            if is_empty || message.qos == QoS::AtMostOnce || !is_due(number) {
                continue;
            }
            for (client, account) in self.accounts.iter().enumerate() {
                let result = self.check_arrived(number, message, client, account);
                if self.is_lossy {
                    missing += u64::from(result.is_err() && is_online(client));
                } else {
                    result?;
                }
            }
            for (name, group) in self.groups.iter().filter(|_| !self.is_lossy) {
                self.check_shared(number, message, name, group)?;
            }
        }
        ensure!(
            missing <= dropped,
            "{missing} messages are missing, {dropped} counted as dropped"
        );
        for (client, account) in self.accounts.iter().enumerate() {
            if let Some(missing) = account.expectations.first() {
                bail!("client {client} never got the retained message: {missing:?}");
            }
        }
        Ok(())
    }

    fn check_arrived(
        &self,
        number: MessageId,
        message: &Message,
        client: usize,
        account: &Account,
    ) -> Result<()> {
        let must = |subscription: &&Subscription| {
            subscription.group.is_none()
                && subscription.is_certain_since(message.sent.step)
                && subscription.lets_pass(message, client)
                && subscription.qos_min() > QoS::AtMostOnce
        };
        let due = account.subscriptions.values().find(must);
        let has = account
            .seen
            .get(&number)
            .is_some_and(|seen| seen.live + seen.unclear > 0);
        if let (Some(subscription), false, true) = (due, has, fits(message, account.packet_max)) {
            bail!(
                "message {number} of client {} to {} never reached client {client}, which had \
                 subscribed to {} before",
                message.publisher,
                message.topic,
                subscription.filter
            );
        }
        Ok(())
    }

    fn check_shared(
        &self,
        number: MessageId,
        message: &Message,
        name: &str,
        group: &Group,
    ) -> Result<()> {
        if self.is_troubled(name, message.sent.step) || group.reached.contains(&number) {
            return Ok(());
        }
        let members: Vec<(&Subscription, &Account, usize)> = self
            .accounts
            .iter()
            .enumerate()
            .filter_map(|(client, account)| {
                account
                    .subscriptions
                    .get(name)
                    .map(|one| (one, account, client))
            })
            .collect();
        let is_due = members.iter().any(|(one, _, client)| {
            one.is_certain_since(message.sent.step) && one.lets_pass(message, *client)
        });
        let is_taken = members.iter().all(|(one, account, _)| {
            one.qos_min() > QoS::AtMostOnce && fits(message, account.packet_max)
        });
        ensure!(
            !is_due || !is_taken,
            "message {number} reached nobody of the group {name}"
        );
        Ok(())
    }

    /// Whether a message must be kept for somebody, and whether it may have to be. `is_kept` says
    /// whose sessions are.
    pub(crate) fn needs_disk(
        &self,
        number: MessageId,
        has_vandals: bool,
        is_kept: &dyn Fn(usize) -> bool,
    ) -> (bool, bool) {
        let message = &self.messages[number];
        // A vandal may have a session that is kept, and any subscription.
        let (mut must, mut may) = (false, has_vandals);
        for (client, account) in self.accounts.iter().enumerate() {
            for subscription in account.subscriptions.values() {
                let is_match = matches(&subscription.filter, &message.topic);
                may |= is_match && (is_kept(client) || subscription.group.is_some());
                must |= is_kept(client)
                    && subscription.group.is_none()
                    && subscription.is_certain_since(message.sent.step)
                    && subscription.lets_pass(message, client)
                    && subscription.qos_min() > QoS::AtMostOnce;
            }
        }
        (must, may)
    }

    /// A message sent in a kind world has reached every subscriber, at any quality.
    ///
    /// # Errors
    /// It has not.
    pub fn check_everywhere(&self, number: MessageId) -> Result<()> {
        self.check_present(number, &|_| true)
    }

    /// Whether a group may have been offered a message.
    pub(crate) fn is_shared(&self, number: MessageId) -> bool {
        let topic = &self.messages[number].topic;
        let accounts = self.accounts.iter();
        let mut all = accounts.flat_map(|account| account.subscriptions.values());
        all.any(|one| one.group.is_some() && matches(&one.filter, topic))
    }

    /// Whether a client subscribes, at QoS 2, to the topic of a will at QoS 2.
    pub(crate) fn may_hear_exact_will(&self, client: usize) -> bool {
        let wills = self
            .messages
            .iter()
            .filter(|one| one.is_will && one.qos == QoS::ExactlyOnce);
        let subscriptions = &self.accounts[client].subscriptions;
        let mut topics = wills.map(|will| &will.topic);
        topics.any(|topic| {
            subscriptions
                .values()
                .any(|one| matches(&one.filter, topic))
        })
    }

    /// A message has reached those of its subscribers that are there.
    ///
    /// # Errors
    /// It has not.
    pub(crate) fn check_present(
        &self,
        number: MessageId,
        is_there: &dyn Fn(usize) -> bool,
    ) -> Result<()> {
        let message = &self.messages[number];
        for (client, account) in self.accounts.iter().enumerate() {
            let has = account
                .seen
                .get(&number)
                .is_some_and(|seen| seen.live + seen.unclear > 0);
            let is_due = is_there(client)
                && fits(message, account.packet_max)
                && account.subscriptions.values().any(|subscription| {
                    subscription.group.is_none()
                        && subscription.is_certain_since(message.sent.step)
                        && subscription.lets_pass(message, client)
                });
            ensure!(
                has || !is_due || self.is_lossy,
                "message {number} to {} at {:?} never reached client {client}",
                message.topic,
                message.qos
            );
        }
        Ok(())
    }
}
