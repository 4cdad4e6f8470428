//! Settings of the node from a file: upstream's KubeletConfiguration, as far as it means something here.
//!
//! A field that this node does not act upon is refused, and so is a value that contradicts itself: a setting that is
//! read and ignored would be a promise nobody keeps.

mod check;
mod duration;
mod reserved;

pub use duration::GoDuration;

use crate::eviction::{Threshold, thresholds};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use strata_meta::Quantity;

/// The group and version of the file.
pub const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// It is not YAML, or has fields that are unknown or of the wrong type.
    #[error("{0}")]
    Format(String),
    /// A value makes no sense.
    #[error("{field}: {why}")]
    Value {
        /// The field, as upstream names it.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl ConfigurationError {
    pub(crate) fn value(field: &'static str, why: impl ToString) -> Self {
        Self::Value {
            field,
            why: why.to_string(),
        }
    }
}

/// kubelet.config.k8s.io/v1beta1 KubeletConfiguration. Defaults are upstream's unless a field says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Configuration {
    pub api_version: String,
    pub kind: String,
    /// Most pods on the node.
    pub max_pods: u32,
    /// Most pods for each core; 0 is no such limit.
    pub pods_per_core: u32,
    /// Processes and threads of one pod; -1 is no limit.
    pub pod_pids_limit: i64,
    /// Kept for the system, by resource.
    pub system_reserved: BTreeMap<String, Quantity>,
    /// Kept for this program and the engine, by resource.
    pub kube_reserved: BTreeMap<String, Quantity>,
    /// Cores that no pod gets to itself, as `0-1,3`; in place of what the two above say of cpu.
    #[serde(rename = "reservedSystemCPUs")]
    pub reserved_system_cpus: String,
    /// `pods` (all pods together are held to what is allocatable) or `none`.
    pub enforce_node_allocatable: Vec<String>,
    /// Thresholds at which pods are ended at once, by signal; the default ones where the file has none.
    pub eviction_hard: Option<BTreeMap<String, String>>,
    /// Thresholds at which pods are ended after a grace, by signal.
    pub eviction_soft: BTreeMap<String, String>,
    /// The graces of soft thresholds, by signal.
    pub eviction_soft_grace_period: BTreeMap<String, GoDuration>,
    /// How long a condition of pressure stays after its cause has gone.
    pub eviction_pressure_transition_period: GoDuration,
    /// Longest grace of a pod that goes because of a soft threshold, in seconds.
    pub eviction_max_pod_grace_period: u32,
    /// How much must be free beyond a threshold before it counts as left, by signal.
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    /// Whether hard thresholds that the file does not name have their defaults.
    pub merge_default_eviction_settings: bool,
    /// Whether limits of ephemeral storage and of emptyDir are enforced.
    pub local_storage_capacity_isolation: bool,
    /// Percent of the images' disk in use from which on unused images go; 100 is never.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    /// Percent of the images' disk in use until which unused images go.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u8,
    /// An image unused for less than this stays.
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: GoDuration,
    /// An image unused for longer than this goes; 0 is never.
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: GoDuration,
    /// Size at which a container's log is rotated.
    pub container_log_max_size: Quantity,
    /// Files of a container's log that are kept.
    pub container_log_max_files: u32,
    /// How long the pods have, all in all, when the machine shuts down; 0 leaves them running.
    pub shutdown_grace_period: GoDuration,
    /// The part of that which is kept for critical pods.
    pub shutdown_grace_period_critical_pods: GoDuration,
    /// The same by priorities, in place of the two above.
    pub shutdown_grace_period_by_pod_priority: Vec<ShutdownGrace>,
    /// `none` or `static`.
    pub cpu_manager_policy: String,
    /// Options of the static policy.
    pub cpu_manager_policy_options: BTreeMap<String, String>,
    /// Whether limits of cpu are enforced.
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    /// How often an unchanged status of the node is sent again.
    pub node_status_report_frequency: GoDuration,
    /// How long the node's lease holds, in seconds; it is renewed after a quarter of that.
    pub node_lease_duration_seconds: u32,
    /// Taints the node registers with.
    pub register_with_taints: Vec<serde_json::Value>,
    /// Folder with manifests of pods that are this node's own; empty for none.
    pub static_pod_path: String,
}

