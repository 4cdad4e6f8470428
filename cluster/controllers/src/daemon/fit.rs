//! Which nodes a daemon set's pods belong on, and the pod that is made for one.

use super::types::DaemonSet;
use crate::{
    dependents::{revisions::HASH_LABEL, template::pod_of},
    views::{Node, Pod},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use strata_meta::{
    Object,
    placement::{NodeSelector, Taint, Toleration},
};

const GENERATION_LABEL: &str = "pod-template-generation";
/// Taints that daemons stay through: they are part of the node.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// The same for those in the node's own network.
const NETWORK_TOLERATED: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// What a pod template asks of nodes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Wish {
    node_name: String,
    node_selector: BTreeMap<String, String>,
    affinity: Option<Affinity>,
    tolerations: Vec<Toleration>,
    host_network: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Affinity {
    node_affinity: Option<NodeAffinity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<NodeSelector>,
}

/// Whether a node is for a daemon set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// A pod is started there.
    Run,
    /// One that is there may go on.
    Stay,
    /// None belongs there.
    Leave,
}

impl Wish {
    /// Of the pods that a set makes, with what every daemon tolerates.
    pub fn of(set: &DaemonSet) -> Result<Self, serde_json::Error> {
        let mut wish = Self::deserialize(&set.spec.template.spec)?;
        let network = wish.host_network.then_some(NETWORK_TOLERATED);
        for (key, effect) in TOLERATED.into_iter().chain(network) {
            wish.tolerations.push(toleration(key, effect));
        }
        Ok(wish)
    }

    fn required(&self) -> Option<&NodeSelector> {
        self.affinity.as_ref()?.node_affinity.as_ref()?.required.as_ref()
    }

    /// Upstream's NodeShouldRunDaemonPod.
    pub fn fit(&self, node: &Node) -> Fit {
        let named = self.node_name.is_empty() || self.node_name == node.name();
        let selected = self
            .node_selector
            .iter()
            .all(|(key, value)| node.label(key) == Some(value));
        let required = self.required().is_none_or(|required| required.matches(node));
        if !(named && selected && required) {
            return Fit::Leave;
        }
        let taints = &node.view.spec.taints;
        let untolerated = |counts: fn(&Taint) -> bool| {
            let mut counting = taints.iter().filter(|taint| counts(taint));
            counting.any(|taint| !taint.tolerated_by(&self.tolerations))
        };
        match (
            untolerated(Taint::repels),
            untolerated(|taint| taint.effect == "NoExecute"),
        ) {
            (false, _) => Fit::Run,
            (true, false) => Fit::Stay,
            (true, true) => Fit::Leave,
        }
    }
}

fn toleration(key: &str, effect: &str) -> Toleration {
    Toleration {
        key: key.into(),
        operator: "Exists".into(),
        effect: effect.into(),
        ..Toleration::default()
    }
}

/// The node that a daemon's pod runs on or was made for.
pub(super) fn target(pod: &Pod) -> Option<String> {
    if !pod.view.node.is_empty() {
        return Some(pod.view.node.clone());
    }
    #[derive(Deserialize)]
    struct Wire {
        spec: Wish,
    }
    let wire: Wire = pod.object.decode().ok()?;
    wire.spec.required()?.node_name().map(str::to_owned)
}

/// What all pods of a set have in common at a revision.
pub(super) fn pod_template(owner: &Object, set: &DaemonSet, hash: &str) -> Value {
    let mut pod = pod_of(owner, &set.spec.template);
    pod["metadata"]["labels"][HASH_LABEL] = hash.into();
    if let Some(generation) = set.template_generation() {
        pod["metadata"]["labels"][GENERATION_LABEL] = generation.into();
    }
    let host_network = pod["spec"]["hostNetwork"] == true;
    let network = host_network.then_some(NETWORK_TOLERATED);
    let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let added = json!(toleration(key, effect));
        // One for the same taint is replaced, as upstream does.
        tolerations.retain(|t| !(t["key"] == key && t["effect"] == effect && t["operator"] == "Exists"));
        tolerations.push(added);
    }
    pod["spec"]["tolerations"] = tolerations.into();
    pod
}

/// A pod that only this node takes.
pub(super) fn pod_for(template: &Value, node: &str) -> Value {
    let mut pod = template.clone();
    let required = &mut pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    required["nodeSelectorTerms"] =
        json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]);
    pod
}

/// Whether a pod is of the present template.
pub(super) fn is_updated(set: &DaemonSet, pod: &Pod, hash: &str) -> bool {
    let generation = set.template_generation();
    pod.label(HASH_LABEL) == Some(hash) || generation.is_some() && pod.label(GENERATION_LABEL) == generation
}
