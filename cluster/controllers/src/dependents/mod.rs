//! What controllers that make pods for an owner share: which pods are whose, adoption and release, creation
//! and deletion that are not repeated before the cache shows them, and the writing of the status.

pub(crate) mod revisions;
pub(crate) mod template;
pub(crate) mod update;

use crate::{
    Error,
    claim::{self, Claim},
    context::{Context, orphans_of},
    error::{During, namespace_is_terminating},
    expectations::Expectations,
    tracked::{decode, value},
    views::Pod,
};
use futures::future::join_all;
use serde::Serialize;
use serde_json::{Value, json};
use std::{future::Future, sync::Arc, time::Duration};
use strata_client::{
    Change, Client, DeleteOptions, EventRecorder, EventType, Informer, ObjectReference, Patch, Resource, WorkQueue,
    resources::{JOBS, PODS, REPLICA_SETS},
};
use strata_meta::{LabelSelector, Object, ObjectKey, ObjectMeta, Selector, Uid};

/// Reconciles at a time, as upstream.
const WORKERS: usize = 5;
/// At most so many pods are created or deleted in one reconcile, as upstream.
pub(crate) const BURST: usize = 500;

/// A kind whose objects manage pods.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub resource: Resource,
    pub controller: &'static str,
    pub queue: &'static str,
    /// Which pods an owner may manage; none if it says nothing usable.
    pub selector: fn(&Object) -> Option<Selector>,
    /// What an owner's pods carry until it lets them go.
    pub finalizer: Option<&'static str>,
}

/// The metadata of any object.
#[derive(serde::Deserialize)]
struct Metadata {
    metadata: ObjectMeta,
}

/// The owners of one kind and their pods.
pub(crate) struct Manager {
    pub row: Row,
    pub client: Client,
    pub events: EventRecorder,
    pub owners: Informer<Arc<Object>>,
    pub queue: WorkQueue<ObjectKey>,
    /// Pods created and deleted.
    pub expectations: Expectations,
    pub status_writes: Expectations,
    pub context: Arc<Context>,
}

impl Manager {
    /// Follows the owners and the pods: an owner is queued when it or one of its pods changes.
    pub fn new(context: &Arc<Context>, row: Row) -> Arc<Self> {
        let owners = match row.resource {
            REPLICA_SETS => context.replica_sets.clone(),
            JOBS => context.jobs.clone(),
            other => context.objects(other),
        };
        let manager = Arc::new(Self {
            row,
            client: context.client(row.controller),
            events: context.events(row.controller),
            owners,
            queue: context.queue(row.queue),
            expectations: Expectations::default(),
            status_writes: Expectations::default(),
            context: context.clone(),
        });
        let follow = manager.clone();
        manager
            .owners
            .on_change(move |change| follow.queue.add(change.key.clone()));
        let follow = manager.clone();
        context.pods.on_change(move |change| follow.pod_changed(change));
        manager
    }

