//! Marks nodes that fell silent as unknown, and keeps their taints as their conditions are.

use super::CONTROLLER;
use crate::{
    Error, conditions,
    context::{Context, SHARED_INFORMERS},
    error::During,
    expectations::LOOK_AGAIN,
    views::{Condition, Node, NodeView},
};
use futures::future::try_join_all;
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use strata_client::{
    Change, Client, EventRecorder, EventType, Informer, ObjectReference, Patch, Scope, WorkQueue, resources::*,
};
use strata_meta::{Object, ObjectKey, Time, placement::Taint};
use tokio::time::Instant;

const WORKERS: usize = 4;
const LEASE_NAMESPACE: &str = "kube-node-lease";
pub(super) const NO_SCHEDULE: &str = "NoSchedule";
pub(super) const NO_EXECUTE: &str = "NoExecute";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Conditions that nobody can vouch for while a node is silent.
const OBSERVED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Which taint keeps pods away while a condition has a value.
const TAINT_OF: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

pub(super) fn start(context: &Arc<Context>) {
    let scope = Scope {
        namespace: Some(LEASE_NAMESPACE.into()),
        ..Scope::default()
    };
    let client = context.client(SHARED_INFORMERS);
    // Only that a lease changed matters, not what is in it.
    let leases = Informer::<()>::start_with(&client, LEASES, scope, context.cancel.clone(), |_| Ok(()));
    let monitor = Arc::new(Monitor {
        client: context.client(CONTROLLER),
        events: context.events(CONTROLLER),
        heard: Mutex::default(),
        queue: context.queue("node_lifecycle_controller"),
        context: context.clone(),
    });
    monitor.follow(&leases);
    let (nodes, pods) = (context.nodes.clone(), context.pods.clone());
    // An informer ends with its last handle, so one stays with the work.
    let kept = leases.clone();
    let ready = async move {
        leases.synced().await;
        nodes.synced().await;
        pods.synced().await;
    };
    let queue = monitor.queue.clone();
    context.run(&queue, WORKERS, ready, move |key| {
        let _ = &kept;
        monitor.clone().reconcile(key)
    });
}

struct Monitor {
    client: Client,
    events: EventRecorder,
    /// When something was last heard of a node, by this process's own clock: clocks of
    /// nodes may differ.
    heard: Mutex<HashMap<Arc<str>, Instant>>,
    queue: WorkQueue<ObjectKey>,
    context: Arc<Context>,
}

impl Monitor {
    fn follow(self: &Arc<Self>, leases: &Informer<()>) {
        let monitor = self.clone();
        leases.on_change(move |change| {
            if change.new.is_some() {
                monitor.hear(&change.key.name);
            }
        });
        let monitor = self.clone();
        self.context.nodes.on_change(move |change| monitor.node_changed(change));
    }

    fn node_changed(&self, change: &Change<Node>) {
        let Some(new) = &change.new else {
            self.heard.lock().expect("no holder panics").remove(&change.key.name);
            return;
        };
        let reported = |node: &Arc<Node>| node.view.condition("Ready").and_then(|c| c.last_heartbeat_time);
        let known = change.old.as_ref();
        if known.is_none_or(|old| reported(old) != reported(new)) {
            self.hear(&change.key.name);
        }
        let same = |old: &Arc<Node>| {
            old.view.status.conditions.iter().map(|c| (&c.type_, &c.status)).eq(new
                .view
                .status
                .conditions
                .iter()
                .map(|c| (&c.type_, &c.status)))
                && old.view.spec.taints == new.view.spec.taints
                && old.view.spec.unschedulable == new.view.spec.unschedulable
        };
        if !known.is_some_and(same) {
            self.queue.add(change.key.clone());
        }
    }

    fn hear(&self, node: &Arc<str>) {
        self.heard
            .lock()
            .expect("no holder panics")
            .insert(node.clone(), Instant::now());
    }

