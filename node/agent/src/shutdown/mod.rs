//! A machine that goes down: pods end in the order of their importance, each with the time its group has, and nobody
//! comes any more (KEP-2000, KEP-2712).

use crate::{
    admission::Refusal,
    configuration::{Configuration, ShutdownGrace},
    context::Context,
    orders::{self, Order},
    planner::Ended,
    pod::Pod,
};
use std::{sync::Arc, time::Duration};
use strata_client::Informer;
use strata_meta::Uid;

/// From this priority on a pod is critical to the system.
const CRITICAL: i32 = 2_000_000_000;

/// Why a pod does not begin on a node that goes down.
pub fn refusal() -> Refusal {
    Refusal {
        reason: "NodeShutdown".into(),
        message: "Pod was rejected as the node is shutting down.".into(),
        by_labels: false,
    }
}

/// Ends the pods of a node in order. Cheap to clone.
#[derive(Clone)]
pub struct Drain {
    context: Arc<Context>,
    pods: Informer<Pod>,
}

impl Drain {
    /// Of the pods that informer shows.
    pub(crate) fn new(context: Arc<Context>, pods: Informer<Pod>) -> Self {
        Self { context, pods }
    }

    /// Ends all pods if the node's settings give them time for that; otherwise they go on without this process.
    /// Returns when they have ended, or their time has.
    pub async fn run(&self) {
        let groups = groups(&self.context.options.configuration);
        if groups.is_empty() {
            return;
        }
        self.context.state.send_modify(|state| state.shutting_down = true);
        let pods: Vec<Arc<Pod>> = self.pods.list().into_iter().map(|(_, pod)| pod).collect();
        for (grace, pods) in plan(&groups, pods) {
            let uids: Vec<Uid> = pods.iter().map(|pod| pod.metadata.uid.clone()).collect();
            for pod in &pods {
                tracing::info!(
                    pod = pod.full_name(),
                    grace,
                    "ending a pod, for the node is shutting down"
                );
                self.context.orders.send(order(pod, grace)).await;
            }
            let limit = Duration::from_secs(grace.into());
            orders::gone(&self.context.options.engine, &uids, limit).await;
        }
    }
}

fn order(pod: &Pod, grace: u32) -> Order {
    let own = pod.spec.termination_grace_period_seconds;
    let grace = own.map_or(u64::from(grace), |own| own.max(0).unsigned_abs().min(grace.into()));
    Order {
        uid: pod.metadata.uid.clone(),
        ended: Ended {
            reason: "Terminated".into(),
            message: "Pod was terminated in response to imminent node shutdown.".into(),
            grace_seconds: Some(grace),
            disruption: true,
            ..Ended::default()
        },
    }
}

/// The groups of a configuration, the least important first; none if pods are left running.
fn groups(configuration: &Configuration) -> Vec<ShutdownGrace> {
    let mut groups = configuration.shutdown_grace_period_by_pod_priority.clone();
    let (all, critical) = (
        configuration.shutdown_grace_period.get(),
        configuration.shutdown_grace_period_critical_pods.get(),
    );
    if groups.is_empty() && !all.is_zero() {
        let group = |priority, length: Duration| ShutdownGrace {
            priority,
            shutdown_grace_period_seconds: u32::try_from(length.as_secs()).unwrap_or(u32::MAX),
        };
        groups = vec![group(0, all.saturating_sub(critical)), group(CRITICAL, critical)];
    }
    groups.sort_by_key(|group| group.priority);
    groups
}

/// Who ends with whom, and the seconds they have. A pod below every group ends with the first.
fn plan(groups: &[ShutdownGrace], pods: Vec<Arc<Pod>>) -> Vec<(u32, Vec<Arc<Pod>>)> {
    let mut planned: Vec<(u32, Vec<Arc<Pod>>)> = groups
        .iter()
        .map(|g| (g.shutdown_grace_period_seconds, Vec::new()))
        .collect();
    for pod in pods.into_iter().filter(|pod| !pod.is_finished()) {
        let priority = pod.spec.priority.unwrap_or(0);
        let at = groups.iter().rposition(|group| group.priority <= priority).unwrap_or(0);
        planned[at].1.push(pod);
    }
    planned.retain(|(_, pods)| !pods.is_empty());
    planned
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_end_by_importance() {
        let pod = |name: &str, priority: i32, phase: &str| -> Arc<Pod> {
            let pod = json!({"metadata": {"name": name}, "spec": {"priority": priority}, "status": {"phase": phase}});
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        };
        let pods = || {
            vec![
                pod("critical", CRITICAL, "Running"),
                pod("low", -5, "Running"),
                pod("mid", 100, "Pending"),
                pod("done", 0, "Succeeded"),
            ]
        };
        let order = |text: &str| -> Vec<(u32, String)> {
            let configuration = Configuration::read(text).expect("a configuration");
            let planned = plan(&groups(&configuration), pods());
            let names = |pods: Vec<Arc<Pod>>| {
                pods.iter()
                    .map(|p| p.metadata.name.clone())
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            planned.into_iter().map(|(grace, pods)| (grace, names(pods))).collect()
        };
        assert!(
            groups(&Configuration::default()).is_empty(),
            "pods outlive this process by default"
        );
        let simple = order("shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s");
        assert_eq!(simple, [(20, "low mid".to_owned()), (10, "critical".to_owned())]);
        let by_priority = order(
            "shutdownGracePeriodByPodPriority: [{priority: 50, shutdownGracePeriodSeconds: 3}, {priority: 0, shutdownGracePeriodSeconds: 2}]",
        );
        assert_eq!(by_priority, [(2, "low".to_owned()), (3, "critical mid".to_owned())]);
    }
}
