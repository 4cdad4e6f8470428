//! Every answer of cel-go with Kubernetes' environment, replayed: types, issues, values, errors,
//! estimated and actual costs. `tests/golden/cel` makes the answers.

#![allow(clippy::unwrap_used)]

use serde_json::Value as Json;
use std::{fmt::Write as _, path::Path};
use strata_cel::{AdditionalProperties, Bindings, DeclType, Env, Library, List, Map, Schema, Type, Value, limits};

/// A schema in JSON.
struct JsonSchema<'j>(
    &'j Json,
    Vec<(String, JsonSchema<'j>)>,
    Option<Box<JsonSchema<'j>>>,
    Option<Box<JsonSchema<'j>>>,
);

impl<'j> JsonSchema<'j> {
    fn new(json: &'j Json) -> Self {
        let properties = json["properties"].as_object().into_iter().flatten();
        let child = |key: &str| {
            json.get(key)
                .filter(|child| child.is_object())
                .map(|child| Box::new(Self::new(child)))
        };
        let properties = properties
            .map(|(name, child)| (name.clone(), Self::new(child)))
            .collect();
        Self(json, properties, child("items"), child("additionalProperties"))
    }
    fn flag(&self, key: &str) -> bool {
        self.0[key] == true
    }
}

impl Schema for JsonSchema<'_> {
    fn kind(&self) -> &str {
        self.0["type"].as_str().unwrap_or("")
    }
    fn format(&self) -> &str {
        self.0["format"].as_str().unwrap_or("")
    }
    fn items(&self) -> Option<&Self> {
        self.2.as_deref()
    }
    fn properties(&self) -> Option<Vec<(&str, &Self)>> {
        Some(self.1.iter().map(|(name, child)| (name.as_str(), child)).collect())
    }
    fn additional_properties(&self) -> AdditionalProperties<'_, Self> {
        match &self.3 {
            Some(schema) => AdditionalProperties::Schema(schema),
            None => AdditionalProperties::Absent,
        }
    }
    fn is_required(&self, property: &str) -> bool {
        self.0["required"]
            .as_array()
            .is_some_and(|all| all.iter().any(|name| name == property))
    }
    fn has_default(&self) -> bool {
        self.0.get("default").is_some()
    }
    fn nullable(&self) -> bool {
        self.flag("nullable")
    }
    fn max_length(&self) -> Option<i64> {
        self.0["maxLength"].as_i64()
    }
    fn max_items(&self) -> Option<i64> {
        self.0["maxItems"].as_i64()
    }
    fn max_properties(&self) -> Option<i64> {
        self.0["maxProperties"].as_i64()
    }
    fn longest_enum(&self) -> Option<u64> {
        let all = self.0["enum"].as_array()?;
        Some(
            all.iter()
                .filter_map(|value| Some(value.as_str()?.len() as u64))
                .max()
                .unwrap_or(0),
        )
    }
    fn int_or_string(&self) -> bool {
        self.flag("x-kubernetes-int-or-string")
    }
    fn embedded_resource(&self) -> bool {
        self.flag("x-kubernetes-embedded-resource")
    }
    fn preserve_unknown_fields(&self) -> bool {
        self.flag("x-kubernetes-preserve-unknown-fields")
    }
    fn list_type(&self) -> &str {
        self.0["x-kubernetes-list-type"].as_str().unwrap_or("")
    }
    fn list_map_keys(&self) -> Vec<String> {
        let keys = self.0["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
        keys.filter_map(|key| Some(key.as_str()?.to_owned())).collect()
    }
}

