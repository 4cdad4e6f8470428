//! What a node's agent may read: only what the pods bound to its node refer to.

use crate::{Attributes, Authorizer, Decision, bootstrap::node_rules, rbac::PolicyRule};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{PoisonError, RwLock},
};
use strata_meta::{Object, ObjectError, WatchEvent};

const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Limits node agents to their own node's business; has no opinion about anybody else.
///
/// It is fed pods, persistent volumes, volume attachments and resource slices through [`NodeAuthorizer::apply`].
pub struct NodeAuthorizer {
    rules: Vec<PolicyRule>,
    graph: RwLock<Graph>,
}

impl Default for NodeAuthorizer {
    fn default() -> Self {
        Self {
            rules: node_rules(),
            graph: RwLock::default(),
        }
    }
}

impl fmt::Debug for NodeAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let graph = self.graph.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("NodeAuthorizer")
            .field("objects", &graph.sources.len())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ServiceAccount,
    Attachment,
    ResourceClaim,
    ResourceSlice,
}

/// Kind, namespace (`""` for cluster-scoped) and name.
type Vertex = (Kind, Box<str>, Box<str>);

/// Which nodes are related to an object, counted by the objects that relate them.
#[derive(Default)]
struct Graph {
    /// What each pod, attachment or slice contributes.
    sources: HashMap<Vertex, (Box<str>, Vec<Vertex>)>,
    /// Object → node → number of sources that relate them.
    nodes: HashMap<Vertex, HashMap<Box<str>, u32>>,
    /// Volume → its claim and the secrets it names.
    volumes: HashMap<Box<str>, (Vertex, Vec<Vertex>)>,
    /// Secret → volumes that name it.
    secrets_of_volumes: HashMap<Vertex, HashSet<Box<str>>>,
}

impl NodeAuthorizer {
    /// No node is related to anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a change; kinds that do not matter are ignored. Errors: the object is not of its kind's shape; it then
    /// grants nothing.
    pub fn apply(&self, event: &WatchEvent) -> Result<(), ObjectError> {
        let Some(object) = event.object() else { return Ok(()) };
        let kind = match (object.kind.group.as_str(), object.kind.kind.as_str()) {
            ("", "Pod") => Kind::Pod,
            ("", "PersistentVolume") => Kind::Volume,
            ("storage.k8s.io", "VolumeAttachment") => Kind::Attachment,
            ("resource.k8s.io", "ResourceSlice") => Kind::ResourceSlice,
            _ => return Ok(()),
        };
        let gone = matches!(event, WatchEvent::Deleted(_));
        let body = if gone { Ok(None) } else { object.to_value().map(Some) };
        let mut graph = self.graph.write().unwrap_or_else(PoisonError::into_inner);
        let vertex = vertex(kind, object.namespace(), object.name());
        if kind == Kind::Volume {
            graph.forget_volume(object.name());
            if let Some(volume) = body?.and_then(|body| volume_edges(&body)) {
                graph.add_volume(object.name(), volume);
            }
            return Ok(());
        }
        graph.forget(&vertex);
        if let Some(body) = body? {
            let node = &body["spec"]["nodeName"];
            if let Some(node) = node.as_str().filter(|node| !node.is_empty()) {
                let edges = if kind == Kind::Pod {
                    pod_edges(object, &body)
                } else {
                    Vec::new()
                };
                graph.add(vertex, node, edges);
            }
        }
        Ok(())
    }