    /// Works on the queue once the caches, and whatever else is to be waited for, are filled.
    pub fn run<F, Fut>(self: &Arc<Self>, more: impl Future<Output = ()> + Send + 'static, reconcile: F)
    where
        F: Fn(ObjectKey) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Duration>, Error>> + Send,
    {
        let (owners, pods) = (self.owners.clone(), self.context.pods.clone());
        let ready = async move {
            owners.synced().await;
            pods.synced().await;
            more.await;
        };
        self.context.run(&self.queue, WORKERS, ready, reconcile);
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        for pod in [&change.old, &change.new].into_iter().flatten() {
            if let Some(key) = self.owner_of(pod) {
                self.queue.add(key);
            }
        }
        let Some(new) = &change.new else { return };
        let adoptable = new.controller().is_none() && !new.deleting;
        let same = |old: &Arc<Pod>| old.labels == new.labels && old.controller().is_none();
        if adoptable && !change.old.as_ref().is_some_and(same) {
            self.matching(new).into_iter().for_each(|key| self.queue.add(key));
        }
    }

    /// The owner that an object's controller reference names, if it is of this kind and still that one.
    pub fn owner_of(&self, dependent: &Object) -> Option<ObjectKey> {
        let reference = dependent.controller()?;
        if !self.row.resource.is_kind(&reference.api_version, &reference.kind) {
            return None;
        }
        let key = ObjectKey::new(dependent.namespace(), &reference.name);
        let owner = self.owners.get(&key)?;
        (owner.uid == reference.uid).then_some(key)
    }

    /// Owners that might adopt a pod.
    fn matching(&self, pod: &Object) -> Vec<ObjectKey> {
        let same_namespace = self.owners.select(|key, _| key.namespace == pod.key.namespace);
        let selects = |owner: &Arc<Object>| (self.row.selector)(owner).is_some_and(|s| s.matches_object(pod));
        same_namespace
            .into_iter()
            .filter(|(_, owner)| selects(owner))
            .map(|(key, _)| key)
            .collect()
    }

    /// The owner, unless it is gone; then what was remembered of it goes too.
    pub fn owner(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        let owner = self.owners.get(key).map(|owner| (*owner).clone());
        if owner.is_none() {
            self.expectations.forget(key);
            self.status_writes.forget(key);
        }
        owner
    }

    /// Whether the caches show everything that was done for an owner.
    pub fn is_settled(&self, owner: &Object) -> bool {
        let revision = self.context.pods.revision();
        let is_gone = |uid: &Uid| {
            let pods = self.context.pods_by_owner.get(owner.uid.as_str());
            pods.iter().find(|pod| pod.uid == *uid).is_none_or(|pod| pod.deleting)
        };
        self.expectations.are_met(&owner.key, revision, is_gone)
            && self.status_writes.are_met(&owner.key, self.owners.revision(), |_| true)
    }

    /// The pods that an owner manages or might adopt.
    pub fn candidates(&self, owner: &Object) -> Vec<Arc<Pod>> {
        let mut pods = self.context.pods_by_owner.get(owner.uid.as_str());
        pods.extend(self.context.pods_by_owner.get(&orphans_of(owner.namespace())));
        pods
    }

    /// Adopts and releases; returns those of the pods that are the owner's.
    pub async fn claim(&self, owner: &Object, selector: &Selector, pods: &[Arc<Pod>]) -> Result<Vec<Arc<Pod>>, Error> {
        let mut mine = Vec::new();
        let mut may_adopt = None;
        for pod in pods {
            let claimed = match claim::decide(&owner.uid, owner.deleting, selector, pod) {
                Claim::Keep => true,
                Claim::Ignore => false,
                Claim::Release => self
                    .patch_owner(pod, self.removal(pod, &owner.uid)?)
                    .await
                    .map(|_| false)?,
                Claim::Adopt => {
                    if may_adopt.is_none() {
                        may_adopt = Some(self.is_still_there(owner).await?);
                    }
                    may_adopt == Some(true) && self.patch_owner(pod, self.adoption(owner, pod)).await?
                }
            };
            if claimed {
                mine.push(pod.clone());
            }
        }
        Ok(mine)
    }

    fn adoption(&self, owner: &Object, pod: &Pod) -> Patch {
        let mut body = claim::adoption(owner, pod);
        if let (Patch::Strategic(body), Some(finalizer)) = (&mut body, self.row.finalizer) {
            body["metadata"]["finalizers"] = json!([finalizer]);
        }
        body
    }

    /// What an owner lets go, it does not hold back either.
    fn removal(&self, pod: &Pod, owner: &Uid) -> Result<Patch, Error> {
        let mut body = claim::removal(pod, &[owner]);
        if let (Patch::Merge(body), Some(finalizer)) = (&mut body, self.row.finalizer) {
            let mut finalizers = decode::<Metadata>(pod)?.metadata.finalizers;
            finalizers.retain(|name| name != finalizer);
            body["metadata"]["finalizers"] = json!(finalizers);
        }
        Ok(body)
    }

    /// Reads the owner from the server: on the word of a stale cache, nothing may be adopted or
    /// made for an owner that is going.
    pub async fn is_still_there(&self, owner: &Object) -> Result<bool, Error> {
        let read = self
            .client
            .get(self.row.resource, owner.namespace(), owner.name())
            .await;
        let fresh = match read {
            Err(error) if error.is_not_found() => return Ok(false),
            read => read.during(|| format!("reading {}", owner.key))?,
        };
        Ok(fresh.uid == owner.uid && !fresh.deleting)
    }

    /// Whether the pod was there to be patched.
    async fn patch_owner(&self, pod: &Pod, patch: Patch) -> Result<bool, Error> {
        match self.client.patch(PODS, pod.namespace(), pod.name(), None, patch).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            // Another life of the name: the precondition on the uid failed.
            Err(error) if error.status().is_some_and(|s| s.code == 422) => Ok(false),
            Err(error) => Err(error).during(|| format!("changing the owner of pod {}", pod.key)),
        }
    }

