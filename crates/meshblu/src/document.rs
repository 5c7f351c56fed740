//! The text of a document, and the document while it is being changed.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::device::DOCUMENT_BYTES_MAX;
use crate::json;
use crate::path::Path;
use crate::refusal::Refusal;
use crate::whitelists::Whitelists;

/// What clients cannot set in `meshblu`: the server does, or nobody.
const PROTECTED: [&str; 8] = [
    "version",
    "createdAt",
    "updatedAt",
    "updatedBy",
    "hash",
    "owner",
    "uuid",
    "token",
];

/// What clients cannot set in a document.
const NO_PROPERTIES: [&str; 3] = ["uuid", "token", "online"];

/// What a device keeps as text: first the members of `meshblu` that are kept nowhere else, an
/// object or nothing; then the properties, an object that begins with `type` if there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Text {
    text: Box<str>,
    /// Where the properties begin.
    meshblu_end: u32,
    /// Where the member `type` ends; where it would begin if there is none.
    kind_end: u32,
}

impl Default for Text {
    fn default() -> Text {
        Text::join("", "{}", None)
    }
}

const KIND: &str = "{\"type\":";

impl Text {
    /// Joins two texts that are known to be sound; `kind_bytes` is the length of the value of
    /// `type`, the first property.
    fn join(meshblu: &str, properties: &str, kind_bytes: Option<usize>) -> Text {
        let meshblu_end = meshblu.len();
        let kind_end = meshblu_end + kind_bytes.map_or(1, |bytes| KIND.len() + bytes);
        let text = [meshblu, properties].concat().into_boxed_str();
        let position = |at| u32::try_from(at).expect("a document is far below 4 GiB");
        assert!(kind_end < text.len(), "the properties end with a brace");
        Text {
            meshblu_end: position(meshblu_end),
            kind_end: position(kind_end),
            text,
        }
    }

    /// Joins the two texts of a record; `None` if they are not JSON objects. A store checks its
    /// pages, and there may be a million records to read, so it is not looked for more.
    pub(crate) fn of_record(meshblu: &str, properties: &str) -> Option<Text> {
        if meshblu.len() + properties.len() > DOCUMENT_BYTES_MAX {
            return None;
        }
        let is_sound = |text: &str| {
            (text.starts_with("{\"") || text == "{}")
                && text.ends_with('}')
                && json::depth(text.as_bytes()) <= json::DEPTH_MAX
                && serde_json::from_str::<IgnoredAny>(text).is_ok()
        };
        if !(is_sound(properties) && (meshblu.is_empty() || is_sound(meshblu))) {
            return None;
        }
        let kind_bytes = match properties.strip_prefix(KIND) {
            None => None,
            Some(value) => Some(json::string_bytes(value)?),
        };
        Some(Text::join(meshblu, properties, kind_bytes))
    }

    /// The object, or nothing.
    pub(crate) fn meshblu(&self) -> &str {
        &self.text[..self.meshblu_end as usize]
    }

    /// The object.
    pub(crate) fn properties(&self) -> &str {
        &self.text[self.meshblu_end as usize..]
    }

    /// The members of `meshblu`, without braces.
    pub(crate) fn meshblu_members(&self) -> &str {
        let members = self.meshblu().strip_prefix('{');
        members
            .and_then(|members| members.strip_suffix('}'))
            .unwrap_or_default()
    }

    /// `"type":"…"`, or nothing.
    pub(crate) fn kind_member(&self) -> &str {
        &self.text[self.meshblu_end as usize + 1..self.kind_end as usize]
    }

    /// The properties but the type, without braces.
    pub(crate) fn other_members(&self) -> &str {
        let members = &self.text[self.kind_end as usize..self.text.len() - 1];
        members.strip_prefix(',').unwrap_or(members)
    }

    pub(crate) fn kind(&self) -> Option<Cow<'_, str>> {
        let value = self.kind_member().get(KIND.len() - 1..)?;
        let inner = &value[1..value.len() - 1];
        if !inner.contains('\\') {
            return Some(Cow::Borrowed(inner));
        }
        let kind = serde_json::from_str(value).expect("the type is a JSON string");
        Some(Cow::Owned(kind))
    }

    /// Bytes of memory beside the value itself.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }
}

/// A document while it is being changed: the properties, with `meshblu` among them if that is
/// concerned, and in it the whitelists.
pub(crate) struct Document {
    members: Map<String, Value>,
    has_meshblu: bool,
}

impl Document {
    /// What a registration adds to. It has no whitelists yet.
    pub(crate) fn empty() -> Document {
        Document {
            members: Map::new(),
            has_meshblu: true,
        }
    }

    /// What an update changes; with `meshblu` if whitelists are given.
    pub(crate) fn of(text: &Text, whitelists: Option<&Whitelists>) -> Document {
        let object = |text: &str| {
            json::parse_object(text.as_bytes()).expect("the text of a document is a JSON object")
        };
        let mut members = object(text.properties());
        if let Some(whitelists) = whitelists {
            let mut meshblu = object(text.meshblu());
            meshblu.insert("whitelists".to_owned(), whitelists.to_json());
            members.insert("meshblu".to_owned(), Value::Object(meshblu));
        }
        Document {
            members,
            has_meshblu: whitelists.is_some(),
        }
    }