    fn silence(&self, node: &Arc<str>) -> Duration {
        let mut heard = self.heard.lock().expect("no holder panics");
        heard.entry(node.clone()).or_insert_with(Instant::now).elapsed()
    }

    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(node) = self.context.nodes.get(&key).filter(|node| !node.deleting) else {
            return Ok(None);
        };
        let options = &self.context.options;
        let grace = match node.view.condition("Ready") {
            Some(_) => options.node_grace,
            None => options.node_startup_grace,
        };
        let decision = decide(&node.view, self.silence(&key.name), grace, self.context.now());
        if !decision.unknown.is_empty() {
            self.mark_unknown(&node, &decision.unknown).await?;
        }
        let tainted = match &decision.taints {
            Some(taints) => self.taint(&node, taints).await?,
            None => true,
        };
        if decision.pods_not_ready {
            self.mark_pods(&key.name).await?;
        }
        // Whoever wrote meanwhile may have changed what does not bring the node here again.
        Ok(if tainted { decision.again } else { Some(LOOK_AGAIN) })
    }

    async fn mark_unknown(&self, node: &Node, unknown: &[Condition]) -> Result<(), Error> {
        tracing::warn!(node = node.name(), "node is silent, its state is unknown from now on");
        let patch = Patch::Strategic(json!({"status": {"conditions": unknown}}));
        let patched = self.client.patch(NODES, "", node.name(), Some("status"), patch).await;
        patched.during(|| format!("marking node {} as unknown", node.name()))?;
        let message = format!("Node {} status is now: NodeNotReady", node.name());
        self.events
            .event(&ObjectReference::of(node), EventType::Normal, "NodeNotReady", message);
        Ok(())
    }

    /// Whether the node was as it was seen.
    async fn taint(&self, node: &Object, taints: &[Taint]) -> Result<bool, Error> {
        let body = json!({"metadata": {"resourceVersion": node.revision.to_string()}, "spec": {"taints": taints}});
        match self
            .client
            .patch(NODES, "", node.name(), None, Patch::Merge(body))
            .await
        {
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) if error.is_not_found() => Ok(true),
            result => result
                .map(|_| true)
                .during(|| format!("changing the taints of node {}", node.name())),
        }
    }

    /// Takes the pods of a silent node out of their services.
    async fn mark_pods(&self, node: &str) -> Result<(), Error> {
        let now = self.context.now();
        let ready = self
            .context
            .pods_by_node
            .get(node)
            .into_iter()
            .filter(|pod| pod.view.ready);
        let patches = ready.map(|pod| async move {
            let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": now});
            let body = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}});
            let patched = self.client.patch(
                PODS,
                pod.namespace(),
                pod.name(),
                Some("status"),
                Patch::Strategic(body),
            );
            match patched.await {
                Err(error) if !error.is_not_found() => {
                    Err(error).during(|| format!("marking pod {} as not ready", pod.key))
                }
                _ => Ok(()),
            }
        });
        try_join_all(patches).await.map(drop)
    }
}

#[derive(Debug, Default, PartialEq)]
struct Decision {
    /// Conditions to set.
    unknown: Vec<Condition>,
    /// All taints, if they change.
    taints: Option<Vec<Taint>>,
    pods_not_ready: bool,
    /// When to look again, if nothing happens.
    again: Option<Duration>,
}

/// What a node needs that was last heard of `silence` ago.
fn decide(node: &NodeView, silence: Duration, grace: Duration, now: Time) -> Decision {
    let mut decision = Decision::default();
    let mut seen = node.status.conditions.clone();
    let ready = conditions::find(&seen, "Ready").map(|c| c.status.clone());
    if silence > grace {
        decision.unknown = OBSERVED.iter().filter_map(|type_| unknown(node, type_, now)).collect();
        for condition in &decision.unknown {
            conditions::remove(&mut seen, &condition.type_);
            seen.push(condition.clone());
        }
        decision.pods_not_ready = true;
    } else if ready.as_deref() != Some("Unknown") {
        decision.again = Some(grace.saturating_sub(silence) + Duration::from_millis(100));
    }
    decision.taints = taints(node, &seen, now);
    decision
}

fn unknown(node: &NodeView, type_: &str, now: Time) -> Option<Condition> {
    let (reason, message) = ("NodeStatusUnknown", "Kubelet stopped posting node status.");
    match node.condition(type_) {
        Some(current) if current.status == "Unknown" => None,
        Some(current) => Some(Condition {
            last_heartbeat_time: current.last_heartbeat_time,
            ..conditions::condition(type_, "Unknown", reason, message, now)
        }),
        None => Some(Condition {
            last_heartbeat_time: node.metadata.creation_timestamp,
            ..conditions::condition(
                type_,
                "Unknown",
                "NodeStatusNeverUpdated",
                "Kubelet never posted node status.",
                now,
            )
        }),
    }
}

