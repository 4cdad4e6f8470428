//! NodeName and NodeUnschedulable.

use crate::{
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, Plugin, Rejection},
    node::Node,
    pod::Pod,
};
use strata_meta::placement::Taint;

/// Only the named node, for pods that name one. Such pods do not wait, so this decides
/// only for pods that are checked again.
pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        (!pod.node_name.is_empty()).then(|| Box::new(Named(&pod.node_name)) as Box<dyn Filter<'a>>)
    }

    fn may_help(&self, event: &Event<'_>, pod: &Pod, _: &Cluster) -> bool {
        event.node().is_some_and(|node| node.object.name() == &*pod.node_name)
    }
}

#[derive(Clone)]
struct Named<'a>(&'a str);

impl<'a> Filter<'a> for Named<'a> {
    fn check(&self, state: &NodeState, _: &Node) -> Result<(), Rejection> {
        if *state.name == *self.0 {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}

/// No node that is cordoned, unless its taint is tolerated.
pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        (!tolerates_cordon(pod)).then(|| Box::new(Schedulable) as Box<dyn Filter<'a>>)
    }

    fn may_help(&self, event: &Event<'_>, _: &Pod, _: &Cluster) -> bool {
        event.node().is_some_and(|node| !node.unschedulable)
    }
}

fn tolerates_cordon(pod: &Pod) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    !pod.wish().tolerations.is_empty() && taint.tolerated_by(&pod.wish().tolerations)
}

#[derive(Clone)]
struct Schedulable;

impl<'a> Filter<'a> for Schedulable {
    fn check(&self, _: &NodeState, node: &Node) -> Result<(), Rejection> {
        if node.unschedulable {
            return Err(Rejection::unresolvable("node(s) were unschedulable"));
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}
