//! The plugins, in upstream's default order.

mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod taint_toleration;
mod topology_spread;

use crate::framework::Plugin;

/// Every plugin in the order filters run.
pub(crate) fn all() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(node_name::NodeUnschedulable),
        Box::new(node_name::NodeName),
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_ports::NodePorts),
        Box::new(node_resources::NodeResourcesFit),
        Box::new(topology_spread::PodTopologySpread),
        Box::new(inter_pod_affinity::InterPodAffinity),
        Box::new(node_resources::BalancedAllocation),
        Box::new(image_locality::ImageLocality),
    ]
}
