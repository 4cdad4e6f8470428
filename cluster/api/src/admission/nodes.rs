//! TaintNodesByCondition and NodeRestriction.

use super::{Operation, Request};
use crate::json;
use serde_json::{Value, json};
use strata_auth::UserInfo;
use strata_meta::Status;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A new node takes no pods until its conditions have been seen.
pub(super) fn taint_new(request: &Request<'_>, node: &mut Value, _old: Option<&Value>) -> Result<(), Status> {
    if !request.is("", "nodes") || request.operation != Operation::Create {
        return Ok(());
    }
    let tainted = json::list(node, "spec.taints")
        .iter()
        .any(|t| json::text(t, "key") == NOT_READY && json::text(t, "effect") == "NoSchedule");
    if !tainted {
        let taints = json::object_mut(node, "spec")
            .entry("taints")
            .or_insert_with(|| json!([]));
        if let Some(taints) = taints.as_array_mut() {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
    }
    Ok(())
}

/// An agent may write its own node, the pods bound to it, its lease and its CSINode: nothing else.
pub(super) fn restriction(request: &Request<'_>, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let Some(me) = request.user.node_name() else {
        return Ok(());
    };
    if me.is_empty() {
        return Err(request.forbidden(format_args!(
            "could not determine node from user {:?}",
            request.user.name
        )));
    }
    match (
        request.row.resource.group.as_str(),
        request.row.resource.resource.as_str(),
    ) {
        ("", "pods") => pod(request, me, new, old),
        ("", "nodes") => node(request, me, new, old),
        ("coordination.k8s.io", "leases") => lease(request, me),
        ("storage.k8s.io", "csinodes") if request.name != me => {
            Err(request.forbidden("node is not allowed to write CSINodes of other nodes"))
        }
        _ => Ok(()),
    }
}

fn pod(request: &Request<'_>, me: &str, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let bound_elsewhere = |pod: &Value| json::text(pod, "spec.nodeName") != me;
    match (request.operation, request.subresource) {
        (Operation::Create, "") => {
            let Some(pod) = new else { return Ok(()) };
            let mirror =
                json::get(pod, "metadata.annotations").is_some_and(|a| a.get("kubernetes.io/config.mirror").is_some());
            if !mirror {
                return Err(request.forbidden(format_args!("node {me:?} can only create mirror pods")));
            }
            if bound_elsewhere(pod) {
                return Err(request.forbidden(format_args!(
                    "node {me:?} can only create pods with spec.nodeName set to itself"
                )));
            }
            Ok(())
        }
        (Operation::Delete, "") if old.is_some_and(bound_elsewhere) => Err(request.forbidden(format_args!(
            "node {me:?} can only delete pods with spec.nodeName set to itself"
        ))),
        (Operation::Update, "status") => {
            if old.is_some_and(bound_elsewhere) {
                return Err(request.forbidden(format_args!(
                    "node {me:?} can only update pod status for pods with spec.nodeName set to itself"
                )));
            }
            if let (Some(new), Some(old)) = (new, old)
                && !json::same(new, old, "metadata.labels")
            {
                return Err(request.forbidden(format_args!("node {me:?} cannot update labels through pod status")));
            }
            Ok(())
        }
        (Operation::Update, "") => Err(request.forbidden(format_args!(
            "unexpected operation \"UPDATE\", node {me:?} can only create and delete mirror pods"
        ))),
        _ => Ok(()),
    }
}

/// An agent gets tokens only for the accounts of pods that run on its node, bound to those pods. Errors: 403.
pub(crate) fn token_request(
    user: &UserInfo,
    account: &str,
    request: &Value,
    pod: Option<&Value>,
) -> Result<(), Status> {
    let Some(me) = user.node_name() else {
        return Ok(());
    };
    let resource = strata_meta::GroupResource::new("", "serviceaccounts");
    let refuse = |why: &str| Err(Status::forbidden(&resource, account, why));
    if json::text(request, "spec.boundObjectRef.kind") != "Pod" {
        return refuse("node requested token not bound to a pod");
    }
    if json::text(request, "spec.boundObjectRef.uid").is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    match pod {
        Some(pod) if json::text(pod, "spec.nodeName") == me => Ok(()),
        _ => refuse("node requested token bound to a pod scheduled on a different node"),
    }
}

/// An agent evicts only the pods of its node. Errors: 403.
pub(crate) fn eviction(user: &UserInfo, pod: &Value) -> Result<(), Status> {
    match user.node_name() {
        Some(me) if json::text(pod, "spec.nodeName") != me => {
            let resource = strata_meta::GroupResource::new("", "pods");
            let why = format!("node {me:?} can only evict pods with spec.nodeName set to itself");
            Err(Status::forbidden(&resource, json::text(pod, "metadata.name"), why))
        }
        _ => Ok(()),
    }
}

/// Labels of the kubernetes.io domains that an agent may set on itself (KEP-279).
fn own_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return true;
    };
    let kubernetes = ["kubernetes.io", "k8s.io"]
        .iter()
        .any(|d| domain == *d || domain.ends_with(&format!(".{d}")));
    let known = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    ];
    let prefixed = ["kubelet.kubernetes.io", "node.kubernetes.io"];
    !kubernetes
        || known.contains(&key)
        || prefixed
            .iter()
            .any(|p| domain == *p || domain.ends_with(&format!(".{p}")))
}

fn node(request: &Request<'_>, me: &str, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    if request.name != me {
        return Err(request.forbidden(format_args!(
            "node {me:?} is not allowed to modify node {:?}",
            request.name
        )));
    }
    let Some(new) = new else { return Ok(()) };
    let changed = |path: &str| old.is_some_and(|old| !json::same(new, old, path));
    if changed("spec.taints") {
        return Err(request.forbidden(format_args!("node {me:?} is not allowed to modify taints")));
    }
    if changed("metadata.ownerReferences") {
        return Err(request.forbidden(format_args!("node {me:?} is not allowed to modify ownerReferences")));
    }
    let mut refused: Vec<&str> = json::members(new, "metadata.labels")
        .filter(|(key, value)| {
            let before = old
                .and_then(|o| json::get(o, "metadata.labels"))
                .and_then(|l| l.get(key.as_str()));
            before != Some(*value) && !own_label(key)
        })
        .map(|(key, _)| key.as_str())
        .collect();
    refused.sort_unstable();
    if !refused.is_empty() {
        let list = refused.join(", ");
        return Err(request.forbidden(format_args!("is not allowed to set the following labels: {list}")));
    }
    Ok(())
}

fn lease(request: &Request<'_>, me: &str) -> Result<(), Status> {
    if request.namespace != "kube-node-lease" || request.name != me {
        return Err(request.forbidden(format_args!(
            "can only access lease with the same name as the requesting node {me:?}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_sets_only_its_own_labels() {
        for (key, allowed) in [
            ("app", true),
            ("example.com/x", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/gpu", true),
            ("node-restriction.kubernetes.io/x", false),
            ("node-role.kubernetes.io/control-plane", false),
        ] {
            assert_eq!(own_label(key), allowed, "{key}");
        }
    }
}
