//! Lists whose items may stand once only: sets and maps.

use super::{Flags, Path, Structural, as_written_down};
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::HashSet};
use strata_meta::StatusCause;

impl Structural {
    /// Items that occur twice where they may not.
    pub fn duplicates(&self, value: &Value, causes: &mut Vec<StatusCause>) {
        walk(self, value, &Path::ROOT, causes);
    }
}

fn walk(schema: &Structural, value: &Value, path: &Path<'_>, causes: &mut Vec<StatusCause>) {
    match value {
        Value::Object(map) => {
            for (name, member) in map {
                let here = match schema.property(name) {
                    Some(_) => path.member(name),
                    None => path.key(name),
                };
                if let Some(below) = schema.member(name) {
                    walk(below, member, &here, causes);
                }
            }
        }
        Value::Array(items) => {
            if schema.is(Flags::SET) {
                twice(items.iter().cloned(), path, false, causes);
            } else if schema.is(Flags::LIST_MAP) {
                let one = schema.list_keys().len() == 1;
                twice(items.iter().map(|item| keys_of(schema, item)), path, one, causes);
            }
            if let Some(below) = schema.items.as_deref() {
                for (at, item) in items.iter().enumerate() {
                    walk(below, item, &path.item(at), causes);
                }
            }
        }
        _ => {}
    }
}

fn keys_of(schema: &Structural, item: &Value) -> Value {
    let keys = schema.list_keys().iter();
    let members: Map<String, Value> = keys
        .filter_map(|key| Some((key.clone(), item.get(key)?.clone())))
        .collect();
    Value::Object(members)
}

/// As upstream, 1 and 1.0 are two scalars, but one number within something larger.
fn twice(keys: impl Iterator<Item = Value>, path: &Path<'_>, scalars: bool, causes: &mut Vec<StatusCause>) {
    let mut seen = HashSet::new();
    let mut told = HashSet::new();
    for (at, key) in keys.enumerate() {
        let text = match scalars || !(key.is_object() || key.is_array()) {
            true => key.to_string(),
            false => as_written_down(&key).to_string(),
        };
        if !seen.insert(text.clone()) && told.insert(text) {
            let shown = match &key {
                Value::Number(_) => Cow::Borrowed(&key),
                other => as_written_down(other),
            };
            causes.push(StatusCause::duplicate(
                &path.item(at).to_string(),
                super::validate::Shown(&shown),
            ));
        }
    }
}
