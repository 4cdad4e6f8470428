//! Deletes pods that nobody else would: on nodes that are gone, terminating without a node,
//! and finished ones beyond a number.

use crate::{
    Error,
    context::Context,
    error::During,
    views::{Phase, Pod},
};
use serde_json::json;
use std::{fmt, sync::Arc, time::Duration};
use strata_client::{Client, DeleteOptions, Patch, resources::*};
use strata_meta::ObjectKey;

const CONTROLLER: &str = "pod-garbage-collector";
const WORKERS: usize = 2;
/// A burst of pods that end is looked at once.
const SETTLE: Duration = Duration::from_secs(5);

/// One thing to look at.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Work {
    /// Pods of a node that may be gone.
    Node(String),
    /// A pod that terminates without a node.
    Unscheduled(ObjectKey),
    /// The number of finished pods.
    Finished,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Unscheduled(key) => write!(f, "pod {key}"),
            Self::Finished => f.write_str("finished pods"),
        }
    }
}

pub(crate) fn start(context: &Arc<Context>) {
    let collector = Arc::new(Collector {
        client: context.client(CONTROLLER),
        context: context.clone(),
    });
    let queue = context.queue("gc_controller");
    let quarantine = context.options.orphan_quarantine;
    let (to, nodes, limit) = (queue.clone(), context.nodes.clone(), context.options.terminated_pods);
    context.pods.on_change(move |change| {
        let Some(pod) = &change.new else { return };
        let node = &pod.view.node;
        if node.is_empty() && pod.deleting {
            to.add(Work::Unscheduled(change.key.clone()));
        }
        if !node.is_empty() && nodes.get(&ObjectKey::new("", node)).is_none() {
            to.add_after(Work::Node(node.clone()), quarantine);
        }
        if limit > 0 && pod.view.phase.is_terminal() {
            to.add_after(Work::Finished, SETTLE);
        }
    });
    let to = queue.clone();
    context.nodes.on_change(move |change| {
        if change.new.is_none() {
            to.add_after(Work::Node(change.key.name.to_string()), quarantine);
        }
    });
    let (pods, nodes) = (context.pods.clone(), context.nodes.clone());
    let ready = async move {
        pods.synced().await;
        nodes.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |work| collector.clone().collect(work));
}

struct Collector {
    client: Client,
    context: Arc<Context>,
}

impl Collector {
    async fn collect(self: Arc<Self>, work: Work) -> Result<Option<Duration>, Error> {
        match work {
            Work::Node(name) => self.node(&name).await?,
            Work::Unscheduled(key) => {
                let stuck = |pod: &Arc<Pod>| pod.deleting && pod.view.node.is_empty();
                if let Some(pod) = self.context.pods.get(&key).filter(stuck) {
                    self.delete(&pod, false).await?;
                }
            }
            Work::Finished => {
                let pods = self.context.pods.list().into_iter().map(|(_, pod)| pod).collect();
                for pod in surplus(pods, self.context.options.terminated_pods) {
                    self.delete(&pod, false).await?;
                }
            }
        }
        Ok(None)
    }

    async fn node(&self, name: &str) -> Result<(), Error> {
        let pods = self.context.pods_by_node.get(name);
        if pods.is_empty() || self.context.nodes.get(&ObjectKey::new("", name)).is_some() {
            return Ok(());
        }
        // The cache may be behind; only the server's word counts here.
        match self.client.get(NODES, "", name).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error).during(|| format!("reading node {name}")),
        }
        for pod in pods {
            self.delete(&pod, true).await?;
        }
        Ok(())
    }

    /// Marks a pod as failed, since nobody will tell how it ended, and removes it.
    async fn delete(&self, pod: &Pod, orphaned: bool) -> Result<(), Error> {
        let (namespace, name) = (pod.namespace(), pod.name());
        tracing::info!(pod = %pod.key, node = %pod.view.node, "deleting a pod that nobody looks after");
        if !pod.view.phase.is_terminal() {
            let mut status = json!({"phase": "Failed"});
            if orphaned {
                status["conditions"] = json!([{
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists", "lastTransitionTime": self.context.now(),
                }]);
            }
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid}, "status": status}));
            match self.client.patch(PODS, namespace, name, Some("status"), patch).await {
                Err(error) if error.is_not_found() => return Ok(()),
                result => result.during(|| format!("marking pod {} as failed", pod.key))?,
            };
        }
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::only(&pod.uid)
        };
        match self.client.delete(PODS, namespace, name, options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                Err(error).during(|| format!("deleting pod {}", pod.key))
            }
            _ => Ok(()),
        }
    }
}

/// The finished pods beyond the limit: evicted ones first, then the oldest.
fn surplus(pods: Vec<Arc<Pod>>, limit: usize) -> Vec<Arc<Pod>> {
    let mut finished: Vec<_> = pods
        .into_iter()
        .filter(|p| matches!(p.view.phase, Phase::Succeeded | Phase::Failed))
        .collect();
    let count = finished.len().saturating_sub(limit);
    finished.sort_by_key(|p| (!p.view.evicted, p.view.created, p.key.clone()));
    finished.truncate(count);
    finished
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracked::Tracked;
    use strata_meta::{GroupVersionKind, Object, Revision};

    fn pod(name: &str, phase: &str, reason: &str, created: &str) -> Arc<Pod> {
        let kind = Arc::new(GroupVersionKind::new("", "v1", "Pod"));
        let value = json!({"metadata": {"name": name, "creationTimestamp": created}, "status": {"phase": phase, "reason": reason}});
        Arc::new(Tracked::decode(&Arc::new(Object::from_value(kind, Revision(1), &value).unwrap())).unwrap())
    }

    #[test]
    fn evicted_pods_go_first_then_the_oldest() {
        let pods = vec![
            pod("running", "Running", "", "2026-01-01T00:00:00Z"),
            pod("young", "Succeeded", "", "2026-01-01T00:00:03Z"),
            pod("old", "Failed", "", "2026-01-01T00:00:01Z"),
            pod("evicted", "Failed", "Evicted", "2026-01-01T00:00:02Z"),
        ];
        let names = |limit| {
            surplus(pods.clone(), limit)
                .iter()
                .map(|p| p.name().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(1), ["evicted", "old"]);
        assert_eq!(names(3), Vec::<String>::new());
    }
}