/// All taints, if the conditions ask for others than there are.
fn taints(node: &NodeView, conditions: &[Condition], now: Time) -> Option<Vec<Taint>> {
    let holds = |(type_, status, _): &&(&str, &str, &str)| {
        conditions::find(conditions, type_).is_some_and(|c| c.status == *status)
    };
    let mut wanted: Vec<(&str, &str)> = TAINT_OF
        .iter()
        .filter(holds)
        .map(|(_, _, key)| (*key, NO_SCHEDULE))
        .collect();
    let evicting: Vec<_> = wanted
        .iter()
        .filter(|(key, _)| matches!(*key, NOT_READY | UNREACHABLE))
        .copied()
        .collect();
    wanted.extend(evicting.into_iter().map(|(key, _)| (key, NO_EXECUTE)));
    if node.spec.unschedulable {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    // A node that has told nothing yet keeps the taints that it came with.
    let silent = conditions::find(conditions, "Ready").is_none();
    let ours = |taint: &Taint| {
        let (no_schedule, no_execute) = (taint.effect == NO_SCHEDULE, taint.effect == NO_EXECUTE);
        match taint.key.as_str() {
            NOT_READY | UNREACHABLE => (no_schedule || no_execute) && !silent,
            UNSCHEDULABLE => no_schedule,
            key => no_schedule && TAINT_OF.iter().any(|(_, _, ours)| *ours == key),
        }
    };
    let is = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let present = &node.spec.taints;
    let mut taints: Vec<Taint> = present
        .iter()
        .filter(|t| !ours(t) || wanted.iter().any(|w| is(t, w)))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|t| is(t, &(key, effect))) {
            // Eviction counts from here; upstream notes the time of both.
            taints.push(Taint {
                key: key.into(),
                effect: effect.into(),
                time_added: Some(now),
                ..Taint::default()
            });
        }
    }
    (taints != *present).then_some(taints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const GRACE: Duration = Duration::from_secs(40);

    fn now() -> Time {
        Time::from_second(1_000)
    }

    fn node(conditions: &[(&str, &str)], taints: Value, unschedulable: bool) -> NodeView {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(t, s)| json!({"type": t, "status": s}))
            .collect();
        serde_json::from_value(json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"taints": taints, "unschedulable": unschedulable}, "status": {"conditions": conditions}}))
        .unwrap()
    }

    fn keys(decision: &Decision) -> Option<Vec<String>> {
        let short = |t: &Taint| format!("{}:{}", t.key.trim_start_matches("node.kubernetes.io/"), t.effect);
        decision
            .taints
            .as_ref()
            .map(|taints| taints.iter().map(short).collect())
    }

    #[test]
    fn taints_follow_the_conditions_and_leave_others_alone() {
        let foreign =
            json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoSchedule"}]);
        for (conditions, unschedulable, expected) in [
            (vec![("Ready", "True")], false, vec!["gpu:NoSchedule"]),
            (
                vec![("Ready", "False")],
                false,
                vec!["gpu:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute"],
            ),
            (
                vec![("Ready", "Unknown")],
                false,
                vec!["gpu:NoSchedule", "unreachable:NoSchedule", "unreachable:NoExecute"],
            ),
            (
                vec![("Ready", "True"), ("DiskPressure", "True")],
                true,
                vec!["gpu:NoSchedule", "disk-pressure:NoSchedule", "unschedulable:NoSchedule"],
            ),
        ] {
            let decision = decide(
                &node(&conditions, foreign.clone(), unschedulable),
                Duration::ZERO,
                GRACE,
                now(),
            );
            assert_eq!(keys(&decision).unwrap(), expected, "{conditions:?}");
        }
        let untold = decide(&node(&[], foreign, false), Duration::ZERO, GRACE, now());
        assert_eq!(keys(&untold), None, "a node that has not reported keeps its own");
    }

    #[test]
    fn a_silent_node_is_unknown_and_its_pods_are_not_ready() {
        let view = node(&[("Ready", "True"), ("DiskPressure", "False")], json!([]), false);
        let early = decide(&view, Duration::from_secs(30), GRACE, now());
        assert_eq!((early.unknown.len(), early.pods_not_ready), (0, false));
        assert_eq!(early.again.map(|d| d.as_secs()), Some(10));
        let late = decide(&view, Duration::from_secs(41), GRACE, now());
        let told: Vec<_> = late
            .unknown
            .iter()
            .map(|c| (c.type_.as_str(), c.reason.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("Ready", "NodeStatusUnknown"),
                ("MemoryPressure", "NodeStatusNeverUpdated"),
                ("DiskPressure", "NodeStatusUnknown"),
                ("PIDPressure", "NodeStatusNeverUpdated"),
            ]
        );
        assert!(late.pods_not_ready);
        assert_eq!(
            keys(&late).unwrap(),
            ["unreachable:NoSchedule", "unreachable:NoExecute"]
        );
    }

    #[test]
    fn taints_that_are_there_keep_their_time() {
        let taints = json!([{"key": UNREACHABLE, "effect": "NoSchedule"}, {"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}]);
        let decision = decide(
            &node(&[("Ready", "Unknown")], taints, false),
            Duration::from_secs(30),
            GRACE,
            now(),
        );
        assert_eq!(decision, Decision::default());
    }
}
