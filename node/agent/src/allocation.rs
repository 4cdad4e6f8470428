//! What a pod has of the node, where it asks for more or less than that (KEP-1287). Pure.
//!
//! Between restarts of the agent this is known from what was reported last: nothing is kept on disk.

use crate::{
    pod::{Container, Pod, Resources},
    requests::pod_requests,
};
use serde::Serialize;
use std::sync::Arc;

/// The resources that can be changed while a pod runs.
pub const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// A change of resources that the node has not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingResize {
    /// Why not, and what has to change.
    pub message: String,
    /// The pod's generation that asks for it.
    pub generation: i64,
}

/// Whether two statements of resources are alike, as far as they can change while a pod runs.
pub fn alike(one: &Resources, other: &Resources) -> bool {
    RESIZABLE.iter().all(|name| {
        let amount = |resources: &Resources| {
            let of = |amounts: &crate::requests::Amounts| amounts.get(*name).copied().unwrap_or_default();
            (of(&resources.requests), of(&resources.limits))
        };
        amount(one) == amount(other)
    })
}

/// Whether a pod asks for something else than it has.
pub fn differs(wanted: &Pod, has: &Pod) -> bool {
    let level = |pod: &Pod| pod.spec.resources.clone().unwrap_or_default();
    let other = |container: &Container| {
        let had = has.lasting_containers().find(|c| c.name == container.name);
        had.is_some_and(|had| !alike(&container.resources, &had.resources))
    };
    !alike(&level(wanted), &level(has)) || wanted.lasting_containers().any(other)
}

/// The pod with the resources that another form of it has.
pub fn with_resources_of(pod: &Pod, has: &Pod) -> Pod {
    let mut result = pod.clone();
    result.spec.resources.clone_from(&has.spec.resources);
    let spec = &mut result.spec;
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        if let Some(had) = has.lasting_containers().find(|c| c.name == container.name) {
            container.resources = had.resources.clone();
        }
    }
    result
}

/// The pod with the resources that were reported of it: what an earlier agent gave it.
pub fn as_reported(pod: &Arc<Pod>) -> Arc<Pod> {
    let mut result = (**pod).clone();
    let status = &pod.status;
    let reported = status.init_container_statuses.iter().chain(&status.container_statuses);
    let reported: Vec<_> = reported
        .filter_map(|c| Some((&c.name, c.resources.as_ref()?)))
        .collect();
    let spec = &mut result.spec;
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        if let Some((_, had)) = reported.iter().find(|(name, _)| **name == container.name) {
            replace(&mut container.resources, had);
        }
    }
    if let (Some(own), Some(had)) = (&mut spec.resources, &status.resources) {
        replace(own, had);
    }
    Arc::new(result)
}

/// Only what can have changed, and only where the pod says anything.
fn replace(own: &mut Resources, had: &Resources) {
    for name in RESIZABLE {
        for (own, had) in [(&mut own.requests, &had.requests), (&mut own.limits, &had.limits)] {
            if let (Some(amount), Some(before)) = (own.get_mut(name), had.get(name)) {
                *amount = *before;
            }
        }
    }
}

/// Whether a pod asks for more than it has of anything.
pub fn asks_for_more(wanted: &Pod, has: &Pod) -> bool {
    let (wanted, has) = (pod_requests(wanted), pod_requests(has));
    let of = |amounts: &crate::requests::Amounts, name: &str| amounts.get(name).copied().unwrap_or_default();
    RESIZABLE.iter().any(|name| of(&wanted, name) > of(&has, name))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Of<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Of<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Serialize)]
struct Of<'a> {
    name: &'a str,
    resources: &'a Resources,
}

/// An event's message: what happened, and to which resources of which generation.
pub fn describe(what: &str, pod: &Pod, generation: i64, error: &str) -> String {
    fn each(containers: &[Container]) -> Vec<Of<'_>> {
        containers
            .iter()
            .map(|c| Of {
                name: &c.name,
                resources: &c.resources,
            })
            .collect()
    }
    let summary = Summary {
        init_containers: each(&pod.spec.init_containers),
        containers: each(&pod.spec.containers),
        generation,
        error,
    };
    match serde_json::to_string(&summary) {
        Ok(text) => format!("{what}: {text}"),
        Err(_) => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(cpu: &str) -> Arc<Pod> {
        let value = json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "x/y": "1"}}}]},
            "status": {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}]},
        });
        Arc::new(serde_json::from_value(value).expect("pod"))
    }

    #[test]
    fn what_a_pod_has_is_told_from_what_it_asks_for() {
        let (small, large) = (pod("100m"), pod("200m"));
        assert!(differs(&large, &small) && asks_for_more(&large, &small) && !asks_for_more(&small, &large));
        let kept = with_resources_of(&large, &small);
        assert!(!differs(&kept, &small));
        // An agent that is started anew sees what the one before gave, and nothing that nobody asks for.
        let before = as_reported(&large);
        assert!(!differs(&before, &small));
        assert!(!before.spec.containers[0].resources.requests.contains_key("memory"));
        assert_eq!(
            describe("Pod resize started", &large, 3, ""),
            "Pod resize started: {\"containers\":[{\"name\":\"c\",\"resources\":{\"requests\":{\"cpu\":\"200m\",\"x/y\":\"1\"}}}],\"generation\":3}"
        );
    }
}
