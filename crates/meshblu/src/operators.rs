//! Update operators: those that Meshblu allows, and `$mul` and `$rename` of MongoDB's.

use serde_json::{Map, Value};

use crate::arithmetic::{Budget, add, combine_bits, equal, multiply, rank};
use crate::path::Path;
use crate::query::Condition;
use crate::query_parse::Limits;
use crate::refusal::Refusal;
use crate::time::Timestamp;

/// How many pairs of values one update may compare.
const COMPARISONS_MAX: u32 = 1_000_000;
/// How many paths one update may have.
const PATHS_MAX: usize = 1000;

/// Applies a body whose keys are all operators to a document.
///
/// # Errors
/// [`Refusal::Invalid`] for other keys, none at all, `uuid` and `token`, wrong operands, and values
/// that an operator cannot work on.
pub(crate) fn apply(
    document: &mut Map<String, Value>,
    operators: Map<String, Value>,
    now: Timestamp,
) -> Result<(), Refusal> {
    if operators.is_empty() {
        let detail = "Update query must contain at least one key.";
        return Err(Refusal::invalid(detail));
    }
    let count = |operands: &Value| operands.as_object().map_or(0, Map::len);
    if operators.values().map(count).sum::<usize>() > PATHS_MAX {
        return Err(Refusal::Invalid(format!(
            "an update may have {PATHS_MAX} paths"
        )));
    }
    let mut limits = Limits::default();
    let budget = Budget::new(COMPARISONS_MAX);
    for (name, operands) in operators {
        let operator = Operator::parse(&name)
            .ok_or_else(|| Refusal::invalid("Update query may only contain authorized keys."))?;
        let Value::Object(operands) = operands else {
            return Err(Refusal::Invalid(format!("{name} needs an object")));
        };
        for (path, operand) in operands {
            let path = changeable(&path)?;
            let bounds = (&mut limits, &budget);
            operator.apply(document, &path, operand, now, bounds)?;
            if budget.is_spent() {
                return Err(Refusal::invalid("an update may not compare that much"));
            }
        }
    }
    Ok(())
}

/// Whether the operators concern anything in `meshblu`.
pub(crate) fn touch_meshblu(operators: &Map<String, Value>) -> bool {
    let is_meshblu = |path: &str| path.split('.').next() == Some("meshblu");
    operators
        .values()
        .filter_map(Value::as_object)
        .flatten()
        .any(|(path, operand)| is_meshblu(path) || operand.as_str().is_some_and(is_meshblu))
}

fn changeable(path: &str) -> Result<Path, Refusal> {
    let path = Path::parse(path)?;
    if matches!(path.root(), "uuid" | "token") {
        let detail = "Update query may not modify the uuid key.";
        return Err(Refusal::invalid(detail));
    }
    Ok(path)
}

#[derive(Clone, Copy)]
enum Operator {
    Set,
    Unset,
    Inc,
    Mul,
    Min,
    Max,
    CurrentDate,
    Rename,
    Push,
    PushAll,
    AddToSet,
    Pop,
    Pull,
    PullAll,
    Bit,
}

impl Operator {
    fn parse(name: &str) -> Option<Operator> {
        Some(match name {
            "$set" => Operator::Set,
            "$unset" => Operator::Unset,
            "$inc" => Operator::Inc,
            // Meshblu's list spells it with a t.
            "$mul" | "$mult" => Operator::Mul,
            "$min" => Operator::Min,
            "$max" => Operator::Max,
            "$currentDate" => Operator::CurrentDate,
            "$rename" => Operator::Rename,
            "$push" => Operator::Push,
            "$pushAll" => Operator::PushAll,
            "$addToSet" => Operator::AddToSet,
            "$pop" => Operator::Pop,
            "$pull" => Operator::Pull,
            "$pullAll" => Operator::PullAll,
            "$bit" => Operator::Bit,
            _ => return None,
        })
    }

    fn apply(
        self,
        document: &mut Map<String, Value>,
        path: &Path,
        operand: Value,
        now: Timestamp,
        (limits, budget): (&mut Limits, &Budget),
    ) -> Result<(), Refusal> {
        let mut edit = |change: &mut dyn FnMut(Option<Value>) -> Result<Option<Value>, Refusal>| {
            path.edit(document, true, change)
        };
        match self {
            Operator::Set => set(document, path, operand),
            Operator::Unset => path.edit(document, false, |_| Ok(None)),
            Operator::Rename => rename(document, path, &operand),
            Operator::Pop => path.edit(document, false, |old| pop(old, &operand)),
            Operator::Pull => {
                let condition = Condition::parse(&operand, limits)?;
                let keep = |item: &Value| budget.is_spent() || !condition.admits(item, budget);
                path.edit(document, false, |old| retain(old, keep))
            }
            Operator::PullAll => {
                let given = list(&operand)?;
                let is_given = |item: &Value| {
                    let mut values = given.iter();
                    values.any(|value| equal(item, value, budget) || budget.is_spent())
                };
                let keep = |item: &Value| budget.is_spent() || !is_given(item);
                path.edit(document, false, |old| retain(old, keep))
            }
            Operator::Inc => edit(&mut |old| add(old, &operand).map(Some)),
            Operator::Mul => edit(&mut |old| multiply(old, &operand).map(Some)),
            Operator::Min | Operator::Max => edit(&mut |old| {
                let is_kept = |old: &Value| match self {
                    Operator::Min => rank(old, &operand).is_le(),
                    _ => rank(old, &operand).is_ge(),
                };
                Ok(Some(old.filter(is_kept).unwrap_or_else(|| operand.clone())))
            }),
            Operator::CurrentDate => edit(&mut |_| Ok(Some(Value::from(now.rfc3339())))),
            Operator::Push => edit(&mut |old| push(old, &operand).map(Some)),
            Operator::PushAll => edit(&mut |old| {
                let mut items = items(old)?;
                items.extend_from_slice(list(&operand)?);
                Ok(Some(Value::Array(items)))
            }),
            Operator::AddToSet => edit(&mut |old| {
                let mut items = items(old)?;
                for value in each(&operand)? {
                    let is_same = |item| equal(item, value, budget) || budget.is_spent();
                    if !items.iter().any(is_same) {
                        items.push(value.clone());
                    }
                }
                Ok(Some(Value::Array(items)))
            }),
            Operator::Bit => edit(&mut |old| combine_bits(old, &operand).map(Some)),
        }
    }
}