    fn related(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Decision {
        if a.name.is_empty() {
            return no("No Object name found");
        }
        let graph = self.graph.read().unwrap_or_else(PoisonError::into_inner);
        let namespace = if matches!(kind, Kind::Volume | Kind::Attachment | Kind::ResourceSlice) {
            ""
        } else {
            a.namespace
        };
        if graph.is_related(node, &vertex(kind, namespace, a.name)) {
            Decision::Allow
        } else {
            no(format!("no relationship found between node '{node}' and this object"))
        }
    }

    fn get_only(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Decision {
        if a.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !a.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(node, kind, a)
    }

    fn read_one(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Decision {
        if !matches!(a.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !a.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if a.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(node, kind, a)
    }

    fn claim(&self, node: &str, a: &Attributes<'_>) -> Decision {
        match (a.subresource, a.verb) {
            ("status", "update" | "patch") => self.related(node, Kind::Claim, a),
            ("status", _) => no("can only get/update/patch this type"),
            _ => self.get_only(node, Kind::Claim, a),
        }
    }

    fn service_account(&self, node: &str, a: &Attributes<'_>) -> Decision {
        if a.verb == "get" && a.subresource.is_empty() {
            return self.read_one(node, Kind::ServiceAccount, a);
        }
        if a.verb != "create" || a.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if a.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(node, Kind::ServiceAccount, a)
    }

    fn pod(&self, node: &str, a: &Attributes<'_>) -> Decision {
        match (a.subresource, a.verb) {
            ("", "get") => self.get_only(node, Kind::Pod, a),
            ("", "list" | "watch") if selects_node(a, "spec.nodeName", node) => Decision::Allow,
            ("", "list" | "watch") if !a.name.is_empty() => self.related(node, Kind::Pod, a),
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            // Admission limits these to the node's own pods.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Decision::Allow,
            _ => no(""),
        }
    }

    fn resource_slice(&self, node: &str, a: &Attributes<'_>) -> Decision {
        match a.verb {
            _ if !a.subresource.is_empty() => no("cannot authorize ResourceSlice subresources"),
            // Admission compares the node's name.
            "create" => Decision::Allow,
            "get" | "update" | "patch" | "delete" => self.related(node, Kind::ResourceSlice, a),
            "watch" | "list" | "deletecollection" if selects_node(a, "spec.nodeName", node) => Decision::Allow,
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, \
                     patch, delete, deletecollection",
            ),
        }
    }
}

impl Authorizer for NodeAuthorizer {
    fn authorize(&self, a: &Attributes<'_>) -> Decision {
        let Some(node) = a.user.node_name() else { return no("") };
        if node.is_empty() {
            return no(format!("unknown node for user {:?}", a.user.name));
        }
        if a.is_resource {
            match (a.group, a.resource) {
                ("", "secrets") => return self.read_one(node, Kind::Secret, a),
                ("", "configmaps") => return self.read_one(node, Kind::ConfigMap, a),
                ("", "persistentvolumeclaims") => return self.claim(node, a),
                ("", "persistentvolumes") => return self.get_only(node, Kind::Volume, a),
                ("resource.k8s.io", "resourceclaims") => return self.get_only(node, Kind::ResourceClaim, a),
                ("storage.k8s.io", "volumeattachments") => return self.get_only(node, Kind::Attachment, a),
                ("", "serviceaccounts") => return self.service_account(node, a),
                ("coordination.k8s.io", "leases") => return lease(node, a),
                ("storage.k8s.io", "csinodes") => return csi_node(node, a),
                ("resource.k8s.io", "resourceslices") => return self.resource_slice(node, a),
                ("", "nodes") => return own_node(node, a),
                ("", "pods") => return self.pod(node, a),
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rule.allows(a)) {
            Decision::Allow
        } else {
            no("")
        }
    }
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

fn selects_node(a: &Attributes<'_>, field: &str, node: &str) -> bool {
    a.field_selector
        .is_some_and(|selector| selector.required(field) == Some(node))
}

/// The verbs with which an agent keeps its own lease and CSINode.
fn is_keeping(verb: &str) -> bool {
    matches!(verb, "get" | "create" | "update" | "patch" | "delete")
}

fn lease(node: &str, a: &Attributes<'_>) -> Decision {
    if !is_keeping(a.verb) {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if a.namespace != LEASE_NAMESPACE {
        return no(format!(
            "can only access leases in the {LEASE_NAMESPACE:?} system namespace"
        ));
    }
    // At create the name is not known here; admission compares it.
    if a.verb != "create" && a.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    Decision::Allow
}

fn csi_node(node: &str, a: &Attributes<'_>) -> Decision {
    if !is_keeping(a.verb) {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !a.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if a.verb != "create" && a.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    Decision::Allow
}

fn own_node(node: &str, a: &Attributes<'_>) -> Decision {
    match (a.subresource, a.verb) {
        // Admission limits writes to the node's own object.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Decision::Allow,
        ("", "get" | "list" | "watch") if a.name == node => Decision::Allow,
        ("", "get" | "list" | "watch") if a.name.is_empty() => {
            no(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => no(format!(
            "node '{node}' cannot read '{}', only its own Node object",
            a.name
        )),
        _ => no(""),
    }
}

fn vertex(kind: Kind, namespace: &str, name: &str) -> Vertex {
    (kind, namespace.into(), name.into())
}

impl Graph {
    fn is_related(&self, node: &str, to: &Vertex) -> bool {
        let direct = |to: &Vertex| self.nodes.get(to).is_some_and(|nodes| nodes.contains_key(node));
        let by_volume = |name: &str| self.volumes.get(name).is_some_and(|(claim, _)| direct(claim));
        match to.0 {
            Kind::Volume => by_volume(&to.2),
            Kind::Secret => {
                direct(to)
                    || self
                        .secrets_of_volumes
                        .get(to)
                        .is_some_and(|names| names.iter().any(|n| by_volume(n)))
            }
            _ => direct(to),
        }
    }

    fn add(&mut self, source: Vertex, node: &str, mut edges: Vec<Vertex>) {
        edges.push(source.clone());
        for edge in &edges {
            *self
                .nodes
                .entry(edge.clone())
                .or_default()
                .entry(node.into())
                .or_default() += 1;
        }
        self.sources.insert(source, (node.into(), edges));
    }

    fn forget(&mut self, source: &Vertex) {
        let Some((node, edges)) = self.sources.remove(source) else {
            return;
        };
        for edge in edges {
            let Some(nodes) = self.nodes.get_mut(&edge) else {
                continue;
            };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.nodes.remove(&edge);
            }
        }
    }

    fn add_volume(&mut self, name: &str, volume: (Vertex, Vec<Vertex>)) {
        for secret in &volume.1 {
            self.secrets_of_volumes
                .entry(secret.clone())
                .or_default()
                .insert(name.into());
        }
        self.volumes.insert(name.into(), volume);
    }

    fn forget_volume(&mut self, name: &str) {
        let Some((_, secrets)) = self.volumes.remove(name) else {
            return;
        };
        for secret in secrets {
            if let Some(names) = self.secrets_of_volumes.get_mut(&secret) {
                names.remove(name);
                if names.is_empty() {
                    self.secrets_of_volumes.remove(&secret);
                }
            }
        }
    }
}

/// What a pod refers to. A mirror pod, which its agent made itself, refers to nothing.
fn pod_edges(object: &Object, pod: &Value) -> Vec<Vertex> {
    if !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
        return Vec::new();
    }
    let mut found = Found {
        namespace: object.namespace(),
        pod: object.name(),
        edges: HashSet::new(),
    };
    let spec = &pod["spec"];
    if let Some(account) = spec["serviceAccountName"].as_str() {
        found.add(Kind::ServiceAccount, account);
    }
    for secret in items(&spec["imagePullSecrets"]) {
        found.add_at(Kind::Secret, &secret["name"]);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(&spec[list]) {
            found.environment(container);
        }
    }
    for volume in items(&spec["volumes"]) {
        found.volume(volume);
    }
    let made = items(&pod["status"]["resourceClaimStatuses"]);
    for claim in items(&spec["resourceClaims"]) {
        if claim["resourceClaimName"].is_string() {
            found.add_at(Kind::ResourceClaim, &claim["resourceClaimName"]);
        } else if claim["resourceClaimTemplateName"].is_string()
            && let Some(made) = made.iter().find(|made| made["name"] == claim["name"])
        {
            found.add_at(Kind::ResourceClaim, &made["resourceClaimName"]);
        }
    }
    found.add_at(
        Kind::ResourceClaim,
        &pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"],
    );
    found.edges.into_iter().collect()
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

struct Found<'a> {
    namespace: &'a str,
    pod: &'a str,
    edges: HashSet<Vertex>,
}

impl Found<'_> {
    fn add(&mut self, kind: Kind, name: &str) {
        if !name.is_empty() {
            self.edges.insert(vertex(kind, self.namespace, name));
        }
    }

    fn add_at(&mut self, kind: Kind, name: &Value) {
        self.add(kind, name.as_str().unwrap_or_default());
    }

    fn environment(&mut self, container: &Value) {
        for source in items(&container["envFrom"]) {
            self.add_at(Kind::ConfigMap, &source["configMapRef"]["name"]);
            self.add_at(Kind::Secret, &source["secretRef"]["name"]);
        }
        for variable in items(&container["env"]) {
            let from = &variable["valueFrom"];
            self.add_at(Kind::ConfigMap, &from["configMapKeyRef"]["name"]);
            self.add_at(Kind::Secret, &from["secretKeyRef"]["name"]);
        }
    }

    fn volume(&mut self, volume: &Value) {
        self.add_at(Kind::Secret, &volume["secret"]["secretName"]);
        self.add_at(Kind::ConfigMap, &volume["configMap"]["name"]);
        self.add_at(Kind::Claim, &volume["persistentVolumeClaim"]["claimName"]);
        if volume["ephemeral"].is_object() {
            let claim = format!("{}-{}", self.pod, volume["name"].as_str().unwrap_or_default());
            self.add(Kind::Claim, &claim);
        }
        self.add_at(Kind::Secret, &volume["azureFile"]["secretName"]);
        for source in ["cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos", "cinder"] {
            self.add_at(Kind::Secret, &volume[source]["secretRef"]["name"]);
        }
        self.add_at(Kind::Secret, &volume["csi"]["nodePublishSecretRef"]["name"]);
        for source in items(&volume["projected"]["sources"]) {
            self.add_at(Kind::Secret, &source["secret"]["name"]);
            self.add_at(Kind::ConfigMap, &source["configMap"]["name"]);
        }
    }
}

#[derive(Deserialize)]
struct Reference {
    #[serde(default)]
    namespace: String,
    name: String,
}

/// The claim a volume is bound to and the secrets it names; nothing for a volume that is not bound.
fn volume_edges(body: &Value) -> Option<(Vertex, Vec<Vertex>)> {
    let spec = &body["spec"];
    let reference = |value: &Value| Reference::deserialize(value).ok();
    let claim = reference(&spec["claimRef"])?;
    let mut secrets = Vec::new();
    let mut add = |value: &Value| {
        if let Some(secret) = reference(value) {
            // A secret without a namespace lives in the claim's.
            let namespace = if secret.namespace.is_empty() {
                &claim.namespace
            } else {
                &secret.namespace
            };
            secrets.push(vertex(Kind::Secret, namespace, &secret.name));
        }
    };
    for source in ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
        add(&spec[source]["secretRef"]);
    }
    // Only what the node itself needs: not the controllers' secrets.
    for name in ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"] {
        add(&spec["csi"][name]);
    }
    if let Some(name) = spec["azureFile"]["secretName"].as_str() {
        let namespace = spec["azureFile"]["secretNamespace"]
            .as_str()
            .unwrap_or(&claim.namespace);
        secrets.push(vertex(Kind::Secret, namespace, name));
    }
    Some((vertex(Kind::Claim, &claim.namespace, &claim.name), secrets))
}

#[cfg(test)]
mod tests;
