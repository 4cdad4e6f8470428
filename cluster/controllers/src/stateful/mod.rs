//! Stateful sets: pods with names, an order and claims of their own.

mod claims;
mod decide;
#[cfg(test)]
mod decide_tests;
mod execute;
mod pod;
mod types;

use crate::{
    context::Context,
    dependents::{Manager, Row, label_selector},
};
use std::sync::Arc;
use strata_client::{
    Informer,
    resources::{PERSISTENT_VOLUME_CLAIMS, STATEFUL_SETS},
};
use strata_meta::{Object, ObjectKey};

const ROW: Row = Row {
    resource: STATEFUL_SETS,
    controller: "statefulset-controller",
    queue: "statefulset",
    selector: label_selector,
    finalizer: None,
};

pub(crate) fn start(context: &Arc<Context>) {
    let manager = Manager::new(context, ROW);
    let controller = Arc::new(Controller {
        manager: manager.clone(),
        claims: context.objects(PERSISTENT_VOLUME_CLAIMS),
    });
    let follow = manager.clone();
    controller.claims.on_change(move |change| {
        // A pod may wait for the claim of its former life to be gone.
        if change.new.is_none() {
            let named = |set: &ObjectKey| {
                set.namespace == change.key.namespace && change.key.name.contains(&format!("-{}-", set.name))
            };
            for (key, _) in follow.owners.select(|key, _| named(key)) {
                follow.queue.add(key);
            }
        }
    });
    let (claims, revisions) = (controller.claims.clone(), context.revisions.clone());
    let ready = async move {
        claims.synced().await;
        revisions.synced().await;
    };
    manager.run(ready, move |key| controller.clone().reconcile(key));
}

struct Controller {
    manager: Arc<Manager>,
    claims: Informer<Arc<Object>>,
}
