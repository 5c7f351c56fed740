//! Which devices a search finds: Meshblu's query language, which is MongoDB's in small.
//!
//! A query is a list of clauses that must all hold. A clause looks at the values at a path: one of
//! them must pass a test, and what is in an array counts as being at its path. What a query may
//! cost is bounded: [`QUERY_BYTES_MAX`], [`QUERY_DEPTH_MAX`], [`TESTS_MAX`] and [`REGEXES_MAX`]
//! when it is read, and [`STEPS_MAX`] per device; a device that takes more does not match.
//!
//! `$regex` is the `regex` crate's dialect, which is linear in time and has no look-around and no
//! back-references: patterns that need those, or more than [`REGEX_MEMORY_MAX`] bytes of memory
//! when compiled, are refused, and texts above [`REGEX_TEXT_MAX`] bytes do not match.

use regex::Regex;
use serde_json::{Map, Value};

use crate::arithmetic::{Budget, compare, equal};
use crate::device::Device;
use crate::path::Path;
use crate::query_parse::Limits;
use crate::refusal::Refusal;
use crate::uuid::Uuid;

/// The largest query, in bytes of its JSON.
pub const QUERY_BYTES_MAX: usize = 64 << 10;
/// How deeply `$and`, `$or`, `$nor`, `$not` and `$elemMatch` may be nested.
pub const QUERY_DEPTH_MAX: usize = 16;
/// The most tests that a query may consist of.
pub const TESTS_MAX: usize = 1000;
/// The most `$regex` that a query may have.
pub const REGEXES_MAX: usize = 8;
/// How many values a query may look at per device.
pub const STEPS_MAX: u32 = 100_000;
/// The most memory that a compiled `$regex` may take, in bytes.
pub const REGEX_MEMORY_MAX: usize = 64 << 10;
/// The longest text that a `$regex` is tried on, in bytes.
pub const REGEX_TEXT_MAX: usize = 4 << 10;

/// A query for devices.
#[derive(Clone, Debug)]
pub struct Query {
    clauses: Vec<Clause>,
}

#[derive(Clone, Debug)]
pub(crate) enum Clause {
    /// Every test holds for the values at the path.
    At(Path, Vec<Test>),
    All(Vec<Query>),
    Any(Vec<Query>),
    None(Vec<Query>),
}

/// What must hold of the values at a path.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    Equal(Value),
    Differs(Value),
    In(Vec<Value>),
    NotIn(Vec<Value>),
    Above(Value),
    AtLeast(Value),
    Below(Value),
    AtMost(Value),
    Exists(bool),
    Matches(Regex),
    Not(Vec<Test>),
    All(Vec<Value>),
    Size(u64),
    Element(Condition),
}

/// What must hold of one value: tests, or a query if it is an object.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Tests(Vec<Test>),
    Object(Query),
}

impl Query {
    /// Reads a query: `{"type":"sensor","temp":{"$gt":20}}`, `$eq $ne $gt $gte $lt $lte $in $nin
    /// $exists $regex $options $not $all $size $elemMatch`, and `$and $or $nor`, on dotted paths
    /// into properties, `uuid`, `online` and `meshblu`. Empty input finds everything. `"true"` and
    /// `"false"` will do for `online`.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for what is not JSON; [`Refusal::Invalid`] for anything but an object,
    /// for unknown operators and wrong operands, and beyond the limits.
    pub fn parse(body: &[u8]) -> Result<Query, Refusal> {
        crate::query_parse::of_body(body)
    }

    /// Reads the pairs of a URL's query, which must all hold: equality of text, except that an
    /// empty value and `null` ask for what is not there, and `online` is true or false.
    ///
    /// # Errors
    /// As [`Query::parse`].
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Query, Refusal> {
        crate::query_parse::of_pairs(pairs)
    }

    /// Finds everything.
    pub fn everything() -> Query {
        Query::of(Vec::new())
    }

