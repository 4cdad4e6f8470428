//! A cache that follows one resource.

use crate::{Client, Error, ListParams, Resource, WatchRequest};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use strata_meta::{Object, ObjectError, ObjectKey, Revision, Uid, WatchEvent};
use strata_task::{Backoff, CancellationToken, DropGuard};
use tokio::{sync::watch, time::Instant};

/// Items of one page of the first list; a page is bounded by the transport's body limit.
const PAGE: u32 = 5_000;
/// A watch that lived shorter than this is followed by a pause before the next.
const SHORT_WATCH: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// Which objects of the resource are followed; the default is all.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// One namespace; absent: all.
    pub namespace: Option<String>,
    /// Label selector, empty for all.
    pub label_selector: String,
    /// Field selector, empty for all.
    pub field_selector: String,
}

/// One change of the cache. `old` is absent when the object is new, `new` when it is gone;
/// a name that was deleted and made again is told as both, one after the other.
pub struct Change<T> {
    /// Which object.
    pub key: ObjectKey,
    /// Before.
    pub old: Option<Arc<T>>,
    /// After.
    pub new: Option<Arc<T>>,
}

/// A cache of projections `T` of one resource, kept current by list and watch: it resumes
/// after a cut connection and lists again when its revision has expired.
///
/// The work stops when the token given at the start is cancelled or the last clone is dropped.
pub struct Informer<T> {
    shared: Arc<Shared<T>>,
    _stop: Arc<DropGuard>,
}

impl<T> Clone for Informer<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            _stop: self._stop.clone(),
        }
    }
}

type Handler<T> = Box<dyn Fn(&Change<T>) + Send + Sync>;

struct Shared<T> {
    cache: RwLock<HashMap<ObjectKey, Entry<T>>>,
    /// Held while a change is applied and told, so that a new handler misses none and sees none twice.
    handlers: Mutex<Vec<Handler<T>>>,
    synced: watch::Sender<bool>,
    /// The newest revision that the cache shows.
    revision: AtomicU64,
}

struct Entry<T> {
    uid: Uid,
    revision: Revision,
    value: Arc<T>,
}

type Decode<T> = fn(&Arc<Object>) -> Result<T, ObjectError>;

impl<T: DeserializeOwned + Send + Sync + 'static> Informer<T> {
    /// Follows a resource, keeping of each object what `T` declares.
    pub fn start(client: &Client, resource: Resource, scope: Scope, cancel: CancellationToken) -> Self {
        Self::start_with(client, resource, scope, cancel, |object| object.decode())
    }
}

impl<T: Send + Sync + 'static> Informer<T> {
    /// Follows a resource, keeping of each object what `decode` makes of it. An object that
    /// cannot be decoded is logged and left out.
    pub fn start_with(
        client: &Client,
        resource: Resource,
        scope: Scope,
        cancel: CancellationToken,
        decode: Decode<T>,
    ) -> Self {
        let shared = Arc::new(Shared {
            cache: RwLock::default(),
            handlers: Mutex::default(),
            synced: watch::Sender::new(false),
            revision: AtomicU64::new(0),
        });
        let stop = cancel.child_token();
        let follower = Follower {
            client: client.clone(),
            resource,
            scope,
            decode,
            shared: shared.clone(),
        };
        let token = stop.clone();
        tokio::spawn(async move {
            // Dropping the future at an await is safe: changes are applied between awaits only.
            token.run_until_cancelled(follower.run()).await;
        });
        Self {
            shared,
            _stop: Arc::new(stop.drop_guard()),
        }
    }

    /// Waits until the first list is in the cache and was told to the handlers registered before.
    pub async fn synced(&self) {
        // The sender lives in `shared`, so waiting cannot fail.
        let _ = self.shared.synced.subscribe().wait_for(|done| *done).await;
    }

    /// Whether [`Informer::synced`] would return at once.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// The newest revision that the cache shows. Once it has reached that of a write to this
    /// resource, the write is in the cache.
    pub fn revision(&self) -> Revision {
        Revision(self.shared.revision.load(Ordering::Acquire))
    }

    /// The cached projection of one object.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<T>> {
        let cache = self.shared.cache.read().expect("no writer panics");
        cache.get(key).map(|entry| entry.value.clone())
    }

    /// Every cached projection, in no order.
    pub fn list(&self) -> Vec<(ObjectKey, Arc<T>)> {
        let cache = self.shared.cache.read().expect("no writer panics");
        cache
            .iter()
            .map(|(key, entry)| (key.clone(), entry.value.clone()))
            .collect()
    }

    /// The cached projections that `keep` chooses, in no order.
    pub fn select(&self, keep: impl Fn(&ObjectKey, &T) -> bool) -> Vec<(ObjectKey, Arc<T>)> {
        let cache = self.shared.cache.read().expect("no writer panics");
        let chosen = cache.iter().filter(|(key, entry)| keep(key, &entry.value));
        chosen.map(|(key, entry)| (key.clone(), entry.value.clone())).collect()
    }

    /// Calls the handler for what is present, as new, then for each change in order, from the
    /// informer's task. It must not block, nor register another handler.
    pub fn on_change(&self, handler: impl Fn(&Change<T>) + Send + Sync + 'static) {
        let mut handlers = self.shared.handlers.lock().expect("no handler panics");
        for (key, value) in self.list() {
            handler(&Change {
                key,
                old: None,
                new: Some(value),
            });
        }
        handlers.push(Box::new(handler));
    }
}

