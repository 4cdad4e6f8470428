//! `openapi.v2` as gnostic defines it, as far as Kubernetes uses it.

use super::{
    Choice, Kind,
    Kind::{Any, Bool, Double, Int, Text, Wrapped},
    Message, field, map, message,
};
use serde_json::Value;

/// The whole.
pub static DOCUMENT: Message = message(
    &[
        field("swagger", 1, Text),
        field("info", 2, Kind::Message(&INFO)),
        field("host", 3, Text),
        field("basePath", 4, Text),
        field("schemes", 5, Text),
        field("consumes", 6, Text),
        field("produces", 7, Text),
        field("paths", 8, Kind::Message(&PATHS)),
        field("definitions", 9, Kind::Message(&DEFINITIONS)),
        // A map here, a list elsewhere.
        field("parameters", 10, Kind::Message(&PARAMETERS)),
        field("security", 12, Kind::Message(&REQUIREMENT)),
        field("securityDefinitions", 13, Kind::Message(&SECURITY)),
    ],
    16,
);

/// `paths`.
pub static PATHS: Message = Message {
    fields: &[],
    others: Some((2, Kind::Message(&PATH_ITEM))),
    extensions: Some(1),
};
/// `definitions`.
pub static DEFINITIONS: Message = map(1, Kind::Message(&SCHEMA));

static INFO: Message = message(
    &[
        field("title", 1, Text),
        field("version", 2, Text),
        field("description", 3, Text),
    ],
    7,
);
static PARAMETERS: Message = map(1, Kind::Choice(&PARAMETER));
static REQUIREMENT: Message = map(1, Wrapped(&(1, Text)));
static SECURITY: Message = map(1, Kind::Choice(&SECURITY_DEFINITION));
static API_KEY: Message = message(
    &[
        field("type", 1, Text),
        field("name", 2, Text),
        field("in", 3, Text),
        field("description", 4, Text),
    ],
    5,
);
static PATH_ITEM: Message = message(
    &[
        field("$ref", 1, Text),
        field("get", 2, Kind::Message(&OPERATION)),
        field("put", 3, Kind::Message(&OPERATION)),
        field("post", 4, Kind::Message(&OPERATION)),
        field("delete", 5, Kind::Message(&OPERATION)),
        field("options", 6, Kind::Message(&OPERATION)),
        field("head", 7, Kind::Message(&OPERATION)),
        field("patch", 8, Kind::Message(&OPERATION)),
        field("parameters", 9, Kind::Choice(&PARAMETER_OR_REFERENCE)),
    ],
    10,
);
static OPERATION: Message = message(
    &[
        field("tags", 1, Text),
        field("summary", 2, Text),
        field("description", 3, Text),
        field("operationId", 5, Text),
        field("produces", 6, Text),
        field("consumes", 7, Text),
        field("parameters", 8, Kind::Choice(&PARAMETER_OR_REFERENCE)),
        field("responses", 9, Kind::Message(&RESPONSES)),
        field("schemes", 10, Text),
        field("deprecated", 11, Bool),
        field("security", 12, Kind::Message(&REQUIREMENT)),
    ],
    13,
);
static RESPONSES: Message = Message {
    fields: &[],
    others: Some((1, Kind::Choice(&RESPONSE_OR_REFERENCE))),
    extensions: Some(2),
};
static RESPONSE: Message = message(
    &[
        field("description", 1, Text),
        field("schema", 2, Kind::Choice(&RESPONSE_SCHEMA)),
    ],
    5,
);
static REFERENCE: Message = Message {
    fields: &[field("$ref", 1, Text), field("description", 2, Text)],
    others: None,
    extensions: None,
};
static BODY: Message = message(
    &[
        field("description", 1, Text),
        field("name", 2, Text),
        field("in", 3, Text),
        field("required", 4, Bool),
        field("schema", 5, Kind::Message(&SCHEMA)),
    ],
    6,
);
static HEADER_OR_PATH: Message = message(
    &[
        field("required", 1, Bool),
        field("in", 2, Text),
        field("description", 3, Text),
        field("name", 4, Text),
        field("type", 5, Text),
        field("format", 6, Text),
        field("default", 9, Any),
        field("pattern", 16, Text),
        field("uniqueItems", 19, Bool),
        field("enum", 20, Any),
    ],
    22,
);
static QUERY: Message = message(
    &[
        field("required", 1, Bool),
        field("in", 2, Text),
        field("description", 3, Text),
        field("name", 4, Text),
        field("allowEmptyValue", 5, Bool),
        field("type", 6, Text),
        field("format", 7, Text),
        field("default", 10, Any),
        field("pattern", 17, Text),
        field("uniqueItems", 20, Bool),
        field("enum", 21, Any),
    ],
    23,
);
static SCHEMA: Message = message(
    &[
        field("$ref", 1, Text),
        field("format", 2, Text),
        field("title", 3, Text),
        field("description", 4, Text),
        field("default", 5, Any),
        field("multipleOf", 6, Double),
        field("maximum", 7, Double),
        field("exclusiveMaximum", 8, Bool),
        field("minimum", 9, Double),
        field("exclusiveMinimum", 10, Bool),
        field("maxLength", 11, Int),
        field("minLength", 12, Int),
        field("pattern", 13, Text),
        field("maxItems", 14, Int),
        field("minItems", 15, Int),
        field("uniqueItems", 16, Bool),
        field("maxProperties", 17, Int),
        field("minProperties", 18, Int),
        field("required", 19, Text),
        field("enum", 20, Any),
        field("additionalProperties", 21, Kind::Choice(&SCHEMA_OR_BOOL)),
        field("type", 22, Wrapped(&(1, Text))),
        field("items", 23, Wrapped(&(1, Kind::Message(&SCHEMA)))),
        field("allOf", 24, Kind::Message(&SCHEMA)),
        field("properties", 25, Kind::Message(&DEFINITIONS)),
        field("discriminator", 26, Text),
        field("readOnly", 27, Bool),
        field("externalDocs", 29, Kind::Message(&EXTERNAL_DOCS)),
        field("example", 30, Any),
    ],
    31,
);
static EXTERNAL_DOCS: Message = message(&[field("description", 1, Text), field("url", 2, Text)], 3);

