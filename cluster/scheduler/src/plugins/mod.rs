//! The plugins, in upstream's default order.

mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_declared_features;
mod node_name;
mod node_ports;
mod node_resources;
mod taint_toleration;
mod topology_spread;
pub(crate) mod volume_binding;
mod volume_limits;
mod volume_restrictions;
mod volume_zone;

use crate::{cycle::Enabled, framework::Plugin};

/// Every plugin in the order filters run.
pub(crate) fn all() -> Vec<Enabled> {
    let all: Vec<Box<dyn Plugin>> = vec![
        Box::new(node_name::NodeUnschedulable),
        Box::new(node_name::NodeName),
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_ports::NodePorts),
        Box::new(node_resources::NodeResourcesFit::default()),
        Box::new(volume_restrictions::VolumeRestrictions),
        Box::new(volume_limits::NodeVolumeLimits),
        Box::new(volume_binding::VolumeBinding),
        Box::new(volume_zone::VolumeZone),
        Box::new(topology_spread::PodTopologySpread),
        Box::new(inter_pod_affinity::InterPodAffinity),
        Box::new(node_resources::BalancedAllocation::default()),
        Box::new(image_locality::ImageLocality),
        Box::new(node_declared_features::NodeDeclaredFeatures),
    ];
    all.into_iter().map(Enabled::from).collect()
}
