//! Go's predefined functions and those that docker adds.

use crate::printing::{format, kind, plain, print, truth};
use serde_json::Value;
use std::cmp::Ordering;

const NAMES: &[&str] = &[
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js", "urlquery", "eq", "ne",
    "lt", "le", "gt", "ge", "json", "split", "join", "title", "lower", "upper", "pad", "truncate",
];
/// A text that is padded.
const MAX_PADDING: i64 = 10_000;

/// Whether there is such a function.
pub(crate) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function; for headers, those that would change a text leave it.
pub(crate) fn call(name: &str, arguments: Vec<Value>, headers: bool) -> Result<Value, String> {
    if headers
        && matches!(
            name,
            "json" | "title" | "lower" | "upper" | "truncate" | "split" | "join"
        )
    {
        return arguments.into_iter().next().ok_or_else(|| few(name, 1, 0));
    }
    let count = arguments.len();
    let least = match name {
        "index" | "slice" | "not" | "len" | "json" | "title" | "lower" | "upper" | "printf" => 1,
        "split" | "join" | "truncate" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" => 2,
        "pad" => 3,
        _ => 0,
    };
    if count < least {
        return Err(few(name, least, count));
    }
    let first = arguments.first().unwrap_or(&Value::Null);
    Ok(match name {
        "not" => (!truth(first)).into(),
        "len" => length(first)?.into(),
        "index" => return index(first, &arguments[1..]),
        "slice" => return slice(first, &arguments[1..]),
        "print" => joined(&arguments).into(),
        "println" => {
            let words: Vec<String> = arguments.iter().map(plain).collect();
            format!("{}\n", words.join(" ")).into()
        }
        "printf" => format(text(first)?, &arguments[1..]).into(),
        "html" => escape(&joined(&arguments), html).into(),
        "js" => escape(&joined(&arguments), script).into(),
        "urlquery" => query(&joined(&arguments)).into(),
        "eq" => equal(first, &arguments[1..])?.into(),
        "ne" => (!equal(first, &arguments[1..2])?).into(),
        "lt" => order(&arguments)?.is_lt().into(),
        "le" => order(&arguments)?.is_le().into(),
        "gt" => order(&arguments)?.is_gt().into(),
        "ge" => order(&arguments)?.is_ge().into(),
        "json" => serde_json::to_string(first).map_err(|error| error.to_string())?.into(),
        "split" => text(first)?.split(text(&arguments[1])?).map(Value::from).collect(),
        "join" => join(first, text(&arguments[1])?)?.into(),
        "title" => title(text(first)?).into(),
        "lower" => text(first)?.to_lowercase().into(),
        "upper" => text(first)?.to_uppercase().into(),
        "pad" => pad(text(first)?, number(&arguments[1])?, number(&arguments[2])?).into(),
        "truncate" => {
            let length = usize::try_from(number(&arguments[1])?).map_err(|_| "negative length".to_owned())?;
            text(first)?.chars().take(length).collect::<String>().into()
        }
        other => return Err(format!("function {other:?} not defined")),
    })
}

fn few(name: &str, least: usize, count: usize) -> String {
    format!("wrong number of args for {name}: want at least {least} got {count}")
}

fn text(value: &Value) -> Result<&str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("wrong type for value; expected string; got {}", kind(value)))
}

fn number(value: &Value) -> Result<i64, String> {
    value
        .as_i64()
        .ok_or_else(|| format!("wrong type for value; expected int; got {}", kind(value)))
}

