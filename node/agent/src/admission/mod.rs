//! Whether this node takes a pod that was given to it. Whoever binds a pod may be mistaken or late, so what the
//! scheduler looks at is looked at again here. Pure; reasons and sentences are upstream's.

mod fit;
mod node;
mod ports;
mod sysctl;

use crate::pod::Pod;
pub use node::OwnNode;
#[cfg(test)]
use node::node_of;
use std::sync::Arc;
pub use sysctl::dotted;

/// Why a pod is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Such as `OutOfcpu`.
    pub reason: String,
    /// Sentence to the reason.
    pub message: String,
    /// Whether the labels of the node are why, which may be newer than what is known of them.
    pub by_labels: bool,
}

impl Refusal {
    fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
            by_labels: false,
        }
    }

    /// The node itself cannot be looked at.
    pub fn unknown_node(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "the own node cannot be looked at");
        Self::new("InvalidNodeInfo", "Kubelet cannot get node info.")
    }

    /// A check of the scheduler's that fails.
    fn predicate(name: &str, why: &str) -> Self {
        Self::new(name, format!("Predicate {name} failed: {why}"))
    }
}

const OS: &str = "linux";
const OS_LABEL: &str = "kubernetes.io/os";

/// Whether the node takes a pod beside the others that it has taken.
pub fn admit(pod: &Pod, others: &[Arc<Pod>], node: &OwnNode) -> Result<(), Refusal> {
    sysctl::check(pod)?;
    check_system(pod)?;
    check_resources(pod, others, node)?;
    if !matches_node(pod, node) {
        return Err(Refusal {
            by_labels: true,
            ..Refusal::predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
        });
    }
    if ports::conflict(pod, others) {
        let why = "node(s) didn't have free ports for the requested pod ports";
        return Err(Refusal::predicate("NodePorts", why));
    }
    let repelling = |taint: &&strata_meta::placement::Taint| taint.effect == "NoExecute";
    let mut taints = node.taints.iter().filter(repelling);
    if !pod.is_static() && taints.any(|taint| !taint.tolerated_by(&pod.spec.tolerations)) {
        let why = "node(s) had taints that the pod didn't tolerate";
        return Err(Refusal::predicate("TaintToleration", why));
    }
    Ok(())
}

/// Whether there is room for a pod with these requests beside the others.
pub fn check_resources(pod: &Pod, others: &[Arc<Pod>], node: &OwnNode) -> Result<(), Refusal> {
    match fit::shortage(pod, others, node) {
        None => Ok(()),
        Some(short) => Err(Refusal::new(format!("OutOf{}", short.resource), short.to_string())),
    }
}

fn check_system(pod: &Pod) -> Result<(), Refusal> {
    if pod.metadata.labels.get(OS_LABEL).is_some_and(|os| os != OS) {
        let why = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(Refusal::new("PodOSSelectorNodeLabelDoesNotMatch", why));
    }
    if pod.spec.os.as_ref().is_some_and(|os| os.name != OS) {
        let why = "Failed to admit pod as the OS field doesn't match node OS";
        return Err(Refusal::new("PodOSNotSupported", why));
    }
    Ok(())
}

fn matches_node(pod: &Pod, node: &OwnNode) -> bool {
    let wanted = &pod.spec.node_selector;
    let selected = wanted.iter().all(|(key, value)| node.label(key) == Some(value));
    let required = pod.spec.affinity.node_affinity.required.as_ref();
    selected && required.is_none_or(|selector| node.is_in(selector))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node() -> OwnNode {
        let value = json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd", "kubernetes.io/os": "linux"}},
            "spec": {"taints": [{"key": "gone", "effect": "NoExecute"}, {"key": "busy", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3", "example.com/gpu": "1"}},
        });
        node_of(&value).expect("node")
    }

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["tolerations"] = json!([{"operator": "Exists"}]);
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec}))
            .expect("pod")
    }

    fn asking(resources: Value) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": resources}}]})
    }

    fn reason(spec: Value, others: &[Value]) -> (String, String) {
        let others: Vec<_> = others.iter().map(|spec| Arc::new(pod(spec.clone()))).collect();
        match admit(&pod(spec), &others, &node()) {
            Ok(()) => (String::new(), String::new()),
            Err(refusal) => (refusal.reason, refusal.message),
        }
    }

    #[test]
    fn a_pod_that_does_not_fit_is_refused_with_upstreams_reason() {
        let port = |ip: &str, protocol: &str| json!({"containers": [{"name": "c", "ports": [{"hostPort": 80, "hostIP": ip, "protocol": protocol}]}]});
        let affinity = |value: &str| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": [value]}]}]}}}})
        };
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        let one = asking(json!({"cpu": "1500m"}));
        for (spec, others, expected) in [
            (asking(json!({"cpu": "500m"})), vec![one.clone()], ""),
            (asking(json!({"cpu": "501m"})), vec![one.clone()], "OutOfcpu"),
            (asking(json!({"memory": "2Gi"})), vec![], "OutOfmemory"),
            (asking(json!({"example.com/gpu": "2"})), vec![], "OutOfexample.com/gpu"),
            // One that the node has never heard of is somebody else's to check.
            (asking(json!({"example.com/fpga": "2"})), vec![], ""),
            (json!({}), vec![json!({}), json!({}), json!({})], "OutOfpods"),
            (json!({"nodeSelector": {"disk": "ssd"}}), vec![], ""),
            (json!({"nodeSelector": {"disk": "hdd"}}), vec![], "NodeAffinity"),
            (affinity("ssd"), vec![], ""),
            (affinity("hdd"), vec![], "NodeAffinity"),
            (json!({"os": {"name": "windows"}}), vec![], "PodOSNotSupported"),
            (port("", "TCP"), vec![port("127.0.0.1", "TCP")], "NodePorts"),
            (port("10.0.0.1", "TCP"), vec![port("127.0.0.1", "TCP")], ""),
            (port("", "UDP"), vec![port("", "TCP")], ""),
            (sysctl("kernel.shm_rmid_forced"), vec![], ""),
            (sysctl("net/ipv4/tcp_syncookies"), vec![], ""),
            (sysctl("kernel.msgmax"), vec![], "SysctlForbidden"),
        ] {
            assert_eq!(reason(spec.clone(), &others).0, expected, "{spec}");
        }
        let (_, message) = reason(asking(json!({"cpu": "501m"})), &[one]);
        assert_eq!(
            message,
            "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"
        );
        let (_, message) = reason(json!({"nodeSelector": {"disk": "hdd"}}), &[]);
        assert_eq!(
            message,
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        );
    }

    #[test]
    fn only_taints_that_expel_are_minded() {
        let mut pod = pod(json!({}));
        pod.spec.tolerations.clear();
        let refusal = admit(&pod, &[], &node()).expect_err("tainted");
        assert_eq!(refusal.reason, "TaintToleration");
        pod.spec.tolerations = vec![serde_json::from_value(json!({"key": "gone", "operator": "Exists"})).expect("one")];
        assert_eq!(admit(&pod, &[], &node()), Ok(()));
    }
}
