//! Resources: what a path names.

use std::sync::Arc;
use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex},
};
use strata_meta::{GroupResource, GroupVersionKind};

/// One served resource: its address and the kind of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The API group, `""` for core.
    pub group: &'static str,
    /// The version within the group.
    pub version: &'static str,
    /// The plural name in paths.
    pub plural: &'static str,
    /// The kind of its objects.
    pub kind: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// From its parts.
    pub const fn new(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
        kind: &'static str,
        namespaced: bool,
    ) -> Self {
        Self {
            group,
            version,
            plural,
            kind,
            namespaced,
        }
    }

    /// A resource that was discovered at run time. Its names are kept for the life of the
    /// process, once for each distinct resource, which a cluster has hundreds of at most.
    pub fn discovered(group: &str, version: &str, plural: &str, kind: &str, namespaced: bool) -> Self {
        Self::new(intern(group), intern(version), intern(plural), intern(kind), namespaced)
    }

    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The kind with its group and version.
    pub fn gvk(&self) -> Arc<GroupVersionKind> {
        Arc::new(GroupVersionKind::new(self.group, self.version, self.kind))
    }

    /// Group and plural, as error messages name it.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group, self.plural)
    }

    /// Whether the kind is in this group, in whatever version.
    pub fn is_kind(&self, api_version: &str, kind: &str) -> bool {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.kind == kind && self.group == group
    }
}

fn intern(text: &str) -> &'static str {
    static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut names = NAMES.lock().expect("no holder panics");
    if let Some(known) = names.get(text) {
        return known;
    }
    let kept: &'static str = Box::leak(Box::from(text));
    names.insert(kept);
    kept
}

macro_rules! resources {
    ($($name:ident = $group:literal $version:literal $plural:literal $kind:literal $namespaced:literal;)*) => {
        /// The resources that the parts of Strata read and write.
        pub mod resources {
            use super::Resource;
            $(
                #[doc = concat!("`", $plural, "` of group \"", $group, "\", version ", $version, ".")]
                pub const $name: Resource = Resource::new($group, $version, $plural, $kind, $namespaced);
            )*
            /// Every resource named here.
            pub const ALL: &[Resource] = &[$($name),*];
        }
    };
}

resources! {
    PODS = "" "v1" "pods" "Pod" true;
    POD_TEMPLATES = "" "v1" "podtemplates" "PodTemplate" true;
    NODES = "" "v1" "nodes" "Node" false;
    SERVICES = "" "v1" "services" "Service" true;
    ENDPOINTS = "" "v1" "endpoints" "Endpoints" true;
    CONFIG_MAPS = "" "v1" "configmaps" "ConfigMap" true;
    SECRETS = "" "v1" "secrets" "Secret" true;
    SERVICE_ACCOUNTS = "" "v1" "serviceaccounts" "ServiceAccount" true;
    NAMESPACES = "" "v1" "namespaces" "Namespace" false;
    EVENTS = "" "v1" "events" "Event" true;
    LIMIT_RANGES = "" "v1" "limitranges" "LimitRange" true;
    RESOURCE_QUOTAS = "" "v1" "resourcequotas" "ResourceQuota" true;
    PERSISTENT_VOLUMES = "" "v1" "persistentvolumes" "PersistentVolume" false;
    PERSISTENT_VOLUME_CLAIMS = "" "v1" "persistentvolumeclaims" "PersistentVolumeClaim" true;
    REPLICATION_CONTROLLERS = "" "v1" "replicationcontrollers" "ReplicationController" true;
    DEPLOYMENTS = "apps" "v1" "deployments" "Deployment" true;
    REPLICA_SETS = "apps" "v1" "replicasets" "ReplicaSet" true;
    STATEFUL_SETS = "apps" "v1" "statefulsets" "StatefulSet" true;
    DAEMON_SETS = "apps" "v1" "daemonsets" "DaemonSet" true;
    CONTROLLER_REVISIONS = "apps" "v1" "controllerrevisions" "ControllerRevision" true;
    JOBS = "batch" "v1" "jobs" "Job" true;
    CRON_JOBS = "batch" "v1" "cronjobs" "CronJob" true;
    HORIZONTAL_POD_AUTOSCALERS = "autoscaling" "v2" "horizontalpodautoscalers" "HorizontalPodAutoscaler" true;
    ENDPOINT_SLICES = "discovery.k8s.io" "v1" "endpointslices" "EndpointSlice" true;
    LEASES = "coordination.k8s.io" "v1" "leases" "Lease" true;
    EVENTS_V1 = "events.k8s.io" "v1" "events" "Event" true;
    POD_DISRUPTION_BUDGETS = "policy" "v1" "poddisruptionbudgets" "PodDisruptionBudget" true;
    PRIORITY_CLASSES = "scheduling.k8s.io" "v1" "priorityclasses" "PriorityClass" false;
    RUNTIME_CLASSES = "node.k8s.io" "v1" "runtimeclasses" "RuntimeClass" false;
    STORAGE_CLASSES = "storage.k8s.io" "v1" "storageclasses" "StorageClass" false;
    VOLUME_ATTRIBUTES_CLASSES = "storage.k8s.io" "v1" "volumeattributesclasses" "VolumeAttributesClass" false;
    CSI_DRIVERS = "storage.k8s.io" "v1" "csidrivers" "CSIDriver" false;
    CSI_STORAGE_CAPACITIES = "storage.k8s.io" "v1" "csistoragecapacities" "CSIStorageCapacity" true;
    VOLUME_ATTACHMENTS = "storage.k8s.io" "v1" "volumeattachments" "VolumeAttachment" false;
    CSI_NODES = "storage.k8s.io" "v1" "csinodes" "CSINode" false;
    NETWORK_POLICIES = "networking.k8s.io" "v1" "networkpolicies" "NetworkPolicy" true;
    INGRESSES = "networking.k8s.io" "v1" "ingresses" "Ingress" true;
    ROLES = "rbac.authorization.k8s.io" "v1" "roles" "Role" true;
    ROLE_BINDINGS = "rbac.authorization.k8s.io" "v1" "rolebindings" "RoleBinding" true;
    CLUSTER_ROLES = "rbac.authorization.k8s.io" "v1" "clusterroles" "ClusterRole" false;
    CLUSTER_ROLE_BINDINGS = "rbac.authorization.k8s.io" "v1" "clusterrolebindings" "ClusterRoleBinding" false;
    CUSTOM_RESOURCE_DEFINITIONS = "apiextensions.k8s.io" "v1" "customresourcedefinitions" "CustomResourceDefinition" false;
    API_SERVICES = "apiregistration.k8s.io" "v1" "apiservices" "APIService" false;
    TOKEN_REVIEWS = "authentication.k8s.io" "v1" "tokenreviews" "TokenReview" false;
    SUBJECT_ACCESS_REVIEWS = "authorization.k8s.io" "v1" "subjectaccessreviews" "SubjectAccessReview" false;
    CERTIFICATE_SIGNING_REQUESTS = "certificates.k8s.io" "v1" "certificatesigningrequests" "CertificateSigningRequest" false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovered_resource_equals_the_built_in_one() {
        let found = Resource::discovered("apps", "v1", "deployments", "Deployment", true);
        assert_eq!(found, resources::DEPLOYMENTS);
        assert!(found.is_kind("apps/v1beta1", "Deployment") && !found.is_kind("v1", "Deployment"));
    }
}
