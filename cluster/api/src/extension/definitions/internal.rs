//! Schemas and versions as upstream's messages show them: its internal types, every member in declared order.

use crate::json;
use serde_json::Value;
use std::fmt::Write;

/// What kind of thing a member of a schema is.
#[derive(Clone, Copy)]
enum Member {
    Text,
    Flag,
    Value,
    Schema,
    Schemas,
    Items,
    Named,
    OrBool,
    Docs,
    Rules,
}

/// Members of a schema: upstream's name, the name in JSON, what it is.
const SCHEMA: &[(&str, &str, Member)] = &[
    ("ID", "id", Member::Text),
    ("Schema", "$schema", Member::Text),
    ("Ref", "$ref", Member::Value),
    ("Description", "description", Member::Text),
    ("Type", "type", Member::Text),
    ("Nullable", "nullable", Member::Flag),
    ("Format", "format", Member::Text),
    ("Title", "title", Member::Text),
    ("Default", "default", Member::Value),
    ("Maximum", "maximum", Member::Value),
    ("ExclusiveMaximum", "exclusiveMaximum", Member::Flag),
    ("Minimum", "minimum", Member::Value),
    ("ExclusiveMinimum", "exclusiveMinimum", Member::Flag),
    ("MaxLength", "maxLength", Member::Value),
    ("MinLength", "minLength", Member::Value),
    ("Pattern", "pattern", Member::Text),
    ("MaxItems", "maxItems", Member::Value),
    ("MinItems", "minItems", Member::Value),
    ("UniqueItems", "uniqueItems", Member::Flag),
    ("MultipleOf", "multipleOf", Member::Value),
    ("Enum", "enum", Member::Value),
    ("MaxProperties", "maxProperties", Member::Value),
    ("MinProperties", "minProperties", Member::Value),
    ("Required", "required", Member::Value),
    ("Items", "items", Member::Items),
    ("AllOf", "allOf", Member::Schemas),
    ("OneOf", "oneOf", Member::Schemas),
    ("AnyOf", "anyOf", Member::Schemas),
    ("Not", "not", Member::Schema),
    ("Properties", "properties", Member::Named),
    ("AdditionalProperties", "additionalProperties", Member::OrBool),
    ("PatternProperties", "patternProperties", Member::Named),
    ("Dependencies", "dependencies", Member::Value),
    ("AdditionalItems", "additionalItems", Member::OrBool),
    ("Definitions", "definitions", Member::Named),
    ("ExternalDocs", "externalDocs", Member::Docs),
    ("Example", "example", Member::Value),
    (
        "XPreserveUnknownFields",
        "x-kubernetes-preserve-unknown-fields",
        Member::Value,
    ),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource", Member::Flag),
    ("XIntOrString", "x-kubernetes-int-or-string", Member::Flag),
    ("XListMapKeys", "x-kubernetes-list-map-keys", Member::Value),
    ("XListType", "x-kubernetes-list-type", Member::Value),
    ("XMapType", "x-kubernetes-map-type", Member::Value),
    ("XValidations", "x-kubernetes-validations", Member::Rules),
];

/// What a schema may say at its root beside a status subresource, by upstream's names.
const AT_ROOT: &[&str] = &[
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];

/// Why a schema cannot stand beside a status subresource, if it says at its root what would be lost for the status.
pub(super) fn refused_at_root(schema: &Value) -> Option<String> {
    let said = |name: &str| match schema.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    };
    let mut refused = SCHEMA
        .iter()
        .filter(|(shown, name, _)| !AT_ROOT.contains(shown) && said(name));
    refused.next().map(|_| {
        let list = AT_ROOT.join(" ");
        format!("only [{list}] fields are allowed at the root of the schema if the status subresource is enabled")
    })
}

/// JSON as Go writes it.
pub(super) fn go_json(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&']) {
        return text;
    }
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// A schema.
pub(super) fn schema(schema: &Value) -> String {
    let mut out = String::from("{");
    for (at, (shown, name, member)) in SCHEMA.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let text = match schema.get(name) {
            None | Some(Value::Null) => absent(*member).to_owned(),
            Some(value) => present(value, *member),
        };
        // A String takes everything that is written to it.
        let _ = write!(out, "{comma}\"{shown}\":{text}");
    }
    out + "}"
}

fn absent(member: Member) -> &'static str {
    match member {
        Member::Text => "\"\"",
        Member::Flag => "false",
        _ => "null",
    }
}

