//! The plugins, in upstream's default order.

mod arguments;
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

use crate::framework::Plugin;
pub(crate) use arguments::Arguments;

/// Plugins that check nodes, in the order they do so unless told otherwise.
pub(crate) const FILTERS: [&str; 13] = [
    "NodeUnschedulable",
    "NodeName",
    "TaintToleration",
    "NodeAffinity",
    "NodePorts",
    "NodeResourcesFit",
    "VolumeRestrictions",
    "NodeVolumeLimits",
    "VolumeBinding",
    "VolumeZone",
    "PodTopologySpread",
    "InterPodAffinity",
    "NodeDeclaredFeatures",
];

/// Plugins that rank nodes.
pub(crate) const SCORES: [&str; 7] = [
    "TaintToleration",
    "NodeAffinity",
    "NodeResourcesFit",
    "PodTopologySpread",
    "InterPodAffinity",
    "NodeResourcesBalancedAllocation",
    "ImageLocality",
];

/// Parts of upstream's defaults that are no plugins here, and may be named nevertheless.
const BUILT_IN: [&str; 5] = [
    "SchedulingGates",
    "PrioritySort",
    "DefaultPreemption",
    "DefaultBinder",
    "DynamicResources",
];

/// Everything that is enabled unless told otherwise, with the weights that upstream states.
pub(crate) fn defaults() -> impl Iterator<Item = (&'static str, Option<i64>)> {
    let rank_only = SCORES.iter().filter(|name| !FILTERS.contains(name));
    let all = FILTERS.iter().chain(rank_only).chain(&BUILT_IN);
    all.map(|name| (*name, default_weight(name)))
}

/// The weights of the plugins that rank.
pub(crate) fn default_weights() -> Vec<(String, i64)> {
    let weighed = SCORES.map(|name| (name.to_owned(), default_weight(name).unwrap_or(1)));
    weighed.into()
}

fn default_weight(name: &str) -> Option<i64> {
    match name {
        "TaintToleration" => Some(3),
        "NodeAffinity" | "PodTopologySpread" | "InterPodAffinity" => Some(2),
        "NodeResourcesFit" | "NodeResourcesBalancedAllocation" | "ImageLocality" => Some(1),
        _ => None,
    }
}

/// Whether there is a plugin of this name.
pub(crate) fn is_known(name: &str) -> bool {
    defaults().any(|(known, _)| known == name)
}

/// Makes a plugin; `None` for what is no plugin here.
pub(crate) fn make(name: &str, arguments: &Arguments) -> Option<Box<dyn Plugin>> {
    Some(match name {
        "NodeUnschedulable" => Box::new(node_name::NodeUnschedulable),
        "NodeName" => Box::new(node_name::NodeName),
        "TaintToleration" => Box::new(taint_toleration::TaintToleration),
        "NodeAffinity" => Box::new(arguments.node_affinity()),
        "NodePorts" => Box::new(node_ports::NodePorts),
        "NodeResourcesFit" => Box::new(arguments.node_resources()),
        "VolumeRestrictions" => Box::new(volume_restrictions::VolumeRestrictions),
        "NodeVolumeLimits" => Box::new(volume_limits::NodeVolumeLimits),
        "VolumeBinding" => Box::new(volume_binding::VolumeBinding),
        "VolumeZone" => Box::new(volume_zone::VolumeZone),
        "PodTopologySpread" => Box::new(arguments.topology_spread()),
        "InterPodAffinity" => Box::new(arguments.inter_pod_affinity()),
        "NodeResourcesBalancedAllocation" => Box::new(arguments.balanced_allocation()),
        "ImageLocality" => Box::new(image_locality::ImageLocality),
        "NodeDeclaredFeatures" => Box::new(node_declared_features::NodeDeclaredFeatures),
        _ => return None,
    })
}

/// The default framework.
#[cfg(test)]
pub(crate) fn all() -> crate::cycle::Framework {
    crate::configuration::Configuration::default().profiles[0].framework()
}
