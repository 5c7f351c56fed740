//! Dotted paths into documents: `a.b.0`.

use serde_json::{Map, Value};

use crate::arithmetic::Budget;
use crate::refusal::Refusal;

/// The number of segments that a path may have.
pub(crate) const SEGMENTS_MAX: usize = 32;

/// A path: at least one segment, none of them empty or an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    text: Box<str>,
    /// Whether there is more than one segment.
    is_dotted: bool,
}

impl Path {
    /// Checks a path.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for empty segments, segments that begin with `$`, and above
    /// [`SEGMENTS_MAX`].
    pub(crate) fn parse(text: &str) -> Result<Path, Refusal> {
        let is_bad = |segment: &str| segment.is_empty() || segment.starts_with('$');
        let count = text.split('.').count();
        if count > SEGMENTS_MAX || text.split('.').any(is_bad) {
            let shown: String = text.chars().take(64).collect();
            return Err(Refusal::Invalid(format!("{shown:?} is not a path")));
        }
        Ok(Path {
            text: text.into(),
            is_dotted: count > 1,
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn root(&self) -> &str {
        self.text.split('.').next().unwrap_or(&self.text)
    }

    /// Calls `test` with every value that is at this path, those in arrays too, or with `None`
    /// where there is none, until it says true or the budget is spent.
    pub(crate) fn any<'a>(
        &self,
        document: &'a Map<String, Value>,
        budget: &Budget,
        test: &mut dyn FnMut(Option<&'a Value>) -> bool,
    ) -> bool {
        // FreshBlu kept dotted keys as they came, so a registered document may have some.
        if let Some(value) = document.get(&*self.text) {
            return test(Some(value));
        }
        match document.get(self.root()) {
            Some(value) if self.is_dotted => {
                any(value, &self.text[self.root().len() + 1..], budget, test)
            }
            found => test(found),
        }
    }

    /// Replaces what is at this path by what `change` makes of it; `None` stands for nothing. What
    /// is missing on the way is made, if `is_made`; otherwise nothing happens then.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] if the path leads through something that is neither object nor array,
    /// or beyond the end of an array; and those of `change`.
    pub(crate) fn edit(
        &self,
        document: &mut Map<String, Value>,
        is_made: bool,
        change: impl FnOnce(Option<Value>) -> Result<Option<Value>, Refusal>,
    ) -> Result<(), Refusal> {
        if !self.is_dotted || document.contains_key(&*self.text) {
            return edit_entry(document, &self.text, change);
        }
        let mut segments = self.text.split('.').peekable();
        let first = segments.next().unwrap_or_default();
        if !is_made && !document.contains_key(first) {
            return Ok(());
        }
        let mut parent = document.entry(first).or_insert_with(empty_object);
        while let Some(segment) = segments.next() {
            if segments.peek().is_none() {
                return match parent {
                    Value::Object(object) => edit_entry(object, segment, change),
                    Value::Array(items) => self.edit_item(items, segment, change),
                    _ => Err(self.blocked()),
                };
            }
            let child = match parent {
                Value::Object(object) => {
                    if is_made && !object.contains_key(segment) {
                        object.insert(segment.to_owned(), empty_object());
                    }
                    object.get_mut(segment)
                }
                Value::Array(items) => {
                    let index = self.index_in(items, segment)?;
                    if index == items.len() && is_made {
                        items.push(empty_object());
                    }
                    items.get_mut(index)
                }
                _ => return Err(self.blocked()),
            };
            let Some(child) = child else {
                return Ok(());
            };
            parent = child;
        }
        Ok(())
    }

    fn edit_item(
        &self,
        items: &mut Vec<Value>,
        segment: &str,
        change: impl FnOnce(Option<Value>) -> Result<Option<Value>, Refusal>,
    ) -> Result<(), Refusal> {
        let index = self.index_in(items, segment)?;
        match items.get_mut(index) {
            // What follows keeps its index, as in MongoDB.
            Some(item) => *item = change(Some(item.take()))?.unwrap_or(Value::Null),
            None => items.extend(change(None)?),
        }
        Ok(())
    }

    /// The index that a segment names: of an item, or of the place behind the last one.
    fn index_in(&self, items: &[Value], segment: &str) -> Result<usize, Refusal> {
        let index = index_of(segment).ok_or_else(|| self.blocked())?;
        if index > items.len() {
            return Err(Refusal::Invalid(format!(
                "{} is beyond the end of the array",
                self.text
            )));
        }
        Ok(index)
    }

    fn blocked(&self) -> Refusal {
        Refusal::Invalid(format!("{} leads through a plain value", self.text))
    }
}

fn empty_object() -> Value {
    Value::Object(Map::new())
}

fn index_of(segment: &str) -> Option<usize> {
    let is_number = segment.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| segment.parse().ok())?
}

fn edit_entry(
    object: &mut Map<String, Value>,
    key: &str,
    change: impl FnOnce(Option<Value>) -> Result<Option<Value>, Refusal>,
) -> Result<(), Refusal> {
    match object.get_mut(key) {
        Some(slot) => match change(Some(slot.take()))? {
            Some(value) => *slot = value,
            None => _ = object.shift_remove(key),
        },
        None => {
            if let Some(value) = change(None)? {
                object.insert(key.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn any<'a>(
    value: &'a Value,
    path: &str,
    budget: &Budget,
    test: &mut dyn FnMut(Option<&'a Value>) -> bool,
) -> bool {
    let (segment, rest) = match path.split_once('.') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    };
    let mut go_on = |child: &'a Value| match rest {
        Some(rest) => any(child, rest, budget, test),
        None => test(Some(child)),
    };
    match value {
        Value::Object(object) => match object.get(segment) {
            Some(child) => go_on(child),
            None => test(None),
        },
        Value::Array(items) => {
            if !budget.spend(items.len()) {
                return true;
            }
            if let Some(item) = index_of(segment).and_then(|index| items.get(index))
                && go_on(item)
            {
                return true;
            }
            let mut has_objects = false;
            for item in items.iter().filter(|item| item.is_object()) {
                has_objects = true;
                if any(item, path, budget, test) {
                    return true;
                }
            }
            !has_objects && test(None)
        }
        _ => test(None),
    }
}
