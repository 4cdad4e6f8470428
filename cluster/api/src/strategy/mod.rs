//! What differs from kind to kind: one small strategy a kind, everything else is the pipeline's.
//!
//! To add a kind: a file with a unit struct that implements [`Strategy`] (see `config_map.rs` for the
//! plainest, `pod.rs` for the fullest) or, for most, a [`row::Row`] of answers, and a line
//! in [`strategy_for`]. Objects are JSON values that have been decoded, pruned and defaulted.
//!
//! Order on create: defaults, `prepare_create`, `validate`, `validate_create`, `warnings`. On update: spec or status
//! restored according to the subresource, `prepare_update`, generation, `validate` and `validate_update`.

mod admission;
mod api_service;
mod autoscaling;
mod columns;
mod config_map;
mod csi;
mod device;
mod disabled;
mod endpoints;
mod event;
mod flow;
mod job;
mod job_policy;
mod job_status;
mod listed;
mod namespace;
mod networking;
mod node;
mod pod;
mod policy;
mod rbac;
mod rollout;
mod row;
mod secret;
mod service;
mod signing_request;
mod storage;
mod usage;
mod workload;

pub(crate) use columns::{
    AGE_MEANS, CREATED_AT as CREATED_AT_COLUMN, Column, NAME as NAME_COLUMN, age, default_columns,
};
pub(crate) use disabled::drop_disabled;
pub(crate) use webhook_address::client_config;

use crate::{
    cache::FieldPath,
    extension::PrinterColumn,
    json,
    validate::{MetadataTurn, NameRule},
};
use serde_json::Value;
use std::sync::Arc;
use strata_auth::UserInfo;
use strata_meta::{StatusCause, Time};

/// The reason of a cause that refuses nothing and is told as a warning.
pub(crate) const LET_PASS: &str = "LetPass";

/// What a problem list is called in strategies.
pub(crate) type Causes = Vec<StatusCause>;

/// The rules of one kind. Every method has the answer that fits most kinds.
pub(crate) trait Strategy: Send + Sync {
    /// What names look like.
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    /// When the metadata of a new object is judged.
    fn metadata_turn(&self) -> MetadataTurn {
        MetadataTurn::First
    }

    /// Whether `metadata.generation` counts changes of the spec.
    fn counts_generation(&self) -> bool {
        false
    }

    /// Whether a create keeps the status it came with (nodes and a few others) instead of losing it.
    fn keeps_status_on_create(&self) -> bool {
        false
    }

    /// Whether an update may create what is not there.
    fn creates_on_update(&self) -> bool {
        false
    }

    /// Whether an update may leave out the resourceVersion.
    fn allows_unconditional_update(&self) -> bool {
        true
    }

    /// What becomes of dependents when nobody says so.
    fn collection(&self) -> Collection {
        Collection::Collected
    }

    /// Whether a deletion is marked with nothing but its moment, as a controller of the kind does the rest.
    fn marks_only(&self) -> bool {
        false
    }

    /// Whether a deletion that takes effect at once is marked on the object all the same, as one with a grace is.
    fn is_graceful(&self) -> bool {
        false
    }

    /// Whether a finished deletion answers with the object instead of a Status.
    fn returns_deleted(&self) -> bool {
        false
    }

    /// Sets what the server decides about a new object.
    fn prepare_create(&self, _object: &mut Value) {}

    /// What is wrong with an object, new or changed. Metadata is checked already.
    fn validate(&self, _object: &Value, _causes: &mut Causes) {}

    /// What is wrong with a new object only.
    fn validate_create(&self, _object: &Value, _causes: &mut Causes) {}

    /// Undoes changes that the main resource may not make. Status is restored already.
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// What is wrong with a change.
    fn validate_update(&self, _new: &Value, _old: &Value, _causes: &mut Causes) {}

    /// Undoes changes that `/status` may not make. Everything but metadata and status is restored already.
    fn prepare_status_update(&self, _new: &mut Value, _old: &Value) {}

    /// What is wrong with a change of the status.
    fn validate_status_update(&self, _new: &Value, _old: &Value, _causes: &mut Causes) {}

