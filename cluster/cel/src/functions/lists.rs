//! Functions of lists: Kubernetes', cel-go's, and cel-go's sets.

use super::{Row, row, standard};
use crate::{
    EvalError, Value,
    env::Library::{Kubernetes, Lists, Sets},
    limits::MAX_LIST,
    value::{Duration, Key, List, compare, equal},
};
use std::{cmp::Ordering, collections::HashSet};

const COMPARABLE: [&str; 8] = [
    "int",
    "uint",
    "double",
    "bool",
    "duration",
    "timestamp",
    "string",
    "bytes",
];
const SUMMABLE: [&str; 4] = ["int", "uint", "double", "duration"];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for name in COMPARABLE {
        let mut push = |library, function, id: String, signature: String, implementation| {
            rows.push(Row(library, function, id.into(), signature.into(), implementation));
        };
        push(
            Kubernetes,
            "isSorted",
            format!("list_{name}_is_sorted_bool"),
            format!("list({name}).() -> bool"),
            is_sorted,
        );
        push(
            Kubernetes,
            "max",
            format!("list_{name}_max_{name}"),
            format!("list({name}).() -> {name}"),
            max,
        );
        push(
            Kubernetes,
            "min",
            format!("list_{name}_min_{name}"),
            format!("list({name}).() -> {name}"),
            min,
        );
        let long = match name {
            "duration" => "google.protobuf.Duration",
            "timestamp" => "google.protobuf.Timestamp",
            other => other,
        };
        push(
            Lists,
            "sort",
            format!("list_{long}_sort"),
            format!("list({name}).() -> list({name})"),
            sort,
        );
        let by = format!("list(T).(list({name})) -> list(T)");
        push(
            Lists,
            "@sortByAssociatedKeys",
            format!("list_{long}_sortByAssociatedKeys"),
            by,
            sort_by,
        );
    }
    for name in SUMMABLE {
        let implementation: super::Implementation = match name {
            "int" => |args| sum(args, Value::Int(0)),
            "uint" => |args| sum(args, Value::Uint(0)),
            "double" => |args| sum(args, Value::Double(0.0)),
            _ => |args| sum(args, Value::Duration(Duration(0))),
        };
        let (id, signature) = (format!("list_{name}_sum_{name}"), format!("list({name}).() -> {name}"));
        rows.push(Row(Kubernetes, "sum", id.into(), signature.into(), implementation));
    }
    rows.extend([
        row(
            Kubernetes,
            "indexOf",
            "list_a_index_of_int",
            "list(A).(A) -> int",
            index_of,
        ),
        row(
            Kubernetes,
            "lastIndexOf",
            "list_a_last_index_of_int",
            "list(A).(A) -> int",
            last_index_of,
        ),
        row(Lists, "slice", "list_slice", "list(T).(int, int) -> list(T)", slice),
        row(Lists, "flatten", "list_flatten", "list(list(T)).() -> list(T)", flatten),
        row(
            Lists,
            "flatten",
            "list_flatten_int",
            "list(dyn).(int) -> list(dyn)",
            flatten,
        ),
        row(Lists, "lists.range", "lists_range", "(int) -> list(int)", range),
        row(Lists, "reverse", "list_reverse", "list(T).() -> list(T)", reverse),
        row(Lists, "distinct", "list_distinct", "list(T).() -> list(T)", distinct),
        row(
            Sets,
            "sets.contains",
            "list_sets_contains_list",
            "(list(T), list(T)) -> bool",
            contains,
        ),
        row(
            Sets,
            "sets.equivalent",
            "list_sets_equivalent_list",
            "(list(T), list(T)) -> bool",
            equivalent,
        ),
        row(
            Sets,
            "sets.intersects",
            "list_sets_intersects_list",
            "(list(T), list(T)) -> bool",
            intersects,
        ),
    ]);
    rows
}

fn list<'v, 'a>(args: &'v [Value<'a>], at: usize) -> Result<&'v List<'a>, EvalError> {
    match args.get(at) {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn is_sorted<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let mut previous: Option<Value<'a>> = None;
    for element in list(args, 0)?.iter() {
        let element = element?;
        if let Some(previous) = &previous
            && compare(previous, &element)? == Ordering::Greater
        {
            return Ok(Value::Bool(false));
        }
        previous = Some(element);
    }
    Ok(Value::Bool(true))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, replaces: Ordering) -> Result<Value<'a>, EvalError> {
    let mut best: Option<Value<'a>> = None;
    for element in list(args, 0)?.iter() {
        let element = element?;
        match &best {
            Some(known) if compare(known, &element)? != replaces => {}
            _ => best = Some(element),
        }
    }
    best.ok_or_else(|| EvalError::failed(format!("{name} called on empty list")))
}

fn max<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    extreme(args, "max", Ordering::Less)
}

