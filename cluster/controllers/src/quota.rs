//! The quota controller: keeps the status of ResourceQuotas true.
//!
//! Admission takes from a quota what a write will use. What is deleted, finished or failed to be written is given back
//! here, by counting again everything in the namespace. Only kinds that some quota names are followed.

use crate::{
    Error,
    context::{Context, SHARED_INFORMERS},
    error::During,
    tracked::{Index, undecoded, value},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant},
};
use strata_client::{
    Client, Informer, Resource, Scope as Following, WorkQueue,
    discovery::{Served, discover},
    resources::*,
};
use strata_meta::{Object, ObjectKey, Revision};
use strata_quota::{Amounts, Counted, Scope, is_ignored};

const CONTROLLER: &str = "resourcequota-controller";
const WORKERS: usize = 2;
/// Everything is counted again this often (as upstream).
const RESYNC: Duration = Duration::from_secs(300);
/// Objects often come and go several at a time.
const SETTLE: Duration = Duration::from_millis(50);
/// Definitions too, and their resources are served a moment later.
const DISCOVERY_SETTLE: Duration = Duration::from_millis(500);
/// Until the cache shows the write that was faster.
const OVERTAKEN: Duration = Duration::from_millis(20);
/// What admission took shows here as an object within this time of the quota's change, or never will.
const TRUST: Duration = Duration::from_millis(200);
/// A quota that never rests is lowered all the same.
const PATIENCE: Duration = Duration::from_secs(5);
/// A resource that cannot be listed does not hold the others back for longer.
const SYNC_DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn start(context: &Arc<Context>) {
    let quotas = context.objects(RESOURCE_QUOTAS);
    let definitions = context.objects(CUSTOM_RESOURCE_DEFINITIONS);
    let queue = context.queue("resourcequota_primary");
    let controller = Arc::new(Controller {
        client: context.client(CONTROLLER),
        waiting: Mutex::default(),
        by_namespace: Index::new(&quotas, |quota| vec![quota.namespace().into()]),
        quotas: quotas.clone(),
        definitions: definitions.clone(),
        served: RwLock::default(),
        followed: Mutex::default(),
        queue: queue.clone(),
        context: context.clone(),
    });
    let to = queue.clone();
    quotas.on_change(move |change| {
        // Admission changes what is used, all the time; that is no news.
        let wanted = |object: &Arc<Arc<Object>>| {
            object
                .to_value()
                .ok()
                .map(|v| (v["spec"].clone(), v["status"]["hard"].clone()))
        };
        if change.old.as_ref().map(wanted) != change.new.as_ref().map(wanted) {
            to.add(change.key.clone());
        }
    });
    let again = Arc::downgrade(&controller);
    definitions.on_change(move |_| {
        let Some(again) = again.upgrade() else { return };
        *again.served.write().expect("no holder panics") = None;
        for (key, _) in again.quotas.list() {
            again.queue.add_after(key, DISCOVERY_SETTLE);
        }
    });
    let ready = {
        let (quotas, definitions) = (quotas.clone(), controller.definitions.clone());
        async move {
            quotas.synced().await;
            definitions.synced().await;
        }
    };
    context.run(&queue, WORKERS, ready, move |key| controller.clone().reconcile(key));
}

/// The objects of one kind.
#[derive(Clone)]
struct Followed {
    informer: Informer<Arc<Object>>,
    by_namespace: Arc<Index<Arc<Object>>>,
}

/// A quota that is to be lowered once it has rested.
struct Waiting {
    since: Instant,
    revision: Revision,
    changed: Instant,
}

