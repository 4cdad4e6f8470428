//! Paths in the form of either version.

use super::{
    Form,
    names::definition,
    routes::{Parameter, Payload, Route},
};
use crate::Schema;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The parameters that many paths of a v2 document share, by name.
pub(super) type Shared = BTreeMap<String, Value>;

/// The item of a path. What v2's operations share is added to `shared`.
pub(super) fn path_item(form: Form, routes: &[Route], shared: &mut Shared) -> Value {
    let mut item = Map::new();
    let everywhere = |parameter: &Parameter| routes.iter().all(|route| route.parameters.contains(parameter));
    let mut render = |parameters: Vec<Parameter>, body: Option<Value>| -> Vec<Value> {
        let mut rendered: Vec<(&str, &str, Value)> = parameters
            .iter()
            .map(|p| (p.name, p.place, parameter(form, *p, shared)))
            .collect();
        rendered.extend(body.map(|body| ("body", "body", share(body, shared))));
        rendered.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        rendered.into_iter().map(|(_, _, value)| value).collect()
    };
    let common = routes.first().map_or(Vec::new(), |route| {
        route.parameters.iter().copied().filter(|p| everywhere(p)).collect()
    });
    let common = render(common, None);
    if !common.is_empty() {
        item.insert("parameters".to_owned(), Value::Array(common));
    }
    for route in routes {
        let own = route.parameters.iter().copied().filter(|p| !everywhere(p)).collect();
        let body = (form == Form::V2).then(|| body_parameter(route)).flatten();
        let parameters = render(own, body);
        let mut operation = operation(form, route);
        if !parameters.is_empty() {
            operation.insert("parameters".to_owned(), Value::Array(parameters));
        }
        item.insert(route.method.to_owned(), Value::Object(operation));
    }
    Value::Object(item)
}

fn operation(form: Form, route: &Route) -> Map<String, Value> {
    let mut out = Map::new();
    let mut set = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
    set("operationId", json!(route.id));
    set("tags", json!([route.tag]));
    if let Some(meaning) = &route.meaning {
        let kind = &meaning.kind;
        set("x-kubernetes-action", json!(meaning.action));
        set(
            "x-kubernetes-group-version-kind",
            json!({"group": kind.group, "version": kind.version, "kind": kind.kind}),
        );
    }
    let answer = schema(form, &route.answer);
    let mut responses = Map::new();
    for code in route.codes {
        let text = match code {
            201 => "Created",
            202 => "Accepted",
            _ => "OK",
        };
        let response = match form {
            Form::V2 => json!({"description": text, "schema": answer}),
            Form::V3 => json!({"description": text, "content": content(&route.produces, &answer)}),
        };
        responses.insert(code.to_string(), response);
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    set("responses", Value::Object(responses));
    match form {
        Form::V2 => {
            set("schemes", json!(["https"]));
            set("produces", json!(route.produces));
            if !route.consumes.is_empty() {
                set("consumes", json!(route.consumes));
            }
        }
        Form::V3 => {
            if let Some((body, required)) = &route.body {
                let mut request = json!({"content": content(route.consumes, &schema(form, body))});
                if *required {
                    request["required"] = json!(true);
                }
                set("requestBody", request);
            }
        }
    }
    out
}

fn content(media: &[&str], schema: &Value) -> Value {
    let named = media
        .iter()
        .map(|media| ((*media).to_owned(), json!({"schema": schema})));
    Value::Object(named.collect())
}

fn schema(form: Form, payload: &Payload) -> Value {
    match payload {
        Payload::Text => json!({"type": "string"}),
        Payload::Type(id) => form.reference(&definition(Schema::builtin().type_info(*id))),
        Payload::Named(name) => form.reference(name),
    }
}

fn parameter(form: Form, parameter: Parameter, shared: &mut Shared) -> Value {
    let Parameter { name, place, kind } = parameter;
    let mut value = match form {
        Form::V2 => json!({"name": name, "in": place, "type": kind, "uniqueItems": true}),
        Form::V3 => json!({"name": name, "in": place, "schema": {"type": kind, "uniqueItems": true}}),
    };
    if place == "path" {
        value["required"] = json!(true);
    }
    // Old clients learn from these two what the server can do.
    match form == Form::V2 && !matches!(name, "name" | "fieldValidation" | "dryRun") {
        true => share(value, shared),
        false => value,
    }
}

fn body_parameter(route: &Route) -> Option<Value> {
    let (body, required) = route.body.as_ref()?;
    let mut value = json!({"name": "body", "in": "body", "schema": schema(Form::V2, body)});
    if *required {
        value["required"] = json!(true);
    }
    Some(value)
}

/// A reference to what is described once. Bodies of one kind only stay where they are.
fn share(value: Value, shared: &mut Shared) -> Value {
    let target = value.pointer("/schema/$ref").and_then(Value::as_str);
    if target.is_some_and(|target| !target.starts_with("#/definitions/io.k8s.apimachinery")) {
        return value;
    }
    let text = value.to_string();
    let name = format!("{}-{}", value["name"].as_str().unwrap_or("param"), short_hash(&text));
    let reference = json!({"$ref": format!("#/parameters/{name}")});
    shared.entry(name).or_insert(value);
    reference
}

/// The first 48 bits of FNV-1 in base64.
fn short_hash(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE};
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        hash.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(byte)
    });
    URL_SAFE.encode(&hash.to_be_bytes()[..6])
}
