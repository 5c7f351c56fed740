//! Topic aliases, those that a client gave and those that we give. [MQTT-3.3.2-7] to [MQTT-3.3.2-12]
//!
//! Bounded by `topic_alias_maximum` and `client_alias_max`.

use crate::connection::Connection;
use mqtt_v5_codec::{DecodeError, Outgoing, ReasonCode};

/// Applies a topic alias (3.3.2.3.4): remembers it when the topic comes along, or takes the topic
/// that it stands for out of the table. Returns the topic if `topic` is not it.
pub(crate) fn resolve_alias(
    connection: &mut Connection,
    topic: &str,
    alias: Option<u16>,
    maximum: u16,
) -> Result<Option<Box<str>>, DecodeError> {
    let invalid = |detail| DecodeError {
        reason: ReasonCode::TopicAliasInvalid,
        detail,
    };
    let Some(alias) = alias else { return Ok(None) };
    if alias == 0 || alias > maximum {
        // [MQTT-3.3.2-8], [MQTT-3.3.2-9]
        return Err(invalid("topic alias is 0 or above our maximum"));
    }
    let aliases = &mut connection.extra_mut().aliases_in;
    let at = alias as usize - 1;
    if at >= aliases.len() {
        aliases.resize_with(at + 1, || None);
    }
    let known = aliases[at].take();
    if topic.is_empty() {
        return known
            .map(Some)
            .ok_or_else(|| invalid("topic alias is not known"));
    }
    // Kept as it is when it stands for this topic already.
    let is_same = known.as_deref() == Some(topic);
    Ok(Some(
        known.filter(|_| is_same).unwrap_or_else(|| topic.into()),
    ))
}

/// Gives a topic an alias, or uses the one it has. An alias is remembered only if the packet that
/// introduces it can be sent: returns false if it would be too large.
pub(crate) fn apply_alias(
    connection: &mut Connection,
    special: &mut Outgoing<'_>,
    room: usize,
) -> bool {
    let fixed = special.payload.len() + special.forwarded.len() + special.topic.len() + 64;
    let Some(out) = connection
        .extra
        .as_mut()
        .and_then(|extra| extra.aliases_out.as_mut())
    else {
        return true;
    };
    if let Some(alias) = out.aliases.get(special.topic) {
        special.topic_alias = Some(*alias);
        special.topic = "";
        return true;
    }
    // An upper bound of the packet's length: near the client's limit no alias is introduced, so
    // that a packet that is dropped never took one with it.
    if (out.aliases.len() as u16) < out.maximum
        && fixed + 5 * special.subscription_ids.len() <= room
    {
        let alias = out.aliases.len() as u16 + 1;
        out.aliases.insert(special.topic.into(), alias);
        special.topic_alias = Some(alias);
    }
    true
}
