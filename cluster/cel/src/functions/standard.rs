//! Operators, sizes and membership; and how a call finds its overload when it runs.

use super::{Overload, Row, accepts, row};
use crate::{
    EvalError, Value,
    env::Library::Standard,
    limits::MAX_TEXT,
    value::{Duration, compare},
};
use std::cmp::Ordering;

/// Calls the first overload that accepts the arguments.
pub(crate) fn invoke<'a>(
    function: &str,
    overloads: &[&'static Overload],
    args: &[Value<'a>],
) -> Result<Value<'a>, EvalError> {
    let fitting = overloads.iter().find(|overload| {
        overload.args.len() == args.len() && overload.args.iter().zip(args).all(|(ty, arg)| accepts(ty, arg))
    });
    if let Some(overload) = fitting {
        return (overload.implementation)(args);
    }
    // Operators tell no types.
    if function.starts_with(['_', '-', '!', '@']) || matches!(function, "contains" | "startsWith" | "endsWith") {
        return Err(EvalError::no_such_overload());
    }
    if matches!(function, "size" | "matches") {
        return Err(EvalError::failed(format!("no such overload: {function}")));
    }
    let types: Vec<String> = args.iter().map(|arg| arg.type_of().name().to_owned()).collect();
    Err(EvalError::failed(format!(
        "no such overload: {function}({})",
        types.join(", ")
    )))
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row(Standard, "_?_:_", "conditional", "(bool, A, A) -> A", refuse),
        row(Standard, "_&&_", "logical_and", "(bool, bool) -> bool", refuse),
        row(Standard, "_||_", "logical_or", "(bool, bool) -> bool", refuse),
        row(Standard, "!_", "logical_not", "(bool) -> bool", not),
        row(
            Standard,
            "@not_strictly_false",
            "not_strictly_false",
            "(bool) -> bool",
            refuse,
        ),
        row(Standard, "_==_", "equals", "(A, A) -> bool", refuse),
        row(Standard, "_!=_", "not_equals", "(A, A) -> bool", refuse),
        row(Standard, "_+_", "add_bytes", "(bytes, bytes) -> bytes", add),
        row(Standard, "_+_", "add_double", "(double, double) -> double", add),
        row(
            Standard,
            "_+_",
            "add_duration_duration",
            "(duration, duration) -> duration",
            add,
        ),
        row(
            Standard,
            "_+_",
            "add_duration_timestamp",
            "(duration, timestamp) -> timestamp",
            add,
        ),
        row(
            Standard,
            "_+_",
            "add_timestamp_duration",
            "(timestamp, duration) -> timestamp",
            add,
        ),
        row(Standard, "_+_", "add_int64", "(int, int) -> int", add),
        row(Standard, "_+_", "add_list", "(list(A), list(A)) -> list(A)", add),
        row(Standard, "_+_", "add_string", "(string, string) -> string", add),
        row(Standard, "_+_", "add_uint64", "(uint, uint) -> uint", add),
        row(
            Standard,
            "_-_",
            "subtract_double",
            "(double, double) -> double",
            subtract,
        ),
        row(
            Standard,
            "_-_",
            "subtract_duration_duration",
            "(duration, duration) -> duration",
            subtract,
        ),
        row(Standard, "_-_", "subtract_int64", "(int, int) -> int", subtract),
        row(
            Standard,
            "_-_",
            "subtract_timestamp_duration",
            "(timestamp, duration) -> timestamp",
            subtract,
        ),
        row(
            Standard,
            "_-_",
            "subtract_timestamp_timestamp",
            "(timestamp, timestamp) -> duration",
            subtract,
        ),
        row(Standard, "_-_", "subtract_uint64", "(uint, uint) -> uint", subtract),
        row(
            Standard,
            "_*_",
            "multiply_double",
            "(double, double) -> double",
            multiply,
        ),
        row(Standard, "_*_", "multiply_int64", "(int, int) -> int", multiply),
        row(Standard, "_*_", "multiply_uint64", "(uint, uint) -> uint", multiply),
        row(Standard, "_/_", "divide_double", "(double, double) -> double", divide),
        row(Standard, "_/_", "divide_int64", "(int, int) -> int", divide),
        row(Standard, "_/_", "divide_uint64", "(uint, uint) -> uint", divide),
        row(Standard, "_%_", "modulo_int64", "(int, int) -> int", modulo),
        row(Standard, "_%_", "modulo_uint64", "(uint, uint) -> uint", modulo),
        row(Standard, "-_", "negate_double", "(double) -> double", negate),
        row(Standard, "-_", "negate_int64", "(int) -> int", negate),
        row(Standard, "_[_]", "index_list", "(list(A), int) -> A", refuse),
        row(Standard, "_[_]", "index_map", "(map(A, B), A) -> B", refuse),
        row(Standard, "@in", "in_list", "(A, list(A)) -> bool", in_list),
        row(Standard, "@in", "in_map", "(A, map(A, B)) -> bool", in_map),
        row(Standard, "size", "size_bytes", "(bytes) -> int", size),
        row(Standard, "size", "bytes_size", "bytes.() -> int", size),
        row(Standard, "size", "size_list", "(list(A)) -> int", size),
        row(Standard, "size", "list_size", "list(A).() -> int", size),
        row(Standard, "size", "size_map", "(map(A, B)) -> int", size),
        row(Standard, "size", "map_size", "map(A, B).() -> int", size),
        row(Standard, "size", "size_string", "(string) -> int", size),
        row(Standard, "size", "string_size", "string.() -> int", size),
    ];
    rows.extend(order_rows());
    rows
}

