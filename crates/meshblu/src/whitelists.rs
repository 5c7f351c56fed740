//! Who may do what with a device: thirteen lists, of which most devices have one of three shapes.
//!
//! Those three take no memory beside the value itself; other lists take one small block for their
//! bounds and one for all entries. Bounded by [`WHITELIST_ENTRIES_MAX`].

use serde_json::{Map, Value, json};

use crate::access::Access;
use crate::record::Reader;
use crate::refusal::Refusal;
use crate::uuid::Uuid;

/// The number of entries that the lists of one device may have together.
pub const WHITELIST_ENTRIES_MAX: usize = 4096;

const LISTS: usize = Access::ALL.len();
const _: () = assert!(WHITELIST_ENTRIES_MAX <= u16::MAX as usize);

/// The whitelists of one device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Whitelists(Shape);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Shape {
    /// Every list is empty.
    Closed,
    /// This entry is alone in every list, except those of acting in the device's name: those are
    /// empty.
    Uniform(Entry),
    /// Never one of the above, so that equal lists are equal values.
    Custom(Box<Custom>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Custom {
    /// Where the list of each access ends in `entries`; it begins where the one before ends.
    ends: [u16; LISTS],
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    Everyone,
    Only(Uuid),
}

impl Entry {
    fn admits(self, actor: Uuid) -> bool {
        match self {
            Entry::Everyone => true,
            Entry::Only(uuid) => uuid == actor,
        }
    }
}

impl Whitelists {
    /// Everybody may do everything, except act in the device's name.
    pub fn open() -> Whitelists {
        Whitelists(Shape::Uniform(Entry::Everyone))
    }

    /// Nobody may do anything.
    pub fn closed() -> Whitelists {
        Whitelists(Shape::Closed)
    }

    /// The owner may do everything, except act in the device's name.
    pub fn private(owner: Uuid) -> Whitelists {
        Whitelists(Shape::Uniform(Entry::Only(owner)))
    }

    /// Reads `{"discover":{"view":[{"uuid":"…"}]}}`. Lists that are not given are empty; an entry
    /// may also be a bare string; `*` is everybody. Categories we do not know are ignored, as
    /// FreshBlu does: they allow nothing.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for any other shape and above [`WHITELIST_ENTRIES_MAX`].
    pub fn from_json(value: &Value) -> Result<Whitelists, Refusal> {
        let categories = value
            .as_object()
            .ok_or_else(|| Refusal::invalid("whitelists must be an object"))?;
        for (category, lists) in categories {
            let is_known = Access::ALL
                .iter()
                .any(|access| access.parts().0 == category);
            if is_known && !lists.is_object() {
                let detail = format!("whitelists.{category} must be an object");
                return Err(Refusal::Invalid(detail));
            }
        }
        let mut entries = Vec::new();
        let mut ends = [0; LISTS];
        for (end, access) in ends.iter_mut().zip(Access::ALL) {
            let (category, name) = access.parts();
            if let Some(list) = categories.get(category).and_then(|lists| lists.get(name)) {
                read_list(access, list, &mut entries)?;
            }
            *end = entries.len() as u16;
        }
        Ok(Whitelists::normal(ends, entries))
    }

    /// The shape with the least memory that says the same.
    fn normal(ends: [u16; LISTS], entries: Vec<Entry>) -> Whitelists {
        let custom = Custom {
            ends,
            entries: entries.into_boxed_slice(),
        };
        Whitelists(match custom.entries.first() {
            None => Shape::Closed,
            Some(&first) if custom.is_uniform(first) => Shape::Uniform(first),
            Some(_) => Shape::Custom(Box::new(custom)),
        })
    }

    /// The full document: every category, every list.
    pub fn to_json(&self) -> Value {
        let mut categories = Map::new();
        for access in Access::ALL {
            let (category, name) = access.parts();
            let entries = self.list(access);
            let list = entries
                .iter()
                .map(|entry| match entry {
                    Entry::Everyone => json!({"uuid": "*"}),
                    Entry::Only(uuid) => json!({"uuid": uuid.to_string()}),
                })
                .collect();
            categories
                .entry(category)
                .or_insert_with(|| Value::Object(Map::new()))[name] = Value::Array(list);
        }
        Value::Object(categories)
    }

    /// Appends what [`Whitelists::to_json`] gives, without building it.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match &self.0 {
            // Most devices are one of these, and every view of a device shows its lists.
            Shape::Closed => out.extend_from_slice(CLOSED_JSON.as_bytes()),
            Shape::Uniform(Entry::Everyone) => out.extend_from_slice(OPEN_JSON.as_bytes()),
            _ => self.write_lists(out),
        }
    }

    fn write_lists(&self, out: &mut Vec<u8>) {
        let mut last_category = "";
        for access in Access::ALL {
            let (category, name) = access.parts();
            if category == last_category {
                out.push(b',');
            } else {
                let before: &[u8] = if last_category.is_empty() {
                    b"{\""
                } else {
                    b"},\""
                };
                out.extend_from_slice(before);
                out.extend_from_slice(category.as_bytes());
                out.extend_from_slice(b"\":{");
                last_category = category;
            }
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":[");
            for (index, entry) in self.list(access).iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(b"{\"uuid\":");
                match entry {
                    Entry::Everyone => out.extend_from_slice(b"\"*\""),
                    Entry::Only(uuid) => uuid.write_json(out),
                }
                out.push(b'}');
            }
            out.push(b']');
        }
        out.extend_from_slice(b"}}");
    }

    /// Whether the lists admit this actor. That a device may do everything with itself is not in
    /// its lists; see [`crate::Device::allows`].
    pub fn allows(&self, access: Access, actor: Uuid) -> bool {
        match &self.0 {
            Shape::Closed => false,
            Shape::Uniform(entry) => !access.is_as() && entry.admits(actor),
            Shape::Custom(custom) => custom.list(access).iter().any(|entry| entry.admits(actor)),
        }
    }

    /// Bytes of memory beside the value itself.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Shape::Custom(custom) => size_of::<Custom>() + size_of_val(&*custom.entries),
            _ => 0,
        }
    }

    fn list(&self, access: Access) -> &[Entry] {
        match &self.0 {
            Shape::Closed => &[],
            Shape::Uniform(_) if access.is_as() => &[],
            Shape::Uniform(entry) => std::slice::from_ref(entry),
            Shape::Custom(custom) => custom.list(access),
        }
    }

    /// Appends a record: a byte for the shape, then what it consists of.
    pub(crate) fn write_record(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Shape::Closed => out.push(CLOSED),
            Shape::Uniform(Entry::Everyone) => out.push(OPEN),
            Shape::Uniform(Entry::Only(owner)) => {
                out.push(PRIVATE);
                out.extend_from_slice(&owner.0);
            }
            Shape::Custom(custom) => {
                out.push(CUSTOM);
                for end in custom.ends {
                    out.extend_from_slice(&end.to_le_bytes());
                }
                for entry in &custom.entries {
                    match entry {
                        Entry::Everyone => out.push(EVERYONE),
                        Entry::Only(uuid) => {
                            out.push(ONLY);
                            out.extend_from_slice(&uuid.0);
                        }
                    }
                }
            }
        }
    }

    /// Reads a record; `None` if it is damaged.
    pub(crate) fn read_record(reader: &mut Reader<'_>) -> Option<Whitelists> {
        match reader.u8()? {
            CLOSED => Some(Whitelists::closed()),
            OPEN => Some(Whitelists::open()),
            PRIVATE => Some(Whitelists::private(reader.uuid()?)),
            CUSTOM => {
                let mut ends = [0; LISTS];
                for end in &mut ends {
                    *end = reader.u16()?;
                }
                let count = usize::from(ends[LISTS - 1]);
                if !ends.is_sorted() || count > WHITELIST_ENTRIES_MAX {
                    return None;
                }
                let mut entries = Vec::with_capacity(count);
                for _ in 0..count {
                    entries.push(match reader.u8()? {
                        EVERYONE => Entry::Everyone,
                        ONLY => Entry::Only(reader.uuid()?),
                        _ => return None,
                    });
                }
                Some(Whitelists::normal(ends, entries))
            }
            _ => None,
        }
    }
}

