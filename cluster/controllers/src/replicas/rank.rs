//! Which pods to delete first (upstream's ActivePodsWithRanks).

use crate::views::Pod;
use std::{cmp::Reverse, collections::HashMap, sync::Arc};
use strata_meta::{Time, Uid};

/// The pods, those to be deleted first in front: unassigned, not running, not ready, cheap,
/// crowded on their node, lately ready, often restarted, young. Ages are compared on a
/// logarithmic scale and then by uid, so that equals are chosen at random. Unlike upstream's,
/// the order is total: uids are compared last.
pub(super) fn by_deletion_preference(pods: &[Arc<Pod>], related: &[Arc<Pod>], now: Time) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<&str, u32> = HashMap::new();
    for pod in related.iter().filter(|pod| pod.view.is_active()) {
        *on_node.entry(pod.view.node.as_str()).or_default() += 1;
    }
    let mut ranked = pods.to_vec();
    ranked.sort_by_cached_key(|pod| preference(pod, on_node.get(pod.view.node.as_str()).copied().unwrap_or(0), now));
    ranked
}

type Preference = (
    bool,
    crate::views::Phase,
    bool,
    i64,
    Reverse<u32>,
    i64,
    Reverse<(i64, i64)>,
    i64,
    Uid,
);

fn preference(pod: &Pod, neighbours: u32, now: Time) -> Preference {
    let view = &pod.view;
    let ready_age = if view.ready {
        magnitude(view.ready_since, now)
    } else {
        0
    };
    (
        !view.node.is_empty(),
        view.phase,
        view.ready,
        view.deletion_cost,
        Reverse(neighbours),
        ready_age,
        Reverse(view.restarts),
        magnitude(view.created, now),
        pod.uid.clone(),
    )
}

/// The age's power of two; no time at all counts as the youngest.
fn magnitude(since: Option<Time>, now: Time) -> i64 {
    match since.map(|since| now.seconds_since(since)) {
        None => -2,
        Some(age) if age <= 0 => -1,
        Some(age) => i64::from(age.ilog2()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicas::decide::tests::pod_with;
    use serde_json::{Value, json};

    fn pod(name: &str, created: &str, annotations: Value, spec: Value, status: Value) -> Arc<Pod> {
        let metadata = json!({"name": name, "uid": name, "creationTimestamp": created, "annotations": annotations});
        pod_with(metadata, spec, status)
    }

    #[test]
    fn the_least_useful_pods_come_first() {
        let old = "2026-01-01T00:00:00Z";
        let running = |since: &str, restarts: u32| {
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}],
                "containerStatuses": [{"name": "c", "restartCount": restarts}]})
        };
        let on = |node: &str| json!({"nodeName": node});
        let pods = [
            pod("steady", old, json!({}), on("b"), running(old, 0)),
            pod("restarted", old, json!({}), on("b"), running(old, 4)),
            pod("crowded", old, json!({}), on("a"), running(old, 0)),
            pod(
                "lately-ready",
                old,
                json!({}),
                on("b"),
                running("2026-01-01T11:59:50Z", 0),
            ),
            pod(
                "cheap",
                old,
                json!({"controller.kubernetes.io/pod-deletion-cost": "-5"}),
                on("b"),
                running(old, 0),
            ),
            pod("not-ready", old, json!({}), on("b"), json!({"phase": "Running"})),
            pod("pending", old, json!({}), on("b"), json!({"phase": "Pending"})),
            pod("unassigned", old, json!({}), json!({}), json!({"phase": "Pending"})),
            pod("young", "2026-01-01T11:59:00Z", json!({}), on("b"), running(old, 0)),
        ];
        let mut related = pods.to_vec();
        related.extend((0..9).map(|i| pod(&format!("r{i}"), old, json!({}), on("a"), json!({"phase": "Running"}))));
        let now = Time::parse("2026-01-01T12:00:00Z").unwrap();
        let order: Vec<_> = by_deletion_preference(&pods, &related, now)
            .iter()
            .map(|p| p.name().to_owned())
            .collect();
        let expected = [
            "unassigned",
            "pending",
            "not-ready",
            "cheap",
            "crowded",
            "lately-ready",
            "restarted",
            "young",
            "steady",
        ];
        assert_eq!(order, expected);
    }
}