    /// Creates in batches of one, two, four and so on, so that what fails once does not fail
    /// hundreds of times.
    pub async fn create_pods(&self, owner: &Object, pods: &[&Value]) -> Result<(), Error> {
        let (mut rest, mut batch) = (pods, 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            for result in join_all(now.iter().map(|pod| self.create_pod(owner, pod))).await {
                result?;
            }
            rest = later;
            batch *= 2;
        }
        Ok(())
    }

    /// Creates one and tells of it.
    pub async fn create_pod(&self, owner: &Object, pod: &Value) -> Result<(), Error> {
        let about = ObjectReference::of(owner);
        match self.client.create(PODS, owner.namespace(), pod).await {
            Ok(created) => {
                self.expectations.wrote(&owner.key, created.revision);
                let message = format!("Created pod: {}", created.name());
                self.events
                    .event(&about, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) if namespace_is_terminating(&error) => Ok(()),
            Err(error) => {
                self.events.event(
                    &about,
                    EventType::Warning,
                    "FailedCreate",
                    format!("Error creating: {error}"),
                );
                Err(error).during(|| "creating a pod".to_owned())
            }
        }
    }

    /// Deletes all of them at once; the first failure is returned.
    pub async fn delete_pods(&self, owner: &Object, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let results = join_all(pods.iter().map(|pod| self.delete_pod(owner, pod))).await;
        results.into_iter().collect()
    }

    /// Deletes one and tells of it; one that is gone is deleted.
    pub async fn delete_pod(&self, owner: &Object, pod: &Pod) -> Result<(), Error> {
        let about = ObjectReference::of(owner);
        self.expectations.deleting(&owner.key, &pod.uid);
        match self
            .client
            .delete(PODS, pod.namespace(), pod.name(), DeleteOptions::only(&pod.uid))
            .await
        {
            Ok(()) => {
                let message = format!("Deleted pod: {}", pod.name());
                self.events
                    .event(&about, EventType::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) => {
                self.expectations.not_deleted(&owner.key, &pod.uid);
                if error.is_not_found() || error.is_conflict() {
                    return Ok(());
                }
                self.events.event(
                    &about,
                    EventType::Warning,
                    "FailedDelete",
                    format!("Error deleting: {error}"),
                );
                Err(error).during(|| format!("deleting pod {}", pod.key))
            }
        }
    }

    /// Writes a status that differs from the present one.
    pub async fn write_status(&self, owner: &Object, status: &impl Serialize) -> Result<(), Error> {
        let mut whole = value(owner)?;
        whole["status"] = json!(status);
        match self
            .client
            .update_status(self.row.resource, owner.namespace(), owner.name(), &whole)
            .await
        {
            Ok(written) => {
                self.status_writes.wrote(&owner.key, written.revision);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error).during(|| format!("writing the status of {}", owner.key)),
        }
    }
}

/// The LabelSelector at `spec.selector`; one that would select everything selects nothing.
pub(crate) fn label_selector(owner: &Object) -> Option<Selector> {
    #[derive(serde::Deserialize)]
    struct Wire {
        spec: Spec,
    }
    #[derive(serde::Deserialize)]
    struct Spec {
        selector: LabelSelector,
    }
    let selector = owner.decode::<Wire>().ok()?.spec.selector.to_selector().ok()?;
    (!selector.is_everything()).then_some(selector)
}

/// Seconds until the next of these ready pods becomes available.
pub(crate) fn next_availability(min_ready_seconds: i64, pods: &[Arc<Pod>], now: strata_meta::Time) -> Option<Duration> {
    let waits = pods
        .iter()
        .filter(|pod| pod.view.ready && !pod.view.is_available(min_ready_seconds, now))
        .map(|pod| {
            let since = pod.view.ready_since.unwrap_or(now);
            u64::try_from((min_ready_seconds - now.seconds_since(since)).max(1)).unwrap_or(1)
        });
    waits.min().map(Duration::from_secs)
}
