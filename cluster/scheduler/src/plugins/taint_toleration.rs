//! TaintToleration.

use crate::{
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, Plugin, Rejection, Score, normalize_by_highest},
    node::Node,
    pod::Pod,
};
use strata_meta::placement::Toleration;

pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        Some(Box::new(Tolerated(&pod.wish().tolerations)))
    }

    fn score<'a>(&self, pod: &'a Pod, cluster: &'a Cluster, feasible: &[usize]) -> Option<Box<dyn Score + 'a>> {
        let avoided = |at: &usize| {
            let node = cluster.nodes()[*at].node.as_deref();
            node.is_some_and(|node| node.taints.iter().any(|taint| taint.effect == "PreferNoSchedule"))
        };
        // Without such a taint every node gets the same.
        feasible
            .iter()
            .any(avoided)
            .then(|| Box::new(Tolerated(&pod.wish().tolerations)) as Box<dyn Score>)
    }

    fn may_help(&self, event: &Event<'_>, pod: &Pod, _: &Cluster) -> bool {
        let fits = |node: &Node| untolerated(node, &pod.wish().tolerations).is_none();
        match event {
            Event::NodeUpdated { old, new } => fits(new) && !fits(old),
            _ => event.node().is_some_and(fits),
        }
    }
}

pub(super) fn untolerated<'a>(node: &'a Node, tolerations: &[Toleration]) -> Option<&'a str> {
    let taint = node
        .taints
        .iter()
        .find(|taint| taint.repels() && !taint.tolerated_by(tolerations));
    taint.map(|taint| taint.key.as_str())
}

#[derive(Clone)]
struct Tolerated<'a>(&'a [Toleration]);

impl<'a> Filter<'a> for Tolerated<'a> {
    fn check(&self, _: &NodeState, node: &Node) -> Result<(), Rejection> {
        match untolerated(node, self.0) {
            None => Ok(()),
            Some(_) => Err(Rejection::unresolvable("node(s) had untolerated taint(s)")),
        }
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}

impl Score for Tolerated<'_> {
    fn score(&self, _: &NodeState, node: &Node) -> i64 {
        let avoided = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
        avoided.filter(|taint| !taint.tolerated_by(self.0)).count() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_by_highest(scores, true);
    }
}