    /// Writes down who made a new object, for kinds that act on it.
    fn record_requester(&self, _object: &mut Value, _user: &UserInfo) {}

    /// Undoes changes that a subresource other than `/scale` may not make; `/status` unless the kind has more.
    fn prepare_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        if subresource == "status" {
            self.prepare_status_update(new, old);
        }
    }

    /// What is wrong with a change through a subresource; `/status` unless the kind has more.
    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if subresource == "status" {
            self.validate_status_update(new, old, causes);
        }
    }

    /// Sentences for the `Warning` header, about things the author should change.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// The seconds of grace of a deletion; 0 removes at once. `asked` is what the request says.
    fn grace_period(&self, _object: &Value, _asked: Option<i64>) -> i64 {
        0
    }

    /// Whether an object without metadata.finalizers may go, or something of its own still holds it.
    fn may_go(&self, _object: &Value) -> bool {
        true
    }

    /// Fields that a field selector may name, besides name and namespace.
    fn selectable_fields(&self) -> &'static [FieldPath] {
        &[]
    }

    /// Whether `metadata.generation` counts changes of the labels too.
    fn counts_labels(&self) -> bool {
        false
    }

    /// Whether a change is one that `metadata.generation` counts.
    fn changed(&self, new: &Value, old: &Value) -> bool {
        if self.counts_labels() && !json::same(new, old, "metadata.labels") {
            return true;
        }
        spec_changed(new, old)
    }

    /// What a deletion puts into an object before it is decided whether anything holds it.
    fn prepare_delete(&self, _object: &mut Value) {}

    /// The columns of a table, where a definition declares them.
    fn printed(&self) -> Option<&[PrinterColumn]> {
        None
    }

    /// The columns of a table.
    fn columns(&self) -> &'static [Column] {
        default_columns()
    }
}

/// What becomes of the dependents of an object that is deleted without a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collection {
    /// They go too.
    Collected,
    /// They stay, as they did when the kind was new.
    Orphans,
    /// Nobody asks.
    Ignored,
}

/// Whether the spec is another, or for kinds without one anything that is no metadata and no status.
fn spec_changed(new: &Value, old: &Value) -> bool {
    let counts = |name: &str| !matches!(name, "metadata" | "status" | "apiVersion" | "kind");
    let same = |(name, value): (&String, &Value)| !counts(name) || new.get(name) == Some(value);
    match json::get(old, "spec").or(json::get(new, "spec")) {
        Some(_) => !json::same(new, old, "spec"),
        // Without a spec, everything that is no metadata and no status.
        None => {
            let members = |value: &Value| value.as_object().map_or(0, |m| m.keys().filter(|k| counts(k)).count());
            members(new) != members(old) || !old.as_object().into_iter().flatten().all(same)
        }
    }
}

/// The rules of a row: built in, or made of a definition.
#[derive(Clone)]
pub(crate) enum StrategyOf {
    /// Of a built-in kind.
    Builtin(&'static dyn Strategy),
    /// Of a custom resource.
    Custom(Arc<dyn Strategy>),
}

impl std::ops::Deref for StrategyOf {
    type Target = dyn Strategy;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Builtin(strategy) => *strategy,
            Self::Custom(strategy) => &**strategy,
        }
    }
}

/// What a column is given to fill a cell.
pub(crate) struct CellContext<'a> {
    /// The object.
    pub(crate) object: &'a Value,
    /// The moment the table is made.
    pub(crate) now: Time,
}

/// A kind without rules of its own.
static PLAIN: row::Row = row::ROW;

