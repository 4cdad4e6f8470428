//! The OpenAPI v2 document: the definitions of the v3 documents in the older form, which kubectl falls back to.
//!
//! It is made when asked for and not kept: clients keep it by its tag. Of its paths only those of
//! custom resources are there, as far as clients look at them; v3 has them all.

use crate::{extension, json, registry::Rows};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use strata_meta::GroupVersion;

/// The document as JSON, with what other servers describe.
pub(crate) fn document(rows: &Rows, elsewhere: Vec<Arc<Value>>) -> Value {
    let mut versions: Vec<GroupVersion> = Vec::new();
    for row in rows.iter() {
        let version = row.gvk.group_version();
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let mut definitions = Map::new();
    let own = versions.iter().filter_map(strata_schema::openapi_v3).map(Arc::new);
    for document in own.chain(elsewhere) {
        let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
        for (name, schema) in schemas.into_iter().flatten() {
            if !definitions.contains_key(name) {
                definitions.insert(name.clone(), older(schema));
            }
        }
    }
    definitions.extend(extension::openapi::definitions(rows));
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": crate::health::GIT_VERSION},
        "paths": extension::openapi::paths(rows),
        "definitions": definitions,
    })
}

/// A v3 schema in the v2 form.
fn older(schema: &Value) -> Value {
    let Some(members) = schema.as_object() else {
        return schema.clone();
    };
    let mut out = Map::new();
    for (name, member) in members {
        let converted = match (name.as_str(), member) {
            ("$ref", Value::String(target)) => json!(target.replace("#/components/schemas/", "#/definitions/")),
            ("properties", Value::Object(properties)) => {
                properties.iter().map(|(n, s)| (n.clone(), older(s))).collect()
            }
            ("items" | "additionalProperties", inner) => older(inner),
            // In v2 a reference stands beside other members.
            ("allOf", Value::Array(list)) if list.len() == 1 => {
                if let Value::Object(inner) = older(&list[0]) {
                    out.extend(inner);
                }
                continue;
            }
            // Numbers that may be texts are texts in v2.
            ("oneOf" | "anyOf", _) => {
                out.insert("type".into(), json!("string"));
                continue;
            }
            (_, other) => other.clone(),
        };
        out.insert(name.clone(), converted);
    }
    Value::Object(out)
}

/// The document as gnostic's `openapi.v2.Document` message.
pub(crate) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 1, json::text(document, "swagger"));
    message(&mut out, 2, |out| {
        text(out, 1, json::text(document, "info.title"));
        text(out, 2, json::text(document, "info.version"));
    });
    message(&mut out, 8, |_| {});
    message(&mut out, 9, |out| named_schemas(out, document.get("definitions")));
    out
}

fn named_schemas(out: &mut Vec<u8>, schemas: Option<&Value>) {
    for (name, schema) in schemas.and_then(Value::as_object).into_iter().flatten() {
        message(out, 1, |out| {
            text(out, 1, name);
            message(out, 2, |out| encode_schema(out, schema));
        });
    }
}

fn encode_schema(out: &mut Vec<u8>, schema: &Value) {
    for (name, member) in schema.as_object().into_iter().flatten() {
        match (name.as_str(), member) {
            ("$ref", Value::String(target)) => text(out, 1, target),
            ("format", Value::String(format)) => text(out, 2, format),
            ("description", Value::String(description)) => text(out, 4, description),
            ("default", value) => message(out, 5, |out| any(out, value)),
            ("required", Value::Array(names)) => names.iter().filter_map(Value::as_str).for_each(|n| text(out, 19, n)),
            ("enum", Value::Array(values)) => values.iter().for_each(|v| message(out, 20, |out| any(out, v))),
            ("additionalProperties", Value::Bool(allowed)) => message(out, 21, |out| {
                varint(out, 2 << 3);
                varint(out, u64::from(*allowed));
            }),
            ("additionalProperties", inner) => message(out, 21, |out| message(out, 1, |out| encode_schema(out, inner))),
            ("type", Value::String(kind)) => message(out, 22, |out| text(out, 1, kind)),
            ("items", inner) => message(out, 23, |out| message(out, 1, |out| encode_schema(out, inner))),
            ("properties", properties) => message(out, 25, |out| named_schemas(out, Some(properties))),
            (extension, value) if extension.starts_with("x-") => message(out, 31, |out| {
                text(out, 1, extension);
                message(out, 2, |out| any(out, value));
            }),
            _ => {}
        }
    }
}

/// A value as YAML, of which JSON is a part.
fn any(out: &mut Vec<u8>, value: &Value) {
    text(out, 2, &value.to_string());
}

fn text(out: &mut Vec<u8>, field: u64, text: &str) {
    varint(out, field << 3 | 2);
    varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn message(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    varint(out, field << 3 | 2);
    varint(out, inner.len() as u64);
    out.append(&mut inner);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_lose_what_v2_does_not_have() {
        let newer = json!({"type": "object", "properties": {
            "a": {"allOf": [{"$ref": "#/components/schemas/x.A"}], "default": {}},
            "b": {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"},
            "c": {"type": "array", "items": {"allOf": [{"$ref": "#/components/schemas/x.A"}]}}}});
        assert_eq!(
            older(&newer),
            json!({"type": "object", "properties": {
                "a": {"$ref": "#/definitions/x.A", "default": {}},
                "b": {"type": "string", "format": "int-or-string"},
                "c": {"type": "array", "items": {"$ref": "#/definitions/x.A"}}}})
        );
    }
}
