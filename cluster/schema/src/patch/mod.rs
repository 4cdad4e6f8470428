//! Strategic merge patch: JSON merge patch that knows which lists are merged and by what key.
//!
//! The directives are `$patch` (replace, delete, merge), `$retainKeys`,
//! `$deleteFromPrimitiveList/FIELD` and `$setElementOrder/FIELD`.

mod elements;
mod order;

use crate::{
    Error, Patch, Schema, Shape,
    apply::{go_type, go_value},
};
use elements::{dedup, merge_items, order_seen, special_elements};
use order::{normalise_order, partition};
use serde_json::{Map, Value};
use std::collections::HashSet;
use strata_meta::GroupVersionKind;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_DELETE_LIST: &str = "invalid patch format of primitive list";
const BAD_ORDER_LIST: &str = "invalid patch format of setElementOrder list";

type Object = Map<String, Value>;

/// Applies a patch to an object of a built-in kind. On an error the object is in an undefined
/// state; errors: [`Error::Patch`] with upstream's sentence, [`Error::UnknownKind`].
pub fn strategic_merge(gvk: &GroupVersionKind, original: &mut Value, patch: &Value) -> Result<(), Error> {
    let schema = Schema::builtin();
    let id = schema.type_of(gvk).ok_or_else(|| Error::UnknownKind(gvk.to_string()))?;
    let (Value::Object(object), Value::Object(patch)) = (original.take(), patch.clone()) else {
        return Err(Error::Patch("invalid JSON document".to_owned()));
    };
    let merge = Merge { schema };
    *original = Value::Object(merge.objects(object, patch, Some(&Shape::Struct(id)))?);
    Ok(())
}

struct Merge<'s> {
    schema: &'s Schema,
}

/// What the table says of a member of an object.
#[derive(Clone, Copy)]
struct Member<'s> {
    shape: Option<&'s Shape>,
    patch: Patch,
}

impl<'s> Merge<'s> {
    fn member(&self, of: Option<&'s Shape>, name: &str) -> Member<'s> {
        let unknown = Member {
            shape: None,
            patch: Patch::default(),
        };
        match of.map(|shape| self.schema.resolve(shape)) {
            Some(Shape::Struct(id)) => match self.schema.type_info(*id).field(name) {
                Some(field) => Member {
                    shape: Some(&field.shape),
                    patch: field.patch,
                },
                None => unknown,
            },
            Some(Shape::Map(_, value)) => Member {
                shape: Some(value),
                ..unknown
            },
            _ => unknown,
        }
    }

    fn item(&self, list: Option<&'s Shape>) -> Option<&'s Shape> {
        match list.map(|shape| self.schema.resolve(shape)) {
            Some(Shape::List(item)) => Some(item),
            _ => None,
        }
    }

    fn objects(&self, mut original: Object, mut patch: Object, shape: Option<&'s Shape>) -> Result<Object, Error> {
        if let Some(directive) = patch.remove(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => Ok(patch),
                Some("delete") => Ok(Object::new()),
                _ => Err(bad_directive(&directive, &patch)),
            };
        }
        retain_keys(&mut original, &mut patch)?;
        self.ordered_lists(&mut original, &mut patch, shape)?;
        for (name, value) in patch {
            match name.strip_prefix(DELETE_FROM) {
                Some(rest) => {
                    let name = rest
                        .strip_prefix('/')
                        .ok_or_else(|| Error::Patch(BAD_DELETE_LIST.to_owned()))?;
                    delete_from(&mut original, name, value)?;
                }
                None => self.set(&mut original, name, value, shape)?,
            }
        }
        Ok(original)
    }

    fn set(&self, original: &mut Object, name: String, value: Value, shape: Option<&'s Shape>) -> Result<(), Error> {
        if value.is_null() {
            original.remove(&name);
            return Ok(());
        }
        let member = self.member(shape, &name);
        let merged = match (original.remove(&name), value) {
            (Some(Value::Object(_)), Value::Object(change)) if member.patch.replace => Some(Value::Object(change)),
            (Some(Value::Object(before)), Value::Object(change)) => {
                Some(Value::Object(self.objects(before, change, member.shape)?))
            }
            (Some(Value::Array(before)), Value::Array(change)) => {
                Some(Value::Array(self.lists(before, change, member)?))
            }
            (_, mut value) => {
                discard_nulls(&mut value);
                without_directives(value)
            }
        };
        if let Some(merged) = merged {
            original.insert(name, merged);
        }
        Ok(())
    }

    fn lists(&self, original: Vec<Value>, patch: Vec<Value>, member: Member<'s>) -> Result<Vec<Value>, Error> {
        if !member.patch.merge {
            return Ok(patch);
        }
        if original.is_empty() && patch.is_empty() {
            return Ok(original);
        }
        if !holds_objects(&original, &patch)? {
            let mut merged = original.clone();
            merged.extend(patch.iter().cloned());
            dedup(&mut merged);
            let (named, other) = partition(merged, &patch, None)?;
            return normalise_order(named, other, &patch, &original, None);
        }
        let key = member
            .patch
            .key
            .ok_or_else(|| Error::Patch("cannot merge lists without merge key for struct".to_owned()))?;
        let (original, patch) = special_elements(original, patch, key)?;
        let shape = self.item(member.shape);
        let merged = merge_items(original.clone(), &patch, key, |before, change| {
            self.objects(before, change, shape)
        })?;
        let (named, other) = partition(merged, &patch, Some(key))?;
        normalise_order(named, other, &patch, &original, Some(key))
    }

    /// Lists that come with their order are merged together with it.
    fn ordered_lists(&self, original: &mut Object, patch: &mut Object, shape: Option<&'s Shape>) -> Result<(), Error> {
        let directives: Vec<String> = patch
            .keys()
            .filter(|name| name.starts_with(ELEMENT_ORDER))
            .cloned()
            .collect();
        for directive in directives {
            let order = patch.remove(&directive);
            let name = directive[ELEMENT_ORDER.len()..]
                .strip_prefix('/')
                .ok_or_else(bad_order)?;
            let order = match order {
                Some(Value::Array(order)) => order,
                None | Some(Value::Null) => return Err(bad_order()),
                Some(other) => return Err(no_list(&other)),
            };
            let member = self.member(shape, name);
            let before = take_list(original, name)?;
            let change = take_list(patch, name)?;
            validate_order(change.as_deref().unwrap_or_default(), &order, member.patch.key)?;
            let server_order = order_seen(
                before.as_deref().unwrap_or_default(),
                change.as_deref().unwrap_or_default(),
                member.patch.key,
            );
            let merged = match (before, change) {
                (None, None) => continue,
                (Some(before), None) => before,
                (None, Some(change)) => change.into_iter().filter_map(without_directives).collect(),
                (Some(before), Some(change)) => self.lists(before, change, member)?,
            };
            let (named, other) = partition(merged, &order, member.patch.key)?;
            let ordered = normalise_order(named, other, &order, &server_order, member.patch.key)?;
            original.insert(name.to_owned(), Value::Array(ordered));
        }
        Ok(())
    }
}

fn bad_order() -> Error {
    Error::Patch(BAD_ORDER_LIST.to_owned())
}

fn no_list(value: &Value) -> Error {
    Error::Patch(format!(
        "expected a []interface {{}}, but received a {}",
        go_type(value)
    ))
}

fn bad_directive(directive: &Value, patch: &Object) -> Error {
    let mut patch = patch.clone();
    patch.insert(DIRECTIVE.to_owned(), directive.clone());
    let directive = go_value(directive);
    Error::Patch(format!(
        "unknown patch type: {directive} in map: {}",
        go_value(&Value::Object(patch))
    ))
}

fn no_merge_key(item: &Value, key: &str) -> Error {
    let item = go_value(item);
    Error::Patch(format!("map: {item} does not contain declared merge key: {key}"))
}

/// Takes a member that has to be a list, if it is there; an explicit null is none.
fn take_list(object: &mut Object, name: &str) -> Result<Option<Vec<Value>>, Error> {
    match object.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(no_list(&other)),
    }
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let bad = || Error::Patch(BAD_RETAIN_KEYS.to_owned());
    let keys: HashSet<&str> = directive
        .as_array()
        .ok_or_else(bad)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let stray = patch.iter().any(|(name, value)| {
        !value.is_null()
            && !name.starts_with(DELETE_FROM)
            && !name.starts_with(ELEMENT_ORDER)
            && !keys.contains(name.as_str())
    });
    if stray {
        return Err(bad());
    }
    original.retain(|name, _| keys.contains(name.as_str()));
    Ok(())
}