/// The strategy of a resource.
pub(crate) fn strategy_for(group: &str, plural: &str) -> &'static dyn Strategy {
    match (group, plural) {
        ("apiextensions.k8s.io", "customresourcedefinitions") => &crate::extension::CustomResourceDefinition,
        ("", "configmaps") => &config_map::ConfigMap,
        ("", "endpoints") => &endpoints::ENDPOINTS,
        ("", "events") => &event::EVENTS,
        ("events.k8s.io", "events") => &event::EVENTS_V1,
        ("", "limitranges") => &policy::LIMIT_RANGES,
        ("", "namespaces") => &namespace::Namespace,
        ("", "nodes") => &node::Node,
        ("", "persistentvolumeclaims") => &storage::CLAIMS,
        ("", "persistentvolumes") => &storage::VOLUMES,
        ("", "pods") => &pod::Pod,
        ("", "podtemplates") => &workload::POD_TEMPLATES,
        ("", "replicationcontrollers") => &workload::REPLICATION_CONTROLLERS,
        ("", "resourcequotas") => &policy::QUOTAS,
        ("", "secrets") => &secret::SECRETS,
        ("", "serviceaccounts") => &policy::SERVICE_ACCOUNTS,
        ("", "services") => &service::SERVICES,
        ("apiregistration.k8s.io", "apiservices") => &api_service::ApiService,
        ("apps", "controllerrevisions") => &workload::CONTROLLER_REVISIONS,
        ("apps", "daemonsets") => &workload::DAEMON_SETS,
        ("apps", "deployments") => &workload::DEPLOYMENTS,
        ("apps", "replicasets") => &workload::REPLICA_SETS,
        ("apps", "statefulsets") => &workload::STATEFUL_SETS,
        ("autoscaling", "horizontalpodautoscalers") => &autoscaling::AUTOSCALERS,
        ("batch", "cronjobs") => &job::CRON_JOBS,
        ("batch", "jobs") => &job::JOBS,
        ("certificates.k8s.io", "certificatesigningrequests") => &signing_request::SigningRequest,
        ("coordination.k8s.io", "leases") => &policy::LEASES,
        ("discovery.k8s.io", "endpointslices") => &endpoints::ENDPOINT_SLICES,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &flow::FLOW_SCHEMAS,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &flow::PRIORITY_LEVELS,
        ("metrics.k8s.io", "nodes") => &usage::NODES,
        ("metrics.k8s.io", "pods") => &usage::PODS,
        ("networking.k8s.io", "ingressclasses") => &networking::INGRESS_CLASSES,
        ("networking.k8s.io", "ingresses") => &networking::INGRESSES,
        ("networking.k8s.io", "ipaddresses") => &networking::ADDRESSES,
        ("networking.k8s.io", "servicecidrs") => &networking::SERVICE_CIDRS,
        ("node.k8s.io", "runtimeclasses") => &policy::RUNTIME_CLASSES,
        ("networking.k8s.io", "networkpolicies") => &networking::NETWORK_POLICIES,
        ("policy", "poddisruptionbudgets") => &policy::DISRUPTION_BUDGETS,
        ("rbac.authorization.k8s.io", "clusterrolebindings") => &rbac::CLUSTER_ROLE_BINDINGS,
        ("rbac.authorization.k8s.io", "clusterroles") => &rbac::CLUSTER_ROLES,
        ("rbac.authorization.k8s.io", "rolebindings") => &rbac::ROLE_BINDINGS,
        ("rbac.authorization.k8s.io", "roles") => &rbac::ROLES,
        ("resource.k8s.io", "deviceclasses") => &device::CLASSES,
        ("resource.k8s.io", "resourceclaims") => &device::CLAIMS,
        ("resource.k8s.io", "resourceclaimtemplates") => &device::TEMPLATES,
        ("resource.k8s.io", "resourceslices") => &device::SLICES,
        ("scheduling.k8s.io", "priorityclasses") => &policy::PRIORITY_CLASSES,
        ("storage.k8s.io", "csidrivers") => &csi::CSI_DRIVERS,
        ("storage.k8s.io", "csinodes") => &csi::CSI_NODES,
        ("storage.k8s.io", "csistoragecapacities") => &csi::CAPACITIES,
        ("storage.k8s.io", "storageclasses") => &storage::CLASSES,
        ("storage.k8s.io", "volumeattachments") => &csi::ATTACHMENTS,
        ("storage.k8s.io", "volumeattributesclasses") => &csi::ATTRIBUTE_CLASSES,
        _ => listed::strategy_for(group, plural).unwrap_or(&PLAIN),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod upstream;
mod webhook_address;
