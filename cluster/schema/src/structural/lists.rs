//! Lists whose items may stand once only: sets and maps.

use super::{Flags, Path, Structural};
use serde_json::{Map, Value};
use std::collections::HashSet;
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
                twice(items.iter().cloned(), path, causes);
            } else if schema.is(Flags::LIST_MAP) {
                twice(items.iter().map(|item| keys_of(schema, item)), path, causes);
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

fn twice(keys: impl Iterator<Item = Value>, path: &Path<'_>, causes: &mut Vec<StatusCause>) {
    let mut seen = HashSet::new();
    let mut told = HashSet::new();
    for (at, key) in keys.enumerate() {
        let text = key.to_string();
        if !seen.insert(text.clone()) && told.insert(text) {
            causes.push(StatusCause::duplicate(
                &path.item(at).to_string(),
                super::validate::Shown(&key),
            ));
        }
    }
}
