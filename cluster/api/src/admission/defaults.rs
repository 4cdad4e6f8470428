//! Small plugins that fill in what the cluster knows: DefaultStorageClass, StorageObjectInUseProtection,
//! DefaultIngressClass, RuntimeClass, PodTopologyLabels; and PersistentVolumeClaimResize.

use super::{Operation, Request};
use crate::json;
use serde_json::{Value, json};
use strata_meta::Status;
use strata_quota::Amounts;

/// The newest object of a resource with one of the annotations at `true`.
fn default_of(
    request: &Request<'_>,
    group: &str,
    plural: &str,
    annotations: &[&str],
) -> Result<Option<String>, Status> {
    let mut found: Vec<(String, String)> = Vec::new();
    for object in request.core.resource(group, plural).objects(None) {
        let value = object.to_value().map_err(Status::internal)?;
        let own = json::get(&value, "metadata.annotations");
        if annotations
            .iter()
            .any(|a| own.is_some_and(|o| o.get(*a) == Some(&json!("true"))))
        {
            let created = json::text(&value, "metadata.creationTimestamp").to_owned();
            found.push((created, object.name().to_owned()));
        }
    }
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    Ok(found.into_iter().next().map(|(_, name)| name))
}

/// A claim without a class gets the default one.
pub(super) fn storage_class(request: &Request<'_>, claim: &mut Value, _old: Option<&Value>) -> Result<(), Status> {
    if !request.is("", "persistentvolumeclaims") || request.operation != Operation::Create {
        return Ok(());
    }
    let annotated = json::get(claim, "metadata.annotations")
        .is_some_and(|a| a.get("volume.beta.kubernetes.io/storage-class").is_some());
    if annotated || json::get(claim, "spec.storageClassName").is_some() {
        return Ok(());
    }
    let annotations = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    if let Some(name) = default_of(request, "storage.k8s.io", "storageclasses", &annotations)? {
        json::set(claim, "spec.storageClassName", name);
    }
    Ok(())
}

/// What the protection controllers take off once the object is not used any longer.
const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    (
        "storage.k8s.io",
        "volumeattributesclasses",
        "kubernetes.io/vac-protection",
    ),
];

/// Volumes, claims and classes stay while they are used.
pub(super) fn in_use_protection(request: &Request<'_>, object: &mut Value, _old: Option<&Value>) -> Result<(), Status> {
    let found = PROTECTED
        .iter()
        .find(|(group, plural, _)| request.is(group, plural) && request.operation == Operation::Create);
    let Some((_, _, finalizer)) = found else {
        return Ok(());
    };
    if !json::list(object, "metadata.finalizers").iter().any(|f| f == finalizer) {
        let finalizers = json::object_mut(object, "metadata")
            .entry("finalizers")
            .or_insert_with(|| json!([]));
        if let Some(finalizers) = finalizers.as_array_mut() {
            finalizers.push(json!(finalizer));
        }
    }
    Ok(())
}

/// An ingress without a class gets the default one.
pub(super) fn ingress_class(request: &Request<'_>, ingress: &mut Value, _old: Option<&Value>) -> Result<(), Status> {
    if !request.is("networking.k8s.io", "ingresses") || request.operation != Operation::Create {
        return Ok(());
    }
    let annotated =
        json::get(ingress, "metadata.annotations").is_some_and(|a| a.get("kubernetes.io/ingress.class").is_some());
    if annotated || json::get(ingress, "spec.ingressClassName").is_some() {
        return Ok(());
    }
    let annotations = ["ingressclass.kubernetes.io/is-default-class"];
    if let Some(name) = default_of(request, "networking.k8s.io", "ingressclasses", &annotations)? {
        json::set(ingress, "spec.ingressClassName", name);
    }
    Ok(())
}

/// Labels that a pod takes over from its node.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// A pod that gets its node gets the node's place too (KEP-4742).
pub(super) fn topology_labels(request: &Request<'_>, object: &mut Value, _old: Option<&Value>) -> Result<(), Status> {
    if !request.is_row("", "pods") {
        return Ok(());
    }
    let node = match (request.operation, request.subresource) {
        (Operation::Create, "") => json::text(object, "spec.nodeName"),
        (Operation::Create, "binding") if json::text(object, "target.kind") == "Node" => {
            json::text(object, "target.name")
        }
        _ => "",
    };
    let Some(node) = request.core.resource("", "nodes").get("", node) else {
        return Ok(());
    };
    for key in TOPOLOGY {
        if let Some(label) = node.label(key) {
            json::object_mut(object, "metadata.labels").insert(key.to_owned(), json!(label));
        }
    }
    Ok(())
}

