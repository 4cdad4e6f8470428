//! The node object: registration, status and lease.

use crate::{
    context::{Context, node_reference},
    options::{AgentOptions, NodeFacts},
    state::{self, NodeState},
};
use serde_json::{Map, Value, json};
use std::{fs, sync::Arc, time::Duration};
use strata_client::{Error, EventType, LeaseKeeper, LeaseSettings, Patch, resources};
use strata_image::Image;
use strata_meta::{Quantity, Time};
use strata_task::{Backoff, CancellationToken};
use tokio::sync::watch;

/// Images that a status names (upstream: nodeStatusMaxImages).
const MAX_IMAGES: usize = 50;
/// Pauses between tries to register.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(7));

/// What this machine has.
pub fn facts(options: &AgentOptions) -> std::io::Result<NodeFacts> {
    let memory = fs::read_to_string("/proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: i64 = total
        .and_then(|t| t.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let disk = rustix::fs::statvfs(&options.pods_dir)?;
    let cores = i64::try_from(cores).unwrap_or(i64::MAX);
    let configuration = &options.configuration;
    let by_core = i64::from(configuration.pods_per_core).saturating_mul(cores);
    let most = i64::from(configuration.max_pods);
    Ok(NodeFacts {
        configuration: configuration.clone(),
        max_pods: if by_core > 0 { most.min(by_core) } else { most },
        huge_pages: ["1Gi", "2Mi"]
            .map(|size| (format!("hugepages-{size}"), huge_pages(size)))
            .into(),
        ips: options.node_ips.iter().map(ToString::to_string).collect(),
        cpu_milli: cores.saturating_mul(1000),
        memory_bytes: kib * 1024,
        storage_bytes: i64::try_from(disk.f_blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX),
    })
}

/// Bytes of huge pages of a size that the machine has set aside.
fn huge_pages(size: &str) -> i64 {
    let kib: i64 = if size == "1Gi" { 1 << 20 } else { 2 << 10 };
    let path = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages");
    // A size the kernel does not know has no file.
    let pages = fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse::<i64>().ok());
    pages.unwrap_or(0).saturating_mul(kib * 1024)
}

/// The node as it registers itself.
fn new_node(options: &AgentOptions) -> Value {
    let name = &options.node_name;
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels(name),
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {"taints": options.configuration.register_with_taints},
    })
}

/// The labels that the agent gives its node.
pub fn labels(name: &str) -> Value {
    json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture(),
        "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": architecture(),
    })
}