impl<T> Shared<T> {
    fn tell(handlers: &[Handler<T>], change: &Change<T>) {
        handlers.iter().for_each(|handler| handler(change));
    }

    /// Puts one state into the cache and tells the difference to what was there.
    fn put(&self, key: ObjectKey, entry: Entry<T>, in_order: bool) {
        let handlers = self.handlers.lock().expect("no handler panics");
        let (uid, new) = (entry.uid.clone(), entry.value.clone());
        let old = {
            let mut cache = self.cache.write().expect("no writer panics");
            if cache
                .get(&key)
                .is_some_and(|have| have.uid == entry.uid && have.revision >= entry.revision)
            {
                return;
            }
            let revision = entry.revision;
            let old = cache.insert(key.clone(), entry);
            // The items of a list come in no order of revisions; those of a watch do.
            if in_order {
                self.reached(revision);
            }
            old
        };
        match old {
            Some(old) if old.uid != uid => {
                Self::tell(
                    &handlers,
                    &Change {
                        key: key.clone(),
                        old: Some(old.value),
                        new: None,
                    },
                );
                Self::tell(
                    &handlers,
                    &Change {
                        key,
                        old: None,
                        new: Some(new),
                    },
                );
            }
            old => Self::tell(
                &handlers,
                &Change {
                    key,
                    old: old.map(|o| o.value),
                    new: Some(new),
                },
            ),
        }
    }

    fn reached(&self, revision: Revision) {
        self.revision.fetch_max(revision.0, Ordering::AcqRel);
    }

    fn remove(&self, key: &ObjectKey) {
        let handlers = self.handlers.lock().expect("no handler panics");
        let old = self.cache.write().expect("no writer panics").remove(key);
        if let Some(old) = old {
            Self::tell(
                &handlers,
                &Change {
                    key: key.clone(),
                    old: Some(old.value),
                    new: None,
                },
            );
        }
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.cache.read().expect("no writer panics").keys().cloned().collect()
    }
}

/// The task behind an informer.
struct Follower<T> {
    client: Client,
    resource: Resource,
    scope: Scope,
    decode: Decode<T>,
    shared: Arc<Shared<T>>,
}

impl<T: Send + Sync + 'static> Follower<T> {
    async fn run(self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        loop {
            match self.list().await {
                Ok(revision) => {
                    backoff.reset();
                    self.shared.synced.send_replace(true);
                    self.follow(revision, &mut backoff).await;
                }
                Err(error) => {
                    tracing::warn!(resource = self.resource.plural, %error, "listing failed, trying again");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Brings the cache to one state of the server and returns its revision.
    async fn list(&self) -> Result<Revision, Error> {
        let mut gone: HashSet<ObjectKey> = self.shared.keys().into_iter().collect();
        let mut params = ListParams {
            label_selector: self.scope.label_selector.clone(),
            field_selector: self.scope.field_selector.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let page = self
                .client
                .list(self.resource, self.scope.namespace.as_deref(), params.clone())
                .await?;
            for object in &page.items {
                gone.remove(&object.key);
                self.apply(object, false);
            }
            if page.continue_token.is_empty() {
                gone.iter().for_each(|key| self.shared.remove(key));
                self.shared.reached(page.revision);
                return Ok(page.revision);
            }
            params.continue_token = page.continue_token;
        }
    }

    /// Watches on and on; returns when a new list is needed.
    async fn follow(&self, mut revision: Revision, backoff: &mut Backoff) {
        loop {
            let started = Instant::now();
            let error = self.watch_once(&mut revision).await.err();
            match error {
                Some(error) if error.is_expired() => return,
                // Any other refusal of the server may mean that it knows no such revision.
                Some(Error::Status(status)) if matches!(status.code, 400 | 404) => {
                    tracing::warn!(resource = self.resource.plural, %status, "watch refused, listing again");
                    tokio::time::sleep(backoff.next()).await;
                    return;
                }
                Some(error) => tracing::debug!(resource = self.resource.plural, %error, "watch ended, resuming"),
                None => {}
            }
            if started.elapsed() > SHORT_WATCH {
                backoff.reset();
            } else {
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }

    async fn watch_once(&self, revision: &mut Revision) -> Result<(), Error> {
        let request = WatchRequest {
            resource: self.resource,
            namespace: self.scope.namespace.clone(),
            label_selector: self.scope.label_selector.clone(),
            field_selector: self.scope.field_selector.clone(),
            from: *revision,
            bookmarks: true,
        };
        let mut events = self.client.watch(request).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            *revision = event.revision();
            match &event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => self.apply(object, true),
                WatchEvent::Deleted(object) => self.shared.remove(&object.key),
                WatchEvent::Bookmark(_) => {}
            }
            self.shared.reached(*revision);
        }
        Ok(())
    }

    fn apply(&self, object: &Arc<Object>, in_order: bool) {
        match (self.decode)(object) {
            Ok(value) => self.shared.put(
                object.key.clone(),
                Entry {
                    uid: object.uid.clone(),
                    revision: object.revision,
                    value: Arc::new(value),
                },
                in_order,
            ),
            Err(error) => {
                tracing::warn!(resource = self.resource.plural, key = %object.key, %error, "object left out of the cache");
                self.shared.remove(&object.key);
            }
        }
    }
}