/// The runtime class that a new pod names. Errors: 403 when it is not there.
fn class_of(request: &Request<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let name = json::text(pod, "spec.runtimeClassName");
    if name.is_empty() {
        return Ok(None);
    }
    match request.core.resource("node.k8s.io", "runtimeclasses").get("", name) {
        Some(class) => class.to_value().map(Some).map_err(Status::internal),
        None => {
            let why = format!("pod rejected: RuntimeClass {name:?} not found");
            Err(request.forbidden_object(Some(pod), why))
        }
    }
}

fn is_new_pod(request: &Request<'_>) -> bool {
    request.is("", "pods") && request.operation == Operation::Create
}

/// A pod takes over overhead, node selector and tolerations of its runtime class.
pub(super) fn runtime_class(request: &Request<'_>, pod: &mut Value, _old: Option<&Value>) -> Result<(), Status> {
    if !is_new_pod(request) {
        return Ok(());
    }
    let Some(class) = class_of(request, pod)? else {
        return Ok(());
    };
    if let Some(fixed) = json::get(&class, "overhead.podFixed") {
        let own = Amounts::read(json::get(pod, "spec.overhead"));
        if !own.is_empty() && own != Amounts::read(Some(fixed)) {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(request.forbidden_object(Some(pod), why));
        }
        json::set(pod, "spec.overhead", fixed.clone());
    }
    for (key, value) in json::members(&class, "scheduling.nodeSelector") {
        let own = json::get(pod, "spec.nodeSelector").and_then(|s| s.get(key)).cloned();
        if own.as_ref().is_some_and(|own| own != value) {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(&own.unwrap_or_default())
            );
            return Err(request.forbidden_object(Some(pod), why));
        }
        json::object_mut(pod, "spec.nodeSelector").insert(key.clone(), value.clone());
    }
    let mut tolerations = json::list(pod, "spec.tolerations").to_vec();
    for toleration in json::list(&class, "scheduling.tolerations") {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    if !tolerations.is_empty() {
        json::set(pod, "spec.tolerations", tolerations);
    }
    Ok(())
}

/// Overhead is the runtime class's to say.
pub(super) fn runtime_overhead(request: &Request<'_>, new: Option<&Value>, _old: Option<&Value>) -> Result<(), Status> {
    let Some(pod) = new.filter(|_| is_new_pod(request)) else {
        return Ok(());
    };
    let class = class_of(request, pod)?;
    let fixed = class.as_ref().and_then(|c| json::get(c, "overhead.podFixed"));
    let own = json::get(pod, "spec.overhead");
    let why = match (fixed, own) {
        (Some(fixed), own) if Amounts::read(Some(fixed)) != Amounts::read(own) => {
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
        }
        (None, Some(_)) => "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        _ => return Ok(()),
    };
    Err(request.forbidden_object(new, why))
}

/// Only a bound claim of a class that can grow may grow.
pub(super) fn claim_resize(request: &Request<'_>, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let (Some(new), Some(old)) = (new, old) else {
        return Ok(());
    };
    if !request.is("", "persistentvolumeclaims") || request.operation != Operation::Update {
        return Ok(());
    }
    let size = |claim| Amounts::read(json::get(claim, "spec.resources.requests")).get("storage");
    if size(new) <= size(old) {
        return Ok(());
    }
    if json::text(old, "status.phase") != "Bound" {
        return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let class = |claim| {
        let annotated = json::get(claim, "metadata.annotations")
            .and_then(|a| a.get("volume.beta.kubernetes.io/storage-class"))
            .and_then(Value::as_str);
        annotated.unwrap_or_else(|| json::text(claim, "spec.storageClassName"))
    };
    let classes = request.core.resource("storage.k8s.io", "storageclasses");
    let grows = class(new) == class(old)
        && classes
            .get("", class(new))
            .and_then(|c| c.to_value().ok())
            .is_some_and(|c| json::flag(&c, "allowVolumeExpansion"));
    if grows {
        return Ok(());
    }
    Err(request.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}
