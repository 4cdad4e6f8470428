//! Objects every Strata cluster has beyond upstream's own: the service of the cluster's DNS, who may see what is used.

use crate::{
    failure::{During, Outcome},
    instance::Instance,
};
use serde_json::{Value, json};
use strata_client::{Client, resources};

/// The config map that tells joining nodes the cluster's address ranges.
pub const CLUSTER_FACTS: &str = "strata-cluster";

/// Makes what is missing; leaves what is there.
pub async fn install(client: &Client, instance: &Instance) -> Outcome {
    let objects = [
        (resources::SERVICES, dns_service(instance)),
        (resources::CONFIG_MAPS, facts(instance)),
        (resources::ROLES, facts_reader()),
        (resources::ROLE_BINDINGS, facts_binding()),
        (resources::CLUSTER_ROLES, node_network()),
        (
            resources::CLUSTER_ROLE_BINDINGS,
            cluster_binding("strata:node-network", "strata:node-network", strata_auth::GROUP_NODES),
        ),
        (resources::CLUSTER_ROLE_BINDINGS, joiners()),
        (resources::CLUSTER_ROLES, usage_reader()),
    ];
    let writes = objects.map(|(resource, object)| async move {
        let namespace = if resource.namespaced { "kube-system" } else { "" };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        match client.get(resource, namespace, name).await {
            Err(e) if e.is_not_found() => client.create(resource, namespace, &object).await.map(drop),
            other => other.map(drop),
        }
    });
    futures::future::try_join_all(writes)
        .await
        .map(drop)
        .during("making the cluster's own objects")
}

/// No selector: the resolver runs inside every node, and the service tables lead there.
fn dns_service(instance: &Instance) -> Value {
    let labels =
        json!({"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"});
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {
            "clusterIP": instance.dns,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    })
}

fn facts(instance: &Instance) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": CLUSTER_FACTS, "namespace": "kube-system"},
        "data": {"clusterCIDR": instance.cluster_cidr, "serviceCIDR": instance.service_cidr, "dns": instance.dns},
    })
}

fn facts_reader() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "strata:cluster-facts", "namespace": "kube-system"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CLUSTER_FACTS], "verbs": ["get"]}],
    })
}

fn facts_binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "strata:cluster-facts", "namespace": "kube-system"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "strata:cluster-facts"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": strata_auth::GROUP_NODES}],
    })
}

/// What a node's service tables, resolver and routes are made from (upstream gives the same to
/// kube-proxy and to network plugins).
fn node_network() -> Value {
    let read = json!(["get", "list", "watch"]);
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "strata:node-network"},
        "rules": [
            {"apiGroups": [""], "resources": ["nodes", "services"], "verbs": read},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        ],
    })
}

/// Who may see pods may see what they use: the role that metrics-server comes with.
fn usage_reader() -> Value {
    let labels: serde_json::Map<String, Value> = ["view", "edit", "admin"]
        .map(|role| (format!("rbac.authorization.k8s.io/aggregate-to-{role}"), json!("true")))
        .into_iter()
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "system:aggregated-metrics-reader", "labels": labels},
        "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
    })
}

/// Whoever holds a join token may ask for a node's certificates (KEP-266).
fn joiners() -> Value {
    cluster_binding(
        "strata:node-bootstrappers",
        "system:node-bootstrapper",
        strata_auth::GROUP_BOOTSTRAPPERS,
    )
}

fn cluster_binding(name: &str, role: &str, group: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group}],
    })
}
