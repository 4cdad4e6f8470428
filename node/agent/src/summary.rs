//! What the node and its pods use: /stats/summary and /metrics.

use crate::{context::Context, pod::Pod, server::pod_name};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write, sync::Arc};
use strata_client::Informer;
use strata_engine::{ContainerState, ContainerStatus, Stats};
use strata_meta::Time;

/// stats/v1alpha1 Summary.
pub async fn stats(context: &Arc<Context>, pods: &Informer<Pod>) -> Vec<u8> {
    let now = Time::now();
    let mut by_pod: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
    for container in running(context) {
        // A container that ends meanwhile simply has no figures.
        let Ok(stats) = context.options.engine.stats(&container.id).await else {
            continue;
        };
        let (namespace, name) = pod_name(&container);
        let entry = by_pod.entry((namespace.to_owned(), name.to_owned())).or_default();
        entry.push(container_stats(&container, &stats, now));
    }
    let uid = |namespace: &str, name: &str| {
        let pod = pods.get(&strata_meta::ObjectKey::new(namespace, name));
        pod.map(|p| p.metadata.uid.to_string()).unwrap_or_default()
    };
    let pods: Vec<Value> = by_pod
        .into_iter()
        .map(|((namespace, name), containers)| {
            json!({"podRef": {"name": name, "namespace": namespace, "uid": uid(&namespace, &name)},
                "startTime": now, "containers": containers})
        })
        .collect();
    let node = json!({"nodeName": context.options.node_name, "startTime": now});
    json!({"node": node, "pods": pods}).to_string().into_bytes()
}

fn running(context: &Context) -> Vec<ContainerStatus> {
    let mut all = context.options.engine.list_containers();
    all.retain(|c| c.state == ContainerState::Running);
    all
}

fn container_stats(container: &ContainerStatus, stats: &Stats, now: Time) -> Value {
    json!({
        "name": container.name,
        "startTime": container.started_at.map(crate::slot::time),
        "cpu": {"time": now, "usageCoreNanoSeconds": stats.cpu_usage_nanos},
        "memory": {"time": now, "workingSetBytes": stats.memory_working_set, "usageBytes": stats.memory_usage,
            "rssBytes": stats.memory_rss, "pageFaults": stats.page_faults, "majorPageFaults": stats.major_page_faults},
        "rootfs": {"time": now, "usedBytes": stats.rootfs_used, "inodesUsed": stats.rootfs_inodes},
        "logs": {"time": now, "usedBytes": stats.logs_used},
    })
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