    /// Finds the devices that this one has claimed.
    pub fn owned_by(owner: Uuid) -> Query {
        let path = Path::parse("meshblu.owner").expect("it is a path");
        let is_owner = Test::Equal(Value::from(owner.to_string()));
        Query::of(vec![Clause::At(path, vec![is_owner])])
    }

    pub(crate) fn of(clauses: Vec<Clause>) -> Query {
        Query { clauses }
    }

    /// The only device that can match, if the query names one.
    pub fn uuid_of(&self) -> Option<Uuid> {
        self.text_at("uuid").and_then(Uuid::parse)
    }

    /// The only owner ([`Device::owner`]) whose devices can match, if the query names one.
    pub fn owner_of(&self) -> Option<Uuid> {
        self.text_at("meshblu.owner").and_then(Uuid::parse)
    }

    /// The only `type` that can match, if the query names one.
    pub fn kind_of(&self) -> Option<&str> {
        self.text_at("type")
    }

    /// The text that a path must be equal to.
    fn text_at(&self, wanted: &str) -> Option<&str> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::At(path, tests) if path.text() == wanted => tests.iter().find_map(|test| {
                let Test::Equal(Value::String(text)) = test else {
                    return None;
                };
                Some(text.as_str())
            }),
            Clause::All(queries) => queries.iter().find_map(|query| query.text_at(wanted)),
            _ => None,
        })
    }

    /// Whether this device is found, given whether it is online.
    pub fn matches(&self, device: &Device, online: bool) -> bool {
        if self.clauses.is_empty() {
            return true;
        }
        if self.is_ruled_out(device) {
            return false;
        }
        let document = device.pick(online, |name| self.names(name));
        let budget = Budget::new(STEPS_MAX);
        self.holds_in(&document, &budget) && !budget.is_spent()
    }

    /// What can be said without reading the text.
    fn is_ruled_out(&self, device: &Device) -> bool {
        let is_other = |wanted: Option<Uuid>, is: Option<Uuid>| wanted.is_some() && wanted != is;
        is_other(self.uuid_of(), Some(device.uuid()))
            || is_other(self.owner_of(), device.owner())
            || self
                .kind_of()
                .is_some_and(|kind| device.kind().as_deref() != Some(kind))
    }

    /// Whether a path begins with this name, or is it.
    fn names(&self, name: &str) -> bool {
        self.clauses.iter().any(|clause| match clause {
            Clause::At(path, _) => path.root() == name || path.text() == name,
            Clause::All(queries) | Clause::Any(queries) | Clause::None(queries) => {
                queries.iter().any(|query| query.names(name))
            }
        })
    }

    fn holds_in(&self, document: &Map<String, Value>, budget: &Budget) -> bool {
        self.clauses.iter().all(|clause| match clause {
            Clause::At(path, tests) => tests
                .iter()
                .all(|test| test.holds_at(path, document, budget)),
            Clause::All(queries) => queries.iter().all(|query| query.holds_in(document, budget)),
            Clause::Any(queries) => queries.iter().any(|query| query.holds_in(document, budget)),
            Clause::None(queries) => !queries.iter().any(|query| query.holds_in(document, budget)),
        })
    }
}

impl Test {
    fn holds_at(&self, path: &Path, document: &Map<String, Value>, budget: &Budget) -> bool {
        let all_hold = |tests: &[Test]| {
            tests
                .iter()
                .all(|test| test.holds_at(path, document, budget))
        };
        match self {
            Test::Differs(value) => !path.any(document, budget, &mut |found| {
                is_equal(found, value, budget)
            }),
            Test::NotIn(values) => {
                !path.any(document, budget, &mut |found| is_in(found, values, budget))
            }
            Test::Exists(is_wanted) => {
                path.any(document, budget, &mut |found| found.is_some()) == *is_wanted
            }
            Test::Not(tests) => !all_hold(tests),
            Test::All(values) => values.iter().all(|value| {
                path.any(document, budget, &mut |found| {
                    is_equal(found, value, budget)
                })
            }),
            _ => path.any(document, budget, &mut |found| self.admits(found, budget)),
        }
    }

