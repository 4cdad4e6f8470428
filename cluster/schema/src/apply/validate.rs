//! Whether a value is of a type, in the words of upstream's typed values.

use super::element;
use super::node::{Form, Identity, Node, Scalar};
use super::walk::{identify, members};
use serde_json::Value;
use std::collections::BTreeSet;

/// Everything that is wrong with a configuration as one sentence; repeated items count.
pub(super) fn problems(node: &dyn Node, value: &Value) -> Option<String> {
    let mut found = Vec::new();
    visit(node, value, &mut String::new(), &mut found);
    match found.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn visit(node: &dyn Node, value: &Value, path: &mut String, found: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    match node.form() {
        Form::Any | Form::Opaque => {}
        Form::Scalar(scalar) => {
            if let Some(why) = scalar_problem(scalar, value) {
                say(path, &why, found);
            }
        }
        Form::Object { others } => {
            let Some(members) = members(Some(value)) else {
                return say(path, &format!("expected map, got &{{{}}}", go_value(value)), found);
            };
            for (name, value) in members {
                let length = path.len();
                path.push('.');
                path.push_str(name);
                match node.member(name).or(others) {
                    Some(place) => visit(place, value, path, found),
                    None => {
                        say(path, "field not declared in schema", found);
                        return path.truncate(length);
                    }
                }
                path.truncate(length);
            }
        }
        Form::List { item, identity } => match value {
            Value::Array(items) => visit_items(item, identity, items, path, found),
            _ => say(path, &format!("expected list, got &{{{}}}", go_value(value)), found),
        },
    }
}

fn visit_items(item: &dyn Node, identity: Identity<'_>, items: &[Value], path: &mut String, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (at, value) in items.iter().enumerate() {
        let step = match identity {
            Identity::None => format!("i:{at}"),
            _ => match identify(item, identity, value) {
                Ok(step) => step,
                Err(why) => return say(path, &format!("element {at}: {why}"), found),
            },
        };
        if !seen.insert(step.clone()) {
            say(
                path,
                &format!("duplicate entries for key {}", element::shown(&step)),
                found,
            );
        }
        let length = path.len();
        path.push_str(&element::shown(&step));
        visit(item, value, path, found);
        path.truncate(length);
    }
}

fn say(path: &str, why: &str, found: &mut Vec<String>) {
    found.push(match path {
        "" => why.to_owned(),
        path => format!("{path}: {why}"),
    });
}

fn scalar_problem(scalar: Scalar, value: &Value) -> Option<String> {
    match (scalar, value) {
        (Scalar::Text, Value::String(_))
        | (Scalar::Bool, Value::Bool(_))
        | (Scalar::Number, Value::Number(_))
        | (Scalar::Any, Value::String(_) | Value::Bool(_) | Value::Number(_)) => None,
        (Scalar::Number, other) => Some(format!("expected numeric (int or float), got {}", go_type(other))),
        (Scalar::Text, other) => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go_syntax(other)
        )),
        (Scalar::Bool, other) => Some(format!("expected boolean, got &{{{}}}", go_value(other))),
        (Scalar::Any, other) => Some(format!("expected any scalar, got &{{{}}}", go_value(other))),
    }
}

/// The name of the Go type that JSON is decoded to.
pub(crate) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// As Go's `%v` prints it.
pub(crate) fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let pairs: Vec<String> = members.iter().map(|(k, v)| format!("{k}:{}", go_value(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        scalar => scalar.to_string(),
    }
}

/// As Go's `%#v` prints it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => format!(
            "[]interface {{}}{{{}}}",
            items.iter().map(go_syntax).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(members) => {
            let pairs: Vec<String> = members.iter().map(|(k, v)| format!("{k:?}:{}", go_syntax(v))).collect();
            format!("map[string]interface {{}}{{{}}}", pairs.join(", "))
        }
        scalar => scalar.to_string(),
    }
}
