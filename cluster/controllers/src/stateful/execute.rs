//! Does what was decided for one stateful set.

use super::{
    Controller,
    claims::{Owners, belongs_to_former},
    decide::{Action, Seen},
    pod,
    types::{ClaimTemplate, StatefulSet},
};
use crate::{
    Error,
    dependents::{
        label_selector, next_availability,
        revisions::{self, HASH_LABEL, History},
        template::Template,
    },
    error::{During, namespace_is_terminating},
    expectations::LOOK_AGAIN,
    tracked::{decode, value},
    views::Pod,
};
use futures::future::join_all;
use serde::Deserialize;
use serde_json::json;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use strata_client::{
    DeleteOptions, EventType, ObjectReference, Patch,
    resources::{PERSISTENT_VOLUME_CLAIMS, PODS},
};
use strata_meta::{Object, ObjectError, ObjectKey};

/// Where a revision keeps the hash that its name ends in.
const REVISION_HASH: &str = "controller.kubernetes.io/hash";

/// One set at work.
struct Work<'a> {
    controller: &'a Controller,
    owner: &'a Object,
    set: &'a StatefulSet,
    history: &'a History,
    /// The revision that is being left.
    current: &'a revisions::Revision,
}

impl Controller {
    pub(super) async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let manager = &self.manager;
        let Some(owner) = manager.owner(&key) else {
            return Ok(None);
        };
        if !manager.is_settled(&owner) {
            return Ok(Some(LOOK_AGAIN));
        }
        let set: StatefulSet = decode(&owner)?;
        let Some(selector) = label_selector(&owner) else {
            return Ok(None);
        };
        let named = |pod: &Arc<Pod>| pod.controller().is_some() || set.ordinal(pod.name()).is_some();
        let candidates: Vec<Arc<Pod>> = manager.candidates(&owner).into_iter().filter(named).collect();
        let pods = manager.claim(&owner, &selector, &candidates).await?;
        let history = revisions::record(manager, &owner, &selector, REVISION_HASH).await?;
        let named_current = |revision: &&revisions::Revision| revision.object.name() == set.status.current_revision;
        let current = history.revisions.iter().find(named_current);
        let work = Work {
            controller: &self,
            owner: &owner,
            set: &set,
            history: &history,
            current: current.unwrap_or(history.update()),
        };
        work.run(&pods).await
    }
}

