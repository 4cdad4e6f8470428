//! JSON Patch as upstream carries it out: RFC 6902 but for what its library has always let pass, which clients rely on.
//! A member that is missing equals null in a test, can be replaced, and is copied as null; an index may count from the end.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Most bytes that the copies of one patch may add, as upstream.
const MAX_COPIED: usize = 3 << 20;
/// Deepest nesting that an operation may make: what decoders read.
const MAX_DEPTH: usize = 127;
/// Most values that the operations of one patch may look at or shift: an operation of a few bytes can move a large part.
const MAX_WORK: usize = 20_000_000;

/// One operation as it was sent; whether it makes sense is seen when it is carried out. Written in the order of names.
#[derive(Debug, Deserialize, Serialize)]
pub struct Operation {
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    op: Option<String>,
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

impl Operation {
    /// What it does, where, and from where; `""` for what it does not say.
    pub(crate) fn address(&self) -> (&str, &str, &str) {
        (
            self.op.as_deref().unwrap_or(""),
            self.path.as_deref().unwrap_or(""),
            self.from.as_deref().unwrap_or(""),
        )
    }

    /// An operation of its JSON; what is no operation does nothing that succeeds.
    pub fn from_value(mut value: Value) -> Self {
        let mut take = |name: &str| value.as_object_mut().and_then(|members| members.remove(name));
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        Self {
            from: text(take("from")),
            op: text(take("op")),
            path: text(take("path")),
            value: take("value"),
        }
    }
}

/// Text, or nothing where something else stands.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(Some(text)),
        _ => Ok(None),
    }
}

/// A value that is null is there all the same.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Why a patch does not apply.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The document is not as a test wants it.
    #[error("testing value {0} failed: test failed")]
    Test(String),
    /// An operation names what is not there.
    #[error("{0} operation does not apply: doc is missing path: {1:?}: missing value")]
    Missing(&'static str, String),
    /// An index that is none, or beyond the list.
    #[error("error in {0} for path: '{1}': invalid index referenced")]
    Index(&'static str, String),
    /// An operation that there is not, or that lacks its path.
    #[error("{0}")]
    Malformed(String),
    /// The copies add too much.
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {0}, exceeding the limit {MAX_COPIED}"
    )]
    Copied(usize),
    /// What it puts somewhere nests deeper than anybody could read.
    #[error("exceeded max depth")]
    Depth,
    /// The operations move too much.
    #[error("the operations move more than {MAX_WORK} values")]
    Work,
}

/// What the operations of a patch have done so far.
#[derive(Default)]
struct Account {
    /// Bytes that copies added.
    copied: usize,
    /// Values that were looked at or shifted.
    work: usize,
}

impl Account {
    fn work(&mut self, values: usize) -> Result<(), Failure> {
        self.work = self.work.saturating_add(values);
        if self.work > MAX_WORK {
            Err(Failure::Work)
        } else {
            Ok(())
        }
    }

    /// Refuses a value that would reach deeper than is allowed below a place.
    fn deepen(&mut self, path: &str, value: &Value) -> Result<(), Failure> {
        let room = MAX_DEPTH.checked_sub(path.matches('/').count());
        self.fits(value, room.ok_or(Failure::Depth)?)
    }

    fn fits(&mut self, value: &Value, room: usize) -> Result<(), Failure> {
        self.work(1)?;
        let below = || room.checked_sub(1).ok_or(Failure::Depth);
        match value {
            Value::Array(items) => {
                let room = below()?;
                items.iter().try_for_each(|item| self.fits(item, room))
            }
            Value::Object(members) => {
                let room = below()?;
                members.values().try_for_each(|member| self.fits(member, room))
            }
            _ => Ok(()),
        }
    }
}

/// Carries out one operation after another. After an error the document is of no use.
pub fn apply(document: &mut Value, operations: &[Operation]) -> Result<(), Failure> {
    let mut account = Account::default();
    for operation in operations {
        one(document, operation, &mut account)?;
    }
    Ok(())
}

fn one(document: &mut Value, operation: &Operation, account: &mut Account) -> Result<(), Failure> {
    let path = || required(operation.path.as_deref(), "path");
    let value = operation.value.as_ref().unwrap_or(&Value::Null);
    let from = || required(operation.from.as_deref(), "from");
    match operation.op.as_deref().unwrap_or("unknown") {
        "add" => {
            account.deepen(path()?, value)?;
            add("add", document, path()?, value.clone(), account)
        }
        "remove" => remove("remove", document, path()?, account).map(drop),
        "replace" => {
            account.deepen(path()?, value)?;
            replace(document, path()?, value)
        }
        "move" => {
            let value = remove("move", document, from()?, account)?;
            account.deepen(path()?, &value)?;
            add("move", document, path()?, value, account)
        }
        "copy" => {
            let value = get("copy", document, from()?)?.cloned().unwrap_or_default();
            account.copied += value.to_string().len();
            if account.copied > MAX_COPIED {
                return Err(Failure::Copied(account.copied));
            }
            account.deepen(path()?, &value)?;
            add("copy", document, path()?, value, account)
        }
        "test" => test(document, path()?, value),
        other => Err(Failure::Malformed(format!("Unexpected kind: {other}"))),
    }
}

