//! `/v1/explain`: why a message would or would not arrive, one check after the other.

use super::answers::{Answer, Failure, mistaken};
use super::{State, clients, lists, subscriptions};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use serde::Deserialize;
use serde_json::{Value, json};
use shard::console::{
    GroupView, Leave, PublisherView, Question, Report, SubscriberView, SubscriptionRow, is_topic,
};
use std::sync::Arc;

/// Groups that are looked at for one request.
const GROUPS_MAX: usize = 10;

/// Which message, from whom and to whom.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    from: String,
    topic: String,
    to: String,
    qos: Option<u8>,
    bytes: Option<u64>,
}

/// What has been found so far.
#[derive(Default)]
struct Findings {
    checks: Vec<Value>,
    /// What stands in the way.
    obstacle: Option<String>,
    /// What it depends on.
    condition: Option<String>,
}

impl Findings {
    fn good(&mut self, check: &str, detail: impl Into<String>) {
        let detail = detail.into();
        self.checks
            .push(json!({ "check": check, "ok": true, "detail": detail }));
    }

    fn bad(&mut self, check: &str, detail: impl Into<String>) {
        let detail = detail.into();
        self.checks
            .push(json!({ "check": check, "ok": false, "detail": detail }));
        self.obstacle.get_or_insert(detail);
    }

    fn depends(&mut self, check: &str, detail: impl Into<String>) {
        let detail = detail.into();
        self.checks
            .push(json!({ "check": check, "ok": null, "detail": detail }));
        self.condition.get_or_insert(detail);
    }

    fn verdict(self, matches: &[SubscriptionRow]) -> Value {
        let (arrives, why) = match (self.obstacle, self.condition) {
            (Some(why), _) => (Some(false), why),
            (None, Some(why)) => (None, why),
            (None, None) => (Some(true), "nothing stands in its way".to_owned()),
        };
        let matches: Vec<Value> = matches.iter().map(subscriptions::row).collect();
        json!({ "arrives": arrives, "why": why, "checks": self.checks, "matches": matches })
    }
}

