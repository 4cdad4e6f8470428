//! Does what was decided for one replica set.

use super::{
    Engine,
    decide::{self, ReplicaSet, ReplicaStatus, Seen, Step},
};
use crate::{
    Error,
    claim::{self, Claim},
    error::{During, namespace_is_terminating},
    expectations::LOOK_AGAIN,
    tracked::{decode, value},
    views::Pod,
};
use futures::future::join_all;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_client::{DeleteOptions, EventType, ObjectReference, resources::PODS};
use strata_meta::{Object, ObjectKey, Selector, Uid};

impl Engine {
    pub(super) async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(owner) = self.owners.get(&key).map(|o| Arc::clone(&o)) else {
            self.expectations.forget(&key);
            self.status_writes.forget(&key);
            return Ok(None);
        };
        let in_cache = self
            .expectations
            .are_met(&key, self.context.pods.revision(), |uid| self.is_gone(&owner, uid));
        if !in_cache || !self.status_writes.are_met(&key, self.owners.revision(), |_| true) {
            return Ok(Some(LOOK_AGAIN));
        }
        let set: ReplicaSet = decode(&owner)?;
        let selector = match set.selector() {
            Ok(selector) => selector,
            Err(error) => {
                tracing::debug!(%key, %error, "invalid selector");
                return Ok(None);
            }
        };
        let pods = self.candidates(&owner);
        let active = self.claim(&owner, &selector, &pods).await?;
        let failure = match owner.deleting {
            true => None,
            false => self.scale(&owner, &set, &active).await.err(),
        };
        let now = self.context.now();
        let terminating = self
            .row
            .tells_terminating
            .then(|| count_terminating(&owner, &selector, &pods));
        let failure_text = failure.as_ref().map(ToString::to_string);
        let status = decide::status(
            &set,
            &Seen {
                active: &active,
                terminating,
                failure: failure_text,
                now,
            },
        );
        self.write_status(&owner, &set, &status).await?;
        match failure {
            Some(error) => Err(error),
            None => Ok(decide::next_availability(&set, &active, now).map(Duration::from_secs)),
        }
    }

    fn is_gone(&self, owner: &Object, uid: &Uid) -> bool {
        let pods = self.context.pods_by_owner.get(owner.uid.as_str());
        pods.iter().find(|pod| pod.uid == *uid).is_none_or(|pod| pod.deleting)
    }

    /// Adopts and releases; returns the active pods that are the owner's.
    async fn claim(&self, owner: &Object, selector: &Selector, pods: &[Arc<Pod>]) -> Result<Vec<Arc<Pod>>, Error> {
        let mut mine = Vec::new();
        let mut may_adopt = None;
        for pod in pods.iter().filter(|pod| pod.view.is_active()) {
            let claimed = match claim::decide(&owner.uid, owner.deleting, selector, pod) {
                Claim::Keep => true,
                Claim::Ignore => false,
                Claim::Release => self
                    .patch_owner(pod, claim::removal(pod, &[&owner.uid]))
                    .await
                    .map(|_| false)?,
                Claim::Adopt => {
                    if may_adopt.is_none() {
                        may_adopt = Some(self.is_still_there(owner).await?);
                    }
                    may_adopt == Some(true) && self.patch_owner(pod, claim::adoption(owner, pod)).await?
                }
            };
            if claimed {
                mine.push(pod.clone());
            }
        }
        Ok(mine)
    }

    /// Reads the owner from the server: on the word of a stale cache, nothing may be adopted or
    /// made for an owner that is going.
    async fn is_still_there(&self, owner: &Object) -> Result<bool, Error> {
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
    async fn patch_owner(&self, pod: &Pod, patch: strata_client::Patch) -> Result<bool, Error> {
        match self.client.patch(PODS, pod.namespace(), pod.name(), None, patch).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            // Another life of the name: the precondition on the uid failed.
            Err(error) if error.status().is_some_and(|s| s.code == 422) => Ok(false),
            Err(error) => Err(error).during(|| format!("changing the owner of pod {}", pod.key)),
        }
    }

    async fn scale(&self, owner: &Arc<Object>, set: &ReplicaSet, active: &[Arc<Pod>]) -> Result<(), Error> {
        match decide::step(set.replicas(), active, || self.related(owner), self.context.now()) {
            Step::Nothing => Ok(()),
            // Pods may be missing because the owner is going: the cache of pods can be ahead.
            Step::Create(_) if !self.is_still_there(owner).await? => Ok(()),
            Step::Create(count) => self.create_pods(owner, set, count).await,
            Step::Delete(pods) => self.delete_pods(owner, &pods).await,
        }
    }

    /// Creates in batches of one, two, four and so on, so that what fails once does not fail
    /// hundreds of times.
    async fn create_pods(&self, owner: &Object, set: &ReplicaSet, count: usize) -> Result<(), Error> {
        let pod = pod_of(owner, set);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let size = batch.min(left);
            for result in join_all((0..size).map(|_| self.create_pod(owner, &pod))).await {
                result?;
            }
            left -= size;
            batch *= 2;
        }
        Ok(())
    }

    async fn create_pod(&self, owner: &Object, pod: &Value) -> Result<(), Error> {
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

    async fn delete_pods(&self, owner: &Object, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let results = join_all(pods.iter().map(|pod| self.delete_pod(owner, pod))).await;
        results.into_iter().collect()
    }

    async fn delete_pod(&self, owner: &Object, pod: &Pod) -> Result<(), Error> {
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

    async fn write_status(&self, owner: &Object, set: &ReplicaSet, status: &ReplicaStatus) -> Result<(), Error> {
        if set.status == *status {
            return Ok(());
        }
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

fn count_terminating(owner: &Object, selector: &Selector, pods: &[Arc<Pod>]) -> usize {
    let mine = |pod: &&Arc<Pod>| {
        let managed = pod.controller().is_some_and(|c| c.uid == owner.uid);
        managed && selector.matches_object(pod) && pod.deleting && !pod.view.phase.is_terminal()
    };
    pods.iter().filter(mine).count()
}

/// The pod that a template stands for.
fn pod_of(owner: &Object, set: &ReplicaSet) -> Value {
    let template = &set.spec.template;
    let mut metadata = json!({
        "generateName": format!("{}-", owner.name()),
        "ownerReferences": [claim::reference(owner)],
    });
    if !template.metadata.labels.is_empty() {
        metadata["labels"] = json!(template.metadata.labels);
    }
    if !template.metadata.annotations.is_empty() {
        metadata["annotations"] = json!(template.metadata.annotations);
    }
    if !template.metadata.finalizers.is_empty() {
        metadata["finalizers"] = json!(template.metadata.finalizers);
    }
    json!({"metadata": metadata, "spec": template.spec})
}
