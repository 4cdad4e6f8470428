//! Encryption at rest: a store in front of the store, that writes values of chosen resources as only its keys read them.
//!
//! A value that is encrypted begins with `k8s:enc:PROVIDER:v1:KEY:`; any other is as it is. The key of the store is
//! bound into the cipher text, so that nobody can put one value in the place of another.

mod config;

pub(crate) use config::Encryption;

use bytes::Bytes;
use config::Rule;
use futures::{FutureExt, future::BoxFuture};
use std::{io, sync::Arc, time::Duration};
use strata_meta::Revision;
use strata_store::{Error, EventBatch, Expect, KeyValue, LeaseId, Range, RangeResult, Status, Store, WatchStream};

/// The marker of everything encrypted.
const MARK: &[u8] = b"k8s:enc:";

/// A store whose values are encrypted on the way in and decrypted on the way out.
pub(crate) struct EncryptedStore {
    inner: Arc<dyn Store>,
    encryption: Arc<Encryption>,
}

impl EncryptedStore {
    pub(crate) fn new(inner: Arc<dyn Store>, encryption: Encryption) -> Self {
        Self {
            inner,
            encryption: Arc::new(encryption),
        }
    }

    /// Writes again what is not written as the configuration's first key would: after a key was added in front, or
    /// encryption was begun or ended. A value that changes meanwhile is written right by whoever changes it.
    pub(crate) async fn rewrite(&self) -> Result<usize, Error> {
        let mut count = 0;
        for prefix in self.encryption.prefixes() {
            for item in self.inner.range(Range::prefix(prefix.as_bytes())).await?.items {
                let Some(rule) = self.encryption.rule(&item.key) else {
                    continue;
                };
                if rule.is_current(&item.value) {
                    continue;
                }
                let plain = rule.open(&item.key, &item.value)?;
                let sealed = rule.seal(&item.key, plain)?;
                let written = self
                    .inner
                    .put(item.key, sealed, Expect::Revision(item.mod_revision), item.lease)
                    .await;
                match written {
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
fn open(encryption: &Encryption, mut item: KeyValue) -> Result<KeyValue, Error> {
    let rule = match encryption.rule(&item.key) {
        Some(rule) => rule,
        None if item.value.starts_with(MARK) => {
            return Err(config::unreadable(&item.key, "no provider is configured for it"));
        }
        None => return Ok(item),
    };
    item.value = rule.open(&item.key, &item.value)?;
    Ok(item)
}

fn open_batch(encryption: &Encryption, mut batch: EventBatch) -> Result<EventBatch, Error> {
    for event in &mut batch.events {
        if !event.item.value.is_empty() {
            event.item = open(encryption, event.item.clone())?;
        }
        event.previous = event.previous.take().map(|item| open(encryption, item)).transpose()?;
    }
    Ok(batch)
}

impl Rule {
    fn is_current(&self, value: &[u8]) -> bool {
        match self.first() {
            Some(provider) => value.starts_with(provider.prefix()),
            None => !value.starts_with(MARK),
        }
    }

    fn seal(&self, key: &[u8], plain: Bytes) -> Result<Bytes, Error> {
        match self.first() {
            Some(provider) => provider.seal(key, &plain),
            None => Ok(plain),
        }
    }

    fn open(&self, key: &[u8], value: &Bytes) -> Result<Bytes, Error> {
        if !value.starts_with(MARK) {
            return Ok(value.clone());
        }
        let found = self.providers().find(|provider| value.starts_with(provider.prefix()));
        let provider = found.ok_or_else(|| config::unreadable(key, "no key that is configured has written it"))?;
        provider.open(key, value)
    }
}

impl Store for EncryptedStore {
    fn get(&self, key: &[u8], at: Option<Revision>) -> BoxFuture<'_, Result<Option<KeyValue>, Error>> {
        let found = self.inner.get(key, at);
        async move { found.await?.map(|item| open(&self.encryption, item)).transpose() }.boxed()
    }

    fn range(&self, range: Range) -> BoxFuture<'_, Result<RangeResult, Error>> {
        async move {
            let mut result = self.inner.range(range).await?;
            let opened = result.items.into_iter().map(|item| open(&self.encryption, item));
            result.items = opened.collect::<Result<_, _>>()?;
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
        let sealed = match self.encryption.rule(&key) {
            Some(rule) => rule.seal(&key, value),
            None => Ok(value),
        };
        match sealed {
            Ok(value) => self.inner.put(key, value, expect, lease),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn delete(&self, key: &[u8], expect: Expect) -> BoxFuture<'_, Result<Option<(Revision, KeyValue)>, Error>> {
        let removed = self.inner.delete(key, expect);
        async move {
            let removed = removed.await?;
            let opened = removed.map(|(revision, item)| open(&self.encryption, item).map(|item| (revision, item)));
            opened.transpose()
        }
        .boxed()
    }

    fn watch(&self, start: Bytes, end: Bytes, from: Revision) -> BoxFuture<'_, Result<WatchStream, Error>> {
        async move {
            let encryption = self.encryption.clone();
            let stream = self.inner.watch(start, end, from).await?;
            Ok(stream.and_then(move |batch| open_batch(&encryption, batch)))
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
mod tests;