/// How long pods of a priority, or of a higher one that has no entry, have at a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShutdownGrace {
    /// The lowest priority it is for.
    pub priority: i32,
    /// Seconds.
    pub shutdown_grace_period_seconds: u32,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "KubeletConfiguration".to_owned(),
            max_pods: 110,
            pods_per_core: 0,
            pod_pids_limit: -1,
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            reserved_system_cpus: String::new(),
            enforce_node_allocatable: vec!["pods".to_owned()],
            eviction_hard: None,
            eviction_soft: BTreeMap::new(),
            eviction_soft_grace_period: BTreeMap::new(),
            eviction_pressure_transition_period: Duration::from_secs(300).into(),
            eviction_max_pod_grace_period: 0,
            eviction_minimum_reclaim: BTreeMap::new(),
            merge_default_eviction_settings: false,
            local_storage_capacity_isolation: true,
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            image_minimum_gc_age: Duration::from_secs(120).into(),
            image_maximum_gc_age: Duration::ZERO.into(),
            container_log_max_size: Quantity::from_bytes(10 << 20),
            container_log_max_files: 5,
            shutdown_grace_period: Duration::ZERO.into(),
            shutdown_grace_period_critical_pods: Duration::ZERO.into(),
            shutdown_grace_period_by_pod_priority: Vec::new(),
            cpu_manager_policy: "none".to_owned(),
            cpu_manager_policy_options: BTreeMap::new(),
            cpu_cfs_quota: true,
            node_status_report_frequency: Duration::from_secs(300).into(),
            node_lease_duration_seconds: 40,
            register_with_taints: Vec::new(),
            static_pod_path: String::new(),
        }
    }
}

impl Configuration {
    /// Reads a file's text, YAML or JSON. Errors: see [`ConfigurationError`]; the sentence names the field.
    pub fn read(text: &str) -> Result<Self, ConfigurationError> {
        let configuration: Self =
            serde_saphyr::from_str(text).map_err(|e| ConfigurationError::Format(e.to_string()))?;
        configuration.check()?;
        Ok(configuration)
    }

    /// The settings of a node that shares its disk with others who fill it: nothing is evicted or collected because
    /// the disk is full, which no pod of this node need have to do with.
    pub fn of_a_shared_disk() -> Self {
        let memory = ("memory.available".to_owned(), "100Mi".to_owned());
        Self {
            eviction_hard: Some(BTreeMap::from([memory])),
            image_gc_high_threshold_percent: 100,
            ..Self::default()
        }
    }

    /// Every threshold, hard and soft.
    pub fn thresholds(&self) -> Result<Vec<Threshold>, ConfigurationError> {
        thresholds(self)
    }

    /// Whether all pods together are held to what is allocatable.
    pub fn enforces_allocatable(&self) -> bool {
        self.enforce_node_allocatable.iter().any(|what| what == "pods")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_upstreams_names() {
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 7\n\
            evictionHard: {memory.available: 200Mi, nodefs.available: 0%}\nsystemReserved: {cpu: 100m}\n\
            imageGCHighThresholdPercent: 90\nevictionPressureTransitionPeriod: 1m30s\ncontainerLogMaxSize: 5Mi\n";
        let read = Configuration::read(text).expect("a configuration");
        assert_eq!((read.max_pods, read.image_gc_high_threshold_percent), (7, 90));
        assert_eq!(read.eviction_pressure_transition_period.get(), Duration::from_secs(90));
        assert_eq!(read.container_log_max_size.value(), 5 << 20);
        let thresholds = read.thresholds().expect("thresholds");
        assert_eq!(
            thresholds.len(),
            2,
            "memory of the machine and of all pods; 0% is no threshold"
        );
        let again = serde_json::to_string(&read).expect("JSON");
        assert_eq!(Configuration::read(&again).expect("its own JSON"), read);
    }

    #[test]
    fn what_is_unknown_or_makes_no_sense_is_refused_by_name() {
        for (text, named) in [
            ("maxPod: 5", "maxPod"),
            ("kind: Pod", "kind"),
            ("evictionHard: {disk.available: 5%}", "disk.available"),
            ("evictionHard: {memory.available: 105%}", "evictionHard"),
            ("evictionSoft: {memory.available: 1Gi}", "evictionSoftGracePeriod"),
            ("imageGCLowThresholdPercent: 90", "imageGCLowThresholdPercent"),
            ("cpuManagerPolicy: best", "cpuManagerPolicy"),
            ("cpuManagerPolicy: static", "cpuManagerPolicy"),
            ("shutdownGracePeriodCriticalPods: 5s", "shutdownGracePeriodCriticalPods"),
            ("enforceNodeAllocatable: [system-reserved]", "enforceNodeAllocatable"),
            ("systemReserved: {cpu: -1}", "systemReserved"),
            ("podPidsLimit: 0", "podPidsLimit"),
        ] {
            let error = Configuration::read(text).expect_err(text).to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
