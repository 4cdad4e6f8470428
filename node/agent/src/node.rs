//! The node object: registration, status and lease.

use crate::options::{AgentOptions, NodeFacts};
use serde_json::{Map, Value, json};
use std::{fs, time::Duration};
use strata_client::{Client, Error, LeaseKeeper, LeaseSettings, Patch, resources};
use strata_meta::{Quantity, Time};
use strata_task::{Backoff, CancellationToken};

/// How often an unchanged status is sent again (upstream: nodeStatusReportFrequency).
const REPORT_EVERY: Duration = Duration::from_secs(300);
/// How long a lease holds (upstream: 40 s), and how often it is renewed.
const LEASE: (Duration, Duration) = (Duration::from_secs(40), Duration::from_secs(10));
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
    Ok(NodeFacts {
        ips: options.node_ips.iter().map(ToString::to_string).collect(),
        cpu_milli: i64::try_from(cores).unwrap_or(1) * 1000,
        memory_bytes: kib * 1024,
        storage_bytes: i64::try_from(disk.f_blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX),
    })
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
        "spec": {},
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
    client: Client,
    name: String,
    status: Value,
    ready: tokio::sync::watch::Receiver<Option<String>>,
}

impl NodeReporter {
    /// `problem` says why the node is not ready, `None` once it is.
    pub fn new(
        options: &AgentOptions,
        facts: &NodeFacts,
        problem: tokio::sync::watch::Receiver<Option<String>>,
    ) -> Self {
        Self {
            client: options.client.clone(),
            name: options.node_name.clone(),
            status: fixed_status(options, facts),
            ready: problem,
        }
    }

    /// Reports at once, at every change of readiness, and from time to time.
    pub async fn run(mut self, node: Value, cancel: CancellationToken) {
        let lease = LeaseSettings {
            namespace: "kube-node-lease".into(),
            name: self.name.clone(),
            holder: self.name.clone(),
            duration: LEASE.0,
            renew_every: LEASE.1,
            owner: Some(strata_meta::OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: self.name.clone(),
                uid: node
                    .pointer("/metadata/uid")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .into(),
                ..Default::default()
            }),
        };
        let keeper = LeaseKeeper::new(self.client.clone(), lease);
        let renewing = keeper.run(cancel.clone());
        let reporting = self.report_until(node, cancel.clone());
        tokio::join!(renewing, reporting);
    }

    async fn report_until(&mut self, node: Value, cancel: CancellationToken) {
        let mut conditions = known_conditions(&node);
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let problem = self.ready.borrow_and_update().clone();
            let fresh = node_conditions(problem.as_deref(), &conditions, Time::now());
            let mut status = self.status.clone();
            status["conditions"] = fresh.clone().into();
            let patch = Patch::Strategic(json!({ "status": status }));
            let pause = match self
                .client
                .patch(resources::NODES, "", &self.name, Some("status"), patch)
                .await
            {
                Ok(_) => {
                    conditions = fresh;
                    backoff.reset();
                    REPORT_EVERY
                }
                Err(error) => {
                    tracing::warn!(%error, "reporting the node's status failed, trying again");
                    backoff.next()
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = self.ready.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

fn known_conditions(node: &Value) -> Vec<Value> {
    let list = node.pointer("/status/conditions").and_then(Value::as_array);
    list.cloned().unwrap_or_default()
}

/// The four conditions every node has (upstream: nodestatus setters).
fn node_conditions(problem: Option<&str>, before: &[Value], now: Time) -> Vec<Value> {
    let pressure =
        |kind: &'static str, reason: &'static str, message: &'static str| (kind, "False", reason, message.to_owned());
    let ready = match problem {
        None => (
            "Ready",
            "True",
            "KubeletReady",
            "kubelet is posting ready status".to_owned(),
        ),
        Some(why) => ("Ready", "False", "KubeletNotReady", why.to_owned()),
    };
    let all = [
        pressure(
            "MemoryPressure",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        pressure(
            "DiskPressure",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        pressure(
            "PIDPressure",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        ready,
    ];
    let since = |kind: &str, status: &str| {
        let same = before.iter().find(|c| c["type"] == kind && c["status"] == status);
        same.map_or_else(|| json!(now), |c| c["lastTransitionTime"].clone())
    };
    all.into_iter()
        .map(|(kind, status, reason, message)| {
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": since(kind, status)})
        })
        .collect()
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
    let amount = |name: &str| facts.allocatable(name).to_string();
    let mut capacity = Map::new();
    for name in ["cpu", "memory", "ephemeral-storage"] {
        capacity.insert(name.into(), amount(name).into());
    }
    capacity.insert(
        "pods".into(),
        Quantity::from_units(options.max_pods.into()).to_string().into(),
    );
    for name in ["hugepages-1Gi", "hugepages-2Mi"] {
        capacity.insert(name.into(), "0".into());
    }
    let port = options.listener.local_addr().map(|a| a.port()).unwrap_or(10250);
    json!({
        "addresses": addresses,
        "capacity": capacity,
        "allocatable": capacity,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": node_info(&options.version),
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_keeps_its_time_until_it_changes() {
        let first = node_conditions(Some("no network"), &[], Time::from_second(1));
        let ready = |list: &[Value]| list.iter().find(|c| c["type"] == "Ready").cloned().expect("Ready");
        assert_eq!(ready(&first)["status"], "False");
        let second = node_conditions(Some("no network"), &first, Time::from_second(5));
        assert_eq!(ready(&second)["lastTransitionTime"], "1970-01-01T00:00:01Z");
        assert_eq!(ready(&second)["lastHeartbeatTime"], "1970-01-01T00:00:05Z");
        let third = node_conditions(None, &second, Time::from_second(9));
        assert_eq!(ready(&third)["lastTransitionTime"], "1970-01-01T00:00:09Z");
    }
}