impl Work<'_> {
    async fn run(&self, pods: &[Arc<Pod>]) -> Result<Option<Duration>, Error> {
        let manager = &self.controller.manager;
        let mut numbered: Vec<(i64, Arc<Pod>)> = pods
            .iter()
            .filter_map(|pod| Some((self.set.ordinal(pod.name())?, pod.clone())))
            .collect();
        numbered.sort_by_key(|(ordinal, _)| *ordinal);
        let now = manager.context.now();
        let (current, update) = (self.current.object.name(), self.history.update().object.name());
        let seen = Seen {
            set: self.set,
            pods: &numbered,
            current,
            update,
            now,
            is_stale: &|ordinal| self.is_stale(ordinal),
            are_owned: &|ordinal, pod| self.are_owned(ordinal, pod),
        };
        let actions = match self.owner.deleting {
            true => Vec::new(),
            false => seen.plan(),
        };
        let done = self.carry_out(&actions).await;
        let status = seen.status(self.history.collisions, &actions);
        if self.set.status != status {
            manager.write_status(self.owner, &status).await?;
        }
        let live = [current, update].into_iter();
        let live: BTreeSet<String> = live
            .chain(pods.iter().filter_map(|pod| pod.label(HASH_LABEL)))
            .map(str::to_owned)
            .collect();
        revisions::truncate(manager, self.history, &live, self.set.spec.revision_history_limit).await?;
        done?;
        Ok(next_availability(self.set.spec.min_ready_seconds, pods, now))
    }

    /// One after another, or where the order does not matter in batches of one, two, four and so on.
    async fn carry_out(&self, actions: &[Action]) -> Result<(), Error> {
        let (mut rest, mut batch) = (actions, 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            let results = join_all(now.iter().map(|action| self.act(action))).await;
            results.into_iter().collect::<Result<(), Error>>()?;
            rest = later;
            if !self.set.is_ordered() {
                batch *= 2;
            }
        }
        Ok(())
    }

    async fn act(&self, action: &Action) -> Result<(), Error> {
        match action {
            Action::Create { ordinal } => self.create(*ordinal).await,
            Action::Claims { ordinal } => self.make_claims(*ordinal).await,
            Action::Mend(pod) => self.mend(pod).await,
            Action::Own(pod) => self.own_claims(pod).await,
            Action::Delete(pod) => self.delete(pod).await,
        }
    }

    fn tell(&self, verb: &str, pod: &str, result: Result<(), String>) {
        let (events, about, set) = (
            &self.controller.manager.events,
            ObjectReference::of(self.owner),
            self.owner.name(),
        );
        match result {
            Ok(()) => {
                let message = format!("{verb} Pod {pod} in StatefulSet {set} successful");
                events.event(&about, EventType::Normal, format!("Successful{verb}"), message);
            }
            Err(why) => {
                let message = format!("{verb} Pod {pod} in StatefulSet {set} failed error: {why}");
                events.event(&about, EventType::Warning, format!("Failed{verb}"), message);
            }
        }
    }

    async fn create(&self, ordinal: i64) -> Result<(), Error> {
        let manager = &self.controller.manager;
        if !manager.is_still_there(self.owner).await? {
            return Ok(());
        }
        let name = self.set.pod_name(ordinal);
        if let Err(error) = self.make_claims(ordinal).await {
            self.tell("Create", &name, Err(error.to_string()));
            return Err(error);
        }
        let revision = match self.set.starts_current(ordinal) {
            true => self.current,
            false => self.history.update(),
        };
        let template = Template::deserialize(&revision.template).map_err(|source| Error::Object {
            key: revision.object.key.to_string(),
            source: ObjectError::from(source),
        })?;
        let body = pod::pod(self.owner, self.set, &template, revision.object.name(), ordinal);
        match manager.client.create(PODS, self.owner.namespace(), &body).await {
            Ok(created) => {
                manager.expectations.wrote(&self.owner.key, created.revision);
                self.tell("Create", &name, Ok(()));
                Ok(())
            }
            Err(error) if namespace_is_terminating(&error) => Ok(()),
            Err(error) => {
                if !error.is_already_exists() {
                    self.tell("Create", &name, Err(error.to_string()));
                }
                Err(error).during(|| format!("creating pod {name}"))
            }
        }
    }

    async fn delete(&self, pod: &Pod) -> Result<(), Error> {
        let manager = &self.controller.manager;
        manager.expectations.deleting(&self.owner.key, &pod.uid);
        let options = DeleteOptions::only(&pod.uid);
        match manager.client.delete(PODS, pod.namespace(), pod.name(), options).await {
            Ok(()) => self.tell("Delete", pod.name(), Ok(())),
            Err(error) => {
                manager.expectations.not_deleted(&self.owner.key, &pod.uid);
                if !error.is_not_found() && !error.is_conflict() {
                    self.tell("Delete", pod.name(), Err(error.to_string()));
                    return Err(error).during(|| format!("deleting pod {}", pod.key));
                }
            }
        }
        Ok(())
    }

    /// Labels a pod as one of this set's, and sees to its claims. Volumes of a pod cannot be changed.
    async fn mend(&self, pod: &Pod) -> Result<(), Error> {
        let Some(ordinal) = self.set.ordinal(pod.name()) else {
            return Ok(());
        };
        self.make_claims(ordinal).await?;
        self.own_claims(pod).await?;
        let mut body = json!({"metadata": {"uid": pod.uid}});
        pod::identify(&mut body, self.set, ordinal);
        if pod::is_its_own(self.set, pod, ordinal) {
            return Ok(());
        }
        let manager = &self.controller.manager;
        let patched = manager
            .client
            .patch(PODS, pod.namespace(), pod.name(), None, Patch::Merge(body))
            .await;
        match patched {
            Ok(_) => self.tell("Update", pod.name(), Ok(())),
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                self.tell("Update", pod.name(), Err(error.to_string()));
                return Err(error).during(|| format!("updating pod {}", pod.key));
            }
        }
        Ok(())
    }

    fn claim(&self, template: &ClaimTemplate, ordinal: i64) -> Option<Arc<Object>> {
        let name = self.set.claim_name(template, ordinal);
        let found = self
            .controller
            .claims
            .get(&ObjectKey::new(self.owner.namespace(), &name));
        found.map(|claim| (*claim).clone())
    }

    /// The claims of an ordinal that are there.
    fn claims(&self, ordinal: i64) -> impl Iterator<Item = Arc<Object>> {
        let templates = self.set.spec.volume_claim_templates.iter();
        templates.filter_map(move |template| self.claim(template, ordinal))
    }

    /// Whether a claim of a missing pod goes with the pod's former life.
    fn is_stale(&self, ordinal: i64) -> bool {
        let name = self.set.pod_name(ordinal);
        self.set.deletes_claims().1 && self.claims(ordinal).any(|claim| belongs_to_former(&claim, &name, None))
    }

    fn owners<'a>(&'a self, ordinal: i64, pod: &'a Pod) -> Owners<'a> {
        Owners {
            object: self.owner,
            set: self.set,
            pod,
            ordinal,
        }
    }

    fn are_owned(&self, ordinal: i64, pod: &Pod) -> bool {
        let owners = self.owners(ordinal, pod);
        self.claims(ordinal).all(|claim| owners.are_right(&claim))
    }

    async fn own_claims(&self, pod: &Pod) -> Result<(), Error> {
        let Some(ordinal) = self.set.ordinal(pod.name()) else {
            return Ok(());
        };
        let owners = self.owners(ordinal, pod);
        let manager = &self.controller.manager;
        for claim in self.claims(ordinal).filter(|claim| !owners.are_right(claim)) {
            if owners.is_managed_by_others(&claim) {
                let message = format!(
                    "PersistentVolumeClaim {} is managed by another controller, so the retention policy is not applied to it",
                    claim.name()
                );
                let about = ObjectReference::of(self.owner);
                manager
                    .events
                    .event(&about, EventType::Warning, "ConflictingController", message);
            }
            let mut body = value(&claim)?;
            body["metadata"]["ownerReferences"] = json!(owners.right(&claim));
            let (namespace, name) = (claim.namespace(), claim.name());
            let updated = manager
                .client
                .update(PERSISTENT_VOLUME_CLAIMS, namespace, name, &body)
                .await;
            match updated {
                Err(error) if !error.is_not_found() => {
                    return Err(error).during(|| format!("changing the owners of claim {name}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the claims of an ordinal that are not there.
    async fn make_claims(&self, ordinal: i64) -> Result<(), Error> {
        let manager = &self.controller.manager;
        let (pod, set) = (self.set.pod_name(ordinal), self.owner.name());
        for template in &self.set.spec.volume_claim_templates {
            if let Some(claim) = self.claim(template, ordinal) {
                if claim.deleting {
                    return Err(Error::Incomplete(format!("pvc {} is being deleted", claim.name())));
                }
                continue;
            }
            let body = pod::claim(self.set, template, ordinal);
            let name = self.set.claim_name(template, ordinal);
            let about = ObjectReference::of(self.owner);
            let created = manager
                .client
                .create(PERSISTENT_VOLUME_CLAIMS, self.owner.namespace(), &body)
                .await;
            match created {
                Ok(_) => {
                    let message = format!("Create Claim {name} Pod {pod} in StatefulSet {set} success");
                    manager
                        .events
                        .event(&about, EventType::Normal, "SuccessfulCreate", message);
                }
                // The cache is late.
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    let message =
                        format!("Create Claim {name} for Pod {pod} in StatefulSet {set} failed error: {error}");
                    manager
                        .events
                        .event(&about, EventType::Warning, "FailedCreate", message);
                    return Err(error).during(|| format!("creating claim {name}"));
                }
            }
        }
        Ok(())
    }
}
