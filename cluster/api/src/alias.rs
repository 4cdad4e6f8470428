//! Fields that are two names of one: what passing through upstream's internal form does to an object of a built-in kind
//! as soon as it is decoded, before anybody accounts for who manages what.

use crate::json;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use strata_meta::{GroupVersionKind, Object, Status};

/// What is a field within upstream's server is an annotation of every served DaemonSet.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Makes both names say the same.
pub(crate) fn settle(gvk: &GroupVersionKind, value: &mut Value) {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Node") => node(value),
        ("", "Pod") => {
            pod_status(value);
            if json::int(value, "spec.terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
                json::set(value, "spec.terminationGracePeriodSeconds", 1);
            }
            account(value, "spec");
        }
        ("", "PodTemplate") => account(value, "template.spec"),
        ("", "ReplicationController") | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet") | ("batch", "Job") => {
            account(value, "spec.template.spec");
        }
        ("batch", "CronJob") => account(value, "spec.jobTemplate.spec.template.spec"),
        ("apps", "DaemonSet") => {
            account(value, "spec.template.spec");
            json::object_mut(value, "metadata.annotations")
                .entry(TEMPLATE_GENERATION)
                .or_insert_with(|| json!("0"));
        }
        ("", "Secret") => secret(value),
        _ => {}
    }
}

/// The metadata that upstream's server shows where it shows nothing else, if it is not the served one.
pub(crate) fn internal_metadata(object: &Object) -> Result<Option<Value>, Status> {
    if object.kind.kind != "DaemonSet" || object.kind.group != "apps" {
        return Ok(None);
    }
    let mut value = object.to_value().map_err(Status::internal)?;
    let annotations = json::object_mut(&mut value, "metadata.annotations");
    annotations.remove(TEMPLATE_GENERATION);
    if annotations.is_empty() {
        json::remove(&mut value, "metadata.annotations");
    }
    Ok(value.get_mut("metadata").map(Value::take))
}

/// How often a DaemonSet's template has changed.
pub(crate) fn template_generation(object: &Value) -> Option<i64> {
    let annotations = json::get(object, "metadata.annotations")?;
    annotations.get(TEMPLATE_GENERATION)?.as_str()?.parse().ok()
}

/// Writes how often a DaemonSet's template has changed.
pub(crate) fn set_template_generation(object: &mut Value, generation: i64) {
    let annotations = json::object_mut(object, "metadata.annotations");
    annotations.insert(TEMPLATE_GENERATION.into(), generation.to_string().into());
}

/// `podCIDR` is the first of `podCIDRs`; where they differ the older field holds.
fn node(value: &mut Value) {
    let one = json::text(value, "spec.podCIDR").to_owned();
    let first = json::list(value, "spec.podCIDRs").first().and_then(Value::as_str);
    let first = first.unwrap_or("").to_owned();
    match (one.is_empty(), first == one) {
        (true, false) => json::set(value, "spec.podCIDR", first),
        (false, false) => json::set(value, "spec.podCIDRs", json!([one])),
        _ => {}
    }
}

/// `podIP` is the first of `podIPs`; where they differ the older field holds.
fn pod_status(value: &mut Value) {
    let one = json::text(value, "status.podIP").to_owned();
    let first = json::list(value, "status.podIPs").first();
    let first = first.map_or("", |address| json::text(address, "ip")).to_owned();
    match (one.is_empty(), first == one) {
        (true, false) => json::set(value, "status.podIP", first),
        (false, false) => json::set(value, "status.podIPs", json!([{"ip": one}])),
        _ => {}
    }
}

/// The older name of a pod's account counts where the newer is left out.
fn account(value: &mut Value, spec: &str) {
    let Some(spec) = json::get_mut(value, spec) else { return };
    let name = match json::text(spec, "serviceAccountName") {
        "" => json::text(spec, "serviceAccount"),
        name => name,
    };
    if !name.is_empty() {
        let name = name.to_owned();
        json::set(spec, "serviceAccount", name.as_str());
        json::set(spec, "serviceAccountName", name);
    }
}

/// Texts are data that needs no encoding.
fn secret(value: &mut Value) {
    let Some(Value::Object(texts)) = json::remove(value, "stringData") else {
        return;
    };
    for (key, text) in texts {
        let encoded = STANDARD.encode(text.as_str().unwrap_or(""));
        json::object_mut(value, "data").insert(key, encoded.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(group: &str, kind: &str, mut value: Value) -> Value {
        settle(&GroupVersionKind::new(group, "v1", kind), &mut value);
        value
    }

    #[test]
    fn the_older_of_two_names_holds_for_addresses_and_the_newer_for_accounts() {
        let node = |spec: Value| settled("", "Node", json!({"spec": spec}))["spec"].take();
        assert_eq!(
            node(json!({"podCIDR": "a"})),
            json!({"podCIDR": "a", "podCIDRs": ["a"]})
        );
        assert_eq!(
            node(json!({"podCIDRs": ["a", "b"]})),
            json!({"podCIDR": "a", "podCIDRs": ["a", "b"]})
        );
        assert_eq!(
            node(json!({"podCIDR": "b", "podCIDRs": ["a"]})),
            json!({"podCIDR": "b", "podCIDRs": ["b"]})
        );
        let pod = settled(
            "",
            "Pod",
            json!({"spec": {"serviceAccount": "x", "serviceAccountName": "y"}, "status": {"podIP": "1"}}),
        );
        assert_eq!(pod["spec"], json!({"serviceAccount": "y", "serviceAccountName": "y"}));
        assert_eq!(pod["status"], json!({"podIP": "1", "podIPs": [{"ip": "1"}]}));
    }

    #[test]
    fn texts_of_a_secret_are_its_data() {
        let secret = settled("", "Secret", json!({"data": {"a": "eA=="}, "stringData": {"b": "y"}}));
        assert_eq!(secret, json!({"data": {"a": "eA==", "b": "eQ=="}}));
    }

    #[test]
    fn every_daemon_set_tells_its_template_generation() {
        let mut set = settled("apps", "DaemonSet", json!({"metadata": {}}));
        assert_eq!(template_generation(&set), Some(0));
        set_template_generation(&mut set, 3);
        assert_eq!(template_generation(&settled("apps", "DaemonSet", set)), Some(3));
    }
}
