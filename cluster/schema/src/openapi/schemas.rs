//! The schemas of types that paths lead to.

use super::{
    Form,
    names::{META, definition},
    routes::{Payload, Routes, VERSION},
};
use crate::{Field, ListType, Schema, Shape, TypeId};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Definitions by name.
pub(super) type Reached = BTreeMap<String, Definition>;

/// What a definition is.
#[derive(Clone)]
pub(super) enum Definition {
    /// A type of the table.
    Type(TypeId),
    /// One that is written down, in the form of v3.
    Written(Value),
}

/// The definitions that routes lead to.
pub(super) fn reached(routes: &Routes) -> Reached {
    let mut found = Reached::new();
    for route in routes.values().flatten() {
        let body = route.body.as_ref().map(|(payload, _)| payload);
        for payload in [Some(&route.answer), body].into_iter().flatten() {
            match payload {
                Payload::Type(id) => reach(*id, &mut found),
                Payload::Named(name) => {
                    if let Some(written) = written(name) {
                        found.insert(name.clone(), Definition::Written(written));
                    }
                }
                Payload::Text => {}
            }
        }
    }
    found
}

/// The definitions that a type leads to.
pub(super) fn reached_from(id: TypeId) -> Reached {
    let mut found = Reached::new();
    reach(id, &mut found);
    found
}

/// What every custom resource leads to.
pub(super) fn reach_metadata(found: &mut Reached) {
    for kind in ["ObjectMeta", "ListMeta"] {
        let gvk = strata_meta::GroupVersionKind::new("meta.k8s.io", "v1", kind);
        if let Some(id) = Schema::builtin().type_of(&gvk) {
            reach(id, found);
        }
    }
}

fn reach(id: TypeId, found: &mut Reached) {
    let info = Schema::builtin().type_info(id);
    if found.insert(definition(info), Definition::Type(id)).is_none() {
        info.fields.iter().for_each(|field| reach_shape(&field.shape, found));
    }
}

fn reach_shape(shape: &Shape, found: &mut Reached) {
    match Schema::builtin().resolve(shape) {
        Shape::Struct(id) => reach(*id, found),
        Shape::List(item) | Shape::Map(_, item) => reach_shape(item, found),
        simple => {
            if let Some((name, definition)) = special_definition(simple) {
                found.insert(name.to_owned(), Definition::Written(definition));
            }
        }
    }
}

/// Definitions of types that the table does not have.
fn written(name: &str) -> Option<Value> {
    if name == VERSION {
        let text = || json!({"type": "string", "default": ""});
        let always = [
            "major",
            "minor",
            "gitVersion",
            "gitCommit",
            "gitTreeState",
            "buildDate",
            "goVersion",
            "compiler",
            "platform",
        ];
        let sometimes = [
            "emulationMajor",
            "emulationMinor",
            "minCompatibilityMajor",
            "minCompatibilityMinor",
        ];
        let mut properties: Map<String, Value> = always.map(|name| (name.to_owned(), text())).into_iter().collect();
        properties.extend(sometimes.map(|name| (name.to_owned(), json!({"type": "string"}))));
        return Some(json!({"type": "object", "properties": properties, "required": always}));
    }
    (name == format!("{META}.Patch")).then(|| json!({"type": "object"}))
}

/// A definition in v3's form.
pub(super) fn render(definition: &Definition, kinds: &[(&str, &str, &str)]) -> Value {
    let id = match definition {
        Definition::Written(value) => return value.clone(),
        Definition::Type(id) => *id,
    };
    let info = Schema::builtin().type_info(id);
    let mut object = Map::from_iter([("type".to_owned(), json!("object"))]);
    let properties: Map<String, Value> = info
        .fields
        .iter()
        .map(|field| (field.name.to_owned(), property(field)))
        .collect();
    if !properties.is_empty() {
        object.insert("properties".to_owned(), Value::Object(properties));
    }
    let required: Vec<&str> = info.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    if !required.is_empty() {
        object.insert("required".to_owned(), json!(required));
    }
    if info.atomic {
        object.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    if let Some((discriminator, members)) = info.union.and_then(|union| union.split_once(':')) {
        let members: Map<String, Value> = members
            .split(',')
            .filter_map(|member| member.split_once('='))
            .map(|(json, go)| (json.to_owned(), json!(go)))
            .collect();
        let mut union = json!({"fields-to-discriminateBy": members});
        if !discriminator.is_empty() {
            union["discriminator"] = json!(discriminator);
        }
        object.insert("x-kubernetes-unions".to_owned(), json!([union]));
    }
    if !kinds.is_empty() {
        let kinds: Vec<Value> = kinds
            .iter()
            .map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind}))
            .collect();
        object.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds));
    }
    Value::Object(object)
}

