//! NodePorts: host ports that are free.

use crate::{
    cluster::{Cluster, NodeState},
    framework::{Event, Filter, Plugin, Rejection},
    node::Node,
    pod::{HostPort, Pod},
};

pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter<'a>(&self, pod: &'a Pod, _: &'a Cluster) -> Option<Box<dyn Filter<'a> + 'a>> {
        (!pod.ports.is_empty()).then(|| Box::new(Free(&pod.ports)) as Box<dyn Filter<'a>>)
    }

    fn may_help(&self, event: &Event<'_>, pod: &Pod, _: &Cluster) -> bool {
        match event {
            Event::PodFreed(freed) => conflict(&pod.ports, &freed.ports),
            Event::NodeAdded(_) => true,
            _ => false,
        }
    }
}

fn conflict(wanted: &[HostPort], held: &[HostPort]) -> bool {
    wanted
        .iter()
        .any(|wanted| held.iter().any(|held| held.conflicts(wanted)))
}

#[derive(Clone)]
struct Free<'a>(&'a [HostPort]);

impl<'a> Filter<'a> for Free<'a> {
    fn check(&self, state: &NodeState, _: &Node) -> Result<(), Rejection> {
        if conflict(self.0, &state.ports) {
            return Err(Rejection::resolvable(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}
