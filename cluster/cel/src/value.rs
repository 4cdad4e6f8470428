//! Values of expressions: scalars, lists and maps made by the run, and JSON read where it lies.

mod equal;
mod json;
mod list;
mod map;
mod time;

pub use list::List;
pub use map::{Map, Record};
pub use time::{Duration, Timestamp};

pub(crate) use equal::{begin_looking, compare, equal, look, look_at, resume_looking};
pub(crate) use map::{Key, OwnedMap};

use crate::{Type, functions::kubernetes::Opaque};
use std::{fmt, ops::Deref, sync::Arc};

/// A value. What was read from JSON borrows it for `'a`; cloning is cheap.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating point number.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Octets.
    Bytes(Arc<[u8]>),
    /// A point in time.
    Timestamp(Timestamp),
    /// A span of time.
    Duration(Duration),
    /// A list.
    List(List<'a>),
    /// A map, or an object read from JSON.
    Map(Map<'a>),
    /// An object the expression made: `Object{…}`, `JSONPatch{…}`.
    Record(Arc<Record<'a>>),
    /// A type.
    Type(Type),
    /// An optional value.
    Optional(Option<Arc<Value<'a>>>),
    /// A value of a library: quantity, URL, address, authorizer …
    Opaque(Opaque),
    /// JSON kept by `x-kubernetes-preserve-unknown-fields`: it can only be compared.
    Preserved(&'a serde_json::Value),
    /// An object whose fields the activation computes when they are asked for; its variable's name.
    Deferred(Text<'a>, Type),
}

/// Text, borrowed from JSON or made by the run.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Borrowed.
    Borrowed(&'a str),
    /// Made.
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl<'a> Value<'a> {
    /// Text that the value owns.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    /// Text that the value borrows.
    pub fn borrowed(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }

    /// A list of these.
    pub fn list(elements: Vec<Value<'a>>) -> Self {
        Self::List(List::owned(elements))
    }

    /// A map from strings.
    pub fn map<K: Into<Arc<str>>>(entries: impl IntoIterator<Item = (K, Value<'a>)>) -> Self {
        let mut map = OwnedMap::default();
        for (key, value) in entries {
            // A string is always a key.
            let _ = map.insert(Value::text(key), value);
        }
        Self::Map(Map::Owned(Arc::new(map)))
    }

    /// An optional value that is there.
    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// The type at run time.
    pub fn type_of(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Duration(_) => Type::Duration,
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Self::Record(record) => Type::object(&record.type_name),
            Self::Type(_) => Type::any_type(),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Opaque(opaque) => opaque.type_of(),
            Self::Preserved(_) => Type::object("unknown"),
            Self::Deferred(_, decl) => decl.clone(),
        }
    }

    /// The truth, when it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The text, when it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// How large the value is to the cost of a call: characters, bytes, elements, entries, or one.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            Self::String(text) => characters(text),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Opaque(opaque) => return opaque.size(),
            _ => 1,
        };
        size as u64
    }
}

/// Code points of the text.
pub(crate) fn characters(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.chars().count()
    }
}

/// As an error sentence shows it.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Uint(n) => write!(f, "{n}"),
            Self::Double(n) => f.write_str(&crate::functions::convert::double_to_string(*n)),
            Self::String(text) => f.write_str(text),
            Self::Timestamp(time) => write!(f, "{time}"),
            Self::Duration(span) => write!(f, "{span}"),
            Self::Type(inner) => f.write_str(inner.name()),
            other => f.write_str(other.type_of().name()),
        }
    }
}
