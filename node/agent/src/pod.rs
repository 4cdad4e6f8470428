//! The agent's projection of a pod: the fields it acts on, nothing else.

mod container;

use crate::allocation::PendingResize;
pub use container::*;
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};
use strata_meta::{ObjectMeta, Quantity, Time, placement::NodeSelector, placement::Toleration};
use strata_volume::Volume;

/// core/v1 Pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name, identity, labels.
    pub metadata: ObjectMeta,
    /// What shall be.
    pub spec: PodSpec,
    /// What the API says is.
    pub status: PodStatus,
    /// A change of resources that the node has not accepted; `spec` has those it has.
    #[serde(skip)]
    pub pending_resize: Option<PendingResize>,
    /// Of a pod that is this node's own: all that its manifest says.
    #[serde(skip)]
    pub manifest: Option<Arc<serde_json::Value>>,
}

/// The part of core/v1 PodStatus that the agent reads back.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Pending, Running, Succeeded or Failed.
    pub phase: String,
    /// When the agent first saw the pod.
    pub start_time: Option<Time>,
    /// Conditions, of which foreign ones are kept.
    pub conditions: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Set by eviction and the like.
    pub reason: String,
    /// Sentence to the reason.
    pub message: String,
    /// The addresses last reported.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// Scheduling's nominee and others are left alone.
    pub qos_class: String,
    /// What was last reported of the containers; restart counts survive in it.
    pub container_statuses: Vec<ReportedContainer>,
    /// The same of init containers.
    pub init_container_statuses: Vec<ReportedContainer>,
    /// The resources that the pod as a whole had.
    pub resources: Option<Resources>,
}

/// What was last reported of one container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportedContainer {
    /// The container.
    pub name: String,
    /// How often it was restarted.
    pub restart_count: u32,
    /// The resources it had.
    pub resources: Option<Resources>,
}

/// core/v1 PodSpec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Containers that run to completion, one after another, before the others.
    pub init_containers: Vec<Container>,
    /// The containers.
    pub containers: Vec<Container>,
    /// Containers that were added to the running pod to look at it; never restarted.
    pub ephemeral_containers: Vec<Container>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Always, OnFailure or Never.
    pub restart_policy: String,
    /// Seconds between the polite and the hard end.
    pub termination_grace_period_seconds: Option<i64>,
    /// Seconds the pod may be active.
    pub active_deadline_seconds: Option<i64>,
    /// ClusterFirst, ClusterFirstWithHostNet, Default or None.
    pub dns_policy: String,
    /// Additions to resolv.conf.
    pub dns_config: Option<DnsConfig>,
    /// The account the pod acts as.
    pub service_account_name: String,
    /// The node.
    pub node_name: String,
    /// The node's network namespace.
    pub host_network: bool,
    /// The node's process ids.
    #[serde(rename = "hostPID")]
    pub host_pid: bool,
    /// The node's IPC namespace.
    #[serde(rename = "hostIPC")]
    pub host_ipc: bool,
    /// Whether its users are the node's; no gives it a user namespace of its own.
    pub host_users: Option<bool>,
    /// One PID namespace for all containers.
    pub share_process_namespace: Option<bool>,
    /// Settings for all containers.
    pub security_context: PodSecurityContext,
    /// Credentials for pulling.
    pub image_pull_secrets: Vec<LocalReference>,
    /// Name in the pod's own UTS namespace.
    pub hostname: String,
    /// Service under whose name the pod is reachable.
    pub subdomain: String,
    /// Whether the host name is the full domain name.
    #[serde(rename = "setHostnameAsFQDN")]
    pub set_hostname_as_fqdn: Option<bool>,
    /// Lines for /etc/hosts.
    pub host_aliases: Vec<HostAlias>,
    /// Whether services appear in the environment.
    pub enable_service_links: Option<bool>,
    /// Conditions that others set and readiness waits for.
    pub readiness_gates: Vec<ReadinessGate>,
    /// Taints that are borne.
    pub tolerations: Vec<Toleration>,
    /// Labels that the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Further demands on the node.
    pub affinity: Affinity,
    /// The operating system that it is made for.
    pub os: Option<PodOs>,
    /// How important it is.
    pub priority: Option<i32>,
    /// Requests and limits of the pod as a whole (KEP-2837).
    pub resources: Option<Resources>,
    /// Replaces every other name of the pod's own (KEP-4762).
    pub hostname_override: Option<String>,
    /// Resources of the pod beyond its containers'.
    pub overhead: BTreeMap<String, Quantity>,
    /// Which runtime; empty for the default.
    pub runtime_class_name: Option<String>,
}

