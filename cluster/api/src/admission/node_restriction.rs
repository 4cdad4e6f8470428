//! NodeRestriction: an agent writes its own node, the pods bound to it, what belongs to both, and nothing else.

use super::{Operation, Request, Round, references};
use crate::json;
use futures::future::BoxFuture;
use serde_json::Value;
use strata_auth::{Attributes, RequestedNames};
use strata_meta::Status;

type Outcome = Result<(), Status>;

/// One request of an agent.
struct Asked<'a> {
    request: &'a Request<'a>,
    /// The agent's node.
    me: &'a str,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
}

/// Whether an agent may do what it asks for. Errors: 403.
pub(super) fn restrict<'a>(
    request: &'a Request<'a>,
    _round: &'a mut Round,
    new: Option<&'a mut Value>,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Outcome> {
    match request.user.node_name() {
        None => Box::pin(std::future::ready(Ok(()))),
        Some(me) => Box::pin(async move { restriction(request, me, new.as_deref(), old).await }),
    }
}

async fn restriction(request: &Request<'_>, me: &str, new: Option<&Value>, old: Option<&Value>) -> Outcome {
    if me.is_empty() {
        let name = &request.user.name;
        return Err(request.forbidden_object(new, format_args!("could not determine node from user {name:?}")));
    }
    let asked = Asked { request, me, new, old };
    let resource = &request.row.resource;
    match (resource.group.as_str(), resource.resource.as_str()) {
        ("", "pods") => asked.pod(),
        ("", "nodes") => asked.node(),
        ("", "persistentvolumeclaims") => asked.claim(),
        ("", "serviceaccounts") => asked.token().await,
        ("coordination.k8s.io", "leases") => asked.lease(),
        ("storage.k8s.io", "csinodes") if asked.name() != me => {
            asked.refuse("can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices") => asked.slice(),
        ("certificates.k8s.io", "certificatesigningrequests") => asked.certificate(),
        _ => Ok(()),
    }
}

impl Asked<'_> {
    fn refuse(&self, why: impl std::fmt::Display) -> Outcome {
        Err(self.request.forbidden_object(self.new, why))
    }

    fn new_state(&self) -> &Value {
        self.new.unwrap_or(&Value::Null)
    }

    fn old_state(&self) -> &Value {
        self.old.unwrap_or(&Value::Null)
    }

    /// The object's name, which a new one has in itself.
    fn name(&self) -> &str {
        match self.request.operation {
            Operation::Create => json::text(self.new_state(), "metadata.name"),
            _ => self.request.name,
        }
    }

    fn pod(&self) -> Outcome {
        match self.request.subresource {
            "" => match self.request.operation {
                Operation::Create => self.mirror_pod(),
                Operation::Delete if json::text(self.old_state(), "spec.nodeName") == self.me => Ok(()),
                Operation::Delete => self.refuse(format_args!(
                    "node {:?} can only delete pods with spec.nodeName set to itself",
                    self.me
                )),
                other => self.refuse(format_args!(
                    "unexpected operation {:?}, node {:?} can only create and delete mirror pods",
                    other.as_str(),
                    self.me
                )),
            },
            "status" => self.pod_status(),
            "eviction" => self.eviction(),
            other => self.refuse(format_args!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
        }
    }

    fn mirror_pod(&self) -> Outcome {
        const MIRROR: &str = "kubernetes.io/config.mirror";
        let (me, pod) = (self.me, self.new_state());
        if json::get(pod, "metadata.annotations").is_none_or(|a| a.get(MIRROR).is_none()) {
            let why = format!("pod does not have {MIRROR:?} annotation, node {me:?} can only create mirror pods");
            return self.refuse(why);
        }
        if json::text(pod, "spec.nodeName") != me {
            return self.refuse(format_args!(
                "node {me:?} can only create pods with spec.nodeName set to itself"
            ));
        }
        let owners = json::list(pod, "metadata.ownerReferences");
        let [owner] = owners else {
            let which = if owners.is_empty() { "an" } else { "a single" };
            return self.refuse(format_args!(
                "node {me:?} can only create pods with {which} owner reference set to itself"
            ));
        };
        let named = ["apiVersion", "kind", "name"].map(|member| json::text(owner, member));
        if named != ["v1", "Node", me] {
            return self.refuse(format_args!(
                "node {me:?} can only create pods with an owner reference set to itself"
            ));
        }
        if !json::flag(owner, "controller") {
            return self.refuse(format_args!(
                "node {me:?} can only create pods with a controller owner reference set to itself"
            ));
        }
        if json::flag(owner, "blockOwnerDeletion") {
            return self.refuse(format_args!(
                "node {me:?} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let nodes = strata_meta::GroupResource::new("", "nodes");
        let node = self.request.core.resource("", "nodes").get("", me);
        let node = node.ok_or_else(|| Status::not_found(&nodes, me))?;
        let uid = json::text(owner, "uid");
        if uid != node.uid.as_str() {
            return self.refuse(format_args!("node {me} UID mismatch: expected {uid} got {}", node.uid));
        }
        match references::api_object(pod) {
            Some(kind) => self.refuse(format_args!("node {me:?} can not create pods that reference {kind}")),
            None => Ok(()),
        }
    }

    fn pod_status(&self) -> Outcome {
        let (me, new, old) = (self.me, self.new_state(), self.old_state());
        if self.request.operation != Operation::Update {
            let operation = self.request.operation.as_str();
            return self.refuse(format_args!("unexpected operation {operation:?}"));
        }
        if json::text(old, "spec.nodeName") != me {
            return self.refuse(format_args!(
                "node {me:?} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        for (path, what) in [
            ("metadata.labels", "update labels through pod status"),
            ("status.resourceClaimStatuses", "update resource claim statues"),
            (
                "status.extendedResourceClaimStatus",
                "update extended resource claim status",
            ),
        ] {
            if !json::same(new, old, path) {
                return self.refuse(format_args!("node {me:?} cannot {what}"));
            }
        }
        Ok(())
    }

    fn eviction(&self) -> Outcome {
        let request = self.request;
        let pod = request.core.resource("", "pods").get(request.namespace, request.name);
        let pods = strata_meta::GroupResource::new("", "pods");
        let pod = pod.ok_or_else(|| Status::not_found(&pods, request.name))?;
        let pod = pod.to_value().map_err(Status::internal)?;
        if json::text(&pod, "spec.nodeName") == self.me {
            return Ok(());
        }
        self.refuse(format_args!(
            "node {} can only evict pods with spec.nodeName set to itself",
            self.me
        ))
    }

    /// Of a claim only what its volume has become.
    fn claim(&self) -> Outcome {
        if self.request.subresource != "status" {
            return self.refuse("may only update PVC status");
        }
        if self.request.operation != Operation::Update {
            let operation = self.request.operation.as_str();
            return self.refuse(format_args!("unexpected operation {operation:?}"));
        }
        let bare = |claim: &Value| {
            let mut claim = claim.clone();
            for path in [
                "metadata.resourceVersion",
                "metadata.managedFields",
                "status.capacity",
                "status.conditions",
                "status.allocatedResourceStatuses",
                "status.allocatedResources",
            ] {
                json::remove(&mut claim, path);
            }
            claim
        };
        if bare(self.new_state()) == bare(self.old_state()) {
            return Ok(());
        }
        self.refuse(format_args!(
            "node {:?} is not allowed to update fields other than status.quantity and status.conditions",
            self.me
        ))
    }

    fn node(&self) -> Outcome {
        let me = self.me;
        let asked = match self.request.name {
            "" => json::text(self.new_state(), "metadata.name"),
            name => name,
        };
        if asked != me {
            return self.refuse(format_args!("node {me:?} is not allowed to modify node {asked:?}"));
        }
        let Some(new) = self.new else { return Ok(()) };
        let Some(old) = self.old else {
            if json::get(new, "spec.configSource").is_some() {
                return self.refuse(format_args!(
                    "node {me:?} is not allowed to create pods with a non-nil configSource"
                ));
            }
            return match foreign_labels(new, &Value::Null).as_slice() {
                [] => Ok(()),
                labels => self.refuse(format_args!(
                    "node {me:?} is not allowed to set the following labels: {}",
                    labels.join(", ")
                )),
            };
        };
        let changed = |path: &str| !json::same(new, old, path);
        if json::get(new, "spec.configSource").is_some() && changed("spec.configSource") {
            return self.refuse(format_args!(
                "node {me:?} is not allowed to update configSource to a new non-nil configSource"
            ));
        }
        if changed("spec.taints") {
            return self.refuse(format_args!("node {me:?} is not allowed to modify taints"));
        }
        if changed("metadata.ownerReferences") {
            return self.refuse(format_args!("node {me:?} is not allowed to modify ownerReferences"));
        }
        match foreign_labels(new, old).as_slice() {
            [] => Ok(()),
            labels => self.refuse(format_args!("is not allowed to modify labels: {}", labels.join(", "))),
        }
    }

    fn lease(&self) -> Outcome {
        if self.request.namespace != "kube-node-lease" {
            return self.refuse("can only access leases in the \"kube-node-lease\" system namespace");
        }
        if self.name() != self.me {
            return self.refuse("can only access node lease with the same name as the requesting node");
        }
        Ok(())
    }

    fn slice(&self) -> Outcome {
        let (verb, slice) = match self.request.operation {
            Operation::Create => ("create", self.new_state()),
            Operation::Delete => ("delete", self.old_state()),
            _ => return Ok(()),
        };
        if json::text(slice, "spec.nodeName") == self.me {
            return Ok(());
        }
        self.refuse(format_args!(
            "can only {verb} ResourceSlice with the same NodeName as the requesting node"
        ))
    }

    /// A certificate for a node only in its own name. All else about it is its signer's to check.
    fn certificate(&self) -> Outcome {
        let new = self.new_state();
        let for_nodes = matches!(
            json::text(new, "spec.signerName"),
            "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet"
        );
        if self.request.operation != Operation::Create || !self.request.subresource.is_empty() || !for_nodes {
            return Ok(());
        }
        let me = self.me;
        match super::certificates::names_of(new) {
            Err(why) => self.refuse(format_args!("unable to parse csr: {why}")),
            Ok(RequestedNames { common_name, .. }) if common_name == format!("system:node:{me}") => Ok(()),
            Ok(_) => self.refuse(format_args!("can only create a node CSR with CN=system:node:{me}")),
        }
    }

    /// Tokens only for the accounts of pods that run on the node, bound to those pods, for audiences they name.
    async fn token(&self) -> Outcome {
        let request = self.request;
        if (request.operation, request.subresource) != (Operation::Create, "token") {
            return Ok(());
        }
        let wanted = self.new_state();
        let bound = ["apiVersion", "kind", "name", "uid"]
            .map(|member| json::text(wanted, &format!("spec.boundObjectRef.{member}")));
        let ["v1", "Pod", name, uid] = bound else {
            return self.refuse("node requested token not bound to a pod");
        };
        if name.is_empty() {
            return self.refuse("node requested token not bound to a pod");
        }
        if uid.is_empty() {
            return self.refuse("node requested token with a pod binding without a uid");
        }
        let pods = strata_meta::GroupResource::new("", "pods");
        let pod = request.core.resource("", "pods").get(request.namespace, name);
        let pod = pod.ok_or_else(|| Status::not_found(&pods, name))?;
        if uid != pod.uid.as_str() {
            return self.refuse(format_args!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        let pod = pod.to_value().map_err(Status::internal)?;
        if json::text(&pod, "spec.nodeName") != self.me {
            return self.refuse("node requested token bound to a pod scheduled on a different node");
        }
        let audience = match json::list(wanted, "spec.audiences") {
            [] => "",
            [one] => one.as_str().unwrap_or(""),
            _ => return self.refuse("node may only request 0 or 1 audiences"),
        };
        if names_audience(request, &pod, audience) || may_ask_for(request, audience).await {
            return Ok(());
        }
        self.refuse(format_args!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            request.user.name
        ))
    }
}

/// Whether the agent may have tokens for an audience whatever pods say.
async fn may_ask_for(request: &Request<'_>, audience: &str) -> bool {
    let attributes = Attributes {
        verb: "request-serviceaccounts-token-audience",
        version: "v1",
        resource: audience,
        namespace: request.namespace,
        name: request.name,
        ..Attributes::of(request.user)
    };
    let decision = request.core.authorizer.decide(request.core, &attributes).await;
    decision.is_allowed()
}

/// Whether a volume of the pod takes a token for an audience: itself, or by its driver.
fn names_audience(request: &Request<'_>, pod: &Value, audience: &str) -> bool {
    let core = request.core;
    let read = |group, plural, namespace: &str, name: &str| {
        let object = core.resource(group, plural).get(namespace, name)?;
        object.to_value().ok()
    };
    let by_claim = |name: &str| {
        let claim = read("", "persistentvolumeclaims", request.namespace, name)?;
        let volume = read("", "persistentvolumes", "", json::text(&claim, "spec.volumeName"))?;
        Some(json::text(&volume, "spec.csi.driver").to_owned())
    };
    let by_driver = |name: &str| {
        let driver = read("storage.k8s.io", "csidrivers", "", name);
        driver.is_some_and(|driver| {
            let wanted = json::list(&driver, "spec.tokenRequests").iter();
            wanted.map(|r| json::text(r, "audience")).any(|own| own == audience)
        })
    };
    json::list(pod, "spec.volumes").iter().any(|volume| {
        let projected = json::list(volume, "projected.sources").iter().any(|source| {
            json::get(source, "serviceAccountToken").is_some_and(|token| json::text(token, "audience") == audience)
        });
        let driver = if json::get(volume, "ephemeral.volumeClaimTemplate").is_some() {
            let (pod, volume) = (json::text(pod, "metadata.name"), json::text(volume, "name"));
            by_claim(&format!("{pod}-{volume}"))
        } else {
            match json::text(volume, "persistentVolumeClaim.claimName") {
                "" => Some(json::text(volume, "csi.driver").to_owned()),
                claim => by_claim(claim),
            }
        };
        projected || driver.is_some_and(|name| !name.is_empty() && by_driver(&name))
    })
}

/// Labels that were changed and are not an agent's to change, in order.
fn foreign_labels<'v>(new: &'v Value, old: &'v Value) -> Vec<&'v str> {
    fn labels(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        json::members(object, "metadata.labels")
    }
    let value = |object: &'v Value, key: &str| json::get(object, "metadata.labels").and_then(|l| l.get(key));
    let mut found: Vec<&str> = labels(new)
        .chain(labels(old))
        .map(|(key, _)| key.as_str())
        .filter(|key| value(new, key) != value(old, key) && !is_own_label(key))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Labels of the kubernetes.io domains that an agent may set on itself (KEP-279).
fn is_own_label(key: &str) -> bool {
    const KNOWN: [&str; 11] = [
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
    let Some((domain, _)) = key.split_once('/') else {
        return true;
    };
    let within = |domains: &[&str]| {
        let is = |of: &&str| domain == *of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
        domains.iter().any(is)
    };
    if within(&["node-restriction.kubernetes.io"]) {
        return false;
    }
    let kubernetes = within(&["kubernetes.io", "k8s.io"]);
    !kubernetes || KNOWN.contains(&key) || within(&["kubelet.kubernetes.io", "node.kubernetes.io"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_agent_sets_only_its_own_labels() {
        for (key, allowed) in [
            ("app", true),
            ("example.com/x", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/gpu", true),
            ("a.node.kubernetes.io/gpu", true),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("node-role.kubernetes.io/control-plane", false),
            ("xkubernetes.io/y", true),
        ] {
            assert_eq!(is_own_label(key), allowed, "{key}");
        }
        let node = |labels: Value| json!({"metadata": {"labels": labels}});
        let (new, old) = (
            node(json!({"app": "a", "node-role.kubernetes.io/a": ""})),
            node(json!({"node-role.kubernetes.io/b": ""})),
        );
        let both = ["node-role.kubernetes.io/a", "node-role.kubernetes.io/b"];
        assert_eq!(foreign_labels(&new, &old), both);
    }
}
