//! Comparing and calculating with JSON values, as MongoDB's operators do.

use std::cell::Cell;
use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::refusal::Refusal;

/// How many values may still be looked at, so that no query costs more than its share. Once it is
/// used up, answers mean nothing: whoever made it asks [`Budget::is_spent`] in the end.
pub(crate) struct Budget(Cell<u32>);

impl Budget {
    pub(crate) fn new(steps: u32) -> Budget {
        Budget(Cell::new(steps))
    }

    /// Takes that many steps; false once they are used up.
    pub(crate) fn spend(&self, steps: usize) -> bool {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.0.set(self.0.get().saturating_sub(steps));
        !self.is_spent()
    }

    /// Whether it is used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }
}

/// Whether two values say the same: 1 is 1.0, and the order of keys does not matter. Two values
/// that are too large to compare within the budget are not equal.
pub(crate) fn equal(one: &Value, other: &Value, budget: &Budget) -> bool {
    if !budget.spend(1) {
        return false;
    }
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare_numbers(one, other).is_eq(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| equal(a, b, budget))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_in_other = |(key, value)| {
                let theirs = other.get::<str>(key);
                theirs.is_some_and(|theirs| equal(value, theirs, budget))
            };
            one.len() == other.len()
                && one
                    .iter()
                    .map(|(key, value)| (key.as_str(), value))
                    .all(is_in_other)
        }
        _ => one == other,
    }
}

/// The order of two values of one kind; `None` if they are of different kinds, or not ordered.
pub(crate) fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Number(one), Value::Number(other)) => Some(compare_numbers(one, other)),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

/// The order of two values of whatever kind: null, numbers, strings, objects, arrays, truth values.
/// Objects are all alike, and so are arrays.
pub(crate) fn rank(one: &Value, other: &Value) -> Ordering {
    let kind = |value: &Value| match value {
        Value::Null => 0,
        Value::Number(_) => 1,
        Value::String(_) => 2,
        Value::Object(_) => 3,
        Value::Array(_) => 4,
        Value::Bool(_) => 5,
    };
    compare(one, other).unwrap_or_else(|| kind(one).cmp(&kind(other)))
}

/// A number, whole if it can be.
#[derive(Clone, Copy)]
enum Exact {
    Whole(i128),
    Float(f64),
}

impl Exact {
    fn of(number: &Number) -> Exact {
        match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Exact::Whole(whole.into()),
            (None, Some(whole)) => Exact::Whole(whole.into()),
            // JSON's numbers are 64-bit integers or finite floats here.
            (None, None) => Exact::Float(number.as_f64().unwrap_or(0.0)),
        }
    }

    fn float(self) -> f64 {
        match self {
            Exact::Whole(whole) => whole as f64,
            Exact::Float(float) => float,
        }
    }

    /// The number in JSON: whole if it fits into 64 bits.
    fn to_value(self) -> Option<Value> {
        if let Exact::Whole(whole) = self {
            if let Ok(whole) = i64::try_from(whole) {
                return Some(Value::from(whole));
            }
            if let Ok(whole) = u64::try_from(whole) {
                return Some(Value::from(whole));
            }
        }
        Number::from_f64(self.float()).map(Value::Number)
    }
}

fn compare_numbers(one: &Number, other: &Number) -> Ordering {
    match (Exact::of(one), Exact::of(other)) {
        (Exact::Whole(one), Exact::Whole(other)) => one.cmp(&other),
        (one, other) => one
            .float()
            .partial_cmp(&other.float())
            .unwrap_or(Ordering::Equal),
    }
}

/// `old + by`; what is missing counts as 0.
///
/// # Errors
/// [`Refusal::Invalid`] for what is no number, and for results beyond any float.
pub(crate) fn add(old: Option<Value>, by: &Value) -> Result<Value, Refusal> {
    calculate(old, by, i128::checked_add, |one, other| one + other)
}

/// `old * by`; what is missing counts as 0. Errors as [`add`].
pub(crate) fn multiply(old: Option<Value>, by: &Value) -> Result<Value, Refusal> {
    calculate(old, by, i128::checked_mul, |one, other| one * other)
}

fn calculate(
    old: Option<Value>,
    by: &Value,
    whole: fn(i128, i128) -> Option<i128>,
    float: fn(f64, f64) -> f64,
) -> Result<Value, Refusal> {
    let old = old.unwrap_or_else(|| Value::from(0));
    let (Value::Number(old), Value::Number(by)) = (&old, by) else {
        return Err(Refusal::invalid("only numbers can be calculated with"));
    };
    let (old, by) = (Exact::of(old), Exact::of(by));
    let exact = match (old, by) {
        (Exact::Whole(old), Exact::Whole(by)) => whole(old, by).map(Exact::Whole),
        _ => None,
    };
    let result = exact.unwrap_or_else(|| Exact::Float(float(old.float(), by.float())));
    let out_of_range = || Refusal::invalid("the result is out of range");
    result.to_value().ok_or_else(out_of_range)
}

/// `old` with the bits of `{"and":1}`, `{"or":1}` or `{"xor":1}` applied, one after the other.
///
/// # Errors
/// [`Refusal::Invalid`] for anything but whole numbers and those three.
pub(crate) fn combine_bits(old: Option<Value>, by: &Value) -> Result<Value, Refusal> {
    let wrong = || Refusal::invalid("$bit takes and, or, xor with whole numbers");
    let old = old.unwrap_or_else(|| Value::from(0));
    let mut bits = old.as_i64().ok_or_else(wrong)?;
    let operations = by.as_object().ok_or_else(wrong)?;
    if operations.is_empty() {
        return Err(wrong());
    }
    for (operation, by) in operations {
        let by = by.as_i64().ok_or_else(wrong)?;
        match operation.as_str() {
            "and" => bits &= by,
            "or" => bits |= by,
            "xor" => bits ^= by,
            _ => return Err(wrong()),
        }
    }
    Ok(Value::from(bits))
}
