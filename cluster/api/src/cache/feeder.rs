//! From the store's history to the cache; and how objects are written down.
//!
//! Key: `/registry/GROUP/PLURAL/[NAMESPACE/]NAME`, the core group as `core`.
//! Value: a header and the encoded object. The header of a built-in kind is layout 1, media type and four bytes
//! of zero; that of a custom resource is layout 2, media type, the edition of the schema (eight bytes) and the
//! version (its length and its text) that the object is written in.

use super::{Cache, Entry, ResourceCache, StoredForm};
use bytes::{BufMut, Bytes, BytesMut};
use std::{collections::HashMap, sync::Arc};
use strata_meta::{ObjectKey, Revision};
use strata_store::{EventBatch, EventKind, KeyValue, Range, Store, prefix_end};
use strata_task::CancellationToken;

const ROOT: &str = "/registry/";
/// Layout version 1, media type 0 (JSON from `metadata` on), schema generation 0.
const HEADER: [u8; 6] = [1, 0, 0, 0, 0, 0];
/// Layout, media type, edition and the length of the version.
const CUSTOM_HEADER: usize = 11;
/// Definitions are read before all else: they say which other resources there are.
const DEFINITIONS: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";

/// What the keys of a resource begin with.
pub(crate) fn prefix_of(group: &str, plural: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{ROOT}{group}/{plural}/")
}

/// The key of an object below its resource's prefix.
pub(crate) fn key_of(prefix: &str, namespace: &str, name: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(prefix.len() + namespace.len() + name.len() + 1);
    key.put_slice(prefix.as_bytes());
    if !namespace.is_empty() {
        key.put_slice(namespace.as_bytes());
        key.put_u8(b'/');
    }
    key.put_slice(name.as_bytes());
    key.freeze()
}

/// The stored value of an encoded object.
pub(crate) fn value_of(form: &StoredForm, body: &[u8]) -> Bytes {
    let version = form.kind.version.as_bytes();
    let mut value = BytesMut::with_capacity(CUSTOM_HEADER + version.len() + body.len());
    match (form.edition, u8::try_from(version.len())) {
        (0, _) | (_, Err(_)) => value.put_slice(&HEADER),
        (edition, Ok(length)) => {
            value.put_slice(&[2, 0]);
            value.put_u64(edition);
            value.put_u8(length);
            value.put_slice(version);
        }
    }
    value.put_slice(body);
    value.freeze()
}

/// Version and edition that a stored value says it is written in, if it does.
type Written<'v> = Option<(&'v str, u64)>;

fn body_of(value: &Bytes) -> Result<(Bytes, Written<'_>), String> {
    match value.get(..HEADER.len()) {
        Some([1, 0, ..]) => Ok((value.slice(HEADER.len()..), None)),
        Some([2, 0, ..]) => {
            let short = || format!("{} bytes are too short for a header", value.len());
            let edition = value.get(2..10).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
            let end = CUSTOM_HEADER + usize::from(*value.get(10).ok_or_else(short)?);
            let version = value.get(CUSTOM_HEADER..end).ok_or_else(short)?;
            let version = std::str::from_utf8(version).map_err(|e| e.to_string())?;
            Ok((value.slice(end..), Some((version, u64::from_be_bytes(edition)))))
        }
        Some([version, media, ..]) => Err(format!("layout version {version}, media type {media} is not known")),
        None | Some(_) => Err(format!("{} bytes are too short for a header", value.len())),
    }
}

fn decode(resource: &ResourceCache, item: &KeyValue) -> Result<Entry, String> {
    let (body, written) = body_of(&item.value)?;
    resource
        .entry(item.mod_revision, body, written)
        .map_err(|e| e.to_string())
}

