//! Custom resources in the OpenAPI documents: their schemas are read from the definitions when they are written.

use super::described;
use crate::{
    extension::Custom,
    json,
    registry::{Row, Rows},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
use std::sync::Arc;
use strata_meta::{GroupVersion, GroupVersionKind};
use strata_schema::{Form, Lazy, Subject, openapi_custom_name};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The custom resources of a group and version.
pub(super) fn rows_of<'r>(rows: &'r Rows, version: &GroupVersion) -> Vec<(&'r Arc<Row>, &'r Custom)> {
    let here = rows.iter().filter(|row| row.gvk.group_version() == *version);
    here.filter_map(|row| Some((row, row.schema.custom()?))).collect()
}

/// Adds what a group and version's description depends on.
pub(super) fn digest(rows: &Rows, version: &GroupVersion, hash: &mut Sha512) {
    for (row, custom) in rows_of(rows, version) {
        for text in [&row.gvk.to_string(), &row.resource.resource, &row.list_kind] {
            hash.update(text);
            hash.update([0]);
        }
        hash.update([u8::from(row.namespaced)]);
        hash.update(custom.version().edition.to_be_bytes());
        let subresources = row.subresources.iter().map(|sub| &sub.name);
        for text in subresources.chain(&row.verbs).chain(&custom.version().selectable) {
            hash.update(text);
            hash.update([0]);
        }
    }
}

/// What a document says of a group and version's custom resources.
pub(super) fn subject<'r>(rows: &'r Rows, version: &GroupVersion, form: Form) -> Subject<'r> {
    let mut kinds = Vec::new();
    let mut schemas: Vec<(String, Lazy<'r>)> = Vec::new();
    for (row, custom) in rows_of(rows, version) {
        kinds.push(described(row));
        let list = GroupVersionKind::new(&row.gvk.group, &row.gvk.version, &row.list_kind);
        schemas.push((
            openapi_custom_name(&row.gvk),
            Box::new(move || schema(row, custom, form)),
        ));
        schemas.push((
            openapi_custom_name(&list),
            Box::new(move || list_schema(row, custom, form)),
        ));
    }
    Subject::Custom(kinds, schemas)
}

