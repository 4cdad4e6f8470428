//! Encryption at rest: a store in front of the store, that writes values of chosen resources as only its keys read them.
//!
//! A value that is encrypted begins with `k8s:enc:PROVIDER:VERSION:KEY:`; any other is as it is. The key of the store is
//! bound into the cipher text where the cipher can do that, so that nobody can put one value in the place of another.
//! [`cipher`] has the keys of the configuration itself, [`kms`] those of a service beside the server.

mod cipher;
mod config;
mod kms;
mod object;
mod reload;
mod rules;

pub(crate) use kms::Times;
pub use reload::EncryptionOptions;
pub(crate) use reload::Reload;

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use rules::Encryption;
use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use strata_meta::Revision;
use strata_store::{Error, EventBatch, Expect, KeyValue, LeaseId, Range, RangeResult, Status, Store, WatchStream};

/// The marker of everything encrypted.
const MARK: &[u8] = b"k8s:enc:";

/// A store whose values are encrypted on the way in and decrypted on the way out.
pub(crate) struct EncryptedStore {
    inner: Arc<dyn Store>,
    keys: Arc<Keys>,
}

/// The configuration in force, and the one before it: what it wrote may still be on its way to readers.
struct Keys(RwLock<(Arc<Encryption>, Option<Arc<Encryption>>)>);

impl Keys {
    fn now(&self) -> Arc<Encryption> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn before(&self) -> Option<Arc<Encryption>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// As [`open`], for a value that was written a moment ago.
    async fn open_recent(&self, item: KeyValue) -> Result<KeyValue, Error> {
        match (open(&self.now(), item.clone()).await, self.before()) {
            (Err(_), Some(before)) => open(&before, item).await,
            (opened, _) => opened,
        }
    }
}

/// A value that cannot be read.
fn unreadable(key: &[u8], why: &str) -> Error {
    Error::Unreadable {
        key: String::from_utf8_lossy(key).into_owned(),
        why: why.to_owned(),
    }
}

impl EncryptedStore {
    pub(crate) fn new(inner: Arc<dyn Store>, encryption: Encryption) -> Self {
        Self {
            inner,
            keys: Arc::new(Keys(RwLock::new((Arc::new(encryption), None)))),
        }
    }

    /// Puts another configuration in force.
    pub(crate) fn replace(&self, encryption: Encryption) {
        let mut keys = self.keys.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut keys.0, Arc::new(encryption));
        keys.1 = Some(before);
    }

    /// The configuration in force.
    pub(crate) fn encryption(&self) -> Arc<Encryption> {
        self.keys.now()
    }

    /// Whether a value that is to stay as it is would be written otherwise now: by another key, or not encrypted.
    pub(crate) async fn is_stale(&self, key: &[u8]) -> Result<bool, Error> {
        let encryption = self.keys.now();
        if encryption.providers(key).is_none() {
            return Ok(false);
        }
        let item = self.inner.get(key, None).await?;
        Ok(item.is_some_and(|item| !encryption.is_current(&item.key, &item.value)))
    }

    /// Writes again what is not written as the configuration's first key would: after a key was added in front, or
    /// encryption was begun or ended. A value that changes meanwhile is written right by whoever changes it.
    pub(crate) async fn rewrite(&self) -> Result<usize, Error> {
        let encryption = self.keys.now();
        let mut count = 0;
        for prefix in encryption.prefixes() {
            for item in self.inner.range(Range::prefix(prefix.as_bytes())).await?.items {
                if encryption.is_current(&item.key, &item.value) {
                    continue;
                }
                let expect = Expect::Revision(item.mod_revision);
                let plain = open(&encryption, item.clone()).await?.value;
                let sealed = encryption.seal(&item.key, plain)?;
                match self.inner.put(item.key, sealed, expect, item.lease).await {
                    Ok(_) => count += 1,
                    Err(Error::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(count)
    }
}

/// A stored value as it was meant.
async fn open(encryption: &Encryption, mut item: KeyValue) -> Result<KeyValue, Error> {
    item.value = encryption.open_value(&item.key, item.value).await?;
    Ok(item)
}

async fn open_batch(keys: Arc<Keys>, mut batch: EventBatch) -> Result<EventBatch, Error> {
    for event in &mut batch.events {
        if !event.item.value.is_empty() {
            event.item = keys.open_recent(event.item.clone()).await?;
        }
        // Its key may be long gone, and nobody here asks for it.
        event.previous = None;
    }
    Ok(batch)
}

impl Store for EncryptedStore {
    fn get(&self, key: &[u8], at: Option<Revision>) -> BoxFuture<'_, Result<Option<KeyValue>, Error>> {
        let found = self.inner.get(key, at);
        async move {
            match found.await? {
                Some(item) => open(&self.keys.now(), item).await.map(Some),
                None => Ok(None),
            }
        }
        .boxed()
    }

    fn range(&self, range: Range) -> BoxFuture<'_, Result<RangeResult, Error>> {
        async move {
            let encryption = self.keys.now();
            let mut result = self.inner.range(range).await?;
            for item in &mut result.items {
                let value = std::mem::take(&mut item.value);
                item.value = encryption.open_value(&item.key, value).await?;
            }
            Ok(result)
        }
        .boxed()
    }

    fn put(
        &self,
        key: Bytes,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    ) -> BoxFuture<'_, Result<Revision, Error>> {
        match self.keys.now().seal(&key, value) {
            Ok(value) => self.inner.put(key, value, expect, lease),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn delete(&self, key: &[u8], expect: Expect) -> BoxFuture<'_, Result<Option<(Revision, KeyValue)>, Error>> {
        let removed = self.inner.delete(key, expect);
        async move {
            let Some((revision, item)) = removed.await? else {
                return Ok(None);
            };
            // What cannot be read is gone all the same.
            let mut sealed = item.clone();
            let opened = open(&self.keys.now(), item).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "a value that was removed");
                sealed.value = Bytes::new();
                sealed
            });
            Ok(Some((revision, opened)))
        }
        .boxed()
    }

    fn watch(&self, start: Bytes, end: Bytes, from: Revision) -> BoxFuture<'_, Result<WatchStream, Error>> {
        async move {
            let keys = self.keys.clone();
            let stream = self.inner.watch(start, end, from).await?;
            Ok(stream.and_then(move |batch| open_batch(keys.clone(), batch)))
        }
        .boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), Error>> {
        self.inner.compact(revision)
    }

    fn lease_grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, Error>> {
        self.inner.lease_grant(ttl)
    }

    fn lease_renew(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        self.inner.lease_renew(lease)
    }

    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        self.inner.lease_revoke(lease)
    }

    fn snapshot(&self, out: Box<dyn io::Write + Send>) -> BoxFuture<'_, Result<Revision, Error>> {
        self.inner.snapshot(out)
    }

    fn status(&self) -> Status {
        self.inner.status()
    }
}

#[cfg(test)]
mod plugin;
#[cfg(test)]
mod tests;
