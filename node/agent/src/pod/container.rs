//! A container as a pod describes it: what the agent acts on, nothing else.

use super::SeccompProfile;
use crate::timing::Exact;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use strata_meta::{IntOrString, Quantity};
use strata_volume::{FieldRef, ResourceFieldRef};

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
    /// Which changes of resources need a restart.
    pub resize_policy: Vec<ResizePolicy>,
    /// In place of the pod's; for init containers Always makes it a sidecar.
    pub restart_policy: Option<String>,
    /// What becomes of it by its exit code, before its policy is asked (KEP-5307).
    pub restart_policy_rules: Vec<RestartRule>,
    /// Of an ephemeral container: the one whose processes it sees.
    pub target_container_name: String,
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

/// core/v1 ContainerResizePolicy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResizePolicy {
    /// cpu or memory.
    pub resource_name: String,
    /// NotRequired or RestartContainer.
    pub restart_policy: String,
}

/// core/v1 ContainerRestartRule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestartRule {
    /// Restart or RestartAllContainers.
    pub action: String,
    /// For which codes.
    pub exit_codes: ExitCodes,
}

/// core/v1 ContainerRestartRuleOnExitCodes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ExitCodes {
    /// In or NotIn.
    pub operator: String,
    /// The codes.
    pub values: Vec<i32>,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// At most.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    /// At least.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
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
    /// Times that an annotation gives in place of seconds.
    #[serde(skip)]
    pub exact: Exact,
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
    /// Ask gRPC's health service (probes only).
    pub grpc: Option<GrpcAction>,
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

/// core/v1 GRPCAction.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GrpcAction {
    /// The port.
    pub port: u16,
    /// Which service's health; all of the server when empty.
    pub service: String,
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
    /// In place of the pod's.
    pub app_armor_profile: Option<SeccompProfile>,
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