const CLOSED_JSON: &str = r#"{"discover":{"view":[],"as":[]},"configure":{"update":[],"sent":[],"received":[],"as":[]},"message":{"from":[],"sent":[],"received":[],"as":[]},"broadcast":{"sent":[],"received":[],"as":[]}}"#;
const OPEN_JSON: &str = r#"{"discover":{"view":[{"uuid":"*"}],"as":[]},"configure":{"update":[{"uuid":"*"}],"sent":[{"uuid":"*"}],"received":[{"uuid":"*"}],"as":[]},"message":{"from":[{"uuid":"*"}],"sent":[{"uuid":"*"}],"received":[{"uuid":"*"}],"as":[]},"broadcast":{"sent":[{"uuid":"*"}],"received":[{"uuid":"*"}],"as":[]}}"#;

// What records hold; never to be renumbered.
const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const PRIVATE: u8 = 2;
const CUSTOM: u8 = 3;
const EVERYONE: u8 = 0;
const ONLY: u8 = 1;

impl Custom {
    fn list(&self, access: Access) -> &[Entry] {
        let index = access as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.entries[usize::from(start)..usize::from(self.ends[index])]
    }

    fn is_uniform(&self, entry: Entry) -> bool {
        Access::ALL.into_iter().all(|access| {
            let expected: &[Entry] = if access.is_as() { &[] } else { &[entry] };
            self.list(access) == expected
        })
    }
}

