//! Equal parts of schemas are one: the definitions of an operator repeat pod templates, conditions and references,
//! and all of them are made of the same few leaves.

use super::{Additional, Property, Rule, Structural};
use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock, Mutex, MutexGuard, Weak},
};

/// What nobody uses any more is forgotten when the table has become twice as large as what was used before, but not
/// below this.
const LEAST: usize = 4096;

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Table {
    nodes: HashMap<u64, Weak<Structural>>,
    names: HashSet<Arc<str>>,
    kept_nodes: usize,
    kept_names: usize,
}

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().expect("no panic under this lock")
}

/// A name.
pub(super) fn name(text: &str) -> Arc<str> {
    let mut table = table();
    if let Some(known) = table.names.get(text) {
        return known.clone();
    }
    if table.names.len() >= 2 * table.kept_names.max(LEAST) {
        table.names.retain(|name| Arc::strong_count(name) > 1);
        table.kept_names = table.names.len();
    }
    let name: Arc<str> = Arc::from(text);
    table.names.insert(name.clone());
    name
}

/// A node whose parts are shared already.
pub(super) fn node(made: Structural) -> Arc<Structural> {
    let digest = digest(&made);
    let mut table = table();
    if table.nodes.len() >= 2 * table.kept_nodes.max(LEAST) {
        table.nodes.retain(|_, node| node.strong_count() > 0);
        table.nodes.shrink_to_fit();
        table.kept_nodes = table.nodes.len();
    }
    match table.nodes.entry(digest) {
        Entry::Occupied(mut known) => match known.get().upgrade() {
            Some(node) if same(&node, &made) => node,
            // Another node with the same digest stays where it is; this one is not shared.
            Some(_) => Arc::new(made),
            None => {
                let node = Arc::new(made);
                known.insert(Arc::downgrade(&node));
                node
            }
        },
        Entry::Vacant(free) => {
            let node = Arc::new(made);
            free.insert(Arc::downgrade(&node));
            node
        }
    }
}

/// Parts that are equal are the same, so that looking at them is enough.
fn same(a: &Structural, b: &Structural) -> bool {
    let part = |a: &Option<Arc<Structural>>, b: &Option<Arc<Structural>>| match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    };
    let others = match (&a.additional, &b.additional) {
        (Additional::Of(a), Additional::Of(b)) => Arc::ptr_eq(a, b),
        (Additional::Allowed(a), Additional::Allowed(b)) => a == b,
        (Additional::Absent, Additional::Absent) => true,
        _ => false,
    };
    let property = |(a, b): (&Property, &Property)| a.name == b.name && Arc::ptr_eq(&a.schema, &b.schema);
    a.kind == b.kind
        && a.flags == b.flags
        && others
        && part(&a.items, &b.items)
        && a.properties.len() == b.properties.len()
        && a.properties.iter().zip(&b.properties).all(property)
        && a.rules == b.rules
}

fn digest(node: &Structural) -> u64 {
    let mut hasher = DefaultHasher::new();
    (node.kind as u8, node.flags.0, node.properties.len()).hash(&mut hasher);
    let address = |part: &Arc<Structural>| Arc::as_ptr(part) as usize;
    for property in &node.properties {
        (&property.name, address(&property.schema)).hash(&mut hasher);
    }
    node.items.as_ref().map(address).hash(&mut hasher);
    match &node.additional {
        Additional::Absent => 0.hash(&mut hasher),
        Additional::Allowed(allowed) => (1, allowed).hash(&mut hasher),
        Additional::Of(part) => (2, address(part)).hash(&mut hasher),
    }
    for rule in &node.rules {
        std::mem::discriminant::<Rule>(rule).hash(&mut hasher);
        // Numbers with a fraction and JSON have no hash of their own; as text they have.
        write!(Text(&mut hasher), "{rule:?}").expect("a hasher takes everything");
    }
    hasher.finish()
}

/// What is written goes into a hash.
struct Text<'h>(&'h mut DefaultHasher);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Structural;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn equal_parts_of_two_schemas_are_one() {
        let part = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "string", "maxLength": 3}, "b": {"type": "array", "items": {"type": "number", "minimum": 0.5}}}});
        let read = |part: &serde_json::Value| {
            let schema = Structural::parse(&json!({"type": "object", "properties": {"part": part}}));
            schema.properties[0].schema.clone()
        };
        let (one, same) = (read(&part), read(&part));
        assert!(Arc::ptr_eq(&one, &same));
        for (place, value) in [
            ("/required/0", json!("b")),
            ("/properties/a/maxLength", json!(4)),
            ("/properties/b/items/minimum", json!(0.25)),
            ("/properties/a/type", json!("integer")),
        ] {
            let mut other = part.clone();
            *other.pointer_mut(place).expect("it is there") = value;
            assert!(!Arc::ptr_eq(&one, &read(&other)), "{place}");
        }
    }
}
