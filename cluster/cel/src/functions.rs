//! The functions: one row each overload with its library, name, signature and implementation.

pub(crate) mod convert;
mod extras;
pub(crate) mod format;
pub(crate) mod kubernetes;
mod lists;
mod optional;
pub(crate) mod standard;
mod strings;
mod time;

use crate::{EvalError, Type, Value, env::Library};
use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, LazyLock},
};

/// What a function does. The checker has seen to the number of arguments.
pub(crate) type Implementation = for<'a> fn(&[Value<'a>]) -> Result<Value<'a>, EvalError>;

/// A function for arguments of certain types.
pub(crate) struct Overload {
    pub(crate) library: Library,
    pub(crate) id: Cow<'static, str>,
    pub(crate) member: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    /// The names of the signature's parameters.
    pub(crate) params: Vec<Arc<str>>,
    /// Does what is asked of it itself, errors for other types included.
    pub(crate) implementation: Implementation,
}

impl std::fmt::Debug for Overload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

/// An overload as it is written down: `receiver.(argument, …) -> result` or `(argument, …) -> result`.
pub(crate) struct Row(
    pub(crate) Library,
    pub(crate) &'static str,
    pub(crate) Cow<'static, str>,
    pub(crate) Cow<'static, str>,
    pub(crate) Implementation,
);

pub(crate) const fn row(
    library: Library,
    function: &'static str,
    id: &'static str,
    signature: &'static str,
    implementation: Implementation,
) -> Row {
    Row(
        library,
        function,
        Cow::Borrowed(id),
        Cow::Borrowed(signature),
        implementation,
    )
}

/// Every overload by function.
pub(crate) fn table() -> &'static HashMap<&'static str, Vec<Overload>> {
    static TABLE: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
        let mut table: HashMap<&'static str, Vec<Overload>> = HashMap::new();
        let groups = [
            standard::rows(),
            convert::rows(),
            time::rows(),
            kubernetes::rows(),
            optional::rows(),
            strings::rows(),
            lists::rows(),
            extras::rows(),
        ];
        for row in groups.into_iter().flatten() {
            table.entry(row.1).or_default().push(overload(row));
        }
        table
    });
    &TABLE
}

fn overload(Row(library, _, id, signature, implementation): Row) -> Overload {
    let mut params = Vec::new();
    let (left, result) = signature.split_once("->").unwrap_or((&signature, "dyn"));
    let left = left.trim();
    let (receiver, args) = match left.split_once(".(") {
        Some((receiver, args)) => (Some(receiver), args),
        None => (None, left.trim_start_matches('(')),
    };
    let args = args.strip_suffix(')').unwrap_or(args);
    let args = receiver.into_iter().chain(split_types(args));
    let args = args.map(|text| parse_type(text, &mut params)).collect();
    let result = parse_type(result, &mut params);
    let member = receiver.is_some();
    Overload {
        library,
        id,
        member,
        args,
        result,
        params,
        implementation,
    }
}

/// The types between commas that are in no parentheses.
fn split_types(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

fn parse_type(text: &str, params: &mut Vec<Arc<str>>) -> Type {
    let text = text.trim();
    if let Some((name, inner)) = text.split_once('(') {
        let inner = inner.strip_suffix(')').unwrap_or(inner);
        let mut parts: Vec<Type> = split_types(inner)
            .into_iter()
            .map(|part| parse_type(part, params))
            .collect();
        let last = parts.pop().unwrap_or(Type::Dyn);
        return match name {
            "list" => Type::list(last),
            "map" => Type::map(parts.pop().unwrap_or(Type::Dyn), last),
            "optional" => Type::optional(last),
            _ => Type::type_of(last),
        };
    }
    match text {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "dyn" => Type::Dyn,
        "A" | "B" | "K" | "V" | "T" => {
            let name: Arc<str> = text.into();
            if !params.contains(&name) {
                params.push(name.clone());
            }
            Type::Param(name)
        }
        other => kubernetes::named_type(other),
    }
}

/// Whether a value may be the argument a signature asks for.
pub(crate) fn accepts(declared: &Type, value: &Value<'_>) -> bool {
    match (declared, value) {
        (Type::Dyn | Type::Any | Type::Param(_), _) => true,
        (Type::Bool, Value::Bool(_))
        | (Type::Int, Value::Int(_))
        | (Type::Uint, Value::Uint(_))
        | (Type::Double, Value::Double(_))
        | (Type::String, Value::String(_))
        | (Type::Bytes, Value::Bytes(_))
        | (Type::Timestamp, Value::Timestamp(_))
        | (Type::Duration, Value::Duration(_))
        | (Type::Map(_), Value::Map(_))
        | (Type::Type(_), Value::Type(_)) => true,
        // The first element stands for all, as upstream's overloads look no further; `flatten` takes
        // lists whatever is in them.
        (Type::List(_), Value::List(list)) => match (declared.parameters().first(), list.get(0)) {
            (Some(Type::List(_)), _) => true,
            (Some(element), Some(Ok(first))) => accepts(element, &first),
            _ => true,
        },
        (Type::Opaque(..), Value::Optional(_)) => declared.optional_of().is_some(),
        (Type::Struct(_) | Type::Opaque(..), Value::Opaque(opaque)) => opaque.type_of() == *declared,
        _ => false,
    }
}
