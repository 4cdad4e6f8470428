//! What every walk over values shares: how a place's values are treated, what items are known by.

use super::element;
use super::node::{Anything, Form, Identity, Node};
use serde_json::{Map, Value};

/// How a place's values are treated.
#[derive(Clone, Copy)]
pub(super) enum Treatment<'t> {
    /// As one value.
    Leaf,
    /// Member by member; the type of members that are not declared.
    Object(&'t dyn Node),
    /// Item by item.
    List(&'t dyn Node, Identity<'t>),
    /// Objects member by member, the rest as one value.
    Any,
}

static ANYTHING: Anything = Anything;

/// The type of what no type describes.
pub(super) fn anything() -> &'static dyn Node {
    &ANYTHING
}

/// How values are treated here.
pub(super) fn treatment(node: &dyn Node) -> Treatment<'_> {
    match node.form() {
        Form::Scalar(_) | Form::Opaque => Treatment::Leaf,
        Form::Any => Treatment::Any,
        Form::List {
            identity: Identity::None,
            ..
        } => Treatment::Leaf,
        _ if node.atomic() => Treatment::Leaf,
        Form::Object { others } => Treatment::Object(others.unwrap_or(anything())),
        Form::List { item, identity } => Treatment::List(item, identity),
    }
}

/// The type of a member and whether it is declared by name.
pub(super) fn member<'t>(node: &'t dyn Node, others: &'t dyn Node, name: &str) -> (&'t dyn Node, bool) {
    match node.member(name) {
        Some(member) => (member, true),
        None => (others, false),
    }
}

/// What an item is known by. Keys left out have their declared defaults. Errors: upstream's sentence.
pub(super) fn identify(item: &dyn Node, identity: Identity<'_>, value: &Value) -> Result<String, String> {
    let keys = match identity {
        Identity::Keys(keys) => keys,
        Identity::None => return Err("invalid indexing of non-associative list".to_owned()),
        Identity::Value => return identify_scalar(value),
    };
    let members = match value {
        Value::Object(members) => members,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let defaults: Vec<Option<Value>> = keys
        .iter()
        .map(|key| match members.contains_key(key) {
            true => None,
            false => item.member(key).and_then(Node::default),
        })
        .collect();
    let mut found: Vec<(&str, &Value)> = keys
        .iter()
        .zip(&defaults)
        .filter_map(|(key, default)| Some((key, members.get(key).or(default.as_ref())?)))
        .collect();
    if found.is_empty() {
        let names: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] \
             (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    found.sort_by_key(|(name, _)| *name);
    Ok(element::key(found.into_iter()))
}

fn identify_scalar(value: &Value) -> Result<String, String> {
    let why = match value {
        Value::Object(_) => "associative list without keys has an element that's a map type",
        Value::Array(_) => "not supported: associative list with lists as elements",
        Value::Null => "associative list without keys has an element that's an explicit null",
        scalar => return Ok(element::value(scalar)),
    };
    Err(why.to_owned())
}

/// What each item is known by.
pub(super) fn identities(item: &dyn Node, identity: Identity<'_>, list: &[Value]) -> Result<Vec<String>, String> {
    let identify = |(at, value)| identify(item, identity, value).map_err(|why| format!("element {at}: {why}"));
    list.iter().enumerate().map(identify).collect()
}

/// Whether there is no item or member, or nothing at all.
pub(super) fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(members)) => members.is_empty(),
        Some(_) => false,
    }
}

/// The items, if it is a list.
pub(super) fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The members, if it is an object.
pub(super) fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}
