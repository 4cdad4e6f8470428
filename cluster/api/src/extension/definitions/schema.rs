//! What is wrong with a schema: that it is structural, and that what it says makes sense.

use super::{defaults, internal};
use crate::{json, strategy::Causes, validate::Field};
use serde_json::Value;
use strata_meta::StatusCause;
use strata_schema::structural::compiled_pattern;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const META: &[&str] = &["apiVersion", "kind", "metadata"];

/// Members that do not fit structural schemas.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("id", "id is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("$ref", "$ref is not supported"),
];

/// Members that only the structure itself may have, not the conditions in allOf, anyOf, oneOf and not.
const STRUCTURE: &[(&str, &str)] = &[
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

/// Where a node of a schema stands.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// The schemas right below one, with what leads there.
pub(in crate::extension) fn below(schema: &Value) -> impl Iterator<Item = (String, &Value)> {
    let member = |name: &'static str| {
        schema
            .get(name)
            .filter(|v| v.is_object())
            .map(|v| (format!(".{name}"), v))
    };
    let list = |name: &'static str| {
        let items = json::list(schema, name).iter().enumerate();
        items.map(move |(at, v)| (format!(".{name}[{at}]"), v))
    };
    let properties = json::members(schema, "properties").map(|(name, v)| (format!(".properties[{name}]"), v));
    properties
        .chain(member("items"))
        .chain(member("additionalProperties"))
        .chain(member("not"))
        .chain(list("allOf"))
        .chain(list("oneOf"))
        .chain(list("anyOf"))
}

/// How large all regular expressions of a definition may be together, their repetitions written out: some ten times
/// what the largest definitions in use have.
pub(in crate::extension) const MAX_PATTERNS: u64 = 2_000_000;
/// What is said of a definition that has more.
pub(in crate::extension) const TOO_MANY_PATTERNS: &str =
    "the regular expressions of the definition are too large together (try fewer or smaller repetition counts)";

/// How large the patterns of a schema are.
fn pattern_weight(schema: &Value) -> u64 {
    let own = match json::text(schema, "pattern") {
        "" => 0,
        pattern => strata_cel::pattern_weight(pattern),
    };
    below(schema).fold(own, |sum, (_, part)| sum.saturating_add(pattern_weight(part)))
}

/// Most text of the paths to all places of a schema, in bytes: each is written when its place is looked at, so that one
/// long name with many places below it would be copied for all of them. The largest schemas in use have a tenth.
const MAX_PATHS: usize = 32 << 20;

/// The text of the paths to a place and all below it.
fn path_weight(schema: &Value, path: usize) -> usize {
    below(schema).fold(path, |sum, (step, part)| {
        sum.saturating_add(path_weight(part, path + step.len()))
    })
}

/// Problems of a version's `schema`. `unchanged` is whether it is as it was before an update; `patterns` is how large
/// the regular expressions of the definition are so far.
pub(super) fn validate(holder: &Field<'_>, status: bool, unchanged: bool, patterns: &mut u64, causes: &mut Causes) {
    let field = holder.at("openAPIV3Schema");
    let schema = field.value();
    if !schema.is_object() {
        return;
    }
    *patterns = patterns.saturating_add(pattern_weight(schema));
    if *patterns > MAX_PATTERNS && !unchanged {
        causes.push(StatusCause::forbidden(field.path(), TOO_MANY_PATTERNS));
        return;
    }
    if !unchanged && path_weight(schema, 0) > MAX_PATHS {
        let why = "the paths to the places of the schema are too long together (try shorter names)";
        causes.push(StatusCause::forbidden(field.path(), why));
        return;
    }
    let known = causes.len();
    let path = field.path();
    if status && json::text(schema, "type") != "object" && !json::text(schema, "type").is_empty() {
        causes.push(field.at("type").invalid(
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
        ));
    }
    if status && let Some(why) = internal::refused_at_root(schema) {
        causes.push(field.invalid_shown(internal::schema(schema), why));
    }
    if json::flag(schema, "nullable") {
        causes.push(StatusCause::forbidden(
            &format!("{path}.nullable"),
            "nullable cannot be true at the root",
        ));
    }
    let no_structure = no_structure(schema);
    let mut structural = Vec::new();
    if no_structure.is_none() {
        structure(schema, path, Level::Root, &mut structural);
    }
    structural.sort_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
    let sound = structural.is_empty() && no_structure.is_none();
    causes.extend(structural);
    if sound {
        defaults::check(schema, path, causes);
    }
    let place = Place {
        root: true,
        meta: false,
        no_defaults: None,
    };
    sense(schema, path, place, causes);
    if causes.len() == known
        && let Some(why) = no_structure
    {
        causes.push(field.invalid_as("", why));
    }
    if causes.len() == known {
        super::super::expressions::check_rules(schema, path, unchanged, patterns, causes);
    }
}