/// Reads everything that is stored into the cache. Errors: the store's.
pub(crate) async fn load(store: &dyn Store, cache: &Cache) -> Result<Revision, strata_store::Error> {
    let all = store.range(Range::prefix(ROOT.as_bytes())).await?;
    let (definitions, others): (Vec<&KeyValue>, Vec<&KeyValue>) = all
        .items
        .iter()
        .partition(|item| item.key.starts_with(DEFINITIONS.as_bytes()));
    let mut filled = fill(cache, &definitions, all.revision, &[]);
    let rest = fill(cache, &others, all.revision, &filled);
    filled.extend(rest);
    for resource in cache.all() {
        if !filled.iter().any(|prefix| prefix == resource.prefix()) {
            resource.fill(Vec::new(), all.revision);
        }
    }
    cache.progress().advance(all.revision);
    Ok(all.revision)
}

/// Fills the resources of these items; their prefixes.
fn fill(cache: &Cache, items: &[&KeyValue], revision: Revision, done: &[String]) -> Vec<String> {
    let mut entries: HashMap<String, (Arc<ResourceCache>, Vec<Entry>)> = HashMap::new();
    for item in items {
        let key = String::from_utf8_lossy(&item.key);
        let Some((resource, _)) = cache.resource_of(&key) else {
            continue;
        };
        match decode(&resource, item) {
            Ok(entry) => {
                let prefix = resource.prefix().to_owned();
                entries
                    .entry(prefix)
                    .or_insert_with(|| (resource, Vec::new()))
                    .1
                    .push(entry);
            }
            Err(why) => tracing::error!(%key, why, "a stored object cannot be read and is left out"),
        }
    }
    entries.retain(|prefix, _| !done.contains(prefix));
    let filled = entries.into_iter().map(|(prefix, (resource, list))| {
        resource.fill(list, revision);
        prefix
    });
    filled.collect()
}

/// Applies the history after `from` until cancelled. An end for any other reason leaves the cache behind
/// the store, so the caller has to stop serving. Errors: why the history ended.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    from: Revision,
    cancel: CancellationToken,
) -> Result<(), String> {
    let end = prefix_end(ROOT.as_bytes());
    let watch = store.watch(Bytes::from_static(ROOT.as_bytes()), end, from).await;
    let mut stream = watch.map_err(|e| e.to_string())?;
    loop {
        let batch = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            batch = stream.next() => batch,
        };
        match batch {
            Some(Ok(batch)) => apply(&cache, &batch),
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the store ended its history".into()),
        }
    }
}

fn apply(cache: &Cache, batch: &EventBatch) {
    for event in &batch.events {
        let key = String::from_utf8_lossy(&event.item.key);
        let Some((resource, rest)) = cache.resource_of(&key) else {
            continue;
        };
        match event.kind {
            EventKind::Put => match decode(&resource, &event.item) {
                Ok(entry) => resource.put(entry),
                Err(why) => tracing::error!(%key, why, "a stored object cannot be read and is left out"),
            },
            EventKind::Delete => {
                let key = ObjectKey::parse(rest);
                resource.remove(&key.namespace, &key.name, event.item.mod_revision);
            }
        }
    }
    cache.progress().advance(batch.revision);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_written_down_as_described() {
        assert_eq!(
            &key_of(&prefix_of("", "pods"), "n", "p")[..],
            b"/registry/core/pods/n/p"
        );
        assert_eq!(&key_of(&prefix_of("apps", "x"), "", "p")[..], b"/registry/apps/x/p");
        let mut form = StoredForm::builtin(Arc::new(strata_meta::GroupVersionKind::new("g", "v1beta1", "K")));
        let value = value_of(&form, b"{}");
        assert_eq!(body_of(&value), Ok((Bytes::from_static(b"{}"), None)));
        form.edition = 7;
        let value = value_of(&form, b"{}");
        assert_eq!(body_of(&value), Ok((Bytes::from_static(b"{}"), Some(("v1beta1", 7)))));
        for bad in [
            &b""[..],
            b"\x02\0\0\0\0\0{}",
            b"\x03\0\0\0\0\0{}",
            b"\x01\x01\0\0\0\0{}",
        ] {
            assert!(body_of(&Bytes::copy_from_slice(bad)).is_err());
        }
    }
}
