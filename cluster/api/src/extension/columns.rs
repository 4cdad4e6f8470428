//! Columns of tables that a definition declares.

use super::JsonPath;
use crate::strategy::age;
use serde_json::{Value, json};
use strata_meta::Time;

/// A column of a custom resource.
#[derive(Clone, Debug)]
pub(crate) struct PrinterColumn {
    /// The heading.
    pub(crate) name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub(crate) kind: String,
    /// How it is written, `""` if nothing is said.
    pub(crate) format: String,
    /// What it means.
    pub(crate) description: String,
    /// 0 is always shown.
    pub(crate) priority: i64,
    /// Where the cell is.
    pub(crate) path: Option<JsonPath>,
}

impl PrinterColumn {
    /// Reads a column of a definition.
    pub(super) fn read(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        let path = text("jsonPath");
        let description = match text("description") {
            empty if empty.is_empty() => format!("Custom resource definition column (in JSONPath format): {path}"),
            stated => stated,
        };
        Self {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description,
            priority: value.get("priority").and_then(Value::as_i64).unwrap_or(0),
            path: JsonPath::parse(&path).ok(),
        }
    }

    /// The column of a definition that declares none.
    pub(super) fn age(description: &str) -> Self {
        Self {
            name: "Age".into(),
            kind: "date".into(),
            format: String::new(),
            description: description.to_owned(),
            priority: 0,
            path: JsonPath::parse(".metadata.creationTimestamp").ok(),
        }
    }

    /// What a table says of the column.
    pub(crate) fn definition(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority})
    }

    /// The cell of an object.
    pub(crate) fn cell(&self, object: &Value, now: Time) -> Value {
        let Some(value) = self.path.as_ref().and_then(|path| path.first(object)) else {
            return Value::Null;
        };
        match (self.kind.as_str(), value) {
            (_, Value::Null) => Value::Null,
            ("string", Value::String(_)) => value.clone(),
            ("string", other) => Value::from(other.to_string()),
            ("integer", Value::Number(n)) => n
                .as_i64()
                .or_else(|| n.as_f64().map(|f| f as i64))
                .map_or(Value::Null, Value::from),
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("date", Value::String(text)) => match Time::parse(text) {
                Some(_) => Value::from(age(text, now)),
                None => Value::from("<invalid>"),
            },
            _ => Value::Null,
        }
    }
}