/// What keeps a schema from being read as a structural one.
fn no_structure(schema: &Value) -> Option<String> {
    const UNREAD: &[(&str, &str)] = &[
        ("id", "id"),
        ("$schema", "schema"),
        ("$ref", "$ref"),
        ("patternProperties", "patternProperties"),
        ("dependencies", "dependencies"),
        ("additionalItems", "additionalItems"),
        ("definitions", "definitions"),
    ];
    let said = |name: &str| schema.get(name).is_some_and(|v| !v.is_null() && *v != "");
    if let Some((_, shown)) = UNREAD.iter().find(|(name, _)| said(name)) {
        return Some(format!("OpenAPIV3Schema '{shown}' is not supported"));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".into());
    }
    below(schema).find_map(|(_, part)| no_structure(part))
}

fn either_int_or_string(list: Option<&Value>) -> bool {
    list == Some(&serde_json::json!([{"type": "integer"}, {"type": "string"}]))
}

/// Whether the schema is structural.
fn structure(schema: &Value, path: &str, level: Level, causes: &mut Causes) {
    let kind = json::text(schema, "type");
    let at = |name: &str| format!("{path}.{name}");
    let on = |name: &str| json::flag(schema, name);
    let (embedded, either) = (on("x-kubernetes-embedded-resource"), on("x-kubernetes-int-or-string"));
    let preserve = on("x-kubernetes-preserve-unknown-fields");
    if kind == "array" && schema.get("items").is_none_or(|i| !i.is_object()) {
        causes.push(StatusCause::required(&at("items"), "must be specified"));
    }
    if let Some(items) = schema.get("items").filter(|i| i.is_object()) {
        structure(items, &at("items"), Level::Item, causes);
    }
    for (name, property) in json::members(schema, "properties") {
        structure(property, &format!("{path}.properties[{name}]"), Level::Field, causes);
    }
    if let Some(additional) = schema.get("additionalProperties").filter(|a| !a.is_null()) {
        if level == Level::Root {
            causes.push(StatusCause::forbidden(
                &at("additionalProperties"),
                "must not be used at the root",
            ));
        }
        if embedded {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            causes.push(StatusCause::forbidden(&at("additionalProperties"), why));
        }
        if additional.is_object() {
            structure(additional, &at("additionalProperties"), Level::Field, causes);
        }
    }
    for (other, name) in [
        (preserve, "x-kubernetes-preserve-unknown-fields"),
        (embedded, "x-kubernetes-embedded-resource"),
    ] {
        if either && other {
            causes.push(StatusCause::invalid(
                &at(name),
                true,
                "must be false if x-kubernetes-int-or-string is true",
            ));
        }
    }
    conditions(schema, path, causes);
    types(schema, path, level, kind, causes);
    if embedded && !preserve && json::members(schema, "properties").next().is_none() {
        let why =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        causes.push(StatusCause::required(&at("properties"), why));
    }
    if level == Level::Root || embedded {
        metadata(schema, path, level, causes);
    }
}

fn types(schema: &Value, path: &str, level: Level, kind: &str, causes: &mut Causes) {
    let at = format!("{path}.type");
    let on = |name: &str| json::flag(schema, name);
    if on("x-kubernetes-embedded-resource") && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        causes.push(match kind {
            "" => StatusCause::required(&at, why),
            kind => StatusCause::invalid(&at, kind, why),
        });
    } else if kind.is_empty() && !on("x-kubernetes-int-or-string") && !on("x-kubernetes-preserve-unknown-fields") {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        causes.push(StatusCause::required(&at, why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        causes.push(StatusCause::invalid(&at, kind, "must be object at the root"));
    }
}

fn metadata(schema: &Value, path: &str, level: Level, causes: &mut Causes) {
    let property = |name: &str| schema.get("properties").and_then(|p| p.get(name));
    for (name, wanted, why) in [
        ("kind", "string", "must be string"),
        ("apiVersion", "string", "must be string"),
        ("metadata", "object", "must be object"),
    ] {
        if let Some(found) = property(name).map(|p| json::text(p, "type"))
            && found != wanted
        {
            causes.push(StatusCause::invalid(
                &format!("{path}.properties[{name}].type"),
                found,
                why,
            ));
        }
    }
    if level != Level::Root {
        return;
    }
    let only_names = |metadata: &Value| {
        let members = metadata.as_object().into_iter().flatten();
        let mut rest = members.filter(|(name, v)| match name.as_str() {
            "type" | "default" => false,
            "properties" => json::members(metadata, "properties").any(|(n, _)| n != "name" && n != "generateName"),
            _ => !v.is_null(),
        });
        rest.next().is_none()
    };
    if property("metadata").is_some_and(|m| !only_names(m)) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        causes.push(StatusCause::forbidden(&format!("{path}.properties[metadata]"), why));
    }
}