struct Controller {
    client: Client,
    waiting: Mutex<HashMap<ObjectKey, Waiting>>,
    quotas: Informer<Arc<Object>>,
    /// Tells when other resources are served.
    definitions: Informer<Arc<Object>>,
    by_namespace: Arc<Index<Arc<Object>>>,
    served: RwLock<Option<Arc<Vec<Resource>>>>,
    followed: Mutex<HashMap<Resource, Followed>>,
    queue: WorkQueue<ObjectKey>,
    context: Arc<Context>,
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(quota) = self.quotas.get(&key).filter(|q| !q.deleting) else {
            self.settled(&key);
            return Ok(None);
        };
        let revision = quota.revision;
        let mut quota = value(&quota)?;
        let hard = Amounts::read(quota["spec"].get("hard"));
        let scopes = Scope::read_all(&quota);
        let mut used = Amounts::read(quota["status"].get("used"));
        for resource in self.served().await?.iter() {
            let counted = Counted::of(resource.group, resource.plural);
            let own: Vec<&str> = hard.names().filter(|name| counted.is_own(name)).collect();
            if own.is_empty() {
                continue;
            }
            let sum = self.sum(*resource, &counted, &scopes, &key.namespace).await?;
            for name in own {
                used.set(name, sum.get(name).unwrap_or_default());
            }
        }
        let used = used.only(hard.names());
        let status = &quota["status"];
        let same = status["hard"].is_object() && status["used"].is_object();
        if same && Amounts::read(status.get("hard")) == hard && Amounts::read(status.get("used")) == used {
            self.settled(&key);
            return Ok(Some(RESYNC));
        }
        let before = Amounts::read(status.get("used"));
        let lowers = before
            .iter()
            .any(|(name, amount)| used.get(name).is_some_and(|now| now < amount));
        if lowers && let Some(wait) = self.unsettled(&key, revision) {
            return Ok(Some(wait));
        }
        self.settled(&key);
        quota["status"] = json!({"hard": hard.to_value(), "used": used.to_value()});
        match self.write(&key, &quota).await {
            Ok(()) => Ok(Some(RESYNC)),
            Err(error) if error.is_conflict() => Ok(Some(OVERTAKEN)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error).during(|| format!("writing the status of quota {key}")),
        }
    }

    /// How long a quota that is to be lowered has to rest yet. Admission changes a quota before it writes the object, so
    /// what was counted the moment after may lack one that is on its way; later changes of the quota refuse the write.
    fn unsettled(&self, key: &ObjectKey, revision: Revision) -> Option<Duration> {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        let now = Instant::now();
        let entry = waiting.entry(key.clone()).or_insert(Waiting {
            since: now,
            revision,
            changed: now,
        });
        if entry.revision != revision {
            (entry.revision, entry.changed) = (revision, now);
        }
        let rested = now.duration_since(entry.changed);
        let late = now.duration_since(entry.since) >= PATIENCE;
        (rested < TRUST && !late).then(|| TRUST - rested)
    }

    fn settled(&self, key: &ObjectKey) {
        self.waiting.lock().expect("no holder panics").remove(key);
    }

    async fn write(&self, key: &ObjectKey, quota: &Value) -> Result<(), strata_client::Error> {
        let (namespace, name) = (&key.namespace, &key.name);
        self.client
            .update_status(RESOURCE_QUOTAS, namespace, name, quota)
            .await
            .map(drop)
    }

    /// What the objects of a kind use together in a namespace.
    async fn sum(
        self: &Arc<Self>,
        resource: Resource,
        counted: &Counted,
        scopes: &[Scope],
        namespace: &str,
    ) -> Result<Amounts, Error> {
        let followed = self.follow(resource);
        if tokio::time::timeout(SYNC_DEADLINE, followed.informer.synced())
            .await
            .is_err()
        {
            return Err(Error::Incomplete(format!("{} cannot be listed", resource.plural)));
        }
        let now = self.context.now();
        let mut sum = Amounts::default();
        for object in followed.by_namespace.get(namespace) {
            let object = value(&object)?;
            if counted.in_scopes(scopes, &object) {
                sum.add(&counted.usage(&object, now));
            }
        }
        Ok(sum)
    }

    /// Follows a kind; whatever happens to its objects, the quotas of their namespaces are counted again.
    fn follow(self: &Arc<Self>, resource: Resource) -> Followed {
        let mut followed = self.followed.lock().expect("no holder panics");
        if let Some(found) = followed.get(&resource) {
            return found.clone();
        }
        let client = self.context.client(SHARED_INFORMERS);
        let cancel = self.context.cancel.clone();
        let informer = Informer::start_with(&client, resource, Following::default(), cancel, undecoded);
        let by_namespace = Index::new(&informer, |object| vec![object.namespace().into()]);
        let controller = Arc::downgrade(self);
        informer.on_change(move |change| {
            let Some(controller) = controller.upgrade() else { return };
            for quota in controller.by_namespace.get(&change.key.namespace) {
                // A quota's own changes are dealt with where quotas are followed.
                if resource != RESOURCE_QUOTAS || change.old.is_none() || change.new.is_none() {
                    controller.queue.add_after(quota.key.clone(), SETTLE);
                }
            }
        });
        let new = Followed { informer, by_namespace };
        followed.insert(resource, new.clone());
        new
    }

    /// Everything that lives in namespaces and can be counted; kinds that are gone are not followed any more.
    async fn served(&self) -> Result<Arc<Vec<Resource>>, Error> {
        if let Some(served) = &*self.served.read().expect("no holder panics") {
            return Ok(served.clone());
        }
        let discovered = discover(&self.client).await?;
        let is_countable = |served: &&Served| {
            let resource = served.resource;
            resource.namespaced
                && !is_ignored(resource.group, resource.plural)
                && ["create", "list", "watch", "delete"]
                    .iter()
                    .all(|verb| served.can(verb))
        };
        let found: Vec<Resource> = discovered
            .resources
            .iter()
            .filter(is_countable)
            .map(|s| s.resource)
            .collect();
        let found = Arc::new(found);
        let keep = found.clone();
        let mut followed = self.followed.lock().expect("no holder panics");
        followed.retain(|resource, _| keep.contains(resource));
        drop(followed);
        *self.served.write().expect("no holder panics") = Some(found.clone());
        Ok(found)
    }
}
