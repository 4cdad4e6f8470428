//! Steps of field paths, in the text that FieldsV1 writes them in: `f:name`, `k:{"name":"a"}`,
//! `v:"x"`, `i:0`.

use serde_json::{Map, Number, Value};
use std::cmp::Ordering;

/// The member of a node that says the node itself is in the set.
pub(super) const SELF: &str = ".";

/// A step as it is compared and shown.
#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    Key(Map<String, Value>),
    Value(Value),
    Index(i64),
}

/// A field of a struct or a key of a map.
pub(super) fn field(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push_str("f:");
    text.push_str(name);
    text
}

/// An item of a set.
pub(super) fn value(value: &Value) -> String {
    let mut text = "v:".to_owned();
    write_scalar(&mut text, value);
    text
}

/// An item known by key members, which come in order of their names.
pub(super) fn key<'v>(members: impl Iterator<Item = (&'v str, &'v Value)>) -> String {
    let mut text = "k:{".to_owned();
    for (at, (name, value)) in members.enumerate() {
        if at > 0 {
            text.push(',');
        }
        write_text(&mut text, name);
        text.push(':');
        write_scalar(&mut text, value);
    }
    text.push('}');
    text
}

/// The canonical text of a step that a client wrote; `None` for kinds that are not known, which are
/// dropped. Errors: a step that is malformed.
pub(super) fn canonical(text: &str) -> Result<Option<String>, String> {
    let Some((kind, rest)) = text.split_at_checked(2) else {
        return Err("key must be 2 characters long:".to_owned());
    };
    if !kind.ends_with(':') {
        return Err(format!("missing colon: {text}"));
    }
    let json = |rest: &str| serde_json::from_str::<Value>(rest).map_err(|e| e.to_string());
    match kind {
        "f:" => Ok(Some(text.to_owned())),
        "v:" => Ok(Some(value(&json(rest)?))),
        "k:" => match json(rest)? {
            Value::Object(members) => Ok(Some(key(members.iter().map(|(name, value)| (name.as_str(), value))))),
            _ => Err("expected an object of key members".to_owned()),
        },
        "i:" => match rest.parse::<i64>() {
            Ok(at) => Ok(Some(format!("i:{at}"))),
            Err(_) => Err(format!("strconv.Atoi: parsing {rest:?}: invalid syntax")),
        },
        _ => Ok(None),
    }
}

/// The step as a path shows it: `.name`, `[name="a"]`, `[="x"]`, `[0]`.
pub(super) fn shown(text: &str) -> String {
    match step(text) {
        Step::Field(name) => format!(".{name}"),
        Step::Value(value) => format!("[={}]", scalar_shown(&value)),
        Step::Index(at) => format!("[{at}]"),
        Step::Key(members) => {
            let pairs: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name}={}", scalar_shown(value)))
                .collect();
            format!("[{}]", pairs.join(","))
        }
    }
}

/// The order in which upstream lists steps: fields, keys, values, places.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    match (step(a), step(b)) {
        (Step::Field(a), Step::Field(b)) => a.cmp(&b),
        (Step::Index(a), Step::Index(b)) => a.cmp(&b),
        (Step::Value(a), Step::Value(b)) => order_scalars(&a, &b),
        (Step::Key(a), Step::Key(b)) => order_keys(&a, &b),
        (a, b) => rank(&a).cmp(&rank(&b)),
    }
}

fn rank(step: &Step) -> u8 {
    match step {
        Step::Field(_) => 0,
        Step::Key(_) => 1,
        Step::Value(_) => 2,
        Step::Index(_) => 3,
    }
}

fn order_keys(a: &Map<String, Value>, b: &Map<String, Value>) -> Ordering {
    for ((name, value), (other_name, other)) in a.iter().zip(b) {
        let order = name.cmp(other_name).then_with(|| order_scalars(value, other));
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

fn order_scalars(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let float = |n: &Number| n.as_f64().unwrap_or(0.0);
            match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => float(a).total_cmp(&float(b)),
            }
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (a, b) => scalar_rank(a).cmp(&scalar_rank(b)),
    }
}

fn scalar_rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        _ => 3,
    }
}

fn step(text: &str) -> Step {
    // Texts in sets are canonical, so they parse; anything else shows as a field.
    let parsed = match text.split_at_checked(2) {
        Some(("k:", rest)) => serde_json::from_str(rest).ok().map(Step::Key),
        Some(("v:", rest)) => serde_json::from_str(rest).ok().map(Step::Value),
        Some(("i:", rest)) => rest.parse().ok().map(Step::Index),
        _ => None,
    };
    parsed.unwrap_or_else(|| Step::Field(text.strip_prefix("f:").unwrap_or(text).to_owned()))
}

fn scalar_shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

fn write_scalar(out: &mut String, value: &Value) {
    use std::fmt::Write;
    match value {
        Value::String(text) => write_text(out, text),
        // Writing to a string cannot fail.
        other => drop(write!(out, "{other}")),
    }
}

/// Text as Go's JSON writes it, with what HTML could read escaped.
fn write_text(out: &mut String, text: &str) {
    let json = Value::from(text).to_string();
    if !json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        out.push_str(&json);
        return;
    }
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn steps_have_one_text_and_upstreams_order() {
        let protocol = json!("TCP");
        let port = |number: u32| {
            let number = json!(number);
            key([("containerPort", &number), ("protocol", &protocol)].into_iter())
        };
        assert_eq!(port(80), r#"k:{"containerPort":80,"protocol":"TCP"}"#);
        assert_eq!(
            canonical(r#"k:{ "protocol":"TCP", "containerPort": 80}"#),
            Ok(Some(port(80)))
        );
        assert_eq!(shown(&port(80)), r#"[containerPort=80,protocol="TCP"]"#);
        assert_eq!(order(&port(80), &port(443)), Ordering::Less);
        assert_eq!(order("f:z", &port(80)), Ordering::Less);
        assert_eq!(value(&json!("a<b")), r#"v:"a\u003cb""#);
        assert_eq!(shown(&value(&json!("a<b"))), r#"[="a<b"]"#);
        assert_eq!(canonical("x:1"), Ok(None));
        assert!(canonical("f").is_err() && canonical("fx").is_err() && canonical("k:1").is_err());
    }
}
