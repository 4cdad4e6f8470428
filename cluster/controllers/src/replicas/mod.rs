//! Replica sets and replication controllers: one engine, a row for each kind.

mod decide;
mod execute;
mod rank;

pub(crate) use decide::{ReplicaSet, ReplicaStatus};

use crate::{
    context::{Context, orphans_of},
    expectations::Expectations,
    views::Pod,
};
use std::sync::Arc;
use strata_client::{Change, Client, EventRecorder, Informer, Resource, WorkQueue, resources::*};
use strata_meta::{Object, ObjectKey};

/// Reconciles at a time, as upstream.
const WORKERS: usize = 5;

/// What differs between the kinds.
#[derive(Clone, Copy)]
struct Row {
    resource: Resource,
    controller: &'static str,
    queue: &'static str,
    /// Upstream tells of pods that are being deleted for replica sets only.
    tells_terminating: bool,
}

const ROWS: [Row; 2] = [
    Row {
        resource: REPLICA_SETS,
        controller: "replicaset-controller",
        queue: "replicaset",
        tells_terminating: true,
    },
    Row {
        resource: REPLICATION_CONTROLLERS,
        controller: "replication-controller",
        queue: "replicationmanager",
        tells_terminating: false,
    },
];

pub(crate) fn start(context: &Arc<Context>) {
    for row in ROWS {
        let owners = if row.resource == REPLICA_SETS {
            context.replica_sets.clone()
        } else {
            context.objects(row.resource)
        };
        let engine = Arc::new(Engine {
            row,
            client: context.client(row.controller),
            events: context.events(row.controller),
            owners,
            queue: context.queue(row.queue),
            expectations: Expectations::default(),
            status_writes: Expectations::default(),
            context: context.clone(),
        });
        engine.follow();
        let (owners, pods) = (engine.owners.clone(), context.pods.clone());
        let ready = async move {
            owners.synced().await;
            pods.synced().await;
        };
        let queue = engine.queue.clone();
        context.run(&queue, WORKERS, ready, move |key| engine.clone().reconcile(key));
    }
}

/// One row at work.
struct Engine {
    row: Row,
    client: Client,
    events: EventRecorder,
    owners: Informer<Arc<Object>>,
    queue: WorkQueue<ObjectKey>,
    /// Pods created and deleted.
    expectations: Expectations,
    status_writes: Expectations,
    context: Arc<Context>,
}

impl Engine {
    /// Queues an owner when it or one of its pods changes.
    fn follow(self: &Arc<Self>) {
        let engine = self.clone();
        self.owners
            .on_change(move |change| engine.queue.add(change.key.clone()));
        let engine = self.clone();
        self.context.pods.on_change(move |change| engine.pod_changed(change));
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

    /// The owner that a pod's controller reference names, if it is of this row's kind and still that one.
    fn owner_of(&self, pod: &Object) -> Option<ObjectKey> {
        let reference = pod.controller()?;
        if !self.row.resource.is_kind(&reference.api_version, &reference.kind) {
            return None;
        }
        let key = ObjectKey::new(pod.namespace(), &reference.name);
        let owner = self.owners.get(&key)?;
        (owner.uid == reference.uid).then_some(key)
    }

    /// Owners that might adopt a pod.
    fn matching(&self, pod: &Object) -> Vec<ObjectKey> {
        let same_namespace = self.owners.select(|key, _| key.namespace == pod.key.namespace);
        let selects = |owner: &Arc<Object>| {
            let spec = owner.decode::<ReplicaSet>().ok()?;
            Some(spec.selector().ok()?.matches_object(pod))
        };
        same_namespace
            .into_iter()
            .filter(|(_, owner)| selects(owner) == Some(true))
            .map(|(key, _)| key)
            .collect()
    }

    /// The pods that an owner manages or might adopt.
    fn candidates(&self, owner: &Object) -> Vec<Arc<Pod>> {
        let mut pods = self.context.pods_by_owner.get(owner.uid.as_str());
        pods.extend(self.context.pods_by_owner.get(&orphans_of(owner.namespace())));
        pods
    }

    /// Active pods of all replica sets under the same deployment, for spreading deletions.
    fn related(&self, owner: &Object) -> Vec<Arc<Pod>> {
        let Some(parent) = owner.controller() else {
            return self.context.pods_by_owner.get(owner.uid.as_str());
        };
        let siblings = self.context.replica_sets_by_owner.get(parent.uid.as_str());
        siblings
            .iter()
            .flat_map(|set| self.context.pods_by_owner.get(set.uid.as_str()))
            .collect()
    }
}
