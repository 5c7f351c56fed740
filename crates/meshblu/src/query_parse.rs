//! Reading queries. What they mean is in `query.rs`.

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::json;
use crate::path::Path;
use crate::query::{
    Clause, Condition, QUERY_BYTES_MAX, QUERY_DEPTH_MAX, Query, REGEX_MEMORY_MAX, REGEXES_MAX,
    TESTS_MAX, Test,
};
use crate::refusal::Refusal;
use crate::uuid::Uuid;

/// The longest `$regex`, in bytes.
const REGEX_BYTES_MAX: usize = 256;
/// How deeply groups may be nested in a `$regex`.
const REGEX_DEPTH_MAX: u32 = 32;

/// What a query may still consist of.
pub(crate) struct Limits {
    tests: usize,
    regexes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            tests: TESTS_MAX,
            regexes: REGEXES_MAX,
        }
    }
}

impl Limits {
    fn take_test(&mut self) -> Result<(), Refusal> {
        take(&mut self.tests, "too many tests")
    }

    fn take_regex(&mut self) -> Result<(), Refusal> {
        take(&mut self.regexes, "too many patterns")
    }
}

fn take(left: &mut usize, refusal: &str) -> Result<(), Refusal> {
    *left = left
        .checked_sub(1)
        .ok_or_else(|| Refusal::invalid(refusal))?;
    Ok(())
}

pub(crate) fn of_body(body: &[u8]) -> Result<Query, Refusal> {
    if body.len() > QUERY_BYTES_MAX {
        return Err(too_large());
    }
    query(json::parse_object(body)?, 0, &mut Limits::default())
}

pub(crate) fn of_pairs<K: AsRef<str>, V: AsRef<str>>(
    pairs: impl IntoIterator<Item = (K, V)>,
) -> Result<Query, Refusal> {
    let mut clauses = Vec::new();
    let mut limits = Limits::default();
    let mut bytes = 0;
    for (name, value) in pairs {
        let (name, value) = (name.as_ref(), value.as_ref());
        bytes += name.len() + value.len();
        if bytes > QUERY_BYTES_MAX {
            return Err(too_large());
        }
        let test = match value {
            "" | "null" => Test::Exists(false),
            value => Test::Equal(normal(name, Value::from(value))),
        };
        limits.take_test()?;
        clauses.push(Clause::At(Path::parse(name)?, vec![test]));
    }
    Ok(Query::of(clauses))
}

fn too_large() -> Refusal {
    Refusal::Invalid(format!("a query may have {QUERY_BYTES_MAX} bytes"))
}

fn query(object: Map<String, Value>, depth: usize, limits: &mut Limits) -> Result<Query, Refusal> {
    if depth > QUERY_DEPTH_MAX {
        let detail = format!("a query may be nested {QUERY_DEPTH_MAX} levels deep");
        return Err(Refusal::Invalid(detail));
    }
    let mut clause = |(key, value): (String, Value)| {
        Ok(match key.as_str() {
            "$and" => Clause::All(queries(&key, value, depth + 1, limits)?),
            "$or" => Clause::Any(queries(&key, value, depth + 1, limits)?),
            "$nor" => Clause::None(queries(&key, value, depth + 1, limits)?),
            _ if key.starts_with('$') => return Err(unknown(&key)),
            _ => {
                let path = Path::parse(&key)?;
                let tests = tests(&key, value, depth, limits)?;
                Clause::At(path, tests)
            }
        })
    };
    let clauses: Result<Vec<_>, Refusal> = object.into_iter().map(&mut clause).collect();
    Ok(Query::of(clauses?))
}

fn queries(
    operator: &str,
    value: Value,
    depth: usize,
    limits: &mut Limits,
) -> Result<Vec<Query>, Refusal> {
    let wrong = || Refusal::Invalid(format!("{operator} needs an array of queries"));
    let Value::Array(items) = value else {
        return Err(wrong());
    };
    if items.is_empty() {
        return Err(wrong());
    }
    let mut read = |item| match item {
        Value::Object(object) => query(object, depth, limits),
        _ => Err(wrong()),
    };
    items.into_iter().map(&mut read).collect()
}

/// The tests that the value of a path stands for: operators if all of its keys are, else equality.
fn tests(
    path: &str,
    value: Value,
    depth: usize,
    limits: &mut Limits,
) -> Result<Vec<Test>, Refusal> {
    match value {
        Value::Object(object) if object.keys().any(|key| key.starts_with('$')) => {
            operators(path, object, depth, limits)
        }
        value => {
            limits.take_test()?;
            Ok(vec![Test::Equal(normal(path, value))])
        }
    }
}

