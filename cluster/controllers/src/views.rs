//! The parts of pods, nodes and services that controllers read.

use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::collections::BTreeMap;
use strata_meta::{
    IntOrString, ObjectMeta, Time,
    placement::{Taint, Toleration},
};

use crate::tracked::Tracked;

pub(crate) type Pod = Tracked<PodView>;
pub(crate) type Node = Tracked<NodeView>;
pub(crate) type Service = Tracked<ServiceView>;

/// core/v1 PodPhase, in the order of deletion preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Phase {
    #[default]
    #[serde(alias = "")]
    Pending = 0,
    Running = 2,
    Succeeded = 3,
    Failed = 4,
    #[serde(other)]
    Unknown = 1,
}

impl Phase {
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// What controllers read of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "PodWire")]
pub(crate) struct PodView {
    pub created: Option<Time>,
    /// When a graceful deletion ends.
    pub deletion: Option<Time>,
    pub deletion_cost: i64,
    pub node: String,
    pub hostname: String,
    pub subdomain: String,
    pub phase: Phase,
    pub evicted: bool,
    pub ready: bool,
    pub ready_since: Option<Time>,
    pub ips: Vec<String>,
    /// The most restarts of a regular container and of a sidecar.
    pub restarts: (i64, i64),
    pub ports: Vec<ContainerPort>,
    pub tolerations: Vec<Toleration>,
    pub claims: Vec<PodClaim>,
    /// The agent is done with it, or it was deleted without asking the agent.
    pub is_shut_down: bool,
    /// Since when somebody other than its agent has said that it is about to go.
    pub disruption_target: Option<Time>,
    /// A job has not counted it yet.
    pub job_tracked: bool,
}

/// A claim that a pod's volume names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodClaim {
    pub name: String,
    /// Made for this pod, and so only used by it if it is the pod's own.
    pub ephemeral: bool,
}

impl PodView {
    /// Neither finished nor being deleted.
    pub fn is_active(&self) -> bool {
        !self.phase.is_terminal() && self.deletion.is_none()
    }

    /// Ready for at least so many seconds.
    pub fn is_available(&self, min_ready_seconds: i64, now: Time) -> bool {
        self.ready
            && (min_ready_seconds == 0
                || self
                    .ready_since
                    .is_some_and(|since| now.seconds_since(since) >= min_ready_seconds))
    }
}

