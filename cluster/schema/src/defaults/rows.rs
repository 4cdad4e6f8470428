//! Defaults that depend on nothing but their own field.

use serde_json::{Value, json};

/// A field's default.
pub(super) struct Row {
    pub(super) package: &'static str,
    pub(super) kind: &'static str,
    pub(super) field: &'static str,
    pub(super) default: Given,
}

/// A default value.
#[derive(Clone, Copy)]
pub(super) enum Given {
    Text(&'static str),
    Int(i64),
    Bool(bool),
    /// `{}`.
    Empty,
    /// A list of one text.
    One(&'static str),
}

impl Given {
    pub(super) fn value(self) -> Value {
        match self {
            Self::Text(text) => text.into(),
            Self::Int(n) => n.into(),
            Self::Bool(b) => b.into(),
            Self::Empty => json!({}),
            Self::One(text) => json!([text]),
        }
    }
}

use Given::{Bool, Empty, Int, One, Text};

const fn row(package: &'static str, kind: &'static str, field: &'static str, default: Given) -> Row {
    Row {
        package,
        kind,
        field,
        default,
    }
}

const CORE: &str = "core/v1";
const APPS: &str = "apps/v1";
const BATCH: &str = "batch/v1";
const STORAGE: &str = "storage/v1";
const ADMISSION: &str = "admissionregistration/v1";
const FLOW: &str = "flowcontrol/v1";
const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// Mode of files projected into a pod, 0644.
const FILE_MODE: Given = Int(0o644);

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row(CORE, "PodSpec", "dnsPolicy", Text("ClusterFirst")),
    row(CORE, "PodSpec", "restartPolicy", Text("Always")),
    row(CORE, "PodSpec", "securityContext", Empty),
    row(CORE, "PodSpec", "terminationGracePeriodSeconds", Int(30)),
    row(CORE, "PodSpec", "schedulerName", Text("default-scheduler")),
    row(CORE, "Container", "terminationMessagePath", Text("/dev/termination-log")),
    row(CORE, "Container", "terminationMessagePolicy", Text("File")),
    row(CORE, "EphemeralContainer", "terminationMessagePath", Text("/dev/termination-log")),
    row(CORE, "EphemeralContainer", "terminationMessagePolicy", Text("File")),
    row(CORE, "Probe", "timeoutSeconds", Int(1)),
    row(CORE, "Probe", "periodSeconds", Int(10)),
    row(CORE, "Probe", "successThreshold", Int(1)),
    row(CORE, "Probe", "failureThreshold", Int(3)),
    row(CORE, "HTTPGetAction", "path", Text("/")),
    row(CORE, "HTTPGetAction", "scheme", Text("HTTP")),
    row(CORE, "SecretVolumeSource", "defaultMode", FILE_MODE),
    row(CORE, "ConfigMapVolumeSource", "defaultMode", FILE_MODE),
    row(CORE, "DownwardAPIVolumeSource", "defaultMode", FILE_MODE),
    row(CORE, "ProjectedVolumeSource", "defaultMode", FILE_MODE),
    row(CORE, "HostPathVolumeSource", "type", Text("")),
    row(CORE, "ServiceAccountTokenProjection", "expirationSeconds", Int(3600)),
    row(CORE, "ObjectFieldSelector", "apiVersion", Text("v1")),
    row(CORE, "Secret", "type", Text("Opaque")),
    row(CORE, "PersistentVolumeClaimSpec", "volumeMode", Text("Filesystem")),
    row(CORE, "PersistentVolumeClaimStatus", "phase", Text("Pending")),
    row(CORE, "NamespaceStatus", "phase", Text("Active")),
    row(CORE, "EndpointPort", "protocol", Text("TCP")),
    row(APPS, "DeploymentSpec", "replicas", Int(1)),
    row(APPS, "DeploymentSpec", "revisionHistoryLimit", Int(10)),
    row(APPS, "DeploymentSpec", "progressDeadlineSeconds", Int(600)),
    row(APPS, "DaemonSetSpec", "revisionHistoryLimit", Int(10)),
    row(APPS, "StatefulSetSpec", "podManagementPolicy", Text("OrderedReady")),
    row(APPS, "StatefulSetSpec", "replicas", Int(1)),
    row(APPS, "StatefulSetSpec", "revisionHistoryLimit", Int(10)),
    row(APPS, "StatefulSetSpec", "persistentVolumeClaimRetentionPolicy", Empty),
    row(APPS, "StatefulSetPersistentVolumeClaimRetentionPolicy", "whenDeleted", Text("Retain")),
    row(APPS, "StatefulSetPersistentVolumeClaimRetentionPolicy", "whenScaled", Text("Retain")),
    row(APPS, "ReplicaSetSpec", "replicas", Int(1)),
    row(BATCH, "CronJobSpec", "concurrencyPolicy", Text("Allow")),
    row(BATCH, "CronJobSpec", "suspend", Bool(false)),
    row(BATCH, "CronJobSpec", "successfulJobsHistoryLimit", Int(3)),
    row(BATCH, "CronJobSpec", "failedJobsHistoryLimit", Int(1)),
    row(BATCH, "PodFailurePolicyOnPodConditionsPattern", "status", Text("True")),
    row("autoscaling/v1", "HorizontalPodAutoscalerSpec", "minReplicas", Int(1)),
    row("autoscaling/v2", "HorizontalPodAutoscalerSpec", "minReplicas", Int(1)),
    row("rbac/v1", "RoleRef", "apiGroup", Text(RBAC_GROUP)),
    row("networking/v1", "NetworkPolicyPort", "protocol", Text("TCP")),
    row("networking/v1", "IngressClassParametersReference", "scope", Text("Cluster")),
    row("discovery/v1", "EndpointPort", "name", Text("")),
    row("discovery/v1", "EndpointPort", "protocol", Text("TCP")),
    row("scheduling/v1", "PriorityClass", "preemptionPolicy", Text("PreemptLowerPriority")),
    row("authentication/v1", "TokenRequestSpec", "expirationSeconds", Int(3600)),
    row(STORAGE, "StorageClass", "reclaimPolicy", Text("Delete")),
    row(STORAGE, "StorageClass", "volumeBindingMode", Text("Immediate")),
    row(STORAGE, "CSIDriverSpec", "attachRequired", Bool(true)),
    row(STORAGE, "CSIDriverSpec", "podInfoOnMount", Bool(false)),
    row(STORAGE, "CSIDriverSpec", "storageCapacity", Bool(false)),
    row(STORAGE, "CSIDriverSpec", "fsGroupPolicy", Text("ReadWriteOnceWithFSType")),
    row(STORAGE, "CSIDriverSpec", "volumeLifecycleModes", One("Persistent")),
    row(STORAGE, "CSIDriverSpec", "requiresRepublish", Bool(false)),
    row(STORAGE, "CSIDriverSpec", "seLinuxMount", Bool(false)),
    row(ADMISSION, "ValidatingWebhook", "failurePolicy", Text("Fail")),
    row(ADMISSION, "ValidatingWebhook", "matchPolicy", Text("Equivalent")),
    row(ADMISSION, "ValidatingWebhook", "namespaceSelector", Empty),
    row(ADMISSION, "ValidatingWebhook", "objectSelector", Empty),
    row(ADMISSION, "ValidatingWebhook", "timeoutSeconds", Int(10)),
    row(ADMISSION, "MutatingWebhook", "failurePolicy", Text("Fail")),
    row(ADMISSION, "MutatingWebhook", "matchPolicy", Text("Equivalent")),
    row(ADMISSION, "MutatingWebhook", "namespaceSelector", Empty),
    row(ADMISSION, "MutatingWebhook", "objectSelector", Empty),
    row(ADMISSION, "MutatingWebhook", "timeoutSeconds", Int(10)),
    row(ADMISSION, "MutatingWebhook", "reinvocationPolicy", Text("Never")),
    row(ADMISSION, "RuleWithOperations", "scope", Text("*")),
    row(ADMISSION, "NamedRuleWithOperations", "scope", Text("*")),
    row(ADMISSION, "ServiceReference", "port", Int(443)),
    row(ADMISSION, "ValidatingAdmissionPolicySpec", "failurePolicy", Text("Fail")),
    row(ADMISSION, "MutatingAdmissionPolicySpec", "failurePolicy", Text("Fail")),
    row(ADMISSION, "MatchResources", "matchPolicy", Text("Equivalent")),
    row(ADMISSION, "MatchResources", "namespaceSelector", Empty),
    row(ADMISSION, "MatchResources", "objectSelector", Empty),
    row("apiextensions/v1", "ServiceReference", "port", Int(443)),
    row("apiregistration/v1", "ServiceReference", "port", Int(443)),
    row(FLOW, "FlowSchemaSpec", "matchingPrecedence", Int(1000)),
    row(FLOW, "ExemptPriorityLevelConfiguration", "nominalConcurrencyShares", Int(0)),
    row(FLOW, "ExemptPriorityLevelConfiguration", "lendablePercent", Int(0)),
    row(FLOW, "LimitedPriorityLevelConfiguration", "nominalConcurrencyShares", Int(30)),
    row(FLOW, "LimitedPriorityLevelConfiguration", "lendablePercent", Int(0)),
    row(FLOW, "QueuingConfiguration", "handSize", Int(8)),
    row(FLOW, "QueuingConfiguration", "queues", Int(64)),
    row(FLOW, "QueuingConfiguration", "queueLengthLimit", Int(50)),
];