/// Appends the entries of one list.
fn read_list(access: Access, list: &Value, entries: &mut Vec<Entry>) -> Result<(), Refusal> {
    let wrong = |what: &str| Refusal::Invalid(format!("whitelists.{access} {what}"));
    let list = list.as_array().ok_or_else(|| wrong("must be an array"))?;
    if entries.len() + list.len() > WHITELIST_ENTRIES_MAX {
        let detail = format!("whitelists must not have more than {WHITELIST_ENTRIES_MAX} entries");
        return Err(Refusal::Invalid(detail));
    }
    for entry in list {
        let name = entry.get("uuid").unwrap_or(entry).as_str();
        let name = name.ok_or_else(|| wrong("must hold objects with a uuid"))?;
        entries.push(if name == "*" {
            Entry::Everyone
        } else {
            Entry::Only(Uuid::parse(name).ok_or_else(|| wrong("holds what is no uuid"))?)
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid([0xaa; 16]);
    const B: Uuid = Uuid([0xbb; 16]);

    fn read(value: Value) -> Result<Whitelists, Refusal> {
        Whitelists::from_json(&value)
    }

    /// The accesses that B is allowed.
    fn allowed(whitelists: &Whitelists) -> Vec<&'static str> {
        let allowed = Access::ALL.into_iter().filter(|a| whitelists.allows(*a, B));
        allowed.map(Access::name).collect()
    }

    #[test]
    fn common_shapes_take_no_heap_and_are_recognised() {
        let of_everything = Access::ALL.into_iter().filter(|a| !a.is_as());
        let of_everything: Vec<_> = of_everything.map(Access::name).collect();
        for (whitelists, expected) in [
            (Whitelists::open(), &of_everything[..]),
            (Whitelists::closed(), &[]),
            (Whitelists::private(A), &[]),
            (Whitelists::private(B), &of_everything[..]),
        ] {
            assert_eq!(allowed(&whitelists), expected);
            assert_eq!(whitelists.heap_bytes(), 0);
            let mut out = Vec::new();
            whitelists.write_json(&mut out);
            assert_eq!(whitelists.to_json().to_string().into_bytes(), out);
            assert_eq!(read(whitelists.to_json()), Ok(whitelists));
        }
        assert!(size_of::<Whitelists>() <= 24);
    }

    #[test]
    fn what_is_given_counts_alone() {
        let whitelists = read(json!({
            "discover": {"view": [{"uuid": "*"}], "as": [A.to_string()]},
            "message": {"from": ["*"], "as": [{"uuid": B.to_string(), "why": "not kept"}]},
            "cofnigure": {"update": [{"uuid": "*"}]},
        }))
        .unwrap();
        assert_eq!(
            allowed(&whitelists),
            ["discover.view", "message.from", "message.as"]
        );
        assert!(whitelists.allows(Access::DiscoverAs, A));
        assert!(whitelists.heap_bytes() > 0);
        assert_eq!(
            whitelists.to_json()["message"]["as"],
            json!([{"uuid": B.to_string()}])
        );
    }

    #[test]
    fn other_shapes_are_refused() {
        for value in [
            json!(null),
            json!([]),
            json!("*"),
            json!({"discover": []}),
            json!({"discover": {"view": {}}}),
            json!({"discover": {"view": "*"}}),
            json!({"discover": {"view": [1]}}),
            json!({"discover": {"view": [{}]}}),
            json!({"discover": {"view": [{"uuid": 1}]}}),
            json!({"discover": {"view": [{"uuid": "somebody"}]}}),
            json!({"discover": {"view": ["**"]}}),
            json!({"discover": {"view": vec!["*"; WHITELIST_ENTRIES_MAX + 1]}}),
        ] {
            assert!(
                matches!(read(value.clone()), Err(Refusal::Invalid(_))),
                "{value}"
            );
        }
        let most = json!({"discover": {"view": vec!["*"; WHITELIST_ENTRIES_MAX]}});
        assert!(read(most).is_ok());
    }

    #[test]
    fn damaged_records_are_refused() {
        let whitelists = read(json!({"discover": {"view": ["*", A.to_string()]}})).unwrap();
        let mut record = Vec::new();
        whitelists.write_record(&mut record);
        assert_eq!(
            Whitelists::read_record(&mut Reader(&record)),
            Some(whitelists)
        );
        for end in 0..record.len() {
            assert_eq!(Whitelists::read_record(&mut Reader(&record[..end])), None);
        }
        // The ends of lists fall, or there are too many entries.
        for (at, byte) in [(1, 3), (26, 0x7f), (27, 9), (0, 9)] {
            let mut damaged = record.clone();
            damaged[at] = byte;
            assert_eq!(Whitelists::read_record(&mut Reader(&damaged)), None, "{at}");
        }
    }
}
