//! JSON as values, and values as JSON.

use super::{Duration, List, Map, Timestamp, Value};
use crate::{
    DeclType, EvalError,
    decl::{DeclKind, ListSemantics},
};
use base64::Engine as _;
use serde_json::Value as Json;
use std::sync::{Arc, LazyLock};

static DYNAMIC: LazyLock<DeclType> = LazyLock::new(DeclType::dynamic);
static ATOMIC: ListSemantics = ListSemantics::Atomic;

impl<'a> Value<'a> {
    /// JSON of which nothing is declared.
    pub fn dynamic(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => match number.as_i64() {
                Some(n) => Self::Int(n),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::borrowed(text),
            Json::Array(elements) => Self::List(List::Json(elements, &DYNAMIC, &ATOMIC)),
            Json::Object(object) => Self::Map(Map::Json(object, &DYNAMIC)),
        }
    }

    /// JSON with its declaration; lists and objects stay where they are and are read on demand.
    /// Errors: the JSON is not what was declared.
    pub fn declared(json: &'a Json, decl: &'a DeclType) -> Result<Self, EvalError> {
        let wrong = |expected: &str| {
            let found = go_type(json);
            Err(EvalError::failed(format!(
                "invalid data, expected {expected}, got {found}"
            )))
        };
        match (&decl.kind, json) {
            (DeclKind::Dyn | DeclKind::Opaque(_), _) => Ok(Self::dynamic(json)),
            (_, Json::Null) if decl.nullable => Ok(Self::Null),
            (_, Json::Null) => Err(EvalError::failed(
                "invalid data, got null for schema with nullable=false",
            )),
            (DeclKind::IntOrString, Json::String(text)) => Ok(Self::borrowed(text)),
            (DeclKind::IntOrString, Json::Number(n)) if n.as_i64().is_some() => Ok(Self::dynamic(json)),
            (DeclKind::IntOrString, _) => Err(EvalError::failed(
                "invalid data, expected XIntOrString value to be either a string or integer",
            )),
            (DeclKind::Object(_) | DeclKind::Map { .. }, Json::Object(object)) => {
                Ok(Self::Map(Map::Json(object, decl)))
            }
            (DeclKind::Object(_) | DeclKind::Map { .. }, _) => Err(EvalError::failed(
                "invalid data, expected a map for the provided schema with type=object",
            )),
            (DeclKind::List { element, semantics }, Json::Array(elements)) => {
                Ok(Self::List(List::Json(elements, element, semantics)))
            }
            (DeclKind::List { .. }, _) => Err(EvalError::failed(
                "invalid data, expected an array for the provided schema with type=array",
            )),
            (DeclKind::Bool, Json::Bool(truth)) => Ok(Self::Bool(*truth)),
            (DeclKind::Bool, _) => wrong("bool"),
            (DeclKind::Int, Json::Number(number)) => number.as_i64().map_or_else(|| wrong("int"), |n| Ok(Self::Int(n))),
            (DeclKind::Int, _) => wrong("int"),
            (DeclKind::Double, Json::Number(number)) => {
                number.as_f64().map_or_else(|| wrong("float"), |n| Ok(Self::Double(n)))
            }
            (DeclKind::Double, _) => wrong("float"),
            (kind, Json::String(text)) => from_text(kind, text),
            (DeclKind::Preserved, _) => Ok(Self::Preserved(json)),
            _ => wrong("string"),
        }
    }

    /// The value as JSON: times and spans as text, bytes in base64. `None` for what has no JSON.
    pub fn to_json(&self) -> Option<Json> {
        Some(match self {
            Self::Null => Json::Null,
            Self::Bool(truth) => Json::Bool(*truth),
            Self::Int(n) => (*n).into(),
            Self::Uint(n) => (*n).into(),
            Self::Double(n) => serde_json::Number::from_f64(*n)?.into(),
            Self::String(text) => Json::String(text.to_string()),
            Self::Bytes(bytes) => Json::String(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Self::Timestamp(time) => Json::String(time.to_string()),
            Self::Duration(span) => Json::String(span.to_string()),
            Self::List(List::Json(elements, ..)) => Json::Array(elements.to_vec()),
            Self::List(List::Owned(elements, _)) => {
                Json::Array(elements.iter().map(Self::to_json).collect::<Option<_>>()?)
            }
            Self::Map(Map::Json(object, _)) => Json::Object((*object).clone()),
            Self::Map(Map::Owned(map)) => {
                let entry = |(key, value): &(Value<'a>, Value<'a>)| Some((key.as_str()?.to_owned(), value.to_json()?));
                Json::Object(map.entries().iter().map(entry).collect::<Option<_>>()?)
            }
            Self::Record(record) => {
                let entry = |(name, value): &(Arc<str>, Value<'a>)| Some((name.to_string(), value.to_json()?));
                Json::Object(record.fields.iter().map(entry).collect::<Option<_>>()?)
            }
            Self::Preserved(json) => (*json).clone(),
            Self::Optional(Some(inner)) => inner.to_json()?,
            Self::Opaque(opaque) => Json::String(opaque.text()?),
            Self::Type(_) | Self::Optional(None) | Self::Deferred(..) => return None,
        })
    }
}

fn from_text<'a>(kind: &DeclKind, text: &'a str) -> Result<Value<'a>, EvalError> {
    let invalid = |what: &str| Err(EvalError::failed(format!("Invalid {what} {text}")));
    match kind {
        DeclKind::String => Ok(Value::borrowed(text)),
        DeclKind::Bytes => match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(bytes) => Ok(Value::Bytes(bytes.into())),
            Err(_) => invalid("byte formatted string"),
        },
        DeclKind::Duration => match Duration::parse_lenient(text) {
            Some(span) => Ok(Value::Duration(span)),
            None => invalid("duration"),
        },
        DeclKind::Date => match Timestamp::parse_date(text) {
            Some(time) => Ok(Value::Timestamp(time)),
            None => invalid("date formatted string"),
        },
        DeclKind::DateTime => match Timestamp::parse_lenient(text) {
            Some(time) => Ok(Value::Timestamp(time)),
            None => invalid("date-time formatted string"),
        },
        _ => Ok(Value::borrowed(text)),
    }
}

/// As the sentences name what they found.
fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(n) if n.as_i64().is_some() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}
