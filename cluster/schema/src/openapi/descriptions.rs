//! What types and fields are for, in the words of the k8s-openapi crate.
//!
//! Behind the feature `descriptions`, as that crate takes a minute of processor time to compile and
//! adds about 3 MB; without it everything works but `explain` has no prose.

use k8s_openapi::api;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
use k8s_openapi::schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

/// The prose of a group and version.
pub(super) struct Prose(Map<String, Value>);

impl Prose {
    /// Of built-in kinds; what has no version of its own, as a custom resource, refers to metadata at most.
    pub(super) fn of(version: Option<&(String, String)>) -> Self {
        let found = version.and_then(|(group, version)| GROUPS.iter().find(|(g, v, _)| (*g, *v) == (group, version)));
        let Some((_, _, add)) = found.or_else(|| GROUPS.iter().find(|(g, _, _)| *g == "coordination.k8s.io")) else {
            return Self(Map::new());
        };
        let mut generator = SchemaGenerator::default();
        add(&mut generator);
        Self(generator.take_definitions(false))
    }

    /// Adds descriptions to a definition in v3's form.
    pub(super) fn describe(&self, name: &str, schema: &mut Value) {
        let Some(definition) = self.0.get(name) else {
            return;
        };
        copy(definition, schema);
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
            return;
        };
        for (field, property) in properties {
            if let Some(described) = definition["properties"].get(field) {
                stand_alone(property);
                copy(described, property);
            }
        }
    }
}

fn copy(from: &Value, to: &mut Value) {
    if let (Some(text), Some(object)) = (from.get("description"), to.as_object_mut()) {
        object.insert("description".to_owned(), text.clone());
    }
}

/// A reference with anything beside it has to stand in an allOf.
fn stand_alone(property: &mut Value) {
    if let Some(object) = property.as_object_mut()
        && let Some(target) = object.remove("$ref")
    {
        let reference = Value::Object(Map::from_iter([("$ref".to_owned(), target)]));
        object.insert("allOf".to_owned(), Value::Array(vec![reference]));
    }
}

type Add = fn(&mut SchemaGenerator);

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

macro_rules! groups {
    ($($group:literal $version:literal $path:path { $($kind:ident)* })*) => {
        &[$(($group, $version, |generator| {
            use $path as kinds;
            $(add::<kinds::$kind>(generator);)*
        })),*]
    };
}

/// The kinds of each group and version that are served by default.
const GROUPS: &[(&str, &str, Add)] = groups! {
    "" "v1" api::core::v1 {
        Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolumeClaim
        PersistentVolume Pod PodTemplate ReplicationController ResourceQuota Secret ServiceAccount Service
    }
    "apiregistration.k8s.io" "v1" apiregistration::v1 { APIService }
    "apps" "v1" api::apps::v1 { ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet }
    "events.k8s.io" "v1" api::events::v1 { Event }
    "authentication.k8s.io" "v1" api::authentication::v1 { SelfSubjectReview TokenReview }
    "authorization.k8s.io" "v1" api::authorization::v1 {
        LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview
    }
    "autoscaling" "v1" api::autoscaling::v1 { HorizontalPodAutoscaler }
    "autoscaling" "v2" api::autoscaling::v2 { HorizontalPodAutoscaler }
    "batch" "v1" api::batch::v1 { CronJob Job }
    "certificates.k8s.io" "v1" api::certificates::v1 { CertificateSigningRequest }
    "networking.k8s.io" "v1" api::networking::v1 { IngressClass Ingress IPAddress NetworkPolicy ServiceCIDR }
    "policy" "v1" api::policy::v1 { PodDisruptionBudget }
    "rbac.authorization.k8s.io" "v1" api::rbac::v1 { ClusterRoleBinding ClusterRole RoleBinding Role }
    "storage.k8s.io" "v1" api::storage::v1 {
        CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass
    }
    "admissionregistration.k8s.io" "v1" api::admissionregistration::v1 {
        MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
        ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration
    }
    "apiextensions.k8s.io" "v1" apiextensions::v1 { CustomResourceDefinition }
    "scheduling.k8s.io" "v1" api::scheduling::v1 { PriorityClass }
    "coordination.k8s.io" "v1" api::coordination::v1 { Lease }
    "node.k8s.io" "v1" api::node::v1 { RuntimeClass }
    "discovery.k8s.io" "v1" api::discovery::v1 { EndpointSlice }
    "resource.k8s.io" "v1" api::resource::v1 { DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice }
    "flowcontrol.apiserver.k8s.io" "v1" api::flowcontrol::v1 { FlowSchema PriorityLevelConfiguration }
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Schema;

    #[test]
    fn every_served_kind_has_descriptions() {
        for kind in Schema::builtin().kinds().iter().filter(|kind| kind.served_by_default) {
            let prose = Prose::of(Some(&(kind.group.to_owned(), kind.version.to_owned())));
            let name = crate::openapi::names::definition(Schema::builtin().type_info(kind.type_id.expect("a type")));
            let mut schema = serde_json::json!({});
            prose.describe(&name, &mut schema);
            assert!(schema.get("description").is_some(), "{name}");
        }
    }
}