fn property(field: &Field) -> Value {
    let mut property = value(&field.shape, field.pointer || field.omit_empty, field.pointer);
    if let Some(default) = field.default.and_then(|text| serde_json::from_str(text).ok()) {
        property.insert("default".to_owned(), default);
    }
    let mut extend = |name: &str, value: Value| property.insert(format!("x-kubernetes-{name}"), value);
    match field.list_type {
        _ if !field.list_declared => {}
        ListType::Atomic => drop(extend("list-type", json!("atomic"))),
        ListType::Set => drop(extend("list-type", json!("set"))),
        ListType::Map => {
            extend("list-type", json!("map"));
            extend("list-map-keys", json!(field.list_keys));
        }
    }
    if let Some(atomic) = field.atomic {
        extend("map-type", json!(if atomic { "atomic" } else { "granular" }));
    }
    let patch = field.patch;
    let strategies = [
        (patch.merge, "merge"),
        (patch.retain_keys, "retainKeys"),
        (patch.replace, "replace"),
    ];
    let strategies: Vec<&str> = strategies
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, name)| *name)
        .collect();
    if !strategies.is_empty() {
        extend("patch-strategy", json!(strategies.join(",")));
    }
    if let Some(key) = field.patch.key {
        extend("patch-merge-key", json!(key));
    }
    wrap_reference(property)
}

/// The schema of a value. `open` says that it has no default of its own.
fn value(shape: &Shape, open: bool, pointer: bool) -> Map<String, Value> {
    let schema = Schema::builtin();
    let simple = |kind: &str, format: &str, zero: Value| {
        let mut map = Map::from_iter([("type".to_owned(), json!(kind))]);
        if !format.is_empty() {
            map.insert("format".to_owned(), json!(format));
        }
        if !open && !zero.is_null() {
            map.insert("default".to_owned(), zero);
        }
        map
    };
    match shape {
        Shape::Named(index) => {
            let named = schema.named(*index);
            let mut value = value(&named.shape, open, pointer);
            if !named.values.is_empty() {
                value.insert("enum".to_owned(), json!(named.values));
            }
            value
        }
        Shape::String => simple("string", "", json!("")),
        Shape::Bool => simple("boolean", "", json!(false)),
        Shape::Int32 => simple("integer", "int32", json!(0)),
        Shape::Int64 | Shape::Uint32 | Shape::Uint64 => simple("integer", "int64", json!(0)),
        Shape::Float64 => simple("number", "double", json!(0)),
        Shape::Bytes => simple("string", "byte", Value::Null),
        Shape::Duration => simple("string", "", Value::Null),
        Shape::Struct(id) => {
            let mut value = reference(&definition(schema.type_info(*id)));
            if !pointer {
                value.insert("default".to_owned(), json!({}));
            }
            value
        }
        Shape::List(item) => {
            let items = wrap_reference(value(item, false, false));
            Map::from_iter([("type".to_owned(), json!("array")), ("items".to_owned(), items)])
        }
        Shape::Map(_, item) => {
            let items = wrap_reference(value(item, false, false));
            Map::from_iter([
                ("type".to_owned(), json!("object")),
                ("additionalProperties".to_owned(), items),
            ])
        }
        special => special_definition(special).map_or_else(Map::new, |(name, _)| reference(name)),
    }
}

fn reference(name: &str) -> Map<String, Value> {
    Map::from_iter([("$ref".to_owned(), Form::V3.reference(name)["$ref"].take())])
}

/// A reference with anything beside it has to stand in an allOf.
fn wrap_reference(mut value: Map<String, Value>) -> Value {
    if value.len() > 1
        && let Some(target) = value.remove("$ref")
    {
        value.insert("allOf".to_owned(), json!([{"$ref": target}]));
    }
    Value::Object(value)
}

fn special_definition(shape: &Shape) -> Option<(&'static str, Value)> {
    let time = || json!({"type": "string", "format": "date-time"});
    Some(match shape {
        Shape::Quantity => (
            "io.k8s.apimachinery.pkg.api.resource.Quantity",
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ),
        Shape::IntOrString => (
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
        Shape::Time => ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", time()),
        Shape::MicroTime => ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", time()),
        Shape::Fields => (
            "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
            json!({"type": "object"}),
        ),
        Shape::Raw => (
            "io.k8s.apimachinery.pkg.runtime.RawExtension",
            json!({"type": "object"}),
        ),
        Shape::SchemaOrArray => (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
            json!({}),
        ),
        Shape::SchemaOrBool => (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
            json!({}),
        ),
        Shape::SchemaOrStrings => (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
            json!({}),
        ),
        Shape::Json => (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
            json!({}),
        ),
        _ => return None,
    })
}

/// A v3 schema as v2 says it: numbers that may be texts are texts, and there are no defaults.
pub(super) fn older(schema: Value) -> Value {
    let Value::Object(members) = schema else {
        return schema;
    };
    let mut out = Map::new();
    for (name, member) in members {
        let converted = match (name.as_str(), member) {
            ("default", _) => continue,
            ("$ref", Value::String(target)) => json!(target.replace("#/components/schemas/", "#/definitions/")),
            ("properties", Value::Object(properties)) => properties.into_iter().map(|(n, s)| (n, older(s))).collect(),
            ("items" | "additionalProperties", inner) => older(inner),
            // In v2 a reference stands beside other members.
            ("allOf", Value::Array(mut list)) if list.len() == 1 => {
                if let Value::Object(inner) = older(list[0].take()) {
                    out.extend(inner);
                }
                continue;
            }
            ("oneOf", _) => {
                out.insert("type".to_owned(), json!("string"));
                continue;
            }
            (_, other) => other,
        };
        out.insert(name, converted);
    }
    Value::Object(out)
}
