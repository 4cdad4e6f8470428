//! Optional values.

use super::{Row, row};
use crate::{
    EvalError, Value,
    env::Library::{Optional, TwoVariables},
    value::List,
};

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            TwoVariables,
            "cel.@mapInsert",
            "@mapInsert_map_key_value",
            "(map(K, V), K, V) -> map(K, V)",
            none,
        ),
        row(
            TwoVariables,
            "cel.@mapInsert",
            "@mapInsert_map_map",
            "(map(K, V), map(K, V)) -> map(K, V)",
            none,
        ),
        row(Optional, "optional.of", "optional_of", "(V) -> optional(V)", of),
        row(
            Optional,
            "optional.ofNonZeroValue",
            "optional_ofNonZeroValue",
            "(V) -> optional(V)",
            of_non_zero,
        ),
        row(Optional, "optional.none", "optional_none", "() -> optional(V)", none),
        row(Optional, "value", "optional_value", "optional(V).() -> V", value),
        row(
            Optional,
            "hasValue",
            "optional_hasValue",
            "optional(V).() -> bool",
            has_value,
        ),
        row(
            Optional,
            "or",
            "optional_or_optional",
            "optional(V).(optional(V)) -> optional(V)",
            none,
        ),
        row(
            Optional,
            "orValue",
            "optional_orValue_value",
            "optional(V).(V) -> V",
            none,
        ),
        row(
            Optional,
            "_?._",
            "select_optional_field",
            "(dyn, string) -> optional(V)",
            none,
        ),
        row(
            Optional,
            "_[?_]",
            "list_optindex_optional_int",
            "(list(V), int) -> optional(V)",
            none,
        ),
        row(
            Optional,
            "_[?_]",
            "optional_list_optindex_optional_int",
            "(optional(list(V)), int) -> optional(V)",
            none,
        ),
        row(
            Optional,
            "_[?_]",
            "map_optindex_optional_value",
            "(map(K, V), K) -> optional(V)",
            none,
        ),
        row(
            Optional,
            "_[?_]",
            "optional_map_optindex_optional_value",
            "(optional(map(K, V)), K) -> optional(V)",
            none,
        ),
        row(
            Optional,
            "_[_]",
            "optional_list_index_int",
            "(optional(list(V)), int) -> optional(V)",
            none,
        ),
        row(
            Optional,
            "_[_]",
            "optional_map_index_value",
            "(optional(map(K, V)), K) -> optional(V)",
            none,
        ),
        row(Optional, "last", "list_last", "list(V).() -> optional(V)", last),
        row(Optional, "first", "list_first", "list(V).() -> optional(V)", first),
        row(
            Optional,
            "optional.unwrap",
            "optional_unwrap",
            "(list(optional(V))) -> list(V)",
            unwrap,
        ),
        row(
            Optional,
            "unwrapOpt",
            "optional_unwrapOpt",
            "list(optional(V)).() -> list(V)",
            unwrap,
        ),
    ]
}

fn of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    args.first()
        .cloned()
        .map(Value::some)
        .ok_or_else(EvalError::no_such_overload)
}

fn of_non_zero<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let zero = match args.first() {
        Some(Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Optional(None)) => true,
        Some(Value::Double(n)) => *n == 0.0,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Bytes(bytes)) => bytes.is_empty(),
        Some(Value::List(List::Owned(elements, _))) => elements.is_empty(),
        Some(Value::Map(crate::value::Map::Owned(map))) => map.entries().is_empty(),
        Some(Value::Record(record)) => record.fields.is_empty(),
        Some(Value::Duration(span)) => span.0 == 0,
        Some(Value::Timestamp(time)) => time.to_string() == "0001-01-01T00:00:00Z",
        _ => false,
    };
    if zero { none(args) } else { of(args) }
}

fn none<'a>(_: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    Ok(Value::Optional(None))
}

fn value<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Optional(Some(inner))] => Ok((**inner).clone()),
        [Value::Optional(None)] => Err(EvalError::failed("optional.none() dereference")),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn has_value<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn at<'a>(args: &[Value<'a>], pick: fn(usize) -> usize) -> Result<Value<'a>, EvalError> {
    let [Value::List(list)] = args else {
        return Err(EvalError::no_such_overload());
    };
    match list.get(pick(list.len())) {
        Some(found) => found.map(Value::some),
        None => Ok(Value::Optional(None)),
    }
}

fn first<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    at(args, |_| 0)
}

fn last<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    at(args, |length| length.wrapping_sub(1))
}

fn unwrap<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let [Value::List(list)] = args else {
        return Err(EvalError::no_such_overload());
    };
    let mut kept = Vec::new();
    for element in list.iter() {
        match element? {
            Value::Optional(None) => {}
            Value::Optional(Some(inner)) => kept.push((*inner).clone()),
            other => return Err(EvalError::failed(format!("value {other} is not optional"))),
        }
    }
    Ok(Value::list(kept))
}
