//! A stateful set's pods and claims: their names, and what ties them together.

use super::types::{ClaimTemplate, StatefulSet};
use crate::{
    dependents::{
        revisions::HASH_LABEL,
        template::{Template, pod_of},
    },
    views::Pod,
};
use serde_json::{Value, json};
use strata_meta::Object;

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The pod of an ordinal at a revision.
pub(super) fn pod(owner: &Object, set: &StatefulSet, template: &Template, revision: &str, ordinal: i64) -> Value {
    let mut pod = pod_of(owner, template);
    let name = set.pod_name(ordinal);
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("generateName");
    }
    identify(&mut pod, set, ordinal);
    pod["metadata"]["labels"][HASH_LABEL] = revision.into();
    pod["spec"]["hostname"] = name.into();
    if !set.spec.service_name.is_empty() {
        pod["spec"]["subdomain"] = set.spec.service_name.as_str().into();
    }
    store(&mut pod, set, ordinal);
    pod
}

/// Gives a pod its name and the labels that tell of it.
pub(super) fn identify(pod: &mut Value, set: &StatefulSet, ordinal: i64) {
    let name = set.pod_name(ordinal);
    pod["metadata"]["labels"][NAME_LABEL] = name.as_str().into();
    pod["metadata"]["labels"][INDEX_LABEL] = ordinal.to_string().into();
    pod["metadata"]["name"] = name.into();
}

/// Puts the claims in the place of volumes of their names.
pub(super) fn store(pod: &mut Value, set: &StatefulSet, ordinal: i64) {
    let templates = &set.spec.volume_claim_templates;
    if templates.is_empty() {
        return;
    }
    let replaced = |volume: &Value| templates.iter().any(|t| volume["name"] == *t.metadata.name);
    let others = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let claims = templates.iter().map(|template| {
        let claim = set.claim_name(template, ordinal);
        json!({"name": template.metadata.name, "persistentVolumeClaim": {"claimName": claim}})
    });
    let volumes: Vec<Value> = claims
        .chain(others.into_iter().filter(|volume| !replaced(volume)))
        .collect();
    pod["spec"]["volumes"] = volumes.into();
}

/// Whether a pod carries its name as a label, and the claims of its ordinal.
pub(super) fn is_its_own(set: &StatefulSet, pod: &Pod, ordinal: i64) -> bool {
    let claims = &pod.view.claims;
    let stored = set.spec.volume_claim_templates.iter().all(|template| {
        let wanted = set.claim_name(template, ordinal);
        claims.iter().any(|claim| !claim.ephemeral && claim.name == wanted)
    });
    pod.label(NAME_LABEL) == Some(pod.name()) && stored
}

/// The claim that a template stands for at an ordinal.
pub(super) fn claim(set: &StatefulSet, template: &ClaimTemplate, ordinal: i64) -> Value {
    let mut labels = template.metadata.labels.clone();
    labels.extend(set.spec.selector.match_labels.clone());
    let mut claim = json!({
        "metadata": {"name": set.claim_name(template, ordinal), "labels": labels},
        "spec": template.spec,
    });
    if !template.metadata.annotations.is_empty() {
        claim["metadata"]["annotations"] = json!(template.metadata.annotations);
    }
    claim
}
