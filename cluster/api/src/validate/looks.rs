//! How often upstream looks at the metadata of a change: each look repeats what is wrong with it.
//!
//! The generic server looks once at what any object must be and once at what may change; the rules of most kinds
//! look again at one of them or both (ValidateObjectMeta, ValidateObjectMetaUpdate).

use super::{Field, metadata, metadata_update};
use serde_json::Value;
use strata_meta::{StatusCause, names};

/// The looks of one kind's own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looks {
    /// At what may change.
    update: usize,
    /// At what any object must be.
    object: usize,
    /// Whether these know the finalizers of old, which are the only ones without a domain.
    finalizers: bool,
}

/// The looks at a kind, by group and plural name.
fn looks(group: &str, plural: &str) -> Looks {
    let (update, object, finalizers) = match (group, plural) {
        ("policy", _) | ("", "events") => (0, 0, false),
        ("", "persistentvolumes") => (0, 2, true),
        ("node.k8s.io", _) | ("apiregistration.k8s.io", _) => (1, 1, false),
        ("coordination.k8s.io" | "apiextensions.k8s.io", _) => (1, 0, false),
        ("admissionregistration.k8s.io", _) => (0, 1, false),
        ("discovery.k8s.io" | "flowcontrol.apiserver.k8s.io", _) => (0, 1, true),
        ("", "limitranges") | ("storage.k8s.io", "csinodes" | "volumeattachments") => (0, 1, true),
        ("", "podtemplates" | "replicationcontrollers" | "services") => (1, 0, true),
        ("apps", "deployments" | "replicasets" | "daemonsets" | "statefulsets") => (1, 0, true),
        ("batch", "cronjobs") | ("storage.k8s.io", "csidrivers") => (1, 0, true),
        ("networking.k8s.io", "networkpolicies" | "servicecidrs") => (1, 0, true),
        ("autoscaling" | "events.k8s.io" | "scheduling.k8s.io", _) => (1, 0, true),
        ("resource.k8s.io", "resourceslices") => (1, 0, true),
        ("" | "apps" | "batch" | "storage.k8s.io" | "networking.k8s.io", _) => (1, 1, true),
        ("rbac.authorization.k8s.io" | "certificates.k8s.io" | "resource.k8s.io", _) => (1, 1, true),
        _ => (1, 0, false),
    };
    Looks {
        update,
        object,
        finalizers,
    }
}

/// What is wrong with the metadata of a change. The status is looked at less often.
pub(crate) fn changed_metadata(
    (group, plural): (&str, &str),
    is_main: bool,
    namespaced: bool,
    new: &Value,
    old: &Value,
) -> Vec<StatusCause> {
    let looks = looks(group, plural);
    let repeats = if is_main { looks.object } else { 0 };
    // A name that was accepted once stays: rules may have become stricter.
    let object = metadata(new, namespaced, super::NameRule::PathSegment);
    let update = metadata_update(new, old);
    let own = if looks.finalizers {
        kube_finalizers(new)
    } else {
        Vec::new()
    };
    let mut causes = object.clone();
    causes.extend_from_slice(&update);
    for part in [vec![&object; repeats], vec![&update; looks.update]].concat() {
        causes.extend_from_slice(part);
        causes.extend_from_slice(&own);
    }
    causes
}

/// What is wrong with the finalizers of a new object beyond what is wrong with any.
pub(crate) fn new_finalizers(group: &str, plural: &str, object: &Value) -> Vec<StatusCause> {
    if looks(group, plural).finalizers {
        kube_finalizers(object)
    } else {
        Vec::new()
    }
}

fn kube_finalizers(object: &Value) -> Vec<StatusCause> {
    const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
    let list = Field::root(object).at("metadata.finalizers");
    let strange = list.items().filter(|finalizer| {
        let text = finalizer.text();
        !text.contains('/') && !STANDARD.contains(&text)
    });
    let why = "name is neither a standard finalizer name nor is it fully qualified";
    strange.map(|finalizer| finalizer.invalid(why)).collect()
}

/// The warning about a name that becomes part of the names of pods, which are host names.
pub(crate) fn host_name_warning(object: &Value, used_in: &str) -> Option<String> {
    let problems = names::dns1123_label(crate::json::text(object, "metadata.name"));
    (!problems.is_empty()).then(|| {
        let problems = problems.join(" ");
        format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is recommended: [{problems}]"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bad_label_of_a_config_map_is_told_four_times_and_that_of_a_budget_twice() {
        let old = json!({"metadata": {"name": "a", "namespace": "n"}});
        let new = json!({"metadata": {"name": "a", "namespace": "n", "labels": {"k": "b a d"}, "finalizers": ["bad"]}});
        let told = |group, plural| {
            let causes = changed_metadata((group, plural), true, true, &new, &old);
            let count = |field: &str| causes.iter().filter(|cause| cause.field == field).count();
            (count("metadata.labels"), count("metadata.finalizers[0]"))
        };
        assert_eq!(told("", "configmaps"), (4, 2));
        assert_eq!(told("apps", "deployments"), (3, 1));
        assert_eq!(told("policy", "poddisruptionbudgets"), (2, 0));
        assert_eq!(told("", "persistentvolumes"), (4, 2));
    }
}
