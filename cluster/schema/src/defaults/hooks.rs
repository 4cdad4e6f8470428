//! Defaults that depend on other fields, by type.

use super::{Hook, pod};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

pub(super) const HOOKS: &[(&str, &str, Hook)] = &[
    ("core/v1", "Pod", pod::pod),
    ("core/v1", "Volume", pod::volume),
    ("core/v1", "Container", pod::container),
    ("core/v1", "EphemeralContainer", pod::container),
    ("core/v1", "Service", service),
    ("core/v1", "ReplicationController", replication_controller),
    ("core/v1", "Namespace", namespace),
    ("core/v1", "PersistentVolume", persistent_volume),
    ("core/v1", "NodeStatus", node_status),
    ("core/v1", "LimitRangeItem", limit_range_item),
    ("apps/v1", "DeploymentStrategy", deployment_strategy),
    ("apps/v1", "DaemonSetUpdateStrategy", daemon_set_strategy),
    ("apps/v1", "StatefulSetUpdateStrategy", stateful_set_strategy),
    ("batch/v1", "Job", job),
    ("autoscaling/v2", "HorizontalPodAutoscalerSpec", autoscaler),
    ("rbac/v1", "Subject", subject),
    ("networking/v1", "NetworkPolicySpec", network_policy),
    (
        "apiextensions/v1",
        "CustomResourceDefinition",
        custom_resource_definition,
    ),
    ("resource/v1", "ExactDeviceRequest", device_request),
    ("resource/v1", "DeviceSubRequest", device_request),
];

/// The text of a member; empty if there is none.
pub(super) fn text<'a>(object: &'a Object, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a member is absent, null, or an empty text, list or map.
pub(super) fn unset(object: &Object, name: &str) -> bool {
    match object.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(members)) => members.is_empty(),
        Some(_) => false,
    }
}

/// Sets a member that is absent or null.
pub(super) fn set_absent(object: &mut Object, name: &str, value: impl Into<Value>) {
    if object.get(name).is_none_or(Value::is_null) {
        object.insert(name.to_owned(), value.into());
    }
}

/// Sets a member that is unset.
pub(super) fn set_unset(object: &mut Object, name: &str, value: impl Into<Value>) {
    if unset(object, name) {
        object.insert(name.to_owned(), value.into());
    }
}

/// A member that is an object, if it is there.
pub(super) fn inner<'a>(object: &'a mut Object, name: &str) -> Option<&'a mut Object> {
    object.get_mut(name).and_then(Value::as_object_mut)
}

/// A member that is an object, made if need be.
fn ensure<'a>(object: &'a mut Object, name: &str) -> Option<&'a mut Object> {
    set_absent(object, name, json!({}));
    inner(object, name)
}

