//! The agent's projection of a pod: the fields it acts on, nothing else.

use serde::Deserialize;
use std::collections::BTreeMap;
use strata_meta::{IntOrString, ObjectMeta, Quantity, Time};
use strata_volume::{FieldRef, ResourceFieldRef, Volume};

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
}

/// What was last reported of one container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportedContainer {
    /// The container.
    pub name: String,
    /// How often it was restarted.
    pub restart_count: u32,
}

/// core/v1 PodSpec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Containers that run to completion, one after another, before the others.
    pub init_containers: Vec<Container>,
    /// The containers.
    pub containers: Vec<Container>,
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
    pub tolerations: Vec<serde_json::Value>,
    /// Resources of the pod beyond its containers'.
    pub overhead: BTreeMap<String, Quantity>,
    /// Which runtime; empty for the default.
    pub runtime_class_name: Option<String>,
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
    /// Group that volumes are given to.
    pub fs_group: Option<i64>,
    /// System call filter.
    pub seccomp_profile: Option<SeccompProfile>,
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

/// core/v1 Container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Unique within the pod.
    pub name: String,
    /// What it runs.
    pub image: String,
    /// In place of the image's entry point.
    pub command: Vec<String>,
    /// In place of the image's arguments.
    pub args: Vec<String>,
    /// In place of the image's.
    pub working_dir: String,
    /// Named ports.
    pub ports: Vec<ContainerPort>,
    /// Whole maps as environment.
    pub env_from: Vec<EnvFrom>,
    /// Environment.
    pub env: Vec<EnvVar>,
    /// Requests and limits.
    pub resources: Resources,
    /// For init containers: Always makes it a sidecar.
    pub restart_policy: Option<String>,
    /// Where volumes appear.
    pub volume_mounts: Vec<VolumeMount>,
    /// Whether it lives.
    pub liveness_probe: Option<Probe>,
    /// Whether it serves.
    pub readiness_probe: Option<Probe>,
    /// Whether it has started.
    pub startup_probe: Option<Probe>,
    /// What is done at its ends.
    pub lifecycle: Lifecycle,
    /// File whose content becomes the termination message.
    pub termination_message_path: String,
    /// File or FallbackToLogsOnError.
    pub termination_message_policy: String,
    /// Always, IfNotPresent or Never.
    pub image_pull_policy: String,
    /// Settings of this container.
    pub security_context: SecurityContext,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close it after the first client.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
}

impl Container {
    /// Whether this init container keeps running beside the others (KEP-753).
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

/// core/v1 ContainerPort.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// The name probes may use.
    pub name: String,
    /// The port.
    pub container_port: u16,
    /// The port of the node that leads here; 0 for none.
    pub host_port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The node's address it is bound to; all when empty.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
}

/// core/v1 ResourceRequirements.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// At most.
    pub limits: BTreeMap<String, Quantity>,
    /// At least.
    pub requests: BTreeMap<String, Quantity>,
}

/// core/v1 VolumeMount.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeMount {
    /// The volume.
    pub name: String,
    /// Where in the container.
    pub mount_path: String,
    /// Without writing.
    pub read_only: bool,
    /// Directory within the volume.
    pub sub_path: String,
    /// The same with variables.
    pub sub_path_expr: String,
    /// None, HostToContainer or Bidirectional.
    pub mount_propagation: Option<String>,
    /// Disabled, IfPossible or Enabled.
    pub recursive_read_only: Option<String>,
}

/// core/v1 EnvFromSource.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvFrom {
    /// Put before every name.
    pub prefix: String,
    /// All keys of a config map.
    pub config_map_ref: Option<OptionalReference>,
    /// All keys of a secret.
    pub secret_ref: Option<OptionalReference>,
}

/// A reference that may be allowed to lead nowhere.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OptionalReference {
    /// The name.
    pub name: String,
    /// Whether it may be absent.
    pub optional: Option<bool>,
}

/// core/v1 EnvVar.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVar {
    /// The variable.
    pub name: String,
    /// Its value, in which `$(OTHER)` is expanded.
    pub value: String,
    /// Where else its value comes from.
    pub value_from: Option<EnvSource>,
}