    pub(crate) fn has_meshblu(&self) -> bool {
        self.has_meshblu
    }

    pub(crate) fn members(&mut self) -> &mut Map<String, Value> {
        &mut self.members
    }

    /// Takes in the body of a registration.
    pub(crate) fn merge(&mut self, body: Map<String, Value>) -> Result<(), Refusal> {
        for (key, value) in body {
            refuse_operator(&key)?;
            match key.split_once('.') {
                None if key == "meshblu" => self.merge_meshblu(value)?,
                Some(("meshblu", name)) => self.set_in_meshblu(name, value)?,
                _ => _ = self.members.insert(key, value),
            }
        }
        Ok(())
    }

    /// Takes in the body of an update.
    pub(crate) fn update(&mut self, body: Map<String, Value>) -> Result<(), Refusal> {
        for (key, value) in body {
            refuse_operator(&key)?;
            match key.split_once('.') {
                None if key == "meshblu" => self.merge_meshblu(value)?,
                Some(("meshblu", name)) => self.set_in_meshblu(name, value)?,
                None => _ = self.members.insert(key, value),
                Some((root, _)) if NO_PROPERTIES.contains(&root) => {}
                Some(_) => {
                    let path = Path::parse(&key)?;
                    path.edit(&mut self.members, true, |_| Ok(Some(value)))?;
                }
            }
        }
        Ok(())
    }

    fn merge_meshblu(&mut self, value: Value) -> Result<(), Refusal> {
        match value {
            Value::Null => Ok(()),
            Value::Object(fields) => fields
                .into_iter()
                .try_for_each(|(name, value)| self.set_in_meshblu(&name, value)),
            _ => Err(Refusal::invalid("meshblu must be an object")),
        }
    }

    fn set_in_meshblu(&mut self, name: &str, value: Value) -> Result<(), Refusal> {
        let root = name.split('.').next().unwrap_or(name);
        if PROTECTED.contains(&root) || (name == "whitelists" && value.is_null()) {
            return Ok(());
        }
        let path = Path::parse(&format!("meshblu.{name}"))?;
        path.edit(&mut self.members, true, |_| Ok(Some(value)))
    }

    /// The text and the whitelists, if the document has `meshblu`; `missing` stands for whitelists
    /// that are not there.
    pub(crate) fn seal(mut self, missing: Whitelists) -> Result<(Text, Whitelists), Refusal> {
        assert!(self.has_meshblu, "whitelists are known only with `meshblu`");
        let mut meshblu = match self.members.shift_remove("meshblu") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(meshblu)) => meshblu,
            Some(_) => return Err(Refusal::invalid("meshblu must be an object")),
        };
        let whitelists = match meshblu.shift_remove("whitelists") {
            None | Some(Value::Null) => missing,
            Some(given) => Whitelists::from_json(&given)?,
        };
        meshblu.retain(|name, _| !PROTECTED.contains(&name.as_str()));
        // Within the document it is one level further down.
        if meshblu
            .values()
            .any(|value| json::depth_of(value) + 2 > json::DEPTH_MAX)
        {
            return Err(json::too_deep());
        }
        let kept = if meshblu.is_empty() {
            String::new()
        } else {
            Value::Object(meshblu).to_string()
        };
        Ok((self.seal_with(&kept)?, whitelists))
    }

    /// The text, with what the old one has in `meshblu`.
    pub(crate) fn seal_properties(self, old: &Text) -> Result<Text, Refusal> {
        assert!(!self.has_meshblu, "`meshblu` would be lost");
        self.seal_with(old.meshblu())
    }

    fn seal_with(mut self, meshblu: &str) -> Result<Text, Refusal> {
        self.members
            .retain(|name, _| name != "meshblu" && !NO_PROPERTIES.contains(&name.as_str()));
        let kind_bytes = match self.members.shift_remove("type") {
            None | Some(Value::Null) => None,
            Some(kind @ Value::String(_)) => {
                let bytes = kind.to_string().len();
                self.members.shift_insert(0, "type".to_owned(), kind);
                Some(bytes)
            }
            Some(_) => return Err(Refusal::invalid("type must be a string")),
        };
        let properties = Value::Object(self.members);
        if json::depth_of(&properties) > json::DEPTH_MAX {
            return Err(json::too_deep());
        }
        let properties = properties.to_string();
        if meshblu.len() + properties.len() > DOCUMENT_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        Ok(Text::join(meshblu, &properties, kind_bytes))
    }
}

fn refuse_operator(key: &str) -> Result<(), Refusal> {
    if key.starts_with('$') {
        let detail = "properties and $operators cannot be mixed, nor can names begin with $";
        return Err(Refusal::invalid(detail));
    }
    Ok(())
}
