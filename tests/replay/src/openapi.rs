//! OpenAPI documents: every one there is, in both forms, and what is compared of them.
//!
//! Prose is left out: what fields and parameters are for is said in other words here, or not at all. So are the
//! names of parameters that v2 shares, which upstream makes from their prose; they are put where they are used.

use crate::script::Request;
use serde_json::{Map, Value, json};
use strata_schema::gnostic::{self, Kind, Message};

/// The name under which a document's paths are compared, other than those that the server lists at its root.
const PATHS: &str = "operations";

/// The request for the index.
pub fn index() -> Request {
    Request {
        title: "OpenAPI v3's index".into(),
        method: "GET".into(),
        path: "/openapi/v3".into(),
        ..Request::default()
    }
}

/// Requests for every document that an index names, as JSON and in protobuf form.
pub fn requests(index: &Value) -> Vec<Request> {
    let paths = index.pointer("/body/paths").and_then(Value::as_object);
    let names = paths.into_iter().flatten().map(|(name, _)| name);
    let forms = |name: &String| {
        [
            "application/json",
            "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
        ]
        .map(|accept| Request {
            title: format!("OpenAPI v3 of {name} as {accept}"),
            method: "GET".into(),
            path: format!("/openapi/v3/{name}"),
            headers: vec![("Accept".into(), accept.into())],
            ..Request::default()
        })
    };
    names.flat_map(forms).collect()
}

/// A document in protobuf form, with names in place of numbers. Nothing if the media type is another.
pub fn decode(media: &str, bytes: &[u8]) -> Option<Value> {
    let (message, version) = match media {
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf" => (&gnostic::v2::DOCUMENT, "swagger"),
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf" => (&gnostic::v3::DOCUMENT, "openapi"),
        _ => return None,
    };
    let mut document = read(message, bytes);
    // What says that it is a document.
    document.as_object_mut()?.entry(version).or_insert(Value::Null);
    Some(document)
}

/// What is compared of a body, which is a document or anything else.
pub fn essence(mut body: Value) -> Value {
    if body.get("openapi").is_none() && body.get("swagger").is_none() {
        return body;
    }
    let shared = body.as_object_mut().and_then(|members| members.remove("parameters"));
    let mut body = reduced(body, shared.as_ref().unwrap_or(&Value::Null), true);
    if let Some(members) = body.as_object_mut()
        && let Some(paths) = members.remove("paths")
    {
        members.insert(PATHS.into(), paths);
    }
    body
}

/// Without prose, with shared parameters in their places. The names of properties are no members of a schema.
fn reduced(value: Value, shared: &Value, schema: bool) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(|item| reduced(item, shared, schema)).collect(),
        Value::Object(members) => {
            let target = members.get("$ref").and_then(Value::as_str);
            if let Some(parameter) = target.and_then(|t| shared.get(t.strip_prefix("#/parameters/")?)) {
                return reduced(parameter.clone(), &Value::Null, true);
            }
            let prose = |name: &str, member: &Value| schema && name == "description" && member.is_string();
            let mut kept: Map<String, Value> = members
                .into_iter()
                .filter(|(name, member)| !prose(name, member))
                .map(|(name, member)| {
                    let inside = name != "properties" || !schema;
                    (name, reduced(member, shared, inside))
                })
                .collect();
            // A reference stands in a list beside prose, and alone without.
            let alone = schema && kept.len() == 1;
            match kept.get_mut("allOf") {
                Some(Value::Array(all)) if alone && all.len() == 1 => all.remove(0),
                // Protobuf does not tell a list of one from one.
                Some(one @ Value::Object(_)) if alone => one.take(),
                _ => Value::Object(kept),
            }
        }
        other => other,
    }
}

/// A message as an object. A field that comes again makes a list; one that the table does not have stands out.
fn read(message: &Message, bytes: &[u8]) -> Value {
    let mut out = Map::new();
    for (number, content) in fields(bytes) {
        if let Some(field) = message.fields.iter().find(|field| field.number == number) {
            add(&mut out, field.name, value_of(field.kind, content));
            continue;
        }
        let extension = (message.extensions == Some(number)).then_some(Kind::Any);
        let named = extension.or(message
            .others
            .and_then(|(other, kind)| (other == number).then_some(kind)));
        let (Some(kind), Content::Bytes(entry)) = (named, content) else {
            add(&mut out, "unknown field", json!(number));
            continue;
        };
        let mut name = String::new();
        let mut value = Value::Null;
        for (part, content) in fields(entry) {
            match (part, content) {
                (1, Content::Bytes(text)) => name = String::from_utf8_lossy(text).into_owned(),
                (_, content) => value = value_of(kind, content),
            }
        }
        add(&mut out, &name, value);
    }
    Value::Object(out)
}