/// As Sprint: a space between operands of which neither is a text.
fn joined(arguments: &[Value]) -> String {
    let mut output = String::new();
    for (at, argument) in arguments.iter().enumerate() {
        if at > 0 && !argument.is_string() && !arguments[at - 1].is_string() {
            output.push(' ');
        }
        output.push_str(&plain(argument));
    }
    output
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(map) => Ok(map.len()),
        Value::Null => Ok(0),
        other => Err(format!("len of type {}", kind(other))),
    }
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut found = value;
    for key in keys {
        found = match (found, key) {
            (Value::Object(map), Value::String(key)) => map.get(key).unwrap_or(&Value::Null),
            (Value::Array(items), Value::Number(_)) => {
                let at = number(key)?;
                let item = usize::try_from(at).ok().and_then(|at| items.get(at));
                item.ok_or_else(|| format!("index out of range: {at}"))?
            }
            (Value::Null, _) => return Err("index of untyped nil".into()),
            (Value::Array(_), _) => return Err(format!("cannot index slice/array with type {}", kind(key))),
            (Value::Object(_), _) => return Err(format!("value has type {}; should be string", kind(key))),
            (other, _) => return Err(format!("can't index item of type {}", kind(other))),
        };
    }
    Ok(found.clone())
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let whole = length(value)?;
    let mut ends = [0, whole];
    for (end, bound) in ends.iter_mut().zip(bounds) {
        let at = number(bound)?;
        *end = usize::try_from(at).map_err(|_| format!("index out of range: {at}"))?;
    }
    let [from, to] = ends;
    if from > to || to > whole {
        return Err(format!("index out of range: {from}:{to}"));
    }
    match value {
        Value::Array(items) => Ok(items[from..to].to_vec().into()),
        Value::String(text) => Ok(text
            .get(from..to)
            .ok_or("index is within a character")?
            .to_owned()
            .into()),
        other => Err(format!("can't slice item of type {}", kind(other))),
    }
}

fn equal(first: &Value, others: &[Value]) -> Result<bool, String> {
    for other in others {
        let same = match (first, other) {
            (Value::Number(_), Value::Number(_)) => compare(first, other)? == Ordering::Equal,
            (Value::Null, Value::Null) => true,
            (Value::Null, _) | (_, Value::Null) => false,
            _ if kind(first) != kind(other) => return Err("incompatible types for comparison".into()),
            (Value::Array(_) | Value::Object(_), _) => return Err("non-comparable types".into()),
            _ => first == other,
        };
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

fn order(arguments: &[Value]) -> Result<Ordering, String> {
    compare(&arguments[0], &arguments[1])
}

fn compare(left: &Value, right: &Value) -> Result<Ordering, String> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Ok(left.cmp(right)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            _ => a
                .as_f64()
                .zip(b.as_f64())
                .and_then(|(a, b)| a.partial_cmp(&b))
                .ok_or_else(|| "invalid type for comparison".to_owned()),
        },
        _ if kind(left) == kind(right) => Err("invalid type for comparison".into()),
        _ => Err("incompatible types for comparison".into()),
    }
}

fn join(value: &Value, separator: &str) -> Result<String, String> {
    match value {
        Value::Array(items) => Ok(items.iter().map(print).collect::<Vec<_>>().join(separator)),
        Value::Null => Ok(String::new()),
        other => Err(format!("wrong type for value; expected []string; got {}", kind(other))),
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let c = if start { c.to_uppercase().next().unwrap_or(c) } else { c };
            start = !(c.is_alphanumeric() || c == '_' || c == '\'');
            c
        })
        .collect()
}

fn pad(text: &str, before: i64, after: i64) -> String {
    if text.is_empty() {
        return String::new();
    }
    let spaces = |count: i64| " ".repeat(usize::try_from(count.clamp(0, MAX_PADDING)).unwrap_or(0));
    format!("{}{text}{}", spaces(before), spaces(after))
}

fn escape(text: &str, one: impl Fn(char) -> Option<&'static str>) -> String {
    let mut output = String::with_capacity(text.len());
    for character in text.chars() {
        match one(character) {
            Some(replaced) => output.push_str(replaced),
            None => output.push(character),
        }
    }
    output
}

fn html(character: char) -> Option<&'static str> {
    Some(match character {
        '\0' => "\u{fffd}",
        '"' => "&#34;",
        '\'' => "&#39;",
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        _ => return None,
    })
}

fn script(character: char) -> Option<&'static str> {
    Some(match character {
        '\\' => "\\\\",
        '\'' => "\\'",
        '"' => "\\\"",
        '<' => "\\u003C",
        '>' => "\\u003E",
        '&' => "\\u0026",
        '=' => "\\u003D",
        '\n' => "\\u000A",
        '\r' => "\\u000D",
        '\t' => "\\u0009",
        _ => return None,
    })
}

fn query(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => output.push(char::from(byte)),
            b' ' => output.push('+'),
            other => output.push_str(&format!("%{other:02X}")),
        }
    }
    output
}
