//! Deletes pods from nodes whose NoExecute taints they do not tolerate, or not for longer.

use super::{CONTROLLER, health::NO_EXECUTE};
use crate::{Error, context::Context, error::During};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use strata_client::{Client, DeleteOptions, EventRecorder, EventType, ObjectReference, Patch, resources::PODS};
use strata_meta::{
    ObjectKey, Time,
    placement::{Taint, Toleration},
};

const WORKERS: usize = 8;

pub(super) fn start(context: &Arc<Context>) {
    let evictor = Arc::new(Evictor {
        client: context.client(CONTROLLER),
        events: context.events(CONTROLLER),
        context: context.clone(),
    });
    let queue = context.queue("node_lifecycle_controller_pods");
    let (to, pods_by_node) = (queue.clone(), context.pods_by_node.clone());
    context.nodes.on_change(move |change| {
        let Some(new) = &change.new else { return };
        let evicting = |taints: &[Taint]| {
            taints
                .iter()
                .filter(|t| t.effect == NO_EXECUTE)
                .cloned()
                .collect::<Vec<_>>()
        };
        let now = evicting(&new.view.spec.taints);
        if !now.is_empty()
            && change
                .old
                .as_ref()
                .is_none_or(|old| evicting(&old.view.spec.taints) != now)
        {
            pods_by_node
                .get(&change.key.name)
                .iter()
                .for_each(|pod| to.add(pod.key.clone()));
        }
    });
    let (to, nodes) = (queue.clone(), context.nodes.clone());
    context.pods.on_change(move |change| {
        let Some(new) = change
            .new
            .as_ref()
            .filter(|pod| !pod.view.node.is_empty() && !pod.deleting)
        else {
            return;
        };
        let known = |old: &Arc<crate::views::Pod>| {
            old.view.node == new.view.node && old.view.tolerations == new.view.tolerations
        };
        let tainted = || {
            let node = nodes.get(&ObjectKey::new("", &new.view.node));
            node.is_some_and(|n| n.view.spec.taints.iter().any(|t| t.effect == NO_EXECUTE))
        };
        if !change.old.as_ref().is_some_and(known) && tainted() {
            to.add(change.key.clone());
        }
    });
    let (nodes, pods) = (context.nodes.clone(), context.pods.clone());
    let ready = async move {
        nodes.synced().await;
        pods.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |key| evictor.clone().reconcile(key));
}

struct Evictor {
    client: Client,
    events: EventRecorder,
    context: Arc<Context>,
}

impl Evictor {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.context.pods.get(&key).filter(|pod| !pod.deleting) else {
            return Ok(None);
        };
        let Some(node) = self.context.nodes.get(&ObjectKey::new("", &pod.view.node)) else {
            return Ok(None);
        };
        match decide(&node.view.spec.taints, &pod.view.tolerations, self.context.now()) {
            Eviction::Never => Ok(None),
            Eviction::After(seconds) => Ok(Some(Duration::from_secs(seconds))),
            Eviction::Now => self.evict(&pod).await.map(|()| None),
        }
    }

    async fn evict(&self, pod: &crate::views::Pod) -> Result<(), Error> {
        let message = format!("Marking for deletion Pod {}", pod.key);
        self.events.event(
            &ObjectReference::of(pod),
            EventType::Normal,
            "TaintManagerEviction",
            message,
        );
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": self.context.now(),
        });
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}));
        match self
            .client
            .patch(PODS, pod.namespace(), pod.name(), Some("status"), patch)
            .await
        {
            Err(error) if error.is_not_found() => return Ok(()),
            result => result.during(|| format!("marking pod {} for eviction", pod.key))?,
        };
        match self
            .client
            .delete(PODS, pod.namespace(), pod.name(), DeleteOptions::only(&pod.uid))
            .await
        {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                Err(error).during(|| format!("evicting pod {}", pod.key))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Eviction {
    Never,
    /// In so many seconds, if nothing changes.
    After(u64),
    Now,
}

/// Each NoExecute taint must be tolerated; the shortest toleration decides, counted from the
/// youngest taint.
fn decide(taints: &[Taint], tolerations: &[Toleration], now: Time) -> Eviction {
    let taints: Vec<&Taint> = taints.iter().filter(|t| t.effect == NO_EXECUTE).collect();
    let mut shortest: Option<i64> = None;
    for taint in &taints {
        let mut tolerating = tolerations.iter().filter(|t| t.tolerates(taint)).peekable();
        if tolerating.peek().is_none() {
            return Eviction::Now;
        }
        let seconds = tolerating.filter_map(|t| t.toleration_seconds).min();
        shortest = shortest.into_iter().chain(seconds).min();
    }
    let Some(seconds) = shortest else {
        return Eviction::Never;
    };
    let since = taints.iter().filter_map(|t| t.time_added).max().unwrap_or(now);
    match u64::try_from(seconds.max(0) - now.seconds_since(since)) {
        Ok(left) if left > 0 => Eviction::After(left),
        _ => Eviction::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn run(taints: Value, tolerations: Value) -> Eviction {
        let taints: Vec<Taint> = serde_json::from_value(taints).unwrap();
        let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
        decide(&taints, &tolerations, Time::parse("2026-01-01T00:01:40Z").unwrap())
    }

    #[test]
    fn tolerations_decide_whether_and_when() {
        let down = json!({"key": "down", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"});
        let other = json!({"key": "other", "value": "v", "effect": "NoExecute", "timeAdded": "2026-01-01T00:01:30Z"});
        let soft = json!({"key": "soft", "effect": "NoSchedule"});
        let for_ = |seconds: i64| json!({"key": "down", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let ever = json!({"operator": "Exists"});
        for (taints, tolerations, expected) in [
            (json!([]), json!([]), Eviction::Never),
            (json!([soft]), json!([]), Eviction::Never),
            (json!([down]), json!([]), Eviction::Now),
            (json!([down]), json!([for_(300)]), Eviction::After(200)),
            (json!([down]), json!([for_(100)]), Eviction::Now),
            (json!([down]), json!([for_(-1)]), Eviction::Now),
            (json!([down]), json!([ever]), Eviction::Never),
            (json!([down]), json!([ever, for_(300)]), Eviction::After(200)),
            (json!([down, other]), json!([for_(300)]), Eviction::Now),
            (
                json!([down, other]),
                json!([for_(300), {"key": "other", "value": "v"}]),
                Eviction::After(290),
            ),
            (json!([other]), json!([{"key": "other", "value": "x"}]), Eviction::Now),
        ] {
            assert_eq!(
                run(taints.clone(), tolerations.clone()),
                expected,
                "{taints} {tolerations}"
            );
        }
    }
}
