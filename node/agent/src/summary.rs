//! What the node and its pods use: /stats/summary and /metrics.

use crate::{
    cgroups,
    context::Context,
    eviction::{self, Disk, Processes},
    pod::Pod,
    server::pod_name,
    usage,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write, path::Path, sync::Arc};
use strata_client::Informer;
use strata_engine::{ContainerState, ContainerStatus, Stats};
use strata_meta::Time;
use strata_mount::FolderUsage;

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
        entry.all.cpu_usage_nanos += stats.cpu_usage_nanos;
        entry.all.memory_working_set += stats.memory_working_set;
        entry.all.memory_usage += stats.memory_usage;
        entry.all.memory_rss += stats.memory_rss;
        entry.all.pids += stats.pids;
        entry.disk = entry.disk.plus(FolderUsage {
            bytes: stats.rootfs_used + stats.logs_used,
            inodes: stats.rootfs_inodes,
        });
        entry.containers.push(container_stats(&container, &stats, now, whole));
    }
    let disk = |path: &Path| Disk::of(path).inspect_err(|error| tracing::warn!(%error, "a disk cannot be looked at"));
    let nodefs = disk(&context.options.pods_dir).ok().filter(|_| whole);
    let mut listed = Vec::new();
    for ((namespace, name), stats) in by_pod {
        let pod = pods.get(&strata_meta::ObjectKey::new(&namespace, &name));
        let uid = pod.as_ref().map(|p| p.metadata.uid.to_string()).unwrap_or_default();
        let mut value = json!({"podRef": {"name": name, "namespace": namespace, "uid": uid},
            "startTime": pod.as_ref().and_then(|p| p.status.start_time).unwrap_or(now),
            "containers": stats.containers, "cpu": cpu(stats.all.cpu_usage_nanos, now),
            "memory": {"time": now, "workingSetBytes": stats.all.memory_working_set,
                "usageBytes": stats.all.memory_usage, "rssBytes": stats.all.memory_rss},
            "process_stats": {"process_count": stats.all.pids}});
        if let (Some(nodefs), Some(pod)) = (nodefs, pod) {
            let (volumes, in_memory) = eviction::volumes(context, &pod).await;
            let used = volumes.values().fold(stats.disk, |sum, volume| sum.plus(*volume));
            value["ephemeral-storage"] = filesystem(nodefs, used, now);
            value["volume"] = volume_stats(nodefs, &volumes, &in_memory, now).into();
        }
        listed.push(value);
    }
    json!({"node": node_stats(context, nodefs, now).await, "pods": listed})
        .to_string()
        .into_bytes()
}

#[derive(Default)]
struct PodStats {
    containers: Vec<Value>,
    all: Stats,
    disk: FolderUsage,
}

fn cpu(nanos: u64, now: Time) -> Value {
    json!({"time": now, "usageCoreNanoSeconds": nanos})
}

/// stats/v1alpha1 FsStats: what lies there, and the disk it lies on.
fn filesystem(disk: Disk, used: FolderUsage, now: Time) -> Value {
    json!({"time": now, "availableBytes": disk.available, "capacityBytes": disk.capacity, "usedBytes": used.bytes,
        "inodesFree": disk.inodes_free, "inodes": disk.inodes, "inodesUsed": used.inodes})
}

fn whole_disk(disk: Disk, now: Time) -> Value {
    let used = FolderUsage {
        bytes: disk.used,
        inodes: disk.inodes.saturating_sub(disk.inodes_free),
    };
    filesystem(disk, used, now)
}

fn volume_stats(
    disk: Disk,
    volumes: &BTreeMap<String, FolderUsage>,
    in_memory: &BTreeMap<String, u64>,
    now: Time,
) -> Vec<Value> {
    let named = |name: &String, mut value: Value| {
        value["name"] = name.as_str().into();
        value
    };
    let on_disk = volumes
        .iter()
        .map(|(name, used)| named(name, filesystem(disk, *used, now)));
    let memory = in_memory
        .iter()
        .map(|(name, bytes)| named(name, json!({"time": now, "usedBytes": bytes})));
    on_disk.chain(memory).collect()
}

async fn node_stats(context: &Context, nodefs: Option<Disk>, now: Time) -> Value {
    let options = &context.options;
    let mut node = json!({"nodeName": options.node_name, "startTime": now});
    match (usage::machine(), usage::memory()) {
        (Ok(machine), Ok(memory)) => {
            node["cpu"] = cpu(machine.cpu_nanos, now);
            node["memory"] = json!({"time": now, "workingSetBytes": machine.working_set,
                "availableBytes": memory.total.saturating_sub(memory.working_set)});
        }
        (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "what the machine uses cannot be read"),
    }
    let root = cgroups::root(&options.cgroup_root);
    if let Ok(pods) = options.engine.cgroup_usage(&root).await {
        let limit = cgroups::memory_of_pods(&options.configuration, &context.facts);
        let available = limit.unsigned_abs().saturating_sub(pods.memory_working_set);
        node["systemContainers"] = json!([{"name": "pods", "startTime": now, "cpu": cpu(pods.cpu_usage_nanos, now),
            "memory": {"time": now, "availableBytes": available, "usageBytes": pods.memory_usage,
                "workingSetBytes": pods.memory_working_set, "rssBytes": pods.memory_rss,
                "pageFaults": pods.page_faults, "majorPageFaults": pods.major_page_faults}}]);
    }
    if let Some(nodefs) = nodefs {
        node["fs"] = whole_disk(nodefs, now);
        if let Ok(images) = Disk::of(&options.image_dir) {
            node["runtime"] = json!({"imageFs": whole_disk(images, now), "containerFs": whole_disk(images, now)});
        }
    }
    if let Ok(processes) = Processes::read() {
        node["rlimit"] = json!({"time": now, "maxpid": processes.most, "curproc": processes.running});
    }
    node
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
