//! Custom resources in the OpenAPI documents. They are made when asked for; nothing of them is kept.

use super::Custom;
use crate::{
    json,
    registry::{Row, Rows},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use strata_meta::{GroupVersion, GroupVersionKind};
use strata_schema::{DescribedKind, DescribedSubresource, openapi_custom_name};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

fn custom_rows<'r>(rows: &'r Rows, version: &'r GroupVersion) -> impl Iterator<Item = (&'r Arc<Row>, &'r Custom)> {
    let here = rows.iter().filter(|row| row.gvk.group_version() == *version);
    here.filter_map(|row| Some((row, row.schema.custom()?)))
}

/// Groups and versions with custom resources, and what changes whenever their document does.
pub(crate) fn versions(rows: &Rows) -> Vec<(GroupVersion, String)> {
    let mut found: Vec<GroupVersion> = Vec::new();
    for row in rows.iter().filter(|row| row.schema.is_custom()) {
        let version = row.gvk.group_version();
        if !found.contains(&version) {
            found.push(version);
        }
    }
    let hashed = |version: GroupVersion| {
        let mut hash = Sha256::new();
        for (row, custom) in custom_rows(rows, &version) {
            hash.update(row.gvk.to_string());
            hash.update(&row.resource.resource);
            hash.update(&row.list_kind);
            hash.update([u8::from(row.namespaced)]);
            hash.update(custom.version().edition.to_be_bytes());
            row.subresources.iter().for_each(|sub| hash.update(&sub.name));
            row.verbs.iter().for_each(|verb| hash.update(verb));
            custom.version().selectable.iter().for_each(|path| hash.update(path));
        }
        let hex: String = hash.finalize().iter().map(|b| format!("{b:02X}")).collect();
        (version, hex)
    };
    found.into_iter().map(hashed).collect()
}

/// The v3 document of a group and version; `None` if there is no custom resource in it.
pub(crate) fn document(rows: &Rows, version: &GroupVersion) -> Option<Value> {
    let mut kinds = Vec::new();
    let mut schemas = Map::new();
    for (row, custom) in custom_rows(rows, version) {
        kinds.push(described(row));
        schemas.insert(openapi_custom_name(&row.gvk), schema(row, custom, Form::V3));
        let list = GroupVersionKind::new(&row.gvk.group, &row.gvk.version, &format!("{}List", row.gvk.kind));
        schemas.insert(openapi_custom_name(&list), list_schema(row, Form::V3));
    }
    (!kinds.is_empty()).then(|| strata_schema::openapi_v3_custom(&kinds, schemas))
}

/// The v2 definitions of all custom resources.
pub(crate) fn definitions(rows: &Rows) -> Map<String, Value> {
    let mut found = Map::new();
    for row in rows.iter() {
        let Some(custom) = row.schema.custom() else { continue };
        found.insert(openapi_custom_name(&row.gvk), schema(row, custom, Form::V2));
        let list = GroupVersionKind::new(&row.gvk.group, &row.gvk.version, &row.list_kind);
        found.insert(openapi_custom_name(&list), list_schema(row, Form::V2));
    }
    found
}

/// The v2 paths of all custom resources, as far as clients look at them.
pub(crate) fn paths(rows: &Rows) -> Map<String, Value> {
    let mut found = Map::new();
    for row in rows.iter().filter(|row| row.schema.is_custom()) {
        let gvk = &row.gvk;
        let scope = if row.namespaced { "/namespaces/{namespace}" } else { "" };
        let item = format!(
            "/apis/{}/{scope}/{}/{{name}}",
            gvk.group_version(),
            row.resource.resource
        );
        let kind = json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
        let operation = |action: &str| json!({"x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind});
        found.insert(
            item.replace("//", "/"),
            json!({"get": operation("get"), "patch": operation("patch")}),
        );
    }
    found
}

fn described(row: &Row) -> DescribedKind<'_> {
    let subresources = row.subresources.iter().map(|sub| DescribedSubresource {
        name: &sub.name,
        group: &sub.gvk.group,
        version: &sub.gvk.version,
        kind: &sub.gvk.kind,
        verbs: sub.verbs.iter().map(String::as_str).collect(),
    });
    DescribedKind {
        group: &row.gvk.group,
        version: &row.gvk.version,
        kind: &row.gvk.kind,
        plural: &row.resource.resource,
        namespaced: row.namespaced,
        verbs: row.verbs.iter().map(String::as_str).collect(),
        subresources: subresources.collect(),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    V2,
    V3,
}

impl Form {
    fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }

    /// A reference with a description beside it.
    fn described(self, name: &str, description: &str) -> Value {
        match self {
            Self::V2 => {
                let mut value = self.reference(name);
                value["description"] = json!(description);
                value
            }
            Self::V3 => json!({"allOf": [self.reference(name)], "default": {}, "description": description}),
        }
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
    properties.insert("metadata".into(), form.described(&format!("{META}.{meta}"), METADATA));
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
        if form == Form::V2 {
            older(&mut value);
        }
        value["type"] = json!("object");
        embedded(&mut value, form);
        add_meta(json::object_mut(&mut value, "properties"), form, "ObjectMeta");
    }
    value["x-kubernetes-group-version-kind"] = kinds_of(&row.gvk);
    let selectable = &custom.version().selectable;
    if !selectable.is_empty() {
        let fields: Vec<Value> = selectable.iter().map(|path| json!({"fieldPath": path})).collect();
        value["x-kubernetes-selectable-fields"] = json!(fields);
    }
    value
}

fn list_schema(row: &Row, form: Form) -> Value {
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

/// What v2 cannot say is left out, so that clients that read it refuse nothing that is right.
fn older(schema: &mut Value) {
    let nullable: Vec<String> = nested(schema)
        .into_iter()
        .filter_map(|(name, below)| json::flag(below, "nullable").then_some(name))
        .collect();
    let preserve = json::flag(schema, PRESERVE);
    let is_nullable = json::flag(schema, "nullable");
    let Some(map) = schema.as_object_mut() else { return };
    for name in ["allOf", "oneOf", "anyOf", "not", "nullable"] {
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
        if required.is_empty() || nullable.iter().any(String::is_empty) {
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
    fn v2_leaves_out_what_it_cannot_say() {
        let mut schema = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "nullable": true, "description": "A."},
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
