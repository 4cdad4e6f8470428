//! What informers keep of an object, and how it is found again.

use crate::Error;
use serde::de::DeserializeOwned;
use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, RwLock},
};
use strata_client::{Change, Informer};
use strata_meta::{Object, ObjectError, ObjectKey};

/// A shared object and the part of it that a controller reads often, decoded.
pub(crate) struct Tracked<V> {
    pub object: Arc<Object>,
    pub view: V,
}

impl<V: DeserializeOwned> Tracked<V> {
    pub fn decode(object: &Arc<Object>) -> Result<Self, ObjectError> {
        Ok(Self {
            object: object.clone(),
            view: object.decode()?,
        })
    }
}

impl<V> Deref for Tracked<V> {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.object
    }
}

/// An object kept as it is, decoded when it is worked on.
pub(crate) fn undecoded(object: &Arc<Object>) -> Result<Arc<Object>, ObjectError> {
    Ok(object.clone())
}

/// Decodes with the object's name in the error.
pub(crate) fn decode<T: DeserializeOwned>(object: &Object) -> Result<T, Error> {
    object.decode().map_err(|source| Error::Object {
        key: object.key.to_string(),
        source,
    })
}

/// The object as a JSON value, with its name in the error.
pub(crate) fn value(object: &Object) -> Result<serde_json::Value, Error> {
    object.to_value().map_err(|source| Error::Object {
        key: object.key.to_string(),
        source,
    })
}

type Found<T> = HashMap<ObjectKey, Arc<T>>;

/// Finds the objects of an informer by keys computed of each.
pub(crate) struct Index<T> {
    entries: RwLock<HashMap<Arc<str>, Found<T>>>,
    keys: fn(&T) -> Vec<Arc<str>>,
}

impl<T: Send + Sync + 'static> Index<T> {
    /// Follows the informer. Handlers registered later see the index already changed.
    pub fn new(informer: &Informer<T>, keys: fn(&T) -> Vec<Arc<str>>) -> Arc<Self> {
        let index = Arc::new(Self {
            entries: RwLock::default(),
            keys,
        });
        let follow = index.clone();
        informer.on_change(move |change| follow.apply(change));
        index
    }

    pub fn get(&self, key: &str) -> Vec<Arc<T>> {
        let entries = self.entries.read().expect("no writer panics");
        entries
            .get(key)
            .map(|found| found.values().cloned().collect())
            .unwrap_or_default()
    }

    fn apply(&self, change: &Change<T>) {
        let mut entries = self.entries.write().expect("no writer panics");
        for key in change.old.iter().flat_map(|old| (self.keys)(old)) {
            if let Some(found) = entries.get_mut(&key) {
                found.remove(&change.key);
                if found.is_empty() {
                    entries.remove(&key);
                }
            }
        }
        if let Some(new) = &change.new {
            for key in (self.keys)(new) {
                entries.entry(key).or_default().insert(change.key.clone(), new.clone());
            }
        }
    }
}