fn operators(
    path: &str,
    object: Map<String, Value>,
    depth: usize,
    limits: &mut Limits,
) -> Result<Vec<Test>, Refusal> {
    if depth > QUERY_DEPTH_MAX {
        let detail = format!("a query may be nested {QUERY_DEPTH_MAX} levels deep");
        return Err(Refusal::Invalid(detail));
    }
    let options = object.get("$options").cloned();
    if options.is_some() && !object.contains_key("$regex") {
        return Err(Refusal::invalid("$options needs a $regex"));
    }
    let mut tests = Vec::with_capacity(object.len());
    for (key, value) in object {
        limits.take_test()?;
        let one = |value| normal(path, value);
        let many = |value| list(&key, value, path);
        tests.push(match key.as_str() {
            "$eq" => Test::Equal(one(value)),
            "$ne" => Test::Differs(one(value)),
            "$gt" => Test::Above(one(value)),
            "$gte" => Test::AtLeast(one(value)),
            "$lt" => Test::Below(one(value)),
            "$lte" => Test::AtMost(one(value)),
            "$in" => Test::In(many(value)?),
            "$nin" => Test::NotIn(many(value)?),
            "$all" => Test::All(many(value)?),
            "$exists" => Test::Exists(truth(&value)?),
            "$regex" => {
                limits.take_regex()?;
                Test::Matches(regex(&value, options.as_ref())?)
            }
            "$options" => continue,
            "$not" => Test::Not(negated(path, value, depth + 1, limits)?),
            "$size" => Test::Size(
                value
                    .as_u64()
                    .ok_or_else(|| Refusal::invalid("$size needs a whole number"))?,
            ),
            "$elemMatch" => match value {
                Value::Object(_) => Test::Element(condition(&value, depth + 1, limits)?),
                _ => return Err(Refusal::invalid("$elemMatch needs an object")),
            },
            _ => return Err(unknown(&key)),
        });
    }
    Ok(tests)
}

fn negated(
    path: &str,
    value: Value,
    depth: usize,
    limits: &mut Limits,
) -> Result<Vec<Test>, Refusal> {
    match value {
        Value::Object(object) if !object.is_empty() => operators(path, object, depth, limits),
        _ => Err(Refusal::invalid("$not needs operators")),
    }
}

/// A condition on one value.
pub(crate) fn condition(
    operand: &Value,
    depth: usize,
    limits: &mut Limits,
) -> Result<Condition, Refusal> {
    match operand {
        Value::Object(object) => {
            let is_field = |key: &String| {
                !key.starts_with('$') || matches!(key.as_str(), "$and" | "$or" | "$nor")
            };
            if object.keys().all(is_field) {
                query(object.clone(), depth, limits).map(Condition::Object)
            } else {
                operators("", object.clone(), depth, limits).map(Condition::Tests)
            }
        }
        value => Ok(Condition::Tests(vec![Test::Equal(value.clone())])),
    }
}

/// The value as documents have it at this path: UUIDs in one spelling, `online` a truth value.
fn normal(path: &str, value: Value) -> Value {
    match (path, value.as_str()) {
        ("online", Some("true")) => Value::Bool(true),
        ("online", Some("false")) => Value::Bool(false),
        ("uuid" | "meshblu.owner", Some(text)) => match Uuid::parse(text) {
            Some(uuid) => Value::from(uuid.to_string()),
            None => value,
        },
        _ => value,
    }
}

fn list(operator: &str, value: Value, path: &str) -> Result<Vec<Value>, Refusal> {
    match value {
        Value::Array(items) => Ok(items.into_iter().map(|item| normal(path, item)).collect()),
        _ => Err(Refusal::Invalid(format!("{operator} needs an array"))),
    }
}

/// What MongoDB takes for true: anything but false, null and 0.
fn truth(value: &Value) -> Result<bool, Refusal> {
    match value {
        Value::Bool(is_true) => Ok(*is_true),
        Value::Null => Ok(false),
        Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
        _ => Err(Refusal::invalid("$exists needs true or false")),
    }
}

fn regex(pattern: &Value, options: Option<&Value>) -> Result<Regex, Refusal> {
    let wrong = |detail: &str| Refusal::Invalid(format!("$regex {detail}"));
    let pattern = pattern.as_str().ok_or_else(|| wrong("needs a string"))?;
    if pattern.len() > REGEX_BYTES_MAX {
        return Err(wrong("is too long"));
    }
    let mut builder = RegexBuilder::new(pattern);
    builder
        .size_limit(REGEX_MEMORY_MAX)
        .dfa_size_limit(REGEX_MEMORY_MAX)
        .nest_limit(REGEX_DEPTH_MAX);
    let options = options.map_or(Some(""), Value::as_str);
    for option in options
        .ok_or_else(|| wrong("needs a string of $options"))?
        .chars()
    {
        match option {
            'i' => builder.case_insensitive(true),
            'm' => builder.multi_line(true),
            's' => builder.dot_matches_new_line(true),
            'x' => builder.ignore_whitespace(true),
            _ => return Err(wrong("knows the options i, m, s and x")),
        };
    }
    let too_much = |_| wrong("is not a pattern that we can match within bounds");
    builder.build().map_err(too_much)
}

fn unknown(operator: &str) -> Refusal {
    let shown: String = operator.chars().take(32).collect();
    Refusal::Invalid(format!("unknown operator {shown}"))
}
