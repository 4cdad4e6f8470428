//! What pods use: the sum of their containers, with the most that init containers need on the way.

use crate::{Amounts, Scope};
use serde_json::Value;
use std::collections::BTreeMap;
use strata_meta::{Quantity, Time};

pub(crate) const NAMES: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// Names that every container must state if a quota limits them.
const STATED: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
const HUGE_PAGES: &str = "hugepages-";

/// Huge pages and extended resources.
pub(crate) fn is_own(name: &str) -> bool {
    let requested = name.strip_prefix("requests.");
    name.starts_with(HUGE_PAGES) || requested.is_some_and(|name| name.starts_with(HUGE_PAGES) || is_extended(name))
}

fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    name.starts_with("deviceclass.resource.kubernetes.io/") || (!native && !name.starts_with("requests."))
}

fn containers<'v>(pod: &'v Value, list: &str) -> &'v [Value] {
    pod["spec"][list].as_array().map_or(&[], Vec::as_slice)
}

fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

/// How a pod's total is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// Of the spec alone, as LimitRange counts.
    Spec,
    /// With overhead and with what running containers still have, as quotas count.
    Effective,
}

/// What all containers together request (`requests`) or are limited to (`limits`).
pub fn total(pod: &Value, which: &str, total: Total) -> Amounts {
    let amounts = |container: &Value, statuses: &str| {
        let mut own = Amounts::read(container["resources"].get(which));
        if total == Total::Effective {
            let found = pod["status"][statuses].as_array().into_iter().flatten();
            for status in found.filter(|s| s["name"] == container["name"]) {
                own.raise(&Amounts::read(status["resources"].get(which)));
                if which == "requests" {
                    own.raise(&Amounts::read(status.get("allocatedResources")));
                }
            }
        }
        own
    };
    let mut sum = Amounts::default();
    for container in containers(pod, "containers") {
        sum.add(&amounts(container, "containerStatuses"));
    }
    let (mut sidecars, mut most) = (Amounts::default(), Amounts::default());
    for container in containers(pod, "initContainers") {
        let own = amounts(container, "initContainerStatuses");
        if is_sidecar(container) {
            sum.add(&own);
            sidecars.add(&own);
            most.raise(&sidecars);
        } else {
            let mut at_once = own;
            at_once.add(&sidecars);
            most.raise(&at_once);
        }
    }
    sum.raise(&most);
    for (name, amount) in Amounts::read(pod["spec"]["resources"].get(which)).iter() {
        if matches!(name, "cpu" | "memory") || name.starts_with(HUGE_PAGES) {
            sum.set(name, amount);
        }
    }
    if total == Total::Effective {
        let overhead = Amounts::read(pod["spec"].get("overhead"));
        for (name, amount) in overhead.iter() {
            let present = sum.get(name);
            match (which, present) {
                ("limits", None) => {}
                (_, present) => sum.set(name, present.map_or(amount, |p| p.plus(amount))),
            }
        }
    }
    sum
}

/// Amounts under the names that quotas have for them.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut named = Amounts::default();
    named.count("pods", 1);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = requests.get(name) {
            named.set(name, amount);
            named.set(format!("requests.{name}"), amount);
        }
        if let Some(amount) = limits.get(name) {
            named.set(format!("limits.{name}"), amount);
        }
    }
    for (name, amount) in requests.iter() {
        if name.starts_with(HUGE_PAGES) {
            named.set(name, amount);
        }
        if name.starts_with(HUGE_PAGES) || is_extended(name) {
            named.set(format!("requests.{name}"), amount);
        }
    }
    named
}

/// Pods that have finished, or should be gone by now, use nothing any more.
fn is_counted(pod: &Value, now: Time) -> bool {
    if matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
        return false;
    }
    let metadata = &pod["metadata"];
    let deletion = metadata["deletionTimestamp"].as_str().and_then(Time::parse);
    match (deletion, metadata["deletionGracePeriodSeconds"].as_i64()) {
        (Some(deletion), Some(grace)) => now <= deletion.plus_seconds(grace),
        _ => true,
    }
}

pub(crate) fn usage(pod: &Value, now: Time) -> Amounts {
    match is_counted(pod, now) {
        true => named(
            &total(pod, "requests", Total::Effective),
            &total(pod, "limits", Total::Effective),
        ),
        false => Amounts::default(),
    }
}

fn is_terminating(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds >= 0)
}

/// Nothing is requested of the resources that decide about quality of service.
fn is_best_effort(pod: &Value) -> bool {
    if let Some(class) = pod["status"]["qosClass"].as_str().filter(|c| !c.is_empty()) {
        return class == "BestEffort";
    }
    let asks = |resources: &Value| {
        ["requests", "limits"].iter().any(|which| {
            let amounts = Amounts::read(resources.get(which));
            ["cpu", "memory"]
                .iter()
                .any(|name| amounts.get(name).is_some_and(|q| q > Quantity::from_units(0)))
        })
    };
    let all = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|l| containers(pod, l));
    !asks(&pod["spec"]["resources"]) && !all.into_iter().any(|c| asks(&c["resources"]))
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|n| !n.is_empty()) || term["namespaceSelector"].is_object()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &pod["spec"]["affinity"][kind];
        let list = |name: &str| affinity[name].as_array().map_or(&[][..], Vec::as_slice);
        list("requiredDuringSchedulingIgnoredDuringExecution")
            .iter()
            .any(crosses)
            || list("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}

pub(crate) fn in_scope(scope: &Scope, pod: &Value) -> bool {
    match scope.name.as_str() {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = pod["spec"]["priorityClassName"].as_str().filter(|c| !c.is_empty());
            scope.selects(class.as_slice())
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

pub(crate) fn changes(subresource: &str, new: &Value, old: &Value) -> bool {
    match subresource {
        "" => is_terminating(new) != is_terminating(old),
        "resize" => true,
        _ => false,
    }
}

/// Each container says what a quota limits, or nobody could count it. Errors: what is missing, and where.
pub(crate) fn constraints<'a>(names: impl Iterator<Item = &'a str>, pod: &Value) -> Result<(), String> {
    let stated = |which: &str| {
        let amounts = Amounts::read(pod["spec"]["resources"].get(which));
        amounts
            .names()
            .any(|n| matches!(n, "cpu" | "memory") || n.starts_with(HUGE_PAGES))
    };
    if stated("requests") || stated("limits") {
        return Ok(());
    }
    let required: Vec<&str> = names.filter(|name| STATED.contains(name)).collect();
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for container in ["containers", "initContainers"].iter().flat_map(|l| containers(pod, l)) {
        let amounts = |which: &str| Amounts::read(container["resources"].get(which));
        let present = named(&amounts("requests"), &amounts("limits"));
        for name in required.iter().filter(|name| present.get(name).is_none()) {
            missing
                .entry(name)
                .or_default()
                .push(container["name"].as_str().unwrap_or_default());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let parts = missing.into_iter().map(|(name, mut containers)| {
        containers.sort_unstable();
        containers.dedup();
        format!("{name} for: {}", containers.join(","))
    });
    Err(format!("must specify {}", parts.collect::<Vec<_>>().join("; ")))
}
