//! A device: one JSON document, and what is asked of it so often that it is kept beside the text.
//!
//! A fleet has a million of these, so a document is kept as compact text without what its fields
//! hold already (`uuid`, whitelists, owner, times, hash), and read only to change or to query it.
//! `online` and tokens are not part of it.
//!
//! What clients may set in `meshblu`: `whitelists`, `forwarders`, `publicKey`, and whatever else
//! they like. What they may not, and what is ignored where they try: `version`, `createdAt`,
//! `updatedAt`, `updatedBy`, `hash`, `uuid`, `token`, and `owner`, which a device gets only by
//! being claimed.

use std::borrow::Cow;
use std::num::NonZeroU64;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::access::Access;
use crate::document::{Document, Text};
use crate::forwarder::{self, Forwarder};
use crate::json;
use crate::operators;
use crate::properties;
use crate::record::{Reader, write_text};
use crate::refusal::Refusal;
use crate::time::Timestamp;
use crate::uuid::Uuid;
use crate::whitelists::Whitelists;

/// The most that the text of one document may take, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// What a device is given that names neither whitelists nor `meshblu.version` `"2.0.0"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DefaultWhitelists {
    /// [`Whitelists::open`], as both originals have it.
    #[default]
    Open,
    /// [`Whitelists::closed`]: it has no owner yet, so it is private to itself.
    Private,
}

/// The operator's rules for new devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Registration {
    /// For devices that say nothing about it themselves.
    pub default_whitelists: DefaultWhitelists,
}

/// A registered device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    uuid: Uuid,
    owner: Option<Uuid>,
    whitelists: Whitelists,
    created: Timestamp,
    updated: Option<NonZeroU64>,
    hash: [u8; 32],
    text: Text,
}

const RECORD_VERSION: u8 = 1;
const HAS_OWNER: u8 = 1;

impl Device {
    /// Makes a device of the body of a registration: a JSON object, or nothing. `uuid`, `token` and
    /// `online` in it are ignored, and so is `meshblu.owner`. Dotted keys are kept as they are,
    /// except those in `meshblu`.
    ///
    /// Whitelists that are given count alone. Without them a device that says
    /// `meshblu.version: "2.0.0"` is closed to others, and any other as the rules say.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for what is not JSON; [`Refusal::Invalid`] for anything but an object,
    /// a `type` that is not a string, bad whitelists, and keys that begin with `$`;
    /// [`Refusal::TooLarge`] above [`DOCUMENT_BYTES_MAX`].
    pub fn register(
        body: &[u8],
        uuid: Uuid,
        now: Timestamp,
        rules: &Registration,
    ) -> Result<Device, Refusal> {
        let body = json::parse_object(body)?;
        let says_version_2 = version_of(&body) == Some("2.0.0");
        let mut document = Document::empty();
        document.merge(body)?;
        let default = match rules.default_whitelists {
            _ if says_version_2 => Whitelists::closed(),
            DefaultWhitelists::Private => Whitelists::closed(),
            DefaultWhitelists::Open => Whitelists::open(),
        };
        let (text, whitelists) = document.seal(default)?;
        let mut device = Device {
            uuid,
            owner: None,
            whitelists,
            created: now,
            updated: None,
            hash: [0; 32],
            text,
        };
        device.hash = device.content_hash();
        Ok(device)
    }

    /// Takes over a device from another server: its whole document as that one kept it. As
    /// [`Device::register`], but `meshblu.owner`, `meshblu.createdAt` and `meshblu.updatedAt` count
    /// if they can be read; a device that does not say when it was made was made now.
    ///
    /// # Errors
    /// Those of [`Device::register`].
    pub fn import(
        body: &[u8],
        uuid: Uuid,
        now: Timestamp,
        rules: &Registration,
    ) -> Result<Device, Refusal> {
        let document = json::parse_object(body)?;
        let said = |name: &str| document.get("meshblu")?.get(name)?.as_str();
        let moment = |name| said(name).and_then(Timestamp::parse);
        let mut device = Device::register(body, uuid, now, rules)?;
        device.owner = said("owner").and_then(Uuid::parse);
        device.created = moment("createdAt").unwrap_or(now);
        device.updated = moment("updatedAt").and_then(|updated| NonZeroU64::new(updated.0));
        device.hash = device.content_hash();
        Ok(device)
    }

