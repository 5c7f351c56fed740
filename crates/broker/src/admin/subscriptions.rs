//! `/v1/subscriptions`: who wants what.

use super::answers::{Answer, Cursor, Failure, mistaken};
use super::{State, lists};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use serde::Deserialize;
use serde_json::{Value, json};
use shard::console::{
    Place, Question, Report, SubscriptionFilter, SubscriptionRow, is_filter, is_topic,
};
use std::sync::Arc;

/// Which subscriptions are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    client: Option<String>,
    filter: Option<String>,
    topic: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

/// `GET /v1/subscriptions`
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer {
    let Query(wanted) = wanted?;
    if wanted
        .filter
        .as_deref()
        .is_some_and(|text| !is_filter(text))
    {
        return Err(Failure::wrong("filter: not a topic filter"));
    }
    if wanted.topic.as_deref().is_some_and(|text| !is_topic(text)) {
        return Err(Failure::wrong("topic: not a topic"));
    }
    let filter = SubscriptionFilter {
        client_id: wanted.client.as_deref().map(Into::into),
        filter: wanted.filter.as_deref().map(Into::into),
        topic: wanted.topic.as_deref().map(Into::into),
    };
    let question = |cursor: &Cursor, limit| {
        Ok(Question::Subscriptions {
            from: parse(&cursor.rest)?,
            limit,
            filter: filter.clone(),
        })
    };
    let page = |report| match report {
        Report::Subscriptions(rows) => Ok((rows.rows, rows.next.map(write))),
        other => Err(mistaken(&other)),
    };
    let after = wanted.after.as_deref();
    let (rows, next) = lists::read(&state, wanted.limit, after, question, page).await?;
    let rows: Vec<Value> = rows.iter().map(row).collect();
    Ok(Json(json!({ "subscriptions": rows, "next": next })))
}

/// What a list says of a subscription.
pub fn row(subscription: &SubscriptionRow) -> Value {
    let options = subscription.options;
    json!({
        "client": subscription.client_id,
        "connected": subscription.is_connected,
        "share": subscription.share,
        "filter": subscription.filter,
        "qos": options.qos as u8,
        "no_local": options.no_local,
        "retain_as_published": options.retain_as_published,
        "retain_handling": options.retain_handling as u8,
        "id": (subscription.subscription_id != 0).then_some(subscription.subscription_id),
    })
}

fn write(place: Place) -> String {
    let half = if place.is_own { 'o' } else { 's' };
    let left = place.left.map(|left| left.to_string()).unwrap_or_default();
    format!("{}{half}{left}", place.session)
}

fn parse(text: &str) -> Result<Place, Failure> {
    if text.is_empty() {
        return Ok(Place::default());
    }
    let wrong = || Failure::wrong("after: not what a list has given as `next`");
    let at = text.find(['o', 's']).ok_or_else(wrong)?;
    let (session, rest) = text.split_at(at);
    let left = match &rest[1..] {
        "" => None,
        left => Some(left.parse().map_err(|_| wrong())?),
    };
    Ok(Place {
        session: session.parse().map_err(|_| wrong())?,
        is_own: rest.starts_with('o'),
        left,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for text in ["0s", "17o", "4294967295s7"] {
            assert_eq!(write(parse(text).unwrap()), text);
        }
        for nonsense in ["x", "o", "1", "1o1o", "s1", "1s-1", "99999999999s"] {
            assert!(parse(nonsense).is_err(), "{nonsense}");
        }
    }
}
