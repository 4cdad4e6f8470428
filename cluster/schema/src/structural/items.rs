//! Items of lists that are known by keys, found without a search for each.

use super::{Flags, Structural};
use serde_json::Value;
use std::collections::HashMap;

/// The items of a list as it was.
#[derive(Debug)]
pub struct OldItems<'v> {
    keys: Vec<(&'v str, Option<&'v Value>)>,
    items: HashMap<Vec<Option<&'v Value>>, &'v Value>,
}

impl<'v> OldItems<'v> {
    /// Where the same item was: the first that has all its keys, those left out counting as their defaults.
    pub fn find<'q>(&self, item: &'q Value) -> Option<&'q Value>
    where
        'v: 'q,
    {
        if self.items.is_empty() {
            return None;
        }
        let names: Vec<Option<&'q Value>> = names(&self.keys, item);
        self.items.get(&names).copied()
    }
}

fn names<'q>(keys: &[(&str, Option<&'q Value>)], item: &'q Value) -> Vec<Option<&'q Value>> {
    keys.iter().map(|(key, default)| item.get(key).or(*default)).collect()
}

impl Structural {
    /// The items of the list that was here before, to find those of its successor in; none if they have no keys.
    pub fn old_items<'v>(&'v self, old: Option<&'v Value>) -> OldItems<'v> {
        let old = old.filter(|_| self.is(Flags::LIST_MAP)).and_then(Value::as_array);
        let default = |key: &str| self.items.as_ref()?.property(key)?.default_value();
        let named = self.list_keys().iter().map(|key| (key.as_str(), default(key)));
        let mut found = OldItems {
            keys: old.map_or_else(Vec::new, |_| named.collect()),
            items: HashMap::new(),
        };
        for item in old.into_iter().flatten() {
            let names = names(&found.keys, item);
            found.items.entry(names).or_insert(item);
        }
        found
    }
}