/// core/v1 EnvVarSource.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvSource {
    /// A field of the pod.
    pub field_ref: Option<FieldRef>,
    /// A resource of a container.
    pub resource_field_ref: Option<ResourceFieldRef>,
    /// A key of a config map.
    pub config_map_key_ref: Option<KeyReference>,
    /// A key of a secret.
    pub secret_key_ref: Option<KeyReference>,
}

/// core/v1 ConfigMapKeySelector and SecretKeySelector.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeyReference {
    /// The object.
    pub name: String,
    /// Its key.
    pub key: String,
    /// Whether it may be absent.
    pub optional: Option<bool>,
}

/// core/v1 Probe.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Probe {
    /// What is tried.
    #[serde(flatten)]
    pub handler: Handler,
    /// Seconds before the first try.
    pub initial_delay_seconds: u32,
    /// Seconds a try may take; 0 stands for 1.
    pub timeout_seconds: u32,
    /// Seconds between tries; 0 stands for 10.
    pub period_seconds: u32,
    /// Successes that count as success; 0 stands for 1.
    pub success_threshold: u32,
    /// Failures that count as failure; 0 stands for 3.
    pub failure_threshold: u32,
    /// Grace of the restart that a failure causes.
    pub termination_grace_period_seconds: Option<i64>,
}

/// What probes and lifecycle hooks do: core/v1 ProbeHandler and LifecycleHandler.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Handler {
    /// Run a command in the container.
    pub exec: Option<ExecAction>,
    /// Ask over HTTP.
    pub http_get: Option<HttpGetAction>,
    /// Open a TCP connection.
    pub tcp_socket: Option<TcpSocketAction>,
    /// Wait (hooks only).
    pub sleep: Option<SleepAction>,
}

/// core/v1 ExecAction.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ExecAction {
    /// The command, without a shell.
    pub command: Vec<String>,
}

/// core/v1 HTTPGetAction.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpGetAction {
    /// Path and query.
    pub path: String,
    /// Number or name.
    pub port: IntOrString,
    /// The pod's address when empty.
    pub host: String,
    /// HTTP or HTTPS.
    pub scheme: String,
    /// Further headers.
    pub http_headers: Vec<Header>,
}

/// core/v1 HTTPHeader.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Header {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// core/v1 TCPSocketAction.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TcpSocketAction {
    /// Number or name.
    pub port: IntOrString,
    /// The pod's address when empty.
    pub host: String,
}

/// core/v1 SleepAction.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SleepAction {
    /// How long.
    pub seconds: u64,
}

/// core/v1 Lifecycle.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lifecycle {
    /// Right after the start.
    pub post_start: Option<Handler>,
    /// Right before the end.
    pub pre_stop: Option<Handler>,
    /// In place of the image's stop signal.
    pub stop_signal: Option<String>,
}

/// core/v1 SecurityContext.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityContext {
    /// Changes to the default capabilities.
    pub capabilities: Capabilities,
    /// Everything the host may.
    pub privileged: Option<bool>,
    /// In place of the pod's.
    pub run_as_user: Option<i64>,
    /// In place of the pod's.
    pub run_as_group: Option<i64>,
    /// In place of the pod's.
    pub run_as_non_root: Option<bool>,
    /// Root file system without writing.
    pub read_only_root_filesystem: Option<bool>,
    /// Whether set-uid programs work.
    pub allow_privilege_escalation: Option<bool>,
    /// Default or Unmasked.
    pub proc_mount: Option<String>,
    /// In place of the pod's.
    pub seccomp_profile: Option<SeccompProfile>,
}

/// core/v1 Capabilities.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Given beyond the default.
    pub add: Vec<String>,
    /// Taken from the default.
    pub drop: Vec<String>,
}

impl Pod {
    /// Whether a volume or variable that shows the pod's own fields would show something else than of `before`.
    pub fn shows_otherwise(&self, before: &Self) -> bool {
        let (new, old) = (&self.metadata, &before.metadata);
        new.labels != old.labels || new.annotations != old.annotations
    }

    /// `namespace/name`, for messages.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }

    /// Init containers, then containers.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
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

    /// Whether the API asks for the pod's end.
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether the pod has ended for good.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
}
