//! Who goes first when a node is short of something, and what they are told (upstream's `eviction/helpers.go`). Pure.

use super::{
    threshold::{Observations, Pressure, Signal, Threshold},
    usage::PodUse,
};
use crate::{pod::Pod, resources};
use std::{cmp::Reverse, sync::Arc};
use strata_meta::Quantity;

/// A pod that may go.
#[derive(Clone)]
pub struct Candidate {
    /// The pod.
    pub pod: Arc<Pod>,
    /// What it uses.
    pub used: PodUse,
}

/// Puts those who shall go first first. `apart`: images have a disk of their own.
pub fn rank(signal: Signal, apart: bool, candidates: &mut [Candidate]) {
    let priority = |c: &Candidate| c.pod.spec.priority.unwrap_or(0);
    match signal.pressure() {
        Pressure::Memory => candidates.sort_by_key(|c| {
            let above = signed(c.used.memory) - request(&c.pod, "memory");
            (above <= 0, priority(c), Reverse(above))
        }),
        Pressure::Pid => candidates.sort_by_key(|c| (priority(c), Reverse(c.used.pids))),
        Pressure::Disk => candidates.sort_by_key(|c| {
            let used = disk(signal, apart, &c.used);
            // Nobody can ask for inodes.
            let asked = match signal.resource() {
                "inodes" => 0,
                name => request(&c.pod, name),
            };
            (
                used <= asked,
                priority(c),
                Reverse(used - request(&c.pod, "ephemeral-storage")),
            )
        }),
    }
}

fn disk(signal: Signal, apart: bool, used: &PodUse) -> i64 {
    let on_images = matches!(signal, Signal::ImageFsAvailable | Signal::ImageFsInodesFree);
    let used = used.disk(!apart || on_images, !apart || !on_images);
    match signal.resource() {
        "inodes" => signed(used.inodes),
        _ => signed(used.bytes),
    }
}

fn request(pod: &Pod, name: &str) -> i64 {
    resources::pod_request(pod, name).value()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What an evicted pod is told.
pub fn message(threshold: &Threshold, observations: &Observations, candidate: &Candidate) -> String {
    let resource = threshold.signal.resource();
    let mut text = format!("The node was low on resource: {resource}. ");
    let amount = |n: i64| match resource {
        "inodes" | "pids" => Quantity::from_units(n),
        _ => Quantity::from_bytes(n),
    };
    if let Some(observed) = observations.get(&threshold.signal) {
        let (wanted, there) = (amount(threshold.quantity(*observed)), amount(observed.available));
        text += &format!("Threshold quantity: {wanted}, available: {there}. ");
    }
    let pod = &candidate.pod;
    if resource == "memory"
        && let Some(asked) = pod.spec.resources.as_ref().and_then(|r| r.requests.get(resource))
    {
        let (name, used) = (&pod.metadata.name, amount(signed(candidate.used.memory)));
        text += &format!("Pod {name} was using {used}, request is {asked}, has larger consumption of {resource}. ");
    }
    for container in &candidate.used.containers {
        let used = match resource {
            "memory" => container.memory,
            "ephemeral-storage" => container.rootfs.plus(container.logs).bytes,
            _ => continue,
        };
        let Some(spec) = pod.all_containers().find(|c| c.name == container.name) else {
            continue;
        };
        let asked = spec.resources.requests.get(resource).copied().unwrap_or_default();
        if signed(used) > asked.value() {
            let (name, used) = (&container.name, amount(signed(used)));
            text += &format!(
                "Container {name} was using {used}, request is {asked}, has larger consumption of {resource}. "
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::{
        threshold::{Amount, Observed},
        usage::ContainerUse,
    };
    use serde_json::json;
    use std::{collections::BTreeMap, time::Duration};
    use strata_mount::FolderUsage;

    fn candidate(name: &str, priority: i32, request: &str, memory: u64, bytes: u64, pids: u64) -> Candidate {
        let requests = json!({"memory": request, "ephemeral-storage": request});
        let pod = json!({"metadata": {"name": name}, "spec": {"priority": priority,
            "containers": [{"name": "c", "resources": {"requests": requests}}]}});
        let container = ContainerUse {
            name: "c".into(),
            memory,
            rootfs: FolderUsage { bytes, inodes: pids },
            ..ContainerUse::default()
        };
        Candidate {
            pod: Arc::new(serde_json::from_value(pod).expect("a pod")),
            used: PodUse {
                memory,
                pids,
                containers: vec![container],
                ..PodUse::default()
            },
        }
    }

    fn order(signal: Signal, mut all: Vec<Candidate>) -> String {
        rank(signal, false, &mut all);
        let names: Vec<&str> = all.iter().map(|c| c.pod.metadata.name.as_str()).collect();
        names.join("")
    }

    #[test]
    fn who_uses_more_than_asked_goes_first_then_the_least_important() {
        let all = || {
            vec![
                candidate("a", 0, "100", 50, 50, 9),
                candidate("b", 5, "100", 300, 300, 1),
                candidate("c", 0, "100", 150, 150, 2),
                candidate("d", 0, "0", 120, 120, 3),
            ]
        };
        assert_eq!(order(Signal::MemoryAvailable, all()), "dcba");
        assert_eq!(order(Signal::NodeFsAvailable, all()), "dcba");
        assert_eq!(order(Signal::PidAvailable, all()), "adcb");
        assert_eq!(order(Signal::NodeFsInodesFree, all()), "dacb");
    }

    #[test]
    fn the_message_has_the_threshold_and_who_uses_too_much() {
        let threshold = Threshold {
            signal: Signal::MemoryAvailable,
            value: Amount::Fixed(100 << 20),
            grace: Duration::ZERO,
            reclaim: None,
        };
        let observed = Observed {
            available: 50 << 20,
            capacity: 1 << 30,
        };
        let observations = BTreeMap::from([(Signal::MemoryAvailable, observed)]);
        let told = message(&threshold, &observations, &candidate("a", 0, "1Mi", 3 << 20, 0, 0));
        assert_eq!(
            told,
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container c was using 3Mi, request is 1Mi, has larger consumption of memory. "
        );
    }
}