    /// Whether one value passes; `None` for nothing.
    fn admits(&self, found: Option<&Value>, budget: &Budget) -> bool {
        if !budget.spend(1) {
            // Whatever is said now does not count; true ends the search.
            return true;
        }
        let Some(value) = found else {
            return match self {
                Test::Equal(wanted) => wanted.is_null(),
                Test::In(wanted) => wanted.iter().any(Value::is_null),
                Test::Differs(wanted) => !wanted.is_null(),
                Test::NotIn(wanted) => !wanted.iter().any(Value::is_null),
                Test::Exists(is_wanted) => !is_wanted,
                Test::Not(tests) => !tests.iter().all(|test| test.admits(None, budget)),
                _ => false,
            };
        };
        let ordered = |wanted: &Value, is_right: fn(std::cmp::Ordering) -> bool| {
            any_item(
                value,
                |item| compare(item, wanted).is_some_and(is_right),
                budget,
            )
        };
        match self {
            Test::Equal(wanted) => is_equal(found, wanted, budget),
            Test::Differs(wanted) => !is_equal(found, wanted, budget),
            Test::In(wanted) => is_in(found, wanted, budget),
            Test::NotIn(wanted) => !is_in(found, wanted, budget),
            Test::Above(wanted) => ordered(wanted, std::cmp::Ordering::is_gt),
            Test::AtLeast(wanted) => ordered(wanted, std::cmp::Ordering::is_ge),
            Test::Below(wanted) => ordered(wanted, std::cmp::Ordering::is_lt),
            Test::AtMost(wanted) => ordered(wanted, std::cmp::Ordering::is_le),
            Test::Exists(is_wanted) => *is_wanted,
            Test::Matches(regex) => any_item(value, |item| is_match(item, regex, budget), budget),
            Test::Not(tests) => !tests.iter().all(|test| test.admits(found, budget)),
            Test::All(wanted) => wanted.iter().all(|wanted| is_equal(found, wanted, budget)),
            Test::Size(wanted) => value
                .as_array()
                .is_some_and(|items| items.len() as u64 == *wanted),
            Test::Element(condition) => value
                .as_array()
                .is_some_and(|items| items.iter().any(|item| condition.admits(item, budget))),
        }
    }
}

impl Condition {
    /// What `$pull` takes out: values that are equal, pass tests, or are objects that match.
    ///
    /// # Errors
    /// As [`Query::parse`].
    pub(crate) fn parse(operand: &Value, limits: &mut Limits) -> Result<Condition, Refusal> {
        crate::query_parse::condition(operand, 0, limits)
    }

    /// Whether it holds of one value.
    pub(crate) fn admits(&self, value: &Value, budget: &Budget) -> bool {
        match (self, value) {
            (Condition::Tests(tests), _) => {
                tests.iter().all(|test| test.admits(Some(value), budget))
            }
            (Condition::Object(query), Value::Object(object)) => query.holds_in(object, budget),
            (Condition::Object(_), _) => false,
        }
    }
}

/// Whether a value or one of its items passes.
fn any_item(value: &Value, test: impl Fn(&Value) -> bool, budget: &Budget) -> bool {
    // True when the budget is spent, so as to stop at once.
    let passes = |item| !budget.spend(1) || test(item);
    passes(value)
        || value
            .as_array()
            .is_some_and(|items| items.iter().any(passes))
}

/// Whether what was found is equal, or has an item that is. Nothing is equal to null.
fn is_equal(found: Option<&Value>, wanted: &Value, budget: &Budget) -> bool {
    match found {
        None => wanted.is_null(),
        Some(value) => any_item(value, |item| equal(item, wanted, budget), budget),
    }
}

fn is_in(found: Option<&Value>, wanted: &[Value], budget: &Budget) -> bool {
    wanted.iter().any(|wanted| is_equal(found, wanted, budget))
}

fn is_match(value: &Value, regex: &Regex, budget: &Budget) -> bool {
    let Some(text) = value.as_str().filter(|text| text.len() <= REGEX_TEXT_MAX) else {
        return false;
    };
    budget.spend(1 + text.len()) && regex.is_match(text)
}
