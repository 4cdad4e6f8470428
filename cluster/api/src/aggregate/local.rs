//! The APIService objects of what the server serves itself, and the order of groups they give.

use crate::{
    core::Core,
    json,
    verbs::{Creation, DeleteOptions, create_object, delete_object},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use strata_auth::{GROUP_MASTERS, UserInfo};
use strata_meta::{GroupVersion, Time};

/// Whether an object is kept by the server: `onstart` for built-in groups, `true` for those of definitions.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Reason and message of the condition of a local APIService.
const LOCAL_AVAILABLE: (&str, &str) = ("Local", "Local APIServices are always available");

/// Versions of a group with their priorities.
type Versions = &'static [(&'static str, i64)];

/// Groups with their priority, and their versions with theirs (upstream's order in kubectl's output).
const PRIORITIES: &[(&str, i64, Versions)] = &[
    ("", 18000, &[("v1", 1)]),
    ("apps", 17800, &[("v1", 15)]),
    ("events.k8s.io", 17750, &[("v1", 15), ("v1beta1", 5)]),
    (
        "authentication.k8s.io",
        17700,
        &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)],
    ),
    ("authorization.k8s.io", 17600, &[("v1", 15)]),
    ("autoscaling", 17500, &[("v1", 15), ("v2", 30)]),
    ("batch", 17400, &[("v1", 15)]),
    (
        "certificates.k8s.io",
        17300,
        &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)],
    ),
    ("networking.k8s.io", 17200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17100, &[("v1", 15)]),
    ("rbac.authorization.k8s.io", 17000, &[("v1", 15)]),
    ("storage.k8s.io", 16800, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("apiextensions.k8s.io", 16700, &[("v1", 15)]),
    (
        "admissionregistration.k8s.io",
        16700,
        &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)],
    ),
    ("scheduling.k8s.io", 16600, &[("v1", 15), ("v1alpha2", 2)]),
    (
        "coordination.k8s.io",
        16500,
        &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)],
    ),
    ("node.k8s.io", 16300, &[("v1", 15)]),
    ("discovery.k8s.io", 16200, &[("v1", 15)]),
    (
        "resource.k8s.io",
        16200,
        &[("v1", 21), ("v1beta2", 15), ("v1beta1", 9), ("v1alpha3", 1)],
    ),
    ("flowcontrol.apiserver.k8s.io", 16100, &[("v1", 21)]),
    ("internal.apiserver.k8s.io", 16000, &[("v1alpha1", 9)]),
    ("storagemigration.k8s.io", 15800, &[("v1beta1", 9)]),
    // As metrics-server registers itself.
    (crate::usage::GROUP, 100, &[("v1beta1", 100)]),
];

/// What a group of a definition gets.
const DEFINED: (i64, i64) = (1000, 100);

/// Group and version priority of what the server serves itself; absent for the aggregation's own group, which is
/// served in front of everything.
pub(crate) fn priority(version: &GroupVersion) -> Option<(i64, i64)> {
    if version.group == "apiregistration.k8s.io" {
        return None;
    }
    let Some((_, group, versions)) = PRIORITIES.iter().find(|(group, ..)| *group == version.group) else {
        return Some(DEFINED);
    };
    let found = versions.iter().find(|(name, _)| *name == version.version);
    Some((*group, found.map_or(1, |(_, priority)| *priority)))
}

/// Creates what is missing; removes what stands for a definition that is gone.
pub(super) async fn register(core: &Arc<Core>) {
    let user = UserInfo::new("system:apiserver", &[GROUP_MASTERS]);
    let rows = core.registry.rows();
    let services = core.resource("apiregistration.k8s.io", "apiservices");
    let Some(row) = rows.get("apiregistration.k8s.io", "v1", "apiservices").cloned() else {
        return;
    };
    let served: BTreeSet<(String, String)> = rows
        .iter()
        .map(|r| (r.gvk.group.clone(), r.gvk.version.clone()))
        .collect();
    for (group, version) in &served {
        let name = format!("{version}.{group}");
        let Some((of_group, of_version)) = priority(&GroupVersion::new(group, version)) else {
            continue;
        };
        if services.get("", &name).is_some() {
            continue;
        }
        let builtin = PRIORITIES.iter().any(|(known, ..)| known == group);
        let mut object = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": name, "labels": {AUTOMANAGED: if builtin { "onstart" } else { "true" }}},
            "spec": {"version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version},
        });
        if !group.is_empty() {
            object["spec"]["group"] = json!(group);
        }
        let creation = Creation::own(core, &user, &row, "");
        let made = create_object(&creation, object, &mut Vec::new()).await;
        if let Err(status) = made
            && !status.is_already_exists()
        {
            tracing::warn!(%status, name, "an APIService cannot be registered yet");
        }
    }
    for object in services.objects(None) {
        if object.label(AUTOMANAGED) != Some("true") {
            continue;
        }
        let Ok(value) = object.to_value() else { continue };
        let version = (
            json::text(&value, "spec.group").to_owned(),
            json::text(&value, "spec.version").to_owned(),
        );
        let local = json::get(&value, "spec.service").is_none_or(Value::is_null);
        if local && !served.contains(&version) {
            let removed = delete_object(
                core,
                &user,
                &row,
                "",
                object.name(),
                &DeleteOptions::default(),
                &mut Vec::new(),
            )
            .await;
            if let Err(status) = removed
                && !status.is_not_found()
            {
                tracing::warn!(%status, name = object.name(), "an APIService without a definition cannot be removed yet");
            }
        }
    }
}

/// The condition of a local APIService.
pub(crate) fn condition() -> Value {
    json!({"type": "Available", "status": "True", "lastTransitionTime": Time::now(),
        "reason": LOCAL_AVAILABLE.0, "message": LOCAL_AVAILABLE.1})
}
