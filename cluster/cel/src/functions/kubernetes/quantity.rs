//! Quantities.

use super::{
    super::{Row, row},
    Opaque, only_text,
};
use crate::{EvalError, Value, env::Library::Quantity as Lib};
use std::cmp::Ordering;
use strata_meta::Quantity;

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(Lib, "quantity", "string_to_quantity", "(string) -> quantity", parse),
        row(Lib, "isQuantity", "is_quantity_string", "(string) -> bool", is_quantity),
        row(Lib, "sign", "quantity_sign", "(quantity) -> int", sign),
        row(
            Lib,
            "isGreaterThan",
            "quantity_is_greater_than",
            "quantity.(quantity) -> bool",
            |args| Ok(Value::Bool(compare(args)?.is_gt())),
        ),
        row(
            Lib,
            "isLessThan",
            "quantity_is_less_than",
            "quantity.(quantity) -> bool",
            |args| Ok(Value::Bool(compare(args)?.is_lt())),
        ),
        row(
            Lib,
            "compareTo",
            "quantity_compare_to",
            "quantity.(quantity) -> int",
            |args| Ok(Value::Int(compare(args)? as i64)),
        ),
        row(
            Lib,
            "asApproximateFloat",
            "quantity_get_float",
            "quantity.() -> double",
            float,
        ),
        row(Lib, "asInteger", "quantity_get_int", "quantity.() -> int", integer),
        row(
            Lib,
            "isInteger",
            "quantity_is_integer",
            "quantity.() -> bool",
            is_integer,
        ),
        row(Lib, "add", "quantity_add", "quantity.(quantity) -> quantity", add),
        row(Lib, "add", "quantity_add_int", "quantity.(int) -> quantity", add),
        row(Lib, "sub", "quantity_sub", "quantity.(quantity) -> quantity", sub),
        row(Lib, "sub", "quantity_sub_int", "quantity.(int) -> quantity", sub),
    ]
}

fn quantity(args: &[Value<'_>], at: usize) -> Result<Quantity, EvalError> {
    match args.get(at) {
        Some(Value::Opaque(Opaque::Quantity(quantity))) => Ok(*quantity),
        Some(Value::Int(units)) => Ok(Quantity::from_units(*units)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn parse<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let parsed = only_text(args)?.parse::<Quantity>();
    parsed
        .map(|q| Value::Opaque(Opaque::Quantity(q)))
        .map_err(|e| EvalError::failed(e.to_string()))
}

fn is_quantity<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    Ok(Value::Bool(only_text(args)?.parse::<Quantity>().is_ok()))
}

fn sign<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let quantity = quantity(args, 0)?;
    Ok(Value::Int(match (quantity.is_zero(), quantity.is_negative()) {
        (true, _) => 0,
        (_, true) => -1,
        _ => 1,
    }))
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    Ok(quantity(args, 0)?.cmp(&quantity(args, 1)?))
}

/// Billionths of a unit.
const NANO: i128 = 1_000_000_000;

/// The whole units, when it has no others and they fit.
fn whole(quantity: Quantity) -> Option<i64> {
    let nano = quantity.nano_value();
    // An amount as large as can be may be larger.
    (nano % NANO == 0)
        .then(|| i64::try_from(nano / NANO).ok())
        .flatten()
        .filter(|units| *units != i64::MAX)
}

fn float<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let nano = quantity(args, 0)?.nano_value();
    let scale = if nano % NANO == 0 {
        (nano / NANO) as f64
    } else {
        nano as f64 / 1e9
    };
    Ok(Value::Double(scale))
}

fn integer<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let units = whole(quantity(args, 0)?);
    units
        .map(Value::Int)
        .ok_or_else(|| EvalError::failed("cannot convert value to integer"))
}

fn is_integer<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    Ok(Value::Bool(whole(quantity(args, 0)?).is_some()))
}

fn add<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let sum = quantity(args, 0)?.plus(quantity(args, 1)?);
    Ok(Value::Opaque(Opaque::Quantity(sum)))
}

fn sub<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let difference = quantity(args, 0)?.minus(quantity(args, 1)?);
    Ok(Value::Opaque(Opaque::Quantity(difference)))
}