/// Every order of every pair of types that have one.
fn order_rows() -> impl Iterator<Item = Row> {
    const PAIRS: [(&str, &str); 14] = [
        ("bool", "bool, bool"),
        ("int64", "int, int"),
        ("int64_double", "int, double"),
        ("int64_uint64", "int, uint"),
        ("uint64", "uint, uint"),
        ("uint64_double", "uint, double"),
        ("uint64_int64", "uint, int"),
        ("double", "double, double"),
        ("double_int64", "double, int"),
        ("double_uint64", "double, uint"),
        ("string", "string, string"),
        ("bytes", "bytes, bytes"),
        ("timestamp", "timestamp, timestamp"),
        ("duration", "duration, duration"),
    ];
    let operators: [(&'static str, &str, super::Implementation); 4] = [
        ("_<_", "less", less),
        ("_<=_", "less_equals", less_equals),
        ("_>_", "greater", greater),
        ("_>=_", "greater_equals", greater_equals),
    ];
    operators.into_iter().flat_map(|(function, prefix, implementation)| {
        let row = move |(types, args): (&str, &str)| {
            let (id, signature) = (format!("{prefix}_{types}"), format!("({args}) -> bool"));
            Row(Standard, function, id.into(), signature.into(), implementation)
        };
        PAIRS.into_iter().map(row)
    })
}

/// What the run does itself and never calls.
fn refuse<'a>(_: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    Err(EvalError::no_such_overload())
}

fn failed<'a>(message: &'static str) -> impl Fn() -> Result<Value<'a>, EvalError> {
    move || Err(EvalError::failed(message))
}

fn int<'a>(value: Option<i64>) -> Result<Value<'a>, EvalError> {
    value.map_or_else(failed("integer overflow"), |n| Ok(Value::Int(n)))
}

fn uint<'a>(value: Option<u64>) -> Result<Value<'a>, EvalError> {
    value.map_or_else(failed("unsigned integer overflow"), |n| Ok(Value::Uint(n)))
}

fn span<'a>(value: Option<i64>) -> Result<Value<'a>, EvalError> {
    value.map_or_else(failed("integer overflow"), |n| Ok(Value::Duration(Duration(n))))
}

fn not<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Bool(truth)] => Ok(Value::Bool(!truth)),
        _ => refuse(args),
    }
}

pub(super) fn add<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_add(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_add(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        [Value::String(a), Value::String(b)] if a.len() + b.len() > MAX_TEXT => Err(EvalError::cost_limit()),
        [Value::Bytes(a), Value::Bytes(b)] if a.len() + b.len() > MAX_TEXT => Err(EvalError::cost_limit()),
        [Value::String(a), Value::String(b)] => Ok(Value::text(format!("{}{}", &**a, &**b))),
        [Value::Bytes(a), Value::Bytes(b)] => Ok(Value::Bytes([&**a, &**b].concat().into())),
        [Value::List(a), Value::List(b)] => Ok(Value::List(a.add(b)?)),
        [Value::Duration(a), Value::Duration(b)] => span(a.0.checked_add(b.0)),
        [Value::Timestamp(time), Value::Duration(d)] | [Value::Duration(d), Value::Timestamp(time)] => {
            Ok(Value::Timestamp(time.plus(*d)?))
        }
        _ => refuse(args),
    }
}

fn subtract<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_sub(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_sub(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => span(a.0.checked_sub(b.0)),
        [Value::Timestamp(a), Value::Timestamp(b)] => Ok(Value::Duration(a.since(*b)?)),
        [Value::Timestamp(time), Value::Duration(d)] => match d.0.checked_neg() {
            Some(back) => Ok(Value::Timestamp(time.plus(Duration(back))?)),
            None => failed("integer overflow")(),
        },
        _ => refuse(args),
    }
}

fn multiply<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_mul(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_mul(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => refuse(args),
    }
}

fn divide<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => failed("division by zero")(),
        [Value::Int(a), Value::Int(b)] => int(a.checked_div(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_div(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => refuse(args),
    }
}

fn modulo<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => failed("modulus by zero")(),
        [Value::Int(a), Value::Int(b)] => int(a.checked_rem(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_rem(*b)),
        _ => refuse(args),
    }
}

fn negate<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Int(n)] => int(n.checked_neg()),
        [Value::Double(n)] => Ok(Value::Double(-n)),
        _ => refuse(args),
    }
}

fn ordered<'a>(args: &[Value<'a>], accepts: fn(Ordering) -> bool) -> Result<Value<'a>, EvalError> {
    match args {
        [left, right] => Ok(Value::Bool(accepts(compare(left, right)?))),
        _ => refuse(args),
    }
}

fn less<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    ordered(args, Ordering::is_lt)
}

fn less_equals<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    ordered(args, Ordering::is_le)
}

fn greater<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    ordered(args, Ordering::is_gt)
}

fn greater_equals<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    ordered(args, Ordering::is_ge)
}

fn in_list<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [value, Value::List(list)] => Ok(Value::Bool(list.contains(value)?)),
        _ => refuse(args),
    }
}

fn in_map<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [key, Value::Map(map)] => Ok(Value::Bool(map.find(key)?.is_some())),
        _ => refuse(args),
    }
}

fn size<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [value] => Ok(Value::Int(i64::try_from(value.size()).unwrap_or(i64::MAX))),
        _ => refuse(args),
    }
}
