//! Does what was planned for one deployment.

use super::{
    Controller,
    plan::{Action, Plan, plan, with_hash},
    progress,
    types::{Annotations, Deployment, REVISION, Set, Status},
};
use crate::{
    Error,
    claim::{self, Claim},
    dependents::template,
    error::{During, namespace_is_terminating},
    expectations::LOOK_AGAIN,
    tracked::{decode, value},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_client::{DeleteOptions, EventType, ObjectReference, Patch, resources::*};
use strata_meta::{Object, ObjectKey, Selector};

impl Controller {
    pub(super) async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(object) = self.deployments.get(&key).map(|o| (*o).clone()) else {
            self.set_writes.forget(&key);
            self.status_writes.forget(&key);
            return Ok(None);
        };
        let sets_seen = self
            .set_writes
            .are_met(&key, self.context.replica_sets.revision(), |_| true);
        if !sets_seen || !self.status_writes.are_met(&key, self.deployments.revision(), |_| true) {
            return Ok(Some(LOOK_AGAIN));
        }
        let deployment: Deployment = decode(&object)?;
        let selector = match deployment.spec.selector.to_selector() {
            Ok(selector) if !selector.is_everything() => selector,
            _ => return self.refuse_selector(&object, deployment).await.map(|()| None),
        };
        let objects = self.claim(&object, &selector).await?;
        let read = |set: &Arc<Object>| Set::read(set);
        let sets: Result<Vec<Set>, _> = objects.iter().map(read).collect();
        let sets = sets.map_err(|source| Error::Object {
            key: key.to_string(),
            source,
        })?;
        let has_pods = |uid: &strata_meta::Uid| {
            let pods = self.context.pods_by_owner.get(uid.as_str());
            pods.iter().any(|pod| !pod.view.phase.is_terminal())
        };
        let planned = plan(deployment.clone(), sets, has_pods, self.context.now());
        self.execute(&object, deployment, &objects, planned).await
    }

    /// A deployment that would select every pod does nothing but say so.
    async fn refuse_selector(&self, object: &Object, mut deployment: Deployment) -> Result<(), Error> {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        self.events.event(
            &ObjectReference::of(object),
            EventType::Warning,
            "SelectingAll",
            message,
        );
        if deployment.status.observed_generation < deployment.metadata.generation {
            deployment.status.observed_generation = deployment.metadata.generation;
            self.write_status(object, &deployment.status, None).await?;
        }
        Ok(())
    }

    async fn claim(&self, owner: &Object, selector: &Selector) -> Result<Vec<Arc<Object>>, Error> {
        let mut mine = Vec::new();
        let mut may_adopt = None;
        for set in self.candidates(owner) {
            let claimed = match claim::decide(&owner.uid, owner.deleting, selector, &set) {
                Claim::Keep => true,
                Claim::Ignore => false,
                Claim::Release => self
                    .patch_owner(owner, &set, claim::removal(&set, &[&owner.uid]))
                    .await
                    .map(|_| false)?,
                Claim::Adopt => {
                    if may_adopt.is_none() {
                        may_adopt = Some(self.is_still_there(owner).await?);
                    }
                    may_adopt == Some(true) && self.patch_owner(owner, &set, claim::adoption(owner, &set)).await?
                }
            };
            if claimed {
                mine.push(set);
            }
        }
        Ok(mine)
    }

    async fn is_still_there(&self, owner: &Object) -> Result<bool, Error> {
        let read = self.client.get(DEPLOYMENTS, owner.namespace(), owner.name()).await;
        let fresh = match read {
            Err(error) if error.is_not_found() => return Ok(false),
            read => read.during(|| format!("reading {}", owner.key))?,
        };
        Ok(fresh.uid == owner.uid && !fresh.deleting)
    }

    async fn patch_owner(&self, owner: &Object, set: &Object, patch: Patch) -> Result<bool, Error> {
        match self
            .client
            .patch(REPLICA_SETS, set.namespace(), set.name(), None, patch)
            .await
        {
            Ok(written) => {
                self.set_writes.wrote(&owner.key, written.revision);
                Ok(true)
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error).during(|| format!("changing the owner of replica set {}", set.key)),
        }
    }

    async fn execute(
        &self,
        object: &Arc<Object>,
        deployment: Deployment,
        sets: &[Arc<Object>],
        planned: Plan,
    ) -> Result<Option<Duration>, Error> {
        for action in planned.actions {
            match action {
                Action::Create {
                    name,
                    hash,
                    replicas,
                    annotations,
                } => {
                    // A set may be missing because the deployment is going: the cache of sets can be ahead.
                    if !self.is_still_there(object).await? {
                        return Ok(None);
                    }
                    let set = new_set(object, &deployment, (&name, &hash), replicas, &annotations)?;
                    if !self.create(object, &deployment, &set, (&name, replicas)).await? {
                        return Ok(Some(LOOK_AGAIN));
                    }
                }
                Action::Update {
                    name,
                    replicas,
                    annotations,
                    min_ready_seconds,
                } => {
                    let Some(set) = sets.iter().find(|s| s.name() == name) else {
                        continue;
                    };
                    let patch = update_of(set, replicas, &annotations, min_ready_seconds);
                    self.update(object, set, patch, replicas).await?;
                }
                Action::Delete { name } => {
                    let Some(set) = sets.iter().find(|s| s.name() == name) else {
                        continue;
                    };
                    let deleted =
                        self.client
                            .delete(REPLICA_SETS, set.namespace(), &name, DeleteOptions::only(&set.uid));
                    match deleted.await {
                        Err(error) if !error.is_not_found() => {
                            return Err(error).during(|| format!("deleting replica set {}", set.key));
                        }
                        _ => {}
                    }
                }
            }
        }
        if deployment.status != planned.status || planned.revision.is_some() {
            self.write_status(object, &planned.status, planned.revision.as_deref())
                .await?;
        }
        Ok(planned.again.map(Duration::from_secs))
    }

    /// Whether the set was made by this call; if not, things must be looked at again.
    async fn create(
        &self,
        object: &Object,
        deployment: &Deployment,
        set: &Value,
        (name, replicas): (&str, i32),
    ) -> Result<bool, Error> {
        let about = ObjectReference::of(object);
        match self.client.create(REPLICA_SETS, object.namespace(), set).await {
            Ok(created) => {
                self.set_writes.wrote(&object.key, created.revision);
                if replicas > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                    self.events
                        .event(&about, EventType::Normal, "ScalingReplicaSet", message);
                }
                Ok(true)
            }
            Err(error) if error.is_already_exists() => {
                self.name_is_taken(object, deployment, name).await.map(|()| false)
            }
            Err(error) if namespace_is_terminating(&error) => Ok(false),
            Err(error) => {
                let message = format!("Failed to create new replica set {name:?}: {error}");
                self.events
                    .event(&about, EventType::Warning, progress::CREATE_FAILED, message.clone());
                if deployment.progress_deadline().is_some() {
                    let mut status = deployment.status.clone();
                    let now = self.context.now();
                    let failed =
                        progress::condition(progress::PROGRESSING, "False", progress::CREATE_FAILED, message, now);
                    crate::conditions::set(&mut status.conditions, failed);
                    if status != deployment.status {
                        // The failure to create is the more important of the two.
                        let _ = self.write_status(object, &status, None).await;
                    }
                }
                Err(error).during(|| format!("creating replica set {name}"))
            }
        }
    }

    /// Either the cache is late, or another template has the same hash: then the next try
    /// uses another one.
    async fn name_is_taken(&self, object: &Object, deployment: &Deployment, name: &str) -> Result<(), Error> {
        let read = self.client.get(REPLICA_SETS, object.namespace(), name).await;
        let existing = read.during(|| format!("reading replica set {name}"))?;
        self.set_writes.wrote(&object.key, existing.revision);
        let set = Set::read(&existing).map_err(|source| Error::Object {
            key: existing.key.to_string(),
            source,
        })?;
        let mine = existing.controller().is_some_and(|c| c.uid == object.uid);
        if mine && template::equal(&set.template, &deployment.spec.template) {
            return Ok(());
        }
        let mut status = deployment.status.clone();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.write_status(object, &status, None).await
    }

    async fn update(
        &self,
        object: &Object,
        set: &Object,
        patch: Patch,
        replicas: Option<(i32, i32)>,
    ) -> Result<(), Error> {
        let written = self
            .client
            .patch(REPLICA_SETS, set.namespace(), set.name(), None, patch)
            .await;
        let written = written.during(|| format!("changing replica set {}", set.key))?;
        self.set_writes.wrote(&object.key, written.revision);
        if let Some((from, to)) = replicas {
            let direction = if from < to { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {} from {from} to {to}", set.name());
            self.events.event(
                &ObjectReference::of(object),
                EventType::Normal,
                "ScalingReplicaSet",
                message,
            );
        }
        Ok(())
    }

    async fn write_status(&self, object: &Object, status: &Status, revision: Option<&str>) -> Result<(), Error> {
        let mut whole = value(object)?;
        whole["status"] = json!(status);
        if let Some(revision) = revision {
            // Upstream too writes this annotation through the status.
            whole["metadata"]["annotations"][REVISION] = revision.into();
        }
        match self
            .client
            .update_status(DEPLOYMENTS, object.namespace(), object.name(), &whole)
            .await
        {
            Ok(written) => {
                self.status_writes.wrote(&object.key, written.revision);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error).during(|| format!("writing the status of {}", object.key)),
        }
    }
}

