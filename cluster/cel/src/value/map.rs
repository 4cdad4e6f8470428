//! Maps and objects.

use super::{Text, Value, equal};
use crate::{
    DeclType, EvalError,
    decl::{DeclKind, ObjectDecl},
};
use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// A map: entries made by the run, or a JSON object with its declaration.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// A JSON object; fields and entries are converted as they are read.
    Json(&'a serde_json::Map<String, serde_json::Value>, &'a DeclType),
    /// Entries at hand.
    Owned(Arc<OwnedMap<'a>>),
}

/// An object that an expression made, by its type's name.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// The name of its type.
    pub type_name: Arc<str>,
    /// The fields that were given, in order.
    pub fields: Vec<(Arc<str>, Value<'a>)>,
}

impl<'a> Record<'a> {
    /// A field that was given.
    pub fn field(&self, name: &str) -> Option<&Value<'a>> {
        self.fields
            .iter()
            .find(|(field, _)| &**field == name)
            .map(|(_, value)| value)
    }
}

/// Entries in the order they came, found by hash.
#[derive(Clone, Debug, Default)]
pub struct OwnedMap<'a> {
    entries: Vec<(Value<'a>, Value<'a>)>,
    index: HashMap<Key, usize>,
}

/// What can be looked up. Numbers that are equal are one key, whatever their type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A boolean.
    Bool(bool),
    /// A number that is an integer.
    Integer(i128),
    /// A number that is none, by its bits.
    Fraction(u64),
    /// Text.
    Text(Arc<str>),
}

impl Key {
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Int(n) => Self::Integer((*n).into()),
            Value::Uint(n) => Self::Integer((*n).into()),
            Value::Double(n) if n.fract() == 0.0 && n.abs() < 1e19 => Self::Integer(*n as i128),
            Value::Double(n) => Self::Fraction(n.to_bits()),
            Value::String(Text::Shared(text)) => Self::Text(text.clone()),
            Value::String(text) => Self::Text((**text).into()),
            _ => return None,
        })
    }
}

impl<'a> OwnedMap<'a> {
    /// Puts an entry; a later one of the same key replaces it. False when no such key can be.
    pub(crate) fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> bool {
        let Some(hashed) = Key::of(&key) else { return false };
        match self.index.get(&hashed) {
            Some(at) => self.entries[*at].1 = value,
            None => {
                self.index.insert(hashed, self.entries.len());
                self.entries.push((key, value));
            }
        }
        true
    }

    pub(crate) fn remove(&mut self, key: &Value<'a>) {
        let Some(at) = Key::of(key).and_then(|hashed| self.index.remove(&hashed)) else {
            return;
        };
        self.entries.remove(at);
        for place in self.index.values_mut().filter(|place| **place > at) {
            *place -= 1;
        }
    }

    pub(crate) fn get(&self, key: &Value<'_>) -> Option<&Value<'a>> {
        let at = self.index.get(&Key::of(key)?)?;
        self.entries.get(*at).map(|(_, value)| value)
    }

    pub(crate) fn entries(&self) -> &[(Value<'a>, Value<'a>)] {
        &self.entries
    }
}

impl<'a> Map<'a> {
    /// How many entries.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(object, _) => object.len(),
            Self::Owned(map) => map.entries.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at a key. Errors: the key cannot be one here, or the JSON is not what was declared.
    pub fn find(&self, key: &Value<'_>) -> Result<Option<Value<'a>>, EvalError> {
        match self {
            Self::Owned(map) => Ok(map.get(key).cloned()),
            Self::Json(object, decl) => match key {
                Value::String(name) => find_json(object, decl, name),
                _ if matches!(decl.kind, DeclKind::Dyn) => Ok(None),
                _ => Err(EvalError::no_such_overload()),
            },
        }
    }

    /// The keys, in order; fields by their escaped names.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Owned(map) => map.entries.iter().map(|(key, _)| key.clone()).collect(),
            Self::Json(object, decl) => {
                let name = |property: &'a String| match &decl.kind {
                    DeclKind::Object(fields) => {
                        let field = fields.property(property)?;
                        let plain = crate::escape(&field.property).is_some_and(|e| e == *property);
                        Some(match plain {
                            true => Value::borrowed(property),
                            false => Value::text(crate::escape(property)?),
                        })
                    }
                    _ => Some(Value::borrowed(property)),
                };
                object.keys().filter_map(name).collect()
            }
        }
    }

    /// Equality, by the declaration of the left side.
    pub(crate) fn equals(&self, other: &Map<'a>) -> Result<bool, EvalError> {
        if self.len() != other.len() {
            return Ok(false);
        }
        match self {
            Self::Owned(map) => {
                for (key, value) in &map.entries {
                    match other.find(key)? {
                        Some(found) if equal(value, &found)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            Self::Json(object, decl) => {
                for (property, json) in object.iter() {
                    if !property_equals(property, json, (object, decl), other)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

type Declared<'a> = (&'a serde_json::Map<String, serde_json::Value>, &'a DeclType);

fn property_equals<'a>(
    property: &str,
    json: &serde_json::Value,
    (object, decl): Declared<'a>,
    other: &Map<'a>,
) -> Result<bool, EvalError> {
    let name: Cow<'_, str> = match &decl.kind {
        DeclKind::Object(fields) => match (fields.property(property), crate::escape(property)) {
            (Some(_), Some(name)) => name.into(),
            // Not in the schema: compared as it is, if the other side has it.
            _ => {
                let Map::Json(theirs, _) = other else {
                    return Err(EvalError::no_such_overload());
                };
                return Ok(theirs.get(property).is_none_or(|their| their == json));
            }
        },
        _ => property.into(),
    };
    let mine = find_json(object, decl, &name)?;
    let theirs = other.find(&Value::borrowed(&name))?;
    match (mine, theirs) {
        (None, None) => Ok(true),
        (Some(mine), Some(theirs)) => equal(&mine, &theirs),
        _ => Ok(false),
    }
}

fn find_json<'a>(
    object: &'a serde_json::Map<String, serde_json::Value>,
    decl: &'a DeclType,
    name: &str,
) -> Result<Option<Value<'a>>, EvalError> {
    let (property, child) = match &decl.kind {
        DeclKind::Object(fields) => return find_field(object, fields, name),
        DeclKind::Map { element } => (name, &**element),
        _ => (name, decl),
    };
    object
        .get(property)
        .map(|json| Value::declared(json, child))
        .transpose()
}

fn find_field<'a>(
    object: &'a serde_json::Map<String, serde_json::Value>,
    fields: &'a ObjectDecl,
    name: &str,
) -> Result<Option<Value<'a>>, EvalError> {
    let Some(field) = fields.field(name) else {
        return Ok(None);
    };
    match object.get(&field.property) {
        // A field that is null is a field that is not there.
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(json) => Value::declared(json, &field.decl).map(Some),
    }
}
