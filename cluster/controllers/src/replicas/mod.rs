//! Replica sets and replication controllers: one engine, a row for each kind.

mod decide;
mod execute;
mod rank;

pub(crate) use decide::{ReplicaSet, ReplicaStatus};

use crate::{
    context::Context,
    dependents::{Manager, Row},
    views::Pod,
};
use std::sync::Arc;
use strata_client::resources::*;
use strata_meta::{Object, Selector};

const ROWS: [Row; 2] = [
    Row {
        resource: REPLICA_SETS,
        controller: "replicaset-controller",
        queue: "replicaset",
        selector,
        finalizer: None,
    },
    Row {
        resource: REPLICATION_CONTROLLERS,
        controller: "replication-controller",
        queue: "replicationmanager",
        selector,
        finalizer: None,
    },
];

fn selector(owner: &Object) -> Option<Selector> {
    owner.decode::<ReplicaSet>().ok()?.selector().ok()
}

pub(crate) fn start(context: &Arc<Context>) {
    for row in ROWS {
        let engine = Arc::new(Engine(Manager::new(context, row)));
        let manager = engine.0.clone();
        manager.run(async {}, move |key| engine.clone().reconcile(key));
    }
}

/// One row at work.
struct Engine(Arc<Manager>);

impl Engine {
    /// Upstream tells of pods that are being deleted for replica sets only.
    fn tells_terminating(&self) -> bool {
        self.0.row.resource == REPLICA_SETS
    }

    /// Active pods of all replica sets under the same deployment, for spreading deletions.
    fn related(&self, owner: &Object) -> Vec<Arc<Pod>> {
        let context = &self.0.context;
        let Some(parent) = owner.controller() else {
            return context.pods_by_owner.get(owner.uid.as_str());
        };
        let siblings = context.replica_sets_by_owner.get(parent.uid.as_str());
        siblings
            .iter()
            .flat_map(|set| context.pods_by_owner.get(set.uid.as_str()))
            .collect()
    }
}