/// What a node asks of values, which says nothing of their structure.
fn conditions(schema: &Value, path: &str, causes: &mut Causes) {
    let either = json::flag(schema, "x-kubernetes-int-or-string");
    let first = json::list(schema, "allOf").first();
    for name in ["anyOf", "allOf", "oneOf"] {
        if name == "anyOf" && either && either_int_or_string(schema.get("anyOf")) {
            continue;
        }
        for (i, nested) in json::list(schema, name).iter().enumerate() {
            let skip = name == "allOf" && i == 0 && either && either_int_or_string(first.and_then(|f| f.get("anyOf")));
            condition(nested, &format!("{path}.{name}[{i}]"), skip, causes);
        }
    }
    if let Some(nested) = schema.get("not").filter(|n| n.is_object()) {
        condition(nested, &format!("{path}.not"), false, causes);
    }
    let pattern = json::text(schema, "pattern");
    if !pattern.is_empty()
        && let Err(why) = compiled_pattern(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        causes.push(StatusCause::invalid(&format!("{path}.pattern"), pattern, why));
    }
}

fn condition(schema: &Value, path: &str, skip_any: bool, causes: &mut Causes) {
    if !skip_any {
        conditions(schema, path, causes);
    }
    if let Some(items) = schema.get("items").filter(|i| i.is_object()) {
        condition(items, &format!("{path}.items"), false, causes);
    }
    for (name, property) in json::members(schema, "properties") {
        condition(property, &format!("{path}.properties[{name}]"), false, causes);
    }
    for (name, why) in STRUCTURE {
        let empty = match schema.get(name) {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(_) => false,
        };
        if !empty {
            causes.push(StatusCause::forbidden(&format!("{path}.{name}"), why));
        }
    }
    if schema.get("properties").is_some_and(|p| p.get("metadata").is_some()) {
        let why = "must not be specified in a nested context";
        causes.push(StatusCause::forbidden(&format!("{path}.properties[metadata]"), why));
    }
}

/// Where a node is, as far as it matters.
#[derive(Clone, Copy)]
struct Place {
    root: bool,
    meta: bool,
    no_defaults: Option<&'static str>,
}

/// Whether what a node says makes sense.
fn sense(schema: &Value, path: &str, place: Place, causes: &mut Causes) {
    let at = |name: &str| format!("{path}.{name}");
    let kind = json::text(schema, "type");
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        causes.push(StatusCause::forbidden(&at("type"), why));
    }
    if !kind.is_empty() && !TYPES.contains(&kind) {
        causes.push(StatusCause::not_supported(&at("type"), kind, TYPES));
    }
    if let (Some(_), Some(why)) = (schema.get("default").filter(|d| !d.is_null()), place.no_defaults) {
        causes.push(StatusCause::forbidden(
            &at("default"),
            &format!("must not be set {why}"),
        ));
    }
    for (name, why) in UNSUPPORTED {
        if schema.get(name).is_some_and(|v| !v.is_null() && *v != "") {
            causes.push(StatusCause::forbidden(&at(name), why));
        }
    }
    if schema.get("items").is_some_and(Value::is_array) {
        causes.push(StatusCause::forbidden(
            &at("items"),
            "items must be a schema object and not an array",
        ));
    }
    if place.meta && json::flag(schema, "x-kubernetes-embedded-resource") {
        let why = "must not be used inside of resource meta";
        causes.push(StatusCause::forbidden(&at("x-kubernetes-embedded-resource"), why));
    }
    if json::flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push(StatusCause::forbidden(&at("uniqueItems"), why));
    }
    let has_properties = json::members(schema, "properties").next().is_some();
    if has_properties
        && schema
            .get("additionalProperties")
            .is_some_and(|a| *a != true && !a.is_null())
    {
        let why = "additionalProperties and properties are mutual exclusive";
        causes.push(StatusCause::forbidden(&at("additionalProperties"), why));
    }
    for (step, nested) in below(schema) {
        let property = step.strip_prefix(".properties[").and_then(|s| s.strip_suffix(']'));
        let meta = property.is_some_and(|name| META.contains(&name))
            && (place.root || json::flag(schema, "x-kubernetes-embedded-resource"));
        let no_defaults = match property {
            Some("metadata") if meta && place.root => Some("in top-level metadata"),
            Some("kind") if meta && place.root => Some("in top-level kind"),
            Some("apiVersion") if meta && place.root => Some("in top-level apiVersion"),
            _ if place.meta && step == ".additionalProperties" => {
                Some("inside additionalProperties applying to object metadata")
            }
            _ => place.no_defaults,
        };
        let place = Place {
            root: false,
            meta: place.meta || meta,
            no_defaults,
        };
        sense(nested, &format!("{path}{step}"), place, causes);
    }
    lists_and_maps(schema, path, kind, causes);
}

