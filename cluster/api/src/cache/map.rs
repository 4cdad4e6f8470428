//! A sorted map whose snapshots are free.
//!
//! Two levels of copy-on-write: a snapshot is one `Arc`; the first write after it copies the
//! outer level (one pointer per chunk) and the chunk it touches, nothing else.

use super::Entry;
use std::{cmp::Ordering, sync::Arc};

/// Entries per chunk before it is split.
const CHUNK: usize = 128;

/// Entries sorted by namespace and name.
#[derive(Clone, Default)]
pub(crate) struct Map {
    chunks: Arc<Vec<Arc<Vec<Entry>>>>,
    len: usize,
}

impl Map {
    /// From entries in any order; of two with one key the later stays.
    pub(crate) fn from_entries(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.object.key.cmp(&b.object.key));
        let len = entries.len();
        let mut chunks = Vec::with_capacity(len / CHUNK + 1);
        let mut rest = entries.into_iter().peekable();
        while rest.peek().is_some() {
            chunks.push(Arc::new(rest.by_ref().take(CHUNK).collect()));
        }
        Self {
            chunks: Arc::new(chunks),
            len,
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The entry of a namespace and name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Entry> {
        let (chunk, at) = self.find(namespace, name).ok()?;
        Some(&self.chunks[chunk][at])
    }

    /// Puts an entry in; returns the one it replaces.
    pub(crate) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let found = self.find(&entry.object.key.namespace, &entry.object.key.name);
        let chunks = Arc::make_mut(&mut self.chunks);
        match found {
            Ok((chunk, at)) => Some(std::mem::replace(&mut Arc::make_mut(&mut chunks[chunk])[at], entry)),
            Err((chunk, at)) => {
                self.len += 1;
                if chunks.is_empty() {
                    chunks.push(Arc::new(vec![entry]));
                    return None;
                }
                let list = Arc::make_mut(&mut chunks[chunk]);
                list.insert(at, entry);
                if list.len() > CHUNK {
                    // Names often arrive in rising order: a full last chunk then stays full.
                    let cut = if at + 1 == list.len() { CHUNK } else { CHUNK / 2 };
                    let tail = list.split_off(cut);
                    chunks.insert(chunk + 1, Arc::new(tail));
                }
                None
            }
        }
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, namespace: &str, name: &str) -> Option<Entry> {
        let (chunk, at) = self.find(namespace, name).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let list = Arc::make_mut(&mut chunks[chunk]);
        let removed = list.remove(at);
        if list.is_empty() {
            chunks.remove(chunk);
        }
        self.len -= 1;
        Some(removed)
    }

    /// Entries from a key on (inclusive), in order.
    pub(crate) fn range_from(&self, namespace: &str, name: &str) -> Iter {
        let (chunk, at) = match self.find(namespace, name) {
            Ok(place) | Err(place) => place,
        };
        Iter {
            chunks: self.chunks.clone(),
            chunk,
            at,
            end: None,
        }
    }

    /// All entries, in order.
    pub(crate) fn iter(&self) -> Iter {
        self.range_from("", "")
    }

    fn find(&self, namespace: &str, name: &str) -> Result<(usize, usize), (usize, usize)> {
        let order = |entry: &Entry| -> Ordering {
            let key = &entry.object.key;
            (*key.namespace).cmp(namespace).then_with(|| (*key.name).cmp(name))
        };
        // The last chunk whose first entry is not behind the key.
        let chunk = self
            .chunks
            .partition_point(|c| order(&c[0]) != Ordering::Greater)
            .saturating_sub(1);
        match self.chunks.get(chunk) {
            None => Err((0, 0)),
            Some(list) => match list.binary_search_by(order) {
                Ok(at) => Ok((chunk, at)),
                Err(at) => Err((chunk, at)),
            },
        }
    }
}

/// Walks a snapshot; holds it alive.
pub(crate) struct Iter {
    chunks: Arc<Vec<Arc<Vec<Entry>>>>,
    chunk: usize,
    at: usize,
    /// Ends before this place.
    end: Option<(usize, usize)>,
}

impl Iter {
    /// How many entries are left.
    pub(crate) fn remaining(&self) -> usize {
        let (end_chunk, end_at) = self.end.unwrap_or((self.chunks.len(), 0));
        let whole = self.chunks.iter().take(end_chunk).skip(self.chunk);
        let before_end: usize = whole.map(|c| c.len()).sum::<usize>() + end_at;
        before_end.saturating_sub(self.at)
    }

    /// Ends with the namespace's last entry; every namespace is meant without one.
    pub(crate) fn within(mut self, namespace: Option<&str>) -> Self {
        if let Some(namespace) = namespace {
            // The first entry of whatever comes after: no namespace holds a NUL.
            let after = |e: &Entry| (*e.object.key.namespace) <= *namespace;
            let chunk = self.chunks.partition_point(|c| after(&c[0])).saturating_sub(1);
            let at = self.chunks.get(chunk).map_or(0, |c| c.partition_point(after));
            self.end = Some((chunk, at));
        }
        self
    }
}

impl Iterator for Iter {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if self.end.is_some_and(|end| (self.chunk, self.at) >= end) {
                return None;
            }
            let list = self.chunks.get(self.chunk)?;
            if let Some(entry) = list.get(self.at) {
                self.at += 1;
                return Some(entry.clone());
            }
            self.chunk += 1;
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use strata_meta::{GroupVersionKind, Object, Revision};

    fn entry(name: &str, revision: u64) -> Entry {
        let kind = Arc::new(GroupVersionKind::new("", "v1", "ConfigMap"));
        let value = serde_json::json!({"metadata": {"name": name, "namespace": "n"}});
        Entry {
            object: Arc::new(Object::from_value(kind, Revision(revision), &value).expect("valid")),
            fields: None,
        }
    }

    #[test]
    fn it_behaves_as_a_sorted_map_and_snapshots_do_not_change() {
        let mut map = Map::default();
        let mut model = BTreeMap::new();
        let mut seed = 7u64;
        for step in 0..6000u64 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let name = format!("o{:04}", (seed >> 33) % 1500);
            if seed.is_multiple_of(3) {
                assert_eq!(map.remove("n", &name).map(|e| e.object.revision.0), model.remove(&name));
            } else {
                assert_eq!(
                    map.insert(entry(&name, step)).map(|e| e.object.revision.0),
                    model.insert(name, step)
                );
            }
            assert_eq!(map.len(), model.len());
            if step.is_multiple_of(1000) {
                let snapshot = map.clone();
                map.insert(entry("zzz", step));
                map.remove("n", "zzz");
                let got: Vec<_> = snapshot
                    .iter()
                    .map(|e| (e.object.name().to_owned(), e.object.revision.0))
                    .collect();
                let want: Vec<_> = model.clone().into_iter().collect();
                assert_eq!(got, want);
                assert_eq!(snapshot.iter().within(Some("n")).count(), model.len());
                assert_eq!(
                    snapshot.iter().within(Some("m")).remaining() + snapshot.iter().within(Some("a")).count(),
                    0
                );
                let from = snapshot.range_from("n", "o0700").within(Some("n"));
                assert_eq!(from.remaining(), model.range("o0700".to_owned()..).count());
            }
        }
    }
}