fn required<'a>(pointer: Option<&'a str>, name: &str) -> Result<&'a str, Failure> {
    pointer.ok_or_else(|| Failure::Malformed(format!("operation missing {name} field: missing value")))
}

/// The object or list that has, or is to have, what the path names, and the last part of the path.
fn parent<'a>(op: &'static str, document: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), Failure> {
    let missing = || Failure::Missing(op, path.to_owned());
    let (_, parts) = path.split_once('/').ok_or_else(missing)?;
    let (above, last) = parts
        .rsplit_once('/')
        .map_or((None, parts), |(above, last)| (Some(above), last));
    let mut at = document;
    for part in above.iter().flat_map(|above| above.split('/')) {
        at = match at {
            Value::Object(members) => members.get_mut(&decoded(part)),
            Value::Array(items) => index(part, items.len(), items.len()).and_then(|i| items.get_mut(i)),
            _ => None,
        }
        .ok_or_else(missing)?;
    }
    if at.is_object() || at.is_array() {
        Ok((at, decoded(last)))
    } else {
        Err(missing())
    }
}

/// RFC 6901: ~1 is a slash and ~0 a tilde.
fn decoded(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// A place in a list: below `bound`, counted from `length` when it is negative.
fn index(part: &str, bound: usize, length: usize) -> Option<usize> {
    let number: i64 = part.parse().ok()?;
    let place = if number < 0 {
        length.checked_sub(usize::try_from(number.unsigned_abs()).ok()?)?
    } else {
        usize::try_from(number).ok()?
    };
    (place < bound).then_some(place)
}

/// What a path names; `None` where its object has no such member, and for null.
fn get<'a>(op: &'static str, document: &'a mut Value, path: &str) -> Result<Option<&'a Value>, Failure> {
    let (parent, key) = parent(op, document, path)?;
    let found = match parent {
        Value::Object(members) => members.get(&key),
        Value::Array(items) => {
            let place = index(&key, items.len(), items.len());
            Some(&items[place.ok_or_else(|| Failure::Index(op, path.to_owned()))?])
        }
        _ => None,
    };
    Ok(found.filter(|value| !value.is_null()))
}

fn add(op: &'static str, document: &mut Value, path: &str, value: Value, account: &mut Account) -> Result<(), Failure> {
    match parent(op, document, path)? {
        (Value::Object(members), key) => drop(members.insert(key, value)),
        (Value::Array(items), key) if key == "-" => items.push(value),
        (Value::Array(items), key) => {
            let bound = items.len() + 1;
            let place = index(&key, bound, bound).ok_or_else(|| Failure::Index(op, path.to_owned()))?;
            account.work(items.len() - place)?;
            items.insert(place, value);
        }
        _ => return Err(Failure::Missing(op, path.to_owned())),
    }
    Ok(())
}

fn remove(op: &'static str, document: &mut Value, path: &str, account: &mut Account) -> Result<Value, Failure> {
    match parent(op, document, path)? {
        (Value::Object(members), key) => members
            .remove(&key)
            .ok_or_else(|| Failure::Missing(op, path.to_owned())),
        (Value::Array(items), key) => {
            let place = index(&key, items.len(), items.len()).ok_or_else(|| Failure::Index(op, path.to_owned()))?;
            account.work(items.len() - place)?;
            Ok(items.remove(place))
        }
        _ => Err(Failure::Missing(op, path.to_owned())),
    }
}

fn replace(document: &mut Value, path: &str, value: &Value) -> Result<(), Failure> {
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            let why = "replace operation value must be object or array";
            return Err(Failure::Malformed(why.to_owned()));
        }
        *document = value.clone();
        return Ok(());
    }
    match parent("replace", document, path)? {
        (Value::Object(members), key) => drop(members.insert(key, value.clone())),
        (Value::Array(items), key) => {
            let place = index(&key, items.len(), items.len());
            items[place.ok_or_else(|| Failure::Index("replace", path.to_owned()))?] = value.clone();
        }
        _ => return Err(Failure::Missing("replace", path.to_owned())),
    }
    Ok(())
}

fn test(document: &mut Value, path: &str, value: &Value) -> Result<(), Failure> {
    let same = if path.is_empty() {
        document == value
    } else {
        get("test", document, path)?.unwrap_or(&Value::Null) == value
    };
    same.then_some(()).ok_or_else(|| Failure::Test(path.to_owned()))
}

#[cfg(test)]
mod tests;
