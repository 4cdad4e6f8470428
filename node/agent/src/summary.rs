//! What the node and its pods use: /stats/summary and /metrics.

use crate::{context::Context, pod::Pod, server::pod_name, usage};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write, sync::Arc};
use strata_client::Informer;
use strata_engine::{ContainerState, ContainerStatus, Stats};
use strata_meta::Time;

/// stats/v1alpha1 Summary; `whole` with what lies on disk.
pub async fn stats(context: &Arc<Context>, pods: &Informer<Pod>, whole: bool) -> Vec<u8> {
    let now = Time::now();
    let mut by_pod: BTreeMap<(String, String), PodStats> = BTreeMap::new();
    for container in running(context) {
        let engine = &context.options.engine;
        let read = if whole {
            engine.stats(&container.id).await
        } else {
            engine.usage(&container.id).await
        };
        // A container that ends meanwhile simply has no figures.
        let Ok(stats) = read else { continue };
        let (namespace, name) = pod_name(&container);
        let entry = by_pod.entry((namespace.to_owned(), name.to_owned())).or_default();
        entry.cpu_nanos += stats.cpu_usage_nanos;
        entry.working_set += stats.memory_working_set;
        entry.containers.push(container_stats(&container, &stats, now, whole));
    }
    let uid = |namespace: &str, name: &str| {
        let pod = pods.get(&strata_meta::ObjectKey::new(namespace, name));
        pod.map(|p| p.metadata.uid.to_string()).unwrap_or_default()
    };
    let pods: Vec<Value> = by_pod
        .into_iter()
        .map(|((namespace, name), pod)| {
            json!({"podRef": {"name": name, "namespace": namespace, "uid": uid(&namespace, &name)},
                "startTime": now, "containers": pod.containers,
                "cpu": {"time": now, "usageCoreNanoSeconds": pod.cpu_nanos},
                "memory": {"time": now, "workingSetBytes": pod.working_set}})
        })
        .collect();
    let mut node = json!({"nodeName": context.options.node_name, "startTime": now});
    match usage::machine() {
        Ok(machine) => {
            node["cpu"] = json!({"time": now, "usageCoreNanoSeconds": machine.cpu_nanos});
            node["memory"] = json!({"time": now, "workingSetBytes": machine.working_set});
        }
        Err(error) => tracing::warn!(%error, "what the machine uses cannot be read"),
    }
    json!({"node": node, "pods": pods}).to_string().into_bytes()
}

#[derive(Default)]
struct PodStats {
    containers: Vec<Value>,
    cpu_nanos: u64,
    working_set: u64,
}

/// The containers that run now.
pub fn running(context: &Context) -> Vec<ContainerStatus> {
    let mut all = context.options.engine.list_containers();
    all.retain(|c| c.state == ContainerState::Running);
    all
}

fn container_stats(container: &ContainerStatus, stats: &Stats, now: Time, whole: bool) -> Value {
    let mut value = json!({
        "name": container.name,
        "startTime": container.started_at.map(crate::slot::time),
        "cpu": {"time": now, "usageCoreNanoSeconds": stats.cpu_usage_nanos},
        "memory": {"time": now, "workingSetBytes": stats.memory_working_set, "usageBytes": stats.memory_usage,
            "rssBytes": stats.memory_rss, "pageFaults": stats.page_faults, "majorPageFaults": stats.major_page_faults},
    });
    if whole {
        value["rootfs"] = json!({"time": now, "usedBytes": stats.rootfs_used, "inodesUsed": stats.rootfs_inodes});
        value["logs"] = json!({"time": now, "usedBytes": stats.logs_used});
    }
    value
}

/// The agent's metrics, under the kubelet's names.
pub fn metrics(context: &Context, pods: &Informer<Pod>) -> String {
    let mut out = String::new();
    let containers = context.options.engine.list_containers();
    let running = containers.iter().filter(|c| c.state == ContainerState::Running).count();
    let lines = [
        (
            "kubelet_running_pods",
            "Number of pods that have a running pod sandbox",
            context.options.engine.list_sandboxes().len(),
        ),
        (
            "kubelet_desired_pods",
            "The number of pods the kubelet is being instructed to run",
            pods.list().len(),
        ),
        (
            "kubelet_running_containers",
            "Number of containers currently running",
            running,
        ),
    ];
    for (name, help, value) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    out
}