fn render(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => format!("{}", Json::from(&**text)),
        Value::Uint(n) => format!("{n}u"),
        Value::Double(_) => format!("double {value}"),
        Value::Bytes(_) => format!("bytes {}", value.to_json().unwrap().as_str().unwrap()),
        Value::Type(ty) => format!("type {}", ty.name()),
        Value::Optional(None) => "none".to_owned(),
        Value::Optional(Some(inner)) => format!("some({})", render(inner)),
        Value::List(list) => {
            let list: &List<'_> = list;
            let parts: Vec<String> = list
                .iter()
                .map(|e| e.map_or_else(|e| format!("error {e}"), |e| render(&e)))
                .collect();
            format!("[{}]", parts.join(", "))
        }
        Value::Map(map) => {
            let map: &Map<'_> = map;
            let mut parts: Vec<String> = Vec::new();
            for key in map.keys() {
                parts.push(format!(
                    "{}: {}",
                    render(&key),
                    match map.find(&key) {
                        Ok(Some(value)) => render(&value),
                        Ok(None) => format!("error no such key: {key}"),
                        Err(e) => format!("error {e}"),
                    }
                ));
            }
            parts.sort();
            format!("{{{}}}", parts.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Timestamp(_) | Value::Duration(_) => value.to_string(),
        other => other.type_of().name().to_owned(),
    }
}

fn read(path: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(path);
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

fn environment(group: &Json, decl: Option<&DeclType>) -> Env {
    let mut builder = Env::kubernetes().variable("dyn_value", Type::Dyn);
    if let Some(decl) = decl {
        builder = builder
            .declared("self", decl)
            .variable("oldSelf", Type::optional(decl.cel_type()));
    }
    if group["jsonPatch"] == true {
        builder = builder.library(Library::JsonPatch);
    }
    builder.build()
}

/// What differs from the golden answer.
fn differences(env: &Env, decl: Option<&DeclType>, bindings: &Bindings<'_>, golden: &Json) -> Vec<String> {
    let source = golden["expression"].as_str().unwrap();
    let mut found = Vec::new();
    let mut compare = |what: &str, mine: String, key: &str| {
        let theirs = match &golden[key] {
            Json::String(text) => text.clone(),
            Json::Null => String::new(),
            other => other.to_string(),
        };
        if mine != theirs {
            found.push(format!("{what}:\n    upstream {theirs}\n    ours     {mine}"));
        }
    };
    let checked = match env.compile(source) {
        Ok(checked) => checked,
        Err(issues) => {
            compare("issues", issues.to_string(), "issues");
            return found;
        }
    };
    compare("issues", String::new(), "issues");
    compare("type", checked.output_type().to_string(), "type");
    let estimate = match decl {
        Some(decl) => checked.estimated_cost(decl),
        None => checked.estimated_cost(&strata_cel::UnknownSizes),
    };
    compare("least estimate", estimate.min.to_string(), "min");
    compare("most estimate", estimate.max.to_string(), "max");
    let program = match checked.program() {
        Ok(program) => program,
        Err(e) => {
            compare("plan", e.to_string(), "plan");
            return found;
        }
    };
    compare("plan", String::new(), "plan");
    let run = program.eval(bindings, limits::PER_CALL_LIMIT);
    match &run.result {
        Ok(value) => {
            compare("error", String::new(), "error");
            compare("value", render(value), "value");
        }
        Err(e) => compare("error", e.to_string(), "error"),
    }
    if !golden["cost"].is_null() {
        compare("cost", run.cost.to_string(), "cost");
    }
    found
}

#[test]
fn every_golden_answer_is_ours() {
    let (cases, answers) = (read("cel/cases.json"), read("golden/cel.json"));
    let (mut report, mut count, mut wrong) = (String::new(), 0, 0);
    for (group, answered) in cases.as_array().unwrap().iter().zip(answers.as_array().unwrap()) {
        let schema = group.get("schema").map(JsonSchema::new);
        let decl = schema.map(|schema| DeclType::from_schema(&schema, "selfType", group["root"] == true).unwrap());
        let env = environment(group, decl.as_ref());
        let mut bindings = Bindings::new().with("dyn_value", Value::dynamic(&group["dyn"]));
        if let Some(decl) = &decl {
            let old = group
                .get("old")
                .map(|old| Value::some(Value::declared(old, decl).unwrap()));
            bindings = bindings
                .with("self", Value::declared(&group["object"], decl).unwrap())
                .with("oldSelf", old.unwrap_or(Value::Optional(None)));
        }
        for golden in answered["answers"].as_array().unwrap() {
            count += 1;
            let found = differences(&env, decl.as_ref(), &bindings, golden);
            if !found.is_empty() {
                wrong += 1;
                writeln!(report, "{}\n  {}", golden["expression"], found.join("\n  ")).unwrap();
            }
        }
    }
    assert!(wrong == 0, "{wrong} of {count} answers differ\n{report}");
}
