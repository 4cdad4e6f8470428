//! A cache that shows what was written through it at once.

use crate::tracked::Tracked;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use strata_client::Informer;
use strata_meta::ObjectKey;

/// An informer and the answers to writes that it does not show yet.
pub(super) struct Written<T> {
    pub informer: Informer<T>,
    newer: Mutex<HashMap<ObjectKey, Arc<T>>>,
}

impl<V: Send + Sync + 'static> Written<Tracked<V>> {
    pub fn new(informer: Informer<Tracked<V>>) -> Self {
        Self {
            informer,
            newer: Mutex::default(),
        }
    }

    /// The newest state that is known.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Tracked<V>>> {
        let mut newer = self.newer.lock().expect("no holder panics");
        if let Some(written) = newer.get(key) {
            if written.revision > self.informer.revision() {
                return Some(written.clone());
            }
            newer.remove(key);
        }
        self.informer.get(key)
    }

    /// Remembers the answer to a write.
    pub fn wrote(&self, object: Tracked<V>) -> Arc<Tracked<V>> {
        let object = Arc::new(object);
        let mut newer = self.newer.lock().expect("no holder panics");
        let shown = self.informer.revision();
        newer.retain(|_, written| written.revision > shown);
        newer.insert(object.key.clone(), object.clone());
        object
    }
}
