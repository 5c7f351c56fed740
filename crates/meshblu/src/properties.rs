//! Reading some properties of a document's text without building the others.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The properties of those names. The text is a JSON object that we wrote ourselves.
pub(crate) fn pick(object: &str, is_wanted: impl Fn(&str) -> bool) -> Map<String, Value> {
    let mut reader = serde_json::Deserializer::from_str(object);
    // Its depth was looked at when it was made; serde_json's own limit is a level below ours.
    reader.disable_recursion_limit();
    reader
        .deserialize_map(Pick(is_wanted))
        .expect("the text of a document is a JSON object")
}

struct Pick<F>(F);

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Pick<F> {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut picked = Map::new();
        while let Some(key) = access.next_key_seed(Key(&self.0))? {
            match key {
                Some(key) => _ = picked.insert(key, access.next_value()?),
                None => _ = access.next_value::<IgnoredAny>()?,
            }
        }
        Ok(picked)
    }
}

/// A key, if it is wanted.
struct Key<'a, F>(&'a F);

impl<'de, F: Fn(&str) -> bool> DeserializeSeed<'de> for Key<'_, F> {
    type Value = Option<String>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<F: Fn(&str) -> bool> Visitor<'_> for Key<'_, F> {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok((self.0)(key).then(|| key.to_owned()))
    }
}