/// The objects of a member that is a list.
pub(super) fn items<'a>(object: &'a mut Object, name: &str) -> impl Iterator<Item = &'a mut Object> {
    let list = object.get_mut(name).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn service(object: &mut Object) {
    let Some(spec) = inner(object, "spec") else { return };
    service_affinity(spec);
    set_unset(spec, "type", "ClusterIP");
    for port in items(spec, "ports") {
        set_unset(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if target.is_none_or(|t| t.is_null() || *t == 0 || *t == "") {
            let number = port.get("port").cloned().unwrap_or(0.into());
            port.insert("targetPort".to_owned(), number);
        }
    }
    let kind = text(spec, "type").to_owned();
    let balanced = kind == "LoadBalancer";
    if balanced || kind == "NodePort" || (kind == "ClusterIP" && !unset(spec, "externalIPs")) {
        set_unset(spec, "externalTrafficPolicy", "Cluster");
    }
    if balanced || kind == "NodePort" || kind == "ClusterIP" {
        set_absent(spec, "internalTrafficPolicy", "Cluster");
    }
    if balanced {
        set_absent(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(state) = inner(object, "status").and_then(|status| inner(status, "loadBalancer")) {
            for ingress in items(state, "ingress").filter(|ingress| !unset(ingress, "ip")) {
                set_absent(ingress, "ipMode", "VIP");
            }
        }
    }
}

fn service_affinity(spec: &mut Object) {
    set_unset(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let timeout = spec
                .get("sessionAffinityConfig")
                .and_then(|c| c["clientIP"].get("timeoutSeconds"));
            if timeout.is_none_or(Value::is_null) {
                spec.insert(
                    "sessionAffinityConfig".to_owned(),
                    json!({"clientIP": {"timeoutSeconds": 10800}}),
                );
            }
        }
        _ => {}
    }
}

/// The labels of an object's pod template, if there are any.
fn template_labels(object: &Object) -> Option<Value> {
    let labels = object.get("spec")?.get("template")?.get("metadata")?.get("labels")?;
    labels.is_object().then(|| labels.clone())
}

fn own_labels(object: &mut Object, labels: Value) {
    if let Some(metadata) = ensure(object, "metadata") {
        set_unset(metadata, "labels", labels);
    }
}

fn replication_controller(object: &mut Object) {
    let Some(labels) = template_labels(object) else { return };
    if let Some(spec) = inner(object, "spec") {
        set_unset(spec, "selector", labels.clone());
    }
    own_labels(object, labels);
}

fn namespace(object: &mut Object) {
    let Some(metadata) = inner(object, "metadata") else {
        return;
    };
    let name = text(metadata, "name").to_owned();
    if !name.is_empty()
        && let Some(labels) = ensure(metadata, "labels")
    {
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
}

/// Of volumes themselves alone: attachments hold the same spec.
fn persistent_volume(object: &mut Object) {
    if let Some(spec) = ensure(object, "spec") {
        set_unset(spec, "persistentVolumeReclaimPolicy", "Retain");
        set_absent(spec, "volumeMode", "Filesystem");
    }
    if let Some(status) = ensure(object, "status") {
        set_unset(status, "phase", "Pending");
    }
}

fn node_status(object: &mut Object) {
    if let Some(capacity) = object.get("capacity").filter(|c| c.is_object()).cloned() {
        set_absent(object, "allocatable", capacity);
    }
}

fn limit_range_item(object: &mut Object) {
    if text(object, "type") != "Container" {
        return;
    }
    for (from, to) in [
        ("max", "default"),
        ("default", "defaultRequest"),
        ("min", "defaultRequest"),
    ] {
        let Some(source) = object.get(from).and_then(Value::as_object).cloned() else {
            continue;
        };
        let Some(target) = ensure(object, to) else { continue };
        for (name, amount) in source {
            target.entry(name).or_insert(amount);
        }
    }
}

fn deployment_strategy(object: &mut Object) {
    set_unset(object, "type", "RollingUpdate");
    if text(object, "type") == "RollingUpdate"
        && let Some(rolling) = ensure(object, "rollingUpdate")
    {
        set_absent(rolling, "maxUnavailable", "25%");
        set_absent(rolling, "maxSurge", "25%");
    }
}

fn daemon_set_strategy(object: &mut Object) {
    set_unset(object, "type", "RollingUpdate");
    if text(object, "type") == "RollingUpdate"
        && let Some(rolling) = ensure(object, "rollingUpdate")
    {
        set_absent(rolling, "maxUnavailable", 1);
        set_absent(rolling, "maxSurge", 0);
    }
}

fn stateful_set_strategy(object: &mut Object) {
    if unset(object, "type") {
        object.insert("type".to_owned(), "RollingUpdate".into());
        set_absent(object, "rollingUpdate", json!({}));
    }
    if text(object, "type") == "RollingUpdate"
        && let Some(rolling) = inner(object, "rollingUpdate")
    {
        set_absent(rolling, "partition", 0);
    }
}

fn job(object: &mut Object) {
    if let Some(spec) = inner(object, "spec") {
        let absent = |spec: &Object, name: &str| spec.get(name).is_none_or(Value::is_null);
        if absent(spec, "completions") && absent(spec, "parallelism") {
            spec.insert("completions".to_owned(), 1.into());
        }
        set_absent(spec, "parallelism", 1);
        let retries = if absent(spec, "backoffLimitPerIndex") {
            6
        } else {
            i32::MAX
        };
        set_absent(spec, "backoffLimit", retries);
        set_absent(spec, "completionMode", "NonIndexed");
        set_absent(spec, "suspend", false);
        let replace = if absent(spec, "podFailurePolicy") {
            "TerminatingOrFailed"
        } else {
            "Failed"
        };
        set_absent(spec, "podReplacementPolicy", replace);
        set_absent(spec, "manualSelector", false);
    }
    if let Some(labels) = template_labels(object) {
        own_labels(object, labels);
    }
}

fn autoscaler(object: &mut Object) {
    let cpu = json!([{"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 80}}}]);
    set_unset(object, "metrics", cpu);
    let Some(behavior) = inner(object, "behavior") else {
        return;
    };
    let all = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let four = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    if let Some(up) = ensure(behavior, "scaleUp") {
        set_absent(up, "stabilizationWindowSeconds", 0);
        set_absent(up, "selectPolicy", "Max");
        set_absent(up, "policies", json!([four, all]));
    }
    if let Some(down) = ensure(behavior, "scaleDown") {
        set_absent(down, "selectPolicy", "Max");
        set_absent(down, "policies", json!([all]));
    }
}

fn subject(object: &mut Object) {
    if matches!(text(object, "kind"), "User" | "Group") {
        set_unset(object, "apiGroup", "rbac.authorization.k8s.io");
    }
}

fn network_policy(object: &mut Object) {
    let types = if unset(object, "egress") {
        json!(["Ingress"])
    } else {
        json!(["Ingress", "Egress"])
    };
    set_unset(object, "policyTypes", types);
}

fn custom_resource_definition(object: &mut Object) {
    let Some(spec) = inner(object, "spec") else { return };
    if let Some(names) = inner(spec, "names") {
        let kind = text(names, "kind").to_owned();
        if !kind.is_empty() {
            set_unset(names, "singular", kind.to_lowercase());
            set_unset(names, "listKind", format!("{kind}List"));
        }
    }
    set_absent(spec, "conversion", json!({"strategy": "None"}));
    let stored = items(spec, "versions").find(|version| version.get("storage") == Some(&Value::Bool(true)));
    let stored = stored.map(|version| text(version, "name").to_owned());
    if let (Some(name), Some(status)) = (stored, ensure(object, "status")) {
        set_unset(status, "storedVersions", json!([name]));
    }
}

fn device_request(object: &mut Object) {
    set_unset(object, "allocationMode", "ExactCount");
    if text(object, "allocationMode") == "ExactCount" && object.get("count").is_none_or(|n| n.is_null() || *n == 0) {
        object.insert("count".to_owned(), 1.into());
    }
}
