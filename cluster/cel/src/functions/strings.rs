//! Functions of text.

use super::{Row, format, kubernetes, row};
use crate::{
    EvalError, Value,
    env::Library::{Standard, Strings},
    limits::MAX_TEXT,
};

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            Standard,
            "contains",
            "contains_string",
            "string.(string) -> bool",
            |a| test(a, |t, s| t.contains(s)),
        ),
        row(
            Standard,
            "endsWith",
            "ends_with_string",
            "string.(string) -> bool",
            |a| test(a, |t, s| t.ends_with(s)),
        ),
        row(
            Standard,
            "startsWith",
            "starts_with_string",
            "string.(string) -> bool",
            |a| test(a, |t, s| t.starts_with(s)),
        ),
        row(Standard, "matches", "matches", "(string, string) -> bool", |a| {
            kubernetes::regex_call("matches", a)
        }),
        row(Standard, "matches", "matches_string", "string.(string) -> bool", |a| {
            kubernetes::regex_call("matches", a)
        }),
        row(
            Strings,
            "charAt",
            "string_char_at_int",
            "string.(int) -> string",
            char_at,
        ),
        row(
            Strings,
            "indexOf",
            "string_index_of_string",
            "string.(string) -> int",
            index_of,
        ),
        row(
            Strings,
            "indexOf",
            "string_index_of_string_int",
            "string.(string, int) -> int",
            index_of,
        ),
        row(
            Strings,
            "lastIndexOf",
            "string_last_index_of_string",
            "string.(string) -> int",
            last_index_of,
        ),
        row(
            Strings,
            "lastIndexOf",
            "string_last_index_of_string_int",
            "string.(string, int) -> int",
            last_index_of,
        ),
        row(
            Strings,
            "lowerAscii",
            "string_lower_ascii",
            "string.() -> string",
            |a| map(a, |text| text.to_ascii_lowercase()),
        ),
        row(
            Strings,
            "upperAscii",
            "string_upper_ascii",
            "string.() -> string",
            |a| map(a, |text| text.to_ascii_uppercase()),
        ),
        row(Strings, "trim", "string_trim", "string.() -> string", |a| {
            map(a, |text| text.trim().to_owned())
        }),
        row(
            Strings,
            "replace",
            "string_replace_string_string",
            "string.(string, string) -> string",
            replace,
        ),
        row(
            Strings,
            "replace",
            "string_replace_string_string_int",
            "string.(string, string, int) -> string",
            replace,
        ),
        row(
            Strings,
            "split",
            "string_split_string",
            "string.(string) -> list(string)",
            split,
        ),
        row(
            Strings,
            "split",
            "string_split_string_int",
            "string.(string, int) -> list(string)",
            split,
        ),
        row(
            Strings,
            "substring",
            "string_substring_int",
            "string.(int) -> string",
            substring,
        ),
        row(
            Strings,
            "substring",
            "string_substring_int_int",
            "string.(int, int) -> string",
            substring,
        ),
        row(
            Strings,
            "format",
            "string_format",
            "string.(list(dyn)) -> string",
            format::call,
        ),
        row(Strings, "strings.quote", "strings_quote", "(string) -> string", |a| {
            map(a, quote)
        }),
        row(Strings, "join", "list_join", "list(string).() -> string", join),
        row(
            Strings,
            "join",
            "list_join_string",
            "list(string).(string) -> string",
            join,
        ),
    ]
}

fn refuse<T>() -> Result<T, EvalError> {
    Err(EvalError::no_such_overload())
}

fn test<'a>(args: &[Value<'a>], holds: fn(&str, &str) -> bool) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::String(text), Value::String(other)] => Ok(Value::Bool(holds(text, other))),
        _ => refuse(),
    }
}

fn map<'a>(args: &[Value<'a>], change: fn(&str) -> String) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::String(text)] => Ok(Value::text(change(text))),
        _ => refuse(),
    }
}

fn out_of_range<T>(index: i64) -> Result<T, EvalError> {
    Err(EvalError::failed(format!("index out of range: {index}")))
}

/// Where the `index`th character begins; the end of the text is a place as well.
fn place(text: &str, index: i64) -> Result<usize, EvalError> {
    let Ok(wanted) = usize::try_from(index) else {
        return out_of_range(index);
    };
    let mut places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    places.nth(wanted).map_or_else(|| out_of_range(index), Ok)
}

