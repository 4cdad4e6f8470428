//! The component schemas: one for each type that a group and version's resources lead to.

use crate::{Field, KindInfo, ListType, Schema, Shape, TypeId, TypeInfo};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use strata_meta::GroupVersionKind;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Kinds of the meta group that are part of every group and version.
const COMMON: &[&str] = &["DeleteOptions", "WatchEvent", "Status", "APIResourceList"];

/// The schemas of everything the kinds lead to.
pub(super) fn reachable(schema: &Schema, kinds: &[&KindInfo]) -> Value {
    let mut found = Found {
        schema,
        schemas: BTreeMap::new(),
    };
    for kind in kinds {
        found.root(&kind.gvk());
        if kind.allows("list") {
            found.root(&GroupVersionKind::new(kind.group, kind.version, &kind.list_kind));
        }
        for sub in kind.subresources.iter().filter(|sub| !sub.kind.ends_with("Options")) {
            found.root(&GroupVersionKind::new(sub.group, sub.version, sub.kind));
        }
    }
    for name in COMMON {
        found.root(&GroupVersionKind::new("meta.k8s.io", "v1", name));
    }
    found.schemas.insert(format!("{META}.Patch"), json!({"type": "object"}));
    Value::Object(found.schemas.into_iter().collect())
}

/// What the documents of all kinds refer to.
pub(super) fn shared() -> Value {
    let mut found = Found {
        schema: Schema::builtin(),
        schemas: BTreeMap::new(),
    };
    found.root(&GroupVersionKind::new("autoscaling", "v1", "Scale"));
    for name in COMMON {
        found.root(&GroupVersionKind::new("meta.k8s.io", "v1", name));
    }
    found.schemas.insert(format!("{META}.Patch"), json!({"type": "object"}));
    Value::Object(found.schemas.into_iter().collect())
}

/// The name of a kind that is defined at run time.
pub(super) fn custom_definition(gvk: &GroupVersionKind) -> String {
    let parts: Vec<&str> = gvk.group.rsplit('.').collect();
    format!("{}.{}.{}", parts.join("."), gvk.version, gvk.kind)
}

struct Found<'s> {
    schema: &'s Schema,
    schemas: BTreeMap<String, Value>,
}

impl Found<'_> {
    fn root(&mut self, gvk: &GroupVersionKind) {
        let Some(id) = self.schema.type_of(gvk) else { return };
        self.add(id);
        let name = definition(self.schema.type_info(id));
        let group = if gvk.group == "meta.k8s.io" { "" } else { &gvk.group };
        if let Some(Value::Object(object)) = self.schemas.get_mut(&name) {
            let kinds = object
                .entry("x-kubernetes-group-version-kind")
                .or_insert_with(|| json!([]));
            let kind = json!({"group": group, "version": gvk.version, "kind": gvk.kind});
            if let Some(kinds) = kinds.as_array_mut().filter(|kinds| !kinds.contains(&kind)) {
                kinds.push(kind);
            }
        }
    }

    fn add(&mut self, id: TypeId) {
        let info = self.schema.type_info(id);
        let name = definition(info);
        if self.schemas.contains_key(&name) {
            return;
        }
        self.schemas.insert(name.clone(), Value::Null);
        let mut object = Map::from_iter([("type".to_owned(), json!("object"))]);
        let mut properties = Map::new();
        for field in &info.fields {
            properties.insert(field.name.to_owned(), self.property(field));
        }
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
        self.schemas.insert(name, Value::Object(object));
    }

    fn property(&mut self, field: &Field) -> Value {
        let mut property = self.value(&field.shape, field.pointer || field.omit_empty, field.pointer);
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
    fn value(&mut self, shape: &Shape, open: bool, pointer: bool) -> Map<String, Value> {
        let schema = self.schema;
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
                let mut value = self.value(&named.shape, open, pointer);
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
                self.add(*id);
                let mut value = reference(&definition(schema.type_info(*id)));
                if !pointer {
                    value.insert("default".to_owned(), json!({}));
                }
                value
            }
            Shape::List(item) => {
                let items = wrap_reference(self.value(item, false, false));
                Map::from_iter([("type".to_owned(), json!("array")), ("items".to_owned(), items)])
            }
            Shape::Map(_, item) => {
                let items = wrap_reference(self.value(item, false, false));
                Map::from_iter([
                    ("type".to_owned(), json!("object")),
                    ("additionalProperties".to_owned(), items),
                ])
            }
            special => {
                let (name, definition) = special_definition(special);
                self.schemas.insert(name.to_owned(), definition);
                reference(name)
            }
        }
    }
}

fn reference(name: &str) -> Map<String, Value> {
    Map::from_iter([("$ref".to_owned(), json!(format!("#/components/schemas/{name}")))])
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

/// `io.k8s.api.apps.v1.Deployment`.
fn definition(info: &TypeInfo) -> String {
    let package = match info.package {
        "meta/v1" => META.to_owned(),
        "meta/v1beta1" => "io.k8s.apimachinery.pkg.apis.meta.v1beta1".to_owned(),
        "apiextensions/v1" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1".to_owned(),
        "apiregistration/v1" => "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1".to_owned(),
        other => format!("io.k8s.api.{}", other.replace('/', ".")),
    };
    format!("{package}.{}", info.name)
}

fn special_definition(shape: &Shape) -> (&'static str, Value) {
    let time = || json!({"type": "string", "format": "date-time"});
    match shape {
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
        _ => (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
            json!({}),
        ),
    }
}

/// The definition name of a kind; that of any object if the table does not know it.
pub(super) fn definition_of(gvk: &GroupVersionKind) -> String {
    let schema = Schema::builtin();
    match schema.type_of(gvk) {
        Some(id) => definition(schema.type_info(id)),
        None if gvk.group.contains('.') => custom_definition(gvk),
        None => special_definition(&Shape::Raw).0.to_owned(),
    }
}
