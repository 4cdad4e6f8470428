//! Nodes and pods for tests, read the way real ones are.

use crate::{cluster::Cluster, node::Node, pod::Pod};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use strata_meta::{GroupVersionKind, Object, Revision};

fn object(kind: &str, value: &Value) -> Arc<Object> {
    static REVISION: AtomicU64 = AtomicU64::new(1);
    let kind = Arc::new(GroupVersionKind::new("", "v1", kind));
    let revision = Revision(REVISION.fetch_add(1, Ordering::Relaxed));
    Arc::new(Object::from_value(kind, revision, value).expect("a valid object"))
}

/// A node; without a size it has plenty.
pub(crate) fn node(name: &str, labels: Value, spec: Value, size: Value) -> Node {
    let mut allocatable = json!({"cpu": "64", "memory": "256Gi", "pods": "110"});
    if size.as_object().is_some_and(|size| !size.is_empty()) {
        allocatable = size;
        if allocatable.get("pods").is_none() {
            allocatable["pods"] = json!("110");
        }
    }
    let value = json!({
        "metadata": {"name": name, "uid": name, "labels": labels},
        "spec": spec,
        "status": {"allocatable": allocatable},
    });
    Node::read(&object("Node", &value)).expect("a valid node")
}

/// A pod that waits.
pub(crate) fn waiting(name: &str, labels: Value, spec: Value) -> Pod {
    pod("default", name, labels, spec)
}

/// A pod on a node.
pub(crate) fn placed(name: &str, node: &str, labels: Value, spec: Value) -> Pod {
    placed_in("default", name, node, labels, spec)
}

/// A pod of another namespace on a node.
pub(crate) fn placed_in(namespace: &str, name: &str, node: &str, labels: Value, mut spec: Value) -> Pod {
    spec["nodeName"] = json!(node);
    pod(namespace, name, labels, spec)
}

fn pod(namespace: &str, name: &str, labels: Value, mut spec: Value) -> Pod {
    if spec.get("schedulerName").is_none() {
        spec["schedulerName"] = json!("default-scheduler");
    }
    let metadata = json!({"name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"), "labels": labels, "generation": 1});
    Pod::read(&object("Pod", &json!({"metadata": metadata, "spec": spec}))).expect("a valid pod")
}

/// A cluster of these.
pub(crate) fn cluster(nodes: impl IntoIterator<Item = Node>, pods: impl IntoIterator<Item = Pod>) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        let name = node.object.name().to_owned();
        cluster.set_node(&name, Some(Arc::new(node)));
    }
    for pod in pods {
        cluster.place(Arc::new(pod));
    }
    cluster
}