/// A named port of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerPort {
    pub name: String,
    pub container_port: i32,
    pub protocol: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodWire {
    metadata: PodMetaWire,
    spec: PodSpecWire,
    status: PodStatusWire,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodMetaWire {
    name: String,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    annotations: Option<CostWire>,
    finalizers: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CostWire {
    #[serde(rename = "controller.kubernetes.io/pod-deletion-cost")]
    cost: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpecWire {
    node_name: String,
    hostname: String,
    subdomain: String,
    containers: Vec<ContainerWire>,
    init_containers: Vec<ContainerWire>,
    tolerations: Vec<Toleration>,
    volumes: Vec<VolumeWire>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct VolumeWire {
    name: String,
    persistent_volume_claim: Option<ClaimWire>,
    ephemeral: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimWire {
    claim_name: String,
}

impl VolumeWire {
    fn claim(self, pod: &str) -> Option<PodClaim> {
        match (self.persistent_volume_claim, self.ephemeral) {
            (Some(claim), _) => Some(PodClaim {
                name: claim.claim_name,
                ephemeral: false,
            }),
            (None, Some(_)) => Some(PodClaim {
                name: format!("{pod}-{}", self.name),
                ephemeral: true,
            }),
            (None, None) => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerWire {
    name: String,
    restart_policy: String,
    ports: Vec<ContainerPort>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatusWire {
    phase: Phase,
    reason: String,
    conditions: Vec<Condition>,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<IpWire>,
    container_statuses: Vec<ContainerStatusWire>,
    init_container_statuses: Vec<ContainerStatusWire>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IpWire {
    ip: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatusWire {
    name: String,
    restart_count: i64,
}

impl From<PodWire> for PodView {
    fn from(pod: PodWire) -> Self {
        let PodWire { metadata, spec, status } = pod;
        let claims = spec.volumes.into_iter().filter_map(|v| v.claim(&metadata.name));
        let ready = status
            .conditions
            .iter()
            .find(|c| c.type_ == "Ready" && c.status == "True");
        let announced =
            |c: &&Condition| c.type_ == "DisruptionTarget" && c.status == "True" && c.reason != "TerminationByKubelet";
        let target = status.conditions.iter().find(announced);
        let sidecars: Vec<&ContainerWire> = spec
            .init_containers
            .iter()
            .filter(|c| c.restart_policy == "Always")
            .collect();
        let is_sidecar = |s: &&ContainerStatusWire| sidecars.iter().any(|c| c.name == s.name);
        let regular = status
            .container_statuses
            .iter()
            .map(|s| s.restart_count)
            .max()
            .unwrap_or(0);
        let sidecar = status
            .init_container_statuses
            .iter()
            .filter(is_sidecar)
            .map(|s| s.restart_count)
            .max()
            .unwrap_or(0);
        let mut ips: Vec<String> = status.pod_ips.into_iter().map(|p| p.ip).collect();
        if ips.is_empty() && !status.pod_ip.is_empty() {
            ips.push(status.pod_ip);
        }
        let containers = spec.containers.iter().chain(sidecars.iter().copied());
        Self {
            claims: claims.collect(),
            disruption_target: target.and_then(|c| c.last_transition_time),
            is_shut_down: metadata.deletion_timestamp.is_some() && metadata.deletion_grace_period_seconds == Some(0),
            job_tracked: metadata
                .finalizers
                .iter()
                .any(|name| name == "batch.kubernetes.io/job-tracking"),
            created: metadata.creation_timestamp,
            deletion: metadata.deletion_timestamp,
            deletion_cost: metadata
                .annotations
                .and_then(|a| a.cost)
                .and_then(|c| c.parse().ok())
                .unwrap_or(0),
            ports: containers.flat_map(|c| c.ports.iter().cloned()).collect(),
            node: spec.node_name,
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            phase: status.phase,
            evicted: status.reason == "Evicted",
            ready: ready.is_some(),
            ready_since: ready.and_then(|c| c.last_transition_time),
            ips,
            restarts: (regular, sidecar),
            tolerations: spec.tolerations,
        }
    }
}

/// The members that all conditions share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What controllers read of a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeView {
    pub metadata: NodeMeta,
    pub spec: NodeSpec,
    pub status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NodeMeta {
    pub creation_timestamp: Option<Time>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    pub conditions: Vec<Condition>,
    pub addresses: Vec<NodeAddress>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct NodeAddress {
    #[serde(rename = "type")]
    pub type_: String,
    pub address: String,
}

impl NodeView {
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|c| c.type_ == type_)
    }

    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|c| c.status == "True")
    }
}

/// What controllers read of a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceView {
    pub metadata: ObjectMeta,
    pub spec: ServiceSpec,
    pub status: ServiceStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type")]
    pub type_: String,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// Absent: somebody else makes the endpoints.
    pub selector: Option<BTreeMap<String, String>>,
    pub ports: Vec<ServicePort>,
    pub publish_not_ready_addresses: bool,
    pub ip_families: Vec<String>,
    pub load_balancer_class: Option<String>,
}

impl ServiceSpec {
    pub fn is_headless(&self) -> bool {
        self.cluster_ip.is_empty() || self.cluster_ip == "None"
    }

    /// Whether endpoints are computed from pods.
    pub fn selects_pods(&self) -> bool {
        self.type_ != "ExternalName" && self.selector.as_ref().is_some_and(|s| !s.is_empty())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServicePort {
    pub name: String,
    pub protocol: String,
    pub port: i32,
    pub target_port: IntOrString,
    pub app_protocol: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    pub load_balancer: LoadBalancerStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LoadBalancerStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<LoadBalancerIngress>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct LoadBalancerIngress {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_mode: Option<String>,
}

/// Whether a member says nothing and so is left out, as Go's omitempty does.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