/// The machine's architecture in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Makes the node object, or brings its labels up to date; keeps trying until cancelled.
/// Returns the node as the API has it.
pub async fn register(options: &AgentOptions, cancel: &CancellationToken) -> Option<Value> {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        match try_register(options).await {
            Ok(node) => return Some(node),
            Err(error) => tracing::warn!(%error, "registering the node failed, trying again"),
        }
        tokio::select! {
            () = cancel.cancelled() => return None,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

async fn try_register(options: &AgentOptions) -> Result<Value, Error> {
    let client = &options.client;
    let object = match client.create(resources::NODES, "", &new_node(options)).await {
        Ok(object) => object,
        Err(e) if e.is_already_exists() => {
            let patch = Patch::Merge(json!({"metadata": {"labels": labels(&options.node_name)}}));
            client
                .patch(resources::NODES, "", &options.node_name, None, patch)
                .await?
        }
        Err(e) => return Err(e),
    };
    object.to_value().map_err(|e| Error::Decode(e.to_string()))
}

/// Keeps the node's status and lease until cancelled.
pub struct NodeReporter {
    context: Arc<Context>,
    status: Value,
    state: watch::Receiver<NodeState>,
}

impl NodeReporter {
    /// Of the state that the context holds.
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            status: fixed_status(&context.options, &context.facts),
            state: context.state.subscribe(),
            context,
        }
    }

    /// Reports at once, at every change of state, and from time to time.
    pub async fn run(mut self, node: Value, cancel: CancellationToken) {
        let options = &self.context.options;
        // Upstream renews after a quarter of the time it holds.
        let holds = Duration::from_secs(options.configuration.node_lease_duration_seconds.into());
        let lease = LeaseSettings {
            namespace: "kube-node-lease".into(),
            name: options.node_name.clone(),
            holder: options.node_name.clone(),
            duration: holds,
            renew_every: holds / 4,
            owner: Some(strata_meta::OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: options.node_name.clone(),
                uid: node
                    .pointer("/metadata/uid")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .into(),
                ..Default::default()
            }),
        };
        let keeper = LeaseKeeper::new(options.client.clone(), lease);
        let renewing = keeper.run(cancel.clone());
        let reporting = self.report_until(node, cancel.clone());
        tokio::join!(renewing, reporting);
    }

    async fn report_until(&mut self, node: Value, cancel: CancellationToken) {
        let mut conditions = known_conditions(&node);
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let options = self.context.options.clone();
        loop {
            let state = self.state.borrow_and_update().clone();
            let fresh = state.conditions(&conditions, Time::now());
            let patch = Patch::Strategic(json!({ "status": self.status(&state, &fresh).await }));
            let sent = options
                .client
                .patch(resources::NODES, "", &options.node_name, Some("status"), patch)
                .await;
            let pause = match sent {
                Ok(_) => {
                    self.tell(&conditions, &fresh);
                    conditions = fresh;
                    backoff.reset();
                    options.configuration.node_status_report_frequency.get()
                }
                Err(error) => {
                    tracing::warn!(%error, "reporting the node's status failed, trying again");
                    backoff.next()
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = self.state.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn status(&self, state: &NodeState, conditions: &[Value]) -> Value {
        let mut status = self.status.clone();
        status["conditions"] = conditions.into();
        for (name, (all, healthy)) in &state.devices {
            status["capacity"][name] = all.to_string().into();
            status["allocatable"][name] = healthy.to_string().into();
        }
        let store = self.context.options.images.clone();
        match tokio::task::spawn_blocking(move || store.list()).await {
            Ok(Ok(images)) => status["images"] = image_list(images).into(),
            Ok(Err(error)) => tracing::warn!(%error, "the node's images cannot be listed"),
            // Only a shutdown ends it.
            Err(_) => {}
        }
        status
    }

    /// Events about conditions that have changed.
    fn tell(&self, before: &[Value], after: &[Value]) {
        let about = node_reference(&self.context);
        for reason in state::transitions(before, after) {
            let message = format!("Node {} status is now: {reason}", self.context.options.node_name);
            self.context.events.event(&about, EventType::Normal, reason, message);
        }
    }
}

/// The largest images with their names, which the scheduler's ImageLocality goes by.
fn image_list(mut images: Vec<Image>) -> Vec<Value> {
    images.sort_by_key(|image| std::cmp::Reverse(image.size));
    let named = images.into_iter().filter_map(|image| {
        let names: Vec<String> = image.repo_digests.into_iter().chain(image.repo_tags).collect();
        (!names.is_empty()).then(|| json!({"names": names, "sizeBytes": image.size}))
    });
    named.take(MAX_IMAGES).collect()
}

fn known_conditions(node: &Value) -> Vec<Value> {
    let list = node.pointer("/status/conditions").and_then(Value::as_array);
    list.cloned().unwrap_or_default()
}

/// The part of the status that does not change while the agent runs. It is merged into what
/// is there, so extended resources that others have added stay.
fn fixed_status(options: &AgentOptions, facts: &NodeFacts) -> Value {
    let mut addresses: Vec<Value> = facts
        .ips
        .iter()
        .map(|ip| json!({"type": "InternalIP", "address": ip}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": options.node_name}));
    let amounts = |of: &dyn Fn(&str) -> Quantity| -> Map<String, Value> {
        let names = [
            "cpu",
            "memory",
            "ephemeral-storage",
            "pods",
            "hugepages-1Gi",
            "hugepages-2Mi",
        ];
        names
            .map(|name| (name.to_owned(), of(name).to_string().into()))
            .into_iter()
            .collect()
    };
    let port = options.listener.local_addr().map(|a| a.port()).unwrap_or(10250);
    json!({
        "addresses": addresses,
        "capacity": amounts(&|name| facts.capacity(name)),
        "allocatable": amounts(&|name| facts.allocatable(name)),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": node_info(&options.version),
        "declaredFeatures": DECLARED_FEATURES,
        "features": {"supplementalGroupsPolicy": true},
    })
}

/// What a node must say it can do before pods that need it are put there (KEP-5328), in the order of their names.
const DECLARED_FEATURES: [&str; 3] = [
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
    "RestartAllContainersOnContainerExits",
];

fn node_info(version: &str) -> Value {
    let read = |path: &str| {
        fs::read_to_string(path)
            .map(|s| s.trim().to_owned())
            .unwrap_or_default()
    };
    let os_release = read("/etc/os-release");
    let pretty = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let machine_id = read("/etc/machine-id");
    json!({
        "machineID": machine_id, "systemUUID": machine_id, "bootID": read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": read("/proc/sys/kernel/osrelease"),
        "osImage": pretty.unwrap_or("Linux").trim_matches('"'),
        "containerRuntimeVersion": format!("strata://{}", env!("CARGO_PKG_VERSION")),
        "kubeletVersion": version, "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": architecture(),
    })
}