/// A reference with a description beside it.
fn reference(form: Form, name: &str, description: &str) -> Value {
    let reference = form.reference(name);
    match form {
        Form::V2 => {
            let mut value = reference;
            value["description"] = json!(description);
            value
        }
        Form::V3 => json!({"allOf": [reference], "description": description}),
    }
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

fn add_meta(properties: &mut Map<String, Value>, form: Form, meta: &str) {
    properties.insert(
        "apiVersion".into(),
        json!({"type": "string", "description": API_VERSION}),
    );
    properties.insert("kind".into(), json!({"type": "string", "description": KIND}));
    properties.insert("metadata".into(), reference(form, &format!("{META}.{meta}"), METADATA));
}

fn kinds_of(gvk: &GroupVersionKind) -> Value {
    json!([{"group": gvk.group, "version": gvk.version, "kind": gvk.kind}])
}

fn schema(row: &Row, custom: &Custom, form: Form) -> Value {
    let stated = custom.schema_value();
    let open = stated
        .as_ref()
        .is_none_or(|s| form == Form::V2 && json::flag(s, PRESERVE));
    let mut value = match stated {
        Some(schema) if !open => schema,
        _ => json!({"type": "object"}),
    };
    if !open {
        match form {
            Form::V2 => older(&mut value),
            Form::V3 => unfold(&mut value),
        }
        value["type"] = json!("object");
        embedded(&mut value, form);
        add_meta(json::object_mut(&mut value, "properties"), form, "ObjectMeta");
    }
    value["x-kubernetes-group-version-kind"] = kinds_of(&row.gvk);
    add_selectable(&mut value, custom);
    value
}

fn add_selectable(value: &mut Value, custom: &Custom) {
    let selectable = &custom.version().selectable;
    if !selectable.is_empty() {
        let fields: Vec<Value> = selectable.iter().map(|path| json!({"fieldPath": path})).collect();
        value["x-kubernetes-selectable-fields"] = json!(fields);
    }
}

fn list_schema(row: &Row, custom: &Custom, form: Form) -> Value {
    let gvk = &row.gvk;
    let item = form.reference(&openapi_custom_name(gvk));
    let mut value = json!({
        "description": format!("{} is a list of {}", row.list_kind, gvk.kind),
        "type": "object", "required": ["items"],
        "properties": {"items": {"type": "array", "items": item,
            "description": format!("List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", row.resource.resource)}},
        "x-kubernetes-group-version-kind": [{"group": gvk.group, "version": gvk.version, "kind": row.list_kind}],
    });
    add_meta(json::object_mut(&mut value, "properties"), form, "ListMeta");
    add_selectable(&mut value, custom);
    value
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";

/// Embedded resources have what every object has.
fn embedded(schema: &mut Value, form: Form) {
    for (_, below) in nested(schema) {
        embedded(below, form);
    }
    if !json::flag(schema, EMBEDDED) || (form == Form::V2 && json::flag(schema, PRESERVE)) {
        return;
    }
    add_meta(json::object_mut(schema, "properties"), form, "ObjectMeta");
    let mut required = json::list(schema, "required").to_vec();
    for name in ["kind", "apiVersion"] {
        if !required.iter().any(|r| r == name) {
            required.push(json!(name));
        }
    }
    schema["required"] = json!(required);
}

/// The schemas right below one that say what values look like.
fn nested(schema: &mut Value) -> Vec<(String, &mut Value)> {
    let mut found = Vec::new();
    for (name, member) in schema.as_object_mut().into_iter().flatten() {
        match name.as_str() {
            "properties" => {
                let all = member.as_object_mut().into_iter().flatten();
                found.extend(all.map(|(name, below)| (name.clone(), below)));
            }
            "items" | "additionalProperties" if member.is_object() => found.push((String::new(), member)),
            _ => {}
        }
    }
    found
}

/// What may be a number or a text says so in the words of JSON schema, too.
fn unfold(schema: &mut Value) {
    for (_, below) in nested(schema) {
        unfold(below);
    }
    let either = || json!([{"type": "integer"}, {"type": "string"}]);
    let said = schema.get("anyOf") == Some(&either()) || schema.pointer("/allOf/0/anyOf") == Some(&either());
    if !json::flag(schema, "x-kubernetes-int-or-string") || said {
        return;
    }
    if schema.get("anyOf").is_none() {
        schema["anyOf"] = either();
        return;
    }
    let mut all = vec![json!({"anyOf": either()})];
    all.extend(json::list(schema, "allOf").iter().cloned());
    schema["allOf"] = Value::Array(all);
}

/// What v2 cannot say is left out, so that clients that read it refuse nothing that is right.
fn older(schema: &mut Value) {
    let values_nullable = schema
        .get("additionalProperties")
        .is_some_and(|s| json::flag(s, "nullable"));
    let nullable: Vec<String> = nested(schema)
        .into_iter()
        .filter_map(|(name, below)| json::flag(below, "nullable").then_some(name))
        .collect();
    let preserve = json::flag(schema, PRESERVE);
    let is_nullable = json::flag(schema, "nullable");
    let Some(map) = schema.as_object_mut() else { return };
    for name in ["allOf", "oneOf", "anyOf", "not", "nullable", "default"] {
        map.remove(name);
    }
    if is_nullable || preserve {
        map.remove("items");
        map.remove("properties");
    }
    let kind = map.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
    let bare = kind == "array" && !map.contains_key("items");
    if is_nullable || bare || (preserve && kind == "object") {
        map.remove("type");
    }
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|r| !nullable.iter().any(|n| r == n));
        if required.is_empty() || values_nullable {
            map.remove("required");
        }
    }
    for (_, below) in nested(schema) {
        older(below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_number_or_a_text_says_so() {
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        let mut schema = json!({"properties": {
            "a": {"x-kubernetes-int-or-string": true},
            "b": {"x-kubernetes-int-or-string": true, "anyOf": [{"pattern": "^a"}]}}});
        unfold(&mut schema);
        assert_eq!(schema["properties"]["a"]["anyOf"], either);
        assert_eq!(schema["properties"]["b"]["allOf"], json!([{"anyOf": either}]));
        let once = schema.clone();
        unfold(&mut schema);
        assert_eq!(schema, once);
    }

    #[test]
    fn v2_leaves_out_what_it_cannot_say() {
        let mut schema = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "nullable": true, "description": "A.", "default": "x"},
            "b": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "c": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"d": {"type": "string"}}},
            "e": {"type": "array", "items": {"type": "object", "oneOf": [{"required": ["x"]}]}}}});
        older(&mut schema);
        assert_eq!(
            schema,
            json!({"type": "object", "required": ["b"], "properties": {
                "a": {"description": "A."},
                "b": {"x-kubernetes-int-or-string": true},
                "c": {"x-kubernetes-preserve-unknown-fields": true},
                "e": {"type": "array", "items": {"type": "object"}}}})
        );
    }
}
