//! NodeAffinity, which node selectors are part of.

use crate::{
    affinity::PreferredNode,
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, Plugin, Rejection, Score, normalize_by_highest},
    node::Node,
    pod::{Pod, Wish},
};

pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn Filter + 'a>> {
        let wish = pod.wish();
        let asks = !wish.node_selector.is_empty() || wish.node_affinity.required.is_some();
        asks.then(|| Box::new(Required(wish)) as Box<dyn Filter>)
    }

    fn score<'a>(&self, pod: &'a Pod, _: &'a Cluster, _: &[usize]) -> Option<Box<dyn Score + 'a>> {
        let preferred = &pod.wish().node_affinity.preferred;
        (!preferred.is_empty()).then(|| Box::new(Preferred(preferred)) as Box<dyn Score>)
    }

    fn weight(&self) -> i64 {
        2
    }

    fn may_help(&self, event: &Event<'_>, pod: &Pod, _: &Cluster) -> bool {
        match event {
            Event::NodeUpdated { old, new } => wants(pod.wish(), new) && !wants(pod.wish(), old),
            _ => event.node().is_some_and(|node| wants(pod.wish(), node)),
        }
    }
}

/// Whether a pod's node selector and required node affinity admit a node.
pub(super) fn wants(wish: &Wish, node: &Node) -> bool {
    let selected = wish
        .node_selector
        .iter()
        .all(|(key, value)| node.object.label(key) == Some(value));
    selected
        && wish
            .node_affinity
            .required
            .as_ref()
            .is_none_or(|required| required.matches(&node.object))
}

struct Required<'a>(&'a Wish);

impl Filter for Required<'_> {
    fn check(&self, _: &NodeState, node: &Node) -> Result<(), Rejection> {
        if wants(self.0, node) {
            return Ok(());
        }
        Err(Rejection::unresolvable(
            "node(s) didn't match Pod's node affinity/selector",
        ))
    }
}

struct Preferred<'a>(&'a [PreferredNode]);

impl Score for Preferred<'_> {
    fn score(&self, _: &NodeState, node: &Node) -> i64 {
        let matching = self.0.iter().filter(|term| term.preference.matches(&node.object));
        matching.map(|term| term.weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_by_highest(scores, false);
    }
}
