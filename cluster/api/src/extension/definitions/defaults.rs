//! Defaults fit the schema they stand in, and nothing of them would be pruned.

use crate::{extension::expressions, json, strategy::Causes, validate};
use serde_json::{Value, json};
use std::sync::Arc;
use strata_meta::StatusCause;
use strata_schema::structural::{Shown, Structural, decode_embedded_metadata, whole_numbers};

const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const EITHER: &str = "x-kubernetes-int-or-string";

/// Problems of the defaults of a schema and of all below it, but for additional members: those have none.
pub(super) fn check(schema: &Value, path: &str, causes: &mut Causes) {
    if let Some(default) = schema.get("default").filter(|d| !d.is_null()) {
        one(schema, default, &format!("{path}.default"), causes);
    }
    for (name, property) in json::members(schema, "properties") {
        check(property, &format!("{path}.properties[{name}]"), causes);
    }
    if let Some(items) = schema.get("items").filter(|b| b.is_object()) {
        check(items, &format!("{path}.items"), causes);
    }
}

fn one(schema: &Value, default: &Value, at: &str, causes: &mut Causes) {
    let mut whole = default.clone();
    whole_numbers(&mut whole);
    // An embedded resource keeps what says what it is.
    let wrap = |schema: &Value| Structural::parse(&json!({"type": "object", "properties": {"value": schema}}));
    let wrapped = wrap(schema);
    let mut holder = json!({"value": whole});
    if !wrapped.prune(&mut holder).is_empty() {
        let why = "must not have unknown fields";
        causes.push(StatusCause::invalid(at, Shown(default), why));
    }
    let mut holder = json!({"value": whole});
    if let Err(why) = wrapped.read_embedded(&mut holder) {
        return causes.push(misread(at, &why));
    }
    let value = holder["value"].take();
    let mut found = Vec::new();
    let metadata = |value: &Value, path: &str, causes: &mut Causes| {
        let holder = json!({"metadata": value});
        let all = validate::metadata(&holder, true, validate::NameRule::PathSegment);
        let all = all.into_iter().filter(|c| c.reason != "FieldValueRequired");
        causes.extend(all.map(|cause| StatusCause {
            field: cause.field.replacen("metadata", path, 1),
            ..cause
        }));
    };
    wrapped.check_embedded(&json!({"value": value}), &metadata, &mut found);
    for cause in &mut found {
        cause.field = cause.field.replacen("value", at, 1);
    }
    if found.is_empty() {
        Structural::parse(&without_either(schema)).validate(&value, None, &mut found);
        if found.is_empty() {
            let schema = Arc::new(Structural::parse(schema));
            found = expressions::check_default(&schema, &value);
        }
        for cause in &mut found {
            cause.field = match cause.field.as_str() {
                "" | "<nil>" => at.to_owned(),
                below => format!("{at}.{below}"),
            };
        }
    }
    causes.extend(found);
}

/// What decoding says of an embedded resource, as a cause.
fn misread(at: &str, why: &str) -> StatusCause {
    let (place, why) = why.split_once(": ").unwrap_or(("value", why));
    StatusCause {
        reason: "FieldValueInvalid".into(),
        message: why.to_owned(),
        field: place.replacen("value", at, 1),
    }
}

/// Upstream validates defaults by a form of the schema that forgets what may be a number or a text.
fn without_either(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let members = map.iter().filter(|(name, _)| *name != EITHER);
            members
                .map(|(name, member)| (name.clone(), without_either(member)))
                .collect()
        }
        Value::Array(list) => list.iter().map(without_either).collect(),
        other => other.clone(),
    }
}

/// Brings the metadata in defaults of embedded resources into form, as upstream stores them.
pub(super) fn tidy(schema: &mut Value) {
    let embedded = json::flag(schema, EMBEDDED);
    if let Some(metadata) = schema.get_mut("default").and_then(|d| d.get_mut("metadata"))
        && embedded
    {
        let mut read = metadata.clone();
        // What cannot be read is for validation to refuse.
        if decode_embedded_metadata(&mut read).is_ok() {
            *metadata = read;
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(below) = schema.get_mut(name).filter(|b| b.is_object()) {
            tidy(below);
        }
    }
}