fn delete_from(original: &mut Object, name: &str, gone: Value) -> Result<(), Error> {
    match (original.get_mut(name), gone) {
        (Some(Value::Array(items)), Value::Array(gone)) => {
            if !items.is_empty() || !gone.is_empty() {
                holds_objects(items, &gone)?;
            }
            let gone: HashSet<&Value> = gone.iter().collect();
            items.retain(|item| !gone.contains(item));
        }
        (Some(_), Value::Null) => {
            original.remove(name);
        }
        _ => {}
    }
    Ok(())
}

/// Whether the lists hold objects; all elements have to be of one type, and no lists.
fn holds_objects(original: &[Value], patch: &[Value]) -> Result<bool, Error> {
    let kind = |value: &Value| match value {
        Value::Object(_) => 0,
        Value::String(_) => 1,
        Value::Number(n) if n.is_f64() => 2,
        Value::Number(_) => 3,
        Value::Bool(_) => 4,
        Value::Null => 5,
        Value::Array(_) => 6,
    };
    let mut kinds = original.iter().chain(patch).map(kind);
    let first = kinds.next();
    match first {
        Some(6) => Err(Error::Patch("lists of lists are not supported".to_owned())),
        _ if kinds.any(|other| Some(other) != first) => Err(Error::Patch(format!(
            "list element types are not identical: {}",
            Value::from(patch.to_vec())
        ))),
        _ => Ok(first == Some(0)),
    }
}

/// The patch's elements have to come in the order that is set, and be among it.
fn validate_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Error> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for element in patch.iter().filter(|element| element.get(DIRECTIVE).is_none()) {
        let mine = identity(element, key)?;
        loop {
            let Some(next) = wanted.next() else {
                return Err(Error::Patch(format!(
                    "The order in patch list:\n{}\n doesn't match {ELEMENT_ORDER} list:\n{}\n",
                    go_value(&Value::from(patch.to_vec())),
                    go_value(&Value::from(order.to_vec()))
                )));
            };
            if identity(next, key)? == mine {
                break;
            }
        }
    }
    Ok(())
}

/// What an element is known by: its key field, or itself.
fn identity<'a>(element: &'a Value, key: Option<&str>) -> Result<&'a Value, Error> {
    match key {
        Some(key) => element.get(key).ok_or_else(|| no_merge_key(element, key)),
        None => Ok(element),
    }
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// A value to be taken as it is, without directives in it; `None` if it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) if members.contains_key(DIRECTIVE) => None,
        Value::Object(members) => {
            let kept = members
                .into_iter()
                .filter_map(|(name, member)| Some((name, without_directives(member)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests;
