//! Writes the slices of one owner, and remembers what the cache does not show yet.

use super::slices::{Present, Slice, Write};
use crate::{
    Error,
    error::{During, namespace_is_terminating},
    expectations::Expectations,
    tracked::{Index, decode, value},
};
use serde_json::json;
use std::sync::Arc;
use strata_client::{Client, DeleteOptions, Informer, resources::ENDPOINT_SLICES};
use strata_meta::{Object, ObjectKey, Uid};

/// The slices of one manager, by the service they belong to.
pub(super) struct SliceStore {
    client: Client,
    slices: Informer<Arc<Object>>,
    /// By `namespace/service`.
    of_service: Arc<Index<Arc<Object>>>,
    writes: Expectations,
}

impl SliceStore {
    /// `keys` tells of a slice which service's it is, if it is of this manager.
    pub fn new(client: Client, slices: &Informer<Arc<Object>>, keys: fn(&Arc<Object>) -> Vec<Arc<str>>) -> Self {
        Self {
            client,
            slices: slices.clone(),
            of_service: Index::new(slices, keys),
            writes: Expectations::default(),
        }
    }

    /// The slices of a service; `None` while the cache does not show what was written last.
    pub fn present(&self, key: &ObjectKey) -> Result<Option<Vec<Present>>, Error> {
        let found = self.of_service.get(&key.to_string());
        let gone = |uid: &Uid| !found.iter().any(|slice| slice.uid == *uid);
        if !self.writes.are_met(key, self.slices.revision(), gone) {
            return Ok(None);
        }
        let alive = found.iter().filter(|slice| !slice.deleting);
        let read = |slice: &Arc<Arc<Object>>| Ok(((**slice).clone(), decode::<Slice>(slice)?));
        alive.map(read).collect::<Result<_, Error>>().map(Some)
    }

    /// Nothing is awaited any more.
    pub fn forget(&self, key: &ObjectKey) {
        self.writes.forget(key);
    }

    /// Makes one write.
    pub async fn write(&self, key: &ObjectKey, write: Write) -> Result<(), Error> {
        let namespace = &key.namespace;
        let written = match write {
            Write::Create(slice) => match self.client.create(ENDPOINT_SLICES, namespace, &json!(slice)).await {
                Err(error) if namespace_is_terminating(&error) => return Ok(()),
                result => result.during(|| "creating a slice".to_owned())?,
            },
            Write::Update(object, slice) => {
                let mut whole = value(&object)?;
                let wanted = json!(slice);
                for member in ["endpoints", "ports", "addressType"] {
                    whole[member] = wanted[member].clone();
                }
                for member in ["labels", "ownerReferences"] {
                    whole["metadata"][member] = wanted["metadata"][member].clone();
                }
                for (key, annotation) in &slice.metadata.annotations {
                    whole["metadata"]["annotations"][key] = annotation.as_str().into();
                }
                let updated = self
                    .client
                    .update(ENDPOINT_SLICES, namespace, object.name(), &whole)
                    .await;
                updated.during(|| format!("changing slice {}", object.key))?
            }
            Write::Delete(object) => {
                self.writes.deleting(key, &object.uid);
                let options = DeleteOptions::only(&object.uid);
                return match self
                    .client
                    .delete(ENDPOINT_SLICES, namespace, object.name(), options)
                    .await
                {
                    Err(error) if !error.is_not_found() => {
                        self.writes.not_deleted(key, &object.uid);
                        Err(error).during(|| format!("deleting slice {}", object.key))
                    }
                    _ => Ok(()),
                };
            }
        };
        self.writes.wrote(key, written.revision);
        Ok(())
    }
}
