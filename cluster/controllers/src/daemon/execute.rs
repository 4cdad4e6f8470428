//! Does what was decided for one daemon set.

use super::{
    Controller,
    decide::{ByNode, Plan, Seen, failed},
    fit::{Fit, Wish, pod_for, pod_template, target},
    types::{DaemonSet, Status},
};
use crate::{
    Error,
    dependents::{
        BURST, label_selector, next_availability,
        revisions::{self, HASH_LABEL},
    },
    expectations::LOOK_AGAIN,
    tracked::decode,
    views::Pod,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use strata_client::{EventType, ObjectReference};
use strata_meta::{Object, ObjectError, ObjectKey};
use tokio::time::Instant;

impl Controller {
    pub(super) async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let manager = &self.manager;
        let Some(owner) = manager.owner(&key).filter(|owner| !owner.deleting) else {
            return Ok(None);
        };
        let set: DaemonSet = decode(&owner)?;
        let Some(selector) = label_selector(&owner) else {
            return self.refuse_selector(&owner, set).await.map(|()| None);
        };
        if !manager.is_settled(&owner) {
            return Ok(Some(LOOK_AGAIN));
        }
        let history = revisions::record(manager, &owner, &selector, HASH_LABEL).await?;
        let hash = history.update().object.label(HASH_LABEL).unwrap_or("").to_owned();
        let pods = manager.claim(&owner, &selector, &manager.candidates(&owner)).await?;
        let nodes = self.nodes(&owner, &set)?;
        let by_node = by_node(&pods);
        let seen = Seen {
            set: &set,
            nodes: &nodes,
            pods: &by_node,
            hash: &hash,
            now: manager.context.now(),
        };
        let done = self.carry_out(&owner, &seen).await;
        let live: BTreeSet<String> = live(&history, &pods);
        let done = match done {
            Ok(wait) => revisions::truncate(manager, &history, &live, set.spec.revision_history_limit)
                .await
                .map(|()| wait),
            failed => failed,
        };
        let status = seen.status(history.collisions, set.metadata.generation);
        if set.status != status {
            manager.write_status(&owner, &status).await?;
        }
        let available = next_availability(set.spec.min_ready_seconds, &pods, seen.now);
        Ok(done?.into_iter().chain(available).min())
    }

    /// A set that would select every pod does nothing but say so.
    async fn refuse_selector(&self, owner: &Object, set: DaemonSet) -> Result<(), Error> {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        let about = ObjectReference::of(owner);
        self.manager
            .events
            .event(&about, EventType::Warning, "SelectingAll", message);
        let status = Status {
            observed_generation: set.metadata.generation,
            ..set.status.clone()
        };
        match set.status == status {
            true => Ok(()),
            false => self.manager.write_status(owner, &status).await,
        }
    }

    fn nodes(&self, owner: &Object, set: &DaemonSet) -> Result<BTreeMap<String, Fit>, Error> {
        let wish = Wish::of(set).map_err(|source| Error::Object {
            key: owner.key.to_string(),
            source: ObjectError::from(source),
        })?;
        let nodes = self.manager.context.nodes.list();
        Ok(nodes
            .iter()
            .map(|(_, node)| (node.name().to_owned(), wish.fit(node)))
            .collect())
    }

    /// Does what the set needs, and rolls on where that was nothing.
    async fn carry_out(&self, owner: &Object, seen: &Seen<'_>) -> Result<Option<Duration>, Error> {
        let plan = seen.plan();
        let idle = plan.create.is_empty() && plan.delete.is_empty() && plan.ended.is_empty();
        let wait = self.apply(owner, seen, plan).await?;
        if idle && seen.set.rolls() {
            self.apply(owner, seen, seen.roll()).await?;
        }
        Ok(wait)
    }

    /// How long to wait for what was put off.
    async fn apply(&self, owner: &Object, seen: &Seen<'_>, plan: Plan) -> Result<Option<Duration>, Error> {
        let manager = &self.manager;
        let (mut delete, mut wait) = (plan.delete, None::<Duration>);
        for (node, pod) in plan.ended {
            match self.end(owner, seen.set, node, &pod) {
                None => delete.push(pod),
                Some(left) => wait = wait.into_iter().chain([left]).min(),
            }
        }
        if !plan.create.is_empty() && manager.is_still_there(owner).await? {
            let template = pod_template(owner, seen.set, seen.hash);
            let pods: Vec<Value> = plan
                .create
                .iter()
                .take(BURST)
                .map(|node| pod_for(&template, node))
                .collect();
            manager.create_pods(owner, &pods.iter().collect::<Vec<_>>()).await?;
        }
        delete.truncate(BURST);
        manager.delete_pods(owner, &delete).await?;
        Ok(wait)
    }

    /// Tells of a pod that ended by itself; how long it is kept yet if daemons of its node fail again and again.
    fn end(&self, owner: &Object, set: &DaemonSet, node: String, pod: &Pod) -> Option<Duration> {
        let about = ObjectReference::of(owner);
        let events = &self.manager.events;
        if !failed(pod) {
            let message = format!(
                "Found succeeded daemon pod {} on node {node}, will try to delete it",
                pod.key
            );
            events.event(&about, EventType::Normal, "SucceededDaemonPod", message);
            return None;
        }
        let message = format!(
            "Found failed daemon pod {} on node {node}, will try to kill it",
            pod.key
        );
        let key = (owner.uid.clone(), set.status.observed_generation, node);
        let left = self.backoff.next(key, Instant::now());
        if left.is_none() {
            events.event(&about, EventType::Warning, "FailedDaemonPod", message);
        }
        left
    }
}

fn by_node(pods: &[Arc<Pod>]) -> ByNode {
    let mut found = ByNode::new();
    let counts = |pod: &&Arc<Pod>| !(pod.deleting && pod.view.phase.is_terminal());
    for pod in pods.iter().filter(counts) {
        if let Some(node) = target(pod) {
            found.entry(node).or_default().push(pod.clone());
        }
    }
    found
}

/// The revisions that pods are of.
fn live(history: &revisions::History, pods: &[Arc<Pod>]) -> BTreeSet<String> {
    let hashes: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.label(HASH_LABEL)).collect();
    let is_live = |revision: &&revisions::Revision| {
        let hash = revision.object.label(HASH_LABEL);
        hash.is_some_and(|hash| hashes.contains(hash))
    };
    let live = history.revisions.iter().filter(is_live);
    live.map(|revision| revision.object.name().to_owned()).collect()
}