    /// Its identity.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Who claimed it.
    pub fn owner(&self) -> Option<Uuid> {
        self.owner
    }

    /// Who may do what with it, beside itself.
    pub fn whitelists(&self) -> &Whitelists {
        &self.whitelists
    }

    /// When it was registered.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// When it was last changed; `None` before the first change.
    pub fn updated(&self) -> Option<Timestamp> {
        self.updated.map(|micros| Timestamp(micros.get()))
    }

    /// Its `type`.
    pub fn kind(&self) -> Option<Cow<'_, str>> {
        self.text.kind()
    }

    /// Whether this actor may do that. A device may do everything with itself.
    pub fn allows(&self, access: Access, actor: Uuid) -> bool {
        actor == self.uuid || self.whitelists.allows(access, actor)
    }

    /// Appends the document as clients see it: `uuid`, `online`, `type` if there is one, `meshblu`,
    /// the other properties, and at last `extra`: names, and values that are JSON already.
    pub fn write_view(&self, online: bool, extra: &[(&str, &str)], out: &mut Vec<u8>) {
        out.reserve(self.text.bytes() + 640);
        out.extend_from_slice(b"{\"uuid\":");
        self.uuid.write_json(out);
        let online: &[u8] = if online {
            b",\"online\":true"
        } else {
            b",\"online\":false"
        };
        out.extend_from_slice(online);
        write_members(self.text.kind_member(), out);
        out.extend_from_slice(b",\"meshblu\":");
        self.write_meshblu(out);
        self.write_others(extra, out);
        for (name, value) in extra {
            out.push(b',');
            json::write_string(name, out);
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
        out.push(b'}');
    }

    /// Appends the properties but the type, without those that `extra` replaces.
    fn write_others(&self, extra: &[(&str, &str)], out: &mut Vec<u8>) {
        let members = self.text.other_members();
        let is_replaced = |name: &str| extra.iter().any(|(extra, _)| *extra == name);
        let may_be = |name: &str| members.contains(&format!("\"{name}\":"));
        if !extra.iter().any(|(name, _)| may_be(name)) {
            return write_members(members, out);
        }
        let others = properties::pick(self.text.properties(), |name| {
            name != "type" && !is_replaced(name)
        });
        let others = Value::Object(others).to_string();
        write_members(&others[1..others.len() - 1], out);
    }

    /// Appends the value of `meshblu`, an object.
    pub fn write_meshblu(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"version\":\"2.0.0\",\"createdAt\":\"");
        self.created.write_rfc3339(out);
        if let Some(updated) = self.updated() {
            out.extend_from_slice(b"\",\"updatedAt\":\"");
            updated.write_rfc3339(out);
        }
        out.extend_from_slice(b"\",\"hash\":\"");
        out.extend_from_slice(self.hash().as_bytes());
        out.extend_from_slice(b"\",\"whitelists\":");
        self.whitelists.write_json(out);
        if let Some(owner) = self.owner {
            out.extend_from_slice(b",\"owner\":");
            owner.write_json(out);
        }
        write_members(self.text.meshblu_members(), out);
        out.push(b'}');
    }

    /// `meshblu.hash`: base64 of the SHA-256 of what the document says, whenever it was said. Two
    /// documents that differ in times only have the same.
    pub fn hash(&self) -> String {
        STANDARD.encode(self.hash)
    }

    /// `meshblu.publicKey` as JSON; `null` if there is none.
    pub fn public_key_json(&self) -> String {
        let meshblu = self.text.meshblu();
        let key = (!meshblu.is_empty())
            .then(|| properties::pick(meshblu, |name| name == "publicKey"))
            .and_then(|mut picked| picked.remove("publicKey"));
        key.unwrap_or(Value::Null).to_string()
    }

    /// The device as an update leaves it: [`Device::operate`] if [`Device::is_operators`], and
    /// [`Device::merge`] otherwise.
    ///
    /// # Errors
    /// Those of the two.
    pub fn update(&self, body: &[u8], now: Timestamp) -> Result<Device, Refusal> {
        let body = json::parse_object(body)?;
        if are_operators(&body) {
            self.operate_with(body, now)
        } else {
            self.merge_with(body, now)
        }
    }

    /// The device with these properties: each replaces the one of that name, a dotted name reaches
    /// into it (unless the document has just that dotted name), and `meshblu` is added to by its
    /// own members. `uuid`, `token`, `online` and what clients may not set are ignored.
    ///
    /// # Errors
    /// As [`Device::register`]; [`Refusal::Invalid`] also for a path through a plain value.
    pub fn merge(&self, body: &[u8], now: Timestamp) -> Result<Device, Refusal> {
        self.merge_with(json::parse_object(body)?, now)
    }

    fn merge_with(&self, body: Map<String, Value>, now: Timestamp) -> Result<Device, Refusal> {
        let concerns_meshblu = body
            .keys()
            .any(|key| key.split('.').next() == Some("meshblu"));
        let mut document = self.document(concerns_meshblu);
        document.update(body)?;
        self.sealed(document, now)
    }

    /// The device as `$set`, `$unset`, `$inc`, `$mul` (or `$mult`), `$min`, `$max`, `$currentDate`,
    /// `$rename`, `$push` (`$each`, `$position`, `$slice`), `$pushAll`, `$addToSet`, `$pop`,
    /// `$pull`, `$pullAll` and `$bit` leave it, in the order of the body.
    ///
    /// # Errors
    /// As [`Device::merge`]; [`Refusal::Invalid`] also for an empty body, other keys, paths in
    /// `uuid` or `token`, and operands that do not fit.
    pub fn operate(&self, body: &[u8], now: Timestamp) -> Result<Device, Refusal> {
        self.operate_with(json::parse_object(body)?, now)
    }

    fn operate_with(&self, body: Map<String, Value>, now: Timestamp) -> Result<Device, Refusal> {
        let mut document = self.document(operators::touch_meshblu(&body));
        operators::apply(document.members(), body, now)?;
        self.sealed(document, now)
    }

    /// Whether an update consists of operators: an object with at least one key, all of which
    /// begin with `$`.
    pub fn is_operators(body: &[u8]) -> bool {
        json::parse_object(body).is_ok_and(|body| are_operators(&body))
    }

    /// The device after this owner has claimed it: private to the owner.
    pub fn claimed(&self, owner: Uuid, now: Timestamp) -> Device {
        let claimed = Device {
            owner: Some(owner),
            whitelists: Whitelists::private(owner),
            ..self.clone()
        };
        claimed.touched(now)
    }

    /// What happens beside the delivery when an event of this name (`message.sent`) concerns the
    /// device: at most [`crate::FORWARDERS_MAX`] of the entries in `meshblu.forwarders`.
    pub fn forwarders(&self, event: &str) -> Vec<Forwarder> {
        let meshblu = self.text.meshblu();
        if meshblu.is_empty() {
            return Vec::new();
        }
        let picked = properties::pick(meshblu, |name| name == "forwarders");
        picked
            .get("forwarders")
            .map(|forwarders| forwarder::of_event(forwarders, event))
            .unwrap_or_default()
    }

    /// What is kept of it, all but the uuid.
    pub fn to_record(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.bytes() + 96);
        out.push(RECORD_VERSION);
        out.push(if self.owner.is_some() { HAS_OWNER } else { 0 });
        out.extend_from_slice(&self.created.0.to_le_bytes());
        let updated = self.updated.map_or(0, NonZeroU64::get);
        out.extend_from_slice(&updated.to_le_bytes());
        out.extend_from_slice(&self.hash);
        if let Some(owner) = self.owner {
            out.extend_from_slice(&owner.0);
        }
        self.whitelists.write_record(&mut out);
        write_text(self.text.meshblu(), &mut out);
        write_text(self.text.properties(), &mut out);
        out
    }

    /// Reads a record; `None` if it is damaged or of a later version.
    pub fn from_record(uuid: Uuid, bytes: &[u8]) -> Option<Device> {
        let mut reader = Reader(bytes);
        let (version, flags) = (reader.u8()?, reader.u8()?);
        if version != RECORD_VERSION || flags > HAS_OWNER {
            return None;
        }
        let created = reader.timestamp()?;
        let updated = NonZeroU64::new(reader.u64()?);
        let hash = reader.array()?;
        let owner = if flags == HAS_OWNER {
            Some(reader.uuid()?)
        } else {
            None
        };
        let whitelists = Whitelists::read_record(&mut reader)?;
        let text = Text::of_record(reader.text()?, reader.text()?)?;
        reader.is_at_end().then_some(Device {
            uuid,
            owner,
            whitelists,
            created,
            updated,
            hash,
            text,
        })
    }

    /// Bytes of memory that it takes, itself included, and what an allocator adds.
    pub fn bytes(&self) -> usize {
        const PER_ALLOCATION: usize = 16;
        size_of::<Device>() + self.text.bytes() + self.whitelists.heap_bytes() + PER_ALLOCATION
    }

    /// The properties of those names, and of `meshblu` all, if it is wanted; `uuid` and `online`
    /// like any other.
    pub(crate) fn pick(
        &self,
        online: bool,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Map<String, Value> {
        let mut picked = properties::pick(self.text.properties(), &is_wanted);
        if is_wanted("uuid") {
            picked.insert("uuid".to_owned(), Value::from(self.uuid.to_string()));
        }
        if is_wanted("online") {
            picked.insert("online".to_owned(), Value::from(online));
        }
        if is_wanted("meshblu") {
            let mut text = Vec::new();
            self.write_meshblu(&mut text);
            let meshblu = json::parse(&text).expect("it is JSON, and no deeper than documents are");
            picked.insert("meshblu".to_owned(), meshblu);
        }
        picked
    }

    /// The document to be changed. Without what is in `meshblu`, unless that is concerned: most
    /// updates leave it alone.
    fn document(&self, concerns_meshblu: bool) -> Document {
        let whitelists = concerns_meshblu.then_some(&self.whitelists);
        Document::of(&self.text, whitelists)
    }

    fn sealed(&self, document: Document, now: Timestamp) -> Result<Device, Refusal> {
        let (text, whitelists) = if document.has_meshblu() {
            document.seal(Whitelists::closed())?
        } else {
            (
                document.seal_properties(&self.text)?,
                self.whitelists.clone(),
            )
        };
        let changed = Device {
            text,
            whitelists,
            ..*self
        };
        Ok(changed.touched(now))
    }

    fn touched(mut self, now: Timestamp) -> Device {
        self.updated = Some(NonZeroU64::new(now.0).unwrap_or(NonZeroU64::MIN));
        self.hash = self.content_hash();
        self
    }

    fn content_hash(&self) -> [u8; 32] {
        use sha2::{Digest as _, Sha256};

        let mut whitelists = Vec::new();
        self.whitelists.write_record(&mut whitelists);
        let owner = self.owner.as_ref().map_or(&[][..], |owner| &owner.0);
        let mut hasher = Sha256::new();
        for part in [
            &self.uuid.0[..],
            owner,
            &whitelists,
            self.text.meshblu().as_bytes(),
            self.text.properties().as_bytes(),
        ] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize().into()
    }
}

fn are_operators(body: &Map<String, Value>) -> bool {
    !body.is_empty() && body.keys().all(|key| key.starts_with('$'))
}

fn version_of(body: &Map<String, Value>) -> Option<&str> {
    body.get("meshblu")?.get("version")?.as_str()
}

/// Appends the members of an object, which begin with a comma if there are any.
fn write_members(members: &str, out: &mut Vec<u8>) {
    if !members.is_empty() {
        out.push(b',');
        out.extend_from_slice(members.as_bytes());
    }
}
