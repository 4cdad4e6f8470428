//! A manifest as the pod it becomes on this node: named after the node, with the defaults that an API would set.

use super::SOURCE;
use crate::pod::Pod;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use strata_meta::Time;

/// Longest name of a pod (a DNS subdomain).
const NAME_MAX: usize = 253;

/// The pod of a manifest in YAML or JSON. Error: what is wrong with it.
pub fn parse(text: &str, path: &str, node: &str) -> Result<Pod, String> {
    let mut value: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    if value["apiVersion"] != "v1" || value["kind"] != "Pod" {
        return Err("it is not of kind Pod in v1".into());
    }
    // The same manifest at the same place on the same node is the same pod.
    let digest = Sha256::digest([node, path, text].join("\0").as_bytes());
    let uid: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    name(&mut value, &uid, node)?;
    default(&mut value, node)?;
    let mut pod: Pod = serde_json::from_value(value.clone()).map_err(|e| e.to_string())?;
    if pod.spec.containers.is_empty() {
        return Err("it has no containers".into());
    }
    let nameless = |c: &crate::pod::Container| c.name.is_empty() || c.image.is_empty();
    if pod.lasting_containers().any(nameless) {
        return Err("a container has no name or no image".into());
    }
    pod.manifest = Some(Arc::new(value));
    Ok(pod)
}

fn member<'v>(value: &'v mut Value, name: &str) -> Result<&'v mut Map<String, Value>, String> {
    let value = value
        .as_object_mut()
        .ok_or("it is not an object")?
        .entry(name)
        .or_insert_with(|| json!({}));
    value.as_object_mut().ok_or_else(|| format!("{name} is not an object"))
}

fn name(value: &mut Value, uid: &str, node: &str) -> Result<(), String> {
    let meta = member(value, "metadata")?;
    let name = meta.get("name").and_then(Value::as_str).unwrap_or_default();
    let name = format!("{name}-{}", node.to_lowercase());
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if name.starts_with('-') || name.len() > NAME_MAX || !name.bytes().all(plain) {
        return Err(format!("{name:?} is no name for a pod"));
    }
    meta.insert("name".into(), name.into());
    meta.entry("namespace").or_insert_with(|| "default".into());
    meta.insert("uid".into(), uid.into());
    for foreign in [
        "resourceVersion",
        "creationTimestamp",
        "generateName",
        "ownerReferences",
    ] {
        meta.remove(foreign);
    }
    let mut annotations = json!({ "annotations": meta.remove("annotations").unwrap_or_else(|| json!({})) });
    let of_pod = member(&mut annotations, "annotations")?;
    of_pod.insert("kubernetes.io/config.hash".into(), uid.into());
    of_pod.insert("kubernetes.io/config.seen".into(), json!(Time::now()));
    of_pod.insert(SOURCE.into(), "file".into());
    let of_pod = Value::Object(std::mem::take(of_pod));
    meta.insert("annotations".into(), of_pod);
    Ok(())
}

/// What the agent needs to be said; the mirror gets the rest from the API.
fn default(value: &mut Value, node: &str) -> Result<(), String> {
    let spec = member(value, "spec")?;
    spec.insert("nodeName".into(), node.into());
    for (field, default) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("enableServiceLinks", json!(true)),
    ] {
        spec.entry(field).or_insert(default);
    }
    // Static pods are not expelled by taints (upstream adds the same).
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let tolerations = tolerations.as_array_mut().ok_or("tolerations is not a list")?;
    tolerations.push(json!({"operator": "Exists", "effect": "NoExecute"}));
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            default_container(container);
        }
    }
    Ok(())
}

fn default_container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let tag = image.rsplit('/').next().unwrap_or_default();
    let moves = !image.contains('@') && (!tag.contains(':') || tag.ends_with(":latest"));
    let policy = if moves { "Always" } else { "IfNotPresent" };
    for (field, default) in [
        ("imagePullPolicy", policy),
        ("terminationMessagePath", "/dev/termination-log"),
        ("terminationMessagePolicy", "File"),
    ] {
        container.entry(field).or_insert_with(|| default.into());
    }
    // A limit is a request of the same size where there is none.
    let resources = container.get_mut("resources").and_then(Value::as_object_mut);
    if let Some(resources) = resources
        && let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned()
    {
        let requests = resources.entry("requests").or_insert_with(|| json!({}));
        for (name, limit) in limits {
            if let Some(requests) = requests.as_object_mut() {
                requests.entry(name).or_insert(limit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, annotations: {a: b}}\n\
        spec: {containers: [{name: c, image: 'r/i:1', resources: {limits: {cpu: 1}}}]}\n";

    #[test]
    fn a_manifest_becomes_a_pod_of_the_node() {
        let pod = parse(MANIFEST, "/m/web.yaml", "Node1").expect("a pod");
        assert_eq!(pod.full_name(), "default/web-node1");
        assert!(pod.is_static());
        assert_eq!(pod.metadata.annotations["a"], "b");
        assert_eq!(pod.spec.containers[0].image_pull_policy, "IfNotPresent");
        assert_eq!(pod.spec.containers[0].resources.requests["cpu"].to_string(), "1");
        assert_eq!(pod.metadata.uid.as_str().len(), 32);
        let again = parse(MANIFEST, "/m/web.yaml", "Node1").expect("a pod");
        assert_eq!(again.metadata.uid, pod.metadata.uid);
        let other = parse(&MANIFEST.replace("i:1", "i:2"), "/m/web.yaml", "Node1").expect("a pod");
        assert_ne!(other.metadata.uid, pod.metadata.uid);
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        for bad in [
            "",
            "x: [",
            "apiVersion: v1\nkind: Service\n",
            "apiVersion: v1\nkind: Pod\nmetadata: []\n",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: ../x}\nspec: {containers: [{name: c, image: i}]}\n",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c}]}\n",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x, annotations: 3}\nspec: {containers: [{name: c, image: i}]}\n",
        ] {
            assert!(parse(bad, "f", "n").is_err(), "{bad:?}");
        }
    }
}