fn add(out: &mut Map<String, Value>, name: &str, value: Value) {
    match out.get_mut(name) {
        None => drop(out.insert(name.to_owned(), value)),
        Some(Value::Array(items)) => items.push(value),
        Some(first) => *first = json!([first.take(), value]),
    }
}

fn value_of(kind: Kind, content: Content<'_>) -> Value {
    match (kind, content) {
        (Kind::Text, Content::Bytes(text)) => json!(String::from_utf8_lossy(text)),
        (Kind::Bool, Content::Number(set)) => json!(set != 0),
        (Kind::Int, Content::Number(count)) => json!(count as i64),
        (Kind::Double, Content::Number(bits)) => json!(f64::from_bits(bits)),
        (Kind::Any, Content::Bytes(any)) => {
            let text = fields(any)
                .into_iter()
                .find_map(|(number, content)| match (number, content) {
                    (2, Content::Bytes(text)) => Some(String::from_utf8_lossy(text).into_owned()),
                    _ => None,
                });
            let text = text.unwrap_or_default();
            serde_saphyr::from_str(&text).unwrap_or(json!({"not YAML": text}))
        }
        (Kind::Message(message), Content::Bytes(bytes)) => read(message, bytes),
        (Kind::Choice(choice), Content::Bytes(bytes)) => match fields(bytes).first() {
            None => Value::Null,
            Some((number, content)) => {
                let branch = choice.branches.iter().find(|(known, _)| known == number);
                branch.map_or(json!({"unknown choice": number}), |(_, kind)| value_of(*kind, *content))
            }
        },
        (Kind::Wrapped((_, kind)), Content::Bytes(bytes)) => fields(bytes)
            .into_iter()
            .map(|(_, content)| value_of(*kind, content))
            .collect(),
        _ => json!("of another wire type"),
    }
}

#[derive(Clone, Copy)]
enum Content<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

fn fields(mut bytes: &[u8]) -> Vec<(u32, Content<'_>)> {
    let mut out = Vec::new();
    while let Some(tag) = crate::answer::varint(&mut bytes) {
        let content = match tag & 7 {
            0 => crate::answer::varint(&mut bytes).map(Content::Number),
            1 => bytes.split_first_chunk::<8>().map(|(number, rest)| {
                bytes = rest;
                Content::Number(u64::from_le_bytes(*number))
            }),
            2 => {
                let length = crate::answer::varint(&mut bytes).unwrap_or(0) as usize;
                bytes.split_at_checked(length).map(|(content, rest)| {
                    bytes = rest;
                    Content::Bytes(content)
                })
            }
            _ => None,
        };
        match content {
            Some(content) => out.push(((tag >> 3) as u32, content)),
            None => break,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_document_say_the_same() {
        let document = json!({
            "swagger": "2.0",
            "paths": {"/api/v1/x": {"get": {"operationId": "getX", "responses": {"200": {"description": "OK"}}},
                "parameters": [{"$ref": "#/parameters/p-1"}, {"$ref": "#/parameters/p-2"}]}},
            "definitions": {"X": {"type": "object", "description": "A thing.", "properties": {"description": {"type": "string"}}}},
            "parameters": {"p-1": {"name": "p", "in": "query", "description": "What for."}, "p-2": {"name": "q", "in": "path"}},
        });
        let media = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
        let decoded = decode(media, &gnostic::encode(&gnostic::v2::DOCUMENT, &document)).expect("a document");
        let mut told = essence(document);
        // A list of one type.
        told["definitions"]["X"]["type"] = json!(["object"]);
        told["definitions"]["X"]["properties"]["description"]["type"] = json!(["string"]);
        assert_eq!(essence(decoded), told);
        assert_eq!(
            told["operations"]["/api/v1/x"]["parameters"][0],
            json!({"name": "p", "in": "query"})
        );
        assert!(told["definitions"]["X"].get("description").is_none());
    }
}
