//! `openapi.v3` as gnostic defines it, as far as Kubernetes uses it.

use super::{
    Field, Kind,
    Kind::{Any, Bool, Choice, Double, Int, Text, Wrapped},
    Message, field,
};
use serde_json::Value;

const fn message(fields: &'static [Field], extensions: u32) -> Message {
    Message {
        fields,
        others: None,
        extensions: Some(extensions),
    }
}

const fn map(number: u32, kind: Kind) -> Message {
    Message {
        fields: &[],
        others: Some((number, kind)),
        extensions: None,
    }
}

/// The whole.
pub static DOCUMENT: Message = message(
    &[
        field("openapi", 1, Text),
        field("info", 2, Kind::Message(&INFO)),
        field("paths", 4, Kind::Message(&PATHS)),
        field("components", 5, Kind::Message(&COMPONENTS)),
    ],
    9,
);
/// `paths`.
pub static PATHS: Message = Message {
    fields: &[],
    others: Some((1, Kind::Message(&PATH_ITEM))),
    extensions: Some(2),
};
/// `components`.
pub static COMPONENTS: Message = message(
    &[
        field("schemas", 1, Kind::Message(&SCHEMAS)),
        field("securitySchemes", 7, Kind::Message(&SECURITY)),
    ],
    10,
);
/// `components.schemas`.
pub static SCHEMAS: Message = map(1, Choice(schema));

static INFO: Message = message(
    &[
        field("title", 1, Text),
        field("description", 2, Text),
        field("version", 6, Text),
    ],
    7,
);
static SECURITY: Message = map(1, Choice(|value| Some(or_reference(value, &SCHEME))));
static SCHEME: Message = message(
    &[
        field("type", 1, Text),
        field("description", 2, Text),
        field("name", 3, Text),
        field("in", 4, Text),
        field("scheme", 5, Text),
        field("bearerFormat", 6, Text),
    ],
    9,
);
static REFERENCE: Message = Message {
    fields: &[
        field("$ref", 1, Text),
        field("summary", 2, Text),
        field("description", 3, Text),
    ],
    others: None,
    extensions: None,
};
static PATH_ITEM: Message = message(
    &[
        field("$ref", 1, Text),
        field("summary", 2, Text),
        field("description", 3, Text),
        field("get", 4, Kind::Message(&OPERATION)),
        field("put", 5, Kind::Message(&OPERATION)),
        field("post", 6, Kind::Message(&OPERATION)),
        field("delete", 7, Kind::Message(&OPERATION)),
        field("options", 8, Kind::Message(&OPERATION)),
        field("head", 9, Kind::Message(&OPERATION)),
        field("patch", 10, Kind::Message(&OPERATION)),
        field("trace", 11, Kind::Message(&OPERATION)),
        field("parameters", 13, Choice(|value| Some(or_reference(value, &PARAMETER)))),
    ],
    14,
);
static OPERATION: Message = message(
    &[
        field("tags", 1, Text),
        field("summary", 2, Text),
        field("description", 3, Text),
        field("operationId", 5, Text),
        field("parameters", 6, Choice(|value| Some(or_reference(value, &PARAMETER)))),
        field(
            "requestBody",
            7,
            Choice(|value| Some(or_reference(value, &REQUEST_BODY))),
        ),
        field("responses", 8, Kind::Message(&RESPONSES)),
        field("deprecated", 10, Bool),
    ],
    13,
);
static PARAMETER: Message = message(
    &[
        field("name", 1, Text),
        field("in", 2, Text),
        field("description", 3, Text),
        field("required", 4, Bool),
        field("deprecated", 5, Bool),
        field("allowEmptyValue", 6, Bool),
        field("style", 7, Text),
        field("explode", 8, Bool),
        field("schema", 10, Choice(schema)),
        field("content", 13, Kind::Message(&MEDIA_TYPES)),
    ],
    14,
);
static REQUEST_BODY: Message = message(
    &[
        field("description", 1, Text),
        field("content", 2, Kind::Message(&MEDIA_TYPES)),
        field("required", 3, Bool),
    ],
    4,
);
static RESPONSES: Message = Message {
    fields: &[field(
        "default",
        1,
        Choice(|value| Some(or_reference(value, &RESPONSE))),
    )],
    others: Some((2, Choice(|value| Some(or_reference(value, &RESPONSE))))),
    extensions: Some(3),
};
static RESPONSE: Message = message(
    &[
        field("description", 1, Text),
        field("content", 3, Kind::Message(&MEDIA_TYPES)),
    ],
    5,
);
static MEDIA_TYPES: Message = map(1, Kind::Message(&MEDIA_TYPE));
static MEDIA_TYPE: Message = message(&[field("schema", 1, Choice(schema)), field("example", 2, Any)], 5);
static SCHEMA: Message = message(
    &[
        field("nullable", 1, Bool),
        field("readOnly", 3, Bool),
        field("writeOnly", 4, Bool),
        field("externalDocs", 6, Kind::Message(&EXTERNAL_DOCS)),
        field("example", 7, Any),
        field("deprecated", 8, Bool),
        field("title", 9, Text),
        field("multipleOf", 10, Double),
        field("maximum", 11, Double),
        field("exclusiveMaximum", 12, Bool),
        field("minimum", 13, Double),
        field("exclusiveMinimum", 14, Bool),
        field("maxLength", 15, Int),
        field("minLength", 16, Int),
        field("pattern", 17, Text),
        field("maxItems", 18, Int),
        field("minItems", 19, Int),
        field("uniqueItems", 20, Bool),
        field("maxProperties", 21, Int),
        field("minProperties", 22, Int),
        field("required", 23, Text),
        field("enum", 24, Any),
        field("type", 25, Text),
        field("allOf", 26, Choice(schema)),
        field("oneOf", 27, Choice(schema)),
        field("anyOf", 28, Choice(schema)),
        field("not", 29, Kind::Message(&SCHEMA)),
        field("items", 30, Wrapped(&(1, Choice(schema)))),
        field("properties", 31, Kind::Message(&SCHEMAS)),
        field("additionalProperties", 32, Choice(schema_or_bool)),
        field("default", 33, Choice(default)),
        field("description", 34, Text),
        field("format", 35, Text),
    ],
    36,
);
static EXTERNAL_DOCS: Message = message(&[field("description", 1, Text), field("url", 2, Text)], 3);

fn or_reference(value: &Value, message: &'static Message) -> (u32, Kind) {
    match value.get("$ref") {
        Some(_) => (2, Kind::Message(&REFERENCE)),
        None => (1, Kind::Message(message)),
    }
}

fn schema(value: &Value) -> Option<(u32, Kind)> {
    Some(or_reference(value, &SCHEMA))
}

fn schema_or_bool(value: &Value) -> Option<(u32, Kind)> {
    Some(match value {
        Value::Bool(_) => (2, Bool),
        _ => (1, Choice(schema)),
    })
}

/// Defaults that are no scalars have no place in the message.
fn default(value: &Value) -> Option<(u32, Kind)> {
    match value {
        Value::Number(_) => Some((1, Double)),
        Value::Bool(_) => Some((2, Bool)),
        Value::String(_) => Some((3, Text)),
        _ => None,
    }
}
