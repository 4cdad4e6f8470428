//! Equality and order of values.

use super::{List, Map, Value};
use crate::{EvalError, limits::MAX_COMPARED};
use std::{cell::Cell, cmp::Ordering};

/// Whether two values are equal. Numbers compare by value whatever their types; other types differ.
/// Errors: the left side is read from declared JSON or of a library and the right side is another type.
pub(crate) fn equal<'a>(left: &Value<'a>, right: &Value<'a>) -> Result<bool, EvalError> {
    look()?;
    Ok(match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::List(a), Value::List(b)) => return a.equals(b),
        (Value::List(List::Json(..)), _) => return Err(EvalError::no_such_overload()),
        (Value::Map(a), Value::Map(b)) => return a.equals(b),
        (Value::Map(Map::Json(..)), _) => return Err(EvalError::no_such_overload()),
        (Value::Type(a), Value::Type(b)) => a.name() == b.name(),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => return equal(a, b),
            (a, b) => a.is_none() && b.is_none(),
        },
        (Value::Opaque(a), Value::Opaque(b)) if a.same_type(b) => a == b,
        (Value::Opaque(_), _) => return Err(EvalError::no_such_overload()),
        (Value::Record(a), Value::Record(b)) => {
            if a.type_name != b.type_name || a.fields.len() != b.fields.len() {
                return Ok(false);
            }
            for (name, mine) in &a.fields {
                match b.field(name) {
                    Some(theirs) if equal(mine, theirs)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Preserved(a), b) => b.to_json().is_some_and(|b| **a == b),
        _ => matches!(number_order(left, right), Some(Some(Ordering::Equal))),
    })
}

thread_local! {
    /// Values this thread's runs have looked at inside of comparisons.
    static LOOKED: Cell<u64> = const { Cell::new(0) };
}

/// Counts a value that is looked at. Errors: that was one too many for a run.
pub(crate) fn look() -> Result<(), EvalError> {
    look_at(1)
}

/// Counts so many at once.
pub(crate) fn look_at(values: u64) -> Result<(), EvalError> {
    let looked = LOOKED.get().saturating_add(values);
    LOOKED.set(looked);
    if looked > MAX_COMPARED {
        Err(EvalError::cost_limit())
    } else {
        Ok(())
    }
}

/// A run begins: says what the one around it has looked at, for `resume`.
pub(crate) fn begin_looking() -> u64 {
    LOOKED.replace(0)
}

/// The run around goes on.
pub(crate) fn resume_looking(looked: u64) {
    LOOKED.set(looked);
}

/// The order of two values of one comparable type. Errors: there is none.
pub(crate) fn compare(left: &Value<'_>, right: &Value<'_>) -> Result<Ordering, EvalError> {
    Ok(match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        _ => match number_order(left, right) {
            Some(Some(order)) => order,
            Some(None) => return Err(EvalError::failed("NaN values cannot be ordered")),
            None => return Err(EvalError::no_such_overload()),
        },
    })
}

/// `None`: not two numbers. `Some(None)`: not ordered.
fn number_order(left: &Value<'_>, right: &Value<'_>) -> Option<Option<Ordering>> {
    let integer = |value: &Value<'_>| match value {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Uint(n) => Some(i128::from(*n)),
        _ => None,
    };
    Some(match (left, right) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => mixed_order(*a, integer(b)?),
        (a, Value::Double(b)) => mixed_order(*b, integer(a)?).map(Ordering::reverse),
        (a, b) => Some(integer(a)?.cmp(&integer(b)?)),
    })
}

fn mixed_order(double: f64, integer: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Far outside of 64 bits the sign decides; inside, the cast is exact but for the fraction.
    if double.abs() > 1e20 {
        return Some(if double > 0.0 {
            Ordering::Greater
        } else {
            Ordering::Less
        });
    }
    let whole = double.trunc();
    let order = (whole as i128).cmp(&integer);
    Some(order.then_with(|| (double - whole).partial_cmp(&0.0).unwrap_or(Ordering::Equal)))
}