/// `GET /v1/explain`
pub async fn explain(
    Shared(state): Shared<Arc<State>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer {
    let Query(wanted) = wanted?;
    let qos = wanted.qos.unwrap_or(0);
    if qos > 2 {
        return Err(Failure::wrong("qos: 0, 1 or 2"));
    }
    let mut findings = Findings::default();
    if !is_topic(&wanted.topic) {
        let what = "it is empty, too long, or has a wildcard or a null character in it";
        findings.bad("topic", format!("this is no topic to publish to: {what}"));
        return Ok(Json(findings.verdict(&[])));
    }
    findings.good("topic", "it is valid");
    let publisher = publisher(&state, &wanted).await?;
    check_publisher(publisher.as_ref(), &wanted, &mut findings);
    let Some(subscriber) = subscriber(&state, &wanted).await? else {
        let what = "no such client as the subscriber: it is not connected and has no session";
        findings.bad("subscriber", what);
        return Ok(Json(findings.verdict(&[])));
    };
    check_subscriber(&subscriber, &mut findings);
    let granted = check_matches(&subscriber, &wanted, &mut findings);
    if let Some(granted) = granted {
        check_room(&subscriber, &wanted, qos.min(granted), &mut findings);
    }
    check_groups(&state, &subscriber, &mut findings).await?;
    Ok(Json(findings.verdict(&subscriber.matches)))
}

async fn publisher(state: &State, wanted: &Wanted) -> Result<Option<PublisherView>, Failure> {
    lists::first(state, |shard| async move {
        let question = Question::ExplainPublisher {
            client_id: wanted.from.as_str().into(),
            topic: wanted.topic.as_str().into(),
        };
        match state.consoles.ask(shard, question).await? {
            Report::Publisher(view) => Ok(view),
            other => Err(mistaken(&other)),
        }
    })
    .await
}

async fn subscriber(
    state: &State,
    wanted: &Wanted,
) -> Result<Option<Box<SubscriberView>>, Failure> {
    lists::first(state, |shard| async move {
        let question = Question::ExplainSubscriber {
            client_id: wanted.to.as_str().into(),
            topic: wanted.topic.as_str().into(),
        };
        match state.consoles.ask(shard, question).await? {
            Report::Subscriber(view) => Ok(view),
            other => Err(mistaken(&other)),
        }
    })
    .await
}

/// Bytes of the PUBLISH, if it is said how many its payload has, at least: without properties, and without the byte that says so in version 5.
fn packet_bytes(wanted: &Wanted) -> Option<u64> {
    let packet_id = if wanted.qos.unwrap_or(0) > 0 { 2 } else { 0 };
    let head = 2 + wanted.topic.len() as u64 + packet_id;
    let remaining = wanted.bytes?.saturating_add(head);
    let length: u64 = match remaining {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    };
    Some(remaining.saturating_add(1 + length))
}

fn check_publisher(publisher: Option<&PublisherView>, wanted: &Wanted, findings: &mut Findings) {
    let Some(publisher) = publisher else {
        let what = "no such client as the publisher: it is not connected and has no session";
        return findings.bad("publisher", what);
    };
    let Some(leave) = publisher.leave else {
        return findings.bad("publisher", "the publisher is not connected");
    };
    findings.good("publisher", "it is connected");
    match leave {
        Leave::Granted => findings.good("permission", "it may publish there"),
        Leave::AsDevice => {
            let what = "it is a message of this device: who hears it is for the device's \
                        subscriptions and whitelists to say";
            findings.depends("permission", what);
        }
        Leave::OnBehalf => {
            let what = "it is a message on behalf of another device: that one's whitelist decides";
            findings.depends("permission", what);
        }
        Leave::Denied => {
            let what = "the publisher may not publish there: the topic is reserved, is a device's, \
                        or belongs to no device and such topics are switched off";
            findings.bad("permission", what);
        }
    }
    let most = u64::from(publisher.packet_bytes_max);
    if packet_bytes(wanted).is_some_and(|packet| packet > most) {
        let what = format!(
            "the broker takes packets of {most} bytes at most (mqtt.packet_bytes_max), and closes the \
             publisher's connection"
        );
        findings.bad("publisher's packet", what);
    }
    if publisher.is_paused {
        let what = "what the publisher sends is not read now, until the store, another shard or its \
                    own output has caught up";
        findings.depends("publisher read", what);
    }
}

fn check_subscriber(subscriber: &SubscriberView, findings: &mut Findings) {
    match subscriber.version {
        Some(version) => {
            let protocol = clients::protocol(version);
            findings.good(
                "subscriber",
                format!("it is connected, with MQTT {protocol}"),
            );
        }
        None => findings.good("subscriber", "it is not connected, and has a session"),
    }
    if subscriber.is_shut_out {
        let what = "the subscriber is a device, and hears nothing of another device's topics";
        findings.bad("device", what);
    }
}

/// The highest quality of service that is granted, if a subscription lets the message through.
fn check_matches(
    subscriber: &SubscriberView,
    wanted: &Wanted,
    findings: &mut Findings,
) -> Option<u8> {
    if subscriber.matches.is_empty() {
        findings.bad(
            "subscriptions",
            match subscriber.is_denied {
                true => {
                    "what would match is a subscription to topics that belong to no device, and \
                     those are switched off (mqtt.free_topics)"
                }
                false => "no subscription of the subscriber matches the topic",
            },
        );
        return None;
    }
    let is_own = wanted.from == wanted.to;
    // No Local does not exist for shared subscriptions. [MQTT-3.8.3-4]
    let passes = |row: &&SubscriptionRow| !(is_own && row.options.no_local && row.share.is_none());
    let passing: Vec<&SubscriptionRow> = subscriber.matches.iter().filter(passes).collect();
    let granted = passing.iter().map(|row| row.options.qos as u8).max();
    match granted {
        Some(qos) => {
            let count = passing.len();
            let plural = if count == 1 { "" } else { "s" };
            let what = format!(
                "{count} subscription{plural} would let it through, with QoS {qos} at most"
            );
            findings.good("subscriptions", what);
        }
        None => {
            let what = "No Local: the subscriber is the publisher, and wants nothing of its own";
            findings.bad("subscriptions", what);
        }
    }
    granted
}

fn check_room(subscriber: &SubscriberView, wanted: &Wanted, qos: u8, findings: &mut Findings) {
    if let Some(packet) = packet_bytes(wanted) {
        let most = u64::from(subscriber.packet_bytes_max);
        match packet > most {
            true => {
                let what = format!("the subscriber takes packets of {most} bytes at most");
                findings.bad("packet size", what);
            }
            false => findings.good("packet size", "the subscriber takes packets of this size"),
        }
    }
    let is_connected = subscriber.version.is_some();
    if qos == 0 {
        if !is_connected {
            let what = "with QoS 0 nothing is kept for a subscriber that is not connected";
            findings.bad("delivery", what);
        } else if subscriber.is_output_full {
            let what = "the subscriber does not read: its output is full, and QoS 0 is dropped";
            findings.bad("delivery", what);
        } else {
            findings.good("delivery", "it is sent at once, with QoS 0");
        }
        return;
    }
    let is_full = subscriber.queue_messages >= subscriber.queue_messages_max
        || subscriber
            .queue_bytes
            .saturating_add(wanted.bytes.unwrap_or(0))
            > subscriber.queue_bytes_max;
    if is_full {
        let what = "the subscriber's queue is full: --queue-full says what is dropped or refused";
        findings.depends("delivery", what);
    } else if !is_connected {
        let what = format!(
            "it waits with QoS {qos} in the queue, behind {} others",
            subscriber.queue_messages
        );
        findings.depends(
            "delivery",
            format!("the subscriber has to connect again: {what}"),
        );
    } else if subscriber.queue_messages > 0 || subscriber.in_flight >= subscriber.in_flight_max {
        let what = format!(
            "{} of {} messages are in flight and {} are queued: it is sent when the subscriber has \
             acknowledged those",
            subscriber.in_flight, subscriber.in_flight_max, subscriber.queue_messages
        );
        findings.depends("delivery", what);
    } else {
        findings.good("delivery", format!("it is sent at once, with QoS {qos}"));
    }
}

/// A message for a group goes to one of its members.
async fn check_groups(
    state: &State,
    subscriber: &SubscriberView,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let has_own = subscriber.matches.iter().any(|row| row.share.is_none());
    let shared = subscriber.matches.iter().filter(|row| row.share.is_some());
    for row in shared.take(GROUPS_MAX) {
        let share = row.share.as_deref().unwrap_or_default();
        let view = group(state, share, &row.filter).await?.unwrap_or_default();
        let name = format!("$share/{share}/{}", row.filter);
        let what = format!(
            "{name} has {} members, {} of them connected: one of those gets each message, in turn",
            view.members, view.connected
        );
        match has_own || view.members <= 1 || (view.connected == 1 && row.is_connected) {
            true => findings.good("shared", what),
            false => findings.depends("shared", what),
        }
    }
    Ok(())
}

async fn group(state: &State, share: &str, filter: &str) -> Result<Option<GroupView>, Failure> {
    lists::first(state, |shard| async move {
        let question = Question::ExplainGroup {
            share: share.into(),
            filter: filter.into(),
        };
        match state.consoles.ask(shard, question).await? {
            Report::Group(view) => Ok(view),
            other => Err(mistaken(&other)),
        }
    })
    .await
}