fn new_set(
    object: &Object,
    deployment: &Deployment,
    (name, hash): (&str, &str),
    replicas: i32,
    annotations: &Annotations,
) -> Result<Value, Error> {
    let mut template = deployment.spec.template.clone();
    let labels = with_hash(template.pointer("/metadata/labels"), hash);
    template["metadata"]["labels"] = labels.clone();
    let mut selector = json!(deployment.spec.selector);
    selector["matchLabels"] = with_hash(selector.get("matchLabels"), hash);
    let mut set = json!({
        "metadata": {
            "name": name,
            "namespace": object.namespace(),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [claim::reference(object)],
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    });
    if deployment.spec.min_ready_seconds > 0 {
        set["spec"]["minReadySeconds"] = deployment.spec.min_ready_seconds.into();
    }
    Ok(set)
}

fn update_of(
    set: &Object,
    replicas: Option<(i32, i32)>,
    annotations: &Annotations,
    min_ready_seconds: Option<i64>,
) -> Patch {
    let mut body = json!({"metadata": {"resourceVersion": set.revision.to_string()}});
    if !annotations.is_empty() {
        body["metadata"]["annotations"] = json!(annotations);
    }
    if let Some((_, to)) = replicas {
        body["spec"]["replicas"] = to.into();
    }
    if let Some(seconds) = min_ready_seconds {
        body["spec"]["minReadySeconds"] = seconds.into();
    }
    Patch::Merge(body)
}
