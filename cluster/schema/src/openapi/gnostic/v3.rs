//! `openapi.v3` as gnostic defines it, as far as Kubernetes uses it.

use super::{
    Choice, Kind,
    Kind::{Any, Bool, Double, Int, Text, Wrapped},
    Message, field, map, message,
};
use serde_json::Value;

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
pub static SCHEMAS: Message = map(1, Kind::Choice(&SCHEMA_OR_REFERENCE));

static INFO: Message = message(
    &[
        field("title", 1, Text),
        field("description", 2, Text),
        field("version", 6, Text),
    ],
    7,
);
static SECURITY: Message = map(1, Kind::Choice(&SCHEME_OR_REFERENCE));
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
        field("parameters", 13, Kind::Choice(&PARAMETER_OR_REFERENCE)),
    ],
    14,
);
static OPERATION: Message = message(
    &[
        field("tags", 1, Text),
        field("summary", 2, Text),
        field("description", 3, Text),
        field("operationId", 5, Text),
        field("parameters", 6, Kind::Choice(&PARAMETER_OR_REFERENCE)),
        field("requestBody", 7, Kind::Choice(&REQUEST_BODY_OR_REFERENCE)),
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
        field("schema", 10, Kind::Choice(&SCHEMA_OR_REFERENCE)),
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
    fields: &[field("default", 1, Kind::Choice(&RESPONSE_OR_REFERENCE))],
    others: Some((2, Kind::Choice(&RESPONSE_OR_REFERENCE))),
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
static MEDIA_TYPE: Message = message(
    &[
        field("schema", 1, Kind::Choice(&SCHEMA_OR_REFERENCE)),
        field("example", 2, Any),
    ],
    5,
);
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
        field("allOf", 26, Kind::Choice(&SCHEMA_OR_REFERENCE)),
        field("oneOf", 27, Kind::Choice(&SCHEMA_OR_REFERENCE)),
        field("anyOf", 28, Kind::Choice(&SCHEMA_OR_REFERENCE)),
        field("not", 29, Kind::Message(&SCHEMA)),
        field("items", 30, Wrapped(&(1, Kind::Choice(&SCHEMA_OR_REFERENCE)))),
        field("properties", 31, Kind::Message(&SCHEMAS)),
        field("additionalProperties", 32, Kind::Choice(&SCHEMA_OR_BOOL)),
        field("default", 33, Kind::Choice(&DEFAULT)),
        field("description", 34, Text),
        field("format", 35, Text),
    ],
    36,
);
static EXTERNAL_DOCS: Message = message(&[field("description", 1, Text), field("url", 2, Text)], 3);

const fn or_reference(branches: &'static [(u32, Kind)]) -> Choice {
    Choice {
        branches,
        choose: |value| Some(if value.get("$ref").is_some() { 2 } else { 1 }),
    }
}

static SCHEME_OR_REFERENCE: Choice = or_reference(&[(1, Kind::Message(&SCHEME)), (2, Kind::Message(&REFERENCE))]);
static PARAMETER_OR_REFERENCE: Choice = or_reference(&[(1, Kind::Message(&PARAMETER)), (2, Kind::Message(&REFERENCE))]);
static REQUEST_BODY_OR_REFERENCE: Choice =
    or_reference(&[(1, Kind::Message(&REQUEST_BODY)), (2, Kind::Message(&REFERENCE))]);
static RESPONSE_OR_REFERENCE: Choice = or_reference(&[(1, Kind::Message(&RESPONSE)), (2, Kind::Message(&REFERENCE))]);
static SCHEMA_OR_REFERENCE: Choice = or_reference(&[(1, Kind::Message(&SCHEMA)), (2, Kind::Message(&REFERENCE))]);
static SCHEMA_OR_BOOL: Choice = Choice {
    branches: &[(1, Kind::Choice(&SCHEMA_OR_REFERENCE)), (2, Bool)],
    choose: |value| Some(if value.is_boolean() { 2 } else { 1 }),
};
/// Defaults that are no scalars have no place in the message.
static DEFAULT: Choice = Choice {
    branches: &[(1, Double), (2, Bool), (3, Text)],
    choose: |value| match value {
        Value::Number(_) => Some(1),
        Value::Bool(_) => Some(2),
        Value::String(_) => Some(3),
        _ => None,
    },
};
