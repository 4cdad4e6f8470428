//! Fields of features that upstream's defaults leave out: they are dropped from what is written, unless the object had
//! them before.

use crate::json;
use serde_json::Value;
use strata_meta::GroupVersionKind;

/// Where objects of a kind describe a pod.
fn pod_spec(gvk: &GroupVersionKind) -> Option<&'static str> {
    Some(match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => "spec",
        ("", "PodTemplate") => "template.spec",
        ("", "ReplicationController")
        | ("apps", "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet")
        | ("batch", "Job") => "spec.template.spec",
        ("batch", "CronJob") => "spec.jobTemplate.spec.template.spec",
        _ => return None,
    })
}

/// Drops the fields from a new state.
pub(crate) fn drop_disabled(gvk: &GroupVersionKind, new: &mut Value, old: Option<&Value>) {
    if let Some(path) = pod_spec(gvk) {
        let before = old.and_then(|old| json::get(old, path));
        if json::get(new, path).is_some() {
            of_pod(json::object_mut(new, path), before.unwrap_or(&Value::Null));
        }
    }
    if gvk.group == "resource.k8s.io" && gvk.kind == "ResourceSlice" {
        of_slice(new, old.unwrap_or(&Value::Null));
    }
    if gvk.group.is_empty() && gvk.kind == "PersistentVolumeClaim" && old.is_none() {
        // CrossNamespaceVolumeDataSource
        if !json::text(new, "spec.dataSourceRef.namespace").is_empty() {
            json::remove(new, "spec.dataSourceRef");
        }
    }
}

fn of_slice(new: &mut Value, before: &Value) {
    // DRAListTypeAttributes
    const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
    let devices = json::list(before, "spec.devices");
    let has_lists = |attribute: &Value| LISTS.iter().any(|name| attribute.get(name).is_some());
    let lists = devices
        .iter()
        .any(|device| json::members(device, "attributes").any(|(_, attribute)| has_lists(attribute)));
    // DRANodeAllocatableResources
    const MAPPINGS: &str = "nodeAllocatableResourceMappings";
    let mappings = devices.iter().any(|device| device.get(MAPPINGS).is_some());
    let devices = new.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
    for device in devices.into_iter().flatten() {
        if !mappings {
            json::remove(device, MAPPINGS);
        }
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        for attribute in attributes.into_iter().flat_map(serde_json::Map::values_mut) {
            for name in LISTS.iter().filter(|_| !lists) {
                json::remove(attribute, name);
            }
        }
    }
}

fn of_pod(spec: &mut serde_json::Map<String, Value>, before: &Value) {
    // GenericWorkload
    if before.get("schedulingGroup").is_none() {
        spec.remove("schedulingGroup");
    }
    // PodCertificateRequest
    let mut sources = json::list(before, "volumes")
        .iter()
        .flat_map(|volume| json::list(volume, "projected.sources"));
    if !sources.any(|source| source.get("podCertificate").is_some()) {
        let volumes = spec
            .get_mut("volumes")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for volume in volumes {
            let sources = volume.pointer_mut("/projected/sources").and_then(Value::as_array_mut);
            for source in sources.into_iter().flatten() {
                json::remove(source, "podCertificate");
            }
        }
    }
    // ContainerStopSignals
    const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];
    let mut containers = LISTS.iter().flat_map(|list| json::list(before, list));
    if !containers.any(|container| json::get(container, "lifecycle.stopSignal").is_some()) {
        for list in LISTS {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            for container in containers {
                let had = json::remove(container, "lifecycle.stopSignal").is_some();
                if had && json::members(container, "lifecycle").next().is_none() {
                    json::remove(container, "lifecycle");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_left_out_is_dropped_unless_it_was_there_before() {
        let kind = GroupVersionKind::new("apps", "v1", "Deployment");
        let with = json!({"spec": {"template": {"spec": {
            "schedulingGroup": {"podGroupName": "g"},
            "volumes": [{"name": "v", "projected": {"sources": [{"podCertificate": {"keyType": "ED25519"}}]}}],
            "containers": [{"name": "c", "lifecycle": {"stopSignal": "SIGUSR1", "preStop": {}}}],
        }}}});
        let mut new = with.clone();
        drop_disabled(&kind, &mut new, None);
        let without = json!({"spec": {"template": {"spec": {
            "volumes": [{"name": "v", "projected": {"sources": [{}]}}],
            "containers": [{"name": "c", "lifecycle": {"preStop": {}}}],
        }}}});
        assert_eq!(new, without);
        let mut new = with.clone();
        drop_disabled(&kind, &mut new, Some(&with));
        assert_eq!(new, with);
    }
}
