//! Messages on their way out: who they are for, and what their receivers get to see.
//!
//! Whatever a sender puts into a message goes through as it came, except what only the server may
//! say (`fromUuid`, `event`, `metadata`): readers keep the last of two equal keys, so one that is
//! passed on would be believed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::json;
use crate::refusal::Refusal;
use crate::uuid::Uuid;

/// The most addressees of one message, known ones and others.
pub const DEVICES_MAX: usize = 10_000;

/// What only the server may say.
const RESERVED: [&str; 3] = ["fromUuid", "event", "metadata"];

/// A message or a broadcast of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// The devices it names, in their order, each once.
    pub direct: Vec<Uuid>,
    /// Whether it names `*` or `all`.
    pub is_broadcast: bool,
    /// How many addressees are neither.
    pub unknown: usize,
    /// Its `topic`.
    pub topic: Option<Box<str>>,
    /// `{"devices":…,"fromUuid":…,…}`.
    body: Box<[u8]>,
}

impl Outgoing {
    /// Reads `{"devices":["…"],"topic":…,"payload":…,…}`; `devices` may be one string. A payload of
    /// null is none. `limit` is for the bytes of the payload and of the members that are neither
    /// payload, topic nor devices.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for what is not JSON, is nested too deeply, or has half characters
    /// and numbers that receivers may not be able to read; [`Refusal::Invalid`] without `devices`,
    /// with too many, or with a topic that is not a string; [`Refusal::TooLarge`] above the limit.
    pub fn parse(body: &[u8], from: Uuid, limit: usize) -> Result<Outgoing, Refusal> {
        Outgoing::read(body, from, limit, None)
    }

    /// Reads a body that is broadcast: the same, whatever it says about `devices`. Empty input is
    /// an empty broadcast.
    ///
    /// # Errors
    /// As [`Outgoing::parse`].
    pub fn broadcast(body: &[u8], from: Uuid, limit: usize) -> Result<Outgoing, Refusal> {
        Outgoing::read(body, from, limit, Some(Addressees::everybody()))
    }

    /// Reads a payload that is broadcast, as MQTT devices publish it: any JSON value. Empty input is
    /// no payload.
    ///
    /// # Errors
    /// As [`Outgoing::parse`].
    pub fn broadcast_payload(
        payload: &[u8],
        from: Uuid,
        limit: usize,
    ) -> Result<Outgoing, Refusal> {
        let payload = payload.trim_ascii();
        if payload.is_empty() {
            return Outgoing::broadcast(b"", from, limit);
        }
        // Else `1,"topic":"x"` would be more than a payload.
        let value: &RawValue = serde_json::from_slice(payload).map_err(json::malformed)?;
        let body = [b"{\"payload\":", value.get().as_bytes(), b"}"].concat();
        Outgoing::broadcast(&body, from, limit)
    }

    fn read(
        body: &[u8],
        from: Uuid,
        limit: usize,
        addressees: Option<Addressees<'_>>,
    ) -> Result<Outgoing, Refusal> {
        let Members(members) = members_of(body)?;
        let addressees = match (addressees, find(&members, "devices")) {
            (Some(given), _) => given,
            (None, Some(devices)) => Addressees::parse(devices)?,
            (None, None) => return Err(Refusal::invalid("devices required")),
        };
        let topic = match find(&members, "topic") {
            None => None,
            Some(topic) => serde_json::from_str::<Option<Box<str>>>(topic)
                .map_err(|_| Refusal::invalid("topic must be a string"))?,
        };
        // White space does not count, but is seldom worth looking for.
        let is_too_large = body.len() > limit && size_of(&members) > limit;
        if is_too_large {
            return Err(Refusal::TooLarge);
        }
        let mut out = Vec::with_capacity(body.len() + 64);
        out.extend_from_slice(b"{\"devices\":");
        addressees.write(&mut out);
        out.extend_from_slice(b",\"fromUuid\":");
        from.write_json(&mut out);
        for (name, value) in &members {
            let value = value.get();
            let is_left_out = match &**name {
                "devices" => true,
                "topic" | "payload" => value == "null",
                name => RESERVED.contains(&name),
            };
            if !is_left_out {
                out.push(b',');
                json::write_string(name, &mut out);
                out.push(b':');
                json::write_compact(value, &mut out);
            }
        }
        out.push(b'}');
        Ok(Outgoing {
            direct: addressees.direct,
            is_broadcast: addressees.is_broadcast,
            unknown: addressees.unknown,
            topic,
            body: out.into_boxed_slice(),
        })
    }

    /// What receivers on sockets get: the body, beginning with `"event"`.
    pub fn event(&self, name: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + name.len() + 16);
        out.extend_from_slice(b"{\"event\":");
        json::write_string(name, &mut out);
        out.push(b',');
        out.extend_from_slice(&self.body[1..]);
        out
    }

    /// What receivers by MQTT and webhooks get: `{"devices":[…],"fromUuid":"…",…}`, the devices as
    /// they were sent, and then everything else in its order.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Whom a message names.