/// `$set` of `meshblu` as a whole adds to it, as a plain update does: clients send what they mean
/// to change, not what they mean to keep.
fn set(document: &mut Map<String, Value>, path: &Path, operand: Value) -> Result<(), Refusal> {
    match operand {
        Value::Object(fields) if path.text() == "meshblu" => {
            for (key, value) in fields {
                let path = Path::parse(&format!("meshblu.{key}"))?;
                path.edit(document, true, |_| Ok(Some(value)))?;
            }
            Ok(())
        }
        operand => path.edit(document, true, |_| Ok(Some(operand))),
    }
}

fn rename(document: &mut Map<String, Value>, path: &Path, to: &Value) -> Result<(), Refusal> {
    let to = to
        .as_str()
        .ok_or_else(|| Refusal::invalid("$rename needs the new name"))?;
    let to = changeable(to)?;
    let mut moved = None;
    path.edit(document, false, |old| {
        moved = old;
        Ok(None)
    })?;
    match moved {
        Some(value) => to.edit(document, true, |_| Ok(Some(value))),
        None => Ok(()),
    }
}

/// The items of an array that an operator adds to; nothing is an empty one.
fn items(old: Option<Value>) -> Result<Vec<Value>, Refusal> {
    match old {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(Refusal::invalid(
            "only arrays can be added to or taken from",
        )),
    }
}

fn list(operand: &Value) -> Result<&Vec<Value>, Refusal> {
    let wrong = || Refusal::invalid("an array of values is needed");
    operand.as_array().ok_or_else(wrong)
}

/// The values of `{"$each":[…]}`, or the one value that is anything else.
fn each(operand: &Value) -> Result<&[Value], Refusal> {
    match operand.get("$each") {
        Some(values) => Ok(list(values)?),
        None => Ok(std::slice::from_ref(operand)),
    }
}

fn push(old: Option<Value>, operand: &Value) -> Result<Value, Refusal> {
    let mut items = items(old)?;
    let values = each(operand)?;
    let modifiers = operand
        .as_object()
        .filter(|_| operand.get("$each").is_some());
    let number = |name: &str| match modifiers.and_then(|modifiers| modifiers.get(name)) {
        None => Ok(None),
        Some(given) => given
            .as_i64()
            .map(Some)
            .ok_or_else(|| Refusal::Invalid(format!("{name} needs a whole number"))),
    };
    let known = |name: &String| matches!(&**name, "$each" | "$position" | "$slice");
    if modifiers.is_some_and(|modifiers| !modifiers.keys().all(known)) {
        return Err(Refusal::invalid("$push knows $each, $position and $slice"));
    }
    let position = number("$position")?.map(|index| place(index, items.len()));
    let position = position.unwrap_or(items.len());
    items.splice(position..position, values.iter().cloned());
    match number("$slice")? {
        None => {}
        Some(slice) if slice >= 0 => items.truncate(place(slice, items.len())),
        Some(slice) => _ = items.drain(..place(slice, items.len())),
    }
    Ok(Value::Array(items))
}

/// A place in a list of that length, counted from its end if negative; never outside of it.
fn place(index: i64, length: usize) -> usize {
    let count = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
    if index >= 0 {
        count.min(length)
    } else {
        length.saturating_sub(count)
    }
}

fn pop(old: Option<Value>, end: &Value) -> Result<Option<Value>, Refusal> {
    let end = end.as_i64().filter(|end| matches!(end, 1 | -1));
    let end = end.ok_or_else(|| Refusal::invalid("$pop takes 1 or -1"))?;
    let Some(old) = old else {
        return Ok(None);
    };
    let mut items = items(Some(old))?;
    if end == 1 {
        items.pop();
    } else if !items.is_empty() {
        items.remove(0);
    }
    Ok(Some(Value::Array(items)))
}

fn retain(old: Option<Value>, keep: impl FnMut(&Value) -> bool) -> Result<Option<Value>, Refusal> {
    let Some(old) = old else {
        return Ok(None);
    };
    let mut items = items(Some(old))?;
    items.retain(keep);
    Ok(Some(Value::Array(items)))
}