fn lists_and_maps(schema: &Value, path: &str, kind: &str, causes: &mut Causes) {
    let at = |name: &str| format!("{path}.{name}");
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let name = at("x-kubernetes-preserve-unknown-fields");
        causes.push(StatusCause::invalid(&name, false, "must be true or undefined"));
    }
    for (name, wanted, values) in [
        ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", "array", &["atomic", "set", "map"][..]),
    ] {
        let Some(found) = schema.get(name).and_then(Value::as_str) else {
            continue;
        };
        if kind != wanted {
            let why = format!("must be {wanted} if {name} is specified");
            causes.push(match kind {
                "" => StatusCause::required(&at("type"), &why),
                kind => StatusCause::invalid(&at("type"), kind, why),
            });
        }
        if !values.contains(&found) {
            causes.push(StatusCause::not_supported(&at(name), found, values));
        }
    }
    let list_type = json::text(schema, "x-kubernetes-list-type");
    let keys: Vec<&str> = json::list(schema, "x-kubernetes-list-map-keys")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if !keys.is_empty() && list_type != "map" {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        causes.push(match list_type {
            "" => StatusCause::required(&at("x-kubernetes-list-type"), why),
            other => StatusCause::invalid(&at("x-kubernetes-list-type"), other, why),
        });
    }
    match list_type {
        "set" => set(schema, path, causes),
        "map" => map(schema, path, &keys, causes),
        _ => {}
    }
}

fn set(schema: &Value, path: &str, causes: &mut Causes) {
    let Some(items) = schema.get("items") else { return };
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (list, map) = (
        json::text(items, "x-kubernetes-list-type"),
        json::text(items, "x-kubernetes-map-type"),
    );
    match json::text(items, "type") {
        "array" if !matches!(list, "" | "atomic") => causes.push(StatusCause::invalid(
            &format!("{path}.items.x-kubernetes-list-type"),
            list,
            why,
        )),
        "object" if map != "atomic" => causes.push(StatusCause::invalid(
            &format!("{path}.items.x-kubernetes-map-type"),
            strata_schema::structural::Shown(&Value::Null),
            why,
        )),
        _ => {}
    }
    if json::flag(items, "nullable") {
        let why = "cannot be nullable when x-kubernetes-list-type is set";
        causes.push(StatusCause::forbidden(&format!("{path}.items.nullable"), why));
    }
}

fn map(schema: &Value, path: &str, keys: &[&str], causes: &mut Causes) {
    let at = |name: &str| format!("{path}.{name}");
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        causes.push(StatusCause::required(&at("x-kubernetes-list-map-keys"), why));
    }
    let Some(items) = schema.get("items").filter(|i| i.is_object()) else {
        let why = "must have a schema if x-kubernetes-list-type is map";
        causes.push(StatusCause::required(&at("items"), why));
        return;
    };
    let kind = json::text(items, "type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        causes.push(StatusCause::invalid(&at("items.type"), kind, why));
        return;
    }
    let shown = Value::from(keys.to_vec());
    let list = |why: &str| {
        let shown = strata_schema::structural::Shown(&shown);
        StatusCause::invalid(&at("x-kubernetes-list-map-keys"), shown, why)
    };
    for (i, key) in keys.iter().enumerate() {
        let place = format!("{path}.items.properties[{key}]");
        match items.get("properties").and_then(|p| p.get(key)) {
            None => causes.push(list("entries must all be names of item properties")),
            Some(property) => {
                if matches!(json::text(property, "type"), "array" | "object") {
                    let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    causes.push(StatusCause::invalid(&format!("{place}.type"), kind, why));
                }
                let required = json::list(items, "required").iter().any(|r| r == key);
                if !required && property.get("default").is_none_or(Value::is_null) {
                    let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                    causes.push(StatusCause::required(&format!("{place}.default"), why));
                }
                if json::flag(property, "nullable") {
                    let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                    causes.push(StatusCause::forbidden(&format!("{place}.nullable"), why));
                }
            }
        }
        if keys[..i].contains(key) {
            causes.push(list("must not contain duplicate entries"));
        }
    }
    if json::flag(items, "nullable") {
        let why = "cannot be nullable when x-kubernetes-list-type is map";
        causes.push(StatusCause::forbidden(&at("items.nullable"), why));
    }
}
