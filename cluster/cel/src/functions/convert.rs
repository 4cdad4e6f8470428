//! Conversions between types.

use super::{Row, row};
use crate::{
    EvalError, Type, Value,
    env::Library::Standard,
    value::{Duration, Timestamp},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row(Standard, "type", "type", "(A) -> type(A)", type_of),
        row(Standard, "dyn", "to_dyn", "(A) -> dyn", identity),
    ];
    for (function, from, id) in CONVERSIONS {
        let (result, implementation): (&str, super::Implementation) = match *function {
            "bool" => ("bool", to_bool),
            "bytes" => ("bytes", to_bytes),
            "double" => ("double", to_double),
            "duration" => ("duration", to_duration),
            "int" => ("int", to_int),
            "string" => ("string", to_string),
            "timestamp" => ("timestamp", to_timestamp),
            _ => ("uint", to_uint),
        };
        let signature = format!("({from}) -> {result}");
        rows.push(Row(Standard, function, (*id).into(), signature.into(), implementation));
    }
    rows
}

/// Function, argument, overload.
const CONVERSIONS: &[(&str, &str, &str)] = &[
    ("bool", "bool", "bool_to_bool"),
    ("bool", "string", "string_to_bool"),
    ("bytes", "bytes", "bytes_to_bytes"),
    ("bytes", "string", "string_to_bytes"),
    ("double", "double", "double_to_double"),
    ("double", "int", "int64_to_double"),
    ("double", "string", "string_to_double"),
    ("double", "uint", "uint64_to_double"),
    ("duration", "duration", "duration_to_duration"),
    ("duration", "int", "int64_to_duration"),
    ("duration", "string", "string_to_duration"),
    ("int", "int", "int64_to_int64"),
    ("int", "double", "double_to_int64"),
    ("int", "duration", "duration_to_int64"),
    ("int", "string", "string_to_int64"),
    ("int", "timestamp", "timestamp_to_int64"),
    ("int", "uint", "uint64_to_int64"),
    ("string", "string", "string_to_string"),
    ("string", "bool", "bool_to_string"),
    ("string", "bytes", "bytes_to_string"),
    ("string", "double", "double_to_string"),
    ("string", "duration", "duration_to_string"),
    ("string", "int", "int64_to_string"),
    ("string", "timestamp", "timestamp_to_string"),
    ("string", "uint", "uint64_to_string"),
    ("timestamp", "timestamp", "timestamp_to_timestamp"),
    ("timestamp", "int", "int64_to_timestamp"),
    ("timestamp", "string", "string_to_timestamp"),
    ("uint", "uint", "uint64_to_uint64"),
    ("uint", "double", "double_to_uint64"),
    ("uint", "int", "int64_to_uint64"),
    ("uint", "string", "string_to_uint64"),
];

fn inconvertible<'a>(args: &[Value<'a>], to: &str) -> Result<Value<'a>, EvalError> {
    let from = args.first().map_or(Type::Error, Value::type_of);
    Err(EvalError::failed(format!(
        "type conversion error from '{}' to '{to}'",
        from.name()
    )))
}

fn identity<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    args.first().cloned().ok_or_else(EvalError::no_such_overload)
}

fn type_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    Ok(Value::Type(args.first().map_or(Type::Error, Value::type_of)))
}

fn to_bool<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Bool(truth)] => Ok(Value::Bool(*truth)),
        [Value::String(text)] => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => inconvertible(args, "bool"),
        },
        _ => inconvertible(args, "bool"),
    }
}

fn to_bytes<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::String(text)] => Ok(Value::Bytes(text.as_bytes().into())),
        [Value::Bytes(bytes)] => Ok(Value::Bytes(bytes.clone())),
        _ => inconvertible(args, "bytes"),
    }
}

fn to_double<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Double(n)] => Ok(Value::Double(*n)),
        [Value::Int(n)] => Ok(Value::Double(*n as f64)),
        [Value::Uint(n)] => Ok(Value::Double(*n as f64)),
        [Value::String(text)] => match text.parse::<f64>() {
            // What is written in digits may not overflow.
            Ok(n) if n.is_finite() || !text.contains(|c: char| c.is_ascii_digit()) => Ok(Value::Double(n)),
            _ => inconvertible(args, "double"),
        },
        _ => inconvertible(args, "double"),
    }
}

fn to_duration<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Duration(span)] => Ok(Value::Duration(*span)),
        [Value::String(text)] => match Duration::parse(text) {
            Some(span) => Ok(Value::Duration(span)),
            None => inconvertible(args, "google.protobuf.Duration"),
        },
        _ => inconvertible(args, "google.protobuf.Duration"),
    }
}

fn to_timestamp<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Timestamp(time)] => Ok(Value::Timestamp(*time)),
        [Value::Int(seconds)] => match Timestamp::new(*seconds, 0) {
            Some(time) => Ok(Value::Timestamp(time)),
            None => Err(EvalError::failed("timestamp overflow")),
        },
        [Value::String(text)] => match Timestamp::parse(text) {
            Some(time) => Ok(Value::Timestamp(time)),
            None => inconvertible(args, "google.protobuf.Timestamp"),
        },
        _ => inconvertible(args, "google.protobuf.Timestamp"),
    }
}

fn to_int<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let overflow = || Err(EvalError::failed("integer overflow"));
    match args {
        [Value::Int(n)] => Ok(Value::Int(*n)),
        [Value::Uint(n)] => i64::try_from(*n).map_or_else(|_| overflow(), |n| Ok(Value::Int(n))),
        // The bounds themselves are out: a double cannot tell them from their neighbours.
        [Value::Double(n)] if n.abs() < i64::MAX as f64 => Ok(Value::Int(*n as i64)),
        [Value::Double(_)] => overflow(),
        [Value::Duration(span)] => Ok(Value::Int(span.0)),
        [Value::Timestamp(time)] => Ok(Value::Int(time.seconds)),
        [Value::String(text)] => match text.parse() {
            Ok(n) => Ok(Value::Int(n)),
            Err(_) => inconvertible(args, "int"),
        },
        _ => inconvertible(args, "int"),
    }
}

fn to_uint<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let overflow = || Err(EvalError::failed("unsigned integer overflow"));
    match args {
        [Value::Uint(n)] => Ok(Value::Uint(*n)),
        [Value::Int(n)] => u64::try_from(*n).map_or_else(|_| overflow(), |n| Ok(Value::Uint(n))),
        [Value::Double(n)] if (0.0..18_446_744_073_709_551_616.0).contains(n) => Ok(Value::Uint(*n as u64)),
        [Value::Double(_)] => overflow(),
        [Value::String(text)] if !text.starts_with('+') => match text.parse() {
            Ok(n) => Ok(Value::Uint(n)),
            Err(_) => inconvertible(args, "uint"),
        },
        _ => inconvertible(args, "uint"),
    }
}

fn to_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::String(text)] => Ok(Value::String(text.clone())),
        [Value::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::text(text)),
            Err(_) => Err(EvalError::failed("invalid UTF-8 in bytes, cannot convert to string")),
        },
        [value @ (Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_))]
        | [value @ (Value::Timestamp(_) | Value::Duration(_) | Value::Type(_))] => Ok(Value::text(value.to_string())),
        _ => inconvertible(args, "string"),
    }
}

/// As Go's `%g` writes a double.
pub(crate) fn double_to_string(n: f64) -> String {
    if n.is_nan() {
        return "NaN".to_owned();
    }
    if n.is_infinite() {
        return if n > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{n:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if n == 0.0 || (-4..6).contains(&exponent) {
        return format!("{n}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