fn char_at<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let [Value::String(text), Value::Int(index)] = args else {
        return refuse();
    };
    let rest = &text[place(text, *index)?..];
    let end = rest.chars().next().map_or(0, char::len_utf8);
    Ok(Value::text(&rest[..end]))
}

fn substring<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::String(text), Value::Int(start)] => Ok(Value::text(&text[place(text, *start)?..])),
        [Value::String(text), Value::Int(start), Value::Int(end)] => {
            if start > end {
                let message = format!("invalid substring range. start: {start}, end: {end}");
                return Err(EvalError::failed(message));
            }
            let (from, to) = (place(text, *start)?, place(text, *end)?);
            Ok(Value::text(&text[from..to]))
        }
        _ => refuse(),
    }
}

fn characters(text: &str) -> Vec<char> {
    text.chars().collect()
}

fn index_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (text, wanted, offset) = match args {
        [Value::String(text), Value::String(wanted)] => (text, wanted, 0),
        [Value::String(text), Value::String(wanted), Value::Int(offset)] => (text, wanted, *offset),
        _ => return refuse(),
    };
    if wanted.is_empty() {
        return Ok(Value::Int(offset));
    }
    let Ok(start) = usize::try_from(offset) else {
        return out_of_range(offset);
    };
    let (text, wanted) = (characters(text), characters(wanted));
    let rest = text.get(start..).unwrap_or_default();
    let found = rest.windows(wanted.len()).position(|window| window == wanted);
    Ok(Value::Int(found.map_or(-1, |at| (at + start) as i64)))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (text, wanted, offset) = match args {
        [Value::String(text), Value::String(wanted)] => (text, wanted, None),
        [Value::String(text), Value::String(wanted), Value::Int(offset)] => (text, wanted, Some(*offset)),
        _ => return refuse(),
    };
    let (text, wanted) = (characters(text), characters(wanted));
    if wanted.is_empty() {
        return Ok(Value::Int(offset.unwrap_or(text.len() as i64)));
    }
    if wanted.len() > text.len() && offset.is_none() {
        return Ok(Value::Int(-1));
    }
    let offset = offset.unwrap_or(text.len() as i64 - 1);
    let Ok(last) = usize::try_from(offset) else {
        return out_of_range(offset);
    };
    if last >= text.len() {
        return Ok(Value::Int(-1));
    }
    let end = (last + wanted.len()).min(text.len());
    let found = text[..end].windows(wanted.len()).rposition(|window| window == wanted);
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

fn replace<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (text, from, to, count) = match args {
        [Value::String(text), Value::String(from), Value::String(to)] => (text, from, to, -1),
        [
            Value::String(text),
            Value::String(from),
            Value::String(to),
            Value::Int(count),
        ] => (text, from, to, *count),
        _ => return refuse(),
    };
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let found = match from.is_empty() {
        true => text.len() + 1,
        false => text.matches(&**from).count(),
    };
    if text.len().saturating_add(found.min(most).saturating_mul(to.len())) > MAX_TEXT {
        return Err(EvalError::cost_limit());
    }
    let replaced = match usize::try_from(count) {
        Ok(count) => text.replacen(&**from, to, count),
        Err(_) => text.replace(&**from, to),
    };
    Ok(Value::text(replaced))
}

fn split<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (text, separator, count) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(count)] => (text, separator, *count),
        _ => return refuse(),
    };
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let parts: Vec<&str> = match most {
        0 => Vec::new(),
        // Between all characters, of which none comes before the first or after the last.
        _ if separator.is_empty() => {
            let mut rest = &**text;
            let mut parts = Vec::new();
            while !rest.is_empty() {
                let end = match parts.len() + 1 == most {
                    true => rest.len(),
                    false => rest.chars().next().map_or(0, char::len_utf8),
                };
                let (part, tail) = rest.split_at(end);
                parts.push(part);
                rest = tail;
            }
            parts
        }
        _ => text.splitn(most, &**separator).collect(),
    };
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

fn join<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return refuse(),
    };
    let mut joined = String::new();
    for (at, element) in list.iter().enumerate() {
        let element = element?;
        let Some(text) = element.as_str() else {
            return Err(EvalError::failed(format!("join: invalid input: {element}")));
        };
        joined.push_str(if at > 0 { separator } else { "" });
        joined.push_str(text);
        if joined.len() > MAX_TEXT {
            return Err(EvalError::cost_limit());
        }
    }
    Ok(Value::text(joined))
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