fn present(value: &Value, member: Member) -> String {
    match member {
        Member::Text | Member::Flag | Member::Value => go_json(value),
        Member::Schema => schema(value),
        Member::Schemas => list(value, schema),
        Member::Items => format!("{{\"Schema\":{},\"JSONSchemas\":null}}", schema(value)),
        Member::OrBool => match value {
            Value::Bool(allows) => format!("{{\"Allows\":{allows},\"Schema\":null}}"),
            other => format!("{{\"Allows\":true,\"Schema\":{}}}", schema(other)),
        },
        Member::Docs => fields(value, &[("Description", "description", "\"\""), ("URL", "url", "\"\"")]),
        Member::Rules => list(value, rule),
        Member::Named => {
            let named = value.as_object().into_iter().flatten();
            let mut named: Vec<_> = named.collect();
            named.sort_by_key(|(name, _)| *name);
            let parts = named
                .iter()
                .map(|(name, value)| format!("{}:{}", go_json(&Value::from(name.as_str())), schema(value)));
            format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
        }
    }
}

fn list(value: &Value, show: fn(&Value) -> String) -> String {
    let shown: Vec<String> = value.as_array().into_iter().flatten().map(show).collect();
    format!("[{}]", shown.join(","))
}

/// Members by upstream's name, the name in JSON, and what stands there when it is absent.
fn fields(value: &Value, members: &[(&str, &str, &str)]) -> String {
    let shown = members.iter().map(|(shown, name, absent)| {
        let text = match value.get(name) {
            None | Some(Value::Null) => (*absent).to_owned(),
            Some(value) => go_json(value),
        };
        format!("\"{shown}\":{text}")
    });
    format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
}

/// A rule.
pub(in crate::extension) fn rule(rule: &Value) -> String {
    const MEMBERS: &[(&str, &str, &str)] = &[
        ("Rule", "rule", "\"\""),
        ("Message", "message", "\"\""),
        ("MessageExpression", "messageExpression", "\"\""),
        ("Reason", "reason", "null"),
        ("FieldPath", "fieldPath", "\"\""),
        ("OptionalOldSelf", "optionalOldSelf", "null"),
    ];
    fields(rule, MEMBERS)
}

/// What all versions say alike, so that it stands at the top: schema, subresources, columns, selectable fields.
pub(super) type Alike = (bool, bool, bool, bool);

/// The versions.
pub(super) fn versions(versions: &[Value], alike: Alike) -> String {
    let shown: Vec<String> = versions.iter().map(|v| version(v, alike)).collect();
    format!("[{}]", shown.join(","))
}

fn version(version: &Value, alike: Alike) -> String {
    const COLUMN: &[(&str, &str, &str)] = &[
        ("Name", "name", "\"\""),
        ("Type", "type", "\"\""),
        ("Format", "format", "\"\""),
        ("Description", "description", "\"\""),
        ("Priority", "priority", "0"),
        ("JSONPath", "jsonPath", "\"\""),
    ];
    let own = |name: &str, alike: bool| version.get(name).filter(|v| !alike && !v.is_null());
    let null = || "null".to_owned();
    let schema = own("schema", alike.0).map_or_else(null, |holder| {
        let inner = holder.get("openAPIV3Schema").map_or_else(null, schema);
        format!("{{\"OpenAPIV3Schema\":{inner}}}")
    });
    let subresources = own("subresources", alike.1).map_or_else(null, subresources);
    let full = |v: &&Value| v.as_array().is_some_and(|l| !l.is_empty());
    let columns = own("additionalPrinterColumns", alike.2)
        .filter(full)
        .map_or_else(null, |v| list(v, |c| fields(c, COLUMN)));
    let selectable = own("selectableFields", alike.3)
        .filter(full)
        .map_or_else(null, |v| list(v, |f| fields(f, &[("JSONPath", "jsonPath", "\"\"")])));
    let (name, served, storage) = (
        go_json(&Value::from(json::text(version, "name"))),
        json::flag(version, "served"),
        json::flag(version, "storage"),
    );
    let deprecated = json::flag(version, "deprecated");
    let warning = version.get("deprecationWarning").map_or_else(null, go_json);
    format!(
        "{{\"Name\":{name},\"Served\":{served},\"Storage\":{storage},\"Deprecated\":{deprecated},\"DeprecationWarning\":{warning},\"Schema\":{schema},\"Subresources\":{subresources},\"AdditionalPrinterColumns\":{columns},\"SelectableFields\":{selectable}}}"
    )
}

fn subresources(value: &Value) -> String {
    const SCALE: &[(&str, &str, &str)] = &[
        ("SpecReplicasPath", "specReplicasPath", "\"\""),
        ("StatusReplicasPath", "statusReplicasPath", "\"\""),
        ("LabelSelectorPath", "labelSelectorPath", "null"),
    ];
    let there = |name: &str| value.get(name).filter(|v| !v.is_null());
    let status = there("status").map_or("null", |_| "{}");
    let scale = there("scale").map_or_else(|| "null".to_owned(), |scale| fields(scale, SCALE));
    format!("{{\"Status\":{status},\"Scale\":{scale}}}")
}
