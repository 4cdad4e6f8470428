//! Daemon sets: a pod on every node that fits.

mod backoff;
mod decide;
#[cfg(test)]
mod decide_tests;
mod execute;
mod fit;
mod types;

use crate::{
    context::Context,
    dependents::{Manager, Row, label_selector},
    tracked::decode,
    views::Node,
};
use backoff::Backoff;
use std::sync::Arc;
use strata_client::{Change, resources::DAEMON_SETS};
use strata_meta::Object;

const ROW: Row = Row {
    resource: DAEMON_SETS,
    controller: "daemon-set-controller",
    queue: "daemonset",
    selector: label_selector,
    finalizer: None,
};

pub(crate) fn start(context: &Arc<Context>) {
    let manager = Manager::new(context, ROW);
    let controller = Arc::new(Controller {
        manager: manager.clone(),
        backoff: Backoff::default(),
    });
    let follow = controller.clone();
    context.nodes.on_change(move |change| follow.node_changed(change));
    let follow = manager.clone();
    context.revisions.on_change(move |change| {
        // One that was deleted by somebody is made again.
        let gone = change.old.as_ref().filter(|_| change.new.is_none());
        if let Some(owner) = gone.and_then(|revision| follow.owner_of(revision)) {
            follow.queue.add(owner);
        }
    });
    let (nodes, revisions) = (context.nodes.clone(), context.revisions.clone());
    let ready = async move {
        nodes.synced().await;
        revisions.synced().await;
    };
    manager.run(ready, move |key| controller.clone().reconcile(key));
}

struct Controller {
    manager: Arc<Manager>,
    backoff: Backoff,
}

impl Controller {
    /// Queues the sets for which the node becomes another one than it was.
    fn node_changed(&self, change: &Change<Node>) {
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && old.labels == new.labels
            && old.view.spec.taints == new.view.spec.taints
        {
            return;
        }
        let concerned = |set: &Arc<Object>| {
            let wish = decode(set).ok().and_then(|set| fit::Wish::of(&set).ok());
            let fit = |node: &Option<Arc<Node>>| {
                let (wish, node) = (wish.as_ref()?, node.as_ref()?);
                Some(wish.fit(node)).filter(|fit| *fit != fit::Fit::Leave)
            };
            fit(&change.old) != fit(&change.new)
        };
        for (key, _) in self.manager.owners.select(|_, set| concerned(set)) {
            self.manager.queue.add(key);
        }
    }
}
