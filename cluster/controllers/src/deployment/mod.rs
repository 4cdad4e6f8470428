//! Deployments: rollouts by scaling replica sets.

mod execute;
mod plan;
#[cfg(test)]
mod plan_tests;
mod progress;
mod revision;
mod scale;
mod types;

use crate::{
    context::{Context, orphans_of},
    dependents::label_selector,
    expectations::Expectations,
    views::Pod,
};
use std::sync::Arc;
use strata_client::{Change, Client, EventRecorder, Informer, WorkQueue, resources::*};
use strata_meta::{Object, ObjectKey};

const CONTROLLER: &str = "deployment-controller";
const WORKERS: usize = 5;

pub(crate) fn start(context: &Arc<Context>) {
    let controller = Arc::new(Controller {
        client: context.client(CONTROLLER),
        events: context.events(CONTROLLER),
        deployments: context.objects(DEPLOYMENTS),
        queue: context.queue("deployment"),
        set_writes: Expectations::default(),
        status_writes: Expectations::default(),
        context: context.clone(),
    });
    controller.follow();
    let (deployments, sets, pods) = (
        controller.deployments.clone(),
        context.replica_sets.clone(),
        context.pods.clone(),
    );
    let ready = async move {
        deployments.synced().await;
        sets.synced().await;
        pods.synced().await;
    };
    let queue = controller.queue.clone();
    context.run(&queue, WORKERS, ready, move |key| controller.clone().reconcile(key));
}

struct Controller {
    client: Client,
    events: EventRecorder,
    deployments: Informer<Arc<Object>>,
    queue: WorkQueue<ObjectKey>,
    set_writes: Expectations,
    status_writes: Expectations,
    context: Arc<Context>,
}

impl Controller {
    fn follow(self: &Arc<Self>) {
        let controller = self.clone();
        self.deployments
            .on_change(move |change| controller.queue.add(change.key.clone()));
        let controller = self.clone();
        self.context
            .replica_sets
            .on_change(move |change| controller.set_changed(change));
        let controller = self.clone();
        self.context
            .pods
            .on_change(move |change| controller.pod_changed(change));
    }

    fn set_changed(&self, change: &Change<Arc<Object>>) {
        for set in [&change.old, &change.new].into_iter().flatten() {
            if let Some(key) = self.owner_of(set) {
                self.queue.add(key);
            }
        }
        if let Some(new) = change
            .new
            .as_ref()
            .filter(|set| set.controller().is_none() && !set.deleting)
        {
            let matching = self
                .deployments
                .select(|key, d| key.namespace == new.key.namespace && selects(d, new));
            matching.into_iter().for_each(|(key, _)| self.queue.add(key));
        }
    }

    /// A recreation goes on when the last old pod is gone.
    fn pod_changed(&self, change: &Change<Pod>) {
        let finished = change.new.as_ref().is_none_or(|pod| pod.view.phase.is_terminal());
        if !finished {
            return;
        }
        let Some(reference) = change.old.as_ref().and_then(|pod| pod.controller()) else {
            return;
        };
        let key = ObjectKey {
            namespace: change.key.namespace.clone(),
            name: reference.name.as_str().into(),
        };
        let set = self
            .context
            .replica_sets
            .get(&key)
            .filter(|set| set.uid == reference.uid);
        if let Some(key) = set.and_then(|set| self.owner_of(&set)) {
            self.queue.add(key);
        }
    }

    fn owner_of(&self, set: &Object) -> Option<ObjectKey> {
        let reference = set.controller()?;
        if !DEPLOYMENTS.is_kind(&reference.api_version, &reference.kind) {
            return None;
        }
        let key = ObjectKey {
            namespace: set.key.namespace.clone(),
            name: reference.name.as_str().into(),
        };
        (self.deployments.get(&key)?.uid == reference.uid).then_some(key)
    }

    /// The sets that a deployment manages or might adopt.
    fn candidates(&self, deployment: &Object) -> Vec<Arc<Object>> {
        let sets = &self.context.replica_sets_by_owner;
        let managed = sets.get(deployment.uid.as_str());
        let orphans = sets.get(&orphans_of(deployment.namespace()));
        managed.iter().chain(&orphans).map(|set| (**set).clone()).collect()
    }
}

fn selects(deployment: &Object, set: &Object) -> bool {
    label_selector(deployment).is_some_and(|selector| selector.matches_object(set))
}