static SECURITY_DEFINITION: Choice = Choice {
    branches: &[(2, Kind::Message(&API_KEY))],
    choose: |_| Some(2),
};
static RESPONSE_SCHEMA: Choice = Choice {
    branches: &[(1, Kind::Message(&SCHEMA))],
    choose: |_| Some(1),
};
static SCHEMA_OR_BOOL: Choice = Choice {
    branches: &[(1, Kind::Message(&SCHEMA)), (2, Bool)],
    choose: |value| Some(if value.is_boolean() { 2 } else { 1 }),
};
static RESPONSE_OR_REFERENCE: Choice = Choice {
    branches: &[(1, Kind::Message(&RESPONSE)), (2, Kind::Message(&REFERENCE))],
    choose: or_reference,
};
static PARAMETER_OR_REFERENCE: Choice = Choice {
    branches: &[(1, Kind::Choice(&PARAMETER)), (2, Kind::Message(&REFERENCE))],
    choose: or_reference,
};
static PARAMETER: Choice = Choice {
    branches: &[(1, Kind::Message(&BODY)), (2, Kind::Choice(&NO_BODY))],
    choose: |value| Some(if place(value) == "body" { 1 } else { 2 }),
};
static NO_BODY: Choice = Choice {
    branches: &[
        (1, Kind::Message(&HEADER_OR_PATH)),
        (3, Kind::Message(&QUERY)),
        (4, Kind::Message(&HEADER_OR_PATH)),
    ],
    choose: |value| match place(value) {
        "header" => Some(1),
        "query" => Some(3),
        "path" => Some(4),
        _ => None,
    },
};

fn place(parameter: &Value) -> &str {
    parameter.get("in").and_then(Value::as_str).unwrap_or("")
}

fn or_reference(value: &Value) -> Option<u32> {
    Some(if value.get("$ref").is_some() { 2 } else { 1 })
}