/// core/v1 Affinity, as far as the node has a say in it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Affinity {
    /// Demands on the node.
    pub node_affinity: NodeAffinity,
}

/// core/v1 NodeAffinity, without preferences.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAffinity {
    /// What the node must be.
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Option<NodeSelector>,
}

/// core/v1 PodOS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodOs {
    /// `linux` or `windows`.
    pub name: String,
}

/// core/v1 LocalObjectReference.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LocalReference {
    /// The name.
    pub name: String,
}

/// core/v1 PodReadinessGate.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadinessGate {
    /// The condition.
    pub condition_type: String,
}

/// core/v1 HostAlias.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HostAlias {
    /// The address.
    pub ip: String,
    /// Its names.
    pub hostnames: Vec<String>,
}

/// core/v1 PodDNSConfig.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Servers, before those of the policy.
    pub nameservers: Vec<String>,
    /// Search domains, after those of the policy.
    pub searches: Vec<String>,
    /// Options, over those of the policy.
    pub options: Vec<DnsOption>,
}

/// core/v1 PodDNSConfigOption.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DnsOption {
    /// Such as `ndots`.
    pub name: String,
    /// Such as `2`.
    pub value: Option<String>,
}

/// core/v1 PodSecurityContext.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSecurityContext {
    /// User of all containers.
    pub run_as_user: Option<i64>,
    /// Group of all containers.
    pub run_as_group: Option<i64>,
    /// Refuse user 0.
    pub run_as_non_root: Option<bool>,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// Merge (the default) or Strict: whether the image adds groups.
    pub supplemental_groups_policy: Option<String>,
    /// Group that volumes are given to.
    pub fs_group: Option<i64>,
    /// `OnRootMismatch`: not if the volume's root is the group's already.
    pub fs_group_change_policy: Option<String>,
    /// System call filter.
    pub seccomp_profile: Option<SeccompProfile>,
    /// AppArmor profile of all containers; of the same shape as the filter.
    pub app_armor_profile: Option<SeccompProfile>,
    /// Kernel settings of the pod's namespaces.
    pub sysctls: Vec<Sysctl>,
}

/// core/v1 Sysctl.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sysctl {
    /// Dotted name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// core/v1 SeccompProfile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompProfile {
    /// RuntimeDefault, Unconfined or Localhost.
    #[serde(rename = "type")]
    pub kind: String,
    /// File of a Localhost profile, below the node's seccomp directory.
    pub localhost_profile: String,
}

impl Pod {
    /// Whether a volume or variable that shows the pod's own fields would show something else than of `before`.
    pub fn shows_otherwise(&self, before: &Self) -> bool {
        let (new, old) = (&self.metadata, &before.metadata);
        new.labels != old.labels || new.annotations != old.annotations
    }

    /// Whether the system cannot do without it (upstream `IsCriticalPod`).
    pub fn is_critical(&self) -> bool {
        const SYSTEM: i32 = 2_000_000_000;
        let mirror = self.metadata.annotations.contains_key("kubernetes.io/config.mirror");
        self.is_static() || mirror || self.spec.priority.is_some_and(|priority| priority >= SYSTEM)
    }

    /// `namespace/name`, for messages.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }

    /// Init containers, then containers, then ephemeral ones.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.lasting_containers().chain(&self.spec.ephemeral_containers)
    }

    /// Init containers, then containers.
    pub fn lasting_containers(&self) -> impl Iterator<Item = &Container> {
        self.spec.init_containers.iter().chain(&self.spec.containers)
    }

    /// Seconds between the polite and the hard end: those of the deletion, else the spec's, else 30.
    pub fn grace_seconds(&self) -> u64 {
        let grace = self
            .metadata
            .deletion_grace_period_seconds
            .or(self.spec.termination_grace_period_seconds);
        grace.unwrap_or(30).max(0).unsigned_abs()
    }

    /// Whether the pod is this node's own, which the API only mirrors.
    pub fn is_static(&self) -> bool {
        self.manifest.is_some()
    }

    /// Whether the pod has a user namespace of its own.
    pub fn has_own_users(&self) -> bool {
        self.spec.host_users == Some(false)
    }

    /// Whether the API asks for the pod's end.
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether the pod has ended for good.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
}
