//! Dropping what a schema does not declare, and nulls that mean nothing.

use super::{Additional, Flags, Structural};
use serde_json::Value;
use std::fmt::Write as _;

const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Most text of the paths that are told, in bytes.
const MAX_TOLD: usize = 1 << 20;

/// A path that grows and shrinks with the walk.
#[derive(Default)]
pub(super) struct Walked {
    path: String,
    found: Vec<String>,
    told: usize,
}

impl Walked {
    fn tell(&mut self) {
        if self.told <= MAX_TOLD {
            self.told += self.path.len();
            self.found.push(self.path.clone());
        }
    }

    fn key<T>(&mut self, key: &str, walk: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        let outcome = walk(self);
        self.path.truncate(before);
        outcome
    }

    fn index<T>(&mut self, at: usize, walk: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        // Writing to a String cannot fail.
        let _ = write!(self.path, "[{at}]");
        let outcome = walk(self);
        self.path.truncate(before);
        outcome
    }
}

impl Structural {
    /// Drops from an object what the schema does not declare; the paths of what went, sorted.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut walked = Walked::default();
        prune(object, Some(self), true, &mut walked);
        walked.found.sort();
        walked.found
    }

    /// Drops nulls where the schema allows none and has no default instead.
    pub fn prune_nulls(&self, object: &mut Value) {
        prune_nulls(object, Some(self));
    }
}

fn prune(value: &mut Value, schema: Option<&Structural>, root: bool, walked: &mut Walked) {
    if let Some(schema) = schema.filter(|s| s.is(Flags::PRESERVE)) {
        return skip(value, schema, root, walked);
    }
    match value {
        Value::Object(map) => map.retain(|key, member| {
            let embedded = root || schema.is_some_and(|s| s.is(Flags::EMBEDDED));
            if embedded && META.contains(&key.as_str()) {
                return true;
            }
            let declared = schema.and_then(|s| s.property(key));
            let open = schema.is_some_and(|s| match s.additional {
                // What may not be there is kept for validation to refuse.
                Additional::Of(_) | Additional::Allowed(_) => true,
                Additional::Absent => false,
            });
            match declared {
                Some(_) => walked.key(key, |w| prune(member, declared, false, w)),
                None if open => {
                    let others = schema.and_then(Structural::others);
                    walked.key(key, |w| prune(member, others, false, w));
                }
                None => {
                    walked.key(key, Walked::tell);
                    return false;
                }
            }
            true
        }),
        Value::Array(items) => {
            let item = schema.and_then(|s| s.items.as_deref());
            for (at, value) in items.iter_mut().enumerate() {
                walked.index(at, |w| prune(value, item, false, w));
            }
        }
        _ => {}
    }
}

/// Below what is kept as it is, declared members are pruned again.
fn skip(value: &mut Value, schema: &Structural, root: bool, walked: &mut Walked) {
    match value {
        Value::Object(map) => {
            for (key, member) in map.iter_mut() {
                if (root || schema.is(Flags::EMBEDDED)) && META.contains(&key.as_str()) {
                    continue;
                }
                let below = schema.member(key);
                if below.is_some() {
                    walked.key(key, |w| prune(member, below, false, w));
                }
            }
        }
        Value::Array(items) => {
            let Some(item) = schema.items.as_deref() else { return };
            for (at, value) in items.iter_mut().enumerate() {
                walked.index(at, |w| skip(value, item, false, w));
            }
        }
        _ => {}
    }
}

fn prune_nulls(value: &mut Value, schema: Option<&Structural>) {
    match value {
        Value::Object(map) => map.retain(|key, member| {
            let below = schema.and_then(|s| s.member(key));
            let goes = member.is_null() && below.is_some_and(|s| !s.is(Flags::NULLABLE) && s.default_value().is_none());
            if !goes {
                prune_nulls(member, below);
            }
            !goes
        }),
        Value::Array(items) => {
            let item = schema.and_then(|s| s.items.as_deref());
            items.iter_mut().for_each(|value| prune_nulls(value, item));
        }
        _ => {}
    }
}