fn min<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    extreme(args, "min", Ordering::Greater)
}

fn sum<'a>(args: &[Value<'a>], zero: Value<'a>) -> Result<Value<'a>, EvalError> {
    list(args, 0)?
        .iter()
        .try_fold(zero, |sum, element| standard::add(&[sum, element?]))
}

fn index_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (list, wanted) = (list(args, 0)?, args.get(1).unwrap_or(&Value::Null));
    let mut places = list
        .iter()
        .map(|element| element.and_then(|element| equal(&element, wanted)));
    let found = places.position(|same| same.unwrap_or(false));
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (list, wanted) = (list(args, 0)?, args.get(1).unwrap_or(&Value::Null));
    let same = |at: &usize| matches!(list.get(*at), Some(Ok(element)) if equal(&element, wanted).unwrap_or(false));
    let found = (0..list.len()).rev().find(same);
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

fn slice<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else {
        return Err(EvalError::no_such_overload());
    };
    let failed = |why: String| Err(EvalError::failed(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return failed("negative indexes not supported".to_owned());
    };
    if from > to {
        return failed("start index must be less than or equal to end index".to_owned());
    }
    if to > list.len() {
        return failed(format!("list is length {}", list.len()));
    }
    let elements = (from..to).filter_map(|at| list.get(at)).collect::<Result<_, _>>()?;
    Ok(Value::list(elements))
}

fn flatten<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let depth = match args.get(1) {
        Some(Value::Int(depth)) if *depth < 0 => return Err(EvalError::failed("level must be non-negative")),
        Some(Value::Int(depth)) => *depth,
        _ => 1,
    };
    let mut flat = Vec::new();
    flatten_into(list(args, 0)?, depth, &mut flat)?;
    Ok(Value::list(flat))
}

fn flatten_into<'a>(list: &List<'a>, depth: i64, flat: &mut Vec<Value<'a>>) -> Result<(), EvalError> {
    for element in list.iter() {
        match element? {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, flat)?,
            _ if flat.len() >= MAX_LIST => return Err(EvalError::cost_limit()),
            other => flat.push(other),
        }
    }
    Ok(())
}

/// More elements than any run can pay for.
const MAX_RANGE: i64 = 1_000_000;

fn range<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Int(count)] if *count > MAX_RANGE => Err(EvalError::cost_limit()),
        [Value::Int(count)] => Ok(Value::list((0..*count).map(Value::Int).collect())),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn reverse<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let mut elements = list(args, 0)?.elements()?;
    elements.reverse();
    Ok(Value::list(elements))
}

fn distinct<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let mut seen = HashSet::new();
    let mut kept: Vec<Value<'a>> = Vec::new();
    for element in list(args, 0)?.iter() {
        let element = element?;
        let new = match Key::of(&element) {
            Some(key) => seen.insert(key),
            None => !kept.iter().any(|known| equal(&element, known).unwrap_or(false)),
        };
        if new {
            kept.push(element);
        }
    }
    Ok(Value::list(kept))
}

fn sort<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [list] => sort_by(&[list.clone(), list.clone()]),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn sort_by<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (elements, keys) = (list(args, 0)?.elements()?, list(args, 1)?.elements()?);
    if elements.len() != keys.len() {
        return Err(EvalError::failed(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            elements.len(),
            keys.len()
        )));
    }
    if let Some(first) = keys.first() {
        if !COMPARABLE.contains(&short_name(first)) {
            return Err(EvalError::failed("list elements must be comparable"));
        }
        if keys.iter().any(|key| key.type_of() != first.type_of()) {
            return Err(EvalError::failed("list elements must have the same type"));
        }
    }
    let mut sorted: Vec<(Value<'a>, Value<'a>)> = keys.into_iter().zip(elements).collect();
    sorted.sort_by(|(one, _), (other, _)| compare(one, other).unwrap_or(Ordering::Equal));
    Ok(Value::list(sorted.into_iter().map(|(_, element)| element).collect()))
}

fn short_name(value: &Value<'_>) -> &'static str {
    match value {
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Double(_) => "double",
        Value::Bool(_) => "bool",
        Value::Duration(_) => "duration",
        Value::Timestamp(_) => "timestamp",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        _ => "",
    }
}

fn all_in(list: &List<'_>, sublist: &List<'_>) -> Result<bool, EvalError> {
    for element in sublist.iter() {
        if !list.contains(&element?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn contains<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    Ok(Value::Bool(all_in(list(args, 0)?, list(args, 1)?)?))
}

fn equivalent<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (one, other) = (list(args, 0)?, list(args, 1)?);
    Ok(Value::Bool(all_in(one, other)? && all_in(other, one)?))
}

fn intersects<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let (one, other) = (list(args, 0)?, list(args, 1)?);
    for element in one.iter() {
        if other.contains(&element?).unwrap_or(false) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
