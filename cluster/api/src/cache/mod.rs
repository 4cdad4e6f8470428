//! The one copy of state that every read is answered from.
//!
//! A single feeder applies the store's history in order; each resource keeps a sorted map, a ring of
//! recent events and its watchers. Nothing here reads the disk after the first load.

mod feeder;
mod fields;
mod map;
mod progress;
mod resource;
mod watch;

pub(crate) use feeder::{key_of, load, prefix_of, run as feed, value_of};
pub(crate) use fields::{FieldPath, Selectable, extract};
pub(crate) use map::{Iter, Map};
pub(crate) use progress::Progress;
pub(crate) use resource::{RING_MAX, ResourceCache, StoredForm, first_of};
pub(crate) use watch::{EventKind, FieldRef, Filter, Frame, Start, Watch};

use std::{
    collections::HashMap,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};
use strata_meta::{Object, Revision};

/// An object and the values of the fields its kind can be selected by.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The object.
    pub(crate) object: Arc<Object>,
    /// In the order of the resource's field paths; absent when it has none.
    pub(crate) fields: Option<Arc<[Box<str>]>>,
}

/// All resources.
pub(crate) struct Cache {
    resources: RwLock<HashMap<String, Arc<ResourceCache>>>,
    progress: Arc<Progress>,
    compacted: AtomicU64,
}

impl Cache {
    /// An empty cache.
    pub(crate) fn new() -> Self {
        Self {
            resources: RwLock::default(),
            progress: Arc::default(),
            compacted: AtomicU64::new(0),
        }
    }

    /// How far the store's history is applied.
    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Adds a resource; keys below `prefix_of(group, plural)` go there.
    pub(crate) fn add(&self, resource: Arc<ResourceCache>) {
        let mut resources = self.resources.write().expect("no panic under this lock");
        resources.insert(resource.prefix().to_owned(), resource);
    }

    /// Takes out a resource that is no longer served, and ends its watches.
    pub(crate) fn remove(&self, prefix: &str) {
        let removed = self.resources.write().expect("no panic under this lock").remove(prefix);
        if let Some(resource) = removed {
            resource.close_watches();
        }
    }

    /// The resource stored below a prefix.
    pub(crate) fn named(&self, prefix: &str) -> Option<Arc<ResourceCache>> {
        self.resources
            .read()
            .expect("no panic under this lock")
            .get(prefix)
            .cloned()
    }

    /// The resource a key belongs to, with what follows its prefix.
    fn resource_of<'k>(&self, key: &'k str) -> Option<(Arc<ResourceCache>, &'k str)> {
        // "/registry/GROUP/PLURAL/" and then the object.
        let end = key.match_indices('/').nth(3)?.0 + 1;
        let resources = self.resources.read().expect("no panic under this lock");
        Some((resources.get(&key[..end])?.clone(), &key[end..]))
    }

    /// Every resource.
    pub(crate) fn all(&self) -> Vec<Arc<ResourceCache>> {
        self.resources
            .read()
            .expect("no panic under this lock")
            .values()
            .cloned()
            .collect()
    }

    /// Revisions below this one can no longer be read.
    pub(crate) fn compacted(&self) -> Revision {
        Revision(self.compacted.load(Ordering::Acquire))
    }

    /// Forgets history below a revision: continue tokens older than it expire.
    pub(crate) fn compact(&self, revision: Revision) {
        self.compacted.fetch_max(revision.0, Ordering::AcqRel);
        for resource in self.all() {
            resource.drop_snapshots_below(revision);
        }
    }

    /// Sends every watcher that asked for bookmarks the revision it has seen everything up to.
    pub(crate) fn bookmark(&self) {
        for resource in self.all() {
            resource.bookmark();
        }
    }
}