struct Addressees<'a> {
    names: Vec<Cow<'a, str>>,
    direct: Vec<Uuid>,
    is_broadcast: bool,
    unknown: usize,
}

impl<'a> Addressees<'a> {
    fn everybody() -> Addressees<'a> {
        Addressees {
            names: vec![Cow::Borrowed("*")],
            direct: Vec::new(),
            is_broadcast: true,
            unknown: 0,
        }
    }

    fn parse(devices: &'a str) -> Result<Addressees<'a>, Refusal> {
        let wrong = |_| Refusal::invalid("devices must be an array of strings");
        let names: Vec<Text<'a>> = if devices.starts_with('"') {
            vec![serde_json::from_str(devices).map_err(wrong)?]
        } else {
            serde_json::from_str(devices).map_err(wrong)?
        };
        if names.len() > DEVICES_MAX {
            let detail = format!("devices must not be more than {DEVICES_MAX}");
            return Err(Refusal::Invalid(detail));
        }
        let names: Vec<_> = names.into_iter().map(|Text(name)| name).collect();
        let mut direct = Vec::with_capacity(names.len());
        let (mut is_broadcast, mut unknown) = (false, 0);
        for name in &names {
            match &**name {
                "*" | "all" => is_broadcast = true,
                name => match Uuid::parse(name) {
                    Some(uuid) => direct.push(uuid),
                    None => unknown += 1,
                },
            }
        }
        Ok(Addressees {
            direct: each_once(direct),
            names,
            is_broadcast,
            unknown,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, name) in self.names.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            json::write_string(name, out);
        }
        out.push(b']');
    }
}

/// The first of each, in their order.
fn each_once(mut uuids: Vec<Uuid>) -> Vec<Uuid> {
    const FEW: usize = 16;
    if uuids.len() <= FEW {
        let mut kept = 0;
        for index in 0..uuids.len() {
            if !uuids[..kept].contains(&uuids[index]) {
                uuids[kept] = uuids[index];
                kept += 1;
            }
        }
        uuids.truncate(kept);
        return uuids;
    }
    let mut seen = std::collections::BTreeSet::new();
    uuids.retain(|uuid| seen.insert(*uuid));
    uuids
}

/// A string that is borrowed where it has no escape sequences.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of an object, their values as they came. Of two with one name the last counts.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

fn members_of(body: &[u8]) -> Result<Members<'_>, Refusal> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Ok(Members(Vec::new()));
    }
    if body[0] != b'{' {
        // Bad JSON is told from JSON of another kind.
        json::parse(body)?;
        return Err(Refusal::invalid("the body must be a JSON object"));
    }
    let text = std::str::from_utf8(body).map_err(|_| Refusal::Malformed("not UTF-8".into()))?;
    let members = serde_json::from_str(text).map_err(json::malformed)?;
    // Raw values are skipped without recursion, so depth is no danger until here.
    json::examine(text)?;
    Ok(members)
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(access.size_hint().unwrap_or(8));
                while let Some((Text(name), value)) = access.next_entry::<Text<'de>, &RawValue>()? {
                    members.push((name, value));
                }
                Ok(Members(last_of_each(members)))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// The last member of each name, where the first was.
fn last_of_each<'a>(
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
) -> Vec<(Cow<'a, str>, &'a RawValue)> {
    const FEW: usize = 16;
    let is_many = members.len() > FEW;
    let mut places = std::collections::BTreeMap::new();
    let mut kept: Vec<(Cow<'a, str>, &'a RawValue)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        let place = if is_many {
            places.get(&name).copied()
        } else {
            kept.iter().position(|(kept, _)| *kept == name)
        };
        match place {
            Some(place) => kept[place].1 = value,
            None => {
                if is_many {
                    places.insert(name.clone(), kept.len());
                }
                kept.push((name, value));
            }
        }
    }
    kept
}

fn find<'a>(members: &[(Cow<'a, str>, &'a RawValue)], wanted: &str) -> Option<&'a str> {
    let found = members.iter().find(|(name, _)| name == wanted);
    found.map(|(_, value)| value.get())
}

/// The bytes that count against the limit: of the payload, and of an object of the other members.
fn size_of(members: &[(Cow<'_, str>, &RawValue)]) -> usize {
    let (mut payload, mut extra) = (0, 0);
    for (name, value) in members {
        let bytes = json::compact_bytes(value.get());
        match &**name {
            "devices" | "topic" => {}
            "payload" if value.get() == "null" => {}
            "payload" => payload = bytes,
            name if RESERVED.contains(&name) => {}
            // Quotes, colon, and a comma or a brace.
            name => extra += name.len() + bytes + 4,
        }
    }
    payload + if extra == 0 { 0 } else { extra + 1 }
}
