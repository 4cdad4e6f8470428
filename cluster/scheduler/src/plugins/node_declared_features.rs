//! NodeDeclaredFeatures: nodes that say they can do what the pod needs.

use crate::{
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, Plugin, Rejection},
    node::Node,
    pod::Pod,
};

pub(super) struct NodeDeclaredFeatures;

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatures"
    }

    fn filter<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        let needed = &pod.wish().features[..];
        (!needed.is_empty()).then(|| Box::new(Declared(needed)) as Box<dyn Filter<'a>>)
    }

    fn may_help(&self, event: &Event<'_>, _: &Pod, _: &Cluster) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::NodeUpdated { old, new } => old.features != new.features,
            _ => false,
        }
    }
}

#[derive(Clone)]
struct Declared<'a>(&'a [&'static str]);

impl<'a> Filter<'a> for Declared<'a> {
    fn check(&self, _: &NodeState, node: &Node) -> Result<(), Rejection> {
        let declares = |feature: &&str| node.features.iter().any(|declared| declared == feature);
        if self.0.iter().all(declares) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match Pod's required features"))
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}
